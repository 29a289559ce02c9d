//! Large pieces go to the disk past the page cache, while the recorder fills the next.
//!
//! Copied into the page cache, a busy node's packets would take its memory from the workload, and each page that is new to
//! it costs more than all else that is done with a packet (docs/performance.md).

use std::fs::File;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use super::disk;
use super::piece::{Extent, Piece};

/// Writes one piece after the other, on a thread that begins with the first.
pub(super) struct Writer {
    thread: Option<Running>,
    /// The disk, or the machine, does not want it so.
    off: bool,
    /// Memory for the pieces after those that are under way.
    spare: Vec<Piece>,
    room: usize,
    /// What [`has_landed`](Self::has_landed) found.
    ready: Option<Landed>,
    /// Bytes that were written.
    bytes: u64,
}

struct Running {
    /// `None` once it is to end.
    jobs: Option<Sender<Job>>,
    landed: Receiver<Landed>,
    thread: Option<JoinHandle<()>>,
}

struct Job {
    file: Arc<File>,
    offset: u64,
    piece: Piece,
    /// How much of the piece, and what is said of the rest.
    length: usize,
    outcome: io::Result<()>,
}

/// What has become of a piece.
pub(super) struct Landed {
    pub piece: Piece,
    /// Bytes of it that are in the file.
    pub written: usize,
    /// Why the others are not.
    pub outcome: io::Result<()>,
}

impl Writer {
    /// For pieces with room for so many bytes.
    pub fn new(room: usize) -> Self {
        Self {
            thread: None,
            off: false,
            spare: Vec::new(),
            room,
            ready: None,
            bytes: 0,
        }
    }

    /// Whether it is of any use.
    pub fn is_off(&self) -> bool {
        self.off
    }

    /// Bytes that it has written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// No more is to be written so.
    pub fn turn_off(&mut self) {
        self.off = true;
        self.spare.clear();
    }

    /// Has a piece written after those before it, and puts an empty one in its place. `false` when there is no thread: then
    /// it is still there.
    pub fn begin(&mut self, file: Arc<File>, offset: u64, piece: &mut Piece) -> bool {
        let (length, outcome) = disk::foreseen(piece.bytes());
        let empty = self.spare.pop().unwrap_or_else(|| Piece::new(self.room));
        let job = Job {
            file,
            offset,
            piece: mem::replace(piece, empty),
            length,
            outcome,
        };
        let unsent = match self.running() {
            Some(jobs) => jobs.send(job).err().map(|unsent| unsent.0),
            None => Some(job),
        };
        if let Some(job) = unsent {
            *piece = job.piece;
            self.turn_off();
            return false;
        }
        true
    }

    /// Waits for the oldest of the pieces that are under way, which holds what `extent` says.
    pub fn wait(&mut self, extent: Extent) -> Landed {
        let landed = self.ready.take();
        let landed = landed.or_else(|| self.thread.as_ref()?.landed.recv().ok());
        let landed = landed.unwrap_or_else(|| {
            self.turn_off();
            Landed {
                piece: Piece::lost(extent),
                written: 0,
                outcome: Err(io::Error::other("the thread that writes has panicked")),
            }
        });
        self.bytes += landed.written as u64;
        landed
    }

    /// Whether [`wait`](Self::wait) would not have to.
    pub fn has_landed(&mut self) -> bool {
        if self.ready.is_none() {
            self.ready = self
                .thread
                .as_ref()
                .and_then(|running| running.landed.try_recv().ok());
        }
        self.ready.is_some()
    }

    /// Takes memory back.
    pub fn keep(&mut self, mut piece: Piece) {
        if !self.off {
            piece.clear();
            self.spare.push(piece);
        }
    }

    fn running(&mut self) -> Option<&Sender<Job>> {
        if self.thread.is_none() && !self.off {
            self.thread = start().ok();
        }
        self.thread.as_ref()?.jobs.as_ref()
    }
}

fn start() -> io::Result<Running> {
    let (jobs, work) = channel::<Job>();
    let (land, landed) = channel();
    let thread = thread::Builder::new().name("writer".to_owned()).spawn(move || {
        for job in work {
            if land.send(write(job)).is_err() {
                return;
            }
        }
    })?;
    Ok(Running {
        jobs: Some(jobs),
        landed,
        thread: Some(thread),
    })
}

fn write(job: Job) -> Landed {
    let mut written = 0;
    let outcome = loop {
        let Some(rest) = job
            .piece
            .bytes()
            .get(written..job.length)
            .filter(|rest| !rest.is_empty())
        else {
            break job.outcome;
        };
        match disk::write_at(&job.file, rest, job.offset + written as u64) {
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    Landed {
        piece: job.piece,
        written,
        outcome,
    }
}

impl Drop for Running {
    /// The tape may be opened anew right after: nothing must be written to it then.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Had it panicked, that is told already.
            let _ = thread.join();
        }
    }
}
