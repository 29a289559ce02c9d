//! All routes in one table: for discovery, for the description that programs read, for telling a caller who missed one
//! which are near, and for refusing parameters that are none.

mod taken;

mod table;

mod openapi;

use axum::http::Method;

use super::ApiError;
use super::param::{Param, TIME_ZONE};
use crate::query::nearest;
use crate::snapshots::shown;
pub(super) use openapi::openapi;
pub(super) use table::ROUTES;
pub(super) use taken::RECORDING;

/// One route.
#[derive(Clone, Copy)]
pub(super) struct Route {
    /// HTTP method.
    pub(super) method: &'static str,
    /// Path, with `:name` for its variable parts.
    pub(super) path: &'static str,
    /// What it is for.
    pub(super) description: &'static str,
    /// What it takes, in its path, query or body.
    pub(super) params: &'static [Param],
    /// What its good answers are.
    pub(super) gives: Gives,
}

/// What a good answer is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// A JSON object.
    Json,
    /// A capture file.
    Capture,
    /// Counters for Prometheus.
    Counters,
    /// What MCP's transport says.
    Mcp,
    /// A `.proto`.
    Proto,
    /// Calls over a WebSocket.
    Entries,
}

/// Suggestions in one answer.
const MAX_NEAR: usize = 3;

/// The route of a request.
pub(super) fn of(method: &Method, path: &str) -> Option<&'static Route> {
    let path = path.strip_prefix("/api").unwrap_or(path);
    ROUTES
        .iter()
        .find(|route| route.method == method.as_str() && fits(route.path, path))
}

/// Answers in JSON that have no times in them.
const TIMELESS: [&str; 7] = [
    "/mcp/raw-capture",
    "/mcp/dissection/enable",
    "/mcp/dissection/disable",
    "/mcp/dissections/:snapshot/:name/stop",
    "/mcp/schema",
    "/mcp/tools/call",
    // It takes what its tool takes.
    table::TOOL,
];

impl Route {
    /// All that it takes.
    pub(super) fn takes(&self) -> impl Iterator<Item = &'static Param> + use<> {
        let times = self.gives == Gives::Json
            && self.path.starts_with("/mcp/")
            && self.method != "DELETE"
            && !TIMELESS.contains(&self.path);
        self.params.iter().chain(times.then_some(&TIME_ZONE))
    }

    /// Refuses what is no parameter here: a filter that is misspelt must not let everything through.
    pub(super) fn check<'n>(&self, mut given: impl Iterator<Item = &'n str>) -> Result<(), ApiError> {
        // Arguments of tools stand beside the name; the tool says what is none of its own.
        if self.path == table::TOOL {
            return Ok(());
        }
        let known = || {
            self.takes()
                .flat_map(|param| std::iter::once(param.name).chain(param.also.iter().copied()))
        };
        let Some(unknown) = given.find(|name| known().all(|known| known != *name)) else {
            return Ok(());
        };
        let meant = nearest(unknown, known()).map(|name| format!("; did you mean `{name}`?"));
        let takes: Vec<&str> = self.takes().map(|param| param.name).collect();
        let takes = match takes.as_slice() {
            [] => "it takes none".to_owned(),
            some => format!("it takes {}", some.join(", ")),
        };
        Err(ApiError::bad_request(format!(
            "`{}` is not a parameter of {} {}{} {takes}",
            shown(unknown),
            self.method,
            self.path,
            meant.as_deref().unwrap_or(";"),
        )))
    }
}

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
        let page = include_str!("../../../../docs/api.md");
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
