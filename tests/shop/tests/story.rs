//! The whole story in one process, on loopback.

use std::process::Command;

use wiretape_shop::truth::{Sent, Truth};

/// Fast enough for a test, slow enough for the 5 s timeout to be over 100 ms.
const TIME_SCALE: &str = "40";

#[test]
fn every_call_is_written_down_by_both_ends() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let status = Command::new(env!("CARGO_BIN_EXE_wiretape-shop"))
        .args(["all", "--time-scale", TIME_SCALE, "--truth"])
        .arg(folder.path())
        .status()?;
    assert!(status.success());
    let files = std::fs::read_dir(folder.path())?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    assert_eq!(files.len(), 8);
    let truth = Truth::read(files)?;

    let count = |of: &dyn Fn(&Sent) -> bool| truth.calls.values().filter(|call| of(&call.sent)).count();
    assert!(truth.calls.len() > 5000, "{}", truth.calls.len());
    let checkouts = count(&|sent| sent.path == "/api/v1/checkout");
    let failed = count(&|sent| sent.path == "/api/v1/checkout" && sent.status == Some(503));
    assert!(failed > 0 && failed < checkouts / 5, "{failed} of {checkouts}");
    assert!(truth.resets > 0);
    assert_eq!(count(&|sent| sent.status.is_none()) as u64, truth.resets);
    assert!(count(&|sent| sent.retry > 0) >= 3);
    let without = count(&|sent| !sent.correlated) * 100 / truth.calls.len();
    assert!((11..=13).contains(&without), "{without} %");
    assert!(
        truth.database_connections > 2000,
        "{}",
        truth.database_connections
    );
    Ok(())
}
