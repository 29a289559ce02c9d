//! `limit(n)` and `redact(..)`: KFL1 says with a filter what the answer is to look like.

use super::Checker;
use super::values::{key_of, unknown_field};
use crate::error::Problem;
use crate::expr::{Filter, Redaction};
use crate::fields::Field;
use crate::names::{self, Meaning};
use crate::syntax::{Node, NodeKind};

impl Checker {
    /// Takes `limit(n)` and `redact(..)`, which are no conditions and stand at the top only.
    pub(super) fn directive(&mut self, node: &Node, filter: &mut Filter) -> Result<bool, Problem> {
        let NodeKind::Call {
            subject: None,
            name,
            arguments,
        } = &node.kind
        else {
            return Ok(false);
        };
        match name.as_str() {
            "limit" => {
                let limit = match arguments.as_slice() {
                    [
                        Node {
                            kind: NodeKind::Int(limit),
                            ..
                        },
                    ] => u64::try_from(*limit).ok(),
                    _ => None,
                };
                let limit = limit.filter(|limit| *limit > 0).ok_or_else(|| {
                    Problem::new(node.span, "`limit` takes one whole number above 0")
                        .hint("for example `limit(100)`")
                })?;
                // Both hold: the lower one.
                filter.limit = Some(filter.limit.map_or(limit, |other| other.min(limit)));
            }
            "redact" => {
                if arguments.is_empty() {
                    return Err(
                        Problem::new(node.span, "`redact` takes the names of fields in quotes")
                            .hint("for example `redact(\"request.headers.authorization\")`"),
                    );
                }
                for argument in arguments {
                    let redaction = redaction(argument)?;
                    if !filter.redactions.contains(&redaction) {
                        filter.redactions.push(redaction);
                    }
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// What `redact("..")` names.
fn redaction(argument: &Node) -> Result<Redaction, Problem> {
    let NodeKind::Text(name) = &argument.kind else {
        return Err(Problem::new(
            argument.span,
            "expected the name of a field in quotes",
        ));
    };
    match names::look_up(name) {
        Some(Meaning::Field(field)) => Ok(Redaction::Field(field)),
        Some(Meaning::Latency) => Ok(Redaction::Field(Field::ElapsedTime)),
        Some(Meaning::Entry(map, key)) => Ok(Redaction::Entry {
            map,
            key: key_of(map, &key),
        }),
        Some(Meaning::Macro(_)) | None => Err(unknown_field(name, argument.span)),
    }
}
