//! Who a packet belongs to: its socket's cgroup -> container -> pod, or unit, or process.
//!
//! The recorder tells of a cgroup when it first sees a packet of it, the kernel of cgroups that are made and processes that
//! start, Kubernetes of pods. A thread of its own puts that together, so that no packet waits for it, and gives back the names
//! that go onto the tape, and the events, with whose they are.

pub mod place;

pub mod cgroups;

pub mod workloads;

pub mod kubernetes;

pub mod survey;

pub mod ledger;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use wiretape_tape::{Event, Name, Nanos};

use ledger::Ledger;
use survey::Survey;

use crate::clocks::wall_clock;

/// How often known cgroups are looked at again: a process may have replaced itself, a cgroup may be gone.
const REFRESH: Duration = Duration::from_secs(2);

/// What is not yet looked at. When there is more, the recorder tells again at the next packet, and events are lost.
const MAX_WAITING: usize = 4096;

/// Events that wait for the recorder, which comes by ten times a second.
const MAX_EVENTS: usize = 4096;

/// How soon after one look at all names the next may come because pods have changed: they change many at once.
const COALESCE: Duration = Duration::from_millis(50);

/// The recorder's end of the attribution thread.
pub struct Attributed {
    tell: SyncSender<Told>,
    names: Receiver<Name>,
    events: Receiver<Event>,
}

/// Tells the attribution thread of what others learn.
#[derive(Clone)]
pub struct Teller {
    tell: SyncSender<Told>,
    lost: Arc<AtomicU64>,
}

enum Told {
    Seen { cgroup: u64, at: Nanos },
    Made { cgroup: u64, path: String, at: Nanos },
    Started { cgroup: u64, process: String },
    Happened(Box<Event>),
    PodsChanged,
    Reload,
}

/// The thread's own ends.
struct Wires {
    told: Receiver<Told>,
    names: Sender<Name>,
    events: SyncSender<Event>,
    lost: Arc<AtomicU64>,
}

/// A thread that waits for its sources, so that those can tell it from their beginning.
pub struct Waiting {
    attributed: Attributed,
    teller: Teller,
    wires: Wires,
}

impl Waiting {
    /// The way to tell it.
    pub fn teller(&self) -> Teller {
        self.teller.clone()
    }

    /// Starts the thread. Names that hold from the outset, such as addresses, hold since `since`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(self, survey: Survey, since: Nanos) -> Result<Attributed> {
        thread::Builder::new()
            .name("attribution".to_owned())
            .spawn(move || attribute(survey, since, &self.wires))
            .context("the thread for attribution cannot be started")?;
        Ok(self.attributed)
    }
}

impl Attributed {
    /// The channels, before there is a thread.
    pub fn wait() -> Waiting {
        let (tell, told) = sync_channel(MAX_WAITING);
        let (name, names) = channel();
        let (event, events) = sync_channel(MAX_EVENTS);
        let lost = Arc::new(AtomicU64::new(0));
        Waiting {
            attributed: Self {
                tell: tell.clone(),
                names,
                events,
            },
            teller: Teller {
                tell,
                lost: Arc::clone(&lost),
            },
            wires: Wires {
                told,
                names: name,
                events: event,
                lost,
            },
        }
    }

    /// Without a thread: these have been found.
    #[cfg(test)]
    pub(crate) fn of(names: impl IntoIterator<Item = Name>, events: impl IntoIterator<Item = Event>) -> Self {
        let Waiting {
            attributed, wires, ..
        } = Self::wait();
        for name in names {
            wires.names.send(name).expect("both ends are here");
        }
        for event in events {
            wires.events.try_send(event).expect("both ends are here");
        }
        attributed
    }

    /// Tells that a packet of this cgroup was seen; `false` if too many are waiting, so that it has to be
    /// told again.
    pub fn seen(&self, cgroup: u64, at: Nanos) -> bool {
        !matches!(
            self.tell.try_send(Told::Seen { cgroup, at }),
            Err(TrySendError::Full(_))
        )
    }

    /// The names found since the last call.
    pub fn names(&self) -> impl Iterator<Item = Name> {
        self.names.try_iter()
    }

    /// The events since the last call.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        self.events.try_iter()
    }
}

impl Teller {
    /// Has the configuration read again, soon.
    pub fn reload(&self) {
        // When the queue is full, the refresh that empties it is at hand; the request is not lost but waits.
        let _ = self.tell.send(Told::Reload);
    }

    /// Pods have changed.
    pub fn pods_changed(&self) {
        // When the queue is full, a look at everything is at hand anyway.
        let _ = self.tell.try_send(Told::PodsChanged);
    }

    /// The kernel has made a cgroup, at this path below the hierarchy's root.
    pub fn made(&self, cgroup: u64, path: String, at: Nanos) {
        self.tell(Told::Made { cgroup, path, at });
    }

    /// The kernel has started a process in a cgroup.
    pub fn started(&self, cgroup: u64, process: String) {
        self.tell(Told::Started { cgroup, process });
    }

    /// Something happened that is to go onto the tape.
    pub fn happened(&self, event: Event) {
        self.tell(Told::Happened(Box::new(event)));
    }

    /// What was told and could not be kept, and events that the recorder did not take.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn tell(&self, told: Told) {
        if matches!(self.tell.try_send(told), Err(TrySendError::Full(_))) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread: ends when the recorder has dropped its end.
fn attribute(mut survey: Survey, since: Nanos, wires: &Wires) {
    let mut ledger = Ledger::default();
    let (mut now, mut due) = (since, Instant::now());
    loop {
        if Instant::now() >= due {
            for name in ledger.enter(survey.names(&ledger.cgroups(), now), now) {
                if wires.names.send(name).is_err() {
                    return;
                }
            }
            due = Instant::now() + REFRESH;
        }
        let first = match wires
            .told
            .recv_timeout(due.saturating_duration_since(Instant::now()))
        {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // No more than waited: a storm of events must not keep names from being looked up.
        for told in first.into_iter().chain(wires.told.try_iter()).take(MAX_WAITING) {
            match told {
                Told::Seen { cgroup, at } => {
                    ledger.expect(cgroup, at);
                    due = Instant::now();
                }
                Told::Made { cgroup, path, at } => survey.made(cgroup, &path, at),
                Told::Started { cgroup, process } => survey.started(cgroup, &process),
                Told::Happened(event) => {
                    if !hand_on(*event, &survey, wires) {
                        return;
                    }
                }
                Told::PodsChanged => due = due.min(Instant::now() + COALESCE),
                Told::Reload => {
                    match survey.reload() {
                        Ok(()) => tracing::info!("workloads read again"),
                        Err(error) => {
                            tracing::error!("workloads not read again, those known stand: {error:#}");
                        }
                    }
                    due = Instant::now();
                }
            }
        }
        now = wall_clock();
    }
}

/// Gives an event to the recorder, with the pod that it happened to; `false` when there is no recorder any more.
fn hand_on(mut event: Event, survey: &Survey, wires: &Wires) -> bool {
    if let Some(name) = survey.pod(event.cgroup) {
        (event.pod, event.namespace) = (name.pod, name.namespace);
    }
    match wires.events.try_send(event) {
        Ok(()) => true,
        Err(TrySendError::Full(_)) => {
            wires.lost.fetch_add(1, Ordering::Relaxed);
            true
        }
        Err(TrySendError::Disconnected(_)) => false,
    }
}
