//! Points in time and durations, as filters write them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::Nanos;

/// KFL1's functions of a number: `minutes(-5)` is five minutes before now. A month is 30 days, a year 365.
const UNITS: &[(&str, i64)] = &[
    ("seconds", 1),
    ("minutes", 60),
    ("hours", 60 * 60),
    ("days", 24 * 60 * 60),
    ("weeks", 7 * 24 * 60 * 60),
    ("months", 30 * 24 * 60 * 60),
    ("years", 365 * 24 * 60 * 60),
];

/// Names of the functions that [`units`] computes.
pub(crate) fn unit_names() -> impl Iterator<Item = &'static str> + Clone {
    UNITS.iter().map(|(name, _)| *name)
}

/// So many units in nanoseconds; `None` for an unknown unit, or so many that they do not fit.
pub(crate) fn units(name: &str, count: i64) -> Option<i64> {
    let (_, seconds) = UNITS.iter().find(|(unit, _)| *unit == name)?;
    seconds.checked_mul(count)?.checked_mul(1_000_000_000)
}

/// `2026-01-31T12:00:00Z`, also with a fraction or another offset.
pub(crate) fn parse_rfc3339(text: &str) -> Option<Nanos> {
    nanos(text.parse().ok()?)
}

/// KFL1's `1/31/2026, 3:04:05 PM`, in UTC.
pub(crate) fn parse_datetime(text: &str) -> Option<Nanos> {
    let datetime = DateTime::strptime("%m/%d/%Y, %I:%M:%S %p", text).ok()?;
    nanos(datetime.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// `1h30m`, `250ms`, `-5m`, in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let duration: SignedDuration = text.parse().ok()?;
    i64::try_from(duration.as_nanos()).ok()
}

/// As [`parse_rfc3339`] reads it.
pub(crate) fn rfc3339(nanos: Nanos) -> String {
    // Every `Nanos` is a timestamp: the last is in the year 2554.
    Timestamp::from_nanosecond(nanos.into())
        .unwrap_or(Timestamp::MAX)
        .to_string()
}

fn nanos(timestamp: Timestamp) -> Option<Nanos> {
    Nanos::try_from(timestamp.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Nanos = 24 * 60 * 60 * 1_000_000_000;

    #[test]
    fn points_in_time() {
        assert_eq!(parse_rfc3339("1970-01-02T00:00:00Z"), Some(DAY));
        assert_eq!(
            parse_rfc3339("1970-01-02T01:00:00.000000001+01:00"),
            Some(DAY + 1)
        );
        assert_eq!(parse_rfc3339("1969-12-31T23:59:59Z"), None);
        assert_eq!(parse_rfc3339("yesterday"), None);
        assert_eq!(parse_datetime("1/2/1970, 12:00:00 AM"), Some(DAY));
        assert_eq!(
            parse_datetime("1/2/1970, 3:04:05 PM"),
            Some(DAY + (15 * 3600 + 4 * 60 + 5) * 1_000_000_000)
        );
        assert_eq!(parse_datetime("2/1/1970"), None);
    }

    #[test]
    fn printed_time_is_read_back() {
        for nanos in [0, 1, DAY, 1_770_000_000_123_456_789, Nanos::MAX] {
            assert_eq!(parse_rfc3339(&rfc3339(nanos)), Some(nanos));
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("5m"), Some(300_000_000_000));
        assert_eq!(parse_duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(parse_duration("1.5s"), Some(1_500_000_000));
        assert_eq!(parse_duration("-250ms"), Some(-250_000_000));
        assert_eq!(parse_duration("99999999999h"), None);
        assert_eq!(parse_duration("soon"), None);
        assert_eq!(units("minutes", -5), Some(-300_000_000_000));
        assert_eq!(units("years", i64::MAX), None);
        assert_eq!(units("fortnights", 1), None);
    }
}
