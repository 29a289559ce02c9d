//! Every route, in the order of an investigation. Each is also there below `/api`.

use super::taken::{
    BASE64, CONNECT, DB, DISSECTION, ENCODING, END, END_TIME, EVENTS, FLOWS_OF, FORMAT, IP, KFL, L4PROTO,
    LABELS, MAX_BYTES, MESSAGE, NAME_PART, NAME_REGEX, NAMESPACE, NAMESPACES, NODES, NS, OF_NAMES,
    OF_SNAPSHOT, POD, RECORDING, SERVICE, SERVICE_GET, SERVICE_NAMED, SERVICE_START, SNAPSHOT, SNAPSHOT_NAME,
    SQL, START, START_TIME, STATS, SVC, TIMELINE, TIMESTAMP, limit,
};
use super::{Gives, Route};
use crate::api::operations::{calls, flows};
use crate::api::param::{Kind, Param, needed, param, text};
use crate::query::{DEFAULT_FLOWS, DEFAULT_LIMIT, MAX_FLOWS, MAX_LIMIT};

/// The route of a tool, whose parameters are the tool's.
pub(super) const TOOL: &str = "/mcp/tools/:tool";

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
    get("/license", "Which licence the hub needs: none", &[]),
    get("/settings", "How the hub is set", &[]),
    post(
        "/settings/dissection",
        "Switch live dissection on or off",
        &[param(
            "enabled",
            Kind::Flag { default: false },
            "whether live traffic is dissected",
        )
        .required()],
    ),
    get(
        "/pods/target",
        "The pods that are recorded",
        &[NAME_PART, NAME_REGEX, NAMESPACE, NAMESPACES, LABELS],
    ),
    post(
        "/pods/target/:how",
        "Refused: the traffic of all pods is recorded",
        &[
            needed("how", "regex, namespaces, …"),
            text("regex", "not used"),
            param("namespaces", Kind::List, "not used"),
            param("excluded_namespaces", Kind::List, "not used"),
        ],
    ),
    Route {
        gives: Gives::Entries,
        ..get(
            "/ws",
            "A WebSocket: send a filter, read live calls in their compact form as they end",
            &[],
        )
    },
    Route {
        gives: Gives::Entries,
        ..get(
            "/wsFull",
            "The same with headers and bodies, as entries of the dashboard",
            &[],
        )
    },
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
