//! The first calls in time that match: how many match at all, and when the last of the first began. One pass counts, and
//! tells what the page's own reading need not look at: by the statistics of `ts`, that is nearly everything.

use std::collections::BinaryHeap;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::logical_expr::Expr;
use wiretape_tape::Nanos;

use super::scan::{self, Fold};
use super::{Database, QueryError};

/// How many calls meet a condition; and a time until which, after the time `after`, so many of them began as are wanted,
/// or all of them. Of what began at `after` itself, all of it is until then.
pub(super) async fn in_time(
    db: &Database,
    condition: Expr,
    after: Option<Nanos>,
    wanted: usize,
) -> Result<(u64, Nanos), QueryError> {
    let state = || First {
        after,
        wanted,
        count: 0,
        times: BinaryHeap::new(),
    };
    let parts = scan::fold(db, Some(condition), &["ts"], state).await?;
    let total = parts.iter().map(|part| part.count).sum();
    let mut times: Vec<Nanos> = parts.into_iter().flat_map(|part| part.times).collect();
    times.sort_unstable();
    times.truncate(wanted);
    Ok((total, times.last().copied().or(after).unwrap_or_default()))
}

struct First {
    after: Option<Nanos>,
    wanted: usize,
    count: u64,
    /// The earliest, the latest of them on top; no more than are wanted.
    times: BinaryHeap<Nanos>,
}

impl Fold for First {
    fn take(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        self.count += batch.num_rows() as u64;
        let times = scan::times(batch, "ts")?;
        for time in (0..batch.num_rows()).filter_map(|row| times.get(row)) {
            if self.after.is_some_and(|after| time <= after) {
                continue;
            }
            if self.times.len() < self.wanted {
                self.times.push(time);
            } else if let Some(mut last) = self.times.peek_mut()
                && time < *last
            {
                *last = time;
            }
        }
        Ok(())
    }
}
