//! Bodies, read from the segments when somebody asks for them.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use wiretape_dissect::{
    About, BODY_BYTES_MAX, BodyLimits, GrpcAbout, GrpcBody, GrpcMessage, Marks, Message, MessageBytes,
    Packet, Routed, Router, body_of, grpc_body,
};
use wiretape_tape::ReadError;

use super::Database;
use super::row::Row;
use crate::calls::packets::place;
use crate::dissections::{direction, link};

/// Bytes on the wire that are read beyond head and as much body as is wanted: for chunk sizes among it.
const FRAMING: u64 = 4 << 10;

/// Columns that [`StoredMessage::of`] takes, and those that a call is known by.
pub(super) const STORED: [&str; 27] = [
    "ts",
    "stream",
    "index",
    "node",
    "src_ip",
    "src_port",
    "dst_ip",
    "dst_port",
    "protocol",
    "version",
    "method",
    "path",
    "marks",
    "req_seq",
    "req_bytes",
    "req_head_bytes",
    "req_body_bytes",
    "req_missing_bytes",
    "req_headers",
    "req_packets",
    "resp_seq",
    "resp_bytes",
    "resp_head_bytes",
    "resp_body_bytes",
    "resp_missing_bytes",
    "resp_headers",
    "resp_packets",
];

/// Which message of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

impl Side {
    /// What its columns and members begin with.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Request => "req",
            Self::Response => "resp",
        }
    }
}

/// What the table knows of a message whose body is wanted.
#[derive(Clone, Debug)]
pub(super) struct StoredMessage {
    side: Side,
    method: String,
    version: String,
    /// Content-Encoding.
    encoding: String,
    /// What is known of its messages, if it is of gRPC.
    grpc: Option<Grpc>,
    from: SocketAddr,
    to: SocketAddr,
    message: Message,
    /// More packets than are listed.
    packets_cut: bool,
}

/// What the table knows of messages of gRPC.
#[derive(Clone, Debug)]
struct Grpc {
    content_type: String,
    /// Grpc-Encoding.
    encoding: String,
    path: String,
}

impl StoredMessage {
    /// A message of a call, if it was recorded and has a body.
    pub(super) fn of(row: Row<'_>, side: Side) -> Option<Self> {
        let number = |what: &str| row.int(&format!("{}_{what}", side.prefix()));
        let bytes = |what: &str| {
            number(what)
                .and_then(|bytes| u64::try_from(bytes).ok())
                .unwrap_or_default()
        };
        let address = |side: &str| {
            let ip: IpAddr = row.text(&format!("{side}_ip")).parse().ok()?;
            let port = row
                .int(&format!("{side}_port"))
                .and_then(|port| u16::try_from(port).ok())?;
            Some(SocketAddr::new(ip, port))
        };
        let (from, to) = match side {
            Side::Request => (address("src")?, address("dst")?),
            Side::Response => (address("dst")?, address("src")?),
        };
        let message = Message {
            seq: number("seq").and_then(|seq| u32::try_from(seq).ok())?,
            wire_len: bytes("bytes"),
            head_len: bytes("head_bytes"),
            body_len: bytes("body_bytes"),
            missing: bytes("missing_bytes"),
            packets: row
                .locations(&format!("{}_packets", side.prefix()))
                .into_iter()
                .collect(),
            ..Message::default()
        };
        let marks = Marks(u32::try_from(row.int("marks").unwrap_or_default()).unwrap_or_default());
        let packets_cut = marks.has(Marks::PACKETS_CUT);
        let method = row.text("method").to_owned();
        let headers = row.map(&format!("{}_headers", side.prefix()));
        let header = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map_or_else(String::new, |(_, value)| (*value).to_owned())
        };
        let grpc = (row.text("protocol") == "grpc").then(|| Grpc {
            content_type: header("content-type"),
            encoding: header("grpc-encoding"),
            path: row.text("path").to_owned(),
        });
        (message.body_len > 0).then_some(Self {
            side,
            method,
            version: row.text("version").to_owned(),
            encoding: header("content-encoding"),
            grpc,
            from,
            to,
            message,
            packets_cut,
        })
    }
}

/// A body as it is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shown {
    /// As text; empty if it is none.
    text: String,
    /// Its bytes, if they are no text.
    bytes: Option<Vec<u8>>,
    /// There is more of it than is shown.
    pub(super) truncated: bool,
    /// What is wrong with it.
    pub(super) reason: Option<String>,
    /// The messages that `body` tells of, and all of it as sent.
    grpc: Option<(GrpcBody, String)>,
}

impl Shown {
    /// Puts the body and what is to be said about it into an answer.
    pub(super) fn put(self, prefix: &str, answer: &mut Map<String, Value>) {
        let body = if let Some(bytes) = &self.bytes {
            answer.insert(format!("{prefix}_body_encoding"), json!("base64"));
            BASE64_STANDARD.encode(bytes)
        } else {
            self.text
        };
        answer.insert(format!("{prefix}_body"), json!(body));
        if self.truncated {
            answer.insert(format!("{prefix}_body_truncated"), json!(true));
        }
        if let Some(reason) = self.reason {
            answer.insert(format!("{prefix}_body_error"), json!(reason));
        }
        if let Some((grpc, raw)) = self.grpc {
            let message = |message: &GrpcMessage| {
                let mut told = json!({"bytes": message.len});
                if message.compressed {
                    told["compressed"] = json!(true);
                    told["inflated_bytes"] = json!(message.inflated);
                }
                told
            };
            let messages: Vec<Value> = grpc.messages.iter().map(message).collect();
            answer.insert(format!("{prefix}_body_messages"), json!(messages));
            if let Some(name) = grpc.type_name {
                answer.insert(format!("{prefix}_body_type"), json!(name));
            }
            answer.insert(format!("{prefix}_body_raw"), json!(raw));
        }
    }

    /// As text that can be looked through: what is none in it stands there as U+FFFD.
    pub(super) fn searched(self) -> String {
        match self.bytes {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => self.text,
        }
    }

    fn unreadable(reason: String) -> Self {
        Self {
            reason: Some(reason),
            ..Self::default()
        }
    }
}

/// Reads a body: at most `most` bytes of it, decoded.
pub(super) fn show(db: &Database, stored: &StoredMessage, most: usize) -> Shown {
    let most = most.min(BODY_BYTES_MAX);
    let mut message = stored.message.clone();
    let wanted = u64::try_from(most)
        .unwrap_or(u64::MAX)
        .saturating_add(message.head_len)
        .saturating_add(FRAMING);
    message.wire_len = message.wire_len.min(wanted);
    let mut bytes = MessageBytes::new(&message, &stored.version, stored.from, stored.to);
    let mut router = Router::new();
    let mut without_end = 0;
    for &location in &message.packets {
        if bytes.is_complete() {
            break;
        }
        match add(db, location, &mut router, &mut bytes) {
            Ok(is_cut) => without_end += usize::from(is_cut),
            Err(error) => {
                return Shown::unreadable(format!("cannot read its packets from the segments: {error}"));
            }
        }
    }
    let method = Some(stored.method.as_str()).filter(|method| !method.is_empty());
    let about = About {
        version: &stored.version,
        method,
        is_response: stored.side == Side::Response,
        encoding: &stored.encoding,
        body_len: message.body_len,
    };
    let body = body_of(&bytes, about, BodyLimits { bytes: most });
    let cut_short = message.wire_len < stored.message.wire_len || stored.packets_cut;
    let mut shown = Shown {
        truncated: body.truncated || (cut_short && body.missing > 0),
        ..Shown::default()
    };
    if bytes.missing() > 0 && !stored.packets_cut {
        let why = match without_end {
            0 => String::new(),
            packets => format!(
                ": {packets} of its packets were recorded without their end, as a recorder does that has too much to do"
            ),
        };
        shown.reason = Some(format!(
            "{} bytes of the message are not in the segments{why}",
            bytes.missing()
        ));
    } else if body.missing > 0 && stored.version == "HTTP/2" && !stored.packets_cut {
        shown.reason = Some(format!(
            "{} bytes of the body are not in the segments",
            body.missing
        ));
    } else if !body.decoded && !body.encoding.is_empty() {
        shown.reason = Some(format!(
            "it could not be decoded ({}), and is shown as sent",
            body.encoding
        ));
    }
    let grpc = stored.grpc.as_ref().filter(|_| body.decoded).and_then(|grpc| {
        let about = GrpcAbout {
            content_type: &grpc.content_type,
            encoding: &grpc.encoding,
            path: &grpc.path,
            is_response: stored.side == Side::Response,
        };
        grpc_body(&body.bytes, about, db.descriptors(), most)
    });
    if let Some(mut grpc) = grpc {
        shown.truncated |= grpc.truncated;
        shown.text = std::mem::take(&mut grpc.text);
        shown.grpc = Some((grpc, BASE64_STANDARD.encode(&body.bytes)));
        return shown;
    }
    match text(&body.bytes, shown.truncated) {
        Some(text) => text.clone_into(&mut shown.text),
        None => shown.bytes = Some(body.bytes),
    }
    shown
}

/// The bytes as text, if they are one. A character that the limit cut through is left out.
fn text(bytes: &[u8], truncated: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if truncated && error.error_len().is_none() => bytes
            .get(..error.valid_up_to())
            .and_then(|whole| std::str::from_utf8(whole).ok()),
        Err(_) => None,
    }
}

/// Whether the packet was recorded without its end.
fn add(
    db: &Database,
    location: u64,
    router: &mut Router,
    bytes: &mut MessageBytes,
) -> Result<bool, ReadError> {
    let (file, offset) = place(location);
    let packet = db.file(file)?.packet_at(offset)?;
    let is_cut = usize::try_from(packet.meta.orig_len).is_ok_and(|length| length > packet.data.len());
    let Some(link) = link(packet.meta.link) else {
        return Ok(is_cut);
    };
    let routed = router.route(&Packet {
        ts: packet.meta.ts,
        data: &packet.data,
        orig_len: packet.meta.orig_len,
        link,
        direction: direction(packet.meta.direction),
        tape: 0,
        interface: packet.meta.interface,
        cgroup: packet.meta.cgroup,
        at: location,
    });
    match routed {
        Routed::Segment { segment, .. } => bytes.take(&segment, segment.payload(&packet.data)),
        Routed::Owned {
            segment, datagram, ..
        } => bytes.take(&segment, segment.payload(&datagram)),
        // Messages in datagrams have no bodies beside their heads.
        Routed::Datagram { .. } | Routed::Held | Routed::Skipped(_) => {}
    }
    Ok(is_cut)
}
