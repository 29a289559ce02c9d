//! HPACK (RFC 7541), for a reader who may come late.
//!
//! A decoder that begins in the middle of a connection does not know what was inserted into the dynamic table before. A
//! stock decoder stops at the first index that it does not know, misses the insertions behind it, and from then on takes
//! indexes for other fields than they mean. This one goes on: what it cannot know is unresolved, and all else is right.

mod huffman;

mod table;

use table::{Dynamic, Entry, Looked};

/// Most bytes of an integer's continuation: five hold 35 bits, more than any length or index has.
const INTEGER_BYTES: u32 = 5;

/// The decoder of one direction.
#[derive(Debug)]
pub(super) struct Decoder {
    table: Dynamic,
    /// Room for a name and a value that are taken out of their code.
    room: (Vec<u8>, Vec<u8>),
}

/// Most room that is kept from one block to the next: enough for nearly every text.
const ROOM: usize = 512;

/// One field of a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    /// It is known.
    Known {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// There is one, but what it is was said before we came.
    Unresolved,
}

/// The block is not HPACK from somewhere on. A peer would give up the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Decoder {
    /// Begins with an empty table, at the begin of a connection.
    pub fn new() -> Self {
        Self {
            table: Dynamic::new(),
            room: Default::default(),
        }
    }

    /// Begins with a table of which nothing is known: header blocks may have been missed.
    pub fn unknown() -> Self {
        Self {
            table: Dynamic::unknown(),
            room: Default::default(),
        }
    }

    /// Decodes a header block, or as much of one as is there. Fields before a malformed one are right.
    pub fn decode(&mut self, block: &[u8], take: &mut impl FnMut(Field<'_>)) -> Result<(), Malformed> {
        let mut room = std::mem::take(&mut self.room);
        let decoded = self.decode_in(&mut room, block, take);
        for room in [&mut room.0, &mut room.1] {
            room.clear();
            room.shrink_to(ROOM);
        }
        self.room = room;
        decoded
    }

    fn decode_in(
        &mut self,
        (name, value): &mut (Vec<u8>, Vec<u8>),
        block: &[u8],
        take: &mut impl FnMut(Field<'_>),
    ) -> Result<(), Malformed> {
        let mut rest = Reader { bytes: block };
        while let Some(&first) = rest.bytes.first() {
            if first & 0x80 != 0 {
                // 6.1: a whole field by its index.
                let index = rest.integer(7)?;
                match self.table.look_up(index) {
                    Looked::Nothing => return Err(Malformed),
                    Looked::Up(Some(name), Some(value)) => take(Field::Known { name, value }),
                    Looked::Up(..) => take(Field::Unresolved),
                }
                continue;
            }
            if first & 0xe0 == 0x20 {
                // 6.3: the table's size.
                let size = rest.integer(5)?;
                self.table.resize(size);
                continue;
            }
            // 6.2: a literal, to be inserted or not.
            let inserted = first & 0x40 != 0;
            let index = rest.integer(if inserted { 6 } else { 4 })?;
            name.clear();
            value.clear();
            let literal_name = if index == 0 {
                Some(rest.string(name)?)
            } else {
                None
            };
            let value = rest.string(value)?;
            let name = match literal_name {
                Some(name) => Some(name),
                None => match self.table.look_up(index) {
                    Looked::Up(name, _) => name,
                    Looked::Nothing => return Err(Malformed),
                },
            };
            take(match name {
                Some(name) => Field::Known { name, value },
                None => Field::Unresolved,
            });
            if inserted {
                let entry = Entry::new(name, value);
                self.table.insert(entry);
            }
        }
        Ok(())
    }

    /// Takes the number of entries that were let go although they may be referred to again.
    pub fn take_dropped(&mut self) -> u64 {
        self.table.take_dropped()
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        self.table.memory() + self.room.0.capacity() + self.room.1.capacity()
    }
}

/// What is left of a block.
struct Reader<'b> {
    bytes: &'b [u8],
}

impl<'b> Reader<'b> {
    /// An integer whose first byte gives it so many bits (RFC 7541, section 5.1).
    fn integer(&mut self, prefix: u32) -> Result<usize, Malformed> {
        let (first, rest) = self.bytes.split_first().ok_or(Malformed)?;
        self.bytes = rest;
        let mask = (1_u64 << prefix) - 1;
        let mut number = u64::from(*first) & mask;
        if number == mask {
            let mut shift = 0;
            loop {
                let (byte, rest) = self.bytes.split_first().ok_or(Malformed)?;
                self.bytes = rest;
                if shift >= 7 * INTEGER_BYTES {
                    return Err(Malformed);
                }
                number += u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
        }
        usize::try_from(number).map_err(|_| Malformed)
    }

    /// A string (RFC 7541, section 5.2), in the block or decoded into `buffer`, which is empty.
    fn string<'s>(&mut self, buffer: &'s mut Vec<u8>) -> Result<&'s [u8], Malformed>
    where
        'b: 's,
    {
        let huffman = self.bytes.first().is_some_and(|first| first & 0x80 != 0);
        let len = self.integer(7)?;
        let (text, rest) = self.bytes.split_at_checked(len).ok_or(Malformed)?;
        self.bytes = rest;
        if !huffman {
            return Ok(text);
        }
        huffman::decode(text, buffer).map_err(|huffman::Malformed| Malformed)?;
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests;
