//! The service `delayed_dissection.DelayedDissection`, as Connect's unary JSON over HTTP
//! (<https://connectrpc.com/docs/protocol/>): POST with the message as the body, and GET for what changes nothing. As gRPC it
//! is in [`super::grpc`].

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::operations::{Operation, operation, service};
use super::params::Params;
use super::{ApiError, App};

pub(super) fn routes() -> Router<App> {
    const SERVICE: &str = "/delayed_dissection.DelayedDissection";
    Router::new()
        .route("/delayed_dissection", post(operation!(service::start)))
        .route(&format!("{SERVICE}/Start"), post(operation!(service::start)))
        .route(
            &format!("{SERVICE}/GetStatus"),
            get(operation!(service::status)).merge(post(operation!(service::status))),
        )
        .route(&format!("{SERVICE}/Stop"), post(operation!(service::stop)))
        .route(
            &format!("{SERVICE}/List"),
            get(operation!(service::list)).merge(post(operation!(service::list))),
        )
        .route(&format!("{SERVICE}/Delete"), post(operation!(service::delete)))
}

/// A message, or why it cannot be read.
type Asked = Result<Params, ApiError>;

fn get(operation: Operation) -> MethodRouter<App> {
    routing::get(move |State(app), asked| reply(operation, app, asked))
}

fn post(operation: Operation) -> MethodRouter<App> {
    routing::post(move |State(app), asked| reply(operation, app, asked))
}

async fn reply(operation: Operation, app: App, asked: Asked) -> Response {
    let mut params = match message(asked) {
        Ok(params) => params,
        Err(error) => return error.into_connect(),
    };
    match operation(&app, &mut params).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => error.into_connect(),
    }
}

/// Connect's GET carries the message in one parameter; ours may stand beside it or alone.
fn message(asked: Asked) -> Asked {
    let mut params = asked?;
    // Both say how the message is written; JSON is the only way here.
    params.text(&["connect"])?;
    let encoding = params.text(&["encoding"])?;
    if encoding.is_some_and(|encoding| encoding != "json") {
        return Err(ApiError::bad_request("`encoding` must be json"));
    }
    let packed = params.flag(&["base64"])?.unwrap_or(false);
    if let Some(message) = params.text(&["message"])? {
        let message = match packed {
            // With or without padding: the protocol lets clients choose.
            true => BASE64_URL_SAFE_NO_PAD
                .decode(message.trim_end_matches('='))
                .map_err(|error| ApiError::bad_request(format!("`message` is not base64: {error}")))?,
            false => message.into_bytes(),
        };
        params.give_json(&message, "`message`")?;
        params.check()?;
    }
    Ok(params)
}
