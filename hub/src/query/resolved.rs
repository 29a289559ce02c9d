//! Which names DNS gave to addresses, as the packets of a dissection tell.

use datafusion::logical_expr::{col, lit};
use wiretape_tape::Nanos;

use super::row::Row;
use super::{Database, QueryError};

/// Most names of one answer, the earliest first.
pub const MAX_RESOLVED: usize = 2000;

/// A name that DNS gave to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The name.
    pub name: String,
    /// The address.
    pub ip: String,
    /// When it was first answered.
    pub since: Nanos,
    /// Until when the answers lived.
    pub until: Nanos,
}

/// The names of an address, or of all; none in dissections that are older than this table.
///
/// # Errors
/// [`QueryError::Internal`] when the table cannot be read.
pub async fn resolved(db: &Database, ip: Option<&str>) -> Result<Vec<Resolved>, QueryError> {
    let Some(names) = db.names().await? else {
        return Ok(Vec::new());
    };
    let mut wanted = col("dns").not_eq(lit(""));
    if let Some(ip) = ip {
        wanted = wanted.and(col("addresses").eq(lit(ip)));
    }
    let order = ["since", "addresses", "dns"].map(|column| col(column).sort(true, false));
    let batches = names
        .filter(wanted)?
        .sort(order.into())?
        .limit(0, Some(MAX_RESOLVED))?
        .collect()
        .await?;
    let rows = Row::each(&batches).map(|row| Resolved {
        name: row.text("dns").to_owned(),
        ip: row.text("addresses").to_owned(),
        since: row.time("since").unwrap_or_default(),
        until: row.time("until").unwrap_or_default(),
    });
    Ok(rows.collect())
}
