//! The traffic that is recorded: numbered UDP packets from one process to another.

use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// The payload begins with this, then the number, little-endian.
pub const MAGIC: [u8; 8] = *b"wtbench1";
/// How often the sender looks at the clock, in packets: often enough to end in time, seldom enough to cost nothing.
const BURST: u64 = 64;
/// How long the receiver sleeps when there is nothing to read. It polls, because to wake it up for each packet would
/// cost the sender more than all else; what does not fit into its socket meanwhile is the receiver's loss, not a
/// recorder's.
const NAP: Duration = Duration::from_micros(250);

/// The sender's arguments.
#[derive(Args)]
pub struct SendOptions {
    /// Where to.
    #[arg(long)]
    to: SocketAddr,
    /// For how many seconds.
    #[arg(long)]
    seconds: f64,
    /// Packets per second; 0 is as many as go.
    #[arg(long)]
    rate: u64,
    /// Bytes of UDP payload.
    #[arg(long)]
    payload: usize,
}

/// The receiver's arguments.
#[derive(Args)]
pub struct ReceiveOptions {
    /// The address to receive at.
    #[arg(long)]
    at: SocketAddr,
}

/// What either says at its end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Packets that the kernel took, or gave.
    pub packets: u64,
    /// CPU seconds of this process meanwhile.
    pub cpu: f64,
    /// Seconds from the first to the last packet.
    pub seconds: f64,
}

/// The sender: waits for a line on stdin (by then it is in its cgroup, and its socket will be), sends, reports.
pub fn send(options: &SendOptions) -> Result<()> {
    wait_for_line()?;
    let any: SocketAddr = if options.to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0; 16], 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(options.to)?;
    let mut payload = vec![0; options.payload.max(16)];
    payload.splice(..8, MAGIC);

    let cpu = own_cpu()?;
    let begun = Instant::now();
    let mut sent = 0_u64;
    loop {
        let elapsed = begun.elapsed().as_secs_f64();
        if elapsed >= options.seconds {
            break;
        }
        if options.rate > 0 && sent as f64 > elapsed * options.rate as f64 {
            thread::sleep(Duration::from_micros(200));
            continue;
        }
        for _ in 0..BURST {
            payload.splice(8..16, sent.to_le_bytes());
            match socket.send(&payload) {
                Ok(_) => sent += 1,
                // The send buffer is full, or nobody listens (yet): the packet did not go, its number is used again.
                Err(error) if is_refusal(&error) => thread::yield_now(),
                Err(error) => return Err(error).context("sending"),
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    say(&Report {
        packets: sent,
        cpu: own_cpu()? - cpu,
        seconds,
    })
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused
    ) || error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32)
}

/// The receiver: says that it is ready, counts until its stdin ends, reports.
pub fn receive(options: &ReceiveOptions) -> Result<()> {
    wait_for_line()?;
    let socket = UdpSocket::bind(options.at)?;
    socket.set_nonblocking(true)?;
    println!("ready");
    io::stdout().flush()?;

    let over = AtomicBool::new(false);
    let cpu = own_cpu()?;
    let begun = Instant::now();
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            // Whatever ends stdin ends the run.
            let _ = io::stdin().read_to_end(&mut Vec::new());
            over.store(true, Ordering::Relaxed);
        });
        count(&socket, &over)
    })?;
    say(&Report {
        packets: received,
        cpu: own_cpu()? - cpu,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

fn count(socket: &UdpSocket, over: &AtomicBool) -> Result<u64> {
    let mut buffer = [0; 2048];
    let mut received = 0;
    loop {
        match socket.recv(&mut buffer) {
            Ok(length)
                if buffer
                    .get(..length)
                    .is_some_and(|payload| payload.starts_with(&MAGIC)) =>
            {
                received += 1
            }
            Ok(_) => {}
            // Asked only when nothing is left, so that what was sent is counted to its last packet.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if over.load(Ordering::Relaxed) {
                    return Ok(received);
                }
                thread::sleep(NAP);
            }
            Err(error) => return Err(error).context("receiving"),
        }
    }
}

fn wait_for_line() -> Result<()> {
    let read = io::stdin().lock().read_line(&mut String::new())?;
    anyhow::ensure!(read > 0, "told to end before it began");
    Ok(())
}

fn own_cpu() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let (user, system) = (usage.user_time(), usage.system_time());
    Ok((user.tv_sec() + system.tv_sec()) as f64 + (user.tv_usec() + system.tv_usec()) as f64 / 1e6)
}

fn say(report: &Report) -> Result<()> {
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}
