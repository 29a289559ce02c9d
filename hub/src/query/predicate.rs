//! A condition on calls, decided for a row group at a time.
//!
//! It is taken apart at its `and`, `or` and `not`. What is left is decided by the engine's own expressions, over as few
//! rows as there are left to decide, and what is asked of words over the words and not over the rows: a service's name is
//! compared once in a row group, whoever called it how often.

mod words;

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatchOptions, StringArray,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::{cast, concat, prep_null_mask_filter};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{ColumnarValue, Expr, Operator};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{self, BinaryExpr, NotExpr};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::prelude::SessionContext;

use self::words::Words;
use super::functions::OfEntry;
use super::tested::test_of;
use crate::calls::parts::{Group, Test, Texts, rows_at_a_time, slices};
use crate::calls::schema::{self, Kind};

/// A condition, ready to be decided.
pub(super) struct Predicate {
    node: Node,
    /// Tells row groups in which nothing can match.
    prunes: Option<Arc<PruningPredicate>>,
}

enum Node {
    /// The cheapest first.
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Leaf(Leaf),
}

/// What the engine decides.
struct Leaf {
    expr: Arc<dyn PhysicalExpr>,
    /// What it takes, in the order in which it counts it.
    takes: Vec<Taken>,
    /// What it asks, if that is a test of the only text that it takes.
    test: Option<Test>,
}

/// What is read of a row group.
enum Taken {
    Column(&'static schema::Column),
    /// Of a column of maps, what is under one key: a filter on a header needs no other.
    Entry(OfEntry),
}

impl Predicate {
    /// # Errors
    /// It is none on the table of calls.
    pub(super) fn new(session: &SessionContext, expr: Expr) -> Result<Self> {
        let schema = schema::reading_schema();
        let columns = Arc::new(DFSchema::try_from(Arc::clone(&schema))?);
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(&columns))
            .build();
        // Some of the engine's functions stand for others, until they are simplified.
        let simplifier = ExprSimplifier::new(context);
        let expr = simplifier.simplify(simplifier.coerce(expr, &columns)?)?;
        let expr = session.create_physical_expr(expr, &columns)?;
        Ok(Self {
            node: Node::new(&expr, &schema)?,
            prunes: PruningPredicateBuilder::new()
                .with_file_schema(schema)
                .build(expr),
        })
    }

    /// In which of these row groups calls may match.
    pub(super) fn may_match(&self, groups: &[Group]) -> Vec<bool> {
        let kept = self.prunes.as_ref().map(|prunes| prunes.prune(&Bounds(groups)));
        match kept {
            Some(Ok(kept)) if kept.len() == groups.len() => kept,
            // What cannot be told apart is looked at.
            _ => vec![true; groups.len()],
        }
    }

    /// Has the kernel begin to read what is looked at of a row group whatever it holds.
    pub(super) fn read_ahead(&self, group: &Group) {
        let mut node = &self.node;
        loop {
            node = match node {
                Node::All(nodes) | Node::Any(nodes) => match nodes.first() {
                    Some(first) => first,
                    None => return,
                },
                Node::Not(not) => not,
                Node::Leaf(leaf) => return leaf.read_ahead(group),
            };
        }
    }

    /// Which calls of a row group match.
    pub(super) fn matching(&self, group: &Group) -> Result<BooleanBuffer> {
        self.node.decide(group, &BooleanBuffer::new_set(group.rows()))
    }
}

impl Node {
    fn new(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Self> {
        if let Some(both) = expr.downcast_ref::<BinaryExpr>()
            && matches!(both.op(), Operator::And | Operator::Or)
        {
            let mut nodes = Vec::new();
            flatten(expr, *both.op(), schema, &mut nodes)?;
            nodes.sort_by_key(Self::cost);
            return Ok(match both.op() {
                Operator::And => Self::All(nodes),
                _ => Self::Any(nodes),
            });
        }
        // What is NULL counts as false, which `not` must not turn around.
        if let Some(not) = expr.downcast_ref::<NotExpr>()
            && !not.arg().nullable(schema)?
        {
            return Ok(Self::Not(Box::new(Self::new(not.arg(), schema)?)));
        }
        let mut takes: Vec<Taken> = Vec::new();
        let expr = Arc::clone(expr).transform_down(|asked| match OfEntry::of(asked.as_ref()) {
            Some(entry) => {
                let name = entry.name();
                if !takes.iter().any(|taken| taken.name() == name) {
                    takes.push(Taken::Entry(entry));
                }
                Ok(Transformed::yes(Arc::new(expressions::Column::new(&name, 0))))
            }
            None => Ok(Transformed::no(asked)),
        })?;
        let expr = expr.data;
        let names = collect_columns(&expr);
        let taken = |column: &&schema::Column| names.iter().any(|taken| taken.name() == column.name);
        takes.extend(schema::COLUMNS.iter().filter(taken).map(Taken::Column));
        let own = Schema::new(takes.iter().map(|taken| taken.field(schema)).collect::<Vec<_>>());
        let test = match takes.as_slice() {
            [Taken::Column(column)] if matches!(column.kind, Kind::Word | Kind::Text) => test_of(&expr),
            [Taken::Entry(entry)] if entry.text => test_of(&expr),
            _ => None,
        };
        Ok(Self::Leaf(Leaf {
            test,
            expr: reassign_expr_columns(expr, &own)?,
            takes,
        }))
    }

    /// What deciding it takes, roughly, by row.
    fn cost(&self) -> u32 {
        match self {
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().map(Self::cost).sum(),
            Self::Not(node) => node.cost(),
            Self::Leaf(leaf) => leaf.takes.iter().map(Taken::cost).sum(),
        }
    }

    /// Those of the rows in `among` for which it holds.
    fn decide(&self, group: &Group, among: &BooleanBuffer) -> Result<BooleanBuffer> {
        match self {
            Self::All(nodes) => {
                let mut left = among.clone();
                for node in nodes {
                    if left.count_set_bits() == 0 {
                        break;
                    }
                    left = node.decide(group, &left)?;
                }
                Ok(left)
            }
            Self::Any(nodes) => {
                let (mut found, mut left) = (BooleanBuffer::new_unset(among.len()), among.clone());
                for node in nodes {
                    if left.count_set_bits() == 0 {
                        break;
                    }
                    let more = node.decide(group, &left)?;
                    left = &left & &!&more;
                    found = &found | &more;
                }
                Ok(found)
            }
            Self::Not(node) => Ok(among & &!&node.decide(group, among)?),
            Self::Leaf(leaf) => leaf.decide(group, among),
        }
    }
}

/// The sides of a chain of `and` or `or`.
fn flatten(
    expr: &Arc<dyn PhysicalExpr>,
    operator: Operator,
    schema: &Schema,
    nodes: &mut Vec<Node>,
) -> Result<()> {
    match expr.downcast_ref::<BinaryExpr>() {
        Some(both) if *both.op() == operator => {
            flatten(both.left(), operator, schema, nodes)?;
            flatten(both.right(), operator, schema, nodes)
        }
        _ => {
            nodes.push(Node::new(expr, schema)?);
            Ok(())
        }
    }
}

fn cost(kind: Kind) -> u32 {
    match kind {
        Kind::Word => 1,
        Kind::Time | Kind::MaybeTime | Kind::Int | Kind::MaybeInt | Kind::Small | Kind::MaybeSmall => 2,
        Kind::Id => 4,
        Kind::Text => 16,
        Kind::Locations => 32,
        Kind::Map => 128,
    }
}

impl Taken {
    fn name(&self) -> String {
        match self {
            Self::Column(column) => column.name.to_owned(),
            Self::Entry(entry) => entry.name(),
        }
    }

    /// The column, if it is a whole one.
    fn column(&self) -> Option<&'static str> {
        match self {
            Self::Column(column) => Some(column.name),
            Self::Entry(_) => None,
        }
    }

    /// As the engine's expression sees it; `schema` is that of all columns.
    fn field(&self, schema: &Schema) -> Field {
        let kind = match self {
            Self::Column(column) => schema
                .field_with_name(column.name)
                .map_or(DataType::Null, |field| field.data_type().clone()),
            Self::Entry(entry) if entry.text => DataType::Utf8,
            Self::Entry(_) => DataType::Boolean,
        };
        Field::new(self.name(), kind, true)
    }

    fn cost(&self) -> u32 {
        match self {
            Self::Column(column) => cost(column.kind),
            Self::Entry(_) => cost(Kind::Map) / 2,
        }
    }

    fn is_map(&self) -> bool {
        matches!(self, Self::Column(column) if column.kind == Kind::Map)
    }

    /// Whether all of it is words of a dictionary.
    fn has_words(&self, group: &Group) -> bool {
        matches!(self, Self::Column(column) if column.kind != Kind::Map && group.has_words(column.name))
    }

    /// Of how many rows it may be in memory at a time.
    fn rows_at_a_time(&self, group: &Group) -> usize {
        match self {
            Self::Column(column) => rows_at_a_time(std::iter::once(column.name)),
            Self::Entry(entry) => group.rows_of_entries(&entry.map),
        }
    }

    fn read(&self, group: &Group, texts: Texts, among: &BooleanBuffer) -> Result<ArrayRef> {
        Ok(match self {
            Self::Column(column) => group.read(column.name, texts, among)?,
            // What is not there is `""`.
            Self::Entry(entry) if entry.text => {
                let (ends, texts, _) = group.entry(&entry.map, &entry.key, among)?.into_parts();
                Arc::new(StringArray::try_new(ends, texts, None)?)
            }
            Self::Entry(entry) => {
                let has = group.has_entry(&entry.map, &entry.key, among)?;
                Arc::new(BooleanArray::new(has, None))
            }
        })
    }
}

impl Leaf {
    fn decide(&self, group: &Group, among: &BooleanBuffer) -> Result<BooleanBuffer> {
        let tested = match (&self.test, self.takes.as_slice()) {
            (Some(test), [Taken::Column(column)]) => group.texts_that(test, column.name, among)?,
            (Some(test), [Taken::Entry(entry)]) => {
                Some(group.entries_that(test, &entry.map, &entry.key, among)?)
            }
            _ => None,
        };
        if let Some(found) = tested {
            return Ok(found);
        }
        let columns = self.takes.iter().filter_map(Taken::column);
        group.read_ahead(columns, among);
        if let Some(columns) = self.streamed(group, among) {
            return self.decide_streamed(group, &columns, among);
        }
        let mut found = BooleanBuffer::new_unset(among.len());
        let rows = self.takes.iter().map(|taken| taken.rows_at_a_time(group)).min();
        for slice in slices(among, rows.unwrap_or(usize::MAX)) {
            found = &found | &self.decide_slice(group, &slice)?;
        }
        Ok(found)
    }

    /// Has the kernel begin to read what it takes of all rows; of maps the keys, for few may have the one that it asks for.
    fn read_ahead(&self, group: &Group) {
        let all = BooleanBuffer::new_set(group.rows());
        group.read_ahead(self.takes.iter().filter_map(Taken::column), &all);
        for taken in &self.takes {
            if let Taken::Entry(entry) = taken {
                group.read_keys_ahead(&entry.map);
            }
        }
    }

    /// What it takes, if that is read some thousand rows at a time: texts that are no words are so long that those of a whole row
    /// group leave the processor's caches before they are compared.
    fn streamed(&self, group: &Group, among: &BooleanBuffer) -> Option<Vec<&'static str>> {
        let texts = |taken: &Taken| {
            matches!(taken, Taken::Column(column) if column.kind == Kind::Text) && !taken.has_words(group)
        };
        let columns: Vec<_> = self.takes.iter().map(Taken::column).collect::<Option<_>>()?;
        let streamed = self.takes.iter().any(texts) && group.streams(columns.iter().copied(), among);
        streamed.then_some(columns)
    }

    fn decide_streamed(
        &self,
        group: &Group,
        columns: &[&'static str],
        among: &BooleanBuffer,
    ) -> Result<BooleanBuffer> {
        let mut found = BooleanBufferBuilder::new(among.len());
        group.each_rows(columns, Texts::Plain, among, |here, arrays| {
            match here.count_set_bits() {
                0 => found.append_buffer(here),
                rows => found.append_buffer(&put_back(self.evaluate(arrays, rows)?, here)),
            }
            Ok::<_, DataFusionError>(())
        })?;
        Ok(found.finish())
    }

    fn decide_slice(&self, group: &Group, among: &BooleanBuffer) -> Result<BooleanBuffer> {
        let rows = among.count_set_bits();
        // Maps of which one is chosen have to be laid out alike; words are worth their numbers if there is nothing else.
        let alone = self.takes.iter().filter(|taken| taken.is_map()).count() < 2;
        let words = self.takes.iter().all(|taken| taken.has_words(group));
        let arrays = self.takes.iter().map(|taken| {
            let by_number = if taken.is_map() { alone } else { words };
            let texts = if by_number { Texts::Words } else { Texts::Plain };
            taken.read(group, texts, among)
        });
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
        let decided = match Words::of(&arrays, rows) {
            Some(words) => words.decided(|arrays, count| self.evaluate(arrays, count))?,
            None => self.evaluate(arrays, rows)?,
        };
        Ok(put_back(decided, among))
    }

    /// Whether it holds for each of some rows.
    fn evaluate(&self, arrays: Vec<ArrayRef>, rows: usize) -> Result<BooleanBuffer> {
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        for (taken, array) in self.takes.iter().zip(arrays) {
            let array = match (taken, array.data_type()) {
                (Taken::Column(_), DataType::Dictionary(..) | DataType::Utf8) => {
                    cast(&array, &DataType::Utf8View)?
                }
                _ => array,
            };
            fields.push(Field::new(taken.name(), array.data_type().clone(), true));
            columns.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        Ok(match self.expr.evaluate(&batch)? {
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => BooleanBuffer::new_set(rows),
            ColumnarValue::Scalar(_) => BooleanBuffer::new_unset(rows),
            ColumnarValue::Array(decided) => match decided.as_boolean() {
                decided if decided.null_count() == 0 => decided.values().clone(),
                decided => prep_null_mask_filter(decided).values().clone(),
            },
        })
    }
}

/// What is decided of the rows that are set in `among`, put back where they came from.
fn put_back(decided: BooleanBuffer, among: &BooleanBuffer) -> BooleanBuffer {
    if decided.len() == among.len() {
        return decided;
    }
    let mut decided = decided.iter();
    BooleanBuffer::collect_bool(among.len(), |row| {
        among.value(row) && decided.next().unwrap_or(false)
    })
}

/// What is known of the columns of row groups.
struct Bounds<'g>(&'g [Group]);

impl Bounds<'_> {
    /// The least or the greatest values of a column, if they are known of all.
    fn of(&self, column: &Column, which: impl Fn([ArrayRef; 2]) -> ArrayRef) -> Option<ArrayRef> {
        let known = self.0.iter().map(|group| group.bounds(&column.name).map(&which));
        let known: Vec<ArrayRef> = known.collect::<Option<_>>()?;
        concat(&known.iter().map(AsRef::as_ref).collect::<Vec<_>>()).ok()
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, |[least, _]| least)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, |[_, greatest]| greatest)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
