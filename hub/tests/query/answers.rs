//! What a question is answered, or refused with.

use serde_json::json;
use wiretape_hub::dissections::Source;
use wiretape_hub::query::{self, CallsPage, CallsQuery, Database, Databases, Format, Order, QueryError};

use crate::captures::{START, ask, dissect, dissect_packets, dissection, mixed, talk};

/// Two connections with ten calls each.
fn shop() -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let talks = [
        talk("10.0.0.1:40000", "10.0.0.2:80", START, 10),
        talk("10.0.0.1:40001", "10.0.0.2:80", START + 500_000, 10),
    ];
    let db = dissect_packets(dir.path(), &mixed(talks.map(|talk| talk.packets)));
    (dir, db)
}

async fn page(db: &Database, query: CallsQuery) -> CallsPage {
    query::calls(db, &query).await.unwrap()
}

async fn refused(db: &Database, query: CallsQuery) -> String {
    match query::calls(db, &query).await {
        Err(QueryError::BadRequest(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn query_returns_failing_checkouts() {
    let (_dir, db) = shop();
    let answer = ask(
        &db,
        r#"request.path=="/api/v1/checkout" and response.status==503"#,
    )
    .await;
    assert_eq!(
        (answer.total, answer.calls.len(), answer.truncated),
        (6, 6, false)
    );
    assert!(answer.calls.iter().all(|call| call["status"] == 503));
    let answer = ask(&db, r#"request.headers["x-request-id"] == "10.0.0.1:40001-2""#).await;
    assert_eq!(answer.total, 1);
    assert_eq!(answer.calls[0]["src"]["port"], 40001);
}

#[tokio::test]
async fn compact_is_the_contract_and_no_more() {
    let (_dir, db) = shop();
    let answer = page(
        &db,
        CallsQuery {
            limit: Some(1),
            ..CallsQuery::default()
        },
    )
    .await;
    let call = &answer.calls[0];
    let id = call["id"].as_str().unwrap();
    assert!(id.starts_with("node-1/") && id.ends_with("/0"), "{id}");
    assert_eq!(
        *call,
        json!({
            "id": id,
            "ts": START / 1_000_000 + 3,
            "src": {"ip": "10.0.0.1", "port": 40000, "ns": "internal"},
            "dst": {"ip": "10.0.0.2", "port": 80, "ns": "internal"},
            "proto": "http",
            "method": "GET",
            "path": "/api/v1/checkout",
            "status": 200,
            "latency_ms": 1.0,
        })
    );
}

#[tokio::test]
async fn full_holds_headers_sizes_and_bodies() {
    let (_dir, db) = shop();
    let answer = ask(&db, "response.status == 200").await;
    let call = &answer.calls[0];
    assert_eq!(
        call["req_headers"],
        json!({"host": "shop", "x-request-id": "10.0.0.1:40000-0"})
    );
    assert_eq!(call["resp_headers"]["content-length"], "11");
    assert_eq!((&call["req_size"], &call["resp_size"]), (&json!(0), &json!(11)));
    assert_eq!(
        (&call["req_body"], &call["resp_body"]),
        (&json!(""), &json!(r#"{"ok":true}"#))
    );
    assert_eq!(call["node_id"], "node-1");
    assert_eq!(
        (&call["query"], &call["authority"]),
        (&json!("n=0"), &json!("shop"))
    );
    assert_eq!(call["outcome"], "ok");
    let begin = (START + 3_000_000) as f64 / 1e6;
    assert_eq!(call["observed"]["unknown"]["request"], json!([begin, begin]));
    assert!(call.get("marks").is_none(), "nothing is incomplete");
}

#[tokio::test]
async fn pages_join_to_the_whole() {
    let (_dir, db) = shop();
    for order in [Order::Time, Order::Latency, Order::Size] {
        let whole = page(
            &db,
            CallsQuery {
                order,
                ..CallsQuery::default()
            },
        )
        .await;
        assert_eq!(
            (whole.calls.len(), whole.truncated, &whole.cursor),
            (20, false, &None)
        );
        let mut query = CallsQuery {
            order,
            limit: Some(3),
            ..CallsQuery::default()
        };
        let mut calls = Vec::new();
        loop {
            let page = page(&db, query.clone()).await;
            assert_eq!((page.total, page.truncated), (20, page.cursor.is_some()));
            calls.extend(page.calls);
            if page.cursor.is_none() {
                break;
            }
            query.cursor = page.cursor;
        }
        assert_eq!(calls, whole.calls, "{order:?}");
    }
}

#[tokio::test]
async fn largest_come_first() {
    let (_dir, db) = shop();
    let answer = page(
        &db,
        CallsQuery {
            order: Order::Size,
            limit: Some(20),
            ..CallsQuery::default()
        },
    )
    .await;
    // A failure has the longer status line, and a body that is shorter by more.
    let statuses: Vec<_> = answer
        .calls
        .iter()
        .map(|call| call["status"].as_i64().unwrap())
        .collect();
    assert_eq!(statuses, [[200; 14].as_slice(), &[503; 6]].concat());
}

#[tokio::test]
async fn window_in_ms() {
    let (_dir, db) = shop();
    let ms = i64::try_from(START / 1_000_000).unwrap();
    let answer = page(
        &db,
        CallsQuery {
            start: Some(ms + 3),
            end: Some(ms + 5),
            ..CallsQuery::default()
        },
    )
    .await;
    // Of each connection one call began in these two milliseconds.
    assert_eq!(answer.total, 2);
    assert!(
        refused(
            &db,
            CallsQuery {
                start: Some(5),
                end: Some(5),
                ..CallsQuery::default()
            }
        )
        .await
        .contains("before end")
    );
}

#[tokio::test]
async fn unknown_field_is_explained() {
    let (_dir, db) = shop();
    let message = refused(
        &db,
        CallsQuery {
            kfl: Some(r#"src.podd contains "x""#.to_owned()),
            ..CallsQuery::default()
        },
    )
    .await;
    for part in ["src.podd", "^", "src.pod"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[tokio::test]
async fn limit_out_of_range() {
    let (_dir, db) = shop();
    for limit in [0, -1, 1001, i64::MIN, i64::MAX] {
        let message = refused(
            &db,
            CallsQuery {
                limit: Some(limit),
                ..CallsQuery::default()
            },
        )
        .await;
        assert!(message.contains("1 to 1000"), "{message}");
    }
}

#[tokio::test]
async fn cursor_of_another_question() {
    let (_dir, db) = shop();
    let query = CallsQuery {
        limit: Some(1),
        order: Order::Latency,
        ..CallsQuery::default()
    };
    let cursor = page(&db, query).await.cursor;
    for cursor in [
        cursor,
        Some("x".to_owned()),
        Some(String::new()),
        Some("time.0.1.2.3.4.5".to_owned()),
    ] {
        let message = refused(
            &db,
            CallsQuery {
                cursor,
                ..CallsQuery::default()
            },
        )
        .await;
        assert!(message.contains("is no cursor"), "{message}");
    }
}

#[tokio::test]
async fn empty_answer_says_why() {
    let (_dir, db) = shop();
    let explain = async |query: CallsQuery| {
        let answer = page(&db, query).await;
        assert_eq!((answer.total, answer.calls.len()), (0, 0));
        answer.explanation.unwrap()
    };
    let none = explain(CallsQuery {
        kfl: Some("response.status == 418".to_owned()),
        ..CallsQuery::default()
    })
    .await;
    assert!(
        none.contains("matched none of the 20 calls") && none.contains("2023-11-14T22:13:20"),
        "{none}"
    );
    let late = explain(CallsQuery {
        start: Some(4_000_000_000_000),
        ..CallsQuery::default()
    })
    .await;
    assert!(
        late.contains("no call began in that window; this dissection's calls began from"),
        "{late}"
    );

    let dir = tempfile::tempdir().unwrap();
    // The head of a capture without packets: little-endian, microseconds, Ethernet.
    let empty = dir.path().join("empty.pcap");
    let head = [
        &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0],
        [0; 8].as_slice(),
        &[0, 0, 4, 0, 1, 0, 0, 0],
    ]
    .concat();
    std::fs::write(&empty, head).unwrap();
    let source = Source {
        node: "node-1".to_owned(),
        files: vec![empty],
    };
    let (_, empty) = dissect(dir.path(), vec![source], Vec::new());
    assert!(
        page(&empty, CallsQuery::default())
            .await
            .explanation
            .unwrap()
            .contains("hold no packets")
    );

    let dir = tempfile::tempdir().unwrap();
    let silent = dissect_packets(
        dir.path(),
        &talk("10.0.0.1:40000", "10.0.0.2:80", START, 0).packets,
    );
    let explanation = page(&silent, CallsQuery::default()).await.explanation.unwrap();
    assert!(
        explanation.contains("6 packets were read, and no call was found in them"),
        "{explanation}"
    );
}

#[tokio::test]
async fn call_by_its_id() {
    let (_dir, db) = shop();
    let answer = page(
        &db,
        CallsQuery {
            limit: Some(20),
            ..CallsQuery::default()
        },
    )
    .await;
    let wanted = &answer.calls[13];
    let id = wanted["id"].as_str().unwrap();
    let without_node = id.strip_prefix("node-1").unwrap();
    for id in [id, without_node] {
        let call = query::call_by_id(&db, id).await.unwrap();
        assert_eq!(
            (&call["id"], &call["ts"], &call["path"]),
            (&wanted["id"], &wanted["ts"], &wanted["path"])
        );
    }
    let details = query::call_details(&db, id, Some(5), false).await.unwrap();
    assert_eq!(details["entry"]["id"], *id);
    let full = query::call_details(&db, id, Some(65536), false).await.unwrap();
    let body = full["resp_body"].as_str().unwrap();
    assert_eq!(details["resp_body"], body.get(..5).unwrap_or(body));
    assert_eq!(
        (&details["truncated"], &full["truncated"]),
        (&json!(body.len() > 5), &json!(false))
    );
    assert!(
        query::call_details(&db, id, None, false)
            .await
            .unwrap()
            .get("resp_body")
            .is_none()
    );

    for (id, wrong) in [
        ("x", true),
        ("node-1/zz/0", true),
        ("", true),
        ("node-1/1/0", false),
        ("/1/0", false),
    ] {
        match query::call_by_id(&db, id).await {
            Err(QueryError::BadRequest(_)) if wrong => {}
            Err(QueryError::NotFound(_)) if !wrong => {}
            other => panic!("{id}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn raw_has_every_column() {
    let (_dir, db) = shop();
    let answer = page(
        &db,
        CallsQuery {
            limit: Some(1),
            format: Format::Raw,
            ..CallsQuery::default()
        },
    )
    .await;
    for column in wiretape_hub::calls::schema::COLUMNS {
        assert!(answer.calls[0].get(column.name).is_some(), "{}", column.name);
    }
    assert_eq!(answer.calls[0]["ts"], "2023-11-14T22:13:20.003000000Z");
}

#[test]
fn folder_without_tables() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Database::open(dir.path()), Err(QueryError::NotFound(_))));
    let tables = dissection(dir.path()).join("calls");
    std::fs::create_dir_all(&tables).unwrap();
    std::fs::write(tables.join("summary.json"), "{").unwrap();
    assert!(matches!(
        Database::open(&dissection(dir.path())),
        Err(QueryError::Internal(_))
    ));
}

#[tokio::test]
async fn dissected_again_under_the_same_name() {
    let databases = Databases::default();
    let dir = tempfile::tempdir().unwrap();
    let folder = dissection(dir.path());
    for calls in [2_u64, 5] {
        let packets = talk("10.0.0.1:40000", "10.0.0.2:80", START, calls as usize).packets;
        dissect_packets(dir.path(), &packets);
        for _ in 0..2 {
            let answer = ask(&databases.get(&folder).unwrap(), "http").await;
            assert_eq!((answer.total, answer.calls.len() as u64), (calls, calls));
        }
        std::fs::remove_dir_all(dir.path().join("segments")).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(databases.get(&folder), Err(QueryError::NotFound(_))));
    }
}

/// What the user's page shows can be asked.
#[tokio::test]
async fn every_example_of_the_language_is_answered() {
    let (_dir, db) = shop();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kfl.md");
    let page = std::fs::read_to_string(path).unwrap();
    let blocks = page
        .split("```kfl\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let mut asked = 0;
    for kfl in blocks.flat_map(str::lines) {
        let query = CallsQuery {
            kfl: Some(kfl.to_owned()),
            now: START,
            ..CallsQuery::default()
        };
        if let Err(error) = query::calls(&db, &query).await {
            panic!("{kfl}\n{error}");
        }
        asked += 1;
    }
    assert!(asked > 60, "only {asked} examples are found");
}

#[tokio::test]
async fn limit_in_the_filter() {
    let (_dir, db) = shop();
    let with = |kfl: &str, limit| CallsQuery {
        kfl: Some(kfl.to_owned()),
        limit,
        ..CallsQuery::default()
    };
    let answer = page(&db, with("http and limit(3)", None)).await;
    assert_eq!(
        (answer.calls.len(), answer.total, answer.truncated),
        (3, 20, true)
    );
    assert_eq!(answer.cursor, None);
    assert!(answer.hint.unwrap().contains("limit(3)"));
    // The lower one holds; below the filter's own limit there are pages.
    let answer = page(&db, with("http and limit(3)", Some(2))).await;
    assert_eq!((answer.calls.len(), answer.cursor.is_some()), (2, true));
    // At the limit nothing is left out, and nothing is said.
    let answer = page(&db, with("http and limit(20)", None)).await;
    assert_eq!(
        (answer.calls.len(), answer.truncated, answer.hint),
        (20, false, None)
    );
}

#[tokio::test]
async fn redacted_values_are_in_no_form_of_the_answer() {
    let (_dir, db) = shop();
    let kfl = "http and redact(\"src.ip\", \"url\", \"request.headers.X-Request-Id\", \"response.body\", \"status\")";
    for format in [Format::Compact, Format::Full, Format::Raw] {
        let query = CallsQuery {
            kfl: Some(kfl.to_owned()),
            format,
            ..CallsQuery::default()
        };
        let answer = page(&db, query).await;
        assert_eq!(answer.calls.len(), 20);
        for call in &answer.calls {
            let text = call.to_string();
            for secret in ["10.0.0.1\"", "checkout", "n=1", "{\\\"ok", "503"] {
                assert!(!text.contains(secret), "{secret} is in {text}");
            }
            assert!(text.contains("[REDACTED]"));
        }
    }
    let full = ask(&db, "redact(\"request.headers.x-request-id\")").await;
    let headers = &full.calls[0]["req_headers"];
    assert_eq!(
        (&headers["x-request-id"], &headers["host"]),
        (&json!("[REDACTED]"), &json!("shop"))
    );
    // Another's copy of it, in the response, was not asked to be hidden.
    assert_eq!(full.calls[0]["resp_headers"]["x-request-id"], "10.0.0.1:40000-0");
    // Pages go on, and a call is still found by its id.
    let hidden = CallsQuery {
        kfl: Some("redact(\"timestamp\", \"node\")".to_owned()),
        limit: Some(1),
        ..CallsQuery::default()
    };
    let first = page(&db, hidden.clone()).await;
    let next = page(
        &db,
        CallsQuery {
            cursor: first.cursor,
            ..hidden
        },
    )
    .await;
    assert_ne!(first.calls[0]["id"], next.calls[0]["id"]);
    let id = next.calls[0]["id"].as_str().unwrap();
    assert!(id.starts_with('/'), "{id}");
    assert!(query::call_by_id(&db, id).await.is_ok());
}

#[tokio::test]
async fn redact_where_nothing_could_be_hidden_is_refused() {
    let (_dir, db) = shop();
    let query = CallsQuery {
        kfl: Some("redact(\"node\")".to_owned()),
        group_by: Some(query::CallsGroup::Node),
        ..CallsQuery::default()
    };
    assert!(
        refused(&db, query)
            .await
            .contains("which the filter's redact(..) hides")
    );
    let stats = query::StatsQuery {
        scope: query::Scope {
            kfl: Some("redact(\"path\")".to_owned()),
            ..query::Scope::default()
        },
        ..query::StatsQuery::default()
    };
    let error = query::stats(&db, &stats).await.unwrap_err().to_string();
    assert!(error.contains("Leave out `redact(\"path\")`"), "{error}");
}
