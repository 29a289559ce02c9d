//! `wiretape-shop`: plays one role of the shop, or all of them; adds the truth up afterwards.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wiretape_shop::story::{Clock, JOURNEYS_PER_SECOND};
use wiretape_shop::truth::Truth;
use wiretape_shop::{Directory, Pod, Role, Stop};

/// A small workload with an incident in it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Plays one role. Prints `ready` when it listens, begins at the line `start UNIX_MS` on standard input, and comes to
    /// an end when standard input does (the users: also when the story is over).
    Play {
        role: Role,
        /// Where a role is: `frontend=10.77.1.11`. Once for each role.
        #[arg(long, value_name = "ROLE=ADDRESS", required = true)]
        at: Vec<String>,
        /// Where to write what was sent and answered (JSON).
        #[arg(long, value_name = "FILE")]
        truth: PathBuf,
        #[command(flatten)]
        story: Story,
    },
    /// Plays all roles in this process, each on a loopback address of its own, until the story is over.
    All {
        /// Where to write what was sent and answered: one JSON file for each role.
        #[arg(long, value_name = "FOLDER")]
        truth: PathBuf,
        #[command(flatten)]
        story: Story,
    },
    /// Adds up what roles wrote down: how many calls of each client, server, method, path and status (JSON).
    Truth {
        /// What roles wrote down.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Args, Clone, Copy)]
struct Story {
    /// How many times as fast as the wall's clock the story (of four minutes) is played.
    #[arg(long, default_value_t = 10.0)]
    time_scale: f64,
    /// Makes the users' requests repeatable.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Journeys that begin in a second of the story.
    #[arg(long, default_value_t = JOURNEYS_PER_SECOND)]
    rate: f64,
}

impl Story {
    fn check(self) -> anyhow::Result<Self> {
        anyhow::ensure!(
            (0.1..=1000.0).contains(&self.time_scale),
            "--time-scale is from 0.1 to 1000"
        );
        anyhow::ensure!(
            (0.01..=1000.0).contains(&self.rate),
            "--rate is from 0.01 to 1000"
        );
        Ok(self)
    }
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match cli.command {
        Command::Play {
            role,
            at,
            truth,
            story,
        } => {
            let directory = Directory::parse(&at)?;
            runtime.block_on(play(role, directory, story.check()?, truth))
        }
        Command::All { truth, story } => runtime.block_on(play_all(story.check()?, truth)),
        Command::Truth { files } => {
            let counts: Vec<_> = Truth::read(files)?
                .counts()
                .into_iter()
                .map(|(kind, calls)| serde_json::json!({ "kind": kind, "calls": calls }))
                .collect();
            println!("{}", serde_json::to_string_pretty(&counts)?);
            Ok(())
        }
    }
}

async fn play(role: Role, directory: Directory, story: Story, truth: PathBuf) -> anyhow::Result<()> {
    let listener = listen(role, &directory).await?;
    println!("ready");
    let (start, stop) = orders();
    let Ok(unix_ms) = start.await else {
        // Standard input ended before the story began: there is no story.
        return Ok(());
    };
    let clock = Clock::beginning_at(unix_ms, story.time_scale);
    let pod = Pod::new(role, directory, clock, story.seed, story.rate);
    pod.play(listener, stop).await?.write(&truth)
}

async fn listen(role: Role, directory: &Directory) -> anyhow::Result<Option<TcpListener>> {
    if role == Role::Users {
        return Ok(None);
    }
    let address = directory.find(role)?;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("{} cannot listen on {address}", role.name()))?;
    Ok(Some(listener))
}

/// The orders on standard input: when to begin, and, by its end, when to stop.
fn orders() -> (tokio::sync::oneshot::Receiver<u64>, Stop) {
    let (start_sender, start) = tokio::sync::oneshot::channel();
    let (stop_sender, stop) = watch::channel(false);
    std::thread::spawn(move || {
        let mut start_sender = Some(start_sender);
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if let Some(Ok(unix_ms)) = line.strip_prefix("start ").map(str::parse)
                && let Some(sender) = start_sender.take()
            {
                let _ = sender.send(unix_ms);
            }
        }
        drop(start_sender);
        let _ = stop_sender.send(true);
    });
    (start, stop)
}

async fn play_all(story: Story, folder: PathBuf) -> anyhow::Result<()> {
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Addresses by process id, so that two shops on one machine do not meet: 127.64.0.0 to 127.127.255.0.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let net = [64 | ((high ^ middle) & 63), low ^ middle.rotate_left(3)];
    let directory = Directory::new(
        Role::ALL
            .into_iter()
            .zip(1..)
            .map(|(role, host)| (role, IpAddr::from(Ipv4Addr::new(127, net[0], net[1], host)))),
    );
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let clock = Clock::beginning_at(u64::try_from(now.as_millis())?, story.time_scale);
    let (stop, stopped) = watch::channel(false);
    let mut services = JoinSet::new();
    let mut truths = BTreeMap::new();
    for role in Role::ALL {
        let listener = listen(role, &directory).await?;
        let pod = Pod::new(role, directory.clone(), clock, story.seed, story.rate);
        let playing = pod.play(listener, stopped.clone());
        if role == Role::Users {
            truths.insert(role, playing.await?);
        } else {
            services.spawn(async move { (role, playing.await) });
        }
    }
    stop.send(true)?;
    while let Some(ended) = services.join_next().await {
        let (role, truth) = ended?;
        truths.insert(role, truth?);
    }
    for (role, truth) in truths {
        truth.write(&folder.join(format!("{}.json", role.name())))?;
    }
    Ok(())
}
