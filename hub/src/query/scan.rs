//! Looking at many calls: the table's row groups are looked at on all processors, each by what it holds of a condition,
//! and folded into a state of each task. Nothing is kept but the states, so memory does not grow with the number of calls.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, RecordBatchOptions, StringArray,
    StringViewArray,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::{
    DataType, Field, Int32Type, Int64Type, Schema, TimestampNanosecondType, UInt64Type,
};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::logical_expr::Expr;
use tokio::sync::{Semaphore, SemaphorePermit};
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
        if !group.streams(columns.iter().copied(), matching) {
            for slice in slices(matching, rows_at_a_time(columns.iter().copied())) {
                state.take(&batch(group, &columns, Layout::Words, &slice)?)?;
            }
            return Ok(());
        }
        group.read_ahead(columns.iter().copied(), matching);
        group.each_rows(&columns, Layout::Words, matching, |among, arrays| {
            match among.count_set_bits() {
                0 => Ok(()),
                rows => state.take(&put_together(&columns, arrays, rows)?),
            }
        })
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
    let kept = condition
        .as_ref()
        .map(|condition| condition.may_match(parts.groups()));
    let kept = |at: &usize| kept.as_ref().is_none_or(|kept| kept.get(*at) == Some(&true));
    let groups = parts.groups().iter().cloned().enumerate();
    let asked: Vec<(usize, Group)> = groups.filter(|(at, _)| kept(at)).collect();
    // The one that is looked at next by whoever looks at this one, or about then.
    let next = asked
        .iter()
        .skip(processors())
        .map(|(_, group)| Some(group.clone()));
    let next: Vec<_> = next.chain(std::iter::repeat(None)).take(asked.len()).collect();
    let asked = asked.into_iter().zip(next).collect();
    each(asked, state, move |state, ((at, group), next)| {
        if let (Some(condition), Some(next)) = (&condition, next) {
            condition.read_ahead(next);
        }
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
/// short ones waiting, and memory does not grow with the number of questions. While nobody waits, a thread goes on with
/// the next item: to wake another one for each takes longer than many of them.
pub(super) async fn each<T: Send + Sync + 'static, S: Send + 'static>(
    items: Vec<T>,
    state: impl Fn() -> S,
    work: impl Fn(&mut S, &T) -> Result<(), QueryError> + Send + Sync + 'static,
) -> Result<Vec<S>, QueryError> {
    let count = processors().min(items.len()).max(1);
    let dropped = Arc::new(AtomicBool::new(false));
    let _drop = SetWhenDropped(Arc::clone(&dropped));
    let shared = Arc::new((items, work, AtomicUsize::new(0), dropped));
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (mut state, shared) = (state(), Arc::clone(&shared));
        tasks.spawn(async move {
            loop {
                let turn = turn().await;
                let here = Arc::clone(&shared);
                let worked = spawn_blocking(move || {
                    let (items, work, next, dropped) = &*here;
                    let _turn = turn;
                    loop {
                        let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else {
                            return Ok::<_, QueryError>((state, true));
                        };
                        work(&mut state, item)?;
                        if WAITING.load(Ordering::Relaxed) > 0 || dropped.load(Ordering::Relaxed) {
                            return Ok((state, false));
                        }
                    }
                });
                let done;
                (state, done) = worked.await.map_err(|error| failed(&error))??;
                if done {
                    return Ok::<S, QueryError>(state);
                }
            }
        });
    }
    let mut states = Vec::new();
    while let Some(task) = tasks.join_next().await {
        states.push(task.map_err(|error| failed(&error))??);
    }
    Ok(states)
}

/// Tasks that wait for a turn.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Waits for a turn; who came first has the first.
async fn turn() -> Option<SemaphorePermit<'static>> {
    static TURNS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(processors()));
    struct Waits;
    impl Drop for Waits {
        fn drop(&mut self) {
            WAITING.fetch_sub(1, Ordering::Relaxed);
        }
    }
    WAITING.fetch_add(1, Ordering::Relaxed);
    let _waits = Waits;
    // It is never closed.
    TURNS.acquire().await.ok()
}

/// Tells the threads that nobody waits for what they do.
struct SetWhenDropped(Arc<AtomicBool>);

impl Drop for SetWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
    group.read_ahead(columns.iter().copied(), among);
    let arrays = columns.iter().map(|name| group.read(name, layout, among));
    put_together(columns, arrays.collect::<Result<_, _>>()?, among.count_set_bits())
}

fn put_together(
    columns: &[&'static str],
    arrays: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, QueryError> {
    let named = columns.iter().zip(&arrays);
    let fields = named.map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)
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
    pub(super) fn map<T: Copy + Default>(
        self,
        rows: usize,
        mut of: impl FnMut(&'b str) -> T,
        into: &mut Vec<T>,
    ) {
        into.clear();
        if let Self::Words(words, values) = self
            && words.null_count() == 0
            && values.len() <= rows
        {
            let known: Vec<T> = (0..values.len()).map(|at| of(values.value(at))).collect();
            let numbers = words.keys().values().iter();
            // Every number is one of a word.
            into.extend(numbers.map(|number| known.get(*number as usize).copied().unwrap_or_default()));
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

/// A column of numbers of 64 bits that count something.
pub(super) fn counts<'b>(batch: &'b RecordBatch, name: &str) -> Result<Counts<'b>, QueryError> {
    let numbers = column(batch, name)?.as_primitive_opt::<Int64Type>();
    let numbers = numbers.ok_or_else(|| of_another_type(name))?;
    Ok(Counts {
        values: numbers.values(),
        nulls: numbers.nulls().filter(|nulls| nulls.null_count() > 0),
    })
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

/// Numbers that cannot be below zero.
#[derive(Clone, Copy)]
pub(super) struct Counts<'b> {
    values: &'b [i64],
    nulls: Option<&'b NullBuffer>,
}

impl Counts<'_> {
    /// In how many rows there is one.
    pub(super) fn known(&self) -> usize {
        self.values.len() - self.nulls.map_or(0, NullBuffer::null_count)
    }

    /// The number in a row.
    #[inline]
    pub(super) fn get(self, row: usize) -> Option<u64> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        u64::try_from(*self.values.get(row)?).ok()
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
