//! Conditions that no expression of the engine says: decided row by row by the language's own evaluator, over the
//! columns that their fields are made of.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, StringViewArray, TimestampNanosecondArray,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{Expr, cast, col};
use wiretape_dissect::Marks;
use wiretape_kfl::{Computed, Field, Kind, Value};

use super::function::{self, Decide};
use crate::query::fields::{self, Listed, Mapped, SEPARATOR};
use crate::query::functions::{Maps, texts};

/// Set once an entry took more steps than one may; it counts as one that does not match, and the answer says so.
pub(in crate::query) type GaveUp = Arc<AtomicBool>;

/// The condition, as a function of the columns of its fields.
pub(super) fn decided(computed: &Computed, gave_up: &GaveUp) -> Expr {
    let mut arguments = Vec::new();
    let places = computed
        .fields()
        .into_iter()
        .map(|field| (field, Place::of(field, &mut arguments)))
        .collect();
    let condition = Condition {
        computed: computed.clone(),
        places,
        gave_up: Arc::clone(gave_up),
    };
    function::condition(computed.to_string(), condition, arguments)
}

/// Where a field's value is among the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// One argument of the field's kind.
    At(usize),
    /// A list: the texts of two arguments that are not empty.
    Pair(usize, usize),
    /// A list: the names of an argument's bits.
    Marks(usize),
    /// A list: the parts of an argument.
    Joined(usize),
    /// A map with a single entry.
    Entry(&'static str, usize),
    /// The table does not hold it.
    Nothing,
}

impl Place {
    fn of(field: Field, arguments: &mut Vec<Expr>) -> Self {
        let mut add = |argument: Expr| {
            arguments.push(argument);
            arguments.len() - 1
        };
        match field.kind() {
            Kind::Text => Self::At(add(fields::text(field))),
            Kind::Int | Kind::Float => Self::At(add(cast(fields::number(field), DataType::Int64))),
            Kind::Bool => Self::At(add(fields::flag(field))),
            Kind::Time => Self::At(add(fields::time(field))),
            Kind::List => match fields::list(field) {
                Listed::Texts([a, b]) => Self::Pair(add(col(a)), add(col(b))),
                Listed::Marks => Self::Marks(add(col("marks"))),
                Listed::Joined(list) => Self::Joined(add(list)),
                Listed::Nothing => Self::Nothing,
            },
            Kind::Map => match fields::map(field) {
                Mapped::Of(map) => Self::At(add(map)),
                Mapped::One(key, value) => Self::Entry(key, add(value)),
                Mapped::Nothing => Self::Nothing,
            },
        }
    }
}

/// A condition, and where the values of its fields are.
struct Condition {
    computed: Computed,
    places: Vec<(Field, Place)>,
    gave_up: GaveUp,
}

impl Decide for Condition {
    const NAME: &'static str = "decided";

    fn decide(&self, arguments: &[ArrayRef], rows: usize) -> Result<BooleanBuffer> {
        let columns: Vec<Column<'_>> = arguments.iter().map(Column::of).collect::<Result<_>>()?;
        Ok(BooleanBuffer::collect_bool(rows, |row| {
            let entry = Entry {
                places: &self.places,
                columns: &columns,
                row,
            };
            self.computed.decide(&entry).unwrap_or_else(|_| {
                self.gave_up.store(true, Ordering::Relaxed);
                false
            })
        }))
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.computed == other.computed
    }
}

/// An argument.
enum Column<'b> {
    Texts(StringViewArray),
    Ints(&'b Int64Array),
    Bits(&'b Int32Array),
    Flags(&'b BooleanArray),
    Times(&'b TimestampNanosecondArray),
    Maps(Maps<'b>),
}

impl<'b> Column<'b> {
    fn of(array: &'b ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Utf8 | DataType::Utf8View => Self::Texts(texts(array)?),
            DataType::Int64 => Self::Ints(array.as_primitive()),
            DataType::Int32 => Self::Bits(array.as_primitive()),
            DataType::Boolean => Self::Flags(array.as_boolean()),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Self::Times(array.as_primitive()),
            DataType::Map(..) => Self::Maps(Maps::of(array)?),
            other => return exec_err!("no field is of {other}"),
        })
    }
}

/// A row, as the evaluator looks at it.
struct Entry<'b> {
    places: &'b [(Field, Place)],
    columns: &'b [Column<'b>],
    row: usize,
}

impl Entry<'_> {
    fn place(&self, field: Field) -> Place {
        let found = self.places.iter().find(|(known, _)| *known == field);
        found.map_or(Place::Nothing, |(_, place)| *place)
    }

    /// `""` where nothing is known.
    fn text(&self, at: usize) -> &str {
        match self.columns.get(at) {
            Some(Column::Texts(texts)) if texts.is_valid(self.row) => texts.value(self.row),
            _ => "",
        }
    }

    fn at(&self, at: usize) -> Value<'_> {
        let row = self.row;
        match self.columns.get(at) {
            Some(Column::Texts(_)) => Value::Text(Cow::Borrowed(self.text(at))),
            Some(Column::Ints(ints)) if ints.is_valid(row) => Value::Int(ints.value(row)),
            Some(Column::Flags(flags)) => Value::Bool(flags.is_valid(row) && flags.value(row)),
            Some(Column::Times(times)) if times.is_valid(row) => {
                u64::try_from(times.value(row)).map_or(Value::Missing, Value::Time)
            }
            Some(Column::Maps(maps)) => Value::Map(maps.row(row).count()),
            _ => Value::Missing,
        }
    }

    fn marks(&self, at: usize) -> Marks {
        match self.columns.get(at) {
            Some(Column::Bits(bits)) => Marks(bits.value(self.row).cast_unsigned()),
            _ => Marks::default(),
        }
    }
}

impl wiretape_kfl::Row for Entry<'_> {
    fn get(&self, field: Field) -> Value<'_> {
        match self.place(field) {
            Place::At(at) => self.at(at),
            Place::Pair(a, b) => {
                let mut both: Vec<Cow<'_, str>> = [a, b].map(|at| Cow::Borrowed(self.text(at))).into();
                both.retain(|text| !text.is_empty());
                both.dedup();
                Value::List(both)
            }
            Place::Marks(at) => Value::List(self.marks(at).names().map(Cow::Borrowed).collect()),
            Place::Joined(at) => {
                let parts = self.text(at).split(SEPARATOR).filter(|part| !part.is_empty());
                Value::List(parts.map(Cow::Borrowed).collect())
            }
            Place::Entry(..) => Value::Map(1),
            Place::Nothing => Value::Missing,
        }
    }

    fn map_get(&self, map: Field, key: &str) -> Option<Cow<'_, str>> {
        let mut entries = self.map_entries(map).into_iter();
        entries.find(|(name, _)| name == key).map(|(_, value)| value)
    }

    fn map_entries(&self, map: Field) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
        let borrowed = |(key, value)| (Cow::Borrowed(key), Cow::Borrowed(value));
        match self.place(map) {
            Place::At(at) => match self.columns.get(at) {
                Some(Column::Maps(maps)) => maps.row(self.row).map(borrowed).collect(),
                _ => Vec::new(),
            },
            Place::Entry(key, at) => vec![borrowed((key, self.text(at)))],
            _ => Vec::new(),
        }
    }
}
