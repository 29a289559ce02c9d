//! Exchanges of the protocols that no capture has: GraphQL, and WebSocket by both of its ways in.

use flate2::{Compress, Compression, FlushCompress};
use wiretape_dissect::testing::{Talk, Who};

/// What both ends say, in turn.
type Said = Vec<(Who, Vec<u8>)>;

const UPGRADE: &str = "GET /live?room=7 HTTP/1.1\r\nHost: chat\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const QUERY: &str = "{\"query\":\"query Cart($id: ID!) { cart(id: $id) { total } }\",\"operationName\":\"Cart\",\
                     \"variables\":{\"id\":\"7\"}}";
const BATCH: &str = "[{\"query\":\"{ me { name } }\"},{\"query\":\"mutation { pay(id: 7) }\"}]";
const REFUSED: &str = "{\"data\":null,\"errors\":[{\"message\":\"no such cart\",\"path\":[\"cart\"],\
                       \"extensions\":{\"code\":\"BAD_USER_INPUT\"}}]}";

/// All of them, each as a connection from its handshake to its end.
pub fn talks() -> Vec<Talk> {
    let mut all = vec![graphql(), websocket("", messages(plain))];
    for context in ["", "; server_no_context_takeover; client_no_context_takeover"] {
        let extension = format!("Sec-WebSocket-Extensions: permessage-deflate{context}\r\n");
        all.push(websocket(&extension, messages(deflated)));
    }
    all.extend([graphql_http2(), websocket_http2()]);
    all
}

fn talk(said: Said) -> Talk {
    let mut talk = Talk::usual();
    talk.handshake();
    for (who, bytes) in said {
        talk.send(who, &bytes);
    }
    talk.close();
    talk
}

fn graphql() -> Talk {
    let mut said = Said::new();
    for (asked, answered) in [(QUERY, REFUSED), (BATCH, "[{\"data\":{}},{\"data\":{}}]")] {
        said.push((
            Who::Client,
            format!(
                "POST /graphql HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{asked}",
                asked.len()
            )
            .into_bytes(),
        ));
        said.push((Who::Server, answer(answered)));
    }
    let by_path = "GET /graphql?query=query%20Me+%7Bme%7D&operationName=Me HTTP/1.1\r\nHost: h\r\n\r\n";
    said.push((Who::Client, by_path.as_bytes().to_vec()));
    said.push((Who::Server, answer(REFUSED)));
    talk(said)
}

fn answer(body: &str) -> Vec<u8> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/graphql-response+json\r\nTransfer-Encoding: chunked";
    format!("{head}\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes()
}

// --- WebSocket ----------------------------------------------------------------------------------------------------

fn websocket(extension: &str, messages: Said) -> Talk {
    let upgraded = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{extension}\r\n"
    );
    let mut said = vec![(Who::Client, UPGRADE.into()), (Who::Server, upgraded.into())];
    said.extend(messages);
    talk(said)
}

/// Messages whole and in fragments, with control frames between them, as `payload` writes their first bytes and payloads.
fn messages(payload: fn(u8, &[u8]) -> (u8, Vec<u8>)) -> Said {
    let mut said = Said::new();
    let mut say = |who, first: u8, bytes: &[u8]| said.push((who, websocket_frame(who, first, bytes)));
    for who in [Who::Client, Who::Server, Who::Client] {
        let (first, bytes) = payload(0x81, QUERY.as_bytes());
        say(who, first, &bytes);
        let (first, bytes) = payload(0x02, &[7; 300]);
        let (begin, rest) = bytes.split_at(bytes.len() / 2);
        say(who, first, begin);
        say(who, 0x89, b"ping");
        say(who, 0x80, rest);
        say(who, 0x8a, b"ping");
    }
    say(Who::Client, 0x88, &[0x03, 0xe8, b'b', b'y', b'e']);
    say(Who::Server, 0x88, &[0x03, 0xe8]);
    said
}

fn plain(first: u8, bytes: &[u8]) -> (u8, Vec<u8>) {
    (first, bytes.to_vec())
}

/// As permessage-deflate has it (RFC 7692, section 7.2.1): without the empty block at the end.
fn deflated(first: u8, bytes: &[u8]) -> (u8, Vec<u8>) {
    const RSV1: u8 = 0x40;
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let done = Compress::new(Compression::fast(), false).compress_vec(bytes, &mut out, FlushCompress::Sync);
    assert!(done.is_ok(), "a compressor that has not ended takes bytes");
    out.truncate(out.len().saturating_sub(4));
    (first | RSV1, out)
}

/// One frame (RFC 6455, section 5.2). The client's are masked.
fn websocket_frame(who: Who, first: u8, payload: &[u8]) -> Vec<u8> {
    let key: [u8; 4] = if who == Who::Client {
        [0x37, 0xfa, 0x21, 0x3d]
    } else {
        [0; 4]
    };
    let mask = if who == Who::Client { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match u8::try_from(payload.len()) {
        Ok(len @ 0..126) => bytes.push(mask | len),
        _ => {
            bytes.push(mask | 126);
            bytes.extend((payload.len() as u16).to_be_bytes());
        }
    }
    if who == Who::Client {
        bytes.extend(key);
    }
    bytes.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    bytes
}

// --- HTTP/2 -------------------------------------------------------------------------------------------------------

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn graphql_http2() -> Talk {
    let asked = [
        fields(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/graphql"),
            (":authority", "h"),
        ]),
        fields(&[("content-type", "application/json")]),
    ];
    let answered = fields(&[(":status", "200"), ("content-type", "application/json")]);
    http2(
        &asked.concat(),
        &answered,
        vec![
            (Who::Client, frame(DATA, END_STREAM, QUERY.as_bytes())),
            (Who::Server, frame(DATA, END_STREAM, REFUSED.as_bytes())),
        ],
    )
}

/// By extended CONNECT (RFC 8441).
fn websocket_http2() -> Talk {
    let asked = fields(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/live"),
        (":authority", "chat"),
        ("sec-websocket-version", "13"),
    ]);
    let framed = messages(plain)
        .into_iter()
        .map(|(who, bytes)| (who, frame(DATA, 0, &bytes)))
        .collect();
    http2(&asked, &fields(&[(":status", "200")]), framed)
}

fn http2(asked: &[u8], answered: &[u8], data: Said) -> Talk {
    // SETTINGS_ENABLE_CONNECT_PROTOCOL.
    let settings = [&[0, 0, 6, 4, 0, 0, 0, 0, 0][..], &[0, 8, 0, 0, 0, 1]].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut said = vec![
        (Who::Client, [preface, settings.clone()].concat()),
        (Who::Server, settings),
        (Who::Client, frame(HEADERS, END_HEADERS, asked)),
        (Who::Server, frame(HEADERS, END_HEADERS, answered)),
    ];
    said.extend(data);
    talk(said)
}

/// A frame of the first stream (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags, 0, 0, 0, 1]);
    bytes.extend(payload);
    bytes
}

/// Literal fields with literal names, the first half of which go into the table (RFC 7541, section 6.2).
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (n, (name, value)) in fields.iter().enumerate() {
        block.push(if n < fields.len() / 2 { 0x40 } else { 0 });
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use wiretape_dissect::testing::dissect;

    #[test]
    fn each_speaks_what_no_capture_does() {
        let mut calls: Vec<_> = super::talks()
            .iter()
            .flat_map(|talk| dissect(&talk.packets).calls)
            .map(|call| (call.protocol, call.version))
            .collect();
        calls.sort();
        let count = |wanted| calls.iter().filter(|(protocol, _)| *protocol == wanted).count();
        // Six messages, three pings and two goodbyes of each of the four that talk by WebSocket.
        assert_eq!(
            [count("gqlv1"), count("gqlv2"), count("ws")],
            [3, 1, 44],
            "{calls:?}"
        );
    }
}
