//! Text out of traffic, made harmless to look at: what it says is data, and it must not move a cursor, hide a line or
//! turn one around.

use serde_json::Value;

/// Writes out, as `\u{…}`, every character in an answer that is not seen for what it is.
pub(in crate::api) fn clean(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(cleaned) = cleaned(text) {
                *text = cleaned;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(members) => {
            if members.keys().any(|name| cleaned(name).is_some()) {
                let dirty = std::mem::take(members);
                *members = dirty
                    .into_iter()
                    .map(|(name, value)| (cleaned(&name).unwrap_or(name), value))
                    .collect();
            }
            members.values_mut().for_each(clean);
        }
        _ => {}
    }
}

/// `None` for the text that is clean already, which nearly every one is.
fn cleaned(text: &str) -> Option<String> {
    if !text.chars().any(is_hidden) {
        return None;
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        // A line's end as HTTP writes it is one.
        let ends_a_line = c == '\r' && rest.peek() == Some(&'\n');
        if is_hidden(c) && !ends_a_line {
            cleaned.extend(c.escape_unicode());
        } else {
            cleaned.push(c);
        }
    }
    Some(cleaned)
}

/// Controls, and what changes the direction of text or has no width (Unicode TR 36, section 2.4): such characters are
/// how text says one thing to a reader and another to a machine.
fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        let mut answer = json!({
            "path": "/a\u{1b}[2Jb",
            "body": "one\r\ntwo\rthree\ttab",
            "headers": { "x-\u{202e}evil": "safe\u{200b}", "tag": "\u{e0041}" },
            "list": ["né", "\u{0}"],
        });
        clean(&mut answer);
        assert_eq!(
            answer,
            json!({
                "path": "/a\\u{1b}[2Jb",
                "body": "one\r\ntwo\\u{d}three\ttab",
                "headers": { "x-\\u{202e}evil": "safe\\u{200b}", "tag": "\\u{e0041}" },
                "list": ["né", "\\u{0}"],
            })
        );
    }
}
