//! Kubelets and runtimes that keep containers in hierarchies of cgroup version 1, beside version 2 (systemd's "hybrid").

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use crate::common::agent::Agent;
use crate::common::places::{Version1, cgroup_id};
use crate::common::workload::Workload;
use crate::{LAYOUTS, Node, container_path, names};

use wiretape_kubernetes::objects;
use wiretape_tape::Name;

/// A process that sends until it is told to end, in a container of version 1 and a cgroup of version 2.
fn talking(version_1: &Version1, path: &str, cgroup: &Path) -> Workload {
    let container = version_1.make(path);
    let mut workload = Workload::start_in("talk 50", &[&container, cgroup], None);
    workload.said("talking");
    workload
}

/// Each layout in version 1, with a process in it, which sends. Its cgroup of version 2 is its own, and called by nothing
/// that is known.
#[test]
fn containers_of_every_runtime_and_driver_are_named_by_version_1() {
    let Some(node) = Node::new() else { return };
    let version_1 = Version1::mount(node.scene.dir.path());
    let (mut expected, mut workloads) = (BTreeMap::new(), Vec::new());
    for (number, layout) in LAYOUTS.iter().enumerate() {
        let pod = format!("cart-6d4cf56db6-{number}");
        let own = format!("task-{number}");
        let path = container_path(layout, &pod);
        workloads.push(talking(&version_1, &path, &node.scene.cgroup.child(&own)));
        let address = format!("10.1.0.{number}");
        node.kubernetes
            .put(objects::pod("shop", &pod, "node-1", &address));
        expected.insert(own, pod);
    }
    let agent = node.agent();
    let named = |agent: &Agent| -> BTreeMap<String, String> {
        let names = names(agent).into_iter();
        let pods = names.filter(|name| name.cgroup != 0 && name.container == "app");
        pods.map(|name| (name.cgroup_path, name.pod)).collect()
    };
    agent.wait_for("all their names", |agent| named(agent) == expected);
    // Who has ended was who he was.
    workloads.into_iter().for_each(Workload::finish);
    agent.settle();
    assert_eq!(named(&agent), expected);
}

/// Runtimes that leave version 2 alone leave all containers in the cgroup of version 2 that they themselves are in.
#[test]
fn a_cgroup_that_containers_share_is_nobodys_and_addresses_tell() {
    let Some(node) = Node::new() else { return };
    let version_1 = Version1::mount(node.scene.dir.path());
    let (agent, shared) = (node.agent(), node.scene.cgroup.child("containerd.service"));
    let told = |agent: &Agent| -> Vec<Name> {
        let names = names(agent).into_iter();
        names
            .filter(|name| name.cgroup == cgroup_id(&shared) && name.until.is_none())
            .collect()
    };
    let is_unit = |agent: &Agent| told(agent).iter().any(|name| name.owner == "containerd.service");
    let mut runtime = Workload::start("talk 50", &shared, None);
    runtime.said("talking");
    agent.wait_for("the unit's name", is_unit);

    let mut containers = Vec::new();
    for (pod, address) in [("cart", "10.1.0.1"), ("db", "10.1.0.2")] {
        let path = container_path("kubepods/burstable/podUID/ID", pod);
        containers.push(talking(&version_1, &path, &shared));
        node.kubernetes.put(objects::pod("shop", pod, "node-1", address));
    }
    agent.wait_for("that it is nobody's", |agent| {
        let told = told(agent);
        let words = told
            .iter()
            .map(|name| [&name.owner, &name.pod, &name.container_id, &name.process]);
        !told.is_empty() && words.flatten().all(String::is_empty)
    });
    for (pod, address) in [("cart", "10.1.0.1"), ("db", "10.1.0.2")] {
        let address: IpAddr = address.parse().expect("an address");
        agent.wait_for("its address", |agent| {
            names(agent)
                .iter()
                .any(|name| name.pod == pod && name.addresses == [address])
        });
    }

    // Once they are gone, it is the unit's again.
    containers.into_iter().for_each(Workload::finish);
    agent.wait_for("the unit's name again", is_unit);
    runtime.finish();
}
