//! What is kept of a value.

use crate::limits::REPLY_BYTES;

/// What a value turned out to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not known: its begin was not seen.
    #[default]
    Unknown,
    Simple,
    Error,
    Integer,
    Bulk,
    /// A nil, of either version.
    Nil,
    Array,
    /// Of version 3 from here on.
    Double,
    Boolean,
    BigNumber,
    Map,
    Set,
    Push,
}

impl Kind {
    /// As shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Simple => "simple string",
            Self::Error => "error",
            Self::Integer => "integer",
            Self::Bulk => "bulk string",
            Self::Nil => "nil",
            Self::Array => "array",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::BigNumber => "big number",
            Self::Map => "map",
            Self::Set => "set",
            Self::Push => "push",
        }
    }
}

/// What is kept of a value.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub kind: Kind,
    /// Elements that it was said to have, if it is of elements.
    pub elements: u64,
    /// Its strings: itself, or those directly inside it.
    pub texts: Texts,
    /// The first error in it.
    pub error: Vec<u8>,
    /// Whether there is more of that.
    pub error_cut: bool,
    /// Whether bytes are missing.
    pub gap: bool,
    /// Whether it has anything that version 2 has not.
    pub resp3: bool,
}

impl Seen {
    /// Forgets all, and keeps so many bytes of the next value's strings. There is one value after the other on a
    /// connection, so the room for them is made once.
    pub fn clear(&mut self, budget: usize) {
        let Self { texts, error, .. } = std::mem::take(self);
        (self.texts, self.error) = (texts, error);
        self.texts.clear(budget);
        self.error.clear();
    }

    /// Keeps more of an error.
    pub fn add_error(&mut self, bytes: &[u8]) {
        let room = REPLY_BYTES.saturating_sub(self.error.len());
        self.error_cut |= bytes.len() > room;
        self.error.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}

/// Strings, as many bytes of them as are kept.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    budget: usize,
    /// Whether the one begun last is kept.
    begun: bool,
    /// Whether the last one that is kept is not kept to its end.
    last_cut: bool,
    /// Whether there was more.
    pub cut: bool,
}

impl Texts {
    /// Keeps so many bytes.
    pub fn within(budget: usize) -> Self {
        Self {
            budget,
            ..Self::default()
        }
    }

    /// Forgets all strings, and keeps so many bytes of the next ones. The room stays.
    fn clear(&mut self, budget: usize) {
        self.bytes.clear();
        self.ends.clear();
        self.budget = budget;
        self.begun = false;
        self.last_cut = false;
        self.cut = false;
    }

    /// Bytes of all of them, with one between each two.
    pub fn len_in_line(&self) -> usize {
        self.bytes.len() + self.ends.len()
    }

    /// The nth string.
    pub fn get(&self, n: usize) -> Option<&[u8]> {
        let start = match n.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.get(start..*self.ends.get(n)?)
    }

    /// The nth string, if all of it is kept, or so many bytes.
    pub fn known(&self, n: usize, enough: usize) -> Option<&[u8]> {
        let cut = self.last_cut && n + 1 == self.ends.len();
        self.get(n).filter(|text| !cut || text.len() >= enough)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).filter_map(|n| self.get(n))
    }

    /// Forgets the one begun last, whose begin would look like all of it, and keeps nothing more: what comes next does not
    /// stand next.
    pub fn close(&mut self) {
        if std::mem::take(&mut self.begun) {
            self.ends.pop();
            self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
            self.last_cut = false;
        }
        self.cut = true;
        self.budget = 0;
    }

    /// Begins the next one.
    pub fn begin(&mut self) {
        // An empty string counts like a byte, so that the number of strings is bounded as well.
        self.begun = self.bytes.len() + self.ends.len() < self.budget;
        if self.begun {
            self.ends.push(self.bytes.len());
        } else {
            self.cut = true;
        }
    }

    /// Adds to the one begun last.
    pub fn add(&mut self, bytes: &[u8]) {
        let Some(end) = self.ends.last_mut().filter(|_| self.begun) else {
            self.cut |= !bytes.is_empty();
            return;
        };
        let room = self.budget.saturating_sub(self.bytes.len());
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.last_cut |= kept.len() < bytes.len();
        self.cut |= self.last_cut;
        self.bytes.extend_from_slice(kept);
        *end = self.bytes.len();
    }
}
