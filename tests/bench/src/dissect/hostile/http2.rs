//! Shapes of HTTP/2: what its framing and HPACK let a client ask of a server.

use anyhow::Result;

use super::film::{Film, Talk};
use super::{ENOUGH, Scale};

/// Where HTTP/2 is spoken.
const PORT: u16 = 8081;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Types of frames and their flags (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:method: GET`, `:scheme: http`, `:path: /`, `:authority: a` (RFC 7541, appendix A).
const REQUEST: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
/// `:status: 200`.
const RESPONSE: &[u8] = &[0x88];
/// Largest payload of a frame unless something else was agreed on.
const FRAME: usize = 16 << 10;
/// Streams of a connection; then another one begins.
const STREAMS: u32 = 100_000;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    let mut frame = length.to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A connection on which both have said who they are, and the server that it keeps a table of 4 GiB.
fn connect(film: &mut Film) -> Result<Talk> {
    let mut talk = film.connect(PORT)?;
    let table = [0, 1, 0xFF, 0xFF, 0xFF, 0xFF];
    film.say(
        &mut talk,
        true,
        &[PREFACE, &frame(SETTINGS, 0, 0, &table)].concat(),
    )?;
    film.say(&mut talk, false, &frame(SETTINGS, 0, 0, &table))?;
    film.say(&mut talk, true, &frame(SETTINGS, 1, 0, &[]))?;
    film.say(&mut talk, false, &frame(SETTINGS, 1, 0, &[]))?;
    Ok(talk)
}

/// Header blocks that go on and on, in frames of one field each.
pub fn continuation_flood(film: &mut Film, _: Scale) -> Result<()> {
    // `a: b`, literally and not to be kept.
    flood(film, &[0, 1, b'a', 1, b'b'])
}

/// The same, in frames that hold nothing at all.
pub fn empty_continuations(film: &mut Film, _: Scale) -> Result<()> {
    flood(film, &[])
}

fn flood(film: &mut Film, payload: &[u8]) -> Result<()> {
    let more = frame(CONTINUATION, 0, 1, payload).repeat(1000);
    while film.bytes() < ENOUGH {
        let mut talk = connect(film)?;
        film.say(&mut talk, true, &frame(HEADERS, END_STREAM, 1, REQUEST))?;
        for _ in 0..400 {
            film.say(&mut talk, true, &more)?;
        }
        film.say(&mut talk, true, &frame(CONTINUATION, END_HEADERS, 1, &[]))?;
        film.say(
            &mut talk,
            false,
            &frame(HEADERS, END_STREAM | END_HEADERS, 1, RESPONSE),
        )?;
    }
    Ok(())
}

/// An entry as long as the table that all keep, and blocks that are nothing but references to it.
pub fn header_bomb(film: &mut Film, _: Scale) -> Result<()> {
    let length = 4000_usize;
    // `a: xxx…`, to be kept; the length is 127 and what is beyond it (RFC 7541, section 5.1).
    let mut entry = [REQUEST, &[0x40, 1, b'a', 0x7F]].concat();
    let beyond = length - 127;
    entry.extend([(beyond % 128) as u8 | 0x80, (beyond / 128) as u8]);
    entry.resize(entry.len() + length, b'x');
    // Index 62 is the newest entry.
    let mut bomb = REQUEST.to_vec();
    bomb.resize(FRAME, 0xBE);
    requests(film, &entry, &bomb)
}

/// Every block fills the table with new entries, as short as can be.
pub fn table_churn(film: &mut Film, _: Scale) -> Result<()> {
    let mut block = REQUEST.to_vec();
    while block.len() + 5 <= FRAME {
        block.extend([0x40, 1, b'a', 1, b'b']);
    }
    requests(film, REQUEST, &block)
}

/// Every block begins with thousands of changes of the table's size.
pub fn size_updates(film: &mut Film, _: Scale) -> Result<()> {
    // To 0, and to 30 (RFC 7541, section 6.3).
    let mut block = [0x20, 0x3E].repeat((FRAME - REQUEST.len()) / 2);
    block.extend(REQUEST);
    requests(film, REQUEST, &block)
}

/// Names and values of Huffman's longest codes: the most bits for a byte.
pub fn huffman(film: &mut Film, _: Scale) -> Result<()> {
    // "0" has five zero bits (RFC 7541, appendix B): eight of them in five bytes. `a: 000…`, not to be kept.
    let mut block = REQUEST.to_vec();
    while block.len() + 104 <= FRAME {
        block.extend([0, 1, b'a', 0x80 | 100]);
        block.resize(block.len() + 100, 0);
    }
    requests(film, REQUEST, &block)
}

/// Requests with this block behind one with the first block, each with its answer.
fn requests(film: &mut Film, first: &[u8], block: &[u8]) -> Result<()> {
    while film.bytes() < ENOUGH {
        let mut talk = connect(film)?;
        for number in 0..200 {
            let (stream, block) = (2 * number + 1, if number == 0 { first } else { block });
            film.say(
                &mut talk,
                true,
                &frame(HEADERS, END_STREAM | END_HEADERS, stream, block),
            )?;
            film.say(
                &mut talk,
                false,
                &frame(HEADERS, END_STREAM | END_HEADERS, stream, RESPONSE),
            )?;
        }
        film.part(&mut talk)?;
    }
    Ok(())
}

/// Streams that are opened and never ended.
pub fn half_open_streams(film: &mut Film, _: Scale) -> Result<()> {
    streams(film, |stream| frame(HEADERS, END_HEADERS, stream, REQUEST))
}

/// Streams that are opened and given up at once, again and again.
pub fn rapid_reset(film: &mut Film, _: Scale) -> Result<()> {
    streams(film, |stream| {
        let mut said = frame(HEADERS, END_STREAM | END_HEADERS, stream, REQUEST);
        said.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        said
    })
}

/// Data in frames of one byte, padded, on a hundred streams in turn.
pub fn tiny_data(film: &mut Film, _: Scale) -> Result<()> {
    while film.bytes() < ENOUGH {
        let mut talk = connect(film)?;
        let streams = (0..100).map(|number| 2 * number + 1);
        for stream in streams.clone() {
            film.say(&mut talk, true, &frame(HEADERS, END_HEADERS, stream, REQUEST))?;
        }
        let round: Vec<u8> = streams.flat_map(|stream| frame(DATA, 0, stream, b"x")).collect();
        for _ in 0..2000 {
            film.say(&mut talk, true, &round)?;
        }
    }
    Ok(())
}

fn streams(film: &mut Film, said: impl Fn(u32) -> Vec<u8>) -> Result<()> {
    while film.bytes() < ENOUGH {
        let mut talk = connect(film)?;
        let mut all = Vec::new();
        for number in 0..STREAMS {
            all.extend(said(2 * number + 1));
        }
        film.say(&mut talk, true, &all)?;
    }
    Ok(())
}
