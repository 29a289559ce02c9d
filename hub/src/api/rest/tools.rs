//! `POST /mcp/tools/…`: tools for programs. The raw JSON result, as long as it is unless `max_bytes` says otherwise
//! (contract 1.4).

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::api::operations::required;
use crate::api::params::Params;
use crate::api::tools::{self, Follow};
use crate::api::{ApiError, App};

/// `{"name": …, "arguments": {…}}`; early clients write `tool` for `name`.
pub(super) async fn call(State(app): State<App>, mut params: Params) -> Result<Response, ApiError> {
    let name = required(&mut params, &["name", "tool"])?;
    let arguments = match params.value(&["arguments", "args"]) {
        None => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err(ApiError::bad_request("`arguments` must be a JSON object")),
    };
    run(&app, &name, arguments).await
}

/// The arguments alone; the path names the tool.
pub(super) async fn named(State(app): State<App>, mut params: Params) -> Result<Response, ApiError> {
    let name = required(&mut params, &["tool"])?;
    run(&app, &name, params.rest()).await
}

async fn run(app: &App, name: &str, arguments: Map<String, Value>) -> Result<Response, ApiError> {
    let tool = tools::find(name)?;
    let follow = Follow::quiet(CancellationToken::new());
    let answer = tools::call(app, tool, arguments, None, &follow).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer.text).into_response())
}
