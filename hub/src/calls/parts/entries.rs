//! What maps hold under one key, without making the rest of them: the pages of keys tell which entry of a row it is, and
//! those of values are walked up to it. So a filter on a header reads neither the other headers' texts, nor the values of
//! rows that have no such header, nor any values of a row group whose dictionary of keys lacks it.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use datafusion::arrow::array::{BooleanBufferBuilder, StringArray};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::basic::Encoding;
use datafusion::parquet::column::page::{Page, PageReader};
use datafusion::parquet::file::serialized_reader::SerializedPageReader;

use super::{Chunks, Group, PartPages};

/// Bytes of maps that are looked through at a time.
const BYTES: usize = 8 << 20;

/// Least rows at a time: about a page.
const LEAST_ROWS: usize = 2048;

/// Where a row has no entry under the key.
const NONE: u32 = u32::MAX;

impl Group {
    /// Of the rows that are set in `among`: the first text under `key` in a column of maps; NULL where there is none.
    ///
    /// # Errors
    /// The part cannot be read.
    pub fn entry(&self, column: &str, key: &str, among: &BooleanBuffer) -> Result<StringArray> {
        let Some([keys, values]) = self.leaves(column) else {
            return Ok(StringArray::new_null(among.count_set_bits()));
        };
        let places = self.places(keys, key, among)?;
        let asked = BooleanBuffer::collect_bool(among.len(), |row| {
            among.value(row) && places.get(row).is_some_and(|place| *place != NONE)
        });
        let (mut texts, mut ends) = (Vec::new(), Vec::with_capacity(asked.count_set_bits()));
        self.pages(values, &asked, |first, page| {
            let page = Rows::of(page)?;
            let mut values = page.plain()?;
            page.each(|nth, entries| {
                let row = first + nth;
                if row >= asked.len() || !asked.value(row) {
                    return values.pass(entries);
                }
                let place = *places.get(row)? as usize;
                values.pass(place)?;
                texts.extend_from_slice(values.next()?);
                ends.push(i32::try_from(texts.len()).ok()?);
                values.pass(entries.checked_sub(place + 1)?)
            })
        })?;
        if ends.len() != asked.count_set_bits() {
            return Err(self.broken(values));
        }
        // Back among the rows that have none.
        let (mut found, mut end) = (ends.into_iter(), 0);
        let all = among.set_indices().map(|row| {
            if asked.value(row) {
                end = found.next().unwrap_or(end);
            }
            end
        });
        let ends: ScalarBuffer<i32> = std::iter::once(0).chain(all).collect();
        let there: BooleanBuffer = among.set_indices().map(|row| asked.value(row)).collect();
        let ends = OffsetBuffer::new(ends);
        Ok(StringArray::try_new(
            ends,
            texts.into(),
            Some(NullBuffer::new(there)),
        )?)
    }

    /// Whether there is an entry under `key` in a column of maps, for each of the rows that are set in `among`.
    ///
    /// # Errors
    /// The part cannot be read.
    pub fn has_entry(&self, column: &str, key: &str, among: &BooleanBuffer) -> Result<BooleanBuffer> {
        let Some([keys, _]) = self.leaves(column) else {
            return Ok(BooleanBuffer::new_unset(among.count_set_bits()));
        };
        let places = self.places(keys, key, among)?;
        let has = |row: usize| places.get(row).is_some_and(|place| *place != NONE);
        Ok(among.set_indices().map(has).collect())
    }

    /// Of how many rows an entry may be asked for at a time: texts may be long.
    pub fn rows_of_entries(&self, column: &str) -> usize {
        let rows = self.rows();
        let chunk = self
            .leaves(column)
            .map(|[_, values]| self.metadata().column(values));
        let bytes = chunk.and_then(|chunk| usize::try_from(chunk.uncompressed_size()).ok());
        let share = rows.saturating_mul(BYTES) / bytes.unwrap_or_default().max(1);
        (share / LEAST_ROWS * LEAST_ROWS).clamp(LEAST_ROWS, rows.max(LEAST_ROWS))
    }

    /// A map's leaves, keys and values. `None` if the part is of a time before the column.
    fn leaves(&self, column: &str) -> Option<[usize; 2]> {
        self.first_leaf(column).map(|keys| [keys, keys + 1])
    }

    /// For each row, which of its entries is the first under `key`; of rows that are not set in `among` it may be unknown.
    fn places(&self, keys: usize, key: &str, among: &BooleanBuffer) -> Result<Vec<u32>> {
        let mut places = vec![NONE; among.len()];
        let mut number = None;
        let mut numbers = Vec::new();
        self.pages(keys, among, |first, page| {
            if let Page::DictionaryPage { buf, .. } = page {
                number = Texts(&buf).position(|word| word == key.as_bytes());
                let nowhere = number.is_none() && self.is_of_words(keys);
                return Some(if nowhere { among.len() } else { 0 });
            }
            let page = Rows::of(page)?;
            let places = places.get_mut(first..)?;
            if page.encoding == Encoding::PLAIN {
                let mut keys = page.plain()?;
                return page.each(|nth, entries| {
                    let place = (0..entries).try_fold(NONE, |found, at| {
                        let is = keys.next()? == key.as_bytes() && found == NONE;
                        Some(if is { at as u32 } else { found })
                    })?;
                    *places.get_mut(nth)? = place;
                    Some(())
                });
            }
            let Some(number) = number.and_then(|number| u32::try_from(number).ok()) else {
                return page.each(|_, _| Some(()));
            };
            page.numbers(&mut numbers)?;
            let mut left = numbers.as_slice();
            page.each(|nth, entries| {
                let (row, rest) = left.split_at_checked(entries)?;
                left = rest;
                if let Some(at) = row.iter().position(|of| *of == number) {
                    *places.get_mut(nth)? = at as u32;
                }
                Some(())
            })
        })?;
        Ok(places)
    }

    /// Hands over the pages of a leaf that have rows among these, each with its first row, and is told how many rows it has.
    fn pages(
        &self,
        leaf: usize,
        among: &BooleanBuffer,
        mut take: impl FnMut(usize, Page) -> Option<usize>,
    ) -> Result<()> {
        if among.count_set_bits() == 0 {
            return Ok(());
        }
        let metadata = self.part.plain.metadata();
        let chunk = self.metadata().column(leaf);
        let index = metadata.offset_index().and_then(|of| of.get(self.at)?.get(leaf));
        let mut reader: Box<dyn PageReader> = match index {
            Some(index) => {
                let part = Arc::new(PartPages(Arc::clone(&self.part)));
                let places = index.page_locations().clone();
                Box::new(SerializedPageReader::new(part, chunk, self.rows(), Some(places))?)
            }
            // Of what is still being written, it is not known which page has which rows.
            None => {
                let chunks = Chunks::read(&self.part, self.metadata(), |of| of == leaf)?;
                Box::new(SerializedPageReader::new(
                    Arc::new(chunks),
                    chunk,
                    self.rows(),
                    None,
                )?)
            }
        };
        let mut row = 0;
        while row < among.len()
            && let Some(next) = reader.peek_next_page()?
        {
            let rows = next.num_rows.unwrap_or(among.len()).min(among.len() - row);
            if !next.is_dict && among.slice(row, rows).count_set_bits() == 0 {
                reader.skip_next_page()?;
                row += rows;
                continue;
            }
            let page = reader.get_next_page()?;
            row += page
                .and_then(|page| take(row, page))
                .ok_or_else(|| self.broken(leaf))?;
        }
        Ok(())
    }

    fn broken(&self, leaf: usize) -> DataFusionError {
        DataFusionError::Execution(format!(
            "{}: pages of {} are not as this hub writes them",
            self.part.path.display(),
            self.metadata().column(leaf).column_path()
        ))
    }
}

/// A page of a map's keys or values.
struct Rows {
    /// Which of its levels begin a row.
    starts: BooleanBuffer,
    /// Which of them have an entry.
    there: BooleanBuffer,
    encoding: Encoding,
    values: Bytes,
}

impl Rows {
    fn of(page: Page) -> Option<Self> {
        let Page::DataPage {
            buf: mut values,
            num_values,
            encoding,
            ..
        } = page
        else {
            return None;
        };
        let goes_on = levels(&mut values, num_values as usize)?;
        let there = levels(&mut values, num_values as usize)?;
        Some(Self {
            starts: !&goes_on,
            there,
            encoding,
            values,
        })
    }

    /// Goes through its rows, each by its number and how many entries it has. Gives how many rows there are.
    fn each(&self, mut row: impl FnMut(usize, usize) -> Option<()>) -> Option<usize> {
        let mut starts = self.starts.set_indices().peekable();
        let mut rows = 0;
        while let Some(start) = starts.next() {
            let end = starts.peek().copied().unwrap_or(self.starts.len());
            row(rows, if self.there.value(start) { end - start } else { 0 })?;
            rows += 1;
        }
        Some(rows)
    }

    /// Its values, if they are texts one after the other.
    fn plain(&self) -> Option<Texts<'_>> {
        (self.encoding == Encoding::PLAIN).then_some(Texts(&self.values))
    }

    /// Its values, if they are numbers of a dictionary.
    fn numbers(&self, into: &mut Vec<u32>) -> Option<()> {
        into.clear();
        if self.encoding != Encoding::RLE_DICTIONARY {
            return None;
        }
        let (width, mut rest) = self.values.split_first()?;
        let width = usize::from(*width).min(u32::BITS as usize);
        let count = self.there.count_set_bits();
        if width == 0 {
            // Of one word, of which there is nothing to tell.
            into.resize(count, 0);
        }
        while into.len() < count {
            let left = count - into.len();
            match Run::next(&mut rest, width)? {
                Run::Same(value, times) => into.resize(into.len() + times.min(left), value),
                Run::Packed(packed) => {
                    let mask = (1_u64 << width) - 1;
                    let numbers = packed.len() * 8 / width.max(1);
                    into.extend((0..numbers.min(left)).map(|at| {
                        let bit = at * width;
                        (word(packed, bit / 8) >> (bit % 8) & mask) as u32
                    }));
                }
            }
        }
        Some(())
    }
}

/// Eight bytes from some place on, as far as there are so many.
fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(eight) => u64::from_le_bytes(*eight),
        None => {
            let last = bytes.get(at..).unwrap_or_default().iter().rev();
            last.fold(0, |word, byte| word << 8 | u64::from(*byte))
        }
    }
}

/// A run of Parquet's hybrid encoding.
enum Run<'p> {
    /// A value, so many times.
    Same(u32, usize),
    /// Values one after the other, the lowest bit first.
    Packed(&'p [u8]),
}

impl<'p> Run<'p> {
    fn next(rest: &mut &'p [u8], width: usize) -> Option<Self> {
        let (mut header, mut shift) = (0_usize, 0);
        loop {
            let (byte, behind) = rest.split_first()?;
            *rest = behind;
            header |= usize::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let len = if header & 1 == 0 {
            width.div_ceil(8)
        } else {
            (header >> 1).checked_mul(width)?
        };
        let (run, behind) = rest.split_at_checked(len)?;
        *rest = behind;
        // What does not go on would never end.
        (header > 1).then(|| {
            if header & 1 == 0 {
                Self::Same(word(run, 0) as u32, header >> 1)
            } else {
                Self::Packed(run)
            }
        })
    }
}

/// Takes the levels off a page.
fn levels(page: &mut Bytes, count: usize) -> Option<BooleanBuffer> {
    let len = usize::try_from(page.try_get_u32_le().ok()?).ok()?;
    if len > page.len() {
        return None;
    }
    let runs = page.split_to(len);
    let mut rest = runs.as_ref();
    let mut levels = BooleanBufferBuilder::new(count);
    while levels.len() < count {
        let left = count - levels.len();
        match Run::next(&mut rest, 1)? {
            Run::Same(level, times) => levels.append_n(times.min(left), level == 1),
            Run::Packed(bits) => levels.append_packed_range(0..(bits.len() * 8).min(left), bits),
        }
    }
    Some(levels.finish())
}

/// Texts, each behind its length.
struct Texts<'p>(&'p [u8]);

impl<'p> Texts<'p> {
    fn pass(&mut self, texts: usize) -> Option<()> {
        (0..texts).try_for_each(|_| self.next().map(drop))
    }
}

impl<'p> Iterator for Texts<'p> {
    type Item = &'p [u8];

    #[inline]
    fn next(&mut self) -> Option<&'p [u8]> {
        let (len, rest) = self.0.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        self.0 = rest;
        Some(text)
    }
}
