//! What the wire tells of a message: numbers of fields, and how long their values are.

use crate::limits::PROTOBUF_DEPTH;

/// A value, as the wire has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Raw<'b> {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    /// A text, bytes, a message, or a packed list.
    Bytes(&'b [u8]),
    /// The fields between a group's begin and its end.
    Group(&'b [u8]),
}

/// What is left of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    /// At the begin of a message.
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all of it was read.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field; `None` where there is none that is whole.
    pub fn field(&mut self) -> Option<(u32, Raw<'b>)> {
        let tag = u32::try_from(self.varint()?).ok()?;
        let number = tag >> 3;
        let value = match tag & 7 {
            _ if number == 0 => return None,
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(u64::from_le_bytes(*self.chunk()?)),
            2 => Raw::Bytes(self.bytes()?),
            3 => Raw::Group(self.group(number)?),
            5 => Raw::Fixed32(u32::from_le_bytes(*self.chunk()?)),
            _ => return None,
        };
        Some((number, value))
    }

    /// Seven bits a byte, lowest first, at most ten bytes.
    pub fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// So many bytes.
    pub fn chunk<const N: usize>(&mut self) -> Option<&'b [u8; N]> {
        let (chunk, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(chunk)
    }

    /// As many bytes as a number before them says.
    fn bytes(&mut self) -> Option<&'b [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    /// The fields up to the end of a group. Groups inside it are passed over, not read twice.
    fn group(&mut self, number: u32) -> Option<&'b [u8]> {
        let whole = self.rest;
        let mut open = vec![number];
        while let Some(innermost) = open.last() {
            let before = self.rest.len();
            let tag = u32::try_from(self.varint()?).ok()?;
            match tag & 7 {
                0 => drop(self.varint()?),
                1 => drop(self.chunk::<8>()?),
                2 => drop(self.bytes()?),
                3 if open.len() < PROTOBUF_DEPTH => open.push(tag >> 3),
                4 if tag >> 3 == *innermost => {
                    open.pop();
                    if open.is_empty() {
                        return whole.get(..whole.len() - before);
                    }
                }
                5 => drop(self.chunk::<4>()?),
                _ => return None,
            }
        }
        None
    }
}
