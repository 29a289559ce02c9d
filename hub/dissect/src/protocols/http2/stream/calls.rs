//! A stream to its calls.

use super::super::frame::ErrorCode;
use super::{STREAM, Stream};
use crate::call::{Marks, Outcome, Value};
use crate::protocols::{LeftOut, Request, Response, Side, Transaction, graphql, grpc, http1};

impl Stream {
    /// Gives its calls, as far as they came.
    pub fn give(mut self, number: u32, out: &mut Vec<Transaction>) {
        if let Some(tunnel) = self.tunnel.take() {
            tunnel.close(self.closing(), out);
        }
        if self.request.half.is_some() || self.response.half.is_some() {
            out.push(self.transaction(number));
        }
    }

    /// The call, as far as it came.
    pub(super) fn transaction(mut self, number: u32) -> Transaction {
        let mut fields = vec![(STREAM, Value::Int(number.into()))];
        let mut marks = Marks::default();
        if self.reset {
            marks.set(Marks::RESET);
        }
        if self.pushed {
            fields.push(("http2_pushed", Value::Bool(true)));
        }
        if let Some(protocol) = &self.protocol {
            fields.push(("http2_connect_protocol", Value::Text(protocol.clone().into())));
        }
        let call = grpc::Call {
            path: &self.path,
            unresolved: self.request.is_unresolved(),
            request: self.request.half.as_ref().map(|half| &half.headers),
            response: self.response.half.as_ref().map(|half| &half.headers),
            asked: self.request.tap.as_ref().and_then(|tap| tap.messages()),
            answered: self.response.tap.as_ref().and_then(|tap| tap.messages()),
        };
        let grpc = call.describe();
        let is_grpc = grpc.is_some();
        let graphql = self.describe_graphql().filter(|_| !is_grpc);
        let is_graphql = graphql.is_some();
        let told = match (self.status, grpc.as_ref().and_then(|grpc| grpc.status)) {
            (None | Some(200), Some(status)) => grpc::outcome(status),
            (Some(200), None) if is_grpc => Outcome::Unknown,
            (Some(status), _) => {
                let told = graphql.as_ref().and_then(|graphql| graphql.outcome);
                graphql::outcome(http1::outcome(status), told)
            }
            (None, None) => Outcome::Unknown,
        };
        let late = is_grpc && self.is_late();
        if late || grpc.as_ref().and_then(|grpc| grpc.status) == Some(grpc::DEADLINE_EXCEEDED) {
            fields.push(("grpc_deadline_exceeded", Value::Bool(true)));
        }
        let taps = [&self.request.tap, &self.response.tap].into_iter().flatten();
        let mut left_out = taps.fold(LeftOut::default(), |sum, tap| sum.or(tap.left_out()));
        if let Some(graphql) = &graphql {
            left_out = left_out.or(graphql.left_out);
        }
        let outcome = self.ending(told, late, &mut fields);
        if let Some(grpc) = grpc {
            for (part, told) in [
                (&mut self.request, grpc.asked),
                (&mut self.response, grpc.answered),
            ] {
                if let Some(half) = &mut part.half {
                    half.fields = told;
                }
            }
        }
        if let Some(graphql) = graphql {
            for (part, told) in [
                (&mut self.request, graphql.asked),
                (&mut self.response, graphql.answered),
            ] {
                if let Some(half) = &mut part.half {
                    half.fields = told;
                }
            }
        }
        if let Some(events) = self.response.tap.as_ref().and_then(|tap| tap.events())
            && let Some(half) = &mut self.response.half
        {
            half.fields = events.fields();
        }
        let status = self.status;
        let response = self.response.half.map(|half| Box::new(Response { status, half }));
        let mut path = self.path;
        let query = match path.find('?') {
            Some(at) => path.split_off(at).split_off(1),
            None => String::new(),
        };
        let (method, authority) = (self.method, self.authority);
        let request = self.request.half.map(|half| {
            Box::new(Request {
                method,
                path,
                query,
                authority,
                half,
            })
        });
        Transaction {
            protocol: match (is_grpc, is_graphql) {
                (true, _) => "grpc",
                (false, true) => "gqlv2",
                (false, false) => "http",
            },
            version: "HTTP/2",
            stream: number.into(),
            request,
            response,
            outcome,
            marks,
            fields,
            left_out,
            ..Transaction::default()
        }
    }

    /// What GraphQL has to tell, if it is spoken.
    fn describe_graphql(&self) -> Option<graphql::Graphql> {
        self.request.half.as_ref()?;
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let asked = self.request.tap.as_ref().and_then(|tap| tap.json());
        let answered = self.response.tap.as_ref().and_then(|tap| tap.json());
        graphql::describe(query, asked, answered)
    }

    /// Whether it took as long as its deadline allows, or longer.
    fn is_late(&self) -> bool {
        let Some(request) = &self.request.half else {
            return false;
        };
        let response = self.response.half.as_ref().filter(|_| self.response.over);
        let gave_up = self.given_up.is_some_and(|given_up| given_up.by == Side::Client);
        let ended = match self.given_up {
            Some(_) => self.given_up_at,
            None => response.map_or(0, |response| response.span.last),
        };
        grpc::is_late(
            &request.headers,
            ended.saturating_sub(request.span.first),
            gave_up,
        )
    }

    /// How it ended, given what the response says, and whether its deadline had passed.
    fn ending(&self, told: Outcome, late: bool, fields: &mut Vec<(&'static str, Value)>) -> Outcome {
        let answered = self.is_answered();
        if let Some(given_up) = self.given_up {
            let by = match given_up.by {
                Side::Client => "client",
                Side::Server => "server",
            };
            fields.push(("error", Value::Text(given_up.code.name().into())));
            fields.push(("http2_reset_by", Value::Text(by.into())));
            // That is how a client's deadline looks on the wire.
            if late && given_up.by == Side::Client && given_up.code == ErrorCode::CANCEL {
                return Outcome::Timeout;
            }
            return given_up.outcome(answered);
        }
        if let Some(given_up) = self.went_away.filter(|_| !self.response.over) {
            fields.push((
                "error",
                Value::Text(format!("GOAWAY {}", given_up.code.name()).into()),
            ));
            let quiet = given_up.code == ErrorCode::NO_ERROR;
            return if quiet || self.excluded {
                Outcome::NoResponse
            } else {
                given_up.outcome(answered)
            };
        }
        if !answered && self.closed && !self.response.lost {
            return Outcome::NoResponse;
        }
        told
    }
}
