//! Functions that filters need and DataFusion lacks: entries of maps, parameters of a query, cookies, regular
//! expressions exactly as the filter language means them. None of them gives NULL.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayBuilder, ArrayRef, AsArray, BooleanArray, Int64Array, MapArray, StringArray, StringBuilder,
    StringViewArray, StructArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Int32Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use wiretape_kfl::Pattern;

use crate::calls::schema;

/// The first value under `key` in a map, or `""`.
pub(super) fn entry(map: Expr, key: &str) -> Expr {
    call(Task::Entry(key.to_owned()), map)
}

/// Whether a map has `key`.
pub(super) fn has_entry(map: Expr, key: &str) -> Expr {
    call(Task::HasEntry(key.to_owned()), map)
}

/// How many entries a map has.
pub(super) fn entries(map: Expr) -> Expr {
    call(Task::Entries, map)
}

/// The parameters of a query (what follows `?`), as a map.
pub(super) fn query_map(query: Expr) -> Expr {
    call(Task::QueryMap, query)
}

/// The cookies in the header fields `header` (`cookie` or `set-cookie`) of a map of headers, as a map.
pub(super) fn cookie_map(headers: Expr, header: &'static str) -> Expr {
    call(Task::CookieMap(header), headers)
}

/// Whether a pattern matches somewhere in a text.
pub(super) fn matches(text: Expr, pattern: Pattern) -> Expr {
    call(Task::Matches(pattern), text)
}

/// A number of 64 bits as ids show it.
pub(super) fn hex(number: Expr) -> Expr {
    call(Task::Hex, number)
}

/// What is asked of one entry of a column of maps.
pub(super) struct OfEntry {
    pub(super) map: String,
    pub(super) key: String,
    /// Its text; else, whether there is one.
    pub(super) text: bool,
}

impl OfEntry {
    /// Of an expression that asks nothing else.
    pub(super) fn of(expr: &dyn PhysicalExpr) -> Option<Self> {
        let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
        let [argument] = call.args() else {
            return None;
        };
        let map = argument.downcast_ref::<Column>()?.name().to_owned();
        let function = call.fun().inner().downcast_ref::<Function>()?;
        let (key, text) = match &function.task {
            Task::Entry(key) => (key.clone(), true),
            Task::HasEntry(key) => (key.clone(), false),
            _ => return None,
        };
        Some(Self { map, key, text })
    }

    /// What it is called, as a column.
    pub(super) fn name(&self) -> String {
        let asked = if self.text { "of" } else { "has" };
        format!("{} {asked} {:?}", self.map, self.key)
    }
}

fn call(task: Task, argument: Expr) -> Expr {
    ScalarUDF::new_from_impl(Function {
        task,
        signature: Signature::any(1, Volatility::Immutable),
    })
    .call(vec![argument])
}

/// Parameters of a query in order, percent-decoded, `+` as a space (URL standard, section 5.1).
pub(super) fn query_parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(key), decoded(value))
    })
}

/// Cookies of one header field: `cookie` holds many, `set-cookie` one and its attributes (RFC 6265, section 4).
pub(super) fn cookies<'a>(header: &str, value: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let most = if header == "set-cookie" { 1 } else { usize::MAX };
    value
        .split(';')
        .take(most)
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim()))
}

fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            (other, _) => bytes.push(*other),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// What a [`Function`] does with its argument.
#[derive(Clone, Debug, PartialEq)]
enum Task {
    Entry(String),
    HasEntry(String),
    Entries,
    QueryMap,
    CookieMap(&'static str),
    Matches(Pattern),
    Hex,
}

/// One of these functions, with everything but its argument fixed.
struct Function {
    task: Task,
    signature: Signature,
}

impl Task {
    fn name(&self) -> &'static str {
        match self {
            Self::Entry(_) => "entry",
            Self::HasEntry(_) => "has_entry",
            Self::Entries => "entries",
            Self::QueryMap => "query_map",
            Self::CookieMap(_) => "cookie_map",
            Self::Matches(_) => "matches",
            Self::Hex => "hex",
        }
    }

    /// What it was made with.
    fn detail(&self) -> &str {
        match self {
            Self::Entry(key) | Self::HasEntry(key) => key,
            Self::CookieMap(header) => header,
            Self::Matches(pattern) => pattern.as_str(),
            Self::Entries | Self::QueryMap | Self::Hex => "",
        }
    }

    fn run(&self, argument: &ArrayRef) -> Result<ArrayRef> {
        Ok(match self {
            Self::Entry(key) => Arc::new(StringArray::from_iter_values(
                Maps::of(argument)?
                    .values_under(key)
                    .map(Option::unwrap_or_default),
            )),
            Self::HasEntry(key) => Arc::new(BooleanArray::from_iter(
                Maps::of(argument)?
                    .values_under(key)
                    .map(|value| Some(value.is_some())),
            )),
            Self::Entries => Arc::new(Int64Array::from_iter_values(
                Maps::of(argument)?
                    .rows()
                    .map(|row| i64::try_from(row.count()).unwrap_or(i64::MAX)),
            )),
            Self::QueryMap => maps(
                texts(argument)?
                    .iter()
                    .map(|query| query_parameters(query.unwrap_or_default())),
            )?,
            Self::CookieMap(header) => maps(Maps::of(argument)?.rows().map(|row| {
                row.filter(|(name, _)| name == header)
                    .flat_map(|(_, value)| cookies(header, value))
                    .map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)))
            }))?,
            Self::Matches(pattern) => Arc::new(BooleanArray::from_iter(
                texts(argument)?
                    .iter()
                    .map(|text| Some(pattern.regex().is_match(text.unwrap_or_default()))),
            )),
            Self::Hex => Arc::new(StringArray::from_iter_values(
                argument
                    .as_primitive::<UInt64Type>()
                    .values()
                    .iter()
                    .map(|number| format!("{number:x}")),
            )),
        })
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.task.name()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let argument = args
            .first()
            .map(|argument| argument.schema_name().to_string())
            .unwrap_or_default();
        Ok(format!(
            "{}({argument}, {:?})",
            self.task.name(),
            self.task.detail()
        ))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.task {
            Task::Entry(_) | Task::Hex => DataType::Utf8,
            Task::HasEntry(_) | Task::Matches(_) => DataType::Boolean,
            Task::Entries => DataType::Int64,
            Task::QueryMap | Task::CookieMap(_) => schema::map_type(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(argument)] => Ok(ColumnarValue::Array(self.task.run(argument)?)),
            [ColumnarValue::Scalar(argument)] => {
                let result = self.task.run(&argument.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
            }
            _ => exec_err!("{} takes one argument", self.task.name()),
        }
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.task)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.task == other.task
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.task.name().hash(state);
        self.task.detail().hash(state);
    }
}

/// A column of maps of texts.
pub(super) struct Maps<'a> {
    map: &'a MapArray,
    keys: Keys<'a>,
    values: Values<'a>,
}

/// A map's keys, as they are laid out.
#[derive(Clone, Copy)]
enum Keys<'a> {
    Plain(&'a StringArray),
    /// By their numbers in a dictionary.
    Words(&'a [i32], &'a StringArray),
}

/// A map's values, as they are laid out.
#[derive(Clone, Copy)]
enum Values<'a> {
    Plain(&'a StringArray),
    Views(&'a StringViewArray),
}

impl<'a> Keys<'a> {
    fn of(array: &'a ArrayRef) -> Option<Self> {
        let words = array.as_dictionary_opt::<Int32Type>();
        match words.filter(|words| words.null_count() == 0) {
            Some(words) => Some(Self::Words(
                words.keys().values(),
                words.values().as_string_opt()?,
            )),
            None => array.as_string_opt().map(Self::Plain),
        }
    }

    fn get(self, entry: usize) -> &'a str {
        match self {
            Self::Plain(keys) => keys.value(entry),
            Self::Words(numbers, words) => {
                let number = numbers
                    .get(entry)
                    .and_then(|number| usize::try_from(*number).ok());
                number.map_or("", |number| words.value(number))
            }
        }
    }
}

impl<'a> Values<'a> {
    fn of(array: &'a ArrayRef) -> Option<Self> {
        let plain = array.as_string_opt().map(Self::Plain);
        plain.or_else(|| array.as_string_view_opt().map(Self::Views))
    }

    fn get(self, entry: usize) -> &'a str {
        match self {
            Self::Plain(values) => values.value(entry),
            Self::Views(values) => values.value(entry),
        }
    }
}

impl<'a> Maps<'a> {
    pub(super) fn of(array: &'a ArrayRef) -> Result<Self> {
        let map = array.as_map_opt();
        let parts = map.and_then(|map| {
            Some(Self {
                map,
                keys: Keys::of(map.keys())?,
                values: Values::of(map.values())?,
            })
        });
        parts.map_or_else(|| exec_err!("{} is no map of texts", array.data_type()), Ok)
    }

    /// The entries of one row.
    pub(super) fn row(&self, row: usize) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (keys, values) = (self.keys, self.values);
        self.entries(row)
            .map(move |entry| (keys.get(entry), values.get(entry)))
    }

    /// Where the entries of one row are.
    fn entries(&self, row: usize) -> Range<usize> {
        let end = |at: usize| {
            self.map
                .value_offsets()
                .get(at)
                .map_or(0, |end| usize::try_from(*end).unwrap_or(0))
        };
        end(row)..end(row + 1)
    }

    fn rows(&self) -> impl Iterator<Item = impl Iterator<Item = (&'a str, &'a str)> + use<'a>> {
        (0..self.map.len()).map(|row| self.row(row))
    }

    /// The first value of each row under a key, which in a dictionary is looked for once.
    fn values_under(&self, key: &str) -> impl Iterator<Item = Option<&'a str>> {
        let wanted = match self.keys {
            Keys::Plain(_) => None,
            // Of a key that is in no row, no number.
            Keys::Words(_, words) => Some(
                words
                    .iter()
                    .position(|word| word == Some(key))
                    .map_or(-1, |at| at as i32),
            ),
        };
        (0..self.map.len()).map(move |row| {
            let mut entries = self.entries(row);
            let found = match (wanted, self.keys) {
                (Some(wanted), Keys::Words(numbers, _)) => {
                    let (from, to) = (entries.start, entries.end);
                    let numbers = numbers.get(from..to).unwrap_or_default();
                    numbers
                        .iter()
                        .position(|number| *number == wanted)
                        .map(|at| from + at)
                }
                _ => entries.find(|entry| self.keys.get(*entry) == key),
            };
            found.map(|entry| self.values.get(entry))
        })
    }
}

/// A column of texts, whichever way they are laid out.
pub(super) fn texts(array: &ArrayRef) -> Result<StringViewArray> {
    match array.data_type() {
        DataType::Utf8View => Ok(array.as_string_view().clone()),
        DataType::Utf8 => Ok(StringViewArray::from(array.as_string::<i32>())),
        other => exec_err!("{other} is no text"),
    }
}

/// A column of maps, from the entries of each row.
fn maps<'a, R: Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>>(
    rows: impl Iterator<Item = R>,
) -> Result<ArrayRef> {
    let (mut keys, mut values) = (StringBuilder::new(), StringBuilder::new());
    let mut lengths = Vec::new();
    for row in rows {
        let before = keys.len();
        for (key, value) in row {
            keys.append_value(key);
            values.append_value(value);
        }
        lengths.push(keys.len() - before);
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(keys.finish()), Arc::new(values.finish())];
    let entries = StructArray::try_new(schema::map_fields(), columns, None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(MapArray::try_new(
        schema::map_entries(),
        offsets,
        entries,
        None,
        false,
    )?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_with_escapes_and_broken_ones() {
        let query = "a=1&b=x%20y+z&c&d=%zz%4&=e&a=2&%C3%A4=%ff";
        let parameters: Vec<(String, String)> = query_parameters(query)
            .map(|(k, v)| (k.into_owned(), v.into_owned()))
            .collect();
        let expected = [
            ("a", "1"),
            ("b", "x y z"),
            ("c", ""),
            ("d", "%zz%4"),
            ("", "e"),
            ("a", "2"),
            ("ä", "\u{fffd}"),
        ];
        assert_eq!(parameters, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn cookies_of_both_directions() {
        let sent: Vec<_> = cookies("cookie", "a=1; b = 2;c").collect();
        assert_eq!(sent, [("a", "1"), ("b", "2")]);
        let set: Vec<_> = cookies("set-cookie", "id=x; Path=/; HttpOnly").collect();
        assert_eq!(set, [("id", "x")]);
    }
}
