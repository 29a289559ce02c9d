//! Who was who, and when: the names that a tape carries.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{Name, Nanos};

/// Most names a table holds, in bytes of their JSON: some ten thousand pods. They stand in one block of the index.
pub const NAMES_BYTES: usize = 4 << 20;

/// A table of names, each once, with the time that it held.
///
/// A name is known by its cgroup (where it has none, by its addresses and what it names: a pod, a node, or which
/// service) and by `since`: put in again, the later one stands. A later `since` of the same ends the one before.
#[derive(Clone, Debug)]
pub struct Names {
    table: BTreeMap<Key, Held>,
    bytes: usize,
    /// Most of them.
    room: usize,
    refused: u64,
}

impl Default for Names {
    fn default() -> Self {
        Self::with_room(NAMES_BYTES)
    }
}

impl Names {
    /// A table of at most `room` bytes of JSON.
    pub fn with_room(room: usize) -> Self {
        Self {
            table: BTreeMap::new(),
            bytes: 0,
            room,
            refused: 0,
        }
    }

    /// Puts a name in. When the table is full, names that have ended make room, the earliest first; `false` says that
    /// there was no room and the name was left out (and counted). One that is in can always be ended: that makes room.
    pub fn insert(&mut self, name: Name) -> bool {
        let key = Key::of(&name);
        let mut name = name;
        if name.until.is_none() {
            name.until = self.next_since(&key);
        }
        let bytes = json_bytes(&name);
        let earlier = self.remove(&key);
        while self.bytes + bytes > self.room {
            let ended = self
                .table
                .iter()
                .filter_map(|(key, held)| Some((held.name.until?, key)));
            let Some(key) = ended.min_by_key(|(until, _)| *until).map(|(_, key)| key.clone()) else {
                return self.keep_earlier(key, earlier, name.until);
            };
            self.remove(&key);
        }
        self.end_previous(&key);
        self.bytes += bytes;
        self.table.insert(key, Held { name, bytes });
        true
    }

    /// All names, in order of cgroup, addresses and time.
    pub fn iter(&self) -> impl Iterator<Item = &Name> {
        self.table.values().map(|held| &held.name)
    }

    /// Those that held at some time in `start..end`.
    pub fn within(&self, start: Nanos, end: Nanos) -> impl Iterator<Item = &Name> {
        self.iter()
            .filter(move |name| name.since < end && name.until.is_none_or(|until| until > start))
    }

    /// Forgets the names that ended before `oldest`: no packet that is left needs them.
    pub fn forget_before(&mut self, oldest: Nanos) {
        self.table
            .retain(|_, held| held.name.until.is_none_or(|until| until > oldest));
        self.bytes = self.table.values().map(|held| held.bytes).sum();
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many names found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes all names out.
    pub(crate) fn take(&mut self) -> Vec<Name> {
        self.bytes = 0;
        std::mem::take(&mut self.table)
            .into_values()
            .map(|held| held.name)
            .collect()
    }

    /// Ends at `at` every name that has no end yet: whoever knew of them is gone, and cannot say.
    pub(crate) fn end_all(&mut self, at: Nanos) {
        for held in self.table.values_mut() {
            if held.name.until.is_none() {
                held.name.until = Some(at.max(held.name.since));
                held.measure();
            }
        }
        self.bytes = self.table.values().map(|held| held.bytes).sum();
    }

    /// There is no room for what would stand in place of an earlier name: that stays, and ends when it has to.
    fn keep_earlier(&mut self, key: Key, earlier: Option<Held>, until: Option<Nanos>) -> bool {
        let ends = earlier.is_some() && until.is_some();
        if let Some(mut held) = earlier {
            if until.is_some() {
                held.name.until = until;
                held.measure();
            }
            self.bytes += held.bytes;
            self.table.insert(key, held);
        }
        self.refused += u64::from(!ends);
        ends
    }

    fn remove(&mut self, key: &Key) -> Option<Held> {
        let held = self.table.remove(key)?;
        self.bytes -= held.bytes;
        Some(held)
    }

    fn next_since(&self, key: &Key) -> Option<Nanos> {
        let after = (std::ops::Bound::Excluded(key), std::ops::Bound::Unbounded);
        let (next, _) = self.table.range(after).next()?;
        next.same_owner(key).then_some(next.since)
    }

    fn end_previous(&mut self, key: &Key) {
        let Some((previous, held)) = self.table.range_mut(..key).next_back() else {
            return;
        };
        if previous.same_owner(key) && held.name.until.is_none() {
            let before = held.bytes;
            held.name.until = Some(key.since);
            held.measure();
            self.bytes = self.bytes - before + held.bytes;
        }
    }
}

#[derive(Clone, Debug)]
struct Held {
    name: Name,
    /// Of its JSON.
    bytes: usize,
}

impl Held {
    fn measure(&mut self) {
        self.bytes = json_bytes(&self.name);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    cgroup: u64,
    /// Only where there is no cgroup.
    addresses: Vec<IpAddr>,
    of: Named,
    since: Nanos,
}

/// What a name by addresses alone is of: a pod, the services that it stands behind, and the node whose address it shares
/// are named beside each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    Workload,
    Service { namespace: String, service: String },
    Node,
    Namespace(String),
}

impl Named {
    fn by(name: &Name) -> Self {
        match (
            name.cgroup,
            name.pod.as_str(),
            name.service.as_str(),
            name.node.as_str(),
        ) {
            (0, "", "", node) if !node.is_empty() => Self::Node,
            (0, "", service, _) if !service.is_empty() => Self::Service {
                namespace: name.namespace.clone(),
                service: service.to_owned(),
            },
            (0, "", "", "") if name.addresses.is_empty() => Self::Namespace(name.namespace.clone()),
            _ => Self::Workload,
        }
    }
}

impl Key {
    fn of(name: &Name) -> Self {
        let addresses = if name.cgroup == 0 {
            name.addresses.clone()
        } else {
            Vec::new()
        };
        Self {
            cgroup: name.cgroup,
            addresses,
            of: Named::by(name),
            since: name.since,
        }
    }

    fn same_owner(&self, other: &Self) -> bool {
        (self.cgroup, &self.addresses, &self.of) == (other.cgroup, &other.addresses, &other.of)
    }
}

/// With the comma that parts it from the next one. A name that cannot be written has no room.
fn json_bytes(name: &Name) -> usize {
    serde_json::to_vec(name).map_or(NAMES_BYTES + 1, |json| json.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_named_beside_each_other() {
        let namespace = |name: &str, since| Name {
            since,
            namespace: name.to_owned(),
            ..Name::default()
        };
        let mut names = Names::default();
        names.insert(namespace("shop", 5));
        names.insert(namespace("bank", 7));
        assert!(names.iter().all(|name| name.until.is_none()));
        names.insert(namespace("shop", 9));
        assert_eq!(names.iter().filter(|name| name.until == Some(9)).count(), 1);
    }

    fn name(cgroup: u64, since: Nanos, until: Option<Nanos>) -> Name {
        Name {
            cgroup,
            since,
            until,
            pod: "pod".repeat(10),
            ..Name::default()
        }
    }

    #[test]
    fn full_table_lets_go_of_what_ended_first() {
        let room = 3 * json_bytes(&name(1, 1, Some(10)));
        let mut names = Names::with_room(room);
        for (cgroup, until) in [(1, 30), (2, 10), (3, 20)] {
            assert!(names.insert(name(cgroup, 1, Some(until))));
        }
        assert!(names.insert(name(4, 1, None)));
        assert_eq!(
            names.iter().map(|name| name.cgroup).collect::<Vec<_>>(),
            [1, 3, 4]
        );
        assert!(names.insert(name(5, 1, None)) && names.insert(name(6, 1, None)));
        // All that are left hold.
        assert!(!names.insert(name(7, 1, None)));
        assert_eq!((names.len(), names.refused()), (3, 1));
        assert!(names.bytes <= room);
        // Those that are in can still be ended.
        assert!(names.insert(name(6, 1, None)));
        names.forget_before(Nanos::MAX);
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn a_name_in_a_full_table_can_be_ended_and_one_that_would_grow_stays_as_it_was() {
        let mut names = Names::with_room(2 * json_bytes(&name(1, 1, None)));
        assert!(names.insert(name(1, 1, None)) && names.insert(name(2, 1, None)));
        let grown = Name {
            process: "a long one".repeat(10),
            ..name(1, 1, None)
        };
        assert!(!names.insert(grown));
        assert_eq!((names.len(), names.refused()), (2, 1));
        assert!(names.insert(name(1, 1, Some(9))));
        let untils: Vec<_> = names.iter().map(|name| (name.cgroup, name.until)).collect();
        assert_eq!((untils, names.refused()), (vec![(1, Some(9)), (2, None)], 1));
        // And makes room for the next.
        assert!(names.insert(name(3, 9, None)));
        assert_eq!(names.iter().map(|name| name.cgroup).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn later_and_earlier_names_of_one_owner_end_at_each_other() {
        let mut names = Names::default();
        for since in [20, 10, 30] {
            names.insert(name(1, since, None));
        }
        names.insert(name(2, 5, None));
        let spans: Vec<_> = names
            .iter()
            .map(|name| (name.cgroup, name.since, name.until))
            .collect();
        assert_eq!(
            spans,
            [(1, 10, Some(20)), (1, 20, Some(30)), (1, 30, None), (2, 5, None)]
        );
        let within = |start, end| {
            names
                .within(start, end)
                .map(|name| name.since)
                .collect::<Vec<_>>()
        };
        assert_eq!(within(0, 10), [5]);
        assert_eq!(within(20, 21), [20, 5]);
        assert_eq!(within(30, 40), [30, 5]);
    }

    #[test]
    fn without_a_cgroup_the_addresses_tell_names_apart() {
        let mut names = Names::default();
        let at = |address: [u8; 4], since| Name {
            addresses: vec![address.into()],
            ..name(0, since, None)
        };
        names.insert(at([10, 0, 0, 1], 1));
        names.insert(at([10, 0, 0, 2], 2));
        names.insert(at([10, 0, 0, 1], 3));
        let untils: Vec<_> = names.iter().map(|name| name.until).collect();
        assert_eq!(untils, [Some(3), None, None]);
    }

    #[test]
    fn pod_services_and_node_are_named_beside_each_other_at_one_address() {
        let at = |since, pod: &str, service: &str, node: &str| Name {
            addresses: vec![[10, 0, 0, 1].into()],
            since,
            pod: pod.to_owned(),
            service: service.to_owned(),
            node: node.to_owned(),
            ..Name::default()
        };
        let mut names = Names::default();
        names.insert(at(1, "cart-1", "", "node-1"));
        names.insert(at(2, "", "cart", ""));
        names.insert(at(3, "", "cart-canary", ""));
        names.insert(at(4, "", "", "node-1"));
        names.insert(at(5, "cart-2", "", "node-1"));
        let ended: Vec<_> = names.iter().filter(|name| name.until.is_some()).collect();
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].pod.as_str(), ended[0].until), ("cart-1", Some(5)));
    }
}
