//! Who was who, and who talked to whom, below the calls.

use super::{CALL_DB, DB, END, KFL, OF_SNAPSHOT, START, always, member, param, text};
use crate::api::operations::{calls, flows, operation, workloads};
use crate::api::param::{Kind, Param};
use crate::api::tools::Effect::Reads;
use crate::api::tools::Run::AtOnce;
use crate::api::tools::{Member, Tool};
use crate::query::{DEFAULT_FLOWS, MAX_FLOWS};

pub(super) static TOOLS: &[Tool] = &[
    Tool {
        name: "list_workloads",
        title: "List workloads",
        description: "Pods and services of a snapshot, with their addresses, as they were known at the time, or of the \
            cluster as it is now: whom a filter can name.",
        params: WORKLOADS,
        gives: WORKLOADS_GIVE,
        effect: Reads,
        rows: "workloads",
        run: AtOnce(operation!(workloads::workloads)),
    },
    Tool {
        name: "list_ips",
        title: "List addresses",
        description: "Addresses of a snapshot, or of the cluster as it is now, with the pods and services that they belong to and since \
            when; of a dissected snapshot, with the names that DNS gave them, too.",
        params: IPS,
        gives: IPS_GIVE,
        effect: Reads,
        rows: "ips",
        run: AtOnce(operation!(workloads::ips)),
    },
    Tool {
        name: "resolve_workload",
        title: "Resolve workload (old name)",
        description: "The earlier name of list_workloads; use that.",
        params: WORKLOADS,
        gives: WORKLOADS_GIVE,
        effect: Reads,
        rows: "workloads",
        run: AtOnce(operation!(workloads::workloads)),
    },
    Tool {
        name: "resolve_ip",
        title: "Resolve address (old name)",
        description: "The earlier name of list_ips; use that.",
        params: IPS,
        gives: IPS_GIVE,
        effect: Reads,
        rows: "ips",
        run: AtOnce(operation!(workloads::ips)),
    },
    Tool {
        name: "list_l4_flows",
        title: "List flows",
        description: "Who talks to whom over TCP and UDP, whether or not the protocol is dissected: packets, bytes and rates \
            of both sides, and how long TCP handshakes took (µs: under 1000 is excellent, over 100000 high). Of a \
            dissection; live ones when none is named and there is none or more than one.",
        params: &[
            text("ns", "Only flows with an end in this namespace"),
            text("pod", "Only flows with an end in a pod with this in its name"),
            text("svc", "Only flows with an end behind this service"),
            text("ip", "Only flows with an end at this address"),
            param("l4proto", Kind::Text, "tcp or udp; both when not given"),
            text(
                "aggregate",
                "pod, namespace, node or service: adds the flows up by it",
            ),
            param(
                "format",
                Kind::Choice(calls::FORMAT_WORDS),
                "full adds processes, rates of each side, state, connections; raw gives every column",
            ),
            param(
                "order",
                Kind::Choice(flows::ORDER_WORDS),
                "Most of it first; time: oldest first",
            ),
            param(
                "limit",
                Kind::Integer {
                    least: 1,
                    most: MAX_FLOWS,
                    default: DEFAULT_FLOWS,
                },
                "Most flows",
            ),
            KFL,
            START,
            END,
            DB,
            OF_SNAPSHOT,
        ],
        gives: &[
            always("flows", "array", "The flows"),
            always("total", "integer", "How many there are"),
            always("truncated", "boolean", "Whether there are more"),
            member("explanation", "string", "Why there is none, when there is none"),
            CALL_DB,
        ],
        effect: Reads,
        rows: "flows",
        run: AtOnce(operation!(flows::list)),
    },
    Tool {
        name: "get_l4_flow_summary",
        title: "Flows in short",
        description: "All flows in a few numbers: how many, bytes, packets, the pairs of peers with most of them, namespaces \
            and what passes between them. Of a dissection; live ones when none is named and there is none or more than one.",
        params: &[KFL, START, END, DB, OF_SNAPSHOT],
        gives: &[
            always("total_flows", "integer", "Flows of TCP and UDP"),
            always("tcp_flows", "integer", "Flows of TCP"),
            always("udp_flows", "integer", "Flows of UDP"),
            always("total_bytes", "integer", "Bytes, each counted once"),
            always("total_pkts", "integer", "Packets, each counted once"),
            always("unique_clients", "integer", "Addresses of clients"),
            always("unique_servers", "integer", "Addresses of servers"),
            always(
                "top_by_bytes",
                "array",
                "The pairs of peers with most bytes; addresses of those that are no pods",
            ),
            always("top_by_pkts", "array", "The same by packets"),
            always("by_namespace", "object", "Flows with an end in each namespace"),
            always(
                "cross_namespace",
                "array",
                "Flows and bytes from one namespace to another",
            ),
            member("explanation", "string", "Why there is none, when there is none"),
            CALL_DB,
        ],
        effect: Reads,
        rows: "cross_namespace",
        run: AtOnce(operation!(flows::summary)),
    },
];

const NAMED: Param = text("name", "Only those with this in their name");
const PATTERN: Param = text(
    "name_regex",
    "Only those whose name has a match of this regular expression",
);
const NAMESPACES: Param = param("namespaces", Kind::List, "Only those of these namespaces");
const NAMESPACE: Param = text("namespace", "Only those of this namespace");
const LABELS: Param = param(
    "labels",
    Kind::Pairs,
    "Only those with all of these labels: an object, or app=checkout,tier=front",
);
const AT: Param = param(
    "timestamp",
    Kind::Moment,
    "Only what held at this time: Unix ms, or RFC 3339",
);
const SNAPSHOT: Param = text(
    "snapshot_id",
    "The snapshot; the cluster as it is now when not given",
);

const WORKLOADS: &[Param] = &[
    SNAPSHOT,
    NAMED,
    PATTERN,
    NAMESPACE,
    NAMESPACES,
    LABELS,
    text("type", "pod or service; both when not given"),
    AT,
];
const WORKLOADS_GIVE: &[Member] = &[
    always(
        "workloads",
        "array",
        "Name, namespace, kind, labels and addresses of each",
    ),
    always("total", "integer", "How many there are"),
    member("snapshot", "object", "Which snapshot was asked"),
    member(
        "live",
        "boolean",
        "true: no snapshot was asked, but the agents as they are now",
    ),
    member("namespaces", "object", "Labels of their namespaces, by name"),
    member("explanation", "string", "Why there is none, when there is none"),
];
const IPS: &[Param] = &[
    SNAPSHOT,
    text("ip", "Only this address"),
    NAMED,
    PATTERN,
    NAMESPACE,
    NAMESPACES,
    LABELS,
    AT,
];
const IPS_GIVE: &[Member] = &[
    always("ips", "array", "Each address with its records"),
    always("total", "integer", "How many there are"),
    member("snapshot", "object", "Which snapshot was asked"),
    member(
        "live",
        "boolean",
        "true: no snapshot was asked, but the agents as they are now",
    ),
    member(
        "dns_truncated",
        "boolean",
        "true: there are more names of DNS; ask for one address",
    ),
    member("explanation", "string", "Why there is none, when there is none"),
];
