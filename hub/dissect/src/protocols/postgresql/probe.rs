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

/// Whether bytes begin with a message of a client.
pub(super) fn is_frontend(bytes: &[u8]) -> Found {
    if bytes.first() == Some(&0) {
        return is_startup(bytes);
    }
    let Some((kind, mut fields, whole)) = message(bytes) else {
        return unfinished(bytes, b"QPBEDCSHFXpdcf");
    };
    let found = match kind {
        b'Q' => statement(&mut fields, whole),
        b'P' => fields.text().filter(|name| is_printable(name)).and_then(|_| {
            let mut types = fields;
            let likely = statement(&mut types, whole);
            let counted = types
                .short()
                .is_none_or(|count| !whole || types.rest().len() == 4 * usize::from(count));
            likely.map(|likely| likely && counted)
        }),
        b'B' => bind(&mut fields, whole),
        b'E' => {
            let named = fields.text().is_some_and(is_printable);
            Some(named && whole && fields.rest().len() == 4)
        }
        b'D' | b'C' => {
            let named = matches!(fields.byte(), Some(b'S' | b'P')) && fields.text().is_some_and(is_printable);
            Some(named && whole && fields.is_empty())
        }
        b'S' | b'H' | b'X' => Some(whole && fields.is_empty()),
        _ => Some(false),
    };
    verdict(found, whole)
}

/// Whether bytes begin with a message of a server.
pub(super) fn is_backend(bytes: &[u8]) -> Found {
    let Some((kind, mut fields, whole)) = message(bytes) else {
        return unfinished(bytes, b"RSKNA123tTnDCIEsZGHWdcVv");
    };
    let found = match kind {
        b'Z' => Some(whole && matches!(fields.byte(), Some(b'I' | b'T' | b'E')) && fields.is_empty()),
        b'1' | b'2' | b'3' | b'n' | b's' | b'I' => Some(whole && fields.is_empty()),
        b'C' => fields.text().map(|tag| whole && is_tag(tag) && fields.is_empty()),
        b'R' => fields.number().map(|code| code <= 12),
        b'S' => {
            let named = fields
                .text()
                .is_some_and(|name| is_printable(name) && !name.is_empty());
            Some(named && fields.text().is_some() && whole && fields.is_empty())
        }
        b'E' | b'N' => {
            let first = fields.byte();
            let severity = fields.text();
            severity.map(|text| matches!(first, Some(b'S' | b'V')) && !text.is_empty() && is_printable(text))
        }
        b't' => fields
            .short()
            .map(|count| whole && fields.rest().len() == 4 * usize::from(count)),
        b'T' => columns(&mut fields, whole),
        b'D' => row(&mut fields, whole),
        _ => Some(false),
    };
    verdict(found, whole)
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

/// The first message: its type, what is there of its content, and whether that is all of it.
fn message(bytes: &[u8]) -> Option<(u8, Fields<'_>, bool)> {
    let header = header(bytes).filter(|header| header.content <= LIKELY_BYTES)?;
    let content = bytes.get(header.head..)?;
    let whole = content.len() >= header.content;
    let content = content.get(..header.content).unwrap_or(content);
    Some((header.kind, Fields::of(content), whole))
}

/// What a look at the content says: nothing, if it ended too early to say.
fn verdict(found: Option<bool>, whole: bool) -> Found {
    match found {
        Some(true) => Found::Yes,
        None if !whole => Found::Maybe,
        Some(false) if !whole => Found::Maybe,
        Some(false) | None => Found::No,
    }
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

/// Whether a statement stands next.
fn statement(fields: &mut Fields<'_>, whole: bool) -> Option<bool> {
    let text = match fields.text() {
        Some(text) => text,
        None if whole => return Some(false),
        None => fields.rest(),
    };
    let controls = text
        .iter()
        .any(|byte| *byte < b' ' && !byte.is_ascii_whitespace());
    if controls {
        return Some(false);
    }
    if whole {
        return Some(true);
    }
    let start = text.trim_ascii_start();
    let word = start.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let word = start.get(..word).unwrap_or_default();
    let verb = VERBS
        .iter()
        .any(|verb| word.eq_ignore_ascii_case(verb.as_bytes()));
    (verb || text.len() > 64).then_some(verb)
}

/// Whether the fields of a Bind stand next: portal, statement, formats, parameters, formats of the results.
fn bind(fields: &mut Fields<'_>, whole: bool) -> Option<bool> {
    let names = [fields.text()?, fields.text()?];
    if !names.into_iter().all(is_printable) {
        return Some(false);
    }
    let formats = fields.short()?;
    for _ in 0..formats {
        if fields.short()? > 1 {
            return Some(false);
        }
    }
    let parameters = fields.short()?;
    if formats > 1 && formats != parameters {
        return Some(false);
    }
    if !whole {
        return Some(true);
    }
    for _ in 0..parameters {
        value(fields)?;
    }
    let formats = fields.short()?;
    Some(fields.rest().len() == 2 * usize::from(formats))
}

/// Whether the description of columns stands next.
fn columns(fields: &mut Fields<'_>, whole: bool) -> Option<bool> {
    for _ in 0..fields.short()? {
        if !fields.text()?.iter().all(|byte| *byte >= b' ') {
            return Some(false);
        }
        // Table, column, type, its size and modifier, format.
        fields.skip(18)?;
    }
    Some(whole && fields.is_empty())
}

/// Whether the values of a row stand next.
fn row(fields: &mut Fields<'_>, whole: bool) -> Option<bool> {
    for _ in 0..fields.short()? {
        value(fields)?;
    }
    Some(whole && fields.is_empty())
}

/// Passes over a value, which may be NULL.
fn value(fields: &mut Fields<'_>) -> Option<()> {
    match fields.number()? {
        u32::MAX => Some(()),
        len => fields.skip(usize::try_from(len).ok()?),
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
