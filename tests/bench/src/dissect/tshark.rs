//! The peer: `tshark -T fields` at its fastest setting that still gives right answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::kind::Kind;
use crate::usage::{self, Usage};

/// What it prints of every message: where and when it was.
const PLACE: [&str; 8] = [
    "frame.time_epoch",
    "frame.number",
    "ip.src",
    "ip.dst",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.stream",
    "tcp.seq_raw",
];

/// How it is asked for one protocol.
struct Question {
    kind: Kind,
    /// Its name of the protocol.
    protocol: &'static str,
    /// What it prints of each message: what we store of it, as far as it has a field for that.
    fields: &'static [&'static str],
    /// What tells a request: the field, and its value if not every one does.
    request: (&'static str, Option<&'static [&'static str]>),
    /// The field that says that a frame's last message is not whole, and comes again with the next one.
    again: Option<&'static str>,
    /// The field of a status.
    status: Option<&'static str>,
}

const HTTP1: Question = Question {
    kind: Kind::Http1,
    protocol: "http",
    // All header fields are in the two `line`s.
    fields: &[
        "http.request.method",
        "http.request.uri",
        "http.host",
        "http.response.code",
        "http.content_length_header",
        "http.request.version",
        "http.response.version",
        "http.time",
        "http.request.line",
        "http.response.line",
    ],
    request: ("http.request.method", None),
    again: None,
    status: Some("http.response.code"),
};

const HTTP2: Question = Question {
    kind: Kind::Http2,
    protocol: "http2",
    fields: &[
        "http2.streamid",
        "http2.type",
        "http2.headers.method",
        "http2.headers.path",
        "http2.headers.authority",
        "http2.headers.status",
        "http2.headers.content_length",
        "http2.header.name",
        "http2.header.value",
    ],
    request: ("http2.headers.method", None),
    again: None,
    status: None,
};

const GRPC: Question = Question {
    kind: Kind::Grpc,
    protocol: "http2",
    fields: &[
        "http2.streamid",
        "http2.type",
        "http2.headers.method",
        "http2.headers.path",
        "http2.headers.authority",
        "http2.headers.status",
        "http2.header.name",
        "http2.header.value",
        "grpc.message_length",
        "grpc.compressed_flag",
    ],
    request: ("http2.headers.method", None),
    again: None,
    status: None,
};

const POSTGRESQL: Question = Question {
    kind: Kind::Postgresql,
    protocol: "pgsql",
    fields: &[
        "pgsql.type",
        "pgsql.length",
        "pgsql.query",
        "pgsql.statement",
        "pgsql.portal",
        "pgsql.tag",
        "pgsql.status",
        "pgsql.code",
        "pgsql.message",
        "pgsql.parameter_name",
        "pgsql.parameter_value",
    ],
    // pgbench prepares with a question of its own, which is none of its statements.
    request: ("pgsql.type", Some(&["Simple query", "Execute"])),
    again: None,
    status: None,
};

const REDIS: Question = Question {
    kind: Kind::Redis,
    protocol: "resp",
    fields: &[
        "resp.array.length",
        "resp.bulk_string.length",
        "resp.bulk_string.value",
        "resp.string",
        "resp.integer",
        "resp.error",
        "resp.reassembled_in_next_frame",
    ],
    request: ("resp.array.length", None),
    again: Some("resp.reassembled_in_next_frame"),
    status: None,
};

const DNS: Question = Question {
    kind: Kind::Dns,
    protocol: "dns",
    fields: &[
        "udp.srcport",
        "udp.dstport",
        "dns.id",
        "dns.flags.response",
        "dns.flags.rcode",
        "dns.qry.name",
        "dns.qry.type",
        "dns.resp.name",
        "dns.resp.type",
        "dns.resp.ttl",
        "dns.a",
        "dns.aaaa",
        "dns.cname",
        "dns.time",
    ],
    request: ("dns.flags.response", Some(&["0", "False"])),
    again: None,
    status: None,
};

/// What makes it faster and leaves the answers as they are. Three settings would make it faster still and are left
/// alone, because the answers become wrong: without `tcp.analyze_sequence_numbers` it counts retransmitted requests
/// twice; without `http.desegment_body` and `tcp.desegment_tcp_streams` it misses messages of several segments.
const SETTINGS: [&str; 6] = [
    "tcp.track_bytes_in_flight:FALSE",
    "tcp.calculate_timestamps:FALSE",
    "tcp.relative_sequence_numbers:FALSE",
    "tcp.summary_in_tree:FALSE",
    "udp.summary_in_tree:FALSE",
    "ip.summary_in_tree:FALSE",
];
/// Dissectors of what we do not dissect either.
const DISABLED: [&str; 1] = ["json"];

/// What it found in a capture.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Requests.
    pub requests: u64,
    /// Responses by the filter that finds them among our calls, where it has a status.
    pub statuses: BTreeMap<String, u64>,
}

fn questions(kind: Kind) -> Vec<&'static Question> {
    const ALL: [&Question; 6] = [&HTTP1, &HTTP2, &GRPC, &POSTGRESQL, &REDIS, &DNS];
    ALL.into_iter()
        .filter(|question| kind == Kind::Mix || question.kind == kind)
        .collect()
}

/// Its name and version.
pub fn version() -> Result<String> {
    let out = Command::new("tshark")
        .arg("--version")
        .output()
        .context("tshark is not installed")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Runs it over a capture with its output thrown away.
pub fn run(kind: Kind, capture: &Path) -> Result<Usage> {
    usage::of(Path::new("/dev/null"), &command(kind, capture))
}

/// Runs it once more and reads what it prints.
pub fn find(kind: Kind, capture: &Path, scratch: &Path) -> Result<Found> {
    let printed = scratch.join("tshark.fields");
    usage::of(&printed, &command(kind, capture))?;
    let text = fs::read_to_string(&printed)?;
    let fields = fields(kind);
    let place = |field: &str| fields.iter().position(|other| *other == field);
    let mut found = Found::default();
    for line in text.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        ensure!(
            columns.len() == fields.len(),
            "tshark printed a line of {} columns: {line}",
            columns.len()
        );
        // A frame that ends one message and begins the next has both, separated by commas.
        let cells = |field: &str| {
            let cell = place(field).and_then(|at| columns.get(at));
            cell.into_iter().flat_map(|cell| values(cell))
        };
        for question in asked_once(kind) {
            let (field, wanted) = question.request;
            if question.kind == Kind::Redis && !cells("tcp.dstport").any(|port| port == "6379") {
                continue;
            }
            let requests = cells(field).filter(|value| wanted.is_none_or(|wanted| wanted.contains(value)));
            let again = question.again.into_iter().flat_map(cells).count();
            found.requests += requests.count().saturating_sub(again) as u64;
            for status in question.status.into_iter().flat_map(cells) {
                *found
                    .statuses
                    .entry(format!("response.status == {status}"))
                    .or_default() += 1;
            }
        }
    }
    Ok(found)
}

fn values(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(',').filter(|value| !value.is_empty())
}

/// Those whose requests are told by different fields: HTTP/2's are gRPC's, too.
fn asked_once(kind: Kind) -> Vec<&'static Question> {
    let mut questions = questions(kind);
    questions.dedup_by_key(|question| question.request.0);
    questions
}

/// All that is printed.
fn fields(kind: Kind) -> Vec<&'static str> {
    let mut fields = PLACE.to_vec();
    for field in questions(kind).into_iter().flat_map(|question| question.fields) {
        if !fields.contains(field) {
            fields.push(field);
        }
    }
    fields
}

fn command(kind: Kind, capture: &Path) -> Vec<String> {
    let mut command: Vec<String> = ["tshark", "-r"].map(String::from).to_vec();
    command.push(capture.display().to_string());
    let asked = asked_once(kind);
    let protocols: Vec<_> = asked.iter().map(|question| question.protocol).collect();
    // No name resolution; only frames in which the protocol was found; one line of fields for each.
    command.extend(["-n", "-Y", &protocols.join(" or "), "-T", "fields"].map(String::from));
    for field in fields(kind) {
        command.extend(["-e", field].map(String::from));
    }
    // It is told the ports, so that it need not guess. The ports of our HTTP/1 traffic it knows by itself.
    for question in questions(kind) {
        let layer = match question.kind {
            Kind::Http1 => continue,
            Kind::Dns => "udp",
            _ => "tcp",
        };
        let port = question.kind.port();
        command.extend([
            "-d".to_owned(),
            format!("{layer}.port=={port},{}", question.protocol),
        ]);
    }
    for setting in SETTINGS {
        command.extend(["-o", setting].map(String::from));
    }
    for protocol in DISABLED {
        command.extend(["--disable-protocol", protocol].map(String::from));
    }
    command
}
