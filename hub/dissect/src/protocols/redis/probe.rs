//! What looks like Redis.

use super::command::{is_known, is_name};
use super::pair::MESSAGES;
use super::resp::{Read, Reader, number};
use super::seen::Kind;
use crate::Counters;

/// What bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This, and nothing else.
    Yes,
    /// This, if the other end fits.
    Likely,
    /// There are too few bytes to say.
    Maybe,
    No,
}

/// Words that a line of a command may be made of, before its end.
const INLINE_BYTES: usize = 1024;

/// Whether bytes begin a command: an array whose first string names one. Lines typed by hand are no proof, since other
/// protocols begin with such words, too.
pub(super) fn is_command(bytes: &[u8]) -> Found {
    let Some(rest) = bytes.strip_prefix(b"*") else {
        return is_inline(bytes);
    };
    let (count, rest) = match line(rest) {
        Some((line, rest)) => (number(line), rest),
        None if rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b'\r') && rest.len() < 12 => {
            return Found::Maybe;
        }
        None => return Found::No,
    };
    if count.is_none_or(|count| count == 0) {
        return Found::No;
    }
    let Some(rest) = rest.strip_prefix(b"$") else {
        return if rest.is_empty() { Found::Maybe } else { Found::No };
    };
    let Some((len, rest)) = line(rest) else {
        let digits = rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b'\r') && rest.len() < 5;
        return if digits { Found::Maybe } else { Found::No };
    };
    let Some(len) = number(len).and_then(|len| usize::try_from(len).ok()) else {
        return Found::No;
    };
    match rest.get(..len) {
        // Servers write so as well: what is published, and how they confirm, which is no string throughout.
        Some(name) if MESSAGES.iter().any(|known| known.as_bytes() == name) => Found::No,
        Some(name) if is_known(name) && !all_strings(rest.get(len..).unwrap_or_default()) => Found::No,
        Some(name) if is_known(name) => Found::Yes,
        Some(name) if is_name(name) => Found::Likely,
        None if is_name(rest) || rest.is_empty() => Found::Maybe,
        _ => Found::No,
    }
}

/// Whether nothing but strings follow in an array, as far as it is there: `rest` begins behind the first one.
fn all_strings(mut rest: &[u8]) -> bool {
    while let Some(string) = rest.strip_prefix(b"\r\n$") {
        let Some((len, content)) = line(string) else {
            return true;
        };
        let len = number(len).and_then(|len| usize::try_from(len).ok());
        let Some(behind) = len.and_then(|len| content.get(len..)) else {
            return len.is_some();
        };
        rest = behind;
    }
    // Another command may follow, a typed one too.
    let begins_command = |byte: &u8| *byte == b'*' || byte.is_ascii_alphabetic();
    rest.get(2).is_none_or(begins_command) && (rest.len() < 3 || rest.starts_with(b"\r\n"))
}

fn is_inline(bytes: &[u8]) -> Found {
    let Some((words, _)) = line(bytes) else {
        let word = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
        return if is_name(word) && bytes.len() < INLINE_BYTES {
            Found::Maybe
        } else {
            Found::No
        };
    };
    let name = words.split(|byte| *byte == b' ').next().unwrap_or_default();
    let http = words.windows(6).any(|part| part == b" HTTP/");
    if name.eq_ignore_ascii_case(b"PING") {
        // NATS has it as well, and says `+OK`, too.
        Found::Maybe
    } else if is_known(name) && !http && words.iter().all(|byte| (b' '..0x7f).contains(byte)) {
        Found::Likely
    } else {
        Found::No
    }
}

/// Whether bytes begin a reply. A status or an error is no proof: others write them the same.
pub(super) fn is_reply(bytes: &[u8]) -> Found {
    let Some((sign, rest)) = bytes.split_first() else {
        return Found::Maybe;
    };
    match sign {
        b'+' => match line(rest) {
            // With its sign, nobody else's.
            Some((b"PONG", _)) => Found::Yes,
            Some((b"OK" | b"QUEUED" | b"RESET", _)) => Found::Likely,
            Some((words, _)) if is_monitored(words) => Found::Likely,
            Some(_) => Found::No,
            None if rest.len() < INLINE_BYTES => Found::Maybe,
            None => Found::No,
        },
        b'-' => {
            let name = rest.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
            match rest.get(name) {
                Some(b' ' | b'\r') if name >= 3 => Found::Likely,
                None if name < 32 => Found::Maybe,
                _ => Found::No,
            }
        }
        _ => {
            let mut reader = Reader::default();
            match reader.read(bytes, &mut Counters::default()) {
                Read::Done(_) => Found::Yes,
                Read::Partly(_) if reader.seen.kind != Kind::Unknown => Found::Yes,
                Read::Partly(_) => Found::Maybe,
                Read::More if b"$*:_,#(!=%~>|".contains(sign) && rest.len() < 24 => Found::Maybe,
                Read::More | Read::Invalid => Found::No,
            }
        }
    }
}

/// Whether a line tells what another client asked, after `MONITOR`: time, database and address, words.
pub(super) fn is_monitored(words: &[u8]) -> bool {
    let mut parts = words.splitn(3, |byte| *byte == b' ');
    let time = parts.next().unwrap_or_default();
    let database = parts.next().unwrap_or_default();
    time.contains(&b'.')
        && time.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        && database.starts_with(b"[")
}

/// The first line, and what comes behind its end.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at(end);
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        for (bytes, found) in [
            ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", Found::Yes),
            ("*2\r\n$3\r\nget", Found::Yes),
            ("*2\r\n$8\r\nJSON.GET\r\n", Found::Yes),
            ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\nEXISTS k\r\n", Found::Yes),
            ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n:1\r\n", Found::No),
            ("*1\r\n$7\r\nUNKNOWN\r\n", Found::Likely),
            ("*2\r\n$3\r\nG", Found::Maybe),
            ("*2\r\n$", Found::Maybe),
            ("*2", Found::Maybe),
            ("*2\r\n$3\r\n1 2\r\n", Found::No),
            ("*2\r\n:1\r\n", Found::No),
            ("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", Found::No),
            ("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", Found::No),
            ("PING\r\n", Found::Maybe),
            ("GET k\r\n", Found::Likely),
            ("GET / HTTP/1.1\r\n", Found::No),
            ("EHLO x\r\n", Found::No),
            ("\x16\x03\x01\x02", Found::No),
        ] {
            assert_eq!(is_command(bytes.as_bytes()), found, "{bytes:?}");
        }
    }

    #[test]
    fn replies() {
        for (bytes, found) in [
            ("$5\r\nhello\r\n", Found::Yes),
            ("$100\r\nhello", Found::Yes),
            ("$-1\r\n", Found::Yes),
            (":12\r\n", Found::Yes),
            ("*2\r\n:1\r\n", Found::Yes),
            ("%2\r\n+a\r\n", Found::Yes),
            (">3\r\n$7\r\nmessage\r\n", Found::Yes),
            ("+PONG\r\n", Found::Yes),
            ("+OK\r\n", Found::Likely),
            ("-MOVED 1 10.0.0.1:6379\r\n", Found::Likely),
            ("+OK POP3 ready\r\n", Found::No),
            ("$12", Found::Maybe),
            ("-E", Found::Maybe),
            ("HTTP/1.1 200 OK\r\n", Found::No),
            ("$3\r\nabcd\r\n", Found::No),
            ("-", Found::Maybe),
            ("hello", Found::No),
        ] {
            assert_eq!(is_reply(bytes.as_bytes()), found, "{bytes:?}");
        }
    }
}
