//! Looking at many calls: the table's row groups are looked at on all processors, each by what it holds of a condition,
//! and folded into a state of each task. Nothing is kept but the states, so memory does not grow with the number of calls.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, RecordBatchOptions, StringArray,
    StringViewArray,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{
    DataType, Field, Int32Type, Int64Type, Schema, TimestampNanosecondType, UInt64Type,
};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::logical_expr::Expr;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use wiretape_tape::Nanos;

use super::functions::Maps;
use super::predicate::Predicate;
use super::{Database, QueryError};
use crate::calls::parts::{Group, Texts as Layout, rows_at_a_time, slices};

/// What takes in batches.
pub(super) trait Fold: Send + 'static {
    /// Takes in the calls of one batch.
    fn take(&mut self, batch: &RecordBatch) -> Result<(), QueryError>;
}

/// Reads `columns` of the calls that meet a condition; one state for each task. The order of calls, and which of them
/// share a state, mean nothing: states must come to the same whatever it is.
///
/// Dropping the future stops the reading.
pub(super) async fn fold<S: Fold>(
    db: &Database,
    condition: Option<Expr>,
    columns: &[&'static str],
    state: impl Fn() -> S,
) -> Result<Vec<S>, QueryError> {
    let columns = columns.to_vec();
    matching(db, condition, state, move |state, _, group, matching| {
        for slice in slices(matching, rows_at_a_time(columns.iter().copied())) {
            state.take(&batch(group, &columns, Layout::Words, &slice)?)?;
        }
        Ok(())
    })
    .await
}

/// Looks at each row group in which calls may meet a condition: its ordinal among all, itself, and which of its calls do.
/// One state for each task. Those with the earliest calls come first.
pub(super) async fn matching<S: Send + 'static>(
    db: &Database,
    condition: Option<Expr>,
    state: impl Fn() -> S,
    look: impl Fn(&mut S, usize, &Group, &BooleanBuffer) -> Result<(), QueryError> + Send + Sync + 'static,
) -> Result<Vec<S>, QueryError> {
    let condition = condition
        .map(|condition| Predicate::new(db.session(), condition))
        .transpose()?;
    let parts = db.parts().await?;
    let groups = parts.groups().iter().cloned().enumerate();
    let asked: Vec<(usize, Group)> = groups
        .filter(|(_, group)| {
            condition
                .as_ref()
                .is_none_or(|condition| condition.may_match(group))
        })
        .collect();
    each(asked, state, move |state, (at, group)| {
        let matching = match &condition {
            Some(condition) => condition.matching(group)?,
            None => BooleanBuffer::new_set(group.rows()),
        };
        look(state, *at, group, &matching)
    })
    .await
}

/// Does something with each item, on as many threads as there are processors; one state for each task.
///
/// So many items of all questions together are under way at a time, whoever came first: a long question does not keep
/// short ones waiting, and memory does not grow with the number of questions.
pub(super) async fn each<T: Send + Sync + 'static, S: Send + 'static>(
    items: Vec<T>,
    state: impl Fn() -> S,
    work: impl Fn(&mut S, &T) -> Result<(), QueryError> + Send + Sync + 'static,
) -> Result<Vec<S>, QueryError> {
    static TURNS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(processors()));
    let count = processors().min(items.len()).max(1);
    let shared = Arc::new((items, work, AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (mut state, shared) = (state(), Arc::clone(&shared));
        tasks.spawn(async move {
            loop {
                let at = shared.2.fetch_add(1, Ordering::Relaxed);
                if at >= shared.0.len() {
                    return Ok::<S, QueryError>(state);
                }
                // It is never closed.
                let turn = TURNS.acquire().await.ok();
                let here = Arc::clone(&shared);
                state = spawn_blocking(move || {
                    let (items, work, _) = &*here;
                    let done = items.get(at).map_or(Ok(()), |item| work(&mut state, item));
                    done.map(|()| state)
                })
                .await
                .map_err(|error| failed(&error))??;
                drop(turn);
            }
        });
    }
    let mut states = Vec::new();
    while let Some(task) = tasks.join_next().await {
        states.push(task.map_err(|error| failed(&error))??);
    }
    Ok(states)
}

fn failed(error: &tokio::task::JoinError) -> QueryError {
    QueryError::Internal(format!("a reading task failed: {error}"))
}

fn processors() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Columns of those calls of a row group that are set in `among`.
pub(super) fn batch(
    group: &Group,
    columns: &[&'static str],
    layout: Layout,
    among: &BooleanBuffer,
) -> Result<RecordBatch, QueryError> {
    let mut fields = Vec::new();
    let mut arrays = Vec::new();
    for name in columns {
        let array = group.read(name, layout, among)?;
        fields.push(Field::new(*name, array.data_type().clone(), true));
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(among.count_set_bits()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .map_err(|error| QueryError::Internal(format!("cannot put columns together: {error}")))
}

/// A column of texts.
pub(super) fn texts<'b>(batch: &'b RecordBatch, name: &str) -> Result<Texts<'b>, QueryError> {
    let array = column(batch, name)?;
    let texts = match array.data_type() {
        DataType::Dictionary(..) => array
            .as_dictionary_opt::<Int32Type>()
            .and_then(|words| Some(Texts::Words(words, words.values().as_string_opt()?))),
        _ => array.as_string_view_opt().map(Texts::Plain),
    };
    texts.ok_or_else(|| of_another_type(name))
}

/// Texts, however they are laid out. What is not known is `""`.
#[derive(Clone, Copy)]
pub(super) enum Texts<'b> {
    /// One after the other.
    Plain(&'b StringViewArray),
    /// By their numbers in a dictionary.
    Words(&'b DictionaryArray<Int32Type>, &'b StringArray),
}

impl<'b> Texts<'b> {
    /// The text in a row.
    pub(super) fn value(self, row: usize) -> &'b str {
        match self {
            Self::Plain(texts) if texts.is_valid(row) => texts.value(row),
            Self::Words(words, values) => words.key(row).map_or("", |number| values.value(number)),
            Self::Plain(_) => "",
        }
    }

    /// What `of` makes of each row's text. It is asked once for each word.
    pub(super) fn map<T: Copy>(self, rows: usize, mut of: impl FnMut(&'b str) -> T, into: &mut Vec<T>) {
        into.clear();
        if let Self::Words(words, values) = self
            && words.null_count() == 0
            && values.len() <= rows
        {
            let known: Vec<T> = (0..values.len()).map(|at| of(values.value(at))).collect();
            let numbers = words.keys().values().iter();
            into.extend(numbers.filter_map(|number| known.get(usize::try_from(*number).ok()?).copied()));
        } else {
            into.extend((0..rows).map(|row| of(self.value(row))));
        }
    }
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
    /// What is stored for a row, in ns.
    pub(super) fn raw(self, row: usize) -> i64 {
        self.0.value(row)
    }

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
