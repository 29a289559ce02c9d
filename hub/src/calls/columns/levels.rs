//! Levels: which rows have a value, and which values begin a row.

/// Levels that are packed at a time.
const MOST: usize = u64::BITS as usize;

/// Levels of a page. One bit each, for no column is nested deeper than a list or a map, whose entries are never null.
#[derive(Default)]
pub(super) struct Levels {
    /// Whole words.
    bits: Vec<u8>,
    /// The word under way, and how much of it is used.
    word: u64,
    used: u32,
    /// The latest levels, which are all the same: mostly all of a page's.
    run: (bool, usize),
    len: usize,
    zeros: usize,
}

impl Levels {
    pub fn push(&mut self, bit: bool) {
        self.extend(bit, 1);
    }

    /// As many pushes of one bit.
    pub fn extend(&mut self, bit: bool, count: usize) {
        self.len += count;
        if !bit {
            self.zeros += count;
        }
        if bit == self.run.0 {
            self.run.1 += count;
        } else {
            self.end_run();
            self.run = (bit, count);
        }
    }

    fn end_run(&mut self) {
        let (bit, mut count) = self.run;
        while count > 0 {
            let step = count.min(MOST) as u32;
            let ones = u64::MAX >> (u64::BITS - step);
            self.pack(if bit { ones } else { 0 }, step);
            count -= step as usize;
        }
        self.run = (false, 0);
    }

    /// Appends so many bits, the lowest first.
    fn pack(&mut self, bits: u64, count: u32) {
        self.word |= bits << self.used;
        self.used += count;
        if self.used >= u64::BITS {
            self.bits.extend_from_slice(&self.word.to_le_bytes());
            self.used -= u64::BITS;
            // What did not fit: none, if the word was empty.
            self.word = bits.checked_shr(count - self.used).unwrap_or_default();
        }
    }

    /// Appends the levels of a row with so many entries, or none: which go on with a row, and which are there.
    pub fn row(repeated: &mut Self, defined: &mut Self, entries: usize) {
        defined.extend(entries > 0, entries.max(1));
        match entries {
            0 | 1 => repeated.push(false),
            2..=MOST => {
                // Nearly every row begins a run and ends one: these are not worth counting.
                repeated.end_run();
                repeated.pack((u64::MAX >> (u64::BITS as usize - entries)) - 1, entries as u32);
                repeated.len += entries;
                repeated.zeros += 1;
            }
            _ => {
                repeated.push(false);
                repeated.extend(true, entries - 1);
            }
        }
    }

    /// Appends the levels of so many rows without entries.
    pub fn empty_rows(repeated: &mut Self, defined: &mut Self, rows: usize) {
        defined.extend(false, rows);
        repeated.extend(false, rows);
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Levels that are zero.
    pub fn zeros(&self) -> usize {
        self.zeros
    }

    /// Appends them as a data page of version 1 begins: their length, then runs; and forgets them.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&[0; 4]);
        if self.zeros == 0 || self.zeros == self.len {
            run(self.len, u32::from(self.zeros == 0), 1, out);
        } else {
            self.end_run();
            packed_header(self.len, out);
            out.extend_from_slice(&self.bits);
            let last = self.used.div_ceil(8) as usize;
            out.extend(self.word.to_le_bytes().iter().take(last));
        }
        let len = (out.len() - begin - 4) as u32;
        if let Some(space) = out.get_mut(begin..begin + 4) {
            space.copy_from_slice(&len.to_le_bytes());
        }
        self.bits.clear();
        *self = Self {
            bits: std::mem::take(&mut self.bits),
            ..Self::default()
        };
    }
}

/// Appends numbers below `2^width` in the hybrid encoding: one run if they are all the same, else packed.
pub(super) fn hybrid(values: &[u32], width: u32, out: &mut Vec<u8>) {
    match values.split_first() {
        None => {}
        Some((first, rest)) if rest.iter().all(|value| value == first) => {
            run(values.len(), *first, width, out);
        }
        Some(_) => {
            packed_header(values.len(), out);
            let mut packer = Packer::new(width, out);
            values.iter().for_each(|value| packer.push(u64::from(*value)));
            let padding = values.len().next_multiple_of(8) - values.len();
            (0..padding).for_each(|_| packer.push(0));
            packer.end();
        }
    }
}

/// Bits that a number below `count` needs.
pub(super) fn width_of(count: usize) -> u32 {
    usize::BITS - count.saturating_sub(1).leading_zeros()
}

/// Appends so many of one number below `2^width` in the hybrid encoding.
pub(super) fn run(len: usize, value: u32, width: u32, out: &mut Vec<u8>) {
    varint((len as u64) << 1, out);
    out.extend(value.to_le_bytes().iter().take(width.div_ceil(8) as usize));
}

/// What says that packed values follow, in groups of eight.
fn packed_header(len: usize, out: &mut Vec<u8>) {
    varint((len.div_ceil(8) as u64) << 1 | 1, out);
}

/// Appends numbers below `2^width`, the lowest bit first.
pub(super) struct Packer<'o> {
    width: u32,
    word: u64,
    /// Bits of the word that are used.
    filled: u32,
    out: &'o mut Vec<u8>,
}

impl<'o> Packer<'o> {
    pub fn new(width: u32, out: &'o mut Vec<u8>) -> Self {
        Self {
            width,
            word: 0,
            filled: 0,
            out,
        }
    }

    #[inline]
    pub fn push(&mut self, value: u64) {
        self.word |= value << self.filled;
        self.filled += self.width;
        if self.filled >= u64::BITS {
            self.out.extend_from_slice(&self.word.to_le_bytes());
            self.filled -= u64::BITS;
            // What did not fit: none, if the word was full just then.
            self.word = value.checked_shr(self.width - self.filled).unwrap_or_default();
        }
    }

    /// Fills up the last byte.
    pub fn end(self) {
        let last = self.filled.div_ceil(8) as usize;
        self.out.extend(self.word.to_le_bytes().iter().take(last));
    }
}

/// Appends a number in as many groups of seven bits as it needs.
pub(super) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number; small ones of both signs are short.
pub(super) fn zigzag(value: i64, out: &mut Vec<u8>) {
    varint((value << 1 ^ value >> 63).cast_unsigned(), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_number_of_entries() {
        let rows = [0, 1, 2, 14, 14, 63, 64, 0, 0, 65, 1, 200, 3];
        let (mut repeated, mut defined) = (Levels::default(), Levels::default());
        let mut expected = (Vec::new(), Vec::new());
        for entries in rows {
            Levels::row(&mut repeated, &mut defined, entries);
            for entry in 0..entries.max(1) {
                expected.0.push(entry > 0);
                expected.1.push(entries > 0);
            }
        }
        for (levels, expected) in [(&mut repeated, expected.0), (&mut defined, expected.1)] {
            assert_eq!(levels.len(), expected.len());
            assert_eq!(levels.zeros(), expected.iter().filter(|bit| !**bit).count());
            let (mut written, mut packed) = (Vec::new(), Vec::new());
            levels.write(&mut written);
            packed_header(expected.len(), &mut packed);
            let mut packer = Packer::new(1, &mut packed);
            expected.iter().for_each(|bit| packer.push(u64::from(*bit)));
            packer.end();
            assert_eq!(written.get(4..), Some(&*packed));
        }
    }
}
