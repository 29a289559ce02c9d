//! The agent's program: puts the parts together, and takes them apart again in good order.

use std::future::IntoFuture;
use std::io::IsTerminal;
use std::net;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;
use wiretape_agent::attribution::cgroups::Cgroups;
use wiretape_agent::attribution::kubernetes::{self, Kubernetes};
use wiretape_agent::attribution::survey::Survey;
use wiretape_agent::attribution::workloads::Workloads;
use wiretape_agent::attribution::{Attributed, Teller};
use wiretape_agent::capture::{self, Inherited, Opened, Source, Waker};
use wiretape_agent::choice::budget;
use wiretape_agent::choice::bulk::BulkRate;
use wiretape_agent::choice::desk::Desk;
use wiretape_agent::choice::{Chooser, Prepared};
use wiretape_agent::clocks::{steady_clock, wall_clock};
use wiretape_agent::config::{Arguments, Backend, Command, Config, UseKubernetes, read_rules};
use wiretape_agent::doctor;
use wiretape_agent::drain::Drain;
use wiretape_agent::events::Events;
use wiretape_agent::health::Length;
use wiretape_agent::keeper::Keeper;
use wiretape_agent::kernel::pins;
use wiretape_agent::own_cgroup::{Hierarchy, OwnCgroup, SubTree};
use wiretape_agent::recorder::{Chosen, POLL, QUIET_POLL, Recording};
use wiretape_agent::status::Status;
use wiretape_agent::{metrics, server};
use wiretape_tape::{Change, Nanos, Tape, TapeOptions};

/// How long streams that are under way may go on once the agent is told to stop.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How long sealing the tape may take at the end. It takes one flush, unless the disk does not answer.
const LAST_FLUSH: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let Arguments { command, config } = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match command {
        Some(Command::Doctor { json, config }) => return doctor::run(&config, json),
        Some(Command::Cleanup { pin }) => {
            tracing::info!(cgroups = pins::sweep(&pin, true), "taken away what nobody uses");
            return ExitCode::SUCCESS;
        }
        None => {}
    }
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> Result<()> {
    config.check()?;
    let node = config.node()?;
    // First of all: sockets stay in the cgroup in which they were made.
    let own = enter_own_cgroup(config);
    let own_id = own.as_ref().and_then(|own| own.as_ref().ok()).map(|own| own.id);
    let listener = listen(config)?;
    // Whoever gave port 0 gets another, and libpcap is to leave out the one that it became.
    let config = &Config {
        listen: listener.local_addr()?,
        ..config.clone()
    };
    let workloads = Workloads::open(config.workloads.as_deref())?;
    let chooser = Chooser::new(
        Prepared::new(config.recording()?)?,
        BulkRate::new(config.bulk_rate),
    );

    let waker = Waker::new().context("no event can be waited for")?;
    let Opened {
        mut capture,
        backend,
        why,
    } = capture::open(config, own_id, &chooser.choice(), &waker)?;
    tracing::info!("recording by {backend}: {why}; {}", chooser.recording());
    if let (Some(Err(error)), "ebpf") = (&own, backend) {
        tracing::warn!("the agent's own traffic is recorded, because it has no cgroup of its own: {error:#}");
    }
    let quiet_poll = (config.flush / 3).clamp(POLL, QUIET_POLL);
    let tape = Tape::open(
        TapeOptions {
            dir: config.tape.clone(),
            node: node.clone(),
            agent: format!("wiretape-agent {} ({backend})", env!("CARGO_PKG_VERSION")),
            ring_bytes: config.tape_size,
            segment_bytes: config.segment_size,
            // A packet waits for the recorder first.
            flush_every: nanos(config.flush.saturating_sub(quiet_poll)),
            piece_bytes: config.piece_bytes(),
            keep: config.keep.map(nanos),
        },
        wall_clock(),
    )
    .context("the tape cannot be opened")?;

    let inherited = capture.inherited();
    if let Some(Inherited { at, place }) = inherited {
        let twice = tape.packets_since(place);
        let since = Duration::from_nanos(wall_clock().saturating_sub(at));
        tracing::info!(?since, twice, "going on where an earlier agent ended");
        capture.skip(twice);
    }
    let shelf = tape.shelf();
    let waiting = Attributed::wait();
    let teller = waiting.teller();
    let tree = (backend == "ebpf")
        .then(|| SubTree::of(config, own_id))
        .transpose()?;
    // Before the cgroups are looked at: those that are made from now on are told of.
    let events = record_events(tree.as_ref(), &teller, &*capture);
    let kubernetes = watch_pods(config, &node, &teller)?;
    let survey = Survey {
        cgroups: tree.map(|tree| Cgroups::new(tree.root, tree.dir)),
        workloads,
        kubernetes: kubernetes.clone(),
    };
    let mut status = Status::new(node, backend, why, steady_clock());
    (status.kubernetes, status.events) = (kubernetes, events);
    let status = Arc::new(status);
    let since = match inherited {
        // A replayed file is older than its names, and what was inherited older than this agent.
        _ if config.backend == Backend::Replay => 0,
        Some(Inherited { at, .. }) => at,
        None => wall_clock(),
    };
    let attributed = waiting.start(survey, since)?;
    let (desk, orders) = Desk::new(chooser.recording().clone(), waker.clone());
    let chosen = Chosen {
        chooser,
        orders,
        keeper: budget::Keeper::new(config.budget()),
    };
    let drain = Drain::new(waker);
    let recording = Recording::start(
        capture,
        tape,
        attributed,
        chosen,
        Arc::clone(&status),
        drain.clone(),
        quiet_poll,
    )?;

    let keeper = Keeper::start(shelf.clone(), config.compress)?;
    let length = Length {
        ring_bytes: config.tape_size,
        shortest: config.shortest_tape.as_secs(),
    };
    let metrics = metrics::registry(Arc::clone(&status), shelf.clone(), drain.clone(), length);
    let routes = server::routes(shelf, status, drain, desk.clone(), length, metrics);

    let reload = Reload {
        teller,
        desk,
        rules: config.rules.clone(),
    };
    let served = serve(listener, routes, reload);
    keeper.stop();
    if !recording.stop(LAST_FLUSH) {
        tracing::error!("the tape is not sealed in time, the next start will do it");
    }
    served
}

/// Before anything is recorded: the agent's own traffic is told by its address where there are no cgroups.
fn listen(config: &Config) -> Result<net::TcpListener> {
    let listener = net::TcpListener::bind(config.listen).with_context(|| {
        format!(
            "{} cannot be listened on, choose another by --listen",
            config.listen
        )
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What is read again on SIGHUP.
#[derive(Clone)]
struct Reload {
    teller: Teller,
    desk: Desk,
    rules: Option<PathBuf>,
}

impl Reload {
    fn run(&self) {
        self.teller.reload();
        let Some(path) = &self.rules else { return };
        let changed = read_rules(path).and_then(|rules| {
            let rules = Some(rules);
            Ok(self.desk.change(Change {
                rules,
                ..Change::default()
            })?)
        });
        match changed {
            Ok(()) => tracing::info!("rules read again"),
            Err(error) => tracing::error!("rules not read again, those known stand: {error:#}"),
        }
    }
}

/// Serves until told to stop.
fn serve(listener: net::TcpListener, routes: Router, reload: Reload) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the server cannot be started")?;
    let outcome = runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hangup = signal(SignalKind::hangup())?;
        let listener = TcpListener::from_std(listener)?;
        // Whoever gave port 0 learns here which it became.
        tracing::info!("serving on {}", listener.local_addr()?);
        let (stop, stopped) = oneshot::channel::<()>();
        let mut server = tokio::spawn(
            axum::serve(listener, routes)
                .with_graceful_shutdown(async {
                    let _ = stopped.await;
                })
                .into_future(),
        );
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    let reload = reload.clone();
                    tokio::task::spawn_blocking(move || reload.run());
                }
                ended = &mut server => {
                    ended.context("the server panicked")?.context("the server failed")?;
                    break;
                }
            }
        }
        tracing::info!("stopping");
        let _ = stop.send(());
        if !server.is_finished() && tokio::time::timeout(LAST_ANSWERS, &mut server).await.is_err() {
            tracing::warn!("some answers are broken off");
        }
        Ok(())
    });
    runtime.shutdown_timeout(LAST_ANSWERS);
    outcome
}

fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

/// Leaves for a cgroup that is not recorded, where eBPF may be used. Without one, the agent can still record,
/// but records its own talk with the hub.
fn enter_own_cgroup(config: &Config) -> Option<Result<OwnCgroup>> {
    let wanted = matches!(config.backend, Backend::Auto | Backend::Ebpf);
    let enter = || Ok(OwnCgroup::enter(&Hierarchy::find()?)?);
    wanted.then(enter)
}

/// Starts to record what happens beside the packets, where the kernel takes programs at all. Without, packets are still
/// recorded.
fn record_events(tree: Option<&SubTree>, teller: &Teller, source: &dyn Source) -> Arc<Events> {
    let Some(tree) = tree else {
        return Arc::new(Events::none("only the kernel programs see them".to_owned()));
    };
    let (dir, teller) = (tree.dir.clone(), teller.clone());
    match Events::start(dir, tree.top, &tree.excluded, teller, source) {
        Ok(events) => events,
        Err(error) => {
            tracing::warn!("events are not recorded: {error:#}");
            Arc::new(Events::none(format!("{error:#}")))
        }
    }
}

/// Starts to watch this node's pods, if there is a Kubernetes to be asked.
fn watch_pods(config: &Config, node: &str, teller: &Teller) -> Result<Option<Kubernetes>> {
    // A replayed file is of other pods than those that run now.
    if config.kubernetes == UseKubernetes::Off || config.backend == Backend::Replay {
        return Ok(None);
    }
    let found = match kubernetes::configuration(config.kubeconfig.as_deref()) {
        Ok(found) => found,
        Err(error) if config.kubernetes == UseKubernetes::Auto && config.kubeconfig.is_none() => {
            tracing::info!("pods are not asked for at Kubernetes: {error:#}");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    tracing::info!(server = %found.cluster_url, node, "pods are named by Kubernetes");
    let teller = teller.clone();
    Ok(Some(Kubernetes::watch(found, node, move || {
        teller.pods_changed()
    })?))
}
