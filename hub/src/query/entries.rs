//! Entries beside calls: connections and flows, as rows like those of calls, so that one filter asks for all of them.
//!
//! A connection is a row of its own table. A flow is no row of any: it is what its connections add up to.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::{coalesce, concat, nullif};
use datafusion::functions_aggregate::expr_fn::{avg, bit_or, bool_or, count, max, min, sum};
use datafusion::functions_aggregate::string_agg::string_agg_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::{Expr, cast, col, lit, when};
use datafusion::prelude::DataFrame;
use wiretape_kfl::{Field, Filter};

use super::{Database, QueryError, connection, functions};
use crate::calls::connections::{self, COLUMNS as CONNECTIONS};
use crate::calls::schema::{self, COLUMNS as CALLS, Column, Kind};

/// Which entries beside calls a filter speaks of. What it does not name, it does not get: who asks for what a service was
/// called does not mean its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    connections: bool,
    flows: bool,
}

/// The ordinal of a connection among the calls of itself, and of a flow: what tells their ids from those of calls.
pub(super) const CONNECTION: i32 = -1;
/// See [`CONNECTION`].
pub(super) const FLOW: i32 = -2;

impl Asked {
    /// What a filter names, by a flag or by a field that only these entries have.
    pub(super) fn by(filter: &Filter) -> Self {
        let mut asked = Self::default();
        for field in filter.fields() {
            let of = |flag: Field| field == flag || field.info().protocols.contains(&flag);
            asked.connections |=
                of(Field::Conn) || of(Field::TcpConn) || of(Field::UdpConn) || of(Field::Sctp);
            asked.flows |= of(Field::Flow) || of(Field::TcpFlow) || of(Field::UdpFlow);
        }
        asked
    }

    /// Those of which an id's ordinal speaks.
    pub(super) fn by_index(index: i32) -> Self {
        Self {
            connections: index == CONNECTION,
            flows: index == FLOW,
        }
    }

    /// Whether it speaks of flows.
    pub(super) fn is_of_flows(self) -> bool {
        self.flows
    }

    /// Whether it is only for calls.
    pub(super) fn is_calls(self) -> bool {
        self == Self::default()
    }
}

/// The table that is asked: calls, and beside them what the filter names.
pub(super) async fn table(db: &Database, asked: Asked) -> Result<DataFrame, QueryError> {
    let calls = db.table().await?;
    if asked.is_calls() {
        return Ok(calls);
    }
    let connections = stored(db).await?;
    let call = |column: &Column| {
        let known = CALLS.iter().any(|call| call.name == column.name);
        known.then(|| col(column.name))
    };
    let mut all = calls.select(row(call))?;
    if asked.connections {
        all = all.union(connections.clone().select(row(connection))?)?;
    }
    if asked.flows {
        all = all.union(flow_rows(connections)?)?;
    }
    Ok(all)
}

/// Connections alone, as rows like those of calls.
pub(super) async fn connections(db: &Database) -> Result<DataFrame, QueryError> {
    Ok(stored(db).await?.select(row(connection))?)
}

/// The flows that connections add up to, as rows like those of calls.
pub(super) fn flow_rows(connections: DataFrame) -> Result<DataFrame, QueryError> {
    Ok(flows(connections)?.select(row(flow))?)
}

/// The table of connections as it is.
async fn stored(db: &Database) -> Result<DataFrame, QueryError> {
    db.connections().await?.ok_or_else(|| {
        QueryError::NotFound(
            "this dissection is older than the table of connections; dissect the snapshot again".to_owned(),
        )
    })
}

/// Columns of all kinds of entries: those of calls, then those that only connections have.
pub(super) fn columns() -> impl Iterator<Item = &'static Column> {
    CALLS.iter().chain(own())
}

/// Columns that calls have not.
pub(super) fn own() -> impl Iterator<Item = &'static Column> {
    let known = |column: &&Column| CALLS.iter().all(|call| call.name != column.name);
    CONNECTIONS.iter().filter(known)
}

/// One entry: each column from `value`, or as if nothing was recorded.
fn row(value: impl Fn(&Column) -> Option<Expr>) -> Vec<Expr> {
    let of = |column: &Column| {
        value(column)
            .unwrap_or_else(|| nothing(column))
            .alias(column.name)
    };
    columns().map(of).collect()
}

fn connection(column: &Column) -> Option<Expr> {
    match column.name {
        "protocol" => Some(concat(vec![col("transport"), lit("_conn")])),
        "index" => Some(lit(CONNECTION)),
        name => CONNECTIONS.iter().any(|own| own.name == name).then(|| col(name)),
    }
}

fn flow(column: &Column) -> Option<Expr> {
    match column.name {
        "protocol" => Some(concat(vec![col("transport"), lit("_flow")])),
        "index" => Some(lit(FLOW)),
        "stream" => Some(cast(col("flow_id"), DataType::UInt64)),
        "flow_id" | "transport" => Some(col(column.name)),
        "state" => Some(
            when(col("open"), lit("established"))
                .when(col("in_progress"), lit("closing"))
                .otherwise(lit("closed"))
                .unwrap_or_else(|_| lit("")),
        ),
        name => match Fold::of(column)? {
            Fold::Weighted(samples) => Some(cast(
                col(name) / nullif(col(samples), lit(0_i64)),
                DataType::Int64,
            )),
            Fold::Mean => Some(cast(col(name), DataType::Int64)),
            // It comes as long text, and not at all where there is none.
            Fold::Distinct => Some(coalesce(vec![cast(col(name), DataType::Utf8View), lit("")])),
            Fold::Sum | Fold::Least | Fold::Greatest | Fold::Or => Some(col(name)),
        },
    }
}

/// Texts that tell of a flow's ends, which its connections agree on; where they do not, the greatest.
const AGREED: &[&str] = &[
    "node",
    "side",
    "src_ip",
    "src_pod",
    "src_namespace",
    "src_service",
    "src_node",
    "src_process",
    "src_owner_kind",
    "src_owner",
    "src_resolution",
    "src_dns",
    "src_dns_source",
    "dst_ip",
    "dst_port",
    "dst_pod",
    "dst_namespace",
    "dst_service",
    "dst_node",
    "dst_process",
    "dst_owner_kind",
    "dst_owner",
    "dst_resolution",
    "dst_dns",
    "dst_dns_source",
];

/// How a column of connections is put together for a flow.
#[derive(Clone, Debug)]
enum Fold {
    Sum,
    Least,
    Greatest,
    /// Bits of any.
    Or,
    /// Each text once.
    Distinct,
    Mean,
    /// The mean, by the number of samples in a column.
    Weighted(String),
}

impl Fold {
    /// `None` for what is of single connections: numbers and names of one, labels, the client's port.
    fn of(column: &Column) -> Option<Self> {
        let name = column.name;
        if AGREED.contains(&name) {
            return Some(Self::Greatest);
        }
        match name {
            "ts" => return Some(Self::Least),
            "last_ts" => return Some(Self::Greatest),
            "calls" => return Some(Self::Sum),
            "completeness" => return Some(Self::Or),
            "l7" => return Some(Self::Distinct),
            "initial_rtt_us" | "handshake_us" | "handshake_at_server_us" | "first_byte_us" => {
                return Some(Self::Mean);
            }
            _ => {}
        }
        let end = ["client_", "server_"]
            .into_iter()
            .find(|end| name.starts_with(end))?;
        match name.strip_prefix(end)? {
            "by" => None,
            _ if CALLS.iter().any(|call| call.name == name) => None,
            "rtt_min_us" => Some(Self::Least),
            "rtt_max_us" | "window_scale" => Some(Self::Greatest),
            "rtt_avg_us" | "rtt_dev_us" => Some(Self::Weighted(format!("{end}rtt_samples"))),
            "avg_window" => Some(Self::Mean),
            _ => Some(Self::Sum),
        }
    }

    fn aggregate(&self, name: &str) -> Expr {
        match self {
            Self::Sum => sum(col(name)),
            Self::Least => min(col(name)),
            Self::Greatest => max(col(name)),
            Self::Or => bit_or(col(name)),
            Self::Distinct => distinct(name),
            Self::Mean => avg(col(name)),
            Self::Weighted(samples) => sum(cast(col(name) * col(samples), DataType::Float64)),
        }
    }
}

/// The columns of flows: those of connections that are of no single one, and how many connections there are.
pub(super) fn flow_columns() -> impl Iterator<Item = &'static Column> {
    let told =
        |column: &&Column| flow(column).is_some() && !["stream", "protocol", "index"].contains(&column.name);
    CONNECTIONS.iter().filter(told)
}

/// How many connections a flow has.
pub(super) const OF_FLOW: &str = "connections";

/// Flows as a table of their own.
pub(super) fn flow_table(connections: DataFrame) -> Result<DataFrame, QueryError> {
    let columns = flow_columns().filter_map(|column| Some(flow(column)?.alias(column.name)));
    let columns: Vec<Expr> = columns.chain([col(OF_FLOW)]).collect();
    Ok(flows(connections)?.select(columns)?)
}

/// Connections added up by flow.
fn flows(connections: DataFrame) -> Result<DataFrame, QueryError> {
    let state_in = |states: &[&str]| {
        let states = states.iter().map(|state| lit(*state)).collect();
        col("state").in_list(states, false)
    };
    let mut folds = vec![
        bool_or(state_in(&connection::OPEN)).alias("open"),
        bool_or(state_in(&connection::IN_PROGRESS)).alias("in_progress"),
        count(lit(1_i64)).alias(OF_FLOW),
    ];
    for column in CONNECTIONS.iter() {
        if let Some(fold) = Fold::of(column) {
            folds.push(fold.aggregate(column.name).alias(column.name));
        }
    }
    Ok(connections.aggregate(vec![col("flow_id"), col("transport")], folds)?)
}

/// The different texts of a column, `, ` between.
fn distinct(column: &str) -> Expr {
    let some = col(column).not_eq(lit(""));
    Expr::AggregateFunction(AggregateFunction {
        func: string_agg_udaf(),
        params: AggregateFunctionParams {
            args: vec![cast(col(column), DataType::Utf8), lit(", ")],
            distinct: true,
            filter: Some(Box::new(some)),
            order_by: Vec::new(),
            null_treatment: None,
        },
    })
}

/// What stands in a column of an entry that has no such thing.
fn nothing(column: &Column) -> Expr {
    match column.kind {
        Kind::Word | Kind::Text => lit(""),
        Kind::Map => functions::query_map(lit("")),
        Kind::Int => lit(0_i64),
        Kind::Small => lit(0_i32),
        Kind::Id => lit(0_u64),
        Kind::Time | Kind::MaybeTime | Kind::MaybeInt | Kind::MaybeSmall | Kind::Locations => {
            let fields = [schema::reading_schema(), connections::reading_schema()];
            let field = fields
                .iter()
                .find_map(|schema| schema.field_with_name(column.name).ok());
            let null = field.and_then(|field| ScalarValue::try_from(field.data_type()).ok());
            lit(null.unwrap_or(ScalarValue::Null))
        }
    }
}
