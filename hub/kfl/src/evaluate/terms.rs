//! Loops, choices and documents on a single entry.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{GaveUp, Item, Run, compare, literal, value, xml};
use crate::expr::{Comparison, Expr};
use crate::term::{Absent, Conversion, Quantifier, Relation, Term, Test, Variable};

impl<'a> Run<'a> {
    pub(super) fn test(&mut self, test: &'a Test) -> Result<bool, GaveUp> {
        Ok(match test {
            Test::Truth(term) => matches!(self.term(term)?, Item::Bool(true)),
            Test::Recorded(term) => !matches!(self.term(term)?, Item::Missing),
            Test::Compare { op, left, right } => {
                let right = self.term(right)?;
                match op {
                    // None of the values is equal.
                    Comparison::NotEqual if matches!(left, Term::Each { .. }) => {
                        !self.any_of(left, |left| compare(Comparison::Equal, left, &right))?
                    }
                    op => self.any_of(left, |left| compare(*op, left, &right))?,
                }
            }
            Test::Text {
                subject,
                relation,
                argument,
            } => {
                let Item::Text(argument) = self.term(argument)? else {
                    return Ok(false);
                };
                let argument: &str = &argument;
                self.any_of(subject, |subject| match (subject, relation) {
                    (Item::Text(subject), Relation::Contains) => subject.contains(argument),
                    (Item::Text(subject), Relation::StartsWith) => subject.starts_with(argument),
                    (Item::Text(subject), Relation::EndsWith) => subject.ends_with(argument),
                    _ => false,
                })?
            }
            Test::Matches { subject, pattern } => self.any_of(subject, |subject| match subject {
                Item::Text(subject) => pattern.regex().is_match(subject),
                _ => false,
            })?,
            Test::In { item, of } => self.is_in(item, of)?,
            Test::Loop {
                quantifier,
                over,
                variable,
                condition,
            } => self.quantified(*quantifier, over, *variable, condition)?,
        })
    }

    /// Whether a test holds for a term, or for any value of a wildcard.
    fn any_of(&mut self, term: &'a Term, test: impl Fn(&Item<'a>) -> bool) -> Result<bool, GaveUp> {
        match (term, self.term(term)?) {
            (Term::Each { .. }, Item::List(values)) => Ok(values.iter().any(test)),
            (_, value) => Ok(test(&value)),
        }
    }

    fn is_in(&mut self, item: &'a Term, of: &'a Term) -> Result<bool, GaveUp> {
        let item = self.term(item)?;
        Ok(match self.term(of)? {
            Item::List(list) => list.iter().any(|other| compare(Comparison::Equal, other, &item)),
            map => map.has_key(&item, self.row),
        })
    }

    fn quantified(
        &mut self,
        quantifier: Quantifier,
        over: &'a Term,
        variable: Variable,
        condition: &'a Expr,
    ) -> Result<bool, GaveUp> {
        let mut found = 0;
        for item in self.items(over)? {
            let holds = self.with(variable, item, |run| run.holds(condition))?;
            match quantifier {
                Quantifier::Any if holds => return Ok(true),
                Quantifier::All if !holds => return Ok(false),
                _ => found += usize::from(holds),
            }
        }
        Ok(match quantifier {
            Quantifier::Any => false,
            Quantifier::All => true,
            Quantifier::One => found == 1,
        })
    }

    fn items(&mut self, over: &'a Term) -> Result<Vec<Item<'a>>, GaveUp> {
        let items = self.term(over)?.into_items(self.row);
        self.spend(items.len())?;
        Ok(items)
    }

    /// One round of a loop.
    fn with<T>(
        &mut self,
        variable: Variable,
        item: Item<'a>,
        body: impl FnOnce(&mut Self) -> Result<T, GaveUp>,
    ) -> Result<T, GaveUp> {
        self.variables.push((variable, item));
        let result = body(self);
        self.variables.pop();
        result
    }

    fn term(&mut self, term: &'a Term) -> Result<Item<'a>, GaveUp> {
        let row = self.row;
        let item = match term {
            Term::Operand(operand) => value(operand, row),
            Term::Variable(of) => {
                let mut inwards = self.variables.iter().rev();
                let found = inwards.find(|(variable, _)| variable == of);
                found.map_or(Item::Missing, |(_, item)| item.clone())
            }
            Term::Condition(condition) => Item::Bool(self.holds(condition)?),
            Term::Choice {
                condition,
                then,
                otherwise,
            } => {
                let taken = if self.holds(condition)? { then } else { otherwise };
                return self.term(taken);
            }
            Term::List(items) => {
                let items: Result<_, _> = items.iter().map(|item| self.term(item)).collect();
                Item::List(items?)
            }
            Term::Map(entries) => {
                let mut map = BTreeMap::new();
                for (key, value) in entries {
                    map.insert(self.term(key)?.into_text(), self.term(value)?);
                }
                Item::Map(map)
            }
            Term::Entry { of, key, absent } => {
                let key = self.term(key)?;
                match (self.term(of)?.entry(&key, row), absent) {
                    (Item::Missing, Absent::EmptyText) => Item::Text(Cow::Borrowed("")),
                    (Item::Missing, Absent::Given(given)) => return self.term(given),
                    (found, _) => found,
                }
            }
            Term::Each { of, path } => {
                let nested = matches!(**of, Term::Each { .. });
                let mut values = self.term(of)?.into_values(row);
                if nested {
                    values = values
                        .into_iter()
                        .flat_map(|value| value.into_values(row))
                        .collect();
                }
                let followed = |value| {
                    path.iter()
                        .fold(value, |value: Item<'a>, key| value.entry(&literal(key), row))
                };
                Item::List(values.into_iter().map(followed).collect())
            }
            Term::Size(of) => self.term(of)?.size(row).map_or(Item::Missing, Item::count),
            Term::Arithmetic { op, left, right } => {
                match (self.term(left)?.float(), self.term(right)?.float()) {
                    (Some(left), Some(right)) => Item::Float(op.apply(left, right)),
                    _ => Item::Missing,
                }
            }
            Term::Joined { left, right } => match (self.term(left)?, self.term(right)?) {
                (Item::List(mut left), Item::List(right)) => {
                    left.extend(right);
                    Item::List(left)
                }
                (Item::Text(left), Item::Text(right)) => Item::Text(left + right),
                (left, right) => match (left.float(), right.float()) {
                    (Some(left), Some(right)) => Item::Float(left + right),
                    _ => Item::Missing,
                },
            },
            Term::Split { of, by } => match self.term(of)? {
                Item::Text(text) => {
                    let parts = text.split(by.as_str()).map(|part| Cow::Owned(part.to_owned()));
                    Item::List(parts.map(Item::Text).collect())
                }
                _ => Item::List(Vec::new()),
            },
            Term::Converted { to, of } => {
                let item = self.term(of)?;
                self.converted(*to, item)?
            }
            Term::Collected {
                over,
                variable,
                condition,
                item,
            } => {
                let mut collected = Vec::new();
                for each in self.items(over)? {
                    let kept = self.with(*variable, each, |run| match condition {
                        Some(condition) if !run.holds(condition)? => Ok(None),
                        _ => run.term(item).map(Some),
                    })?;
                    collected.extend(kept);
                }
                Item::List(collected)
            }
        };
        self.spend(item.weight())?;
        Ok(item)
    }

    fn converted(&mut self, to: Conversion, item: Item<'a>) -> Result<Item<'a>, GaveUp> {
        Ok(match to {
            Conversion::Text => Item::Text(item.into_text()),
            Conversion::LowerCase => Item::Text(item.into_text().to_ascii_lowercase().into()),
            Conversion::UpperCase => Item::Text(item.into_text().to_ascii_uppercase().into()),
            Conversion::Trimmed => match item.into_text() {
                Cow::Borrowed(text) => Item::Text(text.trim().into()),
                Cow::Owned(text) => Item::Text(text.trim().to_owned().into()),
            },
            Conversion::Int => match item {
                Item::Int(int) => Item::Int(int),
                // Saturates, as `as` does; what is no number has no value.
                Item::Float(float) if float.is_finite() => Item::Int(float as i64),
                Item::Text(text) => text.trim().parse().map_or(Item::Missing, Item::Int),
                _ => Item::Missing,
            },
            Conversion::Float => match item {
                Item::Text(text) => text.trim().parse().map_or(Item::Missing, Item::Float),
                item => item.float().map_or(Item::Missing, Item::Float),
            },
            Conversion::Json | Conversion::Xml => {
                let text = item.into_text();
                // Reading makes some tens of bytes of one.
                self.spend(text.len())?;
                if to == Conversion::Xml {
                    xml::read(&text)
                } else {
                    serde_json::from_str::<serde_json::Value>(&text).map_or(Item::Missing, Item::from)
                }
            }
        })
    }
}
