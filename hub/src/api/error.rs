//! One error for all answers: a status, and `{"error": …}` that says what to do.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tonic::{Code, Status};

use crate::catalogue::CatalogueError;
use crate::jobs::DissectionError;
use crate::live::LiveError;
use crate::query::QueryError;
use crate::snapshots::{ExportError, SnapshotError};

/// An answer that is an error.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, message: impl ToString) -> Self {
        Self {
            status,
            message: message.to_string(),
        }
    }

    /// 400: the request has to be changed.
    pub fn bad_request(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 403: who asks may not.
    pub fn forbidden(message: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404: what it names is not there.
    pub fn not_found(message: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 405: the route is there, the method is not.
    pub fn wrong_method(message: impl ToString) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message)
    }

    /// 409: it does not fit what there is.
    pub fn conflict(message: impl ToString) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 413: the body is too long.
    pub fn too_large(message: impl ToString) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// 415: the body is of a kind that is not read.
    pub fn wrong_kind(message: impl ToString) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// 429: too much is under way.
    pub fn too_many(message: impl ToString) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, message)
    }

    /// Whether it is a limit that was met.
    pub fn is_too_many(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// 500: the hub's own fault, or its disk's.
    pub fn internal(message: impl ToString) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// 503: agents, or the hub itself, are out of reach for now.
    pub fn unavailable(message: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// What it says.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The answer in the form that Connect clients read (<https://connectrpc.com/docs/protocol/#error-end-stream>),
    /// with `error` beside it.
    pub fn into_connect(self) -> Response {
        let code = match self.code() {
            Code::NotFound => "not_found",
            Code::AlreadyExists => "already_exists",
            Code::ResourceExhausted => "resource_exhausted",
            Code::Unavailable => "unavailable",
            Code::Unimplemented => "unimplemented",
            Code::Internal => "internal",
            _ => "invalid_argument",
        };
        let body = json!({ "code": code, "message": self.message, "error": self.message });
        (self.status, Json(body)).into_response()
    }

    /// The answer in the form of gRPC.
    pub fn into_status(self) -> Status {
        self.log();
        Status::new(self.code(), self.message)
    }

    /// The code that gRPC and Connect share
    /// (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>).
    fn code(&self) -> Code {
        match self.status {
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::CONFLICT => Code::AlreadyExists,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => Code::ResourceExhausted,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::Unimplemented,
            status if status.is_server_error() => Code::Internal,
            _ => Code::InvalidArgument,
        }
    }

    /// What is the hub's own fault is in its log, too.
    fn log(&self) {
        if self.status.is_server_error() {
            tracing::warn!(
                status = self.status.as_u16(),
                error = self.message,
                "request not answered"
            );
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        (self.status, Json(json!({ "error": self.message }))).into_response()
    }
}

impl From<SnapshotError> for ApiError {
    fn from(error: SnapshotError) -> Self {
        use SnapshotError as E;
        match &error {
            E::Name(_) | E::Window(_) | E::UnknownNode { .. } | E::Ambiguous { .. } => {
                Self::bad_request(error)
            }
            E::Taken(_) | E::NotCompleted { .. } => Self::conflict(error),
            E::Unknown { .. } => Self::not_found(error),
            E::TooMany => Self::too_many(error),
            E::NoNodes | E::NoAnswer(_) | E::Find(_) => Self::unavailable(error),
            E::Catalogue(CatalogueError::Closed) => Self::unavailable(error),
            E::Catalogue(_) | E::Io { .. } => Self::internal(error),
        }
    }
}

impl From<DissectionError> for ApiError {
    fn from(error: DissectionError) -> Self {
        use DissectionError as E;
        match &error {
            E::Name(_) | E::Ambiguous { .. } => Self::bad_request(error),
            E::Taken { .. } | E::Ended { .. } => Self::conflict(error),
            E::Unknown { .. } => Self::not_found(error),
            E::TooMany => Self::too_many(error),
            E::Catalogue(CatalogueError::Closed) => Self::unavailable(error),
            E::Catalogue(_) | E::Io { .. } => Self::internal(error),
        }
    }
}

impl From<LiveError> for ApiError {
    fn from(error: LiveError) -> Self {
        match &error {
            LiveError::Off(_) => Self::conflict(error),
            LiveError::NotYet | LiveError::Failed(_) => Self::unavailable(error),
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match &error {
            QueryError::BadRequest(_) => Self::bad_request(error),
            QueryError::NotFound(_) => Self::not_found(error),
            QueryError::Busy(_) => Self::too_many(error),
            QueryError::Internal(_) => Self::internal(error),
        }
    }
}

impl From<ExportError> for ApiError {
    fn from(error: ExportError) -> Self {
        use ExportError as E;
        match &error {
            E::UnknownNode { .. } | E::EmptyWindow | E::Filter { .. } => Self::bad_request(error),
            E::Sink(_) | E::Segment { .. } => Self::internal(error),
        }
    }
}

impl From<CatalogueError> for ApiError {
    fn from(error: CatalogueError) -> Self {
        Self::from(SnapshotError::Catalogue(error))
    }
}
