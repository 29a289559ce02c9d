//! Conditions on bodies. No column holds one: they are read from the segments, for the entries that meet all other
//! conditions, and the question goes on with the ids of those that match.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::datatypes::{DataType, Field as Column, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{Expr, Operator, col, lit};
use datafusion::prelude::SessionContext;
use wiretape_kfl::{Expr as Kfl, Field, Filter};

use super::{GaveUp, joined, translate};
use crate::query::bodies::{STORED, Side, StoredMessage, show};
use crate::query::entries::{Asked, table};
use crate::query::row::Row;
use crate::query::{Database, QueryError, fields};

/// Most entries whose bodies one question reads, the oldest first. At some tenths of a millisecond each, an answer comes
/// within a second.
pub const MAX_SEARCHED: usize = 2000;

/// Bytes of each body that are looked at. An entry's evaluation may take as many steps
/// ([`wiretape_kfl::EVALUATION_STEPS`]), and reading a document takes one for each byte.
pub const SEARCHED_BYTES: usize = 1 << 20;

/// Entries whose bodies are in memory at a time.
const AT_A_TIME: usize = 16;

/// The field's column, which stands only beside the entries whose bodies were read.
pub(in crate::query) fn column(field: Field) -> Option<&'static str> {
    let sides = SIDES.iter().find(|(known, ..)| *known == field);
    sides.map(|(_, _, column)| *column)
}

/// Whether a column is such a one.
pub(super) fn is_column(name: &str) -> bool {
    SIDES.iter().any(|(_, _, column)| *column == name)
}

const SIDES: [(Field, Side, &str); 2] = [
    (Field::RequestBody, Side::Request, "request_body"),
    (Field::ResponseBody, Side::Response, "response_body"),
];

/// Whether a filter asks about bodies.
pub(super) fn asks(filter: &Filter) -> bool {
    filter.fields().into_iter().any(|field| column(field).is_some())
}

/// The condition of the entries that match, among those in a window; and what the answer has to say about it.
pub(super) async fn search(
    db: &Database,
    filter: &Filter,
    expr: &Kfl,
    window: &[Expr],
    gave_up: &GaveUp,
) -> Result<(Expr, Vec<String>), QueryError> {
    let asked = Asked::by(filter);
    let others = without_bodies(expr).map(|expr| translate(&expr, false, gave_up));
    let condition = translate(expr, false, gave_up);
    let sides: Vec<_> = SIDES
        .into_iter()
        .filter(|(field, ..)| filter.fields().contains(field))
        .collect();

    let narrowed = joined(
        window.iter().cloned().chain(others.clone()).collect(),
        Operator::And,
    );
    let mut columns: BTreeSet<&str> = condition
        .column_refs()
        .iter()
        .map(|column| column.name())
        .collect();
    sides.iter().for_each(|(_, _, column)| {
        columns.remove(column);
    });
    columns.extend(STORED);
    let columns: Vec<&str> = columns.into_iter().collect();
    let in_time = ["ts", "stream", "index"].map(|column| col(column).sort(true, false));
    let mut batches = table(db, asked)
        .await?
        .filter(narrowed)?
        .select_columns(&columns)?
        .sort(in_time.into())?
        .limit(0, Some(MAX_SEARCHED + 1))?
        .collect()
        .await?;

    let mut warnings = Vec::new();
    if drop_last(&mut batches, MAX_SEARCHED) {
        warnings.push(format!(
            "bodies were looked at in the first {MAX_SEARCHED} calls that meet all other conditions; later ones may \
             match, too: narrow the filter or the window"
        ));
    }
    let session = SessionContext::new();
    let mut ids = Vec::new();
    let mut read = Read::default();
    for batch in &batches {
        for from in (0..batch.num_rows()).step_by(AT_A_TIME) {
            let few = batch.slice(from, AT_A_TIME.min(batch.num_rows() - from));
            let (db, sides) = (db.clone(), sides.clone());
            let (few, told) = tokio::task::spawn_blocking(move || with_bodies(&db, &few, &sides))
                .await
                .map_err(|error| QueryError::Internal(format!("cannot read bodies: {error}")))??;
            read.cut += told.cut;
            read.unreadable += told.unreadable;
            let found = session
                .read_batch(few)?
                .filter(condition.clone())?
                .select(vec![fields::text(Field::Id).alias("id")])?
                .collect()
                .await?;
            ids.extend(Row::each(&found).map(|row| lit(row.text("id"))));
        }
    }
    warnings.extend(read.warnings());
    let found = if ids.is_empty() {
        lit(false)
    } else {
        fields::text(Field::Id).in_list(ids, false)
    };
    Ok((
        joined(others.into_iter().chain([found]).collect(), Operator::And),
        warnings,
    ))
}

/// What has to hold of an entry whatever its bodies say; `None` if that may be anything.
fn without_bodies(expr: &Kfl) -> Option<Kfl> {
    if !asks(&Filter {
        expr: Some(expr.clone()),
        ..Filter::default()
    }) {
        return Some(expr.clone());
    }
    match expr {
        Kfl::And(all) => {
            let mut kept: Vec<Kfl> = all.iter().filter_map(without_bodies).collect();
            if kept.len() > 1 {
                Some(Kfl::And(kept))
            } else {
                kept.pop()
            }
        }
        Kfl::Or(all) => all.iter().map(without_bodies).collect::<Option<_>>().map(Kfl::Or),
        Kfl::Within { protocols, expr } => Some(Kfl::Within {
            protocols,
            expr: Box::new(without_bodies(expr).unwrap_or(Kfl::Always(true))),
        }),
        _ => None,
    }
}

/// Leaves the first `most` rows. Whether there were more.
fn drop_last(batches: &mut [RecordBatch], most: usize) -> bool {
    let mut left = most;
    let mut more = false;
    for batch in batches.iter_mut() {
        more |= batch.num_rows() > left;
        *batch = batch.slice(0, batch.num_rows().min(left));
        left -= batch.num_rows();
    }
    more
}

/// How the reading went.
#[derive(Clone, Copy, Default)]
struct Read {
    /// Longer than is looked at.
    cut: usize,
    /// Of which packets are gone.
    unreadable: usize,
}

impl Read {
    fn warnings(self) -> impl Iterator<Item = String> {
        let cut = (self.cut > 0).then(|| {
            format!(
                "{} bodies are longer than {SEARCHED_BYTES} bytes, of which only these were looked at",
                self.cut
            )
        });
        let unreadable = (self.unreadable > 0).then(|| {
            format!(
                "{} bodies are not whole in the segments; what is missing could not be looked at",
                self.unreadable
            )
        });
        cut.into_iter().chain(unreadable)
    }
}

/// The same rows, with a column for each of these bodies.
fn with_bodies(
    db: &Database,
    batch: &RecordBatch,
    sides: &[(Field, Side, &str)],
) -> Result<(RecordBatch, Read), QueryError> {
    let mut read = Read::default();
    let mut schema: Vec<Arc<Column>> = batch.schema().fields().iter().cloned().collect();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    for (_, side, name) in sides {
        let bodies = Row::each(std::slice::from_ref(batch)).map(|row| {
            let shown = StoredMessage::of(row, *side).map(|message| show(db, &message, SEARCHED_BYTES))?;
            read.cut += usize::from(shown.truncated);
            read.unreadable += usize::from(shown.reason.is_some());
            Some(shown.searched())
        });
        let bodies: Vec<String> = bodies.map(Option::unwrap_or_default).collect();
        let bodies = StringArray::from(bodies);
        schema.push(Arc::new(Column::new(*name, DataType::Utf8, false)));
        columns.push(Arc::new(bodies));
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(schema)), columns)
        .map_err(|error| QueryError::Internal(format!("cannot put bodies beside their calls: {error}")))?;
    Ok((batch, read))
}
