//! The static and the dynamic table (RFC 7541, section 2.3), the dynamic one for a reader who may come late.

use std::collections::VecDeque;

use crate::limits::{HPACK_TABLE, HPACK_TABLE_UNTOLD};

/// What an entry counts beyond its texts (RFC 7541, section 4.1).
const ENTRY_OVERHEAD: usize = 32;

/// The size that a table has before anything is said of it (RFC 9113, section 6.5.2).
const INITIAL_SIZE: usize = 4096;

/// Entries of the dynamic table, as far as they are known.
///
/// Entries are told apart by their distance from the newest one. Each insertion shifts all others by one, whatever the
/// table's size is; if the entry is too large to be inserted, the table becomes empty, and no index reaches any other
/// one. So what was inserted while we looked is never taken for something else, and what lies behind it is unknown.
#[derive(Debug)]
pub(super) struct Dynamic {
    /// Newest first.
    entries: VecDeque<Entry>,
    /// What they count, as far as they are known.
    size: usize,
    /// The size that the encoder keeps to; `None` before it was told.
    max: Option<usize>,
    /// Whether there are no others behind these.
    whole: bool,
    /// Entries that were let go although the encoder may still have them, not yet counted.
    dropped: u64,
}

/// An entry, or as much of it as is known.
#[derive(Debug)]
pub(super) struct Entry {
    /// Name and value, one after the other.
    text: Box<[u8]>,
    /// Where the name ends; `None` if it is not known.
    name: Option<usize>,
    /// Whether the value is known.
    value: bool,
}

/// What an index refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked<'a> {
    /// A name, if it is known, and a value, if it is known.
    Up(Option<&'a [u8]>, Option<&'a [u8]>),
    /// No entry: the encoder would not have referred to it.
    Nothing,
}

impl Dynamic {
    /// An empty table, at the begin of a connection.
    pub fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max: Some(INITIAL_SIZE),
            whole: true,
            dropped: 0,
        }
    }

    /// A table of which nothing is known.
    pub fn unknown() -> Self {
        Self {
            max: None,
            whole: false,
            ..Self::new()
        }
    }

    /// What an index refers to, those of the static table included.
    pub fn look_up(&self, index: usize) -> Looked<'_> {
        let Some(position) = index.checked_sub(STATIC.len() + 1) else {
            return match index.checked_sub(1).and_then(|index| STATIC.get(index)) {
                Some((name, value)) => Looked::Up(Some(name.as_bytes()), Some(value.as_bytes())),
                None => Looked::Nothing,
            };
        };
        match self.entries.get(position) {
            Some(entry) => Looked::Up(entry.name(), entry.value()),
            None if self.whole => Looked::Nothing,
            None => Looked::Up(None, None),
        }
    }

    /// Inserts an entry.
    pub fn insert(&mut self, mut entry: Entry) {
        if self.max.is_some_and(|max| entry.size() > max) {
            // RFC 7541, section 4.4. What is behind it is no more, even if we did not know it.
            self.entries.clear();
            self.size = 0;
            self.whole = true;
            return;
        }
        let most = self.most();
        if entry.size() > most {
            self.dropped += 1;
            entry = Entry::forgotten();
        }
        self.shrink(most.saturating_sub(entry.size()));
        self.size += entry.size();
        self.entries.push_front(entry);
    }

    /// The encoder has told the size that it keeps to.
    pub fn resize(&mut self, max: usize) {
        self.max = Some(max);
        self.shrink(self.most());
        self.whole |= max < ENTRY_OVERHEAD;
    }

    /// Takes the number of entries that were let go although the encoder may still have them.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        self.size
    }

    /// Most that is kept.
    fn most(&self) -> usize {
        self.max.unwrap_or(HPACK_TABLE_UNTOLD).min(HPACK_TABLE)
    }

    /// Lets the oldest go until so much is left. What the encoder has let go, too, is no loss.
    fn shrink(&mut self, most: usize) {
        let ours = self.max.is_none_or(|max| max > HPACK_TABLE);
        while self.size > most
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size();
            if ours {
                self.whole = false;
                self.dropped += 1;
            }
        }
    }
}

impl Entry {
    /// An entry whose name may be unknown.
    pub fn new(name: Option<&[u8]>, value: &[u8]) -> Self {
        let mut text = Vec::with_capacity(name.map_or(0, <[u8]>::len) + value.len());
        text.extend_from_slice(name.unwrap_or_default());
        text.extend_from_slice(value);
        Self {
            text: text.into(),
            name: name.map(<[u8]>::len),
            value: true,
        }
    }

    /// One that has its place, but was too large to be kept.
    fn forgotten() -> Self {
        Self {
            text: Box::default(),
            name: None,
            value: false,
        }
    }

    fn size(&self) -> usize {
        self.text.len() + ENTRY_OVERHEAD
    }

    fn name(&self) -> Option<&[u8]> {
        self.text.get(..self.name?)
    }

    fn value(&self) -> Option<&[u8]> {
        let value = self.text.get(self.name.unwrap_or_default()..)?;
        self.value.then_some(value)
    }
}

/// RFC 7541, appendix A.
static STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
