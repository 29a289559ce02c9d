//! The syntax tree: what was written, before names and types mean anything.

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
    /// `src.pod.name`: a field, a map's entry, a macro; not looked up yet.
    Name(String),
    /// `map["key"]`.
    Entry {
        map: Box<Node>,
        key: String,
    },
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
    /// The deepest node directly below.
    pub fn depth_below(&self) -> usize {
        let deepest = |nodes: &[Node]| nodes.iter().map(|node| node.depth).max().unwrap_or(0);
        match self {
            Self::Int(_) | Self::Float(_) | Self::Bool(_) | Self::Text(_) | Self::Regex(_) => 0,
            Self::Null | Self::Name(_) => 0,
            Self::List(nodes) | Self::And(nodes) | Self::Or(nodes) => deepest(nodes),
            Self::Entry { map, .. } => map.depth,
            Self::Call {
                subject, arguments, ..
            } => deepest(arguments).max(subject.as_ref().map_or(0, |subject| subject.depth)),
            Self::Negative(node) | Self::Not(node) => node.depth,
            Self::Binary { left, right, .. } => left.depth.max(right.depth),
        }
    }
}
