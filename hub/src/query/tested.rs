//! Conditions that are a test of one text: those that can be decided where the text lies.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, LikeExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::calls::parts::Test;

/// The test that an expression makes of its only column. `None` for an expression that does something else.
pub(super) fn test_of(expr: &Arc<dyn PhysicalExpr>) -> Option<Test> {
    if let Some(both) = expr.downcast_ref::<BinaryExpr>() {
        let (column, text) = match *both.op() {
            Operator::Eq => (both.left(), both.right()),
            _ => return None,
        };
        return is_column(column).then(|| literal(text).map(Test::is)).flatten();
    }
    if let Some(like) = expr.downcast_ref::<LikeExpr>() {
        let plain = !like.negated() && !like.case_insensitive() && is_column(like.expr());
        return Some(Test::begins(&beginning(
            literal(like.pattern()).filter(|_| plain)?,
        )?));
    }
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    match (call.name(), call.args()) {
        ("contains", [column, text]) if is_column(column) => literal(text).map(Test::contains),
        _ => None,
    }
}

fn is_column(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Column>().is_some()
}

fn literal(expr: &Arc<dyn PhysicalExpr>) -> Option<&str> {
    match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) => text.as_deref(),
        _ => None,
    }
}

/// What a text begins with that is like a pattern which says nothing else: the engine makes such of `startsWith`.
fn beginning(pattern: &str) -> Option<String> {
    let mut begin = String::new();
    let mut rest = pattern.strip_suffix('%')?.chars();
    while let Some(sign) = rest.next() {
        begin.push(match sign {
            '%' | '_' => return None,
            '\\' => rest.next()?,
            sign => sign,
        });
    }
    Some(begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_tell_how_a_text_begins() {
        assert_eq!(beginning("00ab%").as_deref(), Some("00ab"));
        assert_eq!(beginning(r"a\%b\_\\c%").as_deref(), Some(r"a%b_\c"));
        for other in ["00ab", "a%b%", "a_%", r"a\%", "%%"] {
            assert_eq!(beginning(other), None, "{other}");
        }
    }
}
