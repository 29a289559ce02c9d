//! What looks like HTTP/2, from its preface or from the middle.

use super::frame::{END_HEADERS, HEADER, Header, Kind, MOST_PAYLOAD, PREFACE, USUAL_PAYLOAD};
use super::head::{Head, block_of};
use super::hpack::Decoder;
use crate::limits::PLACE_BYTES;
use crate::protocols::{Place, Side};

/// Bytes that are looked at for each byte in which a frame is looked for. A chain of frames is looked at once; what looks
/// like a chain from many places is made to be expensive.
const SEARCH_WORK: usize = 8;

/// What looks like the begin of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is one, and this side has sent it.
    Yes(Side),
    /// It may be one; more bytes will tell.
    Maybe,
    No,
}

/// Whether bytes are the begin of a connection, or frames from the middle of one. Frames count only if there is a header
/// block among them that says who sends: so that nothing else is taken for HTTP/2.
pub(super) fn recognise(bytes: &[u8]) -> Found {
    if bytes.is_empty() {
        return Found::No;
    }
    if bytes.starts_with(PREFACE) {
        return Found::Yes(Side::Client);
    }
    if PREFACE.starts_with(bytes) || (bytes.len() < HEADER && bytes.starts_with(&[0])) {
        return Found::Maybe;
    }
    let mut work = bytes.len().saturating_mul(SEARCH_WORK);
    match Chain::of(bytes, None, USUAL_PAYLOAD, &mut work) {
        Some(Chain {
            sender: Some(sender), ..
        }) => Found::Yes(sender),
        Some(chain) if chain.telling > 0 || chain.exact || chain.opens => Found::Maybe,
        _ => Found::No,
    }
}

/// Where in bytes of a connection that speaks HTTP/2 a frame begins, after the place was lost. The first byte is a
/// segment's, where frames are most likely to begin.
pub(super) fn next_frame(bytes: &[u8], from: Side, most: u32) -> Place {
    if from == Side::Client && bytes.starts_with(PREFACE) {
        return Place::At(0);
    }
    let mut work = bytes.len().saturating_mul(SEARCH_WORK);
    // The first byte of a length is zero, unless frames may be very long.
    let highest = (most >> 16) as u8;
    let begins = bytes.iter().enumerate().filter(|(_, byte)| **byte <= highest);
    let found = begins.map(|(at, _)| at).find(|at| {
        is_frame(
            bytes.get(*at..).unwrap_or_default(),
            from,
            most,
            *at == 0,
            &mut work,
        )
    });
    match found {
        Some(at) => Place::At(at),
        None if opens_short_frame(bytes, from, most) => Place::Perhaps,
        None => Place::Nowhere,
    }
}

/// Whether bytes may be the begin of a frame that ends soon, and proves itself then.
fn opens_short_frame(bytes: &[u8], from: Side, most: u32) -> bool {
    match Header::read(bytes) {
        Some(header) => {
            header.is_plausible(Some(from), most)
                && header.whole() > bytes.len()
                && header.whole() <= PLACE_BYTES
        }
        // What is shorter than a frame's header says too little: where all segments are, each of them would begin a frame if
        // its first byte is zero, and one in so many such frames ends with a segment by chance.
        None => from == Side::Client && PREFACE.starts_with(bytes),
    }
}

/// Whether these may be frames, as far as the bytes reach; at least one begins.
pub(super) fn is_chain(bytes: &[u8]) -> bool {
    let mut work = bytes.len().saturating_mul(SEARCH_WORK);
    Chain::of(bytes, None, MOST_PAYLOAD, &mut work).is_some()
}

/// Whether a frame begins here, where one is expected to begin sooner or later.
fn is_frame(bytes: &[u8], from: Side, most: u32, first: bool, work: &mut usize) -> bool {
    let Some(chain) = Chain::of(bytes, Some(from), most, work) else {
        return false;
    };
    match chain.frames {
        1 => chain.exact && (first || chain.telling > 0),
        2 => chain.exact || chain.telling > 0,
        _ => true,
    }
}

/// Frames that follow one another, from the first byte as far as the bytes reach.
#[derive(Debug, Default)]
struct Chain {
    /// How many begin.
    frames: u32,
    /// How many of them are hardly there by chance.
    telling: u32,
    /// Whether the last one ends with the bytes.
    exact: bool,
    /// Whether the first one is a header block that is not whole.
    opens: bool,
    /// Who sends them, if a header block says so.
    sender: Option<Side>,
}

impl Chain {
    /// `None` if these are none, or if they are not worth the `work` that is left for looking.
    fn of(bytes: &[u8], from: Option<Side>, most: u32, work: &mut usize) -> Option<Self> {
        let mut chain = Self::default();
        let mut rest = bytes;
        while let Some(header) = Header::read(rest) {
            let of_block = matches!(header.kind, Kind::Headers | Kind::PushPromise);
            let cost = if of_block { header.whole() } else { HEADER };
            *work = work.checked_sub(cost.min(rest.len()))?;
            if !header.is_plausible(from, most) {
                return None;
            }
            let payload = rest.get(HEADER..header.whole());
            if let Some(payload) = payload
                && of_block
            {
                chain.look_into(&header, payload, from)?;
            }
            chain.opens |= chain.frames == 0 && payload.is_none() && header.kind == Kind::Headers;
            chain.frames += 1;
            chain.telling += u32::from(header.is_telling() && payload.is_some());
            rest = rest.get(header.whole()..).unwrap_or_default();
            chain.exact = payload.is_some() && rest.is_empty();
        }
        (chain.frames > 0).then_some(chain)
    }

    /// Looks whether a header block is one, and who sends it.
    fn look_into(&mut self, header: &Header, payload: &[u8], from: Option<Side>) -> Option<()> {
        let (block, _) = block_of(header, payload)?;
        let head = Head::decode(&mut Decoder::unknown(), block);
        let cut = !header.has(END_HEADERS);
        if (head.damaged && !cut) || head.is_empty() || !head.names_are_tokens() {
            return None;
        }
        let sender = match (header.kind, head.is_request(), head.status.is_some()) {
            (Kind::PushPromise, true, false) => Some(Side::Server),
            (Kind::PushPromise, ..) => return None,
            (_, true, false) => Some(Side::Client),
            (_, false, true) => Some(Side::Server),
            (_, true, true) => return None,
            // Trailers may be of either side, but for those of gRPC, whose status only a server has.
            (_, false, false) => head.headers.get("grpc-status").map(|_| Side::Server),
        };
        if sender.is_some() && from.is_some() && sender != from {
            return None;
        }
        self.sender = self.sender.or(sender);
        self.telling += 1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"\x00\x00\x03\x01\x05\x00\x00\x00\x01\x82\x86\x84";
    const RESPONSE: &[u8] = b"\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88";
    const PING: &[u8] = b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678";

    #[test]
    fn the_preface_in_two_parts() {
        assert_eq!(recognise(PREFACE), Found::Yes(Side::Client));
        assert_eq!(recognise(&PREFACE[..10]), Found::Maybe);
        assert_eq!(recognise(b"PRI * HTTP/1.1\r\n\r\n"), Found::No);
    }

    #[test]
    fn a_header_block_says_who_sends() {
        assert_eq!(recognise(REQUEST), Found::Yes(Side::Client));
        assert_eq!(recognise(RESPONSE), Found::Yes(Side::Server));
        assert_eq!(recognise(&[PING, RESPONSE].concat()), Found::Yes(Side::Server));
        // Trailers may be of either side.
        assert_eq!(
            recognise(b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\xbe"),
            Found::Maybe
        );
        assert_eq!(
            recognise(b"\x00\x00\x0f\x01\x05\x00\x00\x00\x01\x00\x0bgrpc-status\x010"),
            Found::Yes(Side::Server)
        );
        assert_eq!(recognise(PING), Found::Maybe);
        assert_eq!(recognise(&REQUEST[..11]), Found::Maybe);
    }

    #[test]
    fn what_only_resembles_frames() {
        // A header block with a name that is none; two kinds of pseudo header; an index of zero.
        assert_eq!(
            recognise(b"\x00\x00\x05\x01\x05\x00\x00\x00\x01\x00\x01\x01\x01x"),
            Found::No
        );
        assert_eq!(
            recognise(b"\x00\x00\x02\x01\x05\x00\x00\x00\x01\x82\x88"),
            Found::No
        );
        assert_eq!(
            recognise(b"\x00\x00\x02\x01\x05\x00\x00\x00\x01\x82\x80"),
            Found::No
        );
        // A frame of data that goes on, zeros, and text.
        assert_eq!(
            recognise(b"\x00\x10\x00\x00\x00\x00\x00\x00\x01abcdef"),
            Found::No
        );
        assert_eq!(recognise(&[0; 100]), Found::No);
        assert_eq!(recognise(b"GET / HTTP/1.1\r\n\r\n"), Found::No);
    }

    #[test]
    fn looking_costs_no_more_than_a_few_times_the_bytes() {
        // Frames of headers at every twelfth byte, each of which holds a thousand others; at the end it is none. To look
        // into each from every place would take minutes.
        let mut bytes = b"\x00\x3f\xff\x01\x04\x00\x00\x00\x01\x82\x82\x82".repeat(60_000);
        bytes.push(0x80);
        assert_eq!(next_frame(&bytes, Side::Client, USUAL_PAYLOAD), Place::Nowhere);
    }

    #[test]
    fn a_frame_behind_the_end_of_another() {
        let bytes = [&b"the end of something"[..], RESPONSE].concat();
        assert_eq!(next_frame(&bytes, Side::Server, USUAL_PAYLOAD), Place::At(20));
        assert_eq!(next_frame(&bytes, Side::Client, USUAL_PAYLOAD), Place::Nowhere);
        let data = b"\x00\x00\x03\x00\x01\x00\x00\x00\x01abc";
        assert_eq!(next_frame(data, Side::Server, USUAL_PAYLOAD), Place::At(0));
        // Alone and not where a segment begins, it may be there by chance.
        assert_eq!(
            next_frame(&[b"x", &data[..]].concat(), Side::Server, USUAL_PAYLOAD),
            Place::Nowhere
        );
    }
}
