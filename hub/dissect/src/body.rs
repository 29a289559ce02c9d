//! Bodies on demand: a message's bytes put together from its packets again, and its body taken out and inflated.
//!
//! Calls say where their packets are; nobody stores bodies.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use crate::flow::{End, FlowKey};
use crate::limits::{BODY_BYTES, MESSAGE_BYTES, ZSTD_WINDOW_LOG};
use crate::protocols::{Side, http1, http2};
use crate::{Message, Segment};

/// How much of a body is wanted.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Most bytes to give; at most [`BODY_BYTES_MAX`](crate::BODY_BYTES_MAX) count.
    pub bytes: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { bytes: BODY_BYTES }
    }
}

/// A message's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The body, inflated if it could be.
    pub bytes: Vec<u8>,
    /// Content-Encoding as sent; empty if there was none.
    pub encoding: String,
    /// Whether there is more of it than was asked for, or than could be inflated.
    pub truncated: bool,
    /// Bytes of it, as sent, that were not there. Where the length was not told, at least one.
    pub missing: u64,
    /// Whether `bytes` are the content itself; if not, they are still encoded.
    pub decoded: bool,
}

/// What is known of a message whose body is wanted.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// [`Call::version`](crate::Call): it says how the body is framed.
    pub version: &'a str,
    /// Method of the request.
    pub method: Option<&'a str>,
    /// Whether it is the response.
    pub is_response: bool,
    /// The message's Content-Encoding, empty if it has none: HTTP/2 has its header fields in a shape that cannot be read
    /// again without what came before. HTTP/1's are read from its bytes.
    pub encoding: &'a str,
    /// [`Message::body_len`].
    pub body_len: u64,
}

/// Takes the body out of a message that was put together from its packets.
pub fn body_of(bytes: &MessageBytes, about: About<'_>, limits: BodyLimits) -> Body {
    if !is_interleaved(about.version) {
        return read_body(bytes.wire(), about.method, about.is_response, limits);
    }
    let there = http2::Scattered {
        bytes: &bytes.bytes,
        runs: &bytes.runs,
    };
    let body = http2::unframe(&there, about.body_len);
    decode(
        http1::Content {
            missing: about.body_len.saturating_sub(body.len() as u64),
            bytes: body,
            codings: about
                .encoding
                .split(',')
                .map(|coding| coding.trim().to_owned())
                .collect(),
        },
        limits,
    )
}

/// Whether between the parts of a message lie those of others.
fn is_interleaved(version: &str) -> bool {
    version == "HTTP/2"
}

/// Takes the body out of an HTTP/1 message's bytes: takes the chunks apart and inflates gzip, deflate, br and zstd.
///
/// `request_method` is that of the request which a response answers: the response to a HEAD has no body. What is given
/// is bounded by `limits`, and so is the work: a body that inflates to gigabytes costs no more than its first bytes.
pub fn read_body(wire: &[u8], request_method: Option<&str>, is_response: bool, limits: BodyLimits) -> Body {
    let side = if is_response { Side::Server } else { Side::Client };
    let Some(content) = http1::unframe(wire, side, request_method) else {
        return Body::default();
    };
    decode(content, limits)
}

/// Undoes the codings of a body.
fn decode(content: http1::Content, limits: BodyLimits) -> Body {
    let most = limits.bytes.min(crate::BODY_BYTES_MAX);
    let mut body = Body {
        bytes: content.bytes,
        encoding: content.codings.join(", "),
        truncated: false,
        missing: content.missing,
        decoded: true,
    };
    // The last coding was applied last. Each but the last to be undone may be as large as a body can be.
    let mut codings: Vec<&str> = content.codings.iter().map(|coding| coding.trim()).collect();
    codings.retain(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"));
    while let Some(coding) = codings.pop() {
        let most = if codings.is_empty() {
            most
        } else {
            crate::BODY_BYTES_MAX
        };
        let Some((bytes, truncated)) = inflate(coding, &body.bytes, most) else {
            body.decoded = false;
            break;
        };
        body.bytes = bytes;
        body.truncated |= truncated;
    }
    if body.bytes.len() > most {
        body.bytes.truncate(most);
        body.truncated = true;
    }
    body
}

/// Inflates at most so many bytes; says whether there is more, or would be if the input were whole. `None` when the
/// coding is not known or nothing comes of it.
pub(crate) fn inflate(coding: &str, bytes: &[u8], most: usize) -> Option<(Vec<u8>, bool)> {
    let inflated = match coding.to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => read_capped(flate2::bufread::MultiGzDecoder::new(bytes), most),
        // RFC 9110 means zlib's format; some send the bare stream (section 8.4.1.2).
        "deflate" => match read_capped(flate2::bufread::ZlibDecoder::new(bytes), most) {
            (inflated, true) if inflated.is_empty() => {
                read_capped(flate2::bufread::DeflateDecoder::new(bytes), most)
            }
            zlib => zlib,
        },
        "br" => read_capped(brotli_decompressor::Decompressor::new(bytes, 4096), most),
        "zstd" => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).ok()?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).ok()?;
            read_capped(decoder, most)
        }
        _ => return None,
    };
    let failed = inflated.0.is_empty() && inflated.1;
    (!failed || bytes.is_empty()).then_some(inflated)
}

/// Reads at most so many bytes; says whether that was not all.
fn read_capped(reader: impl Read, most: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    // One more than wanted tells whether there is more.
    let whole = reader.take(most as u64 + 1).read_to_end(&mut bytes).is_ok();
    let more = bytes.len() > most;
    bytes.truncate(most);
    (bytes, more || !whole)
}

/// The bytes of one message, put together from its packets again: give it the segments of the packets at
/// [`Message::packets`] (of all packets from the first to the last, if the call is marked
/// [`PACKETS_CUT`](crate::Marks::PACKETS_CUT)), in any order.
#[derive(Clone, Debug)]
pub struct MessageBytes {
    flow: FlowKey,
    from: End,
    seq: u32,
    bytes: Vec<u8>,
    /// Runs of bytes that are there: begin and end, in order, not touching.
    runs: Vec<(usize, usize)>,
    wire_len: u64,
    /// Bytes of the stream, from the message's first on, that are kept.
    most: usize,
    /// Whether others' bytes lie between the message's own.
    interleaved: bool,
}

impl MessageBytes {
    /// Begins with nothing. `from` sent the message `to` the other end, in this version of its protocol.
    pub fn new(message: &Message, version: &str, from: SocketAddr, to: SocketAddr) -> Self {
        let (flow, from) = FlowKey::new(key(from), key(to));
        let interleaved = is_interleaved(version);
        let len = usize::try_from(message.wire_len).unwrap_or(MESSAGE_BYTES);
        Self {
            flow,
            from,
            seq: message.seq,
            bytes: Vec::new(),
            runs: Vec::new(),
            wire_len: message.wire_len,
            most: if interleaved {
                MESSAGE_BYTES
            } else {
                len.min(MESSAGE_BYTES)
            },
            interleaved,
        }
    }

    /// Takes what a segment has of the message. Of bytes that come twice, the first copy counts.
    pub fn take(&mut self, segment: &Segment, payload: &[u8]) {
        if segment.flow.anywhere() != self.flow || segment.from.end != self.from {
            return;
        }
        let syn = u32::from(segment.flags.has(crate::Flags::SYN));
        let ahead = segment.seq.wrapping_add(syn).wrapping_sub(self.seq) as i32;
        let (start, payload) = match usize::try_from(ahead) {
            Ok(start) => (start, payload),
            Err(_) => {
                let before = ahead.unsigned_abs() as usize;
                (0, payload.get(before..).unwrap_or_default())
            }
        };
        let end = (start + payload.len()).min(self.most);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let mut at = start;
        while at < end {
            let next = self.runs.iter().find(|(_, run_end)| *run_end > at);
            let (busy, free) = next.copied().unwrap_or((end, end));
            let stop = busy.min(end);
            if let (true, Some(to), Some(from)) = (
                at < stop,
                self.bytes.get_mut(at..stop),
                payload.get(at - start..stop - start),
            ) {
                to.copy_from_slice(from);
                self.add_run(at, stop);
            }
            at = free.max(stop);
        }
    }

    /// Whether nothing is missing. That cannot be told by the bytes if those of others lie between them.
    pub fn is_complete(&self) -> bool {
        !self.interleaved && self.missing() == 0
    }

    /// Bytes of the message that are missing or beyond what is kept; 0 if others' lie between them, where only the body
    /// tells what it misses.
    pub fn missing(&self) -> u64 {
        if self.interleaved {
            return 0;
        }
        let there: usize = self.runs.iter().map(|(start, end)| end - start).sum();
        self.wire_len - there as u64
    }

    /// The message's bytes up to the first that is missing.
    pub fn wire(&self) -> &[u8] {
        match self.runs.first() {
            Some((0, end)) => self.bytes.get(..*end).unwrap_or_default(),
            _ => &[],
        }
    }

    fn add_run(&mut self, start: usize, end: usize) {
        let at = self.runs.partition_point(|(_, run_end)| *run_end < start);
        let touched = self
            .runs
            .iter()
            .skip(at)
            .take_while(|(run_start, _)| *run_start <= end)
            .count();
        let touching = self.runs.iter().skip(at).take(touched);
        let (start, end) = touching.fold((start, end), |run, other| {
            (run.0.min(other.0), run.1.max(other.1))
        });
        self.runs.splice(at..at + touched, [(start, end)]);
    }
}

fn key(address: SocketAddr) -> ([u8; 16], u16) {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    (octets, address.port())
}
