//! The service `delayed_dissection.DelayedDissection` as gRPC, with reflection (v1 and v1alpha), on the port of all else: a
//! request of gRPC is told by its content type. The operations are those of the JSON; a message becomes their parameters,
//! and their answer is read into a message.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tonic::codegen::Service as _;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_reflection::server::{Builder, Error};

use super::operations::{Operation, operation, service};
use super::params::Params;
use super::request::{self, MAX_BODY};
use super::{ApiError, App};
use messages::delayed_dissection_server::{DelayedDissection, DelayedDissectionServer};
use messages::{DeleteResponse, Dissection, DissectionRequest, ListRequest, ListResponse};

/// What `build.rs` makes of the `.proto`.
#[allow(clippy::allow_attributes_without_reason, reason = "the code is tonic's")]
mod messages {
    tonic::include_proto!("delayed_dissection");
}

/// The service's description, as it is published.
pub(super) const PROTO: &str = include_str!("../../proto/delayed_dissection.proto");
/// The same, compiled: what reflection answers from.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/delayed_dissection.bin"));

/// What answers requests of gRPC.
pub(super) fn routes(app: App) -> Result<axum::Router, Error> {
    let described = || Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
    let service = DelayedDissectionServer::new(Answering(app)).max_decoding_message_size(MAX_BODY);
    let routes = Routes::new(service)
        .add_service(described().build_v1()?)
        .add_service(described().build_v1alpha()?);
    Ok(routes.prepare().into_axum_router().fallback(no_method))
}

/// Takes the requests of gRPC, and leaves the others to the routes. Over HTTP/1 there are no trailers that its clients
/// would read: who tries is told by the routes what is read there.
pub(super) async fn or_else(
    State(mut routes): State<axum::Router>,
    request: Request,
    next: Next,
) -> Response {
    if request.version() != Version::HTTP_2 || !is_grpc(&request) {
        return next.run(request).await;
    }
    match routes.call(request).await {
        Ok(answer) => answer.into_response(),
        Err(never) => match never {},
    }
}

/// A method that is not there. What was sent is read all the same: who is answered before that has its stream reset behind
/// the answer (RFC 9113 section 8.1), and clients such as curl then lose the answer.
async fn no_method(asked: Request) -> Response {
    let path = crate::snapshots::shown(asked.uri().path());
    if let Err(error) = request::read(asked.into_body()).await {
        return error.into_status().into_http::<Body>();
    }
    let told = format!("there is no method {path}; reflection tells those that there are");
    Status::unimplemented(told).into_http::<Body>()
}

/// How an answer of gRPC ended, where it is one that ended without a message.
pub(super) fn refusal(answer: &Response) -> Option<Code> {
    let code = answer.headers().get(Status::GRPC_STATUS)?;
    Some(Code::from_bytes(code.as_bytes())).filter(|code| *code != Code::Ok)
}

/// `application/grpc`, also with a `+proto`; `application/grpc-web` is another protocol.
fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let rest = kind
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.strip_prefix("application/grpc"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

struct Answering(App);

type Asked<T> = tonic::Request<T>;
type Answer<T> = Result<tonic::Response<T>, Status>;

#[tonic::async_trait]
impl DelayedDissection for Answering {
    async fn start(&self, asked: Asked<DissectionRequest>) -> Answer<Dissection> {
        self.answer(operation!(service::start), asked).await
    }

    async fn get_status(&self, asked: Asked<DissectionRequest>) -> Answer<Dissection> {
        self.answer(operation!(service::status), asked).await
    }

    async fn stop(&self, asked: Asked<DissectionRequest>) -> Answer<Dissection> {
        self.answer(operation!(service::stop), asked).await
    }

    async fn list(&self, asked: Asked<ListRequest>) -> Answer<ListResponse> {
        self.answer(operation!(service::list), asked).await
    }

    async fn delete(&self, asked: Asked<DissectionRequest>) -> Answer<DeleteResponse> {
        self.answer(operation!(service::delete), asked).await
    }
}

impl Answering {
    async fn answer<A, B>(&self, operation: Operation, asked: Asked<A>) -> Answer<B>
    where
        A: Serialize,
        B: DeserializeOwned,
    {
        let mut params = params(asked.get_ref()).map_err(ApiError::into_status)?;
        let answer = operation(&self.0, &mut params)
            .await
            .map_err(ApiError::into_status)?;
        let message =
            serde_json::from_value(answer).map_err(|error| ApiError::internal(error).into_status())?;
        Ok(tonic::Response::new(message))
    }
}

/// The fields of a message that are set: proto3 tells an empty text from none as little as we do.
fn params(message: &impl Serialize) -> Result<Params, ApiError> {
    let mut params = Params::default();
    if let Value::Object(fields) = serde_json::to_value(message).map_err(ApiError::internal)? {
        let set = fields.into_iter().filter(|(_, value)| value.as_str() != Some(""));
        params.give_all(set.collect());
    }
    Ok(params)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_that_names_a_dissection_becomes_a_parameter() {
        let message = DissectionRequest {
            snapshot_id: "f4c4".to_owned(),
            dissection: "calls".to_owned(),
            ..DissectionRequest::default()
        };
        let given = params(&message).map(Params::rest).map(Value::Object);
        assert_eq!(
            given.ok(),
            Some(json!({ "snapshot_id": "f4c4", "dissection": "calls" }))
        );
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        let request = |kind: &str| {
            Request::builder()
                .header(header::CONTENT_TYPE, kind)
                .body(axum::body::Body::empty())
                .expect("it is one")
        };
        for kind in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;x=y",
        ] {
            assert!(is_grpc(&request(kind)), "{kind}");
        }
        for kind in [
            "application/grpc-web",
            "application/grpcx",
            "application/json",
            "",
        ] {
            assert!(!is_grpc(&request(kind)), "{kind}");
        }
    }
}
