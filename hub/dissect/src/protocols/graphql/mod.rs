//! GraphQL over HTTP: what a request asks for, and whether the answer tells of errors. Calls of it are HTTP's calls, with
//! more to tell.

mod json;

mod document;

use document::Operation;
use json::Scanner;

use crate::call::{Outcome, Value};
use crate::limits::GQL_QUERY;
use crate::protocols::LeftOut;

/// What looks at a body that may be GraphQL's.
#[derive(Debug)]
pub(crate) struct Json {
    /// A document as it is (`application/graphql`), or as a part of JSON.
    document: Option<Vec<u8>>,
    /// Whether it is longer than is kept.
    document_cut: bool,
    found: Scanner,
    lost: bool,
}

/// What is told of a call.
#[derive(Debug)]
pub(crate) struct Graphql {
    /// Fields that the request tells, and the response.
    pub asked: Vec<(&'static str, Value)>,
    pub answered: Vec<(&'static str, Value)>,
    /// How it ended, if the answer tells of errors.
    pub outcome: Option<Outcome>,
    /// Which limits were reached.
    pub left_out: LeftOut,
}

impl Json {
    /// By the type of a request's content.
    pub fn of_request(content_type: &str) -> Option<Self> {
        let is = |name: &str| content_type.eq_ignore_ascii_case(name);
        let document = is("application/graphql").then(Vec::new);
        let json = document.is_some() || is("application/json") || is("application/graphql+json");
        json.then(|| Self {
            document,
            document_cut: false,
            found: Scanner::of_request(),
            lost: false,
        })
    }

    /// Of what answers a request of GraphQL.
    pub fn of_answer() -> Self {
        Self {
            document: None,
            document_cut: false,
            found: Scanner::default(),
            lost: false,
        }
    }

    /// Takes the next bytes of the body.
    pub fn take(&mut self, bytes: &[u8]) {
        match &mut self.document {
            _ if self.lost => {}
            Some(document) => {
                let room = GQL_QUERY - document.len().min(GQL_QUERY);
                document.extend(bytes.iter().take(room));
                self.document_cut |= bytes.len() > room;
            }
            None => self.found.take(bytes),
        }
    }

    /// Bytes are missing: what comes cannot be told any more.
    pub fn lose(&mut self) {
        self.lost = true;
        self.found.stop();
    }

    /// Which limits were reached.
    pub fn left_out(&self) -> LeftOut {
        LeftOut {
            graphql: self.found.beyond,
            graphql_text: self.document_cut || self.found.is_cut(),
            ..LeftOut::default()
        }
    }

    /// Whether it is GraphQL, as far as it was seen.
    pub fn is_graphql(&self) -> bool {
        self.asks().is_some() || (self.found.persisted && self.found.operation.known().is_some())
    }

    /// Bytes that it holds, roughly.
    pub fn cost(&self) -> usize {
        self.document.as_ref().map_or(0, Vec::len) + self.found.cost()
    }

    /// The statement, and which of its operations is meant.
    fn asks(&self) -> Option<(String, Operation)> {
        let text = match &self.document {
            Some(document) => String::from_utf8_lossy(document).into_owned(),
            None => self.found.query.known()?,
        };
        let operation = document::operation(&text, self.found.operation.known().as_deref())?;
        Some((text, operation))
    }
}

/// How a call ended, given how HTTP says that it did, and what its errors say.
pub(crate) fn outcome(http: Outcome, told: Option<Outcome>) -> Outcome {
    match (http, told) {
        // Most servers answer with 200, whatever has happened.
        (Outcome::Ok, Some(told)) => told,
        (http, _) => http,
    }
}

/// Tells what GraphQL says of a call; `None` if this is not GraphQL, as far as can be told. `query` is that of the path.
pub(crate) fn describe(query: &str, asked: Option<&Json>, answered: Option<&Json>) -> Option<Graphql> {
    let by_body = asked.and_then(Json::asks);
    let by_path = || {
        if !query.contains("query=") {
            return None;
        }
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(known, _)| *known == name)
                .map(|(_, text)| decoded(text))
        };
        let text = parameter("query")?;
        let operation = document::operation(&text, parameter("operationName").as_deref())?;
        Some((text, operation))
    };
    let mut told = Graphql {
        asked: Vec::new(),
        answered: Vec::new(),
        outcome: None,
        left_out: LeftOut::default(),
    };
    match by_body.or_else(by_path) {
        Some((text, operation)) => {
            let mut text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            told.left_out.graphql_text = text.len() > GQL_QUERY;
            text.truncate(text.floor_char_boundary(GQL_QUERY));
            told.asked.push(("gql_type", Value::Text(operation.kind.into())));
            if !operation.name.is_empty() {
                told.asked
                    .push(("gql_operation", Value::Text(operation.name.into())));
            }
            told.asked.push(("gql_query", Value::Text(text.into())));
        }
        // A statement that the server knows by its hash.
        None => {
            let found = &asked.filter(|asked| asked.is_graphql())?.found;
            let name = found.operation.known().unwrap_or_default();
            told.asked.push(("gql_operation", Value::Text(name.into())));
        }
    }
    if let Some(answered) = answered {
        told.answer(answered);
    }
    Some(told)
}

impl Graphql {
    fn answer(&mut self, answered: &Json) {
        let found = &answered.found;
        if found.whole && !answered.lost {
            self.answered
                .push(("gql_errors", Value::Int(found.errors.into())));
        }
        if found.errors == 0 {
            return;
        }
        let code = found.code.known();
        // As Apollo's servers have it, and many after them.
        self.outcome = Some(match code.as_deref() {
            Some("INTERNAL_SERVER_ERROR") => Outcome::ServerError,
            Some(
                "BAD_USER_INPUT"
                | "BAD_REQUEST"
                | "UNAUTHENTICATED"
                | "FORBIDDEN"
                | "GRAPHQL_PARSE_FAILED"
                | "GRAPHQL_VALIDATION_FAILED"
                | "PERSISTED_QUERY_NOT_FOUND",
            ) => Outcome::ClientError,
            _ => Outcome::Unknown,
        });
        self.answered
            .extend(code.map(|code| ("error", Value::Text(code.into()))));
        let message = found.message.known();
        self.answered
            .extend(message.map(|message| ("gql_error", Value::Text(message.into()))));
    }
}

/// A parameter as it was meant.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len().min(GQL_QUERY));
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let (byte, used) = match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => (byte, 2),
            None if *first == b'+' => (b' ', 0),
            None => (*first, 0),
        };
        bytes.push(byte);
        rest = behind.get(used..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
