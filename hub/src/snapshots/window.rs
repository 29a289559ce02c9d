//! The window of time that a snapshot is cut to: how it is asked for, and whether there is tape for it.

use jiff::Timestamp;
use wiretape_tape::{Boundaries, Nanos};

/// The window when none is asked for, ending now (contract 1.8: the last hour of recorded traffic).
pub const DEFAULT_DURATION: Nanos = 3600 * SECOND;

/// An agent flushes once a second, so its newest flushed packet may lag; a cut flushes first and does not.
const FLUSH_GRACE: Nanos = 2 * SECOND;

const MILLISECOND: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MILLISECOND;

/// How a window was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// So long a time, ending now.
    Last(Nanos),
    /// From a moment (inclusive) to a moment (exclusive; now when not given).
    Between(Nanos, Option<Nanos>),
}

/// A window that cannot be cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// No length.
    #[error("`{0}` is not a duration: write 30s, 15m, 1h or 1h30m")]
    Duration(String),
    /// It ends before it begins.
    #[error("the window is empty: it begins {start} and ends {end}; its end must be later than its start")]
    Empty {
        /// Its start.
        start: String,
        /// Its end.
        end: String,
    },
    /// Nothing is recorded at all.
    #[error(
        "nothing has been recorded yet on any node; check that the agents record (GET /mcp/data-boundaries)"
    )]
    NoTape,
    /// Something is recorded, but not then.
    #[error(
        "there is no tape for the window {start} to {end}: what is recorded now reaches from {oldest} to {newest} \
         ({oldest_ms} to {newest_ms} in ms); ask for a window that overlaps it"
    )]
    Outside {
        /// The window's start.
        start: String,
        /// Its end.
        end: String,
        /// Oldest packet of any node.
        oldest: String,
        /// Newest packet of any node.
        newest: String,
        /// The same in Unix milliseconds.
        oldest_ms: u64,
        /// The same in Unix milliseconds.
        newest_ms: u64,
    },
}

/// The oldest and the newest packet on any of these tapes.
pub fn span<'a>(tapes: impl IntoIterator<Item = &'a Boundaries>) -> Option<(Nanos, Nanos)> {
    tapes
        .into_iter()
        .filter_map(|tape| Some((tape.oldest?, tape.newest?)))
        .reduce(|(oldest, newest), (first, last)| (oldest.min(first), newest.max(last)))
}

/// The window that is meant, checked against the tape there is.
pub fn resolve(
    asked: Asked,
    now: Nanos,
    tape: Option<(Nanos, Nanos)>,
) -> Result<(Nanos, Nanos), WindowError> {
    let (start, end) = match asked {
        Asked::Last(length) => (now.saturating_sub(length), now),
        // Nothing is recorded of the time to come.
        Asked::Between(start, end) => (start, end.unwrap_or(now).min(now)),
    };
    if end <= start {
        return Err(WindowError::Empty {
            start: at(start),
            end: at(end),
        });
    }
    let (oldest, newest) = tape.ok_or(WindowError::NoTape)?;
    if end <= oldest || start > newest.saturating_add(FLUSH_GRACE) {
        return Err(WindowError::Outside {
            start: at(start),
            end: at(end),
            oldest: at(oldest),
            newest: at(newest),
            oldest_ms: oldest / MILLISECOND,
            newest_ms: newest / MILLISECOND,
        });
    }
    Ok((start, end))
}

/// Reads `90s`, `30m`, `1h`, `1h30m`, `500ms`, `2d`.
pub fn parse_duration(text: &str) -> Result<Nanos, WindowError> {
    let wrong = || WindowError::Duration(text.chars().take(40).collect());
    let mut rest = text.trim();
    let mut total: Nanos = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let number: Nanos = number.parse().map_err(|_| wrong())?;
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let unit = match unit.trim() {
            "ms" => MILLISECOND,
            "s" => SECOND,
            "m" | "min" => 60 * SECOND,
            "h" => 3600 * SECOND,
            "d" => 86_400 * SECOND,
            _ => return Err(wrong()),
        };
        total = number
            .checked_mul(unit)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        rest = tail.trim_start();
    }
    if total == 0 { Err(wrong()) } else { Ok(total) }
}

/// The shortest form that [`parse_duration`] reads back, to the millisecond.
pub fn show_duration(length: Nanos) -> String {
    let mut rest = length / MILLISECOND;
    let mut text = String::new();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= size {
            text += &format!("{}{unit}", rest / size);
            rest %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A moment as the API writes it: RFC 3339 in UTC, to the millisecond where it has one.
pub fn at(moment: Nanos) -> String {
    let whole = moment / MILLISECOND;
    match i64::try_from(whole)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
    {
        Some(time) => time.to_string(),
        None => format!("{whole} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Nanos = 1_700_000_000 * SECOND;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, seconds) in [
            ("30m", 1800),
            ("1h", 3600),
            ("1h30m", 5400),
            ("90s", 90),
            ("1d", 86_400),
            (" 2 h", 7200),
        ] {
            assert_eq!(parse_duration(text), Ok(seconds * SECOND), "{text}");
        }
        for text in [
            "",
            "1",
            "h",
            "1x",
            "-1h",
            "0s",
            "1h 3",
            "99999999999999999999h",
            "999999999999h",
            "1.5h",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["1h", "30m", "1h30m", "1m30s", "250ms"] {
            assert_eq!(parse_duration(text).map(show_duration).as_deref(), Ok(text));
        }
    }

    #[test]
    fn the_last_hour_of_a_young_tape() {
        let tape = Some((NOW - 5 * SECOND, NOW - SECOND));
        assert_eq!(
            resolve(Asked::Last(DEFAULT_DURATION), NOW, tape),
            Ok((NOW - DEFAULT_DURATION, NOW))
        );
    }

    #[test]
    fn a_window_outside_the_tape_says_which_window_there_is() {
        let tape = Some((NOW - 100 * SECOND, NOW - 50 * SECOND));
        let asked = Asked::Between(NOW - 300 * SECOND, Some(NOW - 200 * SECOND));
        let told = resolve(asked, NOW, tape).map_err(|error| error.to_string());
        assert_eq!(
            told,
            Err("there is no tape for the window 2023-11-14T22:08:20Z to 2023-11-14T22:10:00Z: what is recorded now \
                 reaches from 2023-11-14T22:11:40Z to 2023-11-14T22:12:30Z (1699999900000 to 1699999950000 in ms); \
                 ask for a window that overlaps it"
                .to_owned())
        );
        // The tape ended 50 s ago, so the last 10 s are not on it either.
        assert!(matches!(
            resolve(Asked::Last(10 * SECOND), NOW, tape),
            Err(WindowError::Outside { .. })
        ));
        assert_eq!(resolve(Asked::Last(SECOND), NOW, None), Err(WindowError::NoTape));
    }

    #[test]
    fn windows_end_after_they_begin_and_not_in_the_future() {
        let tape = Some((NOW - 100 * SECOND, NOW));
        assert!(matches!(
            resolve(Asked::Between(NOW, Some(NOW)), NOW, tape),
            Err(WindowError::Empty { .. })
        ));
        assert!(matches!(
            resolve(Asked::Between(NOW + SECOND, None), NOW, tape),
            Err(WindowError::Empty { .. })
        ));
        let asked = Asked::Between(NOW - SECOND, Some(NOW + 60 * SECOND));
        assert_eq!(resolve(asked, NOW, tape), Ok((NOW - SECOND, NOW)));
    }
}
