//! The pods of this node, from the Kubernetes API: listed once, then watched. Names hold on when the API server is away.
//!
//! One request lists the node's pods, one watches them, for as long as the API server lets a watch go on (some five minutes).
//! Nothing else is asked: owners are read off the pods, and services, nodes and events are the hub's business.

pub mod pod;

pub mod pods;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config};

use crate::clocks::wall_clock;
use pod::Pod;
use pods::Pods;

/// Pods that one answer may hold: some 5 MB of JSON, which is the most memory that a list takes.
const PAGE: u32 = 500;

/// For so long after an error the pods may be older than they should be. Longer than the longest wait between two tries.
const DOUBT: Duration = Duration::from_secs(60);

/// The watch, as others see it.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    pods: Pods,
    counters: KubernetesCounters,
    /// A list was complete.
    listed: bool,
    /// The last error, and when it was.
    error: Option<(String, Instant)>,
}

/// What the watch counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KubernetesCounters {
    /// Times that the node's pods were listed.
    pub lists: u64,
    /// Changes that the watch brought.
    pub changes: u64,
    /// Requests that failed and watches that broke.
    pub errors: u64,
    /// Pods that are kept.
    pub pods: u64,
    /// Pods for which there was no room.
    pub pods_beyond: u64,
}

/// Where the API server is, by the kubeconfig or by what a pod is told.
///
/// # Errors
/// When there is neither, or it cannot be read.
pub fn configuration(kubeconfig: Option<&Path>) -> Result<Config> {
    let Some(path) = kubeconfig else {
        return Config::incluster().context("this is no pod, and there is no --kubeconfig");
    };
    let read = || -> Result<Config> {
        let kubeconfig = Kubeconfig::read_from(path)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let options = KubeConfigOptions::default();
        Ok(runtime.block_on(Config::from_custom_kubeconfig(kubeconfig, &options))?)
    };
    read().with_context(|| format!("kubeconfig {}", path.display()))
}

impl Kubernetes {
    /// Starts to watch the pods of `node`, on a thread of its own. `changed` is called after each change.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn watch(config: Config, node: &str, changed: impl Fn() + Send + 'static) -> Result<Self> {
        let kubernetes = Self {
            shared: Arc::default(),
        };
        let (shared, node) = (kubernetes.clone(), node.to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name("kubernetes".to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(follow(&shared, config, &node, &changed)) {
                    tracing::error!("pods are not named, the Kubernetes API cannot be used: {error:#}");
                    shared.failed(format!("{error:#}"));
                }
            })
            .context("the thread for Kubernetes cannot be started")?;
        Ok(kubernetes)
    }

    /// What is missing now; `None` when the pods are as the API server has them.
    pub fn missing(&self) -> Option<String> {
        let shared = self.lock();
        let error = shared.error.as_ref();
        match (shared.listed, error) {
            (false, None) => Some("pods are not listed yet".to_owned()),
            (false, Some((error, _))) => Some(format!("pods are not named: {error}")),
            (true, Some((error, at))) if at.elapsed() < DOUBT => {
                Some(format!("pods may be named late: {error}"))
            }
            (true, _) => None,
        }
    }

    /// What was counted so far.
    pub fn counters(&self) -> KubernetesCounters {
        let shared = self.lock();
        KubernetesCounters {
            pods: shared.pods.len() as u64,
            pods_beyond: shared.pods.beyond(),
            ..shared.counters
        }
    }

    /// Works on the pods; nobody holds them for long.
    pub fn with<T>(&self, work: impl FnOnce(&mut Pods) -> T) -> T {
        work(&mut self.lock().pods)
    }

    fn failed(&self, error: String) {
        let mut shared = self.lock();
        shared.counters.errors += 1;
        shared.error = Some((error, Instant::now()));
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lists and watches for as long as the agent runs: kube resumes where it was, waits longer after each failure (0.8 s to 30 s),
/// and lists anew when the API server has forgotten that place.
async fn follow(kubernetes: &Kubernetes, config: Config, node: &str, changed: &impl Fn()) -> Result<()> {
    let api: Api<ApiPod> = Api::all(Client::try_from(config)?);
    let of_node = watcher::Config::default()
        .fields(&format!("spec.nodeName={node}"))
        .page_size(PAGE);
    let mut events = std::pin::pin!(watcher(api, of_node).default_backoff());
    let mut failing = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                // The beginning of a list is only the try at one.
                if failing && !matches!(event, Event::Init) {
                    tracing::info!("the Kubernetes API answers again");
                    failing = false;
                }
                if kubernetes.take(event) {
                    changed();
                }
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                if !failing {
                    tracing::warn!(
                        "the Kubernetes API does not answer, going on with the pods that are known: {error:#}"
                    );
                }
                failing = true;
                kubernetes.failed(format!("{error:#}"));
            }
        }
    }
    Ok(())
}

impl Kubernetes {
    /// Takes one event in; says whether names may have changed.
    fn take(&self, event: Event<ApiPod>) -> bool {
        let now = wall_clock();
        let mut shared = self.lock();
        match event {
            Event::Init => {
                shared.counters.lists += 1;
                shared.pods.list_begins();
                return false;
            }
            Event::InitApply(pod) => {
                shared.pods.apply(Pod::of(pod), now);
                return false;
            }
            Event::InitDone => {
                shared.listed = true;
                shared.pods.list_ends(now);
            }
            Event::Apply(pod) => {
                shared.counters.changes += 1;
                shared.pods.apply(Pod::of(pod), now);
            }
            Event::Delete(pod) => {
                shared.counters.changes += 1;
                shared.pods.delete(&pod.metadata.uid.unwrap_or_default(), now);
            }
        }
        true
    }
}
