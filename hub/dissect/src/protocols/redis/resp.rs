//! RESP, versions 2 and 3: values, of which only what is shown is kept. Strings are passed over as they come.

use super::seen::{Kind, Seen};
use crate::Counters;
use crate::limits::RESP_DEPTH;

/// Bytes behind a string.
const LINE_END: u64 = 2;

/// How far reading got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The value ends after so many bytes.
    Done(usize),
    /// It goes on behind these; there are some.
    Partly(usize),
    /// There is not enough to read on.
    More,
    /// These are no value.
    Invalid,
}

/// Reads one value after the other, each in as many pieces as it comes in.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub seen: Seen,
    /// The values that the next one is inside of.
    levels: Vec<Level>,
    inside: Inside,
}

#[derive(Debug)]
struct Level {
    /// Values that are still to come; unknown for a streamed one, which says when it ends.
    left: Option<u64>,
    /// Whether it is an attribute, which comes before a value and is none.
    attribute: bool,
}

/// Between lines, or in a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Inside {
    #[default]
    Line,
    /// So many bytes of it are left, the line end behind it included.
    String {
        left: u64,
        /// What it adds to.
        to: To,
        /// Whether it is one of several parts.
        part: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Nothing,
    Text,
    Error,
}

impl Reader {
    /// A reader that keeps so many bytes of strings.
    pub fn within(budget: usize) -> Self {
        let mut reader = Self::default();
        reader.clear(budget);
        reader
    }

    /// Reads on.
    pub fn read(&mut self, bytes: &[u8], counters: &mut Counters) -> Read {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let step = match self.inside {
                Inside::String { left, to, part } if !rest.is_empty() => {
                    let Some(taken) = self.string(rest, left, to, part) else {
                        return Read::Invalid;
                    };
                    taken
                }
                Inside::Line if let Some(end) = line_end(rest) => {
                    let Some(taken) = self.line(rest, end, counters) else {
                        return Read::Invalid;
                    };
                    taken
                }
                _ if used > 0 => return Read::Partly(used),
                _ => return Read::More,
            };
            used += step.used;
            if step.whole {
                return Read::Done(used);
            }
        }
    }

    /// Passes over missing bytes, if they are a string's; gives how many, and whether the value ends with them.
    pub fn gap(&mut self, len: u64) -> Option<(u64, bool)> {
        let Inside::String { left, to, part } = self.inside else {
            return None;
        };
        self.seen.gap = true;
        self.break_off();
        let inside = len.min(left);
        self.inside = Inside::String {
            left: left - inside,
            to,
            part,
        };
        Some((inside, left == inside && self.string_ends(part)))
    }

    /// The string under way does not go on here.
    pub fn break_off(&mut self) {
        if let Inside::String {
            left,
            to: To::Text,
            part,
        } = self.inside
            && (left > LINE_END || part)
        {
            self.seen.texts.close();
        }
    }

    /// Whether a value is under way.
    pub fn is_open(&self) -> bool {
        self.inside != Inside::Line || !self.levels.is_empty() || self.seen.kind != Kind::Unknown
    }

    /// Begins with the next value; keeps so many bytes of its strings.
    pub fn clear(&mut self, budget: usize) {
        self.levels.clear();
        self.inside = Inside::Line;
        self.seen.clear(budget);
    }

    fn string(&mut self, rest: &[u8], left: u64, to: To, part: bool) -> Option<Step> {
        let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let content = usize::try_from(left.saturating_sub(LINE_END))
            .unwrap_or(usize::MAX)
            .min(taken);
        let (content, line_end) = rest.get(..taken)?.split_at(content);
        match to {
            To::Text => self.seen.texts.add(content),
            To::Error => self.seen.add_error(content),
            To::Nothing => {}
        }
        let ends = if left == 1 {
            matches!(line_end, b"" | b"\n")
        } else {
            matches!(line_end, b"" | b"\r" | b"\r\n")
        };
        if !ends {
            return None;
        }
        let left = left - taken as u64;
        self.inside = Inside::String { left, to, part };
        Some(Step {
            used: taken,
            whole: left == 0 && self.string_ends(part),
        })
    }

    fn string_ends(&mut self, part: bool) -> bool {
        self.inside = Inside::Line;
        !part && self.value_ends()
    }

    fn line(&mut self, rest: &[u8], end: usize, counters: &mut Counters) -> Option<Step> {
        let (sign, line) = rest.get(..end)?.strip_suffix(b"\r")?.split_first()?;
        let used = end + 1;
        let kind = match sign {
            b'+' => Kind::Simple,
            b'-' | b'!' => Kind::Error,
            b':' => Kind::Integer,
            b'$' | b'=' => Kind::Bulk,
            b'*' => Kind::Array,
            b'_' => Kind::Nil,
            b',' => Kind::Double,
            b'#' => Kind::Boolean,
            b'(' => Kind::BigNumber,
            b'%' => Kind::Map,
            b'~' => Kind::Set,
            b'>' => Kind::Push,
            b'|' => {
                return self
                    .open(line, 2, true, counters)
                    .map(|()| Step { used, whole: false });
            }
            b';' => {
                return Some(Step {
                    used,
                    whole: self.part(line)?,
                });
            }
            b'.' => {
                return Some(Step {
                    used,
                    whole: self.stream_ends(line)?,
                });
            }
            _ => return None,
        };
        self.seen.resp3 |= !matches!(sign, b'+' | b'-' | b':' | b'$' | b'*');
        let direct = self.levels.len() == 1 && self.levels.iter().all(|level| !level.attribute);
        let outermost = self.levels.is_empty();
        let nil = matches!(sign, b'$' | b'*') && line == b"-1";
        if outermost {
            self.seen.kind = if nil { Kind::Nil } else { kind };
        }
        let shown = outermost || direct;
        let whole = match (kind, sign) {
            _ if nil => self.value_ends(),
            (Kind::Array | Kind::Set | Kind::Push, _) => {
                self.open(line, 1, false, counters)?;
                self.levels.last().is_some_and(|level| level.left == Some(0)) && self.level_ends()
            }
            (Kind::Map, _) => {
                self.open(line, 2, false, counters)?;
                self.levels.last().is_some_and(|level| level.left == Some(0)) && self.level_ends()
            }
            (Kind::Bulk, _) | (_, b'!') => {
                let to = match kind {
                    Kind::Error if self.seen.error.is_empty() => To::Error,
                    Kind::Bulk if shown => To::Text,
                    _ => To::Nothing,
                };
                if to == To::Text {
                    self.seen.texts.begin();
                }
                if line == b"?" {
                    // Its parts follow, each with a line of its own.
                    self.seen.resp3 = true;
                    return Some(Step { used, whole: false });
                }
                self.inside = Inside::String {
                    left: number(line)?.checked_add(LINE_END)?,
                    to,
                    part: false,
                };
                false
            }
            (Kind::Error, _) => {
                if self.seen.error.is_empty() {
                    self.seen.add_error(line);
                }
                self.value_ends()
            }
            (Kind::Simple, _) => {
                if shown {
                    self.seen.texts.begin();
                    self.seen.texts.add(line);
                }
                self.value_ends()
            }
            _ => {
                if !scalar(kind, line) {
                    return None;
                }
                self.value_ends()
            }
        };
        Some(Step { used, whole })
    }

    /// Begins a value of values.
    fn open(&mut self, line: &[u8], each: u64, attribute: bool, counters: &mut Counters) -> Option<()> {
        if self.levels.len() >= RESP_DEPTH {
            counters.too_deep += 1;
            return None;
        }
        let left = match line {
            b"?" => None,
            _ => Some(number(line)?.checked_mul(each)?),
        };
        self.seen.resp3 |= attribute || left.is_none();
        if self.levels.is_empty() && !attribute {
            self.seen.elements = left.unwrap_or(0);
        }
        if attribute && left == Some(0) {
            return Some(());
        }
        self.levels.push(Level { left, attribute });
        Some(())
    }

    /// One part of a streamed string begins, or the string ends.
    fn part(&mut self, line: &[u8]) -> Option<bool> {
        if self.seen.kind == Kind::Unknown {
            return None;
        }
        let len = number(line)?;
        if len == 0 {
            return Some(self.value_ends());
        }
        self.inside = Inside::String {
            left: len.checked_add(LINE_END)?,
            to: if self.levels.is_empty() {
                To::Text
            } else {
                To::Nothing
            },
            part: true,
        };
        Some(false)
    }

    /// A streamed value of values ends.
    fn stream_ends(&mut self, line: &[u8]) -> Option<bool> {
        let streamed = self.levels.last().is_some_and(|level| level.left.is_none());
        (line.is_empty() && streamed).then(|| self.level_ends())
    }

    fn level_ends(&mut self) -> bool {
        match self.levels.pop() {
            Some(level) if level.attribute => false,
            _ => self.value_ends(),
        }
    }

    /// A value has ended, and with it perhaps those around it; whether the outermost has.
    fn value_ends(&mut self) -> bool {
        while let Some(level) = self.levels.last_mut() {
            let Some(left) = &mut level.left else {
                return false;
            };
            *left = left.saturating_sub(1);
            if *left > 0 {
                return false;
            }
            let attribute = level.attribute;
            self.levels.pop();
            if attribute {
                return false;
            }
        }
        true
    }
}

/// Where the first line of some bytes ends. Most are a sign and a length, and need no search of many bytes at a time.
fn line_end(bytes: &[u8]) -> Option<usize> {
    const SHORT: usize = 16;
    let ends = |byte: &u8| *byte == b'\n';
    let short = bytes.iter().take(SHORT).position(ends);
    short.or_else(|| {
        bytes
            .contains(&b'\n')
            .then(|| bytes.iter().position(ends))
            .flatten()
    })
}

struct Step {
    used: usize,
    /// Whether the outermost value ends with it.
    whole: bool,
}

/// A length or a count: digits and nothing else.
pub(super) fn number(line: &[u8]) -> Option<u64> {
    if line.is_empty() || line.len() > 19 {
        return None;
    }
    line.iter().try_fold(0_u64, |sum, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Whether a line can be a value of that kind.
fn scalar(kind: Kind, line: &[u8]) -> bool {
    let digits = line
        .strip_prefix(b"-")
        .or(line.strip_prefix(b"+"))
        .unwrap_or(line);
    match kind {
        Kind::Integer => number(digits).is_some(),
        Kind::BigNumber => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        Kind::Nil => line.is_empty(),
        Kind::Boolean => matches!(line, b"t" | b"f"),
        // Numbers, `inf` and `nan`.
        _ => {
            !line.is_empty()
                && line
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind, strings, error, and how many bytes were used; read in pieces of every length.
    #[track_caller]
    fn check(bytes: &str, kind: Kind, texts: &[&str], error: &str) {
        for piece in 1..=bytes.len() {
            let mut reader = Reader::default();
            reader.clear(100);
            let (mut start, mut end) = (0, 0);
            loop {
                end = (end + piece).min(bytes.len());
                match reader.read(&bytes.as_bytes()[start..end], &mut Counters::default()) {
                    Read::Done(used) => {
                        assert_eq!(start + used, bytes.len(), "in pieces of {piece}");
                        break;
                    }
                    Read::Partly(used) => start += used,
                    Read::More => {}
                    Read::Invalid => panic!("invalid in pieces of {piece}"),
                }
                assert!(end < bytes.len() || start < end, "no end in pieces of {piece}");
            }
            let seen = &reader.seen;
            let told: Vec<_> = seen
                .texts
                .iter()
                .map(|text| String::from_utf8_lossy(text).into_owned())
                .collect();
            assert_eq!(
                (seen.kind, told),
                (kind, texts.iter().map(|text| (*text).to_owned()).collect())
            );
            assert_eq!(String::from_utf8_lossy(&seen.error), error);
        }
    }

    #[test]
    fn values_of_version_2() {
        check("+OK\r\n", Kind::Simple, &["OK"], "");
        check("-ERR no\r\n", Kind::Error, &[], "ERR no");
        check(":-12\r\n", Kind::Integer, &[], "");
        check("$5\r\nhe\r\no\r\n", Kind::Bulk, &["he\r\no"], "");
        check("$0\r\n\r\n", Kind::Bulk, &[""], "");
        check("$-1\r\n", Kind::Nil, &[], "");
        check("*-1\r\n", Kind::Nil, &[], "");
        check("*0\r\n", Kind::Array, &[], "");
        check("*2\r\n$1\r\na\r\n$-1\r\n", Kind::Array, &["a"], "");
        check(
            "*2\r\n*2\r\n:1\r\n*0\r\n-WRONGTYPE x\r\n",
            Kind::Array,
            &[],
            "WRONGTYPE x",
        );
    }

    #[test]
    fn values_of_version_3() {
        check("_\r\n", Kind::Nil, &[], "");
        check("#t\r\n", Kind::Boolean, &[], "");
        check(",-1.5e3\r\n", Kind::Double, &[], "");
        check("(123456789012345678901234567890\r\n", Kind::BigNumber, &[], "");
        check("!6\r\nERR no\r\n", Kind::Error, &[], "ERR no");
        check("=7\r\ntxt:abc\r\n", Kind::Bulk, &["txt:abc"], "");
        check("%1\r\n+a\r\n~1\r\n:1\r\n", Kind::Map, &["a"], "");
        check(">2\r\n$7\r\nmessage\r\n+x\r\n", Kind::Push, &["message", "x"], "");
    }

    #[test]
    fn an_attribute_comes_before_its_value_and_is_none() {
        check("|1\r\n+ttl\r\n:3600\r\n$1\r\nv\r\n", Kind::Bulk, &["v"], "");
        check("|0\r\n:1\r\n", Kind::Integer, &[], "");
        check("*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", Kind::Array, &[], "");
    }

    #[test]
    fn streamed_values_say_when_they_end() {
        check(
            "$?\r\n;4\r\nHell\r\n;1\r\no\r\n;0\r\n",
            Kind::Bulk,
            &["Hello"],
            "",
        );
        check("*?\r\n:1\r\n*?\r\n.\r\n.\r\n", Kind::Array, &[], "");
        check("%?\r\n+a\r\n:1\r\n.\r\n", Kind::Map, &["a"], "");
    }

    #[test]
    fn what_is_no_value() {
        for bytes in [
            "HTTP/1.1 200 OK\r\n",
            "$x\r\n",
            "$3\r\nabcd\r\n",
            "#x\r\n",
            "+OK\n",
            ".\r\n",
            ":\r\n",
            "*-2\r\n",
        ] {
            let read = Reader::default().read(bytes.as_bytes(), &mut Counters::default());
            assert_eq!(read, Read::Invalid, "{bytes:?}");
        }
    }

    #[test]
    fn values_inside_values_up_to_the_limit() {
        let mut counters = Counters::default();
        let deep = |depth: usize| format!("{}:1\r\n", "*1\r\n".repeat(depth));
        let at = deep(RESP_DEPTH);
        assert_eq!(
            Reader::default().read(at.as_bytes(), &mut counters),
            Read::Done(at.len())
        );
        assert_eq!(counters.too_deep, 0);
        let beyond = deep(RESP_DEPTH + 1);
        assert_eq!(
            Reader::default().read(beyond.as_bytes(), &mut counters),
            Read::Invalid
        );
        assert_eq!(counters.too_deep, 1);
    }

    #[test]
    fn a_gap_in_a_string_and_one_beyond_it() {
        let mut reader = Reader::default();
        assert_eq!(
            reader.read(b"$10\r\nabc", &mut Counters::default()),
            Read::Partly(8)
        );
        assert_eq!(reader.gap(4), Some((4, false)));
        assert_eq!(reader.gap(100), Some((5, true)));
        assert!(reader.seen.gap);
        assert_eq!(reader.gap(1), None);
    }
}
