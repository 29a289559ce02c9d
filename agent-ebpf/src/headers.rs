//! The headers of a packet, as far as a choice asks for them: how long they are, and which flow they are of.
//!
//! The kernel programs and the agent run this same code, the one over a context, the other over a slice.

/// Bytes that can be read by their place.
pub trait Bytes {
    /// The `N` bytes from `at` on; `None` if there are fewer.
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]>;
}

impl Bytes for [u8] {
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.get(at as usize..)?.first_chunk().copied()
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Extension headers of IPv6 that are stepped over: more than any stack sends.
const MAX_EXTENSIONS: usize = 4;

/// Packets that are not IP are taken for headers up to here: ARP is 42 bytes, LLDP and the like are longer.
const NOT_IP_BYTES: u32 = 128;

/// What the headers of a packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Bytes from the network's header on up to where the payload begins.
    pub bytes: u32,
    /// The flow: the same both ways and on every node that sees the same addresses. Fragments and what has no ports
    /// are of the flow of their addresses.
    pub flow: u64,
    /// Which of its two ways this is; which is which says nothing else.
    pub forward: bool,
    /// A TCP connection begins with this.
    pub opens: bool,
    /// It is TCP.
    pub tcp: bool,
}

/// Reads the headers of the packet whose IP header is, or would be, at `network`.
#[inline(always)]
pub fn headers<B: Bytes + ?Sized>(bytes: &B, network: u32) -> Headers {
    let version = match bytes.load::<1>(network) {
        Some([first]) => first >> 4,
        None => 0,
    };
    let read = match version {
        4 => ipv4(bytes, network),
        6 => ipv6(bytes, network),
        _ => None,
    };
    match read {
        Some(headers) => headers,
        None => Headers {
            bytes: NOT_IP_BYTES,
            flow: 0,
            forward: false,
            opens: false,
            tcp: false,
        },
    }
}

#[inline(always)]
fn ipv4<B: Bytes + ?Sized>(bytes: &B, network: u32) -> Option<Headers> {
    let head = bytes.load::<20>(network)?;
    let length = u32::from(head[0] & 0x0f) * 4;
    let source = u64::from(u32::from_be_bytes([head[12], head[13], head[14], head[15]]));
    let target = u64::from(u32::from_be_bytes([head[16], head[17], head[18], head[19]]));
    // More to come, or an offset.
    let fragment = head[6] & 0x3f != 0 || head[7] != 0;
    let ends = [(0, source), (0, target)];
    Some(transport(bytes, network, length, head[9], fragment, ends))
}

#[inline(always)]
fn ipv6<B: Bytes + ?Sized>(bytes: &B, network: u32) -> Option<Headers> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const OPTIONS: u8 = 60;
    let head = bytes.load::<40>(network)?;
    let word = |at: usize| {
        u64::from_be_bytes([
            head[at],
            head[at + 1],
            head[at + 2],
            head[at + 3],
            head[at + 4],
            head[at + 5],
            head[at + 6],
            head[at + 7],
        ])
    };
    let ends = [(word(8), word(16)), (word(24), word(32))];
    let (mut protocol, mut length, mut fragment) = (head[6], 40, false);
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | OPTIONS) {
            break;
        }
        let Some([next, size]) = bytes.load::<2>(network + length) else {
            break;
        };
        if protocol == FRAGMENT {
            (fragment, length) = (true, length + 8);
        } else {
            length += 8 + u32::from(size) * 8;
        }
        protocol = next;
    }
    Some(transport(bytes, network, length, protocol, fragment, ends))
}

/// Both ends' addresses are given in two halves.
#[inline(always)]
fn transport<B: Bytes + ?Sized>(
    bytes: &B,
    network: u32,
    length: u32,
    protocol: u8,
    fragment: bool,
    [source, target]: [(u64, u64); 2],
) -> Headers {
    let at = network + length;
    let (mut end, mut ports, mut opens) = (length, [0; 4], false);
    if !fragment && (protocol == TCP || protocol == UDP) {
        if let Some(found) = bytes.load::<4>(at) {
            ports = found;
        }
        end = length + 8;
        if protocol == TCP {
            // The header's length in words, then the flags.
            let [words, flags] = bytes.load::<2>(at + 12).unwrap_or([0x50, 0]);
            end = length + u32::from(words >> 4) * 4;
            // SYN without ACK, or with it: this way it begins.
            opens = flags & 0x02 != 0;
        }
    } else if !fragment {
        // ICMP's header, and the beginning of any other.
        end = length + 8;
    }
    let source = place(source, [ports[0], ports[1]]);
    let target = place(target, [ports[2], ports[3]]);
    Headers {
        bytes: end,
        flow: mix(source.wrapping_add(target) ^ u64::from(protocol)),
        forward: source <= target,
        opens,
        tcp: protocol == TCP && !fragment,
    }
}

#[inline(always)]
fn place((high, low): (u64, u64), port: [u8; 2]) -> u64 {
    mix(high ^ mix(low ^ (u64::from(u16::from_be_bytes(port)) << 48)))
}

/// Spreads the bits of a number over all of it (the last step of SplitMix64).
#[inline(always)]
pub fn mix(mut value: u64) -> u64 {
    value ^= value >> 30;
    value = value.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value ^= value >> 27;
    value = value.wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP segment of 10.0.0.1:1000 to 10.0.0.2:80, with 12 bytes of options and so many of payload.
    fn segment(flags: u8, payload: usize) -> Vec<u8> {
        let mut packet = vec![0; 20 + 32 + payload];
        packet[0] = 0x45;
        packet[9] = TCP;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet[20..24].copy_from_slice(&[0x03, 0xe8, 0, 80]);
        packet[32] = 0x80;
        packet[33] = flags;
        packet
    }

    fn turned(mut packet: Vec<u8>) -> Vec<u8> {
        packet[12..20].rotate_left(4);
        packet[20..24].rotate_left(2);
        packet
    }

    #[test]
    fn headers_end_where_the_payload_begins() {
        let found = headers(&segment(0x02, 100)[..], 0);
        assert_eq!((found.bytes, found.opens, found.tcp), (52, true, true));
        let mut datagram = segment(0, 100);
        datagram[9] = UDP;
        assert_eq!(headers(&datagram[..], 0).bytes, 28);
        let mut fragment = segment(0, 100);
        fragment[7] = 1;
        assert_eq!(headers(&fragment[..], 0).bytes, 20);
        assert_eq!(headers(&[8; 60][..], 0).bytes, NOT_IP_BYTES);
    }

    #[test]
    fn a_flow_is_the_same_both_ways_and_wherever_it_begins() {
        let Headers {
            flow: there, forward, ..
        } = headers(&segment(0x10, 5)[..], 0);
        let back = headers(&turned(segment(0x10, 900))[..], 0);
        assert_eq!((back.flow, back.forward), (there, !forward));
        let mut framed = vec![0; 14];
        framed.extend(segment(0x10, 5));
        assert_eq!(headers(&framed[..], 14).flow, there);
        let mut other = segment(0x10, 5);
        other[21] += 1;
        assert_ne!(headers(&other[..], 0).flow, there);
    }

    #[test]
    fn extension_headers_are_stepped_over() {
        let mut packet = vec![0; 40 + 8 + 16 + 8 + 50];
        packet[0] = 0x60;
        packet[23] = 1;
        packet[39] = 2;
        (packet[6], packet[40], packet[48], packet[49]) = (0, 60, UDP, 1);
        assert_eq!(headers(&packet[..], 0).bytes, 72);
        let ports = packet.len();
        packet.truncate(ports - 50);
        assert_eq!(headers(&packet[..], 0).bytes, 72);
    }

    #[test]
    fn no_beginning_of_a_packet_is_too_short() {
        let packet = segment(0x02, 0);
        for length in 0..packet.len() {
            let found = headers(&packet[..length], 0);
            assert!(found.bytes <= NOT_IP_BYTES, "{length}: {found:?}");
        }
    }
}
