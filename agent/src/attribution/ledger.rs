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

    #[test]
    fn a_new_cgroup_holds_since_its_first_packet() {
        let mut ledger = Ledger::default();
        ledger.expect(7, 100);
        assert_eq!(ledger.cgroups(), [7]);
        assert_eq!(
            ledger.enter(vec![named(7, "nginx")], 250),
            [Name {
                since: 100,
                ..named(7, "nginx")
            }]
        );
        assert_eq!(ledger.enter(vec![named(7, "nginx")], 350), []);
    }

    #[test]
    fn a_process_that_replaced_itself_ends_the_old_name() {
        let mut ledger = Ledger::default();
        ledger.expect(7, 100);
        ledger.enter(vec![named(7, "sh")], 150);
        let changes = ledger.enter(vec![named(7, "nginx")], 200);
        assert_eq!(
            changes,
            [
                Name {
                    since: 100,
                    until: Some(200),
                    ..named(7, "sh")
                },
                Name {
                    since: 200,
                    ..named(7, "nginx")
                }
            ]
        );
    }

    #[test]
    fn a_cgroup_without_processes_keeps_its_name_until_it_is_gone() {
        let mut ledger = Ledger::default();
        ledger.expect(7, 100);
        ledger.enter(vec![named(7, "curl")], 150);
        assert_eq!(ledger.enter(vec![named(7, "")], 200), []);
        assert_eq!(
            ledger.enter(vec![], 300),
            [Name {
                since: 100,
                until: Some(300),
                ..named(7, "curl")
            }]
        );
        assert_eq!(ledger.cgroups(), [0_u64; 0]);
    }

    #[test]
    fn an_unnamed_cgroup_is_asked_for_again() {
        let mut ledger = Ledger::default();
        ledger.expect(7, 100);
        assert_eq!(ledger.enter(vec![], 150), []);
        assert_eq!(ledger.cgroups(), [7]);
        assert_eq!(
            ledger.enter(vec![named(7, "nginx")], 250),
            [Name {
                since: 100,
                ..named(7, "nginx")
            }]
        );
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
