//! All that tells names, in the order in which it counts: the file of workloads, Kubernetes, systemd, the process.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use wiretape_tape::{Name, Nanos};

use super::cgroups::{Cgroups, Found};
use super::kubernetes::Kubernetes;
use super::place::Place;
use super::workloads::Workloads;

/// How systemd's units stand among the kinds of owners.
const UNIT: &str = "Unit";

/// The sources of names.
#[derive(Debug)]
pub struct Survey {
    /// `None` where packets come without cgroups.
    pub cgroups: Option<Cgroups>,
    /// The file.
    pub workloads: Workloads,
    /// `None` where there is no Kubernetes.
    pub kubernetes: Option<Kubernetes>,
}

impl Survey {
    /// Says who each of `cgroups` is at `now`, and whose the addresses are. What a source does not date has `since` 0. A cgroup
    /// of which nothing is known is left out.
    pub fn names(&mut self, cgroups: &[u64], now: Nanos) -> Vec<Name> {
        let found = self
            .cgroups
            .as_mut()
            .map(|known| known.find(cgroups, now))
            .unwrap_or_default();
        let of_file = self.workloads.addresses();
        // Known from the outset, whether or not a packet of their cgroup is ever seen: they are the peers of others.
        let taken: BTreeSet<IpAddr> = of_file.iter().flat_map(|name| name.addresses.clone()).collect();
        let of_pods = self
            .kubernetes
            .as_ref()
            .map(|kubernetes| kubernetes.with(|pods| pods.addresses(now)))
            .unwrap_or_default();
        let of_pods = of_pods
            .into_iter()
            .filter(|name| !name.addresses.iter().any(|address| taken.contains(address)));
        let of_cgroups = found.into_iter().map(|(id, found)| self.name(id, found));
        of_cgroups.chain(of_file).chain(of_pods).collect()
    }

    /// The pod of a cgroup, as far as is known without looking.
    pub fn pod(&self, cgroup: u64) -> Option<Name> {
        let place = self.cgroups.as_ref()?.known(cgroup)?;
        self.of_kubernetes(place)
    }

    /// The kernel has made a cgroup.
    pub fn made(&mut self, cgroup: u64, path: &str, at: Nanos) {
        let Some(place) = self.cgroups.as_mut().and_then(|known| known.made(cgroup, path)) else {
            return;
        };
        if let Some(kubernetes) = &self.kubernetes
            && !place.pod.is_empty()
            && !place.container.is_empty()
        {
            kubernetes.with(|pods| pods.container_made(&place.pod, at));
        }
    }

    /// The kernel has started a process.
    pub fn started(&mut self, cgroup: u64, process: &str) {
        if let Some(known) = &mut self.cgroups {
            known.started(cgroup, process);
        }
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// When that cannot be read or is wrong; then what was known before stands.
    pub fn reload(&mut self) -> Result<()> {
        self.workloads.reload()
    }

    fn name(&self, id: u64, found: Found) -> Name {
        let name = self
            .workloads
            .name(&found)
            .or_else(|| self.of_kubernetes(&found.place))
            .unwrap_or_else(|| by_place(&found.place));
        Name {
            cgroup: id,
            cgroup_path: found.path,
            process: found.process,
            until: found.gone,
            ..name
        }
    }

    fn of_kubernetes(&self, place: &Place) -> Option<Name> {
        let kubernetes = self.kubernetes.as_ref().filter(|_| place.is_contained())?;
        kubernetes.with(|pods| pods.name(place))
    }
}

fn by_place(place: &Place) -> Name {
    let owner_kind = if place.unit.is_empty() { "" } else { UNIT };
    Name {
        container_id: place.container.clone(),
        owner_kind: owner_kind.to_owned(),
        owner: place.unit.clone(),
        ..Name::default()
    }
}
