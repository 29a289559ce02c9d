//! A double of the Kubernetes API server, for tests: what a client that lists and watches meets, over plain HTTP.
//!
//! Lists with pages, watches that resume at a version, bookmarks, selectors of fields and labels; and the days on which a
//! real one is difficult: history that is compacted (410), throttling (429), connections that end, no server at all.
//!
//! ```no_run
//! use wiretape_kubernetes::{Kubernetes, objects};
//!
//! let kubernetes = Kubernetes::start().expect("a port");
//! kubernetes.put(objects::pod("shop", "cart-1", "node-1", "10.1.0.7"));
//! std::fs::write("kubeconfig", kubernetes.kubeconfig()).expect("written");
//! kubernetes.disconnect();
//! ```
//!
//! In the order of a request: [`kinds`] knows the paths, [`selector`] what is asked for, [`store`] the objects and their
//! history, [`server`] answers; [`objects`] makes what to put in.

pub mod kinds;

pub mod selector;

pub mod store;

mod server;

pub mod objects;

use std::collections::BTreeMap;
use std::net::{self, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use store::Store;

/// A running API server, which ends when it is dropped.
#[derive(Debug)]
pub struct Kubernetes {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// `None` while it is down.
    running: Mutex<Option<Runtime>>,
}

/// What was asked at one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests, refused ones too.
    pub requests: u64,
    /// Of these, watches.
    pub watches: u64,
    /// Bytes of the answers' bodies.
    pub bytes: u64,
}

/// What the requests work on.
#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    mood: Mutex<Mood>,
    /// Told of each change, so that watches look.
    changed: watch::Sender<u64>,
    loads: Mutex<BTreeMap<String, Load>>,
}

/// How the server behaves now.
#[derive(Clone, Copy, Debug, Default)]
struct Mood {
    /// Requests that are still to be told to come back later.
    throttled: u64,
    /// Counts up; a watch that began at a lower count ends.
    disconnects: u64,
    /// Counts up; a watch that began at a lower count ends with the news that its version is gone.
    expiries: u64,
    /// Counts up; each watch that asked for bookmarks gets one.
    bookmarks: u64,
}

impl Kubernetes {
    /// Starts one on a free port of the loopback interface.
    ///
    /// # Errors
    /// When there is no port or no thread for it.
    pub fn start() -> Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Starts one at this address.
    ///
    /// # Errors
    /// When it cannot be listened on.
    pub fn start_at(address: SocketAddr) -> Result<Self> {
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            mood: Mutex::default(),
            changed: watch::Sender::new(0),
            loads: Mutex::default(),
        });
        let (runtime, address) = serve(&shared, address)?;
        Ok(Self {
            shared,
            address,
            running: Mutex::new(Some(runtime)),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig by which clients find it.
    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: double\n\
             clusters:\n- name: double\n  cluster:\n    server: http://{}\n\
             contexts:\n- name: double\n  context:\n    cluster: double\n    user: double\n\
             users:\n- name: double\n  user: {{}}\n",
            self.address
        )
    }

    /// Puts an object in, or in place of the one with its name; gives the version that the store has reached.
    ///
    /// # Panics
    /// When it is of a kind that the double does not serve, or has no name: the test is wrong.
    pub fn put(&self, object: Value) -> u64 {
        let version = lock(&self.shared.store)
            .put(object)
            .expect("an object that can be served");
        self.shared.tell();
        version
    }

    /// Changes an object by hand; `false` if there is none.
    pub fn change(&self, kind: &str, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) -> bool {
        let Some(mut object) = lock(&self.shared.store).get(kind, namespace, name) else {
            return false;
        };
        change(&mut object);
        self.put(object);
        true
    }

    /// Takes an object out; `false` if there is none. `namespace` is empty for those that have none.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let deleted = lock(&self.shared.store).delete(kind, namespace, name);
        self.shared.tell();
        deleted
    }

    /// How many objects of this kind there are.
    pub fn count(&self, kind: &str) -> usize {
        lock(&self.shared.store).count(kind)
    }

    /// Forgets what has changed so far, as etcd does when it is compacted: watches and pages from before get 410.
    pub fn compact(&self) {
        lock(&self.shared.store).compact();
    }

    /// Tells the open watches, in their stream, that their version is gone, and ends them.
    pub fn expire_watches(&self) {
        lock(&self.shared.mood).expiries += 1;
        self.shared.tell();
    }

    /// Ends the open watches in the middle.
    pub fn disconnect(&self) {
        lock(&self.shared.mood).disconnects += 1;
        self.shared.tell();
    }

    /// Sends a bookmark to each watch that takes them.
    pub fn bookmark(&self) {
        lock(&self.shared.mood).bookmarks += 1;
        self.shared.tell();
    }

    /// Tells the next `requests` to come back in a second (429).
    pub fn throttle(&self, requests: u64) {
        lock(&self.shared.mood).throttled = requests;
    }

    /// Goes away: connections end, new ones are refused.
    pub fn stop(&self) {
        let running = lock(&self.running).take();
        if let Some(runtime) = running {
            // On a thread of its own: the test may be one of another runtime, which must not wait.
            let stopped = thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(1)));
            stopped.join().expect("a runtime ends");
        }
    }

    /// Comes back at the same address, with what it had and what was put in meanwhile.
    ///
    /// # Errors
    /// When the address was taken meanwhile.
    pub fn resume(&self) -> Result<()> {
        let mut running = lock(&self.running);
        if running.is_none() {
            *running = Some(serve(&self.shared, self.address)?.0);
        }
        Ok(())
    }

    /// What was asked so far, by path without the query.
    pub fn loads(&self) -> BTreeMap<String, Load> {
        lock(&self.shared.loads).clone()
    }

    /// The sum of [`Kubernetes::loads`].
    pub fn load(&self) -> Load {
        self.loads().values().fold(Load::default(), |sum, load| Load {
            requests: sum.requests + load.requests,
            watches: sum.watches + load.watches,
            bytes: sum.bytes + load.bytes,
        })
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        if let Some(runtime) = lock(&self.running).take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Listens and answers on threads of its own.
fn serve(shared: &Arc<Shared>, address: SocketAddr) -> Result<(Runtime, SocketAddr)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let listener =
        net::TcpListener::bind(address).with_context(|| format!("{address} cannot be listened on"))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let routes = server::routes(Arc::clone(shared));
    runtime.spawn(async move { axum::serve(TcpListener::from_std(listener)?, routes).await });
    Ok((runtime, address))
}

/// A test that has panicked with the lock held has failed already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
