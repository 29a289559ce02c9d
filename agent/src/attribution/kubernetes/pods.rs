//! The node's pods, each in its time: whose a container is, and whose an address is since when and until when.

use std::collections::{BTreeMap, BTreeSet};

use wiretape_tape::{Name, Nanos};

use super::pod::{MAX_CONTAINERS, Pod};
use crate::attribution::cgroups::LINGER;
use crate::attribution::place::Place;

/// Pods that are kept, with those that ended a minute ago. A kubelet runs 110 unless it is told otherwise, and 500 are known
/// to work.
pub const MAX_PODS: usize = 4096;

/// Times of the API server are of whole seconds: what ended in a second did so before the next.
const SECOND: Nanos = 1_000_000_000;

/// What the API server has told, put in order with what the kernel has.
#[derive(Debug, Default)]
pub struct Pods {
    pods: BTreeMap<String, Held>,
    /// When the first container of a pod was made, by the kernel's word and what its cgroups are called by. The network is
    /// there by then, and has not been used.
    made: BTreeMap<String, Nanos>,
    /// Uids that a new list has named so far.
    listed: Option<BTreeSet<String>>,
    /// Pods for which there was no room.
    beyond: u64,
}

#[derive(Debug)]
struct Held {
    pod: Pod,
    /// Since when the addresses are its own; `None` while it has none.
    since: Option<Nanos>,
    /// Whether the kernel said so; the API server knows whole seconds.
    exact: bool,
    /// Until when.
    until: Option<Nanos>,
}

impl Pods {
    /// A list begins: what it does not name is gone.
    pub fn list_begins(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    /// A list is complete.
    pub fn list_ends(&mut self, now: Nanos) {
        let Some(listed) = self.listed.take() else { return };
        let gone: Vec<String> = self
            .pods
            .keys()
            .filter(|uid| !listed.contains(*uid))
            .cloned()
            .collect();
        for uid in gone {
            self.delete(&uid, now);
        }
    }

    /// A pod is there, or has changed.
    pub fn apply(&mut self, mut pod: Pod, now: Nanos) {
        if let Some(listed) = &mut self.listed {
            listed.insert(pod.uid.clone());
        }
        let uid = pod.uid.clone();
        if let Some(held) = self.pods.get_mut(&uid) {
            // What a restarted container sent before is the pod's as well.
            for (id, name) in &held.pod.containers {
                if pod.containers.len() < MAX_CONTAINERS {
                    pod.containers.entry(id.clone()).or_insert_with(|| name.clone());
                }
            }
            if pod.addresses.is_empty() {
                // It keeps them until it has ended.
                pod.addresses.clone_from(&held.pod.addresses);
            }
            held.pod = pod;
        } else if self.pods.len() < MAX_PODS {
            let held = Held {
                pod,
                since: None,
                exact: false,
                until: None,
            };
            self.pods.insert(uid.clone(), held);
        } else {
            self.beyond += 1;
            return;
        }
        let finished = self.pods.get(&uid).and_then(|held| held.pod.finished);
        if let Some(finished) = finished {
            self.end(
                &uid,
                if finished == 0 {
                    now
                } else {
                    now.min(finished + SECOND)
                },
            );
        }
    }

    /// A pod is gone.
    pub fn delete(&mut self, uid: &str, now: Nanos) {
        self.end(uid, now);
    }

    /// The kernel has made a cgroup for a container of a pod whose cgroups are called by `uid`.
    pub fn container_made(&mut self, uid: &str, at: Nanos) {
        if self.made.len() >= MAX_PODS
            && let Some(oldest) = self
                .made
                .iter()
                .min_by_key(|(_, at)| **at)
                .map(|(uid, _)| uid.clone())
        {
            self.made.remove(&oldest);
        }
        self.made.entry(uid.to_owned()).or_insert(at);
    }

    /// Whose a cgroup is; `None` when that is not known.
    pub fn name(&self, place: &Place) -> Option<Name> {
        let by_hash = || self.pods.values().find(|held| held.pod.cgroup_uid == place.pod);
        let by_container = || {
            self.pods
                .values()
                .find(|held| held.pod.containers.contains_key(&place.container))
        };
        let held = if place.pod.is_empty() {
            by_container().filter(|_| !place.container.is_empty())
        } else {
            self.pods.get(&place.pod).or_else(by_hash)
        }?;
        let container = held.pod.containers.get(&place.container).cloned();
        Some(Name {
            container: container.unwrap_or_default(),
            container_id: place.container.clone(),
            ..held.pod.name.clone()
        })
    }

    /// Each address with whose it is, those that changed hands with each in its time. Forgets who has ended long before `now`.
    pub fn addresses(&mut self, now: Nanos) -> Vec<Name> {
        self.begin_all(now);
        self.pods
            .retain(|_, held| held.until.is_none_or(|until| now.saturating_sub(until) <= LINGER));
        let there: BTreeSet<&str> = self
            .pods
            .values()
            .map(|held| held.pod.cgroup_uid.as_str())
            .collect();
        self.made
            .retain(|uid, at| there.contains(uid.as_str()) || now.saturating_sub(*at) <= LINGER);
        let holding = self.pods.values().filter_map(|held| Some((held, held.since?)));
        holding
            .flat_map(|(held, since)| {
                held.pod.addresses.iter().map(move |address| Name {
                    since,
                    until: held.until,
                    // One name for each: they need not pass on together.
                    addresses: vec![*address],
                    ..held.pod.name.clone()
                })
            })
            .collect()
    }

    /// Pods that are kept.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Pods for which there was no room.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Decides for those that are new, the earliest first. Not when the API server tells of them: what the kernel has told may
    /// come a moment later.
    fn begin_all(&mut self, now: Nanos) {
        let new = self.pods.iter().filter(|(_, held)| held.since.is_none());
        let made = |held: &Held| self.made.get(&held.pod.cgroup_uid).copied();
        let begun = |held: &Held| made(held).unwrap_or(held.pod.started);
        let mut new: Vec<(Nanos, String)> = new.map(|(uid, held)| (begun(held), uid.clone())).collect();
        new.sort_unstable();
        for (_, uid) in new {
            self.begin(&uid, now);
        }
    }

    /// Decides since when a pod has its addresses, once it has some.
    fn begin(&mut self, uid: &str, now: Nanos) {
        let Some(held) = self.pods.get_mut(uid) else {
            return;
        };
        let made = self.made.get(&held.pod.cgroup_uid).copied();
        if held.since.is_some() || held.pod.addresses.is_empty() {
            return;
        }
        let started = if held.pod.started == 0 {
            now
        } else {
            held.pod.started.min(now)
        };
        let (mut since, exact) = made.map_or((started, false), |made| (made, true));
        let addresses = held.pod.addresses.clone();
        for (other, before) in &mut self.pods {
            let shared = before
                .pod
                .addresses
                .iter()
                .any(|address| addresses.contains(address));
            let Some(began) = before.since.filter(|_| other != uid && shared) else {
                continue;
            };
            if before.exact && exact && began > since {
                // It is the other that came later, and was told of first.
                continue;
            }
            // Nobody has an address before the one who had it has given it away. Whose time is less sure gives way.
            if !exact && let Some(until) = before.until {
                since = since.max(until);
            }
            let until = before.until.unwrap_or(since).min(since).max(began);
            before.until = Some(until);
            since = since.max(until);
        }
        if let Some(held) = self.pods.get_mut(uid) {
            (held.since, held.exact) = (Some(since), exact);
            held.until = held.until.map(|until| until.max(since));
        }
    }

    fn end(&mut self, uid: &str, at: Nanos) {
        if let Some(held) = self.pods.get_mut(uid)
            && held.until.is_none_or(|until| until > at)
        {
            held.until = Some(at.max(held.since.unwrap_or(0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Nanos = SECOND;

    fn pod(uid: &str, address: u8, started: Nanos) -> Pod {
        Pod {
            uid: uid.to_owned(),
            cgroup_uid: uid.to_owned(),
            name: Name {
                pod: uid.to_owned(),
                ..Name::default()
            },
            addresses: vec![[10, 1, 0, address].into()],
            containers: BTreeMap::from([(format!("{uid}-id"), "app".to_owned())]),
            started,
            ..Pod::default()
        }
    }

    fn spans(pods: &mut Pods, now: Nanos) -> Vec<(String, Nanos, Option<Nanos>)> {
        let names = pods.addresses(now).into_iter();
        names.map(|name| (name.pod, name.since, name.until)).collect()
    }

    fn at(uid: &str, since: Nanos, until: Option<Nanos>) -> (String, Nanos, Option<Nanos>) {
        (uid.to_owned(), since, until)
    }

    #[test]
    fn a_reused_address_changes_hands_when_the_next_container_is_made() {
        let mut pods = Pods::default();
        pods.apply(pod("a", 7, 10 * S), 11 * S);
        // The next one was taken on in the second in which the first ended, and is told of before that end.
        pods.container_made("b", 20 * S + 600);
        pods.apply(pod("b", 7, 20 * S), 21 * S);
        pods.delete("a", 22 * S);
        let (first, second) = (at("a", 10 * S, Some(20 * S + 600)), at("b", 20 * S + 600, None));
        assert_eq!(spans(&mut pods, 22 * S), [first, second]);
    }

    #[test]
    fn an_end_told_late_gives_way_to_the_container_that_was_made() {
        let mut pods = Pods::default();
        pods.apply(pod("a", 7, 10 * S), 11 * S);
        pods.delete("a", 30 * S);
        pods.container_made("b", 20 * S + 5);
        pods.apply(pod("b", 7, 20 * S), 31 * S);
        assert_eq!(
            spans(&mut pods, 31 * S),
            [at("a", 10 * S, Some(20 * S + 5)), at("b", 20 * S + 5, None)]
        );
    }

    #[test]
    fn without_the_kernels_word_a_second_in_doubt_is_the_first_ones() {
        let mut pods = Pods::default();
        pods.apply(pod("a", 7, 10 * S), 11 * S);
        let mut ended = pod("a", 7, 10 * S);
        (ended.addresses, ended.finished) = (Vec::new(), Some(20 * S));
        pods.apply(ended, 25 * S);
        pods.apply(pod("b", 7, 20 * S), 25 * S);
        assert_eq!(
            spans(&mut pods, 25 * S),
            [at("a", 10 * S, Some(21 * S)), at("b", 21 * S, None)]
        );
    }

    #[test]
    fn a_container_is_named_by_uid_by_hash_and_by_id() {
        let mut pods = Pods::default();
        let mut static_pod = pod("b", 8, S);
        static_pod.cgroup_uid = "d4a1".to_owned();
        pods.apply(pod("a", 7, S), S);
        pods.apply(static_pod, S);
        let name = |pod: &str, container: &str| {
            let place = Place {
                pod: pod.to_owned(),
                container: container.to_owned(),
                unit: String::new(),
            };
            pods.name(&place).map(|name| (name.pod, name.container))
        };
        let of = |pod: &str, container: &str| Some((pod.to_owned(), container.to_owned()));
        assert_eq!(name("a", "a-id"), of("a", "app"));
        assert_eq!(name("a", "sandbox"), of("a", ""));
        assert_eq!(name("d4a1", "b-id"), of("b", "app"));
        assert_eq!(name("", "b-id"), of("b", "app"));
        assert_eq!((name("", ""), name("c", "a-id")), (None, None));
    }

    #[test]
    fn a_static_pod_has_its_address_since_its_container_was_made() {
        let mut pods = Pods::default();
        pods.container_made("d4a1", 5 * S + 7);
        let mut mirror = pod("b", 8, 5 * S);
        mirror.cgroup_uid = "d4a1".to_owned();
        pods.apply(mirror.clone(), 6 * S);
        assert_eq!(spans(&mut pods, 6 * S + LINGER), [at("b", 5 * S + 7, None)]);
        // Whoever deletes a mirror gets another one of the same pod.
        pods.delete("b", 90 * S);
        (mirror.uid, mirror.name.pod) = ("c".to_owned(), "c".to_owned());
        pods.apply(mirror, 91 * S);
        assert_eq!(spans(&mut pods, 91 * S).last(), Some(&at("c", 5 * S + 7, None)));
    }

    #[test]
    fn a_new_list_ends_whom_it_does_not_name_and_they_are_forgotten_in_time() {
        let mut pods = Pods::default();
        pods.apply(pod("a", 7, S), S);
        pods.apply(pod("b", 8, S), S);
        pods.list_begins();
        pods.apply(pod("b", 8, S), 5 * S);
        pods.list_ends(5 * S);
        assert_eq!(
            spans(&mut pods, 6 * S),
            [at("a", S, Some(5 * S)), at("b", S, None)]
        );
        assert_eq!(spans(&mut pods, 5 * S + LINGER + 1), [at("b", S, None)]);
        assert_eq!(pods.len(), 1);
    }

    #[test]
    fn a_restarted_container_leaves_its_id() {
        let mut pods = Pods::default();
        pods.apply(pod("a", 7, S), S);
        let mut restarted = pod("a", 7, S);
        restarted.containers = BTreeMap::from([("second".to_owned(), "app".to_owned())]);
        pods.apply(restarted, 2 * S);
        for container in ["a-id", "second"] {
            let place = Place {
                pod: "a".to_owned(),
                container: container.to_owned(),
                unit: String::new(),
            };
            assert_eq!(
                pods.name(&place).map(|name| name.container).as_deref(),
                Some("app")
            );
        }
    }

    #[test]
    fn pods_beyond_the_limit_are_counted() {
        let mut pods = Pods::default();
        for number in 0..=MAX_PODS {
            pods.apply(pod(&number.to_string(), 7, S), S);
            pods.container_made(&number.to_string(), S);
        }
        assert_eq!(
            (pods.len(), pods.beyond(), pods.made.len()),
            (MAX_PODS, 1, MAX_PODS)
        );
    }
}
