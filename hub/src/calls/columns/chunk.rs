//! The pages of one column in one row group.

use bytes::Bytes;
use datafusion::parquet::basic::{Compression, Encoding};
use datafusion::parquet::column::page::{CompressedPage, Page, PageWriter};
use datafusion::parquet::column::writer::ColumnCloseResult;
use datafusion::parquet::errors::Result;
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder};
use datafusion::parquet::file::page_index::column_index::ColumnIndexMetaData;
use datafusion::parquet::file::statistics::Statistics;
use datafusion::parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use datafusion::parquet::schema::types::ColumnDescPtr;

/// A column as the file has it: a leaf of the schema's tree.
pub trait Leaf {
    /// Ends the page under way if it is full. To be called between rows.
    fn end_page_if_full(&mut self);

    /// Ends the row group: all its pages, and what is to be said of them.
    fn finish(&mut self, column: ColumnDescPtr) -> Result<(Bytes, ColumnCloseResult)>;

    /// Bytes that it holds, roughly.
    fn memory(&self) -> usize;
}

/// The finished pages.
pub(super) struct Chunk {
    codec: Compression,
    pages: Vec<PageOfChunk>,
    rows: u64,
    /// Bytes of all pages.
    bytes: usize,
    /// Room for the compressor, kept so that it need not be made anew.
    room: Vec<u8>,
}

struct PageOfChunk {
    /// As it will be written, without its header.
    body: Bytes,
    uncompressed: usize,
    /// Levels, or values where there are no levels.
    values: u32,
    rows: u32,
    encoding: Encoding,
}

/// What is known of a row group's values when it ends.
#[derive(Default)]
pub(super) struct Known {
    /// The dictionary's values as in a page, and their number.
    pub dictionary: Option<(Vec<u8>, u32)>,
    pub statistics: Option<Statistics>,
    pub index: Option<ColumnIndexMetaData>,
}

impl Chunk {
    pub fn new(codec: Compression) -> Self {
        Self {
            codec,
            pages: Vec::new(),
            rows: 0,
            bytes: 0,
            room: Vec::new(),
        }
    }

    /// Appends a page.
    pub fn page(&mut self, body: &[u8], values: usize, rows: usize, encoding: Encoding) {
        let stored = self.compressed(body);
        self.rows += rows as u64;
        self.bytes += stored.len();
        self.pages.push(PageOfChunk {
            body: stored,
            uncompressed: body.len(),
            values: values as u32,
            rows: rows as u32,
            encoding,
        });
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        self.bytes
    }

    /// Puts the pages behind their headers, the dictionary first, and begins anew.
    pub fn finish(&mut self, column: ColumnDescPtr, known: Known) -> Result<(Bytes, ColumnCloseResult)> {
        let bytes = std::mem::take(&mut self.bytes);
        let pages = std::mem::take(&mut self.pages);
        let rows = std::mem::take(&mut self.rows);
        let mut sink = TrackedWrite::new(Vec::with_capacity(bytes + 64 * (pages.len() + 1)));
        let mut writer = SerializedPageWriter::new(&mut sink);
        let (mut uncompressed, mut compressed, mut values) = (0, 0, 0);
        let mut dictionary_offset = None;
        let mut encodings = vec![Encoding::RLE];
        if let Some((body, count)) = known.dictionary {
            let len = body.len();
            let page = Page::DictionaryPage {
                buf: self.compressed(&body),
                num_values: count,
                encoding: Encoding::PLAIN,
                is_sorted: false,
            };
            let written = writer.write_page(CompressedPage::new(page, len))?;
            uncompressed += written.uncompressed_size;
            compressed += written.compressed_size;
            dictionary_offset = Some(0);
            encodings.push(Encoding::PLAIN);
        }
        let data_offset = compressed;
        let mut offsets = OffsetIndexBuilder::new();
        for page in pages {
            let body = Page::DataPage {
                buf: page.body,
                num_values: page.values,
                encoding: page.encoding,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            };
            let written = writer.write_page(CompressedPage::new(body, page.uncompressed))?;
            uncompressed += written.uncompressed_size;
            compressed += written.compressed_size;
            values += i64::from(page.values);
            offsets.append_row_count(i64::from(page.rows));
            offsets.append_offset_and_size(written.offset as i64, written.compressed_size as i32);
            if !encodings.contains(&page.encoding) {
                encodings.push(page.encoding);
            }
        }
        writer.close()?;
        let mut metadata = ColumnChunkMetaData::builder(column)
            .set_compression(self.codec)
            .set_encodings(encodings)
            .set_total_compressed_size(compressed as i64)
            .set_total_uncompressed_size(uncompressed as i64)
            .set_num_values(values)
            .set_data_page_offset(data_offset as i64)
            .set_dictionary_page_offset(dictionary_offset);
        if let Some(statistics) = known.statistics {
            metadata = metadata.set_statistics(statistics);
        }
        let close = ColumnCloseResult {
            bytes_written: compressed as u64,
            rows_written: rows,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: known.index,
            offset_index: Some(offsets.build()),
        };
        Ok((sink.into_inner()?.into(), close))
    }

    /// A page's body as the file has it.
    fn compressed(&mut self, body: &[u8]) -> Bytes {
        if self.codec == Compression::UNCOMPRESSED {
            return Bytes::copy_from_slice(body);
        }
        let most = lz4_flex::block::get_maximum_output_size(body.len());
        if self.room.len() < most {
            self.room.resize(most, 0);
        }
        // It fails for want of room only, and has the most that it can need.
        let len = lz4_flex::block::compress_into(body, &mut self.room).unwrap_or_default();
        Bytes::copy_from_slice(self.room.get(..len).unwrap_or_default())
    }
}
