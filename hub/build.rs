//! Makes the messages and the server of `proto/delayed_dissection.proto`, and its description for reflection.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use protox::Compiler;

const FOLDER: &str = "proto";
const FILE: &str = "delayed_dissection.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={FOLDER}/{FILE}");
    let mut compiler = Compiler::new([FOLDER])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_file(FILE)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(
        out.join("delayed_dissection.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    // Every message is read from, or written as, the JSON of the other ways: one implementation behind all.
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .type_attribute(".", "#[serde(default)]")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
