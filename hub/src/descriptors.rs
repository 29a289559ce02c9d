//! Files of protobuf descriptors, by which bodies of gRPC are shown with names.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use wiretape_dissect::protobuf::Descriptors;

/// Bytes of a file: more than a set can have that stays within the dissector's limit of names.
const MOST: u64 = 256 << 20;

/// Reads all of them.
///
/// # Errors
/// A file that cannot be read, that is longer than [`MOST`], or that is no set of descriptors.
pub fn read(files: &[PathBuf]) -> anyhow::Result<Descriptors> {
    let mut descriptors = Descriptors::default();
    for path in files {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut set = Vec::new();
        // One more than is taken tells whether there is more.
        file.take(MOST + 1)
            .read_to_end(&mut set)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if set.len() as u64 > MOST {
            bail!("{} is longer than {MOST} bytes", path.display());
        }
        descriptors
            .add(&set)
            .with_context(|| format!("cannot use {}", path.display()))?;
    }
    Ok(descriptors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_the_files_name() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent.pb");
        let error = format!("{:#}", read(&[absent]).unwrap_err());
        assert!(error.contains("absent.pb"), "{error}");
        let wrong = dir.path().join("wrong.pb");
        std::fs::write(&wrong, "{}").unwrap();
        let error = format!("{:#}", read(&[wrong]).unwrap_err());
        assert!(error.contains("wrong.pb") && error.contains("protoc"), "{error}");
        assert!(read(&[]).unwrap().is_empty());
    }
}
