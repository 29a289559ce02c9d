//! Numbers and vectors, as TLS writes them (RFC 8446, section 3).

/// Reads bytes from their begin on. Everything gives `None` at the end.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn u8(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub fn u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    pub fn u24(&mut self) -> Option<usize> {
        let upper = self.u8()?;
        Some(usize::from(upper) << 16 | usize::from(self.u16()?))
    }

    /// A vector whose length stands in one byte.
    pub fn vector8(&mut self) -> Option<Self> {
        let len = self.u8()?;
        self.take(usize::from(len)).map(Self)
    }

    /// A vector whose length stands in two bytes.
    pub fn vector16(&mut self) -> Option<Self> {
        let len = self.u16()?;
        self.take(usize::from(len)).map(Self)
    }

    /// A vector whose length stands in three bytes.
    pub fn vector24(&mut self) -> Option<Self> {
        let len = self.u24()?;
        self.take(len).map(Self)
    }

    /// All that is left, in numbers of two bytes.
    pub fn numbers(self) -> Vec<u16> {
        self.0
            .as_chunks()
            .0
            .iter()
            .map(|bytes| u16::from_be_bytes(*bytes))
            .collect()
    }
}
