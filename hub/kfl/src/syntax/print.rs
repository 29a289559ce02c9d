//! A syntax tree as text again, in KFL2's signs, with parentheses only where the tree needs them. Read again it is the
//! same tree.

use std::fmt::{Display, Formatter, Result, Write};

use super::{Node, NodeKind, Operator};

/// How tightly a node binds, loosest first: the levels of the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Choice,
    Or,
    And,
    Comparison,
    Sum,
    Product,
    Sign,
    Path,
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.kind {
            NodeKind::Int(number) => write!(f, "{number}"),
            // Not `{}`: that has no point when the fraction is 0, and would be read as a whole number.
            NodeKind::Float(number) => write!(f, "{number:?}"),
            NodeKind::Bool(bool) => write!(f, "{bool}"),
            NodeKind::Text(text) => quoted(f, text),
            // It ends at its quote, so it holds one of the two at most.
            NodeKind::Regex(text) if text.contains('"') => write!(f, "r'{text}'"),
            NodeKind::Regex(text) => write!(f, "r\"{text}\""),
            NodeKind::Null => f.write_str("null"),
            NodeKind::Name(name) => f.write_str(name),
            NodeKind::List(nodes) => {
                f.write_char('[')?;
                joined(f, nodes, ", ", Level::Choice)?;
                f.write_char(']')
            }
            NodeKind::Map(entries) => {
                f.write_char('{')?;
                for (ordinal, (key, value)) in entries.iter().enumerate() {
                    let comma = if ordinal > 0 { ", " } else { "" };
                    write!(f, "{comma}{key}: {value}")?;
                }
                f.write_char('}')
            }
            NodeKind::Entry { of, key } => {
                at_least(f, of, Level::Path)?;
                write!(f, "[{key}]")
            }
            NodeKind::Member { of, name } => {
                at_least(f, of, Level::Path)?;
                write!(f, ".{name}")
            }
            NodeKind::Each(of) => {
                at_least(f, of, Level::Path)?;
                f.write_str(".*")
            }
            NodeKind::Call {
                subject,
                name,
                arguments,
            } => {
                if let Some(subject) = subject {
                    at_least(f, subject, Level::Path)?;
                    f.write_char('.')?;
                }
                write!(f, "{name}(")?;
                joined(f, arguments, ", ", Level::Choice)?;
                f.write_char(')')
            }
            NodeKind::Negative(inner) => {
                f.write_char('-')?;
                at_least(f, inner, Level::Sign)
            }
            NodeKind::Not(inner) => {
                f.write_char('!')?;
                at_least(f, inner, Level::Sign)
            }
            NodeKind::Binary {
                operator,
                left,
                right,
            } => {
                let level = level(&self.kind);
                let (least_left, least_right) = match level {
                    Level::Sum => (Level::Sum, Level::Product),
                    Level::Product => (Level::Product, Level::Sign),
                    // These do not chain.
                    _ => (Level::Sum, Level::Sum),
                };
                at_least(f, left, least_left)?;
                write!(f, " {operator} ")?;
                at_least(f, right, least_right)
            }
            NodeKind::And(nodes) => joined(f, nodes, " && ", Level::Comparison),
            NodeKind::Or(nodes) => joined(f, nodes, " || ", Level::And),
            NodeKind::Choice {
                condition,
                then,
                otherwise,
            } => {
                at_least(f, condition, Level::Or)?;
                f.write_str(" ? ")?;
                at_least(f, then, Level::Or)?;
                write!(f, " : {otherwise}")
            }
        }
    }
}

fn level(kind: &NodeKind) -> Level {
    match kind {
        NodeKind::Choice { .. } => Level::Choice,
        NodeKind::Or(_) => Level::Or,
        NodeKind::And(_) => Level::And,
        NodeKind::Binary { operator, .. } => match operator {
            Operator::Add | Operator::Subtract => Level::Sum,
            Operator::Multiply | Operator::Divide | Operator::Remainder => Level::Product,
            _ => Level::Comparison,
        },
        NodeKind::Negative(_) | NodeKind::Not(_) => Level::Sign,
        _ => Level::Path,
    }
}

/// A node, in parentheses if it binds less tightly than `least`.
fn at_least(f: &mut Formatter<'_>, node: &Node, least: Level) -> Result {
    if level(&node.kind) < least {
        write!(f, "({node})")
    } else {
        node.fmt(f)
    }
}

fn joined(f: &mut Formatter<'_>, nodes: &[Node], between: &str, least: Level) -> Result {
    for (ordinal, node) in nodes.iter().enumerate() {
        if ordinal > 0 {
            f.write_str(between)?;
        }
        at_least(f, node, least)?;
    }
    Ok(())
}

/// Text in quotes, with what would end or change it escaped.
pub(crate) fn quoted(f: &mut Formatter<'_>, text: &str) -> Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            // Every control character is below U+00A0.
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}
