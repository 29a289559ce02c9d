//! HTTP at a fixed rate: what a request costs more, and waits longer, while the agent records both of its ends. With the
//! agent and without it in turn, and without it once more: what two runs without it differ by is noise.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wiretape_figures::{Figure, Goal, median};

use super::Options;
use super::cpu::Spent;
use super::numbered::SETTLE;
use super::party::Party;
use super::recorder::{Recorder, Tape, Who};
use super::scene::{End, RECEIVER, Scene};
use crate::scratch::Scratch;

/// Connections that are kept; each asks at its share of the rate.
const CONNECTIONS: u64 = 20;
/// How long nginx takes to listen.
const LISTENS: Duration = Duration::from_millis(500);
/// Connections are made, and caches filled, in the first microseconds.
const WARM: u64 = 500_000;

struct Run {
    /// CPU seconds of load, recorder and kernel for each request.
    cost: f64,
    /// Microseconds.
    p50: f64,
    p99: f64,
}

/// Runs it: without, with, without, and so on.
pub fn measure(scene: &Scene, scratch: &Scratch, options: &Options) -> Result<Vec<Figure>> {
    let dir = scratch.folder("http")?;
    let config = dir.join("nginx.conf");
    fs::write(&config, nginx(&dir))?;
    let (mut off, mut on, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=options.runs {
        for (who, runs) in [
            (Who::Nobody, &mut off),
            (Who::Wiretape, &mut on),
            (Who::Nobody, &mut again),
        ] {
            let run = one(who, &dir, &config, scene, options)?;
            eprintln!(
                "{number}, {who:?}: {:.1} µs of CPU for a request, p50 {:.0} µs, p99 {:.0} µs",
                run.cost * 1e6,
                run.p50,
                run.p99
            );
            runs.push(run);
        }
    }
    let of = |runs: &[Run], value: fn(&Run) -> f64| median(runs.iter().map(value));
    // The most that two of them differ by, one after the other.
    let noise = |value: fn(&Run) -> f64| {
        let pairs = off.iter().zip(&again);
        pairs
            .map(|(one, other)| (value(one) - value(other)).abs())
            .fold(0.0, f64::max)
    };
    let quiet = |value: fn(&Run) -> f64| f64::midpoint(of(&off, value), of(&again, value));
    let added = |value: fn(&Run) -> f64| of(&on, value) - quiet(value);
    let mut figures = vec![
        Figure::new(
            "http: CPU per request, nobody recording",
            quiet(|run| run.cost) * 1e6,
            "µs",
        ),
        Figure::new("http: CPU per request, added", added(|run| run.cost) * 1e6, "µs")
            .goal(Goal::AtMost(5.0)),
        Figure::new("http: the same, noise", noise(|run| run.cost) * 1e6, "µs"),
    ];
    for (name, added_name, value) in [
        (
            "http: p50, nobody recording",
            "http: p50, added",
            (|run| run.p50) as fn(&Run) -> f64,
        ),
        ("http: p99, nobody recording", "http: p99, added", |run| run.p99),
    ] {
        figures.push(Figure::new(name, quiet(value), "µs"));
        figures.push(Figure::new(added_name, added(value), "µs").goal(Goal::AtMost(noise(value))));
    }
    Ok(figures)
}

fn one(who: Who, dir: &Path, config: &Path, scene: &Scene, options: &Options) -> Result<Run> {
    let tape_dir = dir.join("tape");
    fs::create_dir_all(&tape_dir)?;
    let tape = Tape {
        dir: &tape_dir,
        cgroup: scene.root(),
        agent: &options.agent,
    };
    let recorder = Recorder::start(who, scene, &tape)?;
    let id = recorder.as_ref().map(Recorder::id);
    let mut serve = scene.command(End::Receiver, Path::new("nginx"));
    serve.arg("-c").arg(config).args(["-e", "stderr"]);
    let server = Party::start_foreign(&serve, End::Receiver.name(), scene)?;
    thread::sleep(LISTENS);

    let before = Spent::now(scene, id)?;
    let log = dir.join("requests.tsv");
    let mut ask = scene.command(End::Sender, Path::new("h2load"));
    ask.args(["--h1", "--clients", &CONNECTIONS.to_string(), "--duration"]);
    ask.arg(options.seconds.ceil().to_string());
    ask.arg(format!("--rps={}", options.requests as f64 / CONNECTIONS as f64));
    ask.arg(format!("--log-file={}", log.display()));
    ask.arg(format!("http://{RECEIVER}/v1/products/1"));
    Party::start_foreign(&ask, End::Sender.name(), scene)?.last_words()?;
    thread::sleep(SETTLE);
    let spent = Spent::now(scene, id)?.since(before);

    server.kill()?;
    recorder.map(Recorder::stop).transpose()?;
    fs::remove_dir_all(&tape_dir)?;
    let (count, mut times) = requests(&log)?;
    fs::remove_file(&log)?;
    times.sort_unstable();
    let at = |part: f64| {
        let place = (times.len() as f64 * part) as usize;
        times.get(place).map_or(0.0, |micros| *micros as f64)
    };
    Ok(Run {
        cost: spent.caused() / count as f64,
        p50: at(0.5),
        p99: at(0.99),
    })
}

/// What h2load has noted: how many requests, and how long those after the first moment took, in microseconds.
fn requests(log: &PathBuf) -> Result<(usize, Vec<u64>)> {
    let text =
        fs::read_to_string(log).with_context(|| format!("h2load has not written {}", log.display()))?;
    let mut all = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('\t');
        let mut field = || fields.next()?.parse::<u64>().ok();
        let (start, status, took) = (field(), field(), field());
        ensure!(status == Some(200), "a request was not answered: {line}");
        all.push((start.context("no start")?, took.context("no time")?));
    }
    let first = all
        .iter()
        .map(|(start, _)| *start)
        .min()
        .context("no requests at all")?;
    let times = all.iter().filter(|(start, _)| *start > first + WARM);
    Ok((all.len(), times.map(|(_, took)| *took).collect()))
}

/// One process, which answers from memory.
fn nginx(dir: &Path) -> String {
    let dir = dir.display();
    let body = r#"{"id":1,"name":"chair","price":99.5,"stock":12}"#;
    format!(
        r"user root;
daemon off;
master_process off;
pid {dir}/pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    default_type application/json;
    keepalive_requests 100000000;
    server {{
        listen {RECEIVER}:80;
        location / {{ return 200 '{body}'; }}
    }}
}}
"
    )
}
