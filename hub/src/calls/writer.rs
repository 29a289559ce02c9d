//! Rows become Parquet: one part per worker, each written by itself.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use datafusion::parquet::schema::types::ColumnPath;

use super::WriteError;
use super::rows::{ROWS, Rows};
use super::schema::{COLUMNS, Kind};

/// Most rows of a row group: the unit that a query skips by its statistics, and reads in parallel.
const ROW_GROUP_ROWS: usize = 64 * 1024;

/// Bytes that all writers of a job together hold back in unfinished row groups. Each worker's share closes its row group
/// early, so that memory does not grow with the number of workers.
const ROW_GROUP_MEMORY: usize = 48 << 20;

/// Rows of a page: what a query decompresses at least for one call.
const PAGE_ROWS: usize = 8 * 1024;

/// Bytes of a page before compression. Pages of the default size (1 MiB) are so large that the allocator takes fresh
/// memory from the kernel for each.
const PAGE_BYTES: usize = 128 << 10;

/// Bytes collected before they are written to the file.
const FILE_BUFFER: usize = 256 << 10;

/// One part of the table, being written.
pub struct PartWriter {
    path: PathBuf,
    rows: Rows,
    writer: ArrowWriter<BufWriter<File>>,
    memory: usize,
}

impl PartWriter {
    /// Creates the file. `workers` is how many such parts are written at the same time.
    pub fn create(path: &Path, rows: Rows, workers: usize) -> Result<Self, WriteError> {
        let io = |source| WriteError::Io {
            path: path.to_owned(),
            source,
        };
        let file = BufWriter::with_capacity(FILE_BUFFER, File::create_new(path).map_err(io)?);
        let writer = ArrowWriter::try_new(file, super::schema::schema(), Some(properties()))
            .map_err(|e| WriteError::format(path, e))?;
        let memory = ROW_GROUP_MEMORY / workers.max(1);
        Ok(Self {
            path: path.to_owned(),
            rows,
            writer,
            memory,
        })
    }

    /// Appends a call.
    pub fn push(&mut self, call: &wiretape_dissect::Call) -> Result<(), WriteError> {
        self.rows.push(call);
        if self.rows.len() >= ROWS {
            self.write_rows()
        } else {
            Ok(())
        }
    }

    /// Writes what is left, and the footer, and waits until the disk has it.
    pub fn finish(mut self) -> Result<(), WriteError> {
        if !self.rows.is_empty() {
            self.write_rows()?;
        }
        let path = self.path;
        let io = |source| WriteError::Io {
            path: path.clone(),
            source,
        };
        let buffered = self
            .writer
            .into_inner()
            .map_err(|e| WriteError::format(&path, e))?;
        let file = buffered.into_inner().map_err(|e| io(e.into_error()))?;
        file.sync_all().map_err(io)
    }

    fn write_rows(&mut self) -> Result<(), WriteError> {
        let batch: RecordBatch = self.rows.take().map_err(|e| WriteError::format(&self.path, e))?;
        self.writer
            .write(&batch)
            .map_err(|e| WriteError::format(&self.path, e))?;
        if self.writer.in_progress_size() >= self.memory {
            self.writer
                .flush()
                .map_err(|e| WriteError::format(&self.path, e))?;
        }
        Ok(())
    }
}

impl WriteError {
    fn format(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::Format {
            path: path.to_owned(),
            message: error.to_string(),
        }
    }
}

/// Columns of texts that have statistics: these cost two comparisons for every value that is written, and help only
/// where values follow time or the part.
const COMPARED: &[&str] = &["path"];

/// How columns are kept. LZ4 costs least for what it saves. Dictionaries where a column has few different values; not
/// for header fields, where looking each up costs more than it saves LZ4. Statistics where filters and orders use
/// them, per page for time, which the rows follow.
fn properties() -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::LZ4_RAW)
        .set_created_by(concat!("wiretape-hub ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_write_batch_size(ROWS)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None);
    for column in COLUMNS {
        let path = ColumnPath::from(column.name);
        let statistics = match column.kind {
            Kind::Time => EnabledStatistics::Page,
            Kind::Word | Kind::Text if !COMPARED.contains(&column.name) => EnabledStatistics::None,
            Kind::Map | Kind::Locations => EnabledStatistics::None,
            _ => EnabledStatistics::Chunk,
        };
        let dictionary = matches!(column.kind, Kind::Word | Kind::Text);
        properties = properties
            .set_column_statistics_enabled(path.clone(), statistics)
            .set_column_dictionary_enabled(path, dictionary);
    }
    properties.build()
}
