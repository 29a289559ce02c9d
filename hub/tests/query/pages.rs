//! Pages over a table of many row groups, held against SQL over the same table: the one looks through row groups, the
//! other goes through the engine's plans.

use std::sync::Arc;

use serde_json::Value;
use wiretape_dissect::{Call, Headers, Message, Observation, Outcome, Peer};
use wiretape_hub::calls::{Names, PartWriter, Rows, schema};
use wiretape_hub::dissections::{SUMMARY, Summary, TABLES};
use wiretape_hub::query::{self, CallsQuery, Database, Order, SqlQuery};

use crate::captures::START;

/// Of each of two parts: more than a row group, and not a multiple of anything.
const CALLS: u64 = 66_001;

/// Calls of which many share their time, their latency or their size, and some lack the one or the other.
fn call(number: u64) -> Call {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let peer = |last: u64, port| Peer {
        address: ([10, 0, 0, last as u8], port).into(),
        tape: None,
        cgroup: 0,
    };
    let start = START + number / 7 * 1_000_000;
    let mut headers = Headers::default();
    headers.push("x-request-id", format!("{:04x}", mixed % 5000).as_bytes());
    let answered = !mixed.is_multiple_of(11);
    let request = Message {
        headers,
        wire_len: 100 + mixed % 50,
        ..Message::default()
    };
    Call {
        stream: mixed,
        index: (number % 3) as u32,
        protocol: if mixed.is_multiple_of(5) { "redis" } else { "http" },
        version: "",
        client: peer(1 + mixed % 3, 40_000),
        server: peer(10 + mixed % 4, 80),
        method: ["GET", "POST"][(mixed % 2) as usize].into(),
        path: match mixed % 4 {
            0 => "/cart".to_owned(),
            1 => format!("/users/{}", mixed % 9000),
            _ => format!("/10.0.0.{}/{}", 10 + mixed % 3, mixed % 5),
        },
        query: ["", "a=1"][(mixed % 2) as usize].to_owned(),
        authority: String::new(),
        status: answered.then_some([200, 404, 503][(mixed % 3) as usize]),
        outcome: Outcome::Ok,
        request: Some(request),
        response: answered.then(Message::default),
        marks: Default::default(),
        client_side: None,
        server_side: None,
        unknown_side: Some(Observation {
            tape: 0,
            request: Some((start, start)),
            response: answered.then_some((start, start + mixed % 100 * 1000)),
        }),
        fields: Vec::new(),
    }
}

fn table() -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let tables = dir.path().join(TABLES);
    std::fs::create_dir(&tables).unwrap();
    for part in 0..2 {
        let rows = Rows::new(Arc::new(Names::new(Vec::new())), Arc::from(["node-1".to_owned()]));
        let mut writer = PartWriter::create(&tables.join(format!("part-{part}.parquet")), rows, 2).unwrap();
        for few in (0..CALLS).collect::<Vec<_>>().chunks(16) {
            let calls: Vec<Call> = few.iter().map(|number| call(number * 2 + part)).collect();
            writer.push(&calls).unwrap();
        }
        writer.finish().unwrap();
    }
    let summary = Summary {
        schema: schema::VERSION,
        calls: 2 * CALLS,
        ..Summary::default()
    };
    std::fs::write(tables.join(SUMMARY), serde_json::to_vec(&summary).unwrap()).unwrap();
    let db = Database::open(dir.path()).unwrap();
    (dir, db)
}

/// Filters, and what SQL says instead.
const FILTERS: [(&str, &str); 9] = [
    ("", "true"),
    ("dst.ip == \"10.0.0.12\"", "dst_ip = '10.0.0.12'"),
    ("src.ip == \"10.0.0.9\"", "false"),
    (
        "path contains \"77\" and method == \"POST\"",
        "protocol = 'http' AND path LIKE '%77%' AND method = 'POST'",
    ),
    (
        "request.path == \"/cart\" and response.status == 503",
        "protocol = 'http' AND path = '/cart' AND status = 503",
    ),
    (
        "not (http and status_code >= 400) and (src.ip == \"10.0.0.1\" or path startsWith \"/u\")",
        "NOT (protocol = 'http' AND coalesce(status, 0) >= 400) AND (src_ip = '10.0.0.1' OR (protocol = 'http' AND starts_with(path, '/u')))",
    ),
    (
        "url startsWith \"/\" + dst.ip + \"/\"",
        "protocol = 'http' AND starts_with(path, '/' || dst_ip || '/')",
    ),
    (
        "request.headers[\"x-request-id\"] startsWith \"00a\"",
        "protocol = 'http' AND starts_with(req_headers['x-request-id'], '00a')",
    ),
    (
        "timestamp >= timestamp(\"2023-11-14T22:13:29Z\") and src.ip != dst.ip + \"x\" and elapsed_time == 5",
        "ts >= '2023-11-14T22:13:29Z' AND elapsed_ns / 1000 = 5",
    ),
];

fn ids(calls: &[Value]) -> Vec<String> {
    let id = |call: &Value| {
        call["id"]
            .as_str()
            .unwrap()
            .trim_start_matches("node-1")
            .to_owned()
    };
    calls.iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_of_every_order_is_what_sql_says() {
    let (_dir, db) = table();
    for (kfl, sql) in FILTERS {
        for (order, by) in [
            (Order::Time, "ts"),
            (Order::Latency, "coalesce(elapsed_ns, -1) DESC, ts"),
            (
                Order::Size,
                "coalesce(req_bytes, 0) + coalesce(resp_bytes, 0) DESC, ts",
            ),
        ] {
            let asked = |sql: String| SqlQuery {
                sql,
                limit: Some(300),
                max_bytes: 1 << 20,
            };
            let counted = asked(format!("SELECT count(*) FROM calls WHERE {sql}"));
            let total = query::sql(&db, &counted).await.unwrap()["rows"][0][0]
                .as_u64()
                .unwrap();
            let first = asked(format!(
                "SELECT stream, index FROM calls WHERE {sql} ORDER BY {by}, stream, index"
            ));
            let expected: Vec<String> = query::sql(&db, &first).await.unwrap()["rows"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| {
                    let stream = row[0].as_u64().or_else(|| row[0].as_str()?.parse().ok()).unwrap();
                    format!("/{stream:x}/{}", row[1])
                })
                .collect();
            let (mut found, mut cursor) = (Vec::new(), None);
            for _ in 0..3 {
                let page = CallsQuery {
                    kfl: Some(kfl.to_owned()),
                    order,
                    limit: Some(100),
                    cursor,
                    ..CallsQuery::default()
                };
                let page = query::calls(&db, &page).await.unwrap();
                assert_eq!(page.total, total, "{kfl}");
                found.extend(ids(&page.calls));
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{kfl} by {order:?}");
        }
    }
}

#[tokio::test]
async fn a_part_that_is_cut_off_is_an_error_and_not_an_empty_answer() {
    let (dir, db) = table();
    query::calls(&db, &CallsQuery::default()).await.unwrap();
    let part = dir.path().join(TABLES).join("part-1.parquet");
    std::fs::File::options()
        .write(true)
        .open(part)
        .unwrap()
        .set_len(1000)
        .unwrap();
    for db in [db, Database::open(dir.path()).unwrap()] {
        let page = CallsQuery {
            kfl: Some("path contains \"7\"".to_owned()),
            ..CallsQuery::default()
        };
        assert!(matches!(
            query::calls(&db, &page).await,
            Err(query::QueryError::Internal(_))
        ));
    }
}
