//! What maps hold under one key, without making the rest of them: the pages of keys tell which entry of a row it is, and
//! those of values are walked up to it. So a filter on a header reads neither the other headers' texts, nor the values of
//! rows that have no such header, nor any values of a row group whose dictionary of keys lacks it.

use bytes::{Buf, Bytes};
use datafusion::arrow::array::{BooleanBufferBuilder, StringArray};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::error::Result;
use datafusion::parquet::basic::Encoding;
use datafusion::parquet::column::page::Page;

use super::Group;
use super::pages::{Run, Texts, numbers};
use super::texts::Test;

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
        let (mut texts, mut ends) = (Vec::new(), Vec::new());
        let asked = self.each_entry(column, key, among, |_, text| {
            texts.extend_from_slice(text);
            ends.push(i32::try_from(texts.len()).ok()?);
            Some(())
        })?;
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

    /// Those of the rows that are set in `among` of which a test holds for the first text under `key` in a column of maps;
    /// where there is none, for `""`.
    ///
    /// # Errors
    /// The part cannot be read.
    pub fn entries_that(
        &self,
        test: &Test,
        column: &str,
        key: &str,
        among: &BooleanBuffer,
    ) -> Result<BooleanBuffer> {
        let mut found = BooleanBufferBuilder::new(among.len());
        found.append_n(among.len(), false);
        let asked = self.each_entry(column, key, among, |row, text| {
            if test.holds(text) {
                found.set_bit(row, true);
            }
            Some(())
        })?;
        let found = found.finish();
        Ok(if test.holds(b"") {
            &found | &(among & &!&asked)
        } else {
            found
        })
    }

    /// Hands over the first text under `key` of each row that is set in `among` and has one. Gives which rows these are.
    fn each_entry(
        &self,
        column: &str,
        key: &str,
        among: &BooleanBuffer,
        mut take: impl FnMut(usize, &[u8]) -> Option<()>,
    ) -> Result<BooleanBuffer> {
        let Some([keys, values]) = self.leaves(column) else {
            return Ok(BooleanBuffer::new_unset(among.len()));
        };
        let places = self.places(keys, key, among)?;
        let has = BooleanBuffer::collect_bool(places.len(), |row| {
            places.get(row).is_some_and(|place| *place != NONE)
        });
        let asked = among & &has;
        let mut taken = 0;
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
                take(row, values.next()?)?;
                taken += 1;
                values.pass(entries.checked_sub(place + 1)?)
            })
        })?;
        if taken == asked.count_set_bits() {
            Ok(asked)
        } else {
            Err(self.broken(values))
        }
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
        let mut found = Vec::new();
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
            page.numbers(&mut found)?;
            let mut left = found.as_slice();
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
        let count = self.there.count_set_bits();
        into.reserve(count);
        numbers(&self.values, count, |number, times| {
            if times == 1 {
                into.push(number);
            } else {
                into.resize(into.len() + times, number);
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
