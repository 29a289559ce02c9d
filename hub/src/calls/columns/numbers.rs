//! Numbers and times: as differences, packed into as few bits as a block of them needs (Parquet's
//! `DELTA_BINARY_PACKED`). Smaller than what a general compressor makes of them, and made faster.

use datafusion::parquet::basic::{BoundaryOrder, Compression, Encoding, Type};
use datafusion::parquet::errors::Result;
use datafusion::parquet::file::metadata::ColumnIndexBuilder;
use datafusion::parquet::file::statistics::Statistics;
use datafusion::parquet::file::writer::SerializedRowGroupWriter;
use datafusion::parquet::schema::types::ColumnDescPtr;

use super::PAGE_ROWS;
use super::chunk::{Chunk, Known, Leaf, PartFile};
use super::levels::{Levels, Packer, varint, zigzag};

/// Values of a block, which shares its smallest difference; and of each of its parts, which share a width. The sizes
/// that the format's own description begins with, which every reader knows.
const BLOCK: usize = 128;
const PART: usize = 32;

/// What a column of numbers tells of their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ordered {
    /// Nothing: hashes.
    No,
    /// The least and the greatest of a row group.
    Chunk,
    /// And of every page.
    Page,
}

/// A column of numbers of 32 or 64 bits, or of times.
pub(crate) struct NumberColumn {
    narrow: bool,
    ordered: Ordered,
    /// Whether a row may have none.
    optional: bool,
    values: Vec<i64>,
    defined: Levels,
    rows: usize,
    nulls: u64,
    range: Option<(i64, i64)>,
    /// Least and greatest value of each page, and how many rows of it have none.
    ranges: Vec<(Option<(i64, i64)>, i64)>,
    chunk: Chunk,
    body: Vec<u8>,
}

impl NumberColumn {
    pub fn new(narrow: bool, optional: bool, ordered: Ordered) -> Self {
        Self {
            narrow,
            ordered,
            optional,
            values: Vec::with_capacity(PAGE_ROWS),
            defined: Levels::default(),
            rows: 0,
            nulls: 0,
            range: None,
            ranges: Vec::new(),
            chunk: Chunk::new(Compression::UNCOMPRESSED),
            body: Vec::new(),
        }
    }

    pub fn push(&mut self, value: i64) {
        self.values.push(value);
        self.rows += 1;
        if self.optional {
            self.defined.push(true);
        }
    }

    /// Appends a number, or the lack of one.
    pub fn push_option(&mut self, value: Option<i64>) {
        self.values.extend(value);
        self.rows += 1;
        self.defined.push(value.is_some());
    }

    /// Appends the lack of a number so many times.
    pub fn push_none(&mut self, rows: usize) {
        self.rows += rows;
        self.defined.extend(false, rows);
    }

    fn end_page(&mut self) {
        self.body.clear();
        let nulls = self.defined.zeros();
        if self.optional {
            self.defined.write(&mut self.body);
        }
        let range = range(&self.values);
        let encoding = differences(&self.values, self.narrow, &mut self.body);
        self.chunk.page(&self.body, self.rows, self.rows, encoding);
        self.nulls += nulls as u64;
        self.range = widest(self.range, range);
        self.ranges.push((range, nulls as i64));
        self.values.clear();
        self.rows = 0;
    }

    fn known(&mut self) -> Result<Known> {
        let ranges = std::mem::take(&mut self.ranges);
        let (range, nulls) = (self.range.take(), std::mem::take(&mut self.nulls));
        let mut known = Known::default();
        if self.ordered == Ordered::No {
            return Ok(known);
        }
        let (least, greatest) = (range.map(|r| r.0), range.map(|r| r.1));
        known.statistics = Some(if self.narrow {
            let narrow = |value: Option<i64>| value.map(|value| value as i32);
            Statistics::int32(narrow(least), narrow(greatest), None, Some(nulls), false)
        } else {
            Statistics::int64(least, greatest, None, Some(nulls), false)
        });
        if self.ordered == Ordered::Page {
            let mut index = ColumnIndexBuilder::new(Type::INT64);
            for (range, nulls) in ranges {
                let bytes =
                    |value: Option<i64>| value.map_or(Vec::new(), |value| value.to_le_bytes().to_vec());
                index.append(
                    range.is_none(),
                    bytes(range.map(|r| r.0)),
                    bytes(range.map(|r| r.1)),
                    nulls,
                );
            }
            index.set_boundary_order(BoundaryOrder::UNORDERED);
            known.index = Some(index.build()?);
        }
        Ok(known)
    }
}

impl Leaf for NumberColumn {
    fn end_page_if_full(&mut self) {
        if self.rows >= PAGE_ROWS {
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
        let known = self.known()?;
        self.chunk.finish(column, known, group)
    }

    fn memory(&self) -> usize {
        self.chunk.memory() + self.values.len() * size_of::<i64>()
    }
}

/// A column of lists of numbers.
pub(crate) struct ListColumn {
    values: Vec<i64>,
    defined: Levels,
    /// Whether an entry goes on with the row before it.
    repeated: Levels,
    rows: usize,
    chunk: Chunk,
    body: Vec<u8>,
}

impl ListColumn {
    pub fn new() -> Self {
        Self {
            values: Vec::with_capacity(PAGE_ROWS),
            defined: Levels::default(),
            repeated: Levels::default(),
            rows: 0,
            chunk: Chunk::new(Compression::UNCOMPRESSED),
            body: Vec::new(),
        }
    }

    /// Appends rows without numbers.
    pub fn push_none(&mut self, rows: usize) {
        self.rows += rows;
        Levels::empty_rows(&mut self.repeated, &mut self.defined, rows);
    }

    pub fn push(&mut self, values: &[u64]) {
        self.rows += 1;
        Levels::row(&mut self.repeated, &mut self.defined, values.len());
        self.values.extend(values.iter().map(|value| value.cast_signed()));
    }

    fn end_page(&mut self) {
        self.body.clear();
        let entries = self.defined.len();
        self.repeated.write(&mut self.body);
        self.defined.write(&mut self.body);
        let encoding = differences(&self.values, false, &mut self.body);
        self.chunk.page(&self.body, entries, self.rows, encoding);
        self.values.clear();
        self.rows = 0;
    }
}

impl Leaf for ListColumn {
    fn end_page_if_full(&mut self) {
        if self.rows >= PAGE_ROWS || self.values.len() >= 4 * PAGE_ROWS {
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
        self.chunk.memory() + self.values.len() * size_of::<i64>()
    }
}

/// Appends numbers as differences; says how. `narrow` numbers have 32 bits, and so have their differences.
fn differences(values: &[i64], narrow: bool, out: &mut Vec<u8>) -> Encoding {
    let Some((first, rest)) = values.split_first() else {
        // Nothing is nothing in the plain encoding, too, where nobody has to know how to say so.
        return Encoding::PLAIN;
    };
    varint(BLOCK as u64, out);
    varint((BLOCK / PART) as u64, out);
    varint(values.len() as u64, out);
    zigzag(*first, out);
    let mut before = *first;
    let mut block = [0_i64; BLOCK];
    for values in rest.chunks(BLOCK) {
        let differences = block.get_mut(..values.len()).unwrap_or_default();
        let mut least = i64::MAX;
        for (difference, value) in differences.iter_mut().zip(values) {
            *difference = if narrow {
                i64::from((*value as i32).wrapping_sub(before as i32))
            } else {
                value.wrapping_sub(before)
            };
            least = least.min(*difference);
            before = *value;
        }
        zigzag(least, out);
        let widths = out.len();
        out.extend_from_slice(&[0; BLOCK / PART]);
        for (n, part) in differences.chunks(PART).enumerate() {
            let over = |difference: &i64| difference.wrapping_sub(least).cast_unsigned();
            let bits = part.iter().fold(0, |bits, difference| bits | over(difference));
            let width = u64::BITS - bits.leading_zeros();
            if let Some(space) = out.get_mut(widths + n) {
                *space = width as u8;
            }
            if width > 0 {
                let mut packer = Packer::new(width, out);
                part.iter().for_each(|difference| packer.push(over(difference)));
                (part.len()..PART).for_each(|_| packer.push(0));
                packer.end();
            }
        }
    }
    Encoding::DELTA_BINARY_PACKED
}

fn range(values: &[i64]) -> Option<(i64, i64)> {
    let (first, rest) = values.split_first()?;
    let range = (*first, *first);
    Some(rest.iter().fold(range, |(least, greatest), value| {
        (least.min(*value), greatest.max(*value))
    }))
}

fn widest(a: Option<(i64, i64)>, b: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}
