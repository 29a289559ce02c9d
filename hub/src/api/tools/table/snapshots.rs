//! Windows of the recording: kept, given out, dissected.

use super::{
    DURATION, END_TIME, ID, NAME, NEXT, NODES, PCAP_FORMAT, SNAPSHOT_ID, START_TIME, STATUS, always, member,
    needed, param, text,
};
use crate::api::operations::{dissections, follow, operation, pcap, service, snapshots};
use crate::api::param::Kind;
use crate::api::tools::Effect::{Adds, Reads, Removes};
use crate::api::tools::Run::{AtOnce, Followed};
use crate::api::tools::{Member, Tool};

pub(super) static TOOLS: &[Tool] = &[
    Tool {
        name: "create_snapshot",
        title: "Create snapshot",
        description: "Cuts a window of time out of the recording of every node and keeps it. Collecting takes seconds and \
            goes on in the background: ask get_snapshot until its status is completed, then start_snapshot_dissection. \
            Leave some minutes around the incident.",
        params: &[
            needed("name", "Name of the snapshot: 1 to 128 of A-Z a-z 0-9 . _ -"),
            DURATION,
            START_TIME,
            END_TIME,
            NODES,
            param(
                "workload_filter",
                Kind::Object,
                "Whose packets to keep: {\"namespaces\": [\"production\"], \"pod_regex\": \"checkout-.*\"}, both or one: packets are kept \
                 of which at least one peer matches",
            ),
        ],
        gives: &[
            ID,
            NAME,
            STATUS,
            always("start_ts", "integer", "Start of the window, Unix ms, inclusive"),
            always("end_ts", "integer", "End of the window, exclusive"),
            always("nodes", "array", "Names of the nodes it is cut from"),
            NEXT,
        ],
        effect: Adds,
        rows: "nodes",
        run: Followed(|app, params, follow| Box::pin(follow::snapshot(app, params, follow))),
    },
    Tool {
        name: "list_snapshots",
        title: "List snapshots",
        description: "All snapshots, newest first, with window, status and size.",
        params: &[],
        gives: &[always("snapshots", "array", "The snapshots")],
        effect: Reads,
        rows: "snapshots",
        run: AtOnce(operation!(snapshots::list)),
    },
    Tool {
        name: "get_snapshot",
        title: "Get snapshot",
        description: "One snapshot: status, progress, nodes, losses, problems, and its dissections.",
        params: &[needed("id", SNAPSHOT_ID)],
        gives: &[
            ID,
            NAME,
            STATUS,
            always("start_ts", "integer", "Start of the window, Unix ms, inclusive"),
            always("end_ts", "integer", "End of the window, exclusive"),
            always(
                "lost_packets",
                "integer",
                "Packets that passed and were not recorded",
            ),
            member(
                "losses",
                "array",
                "Of these: node, stage, from when to when, packets",
            ),
            always("nodes", "array", "What each node gave"),
            always("problems", "array", "What is missing, one sentence each"),
            always("dissections", "array", "Its dissections"),
        ],
        effect: Reads,
        rows: "nodes",
        run: AtOnce(operation!(snapshots::get)),
    },
    Tool {
        name: "delete_snapshot",
        title: "Delete snapshot",
        description: "Deletes a snapshot with its dissections, for good. Packets that are no longer on the nodes' tapes are \
            then lost.",
        params: &[needed("id", SNAPSHOT_ID)],
        gives: &[always("success", "boolean", "true"), ID, NAME],
        effect: Removes,
        rows: "",
        run: AtOnce(operation!(snapshots::delete)),
    },
    Tool {
        name: "export_snapshot_pcap",
        title: "Export snapshot as PCAP",
        description: "Where to fetch the packets of a snapshot for Wireshark, merged over its nodes; needs no dissection. \
            Gives a path on the hub (GET it), and a resource.",
        params: &[
            needed("id", SNAPSHOT_ID),
            NODES,
            text(
                "bpf_filter",
                "Filter as for tcpdump, e.g. host 10.0.0.1 and tcp port 8080",
            ),
            START_TIME,
            END_TIME,
            PCAP_FORMAT,
        ],
        gives: &[
            always("path", "string", "Path on the hub"),
            always("uri", "string", "The same as a resource"),
            ID,
            NAME,
            member("packet_count", "integer", "Packets of the whole snapshot"),
            member("size_bytes", "integer", "Bytes of the whole snapshot"),
        ],
        effect: Reads,
        rows: "",
        run: AtOnce(operation!(pcap::path)),
    },
    Tool {
        name: "start_snapshot_dissection",
        title: "Start dissection",
        description: "Turns the packets of a completed snapshot into API calls that can be asked for. Takes seconds to \
            minutes in the background: ask get_snapshot_dissection_status until it is completed.",
        params: &[
            needed("snapshot_id", SNAPSHOT_ID),
            text("name", "Name of the dissection; made up when not given"),
        ],
        gives: DISSECTION,
        effect: Adds,
        rows: "",
        run: Followed(|app, params, follow| Box::pin(follow::dissection(app, params, follow))),
    },
    Tool {
        name: "get_snapshot_dissection_status",
        title: "Dissection status",
        description: "How far a dissection is, and what it found; without arguments, the one started last.",
        params: &[
            text("dissection_id", "Name, id or start of the id of the dissection"),
            text("snapshot_id", SNAPSHOT_ID),
        ],
        gives: &[
            always("active", "boolean", "Whether it still waits or runs"),
            always(
                "status",
                "string",
                "pending, running, completed, failed or cancelled; none",
            ),
            always("progress", "integer", "0 to 100"),
            member("db", "string", "What to ask list_api_calls with"),
            member("entry_count", "integer", "Calls found"),
            member("stats", "object", "Packets read, calls by protocol"),
            member("errors", "array", "Why it failed"),
            member("dissections", "array", "All there are, newest first"),
        ],
        effect: Reads,
        rows: "dissections",
        run: AtOnce(operation!(service::status)),
    },
    Tool {
        name: "list_snapshot_dissections",
        title: "List dissections",
        description: "All dissections, or those of one snapshot, newest first.",
        params: &[text("snapshot_id", SNAPSHOT_ID)],
        gives: &[always("dissections", "array", "The dissections")],
        effect: Reads,
        rows: "dissections",
        run: AtOnce(operation!(dissections::list)),
    },
    Tool {
        name: "stop_snapshot_dissection",
        title: "Stop dissection",
        description: "Stops a dissection that waits or runs. Its snapshot stays.",
        params: &[
            needed("dissection_id", "Name, id or start of the id of the dissection"),
            text("snapshot_id", SNAPSHOT_ID),
        ],
        gives: DISSECTION,
        effect: Removes,
        rows: "",
        run: AtOnce(operation!(service::stop)),
    },
    Tool {
        name: "delete_snapshot_dissection",
        title: "Delete dissection",
        description: "Deletes a dissection with its tables. Its snapshot stays and can be dissected again.",
        params: &[
            needed("dissection_id", "Name, id or start of the id of the dissection"),
            text("snapshot_id", SNAPSHOT_ID),
        ],
        gives: &[
            always("success", "boolean", "true"),
            NAME,
            always("snapshot", "string", "Name of its snapshot"),
        ],
        effect: Removes,
        rows: "",
        run: AtOnce(operation!(service::delete)),
    },
    Tool {
        name: "list_databases",
        title: "List databases",
        description: "The dissections that can be asked for calls, with number and times of their calls.",
        params: &[],
        gives: &[always("databases", "array", "The databases")],
        effect: Reads,
        rows: "databases",
        run: AtOnce(operation!(dissections::databases)),
    },
];

const DISSECTION: &[Member] = &[
    always("dissection_id", "string", "Its id"),
    always("dissection_name", "string", "Its name"),
    always("active", "boolean", "Whether it still waits or runs"),
    always(
        "status",
        "string",
        "pending, running, completed, failed or cancelled",
    ),
    always("progress", "integer", "0 to 100"),
    always("db", "string", "What to ask list_api_calls with"),
    member("entry_count", "integer", "Calls found"),
    NEXT,
];
