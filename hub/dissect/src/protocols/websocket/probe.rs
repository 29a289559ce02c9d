//! What proves that bytes are frames.
//!
//! A frame begins with few bits that say so, and random bytes have them once in twenty times. So frames are followed from
//! one to the next, and what they prove is added up, in bits: by how much less likely random bytes look like this.

use super::frame::{Header, Opcode, Read, unmask};
use crate::protocols::{Place, Side};

/// What each direction must prove where a connection of unknown protocol is to be one of WebSocket, and both together.
/// Forty bits are one wrong connection in a million millions.
const EACH: u32 = 12;
const BOTH: u32 = 40;

/// What one direction must prove where a connection is known to be of WebSocket, but its place was lost: what follows a
/// gap has some tens of places at most that come into question.
const AGAIN: u32 = 20;

/// What a head proves: its opcode, its reserved bits, its mask.
const HEAD: u32 = 4;

/// What it proves that a frame ends where the bytes do: its length is one of 126.
const ENDS: u32 = 7;

/// Most that one frame's text proves; it is one bit a byte, of which random bytes are text in two of five cases.
const TEXT: u32 = 32;

/// What bytes prove; `None` if they are no frames.
pub(super) fn evidence(bytes: &[u8], side: Side) -> Option<u32> {
    let mut rest = bytes;
    let mut bits = 0;
    loop {
        let header = match Header::read(rest) {
            Read::Head(header) => header,
            Read::More if rest.len() < bytes.len() => return Some(bits),
            Read::More => return Some(0),
            Read::Malformed => return None,
        };
        let first = rest.len() == bytes.len();
        if header.mask.is_some() != (side == Side::Client) || (first && header.opcode == Opcode::Continuation)
        {
            return None;
        }
        let behind = rest.get(header.size..).unwrap_or_default();
        let whole = usize::try_from(header.payload)
            .ok()
            .filter(|len| *len <= behind.len());
        let payload = behind.get(..whole.unwrap_or(behind.len())).unwrap_or_default();
        bits += HEAD;
        if header.opcode == Opcode::Text && !header.compressed {
            bits += text(&header, payload, whole.is_some())?;
        }
        let Some(whole) = whole else {
            return Some(bits);
        };
        rest = behind.get(whole..).unwrap_or_default();
        if rest.is_empty() {
            return Some(bits + ENDS);
        }
    }
}

/// Whether so much proves that a place is where a frame begins. `turn` says whether a message is likely to begin there:
/// only then is more waited for, for else whatever comes next is as good a place.
pub(super) fn begins_again(bytes: &[u8], side: Side, turn: bool) -> Place {
    let bonus = if turn { ENDS } else { 0 };
    match evidence(bytes, side) {
        Some(bits) if bits + bonus >= AGAIN => Place::At(0),
        Some(_) if turn => Place::Perhaps,
        Some(_) | None => Place::Nowhere,
    }
}

/// Whether both directions together prove it; `None` while neither speaks against it.
pub(super) fn is_both(client: &[u8], server: &[u8]) -> Option<bool> {
    let sides = [(client, Side::Client), (server, Side::Server)];
    let mut bits = [0; 2];
    for ((bytes, side), bits) in sides.into_iter().zip(&mut bits) {
        if bytes.is_empty() {
            continue;
        }
        match evidence(bytes, side) {
            Some(proved) => *bits = proved,
            None => return Some(false),
        }
    }
    let proved = bits.iter().all(|bits| *bits >= EACH) && bits.iter().sum::<u32>() >= BOTH;
    proved.then_some(true)
}

/// What the text of a frame proves; `None` if it is none. A message's first frame may end within a character.
fn text(header: &Header, payload: &[u8], whole: bool) -> Option<u32> {
    let looked: Vec<u8> = (0..)
        .zip(payload.iter().take(TEXT as usize + 4))
        .map(|(n, byte)| unmask(header.mask, n, *byte))
        .collect();
    let may_go_on = looked.len() < payload.len() || !whole || !header.last;
    let valid = match std::str::from_utf8(&looked) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && may_go_on => {
            let whole = looked.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(whole).ok()?
        }
        Err(_) => return None,
    };
    let odd = |byte: u8| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    if valid.bytes().any(odd) {
        return Some(0);
    }
    Some(u32::try_from(valid.len()).unwrap_or(TEXT).min(TEXT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_text_in_both_directions_prove_it() {
        let client = b"\x81\x94\x01\x02\x03\x04z 3`\"8g#!!-d//(v"; // of twenty bytes
        let masked: Vec<u8> = (0..20u8)
            .map(|n| b"{\"op\":\"subscribe\"}  "[usize::from(n)] ^ [1, 2, 3, 4][usize::from(n % 4)])
            .collect();
        let client = [client.get(..6).unwrap_or_default(), &masked].concat();
        let server = b"\x81\x12{\"event\":\"opened\"}";
        assert_eq!(is_both(&client, server), Some(true));
        assert_eq!(is_both(server, &client), Some(false), "the server does not mask");
        assert_eq!(is_both(&client, b""), None, "one direction is not enough");
    }

    #[test]
    fn a_few_bytes_prove_nothing() {
        assert_eq!(is_both(b"\x82\x81\x01\x02\x03\x04\x05", b"\x82\x01\x07"), None);
        assert_eq!(begins_again(b"\x82\x01\x07", Side::Server, true), Place::Perhaps);
        assert_eq!(begins_again(b"\x82\x01\x07", Side::Server, false), Place::Nowhere);
    }

    #[test]
    fn random_bytes_are_no_frames() {
        // A generator of Marsaglia's, so that the test is the same every time.
        let mut state = 88_172_645_463_325_252_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        for _ in 0..50_000 {
            let client: Vec<u8> = (0..8).flat_map(|_| random()).collect();
            let server: Vec<u8> = (0..8).flat_map(|_| random()).collect();
            assert_ne!(
                is_both(&client, &server),
                Some(true),
                "{client:02x?} {server:02x?}"
            );
        }
    }
}
