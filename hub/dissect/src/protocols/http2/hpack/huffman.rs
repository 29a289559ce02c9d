//! The Huffman code of HPACK (RFC 7541, section 5.2 and appendix B).
//!
//! The code is canonical: within one length, codes are in the order of their symbols, and shorter ones come first. So
//! the lengths alone say everything.

/// Bits of each byte's code.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The longest code; the end-of-string symbol has one of this length, too, the last of all.
const LONGEST: usize = 30;

/// Bits that the first look is at: all letters and digits have codes of at most 8.
const SHORT: u32 = 8;

/// Bits that are looked at while many are left: two letters or digits, as a rule.
const WIDE: u32 = 12;

/// The codes of one length, as they stand one after the other.
#[derive(Clone, Copy)]
struct Run {
    /// The first code.
    first: u32,
    /// How many there are.
    count: u32,
    /// Where their symbols begin in [`SYMBOLS`].
    symbols: usize,
}

static RUNS: [Run; LONGEST + 1] = RUNS_AND_SYMBOLS.0;
static SYMBOLS: [u8; 256] = RUNS_AND_SYMBOLS.1;
/// By the next eight bits: the symbol and the length of its code; 0 if that is longer.
static SHORT_CODES: [(u8, u8); 1 << SHORT] = short_codes();

/// By the next [`WIDE`] bits.
static STEPS: [Step; 1 << WIDE] = steps();

/// The one or two symbols that some bits begin with.
#[derive(Clone, Copy)]
struct Step {
    symbols: [u8; 2],
    count: u8,
    /// Bits of their codes; 0 if the first code is longer than what was looked at.
    bits: u8,
}

const RUNS_AND_SYMBOLS: ([Run; LONGEST + 1], [u8; 256]) = runs();

const fn runs() -> ([Run; LONGEST + 1], [u8; 256]) {
    let mut runs = [Run {
        first: 0,
        count: 0,
        symbols: 0,
    }; LONGEST + 1];
    let mut symbols = [0; 256];
    let (mut placed, mut code, mut len) = (0, 0, 1);
    while len <= LONGEST {
        code <<= 1;
        runs[len].first = code;
        runs[len].symbols = placed;
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == len {
                symbols[placed] = symbol as u8;
                placed += 1;
                code += 1;
            }
            symbol += 1;
        }
        runs[len].count = (placed - runs[len].symbols) as u32;
        len += 1;
    }
    (runs, symbols)
}

const fn short_codes() -> [(u8, u8); 1 << SHORT] {
    let mut codes = [(0, 0); 1 << SHORT];
    let mut len = 1;
    while len <= SHORT as usize {
        let run = RUNS_AND_SYMBOLS.0[len];
        let mut nth = 0;
        while nth < run.count {
            let spare = SHORT - len as u32;
            let begin = (run.first + nth) << spare;
            let mut rest = 0;
            while rest < 1 << spare {
                let symbol = RUNS_AND_SYMBOLS.1[run.symbols + nth as usize];
                codes[(begin + rest) as usize] = (symbol, len as u8);
                rest += 1;
            }
            nth += 1;
        }
        len += 1;
    }
    codes
}

const fn steps() -> [Step; 1 << WIDE] {
    let none = Step {
        symbols: [0; 2],
        count: 0,
        bits: 0,
    };
    let mut steps = [none; 1 << WIDE];
    let mut looked = 0;
    while looked < 1 << WIDE {
        let mut step = none;
        let (symbol, len) = code_in(looked as u32, WIDE);
        if len > 0 {
            let left = WIDE - len;
            let (second, more) = code_in(looked as u32 & ((1 << left) - 1), left);
            step = Step {
                symbols: [symbol, second],
                count: if more > 0 { 2 } else { 1 },
                bits: (len + more) as u8,
            };
        }
        steps[looked] = step;
        looked += 1;
    }
    steps
}

/// The symbol whose code so many bits begin with, and its length; 0 if they are too few.
const fn code_in(bits: u32, count: u32) -> (u8, u32) {
    let mut len = 1;
    while len <= count {
        let run = RUNS_AND_SYMBOLS.0[len as usize];
        let code = bits >> (count - len);
        if code >= run.first && code < run.first + run.count {
            let symbol = RUNS_AND_SYMBOLS.1[run.symbols + (code - run.first) as usize];
            return (symbol, len);
        }
        len += 1;
    }
    (0, 0)
}

/// The bytes are not of this code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Decodes a whole string, and appends it.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    // The shortest code has 5 bits, and both symbols of a step are written, be there one or two.
    let mut at = out.len();
    out.resize(at + bytes.len() * 8 / 5 + 2, 0);
    let mut rest = bytes;
    // The next bits, from the upper end on.
    let mut bits: u64 = 0;
    let mut count: u32 = 0;
    loop {
        // As many as the longest code has.
        if count < u32::BITS {
            let Some((word, behind)) = rest.split_first_chunk() else {
                break;
            };
            bits |= u64::from(u32::from_be_bytes(*word)) << (u32::BITS - count);
            count += u32::BITS;
            rest = behind;
        }
        let step = Step::of(bits).ok_or(Malformed)?;
        at += step.write(at, out);
        bits <<= step.bits;
        count -= u32::from(step.bits);
    }
    // Three bytes at most, for which there is room.
    for byte in rest {
        bits |= u64::from(*byte) << (u64::BITS - u8::BITS - count);
        count += u8::BITS;
    }
    // What the string is filled up with are the first bits of the end-of-string symbol: ones. So are these.
    bits |= u64::MAX.unbounded_shr(count);
    while count >= WIDE
        && let Some(step) = Step::of(bits).filter(|step| u32::from(step.bits) <= count)
    {
        at += step.write(at, out);
        bits = !(!bits << step.bits);
        count -= u32::from(step.bits);
    }
    while let Some((symbol, len)) = next(bits).filter(|(_, len)| *len <= count) {
        at += Step::one(symbol, len).write(at, out);
        bits = !(!bits << len);
        count -= len;
    }
    out.truncate(at);
    filled(bits, count)
}

impl Step {
    /// What 64 bits begin with; `None` for the end-of-string symbol.
    fn of(bits: u64) -> Option<Self> {
        let step = *STEPS.get((bits >> (u64::BITS - WIDE)) as usize)?;
        if step.bits > 0 {
            return Some(step);
        }
        next(bits).map(|(symbol, len)| Self::one(symbol, len))
    }

    fn one(symbol: u8, len: u32) -> Self {
        Self {
            symbols: [symbol, 0],
            count: 1,
            bits: len as u8,
        }
    }

    /// Writes the symbols at a place, with what is written over by the next ones; gives how many they are.
    fn write(self, at: usize, out: &mut [u8]) -> usize {
        if let Some(place) = out.get_mut(at..at + 2) {
            place.copy_from_slice(&self.symbols);
        }
        usize::from(self.count)
    }
}

/// The first symbol of 64 bits, and its length; `None` for the end-of-string symbol.
fn next(bits: u64) -> Option<(u8, u32)> {
    let (symbol, len) = *SHORT_CODES.get((bits >> (64 - SHORT)) as usize)?;
    if len > 0 {
        return Some((symbol, len.into()));
    }
    for (len, run) in (0..).zip(&RUNS).skip(SHORT as usize + 1) {
        let code = (bits >> (64 - len)) as u32;
        if let Some(nth) = code.checked_sub(run.first).filter(|nth| *nth < run.count) {
            return Some((*SYMBOLS.get(run.symbols + nth as usize)?, len));
        }
    }
    None
}

/// Whether what is left is a filling: fewer than eight bits, all ones. Behind them, there are ones anyway.
fn filled(bits: u64, count: u32) -> Result<(), Malformed> {
    if count < u8::BITS && bits == u64::MAX {
        Ok(())
    } else {
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Result<String, Malformed> {
        let mut out = Vec::new();
        decode(bytes, &mut out).map(|()| String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn the_lengths_fill_the_code() {
        let sum: u64 = LENGTHS
            .iter()
            .map(|len| 1_u64 << (LONGEST - usize::from(*len)))
            .sum();
        // The one code that is left is that of the end-of-string symbol.
        assert_eq!(sum + 1, 1 << LONGEST);
    }

    /// RFC 7541, appendix C.4 and C.6.
    #[test]
    fn strings_of_the_rfc() {
        let whole = [
            (
                &b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..],
                "www.example.com",
            ),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value"),
            (b"\x64\x02", "302"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (b"", ""),
        ];
        for (bytes, text) in whole {
            assert_eq!(decoded(bytes).as_deref(), Ok(text));
        }
    }

    #[test]
    fn filled_up_with_anything_but_a_few_ones() {
        // `0` is 00000; what follows is to be ones, and fewer than eight.
        assert_eq!(decoded(&[0b0000_0111]).as_deref(), Ok("0"));
        assert_eq!(decoded(&[0b0000_0110]), Err(Malformed));
        assert_eq!(decoded(&[0b0000_0111, 0xff]), Err(Malformed));
        assert_eq!(decoded(&[0xff; 4]), Err(Malformed));
        assert_eq!(decoded(&[0xff; 1]), Err(Malformed));
    }

    #[test]
    fn every_two_bytes_come_back_in_the_middle_of_a_string() {
        let codes = || {
            RUNS.iter().zip(0_u32..).flat_map(|(run, len)| {
                (0..run.count).map(move |nth| {
                    let symbol = SYMBOLS[run.symbols + nth as usize];
                    (symbol, u128::from(run.first + nth), len)
                })
            })
        };
        for (first, first_code, first_len) in codes() {
            for (second, second_code, second_len) in codes() {
                let pair = (first_code << second_len) | second_code;
                let len = first_len + second_len;
                // As many zeros, each of which is five zero bits, as it takes for bytes to be whole.
                let zeros = (0..8).find(|zeros| (len + 5 * zeros) % 8 == 0).unwrap();
                let whole = (len + 5 * zeros) as usize / 8;
                let mut string = (pair << (5 * zeros)).to_be_bytes()[16 - whole..].to_vec();
                string.extend([0; 5]);
                let mut expected = vec![first, second];
                expected.extend(std::iter::repeat_n(b'0', zeros as usize + 8));
                let mut out = Vec::new();
                assert_eq!(decode(&string, &mut out), Ok(()), "{first} {second}");
                assert_eq!(out, expected);
            }
        }
    }

    #[test]
    fn every_byte_comes_back() {
        for (len, run) in (0_u32..).zip(&RUNS) {
            for nth in 0..run.count {
                let code = u64::from(run.first + nth) << (64 - len) | u64::MAX.unbounded_shr(len);
                let bytes = code.to_be_bytes();
                let symbol = SYMBOLS[run.symbols + nth as usize];
                let mut out = Vec::new();
                assert_eq!(
                    decode(&bytes[..len.div_ceil(8) as usize], &mut out),
                    Ok(()),
                    "{symbol}"
                );
                assert_eq!(out, [symbol]);
            }
        }
    }
}
