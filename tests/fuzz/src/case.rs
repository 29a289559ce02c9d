//! One case: an exchange with its bytes mutated, and its packets cut, lost, doubled, shortened and in another order.

use wiretape_dissect::testing::{Chat, Recorded, Talk, Who};

use crate::exchange::Exchange;
use crate::random::Random;

/// Bytes of a case, roughly: what is longer takes the place of other cases.
pub const BYTES: usize = 128 << 10;

/// Largest payload of a datagram that a packet of the test holds.
const DATAGRAM: usize = 60_000;

/// Numbers at which lengths and counts go wrong.
const NUMBERS: [u32; 10] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0xff_ffff,
    0x7fff_ffff,
    0xffff_ffff,
];

/// Makes a case.
pub fn make(exchanges: &[Exchange], random: &mut Random) -> Vec<Recorded> {
    let Some(exchange) = exchanges.get(random.below(exchanges.len())) else {
        return Vec::new();
    };
    let mut said = exchange.said.clone();
    // One in eight is what was really said, only in other packets.
    if !random.once_in(8) {
        for _ in 0..=random.below(6) {
            mutate(&mut said, exchanges, random);
        }
    }
    let mut left = BYTES;
    for (_, bytes) in &mut said {
        bytes.truncate(left);
        left -= bytes.len();
    }
    let mut packets = if exchange.stream {
        stream(&said, random)
    } else {
        datagrams(&said, random)
    };
    disturb(&mut packets, random);
    packets
}

/// Changes what is said.
fn mutate(said: &mut Vec<(Who, Vec<u8>)>, exchanges: &[Exchange], random: &mut Random) {
    let turn = random.below(said.len());
    let kind = random.below(9);
    // What another one said, at this place.
    if kind == 8 {
        let other = exchanges.get(random.below(exchanges.len()));
        let turns = other.map_or(&[][..], |other| &other.said);
        if let Some(foreign) = turns.get(random.below(turns.len())) {
            said.insert(turn, foreign.clone());
        }
        return;
    }
    let Some((who, bytes)) = said.get_mut(turn).filter(|(_, bytes)| !bytes.is_empty()) else {
        return;
    };
    let at = random.below(bytes.len());
    let end = (at + 1 + random.below(64)).min(bytes.len());
    match kind {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.next() as u8,
        3 => {
            let number = NUMBERS[random.below(NUMBERS.len())].to_be_bytes();
            let width = 1 + random.below(4);
            let number = &number[4 - width..];
            bytes
                .iter_mut()
                .skip(at)
                .zip(number)
                .for_each(|(byte, with)| *byte = *with);
        }
        4 => drop(bytes.drain(at..end)),
        5 => {
            let copies = 1 + random.below(200);
            let copied = bytes[at..end].repeat(copies);
            drop(bytes.splice(at..at, copied));
        }
        6 => bytes.truncate(at),
        _ => {
            *who = match who {
                Who::Client => Who::Server,
                Who::Server => Who::Client,
            };
        }
    }
}

fn stream(said: &[(Who, Vec<u8>)], random: &mut Random) -> Vec<Recorded> {
    let mut talk = Talk::usual();
    let handshake = !random.once_in(3);
    if handshake {
        talk.handshake();
    }
    // A segment a byte makes long cases; few of them will do.
    let sizes = [1, 2, 7, 100, 536, 1460, 1460, 16_000, 60_000];
    talk.mss = sizes[random.below(sizes.len())];
    let total: usize = said.iter().map(|(_, bytes)| bytes.len()).sum();
    if talk.mss < 100 && total > 4096 {
        talk.mss = 1460;
    }
    for (who, bytes) in said {
        talk.send(*who, bytes);
        if random.once_in(3) {
            talk.ack(match who {
                Who::Client => Who::Server,
                Who::Server => Who::Client,
            });
        }
    }
    match random.below(4) {
        0 => {}
        1 => drop(talk.reset(Who::Server)),
        _ => drop(talk.close()),
    }
    talk.packets
}

fn datagrams(said: &[(Who, Vec<u8>)], random: &mut Random) -> Vec<Recorded> {
    let mut chat = Chat::usual();
    for (who, bytes) in said {
        let bytes = &bytes[..bytes.len().min(DATAGRAM)];
        if random.once_in(20) {
            chat.icmp(*who, bytes);
            continue;
        }
        match who {
            Who::Client => chat.ask(bytes),
            Who::Server => chat.answer(bytes),
        };
    }
    chat.packets
}

/// What a network and a recorder do to packets.
fn disturb(packets: &mut Vec<Recorded>, random: &mut Random) {
    // The recording begins later.
    if random.once_in(3) {
        let late = random.below(packets.len());
        packets.drain(..late);
    }
    for _ in 0..random.below(4) {
        if packets.is_empty() {
            return;
        }
        let (at, other) = (random.below(packets.len()), random.below(packets.len()));
        match random.below(4) {
            0 => drop(packets.remove(at)),
            1 => packets.insert(other, packets[at].clone()),
            2 => packets.swap(at, other),
            _ => {
                let len = random.below(packets[at].data.len());
                packets[at].data.truncate(len);
            }
        }
    }
}
