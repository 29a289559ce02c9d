//! TCP in bulk: what rate iperf3 keeps while somebody records both of its ends, or tcpdump and its like one of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use wiretape_figures::{Figure, Goal, median};

use super::accounts::{Accounts, resident};
use super::cpu::Spent;
use super::numbered::SETTLE;
use super::party::Party;
use super::recorder::{Outcome, Recorder, Tape, Who, program_seconds};
use super::scene::{End, RECEIVER, Scene};
use super::tally::{self, Tally};
use super::{Options, beside, peers};
use crate::scratch::Scratch;

/// How long iperf3 takes to listen.
const LISTENS: Duration = Duration::from_millis(300);

struct Run {
    /// Bytes that arrived, and in how many seconds.
    bytes: f64,
    seconds: f64,
    spent: Spent,
    /// CPU seconds of our programs in the kernel, where they were counted. The load's have them.
    program: f64,
    tally: Tally,
    outcome: Outcome,
    accounts: Accounts,
    resident: f64,
}

impl Run {
    fn gbit(&self) -> f64 {
        self.bytes * 8e-9 / self.seconds
    }

    /// CPU seconds of all that load and recording cause, for each gigabyte that arrives.
    fn cost(&self) -> f64 {
        self.spent.caused() * 1e9 / self.bytes
    }

    /// CPU seconds of recorder and programs, as far as they are told apart from all else.
    fn ours(&self) -> f64 {
        self.spent.recorder + self.program
    }
}

/// Runs it, all in turn.
pub fn measure(scene: &Scene, scratch: &Scratch, options: &Options) -> Result<Vec<Figure>> {
    let peers = peers();
    scene.count_programs(false)?;
    let mut runs: BTreeMap<Who, Vec<Run>> = BTreeMap::new();
    for number in 1..=options.runs {
        for who in [Who::Nobody, Who::Wiretape].iter().chain(&peers) {
            let run = one(*who, number, scene, scratch, options)?;
            runs.entry(*who).or_default().push(run);
        }
    }
    // Counting the time of programs takes time itself, so that has a run of its own.
    scene.count_programs(true)?;
    let counted = one(Who::Wiretape, options.runs + 1, scene, scratch, options);
    scene.count_programs(false)?;
    Ok(figures(&runs, &counted?))
}

fn one(who: Who, number: u64, scene: &Scene, scratch: &Scratch, options: &Options) -> Result<Run> {
    let dir = scratch.folder(&format!("bulk-{who:?}-{number}"))?;
    let tape = Tape {
        dir: &dir,
        cgroup: scene.root(),
        agent: &options.agent,
    };
    let recorder = Recorder::start(who, scene, &tape)?;
    let id = recorder.as_ref().map(Recorder::id);
    let before = Spent::now(scene, id)?;

    let mut serve = scene.command(End::Receiver, Path::new("iperf3"));
    serve.args(["--server", "--one-off"]);
    let server = Party::start_foreign(&serve, End::Receiver.name(), scene)?;
    thread::sleep(LISTENS);
    let mut send = scene.command(End::Sender, Path::new("iperf3"));
    send.args(["--json", "--client", RECEIVER, "--time"]);
    send.arg(options.seconds.ceil().to_string());
    let said = Party::start_foreign(&send, End::Sender.name(), scene)?.last_words()?;
    server.last_words()?;
    // What waits in buffers and pages is part of the price.
    thread::sleep(SETTLE);

    let spent = Spent::now(scene, id)?.since(before);
    let program = id.map(program_seconds).transpose()?.unwrap_or_default();
    let accounts = recorder
        .as_ref()
        .and_then(Recorder::listen)
        .map(Accounts::of)
        .transpose()?
        .unwrap_or_default();
    let resident = id.map(resident).transpose()?.unwrap_or_default();
    let outcome = recorder.map(Recorder::stop).transpose()?.unwrap_or_default();
    let tally = tally::tally(&outcome.files, 0)?;
    fs::remove_dir_all(&dir)?;
    let end: Value = serde_json::from_str(&said).context("reading what iperf3 says")?;
    let number_at = |pointer: &str| {
        let found = end.pointer(pointer).and_then(Value::as_f64);
        found.with_context(|| format!("iperf3 does not say {pointer}"))
    };
    let run = Run {
        bytes: number_at("/end/sum_received/bytes")?,
        seconds: number_at("/end/sum_received/seconds")?,
        spent,
        program,
        tally,
        outcome,
        accounts,
        resident,
    };
    eprintln!(
        "{who:?}: {:.2} Gbit/s, {:.3} CPU-s for a GB (load {:.2} s, recorder {:.2} s, kernel {:.2} s, programs \
         {:.3} s); {:.0} seen, {:.0} shed, \
         {:.0} lost, {} dropped, {:.0} MB recorded; elsewhere on the machine {:.1} s",
        run.gbit(),
        run.cost(),
        run.spent.load,
        run.spent.recorder,
        run.spent.kernel,
        run.program,
        run.accounts.seen,
        run.accounts.shed,
        run.accounts.lost,
        run.outcome.lost,
        run.tally.captured as f64 / 1e6,
        run.spent.elsewhere(),
    );
    Ok(run)
}

fn figures(runs: &BTreeMap<Who, Vec<Run>>, counted: &Run) -> Vec<Figure> {
    let of = |who: Who, value: &dyn Fn(&Run) -> f64| median(runs.get(&who).into_iter().flatten().map(value));
    let others = || {
        let known = runs.keys().copied();
        known.filter(|who| !matches!(who, Who::Nobody | Who::Wiretape))
    };
    let ours = |value: &dyn Fn(&Run) -> f64| of(Who::Wiretape, value);
    let (rate, cost) = (of(Who::Nobody, &Run::gbit), of(Who::Nobody, &Run::cost));
    let kept = |who| 100.0 * of(who, &Run::gbit) / rate;
    // Where all processors are busy, what costs so much more goes so much slower.
    let share = |who| 100.0 * cost / of(who, &Run::cost);
    let mut figures = vec![Figure::new("bulk: rate, nobody recording", rate, "Gbit/s")];
    figures.extend(beside(
        Figure::new("bulk: rate kept", kept(Who::Wiretape), "%").goal(Goal::AtLeast(90.0)),
        others().map(|who| (who, kept(who))),
    ));
    figures.push(Figure::new("bulk: CPU per GB, nobody recording", cost, "s"));
    figures.extend(beside(
        Figure::new("bulk: rate kept, by CPU per GB", share(Who::Wiretape), "%").goal(Goal::AtLeast(90.0)),
        others().map(|who| (who, share(who))),
    ));
    figures.push(Figure::new(
        "bulk: CPU of recorder and programs per GB (counting it included)",
        counted.ours() * 1e9 / counted.bytes,
        "s",
    ));
    figures.push(
        Figure::new(
            "bulk: the same, of all that load and recording take",
            100.0 * counted.ours() / counted.spent.caused(),
            "%",
        )
        .goal(Goal::AtMost(10.0)),
    );
    let part = |run: &Run, count: f64| 100.0 * count / run.accounts.seen.max(1.0);
    figures.push(Figure::new(
        "bulk: packets without their end",
        ours(&|run| part(run, run.accounts.shed)),
        "%",
    ));
    figures.extend(beside(
        Figure::new(
            "bulk: packets lost",
            ours(&|run| part(run, run.accounts.lost)),
            "%",
        )
        .goal(Goal::AtMost(0.0)),
        others().map(|who| {
            (
                who,
                of(who, &|run| {
                    let (lost, kept) = (run.outcome.lost as f64, run.tally.packets as f64);
                    100.0 * lost / (lost + kept).max(1.0)
                }),
            )
        }),
    ));
    figures.push(
        Figure::new(
            "bulk: unaccounted for",
            ours(&|run| run.accounts.unaccounted().abs()),
            "packets",
        )
        .goal(Goal::AtMost(0.0)),
    );
    figures.extend(beside(
        Figure::new(
            "bulk: recorded per second",
            ours(&|run| run.tally.captured as f64 / 1e6 / run.seconds),
            "MB/s",
        ),
        others().map(|who| (who, of(who, &|run| run.tally.captured as f64 / 1e6 / run.seconds))),
    ));
    figures.push(
        Figure::new(
            "bulk: resident memory beyond the ring",
            ours(&|run| run.resident),
            "MiB",
        )
        .goal(Goal::Below(128.0)),
    );
    figures
}
