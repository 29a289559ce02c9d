//! What the agent is told: flags and environment. Nothing else in the agent reads either.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use wiretape_tape::{Capture, Recording, Rule};

use crate::choice::budget::Budget;

use crate::kernel::pins::is_bpf_file_system;

/// Records every packet of this node's sockets onto a tape of fixed length, and serves cuts of it.
#[derive(Clone, Debug, Parser)]
#[command(name = "wiretape-agent", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What to do instead of recording
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to record
    #[command(flatten)]
    pub config: Config,
}

/// What the program does beside recording.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Say what works on this machine, what does not and why, and what to do; exits with 1 when recording would fail
    Doctor {
        /// Print one JSON object instead of lines
        #[arg(long)]
        json: bool,

        /// How one would record
        #[command(flatten)]
        config: Box<Config>,
    },
    /// Take away what agents that ran here have left in the kernel and nobody uses: programs, rings, pins
    Cleanup {
        /// Folder of the BPF file system in which it is pinned
        #[arg(long, value_name = "DIR", default_value = PIN, env = "WIRETAPE_PIN")]
        pin: PathBuf,
    },
}

/// How to record.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Where packets come from
    #[arg(long, value_enum, default_value_t = Backend::Auto, env = "WIRETAPE_BACKEND")]
    pub backend: Backend,

    /// Sub-tree of the cgroup v2 hierarchy to record; the whole of it when not given (eBPF)
    #[arg(long, value_name = "PATH", env = "WIRETAPE_CGROUP")]
    pub cgroup: Option<PathBuf>,

    /// Sub-trees below it to leave out; the agent's own cgroup always is (eBPF)
    #[arg(long, value_name = "PATH", num_args = 1.., value_delimiter = ',', env = "WIRETAPE_EXCLUDE_CGROUP")]
    pub exclude_cgroup: Vec<PathBuf>,

    /// Interfaces on which packets are recorded that no socket sends or receives, such as resets from closed
    /// ports, ICMP and ARP (eBPF)
    #[arg(long, value_enum, default_value_t = Interfaces::Pods, env = "WIRETAPE_INTERFACES")]
    pub interfaces: Interfaces,

    /// Interface to record (libpcap)
    #[arg(long, value_name = "NAME", default_value = "any", env = "WIRETAPE_INTERFACE")]
    pub interface: String,

    /// The capture file to play, as fast as it can be read (replay)
    #[arg(long, value_name = "FILE", required_if_eq("backend", "replay"))]
    pub replay: Option<PathBuf>,

    /// How much of each packet is recorded: whole, headers, first:BYTES (of each connection, each way, then headers),
    /// or sample:1/N (whole packets of one flow in N)
    #[arg(
        long,
        value_name = "HOW MUCH",
        default_value = "whole",
        env = "WIRETAPE_CAPTURE"
    )]
    pub capture: Capture,

    /// Record only packets that this lets through, in libpcap's language, e.g. "not port 9100"
    #[arg(long, value_name = "BPF", default_value = "", env = "WIRETAPE_FILTER")]
    pub filter: String,

    /// YAML file that says how much of which workload is recorded; read again on SIGHUP
    #[arg(long, value_name = "FILE", env = "WIRETAPE_RULES")]
    pub rules: Option<PathBuf>,

    /// Most processor time, in percent of one, the kernel's part included; more makes it record less
    #[arg(long, value_name = "PERCENT", value_parser = percent, env = "WIRETAPE_CPU_BUDGET")]
    pub cpu_budget: Option<f64>,

    /// Most memory, the buffer included, which is made to fit; more makes it record less
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WIRETAPE_MEMORY_BUDGET")]
    pub memory_budget: Option<u64>,

    /// Most bytes written in a second; more makes it record less
    #[arg(long, value_name = "SIZE", value_parser = rate, env = "WIRETAPE_DISK_BUDGET")]
    pub disk_budget: Option<u64>,

    /// Name of this node; the host's name when not given
    #[arg(long, value_name = "NAME", env = "WIRETAPE_NODE_NAME")]
    pub node_name: Option<String>,

    /// Address to serve the hub on
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "0.0.0.0:8897",
        env = "WIRETAPE_LISTEN"
    )]
    pub listen: SocketAddr,

    /// Folder of the tape
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/wiretape/tape",
        env = "WIRETAPE_TAPE"
    )]
    pub tape: PathBuf,

    /// Length of the tape on disk
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size, env = "WIRETAPE_TAPE_SIZE")]
    pub tape_size: u64,

    /// Length of one segment of the tape
    #[arg(long, value_name = "SIZE", env = "WIRETAPE_SEGMENT_SIZE")]
    #[arg(default_value = "64MiB", value_parser = size)]
    pub segment_size: u64,

    /// Longest time that packets are kept, though there is room; as long as there is room when not given
    #[arg(long, value_name = "TIME", value_parser = duration, env = "WIRETAPE_KEEP")]
    pub keep: Option<Duration>,

    /// Compress sealed segments in the background (zstd), so that the tape reaches further back
    #[arg(long, env = "WIRETAPE_COMPRESS")]
    pub compress: bool,

    /// Health fails when, at the present rate, the tape would reach back less far than this; 0s for never
    #[arg(long, value_name = "TIME", env = "WIRETAPE_SHORTEST_TAPE")]
    #[arg(default_value = "1h", value_parser = duration)]
    pub shortest_tape: Duration,

    /// How long a packet may wait before it is in a file; 5s at most
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration, env = "WIRETAPE_FLUSH")]
    pub flush: Duration,

    /// Memory between the kernel and the agent, for bursts; rounded up to a power of two (eBPF, libpcap)
    #[arg(long, value_name = "SIZE", env = "WIRETAPE_BUFFER_SIZE")]
    #[arg(default_value = "64MiB", value_parser = buffer_size)]
    pub buffer_size: u32,

    /// Bytes in a second that are recorded whole of bulk transfers once they last. When not given, 24MiB for each
    /// processor, 192MiB at most, and less, down to a sixteenth, while less than half of the processors are idle (eBPF)
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WIRETAPE_BULK_RATE")]
    pub bulk_rate: Option<u64>,

    /// Folder of the BPF file system in which programs and ring are pinned, so that they go on recording when the agent
    /// goes, for the next one to take over; none for nothing. Where there is no such file system, nothing is (eBPF)
    #[arg(long, value_name = "DIR", default_value = PIN, env = "WIRETAPE_PIN")]
    pub pin: PathBuf,

    /// YAML file that says which cgroup, address or process is which workload; read again on SIGHUP
    #[arg(long, value_name = "FILE", env = "WIRETAPE_WORKLOADS")]
    pub workloads: Option<PathBuf>,

    /// Whether to name this node's pods by the Kubernetes API
    #[arg(long, value_enum, default_value_t = UseKubernetes::Auto, env = "WIRETAPE_KUBERNETES")]
    pub kubernetes: UseKubernetes,

    /// Where the Kubernetes API is; inside a pod it is known
    #[arg(long, value_name = "FILE", env = "WIRETAPE_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
}

/// Whether to ask the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UseKubernetes {
    /// In a pod, or with a kubeconfig
    Auto,
    /// Always: without an API server to be found, the agent does not start
    On,
    /// Never
    Off,
}

/// Where packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// eBPF where it can run, else libpcap
    Auto,
    /// Kernel programs on the sockets of a cgroup's sub-tree
    Ebpf,
    /// libpcap on an interface
    Pcap,
    /// A capture file
    Replay,
}

/// Interfaces of the network namespaces in which recorded processes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Interfaces {
    /// None: only what sockets send and receive
    None,
    /// Those of other namespaces than the agent's, which are pods': what the node forwards is recorded there
    Pods,
    /// The node's own too: what it forwards is recorded there once more
    All,
}

impl Config {
    /// The node's name, as given or as the host calls itself.
    ///
    /// # Errors
    /// When no name was given and the host has none.
    pub fn node(&self) -> Result<String> {
        if let Some(name) = &self.node_name {
            return Ok(name.clone());
        }
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .context("the host's name cannot be read, give one by --node-name")?;
        match name.trim() {
            "" => bail!("the host has no name, give one by --node-name"),
            name => Ok(name.to_owned()),
        }
    }

    /// Where to pin what outlives the agent, if anything is to: what is the default is left out where it cannot be.
    pub fn pin(&self) -> Option<PathBuf> {
        let there = |dir: &Path| dir != Path::new(PIN) || dir.parent().is_some_and(is_bpf_file_system);
        Some(self.pin.clone()).filter(|dir| dir != Path::new(NO_PINS) && there(dir))
    }

    /// Refuses what each flag allows but what does not fit together.
    ///
    /// # Errors
    /// Says which flags, and what to do.
    pub fn check(&self) -> Result<()> {
        if self.segment_size > self.tape_size / 2 {
            bail!(
                "--segment-size {} does not fit at least twice into --tape-size {}: the tape loses a whole \
                 segment at a time, so make segments smaller or the tape longer",
                self.segment_size,
                self.tape_size
            );
        }
        if self.keep.is_some_and(|keep| keep < LEAST_KEPT) {
            bail!(
                "--keep must be {} s at least: segments are dropped as wholes",
                LEAST_KEPT.as_secs()
            );
        }
        if self.flush > LONGEST_FLUSH {
            bail!("--flush must be {} s at most", LONGEST_FLUSH.as_secs());
        }
        if let Some(memory) = self.memory_budget.filter(|memory| *memory < LEAST_MEMORY) {
            bail!(
                "--memory-budget {memory} is too little: {LEAST_MEMORY} bytes at least, half of them for packets"
            );
        }
        Ok(())
    }

    /// What is to be recorded. Reads the file of rules.
    ///
    /// # Errors
    /// When that cannot be read, or says something that cannot be.
    pub fn recording(&self) -> Result<Recording> {
        Ok(Recording {
            capture: self.capture,
            filter: self.filter.trim().to_owned(),
            rules: self
                .rules
                .as_deref()
                .map(read_rules)
                .transpose()?
                .unwrap_or_default(),
        })
    }

    /// What recording may cost.
    pub fn budget(&self) -> Budget {
        Budget {
            cpu: self.cpu_budget,
            disk: self.disk_budget,
            memory: self.memory_budget,
        }
    }

    /// The memory between the kernel and the agent: as much as was asked for, and no more than half of what there may be.
    pub fn ring_bytes(&self) -> u32 {
        let half = self.memory_budget.map_or(u64::MAX, |memory| memory / 2);
        match u32::try_from(half) {
            Ok(half) if half < self.buffer_size => 1 << half.max(1).ilog2(),
            _ => self.buffer_size,
        }
    }

    /// Bytes that go to the disk at once: what is on its way there is in memory beside that buffer, and stays in it too where it
    /// is kept for the next agent.
    pub fn piece_bytes(&self) -> usize {
        const SMALL: usize = 1 << 20;
        const LARGE: usize = 4 << 20;
        (self.ring_bytes() as usize / 16).clamp(SMALL, LARGE)
    }
}

/// Reads a file of rules; an empty one has none.
///
/// # Errors
/// When it cannot be read, or says something that cannot be.
pub fn read_rules(path: &Path) -> Result<Vec<Rule>> {
    let read = || -> Result<Vec<Rule>> {
        let bytes = fs::metadata(path)?.len();
        if bytes > MAX_RULES_BYTES {
            bail!("{bytes} bytes are more than the {MAX_RULES_BYTES} that are read");
        }
        let text = fs::read_to_string(path)?;
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        Ok(serde_norway::from_str(&text)?)
    };
    read().with_context(|| format!("rules file {}", path.display()))
}

/// Longest file of rules that is read.
const MAX_RULES_BYTES: u64 = 1 << 20;

/// The least that an agent can do with: its own memory (10 to 19 MiB), the programs' tables (9), a buffer of 16, and pieces of
/// it on their way to the disk (3).
const LEAST_MEMORY: u64 = 48 << 20;

/// The longest that a packet may wait in memory: `/health` takes a tape that has not grown for twice as long for broken.
const LONGEST_FLUSH: Duration = Duration::from_secs(5);

/// Said in the place of a folder when nothing is to be pinned.
pub const NO_PINS: &str = "none";

/// Where pins are when nothing else is said.
const PIN: &str = "/sys/fs/bpf/wiretape";

/// The least time that a tape can keep: sixteen segments of a flush each.
const LEAST_KEPT: Duration = Duration::from_secs(16);

/// A size in bytes: `1048576`, `1024KiB`, `1MiB`, `1GiB`; decimal units (`kB`, `MB`, `GB`) too.
fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = number_and_unit(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" | "Ki" => 1 << 10,
        "MiB" | "Mi" => 1 << 20,
        "GiB" | "Gi" => 1 << 30,
        "TiB" | "Ti" => 1 << 40,
        _ => {
            return Err(format!(
                "unknown unit {unit:?}: write a size like 64MiB, 1GiB or 1048576"
            ));
        }
    };
    match number.checked_mul(factor) {
        None => Err("that is more than there can be".to_owned()),
        Some(size) if size < MIN_SIZE => Err(format!("at least {MIN_SIZE} bytes are needed")),
        Some(size) => Ok(size),
    }
}

/// Bytes in a second: a size, with or without `/s`.
fn rate(text: &str) -> Result<u64, String> {
    size(text.strip_suffix("/s").unwrap_or(text))
}

/// Percent of a processor, as a part of it: `5`, `5%`, `150%`.
fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text
        .strip_suffix('%')
        .unwrap_or(text)
        .parse()
        .map_err(|_| "a number of percent is wanted, as in 5 or 2.5%".to_owned())?;
    (number.is_finite() && number >= 0.1)
        .then_some(number / 100.0)
        .ok_or_else(|| "at least 0.1 percent is needed".to_owned())
}

/// The least size of anything that has one: room for one packet of 64 KiB.
const MIN_SIZE: u64 = 128 << 10;

/// The most memory for a burst. The kernel allows a ring of up to 4 GiB; libpcap takes a signed 32-bit
/// number.
const MAX_BUFFER: u64 = 1 << 30;

fn buffer_size(text: &str) -> Result<u32, String> {
    let size = size(text)?.next_power_of_two();
    u32::try_from(size)
        .ok()
        .filter(|_| size <= MAX_BUFFER)
        .ok_or_else(|| "at most 1GiB can be used".to_owned())
}

/// A time: `250ms`, `1s`, `5m`, `24h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => {
            return Err(format!(
                "unknown unit {unit:?}: write a time like 250ms, 1s or 5m"
            ));
        }
    };
    number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .ok_or_else(|| "that is more than there can be".to_owned())
}

fn number_and_unit(text: &str) -> Result<(u64, &str), String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number = number
        .parse()
        .map_err(|_| "a whole number comes first, as in 64MiB or 250ms".to_owned())?;
    Ok((number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_with_their_units() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1 GiB"), Ok(1 << 30));
        assert_eq!(size("2MB"), Ok(2_000_000));
        assert_eq!(size("1048576"), Ok(1 << 20));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
    }

    #[test]
    fn a_size_that_makes_no_sense_is_refused() {
        for text in [
            "",
            "MiB",
            "-1MiB",
            "64 Mebi",
            "99999999999GiB",
            "1KiB",
            "18446744073709551616",
        ] {
            assert!(size(text).is_err(), "{text:?} was taken");
        }
        assert!(duration("1").is_err());
        assert!(buffer_size("2GiB").is_err());
    }

    #[test]
    fn a_buffer_is_rounded_up_to_a_power_of_two() {
        assert_eq!(buffer_size("20MiB"), Ok(32 << 20));
    }

    #[test]
    fn a_tape_shorter_than_two_segments_is_refused() {
        let Arguments { config, .. } = Arguments::parse_from([
            "wiretape-agent",
            "--tape-size",
            "64MiB",
            "--segment-size",
            "64MiB",
        ]);
        assert!(config.check().is_err());
        assert!(Arguments::parse_from(["wiretape-agent"]).config.check().is_ok());
    }

    #[test]
    fn the_doctor_takes_the_flags_of_recording() {
        let arguments = Arguments::parse_from([
            "wiretape-agent",
            "doctor",
            "--json",
            "--tape-size",
            "2GiB",
            "--keep",
            "7d",
        ]);
        let Some(Command::Doctor { json, config }) = arguments.command else {
            panic!("no doctor");
        };
        assert_eq!((json, config.tape_size), (true, 2 << 30));
        assert_eq!(config.keep, Some(Duration::from_secs(7 * 86_400)));
        assert!(
            Arguments::parse_from(["wiretape-agent", "--keep", "1s"])
                .config
                .check()
                .is_err()
        );
    }

    #[test]
    fn a_budget_is_read_and_the_buffer_made_to_fit() {
        let flags = [
            "wiretape-agent",
            "--cpu-budget",
            "5%",
            "--disk-budget",
            "20MB/s",
            "--memory-budget",
            "100MiB",
        ];
        let Arguments { config, .. } = Arguments::parse_from(flags);
        let budget = config.budget();
        assert_eq!((budget.cpu, budget.disk), (Some(0.05), Some(20_000_000)));
        assert_eq!(config.ring_bytes(), 32 << 20);
        assert_eq!(
            Arguments::parse_from(["wiretape-agent"]).config.ring_bytes(),
            64 << 20
        );
        assert!(Arguments::try_parse_from(["wiretape-agent", "--cpu-budget", "-1"]).is_err());
    }

    #[test]
    fn rules_are_read_and_what_they_cannot_say_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            fs::write(file.path(), text).unwrap();
            read_rules(file.path())
        };
        let rules = read(
            "- match: { namespace: payments, labels: { app: web } }\n  record: first:4KiB\n- record: none\n",
        );
        let told: Vec<String> = rules.unwrap().iter().map(Rule::to_string).collect();
        assert_eq!(
            told,
            ["first:4096 of namespace payments app=web", "none of all others"]
        );
        assert_eq!(read("").unwrap(), []);
        for text in [
            "- match: { pods: x }\n  record: none\n",
            "- record: some\n",
            "- match: {}\n",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn replay_without_a_file_is_refused() {
        assert!(Arguments::try_parse_from(["wiretape-agent", "--backend", "replay"]).is_err());
    }
}
