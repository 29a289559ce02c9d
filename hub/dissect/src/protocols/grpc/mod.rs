//! gRPC and gRPC-Web: what they put on top of HTTP. They are HTTP's calls, with more to tell.

mod messages;

mod base64;

mod content;

pub use content::{GrpcAbout, GrpcBody, GrpcMessage, grpc_body};
pub(crate) use messages::Messages;

use messages::Framing;

use crate::Nanos;
use crate::call::{Headers, Outcome, Value};

/// What HTTP knows of a call.
pub(crate) struct Call<'a> {
    /// Path of the request; empty if it is not known.
    pub path: &'a str,
    /// Whether the request may have said what its content is, though that is not among its header fields.
    pub unresolved: bool,
    /// Header fields, and trailers.
    pub request: Option<&'a Headers>,
    pub response: Option<&'a Headers>,
    /// What went by in the bodies.
    pub asked: Option<&'a Messages>,
    pub answered: Option<&'a Messages>,
}

/// What gRPC says of a call.
#[derive(Debug, PartialEq)]
pub(crate) struct Grpc {
    /// How it ended, as the server says.
    pub status: Option<i32>,
    /// Fields that the request tells, and the response.
    pub asked: Vec<(&'static str, Value)>,
    pub answered: Vec<(&'static str, Value)>,
}

/// What looks at a body's messages, by the content's type.
pub(crate) fn messages_in(content_type: &str) -> Option<Messages> {
    Framing::of(content_type).map(Messages::new)
}

/// The same, where the content's type cannot be known.
pub(crate) fn messages_perhaps() -> Messages {
    Messages::new(Framing::Plain)
}

impl Call<'_> {
    /// Tells what gRPC says of itself; `None` if this is not gRPC, as far as can be told.
    pub fn describe(&self) -> Option<Grpc> {
        let headers = || [self.request, self.response].into_iter().flatten();
        let mut content = headers()
            .filter_map(|headers| headers.get("content-type"))
            .peekable();
        let is_grpc = match content.peek() {
            Some(_) => content.any(|content| Framing::of(content).is_some()),
            // Where the content's type was said before we came, other fields may tell. Elsewhere they tell nothing: without
            // that type, a request is none of gRPC's.
            None if !self.unresolved => false,
            None => headers()
                .flat_map(Headers::iter)
                .any(|(name, _)| name.starts_with("grpc-")),
        };
        if !is_grpc {
            return None;
        }
        let web_trailers = self.answered.map(Messages::trailers);
        let trailer = |name: &str| {
            let header = self.response.and_then(|headers| headers.get(name));
            header.or_else(|| web_trailers.as_ref().and_then(|trailers| trailers.get(name)))
        };
        let status: Option<i32> = trailer("grpc-status").and_then(|status| status.trim().parse().ok());
        let text = |text: &str| Value::Text(text.to_owned().into());

        let mut asked = Vec::with_capacity(FIELDS);
        if let Some((service, method)) = self.path.trim_start_matches('/').rsplit_once('/') {
            asked.push(("grpc_service", text(service)));
            asked.push(("grpc_method", text(method)));
        }
        let deadline = self.request.and_then(|headers| headers.get("grpc-timeout"));
        if let Some(micros) = deadline.and_then(timeout_micros) {
            asked.push(("grpc_timeout", Value::Int(micros)));
        }
        let mut answered = Vec::with_capacity(FIELDS);
        if let Some(status) = status {
            answered.push(("grpc_status", Value::Int(status.into())));
        }
        if let Some(status) = status.filter(|status| *status != 0) {
            answered.push(("error", Value::Text(status_name(status).into())));
        }
        if let Some(message) = trailer("grpc-message").filter(|message| !message.is_empty()) {
            answered.push(("grpc_message", Value::Text(percent_decoded(message).into())));
        }
        for (fields, headers, messages, names) in [
            (&mut asked, self.request, self.asked, ASKED),
            (&mut answered, self.response, self.answered, ANSWERED),
        ] {
            if let Some(encoding) = headers.and_then(|headers| headers.get("grpc-encoding")) {
                fields.push(("grpc_encoding", text(encoding)));
            }
            // Where some were lost, nobody knows how many there were.
            if let Some(seen) = messages.and_then(Messages::seen) {
                let numbers = [seen.count, seen.bytes, seen.compressed];
                let told = names.into_iter().zip(numbers);
                fields.extend(
                    told.map(|(name, number)| (name, Value::Int(i64::try_from(number).unwrap_or(i64::MAX)))),
                );
            }
        }
        Some(Grpc {
            status,
            asked,
            answered,
        })
    }
}

/// Fields that one direction tells of at most.
const FIELDS: usize = 7;

/// Names of what is told of each direction's messages: how many, their bytes, how many are compressed.
const ASKED: [&str; 3] = [
    "grpc_request_messages",
    "grpc_request_message_bytes",
    "grpc_request_compressed",
];
const ANSWERED: [&str; 3] = [
    "grpc_response_messages",
    "grpc_response_message_bytes",
    "grpc_response_compressed",
];

/// The status of a call that took too long.
pub(crate) const DEADLINE_EXCEEDED: i32 = 4;

/// How long a request may be on its way from where its deadline is written to where it is recorded: when the client gives
/// up, so much less seems to have passed.
const ON_ITS_WAY: Nanos = 1_000_000;

/// By which part a deadline may be told as longer than it is: gRPC's C core rounds it up to three digits.
const ROUNDED: Nanos = 100;

/// Whether a call has reached its deadline that took so long until it ended, or until its client `gave_up`.
pub(crate) fn is_late(request: &Headers, took: Nanos, gave_up: bool) -> bool {
    let deadline = request.get("grpc-timeout").and_then(timeout_micros);
    let deadline = deadline.and_then(|micros| Nanos::try_from(micros).ok());
    deadline.is_some_and(|micros| {
        let deadline = micros.saturating_mul(1000);
        let slack = if gave_up {
            ON_ITS_WAY + deadline / ROUNDED
        } else {
            0
        };
        took.saturating_add(slack) >= deadline
    })
}

/// Names of status codes, from 0 on.
const STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

fn status_name(status: i32) -> String {
    let name = usize::try_from(status).ok().and_then(|status| STATUS.get(status));
    name.map_or_else(|| format!("status {status}"), |name| (*name).to_owned())
}

/// The status across protocols. Whose failure it was is told by the HTTP status that `google.rpc.Code` maps it to: 499,
/// 400, 404, 409, 403, 429 and 401 are the client's, 500, 501 and 503 the server's.
pub(crate) fn outcome(status: i32) -> Outcome {
    match status {
        0 => Outcome::Ok,
        DEADLINE_EXCEEDED => Outcome::Timeout,
        1 | 3 | 5..=11 | 16 => Outcome::ClientError,
        2 | 12..=15 => Outcome::ServerError,
        _ => Outcome::Unknown,
    }
}

/// A deadline in microseconds: at most eight digits, and a unit.
fn timeout_micros(timeout: &str) -> Option<i64> {
    let (number, unit) = timeout.split_at_checked(timeout.len().checked_sub(1)?)?;
    let number: i64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    Some(match unit {
        "H" => number * 3_600_000_000,
        "M" => number * 60_000_000,
        "S" => number * 1_000_000,
        "m" => number * 1000,
        "u" => number,
        "n" => number / 1000,
        _ => return None,
    })
}

/// A status message: bytes beyond ASCII are sent as `%` and two digits. What is none of these stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines() {
        let deadlines = [
            ("1H", Some(3_600_000_000)),
            ("2M", Some(120_000_000)),
            ("10S", Some(10_000_000)),
            ("250m", Some(250_000)),
            ("99999999u", Some(99_999_999)),
            ("1500n", Some(1)),
            ("100000000S", None),
            ("S", None),
            ("1x", None),
            ("", None),
            ("1é", None),
        ];
        for (text, micros) in deadlines {
            assert_eq!(timeout_micros(text), micros, "{text}");
        }
    }

    #[test]
    fn messages_of_a_status() {
        assert_eq!(percent_decoded("no%20%C3%A9t%C3%A9"), "no été");
        assert_eq!(percent_decoded("100% of 5%"), "100% of 5%");
        assert_eq!(percent_decoded("%zz%f"), "%zz%f");
    }

    #[test]
    fn every_status_has_an_outcome() {
        for status in 0..17 {
            assert_ne!(outcome(status), Outcome::Unknown, "{status}");
        }
        assert_eq!((outcome(4), outcome(17)), (Outcome::Timeout, Outcome::Unknown));
        assert_eq!(
            (status_name(4), status_name(-1)),
            ("DEADLINE_EXCEEDED".into(), "status -1".into())
        );
    }
}
