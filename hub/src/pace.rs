//! A pace: so many at once, then one every so often (a token bucket). It bounds what a peer may have the hub write.

use std::time::Duration;

use holdfast_pki::clock::Clock;

/// How often something may happen.
#[derive(Debug)]
pub struct Pace {
    burst: u32,
    every: Duration,
    left: u32,
    since: Duration,
}

impl Pace {
    /// `burst` at once, and one more `every` so often.
    #[must_use]
    pub fn new(burst: u32, every: Duration, clock: &dyn Clock) -> Self {
        Self {
            burst,
            every,
            left: burst,
            since: clock.since_boot(),
        }
    }

    /// Whether it may happen now; if so, it counts.
    pub fn take(&mut self, clock: &dyn Clock) -> bool {
        let now = clock.since_boot();
        let regained = now.saturating_sub(self.since).as_secs() / self.every.as_secs();
        if regained > 0 {
            let regained = u32::try_from(regained).unwrap_or(u32::MAX);
            self.left = self.burst.min(self.left.saturating_add(regained));
            self.since = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }

    /// Waits until it may happen.
    pub async fn wait(&mut self, clock: &dyn Clock) {
        if !self.take(clock) {
            tokio::time::sleep(self.every).await;
            // What was waited for is spent.
            self.since = clock.since_boot();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pki::clock::TestClock;

    const BURST: u32 = 30;
    const EVERY: Duration = Duration::from_secs(2);

    #[test]
    fn a_burst_passes_and_then_one_every_so_often() {
        let clock = TestClock::at(1_800_000_000);
        let mut pace = Pace::new(BURST, EVERY, &clock);
        assert!((0..BURST).all(|_| pace.take(&clock)));
        assert!(!pace.take(&clock));
        clock.advance(EVERY);
        assert!(pace.take(&clock) && !pace.take(&clock));
        clock.advance(EVERY * 1000);
        assert!((0..BURST).all(|_| pace.take(&clock)));
        assert!(!pace.take(&clock), "a long rest gives no more than a burst");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_keeps_the_pace() {
        let clock = TestClock::at(1_800_000_000);
        let mut pace = Pace::new(BURST, EVERY, &clock);
        let began = tokio::time::Instant::now();
        for _ in 0..BURST {
            pace.wait(&clock).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "a burst passes at once");
        pace.wait(&clock).await;
        assert_eq!(began.elapsed(), EVERY, "then each waits");
        clock.advance(EVERY * 3);
        for _ in 0..3 {
            pace.wait(&clock).await;
        }
        assert_eq!(began.elapsed(), EVERY, "what was not used comes back");
    }
}
