//! One connection, with everyone who saw it.

use std::cmp::Ordering;

use crate::call::{Call, Message, Peer, Value};
use crate::flow::{End, Ends, FlowKey, mix};
use crate::join::{Join, View};
use crate::limits::VANTAGES;
use crate::protocols::{Half, Request, Transaction};
use crate::recognise::Dissection;
use crate::record::{ClientBy, ConnectionRecord, SeenFrom, TcpRecord};
use crate::segment::{Flags, Observer, Segment};
use crate::tcp::{Analysis, Close, Stream};
use crate::{Counters, Marks, Nanos};

/// What a connection needs of its shard.
pub(crate) struct Desk<'a> {
    pub counters: &'a mut Counters,
    /// For transactions on their way; empty between segments.
    pub scratch: &'a mut Vec<Transaction>,
    pub out: &'a mut Vec<Call>,
    /// Connections that are over.
    pub over: &'a mut Vec<ConnectionRecord>,
}

/// One connection between two addresses and ports.
pub(crate) struct Connection {
    flow: FlowKey,
    stream: u64,
    /// Ordinal of the next call.
    index: u32,
    /// Who was seen to speak first.
    first: End,
    vantages: Vec<Vantage>,
    join: Join,
    /// Whether more observers are to be expected.
    twin: bool,
    /// Which tape recorded each end's socket, and that socket's cgroup.
    recorded: Ends<Option<(u16, u64)>>,
    /// Protocols of the calls that are out.
    protocols: Vec<&'static str>,
}

/// A connection as one observer saw it.
pub(crate) struct Vantage {
    tape: u16,
    observer: Observer,
    tcp: Stream,
    analysis: Analysis,
    dissection: Dissection,
}

impl Connection {
    /// A connection that begins with this segment.
    pub fn new(segment: &Segment, counters: &mut Counters) -> Self {
        counters.connections += 1;
        counters.connections_joined += u64::from(!segment.flags.has(Flags::SYN));
        Self {
            flow: segment.flow,
            stream: mix(segment.flow.mixed() ^ mix(segment.ts)),
            index: 0,
            first: segment.from.end,
            vantages: Vec::with_capacity(1),
            join: Join::default(),
            twin: false,
            recorded: Ends::default(),
            protocols: Vec::new(),
        }
    }

    /// Which of the observers saw the segment.
    pub fn vantage(&self, segment: &Segment) -> Option<usize> {
        let same = |vantage: &Vantage| vantage.tape == segment.tape && vantage.observer == segment.observer;
        self.vantages.iter().position(same)
    }

    /// Whether an observer has seen that its connection is another one than this segment's.
    pub fn contradicts(&self, vantage: usize, segment: &Segment) -> bool {
        self.vantages
            .get(vantage)
            .is_some_and(|vantage| vantage.tcp.contradicts(segment) || vantage.analysis.contradicts(segment))
    }

    /// Whether a SYN that an observer has not seen yet can be of this connection.
    pub fn accepts(&self, segment: &Segment) -> bool {
        !self
            .vantages
            .iter()
            .any(|vantage| vantage.tcp.contradicts(segment))
    }

    /// Adds an observer; `None` if there are too many.
    pub fn observe(&mut self, segment: &Segment) -> Option<usize> {
        if self.vantages.len() >= VANTAGES {
            return None;
        }
        let beside = self
            .vantages
            .first()
            .map(|first| first.tcp.positions())
            .unwrap_or_default();
        self.vantages.push(Vantage {
            tape: segment.tape,
            observer: segment.observer,
            tcp: Stream::beside(beside),
            analysis: Analysis::default(),
            dissection: Dissection::new(),
        });
        Some(self.vantages.len() - 1)
    }

    /// Takes a segment that one of the observers saw; whether anything has become known by it.
    pub fn segment(
        &mut self,
        vantage: usize,
        segment: &Segment,
        payload: &[u8],
        desk: &mut Desk<'_>,
    ) -> bool {
        self.twin = segment.from.twin;
        if let Observer::Socket(end) = segment.observer {
            let recorded = self.recorded[end].get_or_insert((segment.tape, segment.cgroup));
            if recorded.1 == 0 {
                recorded.1 = segment.cgroup;
            }
        }
        let Some(Vantage {
            tcp,
            analysis,
            dissection,
            ..
        }) = self.vantages.get_mut(vantage)
        else {
            return false;
        };
        analysis.segment(segment, desk.counters);
        let (flow, whole) = (&self.flow, tcp.whole() || segment.flags.has(Flags::SYN));
        let scratch = &mut *desk.scratch;
        let mut any = false;
        tcp.segment(segment, payload, desk.counters, &mut |told, counters| {
            any = true;
            analysis.told(&told);
            dissection.tell(told, flow, whole, counters, scratch);
        });
        if any {
            if tcp.closed() {
                dissection.end();
                analysis.close();
            }
            self.collect(vantage, segment.ts, desk);
        }
        any
    }

    /// Nothing more comes from an observer.
    pub fn finish_vantage(&mut self, vantage: usize, close: Close, now: Nanos, desk: &mut Desk<'_>) {
        let Some(Vantage {
            tcp,
            analysis,
            dissection,
            ..
        }) = self.vantages.get_mut(vantage)
        else {
            return;
        };
        let (flow, whole) = (&self.flow, tcp.whole());
        let scratch = &mut *desk.scratch;
        tcp.finish(close, desk.counters, &mut |told, counters| {
            analysis.told(&told);
            dissection.tell(told, flow, whole, counters, scratch);
        });
        dissection.end();
        self.collect(vantage, now, desk);
    }

    /// Nothing more comes from anyone: gives everything that waits.
    pub fn finish(&mut self, now: Nanos, desk: &mut Desk<'_>) {
        for vantage in 0..self.vantages.len() {
            self.finish_vantage(vantage, Close::Cut, now, desk);
        }
        while let Some(view) = self.join.next_forced(desk.counters) {
            self.emit(view, desk);
        }
        self.record(now, desk);
    }

    /// Gives the calls that have waited for another observer for long enough.
    pub fn expire(&mut self, now: Nanos, desk: &mut Desk<'_>) {
        self.advance(now, desk);
    }

    /// The tapes of those who saw it.
    pub fn tapes(&self) -> impl Iterator<Item = u16> {
        self.vantages.iter().map(|vantage| vantage.tape)
    }

    /// Whether no observer will see any more of it.
    pub fn closed(&self) -> bool {
        self.vantages.iter().all(|vantage| vantage.tcp.closed())
    }

    /// When the oldest call that waits for another observer began to wait.
    pub fn holding_since(&self) -> Option<Nanos> {
        self.join.since()
    }

    /// Bytes that it takes, roughly.
    pub fn memory(&self) -> usize {
        let vantage = |vantage: &Vantage| {
            vantage.tcp.memory() + vantage.analysis.memory() + vantage.dissection.memory()
        };
        size_of::<Self>()
            + self.vantages.capacity() * size_of::<Vantage>()
            + self.vantages.iter().map(vantage).sum::<usize>()
            + self.join.memory()
            + self.protocols.capacity() * size_of::<&str>()
    }

    /// Takes the transactions that an observer's dissection has given.
    fn collect(&mut self, vantage: usize, now: Nanos, desk: &mut Desk<'_>) {
        let alone = self.vantages.len() == 1 && !self.twin && self.join.is_empty();
        if alone && desk.scratch.is_empty() {
            return;
        }
        let Some(&Vantage { tape, observer, .. }) = self.vantages.get(vantage) else {
            return;
        };
        let mut scratch = std::mem::take(desk.scratch);
        for transaction in scratch.drain(..) {
            let view = View::new(transaction, tape, observer);
            if alone {
                self.join.note(&view);
                desk.counters.calls += 1;
                let call = self.call(view);
                desk.out.push(call);
            } else {
                self.join.hold(vantage, view, now);
            }
        }
        *desk.scratch = scratch;
        if !alone {
            self.advance(now, desk);
        }
    }

    /// Gives the calls that need not wait any more.
    fn advance(&mut self, now: Nanos, desk: &mut Desk<'_>) {
        let mut open = [false; VANTAGES];
        for (open, vantage) in open.iter_mut().zip(&self.vantages) {
            *open = !vantage.tcp.closed();
        }
        let expected = self.twin && self.vantages.len() == 1;
        while let Some(view) = self.join.next(&open, expected, now, desk.counters) {
            self.emit(view, desk);
        }
    }

    fn emit(&mut self, view: View, desk: &mut Desk<'_>) {
        let Some(view) = self.join.pass(view, desk.counters) else {
            return;
        };
        desk.counters.calls += 1;
        let call = self.call(view);
        desk.out.push(call);
    }

    /// Gives what is to be told of the connection as such; and a call if it failed as such.
    fn record(&mut self, now: Nanos, desk: &mut Desk<'_>) {
        let (client, client_by) = self.client();
        // The client's socket, else the server's, else whoever saw it first.
        let best = |vantage: &&Vantage| SeenFrom::of(vantage.observer, client);
        let Some(vantage) = self.vantages.iter().min_by_key(best) else {
            return;
        };
        let analysis = &vantage.analysis;
        let mut protocols = std::mem::take(&mut self.protocols);
        if protocols.is_empty() {
            let recognised = self
                .vantages
                .iter()
                .find_map(|vantage| vantage.dissection.protocol());
            protocols.extend(recognised);
        }
        let peer = |end| peer(&self.flow, &self.recorded, end);
        let ends = [client, client.other()];
        let at_server = |vantage: &&Vantage| SeenFrom::of(vantage.observer, client) == SeenFrom::Server;
        let server = self.vantages.iter().find(at_server);
        let record = ConnectionRecord {
            stream: self.stream,
            client: peer(client),
            server: peer(client.other()),
            client_by,
            transport: "tcp".into(),
            tape: vantage.tape,
            seen_from: SeenFrom::of(vantage.observer, client),
            recorded: ends.map(|end| self.recorded[end].is_some()).into(),
            times: (analysis.first, analysis.last),
            state: analysis.state(),
            protocols,
            calls: self.index,
            sent: ends.map(|end| analysis.ends[end].sent),
            tcp: Some(TcpRecord {
                handshake_at_server: server.and_then(|vantage| vantage.analysis.handshake()),
                ..analysis.record(client)
            }),
        };
        if let Some(failure) = analysis.failure(client, self.index, now) {
            desk.counters.calls += 1;
            desk.counters.connections_failed += 1;
            desk.out.push(failure.call(&record));
        }
        desk.over.push(record);
    }

    /// The end that opened the connection, as far as anybody can tell.
    fn client(&self) -> (End, ClientBy) {
        let opener = self.vantages.iter().find_map(|vantage| vantage.analysis.opener);
        if let Some(opener) = opener {
            return (opener, ClientBy::Opening);
        }
        let asks = self
            .vantages
            .iter()
            .find_map(|vantage| vantage.dissection.client());
        if let Some(asks) = asks {
            return (asks, ClientBy::Protocol);
        }
        let end = match self.flow.port(End::Low).cmp(&self.flow.port(End::High)) {
            Ordering::Greater => End::Low,
            Ordering::Less => End::High,
            Ordering::Equal => self.first,
        };
        (end, ClientBy::Ports)
    }

    fn call(&mut self, view: View) -> Call {
        let index = self.index;
        self.index += 1;
        if !self.protocols.contains(&view.transaction.protocol) {
            // There is one, nearly always.
            self.protocols.reserve_exact(1);
            self.protocols.push(view.transaction.protocol);
        }
        call(view, (self.stream, index), &self.flow, &self.recorded)
    }
}

/// One end, and where it was recorded.
pub(crate) fn peer(flow: &FlowKey, recorded: &Ends<Option<(u16, u64)>>, end: End) -> Peer {
    Peer {
        address: flow.address(end),
        tape: recorded[end].map(|(tape, _)| tape),
        cgroup: recorded[end].map_or(0, |(_, cgroup)| cgroup),
    }
}

/// Makes the call that comes out. `recorded` says which tape recorded each end's socket, and that socket's cgroup.
pub(crate) fn call(
    view: View,
    (stream, index): (u64, u32),
    flow: &FlowKey,
    recorded: &Ends<Option<(u16, u64)>>,
) -> Call {
    let Transaction {
        protocol,
        client,
        version,
        stream: within,
        mut request,
        mut response,
        echo,
        outcome,
        mut marks,
        mut fields,
        left_out: _,
    } = view.transaction;
    let peer = |end| peer(flow, recorded, end);
    let halves = [
        (
            request.as_ref().map(|request| &request.half),
            Marks::NO_REQUEST,
            Marks::REQUEST_GAP,
        ),
        (
            response.as_ref().map(|response| &response.half),
            Marks::NO_RESPONSE,
            Marks::RESPONSE_GAP,
        ),
    ];
    for (half, absent, gap) in halves {
        match half {
            None => marks.set(absent),
            Some(half) => mark_half(&mut marks, half, gap),
        }
    }
    let unresolved: u32 = halves
        .iter()
        .filter_map(|(half, ..)| Some((*half)?.unresolved))
        .sum();
    if unresolved > 0 {
        fields.push(("unresolved_headers", Value::Int(unresolved.into())));
    }
    let halves = [
        request.as_mut().map(|request| &mut request.half),
        response.as_mut().map(|response| &mut response.half),
    ];
    let told = halves.iter().flatten().map(|half| half.fields.len());
    fields.reserve(told.sum());
    for half in halves.into_iter().flatten() {
        // The same may be told by both, and by what concerns both.
        for field in half.fields.drain(..) {
            if fields.iter().all(|(name, _)| *name != field.0) {
                fields.push(field);
            }
        }
    }
    let status = response.as_ref().and_then(|response| response.status);
    let has_request = !marks.has(Marks::NO_REQUEST);
    let request = request.map_or_else(
        || {
            let echo = echo.map(|echo| *echo).unwrap_or_default();
            Request {
                method: echo.method,
                path: echo.path,
                query: echo.query,
                authority: echo.authority,
                ..Request::default()
            }
        },
        |request| *request,
    );
    Call {
        stream,
        index,
        protocol,
        version,
        client: peer(client),
        server: peer(client.other()),
        method: request.method,
        path: request.path,
        query: request.query,
        authority: request.authority,
        status,
        outcome,
        request: has_request.then(|| message(request.half, within)),
        response: response.map(|response| message(response.half, within)),
        marks,
        client_side: view.sides.client,
        server_side: view.sides.server,
        unknown_side: view.sides.unknown,
        fields,
    }
}

fn mark_half(marks: &mut Marks, half: &Half, gap: Marks) {
    if half.gap {
        marks.set(gap);
    }
    if half.headers_cut {
        marks.set(Marks::HEADERS_CUT);
    }
    if half.span.packets_cut {
        marks.set(Marks::PACKETS_CUT);
    }
    if half.unresolved > 0 {
        marks.set(Marks::HEADERS_UNRESOLVED);
    }
}

fn message(half: Half, stream: u64) -> Message {
    let Half {
        span,
        headers,
        head_len,
        body_len,
        ..
    } = half;
    Message {
        headers,
        // The lower half of a position is the sequence number.
        seq: span.start as u32,
        head_len,
        body_len,
        // Between the frames of a stream lie those of others.
        wire_len: if stream == 0 {
            span.end - span.start
        } else {
            head_len + body_len
        },
        packets: span.packets,
        missing: span.missing,
    }
}
