//! How often a node's records are written.

use std::time::Duration;

use holdfast_pki::clock::Clock;

/// How many changes a node may make at once, and how soon one more: an honest node makes a few at a release, a hostile one
/// must not fill the hub's disk by the minute.
const CHANGES_BURST: u32 = 30;
const CHANGE_EVERY: Duration = Duration::from_secs(2);

/// Bounds how often a node's records are written (a token bucket).
#[derive(Debug)]
pub(super) struct Pace {
    left: u32,
    since: Duration,
}

impl Pace {
    /// A whole burst, from now on.
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self {
            left: CHANGES_BURST,
            since: clock.since_boot(),
        }
    }

    /// Waits until one more change is due. Meanwhile nothing is read from the node, which so learns to wait as well.
    pub(super) async fn wait(&mut self, clock: &dyn Clock) {
        let regained = clock.since_boot().saturating_sub(self.since).as_secs() / CHANGE_EVERY.as_secs();
        if regained > 0 {
            self.left = CHANGES_BURST.min(
                self.left
                    .saturating_add(u32::try_from(regained).unwrap_or(u32::MAX)),
            );
            self.since = clock.since_boot();
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => {
                tokio::time::sleep(CHANGE_EVERY).await;
                // What was waited for is spent.
                self.since = clock.since_boot();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pki::clock::TestClock;

    #[tokio::test(start_paused = true)]
    async fn a_nodes_changes_have_a_pace() {
        let clock = TestClock::at(1_800_000_000);
        let mut pace = Pace::new(&clock);
        let began = tokio::time::Instant::now();
        for _ in 0..CHANGES_BURST {
            pace.wait(&clock).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "a burst passes at once");
        pace.wait(&clock).await;
        assert_eq!(began.elapsed(), CHANGE_EVERY, "then each waits");
        clock.advance(CHANGE_EVERY * 3);
        for _ in 0..3 {
            pace.wait(&clock).await;
        }
        assert_eq!(began.elapsed(), CHANGE_EVERY, "what was not used comes back");
    }
}
