//! Questions to a dissection.

mod database;

mod scope;

mod filter;

mod fields;

mod functions;

mod calls;

mod first;

mod cursor;

mod select;

mod redaction;

mod row;

mod entry;

mod entries;

mod connection;

mod bodies;

mod packets;

mod explain;

mod tested;

mod predicate;

mod scan;

mod endpoints;

mod group;

mod latency;

mod stats;

mod timeline;

mod flows;

mod events;

mod resolved;

mod nearest;

mod zone;

mod sql;

pub use calls::{
    CallsPage, CallsQuery, DEFAULT_LIMIT, Format, MAX_LIMIT, Order, PREVIEW, call_by_id, call_details, calls,
};
pub use cursor::age as cursor_age;
pub use database::{Database, Databases, Identity, QueryError};
pub use endpoints::MAX_NAMES;
pub use events::{DEFAULT_EVENTS, EventsQuery, KINDS, MAX_EVENTS, events};
pub use filter::bodies::{MAX_SEARCHED, SEARCHED_BYTES};
pub use filter::{MAX_CONDITIONS, Plan, meaning, plan};
pub use flows::{
    DEFAULT_FLOWS, FlowGroup, FlowOrder, FlowsPage, FlowsQuery, MAX_FLOWS, MAX_TOP, flows, flows_summary,
};
pub use group::{GROUP_WORDS, GroupKey, MAX_KEYS};
pub use latency::{EXACT_LATENCIES, HISTOGRAM_ERROR};
pub use nearest::nearest;
pub use packets::{
    CallPackets, MAX_COMMENTS, MAX_CONNECTIONS, MAX_PACKETS, call_packets, connection_of, whole_connections,
};
pub use resolved::{MAX_RESOLVED, Resolved, resolved};
pub use scope::Scope;
pub use select::{CallsGroup, columns_named};
pub use stats::{
    Bucket, DEFAULT_SHOWN, MAX_BUCKETS, MAX_CELLS, MAX_GROUPS, MAX_SHOWN, ORDERS, SHORTEST_BUCKET,
    StatsOrder, StatsQuery, stats,
};

pub use sql::{
    DEFAULT_ROWS, MAX_CONCATENATIONS, MAX_PAIRS, MAX_ROWS, MAX_SQL, MAX_TABLES, MAX_TOKENS, SQL_AT_ONCE,
    SQL_DISK, SQL_MEMORY, SQL_TIME, SQL_WAIT, SqlQuery, describe_schema, sql,
};

pub use zone::Zone;

pub use timeline::{Lines, MAX_CALLS as MAX_TIMELINE_CALLS, RETRY_WITHIN, TimelineQuery, timeline};

/// Bytes of the rows of an answer when nobody says how many there may be.
pub const ANSWER_BYTES: usize = 60 << 10;

/// Most bytes of rows that may be asked for.
pub const MAX_ANSWER_BYTES: usize = 16 << 20;
