//! Times as people read them. They come from documents and from hubs: any number must be shown, none may be trusted.

use std::time::{Duration, UNIX_EPOCH};

use super::output::left;

/// The first second of the year 10000, which RFC 3339 cannot write.
const YEAR_10000_SECS: u64 = 253_402_300_800;

/// Unix seconds as a date: `2027-01-15T08:00:00Z`.
pub(super) fn date(secs: u64) -> String {
    if secs >= YEAR_10000_SECS {
        return "after the year 9999".to_owned();
    }
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(secs)).to_string()
}

/// When something ends, seen from `now`.
pub(super) fn until(secs: u64, now: u64) -> String {
    match secs.checked_sub(now) {
        Some(rest) if rest > 0 => format!("{}, in {}", date(secs), left(rest)),
        _ => format!("{}, which is past", date(secs)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_has_a_date() {
        assert_eq!(date(1_800_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(date(YEAR_10000_SECS - 1), "9999-12-31T23:59:59Z");
        assert_eq!(date(u64::MAX), "after the year 9999");
        let now = 1_800_000_000;
        assert_eq!(until(now, now), "2027-01-15T08:00:00Z, which is past");
        assert_eq!(until(now + 60, now), "2027-01-15T08:01:00Z, in 60 s");
        assert_eq!(until(u64::MAX, now), "after the year 9999, in 213503982313767 d");
    }
}
