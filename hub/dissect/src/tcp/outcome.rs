//! How far a connection got, and what kept it from getting further.

use super::analysis::Analysis;
use crate::Nanos;
use crate::call::{Call, Marks, Observation, Outcome, Value};
use crate::flow::End;
use crate::limits::{CLOSE_WAIT, SYN_WAIT};
use crate::record::{ConnectionRecord, SeenFrom, State};

/// A connection that failed as such, whatever was to be said over it.
#[derive(Debug, PartialEq)]
pub(crate) struct Failure {
    /// The kind, by the state of TCP in which an end was stuck, or `Reset`.
    pub kind: &'static str,
    /// The flag of the segment that tells of it: `SYN`, `FIN` or `RST`.
    pub method: &'static str,
    /// The same in words.
    pub message: String,
    /// Whose failure it is.
    pub outcome: Outcome,
    /// When it began: the first and the last time that the end tried.
    pub asked: (Nanos, Nanos),
    /// When the other end answered, if it did.
    pub answered: Option<Nanos>,
}

impl Failure {
    /// The call that is shown for it.
    pub fn call(self, record: &ConnectionRecord) -> Call {
        let observation = Some(Observation {
            tape: record.tape,
            request: Some(self.asked),
            response: self.answered.map(|at| (at, at)),
        });
        let side = |side: SeenFrom| observation.filter(|_| record.seen_from == side);
        let mut marks = Marks::default();
        if self.kind == "Reset" {
            marks.set(Marks::RESET);
        }
        Call {
            stream: record.stream,
            index: record.calls,
            protocol: "tcp",
            version: "",
            client: record.client,
            server: record.server,
            method: self.method.into(),
            path: String::new(),
            query: String::new(),
            authority: String::new(),
            status: None,
            outcome: self.outcome,
            request: None,
            response: None,
            marks,
            client_side: side(SeenFrom::Client),
            server_side: side(SeenFrom::Server),
            unknown_side: side(SeenFrom::Between),
            fields: vec![
                ("tcp_method", Value::Text(self.method.into())),
                ("tcp_error_type", Value::Text(self.kind.into())),
                ("tcp_error_message", Value::Text(self.message.into())),
                ("error", Value::Text(self.kind.into())),
            ],
        }
    }
}

impl Analysis {
    /// How far the connection got.
    pub fn state(&self) -> State {
        let fins = End::BOTH.map(|end| self.ends[end].fin != 0);
        let refused = !self.accepted() && self.first_syn != 0 && self.reset_by != self.opener;
        match fins {
            [true, true] => State::Closed,
            _ if self.reset != 0 && refused && !self.went_on() => State::Refused,
            _ if self.reset != 0 => State::Reset,
            [true, _] | [_, true] => State::Closing,
            _ if !self.whole() => State::MidStream,
            _ if self.went_on() => State::Established,
            _ if self.accepted() => State::SynReceived,
            _ => State::SynSent,
        }
    }

    /// What kept the connection from working, as far as it was seen from its begin. `calls` came out of it, and packets of
    /// other connections were seen until `now`.
    pub fn failure(&self, client: End, calls: u32, now: Nanos) -> Option<Failure> {
        if !self.whole() {
            return None;
        }
        let name = |end: End| if end == client { "client" } else { "server" };
        let silent = now.saturating_sub(self.last);
        match self.state() {
            State::SynSent => {
                let sent = self.ends[client].sent.packets;
                (now.saturating_sub(self.first_syn) >= SYN_WAIT).then(|| Failure {
                    kind: "SynSent",
                    method: "SYN",
                    message: match sent {
                        1 => "the SYN was not answered".to_owned(),
                        _ => format!(
                            "{sent} SYNs in {} were not answered",
                            millis(self.last - self.first)
                        ),
                    },
                    outcome: Outcome::NoResponse,
                    asked: (self.first, self.last),
                    answered: None,
                })
            }
            State::Refused => Some(Failure {
                kind: "Reset",
                method: "SYN",
                message: "refused: the SYN was answered by a reset".to_owned(),
                outcome: Outcome::ServerError,
                asked: (self.first_syn, self.first_syn),
                answered: Some(self.reset),
            }),
            State::Reset if calls == 0 => {
                let by = self.reset_by.unwrap_or(client);
                let [sent, received] = [client, client.other()].map(|end| self.ends[end].sent.goodput);
                Some(Failure {
                    kind: "Reset",
                    method: "RST",
                    message: format!(
                        "reset by the {}, after {sent} bytes from the client and {received} from the server",
                        name(by)
                    ),
                    outcome: if by == client {
                        Outcome::Unknown
                    } else {
                        Outcome::ServerError
                    },
                    asked: (self.first, self.first),
                    answered: Some(self.reset),
                })
            }
            State::Closing if silent >= CLOSE_WAIT => {
                let closed = End::BOTH.into_iter().find(|end| self.ends[*end].fin != 0)?;
                let fin = self.ends[closed].fin;
                Some(Failure {
                    kind: "CloseWait",
                    method: "FIN",
                    message: format!(
                        "the {} has closed, the {} has not",
                        name(closed),
                        name(closed.other())
                    ),
                    outcome: Outcome::Unknown,
                    asked: (fin, fin),
                    answered: None,
                })
            }
            State::Closed => self.last_ack(name),
            _ => None,
        }
    }

    /// The second end to close has done so more than once, and was never answered.
    fn last_ack(&self, name: impl Fn(End) -> &'static str) -> Option<Failure> {
        let last = if self.ends.low.fin > self.ends.high.fin {
            End::Low
        } else {
            End::High
        };
        let side = &self.ends[last];
        let tries = side.sent.fins > 1 && self.last.saturating_sub(side.fin) >= SYN_WAIT;
        let waits = tries && self.reset == 0 && !self.ends[last.other()].has_acknowledged(side);
        waits.then(|| Failure {
            kind: "LastAck",
            method: "FIN",
            message: format!(
                "{} FINs of the {} were not acknowledged",
                side.sent.fins,
                name(last)
            ),
            outcome: Outcome::Unknown,
            asked: (side.fin, self.last),
            answered: None,
        })
    }
}

fn millis(nanos: Nanos) -> String {
    format!("{} ms", nanos / 1_000_000)
}
