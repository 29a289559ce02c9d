//! Frames as a network card would see them, with right lengths and checksums, so that nobody has anything to wonder about.

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

/// Payload of a full segment on Ethernet with TCP timestamps (1500 - 20 - 32).
pub(super) const SEGMENT: usize = 1448;

/// One side of a connection, or of an exchange of datagrams.
#[derive(Clone)]
pub(super) struct End {
    pub(super) mac: [u8; 6],
    pub(super) address: [u8; 4],
    pub(super) port: u16,
    /// Next sequence number to send.
    pub(super) seq: u32,
    pub(super) ip_id: u16,
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Writes a segment, seen at `now` (nanoseconds since 1970), and moves the sender's sequence number on. It acknowledges
/// all that the other side has sent.
pub(super) fn tcp(from: &mut End, to: &End, flags: u8, payload: &[u8], now: u64, frame: &mut Vec<u8>) {
    let syn = flags & SYN != 0;
    let header = if syn { 40 } else { 32 };
    ip(from, to, TCP, header + payload.len(), frame);

    let acknowledged = if flags & ACK != 0 { to.seq } else { 0 };
    frame.extend(from.port.to_be_bytes());
    frame.extend(to.port.to_be_bytes());
    frame.extend(from.seq.to_be_bytes());
    frame.extend(acknowledged.to_be_bytes());
    // Header length in words, flags, window, checksum to follow, no urgent pointer.
    let window: u16 = if syn { 64_240 } else { 502 };
    frame.extend([((header / 4) << 4) as u8, flags]);
    frame.extend(window.to_be_bytes());
    frame.extend([0, 0, 0, 0]);
    // Largest segment 1460, window scale 7 and selective acknowledgement; else two no-ops; then the timestamps.
    if syn {
        frame.extend([2, 4, 0x05, 0xB4, 3, 3, 7, 1, 4, 2]);
    } else {
        frame.extend([1, 1]);
    }
    let stamp = (now / 1_000_000) as u32;
    frame.extend([8, 10]);
    frame.extend(stamp.to_be_bytes());
    frame.extend(if flags & ACK != 0 { stamp } else { 0 }.to_be_bytes());
    frame.extend(payload);
    let checksum = over_pseudo_header(from, to, TCP, frame);
    frame[50..52].copy_from_slice(&checksum.to_be_bytes());

    let taken = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
    from.seq = from.seq.wrapping_add(taken);
}

/// Writes a datagram.
pub(super) fn udp(from: &mut End, to: &End, payload: &[u8], frame: &mut Vec<u8>) {
    let length = 8 + payload.len();
    ip(from, to, UDP, length, frame);
    for word in [from.port, to.port, length as u16, 0] {
        frame.extend(word.to_be_bytes());
    }
    frame.extend(payload);
    let checksum = over_pseudo_header(from, to, UDP, frame);
    frame[40..42].copy_from_slice(&checksum.to_be_bytes());
}

/// Begins a frame: Ethernet's header and IP's.
fn ip(from: &mut End, to: &End, protocol: u8, length: usize, frame: &mut Vec<u8>) {
    frame.clear();
    frame.extend(to.mac);
    frame.extend(from.mac);
    frame.extend([0x08, 0x00]);
    from.ip_id = from.ip_id.wrapping_add(1);
    frame.extend([0x45, 0]);
    frame.extend((20 + length as u16).to_be_bytes());
    frame.extend(from.ip_id.to_be_bytes());
    // Don't fragment; time to live 64; protocol; checksum to follow.
    frame.extend([0x40, 0, 64, protocol, 0, 0]);
    frame.extend(from.address);
    frame.extend(to.address);
    let checksum = fold(sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

/// The checksum of what follows IP's header, whose own place for it is still zero.
fn over_pseudo_header(from: &End, to: &End, protocol: u8, frame: &[u8]) -> u16 {
    let carried = &frame[34..];
    let pseudo = sum(&from.address) + sum(&to.address) + u64::from(protocol) + carried.len() as u64;
    fold(pseudo + sum(carried))
}

/// Adds up 16-bit words, the last one filled with a zero (RFC 1071).
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(2);
    let last = words.remainder().first().map_or(0, |&byte| u64::from(byte) << 8);
    words
        .map(|word| u64::from(u16::from_be_bytes([word[0], word[1]])))
        .sum::<u64>()
        + last
}

/// A sum of words as a checksum (RFC 1071).
pub(super) fn fold(mut sum: u64) -> u16 {
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}
