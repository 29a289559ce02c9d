//! Long headers (RFC 9000, section 17.2), and the frames of Initial packets.

use super::keys::{DRAFT_29, Recipe, V1, V2};
use crate::protocols::tls::bytes::Bytes;

/// A version that can be opened.
#[derive(Clone, Copy)]
pub(super) struct Version {
    pub name: &'static str,
    pub recipe: Recipe,
    /// The type of Initial packets, and of Retry packets.
    initial: u8,
    retry: u8,
}

impl Version {
    /// The version of a number.
    pub fn of(number: u32) -> Option<Self> {
        let v1 = |name, recipe| Self {
            name,
            recipe,
            initial: 0,
            retry: 3,
        };
        Some(match number {
            1 => v1("QUIC v1", V1),
            // Types are numbered otherwise (RFC 9369, section 3.2).
            0x6b33_43cf => Self {
                name: "QUIC v2",
                recipe: V2,
                initial: 1,
                retry: 0,
            },
            0xff00_001d => v1("QUIC draft 29", DRAFT_29),
            0xff00_001e => v1("QUIC draft 30", DRAFT_29),
            0xff00_001f => v1("QUIC draft 31", DRAFT_29),
            0xff00_0020 => v1("QUIC draft 32", DRAFT_29),
            _ => return None,
        })
    }
}

/// One packet of a datagram, as far as its header says.
pub(super) enum Packet<'a> {
    Initial(Initial<'a>),
    /// The server wants the client to prove its address.
    Retry,
    /// The server speaks none of the client's versions.
    VersionNegotiation,
    /// A packet that only its two ends can read.
    Sealed,
}

/// An Initial packet.
pub(super) struct Initial<'a> {
    pub version: u32,
    pub destination: &'a [u8],
    /// From the header on to the end.
    pub bytes: &'a [u8],
    /// Where its packet number begins.
    pub number_at: usize,
}

/// Longest id of a connection (RFC 9000, section 17.2).
const ID_BYTES: u8 = 20;

impl<'a> Packet<'a> {
    /// Reads the packet at the begin of `bytes`, and gives those behind it. `None` if it is none of a known version.
    pub fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut reader = Bytes(bytes);
        let first = reader.u8()?;
        if first & 0x80 == 0 {
            // A short header goes to the end; the bit behind is fixed.
            return (first & 0x40 != 0).then_some((Self::Sealed, &[]));
        }
        let number = u32::from_be_bytes(*reader.take(4)?.first_chunk()?);
        let destination = id(&mut reader)?;
        id(&mut reader)?;
        if number == 0 {
            // Versions follow, one at least.
            let listed = reader.0.len() >= 4 && reader.0.len() % 4 == 0;
            return listed.then_some((Self::VersionNegotiation, &[]));
        }
        let version = Version::of(number)?;
        if first & 0x40 == 0 {
            return None;
        }
        let kind = first >> 4 & 3;
        if kind == version.retry {
            return Some((Self::Retry, &[]));
        }
        if kind == version.initial {
            let token = varint(&mut reader)?;
            reader.take(usize::try_from(token).ok()?)?;
        }
        let len = usize::try_from(varint(&mut reader)?).ok()?;
        let number_at = bytes.len() - reader.0.len();
        let end = number_at.checked_add(len)?;
        let (packet, rest) = bytes.split_at_checked(end)?;
        let packet = if kind == version.initial {
            Self::Initial(Initial {
                version: number,
                destination,
                bytes: packet,
                number_at,
            })
        } else {
            Self::Sealed
        };
        Some((packet, rest))
    }
}

fn id<'a>(reader: &mut Bytes<'a>) -> Option<&'a [u8]> {
    let len = reader.u8().filter(|len| *len <= ID_BYTES)?;
    reader.take(usize::from(len))
}

/// A number of one to eight bytes (RFC 9000, section 16).
fn varint(reader: &mut Bytes<'_>) -> Option<u64> {
    let first = reader.u8()?;
    let more = (1usize << (first >> 6)) - 1;
    let bytes = reader.take(more)?;
    Some(bytes.iter().fold(u64::from(first & 0x3f), |number, byte| {
        number << 8 | u64::from(*byte)
    }))
}

/// A frame that says something of the handshake.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// Bytes of the TLS messages, and where they stand in these.
    Crypto(u64, &'a [u8]),
    /// The connection is refused, with this error.
    Close(u64),
}

/// Hands over the frames of an opened Initial packet; stops at one that must not be there (RFC 9000, section 12.4).
pub(super) fn frames<'a>(payload: &'a [u8], mut take: impl FnMut(Frame<'a>)) -> Option<()> {
    let mut reader = Bytes(payload);
    while !reader.0.is_empty() {
        match varint(&mut reader)? {
            // Padding, ping.
            0 | 1 => {}
            kind @ (2 | 3) => {
                // An acknowledgement: the largest number, the delay, ranges, the first of them, the others.
                varint(&mut reader)?;
                varint(&mut reader)?;
                let ranges = varint(&mut reader)?;
                varint(&mut reader)?;
                for _ in 0..ranges {
                    varint(&mut reader)?;
                    varint(&mut reader)?;
                }
                // Counts of congestion.
                for _ in 0..3 * (kind - 2) {
                    varint(&mut reader)?;
                }
            }
            6 => {
                let offset = varint(&mut reader)?;
                let len = usize::try_from(varint(&mut reader)?).ok()?;
                take(Frame::Crypto(offset, reader.take(len)?));
            }
            0x1c => {
                take(Frame::Close(varint(&mut reader)?));
                varint(&mut reader)?;
                let len = usize::try_from(varint(&mut reader)?).ok()?;
                reader.take(len)?;
            }
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_length() {
        // RFC 9000, appendix A.1.
        let read = |bytes: &[u8]| varint(&mut Bytes(bytes));
        assert_eq!(read(&[0x25]), Some(37));
        assert_eq!(read(&[0x7b, 0xbd]), Some(15_293));
        assert_eq!(read(&[0x9d, 0x7f, 0x3e, 0x7d]), Some(494_878_333));
        assert_eq!(
            read(&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
            Some(151_288_809_941_952_652)
        );
        assert_eq!(read(&[0x40]), None);
    }

    #[test]
    fn frames_between_padding_and_acknowledgements() {
        let payload = [
            0, 0, 1, 2, 5, 0, 1, 0, 0, 0, 3, 5, 0, 0, 0, 1, 2, 3, 6, 4, 2, 0xaa, 0xbb, 0x1c, 0x41, 0x28, 6,
            1, b'x', 0,
        ];
        let mut told = Vec::new();
        assert_eq!(frames(&payload, |frame| told.push(frame)), Some(()));
        assert_eq!(told, [Frame::Crypto(4, &[0xaa, 0xbb]), Frame::Close(0x128)]);
        for len in 0..payload.len() {
            let _ = frames(&payload[..len], |_| {});
        }
        assert_eq!(frames(&[0x08], |_| {}), None);
    }
}
