//! What clients of the contract ask before they begin: live dissection and cloud storage.

use super::{always, member, needed};
use crate::api::operations::{live, operation, switches};
use crate::api::tools::Effect::{AddsOnce, Reads};
use crate::api::tools::Run::AtOnce;
use crate::api::tools::{Member, Tool};

pub(super) static TOOLS: &[Tool] = &[
    Tool {
        name: "get_l7_data_boundaries",
        title: "Window of calls",
        description: "From when to when there are API calls that can be asked for, over all dissections. What is recorded \
            and not dissected: get_data_boundaries.",
        params: &[],
        gives: &[
            always(
                "dissection_enabled",
                "boolean",
                "Whether live traffic is dissected",
            ),
            always(
                "cluster",
                "object",
                "oldest_ts and newest_ts over all nodes, Unix ms; null without calls",
            ),
            always("nodes", "array", "The same for each node"),
            always("databases", "array", "The same for each dissection"),
            always("explanation", "string", "What these times are of"),
        ],
        effect: Reads,
        rows: "nodes",
        run: AtOnce(operation!(switches::l7_boundaries)),
    },
    Tool {
        name: "get_dissection_status",
        title: "Live dissection",
        description: "Whether live traffic is dissected. That of a snapshot: get_snapshot_dissection_status.",
        params: &[],
        gives: &[
            always("enabled", "boolean", "Whether it is"),
            member("window_seconds", "integer", "How far it looks back"),
            member("latest", "object", "Window, calls and cost of the last round"),
            member("error", "string", "Why the last round came to nothing"),
            member("explanation", "string", "What to do while it is not"),
        ],
        effect: Reads,
        rows: "",
        run: AtOnce(operation!(live::dissection)),
    },
    Tool {
        name: "enable_dissection",
        title: "Enable live dissection",
        description: "Dissects the last minutes of all tapes again and again, so that tools which name no dissection answer \
            about now. It costs up to a fifth of a processor, and switches itself off when nobody asks for some minutes. \
            For an incident that is over, investigate.",
        params: &[],
        gives: SWITCHED,
        effect: AddsOnce,
        rows: "",
        run: AtOnce(operation!(live::enable)),
    },
    Tool {
        name: "disable_dissection",
        title: "Disable live dissection",
        description: "Ends it: tools that name no dissection answer about dissected snapshots again.",
        params: &[],
        gives: SWITCHED,
        effect: AddsOnce,
        rows: "",
        run: AtOnce(operation!(live::disable)),
    },
    Tool {
        name: "get_cloud_storage_status",
        title: "Cloud storage",
        description: "Whether snapshots can be kept in a cloud.",
        params: &[],
        gives: &[
            always("enabled", "boolean", "Whether they can"),
            member("explanation", "string", "What to do while they cannot"),
        ],
        effect: Reads,
        rows: "",
        run: AtOnce(operation!(switches::cloud_status)),
    },
    Tool {
        name: "upload_snapshot_to_cloud",
        title: "Upload snapshot",
        description: "Refused while no cloud storage is set up (get_cloud_storage_status); says what to do instead.",
        params: &[needed("id", super::SNAPSHOT_ID)],
        gives: SUCCESS,
        effect: AddsOnce,
        rows: "",
        run: AtOnce(operation!(switches::no_cloud)),
    },
    Tool {
        name: "download_snapshot_from_cloud",
        title: "Download snapshot",
        description: "Refused while no cloud storage is set up (get_cloud_storage_status); says what to do instead.",
        params: &[needed("id", super::SNAPSHOT_ID)],
        gives: SUCCESS,
        effect: AddsOnce,
        rows: "",
        run: AtOnce(operation!(switches::no_cloud)),
    },
    Tool {
        name: "get_cloud_job_status",
        title: "Cloud job",
        description: "Refused while no cloud storage is set up (get_cloud_storage_status): there is no job.",
        params: &[needed("job_id", "Id of the job")],
        gives: &[always("status", "string", "in_progress, completed or failed")],
        effect: Reads,
        rows: "",
        run: AtOnce(operation!(switches::no_cloud)),
    },
];

const SWITCHED: &[Member] = &[
    always("success", "boolean", "true"),
    always("enabled", "boolean", "Whether live traffic is dissected now"),
];
const SUCCESS: &[Member] = &[always("success", "boolean", "true")];
