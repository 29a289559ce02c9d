//! The clocks: the one that everybody sets, the one that nobody does, and the kernel programs'.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use wiretape_tape::Nanos;

/// Time that goes on whatever is done to the clock, by which health knows how long something has lasted.
pub fn steady_clock() -> Nanos {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| u64::try_from(time.num_nanoseconds()).unwrap_or(0))
}

/// The time, as the tape and all names and events on it have it.
pub fn wall_clock() -> Nanos {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// The kernel programs' clock: nanoseconds since the machine was started, with those in which it slept.
///
/// # Errors
/// When it cannot be read.
pub fn since_boot() -> io::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    Ok(u64::try_from(time.num_nanoseconds()).unwrap_or(0))
}
