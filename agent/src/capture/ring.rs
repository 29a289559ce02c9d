//! The kernel's ring of records, read in place. What was read is given back to the kernel only when the reader says so:
//! when it is on the tape. So what an agent had read and not yet written is still there for the next one.
//!
//! The layout is that of `BPF_MAP_TYPE_RINGBUF`: a page with the reader's position, a page with the writers', and the
//! records, mapped twice in a row so that none is broken at the end. Positions are bytes since the ring was made.

#![allow(
    unsafe_code,
    reason = "the ring is memory that this process shares with the kernel"
)]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{SysconfVar, sysconf};

/// Before each record: its length with two flags, and a number of the kernel's own.
const HEADER: usize = 8;

/// Flags in a record's length.
const BEING_WRITTEN: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// A reader of a ring. There must be one at a time.
pub struct Ring {
    map: OwnedFd,
    ours: Mapping,
    kernels: Mapping,
    page: usize,
    bytes: u64,
    /// Up to where records were handed out.
    read: u64,
}

impl Ring {
    /// Maps the ring of `bytes`, a power of two.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(map: OwnedFd, bytes: u32) -> io::Result<Self> {
        let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|page| usize::try_from(page).ok());
        let page = page.unwrap_or(4096);
        let ours = Mapping::new(map.as_fd(), page, 0, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        let kernels = Mapping::new(map.as_fd(), page + 2 * bytes as usize, page, ProtFlags::PROT_READ)?;
        let mut ring = Self {
            map,
            ours,
            kernels,
            page,
            bytes: u64::from(bytes),
            read: 0,
        };
        ring.read = ring.given_back();
        Ok(ring)
    }

    /// The next record; `None` when there is none, or it is still being written.
    pub fn next(&mut self) -> Option<&[u8]> {
        loop {
            // Acquire, here and below: what was written before the kernel moved on is seen.
            if self.read == self.kernels.position().load(Ordering::Acquire) {
                return None;
            }
            let at = self.page + usize::try_from(self.read & (self.bytes - 1)).unwrap_or(0);
            // SAFETY: records begin at multiples of 8 below `bytes`, and the mapping has twice as many behind its page.
            let header = unsafe { self.kernels.start.byte_add(at).cast::<AtomicU32>().as_ref() };
            let length = header.load(Ordering::Acquire);
            if length & BEING_WRITTEN != 0 {
                return None;
            }
            let bytes = (length & !DISCARDED) as usize;
            self.read += (HEADER + bytes).next_multiple_of(8) as u64;
            if length & DISCARDED == 0 {
                // SAFETY: the kernel reserves no record longer than the ring, which is mapped twice; it does not write there
                // again before the record is given back, for which nobody may hold what this hands out.
                return Some(unsafe {
                    slice::from_raw_parts(self.kernels.start.byte_add(at + HEADER).as_ptr(), bytes)
                });
            }
        }
    }

    /// Whether all there is was handed out; a record that is still being written counts as not handed out.
    pub fn is_empty(&self) -> bool {
        self.read == self.kernels.position().load(Ordering::Acquire)
    }

    /// Up to where records were handed out.
    pub fn position(&self) -> u64 {
        self.read
    }

    /// Bytes that were handed out and not given back yet.
    pub fn held(&self) -> u64 {
        self.read - self.given_back()
    }

    /// Gives back to the kernel what was handed out.
    pub fn give_back(&mut self) {
        self.give_back_to(self.read);
    }

    /// The same up to a position, if that was handed out and not given back.
    pub fn give_back_to(&mut self, position: u64) {
        if (self.given_back()..=self.read).contains(&position) {
            self.ours.position().store(position, Ordering::Release);
        }
    }

    /// Goes on at a position, up to which somebody else has read, if it is ahead and the ring reaches so far; gives back
    /// what is before.
    pub fn skip_to(&mut self, position: u64) {
        if (self.read..=self.kernels.position().load(Ordering::Acquire)).contains(&position) {
            self.read = position;
            self.give_back();
        }
    }

    /// Bytes that it holds.
    pub fn size(&self) -> u64 {
        self.bytes
    }

    fn given_back(&self) -> u64 {
        self.ours.position().load(Ordering::Acquire)
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

/// Pages of the ring in this process's memory.
struct Mapping {
    start: NonNull<u8>,
    bytes: NonZeroUsize,
}

// SAFETY: it is memory of the whole process, reached through atomics, or read where the kernel does not write.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(map: BorrowedFd<'_>, bytes: usize, offset: usize, allowed: ProtFlags) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let offset = i64::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping, where the kernel finds room.
        let start = unsafe { mmap(None, bytes, allowed, MapFlags::MAP_SHARED, map, offset) }?;
        Ok(Self {
            start: start.cast(),
            bytes,
        })
    }

    /// Both position pages begin with the position, a word of the kernel's.
    #[cfg(target_pointer_width = "64")]
    fn position(&self) -> &AtomicU64 {
        // SAFETY: a page begins where the mapping does, and lives as long.
        unsafe { self.start.cast().as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody refers into it any more: all that is handed out borrows the ring.
        let _ = unsafe { munmap(self.start.cast(), self.bytes.get()) };
    }
}
