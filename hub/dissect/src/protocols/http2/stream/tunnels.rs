//! What a stream has to do with the tunnel that it is, or may be.

use super::super::frame::ErrorCode;
use super::super::outcome::GivenUp;
use super::super::tunnel::{Piece, Tunnel};
use super::{Part, Stream};
use crate::Counters;
use crate::protocols::{Side, Span, Transaction, Upgrade};
use crate::tcp::Close;

/// What an extended CONNECT asks for that is looked into (RFC 8441, section 5).
const WEBSOCKET: &str = "websocket";

impl Stream {
    /// Takes payload of what it carries.
    pub fn piece(
        &mut self,
        from: Side,
        piece: &Piece,
        span: Span,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.take(from, piece, &span, counters, out);
        }
        self.data(from, span, piece.bytes.len() as u64, piece.framing, piece.end);
        if piece.end {
            self.end_tunnel(from, Close::Finished, counters, out);
        }
    }

    /// Whether it carries something that is looked into.
    pub fn is_tunnel(&self) -> bool {
        self.tunnel.is_some()
    }

    /// Whether it may do so, as far as its heads are known.
    pub fn may_be_tunnel(&self) -> bool {
        let asked = match &self.request.half {
            None => true,
            Some(half) => {
                let untold = half.unresolved > 0 && self.protocol.is_none();
                self.asks_for_websocket() || (untold && matches!(&*self.method, "" | "CONNECT"))
            }
        };
        asked && self.status.is_none_or(|status| (200..300).contains(&status))
    }

    /// Whether the response has just agreed to what an extended CONNECT asked for.
    pub fn begins_tunnel(&self) -> bool {
        let agreed = self.status.is_some_and(|status| (200..300).contains(&status));
        self.tunnel.is_none() && agreed && self.asks_for_websocket() && !self.response.over
    }

    /// The call by which the tunnel was asked for. From here on, the stream is that.
    pub fn hand_over(&mut self, number: u32) -> Transaction {
        let over = |part: &Part| Part {
            over: part.over,
            lost: part.lost,
            ..Part::default()
        };
        let tunnel = Self {
            tunnel: Some(Box::new(Tunnel::new(number, self.upgrade()))),
            request: over(&self.request),
            response: over(&self.response),
            ..Self::default()
        };
        std::mem::replace(self, tunnel).transaction(number)
    }

    /// What is known of a tunnel's begin.
    pub fn upgrade(&self) -> Upgrade {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let headers = self.response.half.as_ref().map(|half| half.headers.clone());
        Upgrade {
            name: WEBSOCKET.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            authority: self.authority.clone(),
            headers: headers.unwrap_or_default(),
            ..Upgrade::default()
        }
    }

    /// It has turned out to carry this; one direction may have ended already.
    pub fn carry(
        &mut self,
        tunnel: Tunnel,
        ended: Option<Side>,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        self.tunnel = Some(Box::new(tunnel));
        if let Some(from) = ended {
            self.part(from).over = true;
            self.end_tunnel(from, Close::Finished, counters, out);
        }
    }

    /// One direction of what it carries ends.
    pub fn end_tunnel(
        &mut self,
        from: Side,
        close: Close,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.end(from, close, counters, out);
        }
    }

    /// What it carries gives back what it can; whether that was anything.
    pub fn release(&mut self) -> bool {
        self.tunnel.as_mut().is_some_and(|tunnel| tunnel.release())
    }

    /// How what it carries ends.
    pub fn closing(&self) -> Close {
        let quiet = |given_up: GivenUp| matches!(given_up.code, ErrorCode::NO_ERROR | ErrorCode::CANCEL);
        if self.given_up.is_none_or(quiet) {
            Close::Finished
        } else {
            Close::Reset
        }
    }

    fn asks_for_websocket(&self) -> bool {
        let protocol = self.protocol.as_ref();
        protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case(WEBSOCKET))
    }
}
