//! What drives a protocol of datagrams: which answer belongs to which question, what was sent again, times and packets.

use std::collections::VecDeque;
use std::hash::Hasher;

use rustc_hash::FxHasher;

use crate::call::Packets;
use crate::datagram::Datagram;
use crate::flow::{End, Ends};
use crate::limits::{ANSWERED, DATAGRAM_IDLE, PENDING};
use crate::protocols::{Arrival, DatagramMessage as Message, DatagramProtocol, Half, Key, Span, Transaction};
use crate::{Counters, Nanos, Outcome};

/// The dissection of one flow by one protocol, as one observer sees it.
pub trait Exchanging: Send {
    /// Takes a datagram, gives what has become complete.
    fn take(
        &mut self,
        arrival: &Arrival<'_>,
        datagram: &Datagram,
        counters: &mut Counters,
        out: &mut Vec<Exchange>,
    );

    /// Gives up the requests that have waited for an answer for too long.
    fn expire(&mut self, now: Nanos, out: &mut Vec<Exchange>);

    /// If a request waits for its answer: when it was sent first, and last.
    fn waits_for(&self, client: End, key: Key) -> Option<(Nanos, Nanos)>;

    /// Gives up one request, because another observer knows how it ended.
    fn give_up(&mut self, client: End, key: Key) -> Option<Exchange>;

    /// There are no more datagrams: gives everything that waits.
    fn close(&mut self, now: Nanos, out: &mut Vec<Exchange>);

    /// Bytes that it holds, roughly.
    fn memory(&self) -> usize;
}

/// A request with its response, or one of the two, and by what another observer knows the same.
#[derive(Debug)]
pub struct Exchange {
    /// What the request and its response are known by.
    pub key: Key,
    /// What the sender of the request has called its packet; 0 if it has not, or the request was not recorded.
    pub ident: u32,
    /// A digest of the response's bytes, if there is one.
    pub response: Option<u64>,
    /// What was seen.
    pub transaction: Transaction,
}

impl Exchange {
    /// From the first that was seen of it to the last.
    pub fn at(&self) -> (Nanos, Nanos) {
        let Transaction {
            request, response, ..
        } = &self.transaction;
        let request = request.as_ref().map(|request| &request.half.span);
        let response = response.as_ref().map(|response| &response.half.span);
        let first = request.or(response).map_or(0, |span| span.first);
        (first, response.or(request).map_or(first, |span| span.last))
    }
}

/// A protocol with what waits in a flow.
pub(crate) struct Exchanges<P: DatagramProtocol> {
    state: P::State,
    /// Oldest first.
    waiting: VecDeque<Waiting<P::Request>>,
    /// Bytes of their content.
    bytes: usize,
    /// Requests that were answered, so that a second answer is known as one.
    answered: VecDeque<(End, Key)>,
    /// The begin of a message, of each end. Boxed: there rarely is one, and there are many flows.
    parts: Ends<Option<Box<Span>>>,
}

/// A request without an answer so far.
struct Waiting<Q> {
    client: End,
    key: Key,
    content: Q,
    span: Span,
    retries: u32,
    /// See [`Exchange::ident`].
    ident: u32,
}

impl<P: DatagramProtocol> Default for Exchanges<P> {
    fn default() -> Self {
        Self {
            state: P::State::default(),
            waiting: VecDeque::new(),
            bytes: 0,
            answered: VecDeque::new(),
            parts: Ends::default(),
        }
    }
}

impl<P: DatagramProtocol> Exchanging for Exchanges<P> {
    fn take(
        &mut self,
        arrival: &Arrival<'_>,
        datagram: &Datagram,
        counters: &mut Counters,
        out: &mut Vec<Exchange>,
    ) {
        let from = arrival.from;
        match P::parse(&mut self.state, arrival, counters) {
            Message::Request { key, content } => {
                let span = self.span(from, datagram);
                self.request((from, key), content, (span, datagram.ident), counters, out);
            }
            Message::Response { key, content } => {
                // Who pings itself, has no other end.
                let client = if datagram.flow.is_loop() {
                    from
                } else {
                    from.other()
                };
                let digest = digest(arrival.bytes);
                let Some(n) = self.position(client, |waiting| key.answers(waiting.key)) else {
                    self.unasked((client, key), content, digest, datagram, counters, out);
                    return;
                };
                let span = self.span(from, datagram);
                let Some(request) = self.remove(n) else { return };
                if self.answered.len() >= ANSWERED {
                    self.answered.pop_front();
                }
                if self.answered.capacity() == 0 {
                    self.answered.reserve_exact(1);
                }
                self.answered.push_back((client, request.key));
                let (key, ident) = (request.key, request.ident);
                let transaction = transaction::<P>(client, Some(request), Some((content, span)));
                out.push(Exchange {
                    key,
                    ident,
                    response: Some(digest),
                    transaction,
                });
            }
            Message::Notice(content) => {
                let span = self.span(from, datagram);
                let key = Key {
                    id: 0,
                    subject: digest(arrival.bytes),
                };
                let notice = Waiting {
                    client: from,
                    key,
                    content,
                    span,
                    retries: 0,
                    ident: datagram.ident,
                };
                out.push(Exchange {
                    key,
                    ident: datagram.ident,
                    response: None,
                    transaction: transaction::<P>(from, Some(notice), None),
                });
            }
            Message::Part => {
                let span = self.span(from, datagram);
                self.parts[from] = Some(Box::new(span));
            }
            Message::Passed => {}
            Message::Unread => counters.datagrams_unread += 1,
        }
    }

    fn expire(&mut self, now: Nanos, out: &mut Vec<Exchange>) {
        let expired =
            |waiting: &mut Waiting<P::Request>| waiting.span.last.saturating_add(DATAGRAM_IDLE) <= now;
        while let Some(request) = self.waiting.pop_front_if(expired) {
            self.bytes -= P::cost(&request.content);
            out.push(unanswered::<P>(request, Outcome::NoResponse));
        }
    }

    fn waits_for(&self, client: End, key: Key) -> Option<(Nanos, Nanos)> {
        let n = self.position(client, |waiting| waiting.key == key)?;
        let span = &self.waiting.get(n)?.span;
        Some((span.first, span.last))
    }

    fn give_up(&mut self, client: End, key: Key) -> Option<Exchange> {
        let n = self.position(client, |waiting| waiting.key == key)?;
        let request = self.remove(n)?;
        Some(unanswered::<P>(request, Outcome::Unknown))
    }

    fn close(&mut self, now: Nanos, out: &mut Vec<Exchange>) {
        self.expire(now, out);
        self.bytes = 0;
        // The recording ended, or there was no room for them, before it could be told whether an answer comes.
        let left = self.waiting.drain(..);
        out.extend(left.map(|request| unanswered::<P>(request, Outcome::Unknown)));
    }

    fn memory(&self) -> usize {
        size_of::<Self>()
            + self.waiting.capacity() * size_of::<Waiting<P::Request>>()
            + self.bytes
            + self.answered.capacity() * size_of::<(End, Key)>()
            + P::memory(&self.state)
    }
}

impl<P: DatagramProtocol> Exchanges<P> {
    fn request(
        &mut self,
        (client, key): (End, Key),
        content: P::Request,
        (span, ident): (Span, u32),
        counters: &mut Counters,
        out: &mut Vec<Exchange>,
    ) {
        if let Some(n) = self.position(client, |waiting| waiting.key == key)
            && let Some(mut known) = self.waiting.remove(n)
        {
            counters.requests_repeated += 1;
            known.retries += 1;
            known.span.repeat(&span);
            self.waiting.push_back(known);
            return;
        }
        if self.waiting.len() >= PENDING
            && let Some(oldest) = self.remove(0)
        {
            counters.pending_dropped += 1;
            out.push(unanswered::<P>(oldest, Outcome::Unknown));
        }
        self.bytes += P::cost(&content);
        if self.waiting.capacity() == 0 {
            // Most flows are of one question.
            self.waiting.reserve_exact(1);
        }
        self.waiting.push_back(Waiting {
            client,
            key,
            content,
            span,
            retries: 0,
            ident,
        });
    }

    /// An answer whose request was not recorded, or has its answer already.
    fn unasked(
        &mut self,
        (client, key): (End, Key),
        content: P::Response,
        digest: u64,
        datagram: &Datagram,
        counters: &mut Counters,
        out: &mut Vec<Exchange>,
    ) {
        let again = |known: &(End, Key)| known.0 == client && key.answers(known.1);
        if self.answered.iter().any(again) {
            counters.answers_repeated += 1;
            return;
        }
        let span = self.span(datagram.from.end, datagram);
        out.push(Exchange {
            key,
            ident: 0,
            response: Some(digest),
            transaction: transaction::<P>(client, None, Some((content, span))),
        });
    }

    /// The newest request that fits.
    fn position(&self, client: End, fits: impl Fn(&Waiting<P::Request>) -> bool) -> Option<usize> {
        self.waiting
            .iter()
            .rposition(|waiting| waiting.client == client && fits(waiting))
    }

    fn remove(&mut self, n: usize) -> Option<Waiting<P::Request>> {
        let request = self.waiting.remove(n)?;
        self.bytes -= P::cost(&request.content);
        Some(request)
    }

    /// Where and when a datagram passed, with those before it that are of the same message.
    fn span(&mut self, from: End, datagram: &Datagram) -> Span {
        let mut packets = Packets::default();
        // Fragments lie between the two locations.
        let fragmented = datagram.at_first != datagram.at;
        if fragmented {
            packets.push(datagram.at_first);
        }
        packets.push(datagram.at);
        let span = Span {
            end: u64::from(datagram.len) + u64::from(datagram.missing),
            first: datagram.ts,
            last: datagram.ts,
            packets,
            packets_cut: fragmented,
            missing: u64::from(datagram.missing),
            ..Span::default()
        };
        match self.parts[from].take() {
            Some(mut before) => {
                before.append(span);
                *before
            }
            None => span,
        }
    }
}

fn unanswered<P: DatagramProtocol>(request: Waiting<P::Request>, outcome: Outcome) -> Exchange {
    let (key, ident) = (request.key, request.ident);
    let mut transaction = transaction::<P>(request.client, Some(request), None);
    transaction.outcome = outcome;
    Exchange {
        key,
        ident,
        response: None,
        transaction,
    }
}

fn transaction<P: DatagramProtocol>(
    client: End,
    request: Option<Waiting<P::Request>>,
    response: Option<(P::Response, Span)>,
) -> Transaction {
    let (content, retries, asked) = match request {
        Some(request) => (Some(request.content), request.retries, Some(request.span)),
        None => (None, 0, None),
    };
    let (answer, answered) = response.unzip();
    let mut transaction = P::call(content, retries, answer);
    transaction.protocol = P::INFO.name;
    transaction.client = client;
    let halves = [
        (
            transaction.request.as_mut().map(|request| &mut request.half),
            asked,
        ),
        (
            transaction.response.as_mut().map(|response| &mut response.half),
            answered,
        ),
    ];
    for (half, span) in halves {
        if let Some((half, span)) = half.zip(span) {
            *half = Half {
                head_len: span.end - span.start,
                gap: span.missing > 0,
                span,
                ..Half::default()
            };
        }
    }
    transaction
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish()
}
