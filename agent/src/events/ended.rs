//! Ends of processes, each once. The last thread that ends tells of it; where several end together, on several processors, each
//! of them may see that no other is left.

use std::collections::VecDeque;

use wiretape_tape::{Event, EventKind, Nanos};

/// Threads that end together tell within milliseconds. In so short a time no process' number comes back.
const TOGETHER: Nanos = 100_000_000;

/// Ends that are remembered: as many processes as a node ends in that time.
const REMEMBERED: usize = 1024;

/// The processes that have just ended.
#[derive(Debug, Default)]
pub struct Ended(VecDeque<(u32, Nanos)>);

impl Ended {
    /// Whether this is an end that was told already.
    pub fn again(&mut self, event: &Event) -> bool {
        if event.kind != EventKind::ProcessExit {
            return false;
        }
        // In the order in which they were told; a clock that was set back makes none of them older.
        let mut latest = self.0.iter().rev();
        if latest.any(|(pid, at)| *pid == event.pid && event.at.abs_diff(*at) < TOGETHER) {
            return true;
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((event.pid, event.at));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(pid: u32, at: Nanos) -> Event {
        Event {
            kind: EventKind::ProcessExit,
            pid,
            at,
            ..Event::default()
        }
    }

    #[test]
    fn threads_that_end_together_are_one_process() {
        let mut ended = Ended::default();
        assert!(!ended.again(&exit(7, 1000)));
        assert!(!ended.again(&exit(8, 1001)));
        assert!(ended.again(&exit(7, 1002)));
        assert!(
            !ended.again(&exit(7, 1000 + TOGETHER)),
            "another one of that number"
        );
        let start = Event {
            kind: EventKind::ProcessStart,
            ..exit(8, 1003)
        };
        assert!(!ended.again(&start));
    }

    #[test]
    fn no_more_ends_are_remembered_than_there_may_be() {
        let mut ended = Ended::default();
        (0..3000).for_each(|pid| assert!(!ended.again(&exit(pid, 5))));
        assert_eq!(ended.0.len(), REMEMBERED);
    }
}
