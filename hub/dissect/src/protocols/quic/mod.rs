//! QUIC (RFC 9000, 9001, 9369): what its first packets say of the TLS handshake in them. All else is encrypted with keys
//! that only its two ends have.

mod crypto;

mod keys;

mod packet;

#[cfg(test)]
mod tests;

use std::hash::Hasher;

use rustc_hash::FxHasher;

use super::datagram::{Arrival, DatagramProtocol, Key, Likeness, Message};
use super::tls::call::hello_fields;
use super::tls::hello::{Carrier, ClientHello, ServerHello};
use super::tls::numbers;
use super::{Info, Request, Response, Side, Transaction};
use crate::call::{Outcome, Value};
use crate::flow::End;
use crate::{Counters, Transport};
use crypto::Crypto;
use keys::Keys;
use packet::{Frame, Initial, Packet, Version};

/// The protocol; see the module.
pub(crate) struct Quic;

/// Packets of a datagram that are looked at. A datagram has at most one for each kind of keys, four in all; each costs
/// as much as thousands of bytes elsewhere.
const PACKETS: usize = 8;

/// What is remembered of a flow.
#[derive(Default)]
pub(crate) struct State {
    connection: Option<Box<Connection>>,
}

/// The connection that is being opened.
struct Connection {
    client: End,
    version: u32,
    key: Key,
    /// A digest of the number that its keys are made of.
    opened_by: u64,
    /// The client's and the server's, until the handshake was answered: they are large.
    keys: Option<Box<[Keys; 2]>>,
    crypto: [Crypto; 2],
    hello: Option<ClientHello>,
    /// Whether the server has asked for a proof of the client's address.
    retried: bool,
    answered: bool,
}

/// What the client asks for.
pub(crate) struct Hello {
    version: u32,
    hello: ClientHello,
}

/// What the server answers.
pub(crate) enum Answer {
    /// It goes on.
    Hello { hello: Box<ServerHello>, retried: bool },
    /// It refuses, with an error of RFC 9000, section 20.
    Refused(u64),
    /// It speaks none of the client's versions.
    VersionNegotiation,
}

impl DatagramProtocol for Quic {
    const INFO: Info = Info {
        name: "quic",
        aliases: &["h3"],
        ports: &[443, 8443],
        buffer: 0,
    };
    type State = State;
    type Request = Hello;
    type Response = Answer;

    fn probe(arrival: &Arrival<'_>) -> Likeness {
        let found = (arrival.transport == Transport::Udp).then(|| Packet::read(arrival.bytes));
        match found.flatten() {
            Some((Packet::Initial(_), _)) => Likeness::Yes,
            _ => Likeness::No,
        }
    }

    fn parse(state: &mut State, arrival: &Arrival<'_>, counters: &mut Counters) -> Message<Hello, Answer> {
        let mut rest = arrival.bytes;
        let mut told = Message::Passed;
        for _ in 0..PACKETS {
            let Some((packet, behind)) = Packet::read(rest) else {
                break;
            };
            rest = behind;
            match packet {
                Packet::Initial(initial) => match state.initial(&initial, arrival.from, counters) {
                    // Of several packets, the one that completes something counts.
                    Message::Passed => {}
                    Message::Part if matches!(told, Message::Request { .. } | Message::Response { .. }) => {}
                    message => told = message,
                },
                Packet::Retry => state.retry(arrival.from),
                Packet::VersionNegotiation => {
                    if let Some(message) = state.negotiation(arrival.from) {
                        told = message;
                    }
                }
                Packet::Sealed => {}
            }
        }
        told
    }

    fn call(request: Option<Hello>, retries: u32, response: Option<Answer>) -> Transaction {
        let client = request.as_ref().map(|request| &request.hello);
        let server = match &response {
            Some(Answer::Hello { hello, .. }) => Some(&**hello),
            _ => None,
        };
        let text = |text: &str| Value::Text(text.to_owned().into());
        let mut fields = Vec::with_capacity(16);
        hello_fields(client, server, true, &mut fields);
        if retries > 0 {
            fields.push(("quic_retries", Value::Int(i64::from(retries))));
        }
        let mut outcome = Outcome::Unknown;
        let mut status = None;
        match &response {
            Some(Answer::Hello { retried, .. }) => {
                outcome = Outcome::Ok;
                if *retried {
                    fields.push(("quic_retry", Value::Bool(true)));
                }
            }
            Some(Answer::Refused(error)) => {
                status = i32::try_from(*error).ok();
                let (name, fault) = error_name(*error);
                outcome = fault;
                fields.push(("error", Value::Text(name.into())));
            }
            Some(Answer::VersionNegotiation) => {
                outcome = Outcome::ClientError;
                fields.push(("error", text("version_negotiation")));
            }
            None => {}
        }
        let version = request.as_ref().and_then(|request| Version::of(request.version));
        Transaction {
            version: version.map_or("", |version| version.name),
            outcome,
            response: response.map(|_| {
                Box::new(Response {
                    status,
                    ..Response::default()
                })
            }),
            request: request.map(|request| {
                Box::new(Request {
                    method: "ClientHello".into(),
                    path: request.hello.server_name.clone(),
                    authority: request.hello.server_name,
                    ..Request::default()
                })
            }),
            fields,
            ..Transaction::default()
        }
    }

    fn cost(request: &Hello) -> usize {
        request.hello.memory()
    }

    fn memory(state: &State) -> usize {
        state.connection.as_ref().map_or(0, |connection| {
            let crypto: usize = connection.crypto.iter().map(Crypto::memory).sum();
            let hello = connection.hello.as_ref().map_or(0, ClientHello::memory);
            let keys = connection.keys.as_ref().map_or(0, |_| size_of::<[Keys; 2]>());
            size_of::<Connection>() + keys + crypto + hello
        })
    }
}

impl State {
    fn initial(
        &mut self,
        initial: &Initial<'_>,
        from: End,
        counters: &mut Counters,
    ) -> Message<Hello, Answer> {
        let known = self
            .connection
            .as_ref()
            .and_then(|connection| connection.open(initial, from));
        let opened = known.or_else(|| self.begin(initial, from));
        match (opened, &mut self.connection) {
            (Some((side, payload)), Some(connection)) => connection.take(side, &payload, counters),
            // Both ends go on for a while in the same keys.
            (None, Some(connection)) if connection.answered => Message::Passed,
            _ => Message::Unread,
        }
    }

    /// A connection begins with a packet that its own destination opens, as a client has sent it. After a Retry, the
    /// same one begins again.
    fn begin(&mut self, initial: &Initial<'_>, from: End) -> Option<(Side, Vec<u8>)> {
        let mut hasher = FxHasher::default();
        hasher.write(initial.destination);
        let opened_by = hasher.finish() | 1;
        let over = |known: &Connection| known.answered && known.opened_by == opened_by;
        if self.connection.as_deref().is_some_and(over) {
            // Its first packet again, late or twice.
            return None;
        }
        let recipe = Version::of(initial.version)?.recipe;
        let keys = Box::new(Keys::of(recipe, initial.destination)?);
        let [client, _] = &*keys;
        let payload = client.open(initial.bytes, initial.number_at)?;
        let begun = self
            .connection
            .take()
            .filter(|known| known.retried && !known.answered && known.client == from);
        let key = Key {
            id: 0,
            subject: begun.as_ref().map_or(opened_by, |known| known.key.subject),
        };
        self.connection = Some(Box::new(Connection {
            client: from,
            version: initial.version,
            key,
            opened_by,
            keys: Some(keys),
            crypto: Default::default(),
            hello: None,
            retried: begun.is_some(),
            answered: false,
        }));
        Some((Side::Client, payload))
    }

    fn retry(&mut self, from: End) {
        if let Some(connection) = &mut self.connection
            && connection.client != from
        {
            connection.retried = true;
        }
    }

    /// The answer to the client's first packet, if it is one.
    fn negotiation(&mut self, from: End) -> Option<Message<Hello, Answer>> {
        let connection = self.connection.as_mut()?;
        if connection.client == from || connection.answered {
            return None;
        }
        connection.close();
        Some(Message::Response {
            key: connection.key,
            content: Answer::VersionNegotiation,
        })
    }
}

impl Connection {
    fn open(&self, initial: &Initial<'_>, from: End) -> Option<(Side, Vec<u8>)> {
        let [client, server] = self.keys.as_deref()?;
        let (side, keys) = if from == self.client {
            (Side::Client, client)
        } else {
            (Side::Server, server)
        };
        Some((side, keys.open(initial.bytes, initial.number_at)?))
    }

    /// It was answered: what comes now is not looked at.
    fn close(&mut self) {
        self.answered = true;
        self.keys = None;
        self.crypto = Default::default();
        self.hello = None;
    }

    fn take(&mut self, side: Side, payload: &[u8], counters: &mut Counters) -> Message<Hello, Answer> {
        let [client, server] = &mut self.crypto;
        let crypto = match side {
            Side::Client => client,
            Side::Server => server,
        };
        let (mut begins, mut refused) = (false, None);
        let whole = packet::frames(payload, |frame| match frame {
            Frame::Crypto(offset, bytes) => {
                begins |= offset == 0;
                counters.quic_crypto_refused += u64::from(!crypto.take(offset, bytes));
            }
            Frame::Close(error) => refused = Some(error),
        });
        if whole.is_none() {
            return Message::Unread;
        }
        match side {
            Side::Client => self.asks(begins, counters),
            Side::Server => self.answers(refused),
        }
    }

    fn asks(&mut self, begins: bool, counters: &mut Counters) -> Message<Hello, Answer> {
        // Sent again, as it was not answered.
        let again = self.hello.is_some();
        if again && !begins {
            return Message::Passed;
        }
        if self.hello.is_none() {
            let [client, _] = &self.crypto;
            let Some((kind, body)) = client.messages().next() else {
                return Message::Part;
            };
            if kind != numbers::CLIENT_HELLO {
                return Message::Unread;
            }
            self.hello = ClientHello::read(body, Carrier::Quic);
            counters.tls_cut += u64::from(self.hello.as_ref().is_some_and(|hello| hello.cut));
        }
        let Some(hello) = self.hello.clone() else {
            return Message::Unread;
        };
        Message::Request {
            key: self.key,
            content: Hello {
                version: self.version,
                hello,
            },
        }
    }

    fn answers(&mut self, refused: Option<u64>) -> Message<Hello, Answer> {
        let [_, server] = &self.crypto;
        // One that asks for another ClientHello comes before the one that answers.
        let hello = server
            .messages()
            .filter(|(kind, _)| *kind == numbers::SERVER_HELLO)
            .filter_map(|(_, body)| ServerHello::read(body))
            .find(|hello| !hello.retry);
        let content = match (hello, refused) {
            (Some(hello), _) => Answer::Hello {
                hello: Box::new(hello),
                retried: self.retried,
            },
            (_, Some(error)) => Answer::Refused(error),
            _ => return Message::Passed,
        };
        self.close();
        Message::Response {
            key: self.key,
            content,
        }
    }
}

/// Name of an error (RFC 9000, section 20.1), and whose fault it means.
fn error_name(error: u64) -> (String, Outcome) {
    // "The cryptographic handshake failed", with the alert of TLS (RFC 9001, section 4.8).
    if let Some(alert) = error
        .checked_sub(0x100)
        .and_then(|alert| u8::try_from(alert).ok())
    {
        return (
            numbers::alert_name(alert).into_owned(),
            numbers::outcome(alert, Side::Server),
        );
    }
    let name = match error {
        0 => "no_error",
        1 => "internal_error",
        2 => "connection_refused",
        3 => "flow_control_error",
        4 => "stream_limit_error",
        5 => "stream_state_error",
        6 => "final_size_error",
        7 => "frame_encoding_error",
        8 => "transport_parameter_error",
        9 => "connection_id_limit_error",
        10 => "protocol_violation",
        11 => "invalid_token",
        12 => "application_error",
        13 => "crypto_buffer_exceeded",
        _ => return (format!("error_{error}"), Outcome::Unknown),
    };
    // The first ones are the server's own reasons.
    let fault = match error {
        0..=2 => Outcome::ServerError,
        _ => Outcome::ClientError,
    };
    (name.to_owned(), fault)
}
