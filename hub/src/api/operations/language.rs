//! The filter language, explained.

use serde_json::{Value, json};
use wiretape_kfl::{Field, FieldInfo, KflError, compile};

use crate::api::params::Params;
use crate::api::{ApiError, App};

/// How a filter is read, or where it is wrong.
pub async fn explain_kfl(_: &App, params: &mut Params) -> Result<Value, ApiError> {
    let text = params.text(&["kfl", "filter", "expression"])?.unwrap_or_default();
    Ok(match compile(&text, crate::now()) {
        Ok(filter) => json!({
            "valid": true,
            "filter": filter.to_string(),
            "matches_everything": filter.expr.is_none(),
            "fields": filter.fields().into_iter().map(Field::info).map(field).collect::<Vec<_>>(),
        }),
        Err(error) => wrong(&error),
    })
}

fn wrong(error: &KflError) -> Value {
    json!({
        "valid": false,
        "error": error.to_string(),
        "line": error.position.line,
        "column": error.position.column,
        "next": error.hint.clone().unwrap_or_else(|| "read the resource wiretape://kfl".to_owned()),
    })
}

fn field(info: &FieldInfo) -> Value {
    let protocols: Vec<&str> = info.protocols.iter().map(|protocol| protocol.name()).collect();
    let mut field = json!({ "name": info.name, "type": info.kind.as_str(), "meaning": info.doc });
    if !protocols.is_empty() {
        // A comparison is false in a call of any other protocol.
        field["only_in"] = json!(protocols);
    }
    field
}
