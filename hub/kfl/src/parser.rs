//! Tokens to a syntax tree.
//!
//! From loosest to tightest: `? :` · `or` · `and` · `not` · comparisons, `in` and the infix words (these do not chain) · `+ -` ·
//! `* / %` · `! -` · `.name` `["key"]` `.*` `(..)`. This is CEL's order. Only the word `not` has a place of its own, above
//! comparisons, so that `not status == 200` means what it says; `!` binds tightly, as in CEL.

use crate::error::{Problem, Span};
use crate::lexer::{Token, TokenKind, tokens};
use crate::limits::{LIST_ENTRIES, NESTING};
use crate::suggest::suggestion;
use crate::syntax::{Node, NodeKind, Operator};

/// Comparisons, and `in`.
const COMPARISONS: &[Operator] = &[
    Operator::Equal,
    Operator::NotEqual,
    Operator::LessEqual,
    Operator::GreaterEqual,
    Operator::Less,
    Operator::Greater,
    Operator::In,
];
const SUMS: &[Operator] = &[Operator::Add, Operator::Subtract];
const PRODUCTS: &[Operator] = &[Operator::Multiply, Operator::Divide, Operator::Remainder];
/// Methods that can stand between two operands: `path contains "x"`.
const INFIX_WORDS: &[&str] = &["contains", "startsWith", "endsWith", "matches"];

/// The tree of a text; `None` when nothing is in it.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, Problem> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
        open: 0,
    };
    if parser.peek() == &TokenKind::End {
        return Ok(None);
    }
    let node = parser.expression()?;
    match parser.peek() {
        TokenKind::End => Ok(Some(node)),
        found => {
            let problem = parser.expected("an operator or the end");
            let words = INFIX_WORDS.iter().copied().chain(["and", "or", "in"]);
            let meant = match found {
                TokenKind::Word(word) => suggestion(word, words),
                _ => None,
            };
            Err(match meant {
                Some(meant) => problem.hint(meant),
                None => problem,
            })
        }
    }
}

struct Parser<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    /// Brackets, signs and negations that are open here: how deep the parser itself has recursed.
    open: usize,
}

const END: &Token<'_> = &Token {
    kind: TokenKind::End,
    span: Span { start: 0, end: 0 },
};

impl<'a> Parser<'a> {
    /// All that an expression can be: `a`, `a ? b : c`.
    fn expression(&mut self) -> Result<Node, Problem> {
        let start = self.span();
        let condition = self.or()?;
        if !self.take_symbol("?") {
            return Ok(condition);
        }
        let then = self.or()?;
        self.expect(":")?;
        let otherwise = self.nested(start, Self::expression)?;
        let span = condition.span.to(otherwise.span);
        let kind = NodeKind::Choice {
            condition: Box::new(condition),
            then: Box::new(then),
            otherwise: Box::new(otherwise),
        };
        node(kind, span)
    }

    fn or(&mut self) -> Result<Node, Problem> {
        let first = self.and()?;
        let mut nodes = vec![first];
        while self.take_symbol("||") || self.take_word("or") || self.take_word("OR") {
            nodes.push(self.and()?);
        }
        self.joined(nodes, NodeKind::Or)
    }

    fn and(&mut self) -> Result<Node, Problem> {
        let first = self.not()?;
        let mut nodes = vec![first];
        while self.take_symbol("&&") || self.take_word("and") || self.take_word("AND") {
            nodes.push(self.not()?);
        }
        self.joined(nodes, NodeKind::And)
    }

    /// One node for several that `and` or `or` joins; a single one stays itself.
    fn joined(&self, mut nodes: Vec<Node>, join: fn(Vec<Node>) -> NodeKind) -> Result<Node, Problem> {
        match (
            nodes.first().map(|node| node.span),
            nodes.last().map(|node| node.span),
        ) {
            (Some(first), Some(last)) if nodes.len() > 1 => node(join(nodes), first.to(last)),
            _ => nodes.pop().ok_or_else(|| self.expected("a condition")),
        }
    }

    fn not(&mut self) -> Result<Node, Problem> {
        let start = self.span();
        if !self.take_word("not") && !self.take_word("NOT") {
            return self.comparison();
        }
        let inner = self.nested(start, Self::not)?;
        let span = start.to(inner.span);
        node(NodeKind::Not(Box::new(inner)), span)
    }

    fn comparison(&mut self) -> Result<Node, Problem> {
        let left = self.sum()?;
        let compared = if let Some(operator) = self.take_operator(COMPARISONS) {
            self.binary(operator, left, Self::sum)?
        } else if let Some(word) = INFIX_WORDS.iter().find(|word| self.take_word(word)) {
            let right = self.sum()?;
            let span = left.span.to(right.span);
            let (subject, name) = (Some(Box::new(left)), (*word).to_owned());
            node(
                NodeKind::Call {
                    subject,
                    name,
                    arguments: vec![right],
                },
                span,
            )?
        } else {
            return Ok(left);
        };
        let next = self.span();
        if self.take_operator(COMPARISONS).is_some() || INFIX_WORDS.iter().any(|word| self.take_word(word)) {
            let problem = Problem::new(next, "comparisons cannot be chained");
            return Err(problem.hint("join them with `and`, or put one in parentheses"));
        }
        Ok(compared)
    }

    fn sum(&mut self) -> Result<Node, Problem> {
        let mut left = self.product()?;
        while let Some(operator) = self.take_operator(SUMS) {
            left = self.binary(operator, left, Self::product)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Node, Problem> {
        let mut left = self.signed()?;
        while let Some(operator) = self.take_operator(PRODUCTS) {
            left = self.binary(operator, left, Self::signed)?;
        }
        Ok(left)
    }

    fn binary(
        &mut self,
        operator: Operator,
        left: Node,
        right: fn(&mut Self) -> Result<Node, Problem>,
    ) -> Result<Node, Problem> {
        let right = right(self)?;
        let span = left.span.to(right.span);
        let (left, right) = (Box::new(left), Box::new(right));
        node(
            NodeKind::Binary {
                operator,
                left,
                right,
            },
            span,
        )
    }

    fn signed(&mut self) -> Result<Node, Problem> {
        let start = self.span();
        let sign = if self.take_symbol("!") {
            NodeKind::Not
        } else if self.take_symbol("-") {
            NodeKind::Negative
        } else {
            return self.path();
        };
        let inner = self.nested(start, Self::signed)?;
        let span = start.to(inner.span);
        node(sign(Box::new(inner)), span)
    }

    /// An operand with what hangs on it: `request.headers["host"].startsWith("x")`.
    fn path(&mut self) -> Result<Node, Problem> {
        let mut left = self.operand()?;
        loop {
            let start = left.span;
            let kind = if self.take_symbol(".") {
                self.after_dot(left)?
            } else if self.take_symbol("[") {
                if self.take_symbol("*") {
                    self.expect("]")?;
                    NodeKind::Each(Box::new(left))
                } else {
                    let key = self.nested(start, Self::expression)?;
                    self.expect("]")?;
                    let (of, key) = (Box::new(left), Box::new(key));
                    NodeKind::Entry { of, key }
                }
            } else {
                return Ok(left);
            };
            left = node(kind, start.to(self.last_span()))?;
        }
    }

    /// A method, a member or everything: the dot is taken already.
    fn after_dot(&mut self, left: Node) -> Result<NodeKind, Problem> {
        if self.take_symbol("*") {
            return Ok(NodeKind::Each(Box::new(left)));
        }
        let part_span = self.span();
        let Some(part) = self.take_any_word() else {
            return Err(self.expected("a name after the dot"));
        };
        if self.take_symbol("(") {
            let arguments = self.nested(part_span, |parser| parser.list(")"))?;
            return Ok(NodeKind::Call {
                subject: Some(Box::new(left)),
                name: part.to_owned(),
                arguments,
            });
        }
        Ok(match left.kind {
            NodeKind::Name(name) => NodeKind::Name(format!("{name}.{part}")),
            _ => NodeKind::Member {
                of: Box::new(left),
                name: part.to_owned(),
            },
        })
    }

    fn operand(&mut self) -> Result<Node, Problem> {
        let start = self.span();
        let kind = match self.peek().clone() {
            TokenKind::Int(number) => NodeKind::Int(number),
            TokenKind::Float(number) => NodeKind::Float(number),
            TokenKind::Text(text) => NodeKind::Text(text),
            TokenKind::Regex(text) => NodeKind::Regex(text),
            TokenKind::Word("true") => NodeKind::Bool(true),
            TokenKind::Word("false") => NodeKind::Bool(false),
            TokenKind::Word("nil" | "null") => NodeKind::Null,
            TokenKind::Word(word) if is_reserved(word) => return Err(self.expected("a field or a value")),
            TokenKind::Word(word) => {
                self.at += 1;
                if !self.take_symbol("(") {
                    return node(NodeKind::Name(word.to_owned()), start);
                }
                let arguments = self.nested(start, |parser| parser.list(")"))?;
                let span = start.to(self.last_span());
                return node(
                    NodeKind::Call {
                        subject: None,
                        name: word.to_owned(),
                        arguments,
                    },
                    span,
                );
            }
            TokenKind::Symbol("(") => {
                self.at += 1;
                let inner = self.nested(start, Self::expression)?;
                self.expect(")")?;
                // Errors point at the parentheses too.
                return Ok(Node {
                    span: start.to(self.last_span()),
                    ..inner
                });
            }
            TokenKind::Symbol("[") => {
                self.at += 1;
                let entries = self.nested(start, |parser| parser.list("]"))?;
                return node(NodeKind::List(entries), start.to(self.last_span()));
            }
            TokenKind::Symbol("{") => {
                self.at += 1;
                let entries = self.nested(start, |parser| parser.entries("}", Self::map_entry))?;
                return node(NodeKind::Map(entries), start.to(self.last_span()));
            }
            TokenKind::Symbol(_) | TokenKind::End => return Err(self.expected("a field or a value")),
        };
        self.at += 1;
        node(kind, start)
    }

    /// Expressions between commas up to the closing bracket.
    fn list(&mut self, close: &'static str) -> Result<Vec<Node>, Problem> {
        self.entries(close, Self::expression)
    }

    /// `"key": value`
    fn map_entry(&mut self) -> Result<(Node, Node), Problem> {
        let key = self.expression()?;
        self.expect(":")?;
        Ok((key, self.expression()?))
    }

    /// Entries between commas up to the closing bracket, which is taken. A comma may stand before it.
    fn entries<T>(
        &mut self,
        close: &'static str,
        entry: fn(&mut Self) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Problem> {
        let mut entries = Vec::new();
        while !self.take_symbol(close) {
            if entries.len() == LIST_ENTRIES {
                let message = format!("the list has more than {LIST_ENTRIES} entries");
                return Err(
                    Problem::new(self.span(), message).hint("use a regular expression, or several filters")
                );
            }
            entries.push(entry(self)?);
            if !self.take_symbol(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(entries)
    }

    /// Parses what a bracket, sign or negation at `opened` contains.
    fn nested<T>(
        &mut self,
        opened: Span,
        inner: impl FnOnce(&mut Self) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        if self.open == NESTING {
            return Err(too_deep(opened));
        }
        self.open += 1;
        let inner = inner(self);
        self.open -= 1;
        inner
    }

    fn token(&self) -> &'a Token<'a> {
        self.tokens.get(self.at).unwrap_or(END)
    }

    fn peek(&self) -> &'a TokenKind<'a> {
        &self.token().kind
    }

    fn span(&self) -> Span {
        self.token().span
    }

    /// The token just taken.
    fn last_span(&self) -> Span {
        self.at
            .checked_sub(1)
            .and_then(|at| self.tokens.get(at))
            .unwrap_or(END)
            .span
    }

    fn take(&mut self, kind: &TokenKind<'_>) -> bool {
        let found = self.peek() == kind;
        self.at += usize::from(found);
        found
    }

    fn take_symbol(&mut self, symbol: &'static str) -> bool {
        self.take(&TokenKind::Symbol(symbol))
    }

    fn take_word(&mut self, word: &str) -> bool {
        self.take(&TokenKind::Word(word))
    }

    fn take_any_word(&mut self) -> Option<&'a str> {
        let TokenKind::Word(word) = self.peek() else {
            return None;
        };
        self.at += 1;
        Some(word)
    }

    fn take_operator(&mut self, of: &[Operator]) -> Option<Operator> {
        let (TokenKind::Symbol(found) | TokenKind::Word(found)) = self.peek() else {
            return None;
        };
        let operator = of.iter().find(|operator| operator.as_str() == *found)?;
        self.at += 1;
        Some(*operator)
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), Problem> {
        if self.take_symbol(symbol) {
            return Ok(());
        }
        Err(self.expected(&format!("`{symbol}`")))
    }

    fn expected(&self, what: &str) -> Problem {
        let found = match self.peek() {
            TokenKind::Word(word) => format!("`{word}`"),
            TokenKind::Symbol(symbol) => format!("`{symbol}`"),
            TokenKind::Int(_) | TokenKind::Float(_) => "a number".to_owned(),
            TokenKind::Text(_) => "a text".to_owned(),
            TokenKind::Regex(_) => "a regular expression".to_owned(),
            TokenKind::End => "the end".to_owned(),
        };
        let problem = Problem::new(self.span(), format!("expected {what}, found {found}"));
        match self.peek() {
            TokenKind::Word("not" | "NOT") => {
                problem.hint("`not` stands before the whole condition: `not (a in b)`")
            }
            _ => problem,
        }
    }
}

/// The only place where nodes are made, so that no tree is deeper than [`NESTING`].
fn node(kind: NodeKind, span: Span) -> Result<Node, Problem> {
    let depth = 1 + kind.depth_below();
    if depth > NESTING {
        return Err(too_deep(span));
    }
    Ok(Node { kind, span, depth })
}

fn too_deep(span: Span) -> Problem {
    Problem::new(span, format!("nested more than {NESTING} levels deep"))
}

/// Words that cannot begin an operand.
fn is_reserved(word: &str) -> bool {
    matches!(word, "and" | "AND" | "or" | "OR" | "not" | "NOT" | "in") || INFIX_WORDS.contains(&word)
}

#[cfg(test)]
mod tests;
