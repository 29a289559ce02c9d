//! One round after the other.

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wiretape_tape::{Name, Nanos};

use super::mirror::{Gathered, Mirror};
use super::{Inner, State, nanos, remove};
use crate::calls::NodeName;
use crate::cluster::CLUSTER;
use crate::dissections::{self, Job, Progress, Summary};

/// How long a round outlives its place: a question that was begun on it may take as long ([`crate::query::SQL_TIME`]).
const GRACE: Duration = Duration::from_secs(30);

/// What a round came to.
#[derive(Clone, Debug)]
pub struct Round {
    /// Its tables, as a dissection's folder.
    pub folder: PathBuf,
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
    round: Arc<Round>,
    files: HashSet<PathBuf>,
    /// When another took its place.
    replaced: Option<Instant>,
}

/// Rounds until it is switched off, or nobody asks any more.
pub(super) async fn run(inner: Arc<Inner>, running: CancellationToken) {
    // Of its own, so that one that is switched off and on again never shares it with its predecessor.
    let folder = inner.folder.join(uuid::Uuid::new_v4().to_string());
    let mirror = Mirror::new(folder.join("segments"));
    let mut kept: VecDeque<Kept> = VecDeque::new();
    let rounds = async {
        for number in 0_u64.. {
            if inner.idle() {
                inner.end(Some(inner.pace.idle));
                return;
            }
            let begun = Instant::now();
            let out = folder.join(number.to_string());
            let outcome = round(&inner, &mirror, out).await;
            let took = begun.elapsed();
            match outcome {
                Ok((round, files)) => {
                    for earlier in &mut kept {
                        earlier.replaced.get_or_insert_with(Instant::now);
                    }
                    let round = Arc::new(Round { took, ..round });
                    kept.push_back(Kept {
                        round: Arc::clone(&round),
                        files,
                        replaced: None,
                    });
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
            prune(&inner, &mirror, &mut kept);
            let rest = (took * inner.pace.rest).max(inner.pace.every.saturating_sub(took));
            tokio::time::sleep(rest).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        () = running.cancelled() => {}
    }
    for old in kept {
        inner.databases.forget(&old.round.folder);
    }
    // A dissection that is under way ends within a chunk's work, and takes its own folder with it.
    remove(&folder);
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

async fn round(inner: &Inner, mirror: &Mirror, out: PathBuf) -> Result<(Round, HashSet<PathBuf>), String> {
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
    let summary = dissect(Job {
        sources,
        names,
        losses,
        window: Some(window),
        out: out.clone(),
        // One: the workloads of the cluster, and questions, come first.
        threads: 1,
    })
    .await?;
    let round = Round {
        folder: out,
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

/// Dissects on a thread of its own; a panic there is a failure of the round.
async fn dissect(job: Job) -> Result<Summary, String> {
    struct Cancels(Arc<Progress>);
    impl Drop for Cancels {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
    let progress = Arc::new(Progress::default());
    let _cancels = Cancels(Arc::clone(&progress));
    let dissected = tokio::task::spawn_blocking(move || {
        catch_unwind(AssertUnwindSafe(|| dissections::run(&job, &progress)))
            .map_err(|panic| crate::catalogue::last_words(panic.as_ref()))
    });
    match dissected.await {
        Ok(Ok(outcome)) => outcome.map_err(|error| error.to_string()),
        Ok(Err(panic)) => Err(format!("a thread of the dissection failed: {panic}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Removes the rounds that nobody can be asking any more, and the segments that only these needed.
fn prune(inner: &Inner, mirror: &Mirror, kept: &mut VecDeque<Kept>) {
    while let Some(oldest) = kept.front()
        && oldest.replaced.is_some_and(|at| at.elapsed() >= GRACE)
    {
        inner.databases.forget(&oldest.round.folder);
        remove(&oldest.round.folder);
        kept.pop_front();
    }
    let needed = kept.iter().flat_map(|kept| kept.files.iter().cloned()).collect();
    mirror.prune(&needed);
}
