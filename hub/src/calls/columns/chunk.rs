//! The pages of one column in one row group.

use std::fs::File;
use std::io::{self, BufWriter, Read};

use bytes::Bytes;
use datafusion::parquet::basic::{Compression, Encoding, PageType};
use datafusion::parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use datafusion::parquet::column::writer::ColumnCloseResult;
use datafusion::parquet::errors::{ParquetError, Result};
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use datafusion::parquet::file::page_index::column_index::ColumnIndexMetaData;
use datafusion::parquet::file::reader::{ChunkReader, Length};
use datafusion::parquet::file::statistics::Statistics;
use datafusion::parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use datafusion::parquet::schema::types::ColumnDescPtr;

/// Most bytes of a page's header.
const HEADER_BYTES: usize = 64;

/// Bytes of a page in which LZ4 is not asked to find repeats: most of them are of columns that say the same of all calls.
const SHORT: usize = 64;

/// A part's file.
pub type PartFile = BufWriter<File>;

/// A column as the file has it: a leaf of the schema's tree.
pub trait Leaf {
    /// Ends the page under way if it is full. To be called between rows.
    fn end_page_if_full(&mut self);

    /// Ends the row group: writes all its pages, and what is to be said of them, and begins anew.
    fn finish(
        &mut self,
        column: ColumnDescPtr,
        group: &mut SerializedRowGroupWriter<'_, PartFile>,
    ) -> Result<()>;

    /// Bytes that it holds, roughly.
    fn memory(&self) -> usize;
}

/// The finished pages.
pub(super) struct Chunk {
    codec: Compression,
    /// The pages, and behind them those of an earlier row group, whose space the next ones get: memory that is given back
    /// and asked for again is cleared again.
    pages: Vec<PageOfChunk>,
    /// How many are of this row group.
    used: usize,
    /// Bytes of these.
    bytes: usize,
    /// How many pages are encoded how: a reader tells by it whether all words are in the dictionary.
    encodings: Vec<PageEncodingStats>,
    rows: u64,
    /// Levels, or values where there are no levels.
    values: i64,
    /// Bytes of all pages before compression.
    uncompressed: usize,
    /// The first page that could not be written.
    failed: Option<ParquetError>,
    /// Room for the compressor, kept so that it need not be made anew.
    room: Vec<u8>,
}

#[derive(Default)]
struct PageOfChunk {
    /// The page behind its header, as the file will have it.
    bytes: Vec<u8>,
    rows: u32,
}

/// What is known of a row group's values when it ends.
#[derive(Default)]
pub(super) struct Known {
    /// The dictionary's values as in a page, and their number.
    pub dictionary: Option<(Vec<u8>, u32)>,
    pub statistics: Option<Statistics>,
    pub index: Option<ColumnIndexMetaData>,
}

/// A column's bytes in the file: the dictionary's page, then all others.
#[derive(Clone)]
struct Pages<'p> {
    /// What is left of the page that is being read.
    page: &'p [u8],
    others: std::slice::Iter<'p, PageOfChunk>,
}

impl Chunk {
    pub fn new(codec: Compression) -> Self {
        Self {
            codec,
            pages: Vec::new(),
            used: 0,
            bytes: 0,
            encodings: Vec::new(),
            rows: 0,
            values: 0,
            uncompressed: 0,
            failed: None,
            room: Vec::new(),
        }
    }

    /// Appends a page.
    pub fn page(&mut self, body: &[u8], values: usize, rows: usize, encoding: Encoding) {
        let page = Page::DataPage {
            buf: self.compressed(body),
            num_values: values as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        if self.pages.len() == self.used {
            self.pages.push(PageOfChunk::default());
        }
        let Some(place) = self.pages.get_mut(self.used) else {
            return;
        };
        place.bytes.clear();
        place.rows = rows as u32;
        match write(page, body.len(), &mut place.bytes) {
            Ok(spec) => {
                self.used += 1;
                self.bytes += spec.compressed_size;
                self.rows += rows as u64;
                self.values += values as i64;
                self.uncompressed += spec.uncompressed_size;
                self.count(PageType::DATA_PAGE, encoding);
            }
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        }
    }

    fn count(&mut self, page_type: PageType, encoding: Encoding) {
        let alike =
            |pages: &&mut PageEncodingStats| (pages.page_type, pages.encoding) == (page_type, encoding);
        match self.encodings.iter_mut().find(alike) {
            Some(pages) => pages.count += 1,
            None => self.encodings.push(PageEncodingStats {
                page_type,
                encoding,
                count: 1,
            }),
        }
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        self.bytes
    }

    /// Writes the pages, the dictionary first, and begins anew.
    pub fn finish(
        &mut self,
        column: ColumnDescPtr,
        known: Known,
        group: &mut SerializedRowGroupWriter<'_, PartFile>,
    ) -> Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut dictionary = Vec::new();
        if let Some((body, count)) = known.dictionary {
            let page = Page::DictionaryPage {
                buf: self.compressed(&body),
                num_values: count,
                encoding: Encoding::PLAIN,
                is_sorted: false,
            };
            self.uncompressed += write(page, body.len(), &mut dictionary)?.uncompressed_size;
            self.count(PageType::DICTIONARY_PAGE, Encoding::PLAIN);
        }
        let mut offsets = OffsetIndexBuilder::new();
        let mut offset = dictionary.len();
        let pages = self
            .pages
            .get(..std::mem::take(&mut self.used))
            .unwrap_or_default();
        self.bytes = 0;
        for page in pages {
            offsets.append_row_count(i64::from(page.rows));
            offsets.append_offset_and_size(offset as i64, page.bytes.len() as i32);
            offset += page.bytes.len();
        }
        let encodings = std::mem::take(&mut self.encodings);
        // Levels are runs.
        let all = std::iter::once(Encoding::RLE).chain(encodings.iter().map(|pages| pages.encoding));
        let mut metadata = ColumnChunkMetaData::builder(column)
            .set_compression(self.codec)
            .set_encodings(all.collect())
            .set_page_encoding_stats(encodings)
            .set_total_compressed_size(offset as i64)
            .set_total_uncompressed_size(std::mem::take(&mut self.uncompressed) as i64)
            .set_num_values(std::mem::take(&mut self.values))
            .set_data_page_offset(dictionary.len() as i64)
            .set_dictionary_page_offset((!dictionary.is_empty()).then_some(0));
        if let Some(statistics) = known.statistics {
            metadata = metadata.set_statistics(statistics);
        }
        let close = ColumnCloseResult {
            bytes_written: offset as u64,
            rows_written: std::mem::take(&mut self.rows),
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: known.index,
            offset_index: Some(offsets.build()),
        };
        let pages = Pages {
            page: &dictionary,
            others: pages.iter(),
        };
        group.append_column(&pages, close)
    }

    /// A page's body as the file has it.
    fn compressed(&mut self, body: &[u8]) -> Bytes {
        if self.codec == Compression::UNCOMPRESSED {
            return Bytes::copy_from_slice(body);
        }
        if body.len() < SHORT {
            return literal(body);
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

/// Fewer than [`SHORT`] bytes as LZ4's block format has them without repeats: behind their number.
fn literal(body: &[u8]) -> Bytes {
    /// The greatest number in the upper half of the first byte; what is beyond has a byte of its own.
    const HALF: usize = 15;
    let mut block = Vec::with_capacity(2 + body.len());
    block.push((body.len().min(HALF) << 4) as u8);
    block.extend(body.len().checked_sub(HALF).map(|beyond| beyond as u8));
    block.extend_from_slice(body);
    block.into()
}

/// Appends a page behind its header.
fn write(page: Page, uncompressed: usize, out: &mut Vec<u8>) -> Result<PageWriteSpec> {
    out.reserve_exact(page.buffer().len() + HEADER_BYTES);
    let mut sink = TrackedWrite::new(out);
    let mut writer = SerializedPageWriter::new(&mut sink);
    let spec = writer.write_page(CompressedPage::new(page, uncompressed))?;
    writer.close()?;
    Ok(spec)
}

impl Length for Pages<'_> {
    fn len(&self) -> u64 {
        let others = self.others.clone().map(|page| page.bytes.len());
        (self.page.len() + others.sum::<usize>()) as u64
    }
}

impl Read for Pages<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        while self.page.is_empty() {
            match self.others.next() {
                Some(next) => self.page = &next.bytes,
                None => return Ok(0),
            }
        }
        self.page.read(space)
    }
}

impl<'p> ChunkReader for Pages<'p> {
    type T = Self;

    fn get_read(&self, start: u64) -> Result<Self> {
        let mut pages = self.clone();
        io::copy(&mut pages.by_ref().take(start), &mut io::sink())?;
        Ok(pages)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut bytes = Vec::new();
        self.get_read(start)?
            .take(length as u64)
            .read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_pages_are_blocks_of_lz4() {
        let body: Vec<u8> = (0..SHORT as u8).collect();
        for len in 0..SHORT {
            let body = &body[..len];
            assert_eq!(lz4_flex::block::decompress(&literal(body), len).unwrap(), body);
        }
    }
}
