//! Numbers and names, as they stand in a message (RFC 1035, section 4.1).

/// Reads a message from some place on. Everything gives `None` at the end of the bytes.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    /// The whole message: compressed names point back into it.
    message: &'a [u8],
    at: usize,
}

/// Labels of a name, the root's excluded: more do not fit into 255 bytes (RFC 1035, section 3.1).
const LABELS: usize = 127;

/// Bytes of most names' text.
const NAME_GUESS: usize = 48;

/// Bytes of a name (RFC 1035, section 2.3.4).
const NAME_BYTES: usize = 255;

impl<'a> Reader<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Self { message, at: 0 }
    }

    /// Bytes that are left.
    pub fn rest(&self) -> &'a [u8] {
        self.message.get(self.at..).unwrap_or_default()
    }

    /// The next bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let bytes = self.message.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(bytes)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(*self.take(4)?.first_chunk()?))
    }

    /// The next `len` bytes, to be read by themselves; names in them may point back into the message.
    pub fn part(&mut self, len: usize) -> Option<Self> {
        let start = self.at;
        self.take(len)?;
        Some(Self {
            message: self.message.get(..self.at)?,
            at: start,
        })
    }

    /// Whether the next name, which is whole, is the same as another one of the message. Mostly they are at one place.
    pub fn is_same_name(&self, other: &Self) -> bool {
        if self.place() == other.place() {
            return true;
        }
        let (mut own, mut others) = (*self, *other);
        match (own.name(), others.name()) {
            (Some(own), Some(other)) => own.eq_ignore_ascii_case(&other),
            _ => false,
        }
    }

    /// Where the next name's first label is.
    fn place(&self) -> usize {
        match self.rest() {
            [upper, lower, ..] if *upper >= 0xc0 => usize::from(upper & 0x3f) << 8 | usize::from(*lower),
            _ => self.at,
        }
    }

    /// Passes over a name.
    pub fn skip_name(&mut self) -> Option<()> {
        self.labels(|_| {})
    }

    /// The next name as text, without the last dot; the root is `.`. Bytes that would not be read back as they are, are
    /// written as RFC 1035, section 5.1 has it.
    pub fn name(&mut self) -> Option<String> {
        let mut text = Vec::with_capacity(NAME_GUESS);
        self.labels(|label| {
            if !text.is_empty() {
                text.push(b'.');
            }
            if label.iter().fold(true, |plain, byte| plain & is_plain(byte)) {
                text.extend_from_slice(label);
            } else {
                let mut escaped = String::new();
                label
                    .iter()
                    .for_each(|byte| push_byte(&mut escaped, *byte, b".\\"));
                text.extend_from_slice(escaped.as_bytes());
            }
        })?;
        if text.is_empty() {
            text.push(b'.');
        }
        // What is plain is ASCII, and so is what is escaped.
        String::from_utf8(text).ok()
    }

    /// Hands over the labels of the next name. A pointer has to point before the labels it ends, so none is met twice.
    fn labels(&mut self, mut take: impl FnMut(&'a [u8])) -> Option<()> {
        let mut reader = *self;
        // Where the labels begin that are being read.
        let mut begin = self.at;
        let mut behind = None;
        let mut bytes = 0;
        for _ in 0..=LABELS {
            let len = reader.u8()?;
            match len >> 6 {
                0 if len == 0 => {
                    self.at = behind.unwrap_or(reader.at);
                    return Some(());
                }
                0 => {
                    bytes += usize::from(len) + 1;
                    if bytes >= NAME_BYTES {
                        return None;
                    }
                    take(reader.take(usize::from(len))?);
                }
                3 => {
                    let target = usize::from(len & 0x3f) << 8 | usize::from(reader.u8()?);
                    if target >= begin {
                        return None;
                    }
                    behind = behind.or(Some(reader.at));
                    begin = target;
                    reader.at = target;
                }
                // Extended labels (RFC 6891, section 5) have never been used.
                _ => return None,
            }
        }
        None
    }
}

/// Whether a byte of a label is shown as it is, wherever it stands.
fn is_plain(byte: &u8) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            plain[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'_');
            byte += 1;
        }
        plain
    };
    PLAIN.get(usize::from(*byte)).copied().unwrap_or_default()
}

/// Appends a byte as itself if it can be shown, else as `\DDD`; those in `special` with a backslash.
pub(super) fn push_byte(text: &mut String, byte: u8, special: &[u8]) {
    if special.contains(&byte) {
        text.push('\\');
        text.push(char::from(byte));
    } else if (b' '..=b'~').contains(&byte) {
        text.push(char::from(byte));
    } else {
        text.push_str(&format!("\\{byte:03}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(message: &[u8], at: usize) -> Option<(String, usize)> {
        let mut reader = Reader { message, at };
        let name = reader.name()?;
        Some((name, reader.at))
    }

    #[test]
    fn names_with_and_without_pointers() {
        let message = b"\x03www\x07example\x03com\0\x04mail\xc0\x04\xc0\x11\0";
        assert_eq!(name(message, 0), Some(("www.example.com".to_owned(), 17)));
        assert_eq!(name(message, 17), Some(("mail.example.com".to_owned(), 24)));
        assert_eq!(name(message, 24), Some(("mail.example.com".to_owned(), 26)));
        assert_eq!(name(message, 26), Some((".".to_owned(), 27)));
        assert_eq!(name(message, 27), None);
    }

    #[test]
    fn pointers_that_do_not_point_back() {
        assert_eq!(name(b"\xc0\x00", 0), None);
        assert_eq!(name(b"\x01a\xc0\x00", 0), None);
        assert_eq!(name(b"\xc0\x02\xc0\x00", 2), None);
        assert_eq!(name(b"\x01a\xc0\x04\xc0\x00", 4), None);
        assert_eq!(name(b"\xc0\x05\x00", 0), None);
    }

    #[test]
    fn the_longest_name_and_a_longer_one() {
        let label = [b"\x3f".as_slice(), &[b'x'; 63]].concat();
        let longest = [label.repeat(3), b"\x3d".to_vec(), vec![b'y'; 61], vec![0]].concat();
        assert_eq!(longest.len(), 255);
        assert_eq!(
            name(&longest, 0).map(|(name, at)| (name.len(), at)),
            Some((253, 255))
        );
        let longer = [label.repeat(3), b"\x3e".to_vec(), vec![b'y'; 62], vec![0]].concat();
        assert_eq!(name(&longer, 0), None);
        assert_eq!(name(&[b"\x01a".repeat(200), vec![0]].concat(), 0), None);
    }

    #[test]
    fn labels_of_any_bytes() {
        let message = b"\x06a.b\\\x00\xff\0";
        assert_eq!(name(message, 0), Some(("a\\.b\\\\\\000\\255".to_owned(), 8)));
        assert_eq!(name(b"\x40a\0", 0), None);
    }
}
