//! Text to tokens.

use crate::error::{Problem, Span};
use crate::limits::TEXT_BYTES;

/// The smallest part of a filter that means something.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token<'a> {
    pub kind: TokenKind<'a>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind<'a> {
    /// A name's part or a keyword; which of them depends on where it stands.
    Word(&'a str),
    /// An operator or a bracket.
    Symbol(&'static str),
    Int(i64),
    Float(f64),
    /// `"text"`, its escapes resolved.
    Text(String),
    /// `r"text"`, as it stands.
    Regex(String),
    End,
}

/// Longest first: `<=` must not be read as `<`.
const SYMBOLS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "(", ")", "[", "]", "{", "}",
    "?", ":", ",", ".",
];

/// What people write for an operator that is spelt otherwise here.
const MISTAKES: &[(&str, &str)] = &[
    ("=", "did you mean `==`?"),
    ("&", "did you mean `&&` or `and`?"),
    ("|", "did you mean `||` or `or`?"),
    ("~", "a regular expression is matched with `matches \"..\"`"),
    ("\u{201c}", "use a straight quotation mark: \""),
    ("\u{201d}", "use a straight quotation mark: \""),
    ("\u{2018}", "use a straight quotation mark: '"),
    ("\u{2019}", "use a straight quotation mark: '"),
];

/// All tokens of a text; the last is [`TokenKind::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Problem> {
    if text.len() > TEXT_BYTES {
        let span = Span { start: 0, end: 0 };
        let message = format!(
            "the filter is {} bytes long; at most {TEXT_BYTES} are allowed",
            text.len()
        );
        return Err(Problem::new(span, message));
    }
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let start = lexer.at;
        let kind = lexer.token()?;
        let last = kind == TokenKind::End;
        tokens.push(Token {
            kind,
            span: Span { start, end: lexer.at },
        });
        if last {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Takes the longest run of characters that `of` wants.
    fn take_while(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !of(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    /// White space and comments: `#` and `//` to the end of the line.
    fn skip_space(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if !self.rest().starts_with('#') && !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn token(&mut self) -> Result<TokenKind<'a>, Problem> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(TokenKind::End);
        };
        if first.is_ascii_digit() {
            return self.number();
        }
        if first == '"' || first == '\'' {
            return self.quoted(first).map(TokenKind::Text);
        }
        if let Some(quote @ ('"' | '\'')) = rest.strip_prefix('r').and_then(|raw| raw.chars().next()) {
            self.at += 1;
            return self.raw(quote).map(TokenKind::Regex);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(TokenKind::Word(
                self.take_while(|c| c.is_ascii_alphanumeric() || c == '_'),
            ));
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            self.at += symbol.len();
            return Ok(TokenKind::Symbol(symbol));
        }
        let span = Span {
            start: self.at,
            end: self.at + first.len_utf8(),
        };
        let problem = Problem::new(span, format!("unexpected character `{}`", first.escape_debug()));
        Err(
            match MISTAKES.iter().find(|(mistake, _)| rest.starts_with(mistake)) {
                Some((_, hint)) => problem.hint(*hint),
                None => problem,
            },
        )
    }

    /// `503`, `0x1f7`, `0.5`, `1e3`. A sign is an operator.
    fn number(&mut self) -> Result<TokenKind<'a>, Problem> {
        let start = self.at;
        let hex = self
            .rest()
            .strip_prefix("0x")
            .or_else(|| self.rest().strip_prefix("0X"));
        if hex.is_some_and(|hex| hex.starts_with(|c: char| c.is_ascii_hexdigit())) {
            self.at += 2;
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            let span = Span { start, end: self.at };
            return i64::from_str_radix(digits, 16)
                .map(TokenKind::Int)
                .map_err(|_| too_large(span));
        }
        let mut whole = true;
        self.take_while(|c| c.is_ascii_digit());
        let fraction = self.rest().strip_prefix('.').unwrap_or_default();
        if fraction.starts_with(|c: char| c.is_ascii_digit()) {
            whole = false;
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        if let Some(exponent) = self.rest().strip_prefix(['e', 'E']) {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.starts_with(|c: char| c.is_ascii_digit()) {
                whole = false;
                self.at += 1 + exponent.len() - digits.len();
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        let span = Span { start, end: self.at };
        let digits = self.text.get(start..self.at).unwrap_or_default();
        let number = if whole {
            digits.parse().ok().map(TokenKind::Int)
        } else {
            digits
                .parse()
                .ok()
                .filter(|float: &f64| float.is_finite())
                .map(TokenKind::Float)
        };
        number.ok_or_else(|| too_large(span))
    }

    /// `"text"` with CEL's escapes.
    fn quoted(&mut self, quote: char) -> Result<String, Problem> {
        let open = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            text.push_str(self.take_while(|c| c != quote && c != '\\'));
            let escape = self.at;
            match self.next() {
                Some('\\') => match self.escape() {
                    Some(c) => text.push(c),
                    None => {
                        // The backslash and what follows it, if something does.
                        let after = self.text.get(escape + 1..).and_then(|rest| rest.chars().next());
                        let end = escape + 1 + after.map_or(0, char::len_utf8);
                        let problem = Problem::new(Span { start: escape, end }, "unknown escape");
                        return Err(
                            problem.hint("a backslash is written `\\\\`; in r\"..\" it stands for itself")
                        );
                    }
                },
                Some(_) => return Ok(text),
                None => return Err(self.unclosed(open, quote)),
            }
        }
    }

    /// The character that an escape means; its backslash is taken already.
    fn escape(&mut self) -> Option<char> {
        match self.next()? {
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'x' => self.code_point(2),
            'u' => self.code_point(4),
            'U' => self.code_point(8),
            c @ ('\\' | '"' | '\'' | '`' | '/' | '?') => Some(c),
            _ => None,
        }
    }

    fn code_point(&mut self, digits: usize) -> Option<char> {
        let hex = self
            .rest()
            .get(..digits)
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.at += digits;
        u32::from_str_radix(hex, 16).ok().and_then(char::from_u32)
    }

    /// `r"text"`: up to the next such quote, nothing in between has a meaning. The `r` is taken already.
    fn raw(&mut self, quote: char) -> Result<String, Problem> {
        let open = self.at;
        self.at += 1;
        let text = self.take_while(|c| c != quote);
        match self.next() {
            Some(_) => Ok(text.to_owned()),
            None => Err(self.unclosed(open, quote)),
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn unclosed(&self, open: usize, quote: char) -> Problem {
        Problem::new(
            Span {
                start: open,
                end: open + 1,
            },
            format!("the text has no closing {quote}"),
        )
    }
}

fn too_large(span: Span) -> Problem {
    Problem::new(span, "the number is too large").hint(format!("whole numbers go up to {}", i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &[TokenKind<'_>]) {
        let kinds: Vec<_> = tokens(text)
            .unwrap()
            .into_iter()
            .map(|token| token.kind)
            .collect();
        let (last, kinds) = kinds.split_last().unwrap();
        assert_eq!(*last, TokenKind::End);
        assert_eq!(kinds, expect);
    }

    #[track_caller]
    fn check_error(text: &str, span: (usize, usize), message: &str) {
        let problem = tokens(text).unwrap_err();
        assert_eq!((problem.span.start, problem.span.end), span);
        assert_eq!(problem.message, message);
    }

    #[test]
    fn operators_without_space_between() {
        use TokenKind::{Int, Symbol, Word};
        check(
            "a<=1&&!b",
            &[
                Word("a"),
                Symbol("<="),
                Int(1),
                Symbol("&&"),
                Symbol("!"),
                Word("b"),
            ],
        );
    }

    #[test]
    fn comments_of_both_kinds() {
        check("# one\n7 // two\n// three", &[TokenKind::Int(7)]);
        check(
            "\"# no // comment\"",
            &[TokenKind::Text("# no // comment".into())],
        );
    }

    #[test]
    fn escapes() {
        check(
            r#""a\"\\\n\x41\u00e9\U0001F600""#,
            &[TokenKind::Text("a\"\\\nA\u{e9}\u{1f600}".into())],
        );
        check(r#"'it"s'"#, &[TokenKind::Text("it\"s".into())]);
        check(r#"r"\d+""#, &[TokenKind::Regex(r"\d+".into())]);
        check_error(r#"a == "\d""#, (6, 8), "unknown escape");
        check_error(r#""\ud800""#, (1, 3), "unknown escape");
        check_error("\"\\", (1, 2), "unknown escape");
    }

    #[test]
    fn numbers() {
        use TokenKind::{Float, Int, Symbol, Word};
        check(
            "0 1.5 2e3 1E-2",
            &[Int(0), Float(1.5), Float(2000.0), Float(0.01)],
        );
        check("1.a 3e", &[Int(1), Symbol("."), Word("a"), Int(3), Word("e")]);
        check("9223372036854775807", &[Int(i64::MAX)]);
        check(
            "0x1F 0x7fffffffffffffff 0x",
            &[Int(31), Int(i64::MAX), Int(0), Word("x")],
        );
        check_error("0x8000000000000000", (0, 18), "the number is too large");
        check_error("9223372036854775808", (0, 19), "the number is too large");
        check_error("1e999", (0, 5), "the number is too large");
    }

    #[test]
    fn unclosed_text_is_shown_where_it_opens() {
        check_error("a == \"b", (5, 6), "the text has no closing \"");
        check_error("a == r'b", (6, 7), "the text has no closing '");
    }

    #[test]
    fn character_that_is_none_of_ours() {
        check_error("a = 1", (2, 3), "unexpected character `=`");
        check_error("a \u{201c}b\u{201d}", (2, 5), "unexpected character `\u{201c}`");
    }

    #[test]
    fn text_at_the_limit() {
        let text = " ".repeat(TEXT_BYTES);
        check(&text, &[]);
        check_error(
            &format!("{text} "),
            (0, 0),
            "the filter is 16385 bytes long; at most 16384 are allowed",
        );
    }
}
