//! What a role writes down while the story runs.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::truth::{Received, RoleTruth, Sent};

/// One role's record. Entries are made when a request is sent or received and closed when it is answered; what is
/// dropped before that was not answered, and the record says so.
#[derive(Debug, Default)]
pub struct Journal(Mutex<RoleTruth>);

impl Journal {
    /// A request is about to be sent.
    pub fn sending(&self, sent: Sent) -> SendingEntry<'_> {
        SendingEntry {
            journal: self,
            sent: Some(sent),
        }
    }

    /// A request has been received.
    pub fn received(&self, received: Received) -> ReceivedEntry<'_> {
        ReceivedEntry {
            journal: self,
            received: Some(received),
        }
    }

    /// A connection to the database was opened.
    pub fn database_connection(&self) {
        self.lock().database_connections += 1;
    }

    /// Payment-service reset a connection to the gateway.
    pub fn reset(&self) {
        self.lock().resets += 1;
    }

    /// Everything written so far.
    pub fn take(&self) -> RoleTruth {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, RoleTruth> {
        // An entry is pushed whole or not at all, so a panic elsewhere leaves a record that holds.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way to its answer.
pub struct SendingEntry<'a> {
    journal: &'a Journal,
    sent: Option<Sent>,
}

impl SendingEntry<'_> {
    /// The answer is there.
    pub fn answered(mut self, status: u16) {
        if let Some(sent) = &mut self.sent {
            sent.status = Some(status);
        }
    }

    /// It did not leave this process.
    pub fn not_sent(mut self) {
        self.sent = None;
    }
}

impl Drop for SendingEntry<'_> {
    fn drop(&mut self) {
        if let Some(mut sent) = self.sent.take() {
            sent.took_us = u64::try_from(
                unix_now()
                    .saturating_sub(Duration::from_nanos(sent.at))
                    .as_micros(),
            )
            .unwrap_or(u64::MAX);
            self.journal.lock().sent.push(sent);
        }
    }
}

/// A request that is being answered.
pub struct ReceivedEntry<'a> {
    journal: &'a Journal,
    received: Option<Received>,
}

impl ReceivedEntry<'_> {
    /// The answer is handed to the connection.
    pub fn answered(mut self, status: u16) {
        if let Some(received) = &mut self.received {
            received.status = Some(status);
        }
    }
}

impl Drop for ReceivedEntry<'_> {
    fn drop(&mut self) {
        if let Some(received) = self.received.take() {
            self.journal.lock().received.push(received);
        }
    }
}

/// Time since 1970 as the machine tells it.
pub fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
