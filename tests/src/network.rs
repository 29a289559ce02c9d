//! Network namespaces on one switch: each a machine of its own, as far as the traffic can tell.

use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::run::Run;

/// A switch that namespaces are plugged into; itself a namespace, so that nothing of it is seen from outside.
#[derive(Debug)]
pub struct Switch {
    run: String,
    namespace: String,
    ports: u32,
}

impl Switch {
    /// Makes the switch of a run.
    ///
    /// # Errors
    /// The kernel allows no network namespaces, or `ip` (iproute2) is missing.
    pub fn new(run: &Run) -> anyhow::Result<Self> {
        let namespace = format!("{}-switch", run.name());
        add_namespace(&namespace)?;
        ip(&["-n", &namespace, "link", "add", "switch", "type", "bridge"])?;
        ip(&["-n", &namespace, "link", "set", "switch", "up"])?;
        Ok(Self {
            run: run.name().to_owned(),
            namespace,
            ports: 0,
        })
    }

    /// Makes a namespace with these addresses on `eth0`, plugged into the switch. Every address there is can be reached
    /// over the wire, so addresses need not fit into one network.
    ///
    /// # Errors
    /// A name or address that is taken.
    pub fn plug(&mut self, name: &str, addresses: &[IpAddr]) -> anyhow::Result<Namespace> {
        let namespace = format!("{}-{name}", self.run);
        add_namespace(&namespace)?;
        let port = format!("port{}", self.ports);
        self.ports += 1;
        let ends = [
            "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ];
        ip(&[&["-n", &self.namespace], ends.as_slice()].concat())?;
        ip(&[
            "-n",
            &self.namespace,
            "link",
            "set",
            &port,
            "master",
            "switch",
            "up",
        ])?;
        ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        for address in addresses {
            ip(&[
                "-n",
                &namespace,
                "address",
                "add",
                &address.to_string(),
                "dev",
                "eth0",
            ])?;
        }
        ip(&["-n", &namespace, "route", "add", "default", "dev", "eth0"])?;
        Ok(Namespace { name: namespace })
    }
}

/// One machine on the switch.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Its path, for entering it.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Unplugs it: no packet goes in or out any more.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn unplug(&self) -> anyhow::Result<()> {
        ip(&["-n", &self.name, "link", "set", "eth0", "down"])
    }
}

fn add_namespace(name: &str) -> anyhow::Result<()> {
    ip(&["netns", "add", name]).context("this machine allows no network namespaces")
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("cannot run `ip` (package iproute2)")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
