//! Captures without a cluster: `wiretape-hub dissect` prints their calls, `wiretape-hub mcp FILE…` answers about them.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use wiretape_tape::{Nanos, SegmentInfo};

use crate::descriptors;
use crate::dissections::{self, Job, Progress, Source, Summary};
use crate::hub::Hub;
use crate::losses;
use crate::query::{self, CallsPage, CallsQuery, Database, Format, MAX_LIMIT};
use crate::snapshots::{Import, import};

/// Calls that are printed as a table when nobody says how many.
const TABLE_LIMIT: u64 = 50;

/// How often the progress bar moves.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Columns of a terminal that does not say how many it has.
const PLAIN_WIDTH: u16 = 160;

/// Arguments of `wiretape-hub dissect`.
#[derive(Clone, Debug, clap::Args)]
pub struct DissectArgs {
    /// Captures to read: pcapng or pcap, from any tool, gzipped or not
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Show only calls that match, e.g. 'http and response.status >= 500'
    #[arg(long, value_name = "EXPR")]
    pub kfl: Option<String>,
    /// How to print them
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    pub format: OutputFormat,
    /// With headers and the beginning of bodies (json and ndjson)
    #[arg(long)]
    pub full: bool,
    /// Print at most so many calls (table: 50, json: 100, ndjson: all, unless given)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Worker threads; as many as there are processors, unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Protobuf descriptors, for names in bodies of gRPC: `protoc --include_imports --descriptor_set_out=FILE`
    #[arg(long, value_name = "FILE")]
    pub descriptors: Vec<PathBuf>,
}

/// What `wiretape-hub dissect` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people, cut to the terminal
    #[default]
    Table,
    /// One object, as GET /mcp/calls answers
    Json,
    /// One call a line
    Ndjson,
}

/// Dissects the files into a temporary folder and prints their calls on stdout, and what was read and skipped on
/// stderr.
///
/// # Errors
/// A filter that is none, files none of which can be read, a full disk.
pub async fn dissect(args: DissectArgs) -> anyhow::Result<()> {
    let now = now();
    // Better to hear of a mistake in the filter before a long dissection than after it.
    if let Some(text) = &args.kfl {
        wiretape_kfl::compile(text, now)
            .map_err(|error| anyhow::anyhow!("the filter is wrong at {error}"))?;
    }
    let descriptors = Arc::new(descriptors::read(&args.descriptors)?);
    let folder = tempfile::Builder::new()
        .prefix("wiretape-")
        .tempdir()
        .context("cannot make a temporary folder")?;
    let job = job(&args, folder.path())?;
    let summary = with_progress(job).await?;
    if summary.packets == 0 && !summary.problems.is_empty() {
        bail!("nothing could be read:\n{}", summary.problems.join("\n"));
    }
    let db = Database::open(folder.path())?.named_by(descriptors);
    let format = if args.full { Format::Full } else { Format::Compact };
    let query = CallsQuery {
        kfl: args.kfl.clone(),
        now,
        format,
        ..CallsQuery::default()
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = match args.format {
        OutputFormat::Table => print_table(&db, query, args.limit.unwrap_or(TABLE_LIMIT), &mut out).await,
        OutputFormat::Json => print_json(&db, query, args.limit, &mut out).await,
        OutputFormat::Ndjson => print_lines(&db, query, args.limit.unwrap_or(u64::MAX), &mut out).await,
    };
    match printed.and_then(|()| Ok(out.flush()?)) {
        // Whoever reads may stop reading (`| head`).
        Err(error) if is_broken_pipe(&error) => {}
        other => other?,
    }
    eprintln!("{}", conclusion(&summary));
    Ok(())
}

/// Name of the snapshot that files become, and of its dissection.
const CAPTURE: (&str, &str) = ("capture", "calls");

/// Makes a snapshot of the files in a hub's data folder, and begins its dissection.
///
/// # Errors
/// Files that cannot be read, a full disk.
pub async fn dissect_into(hub: &Hub, files: Vec<PathBuf>) -> anyhow::Result<()> {
    let (name, dissection) = CAPTURE;
    let wanted = Import {
        data: hub.data.clone(),
        name: name.to_owned(),
        files,
    };
    let manifest = tokio::task::spawn_blocking(move || import(&wanted, crate::now()))
        .await
        .context("the import failed")??;
    for problem in &manifest.problems {
        tracing::warn!("{problem}");
    }
    let entry = hub.snapshots.find(name).await?;
    let folder = hub.snapshots.path(&entry);
    hub.jobs
        .start(
            &entry,
            folder,
            manifest,
            Some(dissection.to_owned()),
            crate::now(),
        )
        .await?;
    Ok(())
}

fn job(args: &DissectArgs, out: &Path) -> anyhow::Result<Job> {
    let mut sources: Vec<Source> = Vec::new();
    for file in &args.files {
        if !file.is_file() {
            bail!("{}: there is no such file", file.display());
        }
        let node = node_of(file);
        // Segments of one node are one tape; so are foreign files of one name.
        match sources.iter_mut().find(|source| source.node == node) {
            Some(source) => source.files.push(file.clone()),
            None => sources.push(Source {
                node,
                files: vec![file.clone()],
            }),
        }
    }
    let losses = sources.iter().flat_map(|source| {
        // A file that cannot be read is told by the job.
        let segments = source
            .files
            .iter()
            .filter_map(|file| wiretape_tape::index(file).ok()?);
        let segments: Vec<SegmentInfo> = segments.map(|index| index.info).collect();
        losses::of_segments(&source.node, &segments)
    });
    let losses = losses.collect();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(processors, usize::from);
    Ok(Job {
        sources,
        names: Vec::new(),
        losses,
        problems: Vec::new(),
        window: None,
        out: out.to_owned(),
        threads,
    })
}

/// The node that recorded a file, if it says so; else the file's own name, without what follows the first dot.
fn node_of(file: &Path) -> String {
    let told = wiretape_tape::open(file)
        .ok()
        .and_then(|reader| reader.node().map(str::to_owned));
    told.filter(|node| !node.is_empty()).unwrap_or_else(|| {
        let name = file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        name.split('.')
            .find(|part| !part.is_empty())
            .unwrap_or("capture")
            .to_owned()
    })
}

async fn with_progress(job: Job) -> anyhow::Result<Summary> {
    let progress = Arc::new(Progress::default());
    let watched = Arc::clone(&progress);
    let mut work = tokio::task::spawn_blocking(move || dissections::run(&job, &watched));
    let bar = io::stderr().is_terminal().then(progress_bar).transpose()?;
    let summary = loop {
        tokio::select! {
            done = &mut work => break done.context("the dissection failed")?,
            _ = tokio::signal::ctrl_c() => progress.cancel(),
            () = tokio::time::sleep(PROGRESS_EVERY) => {
                if let Some(bar) = &bar {
                    bar.set_length(progress.bytes_total());
                    bar.set_position(progress.bytes_done());
                    bar.set_message(format!("{} packets, {} calls", progress.packets(), progress.calls()));
                }
            }
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(summary?)
}

fn progress_bar() -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {msg}")?;
    Ok(ProgressBar::new(0).with_style(style))
}

/// Asks page after page, up to `limit` calls, and hands each over. The last page is returned, without its calls.
async fn each_page(
    db: &Database,
    mut query: CallsQuery,
    limit: u64,
    mut take: impl FnMut(Vec<Value>) -> anyhow::Result<()>,
) -> anyhow::Result<CallsPage> {
    let mut left = limit;
    loop {
        query.limit = Some(i64::try_from(left).unwrap_or(MAX_LIMIT).min(MAX_LIMIT));
        let mut page = query::calls(db, &query).await?;
        let calls = std::mem::take(&mut page.calls);
        left = left.saturating_sub(calls.len() as u64);
        take(calls)?;
        if page.cursor.is_none() || left == 0 {
            return Ok(page);
        }
        query.cursor.clone_from(&page.cursor);
    }
}

async fn print_json(
    db: &Database,
    query: CallsQuery,
    limit: Option<u64>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let limit = limit.unwrap_or(query::DEFAULT_LIMIT.unsigned_abs());
    let mut calls = Vec::new();
    let mut page = each_page(db, query, limit, |more| {
        calls.extend(more);
        Ok(())
    })
    .await?;
    page.calls = calls;
    serde_json::to_writer_pretty(&mut *out, &page)?;
    writeln!(out)?;
    Ok(())
}

async fn print_lines(
    db: &Database,
    query: CallsQuery,
    limit: u64,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    each_page(db, query, limit, |calls| {
        for call in calls {
            serde_json::to_writer(&mut *out, &call)?;
            writeln!(out)?;
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn print_table(
    db: &Database,
    mut query: CallsQuery,
    limit: u64,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    query.format = Format::Compact;
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "time", "client", "server", "proto", "method", "path", "status", "ms",
    ]);
    let mut shown = 0;
    let page = each_page(db, query, limit, |calls| {
        shown += calls.len() as u64;
        for call in calls {
            table.add_row(table_row(&call));
        }
        Ok(())
    })
    .await?;
    if let Some(explanation) = page.explanation {
        writeln!(out, "{explanation}")?;
        return Ok(());
    }
    let width = usize::from(width());
    for line in table.lines() {
        let cut: String = line.trim_end().chars().take(width).collect();
        writeln!(out, "{cut}")?;
    }
    if shown < page.total {
        writeln!(
            out,
            "… {} more; see them with --limit, or all with --format ndjson",
            page.total - shown
        )?;
    }
    Ok(())
}

fn table_row(call: &Value) -> [String; 8] {
    let text = |pointer: &str| {
        call.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let end = |side: &str| {
        let named = text(&format!("/{side}/pod"));
        let name = if named.is_empty() {
            text(&format!("/{side}/ip"))
        } else {
            named
        };
        let Some(port) = call.pointer(&format!("/{side}/port")).and_then(Value::as_u64) else {
            // A flow is of all ports of its client.
            return name;
        };
        if name.contains(':') {
            format!("[{name}]:{port}")
        } else {
            format!("{name}:{port}")
        }
    };
    let number = |pointer: &str| call.pointer(pointer).map(Value::to_string).unwrap_or_default();
    let ms = call
        .get("latency_ms")
        .and_then(Value::as_f64)
        .map(|ms| format!("{ms:.3}"))
        .unwrap_or_default();
    let time = call
        .get("ts")
        .and_then(Value::as_i64)
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    [
        time.map(|time| format!("{time:.3}")).unwrap_or_default(),
        end("src"),
        end("dst"),
        text("/proto"),
        text("/method"),
        text("/path"),
        number("/status"),
        ms,
    ]
    .map(|cell| {
        cell.chars()
            .map(|c| if c.is_control() { '·' } else { c })
            .collect()
    })
}

/// Columns of the terminal; a pipe or a file takes whole lines.
fn width() -> u16 {
    if !io::stdout().is_terminal() {
        return u16::MAX;
    }
    console::Term::stdout()
        .size_checked()
        .map_or(PLAIN_WIDTH, |(_, columns)| columns)
}

/// One line on what was read, and one on each problem.
fn conclusion(summary: &Summary) -> String {
    let protocols: Vec<String> = summary
        .protocol_counts
        .iter()
        .map(|(protocol, count)| format!("{count} {protocol}"))
        .collect();
    let mut text = format!("{} packets, {} calls", summary.packets, summary.calls);
    if !protocols.is_empty() {
        text.push_str(&format!(" ({})", protocols.join(", ")));
    }
    if summary.lost_packets > 0 {
        text.push_str(&format!("; the recorder lost {} packets", summary.lost_packets));
    }
    let skipped = [
        ("route.other_transport", "packets neither TCP nor UDP nor ICMP"),
        ("route.not_ip", "packets not IP"),
        ("route.truncated", "packets cut within their headers"),
        ("route.malformed", "malformed packets"),
        ("dissect.unrecognised", "connections of no known protocol"),
        (
            "dissect.datagram_flows_unrecognised",
            "flows of datagrams of no known protocol",
        ),
        ("dissect.passed_over", "connections handed to another protocol"),
        ("dissect.gap_bytes", "bytes missing from streams"),
    ];
    let skipped: Vec<String> = skipped
        .iter()
        .filter_map(|(counter, what)| {
            let count = summary
                .counters
                .get(*counter)
                .copied()
                .filter(|count| *count > 0)?;
            Some(format!("{count} {what}"))
        })
        .collect();
    if !skipped.is_empty() {
        text.push_str(&format!("; {}", skipped.join(", ")));
    }
    for problem in &summary.problems {
        text.push_str(&format!("\n{problem}"));
    }
    text
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

fn now() -> Nanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
