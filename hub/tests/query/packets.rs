//! Captures of calls: which packets, and how many at most.

use wiretape_dissect::testing::Chat;
use wiretape_hub::query::{
    self, CallsQuery, Database, FlowsQuery, MAX_COMMENTS, MAX_CONNECTIONS, QueryError, Scope,
};

use wiretape_tape::{Event, EventKind};

use crate::captures::{START, ask, dissect, dissect_packets, mixed, talk, tape_with_events};

fn scope(kfl: &str) -> Scope {
    Scope {
        kfl: Some(kfl.to_owned()),
        ..Scope::default()
    }
}

/// So many questions to a name server, each from an address and port of its own.
fn questions(count: usize) -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let all = (0..count).map(|number| {
        let client = format!("10.{}.{}.{}:40000", number >> 16, number >> 8 & 255, number & 255);
        let mut talk = Chat::new(&client, "10.200.0.1:53", START + number as u64 * 10_000);
        let id = u16::try_from(number & 0xffff).unwrap().to_be_bytes();
        // A question for the address of `a.`, and that there is none.
        let mut message = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
        talk.ask(&message);
        (message[2], message[3]) = (0x81, 0x80);
        talk.answer(&message);
        talk.packets
    });
    let db = dissect_packets(dir.path(), &mixed(all));
    (dir, db)
}

async fn written(db: &Database, kfl: &str) -> Vec<u8> {
    let packets = query::call_packets(db, &scope(kfl), &[]).await.unwrap();
    let mut capture = Vec::new();
    packets.write(&mut capture, true, &[]).unwrap();
    capture
}

fn comments(capture: &[u8]) -> usize {
    capture
        .windows(12)
        .filter(|part| part.starts_with(b"call node-1/"))
        .count()
}

#[tokio::test]
async fn one_connection_and_one_comment_too_many() {
    let (_dir, db) = questions(MAX_CONNECTIONS + 1);
    assert_eq!(db.summary().calls as usize, MAX_CONNECTIONS + 1);
    let refused = query::whole_connections(&db, &scope("dns")).await;
    let Err(QueryError::BadRequest(why)) = refused else {
        panic!("they are too many");
    };
    assert!(why.contains("more than 65536 connections"), "{why}");
    // The filter's own limit makes them as many as there may be.
    let kfl = format!("dns and limit({MAX_CONNECTIONS})");
    let (connections, _) = query::whole_connections(&db, &scope(&kfl)).await.unwrap();
    assert_eq!(connections.len(), MAX_CONNECTIONS);

    assert_eq!(comments(&written(&db, "dns").await), MAX_COMMENTS);
}

#[tokio::test]
async fn captures_are_to_be_had_of_what_recorders_recorded_by_choice() {
    let dir = tempfile::tempdir().unwrap();
    let packets = talk("10.0.0.1:40000", "10.0.0.2:80", START, 3).packets;
    let changed = Event {
        at: START,
        kind: EventKind::Recorder,
        reason: "RecordingChanged".to_owned(),
        message: "recorded is: first:4096".to_owned(),
        ..Event::default()
    };
    let source = tape_with_events(dir.path(), "node-1", &packets, &[changed]);
    let db = dissect(dir.path(), vec![source], Vec::new()).1;
    let told = ask(&db, "http").await.warnings;
    assert!(
        matches!(told.as_slice(), [said] if said.ends_with("recorded is: first:4096")),
        "{told:?}"
    );
    assert_eq!(comments(&written(&db, "http").await), 3);
    let (whole, _) = query::whole_connections(&db, &scope("http")).await.unwrap();
    assert_eq!(whole.len(), 1);

    // What the filter was not asked of would be missing without a word.
    std::fs::remove_dir_all(dir.path().join("segments")).unwrap();
    let db = Database::open(db.dir()).unwrap();
    let refused = query::whole_connections(&db, &scope("not (response.body contains \"x\")")).await;
    let Err(QueryError::BadRequest(why)) = refused else {
        panic!("it cannot be known which match");
    };
    assert!(why.contains("3 bodies are not whole"), "{why}");
}

#[tokio::test]
async fn a_capture_keeps_to_the_limit_of_its_filter() {
    let dir = tempfile::tempdir().unwrap();
    let talks = (0..3_u16).map(|n| {
        let client = format!("10.0.0.1:{}", 40_000 + n);
        talk(&client, "10.0.0.2:80", START + u64::from(n) * 500_000, 10).packets
    });
    let db = dissect_packets(dir.path(), &mixed(talks));
    assert_eq!(comments(&written(&db, "http").await), 30);
    assert_eq!(comments(&written(&db, "http and limit(4)").await), 4);
    // The oldest, as in a list: of three connections, those of the first calls.
    let whole = |kfl: &'static str| {
        let db = db.clone();
        async move { query::whole_connections(&db, &scope(kfl)).await.unwrap().0.len() }
    };
    assert_eq!((whole("http").await, whole("http and limit(1)").await), (3, 1));
    let listed = CallsQuery {
        kfl: Some("http and limit(4)".to_owned()),
        ..CallsQuery::default()
    };
    let page = query::calls(&db, &listed).await.unwrap();
    assert_eq!(page.calls.len(), 4);

    let flows = FlowsQuery {
        scope: scope("limit(2)"),
        ..FlowsQuery::default()
    };
    let page = query::flows(&db, &flows).await.unwrap();
    assert!(page.flows.len() <= 2 && page.total >= page.flows.len() as u64);
}
