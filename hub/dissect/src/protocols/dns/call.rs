//! A question and its answer as a transaction.

use super::message::{Flags, Message, Question};
use super::numbers;
use crate::call::{Outcome, Value};
use crate::protocols::{Echo, Request, Response, Transaction};

/// The transaction of a question that was sent `1 + retries` times, and its answer. Times and packets are its caller's.
pub(super) fn transaction(
    transport: &'static str,
    request: Option<&Message>,
    retries: u32,
    response: Option<&Message>,
) -> Transaction {
    let Some(asks) = request.or(response) else {
        return Transaction::default();
    };
    let (method, path) = (method(asks), path(asks));
    let echo = (request.is_none()).then(|| {
        Box::new(Echo {
            method: method.clone(),
            path: path.clone(),
        })
    });
    Transaction {
        request: request.map(|_| Request {
            method,
            path,
            ..Request::default()
        }),
        response: response.map(|response| Response {
            status: Some(i32::from(response.rcode)),
            ..Response::default()
        }),
        echo,
        outcome: response.map_or(Outcome::Unknown, |response| numbers::outcome(response.rcode)),
        fields: fields(transport, asks, request, retries, response),
        ..Transaction::default()
    }
}

/// The type asked for; what is done, where nothing is asked for.
fn method(message: &Message) -> String {
    match (message.opcode, message.questions.first()) {
        (0, Some(question)) => numbers::type_name(question.kind).into_owned(),
        (opcode, _) => numbers::opcode_name(opcode).unwrap_or_default().to_owned(),
    }
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
    asks: &Message,
    request: Option<&Message>,
    retries: u32,
    response: Option<&Message>,
) -> Vec<(&'static str, Value)> {
    let text = |text: String| Value::Text(text);
    let list = |each: &dyn Fn(&Question) -> String| -> String {
        let all: Vec<String> = asks.questions.iter().map(each).collect();
        all.join(", ")
    };
    let mut fields = Vec::with_capacity(14);
    fields.push(("dns_questions", text(list(&|question| question.name.clone()))));
    let kinds = list(&|question| numbers::type_name(question.kind).into_owned());
    fields.push(("dns_question_types", text(kinds)));
    fields.push(("dns_transport", text(transport.to_owned())));
    fields.push(("dns_id", Value::Int(i64::from(asks.id))));
    if asks.opcode != 0 {
        let opcode = numbers::opcode_name(asks.opcode).unwrap_or_default();
        fields.push(("dns_opcode", text(opcode.to_owned())));
    }
    if retries > 0 {
        fields.push(("dns_retries", Value::Int(i64::from(retries))));
    }
    if let Some(request) = request {
        fields.push(("dns_request", Value::Bool(true)));
        fields.push(("dns_request_length", Value::Int(i64::from(request.len))));
    }
    if let Some(edns) = request.and_then(|request| request.edns) {
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
    if let Some(request) = request {
        let total = i64::from(request.len) + i64::from(response.len);
        fields.push(("dns_total_size", Value::Int(total)));
    }
    let rcode = numbers::rcode_name(response.rcode);
    fields.push(("dns_response_code", text(rcode.clone().into_owned())));
    fields.push((
        "dns_flags",
        text(response.flags.names().collect::<Vec<_>>().join(", ")),
    ));
    fields.push(("dns_answers", text(response.answers.join(", "))));
    fields.push(("dns_answer_count", Value::Int(i64::from(response.answer_count))));
    if response.flags.has(Flags::TRUNCATED) {
        fields.push(("dns_truncated", Value::Bool(true)));
    }
    if response.malformed {
        fields.push(("dns_malformed", Value::Bool(true)));
    }
    if response.rcode != 0 {
        fields.push(("error", text(rcode.into_owned())));
    }
    fields
}
