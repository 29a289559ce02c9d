//! `wiretape-bench record`: numbered packets over a veth, recorded by us and by tcpdump in turn.

mod recorder;
mod scene;
mod tally;
mod workload;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use wiretape_figures::{Figure, Goal, median};

use self::recorder::{Outcome, Recorder, Who};
use self::scene::{End, RECEIVER, Scene};
use self::tally::Tally;
use self::workload::Report;
use crate::scratch::Scratch;

pub use workload::{ReceiveOptions, SendOptions, receive, send};

/// The receiver's port; it is alone in its namespace.
const PORT: u16 = 9;

/// Both recorders leave packets in their buffer for up to a second, and tcpdump forgets those when it is stopped.
const SETTLE: Duration = Duration::from_millis(1500);

/// The command's arguments.
#[derive(Args)]
pub struct Options {
    /// Print one JSON object on stdout, and all else on stderr.
    #[arg(long)]
    json: bool,
    /// For how many seconds packets are sent in each run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Packets per second; 0 is as many as one sender can.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Bytes of UDP payload.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(16..=1472))]
    payload: u16,
    /// Runs of each side, in turn; the median is told.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Where both record to; what they wrote is removed.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// One run of one recorder.
struct Run {
    sender: Report,
    receiver: Report,
    outcome: Outcome,
    tally: Tally,
}

impl Run {
    fn lost(&self) -> u64 {
        self.outcome.lost + self.tally.lost
    }

    /// Packets that are neither recorded nor counted as lost (or, below zero, counted as lost without being sent).
    fn unaccounted(&self) -> f64 {
        self.sender.packets as f64 - self.tally.recorded as f64 - self.lost() as f64
    }

    /// Nanoseconds for each recorded packet.
    fn per_packet(&self, seconds: f64) -> f64 {
        seconds * 1e9 / self.tally.recorded.max(1) as f64
    }

    /// CPU of the recorder's process and of its programs in the kernel, in ns for each recorded packet.
    fn cost(&self) -> f64 {
        self.per_packet(self.outcome.cpu.total() + self.outcome.program)
    }

    /// What a sent packet cost its sender, in ns; without our programs, which are told apart.
    fn sender_cost(&self) -> f64 {
        (self.sender.cpu - self.outcome.program) * 1e9 / self.sender.packets.max(1) as f64
    }
}

/// Runs the benchmark.
pub fn run(options: &Options) -> Result<()> {
    let scratch = Scratch::new(&options.dir)?;
    let scene = Scene::new()?;
    let (mut nobody, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=options.runs {
        nobody.push(one(Who::Nobody, number, &scene, &scratch, options)?);
        ours.push(one(Who::Wiretape, number, &scene, &scratch, options)?);
        theirs.push(one(Who::Tcpdump, number, &scene, &scratch, options)?);
    }
    wiretape_figures::print(&figures(&nobody, &ours, &theirs), options.json)
}

/// Starts a recorder, sends, stops it, and reads what it wrote.
fn one(who: Who, number: u64, scene: &Scene, scratch: &Scratch, options: &Options) -> Result<Run> {
    let dir = scratch.folder(&format!("{who:?}-{number}"))?;
    let recorder = Recorder::start(who, scene, &dir)?;

    let this = std::env::current_exe()?;
    let mut receive = scene.command(End::Receiver, &this);
    receive.args(["receive", &format!("--at={RECEIVER}:{PORT}")]);
    let mut receiver = Party::start(receive, "receiver", scene)?;
    receiver.wait_for("ready")?;

    let mut send = scene.command(End::Sender, &this);
    send.args([
        "send",
        &format!("--to={RECEIVER}:{PORT}"),
        &format!("--seconds={}", options.seconds),
    ]);
    send.args([
        format!("--rate={}", options.rate),
        format!("--payload={}", options.payload),
    ]);
    let sender = Party::start(send, "sender", scene)?.report()?;
    let receiver = receiver.report()?;
    thread::sleep(SETTLE);

    let outcome = recorder.map(Recorder::stop).transpose()?.unwrap_or_default();
    let tally = tally::tally(&outcome.files, sender.packets)?;
    fs::remove_dir_all(&dir)?;
    let run = Run {
        sender,
        receiver,
        outcome,
        tally,
    };
    eprintln!(
        "run {number}, {who:?}: {} sent in {:.2} s ({:.0} ns each), {} received, {} recorded, {} lost, {} twice; \
         recorder {:.3} s user, {:.3} s system, {:.3} s programs",
        run.sender.packets,
        run.sender.seconds,
        run.sender_cost(),
        run.receiver.packets,
        run.tally.recorded,
        run.lost(),
        run.tally.twice,
        run.outcome.cpu.user,
        run.outcome.cpu.system,
        run.outcome.program,
    );
    ensure!(
        run.tally.foreign == 0,
        "{} recorded packets have numbers that were never sent",
        run.tally.foreign
    );
    Ok(run)
}

fn figures(nobody: &[Run], ours: &[Run], theirs: &[Run]) -> Vec<Figure> {
    let both = |name, unit, of: &dyn Fn(&Run) -> f64| {
        Figure::new(name, median(ours.iter().map(of)), unit).peer("tcpdump -w", median(theirs.iter().map(of)))
    };
    // The worst run counts where nothing may go wrong.
    let worst =
        |runs: &[Run], of: &dyn Fn(&Run) -> f64| runs.iter().map(of).fold(0.0, |a: f64, b| a.max(b.abs()));
    let unaccounted = |run: &Run| run.unaccounted();
    let twice = |run: &Run| run.tally.twice as f64;

    let cost = both("CPU per packet, process and program", "ns", &Run::cost);
    let ratio = median(ours.iter().map(Run::cost)) / median(theirs.iter().map(Run::cost));
    let base = median(nobody.iter().map(Run::sender_cost));
    let whole = |run: &Run| run.cost() + run.sender_cost() - base;
    vec![
        both("packets sent per second", "packets/s", &|run| {
            run.sender.packets as f64 / run.sender.seconds
        }),
        both("packets received per second", "packets/s", &|run| {
            run.receiver.packets as f64 / run.sender.seconds
        }),
        both("sent", "packets", &|run| run.sender.packets as f64),
        both("recorded", "packets", &|run| run.tally.recorded as f64),
        both("counted as lost", "packets", &|run| run.lost() as f64),
        both("lost", "%", &|run| {
            100.0 * run.lost() as f64 / run.sender.packets.max(1) as f64
        }),
        Figure::new("unaccounted for, worst run", worst(ours, &unaccounted), "packets")
            .goal(Goal::AtMost(0.0))
            .peer("tcpdump -w", worst(theirs, &unaccounted)),
        Figure::new("recorded twice, worst run", worst(ours, &twice), "packets")
            .goal(Goal::AtMost(0.0))
            .peer("tcpdump -w", worst(theirs, &twice)),
        both("CPU per packet, process", "ns", &|run| {
            run.per_packet(run.outcome.cpu.total())
        }),
        both("CPU per packet, program in the kernel", "ns", &|run| {
            run.per_packet(run.outcome.program)
        }),
        cost,
        Figure::new("times tcpdump per packet", ratio, "x").goal(Goal::AtMost(2.0)),
        both("CPU per packet, with what the sender pays more", "ns", &whole),
        both("bytes on disk per packet", "bytes", &|run| {
            run.tally.bytes as f64 / run.tally.recorded.max(1) as f64
        }),
    ]
}

/// The sender or the receiver: a process of ours that waits for a line, then works, then reports.
struct Party {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Party {
    /// Starts it, and lets it begin once it is in its cgroup.
    fn start(mut command: Command, cgroup: &str, scene: &Scene) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        scene.enter(cgroup, child.id())?;
        child.stdin.as_mut().context("no stdin")?.write_all(b"begin\n")?;
        let out = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self { child, out })
    }

    fn wait_for(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        ensure!(line.trim() == word, "it said {line:?} and not {word:?}");
        Ok(())
    }

    /// Ends its stdin (which ends the receiver) and takes what it says last.
    fn report(mut self) -> Result<Report> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.out.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the sender or receiver ended with {status}");
        serde_json::from_str(&text).context("reading its report")
    }
}
