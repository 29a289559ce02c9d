//! The parts of a table of calls, read a row group at a time: whole columns, or some rows of them.
//!
//! Questions that look at every call go through here, and not through the engine's plans: what a plan costs, and texts
//! that are made out of a dictionary's numbers before anybody asks for them, is most of what such a question takes.

mod bytes;

mod entries;

mod pages;

mod stream;

mod texts;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, available_parallelism};

use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBufferBuilder, new_empty_array, new_null_array,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::{concat, filter};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use datafusion::parquet::arrow::{ProjectionMask, parquet_to_arrow_schema};
use datafusion::parquet::basic::{Encoding, PageType};
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use datafusion::parquet::file::statistics::Statistics;

pub(super) use self::bytes::read_at;
use self::bytes::{Chunks, Pages, PartPages};
pub use self::texts::Test;
use super::growing::GrownPart;
use super::schema::{self, Kind};

/// Footers of parts kept in memory, in bytes, over all dissections. Those asked for longest ago go first.
const FOOTER_MEMORY: usize = 64 << 20;

/// If fewer of a row group's rows are wanted than one in so many, only their pages are read.
const FEW: usize = 8;

/// The parts of one table, opened.
pub struct Parts {
    groups: Vec<Group>,
    /// What the footers take in memory.
    bytes: usize,
}

/// A row group of a part.
#[derive(Clone)]
pub struct Group {
    part: Arc<Part>,
    at: usize,
}

struct Part {
    file: Arc<File>,
    path: PathBuf,
    /// To read texts as they are.
    plain: ArrowReaderMetadata,
    /// To read them as numbers of a dictionary.
    words: ArrowReaderMetadata,
}

/// Rows whose maps are in memory at a time: a row group's headers may be long.
const MAP_ROWS: usize = 4096;

/// How texts are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texts {
    /// As [`schema::reading_schema`] has them.
    Plain,
    /// As numbers of a dictionary, where they are kept like that. Of a map, the keys.
    Words,
}

impl Parts {
    /// The parts of an owner, which are opened once, as long as their footers have room: an owner's parts never change.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn of(owner: u64, open: impl FnOnce() -> Result<Self>) -> Result<Arc<Self>> {
        static OPEN: Mutex<Vec<(u64, Arc<Parts>)>> = Mutex::new(Vec::new());
        // The list is whole even if a thread died while it held it.
        let lock = || OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = {
            let mut known = lock();
            let at = known.iter().position(|(known, _)| *known == owner);
            at.map(|at| known.remove(at).1)
        };
        let parts = match known {
            Some(parts) => parts,
            None => Arc::new(open()?),
        };
        let mut known = lock();
        known.retain(|(known, _)| *known != owner);
        known.push((owner, Arc::clone(&parts)));
        let mut bytes: usize = known.iter().map(|(_, parts)| parts.bytes).sum();
        while bytes > FOOTER_MEMORY && known.len() > 1 {
            bytes -= known.remove(0).1.bytes;
        }
        Ok(parts)
    }

    /// Opens the parts in a folder.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "parquet") {
                paths.push(path);
            }
        }
        paths.sort();
        // On all processors: a footer tells of every page of every column.
        let each = paths
            .len()
            .div_ceil(available_parallelism().map_or(1, usize::from));
        let opened = thread::scope(|scope| {
            let open = |paths: &[PathBuf]| paths.iter().map(|path| Part::open(path)).collect::<Vec<_>>();
            let mut shares = paths.chunks(each.max(1));
            // One of them here.
            let first = shares.next().unwrap_or_default();
            let others: Vec<_> = shares.map(|share| scope.spawn(move || open(share))).collect();
            let mut opened = open(first);
            for other in others {
                opened.extend(other.join().map_err(|_| {
                    DataFusionError::Execution("a thread that opens parts panicked".to_owned())
                })?);
            }
            Ok::<_, DataFusionError>(opened)
        })?;
        Self::all(opened.into_iter())
    }

    /// Opens parts that are still being written.
    ///
    /// # Errors
    /// They are of no schema that can be read.
    pub fn grown<'g>(parts: impl Iterator<Item = &'g GrownPart>) -> Result<Self> {
        Self::all(parts.map(|part| {
            let file = Arc::clone(part.file());
            Part::new(part.path().to_owned(), file, Arc::clone(part.metadata()))
        }))
    }

    fn all(opened: impl Iterator<Item = Result<Part>>) -> Result<Self> {
        let mut parts = Self {
            groups: Vec::new(),
            bytes: 0,
        };
        for part in opened {
            let part = Arc::new(part?);
            let metadata = part.plain.metadata();
            parts.bytes += metadata.memory_size();
            parts
                .groups
                .extend((0..metadata.num_row_groups()).map(|at| Group {
                    part: Arc::clone(&part),
                    at,
                }));
        }
        // Whoever wants the first calls in time finds them at once.
        parts
            .groups
            .sort_by_cached_key(|group| group.range("ts").map(|(least, _)| least));
        Ok(parts)
    }

    /// All row groups, in order of the time of their first call.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }
}

impl Part {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let options = ArrowReaderOptions::new()
            .with_skip_arrow_metadata(true)
            .with_column_index_policy(PageIndexPolicy::Skip)
            .with_offset_index_policy(PageIndexPolicy::Optional);
        let metadata = Arc::clone(ArrowReaderMetadata::load(&Pages(&file), options)?.metadata());
        bytes::read_in_places(&file);
        Self::new(path.to_owned(), Arc::new(file), metadata)
    }

    fn new(path: PathBuf, file: Arc<File>, metadata: Arc<ParquetMetaData>) -> Result<Self> {
        let stored = parquet_to_arrow_schema(metadata.file_metadata().schema_descr(), None)?;
        let read_as = |texts| {
            let schema = Arc::new(stored_as(&stored, texts));
            ArrowReaderMetadata::try_new(
                Arc::clone(&metadata),
                ArrowReaderOptions::new().with_schema(schema),
            )
        };
        Ok(Self {
            plain: read_as(Texts::Plain)?,
            words: read_as(Texts::Words)?,
            file,
            path,
        })
    }
}

/// A part's own schema, with its texts as they are wanted.
fn stored_as(stored: &Schema, texts: Texts) -> Schema {
    let words = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let fields = stored.fields().iter().map(|field| {
        let wanted = match (field.data_type(), texts) {
            (DataType::Utf8, Texts::Plain) => DataType::Utf8View,
            (DataType::Utf8, Texts::Words) => words(),
            (DataType::Map(entries, sorted), Texts::Words) => match entries.data_type() {
                DataType::Struct(pair) => {
                    let types = [words(), DataType::Utf8View];
                    let pair: Fields = pair
                        .iter()
                        .zip(types)
                        .map(|(field, of)| field.as_ref().clone().with_data_type(of))
                        .collect();
                    let entries = entries.as_ref().clone().with_data_type(DataType::Struct(pair));
                    DataType::Map(Arc::new(entries), *sorted)
                }
                _ => field.data_type().clone(),
            },
            (other, _) => other.clone(),
        };
        field.as_ref().clone().with_data_type(wanted)
    });
    Schema::new(fields.collect::<Vec<Field>>())
}

/// Whether only the pages of these rows are read.
fn few(among: &BooleanBuffer) -> bool {
    among.count_set_bits() * FEW < among.len()
}

/// Whether a column of calls holds maps.
fn is_map(column: &str) -> bool {
    let known = schema::COLUMNS.iter().find(|known| known.name == column);
    known.is_some_and(|known| known.kind == Kind::Map)
}

/// How many of a row group's rows may be in memory at a time, of these columns.
pub fn rows_at_a_time<'c>(mut columns: impl Iterator<Item = &'c str>) -> usize {
    if columns.any(is_map) { MAP_ROWS } else { usize::MAX }
}

/// The rows of a row group in slices of so many.
pub fn slices(among: &BooleanBuffer, rows: usize) -> impl Iterator<Item = BooleanBuffer> + '_ {
    let rows = rows.clamp(1, among.len().max(1));
    (0..among.len()).step_by(rows).filter_map(move |from| {
        let here = among.slice(from, rows.min(among.len() - from));
        if here.count_set_bits() == 0 {
            return None;
        }
        let mut slice = BooleanBufferBuilder::new(among.len());
        slice.append_n(from, false);
        slice.append_buffer(&here);
        slice.append_n(among.len() - from - here.len(), false);
        Some(slice.finish())
    })
}

impl Group {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        usize::try_from(self.metadata().num_rows()).unwrap_or_default()
    }

    /// The least and the greatest value of a column of times or whole numbers, where that is known.
    pub fn range(&self, column: &str) -> Option<(i64, i64)> {
        let chunks = self.metadata().columns();
        let chunk = chunks
            .iter()
            .find(|chunk| chunk.column_path().string() == column)?;
        match chunk.statistics()? {
            Statistics::Int64(known) => Some((*known.min_opt()?, *known.max_opt()?)),
            Statistics::Int32(known) => Some(((*known.min_opt()?).into(), (*known.max_opt()?).into())),
            _ => None,
        }
    }

    /// The least and the greatest value of a column, each as an array of one; NULL where it is not known.
    pub fn bounds(&self, column: &str) -> Option<[ArrayRef; 2]> {
        let schema = self.part.plain.schema();
        let converter =
            StatisticsConverter::try_new(column, schema, self.part.plain.parquet_schema()).ok()?;
        let of = [self.metadata()];
        Some([
            converter.row_group_mins(of).ok()?,
            converter.row_group_maxes(of).ok()?,
        ])
    }

    /// A column of the rows that are set in `among`, which is as long as the row group.
    ///
    /// # Errors
    /// The part cannot be read, or the table has no such column.
    pub fn read(&self, column: &str, texts: Texts, among: &BooleanBuffer) -> Result<ArrayRef> {
        let wanted = among.count_set_bits();
        if few(among) || (is_map(column) && wanted < among.len()) {
            let slices = among.set_slices().map(|(from, to)| from..to);
            let selection = RowSelection::from_consecutive_ranges(slices, among.len());
            return self.column(column, texts, wanted, Some(selection));
        }
        let whole = self.column(column, texts, among.len(), None)?;
        if wanted == among.len() {
            return Ok(whole);
        }
        Ok(filter(&whole, &BooleanArray::new(among.clone(), None))?)
    }

    fn column(&self, name: &str, texts: Texts, rows: usize, some: Option<RowSelection>) -> Result<ArrayRef> {
        let part = &self.part;
        let Ok(root) = part.plain.schema().index_of(name) else {
            // What came after the part was written is known of none of its calls.
            let schema = schema::reading_schema();
            return Ok(new_null_array(schema.field_with_name(name)?.data_type(), rows));
        };
        let schema = part.plain.parquet_schema();
        let read_as = self.read_as(name, texts);
        let mask = ProjectionMask::roots(part.plain.parquet_schema(), [root]);
        let read = |batches: &mut dyn Iterator<Item = _>| -> Result<ArrayRef> {
            let mut arrays: Vec<ArrayRef> = Vec::new();
            for batch in batches {
                let batch: std::result::Result<datafusion::arrow::record_batch::RecordBatch, _> = batch;
                arrays.push(Arc::clone(batch?.column(0)));
            }
            match arrays.as_slice() {
                [] => Ok(new_empty_array(read_as.schema().field(root).data_type())),
                [one] => Ok(Arc::clone(one)),
                [..] => Ok(concat(&arrays.iter().map(AsRef::as_ref).collect::<Vec<_>>())?),
            }
        };
        let array = match some {
            None => {
                let chunks = Chunks::read(part, self.metadata(), |leaf| {
                    schema.get_column_root_idx(leaf) == root
                })?;
                let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, read_as.clone());
                let reader = reader
                    .with_row_groups(vec![self.at])
                    .with_projection(mask)
                    .with_batch_size(rows.max(1));
                read(&mut reader.build()?)?
            }
            Some(selection) => {
                let pages = PartPages(Arc::clone(part));
                let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(pages, read_as.clone());
                let reader = reader
                    .with_row_groups(vec![self.at])
                    .with_projection(mask)
                    .with_row_selection(selection)
                    .with_batch_size(rows.max(1));
                read(&mut reader.build()?)?
            }
        };
        if array.len() == rows {
            Ok(array)
        } else {
            Err(DataFusionError::Execution(format!(
                "{}: {name} has {} rows where there should be {rows}",
                part.path.display(),
                array.len()
            )))
        }
    }

    /// How a column is read, of which texts are wanted like that.
    fn read_as(&self, column: &str, texts: Texts) -> &ArrowReaderMetadata {
        if texts == Texts::Words && self.has_words(column) {
            &self.part.words
        } else {
            &self.part.plain
        }
    }

    /// Whether all texts of a column, or a map's keys, are in a dictionary.
    pub fn has_words(&self, column: &str) -> bool {
        self.first_leaf(column).is_some_and(|leaf| self.is_of_words(leaf))
    }

    /// The first of a column's leaves. `None` if the part is of a time before the column.
    fn first_leaf(&self, column: &str) -> Option<usize> {
        let root = self.part.plain.schema().index_of(column).ok()?;
        let schema = self.part.plain.parquet_schema();
        (0..schema.num_columns()).find(|leaf| schema.get_column_root_idx(*leaf) == root)
    }

    /// Whether all texts of a leaf are in its dictionary.
    fn is_of_words(&self, leaf: usize) -> bool {
        let chunk = self.metadata().column(leaf);
        // Of a file that was opened, and of one that is being written.
        let read = chunk.page_encoding_stats_mask();
        let read = read.is_some_and(|pages| pages.is_only(Encoding::RLE_DICTIONARY));
        let written = chunk.page_encoding_stats().is_some_and(|pages| {
            let mut data = pages
                .iter()
                .filter(|pages| pages.page_type == PageType::DATA_PAGE);
            data.all(|pages| pages.encoding == Encoding::RLE_DICTIONARY)
        });
        chunk.dictionary_page_offset().is_some() && (read || written)
    }

    /// Has the kernel begin to read what is soon asked for: columns of the rows that are set in `among`. Read one after the other, the
    /// disk would be waited for at each.
    pub fn read_ahead<'c>(&self, columns: impl IntoIterator<Item = &'c str>, among: &BooleanBuffer) {
        let (some, schema) = (few(among), self.part.plain.parquet_schema());
        for column in columns {
            let Ok(root) = self.part.plain.schema().index_of(column) else {
                continue;
            };
            for leaf in (0..schema.num_columns()).filter(|leaf| schema.get_column_root_idx(*leaf) == root) {
                if some {
                    self.read_pages_ahead(leaf, among);
                } else {
                    self.read_leaf_ahead(leaf);
                }
            }
        }
    }

    /// The same for the keys of a column of maps, of all rows.
    pub fn read_keys_ahead(&self, column: &str) {
        if let Some(keys) = self.first_leaf(column) {
            self.read_leaf_ahead(keys);
        }
    }

    fn read_leaf_ahead(&self, leaf: usize) {
        let (start, length) = self.metadata().column(leaf).byte_range();
        bytes::read_ahead(&self.part.file, start, length);
    }

    fn metadata(&self) -> &RowGroupMetaData {
        self.part.plain.metadata().row_group(self.at)
    }
}
