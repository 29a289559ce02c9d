//! Numbered datagrams as fast as one sender can, or at a rate: each is looked for in what was recorded.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wiretape_figures::{Figure, Goal, median};

use super::accounts::resident;
use super::cpu::Spent;
use super::party::Party;
use super::recorder::{Outcome, Recorder, Tape, Who, program_seconds};
use super::scene::{End, RECEIVER, Scene};
use super::tally::{self, Tally};
use super::workload::Report;
use super::{Options, beside, peers};
use crate::scratch::Scratch;

/// The receiver's port; it is alone in its namespace.
const PORT: u16 = 9;

/// Recorders leave packets in their buffer for up to a second, and tcpdump forgets those when it is stopped.
pub const SETTLE: Duration = Duration::from_millis(1500);

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Datagrams {
    pub seconds: f64,
    /// In a second; 0 is as many as go.
    pub rate: u64,
    /// Bytes of payload.
    pub payload: u64,
}

/// One run of one recorder.
pub struct Run {
    pub sender: Report,
    pub receiver: Report,
    pub outcome: Outcome,
    pub tally: Tally,
    pub spent: Spent,
    /// CPU seconds of our programs in the kernel, where they were counted.
    pub program: f64,
    /// MiB of the recorder, without its buffer.
    pub resident: f64,
}

impl Run {
    pub fn lost(&self) -> u64 {
        self.outcome.lost + self.tally.lost
    }

    /// Packets that are neither recorded nor counted as lost (or, below zero, counted as lost without being sent).
    pub fn unaccounted(&self) -> f64 {
        self.sender.packets as f64 - self.tally.recorded as f64 - self.lost() as f64
    }

    /// Nanoseconds for each packet that was sent.
    fn per_packet(&self, seconds: f64) -> f64 {
        seconds * 1e9 / self.sender.packets.max(1) as f64
    }
}

/// Runs it, all in turn.
pub fn measure(scene: &Scene, scratch: &Scratch, options: &Options) -> Result<Vec<Figure>> {
    let what = Datagrams {
        seconds: options.seconds,
        rate: options.rate,
        payload: u64::from(options.payload),
    };
    let peers = peers();
    scene.count_programs(false)?;
    let mut runs: BTreeMap<Who, Vec<Run>> = BTreeMap::new();
    for number in 1..=options.runs {
        for who in [Who::Nobody, Who::Wiretape].iter().chain(&peers) {
            let run = one(
                *who,
                &format!("{who:?}-{number}"),
                scene,
                scratch,
                what,
                &options.agent,
            )?;
            runs.entry(*who).or_default().push(run);
        }
    }
    // Counting the time of programs takes time itself, so that has a run of its own.
    scene.count_programs(true)?;
    let counted = one(Who::Wiretape, "counted", scene, scratch, what, &options.agent);
    scene.count_programs(false)?;
    Ok(figures(&runs, &counted?))
}

/// Starts a recorder, sends, stops it, and reads what it wrote.
pub fn one(
    who: Who,
    folder: &str,
    scene: &Scene,
    scratch: &Scratch,
    what: Datagrams,
    agent: &[String],
) -> Result<Run> {
    let dir = scratch.folder(folder)?;
    // The sender's only: each packet is recorded once, where it leaves its socket.
    let tape = Tape {
        dir: &dir,
        cgroup: scene.cgroup(End::Sender.name()),
        agent,
    };
    let recorder = Recorder::start(who, scene, &tape)?;
    let id = recorder.as_ref().map(Recorder::id);
    let before = Spent::now(scene, id)?;

    let this = std::env::current_exe()?;
    let mut receive = scene.command(End::Receiver, &this);
    receive.args(["receive", &format!("--at={RECEIVER}:{PORT}")]);
    let mut receiver = Party::start(receive, End::Receiver.name(), scene)?;
    receiver.wait_for("ready")?;
    let mut send = scene.command(End::Sender, &this);
    send.args([
        "send".to_owned(),
        format!("--to={RECEIVER}:{PORT}"),
        format!("--seconds={}", what.seconds),
        format!("--rate={}", what.rate),
        format!("--payload={}", what.payload),
    ]);
    let report = |party: Party| -> Result<Report> {
        serde_json::from_str(&party.last_words()?).context("reading a report")
    };
    let sender = report(Party::start(send, End::Sender.name(), scene)?)?;
    let receiver = report(receiver)?;
    thread::sleep(SETTLE);

    let spent = Spent::now(scene, id)?.since(before);
    let program = id.map(program_seconds).transpose()?.unwrap_or_default();
    let resident = id.map(resident).transpose()?.unwrap_or_default();
    let outcome = recorder.map(Recorder::stop).transpose()?.unwrap_or_default();
    let tally = tally::tally(&outcome.files, sender.packets)?;
    fs::remove_dir_all(&dir)?;
    let run = Run {
        sender,
        receiver,
        outcome,
        tally,
        spent,
        program,
        resident,
    };
    eprintln!(
        "{folder}: {} sent in {:.2} s, {} received, {} recorded, {} lost, {} twice; CPU: load {:.2} s, recorder {:.3} s, \
         kernel {:.2} s, programs {:.3} s; elsewhere on the machine {:.1} s",
        run.sender.packets,
        run.sender.seconds,
        run.receiver.packets,
        run.tally.recorded,
        run.lost(),
        run.tally.twice,
        run.spent.load,
        run.spent.recorder,
        run.spent.kernel,
        run.program,
        run.spent.elsewhere(),
    );
    ensure!(
        run.tally.foreign == 0,
        "{} recorded packets have numbers that were never sent",
        run.tally.foreign
    );
    Ok(run)
}

fn figures(runs: &BTreeMap<Who, Vec<Run>>, counted: &Run) -> Vec<Figure> {
    let of = |who: Who, value: &dyn Fn(&Run) -> f64| median(runs.get(&who).into_iter().flatten().map(value));
    let rows = |figure: &dyn Fn(f64) -> Figure, value: &dyn Fn(&Run) -> f64| {
        let others = runs
            .keys()
            .filter(|who| !matches!(who, Who::Nobody | Who::Wiretape));
        beside(
            figure(of(Who::Wiretape, value)),
            others.map(|who| (*who, of(*who, value))),
        )
    };
    let plain = |name: &'static str, unit, value: &dyn Fn(&Run) -> f64| {
        rows(&|ours| Figure::new(name, ours, unit), value)
    };
    // The worst run counts where nothing may go wrong.
    let worst = |value: &dyn Fn(&Run) -> f64| {
        let ours = runs.get(&Who::Wiretape).into_iter().flatten();
        ours.map(value).fold(0.0, |a: f64, b| a.max(b.abs()))
    };
    let base = of(Who::Nobody, &|run| run.per_packet(run.spent.caused()));
    let whole = |run: &Run| run.per_packet(run.spent.caused()) - base;
    let theirs = of(Who::Tcpdump, &whole);

    let mut figures = plain("packets sent per second", "packets/s", &|run| {
        run.sender.packets as f64 / run.sender.seconds
    });
    figures.push(Figure::new(
        "the same, nobody recording",
        of(Who::Nobody, &|run| run.sender.packets as f64 / run.sender.seconds),
        "packets/s",
    ));
    figures.extend(plain("lost, as told", "%", &|run| {
        100.0 * run.lost() as f64 / run.sender.packets.max(1) as f64
    }));
    figures.extend(rows(
        &|_| {
            let ours = worst(&Run::unaccounted);
            Figure::new("unaccounted for, our worst run", ours, "packets").goal(Goal::AtMost(0.0))
        },
        &Run::unaccounted,
    ));
    figures.push(
        Figure::new(
            "recorded twice, worst run",
            worst(&|run| run.tally.twice as f64),
            "packets",
        )
        .goal(Goal::AtMost(0.0)),
    );
    figures.extend(plain("CPU per packet, process", "ns", &|run| {
        run.per_packet(run.spent.recorder)
    }));
    figures.push(Figure::new(
        "CPU per packet, program in the kernel (counting it included)",
        counted.per_packet(counted.program),
        "ns",
    ));
    figures.extend(rows(
        &|ours| Figure::new("CPU per packet, all that recording adds", ours, "ns").goal(Goal::AtMost(theirs)),
        &whole,
    ));
    figures.extend(plain("bytes on disk per byte captured", "x", &|run| {
        run.tally.bytes as f64 / run.tally.captured.max(1) as f64
    }));
    figures.push(
        Figure::new(
            "resident memory beyond the ring",
            of(Who::Wiretape, &|run| run.resident),
            "MiB",
        )
        .goal(Goal::Below(128.0)),
    );
    figures.push(Figure::new(
        "others' share of the machine meanwhile",
        100.0
            * median(
                runs.values()
                    .flatten()
                    .map(|run| run.spent.elsewhere() / run.spent.machine.max(0.01)),
            ),
        "%",
    ));
    figures
}
