//! A handshake as a transaction.

use super::handshake::Handshake;
use super::hello::{ClientHello, ServerHello};
use super::numbers;
use super::suites;
use crate::call::{Marks, Outcome, Value};
use crate::protocols::{Half, Request, Response, Span, Transaction};

/// Field names and values.
pub(crate) type Fields = Vec<(&'static str, Value)>;

/// What one end sent beside the handshake.
pub(super) struct Traffic {
    /// Bytes of application data as they were sent, encrypted; `None` if not all of them were seen.
    pub bytes: Option<u64>,
    /// Whether bytes of this direction are missing.
    pub lost: bool,
}

/// How the connection ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ending {
    /// By one of its ends, not by the recording's.
    pub closed: bool,
    pub reset: bool,
}

/// The transaction of a handshake, if a hello of it was seen. `traffic` is the client's, then the server's.
pub(super) fn transaction(
    handshake: Handshake,
    traffic: [Traffic; 2],
    ending: Ending,
) -> Option<Transaction> {
    if handshake.client.is_none() && handshake.server.is_none() {
        return None;
    }
    let [client, server] = &traffic;
    let mut marks = Marks::default();
    if ending.reset && !handshake.is_over() {
        marks.set(Marks::RESET);
    }
    let outcome = outcome(&handshake, server.lost, ending);
    let alert = handshake.alert.map(|(alert, _)| alert);
    let fields = fields(&handshake, &traffic);
    let version = handshake.server.as_ref().map_or(0, |hello| hello.version);
    let name = handshake.client.as_ref().map(|hello| hello.server_name.clone());
    let half = |span: Span, lost: bool| Half {
        head_len: span.end - span.start,
        // What is lost after the handshake is not of it.
        gap: span.missing > 0 || lost && !handshake.is_over(),
        span,
        ..Half::default()
    };
    let request = handshake.request.clone().zip(handshake.client.as_ref());
    let name = name.unwrap_or_default();
    Some(Transaction {
        version: numbers::version_name(version),
        request: request.map(|(span, _)| {
            Box::new(Request {
                method: "ClientHello".into(),
                path: name.clone(),
                authority: name,
                half: half(span, client.lost),
                ..Request::default()
            })
        }),
        response: handshake.response.clone().map(|span| {
            Box::new(Response {
                status: alert.map(i32::from),
                half: half(span, server.lost),
            })
        }),
        outcome,
        marks,
        fields,
        ..Transaction::default()
    })
}

fn outcome(handshake: &Handshake, gap: bool, ending: Ending) -> Outcome {
    if let Some((alert, sender)) = handshake.alert {
        return numbers::outcome(alert, sender);
    }
    if handshake.is_over() {
        return Outcome::Ok;
    }
    let silent = handshake.response.is_none() && !gap;
    if silent && ending.closed {
        return Outcome::NoResponse;
    }
    Outcome::Unknown
}

fn fields(handshake: &Handshake, traffic: &[Traffic; 2]) -> Fields {
    let mut fields = Vec::with_capacity(20);
    let (client, server) = (handshake.client.as_ref(), handshake.server.as_ref());
    hello_fields(client, server, handshake.is_tls13(), &mut fields);
    let text = |text: &str| Value::Text(text.to_owned().into());
    let count = |count: u64| Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
    if let Some(resumed) = handshake.resumed() {
        fields.push(("tlsx_resumed", Value::Bool(resumed)));
    }
    if handshake.retried {
        fields.push(("tlsx_hello_retry", Value::Bool(true)));
    }
    if let Some(certificate) = &handshake.certificate {
        fields.push(("tlsx_cert_subject", text(&certificate.subject)));
        fields.push(("tlsx_cert_issuer", text(&certificate.issuer)));
        fields.push(("tlsx_cert_not_after", text(&certificate.not_after)));
        fields.push((
            "tlsx_cert_san",
            Value::Text(certificate.alternative_names.join(", ").into()),
        ));
    }
    if let Some(duration) = handshake.duration() {
        fields.push(("tlsx_handshake_us", count(duration / 1000)));
    }
    if let Some((alert, _)) = handshake.alert {
        let name = numbers::alert_name(alert);
        fields.push(("tlsx_alert", text(&name)));
        fields.push(("error", text(&name)));
    }
    let len = |span: &Option<Span>| span.as_ref().map(|span| span.end - span.start);
    let (request, response) = (len(&handshake.request), len(&handshake.response));
    let total = request
        .zip(response)
        .map(|(request, response)| request + response);
    let [client, server] = traffic;
    for (name, bytes) in [
        ("tls_request_size", request),
        ("tls_response_size", response),
        ("tls_total_size", total),
        ("tlsx_client_bytes", client.bytes),
        ("tlsx_server_bytes", server.bytes),
    ] {
        fields.extend(bytes.map(|bytes| (name, count(bytes))));
    }
    fields
}

/// What the two hellos say; QUIC's are the same. `sealed` says that what is agreed on by ALPN is encrypted.
pub(crate) fn hello_fields(
    client: Option<&ClientHello>,
    server: Option<&ServerHello>,
    sealed: bool,
    fields: &mut Fields,
) {
    let text = |text: &str| Value::Text(text.to_owned().into());
    let mut summary = String::new();
    if let Some(hello) = client {
        fields.push(("tlsx_sni", text(&hello.server_name)));
        fields.push(("tlsx_cipher_suites", Value::Text(hello.suites.join(", ").into())));
        // None is defined of a hello in the format of SSL 2.
        let fingerprints = [
            ("tlsx_ja3", &hello.ja3.1),
            ("tlsx_ja3_full", &hello.ja3.0),
            ("tlsx_ja4", &hello.ja4),
        ];
        let known = fingerprints.into_iter().filter(|(_, print)| !print.is_empty());
        fields.extend(known.map(|(name, print)| (name, text(print))));
        fields.push(("tlsx_version_offered", Value::Int(i64::from(hello.version))));
        if !hello.alpn.is_empty() {
            fields.push(("tlsx_alpn_offered", Value::Text(hello.alpn.join(", ").into())));
        }
        if hello.encrypted {
            fields.push(("tlsx_ech", Value::Bool(true)));
        }
    }
    // Then what the client offers is the most that can be said.
    let agreed = server
        .map(|hello| hello.alpn.as_str())
        .filter(|name| !name.is_empty());
    let offered = client.filter(|_| sealed).map(|hello| hello.alpn.join(", "));
    if let Some(alpn) = agreed
        .map(str::to_owned)
        .or(offered)
        .filter(|alpn| !alpn.is_empty())
    {
        fields.push(("tlsx_alpn", Value::Text(alpn.into())));
    }
    if let Some(hello) = server {
        fields.push(("tlsx_version", Value::Int(i64::from(hello.version))));
        summary.push_str(numbers::version_name(hello.version));
        fields.push(("tlsx_cipher_suite", Value::Int(i64::from(hello.suite))));
        let suite = suites::name(hello.suite);
        fields.push(("tlsx_cipher_suite_name", text(&suite)));
        fields.push(("tlsx_ja3s", text(&hello.ja3s.1)));
        fields.push(("tlsx_ja3s_full", text(&hello.ja3s.0)));
        summary.push(' ');
        summary.push_str(&suite);
    }
    if let Some(hello) = client.filter(|hello| !hello.server_name.is_empty()) {
        if !summary.is_empty() {
            summary.push(' ');
        }
        summary.push_str(&hello.server_name);
    }
    fields.push(("tlsx_summary", Value::Text(summary.into())));
    let furthest = if server.is_some() {
        "ServerHello"
    } else {
        "ClientHello"
    };
    fields.push(("tlsx_info", text(furthest)));
}
