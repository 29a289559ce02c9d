//! Who was behind a cgroup or an address, and when.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use wiretape_tape::{Event, Name, Nanos};

use super::dns::DnsNames;
use crate::cluster::CLUSTER;

/// How much later than a workload's first packet its name may begin: agents notice a new workload by its packets, and
/// re-read what they know every few seconds. Only where nobody else held the address before.
const LATE_NAME: Nanos = 30_000_000_000;

/// A name and the node whose agent told it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct NodeName {
    /// The node.
    #[serde(rename = "told_by")]
    pub node: String,
    /// The name.
    #[serde(flatten)]
    pub name: Name,
}

/// As it stands in manifests. A name's `node` is the one that it names; manifests of before names had one used the word for
/// who told it.
#[derive(Deserialize)]
struct Written {
    told_by: Option<String>,
    #[serde(flatten)]
    name: Name,
}

impl From<Written> for NodeName {
    fn from(Written { told_by, mut name }: Written) -> Self {
        let node = told_by.unwrap_or_else(|| std::mem::take(&mut name.node));
        Self { node, name }
    }
}

/// What is known of one end of a call. Empty where nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity<'n> {
    /// The node it runs on.
    pub node: &'n str,
    /// Its process.
    pub process: &'n str,
    /// Its pod.
    pub pod: &'n str,
    /// The pod's namespace, else the service's, else [`INTERNAL`] or [`PUBLIC`].
    pub namespace: &'n str,
    /// The service that its address is of, or that the pod stands behind.
    pub service: &'n str,
    /// The pod's container.
    pub container: &'n str,
    /// Kind of what made the pod or the process.
    pub owner_kind: &'n str,
    /// Name of that.
    pub owner: &'n str,
    /// Why it has no name, in the contract's words (4.3); empty if it has one, or is outside and needs none.
    pub resolution: &'static str,
    /// The pod's labels.
    pub labels: Option<&'n BTreeMap<String, String>>,
    /// The pod's annotations.
    pub annotations: Option<&'n BTreeMap<String, String>>,
}

/// Namespace of private addresses that are of no pod and no service (contract 4.3).
pub const INTERNAL: &str = "internal";

/// Namespace of all others.
pub const PUBLIC: &str = "public";

/// Its socket was recorded, but the node's agent knew no name for it.
pub const CACHE_MISS: &str = "cache_miss";

/// Its socket was recorded on no node, and nobody told whose its address is.
pub const NO_NODE_MAPPING: &str = "no_node_mapping";

/// Every name of a snapshot, to look up in.
///
/// The cgroup of a socket is looked up first, for the kernel gave it with the packet; then the address. Both at the
/// time of the call, because pods come and go and addresses are given anew. Who is neither is left unnamed: an
/// external address is not a guess.
#[derive(Debug, Default)]
pub struct Names {
    names: Vec<NodeName>,
    /// By node and cgroup, and by address: indices into `names`, by time.
    cgroups: FxHashMap<u64, Vec<usize>>,
    addresses: FxHashMap<IpAddr, Vec<usize>>,
    /// By the pod's name.
    pods: FxHashMap<String, Vec<usize>>,
    /// Services by their ports at every node.
    node_ports: FxHashMap<u16, Vec<usize>>,
    dns: DnsNames,
}

/// What an address named, at some time.
#[derive(Clone, Copy, Default)]
struct AtAddress<'n> {
    workload: Option<&'n NodeName>,
    service: Option<&'n NodeName>,
    node: Option<&'n NodeName>,
}

impl Names {
    /// Takes names in any order. Of one that was told twice, the later telling in the list stands: segments carry the
    /// names as they were when these were sealed, and have not seen their end.
    pub fn new(names: Vec<NodeName>) -> Self {
        let mut latest: FxHashMap<Told<'_>, usize> = FxHashMap::default();
        for (index, name) in names.iter().enumerate() {
            latest.insert(Told::of(name), index);
        }
        let mut keep = vec![false; names.len()];
        for index in latest.into_values() {
            keep.get_mut(index).into_iter().for_each(|keep| *keep = true);
        }
        let mut keep = keep.into_iter();
        let mut names = names;
        names.retain(|_| keep.next() == Some(true));
        names.sort_by(|a, b| {
            (a.name.since, &a.node, a.name.cgroup).cmp(&(b.name.since, &b.node, b.name.cgroup))
        });
        let mut cgroups: FxHashMap<u64, Vec<usize>> = FxHashMap::default();
        let mut addresses: FxHashMap<IpAddr, Vec<usize>> = FxHashMap::default();
        let mut pods: FxHashMap<String, Vec<usize>> = FxHashMap::default();
        let mut node_ports: FxHashMap<u16, Vec<usize>> = FxHashMap::default();
        for (index, NodeName { name, .. }) in names.iter().enumerate() {
            if name.cgroup != 0 {
                cgroups.entry(name.cgroup).or_default().push(index);
            }
            if !name.pod.is_empty() {
                pods.entry(name.pod.clone()).or_default().push(index);
            }
            if name.addresses.is_empty() && name.cgroup == 0 && !name.service.is_empty() {
                for port in &name.ports {
                    node_ports.entry(*port).or_default().push(index);
                }
            }
            for address in &name.addresses {
                addresses.entry(address.to_canonical()).or_default().push(index);
            }
        }
        Self {
            names,
            cgroups,
            addresses,
            pods,
            node_ports,
            dns: DnsNames::default(),
        }
    }

    /// All of them, by time, each once.
    pub fn all(&self) -> &[NodeName] {
        &self.names
    }

    /// The names that DNS gave to addresses. They come with the packets.
    pub fn dns(&self) -> &DnsNames {
        &self.dns
    }

    /// Who was at `place` at the time `at`. `node` and `cgroup` are those of the socket, where it was recorded (`None` and 0
    /// where it was not). The port may tell which of several services or pods of one address is meant; 0 tells nothing.
    pub fn resolve<'n>(
        &'n self,
        node: Option<&'n str>,
        cgroup: u64,
        place: SocketAddr,
        at: Nanos,
    ) -> Identity<'n> {
        let (address, port) = (place.ip(), place.port());
        let mut identity = Identity {
            node: node.unwrap_or_default(),
            ..Identity::default()
        };
        if self.names.is_empty() {
            // As of a capture that no agent recorded.
            identity.place(address, node.is_some(), false);
            return identity;
        }
        let by_cgroup = node.and_then(|node| self.by_cgroup(node, cgroup, at));
        let named = |found: &&NodeName| !found.name.pod.is_empty() || !found.name.service.is_empty();
        let there = self.by_address(address, port, at);
        // A cgroup may be known by its process alone, while the workload file names its address. An address of a node is
        // shared by all pods of the host's network there, which only their cgroups and their ports tell apart.
        let own = |found: Option<&'n NodeName>| {
            found.filter(|found| there.node.is_none() || found.name.ports.contains(&port))
        };
        let workload = by_cgroup.filter(named).or(own(there.workload)).or(by_cgroup);
        if let Some(NodeName { node: told_by, name }) = workload {
            identity.pod = &name.pod;
            identity.namespace = &name.namespace;
            identity.service = &name.service;
            identity.container = &name.container;
            identity.owner_kind = &name.owner_kind;
            identity.owner = &name.owner;
            identity.labels = Some(&name.labels);
            identity.annotations = Some(&name.annotations);
            // Only a name with a cgroup says by who tells it where it runs; an address can be named by any node.
            if name.cgroup != 0 {
                identity.process = &name.process;
                if node.is_none() {
                    identity.node = told_by;
                }
            }
            if identity.node.is_empty() {
                identity.node = &name.node;
            }
        }
        if let Some(found) = by_cgroup
            && !found.name.process.is_empty()
        {
            identity.process = &found.name.process;
        }
        let at_nodes = || there.node.and_then(|_| self.by_node_port(port, at));
        if let Some(service) = own(there.service).or_else(at_nodes) {
            if identity.service.is_empty() {
                identity.service = &service.name.service;
            }
            if identity.namespace.is_empty() {
                identity.namespace = &service.name.namespace;
            }
        }
        if let Some(host) = there.node
            && identity.node.is_empty()
        {
            identity.node = &host.name.node;
        }
        identity.place(address, node.is_some(), there.node.is_some());
        identity
    }

    /// To whom an event on the tape of `node` happened: by its cgroup and its end of a connection, or, if Kubernetes
    /// tells of a pod, by that.
    pub fn of_event<'n>(&'n self, node: &'n str, event: &Event) -> Identity<'n> {
        let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let local = event.local.unwrap_or(anywhere);
        if event.cgroup != 0 || event.local.is_some() {
            let mut who = self.resolve(Some(node), event.cgroup, local, event.at);
            // The node's agent knows the pod; services are told by addresses.
            if who.service.is_empty()
                && let Some(address) = self.address_of(who.pod, who.namespace, event.at)
            {
                who.service = self
                    .resolve(None, 0, SocketAddr::new(address, 0), event.at)
                    .service;
            }
            return who;
        }
        let address = self.address_of(&event.pod, &event.namespace, event.at);
        let who = address.map(|address| self.resolve(None, 0, SocketAddr::new(address, 0), event.at));
        who.filter(|who| who.pod == event.pod).unwrap_or_default()
    }

    /// The address that a pod had last by then.
    fn address_of(&self, pod: &str, namespace: &str, at: Nanos) -> Option<IpAddr> {
        let named = self.pods.get(pod).into_iter().flatten().rev();
        let mut named = named.filter_map(|&index| self.names.get(index)).filter(|known| {
            let name = &known.name;
            name.namespace == namespace && name.since <= at
        });
        named.find_map(|known| known.name.addresses.first().copied())
    }

    /// A cgroup's id is not given twice, so the nearest name in time is right even a little outside its own time: of
    /// those that began before, the last; else the first to come.
    fn by_cgroup(&self, node: &str, cgroup: u64, at: Nanos) -> Option<&NodeName> {
        let candidates = self.cgroups.get(&cgroup)?;
        let mut first_later = None;
        for name in candidates
            .iter()
            .rev()
            .filter_map(|&i| self.names.get(i))
            .filter(|n| n.node == node)
        {
            if name.name.since <= at {
                return Some(name);
            }
            first_later = Some(name);
        }
        first_later
    }

    /// The service that has this port at every node, the first by name of several.
    fn by_node_port(&self, port: u16, at: Nanos) -> Option<&NodeName> {
        let candidates = self.node_ports.get(&port)?;
        let names = candidates.iter().filter_map(|&index| self.names.get(index));
        let held = names.filter(|held| {
            let name = &held.name;
            name.since <= at && name.until.is_none_or(|until| at < until)
        });
        held.min_by_key(|held| (&held.name.namespace, &held.name.service))
    }

    /// Of the names that hold at that time, of each sort the best one: of workloads one that has a cgroup (its own node
    /// told it) before one that has none, what an agent told before what the hub did, one that has the port before one that
    /// has not, then the latest; of several services one that has the port, then one that tells no ports, then the first
    /// by name, for nothing says which of them was meant.
    fn by_address(&self, address: IpAddr, port: u16, at: Nanos) -> AtAddress<'_> {
        let mut found = AtAddress::default();
        let Some(candidates) = self.addresses.get(&address.to_canonical()) else {
            return found;
        };
        let mut later = AtAddress::default();
        let mut before = [false; 3];
        // The latest first.
        for name in candidates.iter().rev().filter_map(|&i| self.names.get(i)) {
            let sort = sort(&name.name);
            if name.name.since > at {
                *later.of(sort) = Some(name);
                continue;
            }
            before
                .get_mut(sort as usize)
                .into_iter()
                .for_each(|any| *any = true);
            if name.name.until.is_some_and(|until| until <= at) {
                continue;
            }
            let best = found.of(sort);
            let better = best.is_none_or(|best| match sort {
                Sort::Workload => rank(name, port) > rank(best, port),
                Sort::Service => order(name, port) < order(best, port),
                Sort::Node => false,
            });
            if better {
                *best = Some(name);
            }
        }
        for sort in [Sort::Workload, Sort::Service, Sort::Node] {
            let nobody_before = before.get(sort as usize) == Some(&false);
            let late = later.of(sort).filter(|name| name.name.since - at <= LATE_NAME);
            if nobody_before && found.of(sort).is_none() {
                *found.of(sort) = late;
            }
        }
        found
    }
}

impl<'n> AtAddress<'n> {
    fn of(&mut self, sort: Sort) -> &mut Option<&'n NodeName> {
        match sort {
            Sort::Workload => &mut self.workload,
            Sort::Service => &mut self.service,
            Sort::Node => &mut self.node,
        }
    }
}

impl Identity<'_> {
    /// Whether both were found in the same places, which is quicker to tell than that all they say is the same.
    pub fn is(&self, other: &Self) -> bool {
        let words = |who: &Self| {
            [
                who.node,
                who.process,
                who.pod,
                who.namespace,
                who.service,
                who.container,
                who.owner_kind,
                who.owner,
                who.resolution,
            ]
            .map(|word| (word.as_ptr(), word.len()))
        };
        let maps = |who: &Self| [who.labels, who.annotations].map(|map| map.map(std::ptr::from_ref));
        words(self) == words(other) && maps(self) == maps(other)
    }

    /// Says of what no pod and no service names whether it is outside, and why it has no name.
    fn place(&mut self, address: IpAddr, recorded: bool, is_node: bool) {
        let internal = is_node || recorded || is_private(address);
        if self.namespace.is_empty() {
            self.namespace = if internal { INTERNAL } else { PUBLIC };
        }
        let named = [self.pod, self.service, self.process]
            .iter()
            .any(|name| !name.is_empty());
        self.resolution = match (named || is_node, recorded) {
            (true, _) => "",
            (false, true) => CACHE_MISS,
            (false, false) if internal => NO_NODE_MAPPING,
            (false, false) => "",
        };
    }
}

/// What a name is of.
#[derive(Clone, Copy)]
enum Sort {
    /// A pod, a container, a process.
    Workload,
    /// A service alone, at its own address or at one behind it.
    Service,
    /// A node alone.
    Node,
}

fn sort(name: &Name) -> Sort {
    if name.cgroup != 0 || !name.pod.is_empty() {
        Sort::Workload
    } else if !name.service.is_empty() {
        Sort::Service
    } else if !name.node.is_empty() {
        Sort::Node
    } else {
        Sort::Workload
    }
}

/// Who is believed about a workload's address.
fn rank(name: &NodeName, port: u16) -> (bool, bool, bool) {
    let own = name.name.ports.contains(&port);
    (name.name.cgroup != 0, name.node != CLUSTER, own)
}

/// Which service of an address is meant, the least one.
fn order(name: &NodeName, port: u16) -> (u8, &str, &str) {
    let name = &name.name;
    let fits = match (name.ports.contains(&port), name.ports.is_empty()) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    };
    (fits, &name.namespace, &name.service)
}

/// By what a name is the same though it is told again.
#[derive(PartialEq, Eq, Hash)]
struct Told<'n> {
    node: &'n str,
    cgroup: u64,
    addresses: &'n [IpAddr],
    named: [&'n str; 4],
    since: Nanos,
}

impl<'n> Told<'n> {
    fn of(NodeName { node, name }: &'n NodeName) -> Self {
        let by_cgroup = name.cgroup != 0;
        Self {
            node,
            cgroup: name.cgroup,
            // A pod may get a second address.
            addresses: if by_cgroup { &[] } else { &name.addresses },
            named: if by_cgroup {
                [""; 4]
            } else {
                [&name.pod, &name.namespace, &name.service, &name.node]
            },
            since: name.since,
        }
    }
}

/// Addresses that are not routed in the Internet: RFC 1918, 6598 (shared), 3927 and 4291 (link-local), 4193 (unique local),
/// loopback, and those that mean many.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_unspecified()
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests;
