//! How far a message's body reaches (RFC 9112, section 6), without keeping it.

use crate::call::Headers;
use crate::limits::{CHUNK_LINE, HEADERS};

/// How a body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    #[default]
    None,
    /// By its length.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// Where in a body the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// So many bytes of a body with a length are left; none after the last.
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    /// The line end behind a chunk's data.
    ChunkEnd,
    Trailers,
    #[default]
    Ended,
}

/// A body under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Body {
    phase: Phase,
    framing: Framing,
    doubt: Doubt,
}

/// Whether there may be no body after all, because the request was a HEAD. What comes next tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It was none, for certain.
    #[default]
    None,
    /// It may have been one.
    Some,
    /// It probably was one.
    Much,
}

/// What was taken of the bytes there are.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Bytes of chunk sizes, line ends and trailers.
    pub framing: usize,
    /// Bytes of body.
    pub body: usize,
    pub then: Then,
}

/// How a body goes on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Then {
    /// With the next bytes.
    #[default]
    On,
    /// With a line of which only a part is there.
    More,
    Ended,
    /// These are no chunks.
    Invalid,
}

/// Bytes of a gap that lie in a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inside {
    pub body: u64,
    pub ended: bool,
    /// Whether its end cannot be found any more.
    pub lost: bool,
}

impl Body {
    /// A body that begins.
    pub fn new(framing: Framing, doubt: Doubt) -> Self {
        let phase = match framing {
            Framing::None | Framing::Length(0) => Phase::Ended,
            Framing::Length(len) => Phase::Length(len),
            Framing::Chunked => Phase::ChunkSize,
            Framing::UntilClose => Phase::UntilClose,
        };
        Self {
            phase,
            framing,
            doubt,
        }
    }

    /// Whether it is whole, if its stream ends here, as is meant by `finished`.
    pub fn ends(&self, finished: bool) -> bool {
        (self.framing == Framing::UntilClose && finished) || self.doubt == Doubt::Much
    }

    /// Takes what there is of it. Trailers join the headers.
    pub fn take(&mut self, bytes: &[u8], headers: &mut Headers) -> Taken {
        self.take_and_show(bytes, headers, |_| {})
    }

    /// The same, for one who looks at what goes by.
    pub fn take_and_show(
        &mut self,
        bytes: &[u8],
        headers: &mut Headers,
        mut show: impl FnMut(&[u8]),
    ) -> Taken {
        let mut taken = Taken::default();
        if self.doubt != Doubt::None && self.phase != Phase::Ended {
            match begins_response(bytes) {
                Some(true) => self.phase = Phase::Ended,
                Some(false) => self.doubt = Doubt::None,
                None if bytes.is_empty() => return taken,
                None => {
                    taken.then = Then::More;
                    return taken;
                }
            }
        }
        loop {
            let left = bytes.get(taken.framing + taken.body..).unwrap_or_default();
            if self.phase == Phase::Ended {
                taken.then = Then::Ended;
                return taken;
            }
            if left.is_empty() {
                return taken;
            }
            match self.phase {
                Phase::Length(rest) => {
                    let step = rest.min(left.len() as u64);
                    show(left.get(..step as usize).unwrap_or_default());
                    taken.body += step as usize;
                    self.phase = if step == rest {
                        Phase::Ended
                    } else {
                        Phase::Length(rest - step)
                    };
                }
                Phase::UntilClose => {
                    show(left);
                    taken.body += left.len();
                }
                Phase::ChunkData(rest) => {
                    let step = rest.min(left.len() as u64);
                    show(left.get(..step as usize).unwrap_or_default());
                    taken.body += step as usize;
                    self.phase = if step == rest {
                        Phase::ChunkEnd
                    } else {
                        Phase::ChunkData(rest - step)
                    };
                }
                Phase::ChunkSize | Phase::ChunkEnd | Phase::Trailers => {
                    let Some(line_len) = left.iter().take(CHUNK_LINE).position(|byte| *byte == b'\n') else {
                        taken.then = if left.len() < CHUNK_LINE {
                            Then::More
                        } else {
                            Then::Invalid
                        };
                        return taken;
                    };
                    let line = left.get(..line_len).unwrap_or_default();
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    match self.line(line, headers) {
                        Some(next) => self.phase = next,
                        None => {
                            taken.then = Then::Invalid;
                            return taken;
                        }
                    }
                    taken.framing += line_len + 1;
                }
                Phase::Ended => {}
            }
        }
    }

    /// Bytes are missing here.
    pub fn gap(&mut self, len: u64) -> Inside {
        // What is known of the body's end does not help if it is not known whether there is one.
        let sure = self.doubt == Doubt::None;
        self.doubt = Doubt::None;
        match self.phase {
            Phase::Length(rest) if sure => {
                let body = rest.min(len);
                self.phase = Phase::Length(rest - body);
                Inside {
                    body,
                    ended: body == rest,
                    ..Inside::default()
                }
            }
            Phase::UntilClose => Inside {
                body: len,
                ..Inside::default()
            },
            Phase::ChunkData(rest) if len <= rest => {
                self.phase = if len == rest {
                    Phase::ChunkEnd
                } else {
                    Phase::ChunkData(rest - len)
                };
                Inside {
                    body: len,
                    ..Inside::default()
                }
            }
            _ => Inside {
                lost: true,
                ..Inside::default()
            },
        }
    }

    /// What comes after a line of chunk framing; `None` if it is not one.
    fn line(&self, line: &[u8], headers: &mut Headers) -> Option<Phase> {
        match self.phase {
            Phase::ChunkSize => match chunk_size(line)? {
                0 => Some(Phase::Trailers),
                size => Some(Phase::ChunkData(size)),
            },
            Phase::ChunkEnd => line.is_empty().then_some(Phase::ChunkSize),
            _ if line.is_empty() => Some(Phase::Ended),
            _ => {
                let colon = line.iter().position(|byte| *byte == b':')?;
                let (name, value) = line.split_at(colon);
                if headers.len() < HEADERS {
                    let name = std::str::from_utf8(name).ok()?;
                    headers.push(name, value.get(1..).unwrap_or_default().trim_ascii());
                }
                Some(Phase::Trailers)
            }
        }
    }
}

/// The size that begins a chunk's first line; what follows `;` are extensions.
pub(super) fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    // Sixteen digits fill a u64; leading zeros beyond are nobody's.
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(u64::from);
    digits
        .iter()
        .try_fold(0u64, |size, byte| Some(size << 4 | digit(byte)?))
}

/// Whether these bytes are the begin of a response; `None` when there are too few to say.
fn begins_response(bytes: &[u8]) -> Option<bool> {
    use super::probe::{Found, is_response};
    match is_response(bytes) {
        Found::Yes => Some(true),
        Found::No => Some(false),
        Found::Maybe => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(framing: Framing, bytes: &[u8], then: Then, body: usize, framing_len: usize) {
        let mut headers = Headers::default();
        let taken = Body::new(framing, Doubt::None).take(bytes, &mut headers);
        assert_eq!((taken.then, taken.body, taken.framing), (then, body, framing_len));
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        check(Framing::None, b"HTTP", Then::Ended, 0, 0);
        check(Framing::Length(3), b"abcdef", Then::Ended, 3, 0);
        check(Framing::Length(9), b"abcdef", Then::On, 6, 0);
        check(Framing::UntilClose, b"abcdef", Then::On, 6, 0);
        check(Framing::Chunked, b"3\r\nabc\r\n0\r\n\r\nGET", Then::Ended, 3, 10);
        check(Framing::Chunked, b"3 ;a=\"b\"\nabc\n0\n\n", Then::Ended, 3, 13);
        check(Framing::Chunked, b"003\r\nab", Then::On, 2, 5);
        check(Framing::Chunked, b"3\r\nabc\r\n0\r\nX-Sum", Then::More, 3, 8);
        check(Framing::Chunked, b"xyz\r\nabc", Then::Invalid, 0, 0);
        check(Framing::Chunked, b"3\r\nabcd\r\n", Then::Invalid, 3, 3);
        check(Framing::Chunked, b"11111111111111111\r\n", Then::Invalid, 0, 0);
    }

    #[test]
    fn trailers_join_the_headers() {
        let mut headers = Headers::default();
        let taken = Body::new(Framing::Chunked, Doubt::None).take(b"0\r\nX-Sum:  1 \r\n\r\n", &mut headers);
        assert_eq!(taken.then, Then::Ended);
        assert_eq!(headers.get("x-sum"), Some("1"));
    }

    #[test]
    fn a_chunk_line_has_a_limit() {
        let line = vec![b'1'; CHUNK_LINE - 1];
        check(Framing::Chunked, &line, Then::More, 0, 0);
        let line = vec![b'1'; CHUNK_LINE];
        check(Framing::Chunked, &line, Then::Invalid, 0, 0);
    }

    #[test]
    fn a_gap_inside_a_known_length_loses_nothing() {
        let mut body = Body::new(Framing::Length(100), Doubt::None);
        assert_eq!(body.gap(60).body, 60);
        assert_eq!(
            body.gap(60),
            Inside {
                body: 40,
                ended: true,
                ..Inside::default()
            }
        );
        let mut body = Body::new(Framing::Chunked, Doubt::None);
        assert!(body.gap(1).lost);
        let mut body = Body::new(Framing::Chunked, Doubt::None);
        body.take(b"a\r\n123", &mut Headers::default());
        assert!(!body.gap(7).lost);
        assert_eq!(
            body.take(b"\r\n0\r\n\r\n", &mut Headers::default()).then,
            Then::Ended
        );
    }

    #[test]
    fn an_answer_to_an_unseen_head_request_has_no_body() {
        let mut body = Body::new(Framing::Length(100), Doubt::Some);
        assert_eq!(
            body.take(b"HTTP/1.1 200 OK\r\n", &mut Headers::default()).then,
            Then::Ended
        );
        let mut body = Body::new(Framing::Length(100), Doubt::Some);
        assert_eq!(body.take(b"HTTP", &mut Headers::default()).then, Then::More);
        let mut body = Body::new(Framing::Length(100), Doubt::Some);
        assert_eq!(body.take(b"HTML", &mut Headers::default()).then, Then::On);
    }
}
