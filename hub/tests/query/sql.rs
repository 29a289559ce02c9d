//! SQL: what it answers, and what it refuses.

use std::time::Duration;

use serde_json::json;
use wiretape_dissect::testing::Chat;
use wiretape_hub::query::{
    self, Database, MAX_PAIRS, MAX_SQL, MAX_TABLES, MAX_TOKENS, QueryError, SQL_AT_ONCE, SqlQuery,
};

use crate::captures::{START, dissect_packets, everything, mixed, talk};

fn shop() -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let talks = [
        talk("10.0.0.1:40000", "10.0.0.2:80", START, 10),
        talk("10.0.0.1:40001", "10.0.0.2:80", START + 500_000, 10),
    ];
    let db = dissect_packets(dir.path(), &mixed(talks.map(|talk| talk.packets)));
    (dir, db)
}

fn ask(sql: &str) -> SqlQuery {
    SqlQuery {
        sql: sql.to_owned(),
        limit: None,
        max_bytes: 60_000,
    }
}

async fn refused(db: &Database, sql: &str) -> String {
    match query::sql(db, &ask(sql)).await {
        Err(QueryError::BadRequest(message)) => message,
        other => panic!("{sql}: {other:?}"),
    }
}

#[tokio::test]
async fn rows_with_their_types() {
    let (_dir, db) = shop();
    let answer = query::sql(
        &db,
        &ask(
            "SELECT status, count(*) AS n, avg(elapsed_ns) / 1e6 AS ms, min(ts) AS first, true AS yes, NULL AS nothing \
             FROM calls GROUP BY status ORDER BY status",
        ),
    )
    .await
    .unwrap();
    let types = [
        ("status", "int"),
        ("n", "bigint"),
        ("ms", "double"),
        ("first", "timestamp"),
        ("yes", "boolean"),
        ("nothing", "null"),
    ];
    let types: Vec<_> = types
        .iter()
        .map(|(name, kind)| json!({ "name": name, "type": kind }))
        .collect();
    assert_eq!(answer["columns"], json!(types));
    assert_eq!(
        answer["rows"][0],
        json!([200, 14, 1.0, "2023-11-14T22:13:20.003Z", true, null])
    );
    assert_eq!(answer["rows"][1][0], 503);
    assert_eq!(
        (&answer["row_count"], &answer["truncated"]),
        (&json!(2), &json!(false))
    );
}

#[tokio::test]
async fn maps_headers_and_large_numbers() {
    let (_dir, db) = shop();
    let first = &everything(&db).await[0];
    let answer = query::sql(
        &db,
        &ask(
            "SELECT req_headers['x-request-id'], req_headers, stream, \"index\", upper(method), cardinality(req_packets) \
             FROM calls ORDER BY ts, stream LIMIT 1",
        ),
    )
    .await
    .unwrap();
    let row = &answer["rows"][0];
    assert_eq!(row[0], first["req_headers"]["x-request-id"]);
    assert_eq!(row[1], first["req_headers"]);
    let stream = u64::from_str_radix(first["stream"].as_str().unwrap(), 16).unwrap();
    assert!(
        row[2].as_str() == Some(&stream.to_string()) || row[2] == stream,
        "{row}"
    );
    assert_eq!((&row[3], &row[4], &row[5]), (&json!(0), &json!("GET"), &json!(1)));
}

#[tokio::test]
async fn rows_and_bytes_have_an_end() {
    let (_dir, db) = shop();
    let some = SqlQuery {
        limit: Some(7),
        ..ask("SELECT path FROM calls")
    };
    let answer = query::sql(&db, &some).await.unwrap();
    assert_eq!(
        (&answer["row_count"], &answer["truncated"]),
        (&json!(7), &json!(true))
    );
    assert!(answer["hint"].as_str().unwrap().contains("more than 7 rows"));
    let all = SqlQuery {
        limit: Some(20),
        ..ask("SELECT path FROM calls")
    };
    assert_eq!(query::sql(&db, &all).await.unwrap()["truncated"], false);
    let short = SqlQuery {
        max_bytes: 100,
        ..ask("SELECT path FROM calls")
    };
    let answer = query::sql(&db, &short).await.unwrap();
    assert!(
        answer["rows"].to_string().len() <= 102 && answer["truncated"] == true,
        "{answer}"
    );
    let most = SqlQuery {
        limit: Some(10_000),
        ..ask("SELECT 1")
    };
    assert!(query::sql(&db, &most).await.is_ok());
    for limit in [0, -1, 10_001] {
        let query = SqlQuery {
            limit: Some(limit),
            ..ask("SELECT 1")
        };
        assert!(matches!(
            query::sql(&db, &query).await,
            Err(QueryError::BadRequest(_))
        ));
    }
}

#[tokio::test]
async fn names_that_are_not_there_are_told_what_is_near() {
    let (_dir, db) = shop();
    for (sql, near) in [
        ("SELECT statsu FROM calls", "did you mean \"status\"?"),
        (
            "SELECT c.dst_servce FROM calls c",
            "did you mean \"dst_service\"?",
        ),
        ("SELECT * FROM call", "there are: calls"),
        ("SELECT uper(path) FROM calls", "did you mean \"upper\"?"),
        ("SELEC 1", "cannot be read"),
        ("SELECT 'a", "cannot be read"),
        ("SELECT status + path FROM calls", "GET /mcp/schema"),
        ("", "`sql` is required"),
    ] {
        let message = refused(&db, sql).await;
        assert!(message.contains(near), "{sql}: {message}");
    }
}

#[tokio::test]
async fn nothing_but_a_select_of_these_tables() {
    let (dir, db) = shop();
    let leak = dir.path().join("leak");
    let leak = leak.display();
    for sql in [
        "DROP TABLE calls".to_owned(),
        "INSERT INTO calls SELECT * FROM calls".to_owned(),
        "DELETE FROM calls".to_owned(),
        "UPDATE calls SET status = 200".to_owned(),
        "TRUNCATE TABLE calls".to_owned(),
        "CREATE TABLE x AS SELECT 1".to_owned(),
        "CREATE VIEW x AS SELECT 1".to_owned(),
        "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/etc/'".to_owned(),
        format!("COPY calls TO '{leak}.parquet'"),
        format!("COPY (SELECT 1) TO '{leak}.csv' STORED AS CSV"),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "RESET datafusion.execution.batch_size".to_owned(),
        "SHOW TABLES".to_owned(),
        "EXPLAIN ANALYZE SELECT 1".to_owned(),
        "PREPARE x AS SELECT 1".to_owned(),
        "SELECT 1; SELECT 2".to_owned(),
        "SELECT 1; DROP TABLE calls".to_owned(),
        "SELECT 1 INTO x".to_owned(),
        "SELECT * FROM '/etc/passwd'".to_owned(),
        "SELECT * FROM \"/etc/passwd\"".to_owned(),
        format!("SELECT * FROM '{}'", db.dir().join("calls").display()),
        "SELECT * FROM read_csv('/etc/passwd')".to_owned(),
        "SELECT * FROM generate_series(1, 1000000000)".to_owned(),
        "SELECT * FROM range(1, 10)".to_owned(),
        "SELECT generate_series(1, 1000000000)".to_owned(),
        "SELECT repeat('x', 1000000000)".to_owned(),
        "SELECT lpad('x', 1000000000)".to_owned(),
        "SELECT replace(path, '/', path) FROM calls".to_owned(),
        "SELECT array_repeat(1, 1000000000)".to_owned(),
        "SELECT array_resize([1], 1000000000)".to_owned(),
        "SELECT concat(path, path) FROM calls".to_owned(),
        "SELECT input_file_name() FROM calls".to_owned(),
        "SELECT * FROM information_schema.tables".to_owned(),
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT * FROM t".to_owned(),
        "WITH x AS (DELETE FROM calls) SELECT 1".to_owned(),
    ] {
        refused(&db, &sql).await;
    }
    assert_eq!(
        query::sql(&db, &ask("SELECT count(*) FROM calls")).await.unwrap()["rows"],
        json!([[20]])
    );
    let left = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        left.into_iter()
            .all(|name| !name.to_string_lossy().starts_with("leak"))
    );
}

#[tokio::test]
async fn texts_that_are_too_much() {
    let (_dir, db) = shop();
    let long = format!("SELECT '{}'", "x".repeat(MAX_SQL));
    assert!(refused(&db, &long).await.contains("longer than"));
    let many = format!("SELECT 1{}", "+1".repeat(MAX_TOKENS / 2));
    assert!(refused(&db, &many).await.contains("more than 800"));
    let tables = vec!["calls"; MAX_TABLES + 1].join(", ");
    assert!(
        refused(&db, &format!("SELECT 1 FROM {tables}"))
            .await
            .contains("tables")
    );
    let doubling: String = (1..9)
        .map(|n| format!(", t{n} AS (SELECT a.* FROM t{} a, t{} b)", n - 1, n - 1))
        .collect();
    let doubling = format!("WITH t0 AS (SELECT 1){doubling} SELECT * FROM t8");
    assert!(refused(&db, &doubling).await.contains("tables"));
    let concatenated = format!("SELECT 'x'{}", "||'x'".repeat(9));
    assert!(refused(&db, &concatenated).await.contains("concatenations"));
    assert_eq!(
        query::sql(&db, &ask(&format!("SELECT 'x'{}", "||'x'".repeat(8))))
            .await
            .unwrap()["rows"],
        json!([["xxxxxxxxx"]])
    );
}

/// Whatever the answer is, there is one: no stack overflows.
#[tokio::test]
async fn texts_that_nest_as_deep_as_they_may() {
    let (_dir, db) = shop();
    // As often as tokens allow that come with each, beside those that are there once.
    let times = |tokens: usize| (MAX_TOKENS - 10) / tokens;
    for sql in [
        format!("SELECT 1{}", "+1".repeat(times(2))),
        format!("SELECT status{} FROM calls", "+1".repeat(times(2))),
        format!(
            "SELECT 1 FROM calls WHERE status=1{}",
            " OR status=1".repeat(times(4))
        ),
        format!("SELECT {}1", "NOT ".repeat(times(1))),
        format!("SELECT {}1{}", "(".repeat(times(2)), ")".repeat(times(2))),
        format!("SELECT 1{}", "::int".repeat(times(2))),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(times(4))),
        format!("SELECT 1{}", " IS NULL".repeat(times(2))),
        format!(
            "SELECT {}1{}",
            "CASE WHEN true THEN ".repeat(times(5)),
            " END".repeat(times(5))
        ),
        format!("SELECT [1]{}", "[1]".repeat(times(3))),
    ] {
        let answer = query::sql(&db, &ask(&sql)).await;
        assert!(
            matches!(answer, Ok(_) | Err(QueryError::BadRequest(_))),
            "{sql:.60}: {answer:?}"
        );
    }
    assert_eq!(
        query::sql(&db, &ask("SELECT 1")).await.unwrap()["rows"],
        json!([[1]])
    );
}

#[tokio::test]
async fn more_pairs_than_there_may_be() {
    let (_dir, db) = shop();
    let error = query::sql(
        &db,
        &ask("SELECT count(*) FROM calls a, calls b, calls c, calls d, calls e, calls f, calls g, calls h"),
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("pairs"), "{error}");
    // What has one row, or a column in common, is no product.
    for sql in [
        "SELECT count(*) FROM calls, (SELECT count(*) AS n FROM calls) AS total",
        "SELECT count(*) FROM calls a, calls b WHERE a.stream = b.stream",
    ] {
        query::sql(&db, &ask(sql)).await.unwrap();
    }
}

#[tokio::test]
async fn pairs_of_connections_that_made_no_calls() {
    // One more than whose square there may be.
    let side = MAX_PAIRS.isqrt();
    let chats = (0..=side).map(|n| {
        let client = format!("10.0.{}.{}:40000", n >> 8, n & 255);
        let mut chat = Chat::new(&client, "10.200.0.1:9999", START + n * 10_000);
        chat.ask(b"one");
        chat.packets
    });
    let dir = tempfile::tempdir().unwrap();
    let db = dissect_packets(dir.path(), &mixed(chats));
    let summary = db.summary();
    assert_eq!((summary.calls, summary.connections), (0, side + 1));
    for sql in [
        "SELECT count(*) FROM connections a, connections b WHERE a.ts < b.ts",
        "SELECT count(*) FROM flows a, flows b WHERE a.ts < b.ts",
    ] {
        let message = refused(&db, sql).await;
        assert!(message.contains("pairs"), "{sql}: {message}");
    }
    // Each of them beside no call is nothing.
    let none = "SELECT count(*) FROM connections, calls WHERE connections.ts < calls.ts";
    let answer = query::sql(&db, &ask(none)).await.unwrap();
    assert_eq!(answer["rows"], json!([[0]]));
}

#[tokio::test]
async fn flows_are_what_their_connections_add_up_to() {
    let (_dir, db) = shop();
    let rows = |sql: &'static str| {
        let db = db.clone();
        async move { query::sql(&db, &ask(sql)).await.unwrap()["rows"].clone() }
    };
    let flows = rows(
        "SELECT src_ip, dst_port, transport, state, connections, calls, client_pkts, server_bytes FROM flows",
    )
    .await;
    let sums = rows("SELECT sum(client_pkts), sum(server_bytes) FROM connections").await;
    assert_eq!(
        flows,
        json!([["10.0.0.1", 80, "tcp", "closed", 2, 20, sums[0][0], sums[0][1]]])
    );
    let joined = rows("SELECT count(*) FROM calls JOIN flows USING (flow_id)").await;
    assert_eq!(joined, json!([[20]]));
}

/// Held by tests whose questions take all that there is for questions.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn who_goes_away_stops_the_question() {
    let _alone = ALONE.lock().await;
    let (_dir, db) = shop();
    // 20^6 pairs of rows, nearly as many as may be, none of which can be told from the files' statistics.
    let endless = ask(
        "SELECT count(*) FROM calls a, calls b, calls c, calls d, calls e, calls f \
         WHERE a.src_port + b.src_port + c.src_port + d.src_port + e.src_port + f.src_port < 0",
    );
    for _ in 0..=SQL_AT_ONCE {
        let gone = tokio::time::timeout(Duration::from_millis(300), query::sql(&db, &endless)).await;
        assert!(gone.is_err());
    }
    // While other tests ask, too, a question may wait in vain for its turn.
    let next = async { while query::sql(&db, &ask("SELECT 1")).await.is_err() {} };
    let next = tokio::time::timeout(Duration::from_secs(60), next).await;
    assert!(
        next.is_ok(),
        "the questions of those who went away still have all turns"
    );
}

#[tokio::test]
async fn more_memory_than_there_is() {
    let _alone = ALONE.lock().await;
    let (_dir, db) = shop();
    // 20^5 different texts of some 120 bytes each, all of which have to be kept.
    let greedy = ask(
        "SELECT count(DISTINCT a.ts::text || b.ts::text || c.ts::text || d.ts::text || e.ts::text), \
         count(DISTINCT e.ts::text || d.ts::text) FROM calls a, calls b, calls c, calls d, calls e",
    );
    let message = match query::sql(&db, &greedy).await {
        Err(QueryError::BadRequest(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(
        message.contains("memory") || message.contains("longer than 20 s"),
        "{message}"
    );
}

#[tokio::test]
async fn the_schema_tells_every_column_and_its_examples_run() {
    let (_dir, db) = shop();
    let schema = query::describe_schema(&db).await.unwrap();
    let table = &schema["tables"][0];
    assert_eq!(table["name"], "calls");
    let columns = table["columns"].as_array().unwrap();
    assert_eq!(columns.len(), wiretape_hub::calls::schema::COLUMNS.len());
    for (told, column) in columns.iter().zip(wiretape_hub::calls::schema::COLUMNS) {
        assert_eq!(told["name"], column.name);
        assert_eq!(
            (&told["type"], &told["meaning"]),
            (&json!(column.kind.sql()), &json!(column.doc))
        );
    }
    for example in schema["examples"].as_array().unwrap() {
        let answer = query::sql(&db, &ask(example["sql"].as_str().unwrap())).await;
        // A capture has no events.
        let least = u64::from(!example["sql"].as_str().unwrap().contains("FROM events"));
        assert!(
            answer
                .as_ref()
                .is_ok_and(|answer| answer["row_count"].as_u64() >= Some(least)),
            "{example}: {answer:?}"
        );
    }
}
