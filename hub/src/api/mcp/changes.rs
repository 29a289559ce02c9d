//! Word of changes: who has listed the resources hears when snapshots and dissections come, get on and go.

use std::time::Duration;

use rmcp::service::SubscriptionContext;
use rmcp::{Peer, RoleServer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Least time between two words to one client. A snapshot that is collected and dissected changes the list a dozen times
/// in a second, and one word for all is as good.
const BETWEEN: Duration = Duration::from_secs(1);

/// Tells a session, until it has ended. For revisions whose sessions hear of everything unasked.
pub(super) async fn tell(
    peer: Peer<RoleServer>,
    mut changes: watch::Receiver<u64>,
    ended: CancellationToken,
) {
    let telling = async {
        while changes.changed().await.is_ok() {
            if peer.notify_resource_list_changed().await.is_err() {
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
pub(super) async fn tell_subscriber(context: SubscriptionContext, mut changes: watch::Receiver<u64>) {
    let telling = async {
        while changes.changed().await.is_ok() {
            if context.sink().notify_resource_list_changed().await.is_err() {
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
