//! A server and clients that are not ours.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use wiretape_tests::cluster::{Cluster, Pod};
use wiretape_tests::process::{Process, Talk};

use crate::tools::{all_calls, possible, recording, tshark};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 21);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 21);
const PATIENCE: Duration = Duration::from_secs(60);

/// A request every 4 ms on each connection: a rate that two busy cores can record without loss.
const PACE: &str = "function delay() return 4 end\n";

#[tokio::test]
async fn nginx_under_curl_and_wrk() -> anyhow::Result<()> {
    if !possible("nginx_under_curl_and_wrk", &["nginx", "curl", "wrk", "tshark"]) {
        return Ok(());
    }
    let pods = vec![vec![Pod::new("web", WEB)], vec![Pod::new("client", CLIENT)]];
    let cluster = Cluster::start(pods, recording("nginx_under_curl_and_wrk"), None).await?;
    let mut nginx = start_nginx(&cluster)?;

    for (arguments, number) in curls(cluster.folder())?.into_iter().zip(0..) {
        run(
            &cluster,
            &format!("curl-{number}"),
            Path::new("/usr/bin/curl"),
            &arguments,
        )?;
    }
    let pace = cluster.folder().join("pace.lua");
    fs::write(&pace, PACE)?;
    let wrk = [
        "-t1",
        "-c8",
        "-d2s",
        "-s",
        &pace.display().to_string(),
        &format!("http://{WEB}/small.txt"),
    ];
    run(
        &cluster,
        "wrk",
        Path::new("/usr/bin/wrk"),
        &wrk.map(str::to_owned),
    )?;
    nginx.stop()?;

    let log = log(cluster.folder())?;
    let mut found = BTreeMap::new();
    for call in all_calls(&cluster.api(), "web").await? {
        assert_eq!(
            (call.src.svc.as_str(), call.dst.svc.as_str()),
            ("client", "web"),
            "{call:?}"
        );
        // wrk leaves without waiting for its last answers; a request that nginx never read is in no log.
        if let Some(status) = call.status() {
            *found.entry((call.method, call.path, status)).or_default() += 1;
        }
    }
    assert!(log.values().sum::<usize>() > 500, "{log:?}");
    assert_eq!(found, log);

    // tshark finds as many responses in what the hub exports of the server's node.
    let capture = cluster
        .api()
        .bytes("/mcp/snapshots/web/pcap", &[("nodes", "node-1")])
        .await?;
    let file = cluster.folder().join("web.pcap");
    fs::write(&file, capture)?;
    let mut statuses = BTreeMap::new();
    for ((_, _, status), calls) in log {
        *statuses.entry(status).or_default() += calls;
    }
    assert_eq!(tshark(&file)?.responses, statuses);
    Ok(())
}

/// Every way of speaking HTTP/1 that curl and nginx have between them.
fn curls(folder: &Path) -> anyhow::Result<Vec<Vec<String>>> {
    let upload = folder.join("upload");
    fs::write(&upload, vec![b'u'; 1_500_000])?;
    let upload = upload.display();
    let site = format!("http://{WEB}");
    let quiet = "-s -o /dev/null";
    let lines = [
        // One connection, many requests.
        format!("{quiet} {site}/small.txt?n=[1-200]"),
        format!("{quiet} --head {site}/small.txt?n=[1-20]"),
        // gzip, and so chunked.
        format!("{quiet} --compressed {site}/large.txt?n=[1-10]"),
        format!("{quiet} {site}/large.txt?n=[1-5]"),
        format!("{quiet} -r 100-199 {site}/large.txt"),
        format!("{quiet} --http1.0 {site}/small.txt?n=[1-5]"),
        format!("{quiet} -H Connection:close {site}/small.txt?n=[1-5]"),
        // 100-continue, a large body, and a body in chunks.
        format!("{quiet} -H Expect:100-continue -T {upload} {site}/put/expected"),
        format!("{quiet} -H Transfer-Encoding:chunked -H Expect: -T {upload} {site}/put/chunked"),
        format!("{quiet} -d a=b {site}/post?n=[1-5]"),
        format!("{quiet} -X DELETE {site}/put/expected"),
        format!("{quiet} {site}/missing?n=[1-5]"),
        format!("{quiet} {site}/moved"),
        format!("{quiet} {site}/unavailable?n=[1-5]"),
        format!("{quiet} {site}/empty?n=[1-5]"),
        format!(
            "{quiet} -H If-Modified-Since:Fri,\u{a0}01\u{a0}Jan\u{a0}2100\u{a0}00:00:00\u{a0}GMT {site}/small.txt"
        ),
    ];
    // No-break spaces stand for spaces within an argument.
    let split = |line: &String| line.split(' ').map(|word| word.replace('\u{a0}', " ")).collect();
    Ok(lines.iter().map(split).collect())
}

fn run(cluster: &Cluster, name: &str, program: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let place = cluster.place("client")?;
    Process::start(name, &place, cluster.folder(), program, arguments, Talk::No)?.wait(PATIENCE)
}

pub fn start_nginx(cluster: &Cluster) -> anyhow::Result<Process> {
    let file = configure(cluster.folder(), &format!("{WEB}:80"))?;
    let place = cluster.place("web")?;
    let arguments = ["-c".into(), file.into_os_string()];
    let mut nginx = Process::start(
        "nginx",
        &place,
        cluster.folder(),
        Path::new("/usr/sbin/nginx"),
        arguments,
        Talk::No,
    )?;
    let listening = [
        "-s",
        "-o",
        "/dev/null",
        "--retry",
        "50",
        "--retry-delay",
        "0",
        "--retry-connrefused",
    ];
    let mut arguments: Vec<_> = listening.map(str::to_owned).to_vec();
    arguments.push(format!("http://{WEB}/small.txt"));
    if let Err(error) = run(
        cluster,
        "curl-until-listening",
        Path::new("/usr/bin/curl"),
        &arguments,
    ) {
        let status = nginx.ended()?;
        return Err(error).with_context(|| format!("nginx ({status:?}){}", nginx.log_tail()));
    }
    Ok(nginx)
}

/// Writes a site into a folder, and the configuration of a server for it that counts its calls (see [`log`]).
pub fn configure(folder: &Path, listen: &str) -> anyhow::Result<PathBuf> {
    let site = folder.join("site");
    fs::create_dir_all(site.join("put"))?;
    fs::write(site.join("small.txt"), "small\n".repeat(20))?;
    fs::write(site.join("large.txt"), "a line of a larger file\n".repeat(20_000))?;
    let folder = folder.display();
    let config = format!(
        r#"
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    default_type text/plain;
    log_format counted '$request_method $uri $status';
    access_log {folder}/access.log counted;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000;
    gzip on;
    gzip_types text/plain;
    server {{
        listen {listen};
        root {folder}/site;
        location /put/ {{ dav_methods PUT DELETE; client_max_body_size 10m; }}
        location /post {{ return 200 "thank you\n"; }}
        location /moved {{ return 301 /small.txt; }}
        location /unavailable {{ return 503; }}
        location /empty {{ return 204; }}
    }}
}}
"#
    );
    let file = PathBuf::from(format!("{folder}/nginx.conf"));
    fs::write(&file, config)?;
    Ok(file)
}

/// nginx's own count of calls by method, path and status.
pub fn log(folder: &Path) -> anyhow::Result<BTreeMap<(String, String, u16), usize>> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(folder.join("access.log"))?.lines() {
        let mut words = line.split(' ').map(str::to_owned);
        let kind = words
            .next()
            .zip(words.next())
            .zip(words.next())
            .with_context(|| format!("{line:?} is no line of the log"))?;
        let ((method, path), status) = kind;
        *counts.entry((method, path, status.parse()?)).or_default() += 1;
    }
    Ok(counts)
}
