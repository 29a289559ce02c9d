//! The engine's values as JSON.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use datafusion::arrow::util::display::array_value_to_string;
use serde_json::{Map, Value, json};

/// Largest number that every reader of JSON keeps as it is (RFC 8259, section 6); what is larger is written as text.
const EXACT: u64 = (1 << 53) - 1;

/// A type as answers name it.
pub(super) fn type_name(of: &DataType) -> String {
    match of {
        DataType::Null => "null".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => "int".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            "unsigned bigint".to_owned()
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => "double".to_owned(),
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::Map(..) => "map(text, text)".to_owned(),
        DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _) => {
            format!("list({})", type_name(of.data_type()))
        }
        DataType::Dictionary(_, of) => type_name(of),
        other => other.to_string().to_lowercase(),
    }
}

/// One value.
pub(super) fn value(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        // It has no bits to say so.
        DataType::Null => Value::Null,
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Utf8View => json!(array.as_string_view().value(row)),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => json!(array.as_string::<i64>().value(row)),
        DataType::Int8 => json!(array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => json!(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => signed(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => json!(array.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => json!(array.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => json!(array.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => unsigned(array.as_primitive::<UInt64Type>().value(row)),
        // What is no number (NaN) or no end (infinity) has no place in JSON: null.
        DataType::Float32 => json!(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => json!(array.as_primitive::<Float64Type>().value(row)),
        DataType::List(_) => list(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row)),
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (Some(keys), Some(values)) = (entries.columns().first(), entries.columns().get(1)) else {
                return Value::Null;
            };
            // A name that comes twice has a list of values.
            let mut object = Map::new();
            for entry in 0..entries.len() {
                let key = match value(keys, entry) {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                put(&mut object, key, value(values, entry));
            }
            Value::Object(object)
        }
        DataType::Struct(_) => {
            let columns = array.as_struct();
            let names = columns.column_names();
            let members = names.into_iter().zip(columns.columns());
            let members = members.map(|(name, column)| (name.to_owned(), value(column, row)));
            Value::Object(members.collect())
        }
        // Times, intervals, decimals, dates: as the engine writes them.
        _ => array_value_to_string(array, row).map_or(Value::Null, |text| json!(text)),
    }
}

fn put(object: &mut Map<String, Value>, key: String, value: Value) {
    match object.get_mut(&key) {
        None => {
            object.insert(key, value);
        }
        Some(Value::Array(all)) => all.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

fn list(items: &ArrayRef) -> Value {
    (0..items.len()).map(|item| value(items, item)).collect()
}

fn signed(number: i64) -> Value {
    if number.unsigned_abs() > EXACT {
        json!(number.to_string())
    } else {
        json!(number)
    }
}

fn unsigned(number: u64) -> Value {
    if number > EXACT {
        json!(number.to_string())
    } else {
        json!(number)
    }
}
