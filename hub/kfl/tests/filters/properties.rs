//! What holds of any input.

use std::borrow::Cow;

use crate::row::Entry;
use proptest::prelude::*;
use wiretape_kfl::{FIELDS, Field, Kind, Value, compile, decide, evaluate};

/// 2026-01-31T12:00:00Z.
const NOW: u64 = 1_769_860_800_000_000_000;

/// Pieces that filters are made of, and some that they are not.
const PIECES: &[&str] = &[
    "http",
    "dns",
    "status",
    "src.pod",
    "request.headers",
    "request.headers[\"x\"]",
    "request.query.a",
    "namespaces",
    "latency_ms",
    "elapsed_time",
    "timestamp",
    "error",
    "kafka_size",
    "nope",
    "and",
    "or",
    "not",
    "in",
    "contains",
    "matches",
    "&&",
    "||",
    "!",
    "==",
    "!=",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "(",
    ")",
    "[",
    "]",
    ",",
    ".",
    "1",
    "0",
    "2.5",
    "\"x\"",
    "\"503\"",
    "r\"x+\"",
    "true",
    "nil",
    "now()",
    "duration(\"5m\")",
    "minutes(-5)",
    "size(",
    "string(",
    "has(",
    "map_get(",
    "limit(3)",
    "redact(\"path\")",
    ".exists(x,",
    ".all(x,",
    ".exists_one(x,",
    ".filter(x,",
    ".map(x,",
    "x",
    ".json()",
    ".xml()",
    ".split(\"/\")",
    ".*",
    "src.*",
    ".k",
    "[0]",
    "{",
    "}",
    ":",
    "?",
    ".startsWith(",
    ".size()",
    "# c\n",
    "\u{e9}",
    "=",
    "9223372036854775807",
    "1e308",
];

proptest! {
    #[test]
    fn any_text_is_a_filter_or_an_error(text in "\\PC{0,80}") {
        compiled_or_shown(&text);
    }

    #[test]
    fn any_sequence_of_tokens_is_a_filter_or_an_error(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24),
    ) {
        compiled_or_shown(&pieces.join(" "));
    }

    #[test]
    fn canonical_form_is_the_same_filter(text in condition()) {
        let filter = compile(&text, NOW).map_err(|error| TestCaseError::fail(format!("{text}\n{error}")))?;
        let canonical = filter.to_string();
        prop_assert_eq!(compile(&canonical, 0), Ok(filter), "{}", canonical);
    }

}

proptest! {
    // Rows are slow to make; each sees five filters.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_filter_holds_or_not_for_every_row(text in condition(), other in condition(), entry in entry()) {
        let holds = |text: String| compile(&text, NOW).map(|filter| evaluate(&filter, &entry));
        let (one, two) = (holds(text.clone()), holds(other.clone()));
        if let (Ok(one), Ok(two)) = (one, two) {
            prop_assert_eq!(holds(format!("not ({text})")), Ok(!one));
            prop_assert_eq!(holds(format!("({text}) and ({other})")), Ok(one && two));
            prop_assert_eq!(holds(format!("({text}) || ({other})")), Ok(one || two));
            let choice = format!("({text}) ? ({other}) : http");
            prop_assert_eq!(holds(choice), Ok(if one { two } else { true }));
        }
    }
}

/// Pieces that documents are made of.
const DOCUMENT: &[&str] = &[
    "<a>",
    "</a>",
    "<b c=\"d\">",
    "</b>",
    "<e/>",
    "<",
    ">",
    "/>",
    "&",
    "&#x41;",
    "&lt;",
    ";",
    "\"",
    "'",
    "=",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?",
    "?>",
    "<!DOCTYPE",
    "\u{e9}",
    "\u{feff}",
    " ",
    "x",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "1",
    "1e999",
    "\"k\"",
    "null",
    "true",
];

proptest! {
    #[test]
    fn any_text_is_a_document_or_none(pieces in prop::collection::vec(prop::sample::select(DOCUMENT), 0..24)) {
        let text = Value::Text(Cow::Owned(pieces.concat()));
        let entry = Entry::default().with(Field::SrcName, text);
        for method in ["json", "xml"] {
            let holds = |filter: String| compile(&filter, NOW).map(|filter| decide(&filter, &entry));
            let some = holds(format!("src.name.{method}() != null"));
            let none = holds(format!("src.name.{method}() == null"));
            prop_assert_eq!(some, none.map(|none| none.map(|none| !none)));
        }
    }
}

/// Compiles a text; a filter must print as itself, and an error must say something at a place in the text.
fn compiled_or_shown(text: &str) {
    match compile(text, NOW) {
        Ok(filter) => assert_eq!(compile(&filter.to_string(), NOW), Ok(filter), "{text}"),
        Err(error) => {
            assert!(!error.message.is_empty());
            assert!(text.is_char_boundary(error.position.offset), "{text}");
            assert!(error.to_string().contains('^'));
        }
    }
}

fn names(of: &[Kind]) -> impl Strategy<Value = String> + use<> {
    let names: Vec<_> = FIELDS
        .iter()
        .filter(|info| of.contains(&info.kind))
        .map(|info| info.name.to_owned())
        .collect();
    prop::sample::select(names)
}

fn quoted() -> impl Strategy<Value = String> {
    // `{:?}` escapes what KFL escapes; what it writes as `\u{..}` is left out.
    "[a-z0-9/.\"\\\\ \t\u{e9}]{0,6}".prop_map(|text| format!("{text:?}"))
}

fn comparison() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["==", "!=", "<", "<=", ">", ">="][..])
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        names(&[Kind::Text]),
        names(&[Kind::Int]).prop_map(|name| format!("string({name})")),
        (names(&[Kind::Map]), quoted()).prop_map(|(map, key)| format!("{map}[{key}]")),
        quoted(),
    ]
}

fn number() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        names(&[Kind::Int]),
        (-1000i64..1000).prop_map(|int| int.to_string()),
        (-1e6..1e6f64).prop_map(|float| format!("{float:?}")),
        names(&[Kind::Text, Kind::List, Kind::Map]).prop_map(|name| format!("size({name})")),
        Just("response.latency".to_owned()),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let operator = prop::sample::select(&["+", "-", "*"][..]);
        (inner.clone(), operator, inner)
            .prop_map(|(left, operator, right)| format!("({left} {operator} {right})"))
    })
}

/// Conditions that are computed entry by entry, and those that look as if they were.
fn computed() -> impl Strategy<Value = String> {
    let lists = || names(&[Kind::List, Kind::Map]);
    let quantifier = prop::sample::select(&["exists", "all", "exists_one"][..]);
    let document = prop::sample::select(
        &[
            "request.body.json().a[0].b",
            "response.body.xml().*",
            "src.name.json()",
        ][..],
    );
    prop_oneof![
        (lists(), quantifier, comparison(), text())
            .prop_map(|(over, how, op, text)| format!("{over}.{how}(x, x {op} {text} or x.size() > 1)")),
        (lists(), comparison(), quoted()).prop_map(|(of, op, text)| format!("{of}.* {op} {text}")),
        (lists(), text()).prop_map(|(of, text)| format!("size({of}.filter(x, x contains {text})) == 1")),
        (lists(), quoted()).prop_map(|(of, text)| format!("{text} in {of}.map(x, x + x)")),
        (document, comparison(), quoted()).prop_map(|(of, op, text)| format!("{of} {op} {text}")),
        (text(), text(), comparison(), text()).prop_map(|(a, b, op, c)| format!("{a} + {b} {op} {c}.trim()")),
        (text(), text()).prop_map(|(a, b)| format!("{a}.contains(http ? {b} : \"x\")")),
        (number(), number(), comparison())
            .prop_map(|(a, b, op)| format!("(dns ? {a} : {b}) {op} int(\"7\")")),
        (names(&[Kind::Map]), text(), quoted())
            .prop_map(|(map, key, text)| format!("map_get({map}, {key}, {text}) != {key}")),
    ]
}

/// Texts of filters, in all dialects.
fn condition() -> impl Strategy<Value = String> {
    let infix = prop::sample::select(&["contains", "startsWith", "endsWith"][..]);
    let leaf = prop_oneof![
        names(&[Kind::Bool, Kind::Text, Kind::Int, Kind::List, Kind::Map]),
        prop::sample::select(
            &[
                "error",
                "http2",
                "true",
                "false",
                "status == nil",
                "src.port != null"
            ][..]
        )
        .prop_map(str::to_owned),
        (text(), comparison(), text()).prop_map(|(left, op, right)| format!("{left} {op} {right}")),
        (number(), comparison(), number()).prop_map(|(left, op, right)| format!("{left} {op} {right}")),
        (text(), infix.clone(), quoted()).prop_map(|(left, word, right)| format!("{left} {word} {right}")),
        (text(), infix, quoted()).prop_map(|(left, name, right)| format!("{left}.{name}({right})")),
        (text(), prop::sample::select(&["==", "!="][..]))
            .prop_map(|(left, op)| format!("{left} {op} r\"a+\\d\"")),
        (text(), prop::collection::vec(quoted(), 0..4))
            .prop_map(|(of, list)| format!("{of} in [{}]", list.join(", "))),
        (text(), names(&[Kind::List])).prop_map(|(item, list)| format!("{item} in {list}")),
        (quoted(), names(&[Kind::Map])).prop_map(|(key, map)| format!("{key} in {map}")),
        (comparison(), any::<i16>()).prop_map(|(op, by)| format!("timestamp {op} seconds({by})")),
        computed(),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("{left} and {right}")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("{left} || {right}")),
            inner.clone().prop_map(|inner| format!("({inner})")),
            inner.clone().prop_map(|inner| format!("not {inner}")),
            inner.prop_map(|inner| format!("!({inner})")),
        ]
    })
}

/// Entries with few distinct values, so that comparisons often hold; some of them of another kind than their field.
fn entry() -> impl Strategy<Value = Entry> {
    let text = || "[a/]{0,2}".prop_map(Cow::Owned);
    let value = prop_oneof![
        text().prop_map(Value::Text),
        (-2i64..3).prop_map(Value::Int),
        any::<f64>().prop_map(Value::Float),
        any::<bool>().prop_map(Value::Bool),
        (NOW - 5..NOW + 5).prop_map(Value::Time),
        prop::collection::vec(text(), 0..3).prop_map(Value::List),
    ];
    let field = prop::sample::select(FIELDS).prop_map(|info| info.field);
    (
        prop::collection::btree_map(field, value, 0..100),
        "[a/]{0,2}",
        "[a/]{0,2}",
    )
        .prop_map(|(values, key, text): (_, String, String)| {
            Entry {
                values,
                ..Entry::default()
            }
            .flag(Field::Http)
            .in_map(Field::RequestHeaders, &key, &text)
        })
}
