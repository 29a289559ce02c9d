//! Connections: what each end sent, beside what tshark's analysis says of the same segments.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use wiretape_dissect::{ConnectionRecord, Sent};

use crate::compare::Message;

/// The protocol's name in the table.
pub const NAME: &str = "tcp";

/// What is asked for, in this order.
const FIELDS: [&str; 22] = [
    "tcp.stream",
    "frame.time_epoch",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags.fin",
    "tcp.flags.reset",
    "tcp.completeness",
    "tcp.analysis.retransmission",
    "tcp.analysis.fast_retransmission",
    "tcp.analysis.out_of_order",
    "tcp.analysis.duplicate_ack_num",
    "tcp.analysis.lost_segment",
    "tcp.analysis.zero_window",
    "tcp.analysis.window_full",
    "tcp.analysis.keep_alive",
    "tcp.analysis.ack_rtt",
    "tcp.analysis.initial_rtt",
    "tcp.options.wscale.shift",
];

/// Counts, by our names, with where tshark has them in [`FIELDS`].
const COUNTED: [(&str, usize); 10] = [
    ("fins", 8),
    ("resets", 9),
    ("retransmissions", 11),
    ("fast retransmissions", 12),
    ("out of order", 13),
    ("dup acks", 14),
    ("lost segments", 15),
    ("zero windows", 16),
    ("windows full", 17),
    ("keep-alives", 18),
];

/// Of Wireshark's completeness all but the handshake's ACK: tshark 4.0 sets it for any segment without data, be it of a
/// connection joined late or a reset, where its documentation speaks of the handshake.
const COMPLETENESS: u8 = !4;

/// Our connections, and what each end sent in them.
pub fn ours(connections: &[ConnectionRecord]) -> Vec<Message> {
    let mut messages = Vec::new();
    for connection in connections {
        let Some(tcp) = connection.tcp else { continue };
        let peers = [connection.client.address, connection.server.address];
        let mut ends: Vec<String> = peers.iter().map(ToString::to_string).collect();
        for (end, sent) in ends.iter().zip(&connection.sent) {
            if sent.packets > 0 {
                messages.push(side(connection.times.0, end, sent));
            }
        }
        ends.sort();
        let whole = Message::new("connection")
            .with("began", connection.times.0)
            .with("between", ends.join(" "))
            .with("completeness", tcp.completeness & COMPLETENESS)
            .with_some("initial rtt", tcp.initial_rtt.map(|rtt| rtt / 1000));
        messages.push(whole);
    }
    messages
}

fn side(began: u64, end: &str, sent: &Sent) -> Message {
    let counts = [
        sent.fins,
        sent.resets,
        sent.retransmissions,
        sent.fast_retransmissions,
        sent.out_of_order,
        sent.dup_acks,
        sent.lost_segments,
        sent.zero_windows,
        sent.windows_full,
        sent.keep_alives,
    ];
    let mut message = Message::new("direction")
        .with("began", began)
        .with("from", end)
        .with("packets", sent.packets)
        .with("round trips", sent.round_trips.samples);
    for ((name, _), count) in COUNTED.iter().zip(counts) {
        message = message.with(*name, count);
    }
    if sent.round_trips.samples > 0 {
        message = message
            .with("shortest round trip", sent.round_trips.min)
            .with("longest round trip", sent.round_trips.max)
            .with("mean round trip", sent.round_trips.mean());
    }
    message.with_some("window shift", sent.window_shift)
}

/// What tshark's packets add up to.
#[derive(Default)]
struct Stream {
    began: u64,
    ends: BTreeMap<String, Direction>,
    completeness: u8,
    initial_rtt: Option<u64>,
}

#[derive(Default)]
struct Direction {
    packets: u64,
    counts: [u32; COUNTED.len()],
    /// Round trips of what this end sent, in ns.
    round_trips: Vec<u64>,
    shift: Option<String>,
}

/// The same, asked of tshark.
pub fn theirs(file: &Path) -> Result<Vec<Message>> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-2", "-Y", "tcp && !icmp && !icmpv6", "-T", "fields"]);
    command.args(["-E", "occurrence=f", "-E", "separator=|"]);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let output = command
        .arg("-r")
        .arg(file)
        .output()
        .context("tshark is not installed")?;
    let mut streams: BTreeMap<String, Stream> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let values: Vec<&str> = line.split('|').collect();
        let value = |n: usize| values.get(n).copied().unwrap_or_default();
        streams.entry(value(0).to_owned()).or_default().add(value);
    }
    Ok(streams.values().flat_map(Stream::messages).collect())
}

impl Stream {
    fn add<'v>(&mut self, value: impl Fn(usize) -> &'v str) {
        let end = |v4: usize, v6: usize, port: usize| match value(v4) {
            "" => format!("[{}]:{}", value(v6), value(port)),
            address => format!("{address}:{}", value(port)),
        };
        let (from, to) = (end(2, 4, 6), end(3, 5, 7));
        if self.began == 0 {
            self.began = nanos(value(1));
        }
        self.completeness = value(10).parse().unwrap_or_default();
        if self.initial_rtt.is_none() && !value(20).is_empty() {
            self.initial_rtt = Some(nanos(value(20)));
        }
        // An acknowledgement measures what the other end sent.
        if !value(19).is_empty() {
            self.ends
                .entry(to.clone())
                .or_default()
                .round_trips
                .push(nanos(value(19)));
        }
        // Even if nothing of it was recorded.
        self.ends.entry(to).or_default();
        let direction = self.ends.entry(from).or_default();
        direction.packets += 1;
        for (count, (_, n)) in direction.counts.iter_mut().zip(COUNTED) {
            *count += u32::from(!matches!(value(n), "" | "0"));
        }
        if !value(21).is_empty() {
            direction.shift = Some(value(21).to_owned());
        }
    }

    fn messages(&self) -> Vec<Message> {
        let directions = self.ends.iter().filter(|(_, direction)| direction.packets > 0);
        let agreed = directions.clone().all(|(_, direction)| direction.shift.is_some());
        let mut messages: Vec<Message> = directions
            .map(|(end, direction)| direction.message(self.began, end, agreed))
            .collect();
        let ends: Vec<&str> = self.ends.keys().map(String::as_str).collect();
        if let [_, _] = ends.as_slice() {
            messages.push(
                Message::new("connection")
                    .with("began", self.began)
                    .with("between", ends.join(" "))
                    .with("completeness", self.completeness & COMPLETENESS)
                    .with_some("initial rtt", self.initial_rtt.map(|rtt| rtt / 1000)),
            );
        }
        messages
    }
}

impl Direction {
    /// `agreed`: each end whose segments were seen has said how its windows are scaled.
    fn message(&self, began: u64, end: &str, agreed: bool) -> Message {
        let mut message = Message::new("direction")
            .with("began", began)
            .with("from", end)
            .with("packets", self.packets)
            .with("round trips", self.round_trips.len());
        for ((name, _), count) in COUNTED.iter().zip(self.counts) {
            message = message.with(*name, count);
        }
        let micros = self.round_trips.iter().map(|rtt| rtt / 1000);
        if let (Some(shortest), Some(longest)) = (micros.clone().min(), micros.clone().max()) {
            let mean = micros.sum::<u64>() / self.round_trips.len() as u64;
            message = message
                .with("shortest round trip", shortest)
                .with("longest round trip", longest)
                .with("mean round trip", mean);
        }
        message.with_some("window shift", self.shift.as_ref().filter(|_| agreed))
    }
}

/// Seconds with a fraction, as nanoseconds.
fn nanos(seconds: &str) -> u64 {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let whole: u64 = whole.parse().unwrap_or_default();
    let fraction: u64 = format!("{fraction:0<9}").parse().unwrap_or_default();
    whole * 1_000_000_000 + fraction
}
