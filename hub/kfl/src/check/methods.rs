//! Methods of a value: `path.contains("x")`, which may be written `path contains "x"`.

use super::compare::is_term;
use super::functions::{no_argument, one_argument, unknown};
use super::loops;
use super::scope::{computed, or, within};
use super::terms::{constant, converted};
use super::values::{ANY_CASE, as_text, is_lower_case};
use super::{Checked, Checker, Side, as_value, describe};
use crate::error::{Problem, Span};
use crate::expr::{Expr, Literal, Operand, TextTest};
use crate::fields::Kind;
use crate::syntax::Node;
use crate::term::{Conversion, Relation, Term, Test, Type};

/// Methods, which take a subject: `path.contains("x")`, `path contains "x"`. Those of loops are added to them.
const METHODS: &[&str] = &[
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "size",
    "lowerAscii",
    "upperAscii",
    "trim",
    "split",
    "json",
    "xml",
];

impl Checker {
    pub(super) fn method(
        &mut self,
        subject: &Node,
        name: &str,
        arguments: &[Node],
        span: Span,
    ) -> Result<Checked, Problem> {
        if loops::is_loop(name) {
            return self.looped(subject, name, arguments, span);
        }
        if !METHODS.contains(&name) {
            let known = METHODS.iter().copied().chain(loops::NAMES.iter().copied());
            return Err(unknown("method", name, span, known));
        }
        match name {
            "size" => {
                no_argument(name, arguments, span)?;
                self.size(subject)
            }
            "lowerAscii" | "upperAscii" | "trim" => {
                no_argument(name, arguments, span)?;
                self.changed(name, subject)
            }
            "json" | "xml" => {
                no_argument(name, arguments, span)?;
                let side = self.side(subject)?;
                let to = if name == "json" {
                    Conversion::Json
                } else {
                    Conversion::Xml
                };
                let of = self.text_term(side)?;
                Ok(Checked::Term(converted(to, of), Type::Any))
            }
            "split" => {
                let argument = one_argument(name, arguments, span)?;
                let by = self.constant_text(name, argument)?;
                let side = self.side(subject)?;
                let of = Box::new(self.text_term(side)?);
                Ok(Checked::Term(
                    Term::Split { of, by },
                    Type::List(Box::new(Type::Text)),
                ))
            }
            _ => {
                let argument = one_argument(name, arguments, span)?;
                let (subject, argument) = (self.side(subject)?, self.side(argument)?);
                self.text_test(name, subject, argument).map(as_value)
            }
        }
    }

    /// `subject.contains(argument)` and the like.
    fn text_test(&mut self, name: &str, subject: Side, argument: Side) -> Result<Expr, Problem> {
        let parts = subject.parts.max(argument.parts);
        match (subject.value, argument.value) {
            (Checked::Choice(choice), value) => {
                let argument = Side { value, ..argument };
                self.choose(*choice, subject.span, parts, |checker, subject| {
                    checker.text_test(name, subject, argument.clone())
                })
            }
            (value, Checked::Choice(choice)) => {
                let subject = Side { value, ..subject };
                self.choose(*choice, argument.span, parts, |checker, argument| {
                    checker.text_test(name, subject.clone(), argument)
                })
            }
            (Checked::Fields(fields), value) => {
                let argument = Side { value, ..argument };
                self.any_field(&fields, subject.span, parts, or, |checker, subject| {
                    checker.text_test(name, subject, argument.clone())
                })
            }
            (value, item) if name == "contains" && is_list(&value) => self.member(
                Side {
                    value: item,
                    ..argument
                },
                Side { value, ..subject },
            ),
            (value, Checked::Operand(Operand::Literal(Literal::Text(text))) | Checked::Regex(text)) => {
                let subject = Side { value, ..subject };
                self.constant_test(name, subject, text, argument.span)
            }
            (_, other) if name == "matches" || matches!(other, Checked::Operand(Operand::Literal(_))) => {
                let message = format!("`{name}` takes a text, not {}", describe(&other));
                let problem = Problem::new(argument.span, message);
                Err(match (name, other) {
                    ("matches", Checked::Operand(Operand::Field(_)) | Checked::Term(..)) => problem.hint(
                        "a pattern is written out, so that it can be checked before anything is searched",
                    ),
                    _ => problem.hint("put it in quotes"),
                })
            }
            (value, other) => {
                let relation = match name {
                    "contains" => Relation::Contains,
                    "startsWith" => Relation::StartsWith,
                    _ => Relation::EndsWith,
                };
                let subject = self.text_term(Side { value, ..subject })?;
                let argument = self.text_term(Side {
                    value: other,
                    ..argument
                })?;
                Ok(computed(Test::Text {
                    subject,
                    relation,
                    argument,
                }))
            }
        }
    }

    /// A test for a text that is written out.
    fn constant_test(
        &mut self,
        name: &str,
        subject: Side,
        text: String,
        span: Span,
    ) -> Result<Expr, Problem> {
        let lower = matches!(&subject.value, Checked::Operand(operand) if is_lower_case(operand));
        let text = if lower { lower_case(name, text) } else { text };
        if is_term(&subject.value) {
            let subject = self.text_term(subject)?;
            let test = match name {
                "matches" => Test::Matches {
                    subject,
                    pattern: self.pattern(&text, span)?,
                },
                _ => {
                    let relation = match name {
                        "contains" => Relation::Contains,
                        "startsWith" => Relation::StartsWith,
                        _ => Relation::EndsWith,
                    };
                    let argument = constant(Literal::Text(text));
                    Test::Text {
                        subject,
                        relation,
                        argument,
                    }
                }
            };
            return Ok(computed(test));
        }
        let subject = as_text(subject.value, subject.span)?;
        let test = match name {
            "contains" => TextTest::Contains(text),
            "startsWith" => TextTest::StartsWith(text),
            "endsWith" => TextTest::EndsWith(text),
            _ => TextTest::Matches(self.pattern(&text, span)?),
        };
        Ok(within(Expr::Text { subject, test }))
    }

    /// `subject.lowerAscii()` and the like.
    fn changed(&mut self, name: &str, subject: &Node) -> Result<Checked, Problem> {
        let side = self.side(subject)?;
        let (to, change): (_, fn(&str) -> String) = match name {
            "lowerAscii" => (Conversion::LowerCase, str::to_ascii_lowercase),
            "upperAscii" => (Conversion::UpperCase, str::to_ascii_uppercase),
            _ => (Conversion::Trimmed, |text| text.trim().to_owned()),
        };
        if let Checked::Operand(Operand::Literal(Literal::Text(text))) = &side.value {
            return Ok(Checked::Operand(Operand::Literal(Literal::Text(change(text)))));
        }
        let of = self.text_term(side)?;
        Ok(Checked::Term(converted(to, of), Type::Text))
    }
}

fn is_list(value: &Checked) -> bool {
    match value {
        Checked::Operand(operand) => operand.kind() == Kind::List,
        Checked::Term(_, of) => matches!(of, Type::List(_)),
        Checked::List(_) => true,
        _ => false,
    }
}

/// The argument of a text test on a field in lower case.
fn lower_case(method: &str, text: String) -> String {
    match method {
        "matches" if text.starts_with(ANY_CASE) => text,
        "matches" => format!("{ANY_CASE}{text}"),
        _ => text.to_ascii_lowercase(),
    }
}
