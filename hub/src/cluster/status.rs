//! How the watches stand, for whoever asks what is missing.

use serde::Serialize;
use wiretape_tape::Nanos;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Services.
    Services,
    /// Endpoint slices.
    Endpoints,
    /// Nodes.
    Nodes,
    /// Namespaces.
    Namespaces,
    /// Events.
    Events,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Services,
        Self::Endpoints,
        Self::Nodes,
        Self::Namespaces,
        Self::Events,
    ];

    /// As programs read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Endpoints => "endpoints",
            Self::Nodes => "nodes",
            Self::Namespaces => "namespaces",
            Self::Events => "events",
        }
    }

    /// As people read it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Endpoints => "endpoint slices",
            Self::Nodes => "nodes",
            Self::Namespaces => "namespaces",
            Self::Events => "events",
        }
    }
}

/// How one watch stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Watched {
    /// Whether all objects were told once, so that what is not known is not there.
    pub complete: bool,
    /// When the API server last told anything.
    #[serde(skip)]
    pub last: Option<Nanos>,
    /// Why it cannot be watched now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Times that all objects were listed: once, and after each time that the server could not go on from where the
    /// watch broke.
    pub lists: u64,
    /// Objects that these listings told.
    pub listed: u64,
    /// Changes that the watch told.
    pub changes: u64,
    /// Errors, each followed by a pause that grows to half a minute.
    pub errors: u64,
}

/// How all of it stands.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Each watch.
    pub watches: Vec<(Kind, Watched)>,
    /// Names that hold now.
    pub names: usize,
    /// Names that found no room.
    pub names_refused: u64,
    /// Events taken since the start.
    pub events: u64,
    /// Events and names that could not be written.
    pub lost: u64,
    /// Bytes on the tape.
    pub bytes: u64,
    /// Requests to the API server.
    pub requests: u64,
    /// Bytes of its answers' bodies.
    pub received: u64,
}

impl Status {
    /// What is missing, for people.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self
            .watches
            .iter()
            .filter_map(|(kind, watched)| {
                let kind = kind.text();
                match (&watched.error, watched.complete) {
                    (Some(error), true) => {
                        Some(format!("changes of Kubernetes' {kind} are not seen now: {error}"))
                    }
                    (Some(error), false) => Some(format!("Kubernetes' {kind} are not known: {error}")),
                    (None, false) => Some(format!("Kubernetes' {kind} have not been listed yet")),
                    (None, true) => None,
                }
            })
            .collect();
        if self.names_refused > 0 {
            problems.push(format!(
                "{} names of services, endpoints and nodes found no room",
                self.names_refused
            ));
        }
        if self.lost > 0 {
            problems.push(format!(
                "{} names and events of Kubernetes could not be written",
                self.lost
            ));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_kind_by_kind() {
        let fine = Watched {
            complete: true,
            ..Watched::default()
        };
        let broken = |complete| Watched {
            complete,
            error: Some("403".to_owned()),
            ..Watched::default()
        };
        let status = Status {
            watches: vec![
                (Kind::Services, fine),
                (Kind::Nodes, broken(true)),
                (Kind::Events, broken(false)),
                (Kind::Endpoints, Watched::default()),
            ],
            names_refused: 3,
            ..Status::default()
        };
        assert_eq!(
            status.problems(),
            [
                "changes of Kubernetes' nodes are not seen now: 403",
                "Kubernetes' events are not known: 403",
                "Kubernetes' endpoint slices have not been listed yet",
                "3 names of services, endpoints and nodes found no room",
            ]
        );
    }
}
