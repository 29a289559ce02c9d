//! The halves of calls that wait for each other, and what their bodies tell once they have met.

use crate::call::{Marks, Outcome};
use crate::protocols::graphql::{self, Graphql};
use crate::protocols::grpc;
use crate::protocols::tap::Tap;
use crate::protocols::{LeftOut, Request, Response, Transaction};

/// A whole request that waits for its response.
pub(super) struct PendingRequest {
    pub ordinal: u64,
    pub version: &'static str,
    pub reset: bool,
    pub tap: Option<Box<Tap>>,
    pub request: Box<Request>,
}

/// A response that waits for its request.
pub(super) struct PendingAnswer {
    pub answers: Option<u64>,
    pub base: u64,
    pub version: &'static str,
    pub reset: bool,
    pub tap: Option<Box<Tap>>,
    pub response: Box<Response>,
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

/// A request with its response, or one of the two, with all that their bodies tell.
pub(super) fn transaction(
    mut request: Option<PendingRequest>,
    mut answer: Option<PendingAnswer>,
    marks: Marks,
) -> Option<Transaction> {
    let version = match (&request, &answer) {
        // The capture may have cut it off.
        (Some(request), Some(answer)) if request.version.is_empty() => answer.version,
        (Some(request), _) => request.version,
        (None, Some(answer)) => answer.version,
        (None, None) => return None,
    };
    let status = answer.as_ref().and_then(|answer| answer.response.status);
    let asked = request.as_ref().and_then(|request| request.tap.as_ref());
    let answered = answer.as_ref().and_then(|answer| answer.tap.as_ref());
    let taps = [asked, answered].into_iter().flatten();
    let left_out = taps.fold(LeftOut::default(), |sum, tap| sum.or(tap.left_out()));
    let grpc = describe_grpc(request.as_mut(), answer.as_mut());
    let graphql = match grpc {
        Some(_) => None,
        None => describe_graphql(request.as_mut(), answer.as_mut()),
    };
    if let Some(answer) = &mut answer
        && let Some(events) = answer.tap.as_ref().and_then(|tap| tap.events())
    {
        answer.response.half.fields = events.fields();
    }
    Some(Transaction {
        protocol: match (&grpc, &graphql) {
            (Some(_), _) => "grpc",
            (None, Some(_)) => "gqlv1",
            (None, None) => "",
        },
        version,
        request: request.map(|pending| pending.request),
        response: answer.map(|pending| pending.response),
        left_out: graphql
            .as_ref()
            .map_or(left_out, |graphql| left_out.or(graphql.left_out)),
        outcome: match (status, grpc.as_ref().and_then(|grpc| grpc.status)) {
            (Some(200), Some(status)) => grpc::outcome(status),
            (Some(200), None) if grpc.is_some() => Outcome::Unknown,
            (status, _) => {
                let told = graphql.and_then(|graphql| graphql.outcome);
                graphql::outcome(status.map_or(Outcome::Unknown, outcome), told)
            }
        },
        marks,
        ..Transaction::default()
    })
}

/// What gRPC-Web has to tell, if it is spoken.
fn describe_grpc(
    request: Option<&mut PendingRequest>,
    answer: Option<&mut PendingAnswer>,
) -> Option<grpc::Grpc> {
    let asked = request
        .as_ref()
        .and_then(|request| request.tap.as_ref()?.messages());
    let answered = answer.as_ref().and_then(|answer| answer.tap.as_ref()?.messages());
    asked.or(answered)?;
    let call = grpc::Call {
        unresolved: false,
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
fn describe_graphql(
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
