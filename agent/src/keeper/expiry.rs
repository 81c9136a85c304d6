//! How the keeper warns that the authority ends: in its log once, and to hubs at most once a day. Past its end nothing new
//! is accepted but a newer version; what is in force stays.

use std::time::Duration;

use super::Keeper;

const DAY_SECS: u64 = 86_400;
/// Time for people to sign, with some of them away.
const WARN_WITHIN_SECS: u64 = 30 * DAY_SECS;
const REPORT_EVERY: Duration = Duration::from_secs(DAY_SECS);

/// How an authority stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry {
    /// Nobody need do anything.
    Far,
    /// It ends in so many seconds.
    Soon(u64),
    /// It ended so many seconds ago.
    Past(u64),
}

/// What was said of which version.
#[derive(Debug, Default)]
pub(super) struct ExpiryTold {
    /// The version, and whether its end had passed.
    logged: Option<(u64, bool)>,
    /// When a hub was told, since boot.
    reported: Option<Duration>,
}

impl Expiry {
    const fn at(expires_secs: u64, now_secs: u64) -> Self {
        match expires_secs.checked_sub(now_secs) {
            None | Some(0) => Self::Past(now_secs - expires_secs),
            Some(left) if left < WARN_WITHIN_SECS => Self::Soon(left),
            Some(_) => Self::Far,
        }
    }

    /// For people; nothing while the end is far.
    fn warning(self, version: u64) -> Option<String> {
        let days = |secs: u64| match secs / DAY_SECS {
            0 => "less than a day".to_owned(),
            1 => "1 day".to_owned(),
            days => format!("{days} days"),
        };
        match self {
            Self::Far => None,
            Self::Soon(left) => Some(format!(
                "authority version {version} ends in {}: operators must sign a newer one (`holdfast authority renew`)",
                days(left)
            )),
            Self::Past(ago) => Some(format!(
                "authority version {version} ended {} ago: nothing new is accepted but a newer one (`holdfast authority renew`)",
                days(ago)
            )),
        }
    }
}

impl Keeper {
    /// Warns if the authority ends soon, or has ended.
    pub(super) async fn warn_of_expiry(&mut self) {
        let Ok(authority) = self.ledger.authority() else {
            // Said wherever something is to be verified.
            return;
        };
        let (version, ends) = (authority.document().version, authority.document().expires_secs);
        let expiry = Expiry::at(ends, self.host.clock.unix_secs());
        let Some(warning) = expiry.warning(version) else {
            return;
        };
        let logged = Some((version, matches!(expiry, Expiry::Past(_))));
        if self.expiry_told.logged != logged {
            self.expiry_told.logged = logged;
            tracing::warn!(warning, "authority");
        }
        let now = self.host.clock.since_boot();
        let told = self.expiry_told.reported;
        if told.is_none_or(|told| now.saturating_sub(told) >= REPORT_EVERY) {
            self.expiry_told.reported = Some(now);
            self.report_warning("authority", &warning).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::testing::keeper;
    use crate::testing::hub::FakeHub;
    use crate::testing::{GOOD_FOR_SECS, NOW, Operators};

    #[test]
    fn an_end_that_is_far_is_not_spoken_of() {
        assert_eq!(Expiry::at(NOW + WARN_WITHIN_SECS, NOW).warning(1), None);
        assert_eq!(
            Expiry::at(NOW + WARN_WITHIN_SECS - 1, NOW),
            Expiry::Soon(WARN_WITHIN_SECS - 1)
        );
        assert_eq!(Expiry::at(NOW + 1, NOW), Expiry::Soon(1));
        assert_eq!(Expiry::at(NOW, NOW), Expiry::Past(0), "as verify judges it");
        assert_eq!(Expiry::at(NOW, NOW + 9), Expiry::Past(9));
        let told = Expiry::Soon(12 * DAY_SECS).warning(3).unwrap();
        assert!(told.starts_with("authority version 3 ends in 12 days"), "{told}");
    }

    #[tokio::test]
    async fn hubs_are_warned_once_a_day_and_lose_no_report_by_it() {
        let (operators, hub) = (Operators::new(), FakeHub::new(1));
        let (mut keeper, mut reports) = keeper(&operators, &hub);
        keeper.warn_of_expiry().await;
        assert!(reports.try_recv().is_err(), "its end is far");

        let ended = crate::change::Ended::new("undone", "it cut this node off");
        keeper.report(None, None, "release", ended).await;
        reports.try_recv().unwrap();
        hub.clock
            .advance(Duration::from_secs(GOOD_FOR_SECS - WARN_WITHIN_SECS + 1));
        for _ in 0..3 {
            keeper.warn_of_expiry().await;
        }
        let report = reports.try_recv().unwrap();
        assert_eq!(
            (report.outcome.as_str(), report.activation.as_str()),
            ("undone", "authority")
        );
        assert!(
            report
                .detail
                .starts_with("it cut this node off; authority version 1 ends in 29 days"),
            "{}",
            report.detail
        );
        assert!(reports.try_recv().is_err(), "once");

        hub.clock.advance(REPORT_EVERY);
        keeper.warn_of_expiry().await;
        let next = reports.try_recv().unwrap().detail;
        assert_eq!(next.matches("ends in").count(), 1, "{next}");
    }
}
