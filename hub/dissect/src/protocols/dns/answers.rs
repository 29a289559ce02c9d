//! What a message answers: the values of its records, in one text.

use super::records;
use super::wire::Reader;
use crate::limits::{DNS_ANSWER_TEXT, DNS_ANSWERS};

/// Values of records, as text in one line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    text: String,
    count: usize,
    /// Where each of them ends but the last one.
    ends: Vec<usize>,
}

impl Answers {
    const BETWEEN: &str = ", ";

    /// Appends the value of a record, if there is room for it. `None` if it does not hold what its type says.
    pub(super) fn show(&mut self, kind: u16, data: Reader<'_>) -> Option<()> {
        if self.count >= DNS_ANSWERS || self.bytes() >= DNS_ANSWER_TEXT {
            return Some(());
        }
        self.next();
        let begin = self.text.len();
        let shown = records::show(kind, data, &mut self.text);
        if shown.is_none() {
            self.text.truncate(self.ends.pop().unwrap_or(begin));
            self.count -= 1;
        }
        shown
    }

    /// Takes over those of a message that continues this one, as far as there is room.
    pub fn append(&mut self, later: &Self) {
        for value in later.iter() {
            if self.count >= DNS_ANSWERS || self.bytes() + value.len() > DNS_ANSWER_TEXT {
                return;
            }
            self.next();
            self.text.push_str(value);
        }
    }

    /// The values.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let begins = self.ends.iter().map(|end| end + Self::BETWEEN.len());
        let ends = self.ends.iter().copied().chain(std::iter::once(self.text.len()));
        let places = std::iter::once(0).chain(begins).zip(ends);
        let values = places.filter_map(|(begin, end)| self.text.get(begin..end));
        values.take(self.count)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// All of them, with a comma between each two.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        self.text.len() + size_of_val(&*self.ends)
    }

    /// Makes room for another one.
    fn next(&mut self) {
        if self.count > 0 {
            self.ends.push(self.text.len());
            self.text.push_str(Self::BETWEEN);
        }
        self.count += 1;
    }

    /// Bytes of the values themselves.
    fn bytes(&self) -> usize {
        self.text.len() - self.ends.len() * Self::BETWEEN.len()
    }
}
