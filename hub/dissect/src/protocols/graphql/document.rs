//! The operations of a GraphQL document, by what stands outside of its braces.

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    /// `query`, `mutation` or `subscription`.
    pub kind: &'static str,
    /// Empty if it has none.
    pub name: String,
}

/// The operation of a document that is to be carried out: the one of that name, or the first. `None` if the text is no
/// such document. The text's end may be missing.
pub(super) fn operation(text: &str, wanted: Option<&str>) -> Option<Operation> {
    let mut first = None;
    let mut rest = skip_blank(text);
    while !rest.is_empty() {
        let (word, behind) = word(rest);
        let kind = match word {
            "" if rest.starts_with('{') => Some("query"),
            "query" => Some("query"),
            "mutation" => Some("mutation"),
            "subscription" => Some("subscription"),
            "fragment" => None,
            // Whatever this is, it was found behind an operation or not at all.
            _ => return first,
        };
        let (name, behind) = self::word(skip_blank(behind));
        let head = skip_blank(behind);
        let begins = head.is_empty() || head.starts_with(['(', '@']) || selects(head) || word == "fragment";
        if !begins {
            return first;
        }
        if let Some(kind) = kind {
            let found = Operation {
                kind,
                name: name.to_owned(),
            };
            if wanted.is_none_or(|wanted| wanted == found.name) {
                return Some(found);
            }
            first = first.or(Some(found));
        }
        rest = skip_blank(skip_block(head));
    }
    first
}

/// Whether a block begins that selects fields. Other languages have braces, too: those of Loki and Prometheus compare
/// labels in them.
fn selects(text: &str) -> bool {
    let Some(block) = text.strip_prefix('{') else {
        return false;
    };
    let (name, behind) = word(skip_blank(block));
    if name.is_empty() {
        return behind.is_empty() || behind.starts_with("...");
    }
    !skip_blank(behind).starts_with(['=', '!', '~'])
}

/// Blanks, commas and comments mean nothing.
fn skip_blank(mut text: &str) -> &str {
    loop {
        text = text.trim_start_matches([' ', '\t', '\r', '\n', ',', '\u{feff}']);
        match text.strip_prefix('#') {
            Some(comment) => {
                text = comment
                    .find('\n')
                    .and_then(|end| comment.get(end..))
                    .unwrap_or_default()
            }
            None => return text,
        }
    }
}

/// The name that text begins with, and what is behind it.
fn word(text: &str) -> (&str, &str) {
    let end = text
        .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// What is behind the next block in braces. Arguments before it may have braces, too, in parentheses.
fn skip_block(text: &str) -> &str {
    let (mut braces, mut parentheses, mut quoted, mut escaped) = (0_u32, 0_u32, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if std::mem::take(&mut escaped) => {}
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' => parentheses += 1,
            ')' => parentheses = parentheses.saturating_sub(1),
            '{' if parentheses == 0 => braces += 1,
            '}' if parentheses == 0 => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return text.get(at + 1..).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_carried_out() {
        let cases = [
            ("{ me { name } }", None, Some(("query", ""))),
            ("query Me { me }", None, Some(("query", "Me"))),
            (
                "# why\nmutation Pay($in: In = {a: 1}) @x { pay }",
                None,
                Some(("mutation", "Pay")),
            ),
            (
                "fragment F on T { a } subscription S { s }",
                None,
                Some(("subscription", "S")),
            ),
            (
                "query A { a } mutation B { b(x: \"}\") } query C { c }",
                Some("B"),
                Some(("mutation", "B")),
            ),
            ("query A { a } query C { c }", Some("C"), Some(("query", "C"))),
            ("query Cut($a: Int", None, Some(("query", "Cut"))),
            ("{ a: me { name } }", None, Some(("query", ""))),
            ("{ # who\n ...F }", None, Some(("query", ""))),
            ("query Cut {", None, Some(("query", "Cut"))),
            // Of Loki and Prometheus, which select by labels.
            ("{app=\"shop\"}", None, None),
            ("{ app != \"shop\" } |= \"error\"", None, None),
            ("{__name__=~\"up.*\"}", None, None),
            ("query{job=\"shop\"}", None, None),
            ("{\"http.requests\"}", None, None),
            ("{}", None, None),
            ("SELECT 1", None, None),
            ("query me for it", None, None),
            ("", None, None),
        ];
        for (text, wanted, expected) in cases {
            let found = operation(text, wanted);
            let found = found.as_ref().map(|found| (found.kind, found.name.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }
}
