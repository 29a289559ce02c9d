//! Our calls beside what others make of the same packets: `DeepFlow`'s results, tshark, and stories of header blocks.
//!
//! Prints how many of the fields that both define are equal, and every difference. A difference that nobody has explained
//! (`known.rs`), and an explanation of none, are errors.

mod compare;
mod deepflow;
mod docs;
mod hpack;
mod known;
mod protocols;
mod tcp;
mod tshark;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{iter, thread};

use anyhow::{Context, Result, bail};
use clap::Parser;
use wiretape_dissect::Call;
use wiretape_dissect::testing::dissect;
use wiretape_figures::{Figure, Goal};

use crate::compare::{Difference, Tally};
use crate::known::{KNOWN, Known, Right};
use crate::protocols::PROTOCOLS;

/// Hold our calls against what others make of the same captures.
#[derive(Parser)]
#[command(name = "cargo xtask conformance", bin_name = "cargo xtask conformance")]
struct Options {
    /// Print the figures as one JSON object, all else on stderr
    #[arg(long)]
    json: bool,
    /// List explained differences, too
    #[arg(long)]
    all: bool,
    /// Write the tables of docs/conformance.md anew
    #[arg(long)]
    write: bool,
}

/// Percent of the fields that both define.
const GOAL: f64 = 99.0;
/// Folders of captures.
const FOLDERS: [&str; 10] = [
    "wireshark",
    "deepflow/amqp",
    "deepflow/dns",
    "deepflow/http",
    "deepflow/kafka",
    "deepflow/mongo",
    "deepflow/mysql",
    "deepflow/postgre",
    "deepflow/redis",
    "deepflow/tcp",
];

/// One protocol beside one oracle.
pub struct Compared {
    protocol: &'static str,
    oracle: &'static str,
    tally: Tally,
}

impl Compared {
    /// How many differences are explained.
    fn explained(&self) -> usize {
        self.known().count()
    }

    /// The agreement, without the fields in which the oracle is not right, or not alone.
    fn percent_where_right(&self) -> f64 {
        let not_right = self.known().filter(|(_, known)| known.right != Right::Theirs);
        let left_out: usize = not_right.map(|(difference, _)| difference.fields).sum();
        percent(self.tally.equal, self.tally.fields - left_out)
    }

    fn known(&self) -> impl Iterator<Item = (&Difference, &'static Known)> {
        let explained =
            |difference| Some((difference, KNOWN.iter().find(|known| known.explains(difference))?));
        self.tally.differences.iter().filter_map(explained)
    }
}

fn percent(equal: usize, fields: usize) -> f64 {
    100.0 * equal as f64 / fields.max(1) as f64
}

/// What we and tshark make of a capture.
struct Capture {
    file: PathBuf,
    calls: Vec<Call>,
    packets: Option<Vec<tshark::Packet>>,
    /// The two tellings of its connections.
    connections: Option<[Vec<compare::Message>; 2]>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let Some(corpora) = wiretape_captures::corpora() else {
        return Ok(());
    };
    let version = tshark::version();
    match &version {
        Ok(version) => eprintln!("tshark: {version}"),
        Err(error) => eprintln!("SKIPPED: the comparison with tshark: {error:#}"),
    }
    let captures = read(&corpora, version.is_ok())?;
    let mut all = Vec::new();
    for protocol in PROTOCOLS {
        all.extend(beside_tshark(protocol, &captures).filter(|_| version.is_ok()));
        all.extend(beside_deepflow(protocol, &captures)?);
    }
    if version.is_ok() {
        all.push(connections(&captures));
    }
    let (whole, joined) = hpack::compare(&corpora)?;
    for (oracle, tally) in [("stories", whole), ("stories joined late", joined)] {
        all.push(Compared {
            protocol: "hpack",
            oracle,
            tally,
        });
    }
    let (unexplained, stale) = tell(&all, options.all);
    print(&all, unexplained, options.json)?;
    if options.write {
        docs::write(root(), &all)?;
    }
    if !docs::is_in_step(root())? {
        bail!("{} does not tell what is known; --write does", docs::FILE);
    }
    if unexplained + stale > 0 {
        bail!("{unexplained} differences are not explained, and {stale} explanations explain nothing");
    }
    Ok(())
}

/// The top of the checkout.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Reads every capture, and asks tshark about it: it takes a second each, so several at once.
fn read(corpora: &Path, ask: bool) -> Result<Vec<Capture>> {
    let files = wiretape_captures::captures(corpora, &FOLDERS)
        .with_context(|| format!("cannot list {}", corpora.display()))?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<Capture>> {
        let mine = iter::from_fn(|| files.get(next.fetch_add(1, Ordering::Relaxed)));
        mine.map(|file| capture(file, ask)).collect()
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let done: Result<Vec<Vec<Capture>>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut captures: Vec<Capture> = done?.into_iter().flatten().collect();
    captures.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(captures)
}

fn capture(file: &Path, ask: bool) -> Result<Capture> {
    let dissected =
        dissect(&wiretape_captures::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    let told = protocols::TOLD
        .iter()
        .find(|(name, _)| *name == wiretape_captures::name(file));
    let ports = told.map_or(&[][..], |(_, ports)| ports);
    let options: Vec<&str> = ports.iter().flat_map(|port| ["-d", port]).collect();
    let packets = ask.then(|| tshark::ask(file, protocols::FILTER, protocols::LAYERS, &options));
    let connections =
        ask.then(|| Ok::<_, anyhow::Error>([tcp::ours(&dissected.connections), tcp::theirs(file)?]));
    Ok(Capture {
        file: file.to_owned(),
        calls: dissected.calls,
        packets: packets.transpose()?,
        connections: connections.transpose()?,
    })
}

fn connections(captures: &[Capture]) -> Compared {
    let mut tally = Tally::default();
    for capture in captures {
        if let Some([ours, theirs]) = capture.connections.clone() {
            tally.add(
                tcp::NAME,
                "tshark",
                &wiretape_captures::name(&capture.file),
                ours,
                theirs,
            );
        }
    }
    Compared {
        protocol: tcp::NAME,
        oracle: "tshark",
        tally,
    }
}

fn beside_tshark(protocol: &protocols::Protocol, captures: &[Capture]) -> Option<Compared> {
    let mut tally = Tally::default();
    for capture in captures {
        let (ours, theirs) = (
            (protocol.ours)(&capture.calls),
            (protocol.tshark)(capture.packets.as_ref()?),
        );
        if !ours.is_empty() || !theirs.is_empty() {
            tally.add(
                protocol.name,
                "tshark",
                &wiretape_captures::name(&capture.file),
                ours,
                theirs,
            );
        }
    }
    Some(Compared {
        protocol: protocol.name,
        oracle: "tshark",
        tally,
    })
}

fn beside_deepflow(protocol: &protocols::Protocol, captures: &[Capture]) -> Result<Option<Compared>> {
    let Some(deepflow) = &protocol.deepflow else {
        return Ok(None);
    };
    let mut tally = Tally::default();
    let folder = |capture: &&Capture| {
        capture
            .file
            .parent()
            .is_some_and(|parent| parent.ends_with(deepflow.folder))
    };
    for capture in captures.iter().filter(folder) {
        let Some(lines) = deepflow::lines(&capture.file)? else {
            continue;
        };
        let name = wiretape_captures::name(&capture.file);
        let theirs = (deepflow.theirs)(&lines).with_context(|| format!("the result of {name}"))?;
        let ours = (deepflow.ours)(&capture.calls);
        if !ours.is_empty() || !theirs.is_empty() {
            tally.add(protocol.name, "deepflow", &name, ours, theirs);
        }
    }
    Ok(Some(Compared {
        protocol: protocol.name,
        oracle: "deepflow",
        tally,
    }))
}

/// Lists the differences on stderr. Gives how many are not explained, and how many explanations explain nothing.
fn tell(all: &[Compared], explained: bool) -> (usize, usize) {
    let mut unexplained = 0;
    for difference in all.iter().flat_map(|one| &one.tally.differences) {
        let known = KNOWN.iter().find(|known| known.explains(difference));
        unexplained += usize::from(known.is_none());
        if known.is_some() && !explained {
            continue;
        }
        eprintln!(
            "{} beside {} in {}: {}\n  ours   {:?}\n  theirs {:?}",
            difference.protocol,
            difference.oracle,
            difference.file,
            difference.field,
            difference.ours,
            difference.theirs
        );
        if let Some(known) = known {
            eprintln!("  right: {}, {}", known.right.as_str(), known.why);
        }
    }
    // One of an oracle that was not asked explains nothing today.
    let asked = |known: &&Known| {
        all.iter()
            .any(|one| (one.protocol, one.oracle) == (known.protocol, known.oracle))
    };
    let mut stale = 0;
    for known in KNOWN.iter().filter(asked) {
        let differences = all.iter().flat_map(|one| &one.tally.differences);
        if !differences
            .into_iter()
            .any(|difference| known.explains(difference))
        {
            stale += 1;
            eprintln!("explains nothing: {known:?}");
        }
    }
    (unexplained, stale)
}

fn print(all: &[Compared], unexplained: usize, json: bool) -> Result<()> {
    let mut figures = Vec::new();
    for one in all {
        let name = |what: &str| format!("{} beside {}: {what}", one.protocol, one.oracle);
        figures.push(Figure::new(name("fields compared"), one.tally.fields as f64, ""));
        figures.push(Figure::new(name("fields equal"), one.tally.equal as f64, ""));
        let agreement = percent(one.tally.equal, one.tally.fields);
        figures.push(Figure::new(name("agreement"), agreement, "%").goal(Goal::AtLeast(GOAL)));
        let right = Figure::new(
            name("agreement where it is right"),
            one.percent_where_right(),
            "%",
        );
        figures.push(right.goal(Goal::AtLeast(GOAL)));
    }
    figures.push(Figure::new("differences not explained", unexplained as f64, "").goal(Goal::AtMost(0.0)));
    wiretape_figures::print(&figures, json)
}
