//! Shapes of HTTP/1: heads as large as they may be, bodies that are bombs.

use std::io::Write as _;

use anyhow::Result;
use flate2::{Compress, Compression, FlushCompress, write::GzEncoder};

use super::film::Film;
use super::{ENOUGH, Scale};

/// Where HTTP is spoken.
const PORT: u16 = 8080;
/// What a dissector may keep of a head (`limits::HEAD_BYTES`), and so what hurts most.
const HEAD: usize = 64 << 10;
/// What a bomb makes of itself.
const INFLATED: usize = 16 << 20;
/// A message of a WebSocket as large as may be inflated in any case (`limits::WS_INFLATED`).
const MESSAGE: usize = 64 << 10;

/// Heads of the largest size, of thousands of the shortest fields.
pub fn many_fields(film: &mut Film, _: Scale) -> Result<()> {
    let mut head = b"GET / HTTP/1.1\r\nHost: cart\r\n".to_vec();
    while head.len() + 8 < HEAD {
        head.extend(b"a:b\r\n");
    }
    head.extend(b"\r\n");
    heads(film, &head)
}

/// Heads of one field that is as long as may be.
pub fn long_field(film: &mut Film, _: Scale) -> Result<()> {
    let mut head = b"GET / HTTP/1.1\r\nHost: cart\r\nX-Long: ".to_vec();
    head.resize(HEAD - 8, b'x');
    head.extend(b"\r\n\r\n");
    heads(film, &head)
}

/// Heads that do not end.
pub fn endless_head(film: &mut Film, _: Scale) -> Result<()> {
    let fields = b"a:b\r\n".repeat(4096);
    while film.bytes() < ENOUGH {
        let mut talk = film.connect(PORT)?;
        film.say(&mut talk, true, b"GET / HTTP/1.1\r\nHost: cart\r\n")?;
        for _ in 0..256 {
            film.say(&mut talk, true, &fields)?;
        }
    }
    Ok(())
}

/// Heads that come one byte at a time.
pub fn byte_by_byte(film: &mut Film, _: Scale) -> Result<()> {
    let mut head = b"GET / HTTP/1.1\r\nHost: cart\r\nX-Long: ".to_vec();
    head.resize(8 << 10, b'x');
    head.extend(b"\r\n\r\n");
    while film.bytes() < ENOUGH {
        let mut talk = film.connect(PORT)?;
        for byte in head.chunks(1) {
            film.say(&mut talk, true, byte)?;
        }
        film.say(&mut talk, false, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        film.part(&mut talk)?;
    }
    Ok(())
}

fn heads(film: &mut Film, head: &[u8]) -> Result<()> {
    while film.bytes() < ENOUGH {
        let mut talk = film.connect(PORT)?;
        for _ in 0..20 {
            film.say(&mut talk, true, head)?;
            film.say(&mut talk, false, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        film.part(&mut talk)?;
    }
    Ok(())
}

/// Requests and responses whose body is a gzip bomb.
pub fn gzip_bombs(film: &mut Film, _: Scale) -> Result<()> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&bomb(INFLATED))?;
    let bomb = packed.finish()?;
    let fields = format!(
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    );
    let request = [
        format!("POST /graphql HTTP/1.1\r\nHost: cart\r\n{fields}").as_bytes(),
        &bomb,
    ]
    .concat();
    let response = [format!("HTTP/1.1 200 OK\r\n{fields}").as_bytes(), &bomb].concat();
    while film.bytes() < ENOUGH {
        let mut talk = film.connect(PORT)?;
        for _ in 0..10 {
            film.say(&mut talk, true, &request)?;
            film.say(&mut talk, false, &response)?;
        }
        film.part(&mut talk)?;
    }
    Ok(())
}

/// WebSocket's connections, each with one message that inflates a thousandfold, to just what may be inflated, and one more.
pub fn websocket_bombs(film: &mut Film, scale: Scale) -> Result<()> {
    let mut packed = Vec::with_capacity(MESSAGE);
    Compress::new(Compression::best(), false).compress_vec(
        &bomb(MESSAGE),
        &mut packed,
        FlushCompress::Sync,
    )?;
    // The four bytes that a sync flush ends with are left out (RFC 7692, section 7.2.1).
    packed.truncate(packed.len().saturating_sub(4));
    // Final, compressed, binary; a length of 16 bits; the server does not mask.
    let mut frame = vec![0xC2, 126];
    frame.extend((packed.len() as u16).to_be_bytes());
    frame.extend(packed);
    // Ten megabytes of them are gigabytes; no more is needed to tell.
    while film.bytes() < scale.bombs {
        let mut talk = film.connect(PORT)?;
        film.say(
            &mut talk,
            true,
            b"GET /feed HTTP/1.1\r\nHost: cart\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        )?;
        film.say(
            &mut talk,
            false,
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
              Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        )?;
        film.say(&mut talk, false, &frame)?;
        film.say(&mut talk, false, &frame)?;
        film.part(&mut talk)?;
    }
    Ok(())
}

/// What a bomb becomes: one byte again and again, of which deflate makes the least, a thousandth.
fn bomb(bytes: usize) -> Vec<u8> {
    vec![b' '; bytes]
}
