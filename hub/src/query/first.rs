//! The first calls in an order: how many match at all, and which come first after some other. One pass counts, and keeps
//! where the first are; only those are read whole.

use std::collections::{BTreeMap, BinaryHeap};

use datafusion::arrow::array::BooleanBufferBuilder;
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::interleave_record_batch;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::logical_expr::Expr;

use super::calls::Order;
use super::scan::{self, batch, each, ids, ints, times};
use super::{Database, QueryError};
use crate::calls::parts::{Group, Texts};
use crate::calls::schema::COLUMNS;

/// What calls come by, with no two alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// What is ordered by, the least first.
    pub(super) key: i64,
    pub(super) ts: i64,
    pub(super) stream: u64,
    pub(super) index: i64,
}

/// A call that may be among the first, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: Rank,
    group: usize,
    row: usize,
}

/// How many calls meet a condition, and the first `wanted` of them after some other, in order: these columns of them, or
/// all.
pub(super) async fn page(
    db: &Database,
    condition: Option<Expr>,
    order: Order,
    after: Option<Rank>,
    wanted: usize,
    columns: Option<Vec<&'static str>>,
) -> Result<(u64, Vec<RecordBatch>), QueryError> {
    let state = || First {
        order,
        after,
        wanted,
        count: 0,
        found: BinaryHeap::new(),
    };
    let parts = scan::matching(db, condition, state, |first, at, group, matching| {
        first.look(at, group, matching)
    })
    .await?;
    let total = parts.iter().map(|part| part.count).sum();
    let mut found: Vec<Candidate> = parts.into_iter().flat_map(|part| part.found).collect();
    found.sort_unstable();
    found.truncate(wanted);
    let columns = columns.unwrap_or_else(|| COLUMNS.iter().map(|column| column.name).collect());
    Ok((total, read(db, &found, columns).await?))
}

/// How many calls meet a condition.
pub(super) async fn count(db: &Database, condition: Option<Expr>) -> Result<u64, QueryError> {
    let counted = scan::matching(
        db,
        condition,
        || 0,
        |count, _, _, matching| {
            *count += matching.count_set_bits() as u64;
            Ok(())
        },
    )
    .await?;
    Ok(counted.into_iter().sum())
}

struct First {
    order: Order,
    after: Option<Rank>,
    wanted: usize,
    count: u64,
    /// The first, the last of them on top; no more than are wanted.
    found: BinaryHeap<Candidate>,
}

impl First {
    fn look(&mut self, at: usize, group: &Group, matching: &BooleanBuffer) -> Result<(), QueryError> {
        self.count += matching.count_set_bits() as u64;
        let full = self.found.len() >= self.wanted;
        let last = self.found.peek().filter(|_| full).map(|last| last.rank.key);
        let least = least_key(group, self.order);
        if matching.count_set_bits() == 0 || least.zip(last).is_some_and(|(least, last)| least > last) {
            return Ok(());
        }
        let told = batch(group, key_columns(self.order), Texts::Words, matching)?;
        let from = self.after.map_or(i64::MIN, |after| after.key);
        let to = last.unwrap_or(i64::MAX);
        let mut keyed: Vec<(i64, usize)> = keys(&told, self.order)?
            .zip(matching.set_indices())
            .filter(|(key, _)| (from..=to).contains(key))
            .collect();
        // Of those behind the one that they come after, no more than are wanted, and what is equal to the last of them.
        let mut behind: Vec<i64> = keyed
            .iter()
            .map(|(key, _)| *key)
            .filter(|key| *key > from)
            .collect();
        if let Some(nth) = self.wanted.checked_sub(1).filter(|nth| *nth < behind.len()) {
            let (_, most, _) = behind.select_nth_unstable(nth);
            keyed.retain(|(key, _)| key <= most);
        }
        if keyed.is_empty() {
            return Ok(());
        }
        let rows = mask(group.rows(), keyed.iter().map(|(_, row)| *row));
        let told = batch(group, &["ts", "stream", "index"], Texts::Words, &rows)?;
        let (ts, streams, indexes) = (times(&told, "ts")?, ids(&told, "stream")?, ints(&told, "index")?);
        for (nth, (key, row)) in keyed.into_iter().enumerate() {
            let rank = Rank {
                key,
                ts: ts.raw(nth),
                stream: streams.get(nth).copied().unwrap_or_default(),
                index: indexes.get(nth).unwrap_or_default(),
            };
            if self.after.is_some_and(|after| rank <= after) {
                continue;
            }
            let candidate = Candidate { rank, group: at, row };
            if self.found.len() < self.wanted {
                self.found.push(candidate);
            } else if let Some(mut last) = self.found.peek_mut()
                && candidate < *last
            {
                *last = candidate;
            }
        }
        Ok(())
    }
}

/// What an order's key is made of.
fn key_columns(order: Order) -> &'static [&'static str] {
    match order {
        Order::Time => &["ts"],
        Order::Latency => &["elapsed_ns"],
        Order::Size => &["req_bytes", "resp_bytes"],
    }
}

/// The key of each row.
fn keys(told: &RecordBatch, order: Order) -> Result<Box<dyn Iterator<Item = i64> + '_>, QueryError> {
    let rows = 0..told.num_rows();
    Ok(match order {
        Order::Time => {
            let ts = times(told, "ts")?;
            Box::new(rows.map(move |row| ts.raw(row)))
        }
        Order::Latency => {
            let elapsed = ints(told, "elapsed_ns")?;
            Box::new(rows.map(move |row| key_of_latency(elapsed.get(row))))
        }
        Order::Size => {
            let (requests, responses) = (ints(told, "req_bytes")?, ints(told, "resp_bytes")?);
            Box::new(rows.map(move |row| key_of_size(requests.get(row), responses.get(row))))
        }
    })
}

/// The slowest come first; those whose time is not known last.
pub(super) fn key_of_latency(elapsed: Option<i64>) -> i64 {
    elapsed.unwrap_or(-1).saturating_neg()
}

/// The largest come first.
pub(super) fn key_of_size(request: Option<i64>, response: Option<i64>) -> i64 {
    let size = request
        .unwrap_or_default()
        .saturating_add(response.unwrap_or_default());
    size.saturating_neg()
}

/// No call of a row group has a key that is less, if that is known.
fn least_key(group: &Group, order: Order) -> Option<i64> {
    match order {
        Order::Time => group.range("ts").map(|(least, _)| least),
        Order::Latency => group
            .range("elapsed_ns")
            .map(|(_, most)| key_of_latency(Some(most))),
        Order::Size => None,
    }
}

fn mask(rows: usize, set: impl Iterator<Item = usize>) -> BooleanBuffer {
    let mut mask = BooleanBufferBuilder::new(rows);
    mask.append_n(rows, false);
    set.for_each(|row| mask.set_bit(row, true));
    mask.finish()
}

/// Reads calls where they are, and puts them in order again.
async fn read(
    db: &Database,
    found: &[Candidate],
    columns: Vec<&'static str>,
) -> Result<Vec<RecordBatch>, QueryError> {
    let parts = db.parts().await?;
    let mut rows = BTreeMap::<usize, Vec<usize>>::new();
    for candidate in found {
        rows.entry(candidate.group).or_default().push(candidate.row);
    }
    rows.values_mut().for_each(|rows| rows.sort_unstable());
    let wanted: Vec<_> = rows
        .iter()
        .filter_map(|(at, rows)| Some((*at, parts.groups().get(*at)?.clone(), rows.clone())))
        .collect();
    let batches = each(
        wanted,
        Vec::new,
        move |read: &mut Vec<(usize, RecordBatch)>, (at, group, rows)| {
            let among = mask(group.rows(), rows.iter().copied());
            read.push((*at, batch(group, &columns, Texts::Plain, &among)?));
            Ok(())
        },
    )
    .await?;
    let batches: BTreeMap<usize, RecordBatch> = batches.into_iter().flatten().collect();
    let ordinals: Vec<usize> = batches.keys().copied().collect();
    let places: Option<Vec<(usize, usize)>> = found
        .iter()
        .map(|candidate| {
            let rows = rows.get(&candidate.group)?;
            let batch = ordinals.binary_search(&candidate.group).ok()?;
            Some((batch, rows.binary_search(&candidate.row).ok()?))
        })
        .collect();
    let (Some(places), false) = (places, batches.is_empty()) else {
        return Ok(Vec::new());
    };
    let batches: Vec<&RecordBatch> = batches.values().collect();
    let ordered = interleave_record_batch(&batches, &places)
        .map_err(|error| QueryError::Internal(format!("cannot put calls in order: {error}")))?;
    Ok(vec![ordered])
}
