//! Network namespaces on one switch: each a machine of its own, as far as the traffic can tell.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use anyhow::{Context, ensure};
use nix::sched::{CloneFlags, setns};

use crate::run::Run;

/// Where `ip` has namespaces.
pub const NAMESPACES: &str = "/run/netns";

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
        namespace_path(&self.name)
    }

    /// Passes connections to `listener`, which is on this machine, on to an address within the namespace, until this
    /// process ends.
    ///
    /// # Errors
    /// The namespace is gone, or there can be no more threads.
    pub fn forward(&self, listener: TcpListener, to: SocketAddr) -> anyhow::Result<()> {
        let namespace = File::open(self.path())?;
        thread::Builder::new().name("forward".to_owned()).spawn(move || {
            // A socket stays in the namespace that it was made in: the listener outside, connections made from now
            // on inside.
            if let Err(error) = setns(namespace, CloneFlags::CLONE_NEWNET) {
                eprintln!("cannot enter a network namespace: {error}");
                return;
            }
            for outside in listener.incoming() {
                // One that fails is closed, which its client sees.
                let _ = outside.and_then(|outside| join(outside, TcpStream::connect(to)?));
            }
        })?;
        Ok(())
    }
}

/// Copies both ways, on two threads, until both ends have closed.
fn join(a: TcpStream, b: TcpStream) -> io::Result<()> {
    for (mut from, mut to) in [(a.try_clone()?, b.try_clone()?), (b, a)] {
        thread::Builder::new().spawn(move || {
            // Where copying ends by an error, the other end is told just the same.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        })?;
    }
    Ok(())
}

/// Makes a namespace and leaves it where `ip` looks for it. Not by `ip netns add`, which wants to go back to where it
/// came from: into the machine's own namespace only the machine's root may.
fn add_namespace(name: &str) -> anyhow::Result<()> {
    let path = namespace_path(name);
    fs::create_dir_all(NAMESPACES).with_context(|| format!("cannot make {NAMESPACES}"))?;
    File::create(&path).with_context(|| format!("cannot make {path}"))?;
    run("unshare", "util-linux", &[&format!("--net={path}"), "true"])
        .context("this machine allows no network namespaces")
}

fn namespace_path(name: &str) -> String {
    format!("{NAMESPACES}/{name}")
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    run("ip", "iproute2", arguments)
}

fn run(program: &str, package: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run `{program}` (package {package})"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
