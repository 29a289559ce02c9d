//! HTTP/2 of nginx and nghttp2.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context;
use wiretape_tests::call::Call;

use super::{SERVER, Stage, number_before, tally};
use crate::nginx;
use crate::tools::all_calls;

/// Every way of speaking HTTP/2 in the clear that curl, h2load and nginx have between them.
#[tokio::test]
async fn nginx_speaks_http2_with_h2load_and_curl() -> anyhow::Result<()> {
    let name = "nginx_speaks_http2_with_h2load_and_curl";
    let Some(stage) = Stage::set(name, &["nginx", "h2load", "curl"]).await? else {
        return Ok(());
    };
    let folder = stage.cluster.folder();
    let config = nginx::configure(folder, &format!("{SERVER}:80 http2"))?;
    let mut nginx = stage.serve("/usr/sbin/nginx", ["-c".as_ref(), config.as_os_str()], 80)?;
    let upload = stage.file("upload", vec![b'u'; 700_000])?;
    let upload = upload.display();
    let site = format!("http://{SERVER}");
    let long = "l".repeat(3000);
    // One request each: of this curl (7.88), a second one on a connection with prior knowledge fails.
    for line in [
        format!("{site}/large.txt"),
        format!("--head {site}/small.txt"),
        format!("--compressed {site}/large.txt"),
        format!("-T {upload} {site}/put/uploaded"),
        format!("-X DELETE {site}/put/uploaded"),
        format!("{site}/missing?n=1"),
        format!("{site}/moved"),
        format!("{site}/unavailable"),
        format!("{site}/empty"),
        // Together longer than the table in which header fields are remembered.
        format!("-H x-long:{long} -H x-longer:{long} {site}/small.txt"),
    ] {
        let quiet = "-sS -o /dev/null --http2-prior-knowledge";
        stage.ask("curl", format!("{quiet} {line}").split(' '))?;
    }
    let load =
        format!("-n 3000 -c 6 -m 8 --rps 150 {site}/small.txt {site}/missing {site}/post {site}/small.txt?q");
    let counted = stage.ask("h2load", load.split(' '))?;
    nginx.stop()?;

    let calls = stage.calls().await?;
    let mut found = BTreeMap::new();
    for call in &calls {
        assert_eq!(
            (call.proto.as_str(), call.version.as_str()),
            ("http", "HTTP/2"),
            "{call:?}"
        );
        assert!(call.marks.is_empty(), "{call:?}");
        assert_eq!(call.authority, SERVER.to_string(), "{call:?}");
        let status = call.status().context("no call is without an answer")?;
        *found
            .entry((call.method.clone(), call.path.clone(), status))
            .or_default() += 1;
    }
    assert_eq!(found, nginx::log(folder)?);

    let by_h2load = |call: &&Call| {
        call.req_headers
            .get("user-agent")
            .is_some_and(|by| by.starts_with("h2load"))
    };
    let statuses: Vec<u16> = calls.iter().filter(by_h2load).filter_map(Call::status).collect();
    assert_eq!(statuses.len(), 3000);
    for (word, class) in [("2xx", 2), ("3xx", 3), ("4xx", 4), ("5xx", 5)] {
        let ours = statuses.iter().filter(|status| **status / 100 == class).count();
        assert_eq!(ours, number_before(&counted, word)?, "{word}: {counted}");
    }
    Ok(())
}

/// Pushes, trailers both ways, padding and header blocks over several frames.
#[tokio::test]
async fn nghttpd_pushes_and_sends_trailers() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("nghttpd_pushes_and_sends_trailers", &["nghttpd", "nghttp"]).await? else {
        return Ok(());
    };
    let site = stage.cluster.folder().join("site");
    fs::create_dir_all(&site)?;
    fs::write(site.join("page"), "a page\n")?;
    fs::write(site.join("style"), "a style\n")?;
    let upload = stage.file("upload", vec![b'u'; 100_000])?;
    let upload = upload.display();
    let serve = format!(
        "--no-tls --trailer checked:yes --push=/page=/style -d {} 80",
        site.display()
    );
    let mut nghttpd = stage.serve("nghttpd", serve.split(' '), 80)?;
    let (page, missing) = (
        format!("http://{SERVER}/page"),
        format!("http://{SERVER}/missing"),
    );
    let mut theirs = Vec::new();
    for line in [
        format!("{page} {missing} {page}"),
        format!("--no-push --multiply=5 {page}"),
        format!("--no-push --continuation {page}"),
        format!("--no-push --padding=200 --trailer sent:yes -d {upload} {page}"),
        format!("--no-push --no-dep --header-table-size=0 {page} {page}"),
    ] {
        theirs.extend(responses(&stage.ask("nghttp", format!("-ns {line}").split(' '))?));
    }
    // It ends by the signal, and not with success.
    nghttpd.kill()?;

    let calls = stage.calls().await?;
    for call in &calls {
        assert!(call.marks.is_empty(), "{call:?}");
        assert_eq!(call.version, "HTTP/2", "{call:?}");
    }
    let ours = calls.iter().map(|call| {
        let pushed = call.field("http2_pushed") == "true";
        (
            call.path.clone(),
            call.status().unwrap_or_default(),
            call.resp_size,
            pushed,
        )
    });
    assert_eq!(tally(ours), tally(theirs));

    for call in &calls {
        assert_eq!(
            call.resp_headers.get("checked").map(String::as_str),
            Some("yes"),
            "{call:?}"
        );
    }
    let sent = |call: &&Call| call.req_headers.contains_key("sent") && call.req_size == 100_000;
    assert_eq!(calls.iter().filter(sent).count(), 1);
    Ok(())
}

/// A proxy that takes an upgrade from HTTP/1 (h2c), and asks a server behind it by HTTP/2: each call is two.
#[tokio::test]
async fn nghttpx_upgrades_and_passes_on() -> anyhow::Result<()> {
    let programs = ["nghttpx", "nghttpd", "nghttp", "curl"];
    let Some(stage) = Stage::set("nghttpx_upgrades_and_passes_on", &programs).await? else {
        return Ok(());
    };
    let site = stage.cluster.folder().join("site");
    fs::create_dir_all(&site)?;
    fs::write(site.join("page"), "a page\n")?;
    let serve = format!("--no-tls -d {} 8080", site.display());
    let mut nghttpd = stage.serve("nghttpd", serve.split(' '), 8080)?;
    let proxy = format!("--conf=/dev/null -n1 -f{SERVER},80;no-tls -b{SERVER},8080;;proto=h2");
    let mut nghttpx = stage.serve("nghttpx", proxy.split(' '), 80)?;
    let (page, missing) = (
        format!("http://{SERVER}/page"),
        format!("http://{SERVER}/missing"),
    );
    let mut theirs = Vec::new();
    for upgrade in ["--upgrade", "--no-push"] {
        for _ in 0..5 {
            let said = stage.ask("nghttp", ["-ns", upgrade, &page, &missing, &page])?;
            theirs.extend(
                responses(&said)
                    .into_iter()
                    .map(|(path, status, ..)| (path, status)),
            );
        }
    }
    for _ in 0..5 {
        let said = stage.ask(
            "curl",
            ["-sS", "--http2", "-w", "%{http_code} %{http_version}", &page],
        )?;
        assert!(said.ends_with("200 2"), "{said}");
        theirs.push(("/page".to_owned(), 200));
    }
    nghttpx.kill()?;
    nghttpd.kill()?;

    stage.recorded().await?;
    let calls = all_calls(&stage.cluster.api(), "live").await?;
    for port in [80, 8080] {
        let ours = calls.iter().filter(|call| call.dst.port == port);
        let ours = ours.map(|call| (call.path.clone(), call.status().unwrap_or_default()));
        assert_eq!(tally(ours), tally(theirs.clone()), "{port}");
    }
    assert_eq!(calls.len(), 2 * theirs.len());
    for call in &calls {
        assert!(call.marks.is_empty(), "{call:?}");
    }
    let upgraded = calls
        .iter()
        .filter(|call| call.req_headers.contains_key("http2-settings"));
    assert_eq!(upgraded.count(), 10);
    Ok(())
}

/// Path, status, size of the body, and whether it was pushed.
type Response = (String, u16, u64, bool);

/// What nghttp prints of each response, after a heading: id, times, code, size and path; a `*` marks what was pushed.
fn responses(said: &str) -> Vec<Response> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let code = words.len().checked_sub(3)?;
        let status = words.get(code)?.parse().ok()?;
        let pushed = words.get(2).is_some_and(|word| *word == "*");
        let size = words.get(code + 1)?.parse().ok()?;
        Some(((*words.last()?).to_owned(), status, size, pushed))
    };
    said.lines().filter_map(line).collect()
}
