//! The hub's program.

use std::process::ExitCode;

use clap::Parser;
use wiretape_hub::config::{Cli, run};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wiretape-hub: {error:#}");
            ExitCode::FAILURE
        }
    }
}
