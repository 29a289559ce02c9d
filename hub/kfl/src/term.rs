//! Conditions that take more than fields and constants: loops over lists, choices, texts put together, documents.
//!
//! They are of the same two-valued kind as all of [`Expr`](crate::expr). A store that has no form of its own for one
//! runs it entry by entry: it is small, says which [fields](Computed::fields) it takes, and is
//! [decided](Computed::decide) over a [`Row`].

use std::collections::BTreeSet;

use crate::evaluate::{GaveUp, Row, decide_computed};
use crate::expr::{Arithmetic, Comparison, Expr, Literal, Operand, Pattern};
use crate::fields::{Field, Kind};

/// A condition that is computed entry by entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Computed {
    pub(crate) test: Test,
}

impl Computed {
    /// Every field that it takes.
    pub fn fields(&self) -> BTreeSet<Field> {
        let mut fields = BTreeSet::new();
        self.each_field(Reach::All, &mut |field| {
            fields.insert(field);
        });
        fields
    }

    /// What it asks, if it only compares texts that are put together from others.
    pub fn texts(&self) -> Option<TextsTest<'_>> {
        let (subject, relation, argument) = match &self.test {
            Test::Compare { op, left, right } => (left, TextRelation::Compare(*op), right),
            Test::Text {
                subject,
                relation,
                argument,
            } => (subject, TextRelation::Is(*relation), argument),
            _ => return None,
        };
        let (mut subject_parts, mut argument_parts) = (Vec::new(), Vec::new());
        (subject.parts(&mut subject_parts) && argument.parts(&mut argument_parts)).then_some(TextsTest {
            subject: subject_parts,
            relation,
            argument: argument_parts,
        })
    }

    /// Whether it holds for an entry.
    ///
    /// # Errors
    /// It takes more [steps](crate::EVALUATION_STEPS) than one entry may cost.
    pub fn decide(&self, row: &dyn Row) -> Result<bool, GaveUp> {
        decide_computed(self, row)
    }
}

/// How one text stands to another, each put together from the texts of operands, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct TextsTest<'c> {
    /// The one.
    pub subject: Vec<&'c Operand>,
    /// How they stand.
    pub relation: TextRelation,
    /// The other.
    pub argument: Vec<&'c Operand>,
}

/// What may hold of two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextRelation {
    /// `==`, `<` and the like, by their bytes.
    Compare(Comparison),
    /// `contains`, `startsWith` or `endsWith`.
    Is(Relation),
}

/// What is asked of terms.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    /// The term is true.
    Truth(Term),
    /// The term has a value.
    Recorded(Term),
    /// As [`Expr::Compare`]. If the left side is [`Term::Each`], any of its values will do; with `!=`, none may be equal.
    Compare { op: Comparison, left: Term, right: Term },
    /// `subject.contains(argument)` and the like. If the subject is [`Term::Each`], any of its values will do.
    Text {
        subject: Term,
        relation: Relation,
        argument: Term,
    },
    /// `subject.matches("..")`, likewise.
    Matches { subject: Term, pattern: Pattern },
    /// `item in of`: an item of a list, or a key of a map.
    In { item: Term, of: Term },
    /// `over.exists(variable, condition)` and the like, over the items of a list or the keys of a map.
    Loop {
        quantifier: Quantifier,
        over: Term,
        variable: Variable,
        condition: Box<Expr>,
    },
}

/// How one text stands in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// The other is somewhere in it.
    Contains,
    /// It begins with the other.
    StartsWith,
    /// It ends with the other.
    EndsWith,
}

/// For how many the condition of a loop has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantifier {
    Any,
    All,
    One,
}

/// A loop's variable: how many loops stood around that loop where it was written. A reference means the innermost loop
/// of that number.
///
/// This is safe when a term is put into the place of a name further in: its own loops have numbers from its own place
/// on, so that they hide nothing that it refers to outside of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variable(pub usize);

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Term {
    /// What needs no loop, choice or document.
    Operand(Operand),
    /// What a loop is at.
    Variable(Variable),
    /// A condition as a value.
    Condition(Box<Expr>),
    /// `condition ? then : otherwise`.
    Choice {
        condition: Box<Expr>,
        then: Box<Term>,
        otherwise: Box<Term>,
    },
    /// `[a, b]`.
    List(Vec<Term>),
    /// `{"a": b}`.
    Map(Vec<(Term, Term)>),
    /// `of[key]`.
    Entry {
        of: Box<Term>,
        key: Box<Term>,
        absent: Absent,
    },
    /// `of.*.key.key`: the values directly in a list or map, each followed down the path.
    Each { of: Box<Term>, path: Vec<Literal> },
    /// `size(..)`.
    Size(Box<Term>),
    /// `left op right`, of numbers.
    Arithmetic {
        op: Arithmetic,
        left: Box<Term>,
        right: Box<Term>,
    },
    /// `left + right`, of texts or of lists; of numbers where only the entry tells what they are.
    Joined { left: Box<Term>, right: Box<Term> },
    /// `of.split(by)`.
    Split { of: Box<Term>, by: String },
    /// The value as something else.
    Converted { to: Conversion, of: Box<Term> },
    /// `over.filter(variable, condition)`, or `over.map(variable, condition, item)`.
    Collected {
        over: Box<Term>,
        variable: Variable,
        condition: Option<Box<Expr>>,
        item: Box<Term>,
    },
}

/// What stands for an entry that is not there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Absent {
    /// Nothing has no value.
    Nothing,
    /// A text that is not there is `""`.
    EmptyText,
    /// `map_get(of, key, this)`.
    Given(Box<Term>),
}

/// What a value is made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conversion {
    Text,
    Int,
    Float,
    LowerCase,
    UpperCase,
    Trimmed,
    Json,
    Xml,
}

/// What a value is, as far as that is known before an entry is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Int,
    Float,
    Bool,
    Time,
    List(Box<Type>),
    Map(Box<Type>),
    /// Known only when the entry is seen: what is in a document, or in a list of unlike things.
    Any,
}

impl From<Kind> for Type {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Int => Self::Int,
            Kind::Float => Self::Float,
            Kind::Bool => Self::Bool,
            Kind::Time => Self::Time,
            Kind::List => Self::List(Box::new(Self::Text)),
            Kind::Map => Self::Map(Box::new(Self::Text)),
        }
    }
}

impl Type {
    pub fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Float)
    }

    /// What values of either type have in common.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            (one, other) if one.is_number() && other.is_number() => Self::Float,
            (Self::List(one), Self::List(other)) => Self::List(Box::new(one.or(*other))),
            (Self::Map(one), Self::Map(other)) => Self::Map(Box::new(one.or(*other))),
            _ => Self::Any,
        }
    }

    /// As in the user's documentation.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "whole number",
            Self::Float => "number",
            Self::Bool => "true or false",
            Self::Time => "time",
            Self::List(of) if **of == Self::Text => "list of texts",
            Self::List(_) => "list",
            Self::Map(of) if **of == Self::Text => "map of texts",
            Self::Map(_) => "map",
            Self::Any => "part of a document",
        }
    }
}

impl Relation {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "contains",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
        }
    }
}

impl Quantifier {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "exists",
            Self::All => "all",
            Self::One => "exists_one",
        }
    }
}

/// How far [`Computed::each_field`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Everywhere.
    All,
    /// Only where a field's value is what is asked for: not into conditions, which stand within their protocols
    /// themselves, nor into branches, which are not always taken.
    Values,
}

impl Computed {
    pub(crate) fn each_field(&self, reach: Reach, visit: &mut dyn FnMut(Field)) {
        match &self.test {
            Test::Truth(term) | Test::Recorded(term) => term.each_field(reach, visit),
            Test::Compare { left, right, .. } => {
                left.each_field(reach, visit);
                right.each_field(reach, visit);
            }
            Test::Text {
                subject, argument, ..
            } => {
                subject.each_field(reach, visit);
                argument.each_field(reach, visit);
            }
            Test::Matches { subject, .. } => subject.each_field(reach, visit),
            Test::In { item, of } => {
                item.each_field(reach, visit);
                of.each_field(reach, visit);
            }
            Test::Loop { over, condition, .. } => {
                over.each_field(reach, visit);
                of_condition(condition, reach, visit);
            }
        }
    }
}

impl Term {
    /// The texts that it puts together; `false` if it is something else.
    fn parts<'c>(&'c self, parts: &mut Vec<&'c Operand>) -> bool {
        match self {
            Self::Operand(operand) if operand.kind() == Kind::Text => {
                parts.push(operand);
                true
            }
            Self::Joined { left, right } => left.parts(parts) && right.parts(parts),
            _ => false,
        }
    }

    fn each_field(&self, reach: Reach, visit: &mut dyn FnMut(Field)) {
        match self {
            Self::Operand(operand) => operand.each_field(visit),
            Self::Variable(_) => {}
            Self::Condition(condition) => of_condition(condition, reach, visit),
            Self::Choice {
                condition,
                then,
                otherwise,
            } => {
                of_condition(condition, reach, visit);
                if reach == Reach::All {
                    then.each_field(reach, visit);
                    otherwise.each_field(reach, visit);
                }
            }
            Self::List(items) => items.iter().for_each(|item| item.each_field(reach, visit)),
            Self::Map(entries) => {
                for (key, value) in entries {
                    key.each_field(reach, visit);
                    value.each_field(reach, visit);
                }
            }
            Self::Entry { of, key, absent } => {
                of.each_field(reach, visit);
                key.each_field(reach, visit);
                if let Absent::Given(given) = absent {
                    given.each_field(reach, visit);
                }
            }
            Self::Each { of, .. } | Self::Split { of, .. } | Self::Converted { of, .. } => {
                of.each_field(reach, visit);
            }
            Self::Size(of) => of.each_field(reach, visit),
            Self::Arithmetic { left, right, .. } | Self::Joined { left, right } => {
                left.each_field(reach, visit);
                right.each_field(reach, visit);
            }
            Self::Collected {
                over,
                condition,
                item,
                ..
            } => {
                over.each_field(reach, visit);
                if let Some(condition) = condition {
                    of_condition(condition, reach, visit);
                }
                item.each_field(reach, visit);
            }
        }
    }
}

fn of_condition(condition: &Expr, reach: Reach, visit: &mut dyn FnMut(Field)) {
    if reach == Reach::All {
        condition.each_field(visit);
    }
}
