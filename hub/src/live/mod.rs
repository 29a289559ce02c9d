//! Live calls: while this is switched on, the last minutes of the tapes are dissected again and again, and questions that
//! name no dissection are asked of the last round.
//!
//! A round cuts the window out of every tape, brings what has come since the round before (of a segment that grew, its new
//! end), dissects all of it afresh, and takes the place of the round before. So a call that has just ended is there some
//! seconds later, and is what a snapshot of the same window would show: no state crosses from round to round. The price is
//! that each packet is dissected as often as there are rounds in the window; [`Pace`] bounds what that may take.

mod mirror;

mod place;

mod round;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wiretape_tape::Nanos;

use crate::cluster::Cluster;
use crate::nodes::Nodes;
use crate::query::Databases;
pub use round::Round;

/// Folder of the rounds below the data folder. What is in it lives no longer than the hub.
pub const LIVE: &str = "live";

/// How much is dissected, how often, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// What a round looks back on. Long enough to see a slow call whole, and what it was like before.
    pub window: Duration,
    /// Bytes of segments in a round, over all nodes. A busy cluster's window is shortened to them.
    pub most_bytes: u64,
    /// Least time from the beginning of a round to that of the next.
    pub every: Duration,
    /// A round is followed by so many times its own length of rest: with 4, a fifth of one thread is the most it takes.
    pub rest: u32,
    /// Nobody has asked for so long: it switches itself off.
    pub idle: Duration,
    /// Readers of live calls are asked so often whether they are there, and have so long to answer.
    pub ping: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(120),
            most_bytes: 512 << 20,
            every: Duration::from_secs(5),
            rest: 4,
            idle: Duration::from_secs(300),
            ping: Duration::from_secs(30),
        }
    }
}

/// Longest wait of a question for the first round.
const FIRST_ROUND: Duration = Duration::from_secs(10);

/// The switch, and what stands behind it. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    inner: Arc<Inner>,
}

struct Inner {
    nodes: Arc<Nodes>,
    /// What the hub itself knows of the cluster, if it watches one.
    cluster: Option<Arc<Cluster>>,
    databases: Arc<Databases>,
    folder: PathBuf,
    pace: Pace,
    stopping: CancellationToken,
    state: watch::Sender<State>,
    /// When somebody last asked.
    asked: Mutex<Instant>,
}

/// How it stands.
#[derive(Clone, Default)]
pub struct State {
    /// Ends the rounds; there while it is switched on.
    running: Option<CancellationToken>,
    /// The last round that came to something.
    pub latest: Option<Arc<Round>>,
    /// Why the last one came to nothing, if it did.
    pub error: Option<String>,
    /// It switched itself off: nobody had asked for so long.
    pub idle: Option<Duration>,
    /// Rounds since it was switched on.
    pub rounds: u64,
}

impl State {
    /// Whether it is switched on.
    pub fn enabled(&self) -> bool {
        self.running.is_some()
    }
}

/// Why there are no live calls.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LiveError {
    /// It is switched off.
    #[error("live dissection is off{}: POST /mcp/dissection/enable switches it on", idle_for(.0))]
    Off(Option<Duration>),
    /// The first round is under way.
    #[error("the first round of live dissection is under way; ask again in some seconds")]
    NotYet,
    /// No round has come to anything.
    #[error("live dissection is on, and came to nothing so far: {0}")]
    Failed(String),
}

fn idle_for(idle: &Option<Duration>) -> String {
    idle.map_or_else(String::new, |idle| {
        format!(", since nobody had asked for {} s", idle.as_secs())
    })
}

impl Live {
    /// It is off. What an earlier run of the hub left in the folder is removed.
    pub fn new(
        nodes: Arc<Nodes>,
        cluster: Option<Arc<Cluster>>,
        databases: Arc<Databases>,
        data: &Path,
        pace: Pace,
        stopping: CancellationToken,
    ) -> Self {
        let folder = data.join(LIVE);
        place::remove(&folder);
        Self {
            inner: Arc::new(Inner {
                nodes,
                cluster,
                databases,
                folder,
                pace,
                stopping,
                state: watch::Sender::default(),
                asked: Mutex::new(Instant::now()),
            }),
        }
    }

    /// Switches it on; it may be on already.
    pub fn enable(&self) {
        self.inner.note_asked();
        let running = self.inner.stopping.child_token();
        let begun = self.inner.state.send_if_modified(|state| {
            if state.enabled() {
                return false;
            }
            *state = State {
                running: Some(running.clone()),
                ..State::default()
            };
            true
        });
        if begun {
            tracing::info!("live dissection is switched on");
            tokio::spawn(round::run(Arc::clone(&self.inner), running));
        }
    }

    /// Switches it off; it may be off already.
    pub fn disable(&self) {
        self.inner.end(None);
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.inner.state.borrow().clone()
    }

    /// How it stands from now on: changes with every round.
    pub fn changes(&self) -> watch::Receiver<State> {
        self.inner.state.subscribe()
    }

    /// How it is paced.
    pub fn pace(&self) -> Pace {
        self.inner.pace
    }

    /// The last round, for a question. The first one is waited for.
    ///
    /// # Errors
    /// It is off, or there is none.
    pub async fn latest(&self) -> Result<Arc<Round>, LiveError> {
        self.inner.note_asked();
        let mut state = self.inner.state.subscribe();
        let settled = |state: &State| !state.enabled() || state.rounds > 0;
        // An error would mean that the sender is gone, and we hold it.
        let _ = tokio::time::timeout(FIRST_ROUND, state.wait_for(settled)).await;
        let state = self.state();
        match (state.enabled(), state.latest, state.error) {
            (false, ..) => Err(LiveError::Off(state.idle)),
            (true, Some(round), _) => Ok(round),
            (true, None, Some(error)) => Err(LiveError::Failed(error)),
            (true, None, None) => Err(LiveError::NotYet),
        }
    }
}

impl Inner {
    fn note_asked(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idle(&self) -> bool {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
            >= self.pace.idle
    }

    fn end(&self, idle: Option<Duration>) {
        self.state.send_if_modified(|state| {
            let Some(ended) = state.running.take() else {
                return false;
            };
            // Here, so that none of its rounds comes after the switch.
            ended.cancel();
            *state = State {
                idle,
                ..State::default()
            };
            tracing::info!(idle = idle.is_some(), "live dissection is switched off");
            true
        });
    }
}

/// Nanoseconds, as the tapes count time.
fn nanos(of: Duration) -> Nanos {
    Nanos::try_from(of.as_nanos()).unwrap_or(Nanos::MAX)
}
