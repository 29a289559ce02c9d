//! All routes in one table: for discovery, and for telling a caller who missed one which are near.

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// HTTP method.
    pub method: &'static str,
    /// Path, with `:name` for its variable parts.
    pub path: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// Name, type and meaning of its parameters.
    pub params: &'static [(&'static str, &'static str, &'static str)],
}

/// Suggestions in one answer.
const MAX_NEAR: usize = 3;

const SNAPSHOT: (&str, &str, &str) = (
    "snapshot",
    "string",
    "id, unique start of an id, or name of a snapshot",
);
const DISSECTION: (&str, &str, &str) = (
    "name",
    "string",
    "name, id, or unique start of an id of a dissection",
);
const DB: (&str, &str, &str) = ("db", "string", "the dissection asked: <snapshot>/<dissection>");

const KFL: (&str, &str, &str) = ("kfl", "string", "filter; all calls when not given");
const START: (&str, &str, &str) = ("start", "integer", "Unix ms, inclusive");
const END: (&str, &str, &str) = ("end", "integer", "Unix ms, exclusive");
const MAX_BYTES: (&str, &str, &str) = (
    "max_bytes",
    "integer",
    "most bytes of rows in the answer, 1024 to 16777216",
);

const STATS: &[(&str, &str, &str)] = &[
    DB,
    KFL,
    START,
    END,
    (
        "group_by",
        "list",
        "up to 4 of endpoint, src, dst, service, src.service, pod, src.pod, namespace, src.namespace, node, src.node, \
         dst.node, status, protocol, method, outcome",
    ),
    (
        "order",
        "string",
        "count (default), errors, error_rate, p50, p90, p95, p99, max, avg or bytes; most first",
    ),
    ("limit", "integer", "groups, 1 to 1000; 50 when not given"),
    (
        "bucket",
        "string",
        "auto or a duration (10s, 1m): series over time, too",
    ),
    MAX_BYTES,
];

const TIMELINE: &[(&str, &str, &str)] = &[
    DB,
    KFL,
    START,
    END,
    ("by", "string", "peers (default) or endpoint: what makes a line"),
    ("bucket", "string", "auto (default) or a duration"),
    (
        "retry_within",
        "string",
        "how long after a request another like it is its retry; 1s when not given",
    ),
    MAX_BYTES,
];

const SQL: &[(&str, &str, &str)] = &[
    DB,
    (
        "sql",
        "string",
        "one SELECT; GET /mcp/schema tells tables and columns",
    ),
    ("limit", "integer", "rows, 1 to 10000; 100 when not given"),
    MAX_BYTES,
];

/// Every route, in the order of an investigation. Each is also there below `/api`.
pub const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/mcp",
        description: "This list; with Accept: text/event-stream, the events of an MCP session",
        params: &[],
    },
    Route {
        method: "POST",
        path: "/mcp",
        description: "MCP (streamable HTTP): JSON-RPC of assistants",
        params: &[],
    },
    Route {
        method: "DELETE",
        path: "/mcp",
        description: "End an MCP session",
        params: &[],
    },
    Route {
        method: "GET",
        path: "/mcp/data-boundaries",
        description: "From when to when each node has recorded traffic",
        params: &[],
    },
    Route {
        method: "GET",
        path: "/mcp/snapshots",
        description: "All snapshots, newest first",
        params: &[],
    },
    Route {
        method: "POST",
        path: "/mcp/snapshots",
        description: "Cut a window of time out of the recording of every node; it is collected in the background",
        params: &[
            (
                "name",
                "string",
                "name of the snapshot: 1 to 128 of A-Z a-z 0-9 . _ -",
            ),
            (
                "duration",
                "string",
                "window that ends now, e.g. 30m; 1h when no window is given",
            ),
            (
                "start_time",
                "integer",
                "start of the window, Unix ms, inclusive (instead of duration)",
            ),
            (
                "end_time",
                "integer",
                "end of the window, Unix ms, exclusive; now when not given",
            ),
            ("nodes", "list", "nodes by name; all when not given"),
        ],
    },
    Route {
        method: "GET",
        path: "/mcp/snapshots/:snapshot",
        description: "One snapshot: status, progress, nodes, problems",
        params: &[SNAPSHOT],
    },
    Route {
        method: "DELETE",
        path: "/mcp/snapshots/:snapshot",
        description: "Delete a snapshot with its dissections; one under way is given up",
        params: &[SNAPSHOT],
    },
    Route {
        method: "GET",
        path: "/mcp/snapshots/:snapshot/pcap",
        description: "The packets of a snapshot as a capture file, merged over its nodes; needs no dissection",
        params: &[
            SNAPSHOT,
            ("nodes", "list", "nodes by name; all when not given"),
            (
                "bpf_filter",
                "string",
                "filter in libpcap's language, e.g. tcp port 8080",
            ),
            ("start_time", "integer", "Unix ms, inclusive"),
            ("end_time", "integer", "Unix ms, exclusive"),
            ("format", "string", "pcap (default) or pcapng"),
        ],
    },
    Route {
        method: "POST",
        path: "/delayed_dissection.DelayedDissection/Start",
        description: "Start the dissection of a snapshot into API calls (Connect JSON)",
        params: &[
            (
                "snapshot_name",
                "string",
                "id, unique start of an id, or name of a snapshot",
            ),
            (
                "dissection_name",
                "string",
                "name of the dissection; made up when not given",
            ),
        ],
    },
    Route {
        method: "POST",
        path: "/delayed_dissection",
        description: "The same as Start",
        params: &[
            ("snapshot_name", "string", "as for Start"),
            ("dissection_name", "string", "as for Start"),
        ],
    },
    Route {
        method: "GET",
        path: "/delayed_dissection.DelayedDissection/GetStatus",
        description: "How far a dissection is; the one started last, and a list of all, when none is named",
        params: &[
            ("snapshot_name", "string", "as for Start"),
            ("dissection_name", "string", "as for Start"),
        ],
    },
    Route {
        method: "POST",
        path: "/delayed_dissection.DelayedDissection/GetStatus",
        description: "The same",
        params: &[
            ("snapshot_name", "string", "as for Start"),
            ("dissection_name", "string", "as for Start"),
        ],
    },
    Route {
        method: "POST",
        path: "/delayed_dissection.DelayedDissection/Stop",
        description: "Stop a dissection",
        params: &[
            ("snapshot_name", "string", "as for Start"),
            ("dissection_name", "string", "as for Start"),
        ],
    },
    Route {
        method: "GET",
        path: "/delayed_dissection.DelayedDissection/List",
        description: "All dissections, or those of one snapshot",
        params: &[("snapshot_name", "string", "as for Start")],
    },
    Route {
        method: "POST",
        path: "/delayed_dissection.DelayedDissection/List",
        description: "The same",
        params: &[("snapshot_name", "string", "as for Start")],
    },
    Route {
        method: "POST",
        path: "/delayed_dissection.DelayedDissection/Delete",
        description: "Delete a dissection with its tables",
        params: &[
            ("snapshot_name", "string", "as for Start"),
            ("dissection_name", "string", "as for Start"),
        ],
    },
    Route {
        method: "GET",
        path: "/mcp/dissections",
        description: "All dissections, newest first",
        params: &[SNAPSHOT],
    },
    Route {
        method: "POST",
        path: "/mcp/dissections",
        description: "Start the dissection of a snapshot into API calls",
        params: &[
            SNAPSHOT,
            ("name", "string", "name of the dissection; made up when not given"),
        ],
    },
    Route {
        method: "GET",
        path: "/mcp/dissections/:snapshot/:name",
        description: "One dissection: status, progress, statistics",
        params: &[SNAPSHOT, DISSECTION],
    },
    Route {
        method: "DELETE",
        path: "/mcp/dissections/:snapshot/:name",
        description: "Delete a dissection with its tables; one under way is stopped",
        params: &[SNAPSHOT, DISSECTION],
    },
    Route {
        method: "POST",
        path: "/mcp/dissections/:snapshot/:name/stop",
        description: "Stop a dissection",
        params: &[SNAPSHOT, DISSECTION],
    },
    Route {
        method: "GET",
        path: "/mcp/databases",
        description: "The dissections that can be asked, with number and times of their calls",
        params: &[],
    },
    Route {
        method: "GET",
        path: "/mcp/calls",
        description: "API calls by filter",
        params: &[
            DB,
            (
                "kfl",
                "string",
                "filter, e.g. dst.svc == \"checkout\" and response.status >= 500; all when not given",
            ),
            ("limit", "integer", "1 to 1000; 100 when not given"),
            ("format", "string", "compact (default), full or raw"),
            ("start", "integer", "Unix ms, inclusive"),
            ("end", "integer", "Unix ms, exclusive"),
            ("order", "string", "time (default), latency or size"),
            ("cursor", "string", "where the last page ended"),
            (
                "fields",
                "list",
                "columns to show instead of a format, e.g. ts,path,status; GET /mcp/schema lists them",
            ),
            (
                "group_by",
                "string",
                "node, ns or worker: counts the calls by it, too",
            ),
            MAX_BYTES,
        ],
    },
    Route {
        method: "GET",
        path: "/mcp/calls/:id",
        description: "One API call by its id, in full",
        params: &[("id", "string", "id of the call"), DB],
    },
    Route {
        method: "GET",
        path: "/mcp/stats",
        description: "Numbers about calls: counts, rates, errors, latencies, bytes; by groups and over time",
        params: STATS,
    },
    Route {
        method: "POST",
        path: "/mcp/stats",
        description: "The same",
        params: STATS,
    },
    Route {
        method: "GET",
        path: "/mcp/timeline",
        description: "What changed when: shifts of latency, errors and rates, first failures, retries, connections",
        params: TIMELINE,
    },
    Route {
        method: "POST",
        path: "/mcp/timeline",
        description: "The same",
        params: TIMELINE,
    },
    Route {
        method: "GET",
        path: "/mcp/sql",
        description: "The rows of one SELECT over the tables of a dissection",
        params: SQL,
    },
    Route {
        method: "POST",
        path: "/mcp/sql",
        description: "The same",
        params: SQL,
    },
    Route {
        method: "GET",
        path: "/mcp/schema",
        description: "Tables and columns of a dissection with their meaning, and what SQL may do",
        params: &[DB],
    },
    Route {
        method: "POST",
        path: "/mcp/tools/call",
        description: "Call a tool; the raw JSON result",
        params: &[
            ("name", "string", "name of the tool; also tool"),
            ("arguments", "object", "its arguments, as its inputSchema says"),
        ],
    },
    Route {
        method: "POST",
        path: "/mcp/tools/:tool",
        description: "The same, with the arguments alone as the body",
        params: &[("tool", "string", "name of the tool")],
    },
    Route {
        method: "GET",
        path: "/echo",
        description: "Whether this is a hub, and which version",
        params: &[],
    },
    Route {
        method: "GET",
        path: "/healthz",
        description: "Whether the hub can do its work",
        params: &[],
    },
    Route {
        method: "GET",
        path: "/metrics",
        description: "Counters for Prometheus",
        params: &[],
    },
];

/// What to say of a path that leads nowhere.
pub(super) fn no_route(method: &str, path: &str) -> String {
    let path = path.strip_prefix("/api").unwrap_or(path);
    let mut near: Vec<(usize, &Route)> = ROUTES
        .iter()
        .map(|route| (distance(path, route.path), route))
        .collect();
    near.sort_by_key(|(distance, _)| *distance);
    // Further off than a quarter of what was written is not near.
    near.retain(|(distance, route)| *distance <= (path.len().max(route.path.len()) / 4).max(3));
    let near: Vec<String> = near
        .iter()
        .take(MAX_NEAR)
        .map(|(_, route)| format!("{} {}", route.method, route.path))
        .collect();
    let shown = crate::snapshots::shown(path);
    if near.is_empty() {
        return format!("there is no route {method} {shown}; GET /mcp lists all routes");
    }
    format!(
        "there is no route {method} {shown}; near it are: {}; GET /mcp lists all routes",
        near.join(", ")
    )
}

/// What to say of a method that a path does not take.
pub(super) fn wrong_method(method: &str, path: &str) -> String {
    let path = path.strip_prefix("/api").unwrap_or(path);
    let methods: Vec<&str> = ROUTES
        .iter()
        .filter(|route| fits(route.path, path))
        .map(|route| route.method)
        .collect();
    format!(
        "{} does not take {method}; it takes {}",
        crate::snapshots::shown(path),
        methods.join(", ")
    )
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/').peekable(), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            // An id of a call has slashes of its own.
            (Some(":id"), Some(_)) => return true,
            (Some(part), Some(given)) if part.starts_with(':') || part == given => {}
            _ => return false,
        }
    }
}

/// Edits between two paths, part by part, where any text fits a variable part.
fn distance(path: &str, pattern: &str) -> usize {
    let (path, pattern): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), pattern.split('/').collect());
    let mut total = 0;
    for at in 0..path.len().max(pattern.len()) {
        total += match (path.get(at), pattern.get(at)) {
            (Some(_), Some(variable)) if variable.starts_with(':') => 0,
            (Some(given), Some(part)) => edits(given, part),
            (Some(rest), None) | (None, Some(rest)) => rest.len() + 1,
            (None, None) => 0,
        };
    }
    total
}

/// Levenshtein's distance. Both are short: a path is cut to what a request line may hold, and compared part by part.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let here = (diagonal + usize::from(x != y)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_nowhere_is_told_what_is_near() {
        assert_eq!(edits("snapshot", "snapshots"), 1);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert!(no_route("GET", "/mcp/snapshot").contains("GET /mcp/snapshots"));
        assert!(no_route("GET", "/api/mcp/call?").contains("/mcp/calls"));
        assert!(no_route("GET", "/mcp/snapshots/x/pcapng").contains("GET /mcp/snapshots/:snapshot/pcap"));
        assert_eq!(
            no_route("GET", "/wp-admin/setup-config/install.php"),
            "there is no route GET /wp-admin/setup-config/install.php; GET /mcp lists all routes"
        );
    }

    #[test]
    fn every_route_is_documented() {
        let page = include_str!("../../../docs/api.md");
        for route in ROUTES {
            // The methods of the service stand in one heading.
            let path = route
                .path
                .strip_prefix("/delayed_dissection.DelayedDissection/")
                .unwrap_or(route.path);
            assert!(page.contains(path), "docs/api.md does not tell of {}", route.path);
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        assert_eq!(
            wrong_method("PUT", "/mcp/snapshots"),
            "/mcp/snapshots does not take PUT; it takes GET, POST"
        );
        assert_eq!(
            wrong_method("POST", "/mcp/calls/a/1/2"),
            "/mcp/calls/a/1/2 does not take POST; it takes GET"
        );
    }
}
