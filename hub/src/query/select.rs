//! Which columns of calls an answer shows, and by what it counts them.

use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, col, lit};
use serde_json::{Value, json};

use super::entries::{self, Asked};
use super::fields::first_known;
use super::nearest::nearest;
use super::redaction::Hidden;
use super::row::Row;
use super::{Database, QueryError};
use crate::calls::schema::{COLUMNS, Column};

/// Most groups that an answer counts calls by; the largest.
const MAX_GROUPS: usize = 1000;

/// By what a list of calls is counted (contract, section 1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallsGroup {
    /// The node that recorded the call.
    Node,
    /// The server's namespace, or the client's where that is not known.
    Namespace,
    /// Who recorded it; here that is the node.
    Worker,
}

impl CallsGroup {
    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Namespace => "ns",
            Self::Worker => "worker",
        }
    }

    fn expr(self) -> Expr {
        match self {
            Self::Node | Self::Worker => col("node"),
            Self::Namespace => first_known(&["dst_namespace", "src_namespace"]),
        }
    }

    /// How many entries that meet a condition are in each group, the largest first.
    pub(super) async fn counted(
        self,
        db: &Database,
        asked: Asked,
        condition: Option<Expr>,
        hidden: &Hidden,
    ) -> Result<Vec<Value>, QueryError> {
        if hidden.tells(&self.expr()) {
            return Err(QueryError::BadRequest(format!(
                "calls cannot be counted by {}, which the filter's redact(..) hides",
                self.name()
            )));
        }
        let mut table = entries::table(db, asked).await?;
        if let Some(condition) = condition {
            table = table.filter(condition)?;
        }
        let batches = table
            .aggregate(vec![self.expr().alias("key")], vec![count(lit(1_i64)).alias("n")])?
            .sort(vec![col("n").sort(false, false), col("key").sort(true, false)])?
            .limit(0, Some(MAX_GROUPS))?
            .collect()
            .await?;
        let groups =
            Row::each(&batches).map(|row| json!({ self.name(): row.text("key"), "total": row.int("n") }));
        Ok(groups.collect())
    }
}

/// The columns of these names, each once.
///
/// # Errors
/// [`QueryError::BadRequest`] for a name that is none, with the nearest.
pub fn columns_named(names: &[String]) -> Result<Vec<&'static Column>, QueryError> {
    let mut columns: Vec<&'static Column> = Vec::new();
    // The id is in every call of an answer.
    for name in names.iter().filter(|name| *name != "id") {
        let Some(column) = COLUMNS.iter().find(|column| column.name == name) else {
            let meant = nearest(name, COLUMNS.iter().map(|column| column.name))
                .map_or_else(|| ";".to_owned(), |name| format!("; did you mean \"{name}\"?"));
            return Err(QueryError::BadRequest(format!(
                "`fields`: there is no column \"{}\"{meant} describe_schema (GET /mcp/schema) lists all",
                crate::snapshots::shown(name)
            )));
        };
        if !columns.iter().any(|known| known.name == column.name) {
            columns.push(column);
        }
    }
    Ok(columns)
}
