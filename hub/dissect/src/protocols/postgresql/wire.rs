//! Messages, version 3.0 of the protocol: a type, a length that counts itself, and fields.

/// The fields of a message, one after the other. What is not there is `None`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields in these bytes.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Two bytes.
    pub fn short(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    /// Four bytes.
    pub fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    /// A text that ends with a zero.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = rest.get(1..)?;
        Some(text)
    }

    /// Passes over bytes.
    pub fn skip(&mut self, len: usize) -> Option<()> {
        self.0 = self.0.get(len..)?;
        Some(())
    }

    /// All that is left.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// The first message: its type and the length of its content. The type is 0 where a connection starts: those messages
/// have none, and lengths whose first byte is always 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: u8,
    /// Bytes before the content.
    pub head: usize,
    pub content: usize,
}

impl Header {
    /// Whether a message can be so long. Servers and clients take 1 GiB (`PQ_LARGE_MESSAGE_LIMIT`), and 10,000 bytes
    /// where a connection starts (`MAX_STARTUP_PACKET_LENGTH`).
    pub fn is_sane(&self) -> bool {
        match self.kind {
            0 => (4..10_000).contains(&self.content),
            _ => self.content < 1 << 30,
        }
    }
}

/// The head of the first message, if it is all there and no contradiction.
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    let mut fields = Fields::of(bytes);
    let (kind, head) = match bytes.first() {
        Some(0) => (0, 4),
        _ => (fields.byte()?, 5),
    };
    let len = usize::try_from(fields.number()?).ok()?;
    Some(Header {
        kind,
        head,
        content: len.checked_sub(4)?,
    })
}

/// Bytes that a header has at most.
pub(super) const HEADER_BYTES: usize = 5;

/// What a connection starts with, instead of a version: a cancellation, or a wish to be encrypted.
pub(super) const CANCEL: u32 = 80_877_102;
/// See [`CANCEL`].
pub(super) const SSL: u32 = 80_877_103;
/// See [`CANCEL`].
pub(super) const GSSENC: u32 = 80_877_104;
/// The version's upper half.
pub(super) const MAJOR: u32 = 3;
