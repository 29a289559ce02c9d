//! Calls become rows: one Arrow builder per column, in the order of [`COLUMNS`](super::schema::COLUMNS).

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int32Builder, Int64Builder, ListBuilder, MapArray, StringArray, StructArray,
    TimestampNanosecondBuilder, UInt64Builder,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use rustc_hash::FxHashMap;
use wiretape_dissect::{Call, Headers, Message, Observation, Peer, Value};
use wiretape_tape::Nanos;

use super::names::Names;
use super::schema;

/// Rows that are handed to the writer together: enough to spread its cost, few enough (about 8 MiB with usual headers)
/// that every worker can hold them.
pub const ROWS: usize = 2048;

/// Most addresses whose text is remembered. More clients than that cost time, not memory.
const ADDRESS_TEXTS: usize = 16 * 1024;

/// Bits of a connection's or flow's number that any JSON reader keeps exactly.
const JSON_BITS: u64 = (1 << 53) - 1;

/// Rows in the making.
pub struct Rows {
    names: Arc<Names>,
    /// Node of each tape.
    nodes: Arc<[String]>,
    addresses: FxHashMap<IpAddr, String>,
    rows: usize,
    columns: Columns,
}

/// The builders, each named after its column.
#[derive(Default)]
struct Columns {
    ts: TimestampNanosecondBuilder,
    stream: UInt64Builder,
    index: Int32Builder,
    node: TextColumn,
    side: TextColumn,
    protocol: TextColumn,
    version: TextColumn,
    src: PeerColumns,
    dst: PeerColumns,
    method: TextColumn,
    path: TextColumn,
    query: TextColumn,
    authority: TextColumn,
    status: Int32Builder,
    outcome: TextColumn,
    elapsed: Int64Builder,
    req: SizeColumns,
    resp: SizeColumns,
    req_headers: MapColumn,
    resp_headers: MapColumn,
    fields: MapColumn,
    marks: Int32Builder,
    conn_id: Int64Builder,
    flow_id: Int64Builder,
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
            addresses: FxHashMap::default(),
            rows: 0,
            columns: Columns::default(),
        }
    }

    /// How many rows there are; at [`ROWS`] it is time to [`take`](Self::take) them.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Appends a call.
    pub fn push(&mut self, call: &Call) {
        let observation = call.observation();
        let start = observation.map_or(0, Observation::start);
        let c = &mut self.columns;
        c.ts.append_value(nanos(start));
        c.stream.append_value(call.stream);
        c.index
            .append_value(i32::try_from(call.index).unwrap_or(i32::MAX));
        c.node.push(observation.map_or("", |o| node(&self.nodes, o.tape)));
        c.side.push(side(call));
        c.protocol.push(call.protocol);
        c.version.push(call.version);
        for (peer, columns) in [(&call.client, &mut c.src), (&call.server, &mut c.dst)] {
            if self.addresses.len() >= ADDRESS_TEXTS {
                self.addresses.clear();
            }
            let ip = peer.address.ip().to_canonical();
            let text = self.addresses.entry(ip).or_insert_with(|| ip.to_string());
            let node = peer.tape.map(|tape| node(&self.nodes, tape));
            columns.push(peer, text, self.names.resolve(node, peer.cgroup, ip, start));
        }
        c.method.push(&call.method);
        c.path.push(&call.path);
        c.query.push(&call.query);
        c.authority.push(&call.authority);
        c.status.append_option(call.status);
        c.outcome.push(call.outcome.as_str());
        c.elapsed
            .append_option(observation.and_then(Observation::elapsed).map(nanos));
        c.req.push(call.request.as_ref());
        c.resp.push(call.response.as_ref());
        c.req_headers.headers(call.request.as_ref().map(|m| &m.headers));
        c.resp_headers.headers(call.response.as_ref().map(|m| &m.headers));
        c.fields.fields(&call.fields);
        c.marks.append_value(call.marks.0.cast_signed());
        c.conn_id.append_value((call.stream & JSON_BITS).cast_signed());
        c.flow_id
            .append_value(flow_id(call.client.address, call.server.address));
        c.client.push(call.client_side.as_ref());
        c.server.push(call.server_side.as_ref());
        c.other.push(call.unknown_side.as_ref());
        c.req_packets.push(call.request.as_ref());
        c.resp_packets.push(call.response.as_ref());
        self.rows += 1;
    }

    /// The rows so far, which are then gone from here.
    pub fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        let c = &mut self.columns;
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(c.ts.finish().with_timezone("UTC")),
            Arc::new(c.stream.finish()),
            Arc::new(c.index.finish()),
            c.node.finish()?,
            c.side.finish()?,
            c.protocol.finish()?,
            c.version.finish()?,
        ];
        c.src.finish(&mut arrays)?;
        c.dst.finish(&mut arrays)?;
        arrays.extend([
            c.method.finish()?,
            c.path.finish()?,
            c.query.finish()?,
            c.authority.finish()?,
            Arc::new(c.status.finish()),
            c.outcome.finish()?,
            Arc::new(c.elapsed.finish()),
        ]);
        c.req.finish(&mut arrays);
        c.resp.finish(&mut arrays);
        arrays.push(c.req_headers.finish()?);
        arrays.push(c.resp_headers.finish()?);
        arrays.push(c.fields.finish()?);
        arrays.extend([
            Arc::new(c.marks.finish()) as ArrayRef,
            Arc::new(c.conn_id.finish()),
            Arc::new(c.flow_id.finish()),
        ]);
        c.client.finish(&mut arrays);
        c.server.finish(&mut arrays);
        c.other.finish(&mut arrays);
        c.req_packets.finish(&mut arrays);
        c.resp_packets.finish(&mut arrays);
        RecordBatch::try_new(schema::schema(), arrays)
    }
}

fn node(nodes: &[String], tape: u16) -> &str {
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

/// Times and spans as Arrow has them. Nanoseconds since 1970 fit until the year 2262.
fn nanos(value: Nanos) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A flow's number: FNV-1a of its addresses and the server's port, so that it is the same in every dissection.
fn flow_id(client: SocketAddr, server: SocketAddr) -> i64 {
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

/// `src_…` or `dst_…`.
#[derive(Default)]
struct PeerColumns {
    ip: TextColumn,
    port: Int32Builder,
    pod: TextColumn,
    namespace: TextColumn,
    service: TextColumn,
    node: TextColumn,
    process: TextColumn,
    labels: MapColumn,
}

impl PeerColumns {
    fn push(&mut self, peer: &Peer, ip: &str, who: super::names::Identity<'_>) {
        self.ip.push(ip);
        self.port.append_value(i32::from(peer.address.port()));
        self.pod.push(who.pod);
        self.namespace.push(who.namespace);
        self.service.push(who.service);
        self.node.push(who.node);
        self.process.push(who.process);
        self.labels.labels(who.labels);
    }

    fn finish(&mut self, arrays: &mut Vec<ArrayRef>) -> Result<(), ArrowError> {
        arrays.extend([
            self.ip.finish()?,
            Arc::new(self.port.finish()),
            self.pod.finish()?,
            self.namespace.finish()?,
            self.service.finish()?,
            self.node.finish()?,
            self.process.finish()?,
        ]);
        arrays.push(self.labels.finish()?);
        Ok(())
    }
}

/// `req_…bytes`, or the response's.
#[derive(Default)]
struct SizeColumns {
    wire: Int64Builder,
    head: Int64Builder,
    body: Int64Builder,
    missing: Int64Builder,
}

impl SizeColumns {
    fn push(&mut self, message: Option<&Message>) {
        self.wire.append_option(message.map(|m| nanos(m.wire_len)));
        self.head.append_option(message.map(|m| nanos(m.head_len)));
        self.body.append_option(message.map(|m| nanos(m.body_len)));
        self.missing.append_option(message.map(|m| nanos(m.missing)));
    }

    fn finish(&mut self, arrays: &mut Vec<ArrayRef>) {
        for column in [&mut self.wire, &mut self.head, &mut self.body, &mut self.missing] {
            arrays.push(Arc::new(column.finish()));
        }
    }
}

/// The four times of one observer.
#[derive(Default)]
struct TimeColumns {
    columns: [TimestampNanosecondBuilder; 4],
}

impl TimeColumns {
    fn push(&mut self, observation: Option<&Observation>) {
        let request = observation.and_then(|o| o.request);
        let response = observation.and_then(|o| o.response);
        let times = [
            request.map(|r| r.0),
            request.map(|r| r.1),
            response.map(|r| r.0),
            response.map(|r| r.1),
        ];
        for (column, time) in self.columns.iter_mut().zip(times) {
            column.append_option(time.map(nanos));
        }
    }

    fn finish(&mut self, arrays: &mut Vec<ArrayRef>) {
        for column in &mut self.columns {
            arrays.push(Arc::new(column.finish().with_timezone("UTC")));
        }
    }
}

/// `req_seq` and `req_packets`, or the response's.
struct PacketColumns {
    seq: Int64Builder,
    packets: ListBuilder<UInt64Builder>,
}

impl Default for PacketColumns {
    fn default() -> Self {
        let packets = ListBuilder::new(UInt64Builder::new()).with_field(schema::location_field());
        Self {
            seq: Int64Builder::new(),
            packets,
        }
    }
}

impl PacketColumns {
    fn push(&mut self, message: Option<&Message>) {
        self.seq.append_option(message.map(|m| i64::from(m.seq)));
        if let Some(message) = message {
            self.packets.values().append_slice(&message.packets);
        }
        self.packets.append(true);
    }

    fn finish(&mut self, arrays: &mut Vec<ArrayRef>) {
        arrays.push(Arc::new(self.seq.finish()));
        arrays.push(Arc::new(self.packets.finish()));
    }
}

/// A column of texts. Buffers are as large as the last batch's from the start, so that they do not grow by copying.
#[derive(Default)]
struct TextColumn {
    bytes: Vec<u8>,
    /// Where each text ends.
    ends: Vec<i32>,
}

impl TextColumn {
    fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.end();
    }

    fn push_lower_case(&mut self, text: &str) {
        self.bytes
            .extend(text.bytes().map(|byte| byte.to_ascii_lowercase()));
        self.end();
    }

    fn push_display(&mut self, value: impl Display) {
        // Writing to a vector does not fail.
        let _ = write!(self.bytes, "{value}");
        self.end();
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn end(&mut self) {
        // A batch holds at most `ROWS` calls with a bounded head each: far from 2 GiB.
        self.ends
            .push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let bytes = with_room_like(&mut self.bytes);
        let ends = with_room_like(&mut self.ends);
        Ok(Arc::new(StringArray::try_new(offsets(ends), bytes.into(), None)?))
    }
}

/// Takes what is in a buffer, and leaves room for as much again.
fn with_room_like<T>(buffer: &mut Vec<T>) -> Vec<T> {
    let room = buffer.len() + buffer.len() / 8;
    std::mem::replace(buffer, Vec::with_capacity(room))
}

/// Ends as Arrow's offsets, which begin with zero.
fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(std::iter::once(0).chain(ends).collect())
}

/// A map column. Built by hand, for Arrow's own builder goes through a struct builder for every entry.
#[derive(Default)]
struct MapColumn {
    ends: Vec<i32>,
    keys: TextColumn,
    values: TextColumn,
}

impl MapColumn {
    fn headers(&mut self, headers: Option<&Headers>) {
        for (name, value) in headers.into_iter().flat_map(Headers::iter) {
            self.keys.push_lower_case(name);
            self.values.push(value);
        }
        self.end();
    }

    fn labels(&mut self, labels: Option<&BTreeMap<String, String>>) {
        for (key, value) in labels.into_iter().flatten() {
            self.keys.push(key);
            self.values.push(value);
        }
        self.end();
    }

    fn fields(&mut self, fields: &[(&'static str, Value)]) {
        for (key, value) in fields {
            self.keys.push(key);
            match value {
                Value::Text(text) => self.values.push(text),
                Value::Int(number) => self.values.push_display(number),
                Value::Bool(truth) => self.values.push_display(truth),
            }
        }
        self.end();
    }

    fn end(&mut self) {
        // As in a column of texts.
        self.ends.push(i32::try_from(self.keys.len()).unwrap_or(i32::MAX));
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let columns: Vec<ArrayRef> = vec![self.keys.finish()?, self.values.finish()?];
        let entries = StructArray::try_new(schema::map_fields(), columns, None)?;
        let offsets = offsets(with_room_like(&mut self.ends));
        Ok(Arc::new(MapArray::try_new(
            schema::map_entries(),
            offsets,
            entries,
            None,
            false,
        )?))
    }
}
