//! How many events go onto the tape: a storm of processes must not push the packets off it.

use std::collections::BTreeMap;

use wiretape_tape::{Event, EventKind, Nanos};

/// Of each kind in one second, of what is ordinary. An event takes some 200 bytes, so that all kinds together make at most
/// 0.2 MB a second.
pub const ORDINARY_PER_SECOND: u32 = 100;

/// The same of warnings, which count by themselves: a thousand processes that end well do not hide the one that was killed.
pub const WARNINGS_PER_SECOND: u32 = 200;

const SECOND: Nanos = 1_000_000_000;

/// Counts the events of this second.
#[derive(Debug, Default)]
pub struct Limit {
    second: Nanos,
    admitted: BTreeMap<(EventKind, bool), u32>,
}

impl Limit {
    /// Whether there is room for one more.
    pub fn admits(&mut self, event: &Event) -> bool {
        let second = event.at / SECOND;
        // Those that come late from another CPU belong to the newer second too; much earlier ones come when the clock was set back.
        if second > self.second || second + 1 < self.second {
            self.second = second;
            self.admitted.clear();
        }
        let admitted = self.admitted.entry((event.kind, event.warning)).or_default();
        *admitted += 1;
        *admitted
            <= if event.warning {
                WARNINGS_PER_SECOND
            } else {
                ORDINARY_PER_SECOND
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(at: Nanos, warning: bool) -> Event {
        Event {
            at,
            kind: EventKind::ProcessExit,
            warning,
            ..Event::default()
        }
    }

    #[test]
    fn a_storm_is_held_back_and_hides_no_warning() {
        let mut limit = Limit::default();
        let admitted = (0..5000)
            .filter(|n| limit.admits(&exit(SECOND + n, false)))
            .count();
        assert_eq!(admitted, ORDINARY_PER_SECOND as usize);
        let warnings = (0..5000)
            .filter(|n| limit.admits(&exit(SECOND + n, true)))
            .count();
        assert_eq!(warnings, WARNINGS_PER_SECOND as usize);
        assert!(limit.admits(&exit(2 * SECOND, false)));
        assert!(limit.admits(&exit(2 * SECOND - 1, false)));
    }

    #[test]
    fn after_a_clock_was_set_back_events_are_admitted_again() {
        let mut limit = Limit::default();
        let hour = 3600 * SECOND;
        let mut admitted = |at| (0..500).filter(|n| limit.admits(&exit(at + n, false))).count();
        for at in [2 * hour, hour, hour + SECOND] {
            assert_eq!(admitted(at), ORDINARY_PER_SECOND as usize);
        }
    }
}
