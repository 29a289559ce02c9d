//! What cargo alone cannot do: set up a machine, run the demo, the tests and the benchmarks, check the structure.
//!
//! `cargo xtask help` lists the commands.

mod again;
mod check;
mod deb;
mod dist;
mod guided;
mod kernels;
mod manifests;
mod new_protocol;
mod programs;
mod rootless;
mod setup;
mod step;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Work on Wiretape",
    version
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing to build and test: libpcap, the eBPF toolchain, the peers that tests talk to
    ///
    /// Finds what is there first; running it again changes nothing. Needs root and Debian's packages for what it
    /// installs, and says what to do where it cannot.
    Setup {
        /// Say what is missing and install nothing
        #[arg(long)]
        dry_run: bool,
        /// Only what a build needs: no servers and clients for tests
        #[arg(long, conflicts_with = "dry_run")]
        to_build: bool,
    },
    /// Set up, build, and run the main job: three nodes, a hub, a shop with an incident, and its investigation
    Demo {
        /// Passed on to the demo; `cargo xtask demo -- --help` lists them (`--keep`, `--time-scale`, `--seed`, …)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Play the incident once more, in its own five minutes, and write what the scripted assistant finds through MCP to
    /// docs/walkthrough.md
    Walkthrough {
        /// Passed on; `cargo xtask walkthrough -- --help` lists them (`--page`, `--time-scale`, `--seed`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Set up, build, and run every test
    ///
    /// Tests that failed among all others (five at most) are run once more by themselves: what then passes is named at
    /// the end, what fails again has failed.
    Test {
        /// Passed on to the test binaries, e.g. a part of a test's name
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run a benchmark beside its peer: `dissect`, `record`, `cut`, `query`, `hostile` or `mcp`
    Bench {
        /// For `dissect` and `hostile`: build the benchmark by what it counts in these captures first, as `dist` does
        #[arg(long, value_name = "CAPTURES")]
        guided_by: Option<PathBuf>,
        /// Which one, then its own options; `cargo xtask bench -- --help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Hold our calls against what tshark and others make of the captures in ../shared/corpora; with `mcp`, let the
    /// official SDKs, the inspector and the conformance suite speak to the hub
    Conformance {
        /// Passed on; `cargo xtask conformance -- --help` lists them (`--json`, `--all`, `--write`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Feed the dissector with mutated exchanges of the captures in ../shared/corpora
    Fuzz {
        /// Passed on; `cargo xtask fuzz -- --help` lists them (`--minutes`, `--protocol`, `--seed`, `--case`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Make the skeleton of a protocol that compiles and is tested, and say what to do next
    NewProtocol {
        /// In lower case, as in answers and filters: `memcached`
        name: String,
    },
    /// Build the agent and the hub as they are shipped: the root of an image and a Debian package of each
    Dist(dist::Wanted),
    /// Boot Debian's kernels (5.10, 6.1, 6.12) in an emulator, and run the agent's doctor and its tests on each
    Kernels(kernels::Wanted),
    /// Render the chart in deploy/helm to plain manifests
    Manifests {
        /// Change nothing, and fail where a file is not what the chart makes
        #[arg(long)]
        check: bool,
    },
    /// Check the structure: layout, who may know what, sizes of files, formatting
    Check {
        /// Run clippy over everything too (compiles a second time)
        #[arg(long)]
        clippy: bool,
    },
}

fn main() -> Result<()> {
    if let Some(error) = guided::as_compiler() {
        return Err(error);
    }
    match Cli::parse().command {
        Command::Setup { dry_run: true, .. } => setup::report(),
        Command::Setup { to_build: true, .. } => setup::to_build(),
        Command::Setup { .. } => setup::run(),
        Command::Demo { args } => programs::demo(&args),
        Command::Walkthrough { args } => programs::walkthrough(&args),
        Command::Test { args } => programs::test(&args),
        Command::Bench { guided_by, args } => match guided_by {
            Some(captures) => programs::guided_bench(&captures, &args),
            None => programs::bench(&args),
        },
        Command::Conformance { args } => match args.split_first() {
            Some((what, args)) if what == "mcp" => programs::clients(args),
            _ => programs::conformance(&args),
        },
        Command::Fuzz { args } => programs::fuzz(&args),
        Command::Dist(wanted) => dist::run(&wanted),
        Command::Kernels(wanted) => kernels::run(&wanted),
        Command::Manifests { check } => manifests::run(check),
        Command::NewProtocol { name } => new_protocol::run(&name),
        Command::Check { clippy } => check::run(clippy),
    }
}
