//! Calls become rows: each value goes to its column, in the order of [`COLUMNS`](super::schema::COLUMNS).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use wiretape_dissect::{Call, Observation};
use wiretape_tape::Nanos;

use super::columns::{Leaf, MapColumn, NumberColumn, Ordered, WordColumn};
use super::dns::{DnsName, said};
use super::messages::{PacketColumns, SizeColumns, TimeColumns, fields, headers};
use super::names::{Identity, Names};
use super::peers::{AddressTexts, PeerColumns, asking};
use super::schema::schema;
use super::session;
use super::writer::{ROWS, Table};

/// Bits of a connection's or flow's number that any JSON reader keeps exactly.
pub(super) const JSON_BITS: u64 = (1 << 53) - 1;

/// Rows in the making.
pub struct Rows {
    names: Arc<Names>,
    /// Node of each tape.
    nodes: Arc<[String]>,
    addresses: AddressTexts,
    rows: usize,
    columns: Box<Columns>,
}

/// The columns, each named as in the table.
struct Columns {
    ts: NumberColumn,
    stream: NumberColumn,
    index: NumberColumn,
    node: WordColumn,
    side: WordColumn,
    protocol: WordColumn,
    version: WordColumn,
    src: PeerColumns,
    dst: PeerColumns,
    method: WordColumn,
    path: WordColumn,
    query: WordColumn,
    authority: WordColumn,
    status: NumberColumn,
    outcome: WordColumn,
    elapsed: NumberColumn,
    req: SizeColumns,
    resp: SizeColumns,
    req_headers: MapColumn,
    resp_headers: MapColumn,
    fields: MapColumn,
    marks: NumberColumn,
    conn_id: NumberColumn,
    flow_id: NumberColumn,
    client: TimeColumns,
    server: TimeColumns,
    other: TimeColumns,
    req_packets: PacketColumns,
    resp_packets: PacketColumns,
}

impl Rows {
    /// No rows yet. `nodes` are the nodes' names by number of tape.
    pub fn new(names: Arc<Names>, nodes: Arc<[String]>) -> Self {
        Self {
            names,
            nodes,
            addresses: AddressTexts::default(),
            rows: 0,
            columns: Box::new(Columns::new()),
        }
    }

    /// How many rows the row group under way has.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Appends calls. Each column takes its values of all of them before the next one does: a few calls fit into the
    /// processor's nearest cache, all columns do not.
    pub fn push(&mut self, calls: &[Call]) {
        let c = &mut self.columns;
        for call in calls {
            c.ts.push(number(start(call)));
            c.stream.push(call.stream.cast_signed());
            c.conn_id.push((call.stream & JSON_BITS).cast_signed());
            c.index
                .push(i64::from(i32::try_from(call.index).unwrap_or(i32::MAX)));
            c.flow_id.push(flow_id(call.client.address, call.server.address));
        }
        let nodes = &self.nodes;
        c.node.push_each(
            calls
                .iter()
                .map(|call| call.observation().map_or("", |o| node(nodes, o.tape))),
        );
        c.side.push_each(calls.iter().map(side));
        c.protocol.push_each(calls.iter().map(|call| call.protocol));
        c.version.push_each(calls.iter().map(|call| call.version));
        let dns = self.names.dns().known();
        for (columns, client) in [(&mut c.src, true), (&mut c.dst, false)] {
            // Who is the same for several calls is stored for all of them at a time; and looked for once, where one
            // packet holds several.
            let mut latest = (Identity::default(), 0);
            let mut latest_name = (DnsName::default(), 0);
            let mut before: Option<(&Call, DnsName<'_>, DnsName<'_>)> = None;
            for call in calls {
                let (peer, other, said) = if client {
                    (&call.client, &call.server, DnsName::default())
                } else {
                    (&call.server, &call.client, said(call))
                };
                let ip = peer.address.ip().to_canonical();
                let same = before.filter(|(before, ..)| same_ends(before, call));
                let told = match same {
                    Some((_, said_before, told)) if said_before.says(&said) => told,
                    _ => dns.name(asking(other, ip, start(call), said.name)),
                };
                if same.is_none() {
                    let node = peer.tape.map(|tape| node(&self.nodes, tape));
                    let who = self.names.resolve(node, peer.cgroup, peer.address, start(call));
                    if !who.is(&latest.0) {
                        columns.push_identity(&latest.0, latest.1);
                        latest = (who, 0);
                    }
                }
                latest.1 += 1;
                before = Some((call, said, told));
                let unknown = told.name.is_empty() && latest.0.pod.is_empty() && latest.0.service.is_empty();
                columns.push(peer, ip, &mut self.addresses);
                let name = if unknown { said } else { told };
                if !name.is(&latest_name.0) {
                    columns.push_name(&latest_name.0, latest_name.1);
                    latest_name = (name, 0);
                }
                latest_name.1 += 1;
            }
            columns.push_identity(&latest.0, latest.1);
            columns.push_name(&latest_name.0, latest_name.1);
        }
        drop(dns);
        c.method.push_each(calls.iter().map(|call| &*call.method));
        c.path.push_each(calls.iter().map(|call| &*call.path));
        c.query.push_each(calls.iter().map(|call| &*call.query));
        c.authority.push_each(calls.iter().map(|call| &*call.authority));
        c.outcome
            .push_each(calls.iter().map(|call| call.outcome.as_str()));
        for call in calls {
            c.status.push_option(call.status.map(i64::from));
            c.elapsed
                .push_option(call.observation().and_then(Observation::elapsed).map(number));
            c.marks.push(i64::from(call.marks.0.cast_signed()));
        }
        let requests = || calls.iter().map(|call| call.request.as_ref());
        let responses = || calls.iter().map(|call| call.response.as_ref());
        c.req.push(requests());
        c.resp.push(responses());
        headers(&mut c.req_headers, requests());
        headers(&mut c.resp_headers, responses());
        for call in calls {
            fields(&mut c.fields, &call.fields);
        }
        c.client.push(calls.iter().map(|call| call.client_side.as_ref()));
        c.server.push(calls.iter().map(|call| call.server_side.as_ref()));
        c.other.push(calls.iter().map(|call| call.unknown_side.as_ref()));
        c.req_packets.push(requests());
        c.resp_packets.push(responses());
        let before = self.rows;
        self.rows += calls.len();
        if before / ROWS != self.rows / ROWS {
            self.end_full_pages();
        }
    }

    fn leaves(&mut self) -> impl Iterator<Item = &mut dyn Leaf> {
        let c = &mut self.columns;
        let numbers: [&mut dyn Leaf; 7] = [
            &mut c.ts,
            &mut c.stream,
            &mut c.index,
            &mut c.node,
            &mut c.side,
            &mut c.protocol,
            &mut c.version,
        ];
        let asked: [&mut dyn Leaf; 7] = [
            &mut c.method,
            &mut c.path,
            &mut c.query,
            &mut c.authority,
            &mut c.status,
            &mut c.outcome,
            &mut c.elapsed,
        ];
        let marks: [&mut dyn Leaf; 3] = [&mut c.marks, &mut c.conn_id, &mut c.flow_id];
        numbers
            .into_iter()
            .chain(c.src.leaves())
            .chain(c.dst.leaves())
            .chain(asked)
            .chain(c.req.leaves())
            .chain(c.resp.leaves())
            .chain(c.req_headers.leaves())
            .chain(c.resp_headers.leaves())
            .chain(c.fields.leaves())
            .chain(marks)
            .chain(c.client.leaves())
            .chain(c.server.leaves())
            .chain(c.other.leaves())
            .chain(c.req_packets.leaves())
            .chain(c.resp_packets.leaves())
    }
}

impl Table for Rows {
    type Record = Call;

    const NAME: &'static str = session::TABLE;

    /// Some 45,000 rows of usual calls.
    const MEMORY: usize = 24 << 20;

    fn schema() -> SchemaRef {
        schema()
    }

    fn push(&mut self, calls: &[Call]) {
        self.push(calls);
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn clear(&mut self) {
        self.rows = 0;
    }

    fn each_leaf(&mut self, take: &mut dyn FnMut(&mut dyn Leaf)) {
        self.leaves().for_each(take);
    }
}

impl Columns {
    fn new() -> Self {
        let word = || WordColumn::new(false);
        let small = || NumberColumn::new(true, false, Ordered::Chunk);
        let hash = || NumberColumn::new(false, false, Ordered::No);
        Self {
            ts: NumberColumn::new(false, false, Ordered::Page),
            stream: hash(),
            index: small(),
            node: word(),
            side: word(),
            protocol: word(),
            version: word(),
            src: PeerColumns::new(),
            dst: PeerColumns::new(),
            method: word(),
            // The only text whose range helps: others do not follow time or the part.
            path: WordColumn::new(true),
            query: word(),
            authority: word(),
            status: NumberColumn::new(true, true, Ordered::Chunk),
            outcome: word(),
            elapsed: NumberColumn::new(false, true, Ordered::Chunk),
            req: SizeColumns::new(),
            resp: SizeColumns::new(),
            req_headers: MapColumn::new(),
            resp_headers: MapColumn::new(),
            fields: MapColumn::new(),
            marks: small(),
            conn_id: hash(),
            flow_id: hash(),
            client: TimeColumns::new(),
            server: TimeColumns::new(),
            other: TimeColumns::new(),
            req_packets: PacketColumns::new(),
            resp_packets: PacketColumns::new(),
        }
    }
}

/// When a call began; 0 where nobody saw it.
fn start(call: &Call) -> Nanos {
    call.observation().map_or(0, Observation::start)
}

/// Whether two calls began at the same time between the same ends: so what is known of these is the same.
fn same_ends(one: &Call, other: &Call) -> bool {
    one.client == other.client && one.server == other.server && start(one) == start(other)
}

pub(super) fn node(nodes: &[String], tape: u16) -> &str {
    nodes.get(usize::from(tape)).map_or("", String::as_str)
}

/// At which ends a call was recorded.
fn side(call: &Call) -> &'static str {
    match (&call.client_side, &call.server_side) {
        (Some(_), Some(_)) => "both",
        (Some(_), None) => "client",
        (None, Some(_)) => "server",
        (None, None) => "unknown",
    }
}

/// Times, spans and sizes as the table has them. Nanoseconds since 1970 fit until the year 2262.
pub(super) fn number(value: Nanos) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A flow's number: FNV-1a of its addresses and the server's port, so that it is the same in every dissection.
pub(super) fn flow_id(client: SocketAddr, server: SocketAddr) -> i64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut hash = OFFSET;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    };
    for address in [client.ip(), server.ip()] {
        match address.to_canonical() {
            IpAddr::V4(v4) => add(&v4.octets()),
            IpAddr::V6(v6) => add(&v6.octets()),
        }
    }
    add(&server.port().to_be_bytes());
    (hash & JSON_BITS).cast_signed()
}
