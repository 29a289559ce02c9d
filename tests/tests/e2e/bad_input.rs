//! Bad input, over the real programs: an error that says what to do, and nothing changed.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use wiretape_tests::binaries;
use wiretape_tests::cluster::{Cluster, Pod};
use wiretape_tests::process::{Process, Talk};

use crate::tools::{all_calls, possible, recording};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 31);

/// A request, the status that it gets, and a word that its error has to hold.
type Case = (&'static str, String, Vec<u8>, u16, &'static str);

fn cases() -> Vec<Case> {
    let get = |path: &str, status, word| ("GET", path.to_owned(), Vec::new(), status, word);
    let post = |path: &str, body: &str, status, word| {
        ("POST", path.to_owned(), body.as_bytes().to_vec(), status, word)
    };
    let db = "db=tape/all";
    vec![
        get("/mcp/snapshots/nobody", 404, "nobody"),
        get("/mcp/snapshots/nobody/pcap", 404, "nobody"),
        get(
            &format!("/mcp/calls?{db}&kfl=src.podd%20%3D%3D%20%22x%22"),
            400,
            "src.pod",
        ),
        get(
            &format!("/mcp/calls?{db}&kfl=response.status%20%3D%20503"),
            400,
            "==",
        ),
        get(&format!("/mcp/calls?{db}&kfl=((("), 400, ""),
        get(&format!("/mcp/calls?{db}&limit=0"), 400, "1000"),
        get(&format!("/mcp/calls?{db}&limit=1001"), 400, "1000"),
        get(&format!("/mcp/calls?{db}&limit=many"), 400, "limit"),
        get(&format!("/mcp/calls?{db}&format=fancy"), 400, "compact"),
        get(&format!("/mcp/calls?{db}&cursor=%00nonsense"), 400, "cursor"),
        get("/mcp/calls?db=tape/nothing", 404, "all"),
        get("/mcp/calls", 400, "db"),
        get(
            "/mcp/snapshots/tape/pcap?bpf_filter=prot%20tcp",
            400,
            "bpf_filter",
        ),
        get("/mcp/snapshots/tape/pcap?nodes=node-9", 400, "node-1"),
        get("/mcp/nonsense", 404, "/mcp"),
        post("/mcp/snapshots", r#"{"name":"tape"}"#, 409, "tape"),
        post("/mcp/snapshots", r#"{"name":"../../etc"}"#, 400, "A-Z"),
        post("/mcp/snapshots", r#"{"name":".hidden"}"#, 400, ""),
        post("/mcp/snapshots", r#"{"name":""}"#, 400, ""),
        post("/mcp/snapshots", r#"{"duration":"1h"}"#, 400, "name"),
        post(
            "/mcp/snapshots",
            r#"{"name":"x","duration":"soon"}"#,
            400,
            "duration",
        ),
        post(
            "/mcp/snapshots",
            r#"{"name":"x","start_time":1000,"end_time":2000}"#,
            400,
            "recorded",
        ),
        post(
            "/mcp/snapshots",
            r#"{"name":"x","nodes":["node-9"]}"#,
            400,
            "node-1",
        ),
        post("/mcp/snapshots", "{\"name\": \"x\",", 400, "JSON"),
        post(
            "/mcp/dissections",
            r#"{"snapshot":"tape","name":"all"}"#,
            409,
            "all",
        ),
        post(
            "/mcp/dissections",
            r#"{"snapshot":"nobody","name":"x"}"#,
            404,
            "nobody",
        ),
        post(
            "/delayed_dissection.DelayedDissection/Start",
            r#"{"snapshot_name":"nobody"}"#,
            404,
            "nobody",
        ),
        ("POST", "/mcp/snapshots".to_owned(), vec![b' '; 10 << 20], 413, ""),
        ("PATCH", "/mcp/snapshots".to_owned(), Vec::new(), 405, ""),
        (
            "DELETE",
            "/mcp/snapshots/nobody".to_owned(),
            Vec::new(),
            404,
            "nobody",
        ),
    ]
}

#[tokio::test]
async fn bad_requests_are_explained_and_change_nothing() -> anyhow::Result<()> {
    if !possible("bad_requests_are_explained_and_change_nothing", &["curl"]) {
        return Ok(());
    }
    let cluster = Cluster::start(
        vec![vec![Pod::new("web", WEB)]],
        recording("bad_requests_are_explained_and_change_nothing"),
        None,
    )
    .await?;
    // Something has to be on the tape: curl talks to nobody.
    let place = cluster.place("web")?;
    let arguments = ["-s", "--max-time", "2", &format!("http://{WEB}:9/")];
    let curl = Path::new("/usr/bin/curl");
    let refused = Process::start("curl", &place, cluster.folder(), curl, arguments, Talk::No)?
        .wait(Duration::from_secs(10));
    assert!(refused.is_err());
    let api = cluster.api();
    let recorded = |body: &Value| body["cluster"]["newest_ts"].is_u64();
    api.poll("/mcp/data-boundaries", &[], recorded).await?;
    all_calls(&api, "tape").await?;
    let before = state(&api).await?;
    for (method, path, body, status, word) in cases() {
        let answer = api.raw(method, &path, body).await?;
        let case = format!("{method} {path}");
        assert_eq!(answer.status, status, "{case}: {}", answer.body);
        assert!(!answer.error().is_empty(), "{case}: {}", answer.body);
        assert!(
            answer.error().contains(word),
            "{case} says {:?}, without {word:?}",
            answer.error()
        );
        // With and without /api.
        let same = api.raw(method, &format!("/api{path}"), Vec::new()).await?;
        assert!((400..500).contains(&same.status), "/api: {case}: {}", same.body);
    }
    assert_eq!(state(&api).await?, before);
    Ok(())
}

async fn state(api: &wiretape_tests::api::Api) -> anyhow::Result<(Value, Value)> {
    let snapshots = api.get("/mcp/snapshots", &[]).await?.ok()?;
    let dissections = api.get("/mcp/dissections", &[]).await?.ok()?;
    Ok((snapshots, dissections))
}

#[test]
fn files_that_are_no_captures_are_explained() -> anyhow::Result<()> {
    let hub = binaries::find("wiretape-hub")?;
    let folder = tempfile::tempdir()?;
    let noise: Vec<u8> = (0..100_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let noise_file = folder.path().join("noise.pcap");
    std::fs::write(&noise_file, noise)?;
    for file in [noise_file, folder.path().join("missing.pcap")] {
        let output = Command::new(&hub).arg("dissect").arg(&file).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{}", file.display());
        assert_ne!(output.status.code(), Some(101), "a panic: {errors}");
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        assert!(errors.contains(name.as_ref()), "{errors}");
    }
    Ok(())
}
