//! How long segments wait for their acknowledgements.

use std::collections::VecDeque;

use crate::limits::UNACKED;
use crate::{Counters, Nanos, queue};

/// Segments without an acknowledgement so far: behind which number each ends, and when it was first seen. In order.
#[derive(Debug, Default)]
pub(super) struct Unacked(VecDeque<(u32, Nanos)>);

/// Times from segments to their acknowledgements, in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RoundTrips {
    /// How many were measured.
    pub samples: u32,
    /// The shortest.
    pub min: u32,
    /// The longest.
    pub max: u32,
    sum: u64,
    sum_of_squares: f64,
}

impl Unacked {
    /// Notes a segment. Of one that was sent again, the first copy's time counts, as in Wireshark.
    pub fn sent(&mut self, end: u32, ts: Nanos, counters: &mut Counters) {
        if self.0.len() >= UNACKED {
            counters.round_trips_missed += 1;
            return;
        }
        let after = |known: u32| end.wrapping_sub(known) as i32;
        match self.0.back() {
            Some((last, _)) if after(*last) <= 0 => {
                let place = self.0.partition_point(|(known, _)| after(*known) > 0);
                if self.0.get(place).is_some_and(|(known, _)| *known != end) {
                    self.0.insert(place, (end, ts));
                }
            }
            _ => queue::push(&mut self.0, (end, ts)),
        }
    }

    /// Gives back the room that nothing lies in.
    pub fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        self.0.capacity() * size_of::<(u32, Nanos)>()
    }

    /// An acknowledgement came; that of exactly one segment's end is a sample.
    pub fn acknowledged(&mut self, ack: u32, ts: Nanos, times: &mut RoundTrips) {
        while let Some((end, sent)) = self.0.pop_front_if(|(end, _)| ack.wrapping_sub(*end) as i32 >= 0) {
            if end == ack {
                times.add(ts.saturating_sub(sent) / 1000);
            }
        }
    }
}

impl RoundTrips {
    fn add(&mut self, micros: u64) {
        let micros = u32::try_from(micros).unwrap_or(u32::MAX);
        self.min = if self.samples == 0 {
            micros
        } else {
            self.min.min(micros)
        };
        self.max = self.max.max(micros);
        self.samples += 1;
        self.sum += u64::from(micros);
        self.sum_of_squares += f64::from(micros) * f64::from(micros);
    }

    /// Their mean; 0 without any.
    pub fn mean(&self) -> u32 {
        let mean = self.sum.checked_div(u64::from(self.samples)).unwrap_or_default();
        u32::try_from(mean).unwrap_or(u32::MAX)
    }

    /// Their standard deviation (of the whole population); 0 without any.
    pub fn deviation(&self) -> u32 {
        if self.samples == 0 {
            return 0;
        }
        let samples = f64::from(self.samples);
        let mean = self.sum as f64 / samples;
        let variance = (self.sum_of_squares / samples - mean * mean).max(0.0);
        variance.sqrt() as u32
    }
}
