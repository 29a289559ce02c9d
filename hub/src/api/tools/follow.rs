//! Work that takes its time: who asked hears how far it is, and may call it off.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a tool waits for work when nobody hears of its progress. Clients give up after 30 s (contract 1.4); what is
/// not done by then is asked for again.
pub(in crate::api) const PATIENCE: Duration = Duration::from_secs(20);

/// How far work is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::api) struct Step {
    /// So much is done, out of 100. Never less than told before.
    pub(in crate::api) percent: f64,
    /// What is being done.
    pub(in crate::api) message: String,
}

/// The one who asked.
pub(in crate::api) struct Follow {
    told: Option<watch::Sender<Step>>,
    cancelled: CancellationToken,
    until: Instant,
}

impl Follow {
    /// Somebody who waits for [`PATIENCE`] and hears nothing meanwhile.
    pub(in crate::api) fn quiet(cancelled: CancellationToken) -> Self {
        Self {
            told: None,
            cancelled,
            until: Instant::now() + PATIENCE,
        }
    }

    /// Somebody who hears of every step, and waits as long as it takes.
    pub(in crate::api) fn heard(told: watch::Sender<Step>, cancelled: CancellationToken) -> Self {
        Self {
            told: Some(told),
            ..Self::quiet(cancelled)
        }
    }

    /// Whether steps are heard of.
    pub(in crate::api) fn is_heard(&self) -> bool {
        self.told.is_some()
    }

    /// Whether it was called off.
    pub(in crate::api) fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Waits until it is called off.
    pub(in crate::api) async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Whether to go on waiting.
    pub(in crate::api) fn waits(&self) -> bool {
        !self.is_cancelled() && (self.is_heard() || Instant::now() < self.until)
    }

    /// Tells how far the work is.
    pub(in crate::api) fn step(&self, percent: f64, message: impl Into<String>) {
        let Some(told) = &self.told else {
            return;
        };
        let message = message.into();
        told.send_if_modified(|step| {
            let next = Step {
                percent: percent.max(step.percent),
                message,
            };
            let changed = next != *step;
            *step = next;
            changed
        });
    }

    /// Lets some time pass, or less when it is called off meanwhile.
    pub(in crate::api) async fn pause(&self, length: Duration) {
        // Being called off in time is what the timeout is for.
        let _ = tokio::time::timeout(length, self.cancelled.cancelled()).await;
    }
}
