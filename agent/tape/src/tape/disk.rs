//! Every change that a tape makes to its folder, one function each: nothing else in this crate writes. So a test can
//! end the world between any two of them, or in the middle of a write.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use super::piece::SECTOR;

/// Makes a file that was not there, to be written at its end.
pub(super) fn create(path: &Path) -> io::Result<File> {
    fault::step()?;
    OpenOptions::new().create_new(true).append(true).open(path)
}

/// Writes some of the bytes behind the last ones; says how many.
pub(super) fn append(file: &mut File, bytes: &[u8]) -> io::Result<usize> {
    let bytes = fault::part(bytes)?;
    file.write(bytes)
}

/// Opens a file to be written past the page cache, where its file system allows that.
pub(super) fn open_direct(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_DIRECT.bits())
        .open(path)
}

/// Writes some of the bytes at an offset; says how many. Called on a thread that only does this: what is to go wrong with it
/// is [`foreseen`].
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(bytes, offset)
}

/// How many of the bytes another thread is to write, and what it is to say of the rest: outside of tests all, and nothing.
pub(super) fn foreseen(bytes: &[u8]) -> (usize, io::Result<()>) {
    match fault::fit().and_then(|()| fault::part(bytes)) {
        Ok(part) if part.len() == bytes.len() => (bytes.len(), Ok(())),
        // Half of it, and the end of the world: no more than whole sectors get to a disk.
        Ok(part) => (
            part.len() / SECTOR * SECTOR,
            Err(io::ErrorKind::BrokenPipe.into()),
        ),
        Err(error) => (0, Err(error)),
    }
}

/// Cuts a file back.
pub(super) fn cut_back(file: &File, length: u64) -> io::Result<()> {
    fault::step()?;
    file.set_len(length)
}

/// Removes a file.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    fault::step()?;
    fs::remove_file(path)
}

/// Gives a file a second name.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<()> {
    fault::step()?;
    fs::hard_link(from, to)
}

/// Gives a file or a folder another name, in one step.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fault::step()?;
    fs::rename(from, to)
}

/// Makes a folder and those above it.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    fault::step()?;
    fs::create_dir_all(path)
}

/// Removes a folder of files with all that is in it.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_folder(&entry.path())?;
        } else {
            remove(&entry.path())?;
        }
    }
    fault::step()?;
    fs::remove_dir(path)
}

/// Writes a whole file.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = append(&mut file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Outside of tests, nothing goes wrong but what does.
#[cfg(not(test))]
mod fault {
    use std::io;

    #[inline]
    pub fn step() -> io::Result<()> {
        Ok(())
    }

    #[inline]
    pub fn part(bytes: &[u8]) -> io::Result<&[u8]> {
        Ok(bytes)
    }

    #[inline]
    pub fn fit() -> io::Result<()> {
        Ok(())
    }
}

/// What a test has go wrong, on its own thread.
#[cfg(test)]
pub(super) mod fault {
    use std::cell::Cell;
    use std::io;

    /// What becomes of the steps on the disk.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Plan {
        /// All of them are done.
        Sound,
        /// So many are done, the one after them half, and none after that: the process was killed.
        Killed(u64),
        /// None is done any more.
        Dead,
        /// So many are done, then one fails, and all after it are done: a disk that failed once.
        FailsOnce(u64),
        /// All of them are done, but nothing goes past the page cache: a disk with sectors larger than any.
        Unfit,
    }

    thread_local! {
        static PLAN: Cell<Plan> = const { Cell::new(Plan::Sound) };
    }

    pub fn plan(plan: Plan) {
        PLAN.set(plan);
    }

    pub fn is_dead() -> bool {
        PLAN.get() == Plan::Dead
    }

    pub fn step() -> io::Result<()> {
        part(&[]).map(|_| ())
    }

    /// Whether the disk takes pieces past the page cache.
    pub fn fit() -> io::Result<()> {
        if PLAN.get() == Plan::Unfit {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(())
    }

    /// As much of `bytes` as gets to the disk.
    pub fn part(bytes: &[u8]) -> io::Result<&[u8]> {
        match PLAN.get() {
            Plan::Sound | Plan::Unfit => Ok(bytes),
            Plan::Killed(0) if bytes.len() > 1 => {
                PLAN.set(Plan::Dead);
                Ok(bytes.get(..bytes.len() / 2).unwrap_or(bytes))
            }
            Plan::Killed(0) | Plan::Dead => {
                PLAN.set(Plan::Dead);
                Err(io::ErrorKind::BrokenPipe.into())
            }
            Plan::Killed(left) => {
                PLAN.set(Plan::Killed(left - 1));
                Ok(bytes)
            }
            Plan::FailsOnce(0) => {
                PLAN.set(Plan::Sound);
                // EIO
                Err(io::Error::from_raw_os_error(5))
            }
            Plan::FailsOnce(left) => {
                PLAN.set(Plan::FailsOnce(left - 1));
                Ok(bytes)
            }
        }
    }
}
