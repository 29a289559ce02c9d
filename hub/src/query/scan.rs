//! Reading some columns of many calls: the table's partitions are read at the same time, each folded into a state of
//! its own. Nothing is kept but the states, so memory does not grow with the number of calls.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, StringViewArray};
use datafusion::arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::logical_expr::Expr;
use futures::TryStreamExt;
use tokio::task::JoinSet;
use wiretape_tape::Nanos;

use super::functions::Maps;
use super::{Database, QueryError};

/// What takes in batches.
pub(super) trait Fold: Send + 'static {
    /// Takes in the calls of one batch.
    fn take(&mut self, batch: &RecordBatch) -> Result<(), QueryError>;
}

/// Reads `columns` of the calls that meet a condition; one state for each partition of the table. The order of calls,
/// and which of them share a state, mean nothing: states must come to the same whatever it is.
///
/// Dropping the future stops the reading.
pub(super) async fn fold<S: Fold>(
    db: &Database,
    condition: Option<Expr>,
    columns: &[&str],
    state: impl Fn() -> S,
) -> Result<Vec<S>, QueryError> {
    let mut table = db.table().await?;
    if let Some(condition) = condition {
        table = table.filter(condition)?;
    }
    let streams = table
        .select_columns(columns)?
        .execute_stream_partitioned()
        .await?;
    let mut tasks = JoinSet::new();
    for mut stream in streams {
        let mut state = state();
        tasks.spawn(async move {
            while let Some(batch) = stream.try_next().await? {
                state.take(&batch)?;
            }
            Ok::<_, QueryError>(state)
        });
    }
    let mut states = Vec::new();
    while let Some(task) = tasks.join_next().await {
        let state =
            task.map_err(|error| QueryError::Internal(format!("a reading task failed: {error}")))??;
        states.push(state);
    }
    Ok(states)
}

/// A column of texts.
pub(super) fn texts<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b StringViewArray, QueryError> {
    column(batch, name)?
        .as_string_view_opt()
        .ok_or_else(|| of_another_type(name))
}

/// A column of points in time.
pub(super) fn times<'b>(batch: &'b RecordBatch, name: &str) -> Result<Times<'b>, QueryError> {
    let times = column(batch, name)?.as_primitive_opt::<TimestampNanosecondType>();
    times.map(Times).ok_or_else(|| of_another_type(name))
}

/// A column of hashes.
pub(super) fn ids<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b [u64], QueryError> {
    let ids = column(batch, name)?.as_primitive_opt::<UInt64Type>();
    ids.map(|ids| ids.values().as_ref())
        .ok_or_else(|| of_another_type(name))
}

/// A column of maps.
pub(super) fn maps<'b>(batch: &'b RecordBatch, name: &str) -> Result<Maps<'b>, QueryError> {
    Ok(Maps::of(column(batch, name)?)?)
}

/// A column of whole numbers.
pub(super) fn ints<'b>(batch: &'b RecordBatch, name: &str) -> Result<Ints<'b>, QueryError> {
    let column = column(batch, name)?;
    let wide = column.as_primitive_opt::<Int64Type>().map(Ints::Wide);
    let small = || column.as_primitive_opt::<Int32Type>().map(Ints::Small);
    wide.or_else(small).ok_or_else(|| of_another_type(name))
}

/// Points in time.
#[derive(Clone, Copy)]
pub(super) struct Times<'b>(&'b datafusion::arrow::array::TimestampNanosecondArray);

impl Times<'_> {
    /// The time in a row; `None` where none was recorded.
    pub(super) fn get(self, row: usize) -> Option<Nanos> {
        (!self.0.is_null(row))
            .then(|| u64::try_from(self.0.value(row)).ok())
            .flatten()
    }
}

/// Whole numbers of either width.
#[derive(Clone, Copy)]
pub(super) enum Ints<'b> {
    Wide(&'b Int64Array),
    Small(&'b Int32Array),
}

impl Ints<'_> {
    /// The number in a row.
    pub(super) fn get(self, row: usize) -> Option<i64> {
        match self {
            Self::Wide(array) => (!array.is_null(row)).then(|| array.value(row)),
            Self::Small(array) => (!array.is_null(row)).then(|| array.value(row).into()),
        }
    }

    /// A number that cannot be below zero.
    pub(super) fn count(self, row: usize) -> Option<u64> {
        self.get(row).and_then(|number| u64::try_from(number).ok())
    }
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, QueryError> {
    batch
        .column_by_name(name)
        .ok_or_else(|| QueryError::Internal(format!("the table has no column {name}")))
}

fn of_another_type(name: &str) -> QueryError {
    QueryError::Internal(format!(
        "the column {name} is not of the type that this hub knows"
    ))
}
