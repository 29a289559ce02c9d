//! DNS, TLS, QUIC and ICMP in captures that other projects made, held against tshark.

use std::path::Path;
use std::process::Command;

use wiretape_captures::{captures, corpora, name, read};
use wiretape_dissect::testing::{Recorded, dissect};
use wiretape_dissect::{Call, Value};

/// What tshark shows of each packet that a filter picks: one line each, its fields behind each other. Fields with several
/// values have them joined by `|`.
fn tshark(file: &Path, filter: &str, fields: &[&str], options: &[&str]) -> Option<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command.args([
        "-n",
        "-Y",
        filter,
        "-T",
        "fields",
        "-E",
        "separator=/t",
        "-E",
        "aggregator=|",
    ]);
    for option in options {
        command.args(["-o", option]);
    }
    for field in fields {
        command.args(["-e", field]);
    }
    let Ok(output) = command.arg("-r").arg(file).output() else {
        eprintln!("skipped: tshark is not installed");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    Some(
        lines
            .map(|line| line.split('\t').map(str::to_owned).collect())
            .collect(),
    )
}

fn text(call: &Call, name: &str) -> String {
    let value = call.fields.iter().find(|(known, _)| *known == name);
    match value.map(|(_, value)| value) {
        Some(Value::Text(text)) => text.to_string(),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::Bool(truth)) => truth.to_string(),
        None => String::new(),
    }
}

/// Captures in which ours and tshark's hellos are not the same, and why.
const OTHERWISE: &[(&str, &str)] = &[(
    "tls-fragmented-handshakes.pcap.gz",
    "many hellos in one connection; ours is the call of the first",
)];

#[test]
fn dns_questions_and_answers_as_tshark_has_them() {
    let Some(corpora) = corpora() else { return };
    let files = captures(&corpora, &["wireshark", "deepflow/dns"]).unwrap();
    let (mut compared, mut messages, mut wrong) = (0, 0, Vec::new());
    for file in files {
        let calls = dissect(&read(&file).unwrap()).calls;
        let mut ours = Vec::new();
        for call in calls.iter().filter(|call| call.protocol == "dns") {
            let id = text(call, "dns_id");
            if call.request.is_some() {
                let retries: usize = text(call, "dns_retries").parse().unwrap_or_default();
                for _ in 0..=retries {
                    ours.push(format!("{id} asks {}", call.path));
                }
            }
            if let Some(status) = call.status {
                let answers = text(call, "dns_answer_count");
                ours.push(format!("{id} answers {} {status} {answers}", call.path));
            }
        }
        if ours.is_empty() && !name(&file).contains("dns") {
            continue;
        }
        let fields = [
            "dns.id",
            "dns.flags.response",
            "dns.qry.name",
            "dns.flags.rcode",
            "dns.count.answers",
        ];
        let Some(theirs) = tshark(
            &file,
            "dns && !icmp && !icmpv6",
            &fields,
            &["tcp.reassemble_out_of_order:TRUE"],
        ) else {
            return;
        };
        let mut expected = Vec::new();
        for line in &theirs {
            let each: Vec<Vec<&str>> = line.iter().map(|field| field.split('|').collect()).collect();
            let [ids, responses, names, rcodes, counts] = each.as_slice() else {
                continue;
            };
            let mut rcodes = rcodes.iter();
            for (n, (id, response)) in ids.iter().zip(responses).enumerate() {
                let id = u16::from_str_radix(id.trim_start_matches("0x"), 16).unwrap_or_default();
                let name = names.get(n).copied().unwrap_or_default();
                if *response == "1" {
                    let (rcode, count) = (rcodes.next().copied().unwrap_or_default(), counts[n]);
                    expected.push(format!("{id} answers {name} {rcode} {count}"));
                } else {
                    expected.push(format!("{id} asks {name}"));
                }
            }
        }
        ours.sort();
        expected.sort();
        compared += 1;
        messages += ours.len();
        if ours != expected {
            wrong.push(format!(
                "{}:\n  ours   {ours:?}\n  tshark {expected:?}",
                name(&file)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{compared} captures, {messages} messages of DNS as tshark has them");
}

/// The hellos of the calls of a protocol, each by what it is known by.
fn hellos(calls: &[Call], protocol: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for call in calls.iter().filter(|call| call.protocol == protocol) {
        for names in [
            ["tlsx_sni", "tlsx_ja3", "tlsx_ja3_full"].as_slice(),
            &["tlsx_ja3s", "tlsx_ja3s_full"],
        ] {
            let line: Vec<String> = names.iter().map(|name| text(call, name)).collect();
            if line.last().is_some_and(|full| !full.is_empty()) {
                lines.push(line.join(" "));
            }
        }
    }
    lines.sort();
    lines
}

/// The same as tshark has them; the duplicates of hellos that were sent again are its, too.
fn their_hellos(file: &Path, filter: &str) -> Option<Vec<String>> {
    let fields = [
        "tls.handshake.extensions_server_name",
        "tls.handshake.ja3",
        "tls.handshake.ja3_full",
        "tls.handshake.ja3s",
        "tls.handshake.ja3s_full",
    ];
    let mut lines = Vec::new();
    for line in tshark(file, filter, &fields, &[])? {
        let [name, ja3, ja3_full, ja3s, ja3s_full] = line.as_slice() else {
            continue;
        };
        if !ja3.is_empty() {
            lines.push(format!("{name} {ja3} {ja3_full}"));
        }
        if !ja3s.is_empty() {
            lines.push(format!("{ja3s} {ja3s_full}"));
        }
    }
    lines.sort();
    Some(lines)
}

#[test]
fn tls_hellos_as_tshark_has_them() {
    let Some(corpora) = corpora() else { return };
    let files = captures(&corpora, &["wireshark"]).unwrap();
    let (mut compared, mut told, mut wrong) = (0, 0, Vec::new());
    for file in files {
        let packets = read(&file).unwrap();
        // Asking takes a second.
        let any = |packet: &Recorded| packet.data.windows(2).any(|bytes| bytes == [0x16, 3]);
        if OTHERWISE.iter().any(|(known, _)| *known == name(&file)) || !packets.iter().any(any) {
            continue;
        }
        let ours = hellos(&dissect(&packets).calls, "tls");
        let Some(theirs) = their_hellos(&file, "tls.handshake.type in {1,2} && !quic") else {
            return;
        };
        compared += usize::from(!theirs.is_empty());
        told += ours.len();
        if ours != theirs {
            wrong.push(format!(
                "{}:\n  ours   {ours:?}\n  tshark {theirs:?}",
                name(&file)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{compared} captures, {told} hellos of TLS as tshark has them");
}

#[test]
fn quic_hellos_as_tshark_has_them() {
    let Some(corpora) = corpora() else { return };
    let files = captures(&corpora, &["wireshark"]).unwrap();
    let (mut compared, mut told, mut wrong) = (0, 0, Vec::new());
    for file in files.iter().filter(|file| name(file).contains("quic")) {
        let mut ours = hellos(&dissect(&read(file).unwrap()).calls, "quic");
        let Some(mut theirs) = their_hellos(file, "quic && tls.handshake.type in {1,2}") else {
            return;
        };
        ours.dedup();
        theirs.dedup();
        compared += 1;
        told += ours.len();
        if ours != theirs {
            wrong.push(format!(
                "{}:\n  ours   {ours:#?}\n  tshark {theirs:#?}",
                name(file)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{compared} captures, {told} different hellos of QUIC as tshark has them");
}

#[test]
fn icmp_messages_as_tshark_has_them() {
    let Some(corpora) = corpora() else { return };
    let files = captures(&corpora, &["wireshark", "deepflow/dns"]).unwrap();
    let (mut compared, mut told, mut wrong) = (0, 0, Vec::new());
    for file in files {
        let calls = dissect(&read(&file).unwrap()).calls;
        let mut ours = Vec::new();
        for call in calls.iter().filter(|call| call.protocol == "icmp") {
            let halves = usize::from(call.request.is_some()) + usize::from(call.response.is_some());
            let again: usize = text(call, "icmp_retries").parse().unwrap_or_default();
            for _ in 0..halves + again {
                ours.push(text(call, "icmp_code"));
            }
        }
        if ours.is_empty() {
            continue;
        }
        let fields = ["icmp.code", "icmpv6.code"];
        let Some(theirs) = tshark(
            &file,
            "icmp || (icmpv6 && !(icmpv6.type in {130..136, 143}))",
            &fields,
            &[],
        ) else {
            return;
        };
        let mut expected: Vec<String> = theirs.iter().map(|line| line.concat()).collect();
        ours.sort();
        expected.sort();
        compared += 1;
        told += ours.len();
        if ours != expected {
            wrong.push(format!(
                "{}:\n  ours   {ours:?}\n  tshark {expected:?}",
                name(&file)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{compared} captures, {told} messages of ICMP as tshark has them");
}
