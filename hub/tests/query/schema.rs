//! `docs/schema.md` says what the table is.

use std::path::Path;

use datafusion::arrow::datatypes::FieldRef;
use wiretape_dissect::Marks;
use wiretape_hub::calls::schema::{COLUMNS, Column, VERSION, schema};
use wiretape_hub::calls::{connections, events, known};

#[test]
fn document_is_in_step() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema.md");
    let document = std::fs::read_to_string(path).unwrap();
    assert!(document.contains(&format!("The version is {VERSION}.")));
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
    let schema = schema();
    let row = |(column, field): (&Column, &FieldRef)| {
        assert_eq!(column.name, field.name());
        let (name, doc) = (column.name, column.doc);
        let null = if field.is_nullable() { "NULL" } else { "" };
        format!("| `{name}` | {} | {null} | {doc} |", column.kind.sql())
    };
    let columns = COLUMNS.iter().zip(schema.fields()).map(row);
    let of_connections = connections::schema();
    let of_connections = connections::COLUMNS.iter().zip(of_connections.fields()).map(row);
    let marks = Marks::NAMES
        .iter()
        .map(|(mark, name)| format!("| `{name}` | {} |", mark.0));
    let of_names = known::schema();
    let of_names = known::COLUMNS.iter().zip(of_names.fields()).map(row);
    let of_events = events::schema();
    let of_events = events::COLUMNS.iter().zip(of_events.fields()).map(row);
    let expected: Vec<String> = columns
        .chain(marks)
        .chain(of_connections)
        .chain(of_names)
        .chain(of_events)
        .collect();
    assert_eq!(rows, expected, "the table should be:\n{}", expected.join("\n"));
}
