//! Conditions put together, and kept within the protocols that their fields belong to.

use crate::expr::Expr;
use crate::fields::Field;
use crate::term::{Computed, Reach, Test};

/// A computed condition, within the protocols that own its fields.
pub(super) fn computed(test: Test) -> Expr {
    within(Expr::Computed(Box::new(Computed { test })))
}

pub(super) fn not(expr: Expr) -> Expr {
    Expr::Not(Box::new(expr))
}

/// All of them, `and`s among them resolved into this one.
pub(super) fn and(all: Vec<Expr>) -> Expr {
    let flat = all.into_iter().flat_map(|expr| match expr {
        Expr::And(inner) => inner,
        expr => vec![expr],
    });
    joined(flat.collect(), Expr::And).unwrap_or(Expr::Always(true))
}

/// Any of them, `or`s among them resolved into this one.
pub(super) fn or(all: Vec<Expr>) -> Expr {
    let flat = all.into_iter().flat_map(|expr| match expr {
        Expr::Or(inner) => inner,
        expr => vec![expr],
    });
    joined(flat.collect(), Expr::Or).unwrap_or(Expr::Always(false))
}

/// `None` when there are none.
fn joined(mut all: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Option<Expr> {
    let last = all.pop()?;
    if all.is_empty() {
        return Some(last);
    }
    all.push(last);
    Some(join(all))
}

/// Any of these flags is set.
pub(super) fn any(flags: &[Field]) -> Expr {
    or(flags.iter().map(|flag| Expr::Truth(*flag)).collect())
}

/// The owners of the fields in a condition; each set once.
fn owners(expr: &Expr) -> Vec<&'static [Field]> {
    let mut owners = Vec::new();
    let mut visit = |field: Field| {
        let protocols = field.info().protocols;
        if !protocols.is_empty() && !owners.contains(&protocols) {
            owners.push(protocols);
        }
    };
    let expr = innermost(expr);
    match expr {
        Expr::Computed(computed) => computed.each_field(Reach::Values, &mut visit),
        expr => expr.each_field(&mut visit),
    }
    owners
}

/// A condition without what scopes it.
pub(super) fn innermost(expr: &Expr) -> &Expr {
    match expr {
        Expr::Within { expr, .. } => innermost(expr),
        expr => expr,
    }
}

/// Scopes a single condition to the protocols that own its fields.
pub(super) fn within(expr: Expr) -> Expr {
    let owners = owners(&expr);
    owners.into_iter().fold(expr, |expr, protocols| Expr::Within {
        protocols,
        expr: Box::new(expr),
    })
}

/// The opposite of a condition that stands within its protocols, and still false in others.
pub(super) fn not_within(expr: Expr) -> Expr {
    let mut all: Vec<_> = owners(&expr).into_iter().map(any).collect();
    all.push(not(expr));
    and(all)
}
