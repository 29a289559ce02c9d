//! `wiretape-clients`: the hub's MCP, gRPC and REST, held against clients that we did not write. A table with a line for each thing
//! that was tried; the exit status is 1 if one fails.

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use wiretape_tests::clients::{self, Outcome, Verdict};

/// Lets the official SDKs, the MCP inspector, the conformance suite, a generic client of gRPC and curl speak to hubs on made
/// captures. What they need is fetched once, into the user's cache folder.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Print one JSON object on standard output, and the table on standard error
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let all = clients::run()?;
    let table: Vec<String> = all.iter().map(line).chain([summary(&all)]).collect();
    if cli.json {
        eprintln!("{}", table.join("\n"));
        println!("{}", json!({ "outcomes": all }));
    } else {
        println!("{}", table.join("\n"));
    }
    let failed = all.iter().any(|outcome| outcome.verdict == Verdict::Failed);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn line(outcome: &Outcome) -> String {
    let verdict = match outcome.verdict {
        Verdict::Ok => "ok",
        Verdict::Failed => "FAILED",
        Verdict::DoesNotApply => "n/a",
        Verdict::Skipped => "SKIPPED",
    };
    let Outcome {
        client, what, told, ..
    } = outcome;
    format!("{verdict:<8} {client:<18} {what:<34} {told}")
}

fn summary(all: &[Outcome]) -> String {
    let count = |verdict| all.iter().filter(|outcome| outcome.verdict == verdict).count();
    format!(
        "{} ok, {} failed, {} do not apply, {} skipped",
        count(Verdict::Ok),
        count(Verdict::Failed),
        count(Verdict::DoesNotApply),
        count(Verdict::Skipped)
    )
}
