//! Under which name a server was reached.

use serde_json::{Value, json};
use wiretape_dissect::testing::{Chat, Recorded, Who};
use wiretape_hub::dissections::{self, Job, Progress};
use wiretape_hub::query::{self, Database, SqlQuery};

use crate::captures::{SECOND, START, ask, dissect, mixed, talk, tape};

const RESOLVER: &str = "10.96.0.10:53";

/// A client that asks a resolver for a name.
fn resolved(client: &str, at: u64, names: &[&str], address: [u8; 4]) -> Chat {
    let mut chat = Chat::new(client, RESOLVER, at);
    chat.resolve(names, address);
    chat
}

/// A client that asks for two names of one address, one after the other, and one that asks nobody.
fn capture() -> Vec<Recorded> {
    let address = [203, 0, 113, 9];
    let first = resolved(
        "10.0.0.1:40000",
        START,
        &["pay.example.com", "edge.example.net"],
        address,
    );
    let second = resolved(
        "10.0.0.1:40001",
        START + 100 * SECOND,
        &["new.example.com"],
        address,
    );
    let talks = [
        ("10.0.0.1:50000", 1),
        ("10.0.0.1:50001", 101),
        ("10.0.0.2:50000", 102),
        ("10.0.0.2:50001", 200),
    ];
    let talks = talks.map(|(client, at)| talk(client, "203.0.113.9:80", START + at * SECOND, 1));
    let talks = talks.map(|talk| talk.seen_by(Who::Client, 0, 0));
    let chats = [first, second].map(|chat| chat.seen_by(Who::Client, 0, 0));
    mixed(chats.into_iter().chain(talks))
}

async fn told(db: &Database) -> Vec<(Value, Value, Value)> {
    let calls = ask(db, r#"dst.ip == "203.0.113.9""#).await.calls.into_iter();
    let told = |call: Value| {
        (
            call["src"]["port"].clone(),
            call["dst"]["dns"].clone(),
            call["dst"]["dns_source"].clone(),
        )
    };
    calls.map(told).collect()
}

#[tokio::test]
async fn server_is_called_as_its_client_called_it_at_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let (summary, db) = dissect(dir.path(), vec![tape(dir.path(), "n1", &capture())], Vec::new());
    assert_eq!(
        told(&db).await,
        [
            (json!(50000), json!("pay.example.com"), json!("answer")),
            (json!(50001), json!("new.example.com"), json!("answer")),
            // Somebody else was told, a moment ago.
            (json!(50000), json!("new.example.com"), json!("answer")),
            // Nobody was lately: it says itself where it wanted to go.
            (json!(50001), json!("shop"), json!("host")),
        ]
    );
    for (kfl, calls) in [
        (r#"dst.dns == "new.example.com""#, 2),
        (r#""pay.example.com" in dns_resolutions"#, 1),
        (r#"dst.name contains "example""#, 3),
        (r#"src.dns != """#, 0),
    ] {
        assert_eq!(ask(&db, kfl).await.total, calls, "{kfl}");
    }
    assert_eq!(summary.counters["names.dns_answers"], 2);
    assert_eq!(summary.counters["names.dns_refused"], 0);
    let sql = |sql: &str| SqlQuery {
        sql: sql.to_owned(),
        max_bytes: 10_000,
        ..SqlQuery::default()
    };
    let names = sql("SELECT dns, addresses, node FROM names WHERE dns <> '' ORDER BY since");
    assert_eq!(
        query::sql(&db, &names).await.unwrap()["rows"],
        json!([
            ["pay.example.com", "203.0.113.9", ""],
            ["new.example.com", "203.0.113.9", ""]
        ])
    );
    let connections = sql(
        "SELECT dst_dns, count(*) FROM connections WHERE transport = 'tcp' GROUP BY dst_dns ORDER BY dst_dns",
    );
    assert_eq!(
        query::sql(&db, &connections).await.unwrap()["rows"],
        json!([["", 1], ["new.example.com", 2], ["pay.example.com", 1]])
    );
}

#[tokio::test]
async fn names_do_not_depend_on_the_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let mut packets = Vec::new();
    // Hundreds of clients that ask and go there at once, and later under another name.
    for client in 0..200_u64 {
        let host = format!("10.0.{}.{}", client / 100, client % 100 + 1);
        for (turn, name) in ["a.example", "b.example", "c.example"].into_iter().enumerate() {
            let at = START + client * 1_000_003 + turn as u64 * SECOND / 3;
            let port = 40_000 + turn;
            let address = [203, 0, 113, u8::try_from(client % 7).unwrap()];
            packets.push(resolved(&format!("{host}:{port}"), at, &[name], address).packets);
            let server = format!("203.0.113.{}:80", client % 7);
            packets.push(talk(&format!("{host}:{}", port + 10), &server, at + 2000, 2).packets);
        }
    }
    let source = tape(dir.path(), "n1", &mixed(packets));
    let mut first = None;
    for threads in [1, 2, 5] {
        let out = dir.path().join(format!("dissections/{threads}"));
        let job = Job {
            sources: vec![source.clone()],
            names: Vec::new(),
            losses: Vec::new(),
            problems: Vec::new(),
            window: None,
            out: out.clone(),
            threads,
        };
        dissections::run(&job, &Progress::default()).unwrap();
        let db = Database::open(&out).unwrap();
        let rows = SqlQuery {
            sql: "SELECT dst_ip, dst_dns, dst_dns_source, count(*), sum(src_port), count(DISTINCT src_ip), min(ts), max(ts) \
                  FROM calls GROUP BY dst_ip, dst_dns, dst_dns_source ORDER BY dst_ip, dst_dns, dst_dns_source"
                .to_owned(),
            max_bytes: 20_000,
            ..SqlQuery::default()
        };
        let rows = query::sql(&db, &rows).await.unwrap()["rows"].clone();
        assert!(rows.as_array().unwrap().len() >= 7 * 3, "{rows}");
        assert_eq!(*first.get_or_insert(rows.clone()), rows, "{threads} threads");
    }
}

#[tokio::test]
async fn call_to_a_service_is_one_at_both_its_addresses() {
    let dir = tempfile::tempdir().unwrap();
    // The same bytes with the same sequence numbers, before and behind what translates.
    let service = talk("10.0.0.1:40000", "10.96.0.7:80", START, 3);
    let pod = talk("10.0.0.1:40000", "10.0.0.2:8080", START, 3);
    for (name, ahead) in [("even", 0_i64), ("ahead", 1_500_000), ("behind", -1_500_000)] {
        let dir = dir.path().join(name);
        let mut there = pod.seen_by(Who::Server, 1, 50_000);
        for packet in &mut there {
            packet.ts = packet.ts.checked_add_signed(ahead).unwrap();
        }
        let sources = vec![
            tape(&dir, "node-1", &service.seen_by(Who::Client, 0, 0)),
            tape(&dir, "node-2", &there),
        ];
        let (summary, db) = dissect(&dir, sources, Vec::new());
        let calls = ask(&db, "http").await.calls;
        assert_eq!(calls.len(), 3, "{name}: {:?}", summary.counters);
        for call in &calls {
            assert_eq!(
                (&call["src"]["node"], &call["dst"]["node"]),
                (&json!("node-1"), &json!("node-2")),
                "{name}"
            );
            let sides = call["observed"].as_object().unwrap();
            assert!(
                sides.contains_key("client") && sides.contains_key("server"),
                "{name}: {call}"
            );
        }
        assert_eq!(summary.connections, 1, "{name}");
    }
}

#[tokio::test]
async fn question_to_a_service_is_one_call_at_both_its_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let service = resolved("10.0.0.1:40000", START, &["pay.example.com"], [203, 0, 113, 9]);
    let mut pod = Chat::new("10.0.0.1:40000", "10.0.1.7:5353", START + 100_000);
    pod.step /= 2;
    pod.resolve(&["pay.example.com"], [203, 0, 113, 9]);
    for (name, ahead) in [("even", 0), ("ahead", 1_500_000)] {
        let dir = dir.path().join(name);
        let sources = vec![
            tape(&dir, "node-1", &service.seen_by(Who::Client, 0, 0)),
            tape(&dir, "node-2", &pod.seen_by(Who::Server, 1, ahead)),
        ];
        let (summary, db) = dissect(&dir, sources, Vec::new());
        let calls = ask(&db, "dns").await.calls;
        assert_eq!(calls.len(), 1, "{name}: {:?}", summary.counters);
        let [src, dst] = ["src", "dst"].map(|side| calls[0][side]["node"].clone());
        assert_eq!((src, dst), (json!("node-1"), json!("node-2")), "{name}");
        assert_eq!(calls[0]["dst"]["ip"], "10.96.0.10", "{name}");
        assert_eq!(summary.connections, 1, "{name}");
    }
}
