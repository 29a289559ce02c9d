//! Parts of a path that are values by the way they are written.

/// Parts of a path that are looked at; what follows is one part.
pub(super) const MAX_PARTS: usize = 16;

/// Stands for the parts beyond [`MAX_PARTS`].
pub(super) const REST: &str = "{rest}";

/// One way in which values are written.
pub(super) struct Rule {
    /// What takes the value's place.
    pub(super) placeholder: &'static str,
    /// The rule in words, for the answer.
    pub(super) meaning: &'static str,
    holds: fn(&str) -> bool,
}

/// The first that holds counts.
pub(super) const RULES: &[Rule] = &[
    Rule {
        placeholder: "{id}",
        meaning: "a number",
        holds: is_number,
    },
    Rule {
        placeholder: "{uuid}",
        meaning: "a UUID (RFC 9562, section 4)",
        holds: is_uuid,
    },
    Rule {
        placeholder: "{date}",
        meaning: "a date, or a date and time (RFC 3339)",
        holds: is_date,
    },
    Rule {
        placeholder: "{hex}",
        meaning: "8 or more hexadecimal digits, numerals and letters among them",
        holds: is_hex,
    },
    Rule {
        placeholder: "{token}",
        meaning: "20 or more letters and numerals with hardly a separator",
        holds: is_token,
    },
];

/// The parts of a path, slashes and colons among them, with values by their placeholders.
pub(super) fn parts(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = path;
    let mut named = 0;
    while !rest.is_empty() {
        if named == MAX_PARTS {
            parts.push(REST);
            break;
        }
        let (segment, after) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // A time has colons of its own; elsewhere they separate (`/users/7:activate`, Redis' `user:7:cart`).
        if segment.is_empty() || !segment.contains(':') || placeholder(segment).is_some() {
            named += usize::from(!segment.is_empty());
            push(&mut parts, segment);
        } else {
            for (at, piece) in segment.splitn(MAX_PARTS - named, ':').enumerate() {
                if at > 0 {
                    parts.push(":");
                    named += 1;
                }
                push(&mut parts, piece);
            }
            named = (named + 1).min(MAX_PARTS);
        }
        rest = match after.strip_prefix('/') {
            Some(after) => {
                parts.push("/");
                after
            }
            None => after,
        };
    }
    parts
}

fn push<'a>(parts: &mut Vec<&'a str>, text: &'a str) {
    if text.is_empty() {
        return;
    }
    // Only the name of a file varies, not its kind.
    if let Some((stem, kind)) = text.rsplit_once('.')
        && (1..=5).contains(&kind.len())
        && kind.bytes().all(|byte| byte.is_ascii_alphabetic())
        && let Some(placeholder) = placeholder(stem)
    {
        parts.extend([placeholder, ".", kind]);
        return;
    }
    parts.push(placeholder(text).unwrap_or(text));
}

fn placeholder(text: &str) -> Option<&'static str> {
    let rule = RULES.iter().find(|rule| (rule.holds)(text));
    rule.map(|rule| rule.placeholder)
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let mut parts = text.split('-');
    let right = lengths.iter().all(|length| {
        parts
            .next()
            .is_some_and(|part| part.len() == *length && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    });
    right && parts.next().is_none()
}

/// `2024-02-01`, and what may follow of a time.
fn is_date(text: &str) -> bool {
    let Some((date, time)) = text.split_at_checked(10) else {
        return false;
    };
    let date = date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let time = time
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"TtZz:.+-_ ".contains(&byte));
    date && time
}

fn is_hex(text: &str) -> bool {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    digits.len() >= 8
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && digits.bytes().any(|byte| byte.is_ascii_digit())
        && digits.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Base64, JWTs, session ids. Words that hang together by hyphens are told apart by their many hyphens.
fn is_token(text: &str) -> bool {
    let separators = text.bytes().filter(|byte| b"-_.~%=+".contains(byte)).count();
    let of_its_kind = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%=+".contains(&byte);
    text.len() >= 20
        && text.bytes().all(of_its_kind)
        && text.bytes().any(|byte| byte.is_ascii_digit())
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && separators * 8 <= text.len()
}
