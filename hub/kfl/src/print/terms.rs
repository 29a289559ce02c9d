//! The canonical form of what is computed entry by entry. A loop's name is `v` and its number.

use std::fmt::{self, Display, Formatter, Write};

use super::quoted;
use crate::expr::{Arithmetic, Literal, Operand};
use crate::term::{Absent, Computed, Conversion, Term, Test, Variable};

impl Display for Computed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.test {
            Test::Truth(term) => at_least(f, term, Level::Path),
            Test::Recorded(Term::Entry {
                of,
                key,
                absent: Absent::Nothing,
            }) => {
                f.write_str("has(")?;
                entry(f, of, key)?;
                f.write_char(')')
            }
            Test::Recorded(term) => {
                at_least(f, term, Level::Sum)?;
                f.write_str(" != null")
            }
            Test::Compare { op, left, right } => {
                at_least(f, left, Level::Sum)?;
                write!(f, " {} ", op.as_str())?;
                at_least(f, right, Level::Sum)
            }
            Test::Text {
                subject,
                relation,
                argument,
            } => {
                at_least(f, subject, Level::Path)?;
                write!(f, ".{}({argument})", relation.as_str())
            }
            Test::Matches { subject, pattern } => {
                at_least(f, subject, Level::Path)?;
                f.write_str(".matches(")?;
                quoted(f, pattern.as_str())?;
                f.write_char(')')
            }
            Test::In { item, of } => {
                at_least(f, item, Level::Sum)?;
                f.write_str(" in ")?;
                at_least(f, of, Level::Sum)
            }
            Test::Loop {
                quantifier,
                over,
                variable,
                condition,
            } => {
                at_least(f, over, Level::Path)?;
                write!(f, ".{}({variable}, {condition})", quantifier.as_str())
            }
        }
    }
}

/// Whether `!` in front of it takes all of it.
pub(super) fn binds_tightly(computed: &Computed) -> bool {
    match &computed.test {
        Test::Truth(_) | Test::Text { .. } | Test::Matches { .. } | Test::Loop { .. } => true,
        Test::Recorded(term) => matches!(
            term,
            Term::Entry {
                absent: Absent::Nothing,
                ..
            }
        ),
        Test::Compare { .. } | Test::In { .. } => false,
    }
}

impl Display for Variable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl Display for Term {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operand(operand) => operand.fmt(f),
            Self::Variable(variable) => variable.fmt(f),
            Self::Condition(condition) => write!(f, "({condition})"),
            Self::Choice {
                condition,
                then,
                otherwise,
            } => {
                write!(f, "{condition} ? ")?;
                at_least(f, then, Level::Sum)?;
                write!(f, " : {otherwise}")
            }
            Self::List(items) => {
                f.write_char('[')?;
                super::joined(f, items, ", ", |_| false)?;
                f.write_char(']')
            }
            Self::Map(entries) => {
                f.write_char('{')?;
                for (ordinal, (key, value)) in entries.iter().enumerate() {
                    let comma = if ordinal > 0 { ", " } else { "" };
                    write!(f, "{comma}{key}: {value}")?;
                }
                f.write_char('}')
            }
            Self::Entry {
                of,
                key,
                absent: Absent::Given(given),
            } => write!(f, "map_get({of}, {key}, {given})"),
            Self::Entry { of, key, .. } => entry(f, of, key),
            Self::Each { of, path } => {
                at_least(f, of, Level::Path)?;
                f.write_str(".*")?;
                path.iter().try_for_each(|key| write!(f, "[{key}]"))
            }
            Self::Size(of) => write!(f, "size({of})"),
            Self::Arithmetic { op, left, right } => sides(f, *op, left, right),
            Self::Joined { left, right } => sides(f, Arithmetic::Add, left, right),
            Self::Split { of, by } => {
                at_least(f, of, Level::Path)?;
                f.write_str(".split(")?;
                quoted(f, by)?;
                f.write_char(')')
            }
            Self::Converted { to, of } => match to {
                Conversion::Text => write!(f, "string({of})"),
                Conversion::Int => write!(f, "int({of})"),
                Conversion::Float => write!(f, "double({of})"),
                Conversion::LowerCase => method(f, of, "lowerAscii"),
                Conversion::UpperCase => method(f, of, "upperAscii"),
                Conversion::Trimmed => method(f, of, "trim"),
                Conversion::Json => method(f, of, "json"),
                Conversion::Xml => method(f, of, "xml"),
            },
            Self::Collected {
                over,
                variable,
                condition,
                item,
            } => {
                at_least(f, over, Level::Path)?;
                match condition {
                    Some(condition) if **item == Self::Variable(*variable) => {
                        write!(f, ".filter({variable}, {condition})")
                    }
                    Some(condition) => write!(f, ".map({variable}, {condition}, {item})"),
                    None => write!(f, ".map({variable}, {item})"),
                }
            }
        }
    }
}

/// How tightly a term binds, loosest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Choice,
    Sum,
    Product,
    Sign,
    Path,
}

fn level(term: &Term) -> Level {
    let of = |op: &Arithmetic| match op {
        Arithmetic::Add | Arithmetic::Subtract => Level::Sum,
        Arithmetic::Multiply | Arithmetic::Divide | Arithmetic::Remainder => Level::Product,
    };
    match term {
        Term::Choice { .. } => Level::Choice,
        Term::Joined { .. } => Level::Sum,
        Term::Arithmetic { op, .. } | Term::Operand(Operand::Arithmetic { op, .. }) => of(op),
        Term::Operand(Operand::Literal(Literal::Int(int))) if *int < 0 => Level::Sign,
        Term::Operand(Operand::Literal(Literal::Float(float))) if float.is_sign_negative() => Level::Sign,
        _ => Level::Path,
    }
}

/// A term, in parentheses if it binds less tightly than `least`.
fn at_least(f: &mut Formatter<'_>, term: &Term, least: Level) -> fmt::Result {
    if level(term) < least {
        write!(f, "({term})")
    } else {
        term.fmt(f)
    }
}

fn sides(f: &mut Formatter<'_>, op: Arithmetic, left: &Term, right: &Term) -> fmt::Result {
    // Chains lean to the left, so the right side needs parentheses already at the same level.
    let (least_left, least_right) = match op {
        Arithmetic::Add | Arithmetic::Subtract => (Level::Sum, Level::Product),
        Arithmetic::Multiply | Arithmetic::Divide | Arithmetic::Remainder => (Level::Product, Level::Sign),
    };
    at_least(f, left, least_left)?;
    write!(f, " {} ", op.as_str())?;
    at_least(f, right, least_right)
}

fn entry(f: &mut Formatter<'_>, of: &Term, key: &Term) -> fmt::Result {
    at_least(f, of, Level::Path)?;
    write!(f, "[{key}]")
}

fn method(f: &mut Formatter<'_>, of: &Term, name: &str) -> fmt::Result {
    at_least(f, of, Level::Path)?;
    write!(f, ".{name}()")
}
