//! A hub behind a proxy that gives it another name, as an ingress does: nginx, configured as docs/deploy.md says.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::json;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

use crate::hub::HubProcess;
use crate::session::{Session, initialize, post};

const NAME: &str = "wiretape.example";

/// An nginx before a hub, killed when dropped.
struct Proxy {
    port: u16,
    nginx: Child,
    _folder: TempDir,
}

impl Proxy {
    async fn before(hub: &HubProcess) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let config = folder.path().join("nginx.conf");
        let text = configuration(folder.path(), port, &hub.client.url);
        std::fs::write(&config, text).expect("it is written");
        let nginx = Command::new("nginx")
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&config)
            .spawn()
            .expect("nginx runs");
        let proxy = Self {
            port,
            nginx,
            _folder: folder,
        };
        let listening = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), listening)
            .await
            .expect("nginx listens");
        proxy
    }

    /// A client for whom the name is the proxy's.
    fn client(&self) -> reqwest::Client {
        reqwest::Client::builder()
            .no_proxy()
            .resolve(NAME, ([127, 0, 0, 1], self.port).into())
            .build()
            .expect("a client")
    }

    fn url(&self, path: &str) -> String {
        format!("http://{NAME}:{}{path}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

fn configuration(folder: &Path, port: u16, hub: &str) -> String {
    let page = include_str!("../../../docs/deploy.md");
    let (_, block) = page.split_once("```nginx\n").expect("the page has it");
    let (location, _) = block.split_once("```").expect("it ends");
    let location = location.replace("http://127.0.0.1:8898", hub);
    let folder = folder.display();
    // In one process that stays, with nothing outside its folder.
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxied;\n\
         fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
         server {{ listen 127.0.0.1:{port}; server_name {NAME};\n{location}}} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_behind_another_name_is_told_that_name() {
    let dir = TempDir::new().expect("a temporary folder");
    let flags = [
        "--allowed-host",
        NAME,
        "--allowed-origin",
        "https://wiretape.example:443",
    ];
    let hub = HubProcess::start_with(dir.path(), &flags);
    let proxy = Proxy::before(&hub).await;

    // A session with its stream of events, to the end.
    let (session, begun) = Session::by(proxy.client(), &proxy.url("/mcp"), "2025-11-25").await;
    assert_eq!(begun["serverInfo"]["name"], "wiretape");
    let events = session.listen().await;
    let listed = session.call("list_snapshots", json!({})).await;
    assert_eq!(listed["structuredContent"]["snapshots"], json!([]));
    drop(events);
    session.end().await;

    // A page of that name may come in, others not.
    for (origin, status) in [
        ("https://wiretape.example", 200),
        ("https://attacker.example", 403),
        ("http://wiretape.example", 403),
    ] {
        let asked = post(&proxy.client(), &proxy.url("/api/mcp")).header("origin", origin);
        let answer = asked
            .json(&initialize("2025-11-25"))
            .send()
            .await
            .expect("it answers");
        assert_eq!(answer.status().as_u16(), status, "{origin}");
    }

    // A WebSocket passes, too.
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{}/api/wsFull", proxy.port))
            .await
            .expect("it is a WebSocket");
    socket.send(Message::text("")).await.expect("it is sent");
    let told = socket.next().await.expect("an answer").expect("it is whole");
    assert!(
        told.to_text()
            .is_ok_and(|told| told.contains("live dissection is off")),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_not_told_the_name_turns_it_away() {
    let dir = TempDir::new().expect("a temporary folder");
    let hub = HubProcess::start_with(dir.path(), &[]);
    let proxy = Proxy::before(&hub).await;
    let asked = post(&proxy.client(), &proxy.url("/mcp")).json(&initialize("2025-11-25"));
    let answer = asked.send().await.expect("it answers");
    assert_eq!(answer.status().as_u16(), 403);
    // REST is not checked.
    let listed = proxy.client().get(proxy.url("/mcp/snapshots")).send().await;
    assert!(listed.is_ok_and(|listed| listed.status().is_success()));
}
