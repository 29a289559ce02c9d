//! Who a packet belongs to: its socket's cgroup -> process -> workload.
//!
//! The recorder tells of a cgroup when it first sees a packet of it. A thread of its own looks who that is,
//! so that no packet waits for it, and gives back the names that go onto the tape.

pub mod cgroups;

pub mod workloads;

pub mod ledger;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use wiretape_tape::{Name, Nanos};

use ledger::Ledger;

use crate::recorder::wall_clock;

/// A source of names. What comes from Kubernetes or a container runtime is another one.
pub trait Attribution: Send {
    /// Says who each of `cgroups` is now, and whatever addresses are known by themselves. Times are left
    /// empty. A cgroup that is gone is left out.
    fn survey(&mut self, cgroups: &[u64]) -> Vec<Name>;

    /// Reads again what it was configured with.
    ///
    /// # Errors
    /// When that cannot be read or is wrong; then what was known before stands.
    fn reload(&mut self) -> Result<()>;
}

/// How often known cgroups are looked at again: a process may have replaced itself, a cgroup may be gone.
const REFRESH: Duration = Duration::from_secs(2);

/// Cgroups not yet looked at. When there are more, the recorder tells again at the next packet.
const MAX_WAITING: usize = 1024;

/// The recorder's end of the attribution thread.
pub struct Attributed {
    tell: SyncSender<Told>,
    names: Receiver<Name>,
}

/// Asks for the configuration to be read again.
#[derive(Clone)]
pub struct Reload(SyncSender<Told>);

enum Told {
    Seen { cgroup: u64, at: Nanos },
    Reload,
}

impl Attributed {
    /// Starts the thread. Names that hold from the outset, such as addresses, hold since `since`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(source: Box<dyn Attribution>, since: Nanos) -> Result<Self> {
        let (tell, told) = sync_channel(MAX_WAITING);
        let (name, names) = channel();
        thread::Builder::new()
            .name("attribution".to_owned())
            .spawn(move || attribute(source, since, &told, &name))
            .context("the thread for attribution cannot be started")?;
        Ok(Self { tell, names })
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

    /// A handle to have the configuration read again.
    pub fn reloader(&self) -> Reload {
        Reload(self.tell.clone())
    }
}

impl Reload {
    /// Has the configuration read again, soon.
    pub fn request(&self) {
        // When the queue is full, the refresh that empties it is at hand; the request is not lost but waits.
        let _ = self.0.send(Told::Reload);
    }
}

/// The thread: ends when the recorder has dropped its end.
fn attribute(mut source: Box<dyn Attribution>, since: Nanos, told: &Receiver<Told>, names: &Sender<Name>) {
    let mut ledger = Ledger::default();
    let mut now = since;
    loop {
        let survey = source.survey(&ledger.cgroups());
        for name in ledger.enter(survey, now) {
            if names.send(name).is_err() {
                return;
            }
        }
        let first = match told.recv_timeout(REFRESH) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for event in first.into_iter().chain(told.try_iter()) {
            match event {
                Told::Seen { cgroup, at } => ledger.expect(cgroup, at),
                Told::Reload => match source.reload() {
                    Ok(()) => tracing::info!("workloads read again"),
                    Err(error) => tracing::error!("workloads not read again, those known stand: {error:#}"),
                },
            }
        }
        now = wall_clock();
    }
}
