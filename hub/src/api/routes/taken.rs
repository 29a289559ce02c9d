//! What more than one route takes, and the longer lists of what one does.

use crate::api::operations::{calls, stats};
use crate::api::param::{Kind, Param, needed, param, text};
use crate::query::{
    ANSWER_BYTES, DEFAULT_ROWS, DEFAULT_SHOWN, GROUP_WORDS, MAX_ANSWER_BYTES, MAX_KEYS, MAX_ROWS, MAX_SHOWN,
};

pub(super) const SNAPSHOT: Param = needed("snapshot", "id, unique start of an id, or name of a snapshot")
    .or(&["snapshot_name", "snapshot_id"]);
pub(super) const OF_SNAPSHOT: Param =
    text("snapshot", "only those of this snapshot").or(&["snapshot_name", "snapshot_id"]);
pub(super) const DISSECTION: Param = needed("name", "name, id, or unique start of an id of a dissection")
    .or(&["dissection", "dissection_name", "dissection_id"]);
pub(super) const SPELT_DB: &[&str] = &[
    "snapshot",
    "snapshot_name",
    "snapshot_id",
    "dissection",
    "dissection_name",
    "dissection_id",
    "name",
];
pub(super) const DB: Param = text(
    "db",
    "the dissection asked: <snapshot>/<dissection>, or the snapshot alone while it has one; live calls when not given",
)
.or(SPELT_DB);
pub(super) const KFL: Param = text("kfl", "filter; everything when not given");
pub(super) const START: Param =
    param("start", Kind::Moment, "Unix ms or RFC 3339, inclusive").or(&["start_time", "start_ts"]);
pub(super) const END: Param =
    param("end", Kind::Moment, "Unix ms or RFC 3339, exclusive").or(&["end_time", "end_ts"]);
pub(super) const START_TIME: Param =
    param("start_time", Kind::Moment, "Unix ms or RFC 3339, inclusive").or(&["start", "start_ts"]);
pub(super) const END_TIME: Param =
    param("end_time", Kind::Moment, "Unix ms or RFC 3339, exclusive").or(&["end", "end_ts"]);
pub(super) const NODES: Param = param("nodes", Kind::List, "nodes by name; all when not given");
pub(super) const FORMAT: Param = param(
    "format",
    Kind::Choice(calls::FORMAT_WORDS),
    "how much of each is shown",
);
pub(super) const MAX_BYTES: Param = param(
    "max_bytes",
    Kind::Integer {
        least: 1024,
        most: MAX_ANSWER_BYTES as i64,
        default: ANSWER_BYTES as i64,
    },
    "most bytes of rows in the answer",
);

pub(super) const GROUP_KEYS: Kind = Kind::Words {
    most: MAX_KEYS,
    of: &GROUP_WORDS,
};

pub(super) const STATS: &[Param] = &[
    DB,
    KFL,
    START,
    END,
    param("group_by", GROUP_KEYS, "what makes groups"),
    param(
        "order",
        Kind::Choice(stats::ORDER_WORDS),
        "groups with most of it come first",
    )
    .or(&["order_by"]),
    limit("groups", MAX_SHOWN, DEFAULT_SHOWN),
    text("bucket", "auto or a duration (10s, 1m): series over time, too"),
    MAX_BYTES,
];

pub(super) const TIMELINE: &[Param] = &[
    DB,
    KFL,
    START,
    END,
    param("by", Kind::Choice(&["peers", "endpoint"]), "what makes a line").or(&["group_by"]),
    text("bucket", "auto (when not given) or a duration"),
    text(
        "retry_within",
        "how long after a request another like it is its retry; 1s when not given",
    ),
    MAX_BYTES,
];

pub(super) const EVENTS: &[Param] = &[
    DB,
    param("kind", Kind::List, "kinds of events; all when not given").or(&["kinds"]),
    text("reason", "events with this reason, e.g. BackOff"),
    text("namespace", "events of this namespace").or(&["ns"]),
    param("namespaces", Kind::List, "events of these namespaces"),
    text("pod", "events of pods with this in their name"),
    text("node", "events on this node"),
    text("warning", "true: warnings alone; false: the others alone"),
    START,
    END,
    limit("events", 1000, 100),
    MAX_BYTES,
];

pub(super) const SQL: &[Param] = &[
    DB,
    needed("sql", "one SELECT; GET /mcp/schema tells tables and columns").or(&["query"]),
    limit("rows", MAX_ROWS, DEFAULT_ROWS),
    MAX_BYTES,
];

/// What flows are chosen by.
pub(super) const FLOWS_OF: Param = text(
    "db",
    "the dissection asked: <snapshot>/<dissection>; when not given, live ones, else the one completed last",
)
.or(SPELT_DB);
pub(super) const L4PROTO: Param = text("l4proto", "tcp or udp; both when not given").or(&["proto"]);
pub(super) const IP: Param = text("ip", "flows with an end at this address");
pub(super) const NS: Param = text("ns", "flows with an end in this namespace").or(&["namespace"]);
pub(super) const POD: Param = text("pod", "flows with an end in a pod with this in its name");
pub(super) const SVC: Param = text("svc", "flows with an end behind this service").or(&["service"]);

/// What names are chosen by.
pub(super) const OF_NAMES: Param = text(
    "snapshot_id",
    "the snapshot; the cluster as it is now when not given",
)
.or(&["snapshot", "snapshot_name"]);
pub(super) const NAME_PART: Param = text("name", "those with this in their name");
pub(super) const NAME_REGEX: Param = text(
    "name_regex",
    "those whose name has a match of this regular expression",
);
pub(super) const NAMESPACE: Param = text("namespace", "those of this namespace").or(&["ns"]);
pub(super) const NAMESPACES: Param = param("namespaces", Kind::List, "those of these namespaces");
pub(super) const LABELS: Param = param(
    "labels",
    Kind::Pairs,
    "those with all of these labels: app=checkout,tier=front",
);
pub(super) const TIMESTAMP: Param = param(
    "timestamp",
    Kind::Moment,
    "what held at this time: Unix ms or RFC 3339",
);

/// Of the service DelayedDissection.
pub(super) const SNAPSHOT_NAME: Param = text(
    "snapshot_name",
    "id, unique start of an id, or name of a snapshot",
)
.or(&["snapshot", "snapshot_id"]);
pub(super) const DISSECTION_NAME: Param = text(
    "dissection_name",
    "name, id, or unique start of an id of a dissection; made up by Start when not given",
)
.or(&["dissection", "dissection_id", "name"]);
/// How Connect writes a message into a query.
pub(super) const CONNECT: Param = text("connect", "v1, of Connect's clients");
pub(super) const ENCODING: Param = param("encoding", Kind::Choice(&["json"]), "how `message` is written");
pub(super) const MESSAGE: Param = text("message", "the fields as one JSON object");
pub(super) const BASE64: Param = param("base64", Kind::Flag { default: false }, "`message` is base64url");

pub(super) const SERVICE: &[Param] = &[SNAPSHOT_NAME, DISSECTION_NAME];
pub(super) const SERVICE_START: &[Param] = &[SNAPSHOT_NAME.required(), DISSECTION_NAME];
pub(super) const SERVICE_NAMED: &[Param] = &[SNAPSHOT_NAME, DISSECTION_NAME.required()];
pub(super) const SERVICE_GET: &[Param] =
    &[SNAPSHOT_NAME, DISSECTION_NAME, CONNECT, ENCODING, MESSAGE, BASE64];

/// What can be recorded: also what the tool takes.
pub(in crate::api) const RECORDING: &[Param] = &[
    text(
        "capture",
        "how much of each packet: whole, headers, first:BYTES (of each connection, each way, then headers), or sample:1/N \
         (whole packets of one flow in N)",
    ),
    text(
        "filter",
        "only packets that this lets through, in libpcap's language, e.g. not port 9100; an empty text for all",
    )
    .or(&["bpf_filter"]),
    param(
        "rules",
        Kind::Objects,
        "how much of which workload, the first that matches: [{\"match\": {\"namespace\": \"payments\", \"labels\": \
         {\"app\": \"web\"}}, \"record\": \"headers\"}]; match by namespace, pod, labels and cgroup; record whole, headers, \
         first:BYTES or none; an empty list for no rules",
    ),
    NODES,
];

pub(super) const fn limit(what: &'static str, most: i64, default: i64) -> Param {
    param(
        "limit",
        Kind::Integer {
            least: 1,
            most,
            default,
        },
        what,
    )
}
