//! Waiting between tries: exponential with full jitter, so that a fleet does not come back at once.

use std::time::Duration;

use holdfast_pki::random::Random;

/// The first wait is below this.
const BASE: Duration = Duration::from_secs(1);
/// No wait is longer: an agent finds its hub again within a minute of its return.
const CAP: Duration = Duration::from_secs(60);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after one more failure: anything below a bound that doubles each time.
    pub fn next(&mut self, random: &dyn Random) -> Duration {
        let bound = BASE.saturating_mul(1 << self.failures.min(16)).min(CAP);
        self.failures += 1;
        Duration::from_millis(random.below(u64::try_from(bound.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pki::random::SeededRandom;

    #[test]
    fn waits_grow_to_a_cap_and_spread() {
        let (mut backoff, random) = (Backoff::default(), SeededRandom::new(1));
        let waits: Vec<_> = (0..200).map(|_| backoff.next(&random)).collect();
        assert!(waits[0] < BASE && waits.iter().all(|wait| *wait < CAP));
        assert!(
            waits[50..].iter().any(|wait| *wait > CAP / 2) && waits[50..].iter().any(|wait| *wait < CAP / 4)
        );
        backoff.reset();
        assert!(backoff.next(&random) < BASE);
    }
}
