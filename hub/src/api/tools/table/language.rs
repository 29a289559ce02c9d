//! What can be asked, and how it is written.

use super::{CALL_DB, DB, NEXT, OF_SNAPSHOT, always, member, needed};
use crate::api::operations::{language, operation, sql};
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
        description: "The tables of a dissection that query_sql asks: every column with type and meaning, functions, limits, \
            and questions that show how it is done.",
        params: &[DB, OF_SNAPSHOT],
        gives: &[
            always("tables", "array", "The tables, with their columns"),
            member("functions", "array", "Functions that may be used"),
            member("aggregates", "array", "Functions over groups"),
            member("examples", "array", "Questions that show how it is done"),
            member("limits", "object", "Rows, time and memory of a question"),
            CALL_DB,
        ],
        effect: Reads,
        rows: "aggregates",
        run: AtOnce(operation!(sql::describe_schema)),
    },
];
