//! The incident, on a clock. All times here are the story's own; a time scale makes the wall's clock of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// What a clock in the shop showed when the story began, so that its moments can be told as times of day.
pub const BEGINS: &str = "14:19:58";
/// From the first visitor to the last answer.
pub const LENGTH: Duration = Duration::from_secs(300);
/// No visitor comes later: the slowest journey is over before the story is.
pub const LAST_VISITOR: Duration = Duration::from_secs(280);

/// 14:22:58: an answer of the gateway takes over four seconds instead of 200 ms.
pub const GATEWAY_SLOWS: Duration = Duration::from_secs(180);
/// From here on, one charge in [`ONE_TOO_SLOW_IN`] takes longer than payment-service waits: at 14:23:15 it gives the
/// first of them up.
pub const SOME_TOO_SLOW: Duration = Duration::from_secs(192);
/// See [`SOME_TOO_SLOW`].
pub const ONE_TOO_SLOW_IN: u64 = 11;
/// From here on no charge is answered in time; five seconds later, at 14:23:45, connections are reset one after the
/// other and the pool runs dry.
pub const GATEWAY_STALLS: Duration = Duration::from_secs(222);
/// The gateway is well again.
pub const GATEWAY_RECOVERS: Duration = Duration::from_secs(225);

/// How long payment-service waits for the gateway.
pub const PAYMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that payment-service has to the gateway at most. A gateway that answers after 4.5 s keeps ten of them
/// busy; one that does not answer takes all.
pub const GATEWAY_POOL: usize = 15;
/// How long a connection's place in the pool stays empty after it was reset.
pub const RECONNECT_AFTER: Duration = Duration::from_secs(5);

/// Retries of cart-service after a 503, all of them within 100 ms.
pub const RETRIES: u32 = 3;
/// From one retry to the next; the answer is not waited for.
pub const RETRY_EVERY: Duration = Duration::from_millis(30);

/// Journeys begun in a second of the story: with two views of the catalogue in each and two queries in a view, it
/// makes about 850 connections to catalogue-db in a minute.
pub const JOURNEYS_PER_SECOND: f64 = 3.6;

/// How long the gateway takes for the `ordinal`th charge, begun at `at`.
pub fn gateway_latency(seed: u64, ordinal: u64, at: Duration) -> Duration {
    let spread =
        |from: u64, to: u64| Duration::from_millis(from + dice(seed, &[0x6a7e, ordinal]) % (to - from));
    if at < GATEWAY_SLOWS || at >= GATEWAY_RECOVERS {
        spread(180, 220)
    } else if at >= GATEWAY_STALLS || (at >= SOME_TOO_SLOW && ordinal.is_multiple_of(ONE_TOO_SLOW_IN)) {
        spread(7000, 9000)
    } else {
        spread(4200, 4800)
    }
}

/// Time as the story tells it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    scale: f64,
}

impl Clock {
    /// A story that began at the instant `unix_ms` (or begins then) and runs `scale` times as fast as the wall's clock.
    pub fn beginning_at(unix_ms: u64, scale: f64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = Duration::from_millis(unix_ms);
        let began = match at.checked_sub(now) {
            Some(ahead) => Instant::now() + ahead,
            None => Instant::now().checked_sub(now - at).unwrap_or_else(Instant::now),
        };
        Self { began, scale }
    }

    /// How far the story is.
    pub fn now(&self) -> Duration {
        self.began.elapsed().mul_f64(self.scale)
    }

    /// A time of the story as time of the wall's clock.
    pub fn real(&self, time: Duration) -> Duration {
        time.div_f64(self.scale)
    }

    /// Waits for a time of the story.
    pub async fn sleep(&self, time: Duration) {
        tokio::time::sleep(self.real(time)).await;
    }

    /// Waits until the story is at `time`.
    pub async fn sleep_until(&self, time: Duration) {
        tokio::time::sleep_until(self.began + self.real(time)).await;
    }
}

/// A throw that is the same for the same seed and the same question, whatever else has been thrown before.
pub fn dice(seed: u64, question: &[u64]) -> u64 {
    // SplitMix64's finaliser over each word.
    let mut state = seed;
    for word in question {
        state = state.wrapping_add(*word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_plays_the_incident() {
        let at = |seconds, ordinal| gateway_latency(1, ordinal, Duration::from_secs(seconds)).as_millis();
        assert!((180..220).contains(&at(10, 1)));
        assert!((4200..4800).contains(&at(181, ONE_TOO_SLOW_IN)));
        assert!(at(200, ONE_TOO_SLOW_IN) > PAYMENT_TIMEOUT.as_millis());
        assert!(at(200, ONE_TOO_SLOW_IN + 1) < PAYMENT_TIMEOUT.as_millis());
        assert!(at(223, 1) > PAYMENT_TIMEOUT.as_millis());
        assert!((180..220).contains(&at(225, 1)));
    }

    #[test]
    fn the_same_seed_throws_the_same() {
        assert_eq!(dice(7, &[1, 2]), dice(7, &[1, 2]));
        assert_ne!(dice(7, &[1, 2]), dice(8, &[1, 2]));
        assert_ne!(dice(7, &[1, 2]), dice(7, &[2, 1]));
    }
}
