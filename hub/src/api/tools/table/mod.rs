//! Every tool, in the order of an investigation.

mod recording;

mod snapshots;

mod flows;

mod calls;

mod language;

mod switches;

use super::{Member, Tool};
use crate::api::param::{Kind, Param, needed, param, text};

/// All tools.
pub(in crate::api) fn all() -> impl Iterator<Item = &'static Tool> {
    [
        recording::TOOLS,
        snapshots::TOOLS,
        flows::TOOLS,
        calls::TOOLS,
        language::TOOLS,
        switches::TOOLS,
    ]
    .into_iter()
    .flatten()
}

const fn always(name: &'static str, kind: &'static str, doc: &'static str) -> Member {
    Member {
        name,
        kind,
        always: true,
        doc,
    }
}

const fn member(name: &'static str, kind: &'static str, doc: &'static str) -> Member {
    Member {
        name,
        kind,
        always: false,
        doc,
    }
}

const SNAPSHOT_ID: &str = "Snapshot: its name, its id, or the start of its id (4 characters or more)";
const DB: Param = text(
    "db",
    "Dissection to ask: <snapshot>/<dissection>. The snapshot alone will do while it has one dissection; nothing at \
     all, while there is one dissection",
);
const OF_SNAPSHOT: Param = text(
    "snapshot_id",
    "The snapshot whose dissection to ask, instead of db",
);
const KFL: Param = text(
    "kfl",
    "Filter, e.g. dst.svc == \"checkout\" and response.status >= 500; src.pod contains \"frontend\"; \
     response.latency > 1000 (ms); error. Everything when not given. The language: resource wiretape://kfl",
);
const START: Param = param(
    "start",
    Kind::Moment,
    "Calls that began at this time or later: Unix ms, or RFC 3339",
);
const END: Param = param("end", Kind::Moment, "Calls that began before this time");
const DURATION: Param = text(
    "duration",
    "Length of the window that ends now, e.g. 30s, 15m, 1h30m",
);
const START_TIME: Param = param(
    "start_time",
    Kind::Moment,
    "Start of the window, inclusive: Unix ms, or RFC 3339",
);
const END_TIME: Param = param(
    "end_time",
    Kind::Moment,
    "End of the window, exclusive; now when not given",
);
const NODES: Param = param("nodes", Kind::List, "Nodes by name; all when not given");
const PCAP_FORMAT: Param = param(
    "format",
    Kind::Choice(&["pcap", "pcapng"]),
    "pcapng keeps nodes, directions and names",
);

const NEXT: Member = member("next", "string", "What to do now");
const ID: Member = always("id", "string", "Id");
const NAME: Member = always("name", "string", "Name");
const STATUS: Member = always("status", "string", "in_progress, completed or failed");
const CALL_DB: Member = always("db", "string", "The dissection that was asked");

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_tool_has_a_name_of_its_own_and_says_what_it_gives() {
        let mut seen = HashSet::new();
        for tool in all() {
            assert!(seen.insert(tool.name), "{} is in the table twice", tool.name);
            assert!(tool.description.ends_with('.'), "{}", tool.name);
            assert!(!tool.gives.is_empty(), "{}", tool.name);
            let mut params = HashSet::new();
            assert!(
                tool.params.iter().all(|param| params.insert(param.name)),
                "{}",
                tool.name
            );
        }
    }
}
