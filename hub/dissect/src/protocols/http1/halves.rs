//! The halves of calls that wait for each other, and what their bodies tell once they have met.

use crate::call::Outcome;
use crate::protocols::graphql::{self, Graphql};
use crate::protocols::grpc;
use crate::protocols::tap::Tap;
use crate::protocols::{Request, Response};

/// A whole request that waits for its response.
pub(super) struct PendingRequest {
    pub ordinal: u64,
    pub version: &'static str,
    pub reset: bool,
    pub tap: Option<Box<Tap>>,
    pub request: Request,
}

/// A response that waits for its request.
pub(super) struct PendingAnswer {
    pub answers: Option<u64>,
    pub base: u64,
    pub version: &'static str,
    pub reset: bool,
    pub tap: Option<Box<Tap>>,
    pub response: Response,
}

impl PendingRequest {
    /// Bytes that it holds, roughly.
    pub fn cost(&self) -> usize {
        let request = &self.request;
        let text = request.method.len() + request.path.len() + request.query.len() + request.authority.len();
        let tap = self.tap.as_ref().map_or(0, |tap| tap.cost());
        size_of::<Self>() + text + request.half.cost() + tap
    }
}

impl PendingAnswer {
    /// Bytes that it holds, roughly.
    pub fn cost(&self) -> usize {
        let tap = self.tap.as_ref().map_or(0, |tap| tap.cost());
        size_of::<Self>() + self.response.half.cost() + tap
    }
}

/// What gRPC-Web has to tell, if it is spoken.
pub(super) fn describe_grpc(
    request: Option<&mut PendingRequest>,
    answer: Option<&mut PendingAnswer>,
) -> Option<grpc::Grpc> {
    let asked = request
        .as_ref()
        .and_then(|request| request.tap.as_ref()?.messages());
    let answered = answer.as_ref().and_then(|answer| answer.tap.as_ref()?.messages());
    asked.or(answered)?;
    let call = grpc::Call {
        path: request.as_ref().map_or("", |request| &request.request.path),
        request: request.as_ref().map(|request| &request.request.half.headers),
        response: answer.as_ref().map(|answer| &answer.response.half.headers),
        asked,
        answered,
    };
    let mut grpc = call.describe()?;
    if let Some(request) = request {
        request.request.half.fields = std::mem::take(&mut grpc.asked);
    }
    if let Some(answer) = answer {
        answer.response.half.fields = std::mem::take(&mut grpc.answered);
    }
    Some(grpc)
}

/// What GraphQL has to tell, if it is spoken.
pub(super) fn describe_graphql(
    request: Option<&mut PendingRequest>,
    answer: Option<&mut PendingAnswer>,
) -> Option<Graphql> {
    let request = request?;
    let asked = request.tap.as_ref().and_then(|tap| tap.json());
    let answered = answer.as_ref().and_then(|answer| answer.tap.as_ref()?.json());
    let mut told = graphql::describe(&request.request.query, asked, answered)?;
    request.request.half.fields = std::mem::take(&mut told.asked);
    if let Some(answer) = answer {
        answer.response.half.fields = std::mem::take(&mut told.answered);
    }
    Some(told)
}

/// The status across protocols (RFC 9110, section 15).
pub(crate) fn outcome(status: i32) -> Outcome {
    match status {
        // A server that waited in vain for the client, a gateway for the server behind it.
        408 | 504 => Outcome::Timeout,
        400..500 => Outcome::ClientError,
        500..600 => Outcome::ServerError,
        100..400 => Outcome::Ok,
        _ => Outcome::Unknown,
    }
}
