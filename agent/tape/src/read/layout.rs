//! What must be known of a file to read any single packet of it: its kind, its sections and their interfaces.

use serde::{Deserialize, Serialize};

use super::decode::PCAP_HEADER;
use crate::format::MAX_CAPTURED;
use crate::{LinkType, Nanos};

/// Most sections, and most interfaces, that are kept of one file: a file of more is hostile or broken.
pub(super) const MAX_TABLE: usize = 65_536;

const NANOS: u128 = 1_000_000_000;

/// How a capture file is laid out. It can be kept (as JSON) and given back to
/// [`BlockReader::with_layout`](crate::BlockReader::with_layout), which then need not read the file through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    pub(super) kind: Kind,
    /// In file order. Of a classic pcap file: one.
    pub(super) sections: Vec<Section>,
    /// Of all sections, in file order.
    pub(super) interfaces: Vec<InterfaceInfo>,
}

impl Layout {
    pub(super) fn pcapng() -> Self {
        Self {
            kind: Kind::Pcapng,
            sections: Vec::new(),
            interfaces: Vec::new(),
        }
    }

    /// Of classic pcap: the records begin behind the file's header.
    pub(super) fn pcap(order: Order, link: LinkType, clock: Clock) -> Self {
        let interface = InterfaceInfo {
            link,
            name: String::new(),
            clock,
            snap: 0,
        };
        let section = Section {
            at: PCAP_HEADER as u64,
            order,
            first_interface: 0,
        };
        Self {
            kind: Kind::Pcap,
            sections: vec![section],
            interfaces: vec![interface],
        }
    }

    /// Of one of our own segments, as its index tells.
    pub(super) fn segment(interfaces: Vec<InterfaceInfo>) -> Self {
        let section = Section {
            at: 0,
            order: Order::Little,
            first_interface: 0,
        };
        Self {
            kind: Kind::Pcapng,
            sections: vec![section],
            interfaces,
        }
    }

    /// The interfaces of the file, all sections.
    pub fn interfaces(&self) -> &[InterfaceInfo] {
        &self.interfaces
    }

    /// The section being read, with its interfaces so far.
    pub(super) fn current(&self) -> Option<View<'_>> {
        let section = self.sections.last()?;
        let interfaces = self.interfaces.get(section.first_interface as usize..)?;
        Some(View {
            order: section.order,
            first_interface: section.first_interface,
            interfaces,
        })
    }

    /// The section that holds offset `at`, with its interfaces.
    pub(super) fn section_at(&self, at: u64) -> Option<View<'_>> {
        let after = self.sections.partition_point(|section| section.at <= at);
        let section = self.sections.get(after.checked_sub(1)?)?;
        let first = section.first_interface as usize;
        let end = self
            .sections
            .get(after)
            .map_or(self.interfaces.len(), |next| next.first_interface as usize);
        let interfaces = self.interfaces.get(first..end)?;
        Some(View {
            order: section.order,
            first_interface: section.first_interface,
            interfaces,
        })
    }
}

/// One section, as its packets see it.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub order: Order,
    pub first_interface: u32,
    pub interfaces: &'a [InterfaceInfo],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Pcapng,
    Pcap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Section {
    pub at: u64,
    pub order: Order,
    pub first_interface: u32,
}

/// An interface that packets were recorded at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceInfo {
    /// How its packets begin.
    pub link: LinkType,
    /// As the capture calls it; empty when it does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "Clock::is_nanos")]
    pub(super) clock: Clock,
    /// Most bytes kept of a packet; 0 for no limit. Only a Simple Packet needs it.
    #[serde(default = "our_snap", skip_serializing_if = "is_our_snap")]
    pub(super) snap: u32,
}

impl InterfaceInfo {
    /// An interface of ours: nanosecond stamps.
    pub fn new(link: LinkType, name: &str) -> Self {
        Self {
            link,
            name: name.to_owned(),
            clock: Clock::default(),
            snap: our_snap(),
        }
    }
}

/// Byte order of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    pub fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    pub fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }
}

/// The clock of an interface: what one unit of its stamps is, and where they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clock {
    /// `if_tsresol` (4.2): a power of ten, or of two with the highest bit set.
    resolution: u8,
    /// `if_tsoffset`: seconds to be added.
    offset: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            resolution: 9,
            offset: 0,
        }
    }
}

impl Clock {
    /// What an Interface Description without `if_tsresol` means.
    pub const MICROS: Self = Self {
        resolution: 6,
        offset: 0,
    };
    pub const NANOS: Self = Self {
        resolution: 9,
        offset: 0,
    };

    pub fn with_resolution(self, resolution: u8) -> Self {
        Self { resolution, ..self }
    }

    pub fn with_offset(self, offset: i64) -> Self {
        Self { offset, ..self }
    }

    fn is_nanos(&self) -> bool {
        *self == Self::NANOS
    }

    /// A stamp in nanoseconds since 1970; bent to what 64 bits can hold.
    pub fn nanos(self, stamp: u64) -> Nanos {
        match self {
            Self {
                resolution: 9,
                offset: 0,
            } => stamp,
            Self {
                resolution: 6,
                offset: 0,
            } => stamp.saturating_mul(1000),
            _ => self.any_nanos(stamp),
        }
    }

    fn any_nanos(self, stamp: u64) -> Nanos {
        let power = u32::from(self.resolution & 0x7f);
        let units = if self.resolution & 0x80 == 0 {
            10u128.checked_pow(power)
        } else {
            1u128.checked_shl(power)
        };
        // Units too small for 128 bits: not even 2^64 of them make a nanosecond.
        let since = units.map_or(0, |units| u128::from(stamp) * NANOS / units);
        let offset = i128::from(self.offset) * NANOS as i128;
        let nanos = (since as i128).saturating_add(offset).max(0);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// What the tape's own interfaces say.
fn our_snap() -> u32 {
    MAX_CAPTURED as u32
}

fn is_our_snap(snap: &u32) -> bool {
    *snap == our_snap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_of_every_resolution() {
        let clock = |resolution| Clock::MICROS.with_resolution(resolution);
        assert_eq!(Clock::MICROS.nanos(1_500_000), 1_500_000_000);
        assert_eq!(clock(9).nanos(7), 7);
        assert_eq!(clock(0).nanos(3), 3_000_000_000);
        assert_eq!(clock(3).nanos(1500), 1_500_000_000);
        assert_eq!(clock(12).nanos(7_999), 7);
        // Powers of two: 2^-10 s and 2^-32 s.
        assert_eq!(clock(0x80 | 10).nanos(1536), 1_500_000_000);
        assert_eq!(clock(0x80 | 32).nanos(3 << 31), 1_500_000_000);
        // Absurd ones neither overflow nor panic.
        for resolution in 0..=255 {
            clock(resolution).nanos(u64::MAX);
            clock(resolution).with_offset(i64::MIN).nanos(u64::MAX);
            clock(resolution).with_offset(i64::MAX).nanos(u64::MAX);
        }
        assert_eq!(clock(127).nanos(u64::MAX), 0);
    }

    #[test]
    fn stamps_with_an_offset() {
        assert_eq!(Clock::NANOS.with_offset(5).nanos(1), 5_000_000_001);
        assert_eq!(Clock::NANOS.with_offset(-1).nanos(1_000_000_002), 2);
        assert_eq!(Clock::NANOS.with_offset(-9).nanos(1), 0);
    }
}
