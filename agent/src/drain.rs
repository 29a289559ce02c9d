//! A cut lacks nothing: whoever makes one has the recorder first bring onto the tape what still waits between
//! the kernel and the recorder.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::capture::Waker;

/// The most time that a cut waits for the recorder. It takes about a millisecond with eBPF, 0.2 s with libpcap
/// and longer only under more load than the recorder can bear; and whoever asks does not wait for ever (the hub
/// 10 s).
pub const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// Where cuts and the recorder meet. There is nothing to overflow: all who have asked when the recorder looks are
/// served together.
#[derive(Clone, Debug)]
pub struct Drain {
    shared: Arc<Shared>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    moved: Condvar,
    late: AtomicU64,
}

/// Those who ask draw numbers, and the recorder calls the highest that is served.
#[derive(Debug, Default)]
struct State {
    drawn: u64,
    served: u64,
    /// There is no recorder any more, and all it had is on the tape.
    ended: bool,
}

impl Drain {
    /// One that wakes the recorder by `waker`.
    pub fn new(waker: Waker) -> Self {
        Self {
            shared: Arc::default(),
            waker,
        }
    }

    /// Waits until all that the capture had seen when this was called is on the tape, or counted as lost. `false`
    /// when that takes longer than `patience`, which is counted.
    pub fn wait(&self, patience: Duration) -> bool {
        let mut state = self.state();
        state.drawn += 1;
        let number = state.drawn;
        self.waker.wake();
        let waits = |state: &mut State| state.served < number && !state.ended;
        let (mut state, _) = self
            .shared
            .moved
            .wait_timeout_while(state, patience, waits)
            .unwrap_or_else(PoisonError::into_inner);
        let late = waits(&mut state);
        if late {
            self.shared.late.fetch_add(1, Ordering::Relaxed);
        }
        !late
    }

    /// How often [`wait`](Self::wait) was in vain.
    pub fn late(&self) -> u64 {
        self.shared.late.load(Ordering::Relaxed)
    }

    /// The highest number drawn, if it is not served yet.
    pub(crate) fn asked(&self) -> Option<u64> {
        let state = self.state();
        (state.served < state.drawn).then_some(state.drawn)
    }

    /// All up to this number are served.
    pub(crate) fn served(&self, number: u64) {
        self.state().served = number;
        self.shared.moved.notify_all();
    }

    /// Nothing more will come, so nobody need wait.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.shared.moved.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Longer than any test waits for what does come.
    const LONG: Duration = Duration::from_secs(30);

    fn drain() -> Drain {
        Drain::new(Waker::new().unwrap())
    }

    #[test]
    fn all_who_asked_by_then_are_served_at_once_and_nobody_who_asks_later() {
        let drain = drain();
        assert_eq!(drain.asked(), None);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let drain = drain.clone();
                thread::spawn(move || drain.wait(LONG))
            })
            .collect();
        while drain.asked() != Some(3) {
            thread::yield_now();
        }
        drain.served(3);
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
        assert!(!drain.wait(Duration::ZERO));
        assert_eq!(drain.asked(), Some(4));
    }

    #[test]
    fn a_recorder_that_does_not_come_is_waited_for_no_longer_than_said_and_that_is_counted() {
        let drain = drain();
        assert!(!drain.wait(Duration::from_millis(1)));
        assert_eq!(drain.late(), 1);
    }

    #[test]
    fn nobody_waits_for_a_recorder_that_has_ended() {
        let drain = drain();
        drain.end();
        assert!(drain.wait(LONG));
        assert_eq!(drain.late(), 0);
    }
}
