//! What can be asked, and how it is written.

use super::{NEXT, always, member, needed};
use crate::api::operations::{language, operation};
use crate::api::tools::Effect::Reads;
use crate::api::tools::Run::AtOnce;
use crate::api::tools::Tool;

pub(super) static TOOLS: &[Tool] = &[
    Tool {
        name: "explain_kfl",
        title: "Explain filter",
        description: "How a filter is read: its canonical form and the meaning of each field in it; or where it is wrong, \
            and what was probably meant. Asks no data.",
        params: &[needed("kfl", "The filter")],
        gives: &[
            always("valid", "boolean", "Whether it is a filter"),
            member("filter", "string", "How it is read"),
            member(
                "matches_everything",
                "boolean",
                "Whether it lets every call through",
            ),
            member("fields", "array", "Its fields, with type and meaning"),
            member("error", "string", "What is wrong, and where"),
            member("line", "integer", "Where: line, from 1"),
            member("column", "integer", "Where: column, from 1"),
            NEXT,
        ],
        effect: Reads,
        rows: "fields",
        run: AtOnce(operation!(language::explain_kfl)),
    },
    Tool {
        name: "describe_schema",
        title: "Describe tables",
        description: "Every column of a dissection's table of calls, with type and meaning; what format=raw gives.",
        params: &[],
        gives: &[always("tables", "array", "The tables, with their columns")],
        effect: Reads,
        rows: "tables",
        run: AtOnce(operation!(language::describe_schema)),
    },
];
