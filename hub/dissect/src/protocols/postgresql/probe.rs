//! What looks like PostgreSQL: the structure of a message, since types and lengths alone are too little, and many types
//! mean something else in the other direction.

use super::wire::{CANCEL, Fields, GSSENC, HEADER_BYTES, MAJOR, SSL, header};

/// What bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Yes,
    /// So far; there are too few bytes to say.
    Maybe,
    No,
}

/// The longest message that is believed before anything is known of the connection.
const LIKELY_BYTES: usize = 16 << 20;

/// The longest start of a connection that servers take (`MAX_STARTUP_PACKET_LENGTH`).
const STARTUP_BYTES: usize = 10_000;

/// Words that statements begin with, by which one is recognised before its end was seen.
const VERBS: &[&str] = &[
    "ALTER",
    "ANALYZE",
    "BEGIN",
    "CALL",
    "COMMIT",
    "COPY",
    "CREATE",
    "DEALLOCATE",
    "DECLARE",
    "DELETE",
    "DISCARD",
    "DO",
    "DROP",
    "EXPLAIN",
    "FETCH",
    "GRANT",
    "INSERT",
    "LISTEN",
    "LOCK",
    "MERGE",
    "NOTIFY",
    "PREPARE",
    "REFRESH",
    "RELEASE",
    "ROLLBACK",
    "SAVEPOINT",
    "SELECT",
    "SET",
    "SHOW",
    "START",
    "TRUNCATE",
    "UPDATE",
    "VACUUM",
    "VALUES",
    "WITH",
];

/// The first message, as far as it is there.
#[derive(Clone, Copy)]
struct Message<'a> {
    kind: u8,
    fields: Fields<'a>,
    /// Bytes of it that are not there.
    absent: usize,
}

/// Whether bytes begin with a message of a client.
pub(super) fn is_frontend(bytes: &[u8]) -> Found {
    if bytes.first() == Some(&0) {
        return is_startup(bytes);
    }
    let Some(mut message) = Message::first(bytes) else {
        return unfinished(bytes, b"QPBEDCSHFXpdcf");
    };
    let found = match message.kind {
        b'Q' => message.statement(),
        b'P' => message.parse(),
        b'B' => message.bind(),
        b'E' => message
            .fields
            .text()
            .map(|portal| is_printable(portal) && message.left() == 4),
        b'D' | b'C' => message.names(),
        b'S' | b'H' | b'X' => Some(message.left() == 0),
        _ => Some(false),
    };
    message.verdict(found)
}

/// Whether bytes begin with a message of a server.
pub(super) fn is_backend(bytes: &[u8]) -> Found {
    let Some(mut message) = Message::first(bytes) else {
        return unfinished(bytes, b"RSKNA123tTnDCIEsZGHWdcVv");
    };
    let found = match message.kind {
        b'Z' if message.left() == 1 => message
            .fields
            .byte()
            .map(|state| matches!(state, b'I' | b'T' | b'E')),
        b'1' | b'2' | b'3' | b'n' | b's' | b'I' => Some(message.left() == 0),
        b'C' => message
            .fields
            .text()
            .map(|tag| is_tag(tag) && message.left() == 0),
        b'R' => message.fields.number().map(|code| code <= 12),
        b'S' => message.setting(),
        b'E' | b'N' => message.notice(),
        b't' => message
            .fields
            .short()
            .map(|count| message.left() == 4 * usize::from(count)),
        b'T' => message.columns(),
        b'D' => message.row(),
        _ => Some(false),
    };
    message.verdict(found)
}

/// Whether so few bytes of a message can be its begin.
fn unfinished(bytes: &[u8], kinds: &[u8]) -> Found {
    let likely = match bytes {
        [kind, rest @ ..] if rest.len() < HEADER_BYTES - 1 => {
            kinds.contains(kind) && rest.first().is_none_or(|byte| *byte == 0)
        }
        _ => false,
    };
    if likely { Found::Maybe } else { Found::No }
}

fn is_startup(bytes: &[u8]) -> Found {
    let mut fields = Fields::of(bytes);
    let (Some(len), Some(code)) = (fields.number(), fields.number()) else {
        let likely = bytes.len() < 8 && bytes.iter().take(2).all(|byte| *byte == 0);
        return if likely { Found::Maybe } else { Found::No };
    };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let fits = match code {
        SSL | GSSENC => len == 8,
        // The number of a process and a key.
        CANCEL => len == 16,
        // Names and values; the user's is one of them.
        _ => code >> 16 == MAJOR && (9..=STARTUP_BYTES).contains(&len) && fields.rest().first() != Some(&0),
    };
    let named = fields.text().is_none_or(is_printable);
    match (fits && named, bytes.len() >= len) {
        (false, _) => Found::No,
        (true, true) => Found::Yes,
        (true, false) => Found::Maybe,
    }
}

/// Whether what comes next in a message is as it must be; `None` where it ends too early to say.
impl<'a> Message<'a> {
    /// The message that bytes begin with.
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let header = header(bytes).filter(|header| header.content <= LIKELY_BYTES)?;
        let there = bytes.get(header.head..)?;
        let content = there.get(..header.content).unwrap_or(there);
        Some(Self {
            kind: header.kind,
            fields: Fields::of(content),
            absent: header.content - content.len(),
        })
    }

    /// What a look at its fields says. If they end too early to say and nothing is missing, it is none.
    fn verdict(&self, found: Option<bool>) -> Found {
        match found {
            Some(true) => Found::Yes,
            None if self.absent > 0 => Found::Maybe,
            Some(false) | None => Found::No,
        }
    }

    /// Bytes up to its end, whether they are there or not.
    fn left(&self) -> usize {
        self.fields.rest().len() + self.absent
    }

    /// A statement.
    fn statement(&mut self) -> Option<bool> {
        let rest = self.fields.rest();
        let whole = self.fields.text();
        let text = whole.unwrap_or(rest);
        let controls = text
            .iter()
            .any(|byte| *byte < b' ' && !byte.is_ascii_whitespace());
        if controls {
            return Some(false);
        }
        if self.absent == 0 {
            return Some(whole.is_some());
        }
        let start = text.trim_ascii_start();
        let word = start.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let word = start.get(..word).unwrap_or_default();
        let verb = VERBS
            .iter()
            .any(|verb| word.eq_ignore_ascii_case(verb.as_bytes()));
        verb.then_some(true)
    }

    /// The fields of a Parse: name, statement, types of its parameters.
    fn parse(&mut self) -> Option<bool> {
        if !is_printable(self.fields.text()?) {
            return Some(false);
        }
        let ended = self.fields.rest().contains(&0);
        let likely = self.statement()?;
        let types = self.fields.short().filter(|_| ended);
        Some(likely && types.is_none_or(|count| self.left() == 4 * usize::from(count)))
    }

    /// Those of a Bind: portal, statement, formats, parameters, formats of the results.
    fn bind(&mut self) -> Option<bool> {
        let names = [self.fields.text()?, self.fields.text()?];
        if !names.into_iter().all(is_printable) {
            return Some(false);
        }
        let formats = self.fields.short()?;
        for _ in 0..formats {
            if self.fields.short()? > 1 {
                return Some(false);
            }
        }
        let parameters = self.fields.short()?;
        if formats > 1 && formats != parameters {
            return Some(false);
        }
        if self.absent > 0 {
            return Some(true);
        }
        for _ in 0..parameters {
            if !self.value()? {
                return Some(false);
            }
        }
        let formats = self.fields.short()?;
        Some(self.left() == 2 * usize::from(formats))
    }

    /// The name of a statement or a portal.
    fn names(&mut self) -> Option<bool> {
        if !matches!(self.fields.byte()?, b'S' | b'P') {
            return Some(false);
        }
        let name = self.fields.text()?;
        Some(is_printable(name) && self.left() == 0)
    }

    /// A setting with its value.
    fn setting(&mut self) -> Option<bool> {
        let name = self.fields.text()?;
        if name.is_empty() || !is_printable(name) {
            return Some(false);
        }
        self.fields.text()?;
        Some(self.left() == 0)
    }

    /// An error or a notice, whose first field is how bad it is.
    fn notice(&mut self) -> Option<bool> {
        if !matches!(self.fields.byte()?, b'S' | b'V') {
            return Some(false);
        }
        let severity = self.fields.text()?;
        Some(!severity.is_empty() && is_printable(severity))
    }

    /// The description of columns.
    fn columns(&mut self) -> Option<bool> {
        for _ in 0..self.fields.short()? {
            if !self.fields.text()?.iter().all(|byte| *byte >= b' ') {
                return Some(false);
            }
            // Table, column, type, its size and modifier, format.
            self.fields.skip(18)?;
        }
        Some(self.left() == 0)
    }

    /// The values of a row.
    fn row(&mut self) -> Option<bool> {
        for _ in 0..self.fields.short()? {
            if !self.value()? {
                return Some(false);
            }
        }
        Some(self.left() == 0)
    }

    /// A value, which may be NULL. It is passed over.
    fn value(&mut self) -> Option<bool> {
        let len = match self.fields.number()? {
            u32::MAX => 0,
            len => usize::try_from(len).ok()?,
        };
        if len > self.left() {
            return Some(false);
        }
        self.fields.skip(len)?;
        Some(true)
    }
}

/// `INSERT 0 1`, `CREATE TABLE`: words in upper case, then numbers.
fn is_tag(tag: &[u8]) -> bool {
    let upper = tag.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    upper >= 2
        && tag
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ')
        && tag.get(upper).is_none_or(|byte| *byte == b' ')
}

fn is_printable(text: &[u8]) -> bool {
    text.iter().all(|byte| *byte >= b' ' && *byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_say() {
        for (bytes, found) in [
            (&b"\0\0\0\x08\x04\xd2\x16\x2f"[..], Found::Yes),
            (b"\0\0\0\x12\0\x03\0\0user\0abc\0\0", Found::Yes),
            (b"\0\0\0\x12\0\x03\0\0user", Found::Maybe),
            // Kafka's Metadata, version 0.
            (b"\0\0\0\x12\0\x03\0\0\0\0\0\x01\0\x04test\0\0\0\0", Found::No),
            (b"Q\0\0\0\x0dSELECT 1\0", Found::Yes),
            (b"Q\0\0\x10\0SELECT 1, 2", Found::Yes),
            (b"Q\0\0\x10\0SEL", Found::Maybe),
            (b"Q\0\0\0\x0dSELECT 1 ", Found::No),
            (b"P\0\0\0\x10s\0SELECT 1\0\0\0", Found::Yes),
            (b"B\0\0\0\x0c\0\0\0\0\0\0\0\0", Found::Yes),
            (b"E\0\0\0\x09\0\0\0\0\0", Found::Yes),
            (b"S\0\0\0\x04", Found::Yes),
            (b"P", Found::Maybe),
            (b"POST / HTTP/1.1\r\n", Found::No),
            (b"*1\r\n", Found::No),
        ] {
            assert_eq!(is_frontend(bytes), found, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_servers_say() {
        for (bytes, found) in [
            (&b"Z\0\0\0\x05I"[..], Found::Yes),
            (b"C\0\0\0\x0dSELECT 5\0", Found::Yes),
            (b"C\0\0\0\x0bSstmt1\0", Found::No),
            (b"2\0\0\0\x04", Found::Yes),
            (b"R\0\0\0\x08\0\0\0\0", Found::Yes),
            (b"S\0\0\0\x0ea\0UTF8\0xx\0", Found::No),
            (b"S\0\0\0\x0ba\0UTF8\0", Found::Yes),
            (b"D\0\0\0\x0b\0\x01\0\0\0\x01x", Found::Yes),
            (b"D\0\0\0\x0b\0\x01\0\0\0\x09x", Found::No),
            (b"E\0\0\0\x50SERROR\0C42P01\0", Found::Yes),
            (b"Z\0\0", Found::Maybe),
            (b"HTTP/1.1 200 OK", Found::No),
        ] {
            assert_eq!(is_backend(bytes), found, "{}", bytes.escape_ascii());
        }
    }
}
