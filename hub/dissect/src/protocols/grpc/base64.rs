//! Base64 that comes in pieces, each of which may be filled up, as gRPC-Web's text has it.

/// What is left over between two calls.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    bits: u32,
    /// Digits that are in `bits`.
    digits: u8,
    /// Signs that fill up the last group.
    filling: u8,
}

impl Decoder {
    /// Decodes text into a buffer that has as much room; `None` if it is none.
    pub fn decode<'b>(&mut self, text: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let mut len = 0;
        for sign in text {
            let digit = match sign {
                b'A'..=b'Z' => sign - b'A',
                b'a'..=b'z' => sign - b'a' + 26,
                b'0'..=b'9' => sign - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                b'=' => {
                    self.filling += 1;
                    0
                }
                b'\r' | b'\n' => continue,
                _ => return None,
            };
            if self.filling > 0 && *sign != b'=' {
                return None;
            }
            self.bits = self.bits << 6 | u32::from(digit);
            self.digits += 1;
            if self.digits == 4 {
                let bytes = self.bits.to_be_bytes();
                // 24 bits, less those of the filling.
                let whole = 3_usize.checked_sub(self.filling.into())?;
                let group = bytes.get(1..=whole)?;
                buffer.get_mut(len..len + whole)?.copy_from_slice(group);
                len += whole;
                *self = Self::default();
            }
        }
        buffer.get(..len)
    }
}
