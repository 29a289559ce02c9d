//! Numbers, timelines and SQL over HTTP.

use serde_json::{Value, json};

use crate::agent::shop;
use crate::hub::{TestHub, encoded};

const ROUTES: [&str; 4] = ["/mcp/stats", "/mcp/timeline", "/mcp/sql", "/mcp/schema"];

#[tokio::test(flavor = "multi_thread")]
async fn the_same_by_query_and_by_body() {
    let (client, server) = shop(50, 100, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let ask = &hub.client;
    ask.snapshot(json!({ "name": "s" })).await;
    ask.dissect("s", "d").await;

    let kfl = "dst.svc == \"checkout\"";
    let by_query = ask
        .get(&format!(
            "/api/mcp/stats?db=s/d&group_by=dst,status&bucket=auto&kfl={}",
            encoded(kfl)
        ))
        .await;
    let body = json!({ "db": "s", "groupBy": ["dst", "status"], "bucket": "auto", "kfl": kfl });
    assert_eq!(ask.post("/mcp/stats", body).await, by_query);
    assert_eq!(by_query["db"], "s/d");
    assert_eq!(by_query["total"]["count"], 50);
    let groups: Vec<Value> = by_query["groups"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|group| json!([group["dst"], group["status"], group["count"]]))
        .collect();
    assert_eq!(
        groups,
        [json!(["checkout", 200, 45]), json!(["checkout", 503, 5])]
    );

    let sql = "SELECT status, count(*) FROM calls GROUP BY status ORDER BY status";
    let answer = ask.post("/mcp/sql", json!({ "db": "s/d", "sql": sql })).await;
    assert_eq!(answer["rows"], json!([[200, 45], [503, 5]]));
    assert_eq!(
        ask.get(&format!("/mcp/sql?db=s/d&sql={}", encoded(sql))).await,
        answer
    );

    let timeline = ask
        .get("/mcp/timeline?db=s/d&by=endpoint&retry_within=50ms")
        .await;
    assert_eq!((&timeline["calls"], &timeline["db"]), (&json!(50), &json!("s/d")));
    assert_eq!(timeline["failures"][0]["count"], 5);
    assert_eq!(timeline["retries"]["within_ms"], 50);

    let schema = ask.get("/mcp/schema?db=s/d").await;
    assert_eq!(schema["tables"][0]["columns"][0]["name"], "ts");

    let page = ask
        .get("/mcp/calls?db=s/d&fields=path,status&limit=1&group_by=ns")
        .await;
    assert_eq!(page["calls"][0].as_object().expect("a call").len(), 3);
    assert_eq!(page["groups"][0]["total"], 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_by_default_is_under_64_kib() {
    let (client, _server) = shop(400, 100, 64 << 20).await;
    let hub = TestHub::start(&[&client]).await;
    let ask = &hub.client;
    ask.snapshot(json!({ "name": "s" })).await;
    ask.dissect("s", "d").await;
    for path in [
        "/mcp/calls?db=s/d&format=raw",
        "/mcp/calls?db=s/d&format=full",
        "/mcp/stats?db=s/d&group_by=endpoint,src,dst,status&bucket=auto",
        "/mcp/timeline?db=s/d&by=endpoint",
        "/mcp/sql?db=s/d&limit=10000&sql=SELECT%20*%20FROM%20calls",
    ] {
        let answer = ask.get(path).await;
        let bytes = answer.to_string().len();
        assert!(bytes < 64 << 10, "{path}: {bytes}");
        if path.contains("raw") || path.contains("sql") {
            assert!(
                answer["truncated"] == true && answer["hint"].is_string(),
                "{path}"
            );
        }
    }
    // Who says how many gets them.
    let all = ask.get("/mcp/calls?db=s/d&format=raw&limit=400").await;
    assert_eq!(all["calls"].as_array().map(Vec::len), Some(400));
    let some = ask
        .get("/mcp/calls?db=s/d&format=raw&limit=400&max_bytes=20000")
        .await;
    assert!(some["cursor"].is_string() && some["calls"].to_string().len() <= 20_002);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_questions_are_told_what_to_ask() {
    let (client, _server) = shop(3, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client]).await;
    let ask = &hub.client;
    ask.snapshot(json!({ "name": "s" })).await;
    ask.dissect("s", "d").await;
    for route in ROUTES {
        for (query, status, error) in [
            ("", 400, "`db` is required"),
            ("?db=nope/d", 404, "there is no database `nope/d`; there are: s/d"),
        ] {
            let (told, answer) = ask.ask("GET", &format!("{route}{query}"), None).await;
            let message = answer["error"].as_str().unwrap_or_default();
            assert!(
                told == status && message.contains(error),
                "{route}{query}: {told} {message}"
            );
        }
    }
    for (path, error) in [
        ("/mcp/stats?db=s/d&group_by=pods", "they can by endpoint, src"),
        (
            "/mcp/stats?db=s/d&group_by=src,dst,pod,node,status",
            "4 are the most",
        ),
        (
            "/mcp/stats?db=s/d&order=worst",
            "`order` must be count, errors, error_rate",
        ),
        ("/mcp/stats?db=s/d&limit=0", "1 to 1000 groups"),
        ("/mcp/stats?db=s/d&limit=x", "`limit` must be a whole number"),
        (
            "/mcp/stats?db=s/d&bucket=soon",
            "`bucket` must be auto or a duration",
        ),
        (
            "/mcp/stats?db=s/d&bucket=1ms&start=1&end=100000",
            "more than 1000",
        ),
        ("/mcp/stats?db=s/d&kfl=respnse.status", "did you mean"),
        ("/mcp/stats?db=s/d&start=5&end=4", "must be before end"),
        (
            "/mcp/stats?db=s/d&max_bytes=5",
            "`max_bytes` must be 1024 to 16777216",
        ),
        ("/mcp/timeline?db=s/d&by=pod", "`by` must be peers or endpoint"),
        ("/mcp/timeline?db=s/d&retry_within=x", "`retry_within`"),
        ("/mcp/sql?db=s/d", "`sql` is required"),
        ("/mcp/sql?db=s/d&sql=DROP%20TABLE%20calls", "only SELECT"),
        (
            "/mcp/sql?db=s/d&sql=SELECT%20statsu%20FROM%20calls",
            "did you mean \"status\"?",
        ),
        ("/mcp/sql?db=s/d&sql=SELECT%201&limit=10001", "1 to 10000 rows"),
        (
            "/mcp/calls?db=s/d&group_by=pod",
            "`group_by` must be node, ns, namespace or worker",
        ),
        ("/mcp/calls?db=s/d&fields=pth", "did you mean \"path\"?"),
    ] {
        let (status, answer) = ask.ask("GET", path, None).await;
        let message = answer["error"].as_str().unwrap_or_default();
        assert!(
            status == 400 && message.contains(error),
            "{path}: {status} {message}"
        );
    }
}
