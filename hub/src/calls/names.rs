//! Who was behind a cgroup or an address, and when.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use wiretape_tape::{Event, Name, Nanos};

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
        for (index, NodeName { name, .. }) in names.iter().enumerate() {
            if name.cgroup != 0 {
                cgroups.entry(name.cgroup).or_default().push(index);
            }
            if !name.pod.is_empty() {
                pods.entry(name.pod.clone()).or_default().push(index);
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
        }
    }

    /// All of them, by time, each once.
    pub fn all(&self) -> &[NodeName] {
        &self.names
    }

    /// Who was at `address` at the time `at`. `node` and `cgroup` are those of the socket, where it was recorded
    /// (`None` and 0 where it was not).
    pub fn resolve<'n>(
        &'n self,
        node: Option<&'n str>,
        cgroup: u64,
        address: IpAddr,
        at: Nanos,
    ) -> Identity<'n> {
        let by_cgroup = node.and_then(|node| self.by_cgroup(node, cgroup, at));
        let named = |found: &&NodeName| !found.name.pod.is_empty() || !found.name.service.is_empty();
        let there = self.by_address(address, at);
        // A cgroup may be known by its process alone, while the workload file names its address. An address of a node is
        // shared by all pods of the host's network there, which only their cgroups tell apart.
        let own = |found: Option<&'n NodeName>| found.filter(|_| there.node.is_none());
        let workload = by_cgroup.filter(named).or(own(there.workload)).or(by_cgroup);
        let mut identity = Identity {
            node: node.unwrap_or_default(),
            ..Identity::default()
        };
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
        if let Some(service) = own(there.service) {
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
        let nobody = IpAddr::from([0, 0, 0, 0]);
        let local = event.local.map_or(nobody, |local| local.ip());
        if event.cgroup != 0 || event.local.is_some() {
            return self.resolve(Some(node), event.cgroup, local, event.at);
        }
        let named = self.pods.get(&event.pod).into_iter().flatten().rev();
        let mut named = named.filter_map(|&index| self.names.get(index));
        let same =
            |known: &&NodeName| known.name.namespace == event.namespace && known.name.since <= event.at;
        let address = named.find(same).and_then(|known| known.name.addresses.first());
        let who = address.map(|address| self.resolve(None, 0, *address, event.at));
        who.filter(|who| who.pod == event.pod).unwrap_or_default()
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

    /// Of the names that hold at that time, of each sort the best one: of workloads one that has a cgroup (its own node
    /// told it) before one that has none, what an agent told before what the hub did, then the latest; of several
    /// services the first by name, for nothing says which of them was meant.
    fn by_address(&self, address: IpAddr, at: Nanos) -> AtAddress<'_> {
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
                Sort::Workload => rank(name) > rank(best),
                Sort::Service => {
                    (&name.name.namespace, &name.name.service) < (&best.name.namespace, &best.name.service)
                }
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
fn rank(name: &NodeName) -> (bool, bool) {
    (name.name.cgroup != 0, name.node != CLUSTER)
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
mod tests {
    use super::*;

    const S: Nanos = 1_000_000_000;

    fn name(
        node: &str,
        pod: &str,
        cgroup: u64,
        address: &str,
        since: Nanos,
        until: Option<Nanos>,
    ) -> NodeName {
        NodeName {
            node: node.to_owned(),
            name: Name {
                since,
                until,
                cgroup,
                pod: pod.to_owned(),
                addresses: vec![address.parse().unwrap()],
                ..Name::default()
            },
        }
    }

    fn pod_at(names: &Names, address: &str, at: Nanos) -> String {
        names
            .resolve(None, 0, address.parse().unwrap(), at)
            .pod
            .to_owned()
    }

    #[test]
    fn address_given_to_another_pod_in_the_window() {
        let names = Names::new(vec![
            name("n1", "new", 8, "10.0.0.1", 200 * S, None),
            name("n1", "old", 7, "10.0.0.1", 100 * S, Some(190 * S)),
        ]);
        assert_eq!(pod_at(&names, "10.0.0.1", 150 * S), "old");
        assert_eq!(
            pod_at(&names, "10.0.0.1", 195 * S),
            "",
            "nobody's while it was free"
        );
        assert_eq!(pod_at(&names, "10.0.0.1", 200 * S), "new");
        assert_eq!(pod_at(&names, "10.0.0.2", 200 * S), "");
    }

    #[test]
    fn name_that_was_noticed_after_the_first_packet() {
        let names = Names::new(vec![name("n1", "web", 7, "10.0.0.1", 100 * S, None)]);
        assert_eq!(pod_at(&names, "10.0.0.1", 95 * S), "web");
        assert_eq!(pod_at(&names, "10.0.0.1", 10 * S), "");
        let by_cgroup = names.resolve(Some("n1"), 7, "10.9.9.9".parse().unwrap(), 10 * S);
        assert_eq!(by_cgroup.pod, "web");
    }

    #[test]
    fn same_cgroup_id_on_two_nodes() {
        let names = Names::new(vec![
            name("n1", "one", 7, "10.0.0.1", 0, None),
            name("n2", "two", 7, "10.0.0.2", 0, None),
        ]);
        let who = |node| names.resolve(Some(node), 7, "10.9.9.9".parse().unwrap(), S);
        assert_eq!((who("n1").pod, who("n1").node), ("one", "n1"));
        assert_eq!((who("n2").pod, who("n2").node), ("two", "n2"));
        assert_eq!(who("n3").pod, "");
    }

    #[test]
    fn cgroup_knows_the_process_and_address_the_pod() {
        let mut process = name("n1", "", 7, "10.0.0.9", 0, None);
        process.name.process = "nginx".to_owned();
        let names = Names::new(vec![process, name("n2", "web", 0, "10.0.0.1", 0, None)]);
        let who = names.resolve(Some("n1"), 7, "10.0.0.1".parse().unwrap(), S);
        assert_eq!((who.node, who.process, who.pod), ("n1", "nginx", "web"));
    }

    #[test]
    fn address_named_without_a_cgroup_says_no_node() {
        let names = Names::new(vec![name("n1", "gateway", 0, "203.0.113.7", 0, None)]);
        let who = names.resolve(None, 0, "::ffff:203.0.113.7".parse().unwrap(), S);
        assert_eq!((who.node, who.pod), ("", "gateway"));
    }

    /// As the hub tells it.
    fn told(name: Name) -> NodeName {
        NodeName {
            node: CLUSTER.to_owned(),
            name,
        }
    }

    fn service(service: &str, address: &str, since: Nanos, until: Option<Nanos>) -> NodeName {
        told(Name {
            since,
            until,
            service: service.to_owned(),
            namespace: "shop".to_owned(),
            addresses: vec![address.parse().unwrap()],
            ..Name::default()
        })
    }

    #[test]
    fn service_by_its_own_address_and_by_that_of_a_pod_behind_it() {
        let names = Names::new(vec![
            service("cart", "10.96.0.7", 0, None),
            service("cart", "10.0.0.1", 0, None),
            name("n1", "cart-1", 7, "10.0.0.1", 0, None),
        ]);
        let who = |address: &str| names.resolve(None, 0, address.parse().unwrap(), S);
        let own = who("10.96.0.7");
        assert_eq!(
            (own.service, own.pod, own.namespace, own.node),
            ("cart", "", "shop", "")
        );
        let behind = who("10.0.0.1");
        assert_eq!(
            (behind.service, behind.pod, behind.node),
            ("cart", "cart-1", "n1")
        );
        assert_eq!((own.resolution, behind.resolution), ("", ""));
    }

    #[test]
    fn pod_that_leaves_a_service_is_behind_it_no_more() {
        let names = Names::new(vec![
            service("cart", "10.0.0.1", 100 * S, Some(200 * S)),
            name("n1", "cart-1", 7, "10.0.0.1", 100 * S, None),
        ]);
        let at = |at| names.resolve(None, 0, "10.0.0.1".parse().unwrap(), at).service;
        assert_eq!((at(150 * S), at(250 * S)), ("cart", ""));
    }

    #[test]
    fn agent_is_believed_before_the_hub_about_a_pod() {
        let other = told(Name {
            since: 50 * S,
            pod: "of-the-slice".to_owned(),
            node: "n2".to_owned(),
            addresses: vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
            ..Name::default()
        });
        let names = Names::new(vec![other, name("n1", "cart-1", 7, "10.0.0.1", 0, None)]);
        assert_eq!(pod_at(&names, "10.0.0.1", 60 * S), "cart-1");
        let who = names.resolve(None, 0, "10.0.0.2".parse().unwrap(), 60 * S);
        assert_eq!((who.pod, who.node), ("of-the-slice", "n2"));
    }

    #[test]
    fn address_of_a_node_is_of_no_pod_of_its_host_network() {
        let host = told(Name {
            node: "n1".to_owned(),
            addresses: vec!["192.168.0.4".parse().unwrap()],
            ..Name::default()
        });
        let names = Names::new(vec![
            host,
            service("exporter", "192.168.0.4", 0, None),
            name("n1", "exporter-1", 9, "10.0.0.9", 0, None),
        ]);
        let address = "192.168.0.4".parse().unwrap();
        let who = names.resolve(None, 0, address, S);
        assert_eq!(
            (who.node, who.service, who.pod, who.namespace),
            ("n1", "", "", "internal")
        );
        assert_eq!(who.resolution, "");
        assert_eq!(names.resolve(Some("n1"), 9, address, S).pod, "exporter-1");
    }

    #[test]
    fn who_has_no_name_is_placed_and_says_why() {
        let names = Names::default();
        let who = |node: Option<&'static str>, address: &str| {
            let who = names.resolve(node, 0, address.parse().unwrap(), S);
            (who.namespace, who.resolution)
        };
        assert_eq!(who(None, "93.184.215.14"), ("public", ""));
        assert_eq!(who(None, "2606:2800::1"), ("public", ""));
        assert_eq!(who(None, "10.1.2.3"), ("internal", "no_node_mapping"));
        assert_eq!(who(None, "100.64.0.1"), ("internal", "no_node_mapping"));
        assert_eq!(who(None, "fe80::1"), ("internal", "no_node_mapping"));
        assert_eq!(who(Some("n1"), "10.1.2.3"), ("internal", "cache_miss"));
    }

    #[test]
    fn who_told_a_name_and_the_node_that_it_names_are_kept_apart() {
        let host = told(Name {
            node: "n1".to_owned(),
            ..Name::default()
        });
        let written = serde_json::to_string(&host).unwrap();
        assert_eq!(serde_json::from_str::<NodeName>(&written).unwrap(), host);
        let before: NodeName = serde_json::from_str(r#"{"node":"n1","since":5,"pod":"web"}"#).unwrap();
        assert_eq!((before.node.as_str(), before.name.node.as_str()), ("n1", ""));
    }

    #[test]
    fn name_told_again_with_its_end_stands() {
        let names = Names::new(vec![
            name("n1", "old", 0, "10.0.0.1", 100 * S, None),
            name("n1", "old", 0, "10.0.0.1", 100 * S, Some(200 * S)),
        ]);
        assert_eq!(names.all().len(), 1);
        assert_eq!(pod_at(&names, "10.0.0.1", 250 * S), "");
    }
}
