//! The order of entries, and where a page of them ended.

use std::fmt;

use datafusion::logical_expr::{Expr, SortExpr, col, lit};
use wiretape_tape::Nanos;

use super::QueryError;
use super::calls::Order;
use super::fields::instant;
use super::first::Rank;
use super::row::Row;

/// The order of entries, with no two alike.
pub(super) fn order(order: Order) -> Vec<SortExpr> {
    let in_time = ["ts", "stream", "index"].map(|column| col(column).sort(true, false));
    key(order)
        .map(|key| key.sort(false, false))
        .into_iter()
        .chain(in_time)
        .collect()
}

/// What is sorted by, largest first, before time.
fn key(order: Order) -> Option<Expr> {
    // What is not known counts as less than nothing, and so comes last, and can stand in a cursor.
    let known = |column: &str, unknown: i64| {
        datafusion::functions::expr_fn::coalesce(vec![col(column), lit(unknown)])
    };
    match order {
        Order::Time => None,
        Order::Latency => Some(known("elapsed_ns", -1)),
        Order::Size => Some(known("req_bytes", 0) + known("resp_bytes", 0)),
    }
}

/// The last call of a page. Written `<order>.<key>.<ns>.<stream>.<index>`, and `.<age>` behind it where the dissection was
/// still under way, to be handed back as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cursor {
    order: Order,
    key: i64,
    ts: Nanos,
    stream: u64,
    index: i32,
    /// After how many row groups of a dissection under way.
    age: Option<usize>,
}

/// Of which age of a dissection under way a cursor is; `None` for those of a completed one.
pub fn age(cursor: &str) -> Option<usize> {
    cursor.split('.').nth(AGE)?.parse().ok()
}

/// Where the age stands in a cursor.
const AGE: usize = 5;

impl Cursor {
    pub(super) fn at(row: Row<'_>, order: Order, age: Option<usize>) -> Self {
        let int = |column| row.int(column);
        Self {
            order,
            key: match order {
                Order::Time => 0,
                Order::Latency => int("elapsed_ns").unwrap_or(-1),
                Order::Size => int("req_bytes").unwrap_or_default() + int("resp_bytes").unwrap_or_default(),
            },
            ts: row.time("ts").unwrap_or_default(),
            stream: row.id("stream"),
            index: int("index")
                .and_then(|index| i32::try_from(index).ok())
                .unwrap_or_default(),
            age,
        }
    }

    /// Reads one of a question with this order to a dissection of this age.
    pub(super) fn parse(text: &str, order: Order, age: Option<usize>) -> Result<Self, QueryError> {
        let cursor = || {
            let mut parts = text.split('.');
            let told = match parts.next()? {
                "time" => Order::Time,
                "latency" => Order::Latency,
                "size" => Order::Size,
                _ => return None,
            };
            let cursor = Self {
                order: told,
                key: parts.next()?.parse().ok()?,
                ts: parts.next()?.parse().ok()?,
                stream: u64::from_str_radix(parts.next()?, 16).ok()?,
                index: parts.next()?.parse().ok()?,
                age: parts.next().map(str::parse).transpose().ok()?,
            };
            parts.next().is_none().then_some(cursor)
        };
        let of_this = |cursor: &Self| cursor.order == order && (cursor.age.is_some() || age.is_none());
        let cursor = cursor().filter(of_this).ok_or_else(|| {
            QueryError::BadRequest(format!(
                "{text:?} is no cursor for this question; pass the cursor of the page before, with the same order"
            ))
        })?;
        if cursor.age != age {
            return Err(QueryError::BadRequest(format!(
                "the cursor {text:?} is of the dissection while it was under way, which it no longer is: calls have come \
                 since, also before that place; ask again without a cursor"
            )));
        }
        Ok(cursor)
    }

    /// What all calls after it come behind.
    pub(super) fn rank(self) -> Rank {
        Rank {
            key: match self.order {
                Order::Time => i64::try_from(self.ts).unwrap_or(i64::MAX),
                Order::Latency | Order::Size => self.key.saturating_neg(),
            },
            ts: i64::try_from(self.ts).unwrap_or(i64::MAX),
            stream: self.stream,
            index: self.index.into(),
        }
    }

    /// The condition of all entries after it.
    pub(super) fn after(self) -> Expr {
        let ts = || instant(self.ts);
        let later = col("ts").gt(ts()).or(col("ts").eq(ts()).and(
            col("stream").gt(lit(self.stream)).or(col("stream")
                .eq(lit(self.stream))
                .and(col("index").gt(lit(self.index)))),
        ));
        match key(self.order) {
            // Said twice, so that row groups that end before can be skipped.
            None => col("ts").gt_eq(ts()).and(later),
            Some(key) => key.clone().lt(lit(self.key)).or(key.eq(lit(self.key)).and(later)),
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            Order::Time => "time",
            Order::Latency => "latency",
            Order::Size => "size",
        };
        write!(
            f,
            "{order}.{}.{}.{:x}.{}",
            self.key, self.ts, self.stream, self.index
        )?;
        match self.age {
            Some(age) => write!(f, ".{age}"),
            None => Ok(()),
        }
    }
}
