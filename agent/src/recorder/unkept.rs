//! What was handed over stays with its source until it is in the tape's files.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wiretape_tape::{Place, Progress};

use crate::capture::Handed;

/// Most rounds that are remembered one by one; of more, several are kept at once.
const MAX_ROUNDS: usize = 1024;

/// How often the source is told though nothing came, so that the next agent knows until when this one was well.
const AT_LEAST: Duration = Duration::from_secs(1);

/// Rounds of which not all packets are in files yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unkept {
    rounds: VecDeque<Round>,
    last: Option<(Handed, Instant)>,
}

#[derive(Debug)]
struct Round {
    /// Packets that the tape had been given by its end.
    appended: u64,
    handed: Handed,
    place: Place,
}

impl Unkept {
    /// Whatever can be kept next is news.
    pub fn tell_anyway(&mut self) {
        self.last = None;
    }

    /// A round is over in which packets were handed over up to here. What can be kept by then, if that is news.
    pub fn settle(&mut self, handed: Handed, progress: &Progress) -> Option<(Handed, Place)> {
        if self.rounds.len() >= MAX_ROUNDS {
            self.rounds.pop_back();
        }
        self.rounds.push_back(Round {
            appended: progress.appended,
            handed,
            place: progress.end,
        });
        let settled = self
            .rounds
            .partition_point(|round| round.appended <= progress.settled);
        let round = self.rounds.drain(..settled).next_back()?;
        let news = |(before, at): (Handed, Instant)| before != round.handed || at.elapsed() >= AT_LEAST;
        if !self.last.is_none_or(news) {
            return None;
        }
        self.last = Some((round.handed, Instant::now()));
        Some((round.handed, round.place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(appended: u64, settled: u64) -> Progress {
        Progress {
            appended,
            settled,
            end: Place {
                segment: [1, 0],
                packets: appended,
            },
            losses_told: true,
        }
    }

    #[test]
    fn what_is_not_in_a_file_is_not_kept() {
        let mut unkept = Unkept::default();
        let handed = Handed::of;
        let kept = |of: Option<(Handed, Place)>| of.map(|(handed, place)| (handed, place.packets));
        assert_eq!(kept(unkept.settle(handed(10), &progress(1, 0))), None);
        assert_eq!(kept(unkept.settle(handed(20), &progress(2, 0))), None);
        assert_eq!(
            kept(unkept.settle(handed(30), &progress(3, 2))),
            Some((handed(20), 2))
        );
        assert_eq!(kept(unkept.settle(handed(30), &progress(3, 2))), None);
        assert_eq!(
            kept(unkept.settle(handed(30), &progress(3, 3))),
            Some((handed(30), 3))
        );
        // Nothing came, and nothing is to be said.
        assert_eq!(kept(unkept.settle(handed(30), &progress(3, 3))), None);
    }

    #[test]
    fn however_many_rounds_wait_all_are_kept_in_the_end() {
        let mut unkept = Unkept::default();
        let rounds = 3 * MAX_ROUNDS as u64;
        for n in 1..=rounds {
            assert_eq!(unkept.settle(Handed::of(n), &progress(n, 0)), None);
            assert!(unkept.rounds.len() <= MAX_ROUNDS);
        }
        let (handed, place) = unkept
            .settle(Handed::of(rounds), &progress(rounds, rounds))
            .unwrap();
        assert_eq!((handed, place.packets), (Handed::of(rounds), rounds));
    }
}
