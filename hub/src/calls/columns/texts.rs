//! Texts as they are, one after the other, each behind its length (Parquet's `PLAIN`).

use datafusion::parquet::basic::{Compression, Encoding};
use datafusion::parquet::errors::Result;
use datafusion::parquet::file::writer::SerializedRowGroupWriter;
use datafusion::parquet::schema::types::ColumnDescPtr;

use super::PAGE_BYTES;
use super::chunk::{Chunk, Known, Leaf, PartFile};
use super::levels::Levels;

/// Entries of a map's values: texts that seldom repeat.
pub(crate) struct TextColumn {
    texts: Vec<u8>,
    defined: Levels,
    repeated: Levels,
    rows: usize,
    chunk: Chunk,
    body: Vec<u8>,
}

impl TextColumn {
    pub fn new() -> Self {
        Self {
            texts: Vec::with_capacity(PAGE_BYTES),
            defined: Levels::default(),
            repeated: Levels::default(),
            rows: 0,
            chunk: Chunk::new(Compression::LZ4_RAW),
            body: Vec::new(),
        }
    }

    /// Appends an entry to the row under way.
    pub fn push(&mut self, text: &[u8]) {
        append(text, &mut self.texts);
    }

    /// Ends the row, which has so many entries.
    pub fn end_row(&mut self, entries: usize) {
        Levels::row(&mut self.repeated, &mut self.defined, entries);
        self.rows += 1;
    }

    /// Ends so many rows, which have no entries.
    pub fn end_empty_rows(&mut self, rows: usize) {
        Levels::empty_rows(&mut self.repeated, &mut self.defined, rows);
        self.rows += rows;
    }

    fn end_page(&mut self) {
        self.body.clear();
        let entries = self.defined.len();
        self.repeated.write(&mut self.body);
        self.defined.write(&mut self.body);
        self.body.extend_from_slice(&self.texts);
        self.chunk.page(&self.body, entries, self.rows, Encoding::PLAIN);
        self.texts.clear();
        self.rows = 0;
    }
}

impl Leaf for TextColumn {
    fn end_page_if_full(&mut self) {
        if self.texts.len() >= PAGE_BYTES || self.rows >= super::PAGE_ROWS {
            self.end_page();
        }
    }

    fn finish(
        &mut self,
        column: ColumnDescPtr,
        group: &mut SerializedRowGroupWriter<'_, PartFile>,
    ) -> Result<()> {
        if self.rows > 0 {
            self.end_page();
        }
        self.chunk.finish(column, Known::default(), group)
    }

    fn memory(&self) -> usize {
        self.chunk.memory() + self.texts.len()
    }
}

/// Appends a text behind its length.
pub(super) fn append(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}
