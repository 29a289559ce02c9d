//! Who the peers of a call are.

use std::collections::BTreeMap;

use serde_json::json;
use wiretape_dissect::testing::Who;
use wiretape_hub::calls::NodeName;
use wiretape_hub::query::{self, SqlQuery};
use wiretape_tape::Name;

use crate::captures::{SECOND, START, ask, dissect, mixed, named_tape, talk, tape};

fn name(node: &str, pod: &str, cgroup: u64, address: &str, since: u64, until: Option<u64>) -> NodeName {
    let name = Name {
        since,
        until,
        cgroup,
        process: "nginx".to_owned(),
        addresses: vec![address.parse().unwrap()],
        pod: pod.to_owned(),
        namespace: "shop".to_owned(),
        service: pod.split('-').next().unwrap().to_owned(),
        labels: BTreeMap::from([("app".to_owned(), pod.to_owned())]),
        ..Name::default()
    };
    NodeName {
        node: node.to_owned(),
        name,
    }
}

#[tokio::test]
async fn names_on_both_sides_with_a_change_in_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let early = talk("10.0.0.1:40000", "10.0.0.2:80", START, 2);
    let late = talk("10.0.0.1:40001", "10.0.0.2:80", START + 100 * SECOND, 2);
    // The client's socket is recorded (cgroup 100); the server is known by its address alone, which changes hands.
    let client = mixed([early, late].map(|talk| talk.seen_by(Who::Client, 0, 0)));
    let change = START + 50 * SECOND;
    let names = vec![
        name("node-1", "frontend-a", 100, "10.0.0.77", 0, None),
        name("node-2", "checkout-old", 7, "10.0.0.2", 0, Some(change)),
        name("node-2", "checkout-new", 8, "10.0.0.2", change, None),
    ];
    let (_, db) = dissect(dir.path(), vec![tape(dir.path(), "node-1", &client)], names);

    let answer = ask(&db, r#"src.pod contains "frontend" and dst.svc == "checkout""#).await;
    let pods: Vec<_> = answer
        .calls
        .iter()
        .map(|call| call["dst"]["pod"].as_str().unwrap())
        .collect();
    assert_eq!(
        pods,
        ["checkout-old", "checkout-old", "checkout-new", "checkout-new"]
    );
    let call = &answer.calls[0];
    let whole = |side: &str| {
        let of = &call[side];
        ["pod", "ns", "svc", "node", "process"]
            .map(|member| of[member].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(
        whole("src"),
        ["frontend-a", "shop", "frontend", "node-1", "nginx"]
    );
    assert_eq!(
        whole("dst"),
        ["checkout-old", "shop", "checkout", "node-2", "nginx"]
    );
    assert_eq!(call["src"]["labels"]["app"], "frontend-a");
    assert_eq!(ask(&db, r#"local_labels["app"] == "frontend-a""#).await.total, 4);
}

#[tokio::test]
async fn names_that_only_the_segment_tells() {
    let dir = tempfile::tempdir().unwrap();
    let packets = talk("10.0.0.1:40000", "10.0.0.2:80", START, 1).packets;
    let told = name("", "frontend-a", 0, "10.0.0.1", 0, None).name;
    let source = named_tape(dir.path(), "node-1", &packets, &[told]);
    let (_, db) = dissect(dir.path(), vec![source], Vec::new());
    assert_eq!(ask(&db, r#"src.pod == "frontend-a""#).await.total, 1);
}

#[tokio::test]
async fn names_are_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let name = |pod: &str, cgroup, until| Name {
        since: START,
        until,
        cgroup,
        pod: pod.to_owned(),
        addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        labels: [("app".to_owned(), "web".to_owned())].into(),
        ..Name::default()
    };
    let names = [
        name("web-1", u64::MAX, Some(START + SECOND)),
        name("web-2", 0, None),
    ];
    let packets = talk("10.0.0.1:40000", "10.0.0.2:80", START, 1).packets;
    let source = named_tape(dir.path(), "node-1", &packets, &names);
    let db = dissect(dir.path(), vec![source], Vec::new()).1;
    let asked = SqlQuery {
        sql: "SELECT pod, node, cgroup, addresses, labels['app'], until - since, until IS NULL FROM names ORDER BY pod"
            .to_owned(),
        max_bytes: 10_000,
        ..SqlQuery::default()
    };
    let rows = &query::sql(&db, &asked).await.unwrap()["rows"];
    let (first, second) = (&rows[0], &rows[1]);
    assert_eq!(
        (&first[0], &first[1], &first[2], &first[3], &first[4], &first[6]),
        (
            &json!("web-1"),
            &json!("node-1"),
            &json!(u64::MAX.to_string()),
            &json!("10.0.0.1, fd00::1"),
            &json!("web"),
            &json!(false)
        )
    );
    assert_eq!(
        (&second[0], &second[2], &second[5], &second[6]),
        (&json!("web-2"), &json!(0), &json!(null), &json!(true))
    );
}
