//! Heads of messages.

use std::mem::MaybeUninit;
use std::ops::RangeInclusive;

use httparse::{ParserConfig, Status};

use super::body::{Body, Doubt, Framing, Then, chunk_size};
use super::pair::Asked;
use super::{Frame, Lane, Start, State};
use crate::Counters;
use crate::call::Headers;
use crate::limits::{CHUNK_LINE, HEAD_BYTES, HEADERS, PROBE_BYTES};
use crate::protocols::{Input, Next, Parsed, Side};

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
        let begins = METHODS.iter().any(|method| method.starts_with(bytes));
        return if begins { Found::Maybe } else { Found::No };
    };
    let (method, target) = bytes.split_at(space);
    let token = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
    if !METHOD_BYTES.contains(&method.len()) || !method.iter().all(token) {
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
    } else if known {
        Found::Maybe
    } else {
        Found::No
    }
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

impl State {
    /// Takes the head of the next message.
    pub(super) fn head(&mut self, input: Input<'_>, counters: &mut Counters) -> Parsed<Frame> {
        let bytes = input.bytes;
        let blank = bytes
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        if blank > 0 {
            // Line ends before a message are ignored (RFC 9112, section 2.2).
            return Parsed::Skip { used: blank };
        }
        let lane = self.lane(input.from);
        if lane.searched > 0 && !has_end(bytes, lane.searched) {
            return lane.more(bytes);
        }
        let head = match Head::parse(input.from, bytes) {
            Ok(Some(head)) => head,
            Ok(None) => return self.lane(input.from).more(bytes),
            Err(Malformed) => {
                self.lane(input.from).searched = 0;
                self.pairing.lost(input.from, input.position);
                return Parsed::Invalid;
            }
        };
        self.lane(input.from).searched = 0;
        counters.headers_cut += u64::from(head.headers_cut);
        if let Line::Response { status } = head.line
            && (100..200).contains(&status)
            && status != 101
        {
            return self.interim(head.len, input.position);
        }
        let len = head.len;
        let (frame, body) = self.begin_message(head, input.position, input.ack);
        let lane = self.lane(input.from);
        lane.message = Some(frame);
        lane.body = body;
        self.body(input, len)
    }

    /// Takes bytes of the message under way, of which the first `head` are its head.
    pub(super) fn body(&mut self, input: Input<'_>, head: usize) -> Parsed<Frame> {
        let lane = self.lane(input.from);
        let Some(message) = &mut lane.message else {
            return Parsed::Invalid;
        };
        let rest = input.bytes.get(head..).unwrap_or_default();
        let taken = lane.body.take(rest, &mut message.headers);
        message.head_len += (head + taken.framing) as u64;
        message.body_len += taken.body as u64;
        let used = head + taken.framing + taken.body;
        match taken.then {
            Then::Ended => match lane.message.take() {
                Some(frame) => Parsed::Frame { used, frame },
                None => Parsed::Invalid,
            },
            Then::On => Parsed::Part { used },
            // The part of a line that is there is asked for again, together with its rest.
            Then::More | Then::Invalid if used > 0 => Parsed::Part { used },
            Then::More => Parsed::More {
                at_least: input.bytes.len() + 1,
            },
            Then::Invalid => {
                message.gap = true;
                let frame = lane.message.take();
                self.pairing.lost(input.from, input.position);
                // The message ends here as far as can be told; what comes is no message.
                match frame {
                    Some(frame) => Parsed::Frame { used: 0, frame },
                    None => Parsed::Invalid,
                }
            }
        }
    }

    /// Makes what can be made of a head whose rest is missing: its first line and the fields that are whole.
    pub(super) fn cut_head(&mut self, from: Side, held: &[u8], end: u64) -> Option<Frame> {
        let lines = held.iter().rposition(|byte| *byte == b'\n')?;
        let mut whole = held.get(..=lines)?.to_vec();
        whole.extend_from_slice(b"\r\n");
        let mut head = Head::parse(from, &whole).ok()??;
        if matches!(head.line, Line::Response { status } if (100..200).contains(&status)) {
            return None;
        }
        head.upgrade = None;
        let start = end.saturating_sub(held.len() as u64);
        let (mut frame, _) = self.begin_message(head, start, u64::MAX);
        frame.head_len = held.len() as u64;
        frame.gap = true;
        Some(frame)
    }

    fn interim(&mut self, len: usize, start: u64) -> Parsed<Frame> {
        let end = start + len as u64;
        let run = match self.server.interim {
            Some((first, last)) if last == start => (first, end),
            _ => (start, end),
        };
        self.server.interim = Some(run);
        Parsed::Skip { used: len }
    }

    /// Notes a message's begin, and finds out how it ends.
    fn begin_message(&mut self, head: Head, start: u64, ack: u64) -> (Frame, Body) {
        let (line, body) = match head.line {
            Line::Request {
                method,
                path,
                query,
                authority,
            } => {
                let asked = Asked {
                    ordinal: 0,
                    start,
                    ack,
                    head: method == "HEAD",
                    connect: method == "CONNECT",
                };
                let ordinal = self.pairing.ask(asked);
                let line = Start::Request {
                    method,
                    path,
                    query,
                    authority,
                    ordinal,
                };
                (line, Body::new(head.framing, Doubt::None))
            }
            Line::Response { status } => {
                let base = match self.server.interim.take() {
                    Some((first, last)) if last == start => first,
                    _ => start,
                };
                let (answers, asked) = self.pairing.answer(base, ack);
                let head_asked = asked.is_some_and(|asked| asked.head);
                let doubt = match answers {
                    Some(_) => Doubt::None,
                    None if head_asked => Doubt::Much,
                    None => Doubt::Some,
                };
                let tunnel = asked.is_some_and(|asked| asked.connect) && (200..300).contains(&status);
                let bodiless = tunnel
                    || (head_asked && answers.is_some())
                    || status == 101
                    || matches!(status, 204 | 304);
                if status == 101 {
                    self.next = Some(Next::Named(head.upgrade.unwrap_or_default()));
                } else if tunnel {
                    self.next = Some(Next::Tunnel);
                }
                let framing = if bodiless { Framing::None } else { head.framing };
                let line = Start::Response {
                    status,
                    answers,
                    base,
                };
                (line, Body::new(framing, doubt))
            }
        };
        let frame = Frame {
            start: line,
            version: head.version,
            headers: head.headers,
            head_len: 0,
            body_len: 0,
            gap: false,
            headers_cut: head.headers_cut,
        };
        (frame, body)
    }

    pub(super) fn lane(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

impl Lane {
    /// A head goes on beyond these bytes.
    fn more(&mut self, bytes: &[u8]) -> Parsed<Frame> {
        self.searched = bytes.len();
        Parsed::More {
            at_least: bytes.len() + 1,
        }
    }
}

/// A head that was parsed.
struct Head {
    /// Its bytes.
    len: usize,
    line: Line,
    version: &'static str,
    headers: Headers,
    headers_cut: bool,
    framing: Framing,
    upgrade: Option<String>,
}

enum Line {
    Request {
        method: String,
        path: String,
        query: String,
        authority: String,
    },
    Response {
        status: i32,
    },
}

/// These bytes are no head.
struct Malformed;

impl Head {
    /// Parses a head; `None` when it is not whole.
    fn parse(from: Side, bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut few = [const { MaybeUninit::uninit() }; 64];
        match Self::parse_with(from, bytes, &mut few) {
            Err(httparse::Error::TooManyHeaders) => {
                // A field takes four bytes at least, its name, colon and line end.
                let mut many = vec![MaybeUninit::uninit(); HEAD_BYTES / 4];
                Self::parse_with(from, bytes, &mut many).map_err(|_| Malformed)
            }
            // Folded lines are obsolete, and the parser knows them in responses only (RFC 9112, section 5.2).
            Err(httparse::Error::HeaderName) if from == Side::Client => match unfold(bytes) {
                Some(unfolded) => {
                    let mut many = vec![MaybeUninit::uninit(); HEAD_BYTES / 4];
                    Self::parse_with(from, &unfolded, &mut many).map_err(|_| Malformed)
                }
                None => Err(Malformed),
            },
            Err(_) => Err(Malformed),
            Ok(head) => Ok(head),
        }
    }

    fn parse_with<'b>(
        from: Side,
        bytes: &'b [u8],
        fields: &mut [MaybeUninit<httparse::Header<'b>>],
    ) -> Result<Option<Self>, httparse::Error> {
        let mut config = ParserConfig::default();
        config
            .allow_multiple_spaces_in_request_line_delimiters(true)
            .allow_multiple_spaces_in_response_status_delimiters(true)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true);
        match from {
            Side::Client => {
                let mut request = httparse::Request::new(&mut []);
                let Status::Complete(len) =
                    config.parse_request_with_uninit_headers(&mut request, bytes, fields)?
                else {
                    return Ok(None);
                };
                let method = request.method.unwrap_or_default().to_owned();
                let host = request
                    .headers
                    .iter()
                    .find(|field| field.name.eq_ignore_ascii_case("host"));
                let host = host.map(|host| String::from_utf8_lossy(host.value.trim_ascii()));
                let target = request.path.unwrap_or_default();
                let (path, query, authority) =
                    split_target(target, &method, host.as_deref().unwrap_or_default());
                let line = Line::Request {
                    method,
                    path: path.to_owned(),
                    query: query.to_owned(),
                    authority: authority.to_owned(),
                };
                Self::new(bytes, len, line, request.version, request.headers)
            }
            Side::Server => {
                let mut response = httparse::Response::new(&mut []);
                let Status::Complete(len) =
                    config.parse_response_with_uninit_headers(&mut response, bytes, fields)?
                else {
                    return Ok(None);
                };
                let line = Line::Response {
                    status: response.code.unwrap_or_default().into(),
                };
                Self::new(bytes, len, line, response.version, response.headers)
            }
        }
    }

    fn new(
        bytes: &[u8],
        len: usize,
        line: Line,
        version: Option<u8>,
        fields: &[httparse::Header<'_>],
    ) -> Result<Option<Self>, httparse::Error> {
        let kept = fields
            .get(..HEADERS)
            .unwrap_or(fields)
            .iter()
            .map(|field| (field.name, field.value));
        let mut head = Self {
            len,
            version: if version == Some(0) {
                "HTTP/1.0"
            } else {
                "HTTP/1.1"
            },
            headers: Headers::of_head(bytes.get(..len).unwrap_or_default(), kept),
            headers_cut: fields.len() > HEADERS,
            framing: Framing::None,
            upgrade: None,
            line,
        };
        let mut length = Length::Absent;
        let mut coding = None;
        for field in fields {
            // The few fields that matter here are told apart by their length first.
            match field.name.len() {
                7 if field.name.eq_ignore_ascii_case("upgrade") => {
                    head.upgrade = Some(String::from_utf8_lossy(field.value.trim_ascii()).into_owned());
                }
                14 if field.name.eq_ignore_ascii_case("content-length") => length = length.and(field.value),
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => coding = Some(field.value),
                _ => {}
            }
        }
        head.framing = framing(&head.line, coding, length).ok_or(httparse::Error::HeaderValue)?;
        Ok(Some(head))
    }
}

/// What the Content-Length fields say together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Absent,
    Known(u64),
    /// Not a number, or two different ones.
    Contradictory,
}

impl Length {
    /// Takes one field, which may hold a list of the same number (RFC 9110, section 8.6).
    fn and(self, value: &[u8]) -> Self {
        let mut length = self;
        for part in value.split(|byte| *byte == b',') {
            let number = std::str::from_utf8(part.trim_ascii())
                .ok()
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse().ok());
            length = match (length, number) {
                (Self::Absent, Some(number)) => Self::Known(number),
                (Self::Known(known), Some(number)) if known == number => length,
                _ => Self::Contradictory,
            };
        }
        length
    }
}

/// How the body is delimited (RFC 9112, section 6.3), as far as its own head says; `None` when it cannot be told.
fn framing(line: &Line, coding: Option<&[u8]>, length: Length) -> Option<Framing> {
    let request = matches!(line, Line::Request { .. });
    if let Some(coding) = coding {
        // Transfer-Encoding overrides Content-Length.
        let last = coding
            .rsplit(|byte| *byte == b',')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        return match (last.eq_ignore_ascii_case(b"chunked"), request) {
            (true, _) => Some(Framing::Chunked),
            (false, true) => None,
            (false, false) => Some(Framing::UntilClose),
        };
    }
    match (length, request) {
        (Length::Known(0), _) => Some(Framing::None),
        (Length::Known(len), _) => Some(Framing::Length(len)),
        (Length::Absent, true) => Some(Framing::None),
        (Length::Contradictory, true) => None,
        (Length::Absent | Length::Contradictory, false) => Some(Framing::UntilClose),
    }
}

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

/// Path, query and authority of a request (RFC 9112, sections 3.2 and 3.3).
fn split_target<'t>(target: &'t str, method: &str, host: &'t str) -> (&'t str, &'t str, &'t str) {
    if method == "CONNECT" {
        return ("", "", target);
    }
    let absolute = target
        .split_once("://")
        .filter(|(scheme, _)| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let (rest, authority) = match absolute {
        Some((_, rest)) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (path, authority)
        }
        None => (target, host),
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    (if path.is_empty() { "/" } else { path }, query, authority)
}

/// Whether the bytes hold the end of a head, of which the first `searched` do not.
fn has_end(bytes: &[u8], searched: usize) -> bool {
    let fresh = bytes.get(searched.saturating_sub(3)..).unwrap_or_default();
    fresh.windows(2).any(|pair| pair == b"\n\n") || fresh.windows(3).any(|triple| triple == b"\n\r\n")
}

/// Puts folded lines on one, keeping the head's length; `None` if there are none.
fn unfold(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut unfolded = bytes.to_vec();
    let mut folded = false;
    for at in 1..bytes.len() {
        let pair = (bytes.get(at - 1), bytes.get(at));
        if let (Some(b'\n'), Some(b' ' | b'\t')) = pair {
            folded = true;
            let line_end = unfolded.get_mut(at.saturating_sub(2)..at).unwrap_or_default();
            for byte in line_end.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')) {
                *byte = b' ';
            }
        }
    }
    folded.then_some(unfolded)
}
