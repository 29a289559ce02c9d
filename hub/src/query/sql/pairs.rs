//! How many pairs of rows a question makes. A join without a condition that its sides have in common compares each row of
//! one with each of the other, and the engine does not look up from that work: neither its time nor a client that goes
//! away ends it. So it must be small before it begins.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;

use crate::query::QueryError;

/// Most pairs of rows that one join may compare: more than a billion took over twenty seconds.
pub const MAX_PAIRS: u64 = 100_000_000;

/// Refuses a plan, optimised already, that pairs too many rows, if a table has so many.
pub(super) fn check(plan: &LogicalPlan, table: u64) -> Result<(), QueryError> {
    let mut most = 0;
    let walked = plan.apply_with_subqueries(|node| {
        if is_product(node) {
            most = most.max(rows(node, table));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(|error| QueryError::Internal(error.to_string()))?;
    if most > MAX_PAIRS {
        return Err(QueryError::BadRequest(format!(
            "the question compares each row with each other one, {most} pairs; more than {MAX_PAIRS} would take too long. \
             Join ON columns that are equal, or group first"
        )));
    }
    Ok(())
}

fn is_product(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if join.on.is_empty())
}

/// Rows that come out at most, roughly: a table's own, where the plan does not say.
fn rows(plan: &LogicalPlan, table: u64) -> u64 {
    let inputs = plan.inputs();
    let each = inputs.iter().map(|input| rows(input, table));
    let all = if is_product(plan) {
        each.fold(1, u64::saturating_mul)
    } else if inputs.is_empty() {
        table
    } else {
        each.fold(0, u64::saturating_add)
    };
    let said = plan.max_rows().and_then(|rows| u64::try_from(rows).ok());
    said.map_or(all, |said| said.min(all))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::logical_expr::table_scan;

    use super::*;

    #[test]
    fn as_many_pairs_as_there_may_be() {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        let scan = |name| table_scan(Some(name), &schema, None).unwrap();
        let other = scan("b").build().unwrap();
        let product = scan("a").cross_join(other).unwrap().build().unwrap();
        let side = MAX_PAIRS.isqrt();
        assert_eq!(side * side, MAX_PAIRS);
        assert!(check(&product, side).is_ok());
        assert!(check(&product, side + 1).is_err());
    }
}
