//! Counting calls by group, and by group and time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::record_batch::RecordBatch;
use rustc_hash::FxHashMap;

use super::measures::{Counted, Measures};
use super::{Buckets, MAX_GROUPS};
use crate::query::endpoints::Examples;
use crate::query::group::{GroupKey, MAX_KEYS, Values};
use crate::query::latency::EXACT_LATENCIES;
use crate::query::scan::{self, Fold};
use crate::query::{Database, QueryError};

/// The values of a group's keys.
pub(super) type Key = Vec<Box<str>>;

/// The numbers of a group's values; zero beyond its keys.
type Slot = [u32; MAX_KEYS];

/// A group.
#[derive(Default)]
pub(super) struct Group {
    pub(super) measures: Measures,
    pub(super) examples: Examples,
}

/// Latencies that all tasks of one question keep together. When they are too many, each goes over to histograms.
#[derive(Clone, Default)]
struct Kept(Arc<AtomicUsize>);

impl Kept {
    /// Tells it of those of a batch. Whether there are still few enough.
    fn exact(&self, more: usize) -> bool {
        self.0.fetch_add(more, Ordering::Relaxed) + more <= EXACT_LATENCIES
    }
}

/// Counts by group.
pub(super) struct ByGroup {
    values: Vec<Values>,
    slots: Slots,
    /// Groups in which something was counted.
    met: usize,
    kept: Kept,
    exact: bool,
    /// Written over for each batch.
    numbers: Vec<Vec<u32>>,
}

impl ByGroup {
    /// A state for each reading task, all of one question.
    pub(super) fn new(db: &Database, keys: &[GroupKey]) -> impl Fn() -> Self {
        let kept = Kept::default();
        move || Self {
            values: keys.iter().map(|key| Values::new(db, *key)).collect(),
            slots: Slots::default(),
            met: 0,
            kept: kept.clone(),
            exact: true,
            numbers: vec![Vec::new(); keys.len()],
        }
    }

    /// What all tasks counted, and whether all latencies were kept.
    pub(super) fn merge(tasks: Vec<Self>) -> Result<(BTreeMap<Key, Group>, bool), QueryError> {
        let mut groups = BTreeMap::<Key, Group>::new();
        for task in tasks {
            for (slot, measures) in task.slots.all() {
                let named = || task.values.iter().zip(slot);
                let key = named()
                    .map(|(values, number)| values.words.text(number).into())
                    .collect();
                let group = groups.entry(key).or_default();
                group.measures.merge(measures);
                for (values, number) in named() {
                    let at = usize::try_from(number).unwrap_or(usize::MAX);
                    if let Some(examples) = values.examples.get(at) {
                        group.examples.merge(examples);
                    }
                }
            }
        }
        too_many(groups.len())?;
        let latencies: u64 = groups.values().map(|group| group.measures.latencies()).sum();
        let exact = latencies <= EXACT_LATENCIES as u64;
        if !exact {
            groups.values_mut().for_each(|group| group.measures.coarsen());
        }
        Ok((groups, exact))
    }
}

impl Fold for ByGroup {
    fn take(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let counted = Counted::of(batch)?;
        for (values, numbers) in self.values.iter_mut().zip(&mut self.numbers) {
            values.take(batch, numbers)?;
        }
        let exact = self.kept.exact(counted.latencies());
        if self.exact && !exact {
            self.exact = false;
            self.slots.measures.iter_mut().for_each(Measures::coarsen);
        }
        for row in 0..batch.num_rows() {
            let measures = self.slots.of(&self.numbers, row);
            if measures.count == 0 {
                self.met += 1;
                if !exact {
                    measures.coarsen();
                }
            }
            counted.add(row, measures);
        }
        too_many(self.met)
    }
}

/// What is counted about each group, by the numbers of its values.
#[derive(Default)]
struct Slots {
    /// In the order in which they were met.
    measures: Vec<Measures>,
    slots: Vec<Slot>,
    /// Where each slot is; with a single key, its numbers say that themselves.
    places: FxHashMap<Slot, usize>,
}

impl Slots {
    /// Those of a row's group.
    fn of(&mut self, numbers: &[Vec<u32>], row: usize) -> &mut Measures {
        let at = match numbers {
            [] => 0,
            [only] => only
                .get(row)
                .and_then(|number| usize::try_from(*number).ok())
                .unwrap_or_default(),
            _ => {
                let next = self.slots.len();
                *self.places.entry(slot(numbers, row)).or_insert(next)
            }
        };
        while self.slots.len() <= at {
            let next = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
            let mut slot = slot(numbers, row);
            if let ([_], [number, ..]) = (numbers, &mut slot) {
                *number = next;
            }
            self.slots.push(slot);
            self.measures.push(Measures::default());
        }
        // It was made just now, if it was not there.
        &mut self.measures[at]
    }

    /// Those in which something was counted.
    fn all(self) -> impl Iterator<Item = (Slot, Measures)> {
        let all = self.slots.into_iter().zip(self.measures);
        all.filter(|(_, measures)| measures.count > 0)
    }
}

/// Counts some groups, and all calls, by time.
pub(super) struct ByTime {
    values: Vec<Values>,
    /// The groups that are asked for, by their ordinals.
    asked: Arc<HashMap<Key, usize>>,
    /// Which of them each slot is.
    known: FxHashMap<Slot, Option<usize>>,
    buckets: Buckets,
    /// All calls by bucket, then the groups, each by bucket.
    cells: Vec<Measures>,
    kept: Kept,
    exact: bool,
    numbers: Vec<Vec<u32>>,
}

impl ByTime {
    /// A state for each reading task, all of one question.
    pub(super) fn new(
        db: &Database,
        keys: &[GroupKey],
        asked: HashMap<Key, usize>,
        buckets: Buckets,
    ) -> impl Fn() -> Self {
        let kept = Kept::default();
        let asked = Arc::new(asked);
        move || Self {
            values: keys.iter().map(|key| Values::new(db, *key)).collect(),
            cells: vec![Measures::default(); (asked.len() + 1) * buckets.count],
            asked: Arc::clone(&asked),
            known: FxHashMap::default(),
            buckets,
            kept: kept.clone(),
            exact: true,
            numbers: vec![Vec::new(); keys.len()],
        }
    }

    /// The series of all calls, then those of the groups.
    pub(super) fn merge(tasks: Vec<Self>, buckets: Buckets) -> Vec<Vec<Measures>> {
        let mut tasks = tasks.into_iter();
        let Some(first) = tasks.next() else {
            return Vec::new();
        };
        let mut cells = first.cells;
        for task in tasks {
            for (cell, more) in cells.iter_mut().zip(task.cells) {
                cell.merge(more);
            }
        }
        let all = cells.iter().take(buckets.count).map(Measures::latencies);
        if all.sum::<u64>() > EXACT_LATENCIES as u64 {
            cells.iter_mut().for_each(Measures::coarsen);
        }
        cells
            .chunks(buckets.count.max(1))
            .map(<[Measures]>::to_vec)
            .collect()
    }
}

impl Fold for ByTime {
    fn take(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let counted = Counted::of(batch)?;
        let times = scan::times(batch, "ts")?;
        for (values, numbers) in self.values.iter_mut().zip(&mut self.numbers) {
            values.take(batch, numbers)?;
        }
        let exact = self.kept.exact(counted.latencies());
        if self.exact && !exact {
            self.exact = false;
            self.cells.iter_mut().for_each(Measures::coarsen);
        }
        for row in 0..batch.num_rows() {
            let Some(bucket) = times.get(row).and_then(|ts| self.buckets.of(ts)) else {
                continue;
            };
            let slot = slot(&self.numbers, row);
            let values = &self.values;
            let group = *self.known.entry(slot).or_insert_with(|| {
                let key: Key = values
                    .iter()
                    .zip(slot)
                    .map(|(values, number)| values.words.text(number).into())
                    .collect();
                self.asked.get(&key).copied()
            });
            for series in [Some(0), group.map(|group| group + 1)].into_iter().flatten() {
                if let Some(cell) = self.cells.get_mut(series * self.buckets.count + bucket) {
                    counted.add(row, cell);
                }
            }
        }
        Ok(())
    }
}

fn slot(numbers: &[Vec<u32>], row: usize) -> Slot {
    let mut slot = Slot::default();
    for (number, numbers) in slot.iter_mut().zip(numbers) {
        *number = numbers.get(row).copied().unwrap_or_default();
    }
    slot
}

fn too_many(groups: usize) -> Result<(), QueryError> {
    if groups > MAX_GROUPS {
        return Err(QueryError::BadRequest(format!(
            "these calls make more than {MAX_GROUPS} groups; narrow them by kfl, start and end, or group by less"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array, StringViewArray};

    use super::*;

    /// A thousand calls, every other of which has no latency; the others' are 1 to 500 µs.
    fn half_known() -> RecordBatch {
        let latencies: ArrayRef = Arc::new(Int64Array::from_iter(
            (0..1000).map(|n| (n % 2 == 0).then_some((n / 2 + 1) * 1000)),
        ));
        let sizes: ArrayRef = Arc::new(Int64Array::from(vec![1; 1000]));
        let outcomes: ArrayRef = Arc::new(StringViewArray::from(vec!["ok"; 1000]));
        RecordBatch::try_from_iter([
            ("outcome", outcomes),
            ("elapsed_ns", latencies),
            ("req_bytes", Arc::clone(&sizes)),
            ("resp_bytes", sizes),
        ])
        .unwrap()
    }

    #[test]
    fn calls_without_latency_take_no_room_among_those_that_are_kept() {
        let batch = half_known();
        // As many latencies as are kept, of twice as many calls; then one batch more.
        let batches = EXACT_LATENCIES / 500;
        for (more, exact) in [(0, true), (1, false)] {
            let mut group = ByGroup {
                values: Vec::new(),
                slots: Slots::default(),
                met: 0,
                kept: Kept::default(),
                exact: true,
                numbers: Vec::new(),
            };
            for _ in 0..batches + more {
                group.take(&batch).unwrap();
            }
            let (groups, told) = ByGroup::merge(vec![group]).unwrap();
            let mut measures = groups.into_values().next().unwrap().measures;
            assert_eq!(measures.latencies(), ((batches + more) * 500) as u64);
            assert_eq!(told, exact);
            // A histogram tells the middle of the cell in which 250 µs is.
            let p50 = measures.told().map(|told| told.p50);
            assert_eq!(p50 == Some(250_000), exact, "{p50:?}");
        }
    }
}
