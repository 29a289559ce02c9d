//! Where those who ask for another recording and the recorder meet: it takes what is asked for when it comes round.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use wiretape_tape::{Change, Recording};

use super::Prepared;
use crate::capture::Waker;

/// How long whoever asks waits for the recorder, which comes round within milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Those who may wait at the same time.
const MAX_WAITING: usize = 16;

/// Why there is no change.
#[derive(Debug, Error)]
pub enum DeskError {
    /// What is asked for cannot be.
    #[error("{0:#}")]
    Refused(anyhow::Error),
    /// The recorder does not come round.
    #[error("the recorder does not come round: nothing is changed, or will be when it does")]
    Late,
    /// Others ask already.
    #[error("{MAX_WAITING} changes are waiting already")]
    TooMany,
    /// There is no recorder.
    #[error("recording has ended")]
    Ended,
}

/// For those who ask.
#[derive(Clone, Debug)]
pub struct Desk {
    orders: SyncSender<Order>,
    waker: Waker,
    /// What was asked for last. Held while a change is made, so that two changes do not undo each other.
    asked: Arc<Mutex<Recording>>,
}

/// For the recorder.
#[derive(Debug)]
pub struct Orders(Receiver<Order>);

/// A change, and whoever waits for it.
#[derive(Debug)]
pub struct Order {
    /// What is to be recorded.
    pub to: Prepared,
    done: Sender<Result<(), String>>,
}

impl Order {
    /// Tells that it is done, or why not. Nobody need be waiting any more.
    pub fn done(self, outcome: Result<(), String>) {
        let _ = self.done.send(outcome);
    }
}

impl Orders {
    /// The next change, if one is asked for.
    pub fn next(&self) -> Option<Order> {
        self.0.try_recv().ok()
    }
}

impl Desk {
    /// One that wakes the recorder by `waker`, which records `now`.
    pub fn new(now: Recording, waker: Waker) -> (Self, Orders) {
        let (orders, taken) = sync_channel(MAX_WAITING);
        let asked = Arc::new(Mutex::new(now));
        let desk = Self { orders, waker, asked };
        (desk, Orders(taken))
    }

    /// Has something else recorded, and waits until it is.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn change(&self, change: Change) -> Result<(), DeskError> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = asked.with(change);
        let to = Prepared::new(wanted.clone()).map_err(DeskError::Refused)?;
        let (done, outcome) = channel();
        self.orders
            .try_send(Order { to, done })
            .map_err(|error| match error {
                TrySendError::Full(_) => DeskError::TooMany,
                TrySendError::Disconnected(_) => DeskError::Ended,
            })?;
        self.waker.wake();
        let outcome = match outcome.recv_timeout(PATIENCE) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => return Err(DeskError::Refused(anyhow::Error::msg(why))),
            Err(RecvTimeoutError::Timeout) => Err(DeskError::Late),
            Err(RecvTimeoutError::Disconnected) => return Err(DeskError::Ended),
        };
        // What is late comes all the same.
        *asked = wanted;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use wiretape_tape::Capture;

    use super::*;

    #[test]
    fn a_change_is_made_when_the_recorder_comes_round_and_what_makes_no_sense_never_comes_to_it() {
        let (desk, orders) = Desk::new(Recording::default(), Waker::new().unwrap());
        let headers = Change {
            capture: Some(Capture::Headers),
            ..Change::default()
        };
        let asking = desk.clone();
        let asked = thread::spawn(move || asking.change(headers));
        let order = loop {
            if let Some(order) = orders.next() {
                break order;
            }
            thread::yield_now();
        };
        assert_eq!(order.to.recording().capture, Capture::Headers);
        order.done(Ok(()));
        asked.join().unwrap().unwrap();

        let nonsense = Change {
            filter: Some("tcp prot 80".to_owned()),
            ..Change::default()
        };
        assert!(matches!(desk.change(nonsense), Err(DeskError::Refused(_))));
        assert!(orders.next().is_none());
        drop(orders);
        assert!(matches!(desk.change(Change::default()), Err(DeskError::Ended)));
    }
}
