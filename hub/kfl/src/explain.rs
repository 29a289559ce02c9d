//! How a filter was read: for people who wonder what theirs means.

use std::fmt::{self, Display, Formatter};

use crate::Nanos;
use crate::check;
use crate::error::KflError;
use crate::expr::{Expr, Filter};
use crate::fields::{Field, Kind};
use crate::names::{self, Meaning};
use crate::parser;
use crate::syntax::{Node, NodeKind};

/// How a filter was read. Its [`Display`] is made for a terminal.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The same in KFL2's signs, with names as they were written.
    pub written: String,
    /// What it was compiled to. Its fields tell a store which columns it takes.
    pub filter: Filter,
    /// Its conditions as a tree, from the top.
    pub conditions: Vec<Condition>,
    /// The names in it, in the order of the text, each once.
    pub names: Vec<Name>,
}

/// A line of the tree of conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// How many lines it stands under.
    pub depth: usize,
    /// The condition, or `all of`, `any of`, `not` for those that follow one level deeper.
    pub text: String,
    /// Flags of the protocols outside of which it is false; empty when it is about every entry.
    pub protocols: Vec<Field>,
    /// It has loops, choices or documents, and is run entry by entry.
    pub computed: bool,
}

/// A name that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As in the filter.
    pub written: String,
    /// What it stands for, in KFL2's spelling.
    pub meaning: String,
    /// What it holds, as in the user's documentation.
    pub holds: &'static str,
    /// One sentence about it.
    pub doc: &'static str,
}

/// Explains a filter.
///
/// # Errors
/// As [`compile`](crate::compile).
pub fn explain(text: &str, now: Nanos) -> Result<Explanation, KflError> {
    let error = |problem| KflError::new(text, problem);
    let Some(node) = parser::parse(text).map_err(error)? else {
        return Ok(Explanation {
            written: String::new(),
            filter: Filter::default(),
            conditions: Vec::new(),
            names: Vec::new(),
        });
    };
    let filter = check::check(&node, now).map_err(error)?;
    let mut conditions = Vec::new();
    if let Some(expr) = &filter.expr {
        add_condition(expr, 0, &mut conditions);
    }
    let mut names = Vec::new();
    add_names(&node, &mut names);
    Ok(Explanation {
        written: node.to_string(),
        filter,
        conditions,
        names,
    })
}

fn add_condition(expr: &Expr, depth: usize, to: &mut Vec<Condition>) {
    let mut add = |text: String, protocols, computed| {
        to.push(Condition {
            depth,
            text,
            protocols,
            computed,
        });
    };
    match expr {
        Expr::And(all) | Expr::Or(all) => {
            let text = if matches!(expr, Expr::And(_)) {
                "all of"
            } else {
                "any of"
            };
            add(text.to_owned(), Vec::new(), false);
            all.iter().for_each(|expr| add_condition(expr, depth + 1, to));
        }
        Expr::Not(expr) => {
            add("not".to_owned(), Vec::new(), false);
            add_condition(expr, depth + 1, to);
        }
        expr => {
            let (mut innermost, mut flags) = (expr, Vec::new());
            while let Expr::Within { protocols, expr } = innermost {
                flags.extend(protocols.iter().copied());
                innermost = expr;
            }
            add(
                innermost.to_string(),
                flags,
                matches!(innermost, Expr::Computed(computed) if computed.texts().is_none()),
            );
        }
    }
}

fn add_names(node: &Node, to: &mut Vec<Name>) {
    let found = match &node.kind {
        NodeKind::Name(name) => look_up(name),
        NodeKind::Each(of) => match &of.kind {
            NodeKind::Name(name) => wildcard(name).or_else(|| look_up(name)),
            _ => None,
        },
        _ => None,
    };
    if let Some(name) = found {
        if !to.contains(&name) {
            to.push(name);
        }
        return;
    }
    for child in node.kind.children() {
        add_names(child, to);
    }
}

/// `None` for names that loops bring along.
fn look_up(written: &str) -> Option<Name> {
    let field = |field: Field, meaning: String, kind: Kind| Name {
        written: written.to_owned(),
        meaning,
        holds: kind.as_str(),
        doc: field.info().doc,
    };
    Some(match names::look_up(written)? {
        Meaning::Field(of) => field(of, of.name().to_owned(), of.kind()),
        Meaning::Entry(map, key) => field(map, format!("{}[\"{key}\"]", map.name()), Kind::Text),
        Meaning::Latency => {
            let of = Field::ElapsedTime;
            field(of, format!("{} / 1000", of.name()), Kind::Float)
        }
        Meaning::Macro(filter) => Name {
            written: written.to_owned(),
            meaning: filter.to_owned(),
            holds: Kind::Bool.as_str(),
            doc: names::MACROS
                .iter()
                .find(|found| found.name == written)
                .map_or("", |found| found.doc),
        },
    })
}

/// `src.*`
fn wildcard(name: &str) -> Option<Name> {
    if matches!(names::look_up(name), Some(Meaning::Field(field)) if matches!(field.kind(), Kind::List | Kind::Map))
    {
        return None;
    }
    let fields = names::directly_below(name);
    let meaning: Vec<_> = fields.iter().map(|field| field.name()).collect();
    (!fields.is_empty()).then(|| Name {
        written: format!("{name}.*"),
        meaning: meaning.join(", "),
        holds: "any of these fields",
        doc: "",
    })
}

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.conditions.is_empty() {
            writeln!(f, "It matches everything.")?;
        } else {
            writeln!(f, "It is read as\n  {}\n\nand matches what is", self.filter)?;
        }
        for line in &self.conditions {
            write!(f, "{:1$}{2}", "", 2 + 2 * line.depth, line.text)?;
            if !line.protocols.is_empty() {
                let flags: Vec<_> = line.protocols.iter().map(|flag| flag.name()).collect();
                write!(f, "   (of {} only)", flags.join(", "))?;
            }
            if line.computed {
                f.write_str("   (run entry by entry)")?;
            }
            writeln!(f)?;
        }
        if !self.names.is_empty() {
            writeln!(f, "\nNames in it")?;
            let width = |of: fn(&Name) -> &str| self.names.iter().map(|name| of(name).chars().count()).max();
            let written = width(|name| &name.written).unwrap_or(0);
            let meaning = width(|name| &name.meaning).unwrap_or(0);
            let holds = width(|name| name.holds).unwrap_or(0);
            for name in &self.names {
                let line = format!(
                    "  {:written$}   {:meaning$}   {:holds$}   {}",
                    name.written, name.meaning, name.holds, name.doc
                );
                writeln!(f, "{}", line.trim_end())?;
            }
        }
        if let Some(limit) = self.filter.limit {
            writeln!(f, "\nAn answer holds at most {limit} entries.")?;
        }
        if !self.filter.redactions.is_empty() {
            let hidden: Vec<_> = self.filter.redactions.iter().map(ToString::to_string).collect();
            writeln!(f, "\nAn answer does not show {}.", hidden.join(", "))?;
        }
        Ok(())
    }
}
