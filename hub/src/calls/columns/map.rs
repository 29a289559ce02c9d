//! Maps of texts: header fields, labels, a protocol's own fields.

use rustc_hash::FxHashMap;

use super::Leaf;
use super::texts::TextColumn;
use super::words::{WordColumn, same};

/// Spellings of names that are remembered. More of them cost time, not memory.
const SPELLINGS: usize = 4096;

/// A map column: two leaves.
pub(crate) struct MapColumn {
    keys: WordColumn,
    values: TextColumn,
    names: Names,
    /// Entries of the row under way.
    entries: usize,
}

/// Keys, and names of header fields as they were spelled, with their numbers in the keys' dictionary.
///
/// Who sends a message sends the next one with the same fields in the same order, and what is told of a call is told of the
/// next one, too: so the name that comes is looked for behind the one that came before, and found there more often than
/// not.
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
    /// The same, if it is one of our own names: those are told by where they stand.
    own: Option<&'static str>,
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
        }
    }

    /// Appends an entry to the row under way.
    pub fn entry(&mut self, key: &str, value: &str) {
        let known = self.names().find(key.as_bytes());
        if !self.push_known(known) {
            self.push_new(key.as_bytes(), None, key);
        }
        self.values.push(value.as_bytes());
        self.entries += 1;
    }

    /// Appends an entry whose key is one of our own names.
    pub fn own_entry(&mut self, key: &'static str, value: &str) {
        self.own_bytes(key, value.as_bytes());
    }

    /// The same with a number as value.
    pub fn own_number(&mut self, key: &'static str, value: i64) {
        self.own_bytes(key, decimal(value, &mut [0; DIGITS]));
    }

    fn own_bytes(&mut self, key: &'static str, value: &[u8]) {
        let known = self.names().find_own(key);
        if !self.push_known(known) {
            self.push_new(key.as_bytes(), Some(key), key);
        }
        self.values.push(value);
        self.entries += 1;
    }

    /// Appends header fields as a row, given as UTF-8, their names in lower case.
    pub fn row<'f>(&mut self, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) {
        // The dictionary, and with it its numbers, ends between rows only.
        self.names();
        for (name, value) in fields {
            match self.names.find(name) {
                Some(number) => self.keys.push_id(number),
                None => self.push_new(name, None, &String::from_utf8_lossy(name).to_ascii_lowercase()),
            }
            self.values.push(value);
            self.entries += 1;
        }
        self.end_row();
    }

    /// Ends the row.
    pub fn end_row(&mut self) {
        self.keys.end_row(self.entries);
        self.values.end_row(self.entries);
        self.entries = 0;
    }

    /// Appends so many rows without entries.
    pub fn end_empty_rows(&mut self, rows: usize) {
        self.keys.end_empty_rows(rows);
        self.values.end_empty_rows(rows);
    }

    pub fn leaves(&mut self) -> [&mut dyn Leaf; 2] {
        [&mut self.keys, &mut self.values]
    }

    /// The names whose numbers are of the dictionary that there is.
    #[inline]
    fn names(&mut self) -> &mut Names {
        if self.names.generation != self.keys.generation() {
            self.names = Names {
                generation: self.keys.generation(),
                ..Names::default()
            };
        }
        &mut self.names
    }

    /// Appends a key by its number, if it is known.
    fn push_known(&mut self, number: Option<u32>) -> bool {
        if let Some(number) = number {
            self.keys.push_id(number);
        }
        number.is_some()
    }

    /// Appends a key, and remembers in which spelling it came.
    fn push_new(&mut self, name: &[u8], own: Option<&'static str>, key: &str) {
        if let Some(id) = self.keys.push_key(key) {
            self.names.learn(name, own, id);
        }
    }
}

impl Names {
    /// The number of a name, if it was met before in this spelling.
    #[inline]
    fn find(&mut self, name: &[u8]) -> Option<u32> {
        let guess = self.spellings.get(self.last as usize)?.next;
        match self.spellings.get(guess as usize) {
            Some(spelling) if same(&spelling.name, name) => {
                self.last = guess;
                Some(spelling.id)
            }
            _ => self.search(name),
        }
    }

    #[cold]
    fn search(&mut self, name: &[u8]) -> Option<u32> {
        let found = *self.numbers.get(name)?;
        self.follow(found);
        self.spellings.get(found as usize).map(|spelling| spelling.id)
    }

    /// The same for one of our own names.
    fn find_own(&mut self, name: &'static str) -> Option<u32> {
        let guess = self.spellings.get(self.last as usize)?.next;
        match self.spellings.get(guess as usize) {
            Some(spelling) if spelling.own.is_some_and(|own| std::ptr::eq(own, name)) => {
                self.last = guess;
                Some(spelling.id)
            }
            _ => self.find(name.as_bytes()),
        }
    }

    fn learn(&mut self, name: &[u8], own: Option<&'static str>, id: u32) {
        if self.spellings.len() >= SPELLINGS {
            *self = Self {
                generation: self.generation,
                ..Self::default()
            };
        }
        let number = self.spellings.len() as u32;
        self.spellings.push(Spelling {
            name: name.into(),
            own,
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

/// Letters of the longest number: its sign and 19 digits.
const DIGITS: usize = 20;

/// A number as text. Nearly half of what is told of a call is numbers, and the standard library's formatting, which can do
/// much more, costs several times as much.
fn decimal(value: i64, room: &mut [u8; DIGITS]) -> &[u8] {
    let mut left = value.unsigned_abs();
    let mut letters = room.iter_mut().rev();
    let mut len = 0;
    for letter in letters.by_ref() {
        *letter = b'0' + (left % 10) as u8;
        left /= 10;
        len += 1;
        if left == 0 {
            break;
        }
    }
    if value < 0
        && let Some(letter) = letters.next()
    {
        *letter = b'-';
        len += 1;
    }
    room.get(DIGITS - len..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_text() {
        for value in [0, 7, -7, 10, 99, 100, 1_234_567, i64::MAX, i64::MIN] {
            assert_eq!(decimal(value, &mut [0; DIGITS]), value.to_string().as_bytes());
        }
    }
}
