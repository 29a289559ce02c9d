//! Why something cannot be done with a snapshot; each with what to do instead.

use std::io;

use super::name::BadName;
use super::window::WindowError;
use super::{MAX_COLLECTING, Status};
use crate::catalogue::CatalogueError;
use crate::nodes::FindError;

/// Why something cannot be done with a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The name is no name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Another snapshot has it.
    #[error("there is already a snapshot named `{0}`; choose another name, or delete it first")]
    Taken(String),
    /// The window is none, or there is no tape for it.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// A node was asked for that there is not.
    #[error("there is no node `{asked}`; the nodes are: {}", .there.join(", "))]
    UnknownNode {
        /// The node asked for.
        asked: String,
        /// The nodes there are.
        there: Vec<String>,
    },
    /// The hub was told of no agents.
    #[error("the hub knows no agents; start it with --node http://HOST:8897 or --nodes-dns NAME:8897")]
    NoNodes,
    /// No agent answers.
    #[error("no node answers: {}; check that the agents run and can be reached from the hub", .0.join("; "))]
    NoAnswer(Vec<String>),
    /// The agents cannot be found.
    #[error(transparent)]
    Find(#[from] FindError),
    /// Enough are being collected.
    #[error("{MAX_COLLECTING} snapshots are being collected already; wait until one of them is completed")]
    TooMany,
    /// Nothing goes by that.
    #[error("there is no snapshot `{asked}`; {}", or_none(.there))]
    Unknown {
        /// Id, name or start of an id.
        asked: String,
        /// The newest snapshots there are.
        there: Vec<String>,
    },
    /// Several do.
    #[error("`{asked}` is the start of several ids: {}; write one in full", .ids.join(", "))]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// The ids.
        ids: Vec<String>,
    },
    /// It is not whole yet, or failed.
    #[error("the snapshot `{name}` is {}; {advice}", .status.as_str())]
    NotCompleted {
        /// Its name.
        name: String,
        /// How far it is.
        status: Status,
        /// What to do.
        advice: String,
    },
    /// The catalogue gave no answer.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The data folder refuses.
    #[error("cannot {doing} the snapshot: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() {
        "there are none yet: create one with POST /mcp/snapshots".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    }
}
