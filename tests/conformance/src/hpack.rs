//! Header blocks of real sites by three encoders, each the frames of one connection: whole, and joined at every block.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use wiretape_dissect::testing::{Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Value as Field};

use crate::compare::{Difference, Tally};

/// The encoders, each a folder of the corpora.
const ENCODERS: [&str; 3] = ["go-hpack", "nghttp2", "nghttp2-change-table-size"];

/// Blocks that are looked at behind each join: a table that is out of step shows in the first few.
const BEHIND_A_JOIN: usize = 8;

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// RFC 9113, section 6: types and flags of frames.
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM_AND_HEADERS: u8 = 5;

type Fields = Vec<(String, String)>;

/// One encoder's blocks of one connection, with what they mean.
struct Story {
    name: String,
    cases: Vec<(Vec<u8>, Fields)>,
}

/// What came of all stories: whole ones, in which every field counts; and joined ones, in which those count that we tell.
pub fn compare(corpora: &Path) -> Result<(Tally, Tally)> {
    let (mut whole, mut joined) = (Tally::default(), Tally::default());
    for encoder in ENCODERS {
        let folder = corpora.join("hpack").join(encoder);
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            let story = read(&file, encoder)?;
            let packets = packets(&story);
            whole.files += 1;
            joined.files += 1;
            check(&story, &packets, 0, usize::MAX, &mut whole);
            for from in 1..story.cases.len() {
                check(&story, &packets, from, BEHIND_A_JOIN, &mut joined);
            }
        }
    }
    Ok((whole, joined))
}

/// The blocks from one on, as a connection that is joined there.
fn check(story: &Story, packets: &[Vec<Recorded>], from: usize, most: usize, tally: &mut Tally) {
    // The packets of a block stand behind those that begin the connection.
    let begin = if from == 0 { 0 } else { from + 1 };
    let blocks = story.cases.iter().skip(from).take(most);
    let count = blocks.len() + usize::from(from == 0);
    let seen = packets.iter().skip(begin).take(count).flatten();
    let mut calls = dissect(seen).calls;
    calls.sort_by_key(stream);
    let mut calls = calls.iter().peekable();
    for (place, (_, expected)) in blocks.enumerate() {
        let number = number(from + place);
        let mut told = calls
            .next_if(|call| stream(call) == i64::from(number))
            .map(told)
            .unwrap_or_default();
        tally.messages += 1;
        for (name, value) in expected {
            // It is not told.
            if name == ":scheme" {
                continue;
            }
            let same = told
                .iter()
                .position(|(known, ours)| known == name && ours == value);
            match same {
                Some(place) => {
                    told.remove(place);
                    tally.fields += 1;
                    tally.equal += 1;
                }
                None if from == 0 => {
                    tally.fields += 1;
                    tally.differences.push(difference(story, name, "", value));
                }
                // Told by reference to what was sent before the join.
                None => {}
            }
        }
        for (name, value) in told {
            tally.fields += 1;
            tally.differences.push(difference(story, &name, &value, ""));
        }
    }
}

fn difference(story: &Story, name: &str, ours: &str, theirs: &str) -> Difference {
    Difference {
        protocol: "hpack",
        oracle: "stories",
        file: story.name.clone(),
        field: name.to_owned(),
        ours: ours.to_owned(),
        theirs: theirs.to_owned(),
        fields: 1,
    }
}

/// The fields that a call tells, pseudo ones among them.
fn told(call: &Call) -> Fields {
    let mark = if call.query.is_empty() { "" } else { "?" };
    let mut told = vec![
        (":method".to_owned(), call.method.to_string()),
        (":path".to_owned(), format!("{}{mark}{}", call.path, call.query)),
        (":authority".to_owned(), call.authority.clone()),
        (
            ":status".to_owned(),
            call.status.map(|status| status.to_string()).unwrap_or_default(),
        ),
    ];
    told.retain(|(_, value)| !value.is_empty());
    let messages = [&call.request, &call.response].into_iter().flatten();
    let fields = messages.flat_map(|message| message.headers.iter());
    told.extend(fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
    told
}

fn stream(call: &Call) -> i64 {
    let number = call.fields.iter().find_map(|(name, value)| match value {
        Field::Int(number) if *name == "http2_stream" => Some(*number),
        _ => None,
    });
    number.unwrap_or_default()
}

/// The stream of a block.
fn number(place: usize) -> u32 {
    2 * place as u32 + 1
}

/// The packets of a connection in which each block is a frame on a stream of its own: what comes before the first, then
/// those of each.
fn packets(story: &Story) -> Vec<Vec<Recorded>> {
    let mut talk = Talk::usual();
    // A block a packet.
    talk.mss = 60_000;
    let settings = frame(SETTINGS, 0, 0, &[]);
    talk.handshake()
        .ask([PREFACE, &settings].concat())
        .answer(&settings);
    let mut packets = vec![std::mem::take(&mut talk.packets)];
    for (place, (block, fields)) in story.cases.iter().enumerate() {
        let request = fields.iter().any(|(name, _)| name == ":method");
        let (who, other) = if request {
            (Who::Client, Who::Server)
        } else {
            (Who::Server, Who::Client)
        };
        talk.send(who, &frame(HEADERS, END_STREAM_AND_HEADERS, number(place), block))
            .ack(other);
        packets.push(std::mem::take(&mut talk.packets));
    }
    packets
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn read(file: &Path, encoder: &str) -> Result<Story> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let json: Value = serde_json::from_str(&text)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut cases = Vec::new();
    for case in json
        .get("cases")
        .and_then(Value::as_array)
        .context("a story without cases")?
    {
        let wire = case
            .get("wire")
            .and_then(Value::as_str)
            .context("a case without a block")?;
        let headers = case
            .get("headers")
            .and_then(Value::as_array)
            .context("a case without headers")?;
        let fields = headers.iter().filter_map(Value::as_object).flatten();
        let fields =
            fields.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
        cases.push((bytes(wire)?, fields.collect()));
    }
    Ok(Story {
        name: format!("{encoder}/{name}"),
        cases,
    })
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let pairs = (0..hex.len()).step_by(2);
    let byte = |at: usize| {
        let digits = hex.get(at..at + 2).context("half a byte")?;
        u8::from_str_radix(digits, 16).context("a digit")
    };
    pairs.map(byte).collect()
}
