//! The command line and the environment; the only place that reads either.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::api::{self, Access, Remote};
use crate::cluster::Kubernetes;
use crate::descriptors;
use crate::hub::{Hub, Options};
use crate::language;
use crate::nodes::{Patience, Where, parse_dns, parse_url};
use crate::offline::{self, DissectArgs};
use crate::snapshots::{Import, import};

/// Cuts windows of time out of the recording of every node, dissects them into API calls, and answers questions.
#[derive(Debug, Parser)]
#[command(name = "wiretape-hub", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to log, e.g. info, debug, wiretape_hub=debug
    #[arg(
        long,
        global = true,
        env = "WIRETAPE_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  wiretape-hub serve --data /var/lib/wiretape --node http://10.0.0.1:8897 --node http://10.0.0.2:8897
  wiretape-hub serve --listen 0.0.0.0:8898 --data /data --nodes-dns wiretape-agent.wiretape.svc:8897
  wiretape-hub dissect capture.pcap.gz --kfl 'response.status >= 500'
  wiretape-hub import capture.pcapng --name incident-001 --data /var/lib/wiretape
  wiretape-hub mcp capture.pcapng
  wiretape-hub kfl check 'response.status >= 500 and path startsWith \"/cart\"'";

/// Options of the allocator for a process that stays (<https://microsoft.github.io/mimalloc/environment.html>). It gives
/// back what is free only while it is asked for memory, and looks for it seldom; so it looks a hundred times as often, and
/// takes what has been free for a millisecond, and what a thread that ends leaves behind.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MIMALLOC_GENERIC_COLLECT", "100"),
    ("MIMALLOC_PURGE_DELAY", "1"),
    ("MIMALLOC_ABANDONED_PAGE_PURGE", "1"),
];

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer over HTTP
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Print the API calls of capture files
    Dissect(DissectArgs),
    /// Make a snapshot of capture files
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Speak MCP over stdin and stdout, for an assistant
    #[command(after_help = MCP_EXAMPLES)]
    Mcp(McpArgs),
    /// The filter language
    #[command(subcommand)]
    Kfl(KflCommand),
}

#[derive(Debug, Subcommand)]
enum KflCommand {
    /// Say how a filter is read, of which columns, and where it is wrong
    Check(CheckArgs),
}

/// Flags of `kfl check`.
#[derive(Debug, Args)]
struct CheckArgs {
    /// The filter, e.g. 'response.status >= 500 and path startsWith "/cart"'
    #[arg(value_name = "EXPR")]
    filter: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const SERVE_EXAMPLES: &str = "\
Without --node and --nodes-dns the hub answers about the snapshots it has, and takes no new ones.

Examples:
  wiretape-hub serve --data /var/lib/wiretape --node http://10.0.0.1:8897
  curl http://127.0.0.1:8898/mcp/data-boundaries
  curl -X POST http://127.0.0.1:8898/mcp/snapshots -d '{\"name\": \"incident-001\", \"duration\": \"1h\"}'";

const IMPORT_EXAMPLES: &str = "\
Reads pcapng and pcap of any tool, gzipped or not. Works with or without a hub running on the data folder; a running
one shows the snapshot in its next list, and finds it by its name at once.

Example:
  wiretape-hub import node-1.pcapng node-2.pcap.gz --name incident-001 --data /var/lib/wiretape";

const MCP_EXAMPLES: &str = "\
Started by an assistant, not by hand. With files it needs no hub: they are dissected into a temporary folder.

Examples, as the assistant's configuration says them:
  wiretape-hub mcp trace.pcapng node-2.pcap.gz
  wiretape-hub mcp --hub http://127.0.0.1:8898
  wiretape-hub mcp --data /var/lib/wiretape";

/// Flags of `serve`.
#[derive(Debug, Args)]
struct ServeArgs {
    /// Address to answer on
    #[arg(
        long,
        env = "WIRETAPE_LISTEN",
        default_value = "127.0.0.1:8898",
        value_name = "ADDR:PORT"
    )]
    listen: SocketAddr,
    /// Folder of snapshots and dissections; made if it is missing
    #[arg(long, env = "WIRETAPE_DATA", value_name = "DIR")]
    data: PathBuf,
    /// URL of an agent; give it once for each node
    #[arg(long = "node", env = "WIRETAPE_NODES", value_delimiter = ',', value_name = "URL", value_parser = parse_url)]
    nodes: Vec<String>,
    /// DNS name with an address for each agent, looked up afresh for every snapshot
    #[arg(long, env = "WIRETAPE_NODES_DNS", value_name = "NAME:PORT", value_parser = parse_dns)]
    nodes_dns: Option<(String, u16)>,
    /// Whether to ask the Kubernetes API for services, nodes and events: auto does in a pod of a cluster, or when
    /// --kubeconfig is given
    #[arg(
        long,
        env = "WIRETAPE_KUBERNETES",
        default_value = "auto",
        value_name = "auto|on|off"
    )]
    kubernetes: AskKubernetes,
    /// How to reach it, when the hub runs in no pod of the cluster
    #[arg(long, env = "WIRETAPE_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Threads of a dissection; as many as there are processors when not given
    #[arg(long, env = "WIRETAPE_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Protobuf descriptors, for names in bodies of gRPC: `protoc --include_imports --descriptor_set_out=FILE`
    #[arg(
        long,
        env = "WIRETAPE_DESCRIPTORS",
        value_delimiter = ',',
        value_name = "FILE"
    )]
    descriptors: Vec<PathBuf>,
    /// Name or address that MCP clients may call the hub by, with or without a port; give it once for each. This
    /// machine's own names and the address of --listen always are
    #[arg(
        long = "allowed-host",
        env = "WIRETAPE_ALLOWED_HOSTS",
        value_delimiter = ',',
        value_name = "HOST[:PORT]"
    )]
    allowed_hosts: Vec<String>,
    /// Origin of web pages that may speak MCP, e.g. https://assistant.example.com:443; this machine's own always may
    #[arg(
        long = "allowed-origin",
        env = "WIRETAPE_ALLOWED_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    allowed_origins: Vec<String>,
}

/// When the Kubernetes API is asked.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum AskKubernetes {
    Auto,
    On,
    Off,
}

impl AskKubernetes {
    /// The environment is what Kubernetes gives to each pod (its documentation: "Accessing the API from within a Pod").
    fn how(self, kubeconfig: Option<PathBuf>) -> Kubernetes {
        let in_pod = || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        match (self, kubeconfig) {
            (Self::Off, _) => Kubernetes::Off,
            (_, Some(file)) => Kubernetes::File(file),
            (Self::Auto, None) if !in_pod() => Kubernetes::Off,
            (Self::Auto | Self::On, None) => Kubernetes::InCluster,
        }
    }
}

/// Flags of `mcp`.
#[derive(Debug, Args)]
struct McpArgs {
    /// Captures to ask about: pcapng or pcap, gzipped or not
    #[arg(value_name = "FILE", conflicts_with_all = ["hub", "data"])]
    files: Vec<PathBuf>,
    /// URL of a running hub to ask
    #[arg(long, env = "WIRETAPE_HUB", value_name = "URL", conflicts_with = "data")]
    hub: Option<String>,
    /// Folder of snapshots and dissections that no hub runs on
    #[arg(long, value_name = "DIR", required_unless_present_any = ["hub", "files"])]
    data: Option<PathBuf>,
    /// Protobuf descriptors, for names in bodies of gRPC
    #[arg(long, value_delimiter = ',', value_name = "FILE", conflicts_with = "hub")]
    descriptors: Vec<PathBuf>,
}

/// Flags of `import`.
#[derive(Debug, Args)]
struct ImportArgs {
    /// Captures: pcapng or pcap, gzipped or not
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Name of the snapshot: 1 to 128 of A-Z a-z 0-9 . _ -
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The hub's folder of snapshots and dissections; made if it is missing
    #[arg(long, env = "WIRETAPE_DATA", value_name = "DIR")]
    data: PathBuf,
}

/// Does what the command line says.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    log(&cli.log)?;
    if matches!(cli.command, Command::Serve(_) | Command::Mcp(_)) {
        give_memory_back();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads that serve requests")?;
    match cli.command {
        Command::Serve(args) => runtime.block_on(serve(args)),
        Command::Dissect(args) => runtime.block_on(offline::dissect(args)),
        Command::Import(args) => bring_in(args),
        Command::Mcp(args) => runtime.block_on(speak(args)),
        Command::Kfl(KflCommand::Check(args)) => {
            if !language::check(
                &args.filter,
                args.json,
                crate::now(),
                &mut std::io::stdout().lock(),
            )? {
                bail!("this is no filter");
            }
            Ok(())
        }
    }
}

/// Has the allocator give back what questions needed, by starting the program over, once, with its options set: it reads
/// them when a process begins, and from nowhere else. What somebody has set stays.
fn give_memory_back() {
    let set = |name: &str| std::env::var_os(name).is_some();
    if ALLOCATOR.iter().all(|(name, _)| set(name)) {
        return;
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let error = process::Command::new(program)
        .arg0(name)
        .args(arguments)
        .envs(ALLOCATOR.into_iter().filter(|(name, _)| !set(name)))
        .exec();
    tracing::warn!(%error, "memory that questions needed is kept for the next ones");
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    // Signals first: one that comes while the hub opens stops it right after.
    let stop = stop_on_signals()?;
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; stop what listens there, or give another --listen",
            args.listen
        )
    })?;
    let places = Where {
        urls: args.nodes,
        dns: args.nodes_dns,
    };
    if places.urls.is_empty() && places.dns.is_none() {
        tracing::warn!(
            "no agents are named (--node, --nodes-dns): existing snapshots are served, none can be cut"
        );
    }
    let threads = args.threads.map_or_else(processors, usize::from);
    let options = Options {
        data: args.data,
        places,
        kubernetes: args.kubernetes.how(args.kubeconfig),
        patience: Patience::default(),
        threads,
        descriptors: Arc::new(descriptors::read(&args.descriptors)?),
    };
    let hub = Hub::open(options).await?;
    // The port may have been chosen by the system.
    let address = listener
        .local_addr()
        .context("cannot tell the address that is listened on")?;
    tracing::info!(%address, data = %hub.data.display(), threads, "hub answers on http://{address}");
    let access = Access {
        hosts: args.allowed_hosts,
        origins: args.allowed_origins,
    };
    api::serve(listener, Arc::new(hub), &access.listening_on(address), stop)
        .await
        .context("the hub stopped answering")?;
    tracing::info!("hub stopped");
    Ok(())
}

async fn speak(args: McpArgs) -> anyhow::Result<()> {
    let stop = stop_on_signals()?;
    if let Some(url) = args.hub {
        let hub = Remote::new(&url).map_err(|error| anyhow::anyhow!("{}", error.message()))?;
        return api::serve_stdio_of(hub, stop).await;
    }
    // Lives as long as the questions do.
    let folder = tempfile::Builder::new().prefix("wiretape-").tempdir();
    let folder = folder.context("cannot make a temporary folder")?;
    let options = Options {
        data: args.data.unwrap_or_else(|| folder.path().to_owned()),
        places: Where::default(),
        kubernetes: Kubernetes::Off,
        patience: Patience::default(),
        threads: processors(),
        descriptors: Arc::new(descriptors::read(&args.descriptors)?),
    };
    let hub = Arc::new(Hub::open(options).await?);
    if !args.files.is_empty() {
        offline::dissect_into(&hub, args.files).await?;
    }
    api::serve_stdio(hub, stop).await
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn bring_in(args: ImportArgs) -> anyhow::Result<()> {
    let wanted = Import {
        data: args.data,
        name: args.name,
        files: args.files,
    };
    let manifest = import(&wanted, crate::now())?;
    for problem in &manifest.problems {
        tracing::warn!("{problem}");
    }
    println!(
        "snapshot {} ({}): {} packets, {} bytes, {} node(s)",
        manifest.name,
        manifest.id,
        manifest.packets(),
        manifest.bytes(),
        manifest.nodes.len()
    );
    Ok(())
}

fn log(filter: &str) -> anyhow::Result<()> {
    let filter = match tracing_subscriber::EnvFilter::try_new(filter) {
        Ok(filter) => filter,
        Err(error) => {
            bail!("--log `{filter}` is no log filter ({error}); write e.g. info or wiretape_hub=debug")
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

/// Told as soon as the process is asked to end.
fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
        told.cancel();
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_bad_node_is_told_with_what_to_write() {
        let told = Cli::try_parse_from(["wiretape-hub", "serve", "--data", "/d", "--node", "https://x"]);
        assert!(told.is_err_and(|error| error.to_string().contains("write http://HOST:PORT")));
    }
}
