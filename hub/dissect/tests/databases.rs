//! Captures that another project made, of Redis and PostgreSQL, held against what that project and tshark make of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use wiretape_captures::{corpora, read};
use wiretape_dissect::testing::{Dissected, dissect};
use wiretape_dissect::{Call, Marks, Value};

/// What `DeepFlow` calls the kinds of replies.
const KINDS: &[(&str, &str)] = &[
    ("bulk string", "BulkString"),
    ("integer", "Integer"),
    ("array", "Array"),
    ("error", "Error"),
    ("simple string", "SimpleString"),
];

#[test]
fn the_same_commands_and_replies_as_in_the_results_of_deepflow() {
    let Some(folder) = folder("redis") else { return };
    for file in ["redis.pcap", "redis-debug.pcap", "redis-error.pcap"] {
        let dissected = dissect(&read(&folder.join(file)).unwrap());
        let mut ours = Vec::new();
        for call in &dissected.calls {
            assert_eq!(
                (call.protocol, call.marks.has(Marks::NO_REQUEST)),
                ("redis", false),
                "{file}"
            );
            ours.push((
                text(call, "redis_command"),
                kind(&text(call, "redis_reply")),
                text(call, "redis_error"),
            ));
        }
        let result = std::fs::read_to_string(folder.join(file.replace(".pcap", ".result"))).unwrap();
        let mut theirs = Vec::new();
        for line in result.lines().filter(|line| line.contains("is_redis: true")) {
            let field = |name: &str| {
                let rest = line.split_once(&format!("{name}: ")).map_or("", |(_, rest)| rest);
                rest.split([',', '}'])
                    .next()
                    .unwrap_or("")
                    .trim()
                    .trim_matches('"')
                    .to_owned()
            };
            if field("request").is_empty() {
                if let Some((_, reply, error)) = theirs.last_mut() {
                    *reply = field("response_result");
                    // They keep the sign.
                    *error = field(" error").trim_start_matches('-').to_owned();
                }
            } else {
                theirs.push((field("request"), String::new(), String::new()));
            }
        }
        assert_eq!(ours, theirs, "{file}");
    }
}

fn kind(reply: &str) -> String {
    let known = KINDS.iter().find(|(ours, _)| *ours == reply);
    known.map_or(reply, |(_, theirs)| *theirs).to_owned()
}

/// The same of every message: what was asked for by text or by name, and what came of it.
#[test]
fn the_same_statements_tags_and_errors_as_tshark() {
    let Some(folder) = folder("postgre") else { return };
    for file in [
        "pgsql-all.pcap",
        "simple_query.pcap",
        "prepare_stat.pcap",
        "error.pcap",
    ] {
        let Some((asked, answered)) = tshark(&folder.join(file)) else {
            return;
        };
        let dissected = dissect(&read(&folder.join(file)).unwrap());
        let (mut our_asked, mut our_answered) = (Vec::new(), Vec::new());
        for call in &dissected.calls {
            assert_eq!(call.protocol, "postgresql", "{file}");
            for name in ["postgresql_query", "postgresql_statement"] {
                let value = text(call, name);
                if !value.is_empty() {
                    our_asked.push(begin(&value));
                }
            }
            for name in ["postgresql_command", "postgresql_error_code"] {
                let value = text(call, name);
                if !value.is_empty() {
                    our_answered.push(value);
                }
            }
        }
        assert_eq!(our_asked, asked, "{file}");
        // Its two packets are of two exchanges: what was said between them is not in it, so the second one may as well
        // be the middle of a row.
        let expected = if file == "prepare_stat.pcap" {
            Vec::new()
        } else {
            answered
        };
        assert_eq!(our_answered, expected, "{file}");
    }
}

#[test]
fn every_question_of_a_busy_connection_joined_anywhere_has_its_own_answer() {
    let Some(folder) = folder("postgre") else { return };
    let mut packets = read(&folder.join("pgsql-all.pcap")).unwrap();
    for (n, packet) in (0..).zip(&mut packets) {
        packet.at = n;
    }
    let whole = pairs(&dissect(&packets));
    assert_eq!(whole.len(), 32);
    for from in 0..packets.len() {
        let joined = pairs(&dissect(&packets[from..]));
        assert!(joined.iter().all(|pair| whole.contains(pair)), "from {from}");
        // What follows the first whole exchange is all there.
        let after = whole.iter().filter(|(at, ..)| *at >= from as u64).count();
        assert!(
            joined.len() + 1 >= after,
            "from {from}: {} of {after}",
            joined.len()
        );
    }
}

#[test]
fn nothing_else_is_taken_for_one_of_them() {
    let Some(folder) = folder(".") else { return };
    let mut files = Vec::new();
    for kind in std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
    {
        let known = kind.ends_with("redis") || kind.ends_with("postgre");
        if kind.is_dir() && !known {
            files.extend(
                std::fs::read_dir(kind)
                    .unwrap()
                    .flatten()
                    .map(|entry| entry.path()),
            );
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "pcap"));
    files.sort();
    assert!(files.len() > 50, "{} captures", files.len());
    for file in files {
        for call in dissect(&read(&file).unwrap()).calls {
            assert!(
                !matches!(call.protocol, "redis" | "postgresql"),
                "{}: {call:?}",
                file.display()
            );
        }
    }
}

/// The packets of each question and of its answer.
fn pairs(dissected: &Dissected) -> Vec<(u64, u64)> {
    let first = |message: &Option<wiretape_dissect::Message>| message.as_ref()?.packets.first().copied();
    let calls = dissected.calls.iter();
    calls
        .filter_map(|call| Some((first(&call.request)?, first(&call.response)?)))
        .collect()
}

/// As much of a statement as is kept for certain, without what is not ASCII, which tshark does not show.
fn begin(text: &str) -> String {
    text.chars().filter(char::is_ascii).take(1500).collect()
}

/// What tshark sees asked and answered; it is told the port.
fn tshark(file: &Path) -> Option<(Vec<String>, Vec<String>)> {
    let mut command = Command::new("tshark");
    command.args([
        "-n",
        "-d",
        "tcp.port==8000,pgsql",
        "-Y",
        "pgsql",
        "-T",
        "fields",
        "-E",
        "occurrence=f",
    ]);
    for field in ["pgsql.query", "pgsql.statement", "pgsql.tag", "pgsql.code"] {
        command.args(["-e", field]);
    }
    let output = match command.arg("-r").arg(file).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: tshark does not run: {error}");
            return None;
        }
    };
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [query, statement, tag, code] = columns[..] else {
            panic!("{line:?}");
        };
        // Line ends and tabs are written as two signs.
        let query = query.replace("\\n", " ").replace("\\r", " ").replace("\\t", " ");
        let query = query.split_whitespace().collect::<Vec<_>>().join(" ");
        let told = |values: &[&str]| {
            let told = values.iter().filter(|value| !value.is_empty());
            told.map(|value| (*value).to_owned()).collect::<Vec<_>>()
        };
        asked.extend(told(&[&begin(&query), statement]));
        answered.extend(told(&[code]));
        let tag = tag.trim_end_matches(|char: char| char.is_ascii_digit() || char == ' ');
        if !tag.is_empty() {
            answered.push(tag.to_owned());
        }
    }
    Some((asked, answered))
}

fn text(call: &Call, name: &str) -> String {
    match call.fields.iter().find(|(known, _)| *known == name) {
        Some((_, Value::Text(text))) => text.to_string(),
        _ => String::new(),
    }
}

/// A folder of `DeepFlow`'s captures.
fn folder(name: &str) -> Option<PathBuf> {
    Some(corpora()?.join("deepflow").join(name))
}
