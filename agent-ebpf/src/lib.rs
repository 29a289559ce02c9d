//! The records that the kernel programs hand to the agent, and the globals and counters that both sides
//! share.
//!
//! Every type is `repr(C)`, of fixed-size integers without hidden padding, with its size asserted: the two
//! sides are compiled by two compilers for two targets.

#![cfg_attr(target_arch = "bpf", no_std)]

pub mod headers;

pub mod filter;

pub mod choice;

/// What a record in the ring is: the value of [`PacketRecord::kind`], and the first field of any later kind.
pub mod kind {
    /// A packet that a socket received.
    pub const PACKET_IN: u32 = 1;
    /// A packet that a socket sent.
    pub const PACKET_OUT: u32 = 2;
    /// A frame that an interface received and that is not IP: it begins at its Ethernet header.
    pub const FRAME_IN: u32 = 3;
    /// A frame that an interface sent and that is not IP.
    pub const FRAME_OUT: u32 = 4;
    /// A process has called `exec`.
    pub const PROCESS_START: u32 = 16;
    /// The last thread of a process ends; `status` is what its parent will wait for.
    pub const PROCESS_EXIT: u32 = 17;
    /// A process is killed for want of memory.
    pub const OOM_KILL: u32 = 18;
    /// A TCP connection, or the try at one, ends with an error; `status` is its number.
    pub const SOCKET_ERROR: u32 = 19;
    /// A cgroup is made: a [`super::CgroupRecord`].
    pub const CGROUP_MADE: u32 = 20;
    /// A packet of IP was dropped, for the reason in `status`; the first of its kind, then one each
    /// [`DROPS_TOLD_EVERY`](super::DROPS_TOLD_EVERY). `local` is who sent it, unless `state` says [`RECEIVED`](super::RECEIVED).
    pub const PACKET_THROWN_AWAY: u32 = 21;
    /// A packet that was on its way to a socket and that the kernel dropped before. What is added is why: the number that
    /// the agent has for it, 1 and more.
    pub const PACKET_DROPPED: u32 = 0x100;

    /// The number of the reason for which a packet was dropped; 0 if it was not.
    #[inline(always)]
    pub fn drop_reason(kind: u32) -> u8 {
        if kind & !0xff == PACKET_DROPPED {
            kind as u8
        } else {
            0
        }
    }

    /// Whether it is a packet that came to the node or the socket, and not one that left.
    #[inline(always)]
    pub fn is_inward(kind: u32) -> bool {
        matches!(kind, PACKET_IN | FRAME_IN) || drop_reason(kind) != 0
    }

    /// Whether it begins at its Ethernet header, not at that of IP.
    #[inline(always)]
    pub fn is_frame(kind: u32) -> bool {
        matches!(kind, FRAME_IN | FRAME_OUT)
    }

    /// Whether it is a packet at all.
    #[inline(always)]
    pub fn is_packet(kind: u32) -> bool {
        is_inward(kind) || matches!(kind, PACKET_OUT | FRAME_OUT)
    }
}

/// The head of one recorded packet; `captured` bytes from the IP header on follow it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketRecord {
    /// One of [`kind`].
    pub kind: u32,
    /// Bytes of the packet that follow.
    pub captured: u32,
    /// `CLOCK_BOOTTIME` in nanoseconds when the hook saw the packet.
    pub time: u64,
    /// Id of the socket's cgroup.
    pub cgroup: u64,
    /// Cookie of the socket.
    pub cookie: u64,
    /// Length of the packet, from the IP header on.
    pub orig_len: u32,
    /// Index of the interface, in the network namespace of the socket.
    pub ifindex: u32,
}

/// Bytes of a [`PacketRecord`].
pub const PACKET_RECORD_BYTES: usize = 40;
const _: () = assert!(size_of::<PacketRecord>() == PACKET_RECORD_BYTES);

/// The longest packet that is recorded whole. GSO and GRO make packets of 64 KiB and, on the loopback
/// interface or where BIG TCP is on, several times that; this is what capture files hold at most. Of a longer
/// packet the head is recorded and it counts as truncated.
pub const MAX_PACKET_BYTES: usize = 256 * 1024;

/// What is left of a packet when the ring fills: room for the headers (IPv6's 40 bytes and TCP's, at most 60) and
/// the first word of what they carry.
pub const HEAD_BYTES: u32 = 128;

/// Packets above this length are taken for bulk, whose bodies go first: more than any frame of 1500 bytes, less than
/// what segmentation offload makes of a transfer. Up to [`SMALL_BYTES`] nothing is gained by cutting.
pub const BULK_BYTES: u32 = 4096;

/// See [`BULK_BYTES`].
pub const SMALL_BYTES: u32 = 256;

/// The least of some sizes that holds so many bytes, or the largest.
///
/// A chain of branches, since the kernel wants the size of a reservation to be a constant: behind each of them it is.
macro_rules! least_of {
    ($bytes:expr; $($size:literal)+; $largest:expr) => {
        $(if $bytes <= $size { $size } else)+ { $largest }
    };
}

/// The room that is made for a packet: at most 40 bytes or a fifth more than it needs. That is taken of the ring, not of
/// the tape, and not written to. Every size is one more way for the verifier to walk.
#[inline(always)]
pub fn room_for(bytes: u32) -> u32 {
    if bytes <= 1504 {
        return least_of!(bytes;
            40 56 72 88 112 136 168 200 232 272 312 360 416 480 552 640 744 864 1000 1160 1344;
            1504);
    }
    least_of!(bytes;
        1816 2112 2456 2856 3320 3864 4496 5232 6088 7088 8256 9216 11200 13048 15200 17704
        20624 24024 27984 32600 37976 44240 51536 60032 65536 69936 81472 94912 110568 128808
        150056 174808 203648 237248;
        MAX_PACKET_BYTES as u32)
}

/// Interfaces that are recorded on. A node has some hundreds of pods (Kubernetes: 110), mostly with one each.
pub const MAX_INTERFACES: u32 = 4096;

/// An interface among those of all network namespaces, in each of which indices count anew.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct InterfaceKey {
    /// Its Ethernet address, as it stands in a frame, and two bytes of 0.
    pub address: u64,
    /// Its index.
    pub ifindex: u64,
}

const _: () = assert!(size_of::<InterfaceKey>() == 16);

/// Sub-trees of the cgroup hierarchy that can be left out of the recording. The check is a loop in the kernel
/// over every packet, so there are few.
pub const MAX_EXCLUSIONS: usize = 8;

/// A sub-tree of the hierarchy: the cgroup `id` at `level`, and all below it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exclusion {
    /// Id of the sub-tree's top; 0 marks an unused entry.
    pub id: u64,
    /// How far the top is below the hierarchy's root, which has level 0.
    pub level: u32,
    /// Unused, for alignment.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Exclusion>() == 16);

/// What the kernel programs count, per CPU.
///
/// `seen = handed over + excluded + filtered_out + ruled_out + sampled_out + shed_flows + ring_full + load_failed`, always.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// Packets that the hooks were called for.
    pub seen: u64,
    /// Bytes of those packets.
    pub seen_bytes: u64,
    /// Packets of excluded cgroups.
    pub excluded: u64,
    /// Packets lost because the ring had no room.
    pub ring_full: u64,
    /// Packets lost because their bytes could not be read.
    pub load_failed: u64,
    /// Packets of which only the beginning was recorded: [`MAX_PACKET_BYTES`], what was chosen, of those shed
    /// [`HEAD_BYTES`], of those that the kernel dropped what can be read of them. Not lost.
    pub truncated: u64,
    /// Packets whose end was left out because the ring filled, or to keep the budget.
    pub shed: u64,
    /// Packets that the filter did not let through.
    pub filtered_out: u64,
    /// Packets left out by the rule for their workload.
    pub ruled_out: u64,
    /// Packets of flows that are not of the share that was asked for.
    pub sampled_out: u64,
    /// Packets of flows left out to keep the budget.
    pub shed_flows: u64,
}

const _: () = assert!(size_of::<KernelCounters>() == 88);

/// What an agent leaves to the next one, in a map that outlives it: up to where the ring is on the tape, and what was
/// counted up to there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// The bit by which programs on interfaces and on sockets tell each other what is recorded. Programs of both agents
    /// run side by side for a moment, so the next one goes on with it.
    pub mark: u64,
    /// Position in the ring up to which all is on the tape.
    pub position: u64,
    /// Which place of the tape that is. The agent's own numbers.
    pub tape: [u64; 3],
    /// UTC in nanoseconds when that was so; 0 if it never was.
    pub at: u64,
    /// What was counted by then. Of `seen`, what is accounted for: on the tape, excluded or told as lost.
    pub told: KernelCounters,
}

const _: () = assert!(size_of::<Handover>() == 48 + size_of::<KernelCounters>());

/// To be raised whenever records, counters or maps mean something else than before, though they may be as long: an
/// agent takes over the ring of one with the same version and lengths, and replaces all of another.
const LAYOUT: usize = 2;

/// What tells layouts apart: the version and the lengths of what is shared.
pub const LAYOUT_VERSION: usize =
    LAYOUT * 1_000_000 + size_of::<PacketRecord>() * 1_000 + size_of::<KernelCounters>();

/// Bytes of a process's name, as the kernel keeps it.
pub const COMM_BYTES: usize = 16;

/// Something that happened to a process or one of its connections. What is not known is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventRecord {
    /// One of [`kind`].
    pub kind: u32,
    /// The process, as the first PID namespace numbers it.
    pub pid: u32,
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub time: u64,
    /// Id of the process's or the socket's cgroup.
    pub cgroup: u64,
    /// A wait status, the number of an error, or the agent's number of the reason why a packet was dropped.
    pub status: u32,
    /// `AF_INET` or `AF_INET6`, of a socket.
    pub family: u16,
    /// In network order.
    pub local_port: u16,
    /// In network order.
    pub remote_port: u16,
    /// The state that the connection was in, as the kernel numbers them; of a packet its protocol and [`RECEIVED`].
    pub state: u16,
    /// How often it happened since it was told last; 0 where each is told.
    pub count: u32,
    /// The process's name, filled up with zeros.
    pub comm: [u8; COMM_BYTES],
    /// In network order; an IPv4 address takes the first four bytes.
    pub local: [u8; 16],
    /// The same of the other end.
    pub remote: [u8; 16],
}

/// Bytes of an [`EventRecord`].
pub const EVENT_RECORD_BYTES: usize = 88;
const _: () = assert!(size_of::<EventRecord>() == EVENT_RECORD_BYTES);

/// The bit of [`EventRecord::state`] of a packet that a socket was to receive: `local` is that socket's end.
pub const RECEIVED: u16 = 1 << 15;

/// How often packets are told that are dropped again and again, in nanoseconds.
pub const DROPS_TOLD_EVERY: u64 = 10_000_000_000;

/// Senders, targets and reasons that are told for the first time in a second, at most: as many as warnings of one kind go onto
/// the tape.
pub const DROPS_PER_SECOND: u64 = 200;

/// Longest path of a cgroup that is told whole. A kubelet in a container makes some 300 bytes.
pub const CGROUP_PATH_BYTES: usize = 512;

/// A cgroup that is made.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupRecord {
    /// [`kind::CGROUP_MADE`].
    pub kind: u32,
    /// Bytes of the path, without the zero that ends it.
    pub length: u32,
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub time: u64,
    /// Its id.
    pub cgroup: u64,
    /// Its path below the hierarchy's root.
    pub path: [u8; CGROUP_PATH_BYTES],
}

/// Bytes of a [`CgroupRecord`] before its path.
pub const CGROUP_RECORD_HEAD: usize = 24;
const _: () = assert!(size_of::<CgroupRecord>() == CGROUP_RECORD_HEAD + CGROUP_PATH_BYTES);

/// Where the kernel that runs keeps what the programs read, in bytes from the beginning of each structure. The loader
/// reads it from the kernel's own description of its types, since it differs from kernel to kernel.
///
/// An array of numbers, so that both sides agree on it without a promise about bytes.
pub mod layout {
    /// `task_struct.tgid`
    pub const TASK_TGID: usize = 0;
    /// `task_struct.group_leader`
    pub const TASK_LEADER: usize = 1;
    /// `task_struct.signal`
    pub const TASK_SIGNAL: usize = 2;
    /// `task_struct.exit_code`
    pub const TASK_EXIT_CODE: usize = 3;
    /// `task_struct.comm`
    pub const TASK_COMM: usize = 4;
    /// `task_struct.cgroups`
    pub const TASK_CGROUPS: usize = 5;
    /// `css_set.dfl_cgrp`
    pub const SET_CGROUP: usize = 6;
    /// `signal_struct.live`
    pub const SIGNAL_LIVE: usize = 7;
    /// `signal_struct.flags`
    pub const SIGNAL_FLAGS: usize = 8;
    /// `signal_struct.group_exit_code`
    pub const SIGNAL_EXIT_CODE: usize = 9;
    /// `cgroup.kn`
    pub const CGROUP_NODE: usize = 10;
    /// `cgroup.level`
    pub const CGROUP_LEVEL: usize = 11;
    /// `cgroup.ancestors`, or `cgroup.ancestor_ids` before Linux 6.1
    pub const CGROUP_ANCESTORS: usize = 12;
    /// 1 where those are ids, 0 where they are pointers
    pub const ANCESTORS_ARE_IDS: usize = 13;
    /// `cgroup.root`
    pub const CGROUP_ROOT: usize = 14;
    /// `cgroup_root.hierarchy_id`
    pub const ROOT_HIERARCHY: usize = 15;
    /// `kernfs_node.id`
    pub const NODE_ID: usize = 16;
    /// `sock.sk_cgrp_data`
    pub const SOCK_CGROUP: usize = 17;
    /// `sock.sk_err`
    pub const SOCK_ERROR: usize = 18;
    /// `sock.sk_protocol`
    pub const SOCK_PROTOCOL: usize = 19;
    /// `sock_common.skc_family`; a `sock` begins with its `sock_common`
    pub const SOCK_FAMILY: usize = 20;
    /// `inet_sock.inet_sport`, which stays when the port is given back; an `inet_sock` begins with its `sock`
    pub const SOCK_LOCAL_PORT: usize = 21;
    /// `sock_common.skc_dport`
    pub const SOCK_REMOTE_PORT: usize = 22;
    /// `sock_common.skc_rcv_saddr`
    pub const SOCK_LOCAL: usize = 23;
    /// `sock_common.skc_daddr`
    pub const SOCK_REMOTE: usize = 24;
    /// `sock_common.skc_v6_rcv_saddr`, 0 without IPv6
    pub const SOCK_LOCAL_6: usize = 25;
    /// `sock_common.skc_v6_daddr`, 0 without IPv6
    pub const SOCK_REMOTE_6: usize = 26;
    /// How many there are.
    pub const FIELDS: usize = 27;
}

/// Where the kernel that runs keeps what is read of a packet that it drops, as [`layout`] has it of other things.
pub mod packet_layout {
    /// `sk_buff.head`
    pub const HEAD: usize = 0;
    /// `sk_buff.data`
    pub const DATA: usize = 1;
    /// `sk_buff.len`
    pub const LENGTH: usize = 2;
    /// `sk_buff.data_len`: what of it is not in one piece with the headers
    pub const ELSEWHERE: usize = 3;
    /// `sk_buff.network_header`, from `head` on
    pub const NETWORK: usize = 4;
    /// `sk_buff.protocol`
    pub const PROTOCOL: usize = 5;
    /// `sk_buff.tc_index`
    pub const TC_INDEX: usize = 6;
    /// `sk_buff.skb_iif`: index of the interface that received it, or 0
    pub const RECEIVED_BY: usize = 7;
    /// `sk_buff.dev`
    pub const INTERFACE: usize = 8;
    /// `net_device.ifindex`
    pub const INTERFACE_INDEX: usize = 9;
    /// `net_device.dev_addr`
    pub const INTERFACE_ADDRESS: usize = 10;
    /// `sk_buff.sk`
    pub const SOCKET: usize = 11;
    /// `sock_common.skc_state`; a `sock` begins with its `sock_common`
    pub const SOCKET_STATE: usize = 12;
    /// How many there are.
    pub const FIELDS: usize = 13;
}

/// Reasons to drop a packet that the kernel has of its own; those of its modules are numbered from 65,536 on.
pub const DROP_REASONS: usize = 256;

/// What the programs of events count, per CPU: an array of numbers, by these indices.
pub mod counted {
    /// Events that the programs saw, in the recorded sub-tree.
    pub const SEEN: usize = 0;
    /// Of these, lost because the ring had no room.
    pub const LOST: usize = 1;
    /// Packets dropped that were not told because there were too many in a second.
    pub const HELD_BACK: usize = 2;
    /// How many there are.
    pub const COUNTERS: usize = 3;
}
