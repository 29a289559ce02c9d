//! Where the programs under test are.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, bail};

/// The path of one of our programs: beside this one, beside the tests' folder, or in the release folder next to it.
///
/// # Errors
/// It has not been built.
pub fn find(name: &str) -> anyhow::Result<PathBuf> {
    let this = env::current_exe().context("this program does not know where it is")?;
    let candidates = this
        .ancestors()
        .skip(1)
        .take(3)
        .flat_map(|folder| [folder.join(name), folder.join("release").join(name)]);
    for candidate in candidates {
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("{name} is not built yet: run `cargo build --release` first");
}
