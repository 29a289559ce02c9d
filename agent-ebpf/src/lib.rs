//! The records that the kernel programs hand to the agent, and the globals and counters that both sides
//! share.
//!
//! Every type is `repr(C)`, of fixed-size integers without hidden padding, with its size asserted: the two
//! sides are compiled by two compilers for two targets.

#![cfg_attr(target_arch = "bpf", no_std)]

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
/// `seen = handed over + excluded + ring_full + load_failed`, always.
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
    /// Packets of which only the beginning was recorded: [`MAX_PACKET_BYTES`] or, of those shed, [`HEAD_BYTES`].
    /// Not lost.
    pub truncated: u64,
    /// Packets whose end was left out because the ring filled.
    pub shed: u64,
}

const _: () = assert!(size_of::<KernelCounters>() == 56);
