//! Parameters out of a request of HTTP: its path, its query, its body.

use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::{HeaderMap, header};
use futures::StreamExt;
use serde_json::Value;

use super::params::Params;
use super::{ApiError, routes};
use crate::snapshots::shown;

/// Longest body that is read. The largest request there is names a window, some nodes and a filter.
pub const MAX_BODY: usize = 1 << 20;
/// A longer body is thrown away up to here, so that its sender reads the answer instead of a broken connection.
const MAX_DISCARDED: usize = 64 << 20;

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let mut params = Self::default();
        let query: Query<Vec<(String, String)>> = Query::try_from_uri(request.uri()).map_err(|error| {
            ApiError::bad_request(format!(
                "the query cannot be read: {error}; percent-encode its values"
            ))
        })?;
        for (name, value) in query.0 {
            params.give(&name, Value::String(value));
        }
        let (mut head, body) = request.into_parts();
        match RawPathParams::from_request_parts(&mut head, &()).await {
            Ok(path) => {
                for (name, value) in &path {
                    params.give(name, Value::String(value.to_owned()));
                }
            }
            Err(RawPathParamsRejection::InvalidUtf8InPathParam(error)) => {
                return Err(ApiError::bad_request(format!("the path cannot be read: {error}")));
            }
            // The route has none.
            Err(_) => {}
        }
        let body = read(body).await?;
        if !body.is_empty() {
            check_kind(&head.headers)?;
            params.give_json(&body, "the body")?;
        }
        params.route = routes::of(&head.method, head.uri.path());
        params.check()?;
        Ok(params)
    }
}

/// A body to its end, and no further than anybody means it.
pub(super) async fn read(body: Body) -> Result<Vec<u8>, ApiError> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut length = 0_usize;
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| ApiError::bad_request(format!("the body broke off: {error}")))?;
        length += part.len();
        if length > MAX_DISCARDED {
            break;
        }
        if length <= MAX_BODY {
            bytes.extend_from_slice(&part);
        }
    }
    if length > MAX_BODY {
        return Err(ApiError::too_large(format!(
            "the body is longer than {MAX_BODY} bytes; no request here needs that"
        )));
    }
    Ok(bytes)
}

/// JSON is read under any name (curl's default says it is a form), other encodings are told apart by theirs.
fn check_kind(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    if [
        "application/proto",
        "application/grpc",
        "application/connect",
        "multipart/",
    ]
    .iter()
    .any(|not| kind.starts_with(not))
    {
        return Err(ApiError::wrong_kind(format!(
            "a body of type {} is not read here; send application/json",
            shown(kind)
        )));
    }
    Ok(())
}
