//! What a filter takes of the table, told before it is run.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::prelude::SessionContext;
use wiretape_kfl::Filter;

use super::{GaveUp, bodies, check, translate};
use crate::calls::{connections, schema};
use crate::query::QueryError;
use crate::query::entries::Asked;

/// What running a filter takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The columns that it reads.
    pub columns: Vec<String>,
    /// Of these, those whose statistics tell which row groups need not be read.
    pub prunes: Vec<String>,
    /// It reads bodies from the segments.
    pub bodies: bool,
    /// It is about connections or flows, too.
    pub connections: bool,
}

/// What a filter takes of a dissection.
///
/// # Errors
/// More than [`MAX_CONDITIONS`](super::MAX_CONDITIONS).
pub fn plan(filter: &Filter) -> Result<Plan, QueryError> {
    let connections = !Asked::by(filter).is_calls();
    let Some(expr) = &filter.expr else {
        return Ok(Plan::default());
    };
    check(expr)?;
    let condition = translate(expr, false, &GaveUp::default());
    let columns: BTreeSet<String> = condition
        .column_refs()
        .iter()
        .map(|column| column.name().to_owned())
        .filter(|name| !bodies::is_column(name))
        .collect();
    let mut prunes = BTreeSet::new();
    // Connections and flows are put beside calls before they are filtered, and none is left out by statistics.
    if !connections {
        for part in split_conjunction(&condition) {
            prunes.extend(pruned_by(part)?);
        }
    }
    Ok(Plan {
        columns: columns.into_iter().collect(),
        prunes: prunes.into_iter().collect(),
        bodies: bodies::asks(filter),
        connections,
    })
}

/// The columns whose statistics can tell that a condition holds for no row of a row group; none if one of those that it
/// takes has no statistics.
fn pruned_by(condition: &Expr) -> Result<Vec<String>, QueryError> {
    let told = |name: &str| {
        schema::COLUMNS
            .iter()
            .any(|column| column.name == name && column.has_statistics())
    };
    let columns: Vec<String> = condition
        .column_refs()
        .iter()
        .map(|column| column.name().to_owned())
        .collect();
    if columns.is_empty() || !columns.iter().all(|name| told(name)) {
        return Ok(Vec::new());
    }
    let schema = schema::reading_schema();
    let physical = SessionContext::new()
        .create_physical_expr(condition.clone(), &DFSchema::try_from(Arc::clone(&schema))?)?;
    let prunes = PruningPredicateBuilder::new()
        .with_file_schema(schema)
        .build(physical);
    Ok(if prunes.is_some() { columns } else { Vec::new() })
}

/// What columns of calls and of connections mean.
pub fn meaning(column: &str) -> &'static str {
    let all = schema::COLUMNS.iter().chain(connections::COLUMNS.iter());
    all.into_iter()
        .find(|known| known.name == column)
        .map_or("", |known| known.doc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(kfl: &str) -> Plan {
        plan(&wiretape_kfl::compile(kfl, 1_700_000_000_000_000_000).unwrap()).unwrap()
    }

    #[test]
    fn columns_that_are_read_and_those_that_skip() {
        let told = planned(
            "dst.svc == \"cart\" and response.status >= 500 and timestamp > now() - duration(\"5m\")",
        );
        assert_eq!(told.columns, ["dst_service", "protocol", "status", "ts"]);
        assert_eq!(told.prunes, ["status", "ts"]);
        assert_eq!(planned("path == \"/cart\"").prunes, ["path"]);
        // What is asked of the inside of a text, or under an `or` beside something else, skips nothing.
        assert!(planned("path contains \"/cart\"").prunes.is_empty());
        assert!(
            planned("path == \"/cart\" or src.pod == \"web\"")
                .prunes
                .is_empty()
        );
    }

    #[test]
    fn bodies_and_connections_are_told() {
        let told = planned("request.body contains \"x\" and path == \"/cart\"");
        assert_eq!(
            (told.bodies, told.columns),
            (true, vec!["path".to_owned(), "protocol".to_owned()])
        );
        assert_eq!(told.prunes, ["path"]);
        let told = planned("tcp_conn and src.port == 80");
        assert!(told.connections && told.prunes.is_empty());
        assert_eq!(planned(""), Plan::default());
    }
}
