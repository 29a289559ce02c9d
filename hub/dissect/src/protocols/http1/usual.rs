//! Heads as nearly all of them are written, read in one pass. Whatever is unusual about a head is left to `httparse`, which
//! makes the same of the usual ones.

use crate::call::Field;
use crate::limits::HEADERS;
use crate::protocols::Side;

/// A usual head: printable ASCII, and every line ends with CRLF.
#[derive(Debug)]
pub(super) struct Usual<'h> {
    /// Its bytes.
    pub len: usize,
    pub line: FirstLine<'h>,
    /// Whether its version is 1.0, not 1.1.
    pub old: bool,
    /// Where its fields stand in it.
    pub fields: Vec<Field>,
}

/// Its first line.
#[derive(Debug, PartialEq)]
pub(super) enum FirstLine<'h> {
    Request { method: &'h [u8], target: &'h [u8] },
    Response { status: i32 },
}

/// Fields for which there is room at once: more than most heads have.
const ROOM: usize = 16;

/// Reads a head; `None` when it is not whole, or unusual. Tells each field as it comes.
pub(super) fn read<'h>(
    from: Side,
    bytes: &'h [u8],
    mut tell: impl FnMut(&'h [u8], &'h [u8]),
) -> Option<Usual<'h>> {
    let (line, old, behind) = match from {
        Side::Client => request_line(bytes)?,
        Side::Server => status_line(bytes)?,
    };
    let mut at = bytes.len() - behind.len();
    let mut fields = Vec::with_capacity(ROOM);
    loop {
        let rest = bytes.get(at..)?;
        let name_len = name_len(rest);
        let (name, behind) = rest.split_at_checked(name_len)?;
        if name_len == 0 {
            return behind.starts_with(b"\r\n").then_some(Usual {
                len: at + 2,
                line,
                old,
                fields,
            });
        }
        let (behind, start) = match behind {
            [b':', b' ', behind @ ..] => (behind, at + name_len + 2),
            [b':', behind @ ..] => (behind, at + name_len + 1),
            _ => return None,
        };
        let (value, behind) = behind.split_at_checked(printable::<b' '>(behind))?;
        let blank = matches!(value, [b' ', ..] | [.., b' ']);
        if blank || !behind.starts_with(b"\r\n") || fields.len() >= HEADERS {
            return None;
        }
        fields.push(Field::at(at, name_len, start, value.len()));
        tell(name, value);
        at = start + value.len() + 2;
    }
}

/// A request's line, whether its version is 1.0, and what is behind it.
fn request_line(bytes: &[u8]) -> Option<(FirstLine<'_>, bool, &[u8])> {
    let method_len = bytes.iter().position(|byte| !byte.is_ascii_uppercase())?;
    let (method, rest) = bytes.split_at_checked(method_len)?;
    let rest = rest.strip_prefix(b" ")?;
    let (target, rest) = rest.split_at_checked(printable::<b'!'>(rest))?;
    let (old, rest) = version(rest.strip_prefix(b" ")?)?;
    let line = FirstLine::Request { method, target };
    let usual = !method.is_empty() && !target.is_empty();
    usual.then_some((line, old, rest.strip_prefix(b"\r\n")?))
}

/// The same of a response.
fn status_line(bytes: &[u8]) -> Option<(FirstLine<'_>, bool, &[u8])> {
    let (old, rest) = version(bytes)?;
    let (code, rest) = rest.strip_prefix(b" ")?.split_first_chunk::<3>()?;
    let mut status = 0;
    for digit in code {
        status = status * 10 + i32::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    let rest = match rest.strip_prefix(b" ") {
        Some(reason) => reason.get(printable::<b' '>(reason)..)?,
        None => rest,
    };
    Some((FirstLine::Response { status }, old, rest.strip_prefix(b"\r\n")?))
}

/// Whether a version is 1.0, not 1.1; and what is behind it.
fn version(bytes: &[u8]) -> Option<(bool, &[u8])> {
    let (minor, rest) = bytes.strip_prefix(b"HTTP/1.")?.split_first()?;
    match minor {
        b'0' => Some((true, rest)),
        b'1' => Some((false, rest)),
        _ => None,
    }
}

/// What a field's name is made of (RFC 9110, section 5.6.2).
const TOKEN: [bool; 256] = {
    let mut token = [false; 256];
    let mut byte = 0;
    while byte < token.len() {
        let letter = byte as u8;
        token[byte] = letter.is_ascii_alphanumeric()
            || matches!(
                letter,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    token
};

/// Eight bytes, each of them 1; and each of them 0x80.
const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHEST: u64 = ONES << 7;

/// How many bytes may be of a name. Nearly all are letters and dashes, of which eight are looked at a time.
fn name_len(bytes: &[u8]) -> usize {
    let mut len = 0;
    for word in bytes.as_chunks::<8>().0 {
        let word = u64::from_le_bytes(*word);
        // Without their highest bits no sum of two bytes reaches the next one. A sum has its highest bit if a byte is
        // large enough.
        let low = word & !HIGHEST;
        let letter = low | (ONES * 0x20);
        let from_a = letter + ONES * (0x80 - b'a' as u64);
        let behind_z = letter + ONES * (0x7f - b'z' as u64);
        let no_dash = (low ^ (ONES * b'-' as u64)) + ONES * 0x7f;
        let odd = ((!from_a | behind_z) & no_dash | word) & HIGHEST;
        if odd != 0 {
            len += (odd.trailing_zeros() / 8) as usize;
            break;
        }
        len += 8;
    }
    let rest = bytes.get(len..).unwrap_or_default();
    len + rest.iter().take_while(|byte| TOKEN[usize::from(**byte)]).count()
}

/// How many bytes are ASCII from `LEAST` to the last letter; sixteen of them are looked at a time, then eight.
fn printable<const LEAST: u8>(bytes: &[u8]) -> usize {
    const DELETE: u64 = ONES * 0x7f;
    let usual = |byte: &u8| (LEAST..0x7f).contains(byte);
    // Not `all`, which would look at one after the other.
    let whole = |block: &&[u8; 16]| block.iter().fold(true, |all, byte| all & usual(byte));
    let blocks = bytes.as_chunks().0.iter().take_while(whole).count() * 16;
    let bytes = bytes.get(blocks..).unwrap_or_default();
    let (words, rest) = bytes.as_chunks::<8>();
    for (n, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // A byte's highest bit is set if it is too small, 0x7f or not ASCII: certainly so in the first such byte, whose
        // borrow may reach the ones behind.
        let small = word.wrapping_sub(ONES * LEAST as u64) & !word;
        let delete = (word ^ DELETE).wrapping_sub(ONES) & !(word ^ DELETE);
        let odd = (small | delete | word) & HIGHEST;
        if odd != 0 {
            return blocks + n * 8 + (odd.trailing_zeros() / 8) as usize;
        }
    }
    blocks + bytes.len() - rest.len() + rest.iter().take_while(|byte| usual(byte)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `httparse` makes of a head: its length, its first line, whether it is old, its fields.
    type Made = (usize, (String, String, i32), bool, Vec<(Vec<u8>, Vec<u8>)>);

    fn parsed(from: Side, bytes: &[u8]) -> Option<Made> {
        let mut room = [httparse::EMPTY_HEADER; 64];
        let named = |fields: &[httparse::Header<'_>]| {
            let named = fields
                .iter()
                .map(|field| (field.name.into(), field.value.to_vec()));
            named.collect()
        };
        match from {
            Side::Client => {
                let mut request = httparse::Request::new(&mut room);
                let len = request
                    .parse(bytes)
                    .ok()
                    .filter(|status| status.is_complete())?
                    .unwrap();
                let line = (request.method?.to_owned(), request.path?.to_owned(), 0);
                Some((len, line, request.version? == 0, named(request.headers)))
            }
            Side::Server => {
                let mut response = httparse::Response::new(&mut room);
                let len = response
                    .parse(bytes)
                    .ok()
                    .filter(|status| status.is_complete())?
                    .unwrap();
                let line = (String::new(), String::new(), response.code?.into());
                Some((len, line, response.version? == 0, named(response.headers)))
            }
        }
    }

    fn ours(from: Side, bytes: &[u8]) -> Option<Made> {
        let mut told = Vec::new();
        let head = read(from, bytes, |name, value| {
            told.push((name.to_vec(), value.to_vec()))
        })?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let line = match head.line {
            FirstLine::Request { method, target } => (text(method), text(target), 0),
            FirstLine::Response { status } => (String::new(), String::new(), status),
        };
        let kept = crate::Headers::of_ascii(bytes.get(..head.len).unwrap(), head.fields);
        let kept: Vec<_> = kept.bytes().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        assert_eq!(kept, told);
        Some((head.len, line, head.old, told))
    }

    #[test]
    fn usual_heads() {
        let request = b"GET /a?b HTTP/1.1\r\nHost: x\r\nEmpty:\r\nX-Long: of blanks\r\nX_1-y:z\r\n\r\nbody";
        assert_eq!(ours(Side::Client, request).unwrap().0, request.len() - 4);
        let response = b"HTTP/1.0 404 Not Found\r\n\r\n";
        assert_eq!(ours(Side::Server, response), parsed(Side::Server, response));
        assert!(ours(Side::Server, b"HTTP/1.1 200\r\n\r\n").is_some());
        for unusual in [
            &b"GET / HTTP/1.1\nHost: x\r\n\r\n"[..],
            b"GET  / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost:  x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x \r\n\r\n",
            b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: \xe4\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: \x7f\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\tc\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\r\n",
        ] {
            assert_eq!(ours(Side::Client, unusual), None);
        }
    }

    #[test]
    fn printable_ends_where_it_should() {
        for len in 0..40 {
            for odd in [0_u8, 9, 10, 13, 31, 127, 128, 255] {
                let mut bytes = vec![b'~'; len];
                bytes.push(odd);
                bytes.extend([odd, b' ', b'a', 0, 0, 0, 0, 0]);
                assert_eq!(printable::<b' '>(&bytes), len, "{odd}");
            }
        }
        assert_eq!(printable::<b'!'>(b"/abcdefghijk HTTP"), 12);
    }

    proptest! {
        /// What it takes for usual, `httparse` takes for the same.
        #[test]
        fn as_httparse_has_it(
            lines in prop::collection::vec("[A-Za-z0-9_!-]{1,12}: ?([!-~][ -~]{0,30}[!-~])?", 0..12),
            first in prop::sample::select(vec![
                "GET / HTTP/1.1", "POST /a/b?c=d HTTP/1.0", "HTTP/1.1 200 OK", "HTTP/1.0 301", "HTTP/1.1 503 ",
            ]),
            odd in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = format!("{first}\r\n{}\r\n\r\nrest", lines.join("\r\n")).into_bytes();
            if lines.is_empty() {
                bytes = format!("{first}\r\n\r\nrest").into_bytes();
            }
            if let Some((at, byte)) = odd {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            for from in [Side::Client, Side::Server] {
                if let Some(made) = ours(from, &bytes) {
                    prop_assert_eq!(Some(made), parsed(from, &bytes));
                } else if odd.is_none() && cut.is_none() {
                    prop_assert_eq!(from == Side::Client, first.starts_with("HTTP"));
                }
            }
        }
    }
}
