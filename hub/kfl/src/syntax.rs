//! The syntax tree: what was written, before names and types mean anything.

mod print;

pub(crate) use print::quoted;

use std::fmt;

use crate::error::Span;

/// One expression and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub kind: NodeKind,
    pub span: Span,
    /// Levels of the tree below and including this.
    pub depth: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NodeKind {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    /// `r"..."`.
    Regex(String),
    /// `nil`, `null`.
    Null,
    /// `[a, b]`.
    List(Vec<Node>),
    /// `{"a": b}`.
    Map(Vec<(Node, Node)>),
    /// `src.pod.name`: a field, a map's entry, a macro; not looked up yet.
    Name(String),
    /// `of["key"]`, `of[1]`.
    Entry {
        of: Box<Node>,
        key: Box<Node>,
    },
    /// `of.name`, where `of` is no name itself.
    Member {
        of: Box<Node>,
        name: String,
    },
    /// `of.*`: everything directly in it.
    Each(Box<Node>),
    /// `subject.name(arguments)`, or `name(arguments)`.
    Call {
        subject: Option<Box<Node>>,
        name: String,
        arguments: Vec<Node>,
    },
    Negative(Box<Node>),
    Not(Box<Node>),
    Binary {
        operator: Operator,
        left: Box<Node>,
        right: Box<Node>,
    },
    And(Vec<Node>),
    Or(Vec<Node>),
    /// `condition ? then : otherwise`.
    Choice {
        condition: Box<Node>,
        then: Box<Node>,
        otherwise: Box<Node>,
    },
}

/// Operators between two operands. The words (`contains` ..) are methods in another place, and become calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl NodeKind {
    /// The nodes directly below, in the order of the text.
    pub fn children(&self) -> Vec<&Node> {
        match self {
            Self::Int(_) | Self::Float(_) | Self::Bool(_) | Self::Text(_) | Self::Regex(_) => Vec::new(),
            Self::Null | Self::Name(_) => Vec::new(),
            Self::List(nodes) | Self::And(nodes) | Self::Or(nodes) => nodes.iter().collect(),
            Self::Map(entries) => entries.iter().flat_map(|(key, value)| [key, value]).collect(),
            Self::Entry { of, key } => vec![of, key],
            Self::Call {
                subject, arguments, ..
            } => subject
                .iter()
                .map(|subject| &**subject)
                .chain(arguments)
                .collect(),
            Self::Member { of: node, .. } | Self::Each(node) => vec![node],
            Self::Negative(node) | Self::Not(node) => vec![node],
            Self::Binary { left, right, .. } => vec![left, right],
            Self::Choice {
                condition,
                then,
                otherwise,
            } => vec![condition, then, otherwise],
        }
    }

    /// The deepest node directly below.
    pub fn depth_below(&self) -> usize {
        self.children().iter().map(|node| node.depth).max().unwrap_or(0)
    }
}
