//! Waiting for a condition: always with a limit, and never without saying what was seen last.

use std::time::Duration;

use anyhow::{Result, bail};
use holdfast_pki::clock::{Clock as _, SystemClock};

const POLL: Duration = Duration::from_millis(50);

/// Asks `probe` until it gives a value; its error is the state it saw instead.
///
/// # Errors
/// After `limit`, with the last state seen.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> Result<T> {
    let end = SystemClock.since_boot() + limit;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(seen) if SystemClock.since_boot() >= end => {
                bail!("waited {} s for {what}; last seen: {seen}", limit.as_secs());
            }
            Err(_) => pause(POLL),
        }
    }
}

/// Lets `time` pass: between two looks at a condition, or where the passing of time is itself what is measured.
#[expect(clippy::disallowed_methods, reason = "the one place where the harness waits")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_state_seen_is_told() {
        let mut looks = 0;
        let error = until("the end", Duration::ZERO, || {
            looks += 1;
            Err::<(), _>(format!("look {looks}"))
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s for the end; last seen: look 1");
    }
}
