//! How many pairs of rows a question makes. A join without a condition that its sides have in common compares each row of
//! one with each of the other, and the engine does not look up from that work: neither its time nor a client that goes
//! away ends it. So it must be small before it begins.

use std::collections::{HashMap, HashSet};

use datafusion::common::TableReference;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;

use crate::query::QueryError;

/// Most pairs of rows that one join may compare: more than a billion took over twenty seconds.
pub const MAX_PAIRS: u64 = 100_000_000;

/// How many rows the tables have.
pub(super) type Rows = HashMap<TableReference, u64>;

/// The tables of which a plan, optimised already, pairs rows.
pub(super) fn tables(plan: &LogicalPlan) -> Result<HashSet<TableReference>, QueryError> {
    let mut found = HashSet::new();
    products(plan, |product| {
        product.apply(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                found.insert(scan.table_name.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// Refuses a plan, optimised already, that pairs too many rows of these tables.
pub(super) fn check(plan: &LogicalPlan, tables: &Rows) -> Result<(), QueryError> {
    let mut most = 0;
    products(plan, |product| {
        most = most.max(rows(product, tables));
        Ok(TreeNodeRecursion::Continue)
    })?;
    if most > MAX_PAIRS {
        return Err(QueryError::BadRequest(format!(
            "the question compares each row with each other one, {most} pairs; more than {MAX_PAIRS} would take too long. \
             Join ON columns that are equal, or group first"
        )));
    }
    Ok(())
}

/// Goes to each join of a plan that has nothing in common.
fn products(
    plan: &LogicalPlan,
    mut see: impl FnMut(&LogicalPlan) -> Result<TreeNodeRecursion, DataFusionError>,
) -> Result<(), QueryError> {
    let walked = plan.apply_with_subqueries(|node| {
        if is_product(node) {
            see(node)?;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(|error| QueryError::Internal(error.to_string()))?;
    Ok(())
}

fn is_product(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if join.on.is_empty())
}

/// Rows that come out at most, roughly: a table's own, where the plan does not say.
fn rows(plan: &LogicalPlan, tables: &Rows) -> u64 {
    let inputs = plan.inputs();
    let each = inputs.iter().map(|input| rows(input, tables));
    let all = if is_product(plan) {
        each.fold(1, u64::saturating_mul)
    } else if let LogicalPlan::TableScan(scan) = plan {
        // Of one that nobody has counted, there may be any number.
        tables.get(&scan.table_name).copied().unwrap_or(u64::MAX)
    } else if inputs.is_empty() {
        u64::MAX
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
        assert_eq!(tables(&product).unwrap(), ["a", "b"].map(Into::into).into());
        let side = MAX_PAIRS.isqrt();
        assert_eq!(side * side, MAX_PAIRS);
        let sized = |a: u64, b: u64| Rows::from([("a".into(), a), ("b".into(), b)]);
        assert!(check(&product, &sized(side, side)).is_ok());
        assert!(check(&product, &sized(side, side + 1)).is_err());
        assert!(check(&product, &sized(0, MAX_PAIRS + 1)).is_ok());
        assert!(check(&product, &Rows::from([("a".into(), 2)])).is_err());
    }
}
