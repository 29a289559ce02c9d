//! Connections and flows beside calls.

use serde_json::json;
use wiretape_dissect::testing::{Chat, Talk, Who};
use wiretape_hub::query::{
    self, Bucket, CallsGroup, CallsPage, CallsQuery, Database, FlowsQuery, Format, Lines, QueryError,
    RETRY_WITHIN, Scope, StatsQuery, TimelineQuery,
};
use wiretape_tape::DropReason;

use crate::captures::{SECOND, START, ask, dissect, dissect_packets, mixed, talk, tape, tape_with_drops};

/// Two connections with calls, one that is refused, and some datagrams that nobody knows.
fn shop() -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let calls = [
        talk("10.0.0.1:40000", "10.0.0.2:80", START, 10),
        talk("10.0.0.1:40001", "10.0.0.2:80", START + 500_000, 10),
    ];
    let mut refused = Talk::new("10.0.0.3:40000", "10.0.0.2:81", START + SECOND, (1, 0));
    let packets = &mut refused.handshake().reset(Who::Server).packets;
    packets.drain(1..3);
    let mut chat = Chat::new("10.0.0.1:50000", "10.0.0.4:9999", START + 2 * SECOND);
    chat.ask(b"one").answer(b"two!").ask(b"three");
    let tcp = calls.into_iter().map(|talk| talk.packets);
    let db = dissect_packets(dir.path(), &mixed(tcp.chain([refused.packets, chat.packets])));
    (dir, db)
}

async fn raw(db: &Database, kfl: &str) -> CallsPage {
    let query = CallsQuery {
        kfl: Some(kfl.to_owned()),
        format: Format::Raw,
        ..CallsQuery::default()
    };
    query::calls(db, &query).await.unwrap()
}

async fn total(db: &Database, kfl: &str) -> u64 {
    ask(db, kfl).await.total
}

/// At the server's end: a firewall lets the request through only when it comes for the second time.
#[tokio::test]
async fn a_request_that_the_kernel_dropped_has_not_come_to_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let packets = talk("10.0.0.1:40000", "10.0.0.2:80", START, 1).packets;
    let asked = 3;
    let mut dropped = packets[asked].clone();
    dropped.ts -= 500_000;
    // Of what the kernel drops, the agent has no more than what is in one piece.
    dropped.data.truncate(40);
    let mut packets: Vec<_> = packets.into_iter().map(|packet| (packet, None)).collect();
    packets.insert(asked, (dropped, Some(DropReason::of("NETFILTER_DROP"))));
    let source = tape_with_drops(dir.path(), "n", &packets);
    let (summary, db) = dissect(dir.path(), vec![source], Vec::new());
    assert_eq!(summary.packets, packets.len() as u64);
    assert_eq!(summary.counters["route.dropped"], 1);
    assert!(summary.losses.is_empty(), "{:?}", summary.losses);
    let calls = raw(&db, "http").await.calls;
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["ts"], "2023-11-14T22:13:20.003000000Z", "{}", calls[0]);
}

#[tokio::test]
async fn filters_give_what_they_name() {
    let (_dir, db) = shop();
    let everything = query::calls(&db, &CallsQuery::default()).await.unwrap();
    assert_eq!(everything.total, 21, "calls, one of them the failed connection's");
    for (kfl, expected) in [
        ("http", 20),
        ("tcp_conn", 3),
        ("udp_conn", 1),
        ("conn", 4),
        ("tcp_flow", 2),
        ("udp_flow", 1),
        ("flow", 3),
        ("conn or flow", 7),
        ("http or tcp_conn", 23),
        ("not tcp_conn", 22),
        ("tcp_conn and dst.port == 80", 2),
        (r#"conn_state == "closed""#, 3),
        (r#"conn_state == "open""#, 1),
        (r#""HTTP" in conn_l7_detected"#, 2),
        ("conn and size(conn_l7_detected) == 0", 2),
        ("conn_local_pkts > 10", 2),
        ("flow_local_pkts == 26", 1),
        ("flow_local_pps == 26 and flow_remote_pkts == 26", 1),
        ("tcp_flow and elapsed_time > 0", 0),
        ("tcp", 1),
        (r#"tcp_error_type == "Reset" and dst.port == 81"#, 1),
    ] {
        assert_eq!(total(&db, kfl).await, expected, "{kfl}");
    }
}

#[tokio::test]
async fn connections_and_flows_are_counted_by_group_as_they_are_listed() {
    let (_dir, db) = shop();
    for kfl in [
        "http",
        "tcp_conn",
        "http or tcp_conn",
        r#"conn_state == "closed""#,
        "tcp_flow",
        "flow_local_pps == 26",
    ] {
        for (group_by, word, key) in [
            (CallsGroup::Node, "node", "node-1"),
            (CallsGroup::Namespace, "ns", "internal"),
        ] {
            let query = CallsQuery {
                kfl: Some(kfl.to_owned()),
                group_by: Some(group_by),
                ..CallsQuery::default()
            };
            let page = query::calls(&db, &query).await.unwrap();
            assert!(page.total > 0, "{kfl}");
            let groups = vec![json!({ word: key, "total": page.total })];
            assert_eq!(page.groups, Some(groups), "{kfl}");
        }
    }
}

#[tokio::test]
async fn numbers_and_timelines_of_calls_alone_refuse_connections_and_flows() {
    let (_dir, db) = shop();
    for kfl in [
        "tcp_conn",
        r#"conn_state == "open""#,
        "flow_local_bps > 1",
        "http or tcp_conn",
    ] {
        let scope = Scope {
            kfl: Some(kfl.to_owned()),
            ..Scope::default()
        };
        let stats = StatsQuery {
            scope: scope.clone(),
            ..StatsQuery::default()
        };
        let timeline = TimelineQuery {
            scope,
            by: Lines::Peers,
            bucket: Bucket::Auto,
            retry_within: RETRY_WITHIN,
            max_bytes: 60_000,
        };
        for answer in [
            query::stats(&db, &stats).await,
            query::timeline(&db, &timeline).await,
        ] {
            let Err(QueryError::BadRequest(why)) = answer else {
                panic!("{kfl}: {answer:?}");
            };
            assert!(why.contains("speaks of connections or flows"), "{kfl}: {why}");
        }
    }
}

#[tokio::test]
async fn connections_of_sctp_are_asked_for_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut chat = Chat::new("10.0.0.1:36412", "10.0.0.4:3868", START);
    chat.ask(b"an INIT, as far as anybody reads it")
        .answer(b"and its answer");
    for packet in &mut chat.packets {
        // The number of the protocol in the head of IPv4. The ports stand where those of UDP do.
        packet.data[9] = 132;
    }
    let db = dissect_packets(dir.path(), &mixed([chat.packets]));
    for (kfl, expected) in [
        ("sctp", 1),
        ("sctp and dst.port == 3868 and conn_local_pkts == 1", 1),
        ("sctp_length > 50 and sctp_length < 200", 1),
        ("sctp_length == 0", 0),
        ("flow and sctp", 1),
        ("conn and not sctp", 0),
        ("udp_conn or tcp_conn", 0),
        (r#"sctp_chunk_type == "" "#, 1),
    ] {
        assert_eq!(total(&db, kfl).await, expected, "{kfl}");
    }
    assert_eq!(ask(&db, "sctp").await.calls[0]["proto"], "sctp_conn");
}

#[tokio::test]
async fn handshakes_of_a_flow_are_told_as_each_end_saw_them() {
    let dir = tempfile::tempdir().unwrap();
    let talks: Vec<Talk> = (0..10_u64)
        .map(|n| {
            talk(
                &format!("10.0.0.1:{}", 40_000 + n),
                "10.0.0.2:80",
                START + n * SECOND,
                1,
            )
        })
        .collect();
    let at_client = mixed(talks.iter().map(|talk| talk.seen_by(Who::Client, 0, 0)));
    // SYN after SYN was under way 100 µs longer: the server saw that much less of the 2 ms.
    let at_server = mixed(talks.iter().zip(1..).map(|(talk, late)| {
        let mut packets = talk.seen_by(Who::Server, 0, 0);
        packets[0].ts += late * 100_000;
        packets
    }));
    let tapes = vec![
        tape(dir.path(), "node-1", &at_client),
        tape(dir.path(), "node-2", &at_server),
    ];
    let db = dissect(dir.path(), tapes, Vec::new()).1;
    let page = query::flows(&db, &FlowsQuery::default()).await.unwrap();
    assert_eq!(page.total, 1);
    let percentiles = |side: &str| {
        ["p50", "p90", "p99"].map(|rank| page.flows[0][side][format!("tcp_handshake_{rank}_us")].as_u64())
    };
    assert_eq!(percentiles("client_stats"), [Some(2000); 3]);
    assert_eq!(percentiles("server_stats"), [Some(1400), Some(1800), Some(1900)]);
}

#[tokio::test]
async fn a_connection_compact_and_raw() {
    let (_dir, db) = shop();
    let query = CallsQuery {
        kfl: Some("tcp_conn and src.port == 40000 and dst.port == 80".to_owned()),
        ..CallsQuery::default()
    };
    let page = query::calls(&db, &query).await.unwrap();
    let connection = &page.calls[0];
    let id = connection["id"].as_str().unwrap();
    assert!(id.starts_with("node-1/") && id.ends_with("/-1"), "{id}");
    let [local, remote] = [&connection["local_bytes"], &connection["remote_bytes"]];
    assert_eq!(
        *connection,
        json!({
            "id": id,
            "ts": START / 1_000_000,
            "src": {"ip": "10.0.0.1", "port": 40000, "ns": "internal"},
            "dst": {"ip": "10.0.0.2", "port": 80, "ns": "internal"},
            "proto": "tcp_conn", "method": "", "path": "",
            "conn_id": connection["conn_id"], "state": "closed",
            "local_pkts": 13, "local_bytes": local, "remote_pkts": 13, "remote_bytes": remote,
        })
    );
    let raw = raw(&db, "tcp_conn and dst.port == 80").await;
    let connection = &raw.calls[0];
    assert_eq!(
        (&connection["state"], &connection["l7"]),
        (&json!("closed"), &json!("HTTP"))
    );
    assert_eq!(
        (&connection["calls"], &connection["l7_detected"]),
        (&json!(10), &json!(["HTTP"]))
    );
    let metrics = &connection["tcp_metrics"];
    assert_eq!(metrics["connection_completeness"], 31);
    assert_eq!(
        (&metrics["initial_rtt_us"], &metrics["handshake_time_us"]),
        (&json!(2000), &json!(2000))
    );
    assert_eq!(metrics["connection_time_us"], 25_000);
    assert_eq!(
        (&metrics["fin_count"], &metrics["time_to_first_byte_us"]),
        (&json!(2), &json!(1000))
    );
    assert!(metrics.get("retransmissions").is_none(), "zeros are left out");
    // The same by its id.
    let by_id = query::call_by_id(&db, id).await.unwrap();
    assert_eq!(
        (&by_id["proto"], &by_id["local_pkts"]),
        (&json!("tcp_conn"), &json!(13))
    );
}

#[tokio::test]
async fn a_flow_is_the_sum_of_its_connections() {
    let (_dir, db) = shop();
    let flows = raw(&db, "tcp_flow and dst.port == 80").await;
    assert_eq!(flows.total, 1);
    let flow = &flows.calls[0];
    assert_eq!(
        (&flow["client_pkts"], &flow["server_pkts"], &flow["calls"]),
        (&json!(26), &json!(26), &json!(20))
    );
    assert_eq!(
        (&flow["local_pkts"], &flow["local_pps"]),
        (&json!(26), &json!(26))
    );
    assert_eq!(
        (&flow["l7_detected"], &flow["state"]),
        (&json!(["HTTP"]), &json!("closed"))
    );
    assert!(flow.get("src_port").is_none() && flow["src_ip"] == "10.0.0.1");
    let metrics = &flow["tcp_metrics"];
    assert_eq!(
        (&metrics["fin_count"], &metrics["connection_completeness"]),
        (&json!(4), &json!(31))
    );
    assert_eq!(
        (&metrics["initial_rtt_us"], &metrics["connection_time_us"]),
        (&json!(2000), &json!(25_500))
    );
    assert_eq!(metrics["rtt_avg_us"], metrics["rtt_min_us"]);
    // Of datagrams, there are no such numbers.
    let datagrams = raw(&db, "udp_flow").await;
    assert_eq!(
        (
            &datagrams.calls[0]["local_pkts"],
            &datagrams.calls[0]["remote_pkts"]
        ),
        (&json!(2), &json!(1))
    );
    assert!(datagrams.calls[0].get("tcp_metrics").is_none());
}

#[tokio::test]
async fn details_hold_the_flow_and_the_connection() {
    let (_dir, db) = shop();
    let call = &ask(&db, "http").await.calls[0];
    let id = call["id"].as_str().unwrap();
    let details = query::call_details(&db, id, None, true).await.unwrap();
    assert_eq!(details["l4_conn"]["conn_id"], call["conn_id"]);
    assert_eq!(
        (&details["l4_conn"]["state"], &details["l4_conn"]["local_pkts"]),
        (&json!("closed"), &json!(13))
    );
    assert_eq!(details["l4_flow"]["flow_id"], call["flow_id"]);
    assert_eq!(
        (
            &details["l4_flow"]["local_pkts"],
            &details["l4_flow"]["remote_pps"]
        ),
        (&json!(26), &json!(26))
    );
    let without = query::call_details(&db, id, None, false).await.unwrap();
    assert!(without.get("l4_conn").is_none());
}

#[tokio::test]
async fn pages_of_all_kinds_join_to_the_whole() {
    let (_dir, db) = shop();
    let mut query = CallsQuery {
        kfl: Some("conn or flow or http or tcp".to_owned()),
        limit: Some(5),
        ..CallsQuery::default()
    };
    let mut ids = Vec::new();
    loop {
        let page = query::calls(&db, &query).await.unwrap();
        ids.extend(page.calls.iter().map(|entry| entry["id"].to_string()));
        query.cursor = page.cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!(ids.len(), 4 + 3 + 21);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4 + 3 + 21);
}

#[tokio::test]
async fn nothing_found_says_why() {
    let (_dir, db) = shop();
    let page = ask(&db, "tcp_conn and dst.port == 9").await;
    let why = page.explanation.unwrap();
    assert!(
        why.contains("matched none of the 25 entries of this dissection"),
        "{why}"
    );
}

#[tokio::test]
async fn recorded_at_the_server_alone_the_server_is_local() {
    let dir = tempfile::tempdir().unwrap();
    let talk = talk("10.0.0.1:40000", "10.0.0.2:80", START, 1);
    let packets = talk.seen_by(Who::Server, 0, 0);
    let (summary, db) = dissect(dir.path(), vec![tape(dir.path(), "node-2", &packets)], Vec::new());
    assert_eq!(summary.connections, 1);
    let connection = &raw(&db, "tcp_conn").await.calls[0];
    assert_eq!(
        (&connection["side"], &connection["node"]),
        (&json!("server"), &json!("node-2"))
    );
    assert_eq!(connection["local_bytes"], connection["server_bytes"]);
    assert_eq!(connection["remote_bytes"], connection["client_bytes"]);
    let server = connection["server_bytes"].as_i64().unwrap();
    assert_eq!(total(&db, &format!("conn_local_bytes == {server}")).await, 1);
}
