//! Which names the cluster tells now, and what changes when an object comes, changes or goes. Pure: names in, names to be
//! written out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use wiretape_tape::{Name, Nanos};

use super::status::Kind;

/// Most names that are held at a time: some 20 MB. A cluster of 5,000 pods behind 500 services has about 11,000.
pub(super) const MAX_NAMES: usize = 60_000;

/// The names that hold now.
#[derive(Debug)]
pub(super) struct Directory {
    /// By what they name.
    names: HashMap<Of, Held>,
    /// The names of each object.
    objects: BTreeMap<(Kind, String), BTreeSet<Of>>,
    /// What the tape told when it was opened, until it is known whether it still holds.
    before: HashMap<Of, Name>,
    /// Objects met in the listing under way, by kind.
    listing: BTreeMap<Kind, BTreeSet<String>>,
    /// Kinds of which all objects have been told once.
    complete: BTreeSet<Kind>,
    limit: usize,
    refused: u64,
}

/// What a name names, whenever: the addresses and what is at them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Of {
    addresses: Vec<IpAddr>,
    namespace: String,
    pod: String,
    service: String,
    node: String,
}

/// A name that holds, and how many objects tell it: an endpoint moves between the slices of its service.
#[derive(Debug)]
struct Held {
    name: Name,
    told_by: usize,
}

impl Directory {
    /// Knows what an earlier run has left on the tape.
    pub(super) fn new(before: Vec<Name>) -> Self {
        Self::with_limit(before, MAX_NAMES)
    }

    fn with_limit(before: Vec<Name>, limit: usize) -> Self {
        let mut latest: HashMap<Of, Name> = HashMap::new();
        for name in before {
            let of = Of::name(&name);
            if latest.get(&of).is_none_or(|known| known.since <= name.since) {
                latest.insert(of, name);
            }
        }
        Self {
            names: HashMap::new(),
            objects: BTreeMap::new(),
            before: latest,
            listing: BTreeMap::new(),
            complete: BTreeSet::new(),
            limit,
            refused: 0,
        }
    }

    /// An object is there, and tells these names: gives those that begin or end by it.
    ///
    /// `since` of a name is from when on it is known to hold, 0 if that is not known.
    pub(super) fn apply(&mut self, kind: Kind, object: &str, names: Vec<Name>, now: Nanos) -> Vec<Name> {
        if let Some(listing) = self.listing.get_mut(&kind) {
            listing.insert(object.to_owned());
        }
        let id = (kind, object.to_owned());
        let old = self.objects.remove(&id).unwrap_or_default();
        let mut current = BTreeSet::new();
        let mut changes = Vec::new();
        for name in names {
            let of = Of::name(&name);
            if !current.insert(of.clone()) {
                continue;
            }
            if old.contains(&of) {
                changes.extend(self.retold(&of, name));
                continue;
            }
            if let Some(held) = self.names.get_mut(&of) {
                held.told_by += 1;
                continue;
            }
            if self.names.len() >= self.limit {
                self.refused += 1;
                current.remove(&of);
                continue;
            }
            let name = self.begun(&of, name, now);
            changes.push(name.clone());
            self.names.insert(of, Held { name, told_by: 1 });
        }
        for gone in old.difference(&current) {
            changes.extend(self.let_go(gone, now));
        }
        if !current.is_empty() {
            self.objects.insert(id, current);
        }
        changes
    }

    /// A name holds on, but more is said of it, or other things: those stand from its begin on.
    fn retold(&mut self, of: &Of, name: Name) -> Option<Name> {
        let held = self.names.get_mut(of)?;
        if (&held.name.ports, &held.name.labels) == (&name.ports, &name.labels) {
            return None;
        }
        (held.name.ports, held.name.labels) = (name.ports, name.labels);
        Some(held.name.clone())
    }

    /// An object is gone.
    pub(super) fn gone(&mut self, kind: Kind, object: &str, now: Nanos) -> Vec<Name> {
        self.apply(kind, object, Vec::new(), now)
    }

    /// All objects of a kind are told anew from here on.
    pub(super) fn listing(&mut self, kind: Kind) {
        self.listing.insert(kind, BTreeSet::new());
    }

    /// All have been told: the others are gone, since some time that nobody saw.
    pub(super) fn listed(&mut self, kind: Kind, now: Nanos) -> Vec<Name> {
        let Some(met) = self.listing.remove(&kind) else {
            return Vec::new();
        };
        let gone: Vec<String> = self
            .objects
            .keys()
            .filter(|(of, object)| *of == kind && !met.contains(object))
            .map(|(_, object)| object.clone())
            .collect();
        let mut changes: Vec<Name> = gone
            .iter()
            .flat_map(|object| self.gone(kind, object, now))
            .collect();
        self.complete.insert(kind);
        // What the earlier run knew, and nobody who could has told again.
        let (complete, names) = (&self.complete, &self.names);
        let ended = self.before.extract_if(|of, _| {
            of.tellers().iter().all(|kind| complete.contains(kind)) && !names.contains_key(of)
        });
        let ended = ended.map(|(_, name)| name).filter(|name| name.until.is_none());
        changes.extend(ended.map(|name| Name {
            until: Some(now.max(name.since)),
            ..name
        }));
        changes
    }

    /// How many names hold.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// How many found no room.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// A name that begins to hold, or goes on after a restart: if it is known to hold since before the earlier run's
    /// last word, it has held throughout.
    fn begun(&mut self, of: &Of, name: Name, now: Nanos) -> Name {
        let since = if name.since == 0 { now } else { name.since.min(now) };
        let before = self.before.remove(of);
        let goes_on = before.filter(|before| before.until.is_none_or(|until| since <= until));
        let since = goes_on.map_or(since, |before| before.since.min(since));
        Name { since, ..name }
    }

    fn let_go(&mut self, of: &Of, now: Nanos) -> Option<Name> {
        let held = self.names.get_mut(of)?;
        held.told_by -= 1;
        if held.told_by > 0 {
            return None;
        }
        let held = self.names.remove(of)?;
        let until = Some(now.max(held.name.since));
        Some(Name { until, ..held.name })
    }
}

impl Of {
    fn name(name: &Name) -> Self {
        Self {
            addresses: name.addresses.clone(),
            namespace: name.namespace.clone(),
            pod: name.pod.clone(),
            service: name.service.clone(),
            node: name.node.clone(),
        }
    }

    /// Objects of which kinds could tell it. A service's address may be its own or an endpoint's.
    fn tellers(&self) -> &'static [Kind] {
        match (self.pod.is_empty(), self.service.is_empty()) {
            (false, _) => &[Kind::Endpoints],
            (true, false) => &[Kind::Services, Kind::Endpoints],
            (true, true) if self.node.is_empty() => &[Kind::Namespaces],
            (true, true) => &[Kind::Nodes],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(service: &str, address: &str, since: Nanos) -> Name {
        Name {
            since,
            service: service.to_owned(),
            addresses: vec![address.parse().unwrap()],
            ..Name::default()
        }
    }

    fn spans(names: &[Name]) -> Vec<(Nanos, Option<Nanos>)> {
        names.iter().map(|name| (name.since, name.until)).collect()
    }

    #[test]
    fn endpoint_comes_and_goes() {
        let mut directory = Directory::new(Vec::new());
        let begun = directory.apply(Kind::Endpoints, "cart-1", vec![at("cart", "10.0.0.1", 0)], 100);
        assert_eq!(spans(&begun), [(100, None)]);
        let again = directory.apply(Kind::Endpoints, "cart-1", vec![at("cart", "10.0.0.1", 0)], 150);
        assert_eq!(again, []);
        let ended = directory.apply(Kind::Endpoints, "cart-1", vec![at("cart", "10.0.0.2", 190)], 200);
        assert_eq!(spans(&ended), [(190, None), (100, Some(200))]);
        assert_eq!(
            spans(&directory.gone(Kind::Endpoints, "cart-1", 300)),
            [(190, Some(300))]
        );
        assert_eq!(directory.len(), 0);
    }

    #[test]
    fn service_that_gets_another_port_is_the_same() {
        let mut directory = Directory::new(Vec::new());
        let with = |ports: &[u16]| Name {
            ports: ports.to_vec(),
            ..at("cart", "10.9.0.1", 50)
        };
        directory.apply(Kind::Services, "shop/cart", vec![with(&[80])], 100);
        let changed = directory.apply(Kind::Services, "shop/cart", vec![with(&[80, 443])], 200);
        assert_eq!(changed, [with(&[80, 443])]);
    }

    #[test]
    fn endpoint_that_moves_between_slices_holds_on() {
        let mut directory = Directory::new(Vec::new());
        let name = || vec![at("cart", "10.0.0.1", 0)];
        directory.apply(Kind::Endpoints, "cart-1", name(), 100);
        assert_eq!(directory.apply(Kind::Endpoints, "cart-2", name(), 110), []);
        assert_eq!(directory.gone(Kind::Endpoints, "cart-1", 120), []);
        assert_eq!(
            spans(&directory.gone(Kind::Endpoints, "cart-2", 130)),
            [(100, Some(130))]
        );
    }

    #[test]
    fn object_that_went_while_nobody_watched_ends_with_the_next_listing() {
        let mut directory = Directory::new(Vec::new());
        directory.apply(Kind::Services, "shop/cart", vec![at("cart", "10.9.0.1", 5)], 100);
        directory.apply(Kind::Services, "shop/pay", vec![at("pay", "10.9.0.2", 6)], 100);
        directory.listing(Kind::Services);
        directory.apply(Kind::Services, "shop/pay", vec![at("pay", "10.9.0.2", 6)], 200);
        assert_eq!(spans(&directory.listed(Kind::Services, 210)), [(5, Some(210))]);
        assert_eq!(directory.len(), 1);
    }

    #[test]
    fn name_goes_on_over_a_restart_if_its_object_is_older() {
        let before = |until| {
            vec![Name {
                until,
                ..at("cart", "10.0.0.1", 100)
            }]
        };
        let begun = |until, since| {
            let mut directory = Directory::new(before(until));
            spans(&directory.apply(
                Kind::Endpoints,
                "cart-1",
                vec![at("cart", "10.0.0.1", since)],
                900,
            ))
        };
        // The slice has not changed since 150; the tape ended at 200.
        assert_eq!(begun(Some(200), 150), [(100, None)]);
        assert_eq!(begun(None, 150), [(100, None)]);
        // It has changed while nobody watched: it may have been another's in between.
        assert_eq!(begun(Some(200), 500), [(500, None)]);
        assert_eq!(begun(Some(200), 0), [(900, None)]);
    }

    #[test]
    fn pod_that_is_gone_after_a_restart_has_ended() {
        let pod = Name {
            pod: "old".to_owned(),
            ..at("", "10.0.0.1", 100)
        };
        let mut directory = Directory::new(vec![pod]);
        directory.listing(Kind::Endpoints);
        assert_eq!(spans(&directory.listed(Kind::Endpoints, 300)), [(100, Some(300))]);
        assert_eq!(directory.listed(Kind::Endpoints, 400), []);
    }

    #[test]
    fn full_directory_refuses_and_counts() {
        let mut directory = Directory::with_limit(Vec::new(), 1);
        let names = vec![at("cart", "10.0.0.1", 0), at("cart", "10.0.0.2", 0)];
        assert_eq!(
            directory
                .apply(Kind::Endpoints, "cart-1", names.clone(), 100)
                .len(),
            1
        );
        assert_eq!((directory.len(), directory.refused()), (1, 1));
        // It is told when there is room.
        directory.apply(Kind::Endpoints, "cart-1", Vec::new(), 110);
        let later = directory.apply(
            Kind::Endpoints,
            "cart-2",
            names.into_iter().skip(1).collect(),
            120,
        );
        assert_eq!(spans(&later), [(120, None)]);
    }
}
