//! Rows become Parquet: one part per worker, each written by itself.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::FileMetaData;
use datafusion::parquet::file::properties::{WriterProperties, WriterVersion};
use datafusion::parquet::file::writer::SerializedFileWriter;
use datafusion::parquet::schema::types::SchemaDescPtr;

use super::WriteError;
use super::columns::{Leaf, PartFile};
use super::growing::{Growing, Teller};

/// Most rows of a row group: the unit that a query skips by its statistics, and reads in parallel.
const ROW_GROUP_ROWS: usize = 64 * 1024;

/// Rows after which it is looked how much memory they take.
const LOOK: usize = 256;

/// Rows after which it is looked whether a page is full.
pub(super) const ROWS: usize = 256;

/// Longest time that rows wait in a row group under way, where somebody may ask for them already.
const SHOWN_AFTER: Duration = Duration::from_secs(5);

/// Bytes collected before they are written to the file.
const FILE_BUFFER: usize = 256 << 10;

/// The rows of a table in the making.
pub trait Table {
    /// What becomes a row.
    type Record;

    /// The table's name.
    const NAME: &'static str;

    /// Bytes that all writers of a job together hold back in unfinished row groups. Each worker's share closes its row
    /// group early, so that memory does not grow with the number of workers.
    const MEMORY: usize;

    /// The table's schema.
    fn schema() -> SchemaRef;

    /// Appends rows.
    fn push(&mut self, records: &[Self::Record]);

    /// How many rows the row group under way has.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row group under way has ended: there are no rows.
    fn clear(&mut self);

    /// Hands over each leaf of the table's schema, in its order.
    fn each_leaf(&mut self, take: &mut dyn FnMut(&mut dyn Leaf));

    /// Bytes that the row group under way holds, roughly.
    fn memory(&mut self) -> usize {
        let mut memory = 0;
        self.each_leaf(&mut |leaf| memory += leaf.memory());
        memory
    }

    /// Ends the pages that are full. To be called every [`ROWS`] rows.
    fn end_full_pages(&mut self) {
        self.each_leaf(&mut |leaf| leaf.end_page_if_full());
    }

    /// Hands over each leaf to end the row group, up to the first that cannot. There are no rows then.
    fn finish(&mut self, take: &mut TakeLeaf<'_>) -> Result<(), ParquetError> {
        let mut taken = Ok(());
        self.each_leaf(&mut |leaf| {
            if taken.is_ok() {
                taken = take(leaf);
            }
        });
        self.clear();
        taken
    }
}

/// Takes a leaf whose row group ends.
pub type TakeLeaf<'t> = dyn FnMut(&mut dyn Leaf) -> Result<(), ParquetError> + 't;

/// One part of a table, being written.
pub struct PartWriter<T> {
    path: PathBuf,
    /// Tens of kilobytes of columns, which would be moved with every worker.
    rows: Box<T>,
    writer: SerializedFileWriter<PartFile>,
    columns: SchemaDescPtr,
    memory: usize,
    /// Who tells of its row groups before it ends.
    teller: Option<Teller>,
    /// Row groups that are closed.
    closed: usize,
    /// When the last one was.
    last: Instant,
}

/// A whole part, which the disk need not have yet.
#[derive(Debug)]
pub struct Written {
    path: PathBuf,
    file: File,
}

impl Written {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, whole but for the disk to have it.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl<T: Table> PartWriter<T> {
    /// Creates the file. `workers` is how many such parts are written at the same time.
    pub fn create(path: &Path, rows: T, workers: usize) -> Result<Self, WriteError> {
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|source| WriteError::io(path, source))?;
        let file = BufWriter::with_capacity(FILE_BUFFER, file);
        let (columns, writer) = open(file, &T::schema()).map_err(|e| WriteError::format(path, e))?;
        let memory = T::MEMORY / workers.max(1);
        Ok(Self {
            path: path.to_owned(),
            rows: Box::new(rows),
            writer,
            columns,
            memory,
            teller: None,
            closed: 0,
            last: Instant::now(),
        })
    }

    /// Lets its rows be asked for before it ends.
    ///
    /// # Errors
    /// The file cannot be opened once more.
    pub fn growing(mut self, tables: &Arc<Growing>) -> Result<Self, WriteError> {
        let file = self.writer.inner().get_ref().try_clone();
        let file = file.map_err(|source| WriteError::io(&self.path, source))?;
        let properties = self.writer.properties();
        let footer = FileMetaData::new(
            properties.writer_version().as_num(),
            0,
            Some(properties.created_by().to_owned()),
            properties.key_value_metadata().cloned(),
            Arc::clone(&self.columns),
            None,
        );
        self.teller = Some(tables.part(T::NAME, &self.path, file, footer));
        Ok(self)
    }

    /// Appends rows, of which few at a time cost least.
    pub fn push(&mut self, records: &[T::Record]) -> Result<(), WriteError> {
        let before = self.rows.len();
        self.rows.push(records);
        let rows = self.rows.len();
        let look = before / LOOK != rows / LOOK;
        if look && (rows >= ROW_GROUP_ROWS || self.rows.memory() >= self.memory) {
            self.write_row_group()?;
        }
        Ok(())
    }

    /// Whether no row waits in a row group under way.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many row groups are closed.
    pub fn closed(&self) -> usize {
        self.closed
    }

    /// Closes the row group under way if none was closed for long. To be called now and then.
    pub fn show(&mut self) -> Result<(), WriteError> {
        if self.last.elapsed() < SHOWN_AFTER {
            return Ok(());
        }
        self.end_row_group()
    }

    /// Closes the row group under way, if there are rows in it.
    pub fn end_row_group(&mut self) -> Result<(), WriteError> {
        self.last = Instant::now();
        if self.is_empty() {
            return Ok(());
        }
        self.write_row_group()
    }

    /// Writes what is left, and the footer.
    pub fn finish(mut self) -> Result<Written, WriteError> {
        self.end_row_group()?;
        let path = self.path;
        let buffered = self
            .writer
            .into_inner()
            .map_err(|e| WriteError::format(&path, e))?;
        match buffered.into_inner() {
            Ok(file) => Ok(Written { path, file }),
            Err(error) => Err(WriteError::io(&path, error.into_error())),
        }
    }

    fn write_row_group(&mut self) -> Result<(), WriteError> {
        let columns = self.columns.columns();
        let mut write = || {
            let mut group = self.writer.next_row_group()?;
            let mut next = columns.iter();
            self.rows.finish(&mut |leaf| {
                let column = next
                    .next()
                    .ok_or_else(|| ParquetError::General("more columns than the schema has".to_owned()))?;
                leaf.finish(Arc::clone(column), &mut group)
            })?;
            group.close()
        };
        let group = write().map_err(|e| WriteError::format(&self.path, e))?;
        self.closed += 1;
        self.last = Instant::now();
        if let Some(teller) = &self.teller {
            let flushed = self.writer.flush();
            flushed.map_err(|source| WriteError::io(&self.path, source))?;
            teller.closed(group);
        }
        Ok(())
    }
}

impl WriteError {
    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    fn format(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::Format {
            path: path.to_owned(),
            message: error.to_string(),
        }
    }
}

/// Begins a file whose schema is the table's, in Parquet's terms and in Arrow's.
fn open(
    file: PartFile,
    schema: &SchemaRef,
) -> Result<(SchemaDescPtr, SerializedFileWriter<PartFile>), ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("wiretape-hub ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    add_encoded_arrow_schema_to_metadata(schema, &mut properties);
    let columns = Arc::new(ArrowSchemaConverter::new().convert(schema)?);
    let root = columns.root_schema_ptr();
    let writer = SerializedFileWriter::new(file, root, Arc::new(properties))?;
    Ok((columns, writer))
}

#[cfg(test)]
mod tests;
