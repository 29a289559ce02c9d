//! Messages in a body: a flag, a length, the message; counted as they go by, not kept.

use super::base64::Decoder;
use crate::call::Headers;
use crate::limits::{HEADERS, WEB_TRAILERS};

/// Bytes before a message.
pub(super) const PREFIX: usize = 5;

/// The flag of a message that is compressed.
pub(super) const COMPRESSED: u8 = 0x01;

/// The flag of what is no message but gRPC-Web's trailers.
pub(super) const TRAILERS: u8 = 0x80;

/// How messages lie in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// As they are; in gRPC-Web, with trailers behind them.
    Plain,
    /// The same in base64.
    Text,
}

impl Framing {
    /// By the content's type: `application/grpc`, `application/grpc+proto`, `application/grpc-web-text` ...
    pub fn of(content_type: &str) -> Option<Self> {
        if matches!(content_type, "application/grpc" | "application/grpc+proto") {
            // What nearly everybody says.
            return Some(Self::Plain);
        }
        let content = content_type.split(';').next().unwrap_or_default().trim();
        let rest = content
            .get(.."application/grpc".len())
            .filter(|start| start.eq_ignore_ascii_case("application/grpc"))
            .and_then(|start| content.get(start.len()..))?;
        match rest.split('+').next() {
            Some("-web-text") => Some(Self::Text),
            Some("" | "-web") => Some(Self::Plain),
            _ => None,
        }
    }
}

/// What went by of one direction's body.
#[derive(Debug)]
pub(crate) struct Messages {
    /// For the text.
    text: Option<Decoder>,
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are there.
    have: usize,
    /// Bytes that are left of the message.
    left: u64,
    seen: Seen,
    /// Whether the place was lost.
    lost: bool,
    trailers: Vec<u8>,
}

/// Messages that have begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub count: u64,
    /// Their bytes, as sent, without the prefixes.
    pub bytes: u64,
    /// How many are compressed.
    pub compressed: u64,
}

impl Messages {
    /// At the begin of a body.
    pub fn new(framing: Framing) -> Self {
        Self {
            text: (framing == Framing::Text).then(Decoder::default),
            prefix: [0; PREFIX],
            have: 0,
            left: 0,
            seen: Seen::default(),
            lost: false,
            trailers: Vec::new(),
        }
    }

    /// Takes the next bytes of the body.
    pub fn take(&mut self, bytes: &[u8]) {
        let Some(mut text) = self.text.take() else {
            return self.plain(bytes);
        };
        let mut buffer = [0; 192];
        for part in bytes.chunks(buffer.len()) {
            match text.decode(part, &mut buffer) {
                Some(plain) => self.plain(plain),
                None => self.lost = true,
            }
        }
        self.text = Some(text);
    }

    /// Bytes of the body are missing.
    pub fn skip(&mut self, len: u64) {
        let inside = self.text.is_none() && self.have == PREFIX && !self.is_trailers() && len <= self.left;
        if inside {
            self.pass(len);
        } else {
            self.lost = true;
        }
    }

    /// It cannot be told where the next message begins.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// How many there were; `None` if some may be missing.
    pub fn seen(&self) -> Option<Seen> {
        (!self.lost).then_some(self.seen)
    }

    /// gRPC-Web's trailers, which look like a head of HTTP/1 without its first line.
    pub fn trailers(&self) -> Headers {
        let mut headers = Headers::default();
        let lines = self.trailers.split(|byte| *byte == b'\n');
        for line in lines.take(HEADERS) {
            let mut parts = line.splitn(2, |byte| *byte == b':');
            if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
                headers.push(name.trim_ascii(), value.trim_ascii());
            }
        }
        headers
    }

    /// Bytes that it holds, roughly.
    pub fn cost(&self) -> usize {
        size_of::<Self>() + self.trailers.len()
    }

    fn plain(&mut self, mut bytes: &[u8]) {
        while !self.lost && !bytes.is_empty() {
            if self.have < PREFIX {
                let Some(((to, byte), rest)) = self
                    .prefix
                    .get_mut(self.have)
                    .zip(bytes.first())
                    .zip(bytes.get(1..))
                else {
                    return;
                };
                *to = *byte;
                bytes = rest;
                self.have += 1;
                self.begin();
                continue;
            }
            let part = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let (message, rest) = bytes.split_at(part);
            bytes = rest;
            if self.is_trailers() {
                let room = WEB_TRAILERS - self.trailers.len().min(WEB_TRAILERS);
                self.trailers.extend(message.iter().take(room));
            }
            self.pass(part as u64);
        }
    }

    /// A message begins, if its prefix is whole.
    fn begin(&mut self) {
        if self.have < PREFIX {
            return;
        }
        let [flags, l3, l2, l1, l0] = self.prefix;
        if flags & !(COMPRESSED | TRAILERS) != 0 {
            // No such flag: this is no message.
            self.lost = true;
            return;
        }
        self.left = u32::from_be_bytes([l3, l2, l1, l0]).into();
        if !self.is_trailers() {
            self.seen.count += 1;
            self.seen.bytes += self.left;
            self.seen.compressed += u64::from(flags & COMPRESSED);
        }
        self.pass(0);
    }

    fn is_trailers(&self) -> bool {
        let [flags, ..] = self.prefix;
        flags & TRAILERS != 0
    }

    /// So many bytes of the message have gone by.
    fn pass(&mut self, len: u64) {
        self.left -= len;
        if self.left == 0 {
            self.have = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(framing: Framing, body: &[u8], chunk: usize) -> Messages {
        let mut messages = Messages::new(framing);
        body.chunks(chunk).for_each(|part| messages.take(part));
        messages
    }

    const BODY: &[u8] = b"\x00\x00\x00\x00\x03abc\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02zz";
    const WEB: &[u8] = b"\x00\x00\x00\x00\x01a\x80\x00\x00\x00\x1fgrpc-status: 5\r\nGRPC-Message:x\n";

    #[test]
    fn messages_however_the_body_is_cut() {
        for chunk in 1..=BODY.len() {
            let all = Seen {
                count: 3,
                bytes: 5,
                compressed: 1,
            };
            assert_eq!(seen(Framing::Plain, BODY, chunk).seen(), Some(all), "{chunk}");
        }
    }

    #[test]
    fn trailers_in_the_body_as_bytes_and_as_text() {
        // The same in base64, in two pieces that are filled up each.
        let text = b"AAAAAAFhgAAAAB9ncnBjLXN0YXR1czogNQ0KR1JQQy1NZXNzYWdlOngK";
        let pieces = b"AAAAAAFhgA==AAAAH2dycGMtc3RhdHVzOiA1DQpHUlBDLU1lc3NhZ2U6eAo=";
        for chunk in 1..=text.len() {
            let plain = seen(Framing::Plain, WEB, chunk);
            for messages in [
                plain,
                seen(Framing::Text, text, chunk),
                seen(Framing::Text, pieces, chunk),
            ] {
                assert_eq!(messages.seen().map(|seen| seen.count), Some(1), "{chunk}");
                let trailers = messages.trailers();
                assert_eq!(
                    (trailers.get("grpc-status"), trailers.get("grpc-message")),
                    (Some("5"), Some("x"))
                );
            }
        }
    }

    #[test]
    fn missing_bytes_inside_a_message_and_beyond() {
        let mut messages = Messages::new(Framing::Plain);
        messages.take(b"\x00\x00\x00\x00\x0aabc");
        messages.skip(7);
        messages.take(b"\x00\x00\x00\x00\x01x");
        assert_eq!(
            messages.seen().map(|seen| (seen.count, seen.bytes)),
            Some((2, 11))
        );
        messages.skip(1);
        assert_eq!(messages.seen(), None);
    }

    #[test]
    fn a_body_that_has_no_messages() {
        assert_eq!(seen(Framing::Plain, b"{\"json\": true}", 100).seen(), None);
        assert_eq!(seen(Framing::Text, b"!!!!", 100).seen(), None);
        assert_eq!(seen(Framing::Plain, b"", 100).seen(), Some(Seen::default()));
    }

    #[test]
    fn trailers_that_never_end_cost_no_more_than_their_limit() {
        let mut body = b"\x80\x7f\xff\xff\xff".to_vec();
        body.resize(100_000, b'a');
        let messages = seen(Framing::Plain, &body, 1000);
        assert!(messages.cost() < WEB_TRAILERS + 200, "{}", messages.cost());
    }

    #[test]
    fn types_of_content() {
        let types = [
            ("application/grpc", Some(Framing::Plain)),
            ("application/grpc+proto; charset=utf-8", Some(Framing::Plain)),
            ("Application/GRPC-web+proto", None),
            ("application/grpc-web+json", Some(Framing::Plain)),
            ("application/grpc-web-text", Some(Framing::Text)),
            ("application/grpc-web-text+proto", Some(Framing::Text)),
            ("application/grpcx", None),
            ("text/plain", None),
            ("", None),
        ];
        for (text, framing) in types
            .into_iter()
            .filter(|(text, _)| *text != "Application/GRPC-web+proto")
        {
            assert_eq!(Framing::of(text), framing, "{text}");
        }
        assert_eq!(Framing::of("Application/GRPC-web+proto"), Some(Framing::Plain));
    }
}
