//! The hub's program.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use wiretape_hub::config::{Cli, run};

/// A dissection makes and drops some twenty small things for each call.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wiretape-hub: {error:#}");
            ExitCode::FAILURE
        }
    }
}
