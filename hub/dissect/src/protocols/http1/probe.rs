//! What looks like HTTP/1.

use std::ops::RangeInclusive;

use crate::limits::PROBE_BYTES;

/// What looks like the begin of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Yes,
    /// So far; there are too few bytes to say.
    Maybe,
    No,
}

/// Methods by which a request is recognised before its first line is whole: RFC 9110, WebDAV (RFC 4918, 3253, 5323,
/// 5842), RFC 5789, and the ones that caches and SSDP use. In a connection that is known to be HTTP, any token is one.
const METHODS: &[&[u8]] = &[
    b"GET",
    b"POST",
    b"PUT",
    b"HEAD",
    b"DELETE",
    b"PATCH",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"SEARCH",
    b"REPORT",
    b"MKACTIVITY",
    b"CHECKOUT",
    b"MERGE",
    b"PURGE",
    b"NOTIFY",
    b"SUBSCRIBE",
    b"UNSUBSCRIBE",
    b"M-SEARCH",
    b"BIND",
    b"REBIND",
    b"UNBIND",
    b"ACL",
    b"LINK",
    b"UNLINK",
    b"SOURCE",
];

/// The shortest and the longest method that recognition takes from a line that is whole: a late join may see the end
/// of a line only.
const METHOD_BYTES: RangeInclusive<usize> = 3..=32;

/// Whether bytes begin a request.
pub(super) fn is_request(bytes: &[u8]) -> Found {
    // Line ends before a request are ignored (RFC 9112, section 2.2).
    let blank = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    let bytes = bytes.get(blank..).unwrap_or_default();
    let Some(space) = bytes
        .iter()
        .take(METHOD_BYTES.end() + 1)
        .position(|byte| *byte == b' ')
    else {
        let begins = bytes.len() <= *METHOD_BYTES.end() && bytes.iter().all(is_token);
        return if begins { Found::Maybe } else { Found::No };
    };
    let (method, target) = bytes.split_at(space);
    if !METHOD_BYTES.contains(&method.len()) || !method.iter().all(is_token) {
        return Found::No;
    }
    let target = target.get(1..).unwrap_or_default();
    let line = target
        .iter()
        .position(|byte| *byte == b'\n')
        .map(|len| target.get(..len).unwrap_or_default());
    if let Some(line) = line {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let whole = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
        return if whole { Found::Yes } else { Found::No };
    }
    let known = METHODS.contains(&method);
    let usual = target.starts_with(b"/") || target.starts_with(b"http://") || target.starts_with(b"https://");
    if target.len() > PROBE_BYTES || target.iter().any(|byte| *byte < b' ' && *byte != b'\r') {
        Found::No
    } else if known && usual {
        Found::Yes
    } else {
        Found::Maybe
    }
}

/// Whether a byte may be one of a method, as all that are in use are written.
fn is_token(byte: &u8) -> bool {
    byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')
}

/// Whether bytes begin a response.
pub(super) fn is_response(bytes: &[u8]) -> Found {
    const PATTERN: &[u8; 12] = b"HTTP/1.v ddd";
    let fits = bytes.iter().zip(PATTERN).all(|(byte, expected)| match expected {
        b'v' => matches!(byte, b'0' | b'1'),
        b'd' => byte.is_ascii_digit(),
        expected => byte == expected,
    });
    match (fits, bytes.len() >= PATTERN.len()) {
        (false, _) => Found::No,
        (true, false) => Found::Maybe,
        (true, true) => Found::Yes,
    }
}
