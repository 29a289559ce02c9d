//! Percentiles of latencies: exact as long as there are few, from a histogram when there are many.
//!
//! The histogram's cells are fixed, so that what comes out depends on the calls alone and not on the order in which
//! threads read them; a t-digest, which is usual for this, does depend on it.

use rustc_hash::FxHashMap;
use serde_json::{Value, json};

/// Latencies that are all kept, over all groups of one question: 8 MB. Above, percentiles come from histograms.
pub const EXACT_LATENCIES: usize = 1 << 20;

/// Bits of a latency that a histogram tells apart. A cell is at most 1/64 of its latencies wide and stands for its
/// middle.
const BITS: u32 = 6;

/// How far a histogram's percentile may be from the exact one, relative to it.
pub const HISTOGRAM_ERROR: f64 = 1.0 / 128.0;

/// The latencies of some calls, in ns.
#[derive(Clone, Debug)]
pub(super) enum Latencies {
    /// All of them, in any order.
    Exact(Vec<u64>),
    /// How many there are in each cell.
    Histogram(FxHashMap<u16, u64>),
}

impl Default for Latencies {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Latencies {
    pub(super) fn add(&mut self, latency: u64) {
        match self {
            Self::Exact(all) => all.push(latency),
            Self::Histogram(cells) => *cells.entry(cell(latency)).or_default() += 1,
        }
    }

    /// Takes in those of others.
    pub(super) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Exact(all), Self::Exact(more)) => all.extend(more),
            (Self::Histogram(cells), Self::Histogram(more)) => {
                for (cell, count) in more {
                    *cells.entry(cell).or_default() += count;
                }
            }
            (this @ Self::Histogram(_), Self::Exact(more)) => more.into_iter().for_each(|one| this.add(one)),
            (this @ Self::Exact(_), more) => {
                this.coarsen();
                this.merge(more);
            }
        }
    }

    /// Goes over to a histogram.
    pub(super) fn coarsen(&mut self) {
        if let Self::Exact(all) = self {
            let all = std::mem::take(all);
            *self = Self::Histogram(FxHashMap::default());
            all.into_iter().for_each(|one| self.add(one));
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Exact(all) => all.len() as u64,
            Self::Histogram(cells) => cells.values().sum(),
        }
    }

    /// Percentiles by nearest rank: the least latency that so many per cent of all do not exceed. They are asked for in
    /// ascending order. `None` without any.
    pub(super) fn percentiles<const N: usize>(&mut self, percents: [u64; N]) -> Option<[u64; N]> {
        let count = self.len();
        if count == 0 {
            return None;
        }
        // How many others come before each.
        let ranks = percents.map(|percent| (count * percent).div_ceil(100).saturating_sub(1));
        Some(match self {
            Self::Exact(all) => {
                // What comes before one percentile is not looked at for the next.
                let (mut rest, mut before, mut last) = (all.as_mut_slice(), 0, 0);
                ranks.map(|rank| {
                    let Some(at) = rank.checked_sub(before).and_then(|at| usize::try_from(at).ok()) else {
                        return last;
                    };
                    let (_, found, behind) = std::mem::take(&mut rest).select_nth_unstable(at);
                    (rest, before, last) = (behind, rank + 1, *found);
                    last
                })
            }
            Self::Histogram(cells) => {
                let mut cells: Vec<(u16, u64)> = cells.iter().map(|(cell, count)| (*cell, *count)).collect();
                cells.sort_unstable();
                ranks.map(|rank| ranked(&cells, rank))
            }
        })
    }
}

/// The middle of the cell of the latency that so many others come before.
fn ranked(cells: &[(u16, u64)], mut before: u64) -> u64 {
    for (cell, count) in cells {
        if before < *count {
            return middle(*cell);
        }
        before -= count;
    }
    0
}

/// How percentiles were found, for the answer.
pub(super) fn method(exact: bool) -> Value {
    if exact {
        json!({ "method": "exact" })
    } else {
        json!({ "method": "histogram", "relative_error": HISTOGRAM_ERROR, "exact_up_to": EXACT_LATENCIES })
    }
}

/// The cell of a latency: the place of its highest bit, and the [`BITS`] below it.
fn cell(latency: u64) -> u16 {
    let highest = u64::BITS - 1 - (latency | 1).leading_zeros();
    let cell = if highest < BITS {
        latency
    } else {
        let shift = highest - BITS;
        (u64::from(shift + 1) << BITS) + ((latency >> shift) - (1 << BITS))
    };
    // 64 places of 64 cells.
    u16::try_from(cell).unwrap_or(u16::MAX)
}

/// The middle of a cell.
fn middle(cell: u16) -> u64 {
    let (octave, within) = (u64::from(cell) >> BITS, u64::from(cell) & ((1 << BITS) - 1));
    match octave.checked_sub(1) {
        None => within,
        Some(shift) => {
            let low = (within + (1 << BITS)) << shift;
            low + ((1_u64 << shift) >> 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_no_wider_than_is_said() {
        let mut latency = 1_u64;
        while latency < u64::MAX / 3 {
            for near in [latency - 1, latency, latency + 1, latency + latency / 3] {
                let told = middle(cell(near));
                let off = told.abs_diff(near) as f64;
                assert!(off <= near as f64 * HISTOGRAM_ERROR, "{near} is told as {told}");
            }
            latency *= 2;
        }
        assert_eq!(middle(cell(0)), 0);
        assert!(cell(u64::MAX) < u16::MAX);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles([50]), None);
        for latency in (1..=200).rev() {
            latencies.add(latency);
        }
        assert_eq!(
            latencies.percentiles([50, 90, 99, 100]),
            Some([100, 180, 198, 200])
        );
        latencies.add(1_000_000);
        assert_eq!(latencies.percentiles([99, 100]), Some([199, 1_000_000]));
    }

    #[test]
    fn halves_that_went_over_at_different_times_merge_to_the_same() {
        let parts = |coarse: [bool; 2]| {
            let mut parts = [Latencies::default(), Latencies::default()];
            for (part, coarse) in parts.iter_mut().zip(coarse) {
                for latency in 0..5000_u64 {
                    if coarse && latency == 2500 {
                        part.coarsen();
                    }
                    part.add(latency * latency);
                }
            }
            let [mut first, second] = parts;
            first.merge(second);
            first.coarsen();
            first.percentiles([50, 90, 95, 99])
        };
        let all = parts([true, true]);
        assert_eq!(all, parts([true, false]));
        assert_eq!(all, parts([false, true]));
        assert_eq!(all, parts([false, false]));
    }
}
