//! Captures of other tools: read whatever they hold.

use std::path::{Path, PathBuf};

use wiretape_hub::dissections::{self, Job, Progress, Source};
use wiretape_hub::query::Database;

use crate::captures::everything;

#[tokio::test]
async fn every_file_of_the_corpora() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora");
    let mut files = Vec::new();
    collect(&root, &mut files);
    if files.is_empty() {
        eprintln!("skipped: no captures in {}", root.display());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Each its own tape: they are of many years and tools.
    let sources = files
        .iter()
        .map(|file| Source {
            node: file.file_name().unwrap().to_string_lossy().into_owned(),
            files: vec![file.clone()],
        })
        .collect();
    let job = Job {
        sources,
        out: dir.path().join("out"),
        threads: 2,
        ..Job::default()
    };
    let summary = dissections::run(&job, &Progress::default()).unwrap();
    assert_eq!(summary.files.len(), files.len());
    assert!(summary.packets > 0 && summary.calls > 0, "{summary:?}");
    let calls = everything(&Database::open(&job.out).unwrap()).await;
    assert_eq!(calls.len() as u64, summary.calls);
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, files);
        } else if [".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            files.push(path);
        }
    }
    files.sort();
}
