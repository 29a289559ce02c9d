//! A message's content, out of its bytes: for bodies on demand.

use super::body::{Framing, chunk_size};
use super::parse::{Head, Line};
use crate::limits::CHUNK_LINE;
use crate::protocols::Side;

/// A message's content, with its framing taken off.
pub(crate) struct Content {
    /// The body as far as it is there, still in its codings.
    pub bytes: Vec<u8>,
    /// Codings in the order in which they were applied, those of the transfer last.
    pub codings: Vec<String>,
    /// Bytes of the body that are not there.
    pub missing: u64,
}

/// Takes the framing off a message; `None` if its head is not whole.
pub(crate) fn unframe(wire: &[u8], from: Side, request_method: Option<&str>) -> Option<Content> {
    let head = Head::parse(from, wire).ok()??;
    let bodiless = match head.line {
        Line::Request { .. } => false,
        Line::Response { status } => {
            request_method == Some("HEAD") || status < 200 || matches!(status, 204 | 304)
        }
    };
    let mut content = Content {
        bytes: Vec::new(),
        codings: Vec::new(),
        missing: 0,
    };
    for name in ["content-encoding", "transfer-encoding"] {
        let fields = head
            .headers
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let codings = fields.flat_map(|(_, value)| value.split(',')).map(str::trim);
        content.codings.extend(
            codings
                .filter(|coding| !coding.eq_ignore_ascii_case("chunked"))
                .map(str::to_owned),
        );
    }
    let rest = wire.get(head.len..).unwrap_or_default();
    match head.framing {
        _ if bodiless => {}
        Framing::None => {}
        Framing::UntilClose => content.bytes = rest.to_vec(),
        Framing::Length(len) => {
            let there = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
            content.bytes = rest.get(..there).unwrap_or_default().to_vec();
            content.missing = len - there as u64;
        }
        Framing::Chunked => {
            let whole = dechunk(rest, &mut content.bytes);
            content.missing = u64::from(!whole);
        }
    }
    Some(content)
}

/// Takes chunks apart; whether the last one was there.
fn dechunk(mut rest: &[u8], content: &mut Vec<u8>) -> bool {
    loop {
        let Some(line_end) = rest.iter().take(CHUNK_LINE).position(|byte| *byte == b'\n') else {
            return false;
        };
        let (line, behind) = rest.split_at(line_end + 1);
        let Some(size) = chunk_size(line) else {
            return false;
        };
        if size == 0 {
            return true;
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some(data) = behind.get(..size) else {
            content.extend_from_slice(behind);
            return false;
        };
        content.extend_from_slice(data);
        rest = behind.get(size..).unwrap_or_default();
        rest = rest.strip_prefix(b"\r").unwrap_or(rest);
        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
}
