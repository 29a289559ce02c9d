//! What our agent says of itself while it runs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The agent's answer to one request.
pub fn get(agent: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&agent, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Its counters of packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accounts {
    pub seen: f64,
    pub on_tape: f64,
    pub excluded: f64,
    pub lost: f64,
    pub shed: f64,
}

impl Accounts {
    /// As its metrics tell them.
    pub fn of(agent: SocketAddr) -> Result<Self> {
        let answer = get(agent, "/metrics")?;
        let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
        for line in answer.lines().filter(|line| line.starts_with("wiretape_agent_")) {
            let (name, value) = line.rsplit_once(' ').context("a metric without a value")?;
            let name = name.split('{').next().unwrap_or(name);
            *sums.entry(name).or_default() += value.parse::<f64>().unwrap_or_default();
        }
        let metric = |name: &str| {
            let found = sums.get(format!("wiretape_agent_{name}_total").as_str());
            found
                .copied()
                .with_context(|| format!("the agent does not tell of {name}"))
        };
        let accounts = Self {
            seen: metric("seen")?,
            on_tape: metric("tape_packets")?,
            excluded: metric("excluded")?,
            lost: metric("lost")?,
            shed: metric("shed")?,
        };
        ensure!(accounts.seen > 0.0, "the agent has seen nothing");
        Ok(accounts)
    }

    /// What is neither on the tape, nor excluded, nor lost.
    pub fn unaccounted(self) -> f64 {
        self.seen - self.on_tape - self.excluded - self.lost
    }
}

/// Resident memory of a process in MiB, without what it shares with the kernel's ring.
pub fn resident(process: u32) -> Result<f64> {
    let maps = fs::read_to_string(format!("/proc/{process}/smaps"))?;
    let (mut ring, mut kib) = (false, 0.0);
    for line in maps.lines() {
        match line.split_once(':') {
            Some(("Rss", size)) if !ring => {
                kib += size
                    .trim()
                    .trim_end_matches(" kB")
                    .parse::<f64>()
                    .unwrap_or_default();
            }
            // The head of a mapping begins with its addresses, and ends with what is mapped.
            _ if line.split(' ').next().is_some_and(|word| word.contains('-')) => {
                ring = line.ends_with("anon_inode:bpf-map");
            }
            _ => {}
        }
    }
    Ok(kib / 1024.0)
}
