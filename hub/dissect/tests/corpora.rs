//! Captures that other projects made, held against tshark: the same requests and the same responses in every file.

use std::path::Path;
use std::process::Command;

use wiretape_captures::{captures, corpora, read};
use wiretape_dissect::testing::{Dissected, dissect};

/// Where our answer differs from tshark's, and why.
const DIFFERENCES: &[(&str, &[&str], &str)] = &[
    (
        "client-ip.pcap",
        &[
            "200",
            "POST /biz-inquiry-bff/bff/v1/common/check/polymerization?channel=webportal&terminalType=bff \
             api-webizft1.intranet.local",
        ],
        "on a port that tshark does not take for HTTP, and the rest of the request's body is not in the capture",
    ),
    (
        "istio-tcp-frag.pcap",
        &["200", "GET /productpage productpage:9080"],
        "of the response only the first line was captured; ours is marked as having a gap",
    ),
    (
        "tcp-badsegments.pcap",
        &["GET / localhost"],
        "made of segments that contradict each other, with holes; ours is marked as having a gap",
    ),
];

#[test]
fn the_same_requests_and_responses_as_tshark() {
    let Some(corpora) = corpora() else { return };
    let files = captures(&corpora, &["wireshark", "deepflow/http", "deepflow/tcp"]).unwrap();
    let (mut compared, mut messages, mut wrong) = (0, 0, Vec::new());
    for file in files {
        let packets = read(&file).unwrap();
        // What does not name the protocol anywhere need not be asked about: asking takes a second.
        if !packets
            .iter()
            .any(|packet| packet.data.windows(7).any(|bytes| bytes == b"HTTP/1."))
        {
            continue;
        }
        let ours = ours(&dissect(&packets));
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let theirs = match DIFFERENCES.iter().find(|(known, ..)| *known == name) {
            Some((_, expected, _)) => Some(expected.iter().map(|line| (*line).to_owned()).collect()),
            None => tshark(&file),
        };
        let Some(theirs) = theirs else { return };
        compared += 1;
        messages += theirs.len();
        if ours != theirs {
            wrong.push(format!("{name}:\n  ours   {ours:?}\n  tshark {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{compared} captures, {messages} messages of HTTP/1 as tshark has them");
}

#[test]
fn every_file_of_the_corpora_is_survived() {
    let Some(corpora) = corpora() else { return };
    let files = captures(&corpora, &["wireshark", "deepflow"]).unwrap();
    for file in files {
        let packets = read(&file).unwrap();
        let dissected = dissect(&packets);
        let router = dissected.router;
        let told = router.segments
            + router.messages
            + router.not_ip
            + router.other_transport
            + router.truncated
            + router.malformed;
        assert!(
            told <= packets.len() as u64 && told + router.fragments >= packets.len() as u64,
            "{file:?}"
        );
    }
}

/// Requests and responses as lines, sorted.
fn ours(dissected: &Dissected) -> Vec<String> {
    let mut lines = Vec::new();
    for call in dissected
        .calls
        .iter()
        .filter(|call| call.version.starts_with("HTTP/1"))
    {
        if call.request.is_some() {
            let query = if call.query.is_empty() {
                String::new()
            } else {
                format!("?{}", call.query)
            };
            lines.push(format!("{} {}{query} {}", call.method, call.path, call.authority));
        }
        if let Some(status) = call.status {
            lines.push(status.to_string());
        }
    }
    lines.sort();
    lines
}

fn tshark(file: &Path) -> Option<Vec<String>> {
    let mut command = Command::new("tshark");
    command.args([
        "-n",
        "-o",
        "tcp.reassemble_out_of_order:TRUE",
        "-Y",
        "http && !tls",
        "-T",
        "fields",
    ]);
    for field in [
        "http.request.method",
        "http.request.uri",
        "http.host",
        "http.response.code",
    ] {
        command.args(["-e", field]);
    }
    command
        .args(["-E", "separator=/t", "-E", "aggregator=|", "-r"])
        .arg(file);
    let Ok(output) = command.output() else {
        eprintln!("skipped: tshark is not installed");
        return None;
    };
    let mut lines = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut fields = line
            .split('\t')
            .map(|field| field.split('|').filter(|part| !part.is_empty()));
        let (Some(methods), Some(uris), Some(hosts), Some(codes)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let mut hosts = hosts.chain(std::iter::repeat(""));
        for (method, uri) in methods.zip(uris) {
            lines.push(format!("{method} {uri} {}", hosts.next().unwrap_or_default()));
        }
        // An interim response is no message of a call.
        lines.extend(
            codes
                .filter(|code| !code.starts_with('1') || *code == "101")
                .map(str::to_owned),
        );
    }
    lines.sort();
    Some(lines)
}
