//! Header blocks of real sites by three encoders, as the frames of one connection: whole, and joined at every block.

mod wire;

use std::path::{Path, PathBuf};

use wire::{PREFACE, frame, int, settings};
use wiretape_dissect::testing::{Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Message};

type Fields = Vec<(String, String)>;

/// One encoder's blocks of one connection, with what they mean.
struct Story {
    name: String,
    cases: Vec<(Vec<u8>, Fields)>,
}

/// Blocks that are looked at behind each join: a table that is out of step shows in the first few.
const BEHIND_A_JOIN: usize = 8;

#[test]
fn stories_of_three_encoders() {
    let Some(stories) = stories() else { return };
    let mut told = Told::default();
    for story in &stories {
        let packets = story.packets();
        told.check(story, &packets, 0, usize::MAX);
    }
    assert_eq!(told.unresolved, 0);
    eprintln!("{} stories, {} header fields", stories.len(), told.right);
}

#[test]
fn stories_joined_at_every_block_have_no_wrong_field() {
    let Some(stories) = stories() else { return };
    let mut told = Told::default();
    for story in &stories {
        let packets = story.packets();
        for from in 1..story.cases.len() {
            told.check(story, &packets, from, BEHIND_A_JOIN);
        }
    }
    assert!(told.right > told.unresolved);
    eprintln!(
        "{} header fields right, {} unresolved, none wrong",
        told.right, told.unresolved
    );
}

#[derive(Default)]
struct Told {
    right: usize,
    unresolved: usize,
}

impl Told {
    /// Every field of every block from one on is the one that is meant, or unresolved.
    fn check(&mut self, story: &Story, packets: &[Vec<Recorded>], from: usize, most: usize) {
        let blocks = &story.cases[from..story.cases.len().min(from.saturating_add(most))];
        let begin = if from == 0 { 0 } else { from + 1 };
        let seen = packets[begin..]
            .iter()
            .take(blocks.len() + usize::from(from == 0))
            .flatten();
        let mut calls = dissect(seen).calls;
        calls.sort_by_key(|call| int(call, "http2_stream"));
        assert_eq!(calls.len(), blocks.len(), "{} from {from} on", story.name);
        for (call, (_, expected)) in calls.iter().zip(blocks) {
            let unresolved = int(call, "unresolved_headers").unwrap_or_default() as usize;
            let known = known(call, expected, &story.name);
            assert_eq!(
                known + unresolved,
                expected.len(),
                "{} from {from} on",
                story.name
            );
            self.right += known;
            self.unresolved += unresolved;
        }
    }
}

/// How many fields are known; all of them are those that are meant, in their order.
fn known(call: &Call, expected: &Fields, story: &str) -> usize {
    let message: &Message = call
        .request
        .as_ref()
        .or(call.response.as_ref())
        .expect("a message");
    let url = if call.query.is_empty() {
        call.path.clone()
    } else {
        format!("{}?{}", call.path, call.query)
    };
    let status = call.status.map_or(String::new(), |status| status.to_string());
    let pseudo = |name: &str| match name {
        ":method" => Some(&*call.method),
        ":path" => Some(url.as_str()),
        ":authority" => Some(call.authority.as_str()),
        ":status" => Some(status.as_str()),
        _ => None,
    };
    let mut fields = message.headers.iter().peekable();
    let mut known = 0;
    for (name, value) in expected {
        let value = String::from_utf8_lossy(value.as_bytes());
        match pseudo(name) {
            Some("") => {}
            Some(told) => {
                assert_eq!(told, &value, "{name} in {story}");
                known += 1;
            }
            // The scheme is not told; it is known, for it stands in the static table.
            None if name == ":scheme" => known += 1,
            None => {
                if fields
                    .next_if(|field| *field == (name.as_str(), &*value))
                    .is_some()
                {
                    known += 1;
                }
            }
        }
    }
    assert_eq!(fields.next(), None, "in {story}");
    known
}

impl Story {
    /// The packets of a connection in which each block is a frame on a stream of its own: what comes before the first,
    /// then those of each.
    fn packets(&self) -> Vec<Vec<Recorded>> {
        let mut talk = Talk::usual();
        talk.mss = 60_000;
        talk.handshake().ask(PREFACE).answer(settings());
        let mut packets = vec![std::mem::take(&mut talk.packets)];
        for (stream, (block, fields)) in (0_u32..).map(|n| 2 * n + 1).zip(&self.cases) {
            let request = fields.iter().any(|(name, _)| name == ":method");
            let who = if request { Who::Client } else { Who::Server };
            // One after the other has its turn.
            let other = if request { Who::Server } else { Who::Client };
            talk.send(who, &frame(1, 5, stream, block)).ack(other);
            packets.push(std::mem::take(&mut talk.packets));
        }
        packets
    }
}

fn stories() -> Option<Vec<Story>> {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora/hpack");
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in ["go-hpack", "nghttp2", "nghttp2-change-table-size"] {
        let entries = std::fs::read_dir(corpora.join(folder))
            .into_iter()
            .flatten()
            .flatten();
        let paths = entries.map(|entry| entry.path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|ext| ext == "json")));
    }
    if files.is_empty() {
        eprintln!("skipped: no stories in {}", corpora.display());
        return None;
    }
    files.sort();
    Some(files.iter().map(|file| story(file)).collect())
}

fn story(file: &Path) -> Story {
    let text = std::fs::read_to_string(file).expect("a story");
    let json: serde_json::Value = serde_json::from_str(&text).expect("a story in JSON");
    let cases = json["cases"].as_array().expect("cases").iter().map(|case| {
        let wire = case["wire"].as_str().expect("a block");
        let digit = |digit: u8| (digit as char).to_digit(16).expect("a digit") as u8;
        let digits: Vec<u8> = wire.bytes().map(digit).collect();
        let block = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        let headers = case["headers"].as_array().expect("headers").iter();
        let fields = headers.flat_map(|header| header.as_object().expect("a header"));
        let fields = fields.map(|(name, value)| (name.clone(), value.as_str().expect("a value").to_owned()));
        (block, fields.collect())
    });
    Story {
        name: file.display().to_string(),
        cases: cases.collect(),
    }
}
