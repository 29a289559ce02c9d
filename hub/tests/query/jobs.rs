//! What a job makes of its input, whole or not.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use wiretape_dissect::testing::{Recorded, Who};
use wiretape_hub::dissections::{self, Job, JobError, Progress, Source};
use wiretape_hub::query::{self, Database, Databases, QueryError, SqlQuery};

use crate::captures::{SECOND, START, ask, dissect, dissection, everything, mixed, talk, tape};

/// Forty connections with nine calls each, recorded at both ends on two nodes.
fn two_tapes(dir: &Path) -> Vec<Source> {
    let talks: Vec<_> = (0..40)
        .map(|n| {
            talk(
                &format!("10.0.0.1:{}", 40_000 + n),
                "10.0.0.2:80",
                START + n * 3_000_000,
                9,
            )
        })
        .collect();
    let seen = |who, tape, delay| mixed(talks.iter().map(|talk| talk.seen_by(who, tape, delay)));
    vec![
        tape(dir, "node-1", &seen(Who::Client, 0, 0)),
        // Its clock is behind, so answers seem to come before questions.
        tape(dir, "node-2", &seen(Who::Server, 1, 0)),
    ]
}

fn job(dir: &Path, out: &str, sources: Vec<Source>, threads: usize) -> Job {
    Job {
        sources,
        out: dir.join("dissections").join(out),
        threads,
        ..Job::default()
    }
}

#[tokio::test]
async fn same_calls_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let sources = two_tapes(dir.path());
    assert!(sources[0].files.len() > 1, "a tape of several segments");
    let mut first = None;
    for threads in [1, 2, 3, 7] {
        let job = job(dir.path(), &format!("on-{threads}"), sources.clone(), threads);
        let progress = Progress::default();
        let summary = dissections::run(&job, &progress).unwrap();
        assert_eq!(summary.calls, 40 * 9);
        assert_eq!(summary.problems, Vec::<String>::new());
        assert_eq!(
            (progress.packets(), progress.calls()),
            (summary.packets, summary.calls)
        );
        assert_eq!(
            (progress.bytes_done(), progress.bytes_total()),
            (summary.bytes, summary.bytes)
        );
        let calls = everything(&Database::open(&job.out).unwrap()).await;
        assert_eq!(calls.len(), 360);
        let (known_calls, known_counters) =
            first.get_or_insert_with(|| (calls.clone(), summary.counters.clone()));
        assert_eq!(&calls, known_calls, "{threads} threads");
        assert_eq!(&summary.counters, known_counters, "{threads} threads");
    }
}

#[tokio::test]
async fn calls_of_both_ends_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let (summary, db) = dissect(dir.path(), two_tapes(dir.path()), Vec::new());
    assert_eq!(summary.protocol_counts.get("http"), Some(&360));
    for call in everything(&db).await {
        assert_eq!(call["side"], "both");
        assert_eq!(call["node"], "node-1", "times are told by the client");
        assert_eq!(
            (&call["src_node"], &call["dst_node"]),
            (&"node-1".into(), &"node-2".into())
        );
    }
}

#[test]
fn cancelled_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sources = two_tapes(dir.path());
    for threads in [1, 3] {
        let job = job(dir.path(), "cancelled", sources.clone(), threads);
        let progress = Progress::default();
        progress.cancel();
        assert!(matches!(
            dissections::run(&job, &progress),
            Err(JobError::Cancelled)
        ));
        assert!(!job.out.exists());
    }
}

#[test]
fn cancelled_half_way_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = two_tapes(dir.path());
    // The same tape a thousand times over: longer than it takes to cancel.
    let files = sources[0].files.clone();
    sources[0].files = files.iter().cycle().take(files.len() * 1000).cloned().collect();
    let job = job(dir.path(), "cancelled", sources, 2);
    let progress = Arc::new(Progress::default());
    let watched = Arc::clone(&progress);
    let outcome = std::thread::spawn(move || (dissections::run(&job, &watched), job.out));
    while progress.packets() == 0 {
        std::thread::yield_now();
    }
    progress.cancel();
    let (outcome, out) = outcome.join().unwrap();
    assert!(matches!(outcome, Err(JobError::Cancelled)), "{outcome:?}");
    assert!(!out.exists());
}

#[tokio::test]
async fn damaged_file_costs_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = two_tapes(dir.path());
    // The first tape ends in the middle of its first segment; the second has a file that is none.
    let segment = sources[0].files[0].clone();
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, &bytes[..bytes.len() / 2]).unwrap();
    sources[0].files.truncate(1);
    let stranger = dir.path().join("segments").join("notes.txt");
    fs::write(&stranger, "not a capture").unwrap();
    sources[1].files.insert(0, stranger);
    sources[1].files.push(dir.path().join("gone.pcapng"));

    let (summary, db) = dissect(dir.path(), sources, Vec::new());
    assert_eq!(summary.problems.len(), 3, "{:?}", summary.problems);
    for what in ["could not be read", "not a capture", "gone.pcapng"] {
        assert!(
            summary.problems.iter().any(|problem| problem.contains(what)),
            "{what}: {:?}",
            summary.problems
        );
    }
    // The server's tape has them all.
    assert_eq!(everything(&db).await.len(), 360);
}

#[test]
fn order_of_tapes_does_not_change_ids() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = two_tapes(dir.path());
    let ids = |out: &str, sources: Vec<Source>| {
        let job = job(dir.path(), out, sources, 1);
        dissections::run(&job, &Progress::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let calls = runtime.block_on(everything(&Database::open(&job.out).unwrap()));
        calls
            .into_iter()
            .map(|call| call["id"].clone())
            .collect::<Vec<_>>()
    };
    let forward = ids("forward", sources.clone());
    sources.reverse();
    assert_eq!(ids("backward", sources), forward);
}

#[tokio::test]
async fn window_keeps_the_calls_that_began_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let talk = talk("10.0.0.1:40000", "10.0.0.2:80", START, 20);
    let sources = vec![tape(dir.path(), "node-1", &talk.packets)];
    // One packet a millisecond, two packets a call, three for the handshake: calls 5 to 9.
    let window = (START + 13_000_000, START + 23_000_000);
    let job = Job {
        window: Some(window),
        ..job(dir.path(), "d", sources, 2)
    };
    let summary = dissections::run(&job, &Progress::default()).unwrap();
    assert_eq!(summary.calls, 5);
    assert_eq!(summary.counters["dissect.calls_outside_window"], 15);
    assert_eq!(
        (summary.first_call, summary.last_call),
        (Some(START + 13_000_000), Some(START + 21_000_000))
    );
    let calls = everything(&Database::open(&job.out).unwrap()).await;
    let queries: Vec<_> = calls.iter().map(|call| call["query"].as_str().unwrap()).collect();
    assert_eq!(queries, ["n=5", "n=6", "n=7", "n=8", "n=9"]);
}

#[test]
fn refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = job(dir.path(), "d", Vec::new(), 1);
    assert!(matches!(
        dissections::run(&nothing, &Progress::default()),
        Err(JobError::NoFiles)
    ));
    assert!(!nothing.out.exists());

    let packets: Vec<Recorded> = talk("10.0.0.1:40000", "10.0.0.2:80", START, 1).packets;
    let twice = job(dir.path(), "d", vec![tape(dir.path(), "node-1", &packets)], 1);
    dissections::run(&twice, &Progress::default()).unwrap();
    let refused = dissections::run(&twice, &Progress::default()).unwrap_err();
    assert!(matches!(refused, JobError::Exists(_)), "{refused}");
    assert!(Database::open(&twice.out).is_ok(), "what was there still is");

    let file = twice.sources[0].files[0].clone();
    let many = Source {
        node: "n".to_owned(),
        files: vec![file; dissections::MAX_FILES + 1],
    };
    let refused = dissections::run(&job(dir.path(), "e", vec![many], 1), &Progress::default()).unwrap_err();
    assert!(matches!(refused, JobError::TooMany { .. }), "{refused}");
}

#[test]
fn unpublished_tables_of_a_killed_job_are_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let source = tape(
        dir.path(),
        "node-1",
        &talk("10.0.0.1:40000", "10.0.0.2:80", START, 1).packets,
    );
    let left_over = dissection(dir.path()).join(".calls.incoming");
    fs::create_dir_all(&left_over).unwrap();
    fs::write(left_over.join("part-0.parquet"), "half of a table").unwrap();
    let (summary, _) = dissect(dir.path(), vec![source], Vec::new());
    assert_eq!(summary.calls, 1);
    assert!(!left_over.exists());
}

#[test]
fn merged_by_time_over_many_tapes() {
    let dir = tempfile::tempdir().unwrap();
    // More tapes than spare chunks, each with one connection.
    let sources: Vec<Source> = (0..24)
        .map(|n| {
            let talk = talk(
                &format!("10.0.{n}.1:40000"),
                "10.1.0.1:80",
                START + n * SECOND / 100,
                3,
            );
            tape(dir.path(), &format!("node-{n}"), &talk.packets)
        })
        .collect();
    let (summary, _) = dissect(dir.path(), sources, Vec::new());
    assert_eq!((summary.calls, summary.files.len()), (72, 24));
    assert_eq!(summary.first_ts, Some(START));
}

/// A dissection is asked for all the time while it and others are written: it is not there, or it is there whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dissections_are_written_while_questions_are_asked() {
    const CALLS: usize = 150;
    let dir = tempfile::tempdir().unwrap();
    let talks = (0..4).map(|n| {
        talk(
            &format!("10.0.0.1:4000{n}"),
            "10.0.0.2:80",
            START + n * 500_000,
            CALLS,
        )
    });
    let source = tape(dir.path(), "node-1", &mixed(talks.map(|talk| talk.packets)));
    let jobs: Vec<Job> = (0..6)
        .map(|n| job(dir.path(), &format!("d{n}"), vec![source.clone()], 2))
        .collect();
    let folders: Vec<_> = jobs.iter().map(|job| job.out.clone()).collect();
    // Two at a time, as the hub runs them.
    let writers: Vec<_> = jobs
        .chunks(3)
        .map(<[Job]>::to_vec)
        .map(|jobs| {
            tokio::task::spawn_blocking(move || {
                for job in jobs {
                    dissections::run(&job, &Progress::default()).unwrap();
                }
            })
        })
        .collect();
    let databases = Databases::default();
    let (mut missing, mut whole) = (0, 0);
    loop {
        let last = writers.iter().all(tokio::task::JoinHandle::is_finished);
        for folder in &folders {
            let db = match databases.get(folder) {
                Ok(db) => db,
                Err(QueryError::NotFound(_)) => {
                    missing += 1;
                    continue;
                }
                Err(error) => panic!("{}: {error}", folder.display()),
            };
            let all = ask(&db, "").await;
            assert_eq!(all.total, 4 * CALLS as u64);
            let failed = ask(
                &db,
                "response.status == 503 and request.headers.exists(k, k == \"host\")",
            )
            .await;
            assert_eq!(failed.total, 4 * CALLS as u64 / 3);
            let counted = SqlQuery {
                sql: "SELECT count(*) FROM calls JOIN connections USING (stream)".to_owned(),
                max_bytes: 1000,
                ..SqlQuery::default()
            };
            assert_eq!(query::sql(&db, &counted).await.unwrap()["rows"][0][0], 4 * CALLS);
            whole += 1;
        }
        if last {
            break;
        }
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(
        missing > 0 && whole >= folders.len(),
        "{missing} missing, {whole} whole"
    );
}
