//! Calls of a shop, made up, through the hub's real writer: an hour of them, in the order in which they ended.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use wiretape_dissect::{Call, Headers, Message, Observation, Outcome, Peer};
use wiretape_hub::calls::{Names, NodeName, PartWriter, Rows, schema};
use wiretape_hub::dissections::{SUMMARY, Summary, TABLES};
use wiretape_tape::{Name, Nanos};

use crate::random::Random;

/// Parts, as a dissection on two threads writes them.
const PARTS: u64 = 2;
/// Calls of one connection.
const ON_ONE: u64 = 100;
/// Time of the first call; any will do.
const START: Nanos = 1_767_225_600_000_000_000;
/// From the first call to the last.
const SPAN: Nanos = 3600 * 1_000_000_000;
/// Calls that are handed to the writer together, as a dissection's workers do.
const AT_HAND: u64 = 16;

/// Services, each behind so many pods as it has letters.
const SERVICES: [&str; 8] = [
    "frontend",
    "checkout",
    "catalogue",
    "cart",
    "payment",
    "users",
    "shipping",
    "search",
];

/// What storing took.
pub struct Stored {
    pub seconds: f64,
    pub bytes: u64,
}

/// Stores so many calls as a dissection in `folder`.
pub fn store(folder: &Path, calls: u64) -> Result<Stored> {
    let begun = Instant::now();
    let tables = folder.join(TABLES);
    std::fs::create_dir(&tables).with_context(|| format!("making {}", tables.display()))?;
    let names = Arc::new(Names::new(names()));
    thread::scope(|scope| {
        let parts: Vec<_> = (0..PARTS)
            .map(|part| {
                let (names, path) = (Arc::clone(&names), tables.join(format!("part-{part}.parquet")));
                scope.spawn(move || write(&path, names, part, calls))
            })
            .collect();
        parts
            .into_iter()
            .try_for_each(|part| part.join().map_err(|_| anyhow!("a writing thread panicked"))?)
    })?;
    let summary = Summary {
        schema: schema::VERSION,
        packets: calls * 2,
        calls,
        first_call: Some(START),
        last_call: Some(START + SPAN),
        ..Summary::default()
    };
    std::fs::write(tables.join(SUMMARY), serde_json::to_vec(&summary)?)?;
    let mut bytes = 0;
    for file in std::fs::read_dir(&tables)? {
        bytes += file?.metadata()?.len();
    }
    Ok(Stored {
        seconds: begun.elapsed().as_secs_f64(),
        bytes,
    })
}

/// The connection of a call in the middle.
pub fn stream_in_the_middle(calls: u64) -> u64 {
    stream(calls / 2)
}

/// A call's connection; numbers of a hash's kind.
fn stream(number: u64) -> u64 {
    (number / ON_ONE).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn write(path: &Path, names: Arc<Names>, part: u64, calls: u64) -> Result<()> {
    let rows = Rows::new(names, Arc::from(["node-1".to_owned()]));
    let mut writer = PartWriter::create(path, rows, PARTS as usize)?;
    let mut random = Random(0x5eed ^ part);
    let mut some = Vec::new();
    // Connections in turn, so that calls of both parts are spread over the whole time.
    for number in (0..calls).filter(|number| number / ON_ONE % PARTS == part) {
        some.push(call(number, calls, &mut random));
        if some.len() as u64 == AT_HAND {
            writer.push(&some)?;
            some.clear();
        }
    }
    writer.push(&some)?;
    writer.finish()?;
    Ok(())
}

fn names() -> Vec<NodeName> {
    let pods = SERVICES.iter().enumerate().flat_map(|(service, name)| {
        (0..name.len()).map(move |pod| NodeName {
            node: "node-1".to_owned(),
            name: Name {
                pod: format!("{name}-{pod}"),
                namespace: "shop".to_owned(),
                service: (*name).to_owned(),
                addresses: vec![address(service as u64, pod as u64, 0).ip()],
                labels: [("app".to_owned(), (*name).to_owned())].into(),
                ..Name::default()
            },
        })
    });
    pods.collect()
}

fn address(service: u64, pod: u64, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, service as u8, pod as u8 + 1], port))
}

fn call(number: u64, calls: u64, random: &mut Random) -> Call {
    let mut end = |port: u16| {
        let service = random.below(SERVICES.len() as u64);
        let pods = SERVICES.get(service as usize).map_or(1, |name| name.len() as u64);
        Peer {
            address: address(service, random.below(pods), port),
            tape: None,
            cgroup: 0,
        }
    };
    let (client, server) = (end(32768 + (number / ON_ONE % 20_000) as u16), end(8080));
    let method = *random.pick(&["GET", "GET", "GET", "POST", "DELETE"]);
    let status = i32::from(random.status(method));
    let path = match random.below(20) {
        0..8 => format!("/api/v1/products/{}", random.below(5000)),
        8..12 => format!(
            "/api/v1/users/{}/orders/{}",
            random.below(20_000),
            random.below(1 << 20)
        ),
        12..16 => "/api/v1/cart".to_owned(),
        16..18 => "/api/v1/checkout".to_owned(),
        _ => "/healthz".to_owned(),
    };
    // Most are fast and a few very slow: a quotient of random numbers.
    let elapsed = 200_000 + random.below(5_000_000) * 1000 / (1 + random.below(1000));
    let start =
        START + (u128::from(SPAN) * u128::from(number) / u128::from(calls)) as u64 + random.below(1_000_000);
    let message = |headers: Headers, body: u64| Message {
        headers,
        seq: number as u32,
        head_len: 300,
        body_len: body,
        wire_len: 300 + body,
        packets: [number * 1500].into_iter().collect(),
        ..Message::default()
    };
    let mut asked = Headers::default();
    asked.push("host", b"shop.example");
    asked.push(
        "user-agent",
        b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    );
    asked.push("x-request-id", format!("{:016x}", random.next()).as_bytes());
    let mut told = Headers::default();
    told.push("content-type", b"application/json");
    told.push("server", b"envoy");
    Call {
        stream: stream(number),
        index: (number % ON_ONE) as u32,
        protocol: "http",
        version: "HTTP/1.1",
        client,
        server,
        method: method.into(),
        path,
        query: if random.below(4) == 0 {
            format!("page={}", random.below(50))
        } else {
            String::new()
        },
        authority: "shop.example".to_owned(),
        status: Some(status),
        outcome: match status {
            500.. => Outcome::ServerError,
            400.. => Outcome::ClientError,
            _ => Outcome::Ok,
        },
        request: Some(message(asked, random.below(500))),
        response: Some(message(told, random.below(20_000))),
        marks: Default::default(),
        client_side: None,
        server_side: Some(Observation {
            tape: 0,
            request: Some((start, start + 1000)),
            response: Some((start + elapsed - 1000, start + elapsed)),
        }),
        unknown_side: None,
        fields: Vec::new(),
    }
}
