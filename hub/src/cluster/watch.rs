//! The watches: one list and one stream per kind of object, for the whole cluster, taken up again where they broke.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Event as KubeEvent, Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event as Watch, watcher};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::ClusterError;
use super::keeper::Keeper;
use super::load;
use super::objects;
use super::status::Kind;

/// How often what is buffered goes to the file: a snapshot has what was told a second ago.
const FLUSH: Duration = Duration::from_secs(1);

/// Longest text of an error that is kept.
const ERROR_CHARS: usize = 300;

/// The account of the pod that the hub runs in.
pub(super) fn in_cluster() -> Result<Config, ClusterError> {
    Config::incluster().map_err(|error| ClusterError::Config(error.to_string()))
}

/// The current context of a kubeconfig.
pub(super) async fn from_file(path: &Path) -> Result<Config, ClusterError> {
    let wrong =
        |error: kube::config::KubeconfigError| ClusterError::Config(format!("{}: {error}", path.display()));
    let file = Kubeconfig::read_from(path).map_err(wrong)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(wrong)
}

/// Begins to watch.
pub(super) fn start(
    mut config: Config,
    keeper: &Arc<Keeper>,
    stopping: CancellationToken,
) -> Result<(), ClusterError> {
    // The client's own retries would hide from the status, for minutes, that the API server refuses; the watches pause
    // after each error themselves.
    config.default_retry = false;
    let client = Client::try_from(config).map_err(|error| ClusterError::Config(error.to_string()))?;
    let client = load::counting(&client, keeper.load());
    spawn(
        &client,
        keeper,
        &stopping,
        Kind::Services,
        |keeper, told: Told<Service>| {
            told_names(keeper, Kind::Services, told, objects::service);
        },
    );
    spawn(
        &client,
        keeper,
        &stopping,
        Kind::Endpoints,
        |keeper, told: Told<EndpointSlice>| {
            told_names(keeper, Kind::Endpoints, told, objects::endpoints);
        },
    );
    spawn(
        &client,
        keeper,
        &stopping,
        Kind::Nodes,
        |keeper, told: Told<Node>| {
            told_names(keeper, Kind::Nodes, told, objects::node);
        },
    );
    spawn(
        &client,
        keeper,
        &stopping,
        Kind::Namespaces,
        |keeper, told: Told<Namespace>| {
            told_names(keeper, Kind::Namespaces, told, objects::namespace);
        },
    );
    spawn(
        &client,
        keeper,
        &stopping,
        Kind::Events,
        |keeper, told: Told<KubeEvent>| {
            // That the API server has forgotten an event is none.
            if let Told::There(event) = told {
                let uid = event
                    .metadata
                    .uid
                    .clone()
                    .unwrap_or_else(|| objects::key(&event.metadata));
                keeper.event(&uid, objects::event(&event), crate::now());
            }
        },
    );
    let keeper = Arc::clone(keeper);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(FLUSH);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            let keeper = Arc::clone(&keeper);
            let flushed = tokio::task::spawn_blocking(move || keeper.tick(crate::now()));
            if let Err(error) = flushed.await {
                tracing::error!(%error, "the cluster's tape is no longer flushed");
                break;
            }
        }
    });
    Ok(())
}

/// An object as the API server tells it.
enum Told<K> {
    There(K),
    Gone(K),
}

fn told_names<K: Resource>(
    keeper: &Keeper,
    kind: Kind,
    told: Told<K>,
    names: fn(&K) -> Vec<wiretape_tape::Name>,
) {
    let now = crate::now();
    match told {
        Told::There(object) => {
            keeper.names_of(kind, &objects::key(object.meta()), names(&object), now);
        }
        Told::Gone(object) => keeper.names_of(kind, &objects::key(object.meta()), Vec::new(), now),
    }
}

/// Watches one kind until the hub stops. Breaks are taken up again from the last version seen; where the server no longer
/// has that one, all is listed anew. Pauses after errors grow from 0.8 s to 30 s.
fn spawn<K>(
    client: &Client,
    keeper: &Arc<Keeper>,
    stopping: &CancellationToken,
    kind: Kind,
    take: fn(&Keeper, Told<K>),
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let (keeper, stopping) = (Arc::clone(keeper), stopping.clone());
    let objects = watcher(Api::<K>::all(client.clone()), watcher::Config::default());
    tokio::spawn(async move {
        let mut objects = std::pin::pin!(objects.default_backoff());
        while let Some(Some(told)) = stopping.run_until_cancelled(objects.next()).await {
            match told {
                Ok(Watch::Init) => keeper.listing(kind),
                Ok(Watch::InitApply(object)) => {
                    keeper.counted(kind, true, crate::now());
                    take(&keeper, Told::There(object));
                }
                Ok(Watch::InitDone) => keeper.listed(kind, crate::now()),
                Ok(Watch::Apply(object)) => {
                    keeper.counted(kind, false, crate::now());
                    take(&keeper, Told::There(object));
                }
                Ok(Watch::Delete(object)) => {
                    keeper.counted(kind, false, crate::now());
                    take(&keeper, Told::Gone(object));
                }
                Err(error) => {
                    let error: String = said(&error).chars().take(ERROR_CHARS).collect();
                    tracing::debug!(kind = kind.text(), error, "the Kubernetes API cannot be watched");
                    keeper.failed(kind, error);
                }
            }
        }
    });
}

/// With its causes: which are what is of interest.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let deepest = deepest.to_string();
    if !text.contains(&deepest) {
        text += ": ";
        text += &deepest;
    }
    text
}
