//! `redact(..)`: what an answer must not show. It hides columns, and single entries of maps, where rows are read for an
//! answer. What a call is asked for again by stays: its id (without the node, if that is hidden) and the cursor.

use datafusion::logical_expr::Expr;
use wiretape_kfl::{Field, Filter, Kind, Redaction};

use super::fields::{self, Listed, Mapped};
use super::filter::bodies;
use crate::calls::schema::{COLUMNS, Kind as Stored};

/// What stands in the place of a hidden text.
pub(super) const REDACTED: &str = "[REDACTED]";

/// What is hidden. `Default` is nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Hidden {
    columns: Vec<String>,
    /// Of these columns, what is under these keys.
    entries: Vec<(String, String)>,
}

impl Hidden {
    /// What a filter hides.
    pub(super) fn by(filter: &Filter) -> Self {
        let mut hidden = Self::default();
        for redaction in &filter.redactions {
            match redaction {
                Redaction::Field(field) => hidden.field(*field),
                Redaction::Entry { map, key } => hidden.entry(*map, key),
            }
        }
        hidden
    }

    /// Whether a column must not be shown.
    pub(super) fn column(&self, name: &str) -> bool {
        self.columns.iter().any(|hidden| hidden == name)
    }

    /// Whether what a map has under a key must not be shown.
    pub(super) fn key(&self, column: &str, key: &str) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|(of, hidden)| of == column && hidden.eq_ignore_ascii_case(key))
    }

    /// Whether what an expression yields tells of something hidden.
    pub(super) fn tells(&self, expr: &Expr) -> bool {
        columns_of(expr).iter().any(|name| self.column(name))
    }

    fn field(&mut self, field: Field) {
        match field {
            // Cookies are header fields.
            Field::RequestCookies => return self.entries_of(&["req_headers"], "cookie"),
            Field::ResponseCookies => return self.entries_of(&["resp_headers"], "set-cookie"),
            // How long it took can be told from when its parts came.
            Field::ElapsedTime | Field::Timestamp => {
                let times = COLUMNS.iter().filter(|column| column.kind == Stored::MaybeTime);
                self.columns.extend(times.map(|column| column.name.to_owned()));
            }
            _ => {}
        }
        let exprs = match field.kind() {
            Kind::Text => vec![fields::text(field)],
            Kind::Int | Kind::Float => vec![fields::number(field)],
            Kind::Bool => vec![fields::flag(field)],
            Kind::Time => vec![fields::time(field)],
            Kind::List => match fields::list(field) {
                Listed::Texts(columns) => columns.map(datafusion::logical_expr::col).into(),
                Listed::Marks => vec![datafusion::logical_expr::col("marks")],
                Listed::Joined(list) => vec![list],
                Listed::Nothing => Vec::new(),
            },
            Kind::Map => match fields::map(field) {
                Mapped::Of(value) | Mapped::One(_, value) => vec![value],
                Mapped::Nothing => Vec::new(),
            },
        };
        for column in exprs.iter().flat_map(columns_of) {
            match column.as_str() {
                // It holds what single protocols have, each under the field's name.
                "fields" => self.entries_of(&["fields"], field.name()),
                // It only says which of two columns is meant.
                "side" if field != Field::Outgoing => {}
                _ => self.columns.push(column),
            }
        }
    }

    fn entry(&mut self, map: Field, key: &str) {
        match map {
            Field::RequestHeaders => self.entries_of(&["req_headers"], key),
            Field::ResponseHeaders => self.entries_of(&["resp_headers"], key),
            Field::LocalLabels | Field::RemoteLabels => self.entries_of(&["src_labels", "dst_labels"], key),
            Field::LocalAnnotations | Field::RemoteAnnotations => {
                self.entries_of(&["src_annotations", "dst_annotations"], key)
            }
            // One parameter or cookie stands among the others in one text, which is hidden as a whole.
            whole => self.field(whole),
        }
    }

    fn entries_of(&mut self, columns: &[&str], key: &str) {
        let entries = columns
            .iter()
            .map(|column| ((*column).to_owned(), key.to_owned()));
        self.entries.extend(entries);
    }

    /// Whether a body must not be shown.
    pub(super) fn body(&self, field: Field) -> bool {
        bodies::column(field).is_some_and(|column| self.column(column))
    }
}

fn columns_of(expr: &Expr) -> Vec<String> {
    let mut names: Vec<String> = expr
        .column_refs()
        .iter()
        .map(|column| column.name().to_owned())
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(text: &str) -> Hidden {
        Hidden::by(&wiretape_kfl::compile(text, 0).unwrap())
    }

    #[test]
    fn a_field_hides_every_column_that_it_is_made_of() {
        let told = hidden("redact(\"url\", \"src.name\")");
        for column in [
            "path",
            "query",
            "src_pod",
            "src_service",
            "src_dns",
            "src_process",
        ] {
            assert!(told.column(column), "{column}");
        }
        assert!(!told.column("dst_pod"));
    }

    #[test]
    fn an_entry_hides_what_is_under_its_key_and_no_more() {
        let told = hidden("redact(\"request.headers.Authorization\", \"redis_key\")");
        assert!(told.key("req_headers", "authorization") && !told.key("req_headers", "host"));
        assert!(!told.key("resp_headers", "authorization") && !told.column("req_headers"));
        assert!(told.key("fields", "redis_key") && !told.key("fields", "redis_type"));
    }

    #[test]
    fn every_field_that_an_answer_can_show_can_be_hidden() {
        for info in wiretape_kfl::FIELDS {
            let told = hidden(&format!("redact(\"{}\")", info.name));
            let held = match info.kind {
                Kind::Text => !columns_of(&fields::text(info.field)).is_empty(),
                Kind::Int | Kind::Float => !columns_of(&fields::number(info.field)).is_empty(),
                Kind::Bool => !columns_of(&fields::flag(info.field)).is_empty(),
                _ => true,
            };
            if held && !matches!(info.kind, Kind::List | Kind::Map) {
                assert_ne!(told, Hidden::default(), "{}", info.name);
            }
        }
    }
}
