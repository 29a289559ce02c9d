//! Header blocks of real sites by three encoders, whole and joined at every block.

use std::path::{Path, PathBuf};

use super::{Decoder, Field};

/// One encoder's blocks of one connection, with what they mean.
struct Story {
    name: String,
    cases: Vec<(Vec<u8>, Fields)>,
}

type Fields = Vec<(String, String)>;

/// Blocks that are looked at behind each join: a table that is out of step shows in the first few.
const BEHIND_A_JOIN: usize = 24;

#[test]
fn stories_of_three_encoders() {
    let Some(stories) = stories() else { return };
    let mut told = Told::default();
    for story in &stories {
        told.check(story, &mut Decoder::new(), 0, usize::MAX);
    }
    assert_eq!(told.unresolved, 0);
    eprintln!("{} stories, {} header fields", stories.len(), told.right);
}

#[test]
fn stories_joined_at_every_block_have_no_wrong_field() {
    let Some(stories) = stories() else { return };
    let mut told = Told::default();
    for story in &stories {
        for from in 1..story.cases.len() {
            told.check(story, &mut Decoder::unknown(), from, BEHIND_A_JOIN);
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
    right: u64,
    unresolved: u64,
}

impl Told {
    /// Every field is the one that is meant, or unresolved.
    fn check(&mut self, story: &Story, decoder: &mut Decoder, from: usize, most: usize) {
        for (block, expected) in story.cases.iter().skip(from).take(most) {
            let mut expected = expected.iter();
            let outcome = decoder.decode(block, &mut |field| {
                let (expected_name, expected_value) = expected.next().expect("a field less");
                match field {
                    Field::Unresolved => self.unresolved += 1,
                    Field::Known { name, value } => {
                        let same = name == expected_name.as_bytes() && value == expected_value.as_bytes();
                        assert!(same, "{expected_name} in {} from block {from} on", story.name);
                        self.right += 1;
                    }
                }
            });
            assert!(outcome.is_ok() && expected.next().is_none(), "{}", story.name);
        }
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
        files.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|ext| ext == "json")),
        );
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
        let digits: Vec<u8> = wire
            .bytes()
            .map(|digit| (digit as char).to_digit(16).expect("a digit") as u8)
            .collect();
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
