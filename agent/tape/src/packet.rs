//! What a tape holds, as its writer takes it and its reader gives it back.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::DropReason;

/// Nanoseconds since 1970-01-01 UTC. Every time inside the project is one of these.
pub type Nanos = u64;

/// The pcapng/pcap link type of an interface: how a packet's first byte is to be read.
///
/// Numbers are those of the LINKTYPE registry (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LinkType(pub u16);

impl LinkType {
    /// An Ethernet header comes first.
    pub const ETHERNET: Self = Self(1);
    /// The packet starts at its IPv4 or IPv6 header; what `cgroup_skb` sees.
    pub const RAW: Self = Self(101);
    /// Linux "cooked" header, version 1 (`tcpdump -i any`).
    pub const LINUX_SLL: Self = Self(113);
    /// Linux "cooked" header, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

/// Which way a packet went, seen from the socket or interface that it was recorded at.
///
/// The values are those of `epb_flags` bits 0-1 (draft-ietf-opsawg-pcapng, section 4.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Direction {
    /// Not said by the capture.
    #[default]
    Unknown = 0,
    /// Inbound: the destination is local.
    In = 1,
    /// Outbound: the source is local.
    Out = 2,
}

/// One packet as a capture hands it to the tape. `data` borrows from the capture's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// When the hook saw it.
    pub ts: Nanos,
    /// The captured bytes, from the link type's first header on.
    pub data: &'a [u8],
    /// Length on the wire in bytes; more than `data.len()` when the capture cut it.
    pub orig_len: u32,
    /// How `data` begins.
    pub link: LinkType,
    /// Index of the interface in the node, as the kernel numbers it; 0 when unknown.
    pub ifindex: u32,
    /// Seen from the recording node.
    pub direction: Direction,
    /// Id of the owning socket's cgroup (v2); 0 when unknown.
    pub cgroup: u64,
    /// The kernel's cookie of the owning socket, unique until reboot; 0 when unknown.
    pub cookie: u64,
    /// Why the kernel threw it away before it came to a socket; `None` of one that went on, as far as is known.
    pub dropped: Option<DropReason>,
}

/// One packet in a [`Chunk`](crate::Chunk) that a reader has filled.
#[derive(Clone, Debug)]
pub struct PacketMeta {
    /// See [`Packet::ts`].
    pub ts: Nanos,
    /// Where the captured bytes stand in [`Chunk::bytes`](crate::Chunk).
    pub data: Range<u32>,
    /// See [`Packet::orig_len`].
    pub orig_len: u32,
    /// See [`Packet::link`].
    pub link: LinkType,
    /// Ordinal of the Interface Description in this file (not the kernel's index).
    pub interface: u32,
    /// See [`Packet::direction`].
    pub direction: Direction,
    /// See [`Packet::cgroup`].
    pub cgroup: u64,
    /// See [`Packet::cookie`].
    pub cookie: u64,
    /// See [`Packet::dropped`].
    pub dropped: Option<DropReason>,
    /// Offset in the file (of the inflated stream, when the file is compressed) of the block that holds it.
    pub at: u64,
}

/// Who a cgroup or an address belonged to, and from when. Written onto the tape, so that a snapshot needs no cluster.
///
/// It names one thing: the workload behind a cgroup; or, by addresses alone, a pod (`pod` is given), a service
/// (`service` is, `pod` is not) or a node (only `node` is); or, without addresses, a service by a port of every node, or what a
/// namespace says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// From when this holds.
    pub since: Nanos,
    /// Until when, if it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Nanos>,
    /// The cgroup (v2) id that this names; 0 when it is named by address alone.
    #[serde(default)]
    pub cgroup: u64,
    /// Path of the cgroup below the recorded subtree.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cgroup_path: String,
    /// Name of the process (`/proc/PID/comm`), when known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub process: String,
    /// Addresses that belong to it, without ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<std::net::IpAddr>,
    /// Ports at these addresses that are its own, where several may share an address; of a service without addresses, those at
    /// every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// Pod, e.g. `frontend-abc123`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Namespace of the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// What the pod's container is called.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// The container's id, as its runtime gave it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// What made the pod or the process: `Deployment`, `StatefulSet`, `DaemonSet`, `Job`, `CronJob`, …; `Unit` is one of systemd's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner_kind: String,
    /// Name of the owner, e.g. `checkout` or `nginx.service`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// The node that the pod runs on, or that is named.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// Service that the pod stands behind.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Labels, as in Kubernetes.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Annotations, as in Kubernetes; as many as their teller thought worth the room.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
}
