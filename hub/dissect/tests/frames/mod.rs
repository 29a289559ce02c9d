//! WebSocket's frames, and the upgrade before them.

#![allow(dead_code, reason = "each test that includes it uses a part of it")]

use wiretape_dissect::testing::{Talk, Who};

const REQUEST: &str = "GET /live?room=7 HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// One frame. The client's are masked.
pub fn frame(who: Who, first: u8, payload: &[u8]) -> Vec<u8> {
    let mask: u8 = if who == Who::Client { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(mask | len as u8),
        len @ 126..65536 => {
            bytes.push(mask | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(mask | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    if who == Who::Client {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        bytes.extend(key);
        bytes.extend(
            payload
                .iter()
                .zip(key.iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
    } else {
        bytes.extend(payload);
    }
    bytes
}

/// A connection that has been upgraded, with a line of the response's head.
pub fn upgraded(line: &str) -> Talk {
    let mut talk = Talk::usual();
    talk.handshake().ask(REQUEST).answer(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{line}\r\n"
    ));
    talk
}
