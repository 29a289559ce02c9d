//! Messages out of a body, for showing them: inflated, and told as JSON.

use super::base64::Decoder;
use super::messages::{COMPRESSED, Framing, PREFIX, TRAILERS};
use crate::body::inflate;
use crate::limits::GRPC_SHOWN;
use crate::protobuf::{self, Descriptors};

/// What is known of a body of gRPC.
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcAbout<'a> {
    /// Content-Type; empty if it is not known, then it is taken for protobuf.
    pub content_type: &'a str,
    /// `grpc-encoding`; empty if there is none, or if it is not known.
    pub encoding: &'a str,
    /// Path of the call, without the query; empty if it is not known.
    pub path: &'a str,
    /// Whether it is the response's body.
    pub is_response: bool,
}

/// A body of gRPC, as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcBody {
    /// Each message as JSON, one a line. Bytes that are no message are `{"base64":"…"}`.
    pub text: String,
    /// Its messages.
    pub messages: Vec<GrpcMessage>,
    /// Full name of their type, if the descriptors tell it.
    pub type_name: Option<String>,
    /// Whether there is more than is shown.
    pub truncated: bool,
}

/// A message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrpcMessage {
    /// Bytes as sent, without the prefix.
    pub len: u64,
    /// Whether it is compressed.
    pub compressed: bool,
    /// Bytes that it inflates to, or those of them that were wanted; `None` if its coding is not known.
    pub inflated: Option<u64>,
}

/// What messages are made of.
enum Format {
    Protobuf,
    Json,
    /// Something else.
    Bytes,
}

/// Takes a body of gRPC or gRPC-Web apart, of which at most so many bytes are wanted, inflated. gRPC-Web's trailers are
/// left out: they are the call's fields. `None` if the content's type is another one, as a proxy's page of an error has it.
pub fn grpc_body(
    body: &[u8],
    about: GrpcAbout<'_>,
    descriptors: &Descriptors,
    most: usize,
) -> Option<GrpcBody> {
    let framing = if about.content_type.is_empty() {
        Framing::Plain
    } else {
        Framing::of(about.content_type)?
    };
    let mut shown = GrpcBody {
        type_name: type_of(about, descriptors),
        ..GrpcBody::default()
    };
    let mut buffer = Vec::new();
    let mut rest = body;
    if framing == Framing::Text {
        buffer.resize(body.len(), 0);
        let decoded = Decoder::default().decode(body, &mut buffer);
        shown.truncated |= decoded.is_none();
        rest = decoded.unwrap_or_default();
    }
    let mut left = most;
    while let Some((&[flags, l3, l2, l1, l0], behind)) = rest.split_first_chunk::<PREFIX>() {
        if shown.messages.len() >= GRPC_SHOWN || left == 0 {
            break;
        }
        let len = u32::from_be_bytes([l3, l2, l1, l0]);
        let wanted = usize::try_from(len).unwrap_or(usize::MAX);
        let bytes = behind.get(..wanted).unwrap_or(behind);
        rest = behind.get(wanted..).unwrap_or_default();
        if flags & TRAILERS != 0 {
            continue;
        }
        shown.truncated |= bytes.len() < wanted;
        let compressed = flags & COMPRESSED != 0;
        let content = content(bytes, compressed, about.encoding, left);
        let message = GrpcMessage {
            len: len.into(),
            compressed,
            inflated: content.as_ref().map(|(content, _)| content.len() as u64),
        };
        shown.messages.push(message);
        match content {
            Some((content, more)) => {
                left -= content.len().min(left);
                shown.truncated |= more;
                shown.add(&content, format_of(about.content_type), descriptors);
            }
            None => shown.add(bytes, Format::Bytes, descriptors),
        }
    }
    shown.truncated |= !rest.is_empty();
    Some(shown)
}

impl GrpcBody {
    fn add(&mut self, content: &[u8], format: Format, descriptors: &Descriptors) {
        if self.messages.len() > 1 {
            self.text.push('\n');
        }
        let text = match format {
            Format::Protobuf => {
                protobuf::decode(content, descriptors, self.type_name.as_deref()).map(|json| {
                    self.truncated |= json.truncated;
                    json.text
                })
            }
            Format::Json => std::str::from_utf8(content).ok().map(str::to_owned),
            Format::Bytes => None,
        };
        self.text
            .push_str(&text.unwrap_or_else(|| protobuf::bytes_as_json(content)));
    }
}

/// What a message says, at most so many bytes, and whether there are more; `None` if it is compressed by a coding that is
/// not known.
fn content(bytes: &[u8], compressed: bool, encoding: &str, most: usize) -> Option<(Vec<u8>, bool)> {
    /// What gzip begins with (RFC 1952, section 2.3.1). The header field may be among what is unresolved.
    const GZIP: &[u8] = &[0x1f, 0x8b, 8];
    if !compressed {
        let kept = bytes.get(..most).unwrap_or(bytes);
        return Some((kept.to_vec(), kept.len() < bytes.len()));
    }
    let encoding = if encoding.is_empty() && bytes.starts_with(GZIP) {
        "gzip"
    } else {
        encoding
    };
    inflate(encoding, bytes, most)
}

/// The full name of the messages' type.
fn type_of(about: GrpcAbout<'_>, descriptors: &Descriptors) -> Option<String> {
    let (service, method) = about.path.trim_start_matches('/').rsplit_once('/')?;
    let method = descriptors.method(service, method)?;
    Some(if about.is_response {
        method.response.clone()
    } else {
        method.request.clone()
    })
}

/// By what follows the `+` in the content's type; protobuf if nothing does.
fn format_of(content_type: &str) -> Format {
    let name = content_type.split(';').next().unwrap_or_default().trim();
    match name
        .split_once('+')
        .map(|(_, format)| format.to_ascii_lowercase())
    {
        None => Format::Protobuf,
        Some(format) if format == "proto" => Format::Protobuf,
        Some(format) if format == "json" => Format::Json,
        Some(_) => Format::Bytes,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn framed(flags: u8, message: &[u8]) -> Vec<u8> {
        let len = message.len() as u32;
        [&[flags][..], &len.to_be_bytes(), message].concat()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn shown(body: &[u8], content_type: &str, encoding: &str, most: usize) -> GrpcBody {
        let about = GrpcAbout {
            content_type,
            encoding,
            ..GrpcAbout::default()
        };
        grpc_body(body, about, &Descriptors::default(), most).unwrap()
    }

    #[test]
    fn messages_that_are_compressed_and_others() {
        let large = [&b"\x0a\x80\x08"[..], &[b'a'; 1024]].concat();
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(&large).unwrap();
        let cases = [
            ("gzip", gzip(&large)),
            ("", gzip(&large)),
            ("deflate", zlib.finish().unwrap()),
            ("zstd", zstd::encode_all(large.as_slice(), 0).unwrap()),
        ];
        for (encoding, packed) in cases {
            let body = [framed(0, b"\x08\x05"), framed(1, &packed), framed(0, b"")].concat();
            let shown = shown(&body, "application/grpc", encoding, 4096);
            let expected = format!("{{\"1\":5}}\n{{\"1\":\"{}\"}}\n{{}}", "a".repeat(1024));
            assert_eq!((shown.text, shown.truncated), (expected, false), "{encoding}");
            let sizes: Vec<_> = shown
                .messages
                .iter()
                .map(|message| (message.len, message.compressed, message.inflated))
                .collect();
            let packed = packed.len() as u64;
            assert_eq!(
                sizes,
                [
                    (2, false, Some(2)),
                    (packed, true, Some(1027)),
                    (0, false, Some(0))
                ]
            );
        }
    }

    #[test]
    fn a_coding_that_is_not_known_and_one_that_is_damaged() {
        let body = framed(1, b"\x05\x10hello");
        for encoding in ["snappy", "gzip", ""] {
            let shown = shown(&body, "application/grpc", encoding, 4096);
            assert_eq!(shown.text, "{\"base64\":\"BRBoZWxsbw==\"}");
            assert_eq!(shown.messages[0].inflated, None);
        }
    }

    #[test]
    fn a_bomb_inflates_to_no_more_than_is_wanted() {
        let bomb = framed(1, &gzip(&vec![0; 10 << 20]));
        let body = bomb.repeat(3);
        let shown = shown(&body, "application/grpc", "gzip", 1000);
        assert!(shown.truncated && shown.text.len() < 2000);
        assert_eq!(
            shown
                .messages
                .iter()
                .filter_map(|message| message.inflated)
                .sum::<u64>(),
            1000
        );
    }

    #[test]
    fn more_messages_than_are_shown() {
        let body = framed(0, b"").repeat(10_000);
        let shown = shown(&body, "application/grpc", "", 4096);
        assert_eq!((shown.messages.len(), shown.truncated), (GRPC_SHOWN, true));
    }

    #[test]
    fn what_is_not_protobuf_and_what_is_cut() {
        let json = framed(0, b"{\"a\": 1}");
        assert_eq!(shown(&json, "application/grpc+json", "", 99).text, "{\"a\": 1}");
        let other = framed(0, b"\x08\x01");
        assert_eq!(
            shown(&other, "application/grpc+thrift", "", 99).text,
            "{\"base64\":\"CAE=\"}"
        );
        let cut = shown(
            &framed(0, b"\x08\x01\x12\x05hello")[..9],
            "application/grpc",
            "",
            99,
        );
        assert_eq!((cut.text.as_str(), cut.truncated), ("{\"1\":1}", true));
        let head = shown(b"\0\0\0", "application/grpc", "", 99);
        assert_eq!((head.text.as_str(), head.truncated), ("", true));
    }

    #[test]
    fn grpc_web_as_bytes_and_as_text() {
        let bytes = [framed(0, b"\x08\x01"), framed(0x80, b"grpc-status: 0\r\n")].concat();
        let text = b"AAAAAAIIAYAAAAAQZ3JwYy1zdGF0dXM6IDANCg==";
        for (body, content_type) in [
            (&bytes[..], "application/grpc-web+proto"),
            (&text[..], "application/grpc-web-text"),
        ] {
            let shown = shown(body, content_type, "", 99);
            assert_eq!(
                (shown.text.as_str(), shown.truncated),
                ("{\"1\":1}", false),
                "{content_type}"
            );
        }
        assert!(shown(b"!!!!", "application/grpc-web-text", "", 99).truncated);
        let page = GrpcAbout {
            content_type: "text/html",
            ..GrpcAbout::default()
        };
        assert_eq!(grpc_body(b"<html>", page, &Descriptors::default(), 99), None);
    }

    #[test]
    fn names_by_the_method_that_is_called() {
        // message M { string name = 1; } service S { rpc Get(M) returns (M); } in package p
        let set = b"\x0a,\x12\x01p\x22\x0f\x0a\x01M\x12\x0a\x0a\x04name\x18\x01(\x092\x16\x0a\x01S\x12\x11\x0a\x03Get\x12\x04.p.M\x1a\x04.p.M";
        let mut descriptors = Descriptors::default();
        descriptors.add(set).unwrap();
        let about = GrpcAbout {
            content_type: "application/grpc",
            path: "/p.S/Get",
            ..GrpcAbout::default()
        };
        let shown = grpc_body(&framed(0, b"\x0a\x01x"), about, &descriptors, 99).unwrap();
        assert_eq!(shown.text, "{\"name\":\"x\"}");
        assert_eq!(shown.type_name.as_deref(), Some("p.M"));
    }
}
