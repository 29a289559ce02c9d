//! The text of a statement as it is shown: without needless space, and without the passwords in it.

/// What stands inside a comment or between dollars is looked at like a statement, and so on, this deep. Deeper, only blanks
/// are told from the rest.
const DEPTH: usize = 4;

/// A text with one space where there are many, and without the passwords in it.
pub(super) fn shown(text: &str) -> String {
    within(text.trim(), DEPTH)
}

/// Bytes of the comment that a text begins with, or of all the text if it does not end in it; 0 if none begins.
pub(super) fn comment_len(text: &str) -> usize {
    if text.starts_with("--") {
        return text.find('\n').unwrap_or(text.len());
    }
    if !text.starts_with("/*") {
        return 0;
    }
    // Those of PostgreSQL may stand in each other.
    let mut depth = 0_usize;
    let mut last = 0;
    for (at, byte) in text.bytes().enumerate() {
        let pair = (last, byte);
        last = byte;
        match pair {
            (b'/', b'*') => depth += 1,
            (b'*', b'/') if depth == 1 => return at + 1,
            (b'*', b'/') => depth -= 1,
            _ => continue,
        }
        // Neither sign is part of another pair.
        last = 0;
    }
    text.len()
}

fn within(mut rest: &str, depth: usize) -> String {
    let mut shown = Shown {
        text: String::with_capacity(rest.len()),
        code: None,
    };
    while let Some(first) = rest.chars().next() {
        let (plain, behind) = rest.split_at(plain_len(rest, shown.ends_blank()));
        if !plain.is_empty() {
            shown.push(plain);
            rest = behind;
            continue;
        }
        if let Some(behind) = behind_password(shown.code(), rest) {
            rest = behind;
            shown.push("'(redacted)'");
            continue;
        }
        let comment = comment_len(rest);
        let len = if comment > 0 {
            comment
        } else {
            part_len(rest, first, shown.escapes())
        };
        let (part, behind) = rest.split_at(len);
        rest = behind;
        match first {
            _ if comment > 0 => shown.comment(part, depth),
            '$' => shown.dollars(part, depth),
            '\'' => shown.literal(part),
            _ if first.is_whitespace() => shown.blank(),
            _ => shown.push(part),
        }
    }
    shown.text
}

/// A text in the making.
struct Shown {
    text: String,
    /// The same without its comments, once there was one.
    code: Option<String>,
}

impl Shown {
    /// What there is so far, without comments: by this, it is known what comes next.
    fn code(&self) -> &str {
        self.code.as_deref().unwrap_or(&self.text)
    }

    /// Whether a literal that comes next has escapes: the word before it is an E.
    fn escapes(&self) -> bool {
        let mut before = self.code().bytes().rev();
        before.next().is_some_and(|byte| byte.eq_ignore_ascii_case(&b'e'))
            && !before.next().is_some_and(is_name)
    }

    /// Whether a blank that comes next need not be shown.
    fn ends_blank(&self) -> bool {
        self.text.ends_with(' ') || self.code().ends_with(' ')
    }

    fn push(&mut self, part: &str) {
        self.text.push_str(part);
        if let Some(code) = &mut self.code {
            code.push_str(part);
        }
    }

    fn blank(&mut self) {
        for text in [Some(&mut self.text), self.code.as_mut()].into_iter().flatten() {
            if !text.ends_with(' ') {
                text.push(' ');
            }
        }
    }

    /// A comment, in which a statement may stand.
    fn comment(&mut self, comment: &str, depth: usize) {
        let code = self.code.get_or_insert_with(|| self.text.clone());
        if !code.ends_with(' ') {
            code.push(' ');
        }
        let (sign, inside) = comment.split_at(2);
        self.text.push_str(sign);
        self.text.push_str(&inner(inside, depth));
    }

    /// A literal between dollars, in which statements may stand.
    fn dollars(&mut self, literal: &str, depth: usize) {
        let tag = literal
            .get(1..)
            .and_then(|rest| rest.find('$'))
            .map_or(0, |at| at + 2);
        let (tag, rest) = literal.split_at(tag);
        let inside = rest.strip_suffix(tag).unwrap_or(rest);
        if tag.is_empty() {
            return self.push(literal);
        }
        self.push(tag);
        self.push(&inner(inside, depth));
        self.push(rest.get(inside.len()..).unwrap_or_default());
    }

    /// A literal. One that says how to connect may have a password in it: `host=db password=secret`, or
    /// `postgresql://user:secret@db`.
    fn literal(&mut self, mut literal: &str) {
        const WORD: &[u8] = b"password";
        const SCHEME: &str = "://";
        // Where the first of the two ends.
        let find = |text: &[u8]| {
            let mut begins = text.windows(SCHEME.len()).enumerate();
            begins.find_map(|(at, begin)| {
                if begin == SCHEME.as_bytes() {
                    return Some(at + SCHEME.len());
                }
                let word = text.get(at..at + WORD.len())?;
                word.eq_ignore_ascii_case(WORD).then_some(at + WORD.len())
            })
        };
        while let Some(end) = find(literal.as_bytes()) {
            let (before, behind) = literal.split_at(end);
            self.push(before);
            literal = behind;
            if before.ends_with(SCHEME) {
                if let Some((user, behind)) = around_password(behind) {
                    self.push(user);
                    self.push(":(redacted)");
                    literal = behind;
                }
            } else if let Some(secret) = behind.trim_start().strip_prefix('=') {
                let secret = secret.trim_start();
                self.push("=(redacted)");
                literal = secret.get(value_len(secret)..).unwrap_or_default();
            }
        }
        self.push(literal);
    }
}

/// What stands before and behind the password at the begin of an address, if one has it: `user:secret@host/path`.
fn around_password(address: &str) -> Option<(&str, &str)> {
    let authority = address.split('/').next()?;
    let (before, behind) = address.split_at(authority.rfind('@')?);
    let (user, _) = before.split_once(':')?;
    Some((user, behind))
}

/// What stands inside something else.
fn inner(text: &str, depth: usize) -> String {
    match depth.checked_sub(1) {
        Some(depth) => within(text, depth),
        None => text.chars().fold(String::new(), |mut text, char| {
            match char.is_whitespace() {
                true if text.ends_with(' ') => {}
                true => text.push(' '),
                false => text.push(char),
            }
            text
        }),
    }
}

/// Bytes of a value in the text that says how to connect: up to a blank, or between quotes, which are doubled or escaped
/// within a literal.
fn value_len(text: &str) -> usize {
    let quote = ["''", r"\'"].into_iter().find(|quote| text.starts_with(quote));
    if let Some(quote) = quote {
        let end = text.get(2..).and_then(|rest| rest.find(quote));
        return end.map_or(text.len(), |at| at + 4);
    }
    let end = text.find(|char: char| char.is_whitespace() || matches!(char, '\'' | '&'));
    end.unwrap_or(text.len())
}

/// Bytes at the begin of a text that are shown as they are: words and signs, a space apart. That is most of most
/// statements.
fn plain_len(text: &str, mut blank: bool) -> usize {
    /// Without quotes, and without what may begin a comment.
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = b' ';
        while byte < 0x7f {
            plain[byte as usize] = !matches!(byte, b'\'' | b'"' | b'$' | b'-' | b'/');
            byte += 1;
        }
        plain
    };
    let mut last = b' ';
    let plain = text.bytes().take_while(|byte| {
        let again = blank && *byte == b' ';
        blank = *byte == b' ';
        // A dollar within a name is part of it.
        let named = *byte == b'$' && is_name(last);
        last = *byte;
        !again && (named || PLAIN[usize::from(*byte)])
    });
    plain.count()
}

/// Bytes that belong together at the begin of a text: what is in quotes or between dollars, one blank, or what stands
/// between these.
fn part_len(text: &str, first: char, escapes: bool) -> usize {
    let len = first.len_utf8();
    let behind = text.as_bytes().get(len..).unwrap_or_default();
    match first {
        '\'' => literal_len(text, escapes),
        '$' => literal_len(text, false).max(len),
        '"' => {
            let end = behind.iter().position(|byte| *byte == b'"');
            end.map_or(text.len(), |at| at + 2)
        }
        _ if first.is_whitespace() => len,
        _ => {
            let mut last = if first.is_ascii() { first as u8 } else { b'x' };
            let mut plain = 0;
            for byte in behind {
                // Blanks are not larger than a space, or not ASCII. A dollar within a name is part of it.
                let ends = match byte {
                    b'\'' | b'"' => true,
                    b'$' => !is_name(last),
                    // The begin of a comment belongs to it.
                    b'-' | b'*' if (last, *byte) == (b'-', b'-') || (last, *byte) == (b'/', b'*') => {
                        return len + plain - 1;
                    }
                    _ => !byte.is_ascii() || *byte <= b' ',
                };
                if ends {
                    break;
                }
                last = *byte;
                plain += 1;
            }
            len + plain
        }
    }
}

/// Whether a byte may stand in a name.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

/// What stands behind a password, if one comes next: a literal behind that word, of any of PostgreSQL's kinds.
fn behind_password<'a>(code: &str, rest: &'a str) -> Option<&'a str> {
    if !rest.starts_with(['\'', '$']) {
        return None;
    }
    let mut before = code.as_bytes().trim_ascii_end();
    let prefix = [&b" e"[..], b" n", b" u&"].into_iter().find(|prefix| {
        let end = before
            .len()
            .checked_sub(prefix.len())
            .and_then(|at| before.get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(prefix))
    });
    if let Some(prefix) = prefix {
        before = before.get(..before.len() - prefix.len())?.trim_ascii_end();
    }
    let word = before.last_chunk::<8>()?;
    if !word.eq_ignore_ascii_case(b"password") {
        return None;
    }
    let escapes = prefix == Some(b" e");
    let len = Some(literal_len(rest, escapes)).filter(|len| *len > 0)?;
    let mut behind = rest.get(len..)?;
    // Literals with nothing but blanks and comments between them are one.
    loop {
        let mut next = behind.trim_start();
        while let comment @ 1.. = comment_len(next) {
            next = next.get(comment..)?.trim_start();
        }
        if !next.starts_with('\'') {
            return Some(behind);
        }
        behind = next.get(literal_len(next, escapes)..)?;
    }
}

/// Bytes of the literal that a text begins with, or of all the text if it does not end in it; 0 if none begins.
pub(super) fn literal_len(text: &str, escapes: bool) -> usize {
    if text.starts_with('$') {
        // `$tag$…$tag$`; a parameter, such as `$1`, is none.
        let name = text
            .bytes()
            .skip(1)
            .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let (tag, content) = text.split_at_checked(name.count() + 2).unwrap_or_default();
        if !tag.ends_with('$') || tag.as_bytes().get(1).is_some_and(u8::is_ascii_digit) {
            return 0;
        }
        return content
            .find(tag)
            .map_or(text.len(), |at| tag.len() + at + tag.len());
    }
    let mut bytes = text.bytes().enumerate().skip(1).peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if escapes => {
                bytes.next();
            }
            b'\'' if bytes.next_if(|(_, next)| *next == b'\'').is_none() => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_and_passwords_are_not_shown() {
        assert_eq!(shown(" SELECT\n\t 'a  b'  ,  1 "), "SELECT 'a  b' , 1");
        assert_eq!(
            shown("ALTER ROLE a PASSWORD 'x y' LOGIN"),
            "ALTER ROLE a PASSWORD '(redacted)' LOGIN"
        );
        // Of every kind of literal, whole.
        for literal in [
            "'se''cret'",
            "'se'\n  'cret'",
            "'se' -- 'x'\n  'cret'",
            r"E'se\'cret'",
            r"e'se\\'",
            "N'secret'",
            r"U&'se\0063ret'",
            "$$se'cret$$",
            "$a$se$$cret$a$",
            "'secret",
            "$$secret",
        ] {
            for before in [
                "ALTER ROLE a PASSWORD ",
                "ALTER ROLE a PASSWORD/* or */",
                "ALTER ROLE a PASSWORD -- or\n ",
                "/* it's mine */ ALTER ROLE a PASSWORD ",
                "/* a /* it's */ b' */ ALTER ROLE a PASSWORD ",
                "-- it's mine\nALTER ROLE a PASSWORD ",
                "SELECT $$it's$$; ALTER ROLE a PASSWORD ",
                "SELECT($it$it's$it$); ALTER ROLE a PASSWORD ",
                r"SELECT E'it\'s', 'it''s'; ALTER ROLE a PASSWORD ",
                "DO $do$ /* it's */ BEGIN ALTER ROLE a PASSWORD ",
                "-- ALTER ROLE a PASSWORD ",
                "/* ALTER ROLE a PASSWORD ",
            ] {
                let shown = shown(&format!("{before}{literal} LOGIN"));
                // The line, and with it the comment, may end within the literal.
                if before.starts_with("-- ALTER") && literal.contains('\n') {
                    continue;
                }
                assert!(shown.contains("'(redacted)'"), "{before}{literal}: {shown}");
                assert!(
                    !shown.contains("se'") && !shown.contains("cret"),
                    "{before}{literal}: {shown}"
                );
                if !literal.ends_with("secret") {
                    assert!(
                        shown.ends_with("'(redacted)' LOGIN"),
                        "{before}{literal}: {shown}"
                    );
                }
            }
        }
    }

    #[test]
    fn nor_are_those_by_which_others_are_connected_to() {
        for (text, expected) in [
            (
                "CREATE SUBSCRIPTION s CONNECTION 'host=db PassWord = secret user=a' PUBLICATION p",
                "CREATE SUBSCRIPTION s CONNECTION 'host=db PassWord=(redacted) user=a' PUBLICATION p",
            ),
            (
                "SELECT dblink('password=''se cret'' host=db')",
                "SELECT dblink('password=(redacted) host=db')",
            ),
            (
                "OPTIONS (user 'bob', password 'secret')",
                "OPTIONS (user 'bob', password '(redacted)')",
            ),
            ("SELECT 'password=secret'", "SELECT 'password=(redacted)'"),
            (
                "CREATE SUBSCRIPTION s CONNECTION 'postgresql://repl:secret@db/shop'",
                "CREATE SUBSCRIPTION s CONNECTION 'postgresql://repl:(redacted)@db/shop'",
            ),
            (
                "SELECT dblink_connect('postgres://u:my@password=x@h/d?password=secret&a=b')",
                "SELECT dblink_connect('postgres://u:(redacted)@h/d?password=(redacted)&a=b')",
            ),
            (
                "SELECT 'password=a://b:c@d e', 'http://u:it''s@h'",
                "SELECT 'password=(redacted) e', 'http://u:(redacted)@h'",
            ),
            ("SELECT 'password=secret", "SELECT 'password=(redacted)"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn all_else_is() {
        for same in [
            "SELECT password, $1, 'x'",
            "SELECT password $1, $2",
            "SELECT password $",
            "PASSWORD",
            "SELECT a$b, 1-2, 3/4*5 FROM t -- why",
            "/* one /* two */ three */ SELECT 1 /*",
            "SELECT \"it's\", 'a', $x$ b $x$, $x$c",
            "SELECT '$$', '$$', \"--\", '/*'",
            "SELECT - -1, 'ä', ä",
            "WHERE password = 'it''s'",
            "SELECT 'the password'",
            "SELECT 'http://h:80/a@b', 'postgres://u@h/d', 'a:b@c', '://'",
        ] {
            assert_eq!(shown(same), same);
        }
    }

    #[test]
    fn blanks_are_one_space_wherever_they_stand() {
        for (text, expected) in [
            ("SELECT  a,\t b\x0b \n c ", "SELECT a, b c"),
            ("a -- b\n  c", "a -- b c"),
            ("a /* b */  c$1 $ $1  d", "a /* b */ c$1 $ $1 d"),
            ("'a'  ||  'b' ", "'a' || 'b'"),
            ("a\u{a0} \u{a0}b \u{2003} ä$x$  y", "a b ä$x$ y"),
            ("-  -1  /  2", "- -1 / 2"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn what_is_deep_inside_costs_no_more() {
        let deep: String = (0..600).map(|n| format!("$a{n}$ ")).collect();
        assert_eq!(shown(&deep), deep.trim_end());
        let comments = "/* ".repeat(2000);
        assert_eq!(shown(&comments), comments.trim_end());
    }
}
