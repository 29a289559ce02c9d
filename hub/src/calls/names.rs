//! Who was behind a cgroup or an address, and when.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use wiretape_tape::{Name, Nanos};

/// How much later than a workload's first packet its name may begin: agents notice a new workload by its packets, and
/// re-read what they know every few seconds. Only where nobody else held the address before.
const LATE_NAME: Nanos = 30_000_000_000;

/// A name and the node whose agent told it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeName {
    /// The node.
    pub node: String,
    /// The name.
    #[serde(flatten)]
    pub name: Name,
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
    /// The pod's namespace.
    pub namespace: &'n str,
    /// The service that the pod stands behind.
    pub service: &'n str,
    /// The pod's labels.
    pub labels: Option<&'n BTreeMap<String, String>>,
}

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
}

impl Names {
    /// Takes names in any order; the same one told twice does no harm.
    pub fn new(mut names: Vec<NodeName>) -> Self {
        names.sort_by(|a, b| {
            (a.name.since, &a.node, a.name.cgroup).cmp(&(b.name.since, &b.node, b.name.cgroup))
        });
        names.dedup();
        let mut cgroups: FxHashMap<u64, Vec<usize>> = FxHashMap::default();
        let mut addresses: FxHashMap<IpAddr, Vec<usize>> = FxHashMap::default();
        for (index, NodeName { name, .. }) in names.iter().enumerate() {
            if name.cgroup != 0 {
                cgroups.entry(name.cgroup).or_default().push(index);
            }
            for address in &name.addresses {
                addresses.entry(address.to_canonical()).or_default().push(index);
            }
        }
        Self {
            names,
            cgroups,
            addresses,
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
        // A cgroup may be known by its process alone, while the workload file names its address.
        let workload = by_cgroup
            .filter(named)
            .or_else(|| self.by_address(address, at))
            .or(by_cgroup);
        let mut identity = Identity {
            node: node.unwrap_or_default(),
            ..Identity::default()
        };
        if let Some(NodeName { node: told_by, name }) = workload {
            identity.pod = &name.pod;
            identity.namespace = &name.namespace;
            identity.service = &name.service;
            identity.labels = Some(&name.labels);
            // Only a name with a cgroup says where it runs; an address can be named by any node.
            if name.cgroup != 0 {
                identity.process = &name.process;
                if node.is_none() {
                    identity.node = told_by;
                }
            }
        }
        if let Some(found) = by_cgroup
            && !found.name.process.is_empty()
        {
            identity.process = &found.name.process;
        }
        identity
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

    /// Of the names that hold at that time, one that has a cgroup (its own node told it) before one that has none,
    /// then the latest.
    fn by_address(&self, address: IpAddr, at: Nanos) -> Option<&NodeName> {
        let candidates = self.addresses.get(&address.to_canonical())?;
        let mut held = None;
        let mut first_later = None;
        let mut any_before = false;
        for name in candidates.iter().rev().filter_map(|&i| self.names.get(i)) {
            if name.name.since > at {
                first_later = Some(name);
                continue;
            }
            any_before = true;
            if name.name.until.is_none_or(|until| at < until) {
                if name.name.cgroup != 0 {
                    return Some(name);
                }
                held = held.or(Some(name));
            }
        }
        held.or(first_later.filter(|name| !any_before && name.name.since - at <= LATE_NAME))
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
}
