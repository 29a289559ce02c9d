//! Who was behind an address or a cgroup, and when.

use serde::{Deserialize, Serialize};
use wiretape_tape::Name;

/// A name and the node whose agent told it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeName {
    /// The node.
    pub node: String,
    /// The name.
    #[serde(flatten)]
    pub name: Name,
}

/// All names of a snapshot, to look up in.
#[derive(Debug, Default)]
pub struct Names;
