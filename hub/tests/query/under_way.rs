//! Questions to a dissection that is under way.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use wiretape_hub::dissections::{self, Job, Partial, Progress, Summary};
use wiretape_hub::query::{
    self, Bucket, CallsQuery, Database, Databases, FlowsQuery, Format, Lines, QueryError, RETRY_WITHIN,
    Scope, SqlQuery, StatsQuery, TimelineQuery,
};

use crate::captures::{START, ask, dissection, everything, in_pages, mixed, talk, tape};

/// Enough that some of it stands in several row groups of each part.
const CONNECTIONS: u32 = 60;
const CALLS: usize = 9;

fn job(dir: &Path) -> Job {
    let talks = (0..CONNECTIONS).map(|n| {
        let client = format!("10.0.0.1:{}", 40_000 + n);
        talk(&client, "10.0.0.2:80", START + u64::from(n) * 3_000_000, CALLS).packets
    });
    Job {
        sources: vec![tape(dir, "node-1", &mixed(talks))],
        out: dissection(dir),
        // Each has parts of its own.
        threads: 7,
        ..Job::default()
    }
}

/// A job that is done, and what stood in its tables at any time.
fn done(dir: &Path) -> (Summary, Arc<Progress>, Job) {
    let job = job(dir);
    let progress = Arc::new(Progress::default());
    let summary = dissections::run(&job, &progress).unwrap();
    (summary, progress, job)
}

/// Its states in their order.
fn states(progress: &Progress) -> impl Iterator<Item = Partial> {
    (0..).map_while(|age| progress.partial(Some(age)))
}

/// How many calls each kind of question finds.
async fn counts(db: &Database) -> BTreeMap<&'static str, u64> {
    let stats = StatsQuery {
        max_bytes: 1 << 20,
        ..StatsQuery::default()
    };
    let stats = query::stats(db, &stats).await.unwrap();
    let sql = SqlQuery {
        sql: "SELECT count(*), count(DISTINCT path) FROM calls WHERE ts > '2020-01-01'".to_owned(),
        max_bytes: 1 << 20,
        ..SqlQuery::default()
    };
    let rows = query::sql(db, &sql).await.unwrap();
    BTreeMap::from([
        ("listed", in_pages(db, 1000).await.len() as u64),
        (
            "headed",
            ask(db, r#"request.headers["host"] == "shop""#).await.total,
        ),
        ("counted", ask(db, "").await.total),
        (
            "matched",
            ask(db, "status == 200").await.total + ask(db, "status == 503").await.total,
        ),
        ("stats", stats["total"]["count"].as_u64().unwrap()),
        ("sql", rows["rows"][0][0].as_u64().unwrap()),
    ])
}

#[tokio::test]
async fn every_state_answers_for_itself_and_the_last_is_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (summary, progress, job) = done(dir.path());
    let whole = Database::open(&job.out).unwrap();
    let all = everything(&whole).await;
    let known: HashSet<String> = all.iter().map(ToString::to_string).collect();
    let (mut before, mut until, mut seen) = (0, None, 0);
    for state in states(&progress) {
        let db = Database::under_way(&job.out, state.clone()).unwrap();
        let told = db.summary().calls;
        for (asked, count) in counts(&db).await {
            assert_eq!(count, told, "{asked} of state {}", state.tables.age);
        }
        assert!(told >= before && state.tables.complete_until >= until);
        (before, until) = (told, state.tables.complete_until);
        seen += 1;
        // What was found is as it will be, to the last column.
        for call in in_pages(&db, 1000).await {
            assert!(known.contains(&call.to_string()), "{call}");
        }
    }
    assert!(seen > 2 * 7, "{seen} states");
    assert_eq!(before, summary.calls);
    let last = Database::under_way(&job.out, progress.partial(None).unwrap()).unwrap();
    assert_eq!(everything(&last).await, all);
    let flows = |db| async move {
        let flows = query::flows(db, &FlowsQuery::default()).await.unwrap();
        serde_json::to_value(flows).unwrap()
    };
    assert_eq!(flows(&last).await, flows(&whole).await);
    let timeline = |db| async move {
        let question = TimelineQuery {
            scope: Scope::default(),
            by: Lines::Peers,
            bucket: Bucket::Auto,
            retry_within: RETRY_WITHIN,
            max_bytes: 60_000,
        };
        query::timeline(db, &question).await.unwrap()
    };
    assert_eq!(timeline(&last).await, timeline(&whole).await);
}

#[tokio::test]
async fn pages_are_of_one_state_and_end_with_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let (_, progress, job) = done(dir.path());
    let state = states(&progress).find(|state| state.summary.calls > 20).unwrap();
    let (age, calls) = (state.tables.age, state.summary.calls);
    let db = Database::under_way(&job.out, state).unwrap();
    let mut question = CallsQuery {
        limit: Some(5),
        ..CallsQuery::default()
    };
    let page = query::calls(&db, &question).await.unwrap();
    question.cursor = page.cursor;
    let cursor = question.cursor.as_deref().unwrap();
    assert_eq!(query::cursor_age(cursor), Some(age));
    // The job has gone on; the cursor says which state is meant.
    let again = progress.partial(query::cursor_age(cursor)).unwrap();
    let again = Database::under_way(&job.out, again).unwrap();
    assert_eq!(query::calls(&again, &question).await.unwrap().total, calls);
    for later in [
        Database::under_way(&job.out, progress.partial(None).unwrap()).unwrap(),
        Database::open(&job.out).unwrap(),
    ] {
        let refused = query::calls(&later, &question).await.unwrap_err();
        assert!(matches!(refused, QueryError::BadRequest(_)), "{refused}");
        assert!(
            refused.to_string().ends_with("ask again without a cursor"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn what_is_not_there_yet_is_not_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = Progress::default().partial(None).unwrap();
    let db = Database::under_way(dir.path(), nothing).unwrap();
    let answer = ask(&db, "status == 503").await;
    let told = "the dissection is under way: 0 packets are read, and no call can be asked for yet";
    assert_eq!((answer.total, answer.explanation.as_deref()), (0, Some(told)));
    assert_eq!(counts(&db).await["sql"], 0);
    let flows = query::flows(&db, &FlowsQuery::default()).await.unwrap();
    assert!(flows.explanation.unwrap().contains("under way"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_asked_from_its_beginning_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut job = job(dir.path());
    // The same tape many times over: long enough to be asked.
    let files = job.sources[0].files.clone();
    job.sources[0].files = files.iter().cycle().take(files.len() * 100).cloned().collect();
    let progress = Arc::new(Progress::default());
    let running = std::thread::spawn({
        let (job, progress) = (job.clone(), Arc::clone(&progress));
        move || dissections::run(&job, &progress).unwrap()
    });
    let databases = Databases::default();
    let (mut before, mut kept) = (0, None);
    loop {
        let over = running.is_finished();
        let state = progress.partial(None).unwrap();
        let db = databases.under_way(&job.out, state).unwrap();
        let told = db.summary().calls;
        let found = ask(&db, "").await.total;
        assert!(found == told && told >= before, "{before}, {told}, {found}");
        before = told;
        if told > 0 {
            kept.get_or_insert(db);
        }
        if over {
            break;
        }
    }
    let summary = running.join().unwrap();
    assert_eq!(before, summary.calls);
    // One that was opened meanwhile stays what it was, also when its files are gone.
    let kept = kept.unwrap();
    std::fs::remove_dir_all(&job.out).unwrap();
    let question = CallsQuery {
        format: Format::Raw,
        ..CallsQuery::default()
    };
    let page = query::calls(&kept, &question).await.unwrap();
    assert_eq!(page.total, kept.summary().calls);
    assert!(!page.calls.is_empty());
}
