//! Maps of texts: header fields, labels, a protocol's own fields.

use std::fmt::{Display, Write as _};

use rustc_hash::FxHashMap;

use super::Leaf;
use super::texts::TextColumn;
use super::words::WordColumn;

/// Spellings of names that are remembered. More of them cost time, not memory.
const SPELLINGS: usize = 4096;

/// A map column: two leaves.
pub(crate) struct MapColumn {
    keys: WordColumn,
    values: TextColumn,
    names: Names,
    /// Entries of the row under way.
    entries: usize,
    text: String,
}

/// Names of header fields as they were spelled, with their numbers in the keys' dictionary.
///
/// Who sends a message sends the next one with the same fields in the same order: so the name that comes is looked for
/// behind the one that came before, and found there more often than not.
#[derive(Default)]
struct Names {
    /// Of the dictionary that the numbers are of.
    generation: u32,
    numbers: FxHashMap<Box<[u8]>, u32>,
    spellings: Vec<Spelling>,
    last: u32,
}

struct Spelling {
    name: Box<[u8]>,
    /// Number of its lower case in the dictionary.
    id: u32,
    /// The spelling that came after it last.
    next: u32,
}

impl MapColumn {
    pub fn new() -> Self {
        Self {
            keys: WordColumn::keys(),
            values: TextColumn::new(),
            names: Names::default(),
            entries: 0,
            text: String::new(),
        }
    }

    /// Appends an entry to the row under way.
    pub fn entry(&mut self, key: &str, value: &str) {
        self.keys.push_key(key);
        self.values.push(value.as_bytes());
        self.entries += 1;
    }

    /// Appends an entry whose value is to be shown as text.
    pub fn entry_display(&mut self, key: &str, value: impl Display) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        // Writing to a string does not fail.
        let _ = write!(text, "{value}");
        self.entry(key, &text);
        self.text = text;
    }

    /// Appends a header field, given as UTF-8, its name in lower case.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.names.generation != self.keys.generation() {
            self.names = Names {
                generation: self.keys.generation(),
                ..Names::default()
            };
        }
        match self.names.find(name) {
            Some(id) => self.keys.push_id(id),
            None => {
                let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
                if let Some(id) = self.keys.push_key(&lower) {
                    self.names.learn(name, id);
                }
            }
        }
        self.values.push(value);
        self.entries += 1;
    }

    /// Ends the row.
    pub fn end_row(&mut self) {
        self.keys.end_row(self.entries);
        self.values.end_row(self.entries);
        self.entries = 0;
    }

    pub fn leaves(&mut self) -> [&mut dyn Leaf; 2] {
        [&mut self.keys, &mut self.values]
    }
}

impl Names {
    /// The number of a name, if it was met before in this spelling.
    fn find(&mut self, name: &[u8]) -> Option<u32> {
        let guess = self.spellings.get(self.last as usize)?.next;
        if let Some(spelling) = self.spellings.get(guess as usize)
            && *spelling.name == *name
        {
            self.last = guess;
            return Some(spelling.id);
        }
        let found = *self.numbers.get(name)?;
        self.follow(found);
        self.spellings.get(found as usize).map(|spelling| spelling.id)
    }

    fn learn(&mut self, name: &[u8], id: u32) {
        if self.spellings.len() >= SPELLINGS {
            *self = Self {
                generation: self.generation,
                ..Self::default()
            };
        }
        let number = self.spellings.len() as u32;
        self.spellings.push(Spelling {
            name: name.into(),
            id,
            next: 0,
        });
        self.numbers.insert(name.into(), number);
        self.follow(number);
    }

    fn follow(&mut self, number: u32) {
        if let Some(last) = self.spellings.get_mut(self.last as usize) {
            last.next = number;
        }
        self.last = number;
    }
}
