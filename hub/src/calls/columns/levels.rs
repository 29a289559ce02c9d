//! Levels: which rows have a value, and which values begin a row.

/// Levels of a page. One bit each, for no column is nested deeper than a list or a map, whose entries are never null.
#[derive(Default)]
pub(super) struct Levels {
    bits: Vec<u8>,
    len: usize,
    ones: usize,
}

impl Levels {
    pub fn push(&mut self, bit: bool) {
        let place = self.len % 8;
        if place == 0 {
            self.bits.push(0);
        }
        if let Some(last) = self.bits.last_mut() {
            *last |= u8::from(bit) << place;
        }
        self.len += 1;
        self.ones += usize::from(bit);
    }

    /// As many pushes of one bit.
    pub fn extend(&mut self, bit: bool, count: usize) {
        let mut left = count;
        while left > 0 && !self.len.is_multiple_of(8) {
            self.push(bit);
            left -= 1;
        }
        let bytes = left / 8;
        self.bits
            .resize(self.bits.len() + bytes, if bit { 0xff } else { 0 });
        self.len += bytes * 8;
        self.ones += if bit { bytes * 8 } else { 0 };
        for _ in 0..left % 8 {
            self.push(bit);
        }
    }

    /// Appends the levels of a row with so many entries, or none: which go on with a row, and which are there.
    pub fn row(repeated: &mut Self, defined: &mut Self, entries: usize) {
        repeated.push(false);
        defined.push(entries > 0);
        if entries > 1 {
            repeated.extend(true, entries - 1);
            defined.extend(true, entries - 1);
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Levels that are zero.
    pub fn zeros(&self) -> usize {
        self.len - self.ones
    }

    /// Appends them as a data page of version 1 begins: their length, then runs; and forgets them.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&[0; 4]);
        if self.ones == 0 || self.ones == self.len {
            run(self.len, u32::from(self.ones > 0), 1, out);
        } else {
            packed_header(self.len, out);
            out.extend_from_slice(&self.bits);
        }
        let len = (out.len() - begin - 4) as u32;
        if let Some(space) = out.get_mut(begin..begin + 4) {
            space.copy_from_slice(&len.to_le_bytes());
        }
        self.bits.clear();
        self.len = 0;
        self.ones = 0;
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
            let full = values.len().div_ceil(8) * 8;
            let padding = std::iter::repeat_n(0, full - values.len());
            pack(
                values.iter().map(|value| u64::from(*value)).chain(padding),
                width,
                out,
            );
        }
    }
}

/// Bits that a number below `count` needs.
pub(super) fn width_of(count: usize) -> u32 {
    usize::BITS - count.saturating_sub(1).leading_zeros()
}

fn run(len: usize, value: u32, width: u32, out: &mut Vec<u8>) {
    varint((len as u64) << 1, out);
    out.extend(value.to_le_bytes().iter().take(width.div_ceil(8) as usize));
}

/// What says that packed values follow, in groups of eight.
fn packed_header(len: usize, out: &mut Vec<u8>) {
    varint((len.div_ceil(8) as u64) << 1 | 1, out);
}

/// Appends numbers below `2^width`, the lowest bit first, and fills up the last byte.
pub(super) fn pack(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    let (mut word, mut filled) = (0_u64, 0);
    for value in values {
        word |= value << filled;
        filled += width;
        if filled >= u64::BITS {
            out.extend_from_slice(&word.to_le_bytes());
            filled -= u64::BITS;
            word = if filled == 0 { 0 } else { value >> (width - filled) };
        }
    }
    out.extend(word.to_le_bytes().iter().take(filled.div_ceil(8) as usize));
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
