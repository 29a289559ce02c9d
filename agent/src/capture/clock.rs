//! The kernel programs' clock.

use wiretape_tape::Nanos;

use super::CaptureError;
use crate::clocks::{since_boot, wall_clock};

/// Turns the kernel programs' clock, which counts from boot, into UTC.
pub(super) struct WallClock {
    /// UTC minus time since boot.
    offset: u64,
    /// Since boot, when the offset was measured.
    measured: u64,
}

/// How old a measured offset may be. UTC is slewed and sometimes set; one second keeps the error of
/// slewing (at most 500 ppm) under a millisecond.
const OFFSET_LIFETIME: u64 = 1_000_000_000;

impl WallClock {
    pub fn read() -> Result<Self, CaptureError> {
        // The thread may be interrupted between the readings: of three tries the quickest is the most
        // exact.
        let mut best: Option<(u64, Self)> = None;
        for _ in 0..3 {
            let before = since_boot()?;
            let utc = wall_clock();
            let after = since_boot()?;
            let took = after.saturating_sub(before);
            if best.as_ref().is_none_or(|(least, _)| took < *least) {
                best = Some((
                    took,
                    Self {
                        offset: utc.saturating_sub(before + took / 2),
                        measured: after,
                    },
                ));
            }
        }
        best.map(|(_, clock)| clock)
            .ok_or_else(|| std::io::Error::other("the clocks cannot be read").into())
    }

    pub fn refresh(&mut self) -> Result<(), CaptureError> {
        if since_boot()?.saturating_sub(self.measured) > OFFSET_LIFETIME {
            *self = Self::read()?;
        }
        Ok(())
    }

    pub fn wall(&self, since_boot: u64) -> Nanos {
        since_boot + self.offset
    }
}
