//! Waiting for packets, and being woken from it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Has a [`Wait`] that was made with it, or its next one, end at once. For any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// A new one.
    ///
    /// # Errors
    /// When the process may open no more files.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_flags(flags)?)))
    }

    /// Wakes.
    pub fn wake(&self) {
        // It fails only when it has been called 2^64 times: nobody reads the number, as each call is an event.
        let _ = self.0.write(1);
    }
}

const LESS_THAN_A_MILLISECOND: Duration = Duration::from_nanos(999_999);

/// What a capture sleeps on: packets or a [`Waker`].
pub(super) struct Wait(Epoll);

impl Wait {
    /// Waits for `source`, as `when` says, and for the waker.
    pub fn new(source: impl AsFd, when: EpollFlags, waker: &Waker) -> io::Result<Self> {
        let wait = Self::for_wakes(waker)?;
        wait.add(source, when)?;
        Ok(wait)
    }

    /// Waits for the waker alone.
    pub fn for_wakes(waker: &Waker) -> io::Result<Self> {
        let wait = Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        // Edge-triggered, so that one wake ends one wait.
        wait.add(&*waker.0, EpollFlags::EPOLLIN | EpollFlags::EPOLLET)?;
        Ok(wait)
    }

    /// Waits for this too.
    pub fn add(&self, source: impl AsFd, when: EpollFlags) -> io::Result<()> {
        // Nobody asks which it was.
        Ok(self.0.add(source, EpollEvent::new(when, 0))?)
    }

    /// Waits, `timeout` at most. A signal ends it too.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        // Up to the next millisecond, or who waits for less than one would ask again and again.
        let timeout = EpollTimeout::try_from(timeout.saturating_add(LESS_THAN_A_MILLISECOND))
            .unwrap_or(EpollTimeout::MAX);
        match self.0.wait(&mut [EpollEvent::empty(); 2], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Longer than any test waits for what does come.
    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn one_wake_ends_one_wait_even_if_it_came_before() {
        let (packets, waker) = (Waker::new().unwrap(), Waker::new().unwrap());
        let wait = Wait::new(&*packets.0, EpollFlags::EPOLLIN | EpollFlags::EPOLLET, &waker).unwrap();
        for _ in 0..3 {
            let begun = Instant::now();
            waker.wake();
            wait.wait(LONG).unwrap();
            assert!(begun.elapsed() < LONG);
            let begun = Instant::now();
            wait.wait(Duration::from_millis(20)).unwrap();
            assert!(begun.elapsed() >= Duration::from_millis(20), "woken twice by one");
        }
    }
}
