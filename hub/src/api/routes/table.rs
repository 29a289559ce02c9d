//! Every route, in the order of an investigation. Each is also there below `/api`.

use super::{Gives, Route};
use crate::api::operations::{calls, flows, stats};
use crate::api::param::{Kind, Param, needed, param, text};
use crate::query::{
    ANSWER_BYTES, DEFAULT_FLOWS, DEFAULT_LIMIT, DEFAULT_ROWS, DEFAULT_SHOWN, GROUP_WORDS, MAX_ANSWER_BYTES,
    MAX_FLOWS, MAX_KEYS, MAX_LIMIT, MAX_ROWS, MAX_SHOWN,
};

/// The route of a tool, whose parameters are the tool's.
pub(super) const TOOL: &str = "/mcp/tools/:tool";

const SNAPSHOT: Param = needed("snapshot", "id, unique start of an id, or name of a snapshot")
    .or(&["snapshot_name", "snapshot_id"]);
const OF_SNAPSHOT: Param =
    text("snapshot", "only those of this snapshot").or(&["snapshot_name", "snapshot_id"]);
const DISSECTION: Param = needed("name", "name, id, or unique start of an id of a dissection").or(&[
    "dissection",
    "dissection_name",
    "dissection_id",
]);
const SPELT_DB: &[&str] = &[
    "snapshot",
    "snapshot_name",
    "snapshot_id",
    "dissection",
    "dissection_name",
    "dissection_id",
    "name",
];
const DB: Param = text(
    "db",
    "the dissection asked: <snapshot>/<dissection>, or the snapshot alone while it has one; live calls when not given",
)
.or(SPELT_DB);
const KFL: Param = text("kfl", "filter; everything when not given");
const START: Param =
    param("start", Kind::Moment, "Unix ms or RFC 3339, inclusive").or(&["start_time", "start_ts"]);
const END: Param = param("end", Kind::Moment, "Unix ms or RFC 3339, exclusive").or(&["end_time", "end_ts"]);
const START_TIME: Param =
    param("start_time", Kind::Moment, "Unix ms or RFC 3339, inclusive").or(&["start", "start_ts"]);
const END_TIME: Param =
    param("end_time", Kind::Moment, "Unix ms or RFC 3339, exclusive").or(&["end", "end_ts"]);
const NODES: Param = param("nodes", Kind::List, "nodes by name; all when not given");
const FORMAT: Param = param(
    "format",
    Kind::Choice(calls::FORMAT_WORDS),
    "how much of each is shown",
);
const MAX_BYTES: Param = param(
    "max_bytes",
    Kind::Integer {
        least: 1024,
        most: MAX_ANSWER_BYTES as i64,
        default: ANSWER_BYTES as i64,
    },
    "most bytes of rows in the answer",
);

const GROUP_KEYS: Kind = Kind::Words {
    most: MAX_KEYS,
    of: &GROUP_WORDS,
};

const STATS: &[Param] = &[
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

const TIMELINE: &[Param] = &[
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

const EVENTS: &[Param] = &[
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

const SQL: &[Param] = &[
    DB,
    needed("sql", "one SELECT; GET /mcp/schema tells tables and columns").or(&["query"]),
    limit("rows", MAX_ROWS, DEFAULT_ROWS),
    MAX_BYTES,
];

/// What flows are chosen by.
const FLOWS_OF: Param = text(
    "db",
    "the dissection asked: <snapshot>/<dissection>; live ones, else the one completed last, when not given",
)
.or(SPELT_DB);
const L4PROTO: Param = text("l4proto", "tcp or udp; both when not given").or(&["proto"]);
const IP: Param = text("ip", "flows with an end at this address");
const NS: Param = text("ns", "flows with an end in this namespace").or(&["namespace"]);
const POD: Param = text("pod", "flows with an end in a pod with this in its name");
const SVC: Param = text("svc", "flows with an end behind this service").or(&["service"]);

/// What names are chosen by.
const OF_NAMES: Param = text(
    "snapshot_id",
    "the snapshot; the cluster as it is now when not given",
)
.or(&["snapshot", "snapshot_name"]);
const NAME_PART: Param = text("name", "those with this in their name");
const NAME_REGEX: Param = text(
    "name_regex",
    "those whose name has a match of this regular expression",
);
const NAMESPACE: Param = text("namespace", "those of this namespace").or(&["ns"]);
const NAMESPACES: Param = param("namespaces", Kind::List, "those of these namespaces");
const LABELS: Param = param(
    "labels",
    Kind::Pairs,
    "those with all of these labels: app=checkout,tier=front",
);
const TIMESTAMP: Param = param(
    "timestamp",
    Kind::Moment,
    "what held at this time: Unix ms or RFC 3339",
);

/// Of the service DelayedDissection.
const SNAPSHOT_NAME: Param = text(
    "snapshot_name",
    "id, unique start of an id, or name of a snapshot",
)
.or(&["snapshot", "snapshot_id"]);
const DISSECTION_NAME: Param = text(
    "dissection_name",
    "name, id, or unique start of an id of a dissection; made up by Start when not given",
)
.or(&["dissection", "dissection_id", "name"]);
/// How Connect writes a message into a query.
const CONNECT: Param = text("connect", "v1, of Connect's clients");
const ENCODING: Param = param("encoding", Kind::Choice(&["json"]), "how `message` is written");
const MESSAGE: Param = text("message", "the fields as one JSON object");
const BASE64: Param = param("base64", Kind::Flag { default: false }, "`message` is base64url");

const SERVICE: &[Param] = &[SNAPSHOT_NAME, DISSECTION_NAME];
const SERVICE_START: &[Param] = &[SNAPSHOT_NAME.required(), DISSECTION_NAME];
const SERVICE_NAMED: &[Param] = &[SNAPSHOT_NAME, DISSECTION_NAME.required()];
const SERVICE_GET: &[Param] = &[SNAPSHOT_NAME, DISSECTION_NAME, CONNECT, ENCODING, MESSAGE, BASE64];

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

/// Every route.
pub(in crate::api) const ROUTES: &[Route] = &[
    Route {
        gives: Gives::Mcp,
        ..get(
            "/mcp",
            "This list; with Accept: text/event-stream, the events of an MCP session",
            &[],
        )
    },
    Route {
        gives: Gives::Mcp,
        ..post("/mcp", "MCP (streamable HTTP): JSON-RPC of assistants", &[])
    },
    Route {
        gives: Gives::Mcp,
        ..delete("/mcp", "End an MCP session", &[])
    },
    get(
        "/mcp/raw-capture",
        "Whether traffic is recorded, and on which nodes",
        &[],
    ),
    get(
        "/mcp/data-boundaries",
        "From when to when each node has recorded traffic",
        &[],
    ),
    get(
        "/mcp/l7-data-boundaries",
        "From when to when there are dissected calls",
        &[],
    ),
    get(
        "/mcp/recording",
        "What each node records, and what it leaves out",
        &[NODES],
    ),
    put(
        "/mcp/recording",
        "Have the nodes record more or less from now on; what is not named stays as it is",
        RECORDING,
    ),
    get("/mcp/snapshots", "All snapshots, newest first", &[]),
    post(
        "/mcp/snapshots",
        "Cut a window of time out of the recording of every node; it is collected in the background",
        &[
            needed("name", "name of the snapshot: 1 to 128 of A-Z a-z 0-9 . _ -"),
            text(
                "duration",
                "window that ends now, e.g. 30m; 1h when no window is given",
            ),
            START_TIME,
            END_TIME,
            NODES,
            param(
                "workload_filter",
                Kind::Object,
                "whose packets to keep: {\"namespaces\": [\"production\"], \"pod_regex\": \"checkout-.*\"}, both or one: packets are kept \
                 of which at least one peer matches",
            ),
        ],
    ),
    get(
        "/mcp/snapshots/:snapshot",
        "One snapshot: status, progress, nodes, problems",
        &[SNAPSHOT],
    ),
    delete(
        "/mcp/snapshots/:snapshot",
        "Delete a snapshot with its dissections; one under way is given up",
        &[SNAPSHOT],
    ),
    Route {
        gives: Gives::Capture,
        ..get(
            "/mcp/snapshots/:snapshot/pcap",
            "The packets of a snapshot as a capture file, merged over its nodes; or only those of calls",
            &[
                SNAPSHOT,
                NODES,
                text("bpf_filter", "filter in libpcap's language, e.g. tcp port 8080").or(&["bpf"]),
                text(
                    "kfl",
                    "only the packets of the calls that match; needs a dissection",
                ),
                text(
                    "db",
                    "the dissection whose calls are meant, where the snapshot has several",
                ),
                param(
                    "whole_connections",
                    Kind::Flag { default: false },
                    "all packets of the connections of these calls",
                ),
                START_TIME,
                END_TIME,
                param("format", Kind::Choice(&["pcap", "pcapng"]), "what is written"),
            ],
        )
    },
    post(
        "/delayed_dissection.DelayedDissection/Start",
        "Start the dissection of a snapshot into API calls (Connect JSON)",
        SERVICE_START,
    ),
    post("/delayed_dissection", "The same as Start", SERVICE_START),
    get(
        "/delayed_dissection.DelayedDissection/GetStatus",
        "How far a dissection is; the one started last, and a list of all, when none is named",
        SERVICE_GET,
    ),
    post(
        "/delayed_dissection.DelayedDissection/GetStatus",
        "The same",
        SERVICE,
    ),
    post(
        "/delayed_dissection.DelayedDissection/Stop",
        "Stop a dissection",
        SERVICE_NAMED,
    ),
    get(
        "/delayed_dissection.DelayedDissection/List",
        "All dissections, or those of one snapshot",
        &[SNAPSHOT_NAME, CONNECT, ENCODING, MESSAGE, BASE64],
    ),
    post(
        "/delayed_dissection.DelayedDissection/List",
        "The same",
        &[SNAPSHOT_NAME],
    ),
    post(
        "/delayed_dissection.DelayedDissection/Delete",
        "Delete a dissection with its tables",
        SERVICE_NAMED,
    ),
    Route {
        gives: Gives::Proto,
        ..get(
            "/delayed_dissection.proto",
            "The service in Protocol Buffers: the same port speaks gRPC over HTTP/2, with reflection",
            &[],
        )
    },
    get("/mcp/dissection", "Whether live traffic is dissected", &[]),
    post(
        "/mcp/dissection/enable",
        "Dissect the last minutes of all tapes again and again: what names no db is asked of them",
        &[],
    ),
    post("/mcp/dissection/disable", "Dissect live traffic no more", &[]),
    get(
        "/mcp/dissections",
        "All dissections, newest first",
        &[OF_SNAPSHOT],
    ),
    post(
        "/mcp/dissections",
        "Start the dissection of a snapshot into API calls",
        &[
            SNAPSHOT,
            text("name", "name of the dissection; made up when not given").or(&[
                "dissection",
                "dissection_name",
                "dissection_id",
            ]),
        ],
    ),
    get(
        "/mcp/dissections/:snapshot/:name",
        "One dissection: status, progress, statistics",
        &[SNAPSHOT, DISSECTION],
    ),
    delete(
        "/mcp/dissections/:snapshot/:name",
        "Delete a dissection with its tables; one under way is stopped",
        &[SNAPSHOT, DISSECTION],
    ),
    post(
        "/mcp/dissections/:snapshot/:name/stop",
        "Stop a dissection",
        &[SNAPSHOT, DISSECTION],
    ),
    get(
        "/mcp/databases",
        "The dissections that can be asked, with number and times of their calls",
        &[],
    ),
    get(
        "/mcp/resolve/workloads",
        "Pods and services with their addresses, as the recorders knew them",
        &[
            OF_NAMES,
            NAME_PART,
            NAME_REGEX,
            NAMESPACE,
            NAMESPACES,
            LABELS,
            text("type", "pod or service; both when not given").or(&["kind"]),
            TIMESTAMP,
        ],
    ),
    get(
        "/mcp/resolve/ips",
        "Addresses with the pods and services that they belonged to",
        &[
            OF_NAMES,
            text("ip", "this address alone"),
            NAME_PART,
            NAME_REGEX,
            NAMESPACE,
            NAMESPACES,
            LABELS,
            TIMESTAMP,
        ],
    ),
    get(
        "/mcp/flows",
        "Who talks to whom over TCP and UDP, how much, and how long handshakes take",
        &[
            FLOWS_OF,
            KFL,
            L4PROTO,
            IP,
            NS,
            POD,
            SVC,
            FORMAT,
            text(
                "aggregate",
                "pod, namespace, node or service: adds flows up by it",
            ),
            param(
                "order",
                Kind::Choice(flows::ORDER_WORDS),
                "most of it first; time: oldest first",
            ),
            limit("flows", MAX_FLOWS, DEFAULT_FLOWS),
            START,
            END,
            MAX_BYTES,
        ],
    ),
    get(
        "/mcp/flows/summary",
        "All flows in a few numbers",
        &[FLOWS_OF, KFL, L4PROTO, IP, NS, POD, SVC, START, END],
    ),
    get(
        "/mcp/calls",
        "API calls by filter",
        &[
            DB,
            KFL,
            limit("calls", MAX_LIMIT, DEFAULT_LIMIT),
            FORMAT,
            START,
            END,
            param(
                "order",
                Kind::Choice(calls::ORDER_WORDS),
                "oldest, slowest or largest first",
            ),
            text("cursor", "where the last page ended"),
            param(
                "fields",
                Kind::List,
                "columns to show instead of a format, e.g. ts,path,status; GET /mcp/schema lists them",
            ),
            text("group_by", "node, ns or worker: counts the calls by it, too"),
            MAX_BYTES,
        ],
    ),
    get(
        "/mcp/calls/:id",
        "One API call by its id, in full",
        &[
            needed("id", "id of the call"),
            text("node_id", "its node, where the id does not name it"),
            DB,
        ],
    ),
    get(
        "/mcp/stats",
        "Numbers about calls: counts, rates, errors, latencies, bytes; by groups and over time",
        STATS,
    ),
    post("/mcp/stats", "The same", STATS),
    get(
        "/mcp/timeline",
        "What changed when: shifts of latency, errors and rate, first failures, retries, connections",
        TIMELINE,
    ),
    post("/mcp/timeline", "The same", TIMELINE),
    get(
        "/mcp/events",
        "What happened beside the calls: processes, sockets, memory, Kubernetes",
        EVENTS,
    ),
    get(
        "/mcp/sql",
        "The rows of one SELECT over the tables of a dissection",
        SQL,
    ),
    post("/mcp/sql", "The same", SQL),
    get(
        "/mcp/schema",
        "Tables and columns of a dissection with their meaning, and what SQL may do",
        &[DB],
    ),
    post(
        "/mcp/tools/call",
        "Call a tool; the raw JSON result",
        &[
            needed("name", "name of the tool; also tool").or(&["tool"]),
            param(
                "arguments",
                Kind::Object,
                "its arguments, as its inputSchema says",
            )
            .or(&["args"]),
        ],
    ),
    post(
        TOOL,
        "The same, with the arguments alone as the body",
        &[needed("tool", "name of the tool")],
    ),
    get("/openapi.json", "This API in OpenAPI 3.1", &[]),
    get("/echo", "Whether this is a hub, and which version", &[]),
    get("/whoami", "Who asks, and what they may do", &[]),
    get("/healthz", "Whether the hub can do its work", &[]),
    Route {
        gives: Gives::Counters,
        ..get("/metrics", "Counters for Prometheus", &[])
    },
];

const fn get(path: &'static str, description: &'static str, params: &'static [Param]) -> Route {
    Route {
        method: "GET",
        path,
        description,
        params,
        gives: Gives::Json,
    }
}

const fn post(path: &'static str, description: &'static str, params: &'static [Param]) -> Route {
    Route {
        method: "POST",
        ..get(path, description, params)
    }
}

const fn put(path: &'static str, description: &'static str, params: &'static [Param]) -> Route {
    Route {
        method: "PUT",
        ..get(path, description, params)
    }
}

const fn delete(path: &'static str, description: &'static str, params: &'static [Param]) -> Route {
    Route {
        method: "DELETE",
        ..get(path, description, params)
    }
}

const fn limit(what: &'static str, most: i64, default: i64) -> Param {
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
