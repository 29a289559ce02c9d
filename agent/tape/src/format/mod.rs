//! The numbers of the file format, and how its blocks are put together. `docs/tape-format.md` tells it in words.
//!
//! Sections named here are those of draft-ietf-opsawg-pcapng.

pub(crate) mod encode;

/// Private Enterprise Number of the custom blocks and options: the one that RFC 5612 sets aside for documentation,
/// until the project has its own.
pub const PEN: u32 = 32473;

/// Longest block that is read, in bytes. Wireshark's limit is the same order; ours keeps a hostile length from
/// costing memory, and leaves room for a names block of [`NAMES_BYTES`](crate::NAMES_BYTES).
pub const MAX_BLOCK: usize = 16 << 20;

/// Most bytes of one packet that are recorded: the largest snap length that libpcap and Wireshark accept.
pub const MAX_CAPTURED: usize = 262_144;

/// Block types (section 10.1).
pub(crate) mod block {
    /// Section Header (4.1); reads the same in both byte orders.
    pub const SECTION: u32 = 0x0A0D_0D0A;
    /// Interface Description (4.2).
    pub const INTERFACE: u32 = 1;
    /// Packet, obsolete (appendix A).
    pub const PACKET: u32 = 2;
    /// Simple Packet (4.4).
    pub const SIMPLE: u32 = 3;
    /// Name Resolution (4.5).
    pub const NAMES: u32 = 4;
    /// Interface Statistics (4.6).
    pub const STATISTICS: u32 = 5;
    /// Enhanced Packet (4.3).
    pub const ENHANCED: u32 = 6;
    /// Decryption Secrets (4.7).
    pub const SECRETS: u32 = 0xA;
    /// Custom, may be copied into other files (4.8).
    pub const CUSTOM: u32 = 0xBAD;
    /// Custom, must not be copied.
    pub const CUSTOM_PRIVATE: u32 = 0x4000_0BAD;
}

/// Option codes (3.5 and each block's own list).
pub(crate) mod option {
    pub const END: u16 = 0;
    pub const COMMENT: u16 = 1;
    /// Custom binary option that may be copied.
    pub const CUSTOM: u16 = 2989;
    /// The same, not to be copied into other files.
    pub const CUSTOM_PRIVATE: u16 = 19373;

    pub const SECTION_HARDWARE: u16 = 2;
    pub const SECTION_APPLICATION: u16 = 4;

    pub const INTERFACE_NAME: u16 = 2;
    pub const INTERFACE_DESCRIPTION: u16 = 3;
    pub const INTERFACE_TSRESOL: u16 = 9;
    pub const INTERFACE_TSOFFSET: u16 = 14;

    pub const PACKET_FLAGS: u16 = 2;

    pub const STATISTICS_START: u16 = 2;
    pub const STATISTICS_END: u16 = 3;
    pub const STATISTICS_RECEIVED: u16 = 4;
    pub const STATISTICS_DROPPED: u16 = 5;
}

/// Byte-order magic of a section (4.1).
pub(crate) const BYTE_ORDER: u32 = 0x1A2B_3C4D;

/// What our custom blocks and options begin with after the PEN: "WT", what it is, and the version of its form.
pub(crate) mod tag {
    /// Custom option of an Enhanced Packet: cgroup u64, cookie u64, both little-endian.
    pub const PACKET: [u8; 4] = *b"WTp\x01";
    /// Custom option of an Enhanced Packet: the name of the reason for which the kernel dropped it.
    pub const DROPPED: [u8; 4] = *b"WTd\x01";
    /// Custom option of Interface Statistics: zeros, so that the block ends where a sector of the disk does.
    pub const FILLER: [u8; 4] = *b"WTf\x01";
    /// Custom block: a JSON array of names.
    pub const NAMES: [u8; 4] = *b"WTn\x01";
    /// Custom block: a time u64, little-endian, then a JSON object, an event.
    pub const EVENT: [u8; 4] = *b"WTe\x01";
    /// Custom block: a JSON object, the index of a sealed segment.
    pub const INDEX: [u8; 4] = *b"WTi\x01";
}

/// What `shb_userappl` of our files starts with.
pub(crate) const APPLICATION: &str = "wiretape";

/// Bytes that follow `len` so that the next field stands on 32 bits (3.1).
pub(crate) fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}
