//! One row of an answer, by the names of its columns.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use datafusion::arrow::record_batch::RecordBatch;
use serde_json::{Map, Value, json};
use wiretape_tape::Nanos;

use super::functions::Maps;
use super::redaction::{Hidden, REDACTED};
use crate::calls::packets::place;
use crate::calls::schema::{Column, Kind};

/// A row. Columns that are not in the answer read as if nothing was recorded.
#[derive(Clone, Copy)]
pub(super) struct Row<'b> {
    batch: &'b RecordBatch,
    row: usize,
    hidden: Option<&'b Hidden>,
}

impl<'b> Row<'b> {
    /// Every row of a query's batches.
    pub(super) fn each(batches: &'b [RecordBatch]) -> impl Iterator<Item = Row<'b>> {
        batches.iter().flat_map(|batch| {
            (0..batch.num_rows()).map(move |row| Row {
                batch,
                row,
                hidden: None,
            })
        })
    }

    /// The same row, without what must not be shown.
    pub(super) fn hiding(self, hidden: &'b Hidden) -> Self {
        let hidden = Some(hidden);
        Self { hidden, ..self }
    }

    /// A text; `""` when unknown.
    pub(super) fn text(self, column: &str) -> &'b str {
        if self.hides(column) {
            return REDACTED;
        }
        let Some(array) = self.column(column) else {
            return "";
        };
        match array.data_type() {
            DataType::Utf8View => array.as_string_view().value(self.row),
            DataType::Utf8 => array.as_string::<i32>().value(self.row),
            _ => "",
        }
    }

    /// A whole number.
    pub(super) fn int(self, column: &str) -> Option<i64> {
        let array = self.column(column).filter(|_| !self.hides(column))?;
        match array.data_type() {
            DataType::Int64 => Some(array.as_primitive::<Int64Type>().value(self.row)),
            DataType::Int32 => Some(array.as_primitive::<Int32Type>().value(self.row).into()),
            _ => None,
        }
    }

    /// A truth; false when unknown.
    pub(super) fn truth(self, column: &str) -> bool {
        let truths = self.column(column).and_then(|array| array.as_boolean_opt());
        truths.is_some_and(|truths| truths.value(self.row))
    }

    /// A hash of 64 bits.
    pub(super) fn id(self, column: &str) -> u64 {
        self.column(column)
            .and_then(|array| array.as_primitive_opt::<UInt64Type>())
            .map_or(0, |ids| ids.value(self.row))
    }

    /// A point in time.
    pub(super) fn time(self, column: &str) -> Option<Nanos> {
        let times = self
            .column(column)
            .filter(|_| !self.hides(column))?
            .as_primitive_opt::<TimestampNanosecondType>()?;
        u64::try_from(times.value(self.row)).ok()
    }

    /// A map's entries.
    pub(super) fn map(self, column: &str) -> Vec<(&'b str, &'b str)> {
        let maps = self.column(column).and_then(|array| Maps::of(array).ok());
        let shown = |(key, value)| {
            let hidden = self
                .hidden
                .is_some_and(|hidden| hidden.column(column) || hidden.key(column, key));
            (key, if hidden { REDACTED } else { value })
        };
        maps.map(|maps| maps.row(self.row).map(shown).collect())
            .unwrap_or_default()
    }

    /// Locations of packets.
    pub(super) fn locations(self, column: &str) -> Vec<u64> {
        let list = self.column(column).and_then(|array| array.as_list_opt::<i32>());
        let values = list.map(|list| list.value(self.row));
        values
            .as_ref()
            .and_then(|values| values.as_primitive_opt::<UInt64Type>())
            .map(|values| values.values().to_vec())
            .unwrap_or_default()
    }

    /// The call's id: `<node>/<stream>/<index>`. It may stand without the node.
    pub(super) fn call_id(self) -> String {
        let node = if self.hides("node") { "" } else { self.text("node") };
        let row = Self { hidden: None, ..self };
        format!(
            "{node}/{:x}/{}",
            row.id("stream"),
            row.int("index").unwrap_or_default()
        )
    }

    /// Some columns, as they are.
    pub(super) fn raw<'c>(self, columns: impl IntoIterator<Item = &'c Column>) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("id".to_owned(), json!(self.call_id()));
        for column in columns {
            object.insert(column.name.to_owned(), self.value(column));
        }
        object
    }

    /// Some columns, as they are.
    pub(super) fn selected(self, columns: &[&Column]) -> Value {
        let mut object = Map::new();
        object.insert("id".to_owned(), json!(self.call_id()));
        for column in columns {
            object.insert(column.name.to_owned(), self.value(column));
        }
        Value::Object(object)
    }

    fn value(self, column: &Column) -> Value {
        let name = column.name;
        match column.kind {
            Kind::Time | Kind::MaybeTime => self.time(name).map_or(Value::Null, |time| json!(rfc3339(time))),
            Kind::Word | Kind::Text => json!(self.text(name)),
            Kind::Int | Kind::MaybeInt | Kind::Small | Kind::MaybeSmall => json!(self.int(name)),
            Kind::Id if self.hides(name) => Value::Null,
            Kind::Id => json!(format!("{:x}", self.id(name))),
            Kind::Map => pairs(self.map(name)),
            Kind::Locations => self
                .locations(name)
                .into_iter()
                .map(|location| {
                    let (file, offset) = place(location);
                    json!({"file": file, "offset": offset})
                })
                .collect(),
        }
    }

    fn hides(self, column: &str) -> bool {
        self.hidden.is_some_and(|hidden| hidden.column(column))
    }

    /// `None` where the column is not there or NULL.
    fn column(self, name: &str) -> Option<&'b ArrayRef> {
        self.batch
            .column_by_name(name)
            .filter(|array| !array.is_null(self.row))
    }
}

/// A time for people: RFC 3339 with nanoseconds.
pub(super) fn rfc3339(time: Nanos) -> String {
    let nanos = i128::from(time);
    jiff::Timestamp::from_nanosecond(nanos).map_or_else(|_| nanos.to_string(), |time| format!("{time:.9}"))
}

/// A map as an object; what is there more than once is joined by a comma, as header fields may be (RFC 9110, section
/// 5.3), but for cookies, which may not.
pub(super) fn pairs(entries: Vec<(&str, &str)>) -> Value {
    let mut object = Map::new();
    for (key, value) in entries {
        match object.get_mut(key) {
            Some(Value::String(earlier)) => {
                earlier.push_str(if key == "set-cookie" { "\n" } else { ", " });
                earlier.push_str(value);
            }
            _ => {
                object.insert(key.to_owned(), json!(value));
            }
        }
    }
    Value::Object(object)
}
