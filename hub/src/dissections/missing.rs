//! What is not on the tapes of a job, or not whole: told by the recorders, and seen while the tapes are read.

use std::collections::BTreeMap;

use wiretape_tape::Nanos;

use super::{Job, Routes};
use crate::losses::{self, KEPT, Lost, Stage};

/// Packets that were recorded without their end.
#[derive(Default)]
pub(super) struct CutShort {
    /// The latest time of each tape.
    latest: BTreeMap<u16, Lost>,
    /// Those before.
    earlier: Vec<Lost>,
}

impl CutShort {
    /// No further apart than this, they are told as one.
    const APART: Nanos = 2_000_000_000;
    /// Most of the times before, until they are told as fewer.
    const MOST: usize = 16 * KEPT;

    /// Counts a packet of a tape.
    pub(super) fn add(&mut self, job: &Job, tape: u16, ts: Nanos) {
        let begins = || Lost {
            node: node(job, tape),
            stage: Stage::CutShort,
            since: ts,
            until: ts,
            packets: 1,
        };
        let Some(latest) = self.latest.get_mut(&tape) else {
            self.latest.insert(tape, begins());
            return;
        };
        if ts <= latest.until.saturating_add(Self::APART) {
            latest.until = latest.until.max(ts);
            latest.packets += 1;
            return;
        }
        self.earlier.push(std::mem::replace(latest, begins()));
        if self.earlier.len() > Self::MOST {
            self.earlier = losses::merged(std::mem::take(&mut self.earlier), KEPT);
        }
    }
}

/// What is missing in the job's window.
pub(super) fn losses(job: &Job, routes: &Routes) -> Vec<Lost> {
    let mut all = job.losses.clone();
    // The files may know of more than was told, but not when.
    let untold = routes.read.lost.saturating_sub(losses::lost(&all));
    if untold > 0 {
        all.push(Lost {
            node: match job.sources.as_slice() {
                [_] => node(job, 0),
                _ => String::new(),
            },
            stage: Stage::Unknown,
            since: routes.first.unwrap_or(0),
            until: routes.last.unwrap_or(Nanos::MAX),
            packets: untold,
        });
    }
    all.extend(routes.cut_short.latest.values().cloned());
    all.extend(routes.cut_short.earlier.iter().cloned());
    if let Some((start, end)) = job.window {
        all.retain(|lost| lost.touches(Some(start), Some(end)));
    }
    losses::merged(all, KEPT)
}

fn node(job: &Job, tape: u16) -> String {
    let source = job.sources.get(usize::from(tape));
    source.map(|source| source.node.clone()).unwrap_or_default()
}
