//! What is recorded, and a first look at it.

use super::{NEXT, always};
use crate::api::operations::{boundaries, health, operation};
use crate::api::tools::Effect::Reads;
use crate::api::tools::Run::AtOnce;
use crate::api::tools::Tool;

pub(super) static TOOLS: &[Tool] = &[
    Tool {
        name: "get_data_boundaries",
        title: "Recorded window",
        description: "From when to when traffic is recorded, for each node: the window that a snapshot can be cut from.",
        params: &[],
        gives: &[
            always(
                "cluster",
                "object",
                "oldest_ts and newest_ts over all nodes, Unix ms; null without a recording",
            ),
            always(
                "nodes",
                "array",
                "The same for each node; error where one does not answer",
            ),
        ],
        effect: Reads,
        rows: "nodes",
        run: AtOnce(operation!(boundaries::get)),
    },
    Tool {
        name: "get_recording_health",
        title: "Recording health",
        description: "Whether every node records without losses, in words. Ask before you conclude from calls that are not \
            there: they may not have been recorded.",
        params: &[],
        gives: &[
            always("status", "string", "ok or degraded"),
            always("problems", "array", "What is wrong, one sentence each"),
            always(
                "cluster",
                "object",
                "oldest_ts and newest_ts over all nodes, Unix ms",
            ),
            always(
                "nodes",
                "array",
                "Packets kept and lost, and age of the last one, for each node",
            ),
            NEXT,
        ],
        effect: Reads,
        rows: "nodes",
        run: AtOnce(operation!(health::get)),
    },
];
