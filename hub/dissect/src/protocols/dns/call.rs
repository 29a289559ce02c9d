//! A question and its answer as a transaction.

use std::borrow::Cow;

use super::message::{Flags, Message};
use super::numbers;
use crate::call::{Outcome, Value};
use crate::protocols::{Echo, Request, Response, Transaction};

/// Fields that an answered question has, EDNS and an error included.
const FIELDS: usize = 17;

/// The transaction of a question that was sent `1 + retries` times, and its answer. Times and packets are its caller's.
pub(super) fn transaction(
    transport: &'static str,
    request: Option<Message>,
    retries: u32,
    response: Option<Message>,
) -> Transaction {
    let Some(asks) = request.as_ref().or(response.as_ref()) else {
        return Transaction::default();
    };
    let (method, path) = (method(asks), path(asks));
    let echo = (request.is_none()).then(|| {
        Box::new(Echo {
            method: method.clone(),
            path: path.clone(),
            ..Echo::default()
        })
    });
    let outcome = response
        .as_ref()
        .map_or(Outcome::Unknown, |response| numbers::outcome(response.rcode));
    Transaction {
        request: request.as_ref().map(|_| {
            Box::new(Request {
                method,
                path,
                ..Request::default()
            })
        }),
        response: response.as_ref().map(|response| {
            Box::new(Response {
                status: Some(i32::from(response.rcode)),
                ..Response::default()
            })
        }),
        echo,
        outcome,
        fields: fields(transport, request, retries, response),
        ..Transaction::default()
    }
}

/// The type asked for; what is done, where nothing is asked for.
fn method(message: &Message) -> Cow<'static, str> {
    match (message.opcode, message.questions.first()) {
        (0, Some(question)) => numbers::type_name(question.kind),
        (opcode, _) => numbers::opcode_name(opcode).unwrap_or_default().into(),
    }
}

/// Texts with a comma between them.
fn list(texts: impl Iterator<Item = impl AsRef<str>>) -> String {
    let mut list = String::new();
    for text in texts {
        if !list.is_empty() {
            list.push_str(", ");
        }
        list.push_str(text.as_ref());
    }
    list
}

fn path(message: &Message) -> String {
    message
        .questions
        .first()
        .map(|question| question.name.clone())
        .unwrap_or_default()
}

fn fields(
    transport: &'static str,
    mut request: Option<Message>,
    retries: u32,
    mut response: Option<Message>,
) -> Vec<(&'static str, Value)> {
    let mut fields = Vec::with_capacity(FIELDS);
    let Some(asks) = request.as_mut().or(response.as_mut()) else {
        return fields;
    };
    let (names, kinds) = match asks.questions.as_mut_slice() {
        [only] => (
            std::mem::take(&mut only.name).into(),
            numbers::type_name(only.kind),
        ),
        all => (
            list(all.iter().map(|question| &*question.name)).into(),
            list(all.iter().map(|question| numbers::type_name(question.kind))).into(),
        ),
    };
    fields.push(("dns_questions", Value::Text(names)));
    fields.push(("dns_question_types", Value::Text(kinds)));
    fields.push(("dns_transport", Value::Text(transport.into())));
    fields.push(("dns_id", Value::Int(i64::from(asks.id))));
    if asks.opcode != 0 {
        let opcode = numbers::opcode_name(asks.opcode).unwrap_or_default();
        fields.push(("dns_opcode", Value::Text(opcode.into())));
    }
    if retries > 0 {
        fields.push(("dns_retries", Value::Int(i64::from(retries))));
    }
    if let Some(request) = &request {
        fields.push(("dns_request", Value::Bool(true)));
        fields.push(("dns_request_length", Value::Int(i64::from(request.len))));
    }
    if let Some(edns) = request.as_ref().and_then(|request| request.edns) {
        fields.push(("dns_edns_udp_size", Value::Int(i64::from(edns.udp_size))));
        fields.push(("dns_edns_version", Value::Int(i64::from(edns.version))));
        if edns.dnssec {
            fields.push(("dns_dnssec_ok", Value::Bool(true)));
        }
    }
    let Some(response) = response else {
        return fields;
    };
    fields.push(("dns_response", Value::Bool(true)));
    fields.push(("dns_response_length", Value::Int(i64::from(response.len))));
    if let Some(request) = &request {
        let total = i64::from(request.len) + i64::from(response.len);
        fields.push(("dns_total_size", Value::Int(total)));
    }
    let rcode = numbers::rcode_name(response.rcode);
    fields.push(("dns_response_code", Value::Text(rcode.clone())));
    fields.push(("dns_flags", Value::Text(response.flags.text())));
    fields.push(("dns_answers", Value::Text(response.answers.into_text().into())));
    fields.push(("dns_answer_count", Value::Int(i64::from(response.answer_count))));
    if response.flags.has(Flags::TRUNCATED) {
        fields.push(("dns_truncated", Value::Bool(true)));
    }
    if response.malformed {
        fields.push(("dns_malformed", Value::Bool(true)));
    }
    if response.rcode != 0 {
        fields.push(("error", Value::Text(rcode)));
    }
    fields
}
