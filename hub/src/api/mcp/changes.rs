//! Word of changes: who listens hears when snapshots and dissections come, get on and go, and, of those that it has
//! subscribed to, which.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::model::{ResourceContents, ResourceUpdatedNotificationParam};
use rmcp::service::SubscriptionContext;
use rmcp::{Peer, RoleServer};
use tokio_util::sync::CancellationToken;

use super::{Backend, resources};
use crate::api::ApiError;

/// Least time between two words to one client. A snapshot that is collected and dissected changes the list a dozen times
/// in a second, and one word for all is as good.
const BETWEEN: Duration = Duration::from_secs(1);

/// Most resources that one client may watch: each is read at every change.
const MOST_WATCHED: usize = 64;

/// The resources that one client watches, each with a fingerprint of what it was when the client last heard of it.
#[derive(Clone, Default)]
pub(super) struct Watched(Arc<Mutex<BTreeMap<String, u64>>>);

impl Watched {
    /// Watches one more.
    pub(super) async fn add(&self, backend: &Backend, uri: &str) -> Result<(), ApiError> {
        if uri.contains("/pcap") {
            return Err(ApiError::bad_request(
                "a capture never changes; subscribe to its snapshot, wiretape://snapshots/{snapshot}",
            ));
        }
        let fingerprint = fingerprint(backend, uri).await?;
        let mut watched = self.lock();
        if watched.len() >= MOST_WATCHED && !watched.contains_key(uri) {
            return Err(ApiError::too_many(format!(
                "{MOST_WATCHED} resources are subscribed to already; unsubscribe from one, or hear of all by \
                 resources/list_changed"
            )));
        }
        watched.insert(uri.to_owned(), fingerprint);
        Ok(())
    }

    /// Watches one no more.
    pub(super) fn remove(&self, uri: &str) {
        self.lock().remove(uri);
    }

    /// Those that are not what they were.
    async fn changed(&self, backend: &Backend) -> Vec<String> {
        let known: Vec<(String, u64)> = self.lock().clone().into_iter().collect();
        let mut changed = Vec::new();
        for (uri, before) in known {
            // What is gone is another as well, once.
            let now = fingerprint(backend, &uri).await.unwrap_or_default();
            if now != before {
                if let Some(kept) = self.lock().get_mut(&uri) {
                    *kept = now;
                }
                changed.push(uri);
            }
        }
        changed
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        // Fingerprints are whole whatever became of a thread that held them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fingerprint(backend: &Backend, uri: &str) -> Result<u64, ApiError> {
    let read = resources::read(backend, uri).await?;
    let mut hasher = DefaultHasher::new();
    for contents in &read.contents {
        if let ResourceContents::TextResourceContents { text, .. } = contents {
            text.hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

/// Tells a session, until it has ended. For revisions whose sessions hear of the list unasked.
pub(super) async fn tell(
    peer: Peer<RoleServer>,
    backend: Backend,
    watched: Watched,
    ended: CancellationToken,
) {
    let telling = async {
        let mut changes = backend.changes().await;
        while changes.changed().await.is_ok() {
            let mut heard = peer.notify_resource_list_changed().await.is_ok();
            for uri in watched.changed(&backend).await {
                let told = ResourceUpdatedNotificationParam::new(uri);
                heard &= peer.notify_resource_updated(told).await.is_ok();
            }
            if !heard {
                tracing::debug!("nobody listens for changes of resources now");
            }
            tokio::time::sleep(BETWEEN).await;
        }
    };
    tokio::select! {
        () = telling => {}
        () = ended.cancelled() => {}
    }
}

/// Tells a client that has asked to be told, until it asks no more.
pub(super) async fn tell_subscriber(context: SubscriptionContext, backend: Backend) {
    let mut changes = backend.changes().await;
    let watched = Watched::default();
    let accepted = context.sink().accepted().clone();
    for uri in accepted.resource_subscriptions.iter().flatten() {
        if let Err(error) = watched.add(&backend, uri).await {
            tracing::debug!(uri, error = error.message(), "a resource is not watched");
        }
    }
    let telling = async {
        while changes.changed().await.is_ok() {
            let sink = context.sink();
            let mut heard = accepted.resources_list_changed != Some(true)
                || sink.notify_resource_list_changed().await.is_ok();
            for uri in watched.changed(&backend).await {
                heard &= sink.notify_resource_updated(uri).await.is_ok();
            }
            if !heard {
                tracing::debug!("a subscriber hears of no changes of resources now");
            }
            tokio::time::sleep(BETWEEN).await;
        }
    };
    tokio::select! {
        () = telling => {}
        () = context.cancelled() => {}
    }
}
