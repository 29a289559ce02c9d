//! `wiretape-bench`: what Wiretape costs, measured beside what others cost for the same work in the same run.
//!
//! `cargo xtask bench NAME` builds it and runs it. Every command makes its own input, checks that both sides did all
//! of the work, and ends with a table of figures. A goal that is missed is shown; only a comparison of unequal work
//! is an error.

mod cut;
mod dissect;
mod mcp;
mod query;
mod random;
mod record;
mod scratch;
mod slow;
mod usage;

use anyhow::Result;
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

/// As in the hub's program, whose functions are measured here.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
#[command(
    version,
    about = "What Wiretape costs, measured beside what others cost for the same work"
)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Packets to tape, beside tcpdump.
    Record(record::Options),
    /// A cut of a full tape.
    Cut(cut::Options),
    /// Captures to stored calls, beside tshark.
    Dissect(dissect::Options),
    /// Captures of hostile shape to stored calls, beside usual ones of the same protocol.
    Hostile(dissect::HostileOptions),
    /// Questions to a dissection of many calls, beside DuckDB.
    Query(query::Options),
    /// An assistant's calls, beside the Python SDK's own server.
    Mcp(mcp::Options),

    /// The sender of `record`, in its own process and namespace.
    #[command(hide = true)]
    Send(record::SendOptions),
    /// Its receiver.
    #[command(hide = true)]
    Receive(record::ReceiveOptions),
    /// Our side of `dissect`, in its own process.
    #[command(hide = true)]
    RunDissect(dissect::RunOptions),
    /// Our side of `query`, in its own process.
    #[command(hide = true)]
    RunQuery(query::RunOptions),
    /// Runs a command and says what it used.
    #[command(hide = true)]
    Measure(usage::Options),
}

fn main() -> Result<()> {
    match Args::parse().bench {
        Bench::Record(options) => record::run(&options),
        Bench::Cut(options) => cut::run(&options),
        Bench::Dissect(options) => dissect::run(&options),
        Bench::Hostile(options) => dissect::run_hostile(&options),
        Bench::Query(options) => query::run(&options),
        Bench::Mcp(options) => mcp::run(&options),
        Bench::Send(options) => record::send(&options),
        Bench::Receive(options) => record::receive(&options),
        Bench::RunDissect(options) => dissect::run_ours(&options),
        Bench::RunQuery(options) => query::run_ours(&options),
        Bench::Measure(options) => usage::measure(&options),
    }
}
