//! A pace: so many at once, then one every so often (a token bucket). It bounds what a peer may have the hub write.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
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

    /// Whether all of the burst is there again, so that nothing need be remembered.
    fn is_rested(&self, clock: &dyn Clock) -> bool {
        let regained = clock.since_boot().saturating_sub(self.since).as_secs() / self.every.as_secs();
        u64::from(self.burst - self.left) <= regained
    }
}

/// More keys than this are looked through for those that need not be remembered.
const REMEMBERED_MAX: usize = 4096;

/// A pace for each of many, whichever connection they come by.
#[derive(Debug)]
pub struct Paces<K> {
    burst: u32,
    every: Duration,
    each: Mutex<BTreeMap<K, Pace>>,
}

impl<K: Ord + Clone> Paces<K> {
    /// For each `burst` at once, and one more `every` so often.
    #[must_use]
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self {
            burst,
            every,
            each: Mutex::new(BTreeMap::new()),
        }
    }

    /// Whether it may happen for `key` now; if so, it counts.
    pub fn take(&self, key: &K, clock: &dyn Clock) -> bool {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if each.len() >= REMEMBERED_MAX {
            each.retain(|_, pace| !pace.is_rested(clock));
        }
        each.entry(key.clone())
            .or_insert_with(|| Pace::new(self.burst, self.every, clock))
            .take(clock)
    }

    /// Waits until it may happen for `key`.
    pub async fn wait(&self, key: &K, clock: &dyn Clock) {
        while !self.take(key, clock) {
            tokio::time::sleep(self.every).await;
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

    #[test]
    fn each_has_a_pace_of_its_own_that_is_forgotten_once_it_is_rested() {
        let clock = TestClock::at(1_800_000_000);
        let paces = Paces::new(2, EVERY);
        assert!(paces.take(&1, &clock) && paces.take(&1, &clock) && !paces.take(&1, &clock));
        assert!(paces.take(&2, &clock), "others are not held up");
        clock.advance(EVERY);
        for key in 3..=REMEMBERED_MAX + 1 {
            assert!(paces.take(&key, &clock));
        }
        let remembers = |key| paces.each.lock().unwrap().contains_key(&key);
        assert!(remembers(1) && !remembers(2), "the second could take two again");
        clock.advance(EVERY * 2);
        assert!(paces.take(&REMEMBERED_MAX, &clock));
        assert_eq!(paces.each.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_keeps_the_pace() {
        let clock = TestClock::at(1_800_000_000);
        let paces = Paces::new(BURST, EVERY);
        for _ in 0..BURST {
            paces.wait(&"node", &clock).await;
        }
        let waits = async {
            paces.wait(&"node", &clock).await;
            tokio::time::Instant::now()
        };
        let time_passes = async {
            tokio::time::sleep(EVERY / 2).await;
            clock.advance(EVERY);
        };
        let began = tokio::time::Instant::now();
        let (waited, ()) = tokio::join!(waits, time_passes);
        assert_eq!(waited - began, EVERY);
    }
}
