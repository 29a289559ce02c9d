//! How fast packets become calls, in this crate alone: 100,000 exchanges with JSON bodies over 1,000 connections.
//!
//! `cargo run --release -p wiretape-dissect --example throughput [calls]`

use std::time::Duration;

use wiretape_dissect::testing::{Recorded, Talk};
use wiretape_dissect::{Counters, Routed, Router, SHARDS, Segment, Shard};

fn main() {
    let calls = std::env::args()
        .nth(1)
        .and_then(|calls| calls.parse().ok())
        .unwrap_or(100_000);
    let packets = capture(calls);
    let bytes: usize = packets.iter().map(|packet| packet.data.len() + 32).sum();
    println!(
        "{} packets, {:.0} MB, {calls} calls",
        packets.len(),
        bytes as f64 / 1e6
    );
    for _ in 0..3 {
        let (routing, dissecting, counters) = run(&packets);
        let whole = routing + dissecting;
        println!(
            "route {:.0} ns/packet, dissect {:.0} ns/packet, together {:.3} CPU-s: {:.0} MB/CPU-s, {:.0} calls/CPU-s ({} calls)",
            routing.as_nanos() as f64 / packets.len() as f64,
            dissecting.as_nanos() as f64 / packets.len() as f64,
            whole.as_secs_f64(),
            bytes as f64 / 1e6 / whole.as_secs_f64(),
            counters.calls as f64 / whole.as_secs_f64(),
            counters.calls,
        );
    }
}

fn run(packets: &[Recorded]) -> (Duration, Duration, Counters) {
    let mut router = Router::new();
    let mut shards: Vec<Shard> = (0..SHARDS).map(|_| Shard::new()).collect();
    let mut calls = Vec::new();
    let mut counters = Counters::default();
    let (mut routing, mut dissecting) = (Duration::ZERO, Duration::ZERO);
    let mut batch: Vec<(u16, Segment, &[u8])> = Vec::new();
    // As in the hub: batches go from the thread that reads to those that dissect.
    for packets in packets.chunks(8192) {
        let begin = cpu();
        for packet in packets {
            if let Routed::Segment { shard, segment } = router.route(&packet.packet()) {
                batch.push((shard, segment, &packet.data));
            }
        }
        let routed = cpu();
        for (shard, segment, data) in batch.drain(..) {
            if let Some(shard) = shards.get_mut(usize::from(shard)) {
                shard.segment(&segment, segment.payload(data), &mut calls);
            }
        }
        calls.clear();
        for shard in &mut shards {
            shard.connections().for_each(drop);
        }
        routing += routed - begin;
        dissecting += cpu() - routed;
    }
    let begin = cpu();
    for shard in &mut shards {
        shard.finish(&[], &mut calls);
        counters.merge(shard.counters());
    }
    (routing, dissecting + (cpu() - begin), counters)
}

/// Time that this thread has been on a processor, so that others on the machine do not count.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat
        .split(' ')
        .next()
        .and_then(|nanos| nanos.parse().ok())
        .unwrap_or_default();
    Duration::from_nanos(nanos)
}

/// Requests and responses with about ten header fields each, every one of them acknowledged by a packet of its own,
/// connections taking turns.
fn capture(calls: usize) -> Vec<Recorded> {
    const CONNECTIONS: usize = 1000;
    let mut talks: Vec<Talk> = (0..CONNECTIONS.min(calls.max(1)))
        .map(|n| {
            let client = format!("10.0.{}.{}:{}", n / 250, n % 250, 30_000 + n);
            let mut talk = Talk::new(
                &client,
                "10.1.0.1:8080",
                1_700_000_000_000_000_000,
                (n as u32 * 77, n as u32 * 99),
            );
            talk.handshake();
            talk
        })
        .collect();
    let mut packets = Vec::with_capacity(calls * 4);
    let mut now = 1_700_000_000_000_000_000;
    for n in 0..calls {
        let turn = n % talks.len();
        let Some(talk) = talks.get_mut(turn) else { continue };
        talk.now = now;
        talk.ask(request(n));
        talk.ack(wiretape_dissect::testing::Who::Server);
        talk.answer(response(n));
        talk.ack(wiretape_dissect::testing::Who::Client);
        now = talk.now;
        packets.append(&mut talk.packets);
    }
    packets
}

fn request(n: usize) -> String {
    let body = format!(
        "{{\"order\":{n},\"items\":[{{\"sku\":\"a-{n}\",\"count\":{}}}],\"note\":\"{}\"}}",
        n % 7,
        "x".repeat(100)
    );
    format!(
        "POST /api/v1/orders/{n}?page={}&sort=asc HTTP/1.1\r\nHost: orders.shop.svc.cluster.local:8080\r\n\
         User-Agent: shop-frontend/1.4.2 (linux; amd64)\r\nAccept: application/json\r\n\
         Accept-Encoding: gzip, deflate, br\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         X-Request-Id: 8c2f1a34-{n:08}-4d1e-9b7a\r\nX-Correlation-Id: c-{n:08}\r\n\
         Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nCookie: session={n:032x}\r\n\r\n{body}",
        n % 13,
        body.len(),
    )
}

fn response(n: usize) -> String {
    let body = format!(
        "{{\"order\":{n},\"state\":\"accepted\",\"lines\":\"{}\"}}",
        "y".repeat(340)
    );
    format!(
        "HTTP/1.1 {} OK\r\nServer: nginx/1.22.1\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
         Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\
         Cache-Control: no-store\r\nX-Request-Id: 8c2f1a34-{n:08}-4d1e-9b7a\r\nVary: Accept-Encoding\r\n\
         X-Frame-Options: DENY\r\nStrict-Transport-Security: max-age=31536000\r\n\r\n{body}",
        if n.is_multiple_of(50) { 503 } else { 200 },
        body.len(),
    )
}
