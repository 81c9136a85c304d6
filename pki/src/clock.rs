//! Time as an argument: wall-clock time, and time since boot, which no administrator can set back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where time comes from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Wall-clock time, UTC. It may jump.
    fn now(&self) -> SystemTime;

    /// Time since boot, suspend included (CLOCK_BOOTTIME, clock_gettime(2)). It only rises while [`Clock::boot_id`] stays.
    fn since_boot(&self) -> Duration;

    /// The kernel's name for this boot (random(4), `/proc/sys/kernel/random/boot_id`).
    fn boot_id(&self) -> String;

    /// [`Clock::now`] in whole Unix seconds; 0 for a clock set before 1970.
    fn unix_secs(&self) -> u64 {
        self.now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the wall clock is read"
    )]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn since_boot(&self) -> Duration {
        let at = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(
            u64::try_from(at.tv_sec).unwrap_or(0),
            u32::try_from(at.tv_nsec).unwrap_or(0),
        )
    }

    fn boot_id(&self) -> String {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
    }
}

/// A clock that a test sets.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug)]
pub struct TestClock(std::sync::Mutex<(SystemTime, Duration, String)>);

#[cfg(any(test, feature = "testing"))]
impl TestClock {
    /// A clock at `unix_secs`, one hour after a boot named `boot-1`.
    #[must_use]
    pub fn at(unix_secs: u64) -> Self {
        let now = UNIX_EPOCH + Duration::from_secs(unix_secs);
        Self(std::sync::Mutex::new((
            now,
            Duration::from_secs(3600),
            "boot-1".to_owned(),
        )))
    }

    /// Lets `by` pass.
    pub fn advance(&self, by: Duration) {
        let mut at = self.lock();
        at.0 += by;
        at.1 += by;
    }

    /// Sets the wall clock alone, as a wrong time server would.
    pub fn set_wall(&self, unix_secs: u64) {
        self.lock().0 = UNIX_EPOCH + Duration::from_secs(unix_secs);
    }

    /// Reboots: time since boot begins again, under a new boot id.
    pub fn reboot(&self, boot_id: &str) {
        let mut at = self.lock();
        at.1 = Duration::from_secs(1);
        boot_id.clone_into(&mut at.2);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (SystemTime, Duration, String)> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(any(test, feature = "testing"))]
impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        self.lock().0
    }
    fn since_boot(&self) -> Duration {
        self.lock().1
    }
    fn boot_id(&self) -> String {
        self.lock().2.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_rises() {
        let first = SystemClock.since_boot();
        assert!(SystemClock.since_boot() >= first && first > Duration::ZERO);
    }
}
