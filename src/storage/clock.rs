//! Dates in the format of specifications: civil time to the second, `2026-11-28T22:55:28`.
//!
//! Owns the conversion. Refuses time zones: chat templates print none.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The local date and time now.
#[must_use]
pub fn local_time() -> String {
    text(jiff::ZonedDateTime::now().datetime())
}

/// The UTC date and time of a Unix timestamp in milliseconds.
#[must_use]
pub fn utc_time(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX);
    text(TimeZone::UTC.to_datetime(at))
}

fn text(at: DateTime) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_one_form() {
        assert_eq!(utc_time(951_782_460_999), "2000-02-29T00:01:00");
        assert_eq!(utc_time(u64::MAX).len(), 19);
        assert!(local_time().parse::<DateTime>().is_ok());
    }
}
