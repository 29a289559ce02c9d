//! What is known of each cgroup and address now, so that only changes go onto the tape.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use wiretape_tape::{Name, Nanos};

/// Cgroups whose names are followed. A node has a few hundred; more than this are recorded, but not named.
pub const MAX_CGROUPS: usize = 16 * 1024;

/// The names that hold now.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Cgroups that packets came from, with the time of the first packet for as long as they are not named.
    cgroups: BTreeMap<u64, Option<Nanos>>,
    /// What each owner was called last.
    names: BTreeMap<Key, Name>,
}

/// What a name is of. One of a cgroup is known by that alone; one of addresses also by who has them, and since when its
/// source says so: another may have had them before.
type Key = (u64, Vec<IpAddr>, String, String, String, Nanos);

impl Ledger {
    /// Takes in a cgroup of which a packet was seen at `at`.
    pub fn expect(&mut self, cgroup: u64, at: Nanos) {
        if self.cgroups.len() < MAX_CGROUPS {
            self.cgroups.entry(cgroup).or_insert(Some(at));
        }
    }

    /// The cgroups to ask about.
    pub fn cgroups(&self) -> Vec<u64> {
        self.cgroups.keys().copied().collect()
    }

    /// Compares a survey made at `now` with what is known, and gives the names to write: new ones, changed
    /// ones, and those that have ended, with their end. A name of the survey holds since its own `since`, unless that is 0.
    pub fn enter(&mut self, survey: Vec<Name>, now: Nanos) -> Vec<Name> {
        let mut changes = Vec::new();
        let mut present = BTreeSet::new();
        for mut name in survey {
            let key = key(&name);
            if !present.insert(key.clone()) {
                continue;
            }
            if let Some(known) = self.names.get(&key) {
                name.since = known.since;
                if name == *known {
                    continue;
                }
                // What was not known yet was so from the beginning; what ended stays as it was.
                let same = known.until.is_some() || name.until.is_some() || adds(known, &name);
                if !same {
                    // Another process of the same owner, of whom more is known by now: so it was before.
                    let before = Name {
                        process: known.process.clone(),
                        ..name.clone()
                    };
                    let before = if adds(known, &before) {
                        before
                    } else {
                        known.clone()
                    };
                    changes.push(Name {
                        until: Some(now),
                        ..before
                    });
                    name.since = now;
                }
            } else if name.since == 0 {
                // The first packet of a cgroup came before anybody looked.
                name.since = self
                    .cgroups
                    .get_mut(&name.cgroup)
                    .and_then(Option::take)
                    .unwrap_or(now);
            }
            name.until = name.until.map(|until| until.max(name.since));
            changes.push(name.clone());
            self.names.insert(key, name);
        }
        let cgroups = &mut self.cgroups;
        self.names.retain(|key, name| {
            let stays = present.contains(key);
            if !stays {
                cgroups.remove(&name.cgroup);
                if name.until.is_none() {
                    changes.push(Name {
                        until: Some(now),
                        ..name.clone()
                    });
                }
            }
            stays
        });
        changes
    }
}

fn key(name: &Name) -> Key {
    if name.cgroup == 0 {
        let (namespace, pod, service) = (name.namespace.clone(), name.pod.clone(), name.service.clone());
        (0, name.addresses.clone(), namespace, pod, service, name.since)
    } else {
        (
            name.cgroup,
            Vec::new(),
            String::new(),
            String::new(),
            String::new(),
            0,
        )
    }
}

/// Whether the new name says all that the old one did, and more.
fn adds(old: &Name, new: &Name) -> bool {
    let texts = [
        (&old.cgroup_path, &new.cgroup_path),
        (&old.process, &new.process),
        (&old.pod, &new.pod),
        (&old.namespace, &new.namespace),
        (&old.container, &new.container),
        (&old.container_id, &new.container_id),
        (&old.owner_kind, &new.owner_kind),
        (&old.owner, &new.owner),
        (&old.node, &new.node),
        (&old.service, &new.service),
    ];
    let tables = [(&old.labels, &new.labels), (&old.annotations, &new.annotations)];
    old.addresses == new.addresses
        && texts.iter().all(|(old, new)| old.is_empty() || old == new)
        && tables.iter().all(|(old, new)| old.is_empty() || old == new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(cgroup: u64, process: &str) -> Name {
        Name {
            cgroup,
            process: process.to_owned(),
            ..Name::default()
        }
    }

    fn since(since: Nanos, name: Name) -> Name {
        Name { since, ..name }
    }

    fn until(until: Nanos, name: Name) -> Name {
        Name {
            until: Some(until),
            ..name
        }
    }

    /// A ledger that has seen a packet of cgroup 7 at 100, and asked for its name at 150.
    fn surveyed(survey: Vec<Name>) -> (Ledger, Vec<Name>) {
        let mut ledger = Ledger::default();
        ledger.expect(7, 100);
        assert_eq!(ledger.cgroups(), [7]);
        let changes = ledger.enter(survey, 150);
        (ledger, changes)
    }

    #[test]
    fn a_new_cgroup_holds_since_its_first_packet() {
        let (mut ledger, changes) = surveyed(vec![named(7, "nginx")]);
        assert_eq!(changes, [since(100, named(7, "nginx"))]);
        assert_eq!(ledger.enter(vec![named(7, "nginx")], 350), []);
    }

    #[test]
    fn a_process_that_replaced_itself_ends_the_old_name() {
        let (mut ledger, _) = surveyed(vec![named(7, "sh")]);
        let changes = ledger.enter(vec![named(7, "nginx")], 200);
        let old = until(200, since(100, named(7, "sh")));
        assert_eq!(changes, [old, since(200, named(7, "nginx"))]);
    }

    #[test]
    fn a_cgroup_that_came_to_be_nobodys_ends_the_old_name() {
        let (mut ledger, _) = surveyed(vec![named(7, "containerd")]);
        let changes = ledger.enter(vec![named(7, "")], 200);
        let old = until(200, since(100, named(7, "containerd")));
        assert_eq!(changes, [old, since(200, named(7, ""))]);
    }

    #[test]
    fn a_cgroup_that_is_gone_ends_its_name() {
        let (mut ledger, _) = surveyed(vec![named(7, "curl")]);
        let gone = until(300, since(100, named(7, "curl")));
        assert_eq!(ledger.enter(vec![], 300), [gone]);
        assert_eq!(ledger.cgroups(), [0_u64; 0]);
    }

    #[test]
    fn an_unnamed_cgroup_is_asked_for_again() {
        let (mut ledger, changes) = surveyed(vec![]);
        assert_eq!(changes, []);
        assert_eq!(ledger.cgroups(), [7]);
        let named_late = ledger.enter(vec![named(7, "nginx")], 250);
        assert_eq!(named_late, [since(100, named(7, "nginx"))]);
    }

    #[test]
    fn what_becomes_known_late_held_from_the_beginning() {
        let (mut ledger, _) = surveyed(vec![named(7, "nginx")]);
        let pod = Name {
            pod: "cart-1".to_owned(),
            ..named(7, "nginx")
        };
        assert_eq!(ledger.enter(vec![pod.clone()], 200), [since(100, pod.clone())]);
        // Though the process is another one by then.
        let (mut other, _) = surveyed(vec![named(7, "sh")]);
        let before = Name {
            process: "sh".to_owned(),
            ..until(200, since(100, pod.clone()))
        };
        let changes = other.enter(vec![pod.clone()], 200);
        assert_eq!(changes, [before, since(200, pod.clone())]);
        // Also when it is over by then.
        let over = until(250, pod);
        assert_eq!(ledger.enter(vec![over.clone()], 260), [since(100, over.clone())]);
        let labelled = Name {
            labels: BTreeMap::from([("app".to_owned(), "cart".to_owned())]),
            ..over
        };
        assert_eq!(ledger.enter(vec![labelled.clone()], 300), [since(100, labelled)]);
        assert_eq!(ledger.enter(vec![], 400), []);
        assert_eq!(ledger.cgroups(), [0_u64; 0]);
    }

    #[test]
    fn an_address_that_changed_hands_is_of_both_each_in_its_time() {
        let of = |pod: &str, from, to| Name {
            since: from,
            until: to,
            pod: pod.to_owned(),
            addresses: vec![[10, 1, 0, 7].into()],
            ..Name::default()
        };
        let mut ledger = Ledger::default();
        assert_eq!(
            ledger.enter(vec![of("db-0", 50, None)], 100),
            [of("db-0", 50, None)]
        );
        // A StatefulSet gives the next one the same name too.
        let both = vec![of("db-0", 50, Some(120)), of("db-0", 120, None)];
        assert_eq!(ledger.enter(both.clone(), 130), both);
        assert_eq!(ledger.enter(vec![of("db-0", 120, None)], 200), []);
    }

    #[test]
    fn cgroups_beyond_the_limit_are_not_followed() {
        let mut ledger = Ledger::default();
        for cgroup in 0..=MAX_CGROUPS as u64 {
            ledger.expect(cgroup, 1);
        }
        assert_eq!(ledger.cgroups().len(), MAX_CGROUPS);
    }
}
