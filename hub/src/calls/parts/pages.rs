//! Pages of a column, as they lie in the file: read one after the other, and what is in them.

use std::sync::Arc;

use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::column::page::{Page, PageReader};
use datafusion::parquet::file::page_index::offset_index::PageLocation;
use datafusion::parquet::file::serialized_reader::SerializedPageReader;

use super::{Chunks, Group, PartPages, bytes};

impl Group {
    /// Hands over the pages of a leaf that have rows among these, each with its first row, and is told how many rows it has.
    pub(super) fn pages(
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
                self.read_pages_ahead(leaf, among);
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

    /// Has the kernel begin to read those pages of a leaf that have rows among these.
    pub(super) fn read_pages_ahead(&self, leaf: usize, among: &BooleanBuffer) {
        let index = self.part.plain.metadata().offset_index();
        let Some(index) = index.and_then(|of| of.get(self.at)?.get(leaf)) else {
            return;
        };
        let pages = index.page_locations();
        let place = |at: usize| {
            pages
                .get(at)
                .and_then(|page| usize::try_from(page.first_row_index).ok())
        };
        let has_rows = |at: usize| {
            let from = place(at).unwrap_or_default().min(among.len());
            let to = place(at + 1).unwrap_or(among.len()).clamp(from, among.len());
            among.slice(from, to - from).count_set_bits() > 0
        };
        let mut wanted = pages
            .iter()
            .enumerate()
            .filter(|(at, _)| has_rows(*at))
            .map(|(_, page)| page)
            .peekable();
        while let Some(first) = wanted.next() {
            let end = |page: &PageLocation| page.offset + i64::from(page.compressed_page_size);
            let mut to = end(first);
            // Those that lie one behind the other at once.
            while let Some(next) = wanted.next_if(|next| next.offset == to) {
                to = end(next);
            }
            if let (Ok(from), Ok(length)) = (first.offset.try_into(), (to - first.offset).try_into()) {
                bytes::read_ahead(&self.part.file, from, length);
            }
        }
    }

    pub(super) fn broken(&self, leaf: usize) -> DataFusionError {
        DataFusionError::Execution(format!(
            "{}: pages of {} are not as this hub writes them",
            self.part.path.display(),
            self.metadata().column(leaf).column_path()
        ))
    }
}

/// Goes through so many numbers of a dictionary, as a page has them behind their width: each, and how often it comes.
#[inline]
pub(super) fn numbers(page: &[u8], count: usize, mut take: impl FnMut(u32, usize)) -> Option<()> {
    let (width, mut rest) = page.split_first()?;
    let width = usize::from(*width).min(u32::BITS as usize);
    if width == 0 {
        // Of one word, of which there is nothing to tell.
        take(0, count);
        return Some(());
    }
    let mask = (1_u64 << width) - 1;
    let mut left = count;
    while left > 0 {
        match Run::next(&mut rest, width)? {
            Run::Same(number, times) => {
                let times = times.min(left);
                take(number, times);
                left -= times;
            }
            // Eight numbers take as many bytes as one takes bits.
            Run::Packed(packed) if width <= 8 => {
                for at in (0..packed.len()).step_by(width) {
                    let (mut bits, some) = (word(packed, at), left.min(8));
                    for _ in 0..some {
                        take((bits & mask) as u32, 1);
                        bits >>= width;
                    }
                    left -= some;
                }
            }
            Run::Packed(packed) => {
                let some = (packed.len() / width * 8).min(left);
                for at in 0..some {
                    let bit = at * width;
                    take((word(packed, bit / 8) >> (bit % 8) & mask) as u32, 1);
                }
                left -= some;
            }
        }
    }
    Some(())
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
pub(super) enum Run<'p> {
    /// A value, so many times.
    Same(u32, usize),
    /// Values one after the other, the lowest bit first.
    Packed(&'p [u8]),
}

impl<'p> Run<'p> {
    pub(super) fn next(rest: &mut &'p [u8], width: usize) -> Option<Self> {
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

/// Texts, each behind its length.
pub(super) struct Texts<'p>(pub(super) &'p [u8]);

impl<'p> Texts<'p> {
    pub(super) fn pass(&mut self, texts: usize) -> Option<()> {
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
