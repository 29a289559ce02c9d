//! A handshake, put together from both directions.

use super::Frame;
use super::certificate::Certificate;
use super::hello::{Carrier, ClientHello, ServerHello};
use super::numbers;
use super::record::HEADER;
use crate::Nanos;
use crate::protocols::{Side, Span, Told};

/// Bytes of the shortest record with a Finished in TLS 1.3: its header, the message's, a hash, the kind of content, and a
/// tag (RFC 8446, sections 4.4.4 and 5.2; RFC 6655, section 6.1). An alert, by which a client rejects a handshake, is
/// encrypted as well and shorter.
const FINISHED: u64 = HEADER as u64 + 4 + 32 + 1 + 8;

/// What is known of a handshake.
#[derive(Default)]
pub(crate) struct Handshake {
    pub client: Option<ClientHello>,
    pub server: Option<ServerHello>,
    pub certificate: Option<Certificate>,
    /// What the client sent in order to be answered: its hello, both of them if it had to send another one.
    pub request: Option<Span>,
    /// What the server sent before the handshake was over.
    pub response: Option<Span>,
    /// Whether the server asked for another hello.
    pub retried: bool,
    /// The first fatal alert, and who sent it.
    pub alert: Option<(u8, Side)>,
    /// When each end's last record of the handshake was seen, client first.
    pub finished: [Option<Nanos>; 2],
}

/// A handshake message.
#[derive(Debug)]
pub(crate) enum Said {
    ClientHello(Box<ClientHello>),
    ServerHello(Box<ServerHello>),
    Certificate(Box<Certificate>),
    /// One that says nothing that is kept, or cannot be read.
    Other,
}

impl Said {
    /// Reads a message.
    pub fn read(kind: u8, body: &[u8], from: Side) -> Self {
        let said = match (kind, from) {
            (numbers::CLIENT_HELLO, Side::Client) => {
                ClientHello::read(body, Carrier::Tcp).map(|hello| Self::ClientHello(Box::new(hello)))
            }
            (numbers::SERVER_HELLO, Side::Server) => {
                ServerHello::read(body).map(|hello| Self::ServerHello(Box::new(hello)))
            }
            (numbers::CERTIFICATE, Side::Server) => {
                Certificate::read(body).map(|certificate| Self::Certificate(Box::new(certificate)))
            }
            _ => None,
        };
        said.unwrap_or(Self::Other)
    }

    /// Whether it lists more than is kept.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::ClientHello(hello) if hello.cut)
    }

    pub fn is_hello(&self) -> bool {
        matches!(self, Self::ClientHello(_) | Self::ServerHello(_))
    }
}

impl Handshake {
    /// Whether its end is still to be seen.
    pub fn waits(&self) -> bool {
        !self.is_over() && self.alert.is_none() && !self.is_unclear()
    }

    /// Whether its end cannot be told: what the client sends before it in TLS 1.3 looks like its Finished (RFC 8446,
    /// section 2.3).
    pub fn is_unclear(&self) -> bool {
        let answered = self.server.as_ref().is_some_and(|hello| !hello.retry);
        answered && self.is_tls13() && self.client.as_ref().is_none_or(|hello| hello.early_data)
    }

    /// Whether application data can be told from what is encrypted of the handshake.
    pub fn is_data_told_apart(&self) -> bool {
        self.server.is_some() && (!self.is_tls13() || self.is_over())
    }

    /// Whether both ends are done.
    pub fn is_over(&self) -> bool {
        let [client, server] = &self.finished;
        client.is_some() && (server.is_some() || self.is_tls13())
    }

    pub fn is_tls13(&self) -> bool {
        self.server
            .as_ref()
            .is_some_and(|hello| numbers::is_tls13(hello.version))
    }

    /// Whether it went on from an earlier one; `None` if that cannot be told.
    pub fn resumed(&self) -> Option<bool> {
        let server = self.server.as_ref()?;
        if self.is_tls13() {
            return Some(server.known_key);
        }
        // The server repeats the id of the session that it goes on with (RFC 5246, section 7.4.1.3).
        let client = self.client.as_ref()?;
        Some(!server.session.is_empty() && server.session == client.session)
    }

    /// From the first byte of the ClientHello until both ends were done.
    pub fn duration(&self) -> Option<Nanos> {
        let begin = self.request.as_ref()?.first;
        let end = self.finished.iter().flatten().max()?;
        self.is_over().then(|| end.saturating_sub(begin))
    }

    /// Takes the next record.
    pub fn take(&mut self, told: Told<Frame>) {
        let Told { from, span, frame } = told;
        match frame {
            Frame::Messages(said) => {
                let asks = said.iter().any(Said::is_hello);
                for said in said {
                    self.message(said);
                }
                match from {
                    Side::Client if asks => append(&mut self.request, span),
                    Side::Server => append(&mut self.response, span),
                    Side::Client => {}
                }
            }
            Frame::Alert { fatal, alert } => {
                let ends = fatal && alert != numbers::CLOSE_NOTIFY;
                if ends && self.alert.is_none() {
                    self.alert = Some((alert, from));
                }
                if from == Side::Server {
                    append(&mut self.response, span);
                }
            }
            Frame::ChangeCipherSpec => {
                if from == Side::Server {
                    append(&mut self.response, span);
                }
            }
            Frame::Sealed => self.sealed(from, span),
        }
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        let certificate = self.certificate.as_ref().map_or(0, Certificate::memory);
        let client = self.client.as_ref().map_or(0, ClientHello::memory);
        let spans = [&self.request, &self.response].into_iter().flatten();
        let packets: usize = spans.map(|span| size_of_val(&*span.packets)).sum();
        size_of::<Self>() + certificate + client + packets
    }

    fn message(&mut self, said: Said) {
        match said {
            // A second one repeats what the server wanted otherwise; the first one is the client's own choice.
            Said::ClientHello(hello) if self.client.is_none() => self.client = Some(*hello),
            Said::ServerHello(hello) => {
                self.retried |= hello.retry;
                self.server = Some(*hello);
            }
            Said::Certificate(certificate) if self.certificate.is_none() => {
                self.certificate = Some(*certificate);
            }
            Said::ClientHello(_) | Said::Certificate(_) | Said::Other => {}
        }
    }

    /// A record whose content is not seen: Finished; in TLS 1.3, everything behind the ServerHello, which ends with the
    /// client's Finished.
    fn sealed(&mut self, from: Side, span: Span) {
        let Some(server) = &self.server else { return };
        if server.retry || !self.waits() {
            return;
        }
        if from == Side::Client && self.is_tls13() && span.end - span.start < FINISHED {
            return;
        }
        let [client_done, server_done] = &mut self.finished;
        match from {
            Side::Client => {
                client_done.get_or_insert(span.last);
            }
            Side::Server => {
                *server_done = Some(span.last);
                append(&mut self.response, span);
            }
        }
    }
}

fn append(known: &mut Option<Span>, span: Span) {
    match known {
        Some(known) => known.append(span),
        None => *known = Some(span),
    }
}
