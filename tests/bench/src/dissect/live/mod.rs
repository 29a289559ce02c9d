//! Captures of real clients and servers, with what the clients say that they asked as the truth.

mod dns;
mod grpc;
mod http;
mod postgresql;
mod redis;
mod room;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use wiretape_tape::{Chunk, LinkType};

use self::room::{Room, Running};
use super::capture::Truth;
use super::kind::Kind;
use super::pcapng;
use crate::scratch::Scratch;

/// Bump when captures are made otherwise, so that a kept one of an older kind is not taken.
pub const VERSION: u32 = 3;

/// tcpdump's buffer in KiB, larger than a capture: on a busy machine it may not get a turn for long.
const BUFFER: &str = "393216";
/// How often a capture is made anew because tcpdump has dropped packets of it.
const ATTEMPTS: u32 = 3;
/// tcpdump forgets what is in its buffer when it is told to end: so long it has to read that.
const SETTLE: Duration = Duration::from_millis(1500);

/// What the clients say that they asked.
#[derive(Clone, Debug, Default)]
struct Asked {
    calls: u64,
    /// How many calls each filter must find.
    answers: BTreeMap<String, u64>,
}

impl Asked {
    fn expect(&mut self, kfl: &str, calls: u64) {
        self.answers.insert(kfl.to_owned(), calls);
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.answers.extend(other.answers);
    }
}

/// Records about so many megabytes of `kind` into `out`, with the files of its servers in `scratch`.
pub fn record(kind: Kind, megabytes: u64, scratch: &Scratch, out: &Path) -> Result<Truth> {
    let room = Room::new(scratch.path().to_owned())?;
    let servers = start(&room, kind)?;
    for attempt in 1..=ATTEMPTS {
        let pcap = scratch.path().join("recorded.pcap");
        let mut tcpdump = Tcpdump::start(&room, &pcap)?;
        let asked = ask(&room, kind, megabytes)?;
        thread::sleep(SETTLE);
        let dropped = tcpdump.end(&room)?;
        if dropped == 0 {
            drop(servers);
            let packets = convert(&pcap, out)?;
            eprintln!("{packets} packets recorded, none dropped");
            std::fs::remove_file(&pcap)?;
            return Ok(Truth {
                packets,
                calls: asked.calls,
                answers: asked.answers,
            });
        }
        eprintln!("tcpdump dropped {dropped} packets (attempt {attempt} of {ATTEMPTS})");
    }
    bail!(
        "what tcpdump drops, nobody can find: this machine is too busy to record {}",
        kind.name()
    )
}

fn start(room: &Room, kind: Kind) -> Result<Vec<Running>> {
    Ok(match kind {
        Kind::Http1 | Kind::Http2 => vec![http::start(room)?],
        Kind::Grpc => vec![grpc::start(room)?],
        Kind::Postgresql => vec![postgresql::start(room)?],
        Kind::Redis => vec![redis::start(room)?],
        Kind::Dns => vec![dns::start(room)?],
        Kind::Mix => vec![
            http::start(room)?,
            grpc::start(room)?,
            postgresql::start(room)?,
            redis::start(room)?,
            dns::start(room)?,
        ],
    })
}

fn ask(room: &Room, kind: Kind, megabytes: u64) -> Result<Asked> {
    match kind {
        Kind::Http1 | Kind::Http2 => http::ask(room, kind, megabytes),
        Kind::Grpc => grpc::ask(room, megabytes),
        Kind::Postgresql => postgresql::ask(room, megabytes),
        Kind::Redis => redis::ask(room, megabytes),
        Kind::Dns => dns::ask(room, megabytes),
        Kind::Mix => ask_all(room, megabytes),
    }
}

/// All clients at a time, each for its share.
fn ask_all(room: &Room, megabytes: u64) -> Result<Asked> {
    let share = megabytes.div_ceil(Kind::SINGLE.len() as u64);
    thread::scope(|scope| {
        let clients: Vec<_> = Kind::SINGLE
            .into_iter()
            .map(|kind| scope.spawn(move || ask(room, kind, share)))
            .collect();
        let mut all = Asked::default();
        for client in clients {
            let Ok(asked) = client.join() else {
                bail!("a client's thread panicked");
            };
            all.add(asked?);
        }
        Ok(all)
    })
}

/// The recorder.
struct Tcpdump {
    running: Running,
}

impl Tcpdump {
    const LOG: &'static str = "tcpdump.log";

    /// Starts it, and waits until it listens.
    fn start(room: &Room, pcap: &Path) -> Result<Self> {
        let mut command = room.command("tcpdump");
        // It stays root, or it could not write into the folder.
        command
            .args(["-n", "-Z", "root", "-i", "lo", "-s", "0", "-B", BUFFER, "-w"])
            .arg(pcap)
            .arg("--time-stamp-precision=nano");
        let running = room.serve(&mut command, Self::LOG)?;
        for _ in 0..500 {
            if said(room)?.contains("listening on") {
                return Ok(Self { running });
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("tcpdump does not listen: {}", said(room)?)
    }

    /// Ends it and returns how many packets it says were dropped.
    fn end(&mut self, room: &Room) -> Result<u64> {
        self.running.end(Signal::SIGINT)?;
        let said = said(room)?;
        let line = said
            .lines()
            .find(|line| line.ends_with("packets dropped by kernel"));
        number_before(
            line.with_context(|| format!("tcpdump does not say what it dropped: {said}"))?,
            "packets",
        )
    }
}

fn said(room: &Room) -> Result<String> {
    let log = room.dir().join(Tcpdump::LOG);
    std::fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))
}

/// tcpdump writes pcap; snapshots hold pcapng. Returns the number of packets.
fn convert(pcap: &Path, out: &Path) -> Result<u64> {
    let mut writer = pcapng::Writer::new(BufWriter::with_capacity(1 << 20, File::create(out)?))?;
    let mut reader = wiretape_tape::open(pcap)?;
    let mut chunk = Chunk::default();
    let mut packets = 0;
    while reader.next_chunk(&mut chunk)? {
        for packet in &chunk.packets {
            ensure!(
                packet.link == LinkType::ETHERNET,
                "the loopback has Ethernet's frames"
            );
            writer.packet(packet.ts, chunk.data(packet))?;
            packets += 1;
        }
    }
    writer.finish()?;
    Ok(packets)
}

/// The number in front of a word: `20` of "requests: 20 total" and `total`.
fn number_before(text: &str, word: &str) -> Result<u64> {
    let before = text
        .split_once(word)
        .and_then(|(before, _)| before.split_whitespace().last());
    before
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("there is no number of {word} in {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_in_front_of_a_word() {
        let line = "requests: 20000 total, 20000 started, 19999 succeeded, 1 failed";
        assert_eq!(number_before(line, "succeeded").unwrap(), 19_999);
        assert_eq!(
            number_before("0 packets dropped by kernel", "packets").unwrap(),
            0
        );
        assert!(number_before(line, "lost").is_err());
    }
}
