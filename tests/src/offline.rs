//! Where nothing can be recorded: a capture that is made up, and what the hub's program says of it.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use etherparse::PacketBuilder;
use wiretape_tape::{Direction, Export, ExportFormat, InterfaceInfo, LinkType, PacketMeta};

use crate::binaries;
use crate::investigation::Voice;

/// When the first packet was sent, in nanoseconds since 1970: 2023-11-14, by no clock, so that every run is the same.
pub const BEGAN: u64 = 1_700_000_000_000_000_000;
/// From one packet to the next.
const STEP: u64 = 5_000_000;

/// Address of who asks.
pub const CLIENT: [u8; 4] = [10, 77, 1, 11];
/// Address of who answers.
pub const SERVER: [u8; 4] = [10, 77, 2, 11];
const CLIENT_PORT: u16 = 40_000;
const SERVER_PORT: u16 = 8080;
/// Sequence numbers of both ends begin here.
const FIRST_SEQ: u32 = 1000;

/// What is asked and answered, in turn, on one connection.
const EXCHANGES: [(&str, &str); 3] = [
    ("GET /api/v1/cart HTTP/1.1", "HTTP/1.1 200 OK"),
    (
        "POST /api/v1/checkout HTTP/1.1",
        "HTTP/1.1 503 Service Unavailable",
    ),
    ("POST /api/v1/checkout HTTP/1.1", "HTTP/1.1 200 OK"),
];

/// Makes a capture at `path` and has `wiretape-hub dissect` show its calls, all and then the failed one.
///
/// # Errors
/// The file cannot be written, or the hub's program fails.
pub fn show(path: &Path, voice: Voice) -> anyhow::Result<()> {
    write(path, BEGAN, 1, None).with_context(|| format!("cannot write {}", path.display()))?;
    let hub = binaries::find("wiretape-hub")?;
    for filter in [None, Some("response.status >= 500")] {
        let mut dissect = Command::new(&hub);
        dissect.arg("dissect").arg(path);
        let shown = match filter {
            Some(kfl) => {
                dissect.args(["--kfl", kfl]);
                format!(" --kfl '{kfl}'")
            }
            None => String::new(),
        };
        voice.say(format!("\n$ wiretape-hub dissect {}{shown}", path.display()));
        let output = dissect
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run the hub's program")?;
        voice.say(String::from_utf8_lossy(&output.stdout).trim_end());
        ensure!(
            output.status.success(),
            "wiretape-hub dissect failed ({})",
            output.status
        );
    }
    Ok(())
}

/// Writes the capture: the exchanges, so many times, with the handshake before them, as it is seen by one of both, or by
/// neither.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, began: u64, times: usize, seen_by: Option<Side>) -> anyhow::Result<()> {
    let mut talk = Talk {
        capture: Export::new(File::create(path)?, ExportFormat::Pcapng, "wiretape demo"),
        began,
        seen_by,
        packets: 0,
        seqs: [FIRST_SEQ; 2],
    };
    talk.say(Side::Client, true, b"")?;
    talk.say(Side::Server, true, b"")?;
    talk.say(Side::Client, false, b"")?;
    for (request, response) in EXCHANGES.into_iter().cycle().take(EXCHANGES.len() * times) {
        let request = format!("{request}\r\nHost: checkout\r\nContent-Length: 0\r\n\r\n");
        talk.say(Side::Client, false, request.as_bytes())?;
        let response = format!("{response}\r\nContent-Length: 0\r\n\r\n");
        talk.say(Side::Server, false, response.as_bytes())?;
    }
    talk.capture.finish()?;
    Ok(())
}

/// One end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who asks.
    Client,
    /// Who answers.
    Server,
}

/// One connection, packet by packet.
struct Talk {
    capture: Export<File>,
    began: u64,
    seen_by: Option<Side>,
    packets: u64,
    /// What comes next of the client, and of the server.
    seqs: [u32; 2],
}

impl Talk {
    fn say(&mut self, side: Side, syn: bool, payload: &[u8]) -> anyhow::Result<()> {
        let [of_client, of_server] = &mut self.seqs;
        let (ends, ports, seq, ack) = match side {
            Side::Client => (
                (CLIENT, SERVER),
                (CLIENT_PORT, SERVER_PORT),
                of_client,
                *of_server,
            ),
            Side::Server => (
                (SERVER, CLIENT),
                (SERVER_PORT, CLIENT_PORT),
                of_server,
                *of_client,
            ),
        };
        let ip = PacketBuilder::ipv4(ends.0, ends.1, 64);
        let mut tcp = ip.tcp(ports.0, ports.1, *seq, u16::MAX);
        if syn {
            tcp = tcp.syn();
        }
        if !(syn && matches!(side, Side::Client)) {
            tcp = tcp.ack(ack);
        }
        let mut data = Vec::with_capacity(tcp.size(payload.len()));
        tcp.write(&mut data, payload)?;
        // A SYN takes a number as a byte does (RFC 9293 section 3.4).
        *seq = seq.wrapping_add(u32::try_from(payload.len())? + u32::from(syn));
        let len = u32::try_from(data.len())?;
        let meta = PacketMeta {
            ts: self.began + self.packets * STEP,
            data: 0..len,
            orig_len: len,
            link: LinkType::RAW,
            interface: 0,
            direction: match self.seen_by {
                None => Direction::Unknown,
                Some(seen_by) if seen_by == side => Direction::Out,
                Some(_) => Direction::In,
            },
            cgroup: 0,
            cookie: 0,
            dropped: None,
            at: 0,
        };
        self.packets += 1;
        let interfaces = [InterfaceInfo::new(LinkType::RAW, "made-up")];
        self.capture.packet("demo", &interfaces, &meta, &data)?;
        Ok(())
    }
}
