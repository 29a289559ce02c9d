//! Why something cannot be done with a dissection; each with what to do instead.

use std::io;

use super::{JobStatus, MAX_PENDING};
use crate::catalogue::CatalogueError;
use crate::snapshots::BadName;

/// Why something cannot be done with a dissection.
#[derive(Debug, thiserror::Error)]
pub enum DissectionError {
    /// The name is no name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The snapshot has one of that name.
    #[error(
        "`{snapshot}` already has a dissection named `{name}` ({}); ask for its status, choose another name, or delete it",
        .status.as_str()
    )]
    Taken {
        /// The snapshot's name.
        snapshot: String,
        /// The dissection's name.
        name: String,
        /// How far that one is.
        status: JobStatus,
    },
    /// Enough are waiting.
    #[error("{MAX_PENDING} dissections are waiting already; wait until one of them is completed")]
    TooMany,
    /// Nothing goes by that.
    #[error("`{snapshot}` has no dissection `{asked}`; {}", or_none(.there))]
    Unknown {
        /// The snapshot's name.
        snapshot: String,
        /// What was asked for.
        asked: String,
        /// The dissections it has.
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
    /// It has ended already.
    #[error("the dissection `{name}` is {} already, there is nothing to stop", .status.as_str())]
    Ended {
        /// Its name.
        name: String,
        /// How it ended.
        status: JobStatus,
    },
    /// The catalogue gave no answer.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The data folder refuses.
    #[error("cannot {doing} the dissection: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() {
        "it has none yet: start one with POST /mcp/dissections".to_owned()
    } else {
        format!("it has: {}", names.join(", "))
    }
}
