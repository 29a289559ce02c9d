//! Tables that are still being written, as far as they can be asked already.
//!
//! A row group never changes once it is closed. So what is known of a part's closed row groups is the footer that it would
//! have if it ended now, and a question reads the part by that, through a file that stays open whatever becomes of the job.
//! Row groups are remembered in the order in which they were closed: the tables as they stood after so many of them can be
//! had again, and questions of several pages have all pages of the same state.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::parquet::file::metadata::{
    FileMetaData, ParquetMetaData, RowGroupMetaData, RowGroupMetaDataPtr,
};
use datafusion::parquet::file::statistics::Statistics;
use wiretape_tape::Nanos;

/// The tables of one job, shared between those that write them and those that ask.
#[derive(Debug, Default)]
pub struct Growing {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    parts: Vec<Arc<Part>>,
    closed: Vec<Closed>,
    /// By worker: everything that was over by then is in a closed row group.
    until: Vec<Nanos>,
}

#[derive(Debug)]
struct Part {
    table: &'static str,
    path: PathBuf,
    file: Arc<File>,
    footer: FileMetaData,
}

#[derive(Debug)]
struct Closed {
    part: usize,
    group: RowGroupMetaDataPtr,
    /// Until when the tables were complete before it came.
    before: Nanos,
}

/// Tells of the row groups of one part.
#[derive(Debug)]
pub(super) struct Teller {
    tables: Arc<Growing>,
    part: usize,
}

impl Growing {
    /// Takes up a part without row groups. `file` reads it, `footer` is its footer as far as it is known before them.
    pub(super) fn part(
        self: &Arc<Self>,
        table: &'static str,
        path: &Path,
        file: File,
        footer: FileMetaData,
    ) -> Teller {
        let mut state = self.state();
        state.parts.push(Arc::new(Part {
            table,
            path: path.to_owned(),
            file: Arc::new(file),
            footer,
        }));
        Teller {
            tables: Arc::clone(self),
            part: state.parts.len() - 1,
        }
    }

    /// So many workers there are; nothing is complete yet of any.
    pub fn workers(&self, workers: usize) {
        self.state().until = vec![0; workers];
    }

    /// Everything of a worker's that was over by `until` can be asked for.
    pub fn complete(&self, worker: usize, until: Nanos) {
        if let Some(known) = self.state().until.get_mut(worker) {
            *known = until.max(*known);
        }
    }

    /// The tables after their first `age` row groups; as they are now without a number. `None` if there are not so many.
    pub fn after(self: &Arc<Self>, age: Option<usize>) -> Option<Grown> {
        let state = self.state();
        let age = age.unwrap_or(state.closed.len());
        let until = match state.closed.get(age) {
            Some(next) => next.before,
            None => state.complete_until(),
        };
        let closed = state.closed.get(..age)?;
        let mut groups = vec![Vec::new(); state.parts.len()];
        for closed in closed {
            if let Some(groups) = groups.get_mut(closed.part) {
                groups.push(closed.group.as_ref().clone());
            }
        }
        let parts = state.parts.iter().zip(groups);
        Some(Grown {
            of: Arc::clone(self),
            age,
            complete_until: (until > 0).then_some(until),
            parts: parts
                .map(|(part, groups)| GrownPart {
                    part: Arc::clone(part),
                    metadata: Arc::new(ParquetMetaData::new(part.footer(&groups), groups)),
                })
                .collect(),
        })
    }

    /// How many row groups there are of all tables.
    pub fn age(&self) -> usize {
        self.state().closed.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// The footer with so many row groups.
    fn footer(&self, groups: &[RowGroupMetaData]) -> FileMetaData {
        FileMetaData::new(
            self.footer.version(),
            groups.iter().map(RowGroupMetaData::num_rows).sum(),
            self.footer.created_by().map(str::to_owned),
            self.footer.key_value_metadata().cloned(),
            self.footer.schema_descr_ptr(),
            self.footer.column_orders().cloned(),
        )
    }
}

impl State {
    fn complete_until(&self) -> Nanos {
        self.until.iter().copied().min().unwrap_or_default()
    }
}

impl Teller {
    /// A row group is closed, and the file has all of it.
    pub(super) fn closed(&self, group: RowGroupMetaDataPtr) {
        let mut state = self.tables.state();
        let before = state.complete_until();
        state.closed.push(Closed {
            part: self.part,
            group,
            before,
        });
    }
}

/// The tables of a job as they stood at one moment.
#[derive(Clone, Debug)]
pub struct Grown {
    of: Arc<Growing>,
    /// After how many row groups of all tables.
    pub age: usize,
    /// Calls that were over by then are all in them.
    pub complete_until: Option<Nanos>,
    parts: Vec<GrownPart>,
}

/// A part as it stood then.
#[derive(Clone, Debug)]
pub struct GrownPart {
    part: Arc<Part>,
    metadata: Arc<ParquetMetaData>,
}

impl Grown {
    /// Whether it is the same state of the same tables.
    pub fn is(&self, other: &Self) -> bool {
        self.age == other.age && Arc::ptr_eq(&self.of, &other.of)
    }

    /// The parts of a table, by its name in a session.
    pub fn parts(&self, table: &str) -> impl Iterator<Item = &GrownPart> {
        self.parts.iter().filter(move |part| part.part.table == table)
    }

    /// How many rows a table has.
    pub fn rows(&self, table: &str) -> u64 {
        let groups = self.parts(table).flat_map(|part| part.metadata.row_groups());
        groups
            .map(|group| u64::try_from(group.num_rows()).unwrap_or_default())
            .sum()
    }

    /// The first and the last time in a table's column `ts`.
    pub fn span(&self, table: &str) -> Option<(Nanos, Nanos)> {
        let groups = self.parts(table).flat_map(|part| part.metadata.row_groups());
        groups
            .filter_map(times)
            .reduce(|(first, last), (from, to)| (first.min(from), last.max(to)))
    }
}

impl GrownPart {
    /// Where its job writes it.
    pub fn path(&self) -> &Path {
        &self.part.path
    }

    /// Reads it, also when its job has removed it.
    pub fn file(&self) -> &Arc<File> {
        &self.part.file
    }

    /// The footer that it would have if it ended here.
    pub fn metadata(&self) -> &Arc<ParquetMetaData> {
        &self.metadata
    }
}

fn times(group: &RowGroupMetaData) -> Option<(Nanos, Nanos)> {
    let mut columns = group.columns().iter();
    match columns
        .find(|column| column.column_path().string() == "ts")?
        .statistics()?
    {
        Statistics::Int64(known) => Some((
            u64::try_from(*known.min_opt()?).ok()?,
            u64::try_from(*known.max_opt()?).ok()?,
        )),
        _ => None,
    }
}
