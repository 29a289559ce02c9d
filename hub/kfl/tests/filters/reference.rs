//! Random filters on random entries, held against a second meaning of the language: one that is written down here, knows
//! neither parser nor checker, and takes no care to be fast.

use std::borrow::Cow;

use wiretape_kfl::{Field, Kind, Row, Value, compile, evaluate};

use crate::row::Entry;

const FILTERS: u64 = 4000;
const ROWS: usize = 24;

#[test]
fn filter_finds_what_the_reference_finds() {
    let mut random = Random(0x5eed_0001);
    let rows: Vec<Entry> = (0..ROWS).map(|_| random.row()).collect();
    let mut told_apart = 0;
    for number in 0..FILTERS {
        let condition = random.condition(3, 0);
        let text = condition.text();
        let filter = compile(&text, 0).unwrap_or_else(|error| panic!("{error}"));
        let again = compile(&filter.to_string(), 0).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(again, filter, "filter {number}: {text}\nread as {filter}");
        let mut found = 0;
        for row in &rows {
            let expected = condition.holds(row, &mut Vec::new());
            assert_eq!(
                evaluate(&filter, row),
                expected,
                "filter {number}: {text}\nread as {filter}\n{row:?}"
            );
            found += usize::from(expected);
        }
        told_apart += usize::from(found > 0 && found < ROWS);
    }
    assert!(told_apart > 1000, "only {told_apart} filters tell rows apart");
}

/// A condition, as it is meant.
enum Condition {
    Flag(Field),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    Choice(Box<Condition>, Box<Condition>, Box<Condition>),
    Compare(Term, &'static str, Term),
    Text(Term, &'static str, Term),
    OneOf(Term, Vec<Term>),
    HasKey(Field, &'static str),
    /// Any value of a map; with `!=`, none is equal.
    Wildcard(Field, &'static str, &'static str),
    Loop(&'static str, List, Box<Condition>, usize),
}

/// A text or a number.
enum Term {
    Text(&'static str),
    Int(i64),
    Field(Field),
    Entry(Field, &'static str),
    Variable(usize),
    Joined(Box<Term>, Box<Term>),
    Sum(Box<Term>, Box<Term>),
    Size(Box<Term>),
    Choice(Box<Condition>, Box<Term>, Box<Term>),
}

enum List {
    Field(Field),
    Texts(Vec<&'static str>),
    Filtered(Field, Box<Condition>, usize),
}

/// What a term is worth.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Worth {
    Text(String),
    Number(f64),
    None,
}

impl Condition {
    fn text(&self) -> String {
        match self {
            Self::Flag(field) => field.name().to_owned(),
            Self::And(one, other) => format!("({} and {})", one.text(), other.text()),
            Self::Or(one, other) => format!("({} || {})", one.text(), other.text()),
            Self::Not(one) => format!("not ({})", one.text()),
            Self::Choice(condition, then, otherwise) => {
                format!("({} ? {} : {})", condition.text(), then.text(), otherwise.text())
            }
            Self::Compare(left, op, right) => format!("{} {op} {}", left.text(), right.text()),
            Self::Text(left, word, right) if left.text().len() % 2 == 0 => {
                format!("{} {word} {}", left.text(), right.text())
            }
            Self::Text(left, word, right) => format!("({}).{word}({})", left.text(), right.text()),
            Self::OneOf(item, list) => {
                let list: Vec<_> = list.iter().map(Term::text).collect();
                format!("{} in [{}]", item.text(), list.join(", "))
            }
            Self::HasKey(map, key) => format!("\"{key}\" in {}", map.name()),
            Self::Wildcard(map, op, text) => format!("{}.* {op} \"{text}\"", map.name()),
            Self::Loop(quantifier, over, condition, at) => {
                format!("{}.{quantifier}(x{at}, {})", over.text(), condition.text())
            }
        }
    }

    fn holds(&self, row: &Entry, around: &mut Vec<Worth>) -> bool {
        match self {
            Self::Flag(field) => row.get(*field) == Value::Bool(true),
            Self::And(one, other) => one.holds(row, around) && other.holds(row, around),
            Self::Or(one, other) => one.holds(row, around) || other.holds(row, around),
            Self::Not(one) => !one.holds(row, around),
            Self::Choice(condition, then, otherwise) => {
                let taken = if condition.holds(row, around) {
                    then
                } else {
                    otherwise
                };
                taken.holds(row, around)
            }
            Self::Compare(left, op, right) => {
                let (left, right) = (left.taken(row, around), right.taken(row, around));
                in_scope(&[left, right], row)
                    && compare(&left.worth(row, around), op, &right.worth(row, around))
            }
            Self::Text(left, word, right) => {
                let (left, right) = (left.taken(row, around), right.taken(row, around));
                in_scope(&[left, right], row)
                    && match (left.worth(row, around), right.worth(row, around), *word) {
                        (Worth::Text(left), Worth::Text(right), "contains") => left.contains(&right),
                        (Worth::Text(left), Worth::Text(right), "startsWith") => left.starts_with(&right),
                        (Worth::Text(left), Worth::Text(right), _) => left.ends_with(&right),
                        _ => false,
                    }
            }
            Self::OneOf(item, list) => list.iter().any(|entry| {
                let (item, entry) = (item.taken(row, around), entry.taken(row, around));
                in_scope(&[item, entry], row)
                    && compare(&item.worth(row, around), "==", &entry.worth(row, around))
            }),
            Self::HasKey(map, key) => owned(*map, row) && row.map_get(*map, key).is_some(),
            Self::Wildcard(map, op, text) => {
                let text = Worth::Text((*text).to_owned());
                let values = row.map_entries(*map).into_iter();
                let mut values = values.map(|(_, value)| Worth::Text(value.into_owned()));
                owned(*map, row)
                    && match *op {
                        "!=" => values.all(|value| value != text),
                        op => values.any(|value| compare(&value, op, &text)),
                    }
            }
            Self::Loop(quantifier, over, condition, _) => {
                if !over.in_scope(row) {
                    return false;
                }
                let items = over.items(row, around);
                let count = items.len();
                let found = items.into_iter().filter(|item| {
                    around.push(Worth::Text(item.clone()));
                    let holds = condition.holds(row, around);
                    around.pop();
                    holds
                });
                let found = found.count();
                match *quantifier {
                    "exists" => found > 0,
                    "all" => found == count,
                    _ => found == 1,
                }
            }
        }
    }
}

impl Term {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => format!("\"{text}\""),
            Self::Int(int) => int.to_string(),
            Self::Field(field) => field.name().to_owned(),
            Self::Entry(map, key) => format!("{}[\"{key}\"]", map.name()),
            Self::Variable(at) => format!("x{at}"),
            Self::Joined(one, other) | Self::Sum(one, other) => {
                format!("({} + {})", one.text(), other.text())
            }
            Self::Size(of) => format!("size({})", of.text()),
            Self::Choice(condition, then, otherwise) => {
                format!("({} ? {} : {})", condition.text(), then.text(), otherwise.text())
            }
        }
    }

    /// The branch that counts, where a choice stands by itself.
    fn taken(&self, row: &Entry, around: &mut Vec<Worth>) -> &Term {
        match self {
            Self::Choice(condition, then, otherwise) => {
                let taken = if condition.holds(row, around) {
                    then
                } else {
                    otherwise
                };
                taken.taken(row, around)
            }
            term => term,
        }
    }

    /// Whether the entry is of the protocols of every field that is always looked at.
    fn in_scope(&self, row: &Entry) -> bool {
        match self {
            Self::Field(field) | Self::Entry(field, _) => owned(*field, row),
            Self::Joined(one, other) | Self::Sum(one, other) => one.in_scope(row) && other.in_scope(row),
            Self::Size(of) => of.in_scope(row),
            Self::Text(_) | Self::Int(_) | Self::Variable(_) | Self::Choice(..) => true,
        }
    }

    fn worth(&self, row: &Entry, around: &mut Vec<Worth>) -> Worth {
        match self {
            Self::Text(text) => Worth::Text((*text).to_owned()),
            Self::Int(int) => Worth::Number(*int as f64),
            Self::Field(field) => match row.get(*field) {
                Value::Text(text) => Worth::Text(text.into_owned()),
                Value::Int(int) => Worth::Number(int as f64),
                _ if field.kind() == Kind::Text => Worth::Text(String::new()),
                _ => Worth::None,
            },
            Self::Entry(map, key) => Worth::Text(row.map_get(*map, key).unwrap_or_default().into_owned()),
            Self::Variable(at) => around[*at].clone(),
            Self::Joined(one, other) => match (one.worth(row, around), other.worth(row, around)) {
                (Worth::Text(one), Worth::Text(other)) => Worth::Text(one + &other),
                _ => Worth::None,
            },
            Self::Sum(one, other) => match (one.worth(row, around), other.worth(row, around)) {
                (Worth::Number(one), Worth::Number(other)) => Worth::Number(one + other),
                _ => Worth::None,
            },
            Self::Size(of) => match of.worth(row, around) {
                Worth::Text(text) => Worth::Number(text.chars().count() as f64),
                _ => Worth::None,
            },
            Self::Choice(..) => {
                let taken = self.taken(row, around);
                taken.worth(row, around)
            }
        }
    }
}

impl List {
    fn text(&self) -> String {
        match self {
            Self::Field(field) => field.name().to_owned(),
            Self::Texts(texts) => format!("{texts:?}"),
            Self::Filtered(field, condition, at) => {
                format!("{}.filter(x{at}, {})", field.name(), condition.text())
            }
        }
    }

    fn in_scope(&self, row: &Entry) -> bool {
        match self {
            Self::Field(field) | Self::Filtered(field, ..) => owned(*field, row),
            Self::Texts(_) => true,
        }
    }

    fn items(&self, row: &Entry, around: &mut Vec<Worth>) -> Vec<String> {
        let of = |field: Field| match row.get(field) {
            Value::List(list) => list.into_iter().map(Cow::into_owned).collect(),
            Value::Map(_) => {
                let mut keys: Vec<_> = row
                    .map_entries(field)
                    .into_iter()
                    .map(|(key, _)| key.into_owned())
                    .collect();
                keys.sort();
                keys.dedup();
                keys
            }
            _ => Vec::new(),
        };
        match self {
            Self::Field(field) => of(*field),
            Self::Texts(texts) => texts.iter().map(|text| (*text).to_owned()).collect(),
            Self::Filtered(field, condition, _) => {
                let mut kept: Vec<String> = of(*field);
                kept.retain(|item| {
                    around.push(Worth::Text(item.clone()));
                    let holds = condition.holds(row, around);
                    around.pop();
                    holds
                });
                kept
            }
        }
    }
}

fn in_scope(terms: &[&Term], row: &Entry) -> bool {
    terms.iter().all(|term| term.in_scope(row))
}

/// Whether the entry is of a protocol that has the field.
fn owned(field: Field, row: &Entry) -> bool {
    let owners = field.info().protocols;
    owners.is_empty() || owners.iter().any(|owner| row.get(*owner) == Value::Bool(true))
}

fn compare(left: &Worth, op: &str, right: &Worth) -> bool {
    if *left == Worth::None || *right == Worth::None {
        return false;
    }
    match op {
        "==" => left == right,
        "!=" => left != right,
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        _ => left >= right,
    }
}

const TEXTS: &[&str] = &["", "a", "b", "ab", "shop", "é"];
const TEXT_FIELDS: &[Field] = &[
    Field::SrcPodName,
    Field::DstNamespace,
    Field::Path,
    Field::Method,
    Field::DnsResponseCode,
];
const NUMBER_FIELDS: &[Field] = &[
    Field::SrcPort,
    Field::Index,
    Field::StatusCode,
    Field::RequestBodySize,
];
const MAPS: &[Field] = &[Field::RequestHeaders, Field::LocalLabels];
const LISTS: &[Field] = &[
    Field::Namespaces,
    Field::DnsQuestions,
    Field::RequestHeaders,
    Field::LocalLabels,
];
const FLAGS: &[Field] = &[Field::Http, Field::Dns, Field::Outgoing];
const COMPARISONS: &[&str] = &["==", "!=", "<", "<=", ">", ">="];

/// Xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Most fields are recorded.
    fn row(&mut self) -> Entry {
        let mut row = Entry::default();
        match self.below(3) {
            0 => row = row.flag(Field::Http),
            1 => row = row.flag(Field::Dns),
            _ => {}
        }
        for field in TEXT_FIELDS {
            if self.below(4) > 0 {
                row = row.text(*field, self.of(TEXTS));
            }
        }
        for field in NUMBER_FIELDS {
            if self.below(4) > 0 {
                row = row.int(*field, self.below(5) as i64);
            }
        }
        for list in [Field::Namespaces, Field::DnsQuestions] {
            let texts: Vec<_> = (0..self.below(4)).map(|_| self.of(TEXTS)).collect();
            row = row.list(list, &texts);
        }
        for map in MAPS {
            for _ in 0..self.below(3) {
                row = row.in_map(*map, self.of(TEXTS), self.of(TEXTS));
            }
        }
        row
    }

    /// `loops` stand around it.
    fn condition(&mut self, depth: usize, loops: usize) -> Condition {
        let below = |random: &mut Self| Box::new(random.condition(depth - 1, loops));
        match self.below(if depth > 0 { 13 } else { 6 }) {
            0 => Condition::Flag(self.of(FLAGS)),
            1 => {
                let (map, key) = (self.of(MAPS), self.of(&TEXTS[..4]));
                Condition::HasKey(map, key)
            }
            2 => Condition::Wildcard(self.of(MAPS), self.of(COMPARISONS), self.of(TEXTS)),
            3 => Condition::Compare(
                self.number(depth, loops),
                self.of(COMPARISONS),
                self.number(depth, loops),
            ),
            4 => Condition::Compare(
                self.string(depth, loops),
                self.of(COMPARISONS),
                self.string(depth, loops),
            ),
            5 => {
                let list = (0..self.below(4)).map(|_| self.string(0, loops)).collect();
                Condition::OneOf(self.string(depth, loops), list)
            }
            6 => Condition::And(below(self), below(self)),
            7 => Condition::Or(below(self), below(self)),
            8 => Condition::Not(below(self)),
            9 => Condition::Choice(below(self), below(self), below(self)),
            10 => {
                let word = self.of(&["contains", "startsWith", "endsWith"]);
                Condition::Text(self.string(depth, loops), word, self.string(depth, loops))
            }
            // As deep as loops may be.
            _ if loops < 2 => {
                let over = match self.below(4) {
                    0 => List::Texts((0..self.below(4)).map(|_| self.of(TEXTS)).collect()),
                    1 => {
                        let condition = Box::new(self.condition(depth - 1, loops + 1));
                        List::Filtered(self.of(LISTS), condition, loops)
                    }
                    _ => List::Field(self.of(LISTS)),
                };
                let quantifier = self.of(&["exists", "all", "exists_one"]);
                let condition = Box::new(self.condition(depth - 1, loops + 1));
                Condition::Loop(quantifier, over, condition, loops)
            }
            _ => Condition::Flag(self.of(FLAGS)),
        }
    }

    /// A text. A constant is never on the left alone: what a filter may not say, for a constant decides nothing.
    fn string(&mut self, depth: usize, loops: usize) -> Term {
        match self.below(if depth > 0 { 8 } else { 5 }) {
            0 => Term::Text(self.of(TEXTS)),
            1 => Term::Entry(self.of(MAPS), self.of(TEXTS)),
            2 if loops > 0 => Term::Variable(self.below(loops)),
            5 | 6 => {
                let (one, other) = (self.string(depth - 1, loops), self.string(depth - 1, loops));
                Term::Joined(Box::new(one), Box::new(other))
            }
            7 => {
                let condition = Box::new(self.condition(depth - 1, loops));
                let (then, otherwise) = (self.string(depth - 1, loops), self.string(depth - 1, loops));
                Term::Choice(condition, Box::new(then), Box::new(otherwise))
            }
            _ => Term::Field(self.of(TEXT_FIELDS)),
        }
    }

    fn number(&mut self, depth: usize, loops: usize) -> Term {
        match self.below(if depth > 0 { 7 } else { 3 }) {
            0 => Term::Int(self.below(5) as i64),
            3 => Term::Size(Box::new(self.string(depth - 1, loops))),
            4 | 5 => {
                let (one, other) = (self.number(depth - 1, loops), self.number(depth - 1, loops));
                Term::Sum(Box::new(one), Box::new(other))
            }
            6 => {
                let condition = Box::new(self.condition(depth - 1, loops));
                let (then, otherwise) = (self.number(depth - 1, loops), self.number(depth - 1, loops));
                Term::Choice(condition, Box::new(then), Box::new(otherwise))
            }
            _ => Term::Field(self.of(NUMBER_FIELDS)),
        }
    }
}
