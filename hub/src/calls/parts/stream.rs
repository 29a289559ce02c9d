//! Columns of a whole row group, some thousand rows at a time: what is counted of every call is in the processor's caches
//! then, and its memory is used again for the next.

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, new_null_array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::filter;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::{Chunks, Group, Texts, few, is_map};
use crate::calls::schema;

/// Rows at a time.
const STREAM_ROWS: usize = 8192;

/// A column of a row group, from its first row on.
struct ColumnStream {
    reader: Option<ParquetRecordBatchReader>,
    /// Of what is in no row: the part is of a time before the column.
    none: DataType,
}

impl Group {
    /// Whether these columns are to be read like this, for the rows that are set in `among`.
    pub fn streams<'c>(&self, mut columns: impl Iterator<Item = &'c str>, among: &BooleanBuffer) -> bool {
        !few(among) && !columns.any(is_map)
    }

    /// Reads columns of the rows that are set in `among`, [`STREAM_ROWS`] of the row group at a time: hands over which of these are
    /// asked for, and their columns.
    ///
    /// # Errors
    /// The part cannot be read, the table has no such column, or `take` fails.
    pub fn each_rows<E: From<DataFusionError>>(
        &self,
        columns: &[&'static str],
        texts: Texts,
        among: &BooleanBuffer,
        mut take: impl FnMut(&BooleanBuffer, Vec<ArrayRef>) -> Result<(), E>,
    ) -> Result<(), E> {
        let streams = columns.iter().map(|column| self.stream(column, texts));
        let mut streams: Vec<ColumnStream> = streams.collect::<Result<_>>()?;
        for from in (0..among.len()).step_by(STREAM_ROWS) {
            let here = among.slice(from, STREAM_ROWS.min(among.len() - from));
            let arrays = streams.iter_mut().map(|stream| stream.next(&here));
            take(&here, arrays.collect::<Result<_>>()?)?;
        }
        Ok(())
    }

    /// Begins to read a column.
    ///
    /// # Errors
    /// The part cannot be read, or the table has no such column.
    fn stream(&self, column: &str, texts: Texts) -> Result<ColumnStream> {
        let part = &self.part;
        let known = schema::reading_schema();
        let none = known.field_with_name(column)?.data_type().clone();
        let Ok(root) = part.plain.schema().index_of(column) else {
            return Ok(ColumnStream { reader: None, none });
        };
        let schema = part.plain.parquet_schema();
        let chunks = Chunks::read(part, self.metadata(), |leaf| {
            schema.get_column_root_idx(leaf) == root
        })?;
        let read_as = self.read_as(column, texts).clone();
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, read_as)
            .with_row_groups(vec![self.at])
            .with_projection(ProjectionMask::roots(schema, [root]))
            .with_batch_size(STREAM_ROWS)
            .build()?;
        Ok(ColumnStream {
            reader: Some(reader),
            none,
        })
    }
}

impl ColumnStream {
    /// The next rows: those of them that are set in `among`, which is [`STREAM_ROWS`] long, but for the last.
    ///
    /// # Errors
    /// The part cannot be read.
    fn next(&mut self, among: &BooleanBuffer) -> Result<ArrayRef> {
        let wanted = among.count_set_bits();
        let Some(reader) = &mut self.reader else {
            return Ok(new_null_array(&self.none, wanted));
        };
        let rows = reader.next().transpose()?;
        let column = rows.and_then(|rows| rows.columns().first().cloned());
        let column = column.filter(|column| column.len() == among.len());
        let column = column.ok_or_else(|| {
            DataFusionError::Execution("a column has fewer rows than its row group".to_owned())
        })?;
        if wanted == among.len() {
            return Ok(column);
        }
        Ok(filter(&column, &BooleanArray::new(among.clone(), None))?)
    }
}
