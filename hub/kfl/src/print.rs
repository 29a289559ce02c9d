//! The canonical form of a filter: KFL2's spelling, fields by their own names, parentheses only where needed. Compiled
//! again it gives the same filter, if it is not longer or deeper than a filter may be: loops and choices are written out.

use std::fmt::{self, Display, Formatter, Write};

use crate::expr::{Arithmetic, Expr, Filter, Literal, Operand, Redaction, TextTest};
use crate::syntax::quoted;
use crate::time;

mod terms;

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut between = "";
        if let Some(expr) = &self.expr {
            // What stands beside the condition binds tighter than an `or`.
            match expr {
                Expr::Or(_) if self.limit.is_some() || !self.redactions.is_empty() => write!(f, "({expr})")?,
                expr => expr.fmt(f)?,
            }
            between = " && ";
        }
        if let Some(limit) = self.limit {
            write!(f, "{between}limit({limit})")?;
            between = " && ";
        }
        if !self.redactions.is_empty() {
            write!(f, "{between}redact(")?;
            joined(f, &self.redactions, ", ", |_| false)?;
            f.write_char(')')?;
        }
        Ok(())
    }
}

impl Display for Redaction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => quoted(f, field.name()),
            Self::Entry { map, key } => quoted(f, &format!("{}.{key}", map.name())),
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always(always) => write!(f, "{always}"),
            Self::And(all) => joined(f, all, " && ", |expr| matches!(expr, Self::Or(_))),
            Self::Or(all) => joined(f, all, " || ", |_| false),
            Self::Not(expr) if binds_tightly(expr) => write!(f, "!{expr}"),
            Self::Not(expr) => write!(f, "!({expr})"),
            Self::Within { expr, .. } => expr.fmt(f),
            Self::Truth(field) => f.write_str(field.name()),
            Self::Recorded { field, recorded } => {
                write!(f, "{} {} null", field.name(), if *recorded { "!=" } else { "==" })
            }
            Self::Compare { op, left, right } => write!(f, "{left} {} {right}", op.as_str()),
            Self::Text { subject, test } => {
                let (name, text) = match test {
                    TextTest::Contains(text) => ("contains", text.as_str()),
                    TextTest::StartsWith(text) => ("startsWith", text.as_str()),
                    TextTest::EndsWith(text) => ("endsWith", text.as_str()),
                    TextTest::Matches(pattern) => ("matches", pattern.as_str()),
                };
                write!(f, "{subject}.{name}(")?;
                quoted(f, text)?;
                f.write_char(')')
            }
            Self::In { subject, list } => {
                write!(f, "{subject} in [")?;
                joined(f, list, ", ", |_| false)?;
                f.write_char(']')
            }
            Self::Member { item, list } => write!(f, "{item} in {}", list.name()),
            Self::HasKey { map, key } => {
                quoted(f, key)?;
                write!(f, " in {}", map.name())
            }
            Self::Computed(computed) => computed.fmt(f),
        }
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => f.write_str(field.name()),
            Self::Entry { map, key } => {
                write!(f, "{}[", map.name())?;
                quoted(f, key)?;
                f.write_char(']')
            }
            Self::Literal(literal) => literal.fmt(f),
            Self::TextOf(field) => write!(f, "string({})", field.name()),
            Self::Size(inner) => write!(f, "size({inner})"),
            Self::Arithmetic { op, left, right } => {
                // Chains lean to the left, so the right side needs parentheses already at the same level.
                term(f, left, level(*op))?;
                write!(f, " {} ", op.as_str())?;
                term(f, right, level(*op) + 1)
            }
        }
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => quoted(f, text),
            Self::Int(number) => write!(f, "{number}"),
            // Not `{}`: that has no point when the fraction is 0, and would be read as a whole number.
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Bool(bool) => write!(f, "{bool}"),
            Self::Time(nanos) => write!(f, "timestamp(\"{}\")", time::rfc3339(*nanos)),
        }
    }
}

/// Whether `!` in front of it takes all of it.
fn binds_tightly(expr: &Expr) -> bool {
    match expr {
        Expr::Always(_) | Expr::Truth(_) | Expr::Text { .. } | Expr::Not(_) => true,
        Expr::Within { expr, .. } => binds_tightly(expr),
        Expr::Computed(computed) => terms::binds_tightly(computed),
        _ => false,
    }
}

fn joined<T: Display>(
    f: &mut Formatter<'_>,
    items: &[T],
    between: &str,
    in_parentheses: impl Fn(&T) -> bool,
) -> fmt::Result {
    for (ordinal, item) in items.iter().enumerate() {
        if ordinal > 0 {
            f.write_str(between)?;
        }
        if in_parentheses(item) {
            write!(f, "({item})")?;
        } else {
            item.fmt(f)?;
        }
    }
    Ok(())
}

/// How tightly an operation binds.
fn level(op: Arithmetic) -> u8 {
    match op {
        Arithmetic::Add | Arithmetic::Subtract => 0,
        Arithmetic::Multiply | Arithmetic::Divide | Arithmetic::Remainder => 1,
    }
}

/// An operand where only what binds as tightly as `least` may stand bare.
fn term(f: &mut Formatter<'_>, operand: &Operand, least: u8) -> fmt::Result {
    match operand {
        Operand::Arithmetic { op, .. } if level(*op) < least => write!(f, "({operand})"),
        _ => operand.fmt(f),
    }
}
