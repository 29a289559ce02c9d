//! Heads of messages.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use httparse::{ParserConfig, Status};

use super::body::{Body, Doubt, Framing, Then};
use super::pair::Asked;
use super::usual::{self, FirstLine};
use super::{Frame, Lane, Start, State};
use crate::Counters;
use crate::call::Headers;
use crate::limits::{HEAD_BYTES, HEADERS};
use crate::protocols::tap::Tap;
use crate::protocols::{Input, Next, Parsed, Side, Upgrade};

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
        if input.from == Side::Client && input.turn {
            self.pairing.confirm_turn();
        }
        let lane = self.lane(input.from);
        if lane.searched > 0 && !has_end(bytes, lane.searched) {
            return lane.more(bytes);
        }
        let refuted = input.from == Side::Client && self.pairing.is_head_refuted();
        let head = if refuted {
            Err(Malformed)
        } else {
            Head::parse(input.from, bytes)
        };
        let head = match head {
            Ok(Some(head)) => head,
            Ok(None) => return self.lane(input.from).more(bytes),
            Err(Malformed) => {
                self.lane(input.from).searched = 0;
                if input.from == Side::Client {
                    self.pairing.refute();
                }
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
        let taken = match &mut message.tap {
            None => lane.body.take(rest, &mut message.headers),
            Some(tap) => {
                let headers = &mut message.headers;
                lane.body.take_and_show(rest, headers, |part| tap.take(part))
            }
        };
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
                message.lose();
                let refuted = input.from == Side::Client && self.pairing.refute();
                let frame = self.lane(input.from).message.take().filter(|_| !refuted);
                self.pairing.lost(input.from, input.position);
                // The message ends here as far as can be told; what comes is no message.
                match frame {
                    Some(frame) => Parsed::Frame { used: 0, frame },
                    None => Parsed::Invalid,
                }
            }
        }
    }

    /// Makes what can be made of a head whose rest is missing: its first line and the fields that are whole. Of a
    /// request's first line, method and target are enough.
    pub(super) fn cut_head(&mut self, from: Side, held: &[u8], end: u64) -> Option<Frame> {
        let (whole, versioned) = match held.iter().rposition(|byte| *byte == b'\n') {
            Some(lines) => ([held.get(..=lines)?, b"\r\n"].concat(), true),
            None if from == Side::Client => (cut_line(held)?, false),
            None => return None,
        };
        let mut head = Head::parse(from, &whole).ok()??;
        if !versioned {
            head.version = "";
        }
        if matches!(head.line, Line::Response { status } if (100..200).contains(&status)) {
            return None;
        }
        head.upgrade = None;
        let start = end.saturating_sub(held.len() as u64);
        let (mut frame, _) = self.begin_message(head, start, u64::MAX);
        frame.head_len = held.len() as u64;
        frame.lose();
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
    fn begin_message(&mut self, mut head: Head, start: u64, ack: u64) -> (Frame, Body) {
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
                    let upgrade = Upgrade {
                        name: head.upgrade.unwrap_or_default(),
                        headers: head.headers.clone(),
                        server_from: Some(start + head.len as u64),
                        ..self.pairing.target(answers)
                    };
                    self.next = Some(Next::Upgraded(Box::new(upgrade)));
                } else if tunnel {
                    self.next = Some(Next::Tunnel);
                }
                if head.tap.is_none() && !bodiless {
                    head.tap = self.pairing.answer_tap(answers, &head.headers);
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
            reset: false,
            headers_cut: head.headers_cut,
            tap: head.tap,
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

/// The head that the begin of a request's first line makes, if its target is whole: a blank ends it.
fn cut_line(held: &[u8]) -> Option<Vec<u8>> {
    const VERSION: &[u8] = b"HTTP/1.1\r";
    let target = held.iter().rposition(|byte| *byte == b' ')?;
    let (line, version) = held.split_at(target + 1);
    let words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let begins = |whole: &[u8]| whole.starts_with(version);
    let fits = words.count() == 2 && (begins(VERSION) || begins(b"HTTP/1.0\r"));
    fits.then(|| [line, VERSION, b"\n\r\n"].concat())
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
pub(super) struct Head {
    /// Its bytes.
    pub len: usize,
    pub line: Line,
    version: &'static str,
    pub headers: Headers,
    headers_cut: bool,
    pub framing: Framing,
    upgrade: Option<String>,
    tap: Option<Box<Tap>>,
}

pub(super) enum Line {
    Request {
        method: Cow<'static, str>,
        path: String,
        query: String,
        authority: String,
    },
    Response {
        status: i32,
    },
}

/// These bytes are no head.
pub(super) struct Malformed;

impl Head {
    /// Parses a head; `None` when it is not whole.
    pub fn parse(from: Side, bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        if let Some(head) = Self::usual(from, bytes) {
            return Ok(Some(head));
        }
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

    /// The head, if it is as nearly all are.
    fn usual(from: Side, bytes: &[u8]) -> Option<Self> {
        let mut said = Said::default();
        let head = usual::read(from, bytes, |name, value| said.take(name, value))?;
        let line = match head.line {
            FirstLine::Request { method, target } => {
                let text = |ascii| std::str::from_utf8(ascii).ok();
                Line::request(text(method)?, text(target)?, said.host)
            }
            FirstLine::Response { status } => Line::Response { status },
        };
        let headers = Headers::of_ascii(bytes.get(..head.len)?, head.fields);
        let version = u8::from(!head.old);
        Self::new(from, head.len, line, version, headers, &said)
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
        let mut request = httparse::Request::new(&mut []);
        let mut response = httparse::Response::new(&mut []);
        let (parsed, fields, version) = match from {
            Side::Client => (
                config.parse_request_with_uninit_headers(&mut request, bytes, fields)?,
                &*request.headers,
                request.version,
            ),
            Side::Server => (
                config.parse_response_with_uninit_headers(&mut response, bytes, fields)?,
                &*response.headers,
                response.version,
            ),
        };
        let Status::Complete(len) = parsed else {
            return Ok(None);
        };
        let mut said = Said::default();
        for field in fields {
            said.take(field.name.as_bytes(), field.value);
        }
        let line = match from {
            Side::Client => {
                let (method, target) = (
                    request.method.unwrap_or_default(),
                    request.path.unwrap_or_default(),
                );
                Line::request(method, target, said.host)
            }
            Side::Server => Line::Response {
                status: response.code.unwrap_or_default().into(),
            },
        };
        let kept = fields
            .get(..HEADERS)
            .unwrap_or(fields)
            .iter()
            .map(|field| (field.name, field.value));
        let headers = Headers::of_head(bytes.get(..len).unwrap_or_default(), kept);
        let mut head = Self::new(from, len, line, version.unwrap_or(1), headers, &said)
            .ok_or(httparse::Error::HeaderValue)?;
        head.headers_cut = fields.len() > HEADERS;
        Ok(Some(head))
    }

    /// Puts a head together; `None` if it cannot be told how its body is delimited.
    fn new(
        from: Side,
        len: usize,
        line: Line,
        version: u8,
        headers: Headers,
        said: &Said<'_>,
    ) -> Option<Self> {
        let text = |value: &[u8]| String::from_utf8_lossy(value.trim_ascii()).into_owned();
        let tap = said.content_type.and_then(|content| Tap::of(content, from));
        Some(Self {
            len,
            framing: framing(&line, said.coding, said.length)?,
            line,
            version: if version == 0 { "HTTP/1.0" } else { "HTTP/1.1" },
            headers,
            headers_cut: false,
            upgrade: said.upgrade.map(text),
            tap: tap.filter(|tap| !said.coded || tap.sees_coded()),
        })
    }
}

impl Line {
    fn request(method: &str, target: &str, host: Option<&[u8]>) -> Self {
        let method = method_of(method);
        let host = host.map(|host| String::from_utf8_lossy(host.trim_ascii()));
        let (path, query, authority) = split_target(target, &method, host.as_deref().unwrap_or_default());
        Self::Request {
            path: path.to_owned(),
            query: query.to_owned(),
            authority: authority.to_owned(),
            method,
        }
    }
}

/// The few fields that matter here.
#[derive(Default)]
struct Said<'h> {
    /// The first.
    host: Option<&'h [u8]>,
    upgrade: Option<&'h [u8]>,
    content_type: Option<&'h [u8]>,
    /// Whether the content is coded.
    coded: bool,
    length: Length,
    coding: Option<&'h [u8]>,
}

impl<'h> Said<'h> {
    fn take(&mut self, name: &[u8], value: &'h [u8]) {
        // Told apart by their length and first letter first.
        let first = name.first().map_or(0, u8::to_ascii_lowercase);
        match (name.len(), first) {
            (4, b'h') if name.eq_ignore_ascii_case(b"host") => {
                self.host.get_or_insert(value);
            }
            (7, b'u') if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = Some(value),
            (12, b'c') if name.eq_ignore_ascii_case(b"content-type") => self.content_type = Some(value),
            (14, b'c') if name.eq_ignore_ascii_case(b"content-length") => {
                self.length = self.length.and(value);
            }
            (16, b'c') if name.eq_ignore_ascii_case(b"content-encoding") => {
                self.coded |= !value.trim_ascii().eq_ignore_ascii_case(b"identity");
            }
            (17, b't') if name.eq_ignore_ascii_case(b"transfer-encoding") => self.coding = Some(value),
            _ => {}
        }
    }
}

/// What the Content-Length fields say together.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Length {
    #[default]
    Absent,
    Known(u64),
    /// Not a number, or two different ones.
    Contradictory,
}

impl Length {
    /// Takes one field, which may hold a list of the same number (RFC 9110, section 8.6).
    fn and(self, value: &[u8]) -> Self {
        if let (Self::Absent, Some(number)) = (self, digits(value)) {
            return Self::Known(number);
        }
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

/// A number of so few digits that it fits.
fn digits(text: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.checked_sub(b'0').filter(|digit| *digit < 10).map(u64::from);
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter()
        .try_fold(0, |number, byte| Some(number * 10 + digit(byte)?))
}

/// A method. Those that RFC 9110 and RFC 5789 define are nearly all there are.
pub(crate) fn method_of(method: &str) -> Cow<'static, str> {
    const DEFINED: [&str; 9] = [
        "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE",
    ];
    let defined = DEFINED.into_iter().find(|defined| *defined == method);
    defined.map_or_else(|| method.to_owned().into(), Cow::Borrowed)
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

/// Path, query and authority of a request (RFC 9112, sections 3.2 and 3.3).
fn split_target<'t>(target: &'t str, method: &str, host: &'t str) -> (&'t str, &'t str, &'t str) {
    if method == "CONNECT" {
        return ("", "", target);
    }
    // Nearly every target is a path, which is not searched for what it cannot begin with.
    let absolute = (!target.starts_with('/'))
        .then(|| target.split_once("://"))
        .flatten()
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
