//! Words: texts that repeat, kept once in a dictionary and numbered (Parquet's `RLE_DICTIONARY`); as they are, once too
//! many of them do not repeat.

use datafusion::parquet::basic::{Compression, Encoding};
use datafusion::parquet::data_type::ByteArray;
use datafusion::parquet::errors::Result;
use datafusion::parquet::file::statistics::Statistics;
use datafusion::parquet::file::writer::SerializedRowGroupWriter;
use datafusion::parquet::schema::types::ColumnDescPtr;
use rustc_hash::FxHashMap;

use super::chunk::{Chunk, Known, Leaf, PartFile};
use super::levels::{Levels, hybrid, run, width_of};
use super::texts::append;
use super::{PAGE_BYTES, PAGE_ROWS};

/// Words from which on it counts whether they repeat.
const FEW: usize = 2048;

/// Bytes of a dictionary. A reader has it in memory with every page.
const DICTIONARY_BYTES: usize = 512 << 10;

/// A column of words: one a row, or a map's keys.
pub(crate) struct WordColumn {
    dictionary: Dictionary,
    /// Numbers in the page under way, before those of the run.
    ids: Vec<u32>,
    /// The number of the latest rows, and how many have it: mostly all of a page.
    run: (u32, usize),
    /// Texts in the page under way, once the dictionary is given up.
    texts: Vec<u8>,
    plain: bool,
    /// Told apart from the dictionaries before.
    generation: u32,
    /// Levels of a map's keys.
    nested: Option<(Levels, Levels)>,
    rows: usize,
    /// Words of this row group.
    words: usize,
    compared: bool,
    range: Option<(Box<str>, Box<str>)>,
    chunk: Chunk,
    body: Vec<u8>,
}

/// The words of a row group.
#[derive(Default)]
struct Dictionary {
    numbers: FxHashMap<Box<str>, u32>,
    /// As in its page.
    body: Vec<u8>,
    /// The last word, which often comes again, and its number.
    last: Vec<u8>,
    last_id: u32,
    /// The number of the word without letters.
    none: Option<u32>,
}

impl WordColumn {
    /// A word a row. If `compared`, the least and the greatest are told.
    pub fn new(compared: bool) -> Self {
        Self {
            dictionary: Dictionary::default(),
            ids: Vec::new(),
            run: (0, 0),
            texts: Vec::new(),
            plain: false,
            generation: 0,
            nested: None,
            rows: 0,
            words: 0,
            compared,
            range: None,
            chunk: Chunk::new(Compression::LZ4_RAW),
            body: Vec::new(),
        }
    }

    /// Keys of a map.
    pub fn keys() -> Self {
        Self {
            nested: Some(Default::default()),
            ..Self::new(false)
        }
    }

    /// Appends a word as a row.
    pub fn push(&mut self, word: &str) {
        self.push_rows(word, 1);
    }

    /// Appends words as rows. Those that stand at one place one after the other are told by it: our own words, and texts
    /// that are empty.
    pub fn push_each<'w>(&mut self, words: impl Iterator<Item = &'w str>) {
        let mut latest = ("", 0);
        for word in words {
            if !std::ptr::eq(word, latest.0) {
                self.push_run(latest);
                latest = (word, 0);
            }
            latest.1 += 1;
        }
        self.push_run(latest);
    }

    fn push_run(&mut self, (word, rows): (&str, usize)) {
        if rows > 0 {
            self.push_rows(word, rows);
        }
    }

    /// Appends a word as so many rows.
    pub fn push_rows(&mut self, word: &str, rows: usize) {
        self.rows += rows;
        if self.plain {
            (0..rows).for_each(|_| self.add_text(word));
            return;
        }
        // What is not known of a call: most columns of most calls.
        let id = match self.dictionary.none.filter(|_| word.is_empty()) {
            Some(id) => id,
            None => self.number(word),
        };
        self.words += rows;
        if self.run.0 == id {
            self.run.1 += rows;
        } else {
            self.end_run();
            self.run = (id, rows);
        }
    }

    /// Appends the word of the row before as a row, if its number is at hand; whether it was.
    pub fn push_again(&mut self) -> bool {
        let at_hand = self.run.1 > 0;
        if at_hand {
            self.rows += 1;
            self.words += 1;
            self.run.1 += 1;
        }
        at_hand
    }

    /// Appends a key to the row under way; gives its number, if it has one.
    pub fn push_key(&mut self, key: &str) -> Option<u32> {
        if self.plain {
            self.add_text(key);
            return None;
        }
        let id = self.number(key);
        self.push_id(id);
        Some(id)
    }

    /// Appends a key by its number in the dictionary.
    pub fn push_id(&mut self, id: u32) {
        self.ids.push(id);
        self.words += 1;
    }

    /// Ends the row, which has so many keys.
    pub fn end_row(&mut self, keys: usize) {
        self.rows += 1;
        if let Some((repeated, defined)) = &mut self.nested {
            Levels::row(repeated, defined, keys);
        }
    }

    /// Ends so many rows, which have no keys.
    pub fn end_empty_rows(&mut self, rows: usize) {
        self.rows += rows;
        if let Some((repeated, defined)) = &mut self.nested {
            Levels::empty_rows(repeated, defined, rows);
        }
    }

    /// The dictionary that [`push_id`](Self::push_id) numbers by; another one, when that has ended.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// A word's number in the dictionary.
    fn number(&mut self, word: &str) -> u32 {
        let (id, new) = self.dictionary.number(word);
        if new && self.compared {
            self.compare(word);
        }
        id
    }

    /// Appends a word to the page as it is.
    fn add_text(&mut self, word: &str) {
        self.words += 1;
        append(word.as_bytes(), &mut self.texts);
        if self.compared {
            self.compare(word);
        }
    }

    fn end_run(&mut self) {
        let (id, count) = std::mem::take(&mut self.run);
        self.ids.resize(self.ids.len() + count, id);
    }

    fn compare(&mut self, word: &str) {
        match &mut self.range {
            None => self.range = Some((word.into(), word.into())),
            Some((least, _)) if before(word, least) => *least = word.into(),
            Some((_, greatest)) if before(greatest, word) => *greatest = word.into(),
            Some(_) => {}
        }
    }

    fn end_page(&mut self) {
        self.body.clear();
        let mut values = self.rows;
        if let Some((repeated, defined)) = &mut self.nested {
            values = defined.len();
            repeated.write(&mut self.body);
            defined.write(&mut self.body);
        }
        // A page of rows without keys has no numbers, and needs no dictionary for them.
        let encoding = if self.plain || (self.ids.is_empty() && self.run.1 == 0) {
            self.body.extend_from_slice(&self.texts);
            Encoding::PLAIN
        } else {
            let width = width_of(self.dictionary.numbers.len()).max(1);
            self.body.push(width as u8);
            if self.ids.is_empty() {
                let (id, count) = std::mem::take(&mut self.run);
                run(count, id, width, &mut self.body);
            } else {
                self.end_run();
                hybrid(&self.ids, width, &mut self.body);
            }
            Encoding::RLE_DICTIONARY
        };
        self.chunk.page(&self.body, values, self.rows, encoding);
        self.ids.clear();
        self.texts.clear();
        self.rows = 0;
    }

    /// Whether words do not repeat enough for a dictionary, or are too long for one.
    fn outgrown(&self) -> bool {
        let few = self.dictionary.numbers.len() < FEW || self.dictionary.numbers.len() * 2 < self.words;
        !few || self.dictionary.body.len() > DICTIONARY_BYTES
    }
}

impl Leaf for WordColumn {
    fn end_page_if_full(&mut self) {
        let outgrown = !self.plain && self.outgrown();
        if outgrown
            || self.rows >= PAGE_ROWS
            || self.texts.len() >= PAGE_BYTES
            || self.ids.len() >= 4 * PAGE_ROWS
        {
            self.end_page();
            if outgrown {
                self.plain = true;
                self.generation += 1;
            }
        }
    }

    fn finish(
        &mut self,
        column: ColumnDescPtr,
        group: &mut SerializedRowGroupWriter<'_, PartFile>,
    ) -> Result<()> {
        if self.rows > 0 {
            self.end_page();
        }
        self.plain = false;
        self.generation += 1;
        self.words = 0;
        let dictionary = std::mem::take(&mut self.dictionary);
        let count = dictionary.numbers.len() as u32;
        let bytes = |text: Box<str>| ByteArray::from(String::from(text).into_bytes());
        let (least, greatest) = self.range.take().unzip();
        let known = Known {
            dictionary: (count > 0).then_some((dictionary.body, count)),
            statistics: self
                .compared
                .then(|| Statistics::byte_array(least.map(bytes), greatest.map(bytes), None, Some(0), false)),
            index: None,
        };
        self.chunk.finish(column, known, group)
    }

    fn memory(&self) -> usize {
        self.chunk.memory() + 3 * self.dictionary.body.len() + self.texts.len() + 4 * self.ids.len()
    }
}

impl Dictionary {
    /// The number of a word, and whether it is new.
    fn number(&mut self, word: &str) -> (u32, bool) {
        if word.is_empty() {
            let known = self.none.is_some();
            let id = match self.none {
                Some(id) => id,
                None => self.add(word),
            };
            self.none = Some(id);
            return (id, !known);
        }
        if same(&self.last, word.as_bytes()) {
            return (self.last_id, false);
        }
        let (id, new) = match self.numbers.get(word) {
            Some(id) => (*id, false),
            None => (self.add(word), true),
        };
        self.last.clear();
        self.last.extend_from_slice(word.as_bytes());
        self.last_id = id;
        (id, new)
    }

    fn add(&mut self, word: &str) -> u32 {
        let id = self.numbers.len() as u32;
        append(word.as_bytes(), &mut self.body);
        self.numbers.insert(word.into(), id);
        id
    }
}

/// Whether two texts are the same. Nearly all are short: their begin and their end, which overlap, are all there is of
/// them, and need no call. Nor does nothing: a processor with AVX-512 takes a hundred times as long for the call if there is
/// nothing to compare at an address where nothing is, such as an empty text's.
#[inline]
pub(in super::super) fn same(a: &[u8], b: &[u8]) -> bool {
    /// First and last letters.
    fn ends<const N: usize>(text: &[u8]) -> Option<([u8; N], [u8; N])> {
        Some((*text.first_chunk()?, *text.last_chunk()?))
    }
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        0 => true,
        1..4 => a == b,
        4..8 => ends::<4>(a) == ends::<4>(b),
        8..=16 => ends::<8>(a) == ends::<8>(b),
        _ => ends::<8>(a) == ends::<8>(b) && a == b,
    }
}

/// Whether a word comes before another one. Nothing comes before all others, and is not looked at, as in [`same`].
fn before(word: &str, other: &str) -> bool {
    !other.is_empty() && (word.is_empty() || word < other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_the_order_of_their_letters_and_nothing_is_first() {
        let words = ["", "a", "aa", "b", "\u{e4}"];
        for (n, word) in words.iter().enumerate() {
            for (m, other) in words.iter().enumerate() {
                assert_eq!(before(word, other), n < m, "{word:?} {other:?}");
            }
        }
    }

    #[test]
    fn texts_are_the_same_if_no_letter_differs() {
        for len in 0..40 {
            let text: Vec<u8> = (0..len).collect();
            assert!(same(&text, &text.clone()));
            for at in 0..text.len() {
                let mut other = text.clone();
                other[at] = b'x';
                assert!(!same(&text, &other));
            }
            assert!(!same(&text, &[&text[..], b"x"].concat()));
        }
    }
}
