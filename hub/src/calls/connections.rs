//! The table of connections: its columns, and how connections become rows.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use wiretape_dissect::{ConnectionRecord, Sent};

use super::columns::{Leaf, NumberColumn, Ordered, WordColumn};
use super::names::Names;
use super::peers::{AddressTexts, PeerColumns, asking};
use super::rows::{JSON_BITS, flow_id, node, number};
use super::schema::{self, COLUMNS as CALLS, Column, Kind, column};
use super::session;
use super::writer::{ROWS, Table};

/// What is told of a connection before its peers, which have the columns that calls' peers have.
const BEGIN: &[Column] = &[
    column("ts", Kind::Time, "when its first packet was seen, by `node`"),
    column("last_ts", Kind::Time, "when its last packet was"),
    column("stream", Kind::Id, "the connection, as in the table of calls"),
    column(
        "conn_id",
        Kind::Int,
        "the same in 53 bits, as in the table of calls",
    ),
    column("flow_id", Kind::Int, "the flow, as in the table of calls"),
    column(
        "node",
        Kind::Word,
        "node whose observation this is: the client's if it was recorded there, else the server's",
    ),
    column(
        "side",
        Kind::Word,
        "at which ends it was recorded: `client`, `server`, `both`, or `unknown` if the capture does not say",
    ),
    column(
        "transport",
        Kind::Word,
        "`tcp`, `udp`, or another protocol of IP: `sctp`, `gre`, `esp`, `igmp` …, `ip_` and its number",
    ),
    column(
        "client_by",
        Kind::Word,
        "how it is known who is the client: `opening` (SYN, first datagram), `protocol` (who asks), or `ports` (a guess: the higher one)",
    ),
];

/// What is told of it behind its peers.
const END: &[Column] = &[
    column(
        "state",
        Kind::Word,
        "how far it got: `syn_sent`, `syn_received`, `refused`, `established`, `mid_stream`, `closing`, `closed` or `reset`",
    ),
    column(
        "l7",
        Kind::Word,
        "protocols of its calls, in upper case, `, ` between; without any, the one that was recognised",
    ),
    column("calls", Kind::Small, "calls that came out of it"),
    column(
        "completeness",
        Kind::Small,
        "kinds of segments seen: SYN 1, SYN-ACK 2, ACK of it 4, data 8, FIN 16, RST 32",
    ),
    column(
        "initial_rtt_us",
        Kind::MaybeInt,
        "from the last SYN to the first acknowledgement behind it",
    ),
    column(
        "handshake_us",
        Kind::MaybeInt,
        "from the first SYN to the end of the handshake",
    ),
    column(
        "handshake_at_server_us",
        Kind::MaybeInt,
        "the same, as seen at the server's socket: from the first SYN that came in; NULL when it was not recorded there",
    ),
    column(
        "first_byte_us",
        Kind::MaybeInt,
        "from the client's first payload to the server's, if that came later",
    ),
];

/// What is told of each end, behind `client_` and `server_`.
macro_rules! of_both_ends {
    ($($name:literal, $kind:ident, $doc:literal;)*) => {
        const CLIENT: &[Column] = &[$(column(concat!("client_", $name), Kind::$kind, $doc),)*];
        const SERVER: &[Column] = &[$(column(concat!("server_", $name), Kind::$kind, $doc),)*];
    };
}

of_both_ends! {
    "pkts", Int, "packets that it sent";
    "bytes", Int, "bytes of these, from the IP header on";
    "goodput_bytes", Int, "bytes of payload, each counted once; of TCP only, as all that follows";
    "segments", Int, "segments with payload, SYN or FIN";
    "retransmissions", Int, "of these, sent again";
    "fast_retransmissions", Int, "of those, asked for by repeated acknowledgements";
    "out_of_order", Int, "segments a little behind one that follows them";
    "dup_acks", Int, "acknowledgements that repeat the one before";
    "missing_segments", Int, "segments before which something is missing in the recording";
    "zero_windows", Int, "segments that say that it has no room for more";
    "windows_full", Int, "segments that fill the other end's window";
    "keepalives", Int, "keep-alives";
    "rsts", Int, "resets";
    "fins", Int, "segments with FIN";
    "window_scale", MaybeInt, "factor of its windows; NULL when the handshake was not seen, or said none";
    "avg_window", MaybeInt, "mean of the windows that it announced, scaled";
    "rtt_samples", Int, "how often it was measured how long its segments waited for their acknowledgement";
    "rtt_min_us", MaybeInt, "the shortest";
    "rtt_max_us", MaybeInt, "the longest";
    "rtt_avg_us", MaybeInt, "the mean";
    "rtt_dev_us", MaybeInt, "the standard deviation";
}

/// Numbers of each end.
const SENT: usize = CLIENT.len();

/// Every column, in the order of the table.
pub static COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    let peers = CALLS
        .iter()
        .filter(|column| column.name.starts_with("src_") || column.name.starts_with("dst_"));
    let all = BEGIN.iter().chain(peers).chain(END).chain(CLIENT).chain(SERVER);
    all.copied().collect()
});

/// The table as it is written.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema::build(&COLUMNS, DataType::Utf8));
    Arc::clone(&SCHEMA)
}

/// The table as it is read: the same, with text columns as views into the pages.
pub fn reading_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema::reading(&COLUMNS));
    Arc::clone(&SCHEMA)
}

/// Rows in the making.
pub struct ConnectionRows {
    names: Arc<Names>,
    /// Node of each tape.
    nodes: Arc<[String]>,
    addresses: AddressTexts,
    rows: usize,
    times: [NumberColumn; 2],
    ids: [NumberColumn; 3],
    begin: [WordColumn; 4],
    src: PeerColumns,
    dst: PeerColumns,
    words: [WordColumn; 2],
    numbers: [NumberColumn; 6],
    sent: Box<[[NumberColumn; SENT]; 2]>,
    /// The protocols of the row under way.
    l7: String,
}

impl ConnectionRows {
    /// No rows yet. `nodes` are the nodes' names by number of tape.
    pub fn new(names: Arc<Names>, nodes: Arc<[String]>) -> Self {
        let word = |_| WordColumn::new(false);
        let maybe = |column: &Column| column.kind == Kind::MaybeInt;
        let numbers = |columns: &[Column]| {
            let nullable: [bool; SENT] = std::array::from_fn(|n| columns.get(n).is_some_and(maybe));
            nullable.map(|nullable| NumberColumn::new(false, nullable, Ordered::No))
        };
        Self {
            names,
            nodes,
            addresses: AddressTexts::default(),
            rows: 0,
            times: std::array::from_fn(|_| NumberColumn::new(false, false, Ordered::Chunk)),
            ids: std::array::from_fn(|_| NumberColumn::new(false, false, Ordered::No)),
            begin: std::array::from_fn(word),
            src: PeerColumns::new(),
            dst: PeerColumns::new(),
            words: std::array::from_fn(word),
            // Two small ones that are always there, then spans that may not be.
            numbers: std::array::from_fn(|n| NumberColumn::new(n < 2, n >= 2, Ordered::No)),
            sent: Box::new([numbers(CLIENT), numbers(SERVER)]),
            l7: String::new(),
        }
    }

    fn append(&mut self, record: &ConnectionRecord) {
        let (first, last) = record.times;
        push(&mut self.times, [first, last].map(number));
        let id = (record.stream & JSON_BITS).cast_signed();
        let flow = flow_id(record.client.address, record.server.address);
        push(&mut self.ids, [record.stream.cast_signed(), id, flow]);
        let side = match record.recorded {
            (true, true) => "both",
            (true, false) => "client",
            (false, true) => "server",
            (false, false) => "unknown",
        };
        let begin = [
            node(&self.nodes, record.tape),
            side,
            &record.transport,
            record.client_by.as_str(),
        ];
        for (column, word) in self.begin.iter_mut().zip(begin) {
            column.push(word);
        }
        let dns = self.names.dns().known();
        for (peer, other, columns) in [
            (&record.client, &record.server, &mut self.src),
            (&record.server, &record.client, &mut self.dst),
        ] {
            let ip = peer.address.ip().to_canonical();
            let node = peer.tape.map(|tape| node(&self.nodes, tape));
            let who = self.names.resolve(node, peer.cgroup, peer.address, first);
            let dns = dns.name(asking(other, ip, first, ""));
            columns.push(peer, ip, &mut self.addresses);
            columns.push_name(&dns, 1);
            columns.push_identity(&who, 1);
        }
        drop(dns);
        self.l7.clear();
        for protocol in &record.protocols {
            if !self.l7.is_empty() {
                self.l7.push_str(", ");
            }
            self.l7
                .extend(protocol.chars().map(|letter| letter.to_ascii_uppercase()));
        }
        let [state, l7] = &mut self.words;
        state.push(record.state.as_str());
        l7.push(&self.l7);
        let tcp = record.tcp.unwrap_or_default();
        let [calls, completeness, spans @ ..] = &mut self.numbers;
        calls.push(i64::from(i32::try_from(record.calls).unwrap_or(i32::MAX)));
        completeness.push(i64::from(tcp.completeness));
        let told = [
            tcp.initial_rtt,
            tcp.handshake,
            tcp.handshake_at_server,
            tcp.first_byte,
        ];
        for (column, span) in spans.iter_mut().zip(told) {
            column.push_option(span.map(|span| number(span / 1000)));
        }
        for (columns, sent) in self.sent.iter_mut().zip(&record.sent) {
            for ((column, number), told) in columns.iter_mut().zip(numbers_of(sent)).zip(CLIENT) {
                match (told.kind, number) {
                    (Kind::Int, number) => column.push(number.unwrap_or_default()),
                    (_, number) => column.push_option(number),
                }
            }
        }
        self.rows += 1;
    }

    fn leaves(&mut self) -> impl Iterator<Item = &mut dyn Leaf> {
        fn leaf(column: &mut impl Leaf) -> &mut dyn Leaf {
            column
        }
        let [client, server] = &mut *self.sent;
        let leaves = self.times.iter_mut().map(leaf);
        leaves
            .chain(self.ids.iter_mut().map(leaf))
            .chain(self.begin.iter_mut().map(leaf))
            .chain(self.src.leaves())
            .chain(self.dst.leaves())
            .chain(self.words.iter_mut().map(leaf))
            .chain(self.numbers.iter_mut().map(leaf))
            .chain(client.iter_mut().map(leaf))
            .chain(server.iter_mut().map(leaf))
    }
}

impl Table for ConnectionRows {
    type Record = ConnectionRecord;

    const NAME: &'static str = session::CONNECTIONS;

    /// Some 14,000 rows, of seventy numbers each.
    const MEMORY: usize = 8 << 20;

    fn schema() -> SchemaRef {
        schema()
    }

    fn push(&mut self, records: &[ConnectionRecord]) {
        for record in records {
            self.append(record);
            if self.rows.is_multiple_of(ROWS) {
                self.end_full_pages();
            }
        }
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn clear(&mut self) {
        self.rows = 0;
    }

    fn each_leaf(&mut self, take: &mut dyn FnMut(&mut dyn Leaf)) {
        self.leaves().for_each(take);
    }
}

fn push<const N: usize>(columns: &mut [NumberColumn; N], values: [i64; N]) {
    for (column, value) in columns.iter_mut().zip(values) {
        column.push(value);
    }
}

/// What an end sent, in the order of its columns; `None` where that is not known.
fn numbers_of(sent: &Sent) -> [Option<i64>; SENT] {
    let trips = sent.round_trips;
    let (windows, announced) = sent.windows;
    let bytes = |value: u64| Some(number(value));
    let count = |value: u32| Some(i64::from(value));
    let trip = |micros: u32| (trips.samples > 0).then_some(i64::from(micros));
    [
        bytes(sent.packets),
        bytes(sent.bytes),
        bytes(sent.goodput),
        count(sent.segments),
        count(sent.retransmissions),
        count(sent.fast_retransmissions),
        count(sent.out_of_order),
        count(sent.dup_acks),
        count(sent.lost_segments),
        count(sent.zero_windows),
        count(sent.windows_full),
        count(sent.keep_alives),
        count(sent.resets),
        count(sent.fins),
        sent.window_shift.map(|shift| 1 << shift.min(14)),
        windows.checked_div(u64::from(announced)).map(number),
        count(trips.samples),
        trip(trips.min),
        trip(trips.max),
        trip(trips.mean()),
        trip(trips.deviation()),
    ]
}
