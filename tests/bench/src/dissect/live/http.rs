//! HTTP/1 and HTTP/2: h2load asks nginx for files and posts to it.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::room::{Room, Running};
use super::{Asked, Kind, number_before};
use crate::dissect::messages::json;
use crate::random::Random;

/// Connections that h2load keeps, and streams on each of them: what a sidecar has to its neighbours.
const CONNECTIONS: &str = "100";
const STREAMS: &str = "10";
/// Different answers, and different things that are asked for.
const FILES: u64 = 64;
const TARGETS: u64 = 2000;
/// One request in so many is a POST, one target in so many does not exist.
const POSTS: u64 = 5;
const MISSING: u64 = 50;
/// Requests in a megabyte of capture.
const PER_MEGABYTE: u64 = 1030;

/// Starts nginx, which speaks HTTP/1 on one port and HTTP/2 on another.
pub fn start(room: &Room) -> Result<Running> {
    let mut random = Random(1);
    for number in 0..FILES {
        room.file(&format!("www/v1/products/{number}"), json(&mut random))?;
    }
    room.file("order.json", json(&mut random))?;
    for folder in ["body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        std::fs::create_dir_all(room.dir().join("nginx").join(folder))?;
    }
    let config = room.file("nginx.conf", config(room))?;
    room.serve_on(
        room.command("nginx").arg("-c").arg(config).args(["-e", "stderr"]),
        "nginx.log",
        Kind::Http2.port(),
    )
}

fn config(room: &Room) -> String {
    let dir = room.dir().display();
    let (http1, http2) = (Kind::Http1.port(), Kind::Http2.port());
    format!(
        r#"user root;
daemon off;
worker_processes 1;
pid {dir}/nginx/pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {dir}/nginx/body;
    proxy_temp_path {dir}/nginx/proxy;
    fastcgi_temp_path {dir}/nginx/fastcgi;
    uwsgi_temp_path {dir}/nginx/uwsgi;
    scgi_temp_path {dir}/nginx/scgi;
    default_type application/json;
    keepalive_requests 100000000;
    tcp_nodelay on;
    add_header x-request-id $request_id always;
    add_header x-tenant shop always;
    add_header cache-control no-cache always;
    add_header vary accept always;
    server {{
        listen 127.0.0.1:{http1};
        listen 127.0.0.1:{http2} http2;
        root {dir}/www;
        location /v1/orders {{ return 201 '{{"id":4711,"state":"accepted","total":99.5}}'; }}
    }}
}}
"#
    )
}

/// Asks over HTTP/1 or HTTP/2 until there are about so many megabytes.
pub fn ask(room: &Room, kind: Kind, megabytes: u64) -> Result<Asked> {
    let version = if kind == Kind::Http1 {
        "--h1"
    } else {
        "--no-tls-proto=h2c"
    };
    let family = if kind == Kind::Http1 {
        "http && !http2"
    } else {
        "http2 && !grpc"
    };
    let base = format!("http://127.0.0.1:{}", kind.port());
    let mut targets = String::new();
    for number in 0..TARGETS {
        let file = if number % MISSING == 0 {
            FILES + number
        } else {
            number % FILES
        };
        writeln!(targets, "{base}/v1/products/{file}?page={number}&per_page=20")?;
    }
    let targets = room.file(&format!("targets-{}", kind.name()), targets)?;
    let calls = megabytes * PER_MEGABYTE;
    let posts = calls / POSTS;

    let load = |requests: u64| {
        let mut command = room.command("h2load");
        command
            .args([
                version,
                "-c",
                CONNECTIONS,
                "-m",
                STREAMS,
                "-n",
                &requests.to_string(),
            ])
            .args([
                "-H",
                "accept: application/json",
                "-H",
                "user-agent: frontend/2.4.1",
            ])
            .args(["-H", "x-tenant: shop", "-H", "accept-language: en"])
            .args([
                "-H",
                "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ])
            .args(["-H", "x-forwarded-for: 203.0.113.7"]);
        command
    };
    let mut asked = Asked::default();
    let mut statuses = [0; 3];
    let gets = room.ask(load(calls - posts).arg("-i").arg(targets))?;
    let posted = room.ask(
        load(posts)
            .args(["-d", "order.json", "-H", "content-type: application/json"])
            .arg(format!("{base}/v1/orders")),
    )?;
    for said in [&gets, &posted] {
        let line = |start: &str| said.lines().find_map(|line| line.strip_prefix(start));
        let done = line("requests: ").with_context(|| format!("h2load tells of no requests: {said}"))?;
        let codes = line("status codes: ").with_context(|| format!("h2load tells of no status: {said}"))?;
        asked.calls += number_before(done, "total")?;
        for (count, word) in statuses.iter_mut().zip(["2xx", "4xx", "5xx"]) {
            *count += number_before(codes, word)?;
        }
    }
    asked.expect(family, asked.calls);
    for (count, from) in statuses.into_iter().zip([200, 400, 500]) {
        let to = from + 100;
        asked.expect(
            &format!("{family} && status_code >= {from} && status_code < {to}"),
            count,
        );
    }
    Ok(asked)
}
