//! Captures of HTTP/2 and gRPC that other projects made, held against tshark: the same requests, responses and trailers.

use std::path::Path;
use std::process::Command;

use wiretape_captures::{captures, corpora, read};
use wiretape_dissect::testing::{Dissected, Recorded, dissect};
use wiretape_dissect::{Call, Value};

/// Captures, and the port on which tshark has to be told that this is HTTP/2.
const CAPTURES: &[(&str, u16)] = &[
    ("grpc-segmented.pcap", 20035),
    ("grpc-server-stream.pcap", 9001),
    ("grpc-service-name.pcap", 38888),
    ("grpc-unary.pcap", 30035),
    ("grpc-unknown.pcap", 7000),
    ("h2c_ascii.pcap", 7070),
    ("http2-multi.pcap", 3550),
    ("httpv2-stream-id.pcap", 11800),
    ("grpc_person_search_json_with_image.pcapng.gz", 50052),
    (
        "grpc_person_search_protobuf_with_image-missing_headers.pcapng.gz",
        50051,
    ),
    ("grpc_person_search_protobuf_with_image.pcapng.gz", 50051),
    ("grpc_stream_reassembly_sample.pcapng.gz", 50051),
    ("grpc_stream_reassembly_sample.pcapng.gz", 44363),
    ("grpc_web.pcapng.gz", 57228),
    ("packet-h2-14_headers.pcapng", 3000),
];

#[test]
fn the_same_requests_and_responses_as_tshark() {
    let Some(corpora) = corpora() else { return };
    let files = captures(&corpora, &["wireshark", "deepflow/http"]).unwrap();
    let (mut messages, mut wrong) = (0, Vec::new());
    for (name, port) in CAPTURES {
        let file = files.iter().find(|file| file.ends_with(name));
        let Some(theirs) = file.and_then(|file| tshark(file, *port)) else {
            return;
        };
        let ours = ours(&dissect(&read(file.unwrap()).unwrap()), *port);
        messages += theirs.len();
        if ours != theirs {
            wrong.push(format!("{name}:\n  ours   {ours:?}\n  tshark {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!(
        "{} captures, {messages} heads and trailers of HTTP/2 as tshark has them",
        CAPTURES.len()
    );
}

/// Cut at any packet, what comes is the same, or says what is missing of it.
#[test]
fn joined_at_every_packet_nothing_is_wrong() {
    let Some(corpora) = corpora() else { return };
    let files = captures(&corpora, &["wireshark", "deepflow/http"]).unwrap();
    let mut seen = 0;
    for (name, _) in CAPTURES {
        let Some(file) = files.iter().find(|file| file.ends_with(name)) else {
            continue;
        };
        let packets = read(file).unwrap();
        let truth = dissect(&packets);
        for from in (1..packets.len()).step_by(packets.len().div_ceil(40)) {
            for call in http2(&dissect(&packets[from..])) {
                let whole = http2(&truth).find(|whole| is_same(whole, call));
                let whole = whole.unwrap_or_else(|| panic!("{name} from {from} on: {call:#?}"));
                for (ours, theirs) in [
                    (&*call.method, &*whole.method),
                    (&call.path, &whole.path),
                    (&call.authority, &whole.authority),
                ] {
                    assert!(
                        ours.is_empty() || ours == theirs,
                        "{name} from {from} on: {ours} is {theirs}"
                    );
                }
                assert!(
                    call.status.is_none() || call.status == whole.status,
                    "{name} from {from} on"
                );
                seen += 1;
            }
        }
    }
    eprintln!("{seen} calls of cut captures, none wrong");
}

/// No other protocol's connection is taken for HTTP/2.
#[test]
fn nothing_else_is_taken_for_http2() {
    let Some(corpora) = corpora() else { return };
    let files = captures(&corpora, &["wireshark", "deepflow"]).unwrap();
    let known = |file: &Path| CAPTURES.iter().any(|(name, _)| file.ends_with(name));
    for file in files.iter().filter(|file| !known(file)) {
        let packets = read(file).unwrap();
        let joined: Vec<&[Recorded]> = (0..packets.len().min(20)).map(|from| &packets[from..]).collect();
        for packets in joined {
            let dissected = dissect(packets);
            let call = http2(&dissected).next();
            assert!(
                call.is_none(),
                "{}: {} {:?}",
                file.display(),
                dissected.calls.len(),
                call.map(|call| (&call.method, &call.path, call.status, call.marks))
            );
        }
    }
}

fn http2(dissected: &Dissected) -> impl Iterator<Item = &Call> {
    dissected.calls.iter().filter(|call| call.version == "HTTP/2")
}

/// The same stream of the same connection.
fn is_same(one: &Call, other: &Call) -> bool {
    one.server.address == other.server.address
        && one.client.address == other.client.address
        && number(one, "http2_stream") == number(other, "http2_stream")
}

fn number(call: &Call, name: &str) -> Option<i64> {
    call.fields.iter().find_map(|(field, value)| match value {
        Value::Int(number) if *field == name => Some(*number),
        _ => None,
    })
}

/// Requests, responses and statuses of gRPC as lines, sorted.
fn ours(dissected: &Dissected, port: u16) -> Vec<String> {
    let mut lines = Vec::new();
    for call in http2(dissected).filter(|call| call.server.address.port() == port) {
        if call.request.is_some() {
            let query = if call.query.is_empty() { "" } else { "?" };
            lines.push(format!("{} {}{query}{}", call.method, call.path, call.query));
        }
        lines.extend(call.status.map(|status| status.to_string()));
        // tshark does not look for the trailers that gRPC-Web has in its body.
        let trailers = call
            .response
            .as_ref()
            .and_then(|response| response.headers.get("grpc-status"));
        lines.extend(trailers.map(|status| format!("grpc-status {status}")));
    }
    lines.sort();
    lines
}

fn tshark(file: &Path, port: u16) -> Option<Vec<String>> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-d"]);
    command.arg(format!("tcp.port=={port},http2"));
    command
        .arg("-Y")
        .arg(format!("http2 && !tls && tcp.port=={port}"));
    command.args(["-T", "fields", "-E", "separator=/t", "-E", "aggregator=|"]);
    for field in ["method", "path", "status"] {
        command.arg("-e").arg(format!("http2.headers.{field}"));
    }
    command
        .args(["-e", "http2.header.name", "-e", "http2.header.value", "-r"])
        .arg(file);
    let Ok(output) = command.output() else {
        eprintln!("skipped: tshark is not installed");
        return None;
    };
    let mut lines = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let fields: Vec<Vec<&str>> = line.split('\t').map(|field| field.split('|').collect()).collect();
        let [methods, paths, codes, names, values] = &fields[..] else {
            continue;
        };
        let paths = paths.iter().chain(std::iter::repeat(&""));
        let methods = methods.iter().filter(|method| !method.is_empty());
        lines.extend(
            methods
                .zip(paths)
                .map(|(method, path)| format!("{method} {path}")),
        );
        lines.extend(
            codes
                .iter()
                .filter(|code| !code.is_empty())
                .map(|code| (*code).to_owned()),
        );
        let trailers = names
            .iter()
            .zip(values)
            .filter(|(name, _)| **name == "grpc-status");
        lines.extend(trailers.map(|(_, status)| format!("grpc-status {status}")));
    }
    lines.sort();
    Some(lines)
}
