//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echoes as calls, everything else as what it says, with the flow it speaks of.

mod numbers;

mod quote;

use super::datagram::{Arrival, DatagramProtocol, Key, Likeness, Message};
use super::{Echo, Info, Request, Response, Transaction};
use crate::call::{Outcome, Value};
use crate::{Counters, Transport};
use numbers::{Family, Kind};
use quote::Quote;

/// The protocol; see the module.
pub(crate) struct Icmp;

/// Bytes of the header: type, code, checksum, and four whose meaning depends on the type.
const HEADER: usize = 8;

/// A message.
pub(crate) struct Told {
    family: Family,
    kind: Kind,
    code: u8,
    len: u32,
    quote: Option<Quote>,
}

impl DatagramProtocol for Icmp {
    const INFO: Info = Info {
        name: "icmp",
        aliases: &["icmp6"],
        ports: &[],
        buffer: 0,
    };
    type State = ();
    type Request = Told;
    type Response = Told;

    fn probe(arrival: &Arrival<'_>) -> Likeness {
        match family(arrival) {
            Some(_) => Likeness::Yes,
            None => Likeness::No,
        }
    }

    fn parse((): &mut (), arrival: &Arrival<'_>, counters: &mut Counters) -> Message<Told, Told> {
        let (Some(family), Some(header)) = (family(arrival), arrival.bytes.first_chunk::<HEADER>()) else {
            return Message::Unread;
        };
        let [kind, code, _, _, i0, i1, s0, s1] = *header;
        let kind = family.kind(kind);
        let content = Told {
            family,
            kind,
            code,
            len: arrival.bytes.len() as u32 + arrival.missing,
            quote: kind
                .quotes
                .then(|| Quote::read(arrival.bytes.get(HEADER..).unwrap_or_default()))
                .flatten(),
        };
        // Identifier and sequence number; the kind of question, as there are others than echoes.
        let key = Key {
            id: u32::from_be_bytes([i0, i1, s0, s1]),
            subject: u64::from(kind.question),
        };
        if kind.question == 0 {
            // How neighbours find each other, and who listens to which group, is nothing that anybody asked for.
            if !kind.quotes && family.error(kind, code).is_none() {
                counters.icmp_housekeeping += 1;
                return Message::Passed;
            }
            Message::Notice(content)
        } else if kind.answers {
            Message::Response { key, content }
        } else {
            Message::Request { key, content }
        }
    }

    fn call(request: Option<Told>, retries: u32, response: Option<Told>) -> Transaction {
        let Some(told) = request.as_ref().or(response.as_ref()) else {
            return Transaction::default();
        };
        let mut fields = vec![
            ("icmp_type", Value::Text(told.kind.name.text().into())),
            ("icmp_version", Value::Int(told.family.version())),
            ("icmp_length", Value::Int(i64::from(told.len))),
            ("icmp_code", Value::Int(i64::from(told.code))),
        ];
        if retries > 0 {
            fields.push(("icmp_retries", Value::Int(i64::from(retries))));
        }
        let error = told.family.error(told.kind, told.code);
        if let Some((name, _)) = error {
            fields.push(("error", Value::Text(name.into())));
        }
        let about = told.quote.as_ref().map(Quote::text).unwrap_or_default();
        if let Some(quote) = &told.quote {
            fields.extend(quote.fields());
        }
        let method = told.kind.name.text();
        let outcome = match (error, &request, &response) {
            (Some((_, outcome)), ..) => outcome,
            // It was answered, or needs no answer.
            (None, _, Some(_)) => Outcome::Ok,
            (None, Some(request), None) if request.kind.question == 0 => Outcome::Ok,
            (None, ..) => Outcome::Unknown,
        };
        let echo = (request.is_none()).then(|| {
            Box::new(Echo {
                method: method.clone().into(),
                ..Echo::default()
            })
        });
        Transaction {
            echo,
            outcome,
            request: request.map(|_| {
                Box::new(Request {
                    method: method.into(),
                    path: about,
                    ..Request::default()
                })
            }),
            response: response.map(|response| {
                Box::new(Response {
                    status: Some(i32::from(response.code)),
                    ..Response::default()
                })
            }),
            fields,
            ..Transaction::default()
        }
    }

    fn cost(_: &Told) -> usize {
        0
    }

    fn memory((): &()) -> usize {
        0
    }
}

fn family(arrival: &Arrival<'_>) -> Option<Family> {
    match arrival.transport {
        Transport::Icmp => Some(Family::V4),
        Transport::Icmp6 => Some(Family::V6),
        Transport::Udp | Transport::Other(_) => None,
    }
}
