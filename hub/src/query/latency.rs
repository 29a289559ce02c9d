//! Percentiles of latencies: exact as long as there are few, from a histogram when there are many.
//!
//! The histogram's cells are fixed, so that what comes out depends on the calls alone and not on the order in which
//! threads read them; a t-digest, which is usual for this, does depend on it.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::{Value, json};

/// Latencies that are all kept, over all groups of one question: 8 MB. Above, percentiles come from histograms.
pub const EXACT_LATENCIES: usize = 1 << 20;

/// Bits of a latency that a histogram tells apart. A cell is at most 1/64 of its latencies wide and stands for its
/// middle.
const BITS: u32 = 6;

/// How far a histogram's percentile may be from the exact one, relative to it.
pub const HISTOGRAM_ERROR: f64 = 1.0 / 128.0;

/// Cells that there are: 59 widths of 64.
const CELLS: usize = ((u64::BITS - BITS + 1) as usize) << BITS;

/// Latencies of a block. Few enough to be near the processor while they are counted, so many that their cells are worth
/// their memory.
const BLOCK: usize = 4096;

/// The latencies of some calls, in ns.
#[derive(Clone, Debug)]
pub(super) enum Latencies {
    /// All of them, in any order.
    Exact(Kept),
    /// How many there are in each cell.
    Histogram(FxHashMap<u16, u64>),
}

/// Latencies that are kept. Full blocks are shared by those that were put together of others, and never moved.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    full: Vec<Arc<Vec<u64>>>,
    /// How many of the full blocks' are in each cell; empty while there is none.
    cells: Vec<u32>,
    last: Vec<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self::Exact(Kept::default())
    }
}

impl Kept {
    #[inline]
    fn add(&mut self, latency: u64) {
        if self.last.len() == BLOCK {
            self.end_block();
        }
        self.last.push(latency);
    }

    fn end_block(&mut self) {
        let block = std::mem::replace(&mut self.last, Vec::with_capacity(BLOCK));
        self.cells.resize(CELLS, 0);
        count(&block, &mut self.cells);
        self.full.push(Arc::new(block));
    }

    fn merge(&mut self, other: Self) {
        if self.cells.is_empty() {
            self.cells = other.cells;
        } else {
            for (count, more) in self.cells.iter_mut().zip(other.cells) {
                *count += more;
            }
        }
        self.full.extend(other.full);
        other.last.into_iter().for_each(|one| self.add(one));
    }

    fn len(&self) -> u64 {
        (self.full.len() * BLOCK + self.last.len()) as u64
    }

    fn all(&self) -> impl Iterator<Item = &[u64]> {
        let full = self.full.iter().map(|block| block.as_slice());
        full.chain([self.last.as_slice()])
    }

    /// The latencies that so many others come before, in ascending order.
    fn ranked<const N: usize>(&mut self, ranks: [u64; N]) -> [u64; N] {
        if self.full.is_empty() {
            return ranked_among(&mut self.last, ranks);
        }
        // Of many, only those in the same cell are compared with each other.
        let mut cells = self.cells.clone();
        count(&self.last, &mut cells);
        let mut counted = (0_u16..).zip(&cells);
        let (mut cell, mut before, mut within) = (0, 0, 0);
        let mut wanted = ranks.map(|rank| {
            while before + within <= rank
                && let Some((next, count)) = counted.next()
            {
                before += within;
                (cell, within) = (next, u64::from(*count));
            }
            (bounds(cell), rank.saturating_sub(before), Vec::new())
        });
        for latency in self.all().flatten() {
            for ((low, width), _, near) in &mut wanted {
                if latency.wrapping_sub(*low) < *width {
                    near.push(*latency);
                }
            }
        }
        wanted.map(|(_, rank, mut near)| {
            let [found] = ranked_among(&mut near, [rank]);
            found
        })
    }
}

/// Counts latencies by cell.
fn count(latencies: &[u64], cells: &mut [u32]) {
    for latency in latencies {
        if let Some(count) = cells.get_mut(usize::from(cell(*latency))) {
            *count += 1;
        }
    }
}

/// Those of some latencies that so many others come before, in ascending order.
fn ranked_among<const N: usize>(all: &mut [u64], ranks: [u64; N]) -> [u64; N] {
    // What comes before one percentile is not looked at for the next.
    let (mut rest, mut before, mut last) = (all, 0, 0);
    ranks.map(|rank| {
        let at = rank.checked_sub(before).and_then(|at| usize::try_from(at).ok());
        let Some(at) = at.filter(|at| *at < rest.len()) else {
            return last;
        };
        let (_, found, behind) = std::mem::take(&mut rest).select_nth_unstable(at);
        (rest, before, last) = (behind, rank + 1, *found);
        last
    })
}

impl Latencies {
    pub(super) fn add(&mut self, latency: u64) {
        match self {
            Self::Exact(all) => all.add(latency),
            Self::Histogram(cells) => *cells.entry(cell(latency)).or_default() += 1,
        }
    }

    /// Takes in those of others.
    pub(super) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Exact(all), Self::Exact(more)) => all.merge(more),
            (Self::Histogram(cells), Self::Histogram(more)) => {
                for (cell, count) in more {
                    *cells.entry(cell).or_default() += count;
                }
            }
            (this @ Self::Histogram(_), Self::Exact(more)) => {
                more.all().flatten().for_each(|one| this.add(*one));
            }
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
            all.all().flatten().for_each(|one| self.add(*one));
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Exact(all) => all.len(),
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
            Self::Exact(all) => all.ranked(ranks),
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

/// The least latency of a cell, and how many different ones there are in it.
fn bounds(cell: u16) -> (u64, u64) {
    let (octave, within) = (u64::from(cell) >> BITS, u64::from(cell) & ((1 << BITS) - 1));
    match octave.checked_sub(1) {
        None => (within, 1),
        Some(shift) => ((within + (1 << BITS)) << shift, 1 << shift),
    }
}

/// The middle of a cell.
fn middle(cell: u16) -> u64 {
    let (low, width) = bounds(cell);
    low + (width >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_no_wider_than_is_said() {
        let mut latency = 1_u64;
        while latency < u64::MAX / 3 {
            for near in [latency - 1, latency, latency + 1, latency + latency / 3] {
                let (low, width) = bounds(cell(near));
                assert!(
                    near >= low && near - low < width,
                    "{near} is not in {low} and {width} more"
                );
                let told = middle(cell(near));
                let off = told.abs_diff(near) as f64;
                assert!(off <= near as f64 * HISTOGRAM_ERROR, "{near} is told as {told}");
            }
            latency *= 2;
        }
        assert_eq!(middle(cell(0)), 0);
        assert_eq!(usize::from(cell(u64::MAX)), CELLS - 1);
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
    fn percentiles_of_many_are_those_of_all_of_them_in_order() {
        // Numbers of a hash's kind, of all sizes, and many that are alike.
        let spread = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (n % 64);
        let same = |n: u64| n % 3;
        for of in [spread, same] {
            let mut sorted: Vec<u64> = (0..20_001).map(of).collect();
            let (mut halves, mut at_once) =
                ([Latencies::default(), Latencies::default()], Latencies::default());
            for latency in &sorted {
                halves[(latency % 2) as usize].add(*latency);
                at_once.add(*latency);
            }
            sorted.sort_unstable();
            let expected =
                [50_usize, 90, 95, 99, 100].map(|percent| sorted[(20_001 * percent).div_ceil(100) - 1]);
            let [mut both, other] = halves;
            both.merge(other.clone());
            for latencies in [&mut both, &mut at_once] {
                assert_eq!(latencies.percentiles([50, 90, 95, 99, 100]), Some(expected));
            }
            assert_eq!((both.len(), at_once.len()), (20_001, 20_001));
        }
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
