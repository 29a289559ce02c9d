//! The chores beside recording. On a thread that gives way to everything else, cuts that nobody released are let go, the
//! tape's files are looked after, and sealed segments compressed. On another, what is written goes on to the disk, and out
//! of memory.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use wiretape_tape::{Pages, Shelf};

use crate::capture;
use crate::clocks::wall_clock;

/// How often there may be something to do. Looking after the files is a `stat` of each.
const ROUND: Duration = Duration::from_secs(5);

/// How often what is written is brought on to the disk.
const SETTLE: Duration = Duration::from_millis(200);

/// Most segments remembered as not to be compressed, because it failed or gained nothing. The list begins anew when it
/// is full, so that they are tried again.
const MAX_PASSED_OVER: usize = 1024;

/// The threads.
pub struct Keeper {
    /// Dropped to stop them.
    go_on: [Sender<()>; 2],
    threads: [JoinHandle<()>; 2],
}

impl Keeper {
    /// Starts them.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(shelf: Shelf, compress: bool) -> Result<Self> {
        let (settle, stop_settling) = channel::<()>();
        let tape = shelf.clone();
        let settler = thread::Builder::new()
            .name("settler".to_owned())
            .spawn(move || {
                let mut pages = Pages::default();
                while stop_settling.recv_timeout(SETTLE) == Err(RecvTimeoutError::Timeout) {
                    tape.settle(&mut pages);
                }
            })
            .context("the settler's thread cannot be started")?;
        let (go_on, stopped) = channel::<()>();
        let keeper = thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || {
                if let Err(error) = capture::give_way() {
                    tracing::info!("the keeper's priority stays as it is: {error}");
                }
                let mut passed_over = Vec::new();
                while stopped.recv_timeout(ROUND) == Err(RecvTimeoutError::Timeout) {
                    look_after(&shelf);
                    let stopping = || stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty);
                    while compress && !stopping() && compress_one(&shelf, &mut passed_over) {}
                }
            })
            .context("the keeper's thread cannot be started")?;
        Ok(Self {
            go_on: [go_on, settle],
            threads: [keeper, settler],
        })
    }

    /// Has them end with what they are doing, and waits for that.
    pub fn stop(self) {
        drop(self.go_on);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the keeper's panicked");
            }
        }
    }
}

fn look_after(shelf: &Shelf) {
    let expired = shelf.expire_cuts(wall_clock());
    if expired > 0 {
        tracing::warn!(expired, "cuts that nobody released in time are let go");
    }
    let changed = shelf.look_after();
    if changed > 0 {
        tracing::error!(changed, "someone else has deleted or changed files of the tape");
    }
}

/// `false` when there is nothing to compress.
fn compress_one(shelf: &Shelf, passed_over: &mut Vec<String>) -> bool {
    let Some((name, outcome)) = shelf.compress_one(passed_over) else {
        return false;
    };
    match outcome {
        Ok(done) if done.after < done.before => {
            tracing::debug!(
                name,
                before = done.before,
                after = done.after,
                "a segment is compressed"
            );
            return true;
        }
        Ok(_) => tracing::debug!(name, "a segment is left as it is"),
        Err(error) => tracing::warn!(name, "a segment cannot be compressed: {error}"),
    }
    if passed_over.len() >= MAX_PASSED_OVER {
        passed_over.clear();
        return false;
    }
    passed_over.push(name);
    true
}
