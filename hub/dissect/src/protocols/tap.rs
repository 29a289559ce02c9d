//! What looks at a body that goes by: at gRPC's messages, at events, at GraphQL.

use super::events::Events;
use super::graphql::{self, Json};
use super::grpc::{self, Messages};
use super::{LeftOut, Side};
use crate::call::Headers;

/// What looks at one body.
#[derive(Debug)]
pub(crate) enum Tap {
    Messages(Messages),
    Events(Events),
    Json(Json),
}

impl Tap {
    /// By the content's type. Of JSON, only requests may be GraphQL by themselves.
    pub fn of(content_type: &[u8], from: Side) -> Option<Box<Self>> {
        // Nearly all bodies are something else, and are told apart at once.
        let begins = |name: &[u8]| {
            let begin = content_type.trim_ascii_start().get(..name.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(name))
        };
        let of_any = match from {
            Side::Client => {
                begins(b"application/grpc") || begins(b"application/json") || begins(b"application/graphql")
            }
            Side::Server => begins(b"application/grpc") || begins(b"text/event-stream"),
        };
        if !of_any {
            return None;
        }
        let content = std::str::from_utf8(content_type).ok()?;
        if let Some(messages) = grpc::messages_in(content) {
            return Some(Box::new(Self::Messages(messages)));
        }
        let name = content.split(';').next().unwrap_or_default().trim();
        match from {
            Side::Server if name.eq_ignore_ascii_case("text/event-stream") => {
                Some(Box::new(Self::Events(Events::default())))
            }
            Side::Client => Json::of_request(name).map(|json| Box::new(Self::Json(json))),
            Side::Server => None,
        }
    }

    /// By the header fields. Where they are `unresolved` and do not say what the body is, it may be gRPC.
    pub fn of_headers(headers: &Headers, unresolved: bool, from: Side) -> Option<Box<Self>> {
        match headers.get("content-type") {
            Some(content) => {
                Self::of(content.as_bytes(), from).filter(|tap| !is_coded(headers) || tap.sees_coded())
            }
            None if unresolved => Some(Box::new(Self::Messages(grpc::messages_perhaps()))),
            None => None,
        }
    }

    /// What looks at the answer to a request of GraphQL, given what has looked at that, and the query of its path.
    pub fn of_answer(asked: Option<&Self>, query: &str, headers: &Headers) -> Option<Box<Self>> {
        let asked = asked.and_then(Self::json);
        if asked.is_none() && (query.is_empty() || !query.contains("query=")) {
            return None;
        }
        let is_json = headers
            .get("content-type")
            .is_some_and(|content| content.contains("json"));
        let looks = is_json && !is_coded(headers) && graphql::describe(query, asked, None).is_some();
        looks.then(|| Box::new(Self::Json(Json::of_answer())))
    }

    /// Whether it sees through a body that is compressed as a whole. There, gRPC's messages are not.
    pub fn sees_coded(&self) -> bool {
        matches!(self, Self::Messages(_))
    }

    /// Takes the next bytes of the body.
    pub fn take(&mut self, bytes: &[u8]) {
        match self {
            Self::Messages(messages) => messages.take(bytes),
            Self::Events(events) => events.take(bytes),
            Self::Json(json) => json.take(bytes),
        }
    }

    /// Bytes of the body are missing.
    pub fn skip(&mut self, len: u64) {
        match self {
            Self::Messages(messages) => messages.skip(len),
            Self::Events(events) => events.lose(),
            Self::Json(json) => json.lose(),
        }
    }

    /// Bytes of the body may be missing.
    pub fn lose(&mut self) {
        match self {
            Self::Messages(messages) => messages.lose(),
            Self::Events(events) => events.lose(),
            Self::Json(json) => json.lose(),
        }
    }

    /// The messages of gRPC.
    pub fn messages(&self) -> Option<&Messages> {
        match self {
            Self::Messages(messages) => Some(messages),
            Self::Events(_) | Self::Json(_) => None,
        }
    }

    /// The events.
    pub fn events(&self) -> Option<&Events> {
        match self {
            Self::Events(events) => Some(events),
            Self::Messages(_) | Self::Json(_) => None,
        }
    }

    /// What may be GraphQL.
    pub fn json(&self) -> Option<&Json> {
        match self {
            Self::Json(json) => Some(json),
            Self::Messages(_) | Self::Events(_) => None,
        }
    }

    /// Which limits it has reached.
    pub fn left_out(&self) -> LeftOut {
        match self {
            Self::Messages(_) => LeftOut::default(),
            Self::Events(events) => LeftOut {
                event_text: events.is_cut(),
                ..LeftOut::default()
            },
            Self::Json(json) => json.left_out(),
        }
    }

    /// Bytes that it holds, roughly.
    pub fn cost(&self) -> usize {
        let kept = match self {
            Self::Messages(messages) => messages.cost(),
            Self::Events(events) => events.cost(),
            Self::Json(json) => json.cost(),
        };
        size_of::<Self>() + kept
    }
}

/// Whether a body is compressed, so that there is nothing to see.
fn is_coded(headers: &Headers) -> bool {
    headers
        .get("content-encoding")
        .is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"))
}
