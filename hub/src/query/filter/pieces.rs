//! Texts that are put together and compared: `url startsWith "/api/" + dst.svc`. They are compared piece by piece, and never
//! put together.

use std::cmp::Ordering;

use datafusion::arrow::array::{ArrayRef, StringViewArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, col};
use wiretape_kfl::{Computed, Field, Literal, Operand, Relation, TextRelation};

use super::function::{self, Decide};
use crate::query::functions::texts;

/// The condition as a function of columns; `None` if it is not of this kind.
pub(super) fn compared(computed: &Computed) -> Option<Expr> {
    let test = computed.texts()?;
    let mut arguments = Vec::new();
    let sides = [test.subject, test.argument].map(|side| {
        let mut pieces = Vec::new();
        for operand in side {
            Piece::add(operand, &mut pieces, &mut arguments);
        }
        pieces
    });
    if arguments.is_empty() {
        return None;
    }
    let compared = Compared {
        sides,
        relation: test.relation,
    };
    Some(function::condition(computed.to_string(), compared, arguments))
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Constant(String),
    /// That of an argument.
    Of(usize),
    /// What stands before an argument, if that is not empty.
    Before(&'static str, usize),
}

impl Piece {
    fn add(operand: &Operand, pieces: &mut Vec<Self>, arguments: &mut Vec<Expr>) {
        let mut argument = |expr| {
            arguments.push(expr);
            arguments.len() - 1
        };
        match operand {
            Operand::Literal(Literal::Text(text)) => pieces.push(Self::Constant(text.clone())),
            Operand::Field(Field::Url) => {
                pieces.push(Self::Of(argument(col("path"))));
                let query = argument(col("query"));
                pieces.extend([Self::Before("?", query), Self::Of(query)]);
            }
            other => pieces.push(Self::Of(argument(super::value(other)))),
        }
    }

    fn text<'a>(&'a self, columns: &'a [StringViewArray], row: usize) -> &'a str {
        let of = |at: usize| columns.get(at).map_or("", |texts| texts.value(row));
        match self {
            Self::Constant(text) => text,
            Self::Of(at) => of(*at),
            Self::Before(_, at) if of(*at).is_empty() => "",
            Self::Before(text, _) => text,
        }
    }
}

/// Two texts, and how they are to compare.
#[derive(PartialEq)]
struct Compared {
    sides: [Vec<Piece>; 2],
    relation: TextRelation,
}

impl Compared {
    fn holds(&self, columns: &[StringViewArray], row: usize) -> bool {
        let [subject, argument] = &self.sides;
        let [subject, argument] =
            [subject, argument].map(|side| side.iter().map(|piece| piece.text(columns, row).as_bytes()));
        match self.relation {
            TextRelation::Compare(op) => op.holds(along(subject, argument).0),
            TextRelation::Is(Relation::StartsWith) => begins(subject, argument),
            TextRelation::Is(Relation::EndsWith) => {
                let length: usize = argument.clone().map(<[u8]>::len).sum();
                let whole: usize = subject.clone().map(<[u8]>::len).sum();
                let Some(mut skipped) = whole.checked_sub(length) else {
                    return false;
                };
                let end = subject.map(|piece| {
                    let here = skipped.min(piece.len());
                    skipped -= here;
                    piece.get(here..).unwrap_or_default()
                });
                along(end, argument).1
            }
            TextRelation::Is(Relation::Contains) => {
                let [subject, argument] = &self.sides;
                let together = |side: &[Piece]| -> String {
                    side.iter().map(|piece| piece.text(columns, row)).collect()
                };
                together(subject).contains(&together(argument))
            }
        }
    }
}

/// Whether a text begins with another, each in pieces.
#[inline]
fn begins<'a>(
    mut subject: impl Iterator<Item = &'a [u8]> + Clone,
    argument: impl Iterator<Item = &'a [u8]> + Clone,
) -> bool {
    // Nearly always, all of it lies in the subject's first piece.
    let all = subject.clone();
    let mut left = subject.next().unwrap_or_default();
    for piece in argument.clone() {
        match left.split_at_checked(piece.len()) {
            Some((here, behind)) if here == piece => left = behind,
            Some(_) => return false,
            // The subject goes on where the argument ends.
            None => return along(all, argument).1,
        }
    }
    true
}

/// How two texts compare, each in pieces; and whether the first begins with the second.
fn along<'a>(
    mut one: impl Iterator<Item = &'a [u8]>,
    mut other: impl Iterator<Item = &'a [u8]>,
) -> (Ordering, bool) {
    let (mut left, mut right): (&[u8], &[u8]) = (&[], &[]);
    loop {
        while left.is_empty() {
            match one.next() {
                Some(next) => left = next,
                None => {
                    let more = !right.is_empty() || other.any(|piece| !piece.is_empty());
                    return (if more { Ordering::Less } else { Ordering::Equal }, !more);
                }
            }
        }
        while right.is_empty() {
            match other.next() {
                Some(next) => right = next,
                None => return (Ordering::Greater, true),
            }
        }
        let both = left.len().min(right.len());
        let ((here, rest), (there, others)) = (left.split_at(both), right.split_at(both));
        match here.cmp(there) {
            Ordering::Equal => (left, right) = (rest, others),
            different => return (different, false),
        }
    }
}

impl Decide for Compared {
    const NAME: &'static str = "compared";

    fn decide(&self, arguments: &[ArrayRef], rows: usize) -> Result<BooleanBuffer> {
        let columns: Vec<StringViewArray> = arguments.iter().map(texts).collect::<Result<_>>()?;
        Ok(BooleanBuffer::collect_bool(rows, |row| self.holds(&columns, row)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text in every way of cutting it into three pieces.
    fn cut(text: &[u8]) -> impl Iterator<Item = [&[u8]; 3]> {
        (0..=text.len())
            .flat_map(move |a| (a..=text.len()).map(move |b| [&text[..a], &text[a..b], &text[b..]]))
    }

    #[test]
    fn pieces_compare_as_the_whole() {
        let all: [&[u8]; 7] = [b"", b"a", b"ab", b"abc", b"abd", b"b", b"abcd"];
        for one in all {
            for other in all {
                for left in cut(one) {
                    for right in cut(other) {
                        let told = along(left.into_iter(), right.into_iter());
                        assert_eq!(
                            told,
                            (one.cmp(other), one.starts_with(other)),
                            "{left:?} {right:?}"
                        );
                        assert_eq!(
                            begins(left.into_iter(), right.into_iter()),
                            told.1,
                            "{left:?} {right:?}"
                        );
                    }
                }
            }
        }
    }
}
