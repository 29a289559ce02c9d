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
    /// What each owner was called last. Names of cgroups come under their id, names of addresses under
    /// these.
    names: BTreeMap<(u64, Vec<IpAddr>), Name>,
}

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
    /// ones, and those that have ended, with their end.
    pub fn enter(&mut self, survey: Vec<Name>, now: Nanos) -> Vec<Name> {
        let mut changes = Vec::new();
        let mut present = BTreeSet::new();
        for mut name in survey {
            let key = key(&name);
            if !present.insert(key.clone()) {
                continue;
            }
            let known = self.names.get(&key);
            if let Some(known) = known {
                if name.process.is_empty() {
                    // Its processes have exited. What is still sent in their name is theirs.
                    name.process.clone_from(&known.process);
                }
                name.since = known.since;
                if name == *known {
                    continue;
                }
                changes.push(Name {
                    until: Some(now),
                    ..known.clone()
                });
                name.since = now;
            } else {
                // The first packet of a cgroup came before anybody looked.
                name.since = self
                    .cgroups
                    .get_mut(&name.cgroup)
                    .and_then(Option::take)
                    .unwrap_or(now);
            }
            changes.push(name.clone());
            self.names.insert(key, name);
        }
        let cgroups = &mut self.cgroups;
        self.names.retain(|key, name| {
            let stays = present.contains(key);
            if !stays {
                cgroups.remove(&name.cgroup);
                changes.push(Name {
                    until: Some(now),
                    ..name.clone()
                });
            }
            stays
        });
        changes
    }
}

fn key(name: &Name) -> (u64, Vec<IpAddr>) {
    (
        name.cgroup,
        if name.cgroup == 0 {
            name.addresses.clone()
        } else {
            Vec::new()
        },
    )
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
    fn a_cgroup_without_processes_keeps_its_name_until_it_is_gone() {
        let (mut ledger, _) = surveyed(vec![named(7, "curl")]);
        assert_eq!(ledger.enter(vec![named(7, "")], 200), []);
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
    fn cgroups_beyond_the_limit_are_not_followed() {
        let mut ledger = Ledger::default();
        for cgroup in 0..=MAX_CGROUPS as u64 {
            ledger.expect(cgroup, 1);
        }
        assert_eq!(ledger.cgroups().len(), MAX_CGROUPS);
    }
}
