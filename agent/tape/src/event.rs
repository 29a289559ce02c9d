//! What happened beside the packets.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::Nanos;

/// Most bytes of an event's JSON; one that is longer has its message cut, and is refused if that does not help. Kubernetes
/// keeps messages to 1 KiB.
pub const EVENT_BYTES: usize = 16 << 10;

/// Something that happened beside the packets: a process ended, a connection was refused, Kubernetes has killed a pod.
///
/// What is not known is left empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened. It stands in the block before the JSON.
    #[serde(skip)]
    pub at: Nanos,
    /// What sort of thing.
    pub kind: EventKind,
    /// Whether it is something to look at when something went wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warning: bool,
    /// In a word, as its source has it: `BackOff`, `OOMKilled`, `ECONNREFUSED`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// In a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How often it has happened by now, where its source counts; else 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: u64,
    /// Id of the cgroup (v2) that it happened in, or 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cgroup: u64,
    /// The process, as the node numbers it, or 0.
    #[serde(default, skip_serializing_if = "is_none")]
    pub pid: u32,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub process: String,
    /// What the process exited with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Node that it happened on, where that is not the node of the tape.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The pod that it happened to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Namespace of the pod or the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Kind of the Kubernetes object that it happened to, e.g. `Deployment`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object_kind: String,
    /// Name of that object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// This end of the connection that it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<SocketAddr>,
}

/// Sorts of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A process was started (it has called `exec`).
    ProcessStart,
    /// A process has ended; `exit_code` or `signal` says how.
    ProcessExit,
    /// The kernel killed a process for want of memory.
    OomKill,
    /// A connection was refused by the other end.
    SocketRefused,
    /// A connection was reset by the other end.
    SocketReset,
    /// A connection, or its establishing, timed out.
    SocketTimeout,
    /// The kernel threw a packet away; `local` sent it, or was to receive it if that is known.
    PacketDropped,
    /// Processes waited for memory.
    MemoryPressure,
    /// An event of the Kubernetes API.
    Kubernetes,
    /// Of the recording itself: it began, lost packets, recorded less.
    Recorder,
    /// Of a sort that this version does not know.
    #[default]
    #[serde(other)]
    Other,
}

impl EventKind {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::ProcessStart => "process_start",
            Self::ProcessExit => "process_exit",
            Self::OomKill => "oom_kill",
            Self::SocketRefused => "socket_refused",
            Self::SocketReset => "socket_reset",
            Self::SocketTimeout => "socket_timeout",
            Self::PacketDropped => "packet_dropped",
            Self::MemoryPressure => "memory_pressure",
            Self::Kubernetes => "kubernetes",
            Self::Recorder => "recorder",
            Self::Other => "other",
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_none(pid: &u32) -> bool {
    *pid == 0
}
