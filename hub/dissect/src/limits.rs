//! Every limit of the crate, in one list. Each has a counter in [`Counters`](crate::Counters) or
//! [`RouterCounters`](crate::RouterCounters) and a test that goes to it.

use crate::Nanos;

const SECOND: Nanos = 1_000_000_000;

/// Shards of a dissection. More than any machine has workers, so that they share the work evenly; fixed, so that
/// results do not depend on the machine.
pub const SHARDS: usize = 64;

// --- IP fragments -------------------------------------------------------------------------------------------------

/// Datagrams that wait for fragments at a time. Linux keeps 4 MiB of them (`ipfrag_high_thresh`), about as many.
pub const DATAGRAMS: usize = 256;

/// Bytes of all fragments that wait.
pub const DATAGRAM_BYTES: usize = 4 << 20;

/// How long a datagram waits for its fragments, by packet time. They are sent in one go, and an identification of 16 bits comes back
/// within seconds on a fast link: what waited for long would be put together with another datagram's (RFC 4963). Receivers give
/// 30 s (Linux' `ipfrag_time`) to 60 s (RFC 8200, section 4.5), but have other means against that.
pub const DATAGRAM_WAIT: Nanos = SECOND;

/// Appointments with datagrams, up to which those that are whole are left in the queue.
pub const DATAGRAM_TICKETS: usize = 4 * DATAGRAMS;

/// Addresses known to be recorded on their own node, by which the router tells that a packet has a twin. A /20. And as many
/// of which that is not known yet, because they were met within the last [`HELD`].
pub const LOCAL_ADDRESSES: usize = 4096;

/// Tunnels inside each other that are looked into. An overlay is one; a second one is met where its nodes are behind a tunnel
/// themselves.
pub const TUNNELS: usize = 2;

/// Connections that have begun and may yet be met under another address of their server: those of some seconds.
pub const UNTRANSLATED: usize = 1 << 16;

/// How long after its begin at one side a connection's begin at the other is known to be its own: clocks of nodes differ.
pub const TRANSLATION_WAIT: Nanos = 30 * SECOND;

/// Addresses of services, and of what is behind them, by which the router tells that a connection is likely to be seen under
/// another one, too.
pub const SERVICES: usize = 4096;

/// Addresses of connections that are known under two: half as many connections, as many as all shards hold.
pub const TRANSLATED: usize = 1 << 17;

/// Flows of datagrams that have begun in the last half minute, first questions of the last seconds, and flows that are where
/// such a question was met first: as many as all shards hold.
pub const QUESTIONS: usize = 1 << 16;

/// Bytes of a question by which it is looked for elsewhere, at least and at most: a DNS header, and a question with all that
/// clients add.
pub const QUESTION_BYTES: std::ops::RangeInclusive<u32> = 12..=512;

// --- connections --------------------------------------------------------------------------------------------------

/// Connections of a shard: 88 Ki in all, more than Linux tracks for a node of a few gigabytes (`nf_conntrack_max`).
pub const CONNECTIONS: usize = 1408;

/// Bytes that a shard's connections take: themselves, their dissectors, early segments, unfinished heads, requests without
/// an answer yet, held calls. 88 MiB over all shards, which leaves room for the tables under the dissection's 256 MiB. One
/// that has only begun, or is over, takes 1 KiB; one that speaks HTTP/1, 2.5 KiB, so that 35 Ki may be open.
pub const SHARD_BYTES: usize = 11 << 17;

/// A connection that is silent for so long, by packet time, is given up, and its open calls come out. Longer than the
/// idle timeouts of load balancers (350 s) and of `nginx` (75 s).
pub const IDLE: Nanos = 900 * SECOND;

/// A closed connection is remembered for so long, so that late packets of it do not look like a new one.
pub const LINGER: Nanos = 10 * SECOND;

/// Points of observation of one connection: two sockets, and the interfaces between them in an `any` capture.
pub const VANTAGES: usize = 8;

/// Earlier connections of the same addresses and ports that are still open at some observer.
pub const OLDER_CONNECTIONS: usize = 2;

/// A segment whose data lies so far before what was delivered is no retransmission but a new connection whose SYN was
/// not recorded: four times the receive buffer that Linux allows by default (`tcp_rmem`).
pub const RETRANSMISSION_REACH: u64 = 24 << 20;

// --- datagrams ----------------------------------------------------------------------------------------------------

/// Flows of datagrams of a shard: 64 Ki in all. A resolver's client takes a new port for every question, so this is
/// three seconds of 20,000 questions a second; the flows that were silent for the longest time go first, and an answer
/// comes in milliseconds.
pub const DATAGRAM_FLOWS: usize = 1024;

/// Bytes that a shard holds for them: 48 MiB over all shards.
pub const DATAGRAM_FLOW_BYTES: usize = 3 << 18;

/// A flow that is silent for so long, by packet time, is given up, and a request so old is not answered any more: Linux
/// keeps an unanswered UDP flow for as long (`nf_conntrack_udp_timeout`); resolvers give up after 5 to 20 s.
pub const DATAGRAM_IDLE: Nanos = 30 * SECOND;

/// Datagrams of one observer that are looked at, until the flow is taken to speak no known protocol.
pub const DATAGRAM_PROBES: u32 = 16;

/// Servers of one client's port among whose flows the two sides of a call are looked for. A resolver has two or three
/// servers, each under two addresses; who speaks to more from one port is no client of services.
pub const CALLER_FLOWS: usize = 16;

/// Answers that are remembered after they were given to their requests, so that one sent again is not taken for an
/// answer to a request that was not recorded. As many as dnsperf has questions under way.
pub const ANSWERED: usize = 128;

// --- reassembly ---------------------------------------------------------------------------------------------------

/// Early bytes of one direction: what 60 ms of 100 Mbit/s hold while one lost segment is sent again.
pub const EARLY_BYTES: usize = 768 << 10;

/// Early segments of one direction.
pub const EARLY_SEGMENTS: usize = 1024;

/// Segments of a connection that come after one that proves a hole (by acknowledging it), until the hole counts as
/// lost. A few, since packets of two directions can be recorded out of order by as many CPUs.
pub const HOLE_PATIENCE: u32 = 16;

// --- analysis ---------------------------------------------------------------------------------------------------------

/// Segments of one direction whose acknowledgements are waited for, to measure round trips: 180 KiB under way at 1460
/// bytes a segment. Of what is sent beyond, no round trip is measured, and nothing else depends on it.
pub const UNACKED: usize = 128;

/// A SYN counts as not answered after so long, and so does the last FIN: by then, Linux sends a SYN again (RFC 6298,
/// section 2.1), and what looks like a second one is no copy that the capture made.
pub const SYN_WAIT: Nanos = SECOND;

/// A connection that one end has closed counts as forgotten by the other after so long a silence: by then, the end that has
/// closed gives it up itself (Linux: `tcp_fin_timeout`).
pub const CLOSE_WAIT: Nanos = 60 * SECOND;

// --- recognition --------------------------------------------------------------------------------------------------

/// First bytes of one direction that may wait for a verdict: the longest request line that servers take.
pub const PROBE_BYTES: usize = 8 << 10;

/// Bytes that may wait until they tell whether a message begins with them, in a connection whose protocol is known but
/// whose place was lost. What proves a message is among its first hundred bytes, but for targets and values that are long.
pub const PLACE_BYTES: usize = PROBE_BYTES;

/// Segments of one direction that are looked at, when the connection was seen from its start.
pub const PROBE_SEGMENTS: u32 = 8;

/// The same when it was not: a recognisable message may come only after a long body.
pub const PROBE_SEGMENTS_JOINED: u32 = 4096;

/// Times that one protocol may hand what was just told to the next: an upgrade inside of a tunnel behind a wish for
/// encryption takes three. Beyond, they go in circles.
pub const HANDED_ON: u32 = 32;

// --- messages -----------------------------------------------------------------------------------------------------

/// Bytes of a message's head. `nginx` takes 32 KiB, `haproxy` 16 KiB, Go 1 MiB, `curl` 300 KiB.
pub const HEAD_BYTES: usize = 64 << 10;

/// Header fields that a message keeps.
pub const HEADERS: usize = 256;

/// Bytes of a chunk's size line, extensions included.
pub const CHUNK_LINE: usize = 4 << 10;

/// Requests of one connection that wait for their answers.
pub const PENDING: usize = 1024;

// --- HTTP/2 ---------------------------------------------------------------------------------------------------------

/// Bytes of one direction's dynamic table that are kept. 64 KiB is what browsers allow; all others keep to 4 KiB.
pub const HPACK_TABLE: usize = 64 << 10;

/// The same where the connection is older than the recording and nothing was said of the size: four times the usual.
pub const HPACK_TABLE_UNTOLD: usize = 16 << 10;

/// Streams of one connection that are open. Servers allow 100 to 250 at a time.
pub const STREAMS: usize = 1024;

/// Bytes that the open streams of one connection hold: half of what a shard does.
pub const STREAM_BYTES: usize = 768 << 10;

/// Streams of one connection whose head was not seen, and that are looked at for WebSocket: as many as are under way at
/// a join, and a bit more.
pub const STRANGERS: usize = 64;

/// Bytes of each direction of such a stream that are looked at at a time: many short messages, or one long one of text.
pub const STRANGER_BYTES: usize = 2048;

/// Pieces that these may come in.
pub const STRANGER_PIECES: usize = 64;

/// Times that what is said on such a stream may be none of WebSocket, until it is not looked at any more. A frame of data
/// may begin within a message.
pub const STRANGER_REFUSALS: u32 = 16;

// --- gRPC -----------------------------------------------------------------------------------------------------------

/// Bytes of the trailers that gRPC-Web has in its body. Servers limit real ones to 8 KiB.
pub const WEB_TRAILERS: usize = 8 << 10;

/// Fields of one protobuf message that are told, those of messages inside it included: more than a person reads.
pub const PROTOBUF_FIELDS: usize = 4096;

/// Messages, fields, values of enums and methods that descriptors name: some hundred bytes of memory each.
pub const DESCRIPTORS: usize = 1 << 20;

/// Messages of one body that are shown: as many lines as a person scrolls through.
pub const GRPC_SHOWN: usize = 1024;

/// How deep messages inside messages are looked into. Protobuf's own parsers give up at 100; without a schema, what looks
/// like a message deep inside another one is rarely one.
pub const PROTOBUF_DEPTH: usize = 16;

// --- GraphQL and events ---------------------------------------------------------------------------------------------

/// Bytes of a JSON body that are looked at: a statement with its variables; of what is answered, errors that come first
/// (as the specification advises) or behind data of the usual size.
pub const GQL_LOOKED: usize = 64 << 10;

/// Bytes of a statement, and of what an error says, that are kept.
pub const GQL_QUERY: usize = 2048;

/// Bytes of a line in a stream of events that are kept: its id, or its type.
pub const EVENT_TEXT: usize = 256;

// --- DNS ----------------------------------------------------------------------------------------------------------

/// Questions of a message that are kept. There is one; multicast DNS asks a handful.
pub const DNS_QUESTIONS: usize = 16;

/// Answers of a message that are listed. More than fit into 4 KiB of UDP; a zone transfer has millions.
pub const DNS_ANSWERS: usize = 256;

/// Bytes of the text that lists them.
pub const DNS_ANSWER_TEXT: usize = 8 << 10;

/// Addresses of one answer that are kept as those of its name. Larger sets are for clients that choose at random.
pub const DNS_RESOLVED: usize = 32;

// --- TLS ----------------------------------------------------------------------------------------------------------

/// Bytes of a record's content: 2^14 and what encryption may add (RFC 5246, section 6.2.3).
pub const TLS_RECORD: usize = (1 << 14) + 2048;

/// Bytes of a handshake message that is read: certificate chains are of some KiB; with what is not a chain, there are
/// certificates of 30 KiB.
pub const TLS_MESSAGE: usize = 64 << 10;

/// Suites, protocols and names that one message lists.
pub const TLS_LISTED: usize = 128;

// --- QUIC ---------------------------------------------------------------------------------------------------------

/// Bytes of the TLS messages in one end's Initial packets: those of a ClientHello with keys that withstand quantum
/// computers are 2 KiB; a server must take 4 KiB (RFC 9000, section 7.5).
pub const QUIC_CRYPTO: usize = 16 << 10;

/// Pieces of these that came early. Some clients cut their hello into a dozen, and shuffle them.
pub const QUIC_PIECES: usize = 64;

/// Pairs that wait for a proof that counting holds, after a late join or a gap: so many without a contradiction are one.
pub const TRIAL: usize = 64;

// --- Redis --------------------------------------------------------------------------------------------------------

/// Bytes of a command's line that are kept: the keys of an `MGET` rather than the value of a `SET`.
pub const COMMAND_BYTES: usize = 512;

/// Bytes of a key that are shown, as the filter language has it.
pub const KEY_BYTES: usize = 64;

/// Bytes of what a reply says in words: errors, and the channel of a message.
pub const REPLY_BYTES: usize = 256;

/// Values inside values. `COMMAND DOCS` needs 7, `hiredis` takes 9.
pub const RESP_DEPTH: usize = 32;

/// Bytes of a line that is not whole. A server takes 64 KiB of an inline command, but what is typed is short.
pub const RESP_LINE: usize = 16 << 10;

// --- PostgreSQL ---------------------------------------------------------------------------------------------------

/// Bytes of a statement that are kept: what people write, and the begin of what programs generate.
pub const STATEMENT_BYTES: usize = 2048;

/// Bytes of a statement that are looked at, for its table stands behind all of its columns.
pub const STATEMENT_LOOKED: usize = 6 << 10;

/// Bytes of the statements that a connection has prepared. Drivers keep a few hundred, most of them short; a shard has
/// room for the full of twenty connections.
pub const STATEMENTS_BYTES: usize = 64 << 10;

/// Portals of a connection. Drivers have one, or one for each cursor.
pub const PORTALS: usize = 16;

/// Command tags of one text of many statements: as many as can be told apart in a line.
pub const TAGS: usize = 16;

/// Bytes of a message that is not whole: its head, a name, and the statement as far as it is kept.
pub const MESSAGE_LOOKED: usize = 8 << 10;

// --- WebSocket ----------------------------------------------------------------------------------------------------

/// Bytes of a message's payload that are kept: what a person reads of a line.
pub const WS_PAYLOAD: usize = 2048;

/// How many times what was sent a direction's messages may inflate to, beyond [`WS_INFLATED`], until they are not inflated
/// any more. JSON shrinks to a tenth, a pattern of some hundred bytes to a two-hundredth; DEFLATE's most is 1032.
pub const WS_RATIO: u64 = 256;

/// Bytes that a direction's messages may inflate to in any case: one large message that is the same all over.
pub const WS_INFLATED: u64 = 64 << 10;

/// Bytes of a compressed message that may wait for its end, where it cannot be known what it refers to.
pub const WS_ALONE: usize = 4 << 10;

/// Pings of one end that wait for their pongs. One is usual.
pub const WS_PINGS: usize = 64;

// --- joining ------------------------------------------------------------------------------------------------------

/// Calls of one observer that wait for the other observer's view of them.
pub const HELD_CALLS: usize = 256;

/// How long a call waits for the other observer, by packet time. Clocks of nodes may differ by this.
pub const HELD: Nanos = 5 * SECOND;

/// Streams of one connection whose calls are remembered to be out, so that a view which comes later is known as such.
pub const OUT_STREAMS: usize = 1024;

// --- bodies on demand ---------------------------------------------------------------------------------------------

/// Bytes of a body that are given when nothing else is asked for: what a person or an assistant reads at once.
pub const BODY_BYTES: usize = 64 << 10;

/// Most bytes of a body that can be asked for.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// Bytes of a message that are put together again: its head and the largest body.
pub const MESSAGE_BYTES: usize = HEAD_BYTES + BODY_BYTES_MAX;

/// Window that a zstd body may ask for: 8 MiB, the most that RFC 9659 allows in HTTP.
pub const ZSTD_WINDOW_LOG: u32 = 23;
