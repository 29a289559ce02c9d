//! One round after the other.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wiretape_tape::{Name, Nanos};

use super::mirror::{Gathered, Mirror};
use super::place::Place;
use super::{Inner, State, nanos};
use crate::calls::NodeName;
use crate::cluster::CLUSTER;
use crate::dissections::{self, Job, Progress, Summary};
use crate::query::Database;

/// What a round came to.
pub struct Round {
    /// Its tables. They are there, with the packets that they point to, as long as somebody has this.
    pub database: Database,
    /// The window that it covers.
    pub window: (Nanos, Nanos),
    /// Whether the window was shortened to what one round may hold.
    pub shortened: bool,
    /// How long it took, with bringing the segments.
    pub took: Duration,
    /// Bytes of the segments that were dissected.
    pub bytes: u64,
    /// The nodes that they came from.
    pub nodes: Vec<String>,
    /// What the dissection said.
    pub summary: Summary,
    /// What is missing, in words.
    pub problems: Vec<String>,
}

/// A round whose tables may still be asked.
struct Kept {
    place: Weak<Place>,
    files: HashSet<PathBuf>,
}

/// Rounds until it is switched off, or nobody asks any more.
pub(super) async fn run(inner: Arc<Inner>, running: CancellationToken) {
    // Of its own, so that one that is switched off and on again never shares it with its predecessor.
    let place = Arc::new(Place::new(inner.folder.join(uuid::Uuid::new_v4().to_string())));
    let mirror = Mirror::new(place.join("segments"));
    let mut kept: Vec<Kept> = Vec::new();
    let rounds = async {
        for number in 0_u64.. {
            if inner.idle() {
                inner.end(Some(inner.pace.idle));
                return;
            }
            let begun = Instant::now();
            let out = Arc::new(Place::within(&place, &number.to_string()));
            let outcome = round(&inner, &mirror, &out).await;
            let took = begun.elapsed();
            match outcome {
                Ok((round, files)) => {
                    kept.push(Kept {
                        place: Arc::downgrade(&out),
                        files,
                    });
                    let round = Arc::new(Round { took, ..round });
                    told(&inner, &running, |state| {
                        state.latest = Some(round);
                        state.error = None;
                    });
                }
                Err(error) => {
                    tracing::warn!(error, "a round of live dissection came to nothing");
                    told(&inner, &running, |state| state.error = Some(error));
                }
            }
            drop(out);
            prune(&mirror, &mut kept);
            tokio::time::sleep(inner.pace.after(took)).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        () = running.cancelled() => {}
    }
}

/// One round, unless the last one is so young that the next would not have begun either.
pub(super) async fn lone(inner: Arc<Inner>) -> Result<Arc<Round>, String> {
    let mut last = inner.lone.lock().await;
    if let Some(round) = last.as_ref() {
        return Ok(Arc::clone(round));
    }
    let begun = Instant::now();
    let place = Arc::new(Place::new(inner.folder.join(uuid::Uuid::new_v4().to_string())));
    let mirror = Mirror::new(place.join("segments"));
    let out = Arc::new(Place::within(&place, "0"));
    let (round, _) = round(&inner, &mirror, &out).await?;
    let took = begun.elapsed();
    let round = Arc::new(Round { took, ..round });
    *last = Some(Arc::clone(&round));
    drop(last);
    // Who asks until then is given this one; its folder goes with whoever asks last.
    tokio::spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(inner.pace.after(took)) => {}
            () = inner.stopping.cancelled() => {}
        }
        *inner.lone.lock().await = None;
    });
    Ok(round)
}

/// Says how a round ended, unless it was switched off meanwhile.
fn told(inner: &Inner, running: &CancellationToken, tell: impl FnOnce(&mut State)) {
    inner.state.send_if_modified(|state| {
        if running.is_cancelled() {
            return false;
        }
        tell(state);
        state.rounds += 1;
        true
    });
}

async fn round(
    inner: &Inner,
    mirror: &Mirror,
    out: &Arc<Place>,
) -> Result<(Round, HashSet<PathBuf>), String> {
    let end = crate::now();
    let start = end.saturating_sub(nanos(inner.pace.window));
    let id = format!("live-{}", uuid::Uuid::new_v4());
    let gathered = mirror
        .gather(&inner.nodes, &id, (start, end), inner.pace.most_bytes)
        .await?;
    let Gathered {
        sources,
        mut names,
        losses,
        start: begins,
        bytes,
        problems,
    } = gathered;
    let window = (begins, end);
    if let Some(cluster) = &inner.cluster {
        let holds = |name: &Name| name.since < end && name.until.is_none_or(|until| until > begins);
        let of_cluster = cluster.names().into_iter().filter(holds);
        names.extend(of_cluster.map(|name| NodeName {
            node: CLUSTER.to_owned(),
            name,
        }));
    }
    let nodes = sources.iter().map(|source| source.node.clone()).collect();
    let files: HashSet<PathBuf> = sources
        .iter()
        .flat_map(|source| source.files.iter().cloned())
        .collect();
    if files.is_empty() {
        return Err(if problems.is_empty() {
            "nothing was recorded in its window".to_owned()
        } else {
            problems.join("; ")
        });
    }
    let job = Job {
        sources,
        names,
        losses,
        // Answers about live calls tell them beside the calls.
        problems: Vec::new(),
        window: Some(window),
        out: out.to_path_buf(),
        // One: the workloads of the cluster, and questions, come first.
        threads: 1,
    };
    let summary = dissect(job, Arc::clone(out)).await?;
    let database = inner.databases.open(out).map_err(|error| error.to_string())?;
    let round = Round {
        database: database.holding(Arc::clone(out) as _),
        window,
        shortened: begins > start,
        took: Duration::ZERO,
        bytes,
        nodes,
        summary,
        problems,
    };
    Ok((round, files))
}

/// Dissects on a thread of its own; a panic there is a failure of the round. When it is called off, the thread ends within
/// a chunk's work, and keeps its place until then.
async fn dissect(job: Job, place: Arc<Place>) -> Result<Summary, String> {
    struct Cancels(Arc<Progress>);
    impl Drop for Cancels {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
    let progress = Arc::new(Progress::default());
    let _cancels = Cancels(Arc::clone(&progress));
    let dissected = tokio::task::spawn_blocking(move || {
        let _place = place;
        catch_unwind(AssertUnwindSafe(|| dissections::run(&job, &progress)))
            .map_err(|panic| crate::catalogue::last_words(panic.as_ref()))
    });
    match dissected.await {
        Ok(Ok(outcome)) => outcome.map_err(|error| error.to_string()),
        Ok(Err(panic)) => Err(format!("a thread of the dissection failed: {panic}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Forgets the rounds that nobody can be asking any more, and removes the segments that only these needed.
fn prune(mirror: &Mirror, kept: &mut Vec<Kept>) {
    kept.retain(|round| round.place.strong_count() > 0);
    let needed = kept.iter().flat_map(|kept| kept.files.iter().cloned()).collect();
    mirror.prune(&needed);
}
