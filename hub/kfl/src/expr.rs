//! A checked filter: what a store translates and [`evaluate`](crate::evaluate()) runs.
//!
//! # What holds
//! Every [`Expr`] is true or false for every entry; there is no third value. Whoever translates one keeps to this:
//!
//! - A text that is not recorded is `""`, a flag `false`, a list or map empty, an entry that a map lacks `""`.
//! - A number that is not recorded has no value, and a [`Compare`](Expr::Compare), [`In`](Expr::In) over it is false,
//!   **also with `!=`**: `status_code != 200` finds responses, not requests that nobody answered. `!(..)` around it is
//!   true then. Whether it is recorded is asked by [`Recorded`](Expr::Recorded). As a text
//!   ([`Operand::TextOf`]) it is `""`.
//! - What uses fields that a protocol owns stands within [`Within`](Expr::Within), false for entries of other
//!   protocols, whatever the operator.
//! - Texts compare by their bytes, and exactly: where case does not count, the compiled filter holds lower case (see
//!   [`Field::is_lower_case`], [`Field::keys_in_any_case`]).
//! - Two whole numbers compare as such; if one has a fraction, both as 64-bit floating point. Arithmetic is 64-bit
//!   floating point throughout: `3 / 2` is 1.5. What is not finite (a division by zero) has no value.

use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};

use crate::Nanos;
use crate::fields::{Field, Kind};
use crate::limits::REGEX_BYTES;
use crate::term::{Computed, Reach};

/// A compiled filter. Its [`Display`](std::fmt::Display) is the canonical form, in KFL2's spelling.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// What has to hold; `None` when everything matches.
    pub expr: Option<Expr>,
    /// KFL1's `limit(n)`: most entries that an answer may hold.
    pub limit: Option<u64>,
    /// KFL1's `redact(..)`: what an answer must not show, in the order written, each once.
    pub redactions: Vec<Redaction>,
}

/// What an answer must not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redaction {
    /// All of a field.
    Field(Field),
    /// One entry of a map.
    Entry {
        /// A field of [`Kind::Map`].
        map: Field,
        /// The key.
        key: String,
    },
}

impl Filter {
    /// Every field that deciding it takes, flags of protocols included.
    pub fn fields(&self) -> BTreeSet<Field> {
        let mut fields = BTreeSet::new();
        if let Some(expr) = &self.expr {
            expr.each_field(&mut |field| {
                fields.insert(field);
            });
        }
        fields
    }

    /// The conditions in it that are computed entry by entry.
    pub fn computed(&self) -> Vec<&Computed> {
        let mut found = Vec::new();
        if let Some(expr) = &self.expr {
            expr.each_computed(&mut found);
        }
        found
    }
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// The same for every entry.
    Always(bool),
    /// All of them; at least two.
    And(Vec<Expr>),
    /// Any of them; at least two.
    Or(Vec<Expr>),
    /// The opposite.
    Not(Box<Expr>),
    /// The entry has one of these flags, and `expr` holds. The compiler puts it around every condition on fields that
    /// protocols own; it is not written, and not printed.
    Within {
        /// Flags, at least one.
        protocols: &'static [Field],
        /// What has to hold in these protocols.
        expr: Box<Expr>,
    },
    /// A field of [`Kind::Bool`] is true.
    Truth(Field),
    /// A field of [`Kind::Int`] or [`Kind::Float`] has a value, or has none: `status_code != null`.
    Recorded {
        /// The field.
        field: Field,
        /// Which of the two.
        recorded: bool,
    },
    /// `left op right`. Both sides are of one [`Operand::kind`], numbers of either kind counting as one. If one side is a
    /// literal and the other is not, the literal is on the right.
    Compare {
        /// How they compare; `Equal` or `NotEqual` if they are true or false.
        op: Comparison,
        /// The one side.
        left: Operand,
        /// The other.
        right: Operand,
    },
    /// `subject.contains("..")` and the like; the subject is text.
    Text {
        /// What is looked at.
        subject: Operand,
        /// What for.
        test: TextTest,
    },
    /// `subject in [..]`. The entries compare with the subject as in [`Compare`](Expr::Compare); at least one.
    In {
        /// What is looked for.
        subject: Operand,
        /// Where.
        list: Vec<Literal>,
    },
    /// `item in list`; the item is text.
    Member {
        /// What is looked for.
        item: Operand,
        /// A field of [`Kind::List`].
        list: Field,
    },
    /// `"key" in map`.
    HasKey {
        /// A field of [`Kind::Map`].
        map: Field,
        /// The key.
        key: String,
    },
    /// What takes more than this: loops, choices, documents. A store may run it entry by entry.
    Computed(Box<Computed>),
}

/// A value that depends on the entry, or does not.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A field's value. A [`Kind::List`] or [`Kind::Map`] stands only in [`Size`](Operand::Size).
    Field(Field),
    /// `map["key"]`: text.
    Entry {
        /// A field of [`Kind::Map`].
        map: Field,
        /// The key.
        key: String,
    },
    /// Always the same.
    Literal(Literal),
    /// `string(field)`: a field of [`Kind::Int`] as text, in decimal.
    TextOf(Field),
    /// `size(..)`: the characters of a text, or how many are in a list or map. A whole number.
    Size(Box<Operand>),
    /// `left op right`, of numbers. A [`Kind::Float`].
    Arithmetic {
        /// The operation.
        op: Arithmetic,
        /// The one side.
        left: Box<Operand>,
        /// The other.
        right: Box<Operand>,
    },
}

/// A value that is written in the filter, or computed from what is.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number; finite.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A point in time.
    Time(Nanos),
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
}

/// What two numbers are put together by. As IEEE 754 has it; the remainder has the sign of the left side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

/// What a text is looked at for.
#[derive(Clone, Debug, PartialEq)]
pub enum TextTest {
    /// It has this in it.
    Contains(String),
    /// It begins with this.
    StartsWith(String),
    /// It ends with this.
    EndsWith(String),
    /// This matches somewhere in it.
    Matches(Pattern),
}

/// A regular expression of the `regex` crate: linear in time, no look-around, no back-references. It matches anywhere,
/// unless it is anchored by `^` and `$`.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, regex::Error> {
        let regex = RegexBuilder::new(text)
            .size_limit(REGEX_BYTES)
            .dfa_size_limit(REGEX_BYTES)
            .build()?;
        Ok(Self { regex })
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }

    /// Compiled.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Operand {
    /// What it yields.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Field(field) => field.kind(),
            Self::Entry { .. } | Self::TextOf(_) => Kind::Text,
            Self::Literal(literal) => literal.kind(),
            Self::Size(_) => Kind::Int,
            Self::Arithmetic { .. } => Kind::Float,
        }
    }

    pub(crate) fn each_field(&self, visit: &mut dyn FnMut(Field)) {
        match self {
            Self::Field(field) | Self::TextOf(field) | Self::Entry { map: field, .. } => visit(*field),
            Self::Literal(_) => {}
            Self::Size(inner) => inner.each_field(visit),
            Self::Arithmetic { left, right, .. } => {
                left.each_field(visit);
                right.each_field(visit);
            }
        }
    }
}

impl Literal {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Int(_) => Kind::Int,
            Self::Float(_) => Kind::Float,
            Self::Bool(_) => Kind::Bool,
            Self::Time(_) => Kind::Time,
        }
    }
}

impl Expr {
    fn each_computed<'a>(&'a self, found: &mut Vec<&'a Computed>) {
        match self {
            Self::And(all) | Self::Or(all) => all.iter().for_each(|expr| expr.each_computed(found)),
            Self::Not(expr) | Self::Within { expr, .. } => expr.each_computed(found),
            Self::Computed(computed) => found.push(computed),
            _ => {}
        }
    }

    pub(crate) fn each_field(&self, visit: &mut dyn FnMut(Field)) {
        match self {
            Self::Always(_) => {}
            Self::And(all) | Self::Or(all) => all.iter().for_each(|expr| expr.each_field(visit)),
            Self::Not(expr) => expr.each_field(visit),
            Self::Within { protocols, expr } => {
                protocols.iter().for_each(|flag| visit(*flag));
                expr.each_field(visit);
            }
            Self::Truth(field) | Self::Recorded { field, .. } | Self::HasKey { map: field, .. } => {
                visit(*field)
            }
            Self::Compare { left, right, .. } => {
                left.each_field(visit);
                right.each_field(visit);
            }
            Self::Text { subject, .. } | Self::In { subject, .. } => subject.each_field(visit),
            Self::Member { item, list } => {
                item.each_field(visit);
                visit(*list);
            }
            Self::Computed(computed) => computed.each_field(Reach::All, visit),
        }
    }
}

impl Comparison {
    /// The comparison that holds with the sides swapped.
    pub fn swapped(self) -> Self {
        match self {
            Self::Equal | Self::NotEqual => self,
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
        }
    }

    /// Whether it holds of two values in that order.
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterEqual => order.is_ge(),
        }
    }

    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
        }
    }
}

impl Arithmetic {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    /// The result; not finite where there is none.
    pub fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
            Self::Remainder => left % right,
        }
    }
}
