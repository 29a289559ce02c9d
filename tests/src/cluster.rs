//! Nodes with agents, and a hub.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;
use wiretape_kubernetes::Kubernetes;

use crate::api::Api;
use crate::binaries;
use crate::control::{self, Control, NAMESPACE};
use crate::network::{Namespace, Switch};
use crate::process::{Place, Process, Talk};
use crate::run::Run;

/// How long an agent or the hub may take until it is well.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// How often it is asked.
const GLANCE: Duration = Duration::from_millis(50);

/// How the agents record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// Kernel programs on the cgroups of a node's pods, who are told by a Kubernetes API.
    Ebpf,
    /// libpcap on the interfaces of a node, whose pods are told by a file: without cgroups there is no container to ask for.
    Libpcap,
}

/// An agent did not start, or is not well. As context of an error it tells this cause from all others.
#[derive(Clone, Debug)]
pub struct AgentNotWell {
    /// Its node.
    pub node: String,
}

impl AgentNotWell {
    fn of(node: &str) -> Self {
        Self {
            node: node.to_owned(),
        }
    }
}

impl fmt::Display for AgentNotWell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the agent of {} does not record", self.node)
    }
}

/// Where an agent listens within its node's namespace.
const AGENT_INSIDE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8897);

/// A pod that is to run on a node.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Name of its service; its own is made of it.
    pub service: String,
    /// Its own address.
    pub address: IpAddr,
    /// The how manieth it is of those that have followed each other.
    pub generation: u32,
}

impl Pod {
    /// A pod of this service.
    pub fn new(service: &str, address: impl Into<IpAddr>) -> Self {
        Self {
            service: service.to_owned(),
            address: address.into(),
            generation: 0,
        }
    }

    /// The one that takes its place, at the same address.
    pub fn successor(&self) -> Self {
        Self {
            generation: self.generation + 1,
            ..self.clone()
        }
    }

    /// Its name, as a Deployment would make it.
    pub fn name(&self) -> String {
        let hash = self.service.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        let hash = hash.wrapping_add(self.generation.wrapping_mul(0x9_e377));
        format!("{}-{:05x}", self.service, hash & 0xf_ffff)
    }

    /// Where its container has its cgroup on a node, as containerd's driver for systemd makes it.
    pub fn container(&self) -> String {
        control::container(&self.name())
    }
}

/// A node: a network namespace and a sub-tree of cgroups, with an agent that records it.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its machine.
    pub namespace: Namespace,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Its agent.
    pub agent: Agent,
}

/// A node's agent.
#[derive(Debug)]
pub struct Agent {
    /// Its process; `None` before it is started.
    pub process: Option<Process>,
    /// Where it answers.
    pub address: SocketAddr,
    place: Place,
    arguments: Vec<OsString>,
}

/// The hub.
#[derive(Debug)]
pub struct Hub {
    /// Its process; `None` before it is started.
    pub process: Option<Process>,
    /// Where it answers.
    pub address: SocketAddr,
    /// Its data folder.
    pub data: PathBuf,
    place: Place,
    arguments: Vec<OsString>,
}

/// All of it.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The hub.
    pub hub: Hub,
    /// What tells agents and hub who is who; `None` where that is told by files.
    pub control: Option<Control>,
    switch: Switch,
    // Last, because its end takes the others away.
    run: Run,
}

impl Cluster {
    /// Makes nodes with these pods, `node-1` first, and starts their agents and the hub. `hub` is the address that the
    /// hub is to listen on; `None` takes a free port.
    ///
    /// # Errors
    /// What is missing on this machine, or what an agent or the hub says.
    pub async fn start(
        pods: Vec<Vec<Pod>>,
        recording: Recording,
        hub: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        let mut cluster = Self::without_hub(pods, recording, hub).await?;
        cluster.start_hub().await?;
        Ok(cluster)
    }

    /// The same, but with the hub not yet started.
    ///
    /// # Errors
    /// What is missing on this machine, or what an agent says.
    pub async fn without_hub(
        pods: Vec<Vec<Pod>>,
        recording: Recording,
        hub: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        // What is asked for by name is looked at first, while nothing has been made yet.
        if let Some(address) = hub {
            TcpListener::bind(address).with_context(|| {
                format!("the hub cannot listen on {address}; end what does, or choose another address")
            })?;
        }
        let run = Run::begin()?;
        let mut switch = Switch::new(&run)?;
        let control = match recording {
            Recording::Ebpf => Some(Control::new(run.folder(), &pods)?),
            Recording::Libpcap => None,
        };
        let mut nodes = Vec::new();
        for (pods, number) in pods.into_iter().zip(1..) {
            nodes.push(Node::new(&run, &mut switch, number, pods, control.as_ref())?);
        }
        let hub = Hub::new(&run, hub, &nodes, control.as_ref())?;
        let mut cluster = Self {
            nodes,
            hub,
            control,
            switch,
            run,
        };
        for node in 0..cluster.nodes.len() {
            cluster.start_agent(node).await?;
        }
        Ok(cluster)
    }

    /// The hub's API.
    pub fn api(&self) -> Api {
        Api::new(self.hub.address)
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        self.run.folder()
    }

    /// Plugs in a machine that is no node: nothing of it is recorded.
    ///
    /// # Errors
    /// A name or address that is taken.
    pub fn outsider(&mut self, name: &str, address: IpAddr) -> anyhow::Result<Place> {
        let namespace = self.switch.plug(name, &[address])?;
        Place::new(&self.run, &format!("outside/{name}"), Some(namespace))
    }

    /// Where the processes of a service's pod live.
    ///
    /// # Errors
    /// No node has such a pod.
    pub fn place(&self, service: &str) -> anyhow::Result<Place> {
        for node in &self.nodes {
            if let Some(pod) = node.pods.iter().find(|pod| pod.service == service) {
                let cgroup = format!("{}/{}", node.name, pod.container());
                return Place::new(&self.run, &cgroup, Some(node.namespace.clone()));
            }
        }
        bail!("no node has a pod of {service}");
    }

    /// Puts another pod in the place of a service's, at the same address: its processes have ended, and the kubelet takes its
    /// cgroup away. The API server is told by whoever calls.
    ///
    /// # Errors
    /// No node has such a pod, or some process of it still lives.
    pub fn replace(&mut self, service: &str) -> anyhow::Result<(Pod, Pod)> {
        for node in &mut self.nodes {
            if let Some(pod) = node.pods.iter_mut().find(|pod| pod.service == service) {
                let cgroup = self.run.cgroup(&format!("{}/{}", node.name, pod.container()))?;
                if let Some(cgroup) = cgroup {
                    fs::remove_dir(&cgroup).with_context(|| format!("{} lives", pod.name()))?;
                }
                let successor = pod.successor();
                return Ok((std::mem::replace(pod, successor.clone()), successor));
            }
        }
        bail!("no node has a pod of {service}");
    }

    /// What the API server's double is to be told things by.
    ///
    /// # Errors
    /// Names are told by files.
    pub fn kubernetes(&self) -> anyhow::Result<&Kubernetes> {
        let control = self.control.as_ref();
        control
            .map(Control::api)
            .context("libpcap's nodes have no API server")
    }

    /// Starts a node's agent, at first or after it has ended.
    ///
    /// # Errors
    /// What the agent says.
    pub async fn start_agent(&mut self, node: usize) -> anyhow::Result<()> {
        let program = binaries::find("wiretape-agent")?;
        let node = self.nodes.get_mut(node).context("there is no such node")?;
        node.agent.start(&self.run, &node.name, &program).await
    }

    /// Starts the hub, at first or after it has ended.
    ///
    /// # Errors
    /// What the hub says.
    pub async fn start_hub(&mut self) -> anyhow::Result<()> {
        self.hub.start(&self.run, &binaries::find("wiretape-hub")?).await
    }
}

impl Node {
    fn new(
        run: &Run,
        switch: &mut Switch,
        number: u8,
        pods: Vec<Pod>,
        control: Option<&Control>,
    ) -> anyhow::Result<Self> {
        let name = format!("node-{number}");
        let addresses: Vec<_> = pods.iter().map(|pod| pod.address).collect();
        let namespace = switch.plug(&name, &addresses)?;
        for pod in &pods {
            run.cgroup(&format!("{name}/{}", pod.container()))?;
        }
        let agent = Agent::new(run, &name, &namespace, &pods, control)?;
        Ok(Self {
            name,
            namespace,
            pods,
            agent,
        })
    }
}

impl Agent {
    fn new(
        run: &Run,
        node: &str,
        namespace: &Namespace,
        pods: &[Pod],
        control: Option<&Control>,
    ) -> anyhow::Result<Self> {
        let mut arguments: Vec<OsString> = vec![
            "--node-name".into(),
            node.into(),
            "--tape".into(),
            run.folder().join("tapes").join(node).into(),
        ];
        let mut flag = |name: &str, value: OsString| arguments.extend([OsString::from(name), value]);
        let (address, namespace) = match control {
            // Cgroups are seen from any namespace.
            Some(control) => {
                let recorded = run.cgroup(node)?.with_context(|| {
                    let why = run.lacks_cgroups().unwrap_or_default();
                    format!("there are no cgroups to attach programs to: {why}")
                });
                let recorded = recorded.with_context(|| AgentNotWell::of(node))?;
                let address = free_address()?;
                flag("--backend", "ebpf".into());
                flag("--cgroup", recorded.into());
                flag("--kubeconfig", control.kubeconfig().into());
                flag("--listen", address.to_string().into());
                (address, None)
            }
            // Interfaces are seen from their own only.
            None => {
                let workloads = run.folder().join(format!("{node}.yaml"));
                write_workloads(&workloads, pods)?;
                flag("--workloads", workloads.into());
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
                let address = listener.local_addr()?;
                namespace.forward(listener, AGENT_INSIDE)?;
                flag("--backend", "pcap".into());
                flag("--interface", "any".into());
                flag("--listen", AGENT_INSIDE.to_string().into());
                (address, Some(namespace.clone()))
            }
        };
        Ok(Self {
            process: None,
            address,
            place: Place::new(run, &format!("agents/{node}"), namespace)?,
            arguments,
        })
    }

    async fn start(&mut self, run: &Run, node: &str, program: &Path) -> anyhow::Result<()> {
        let name = format!("agent-{node}");
        let (place, folder) = (&self.place, run.folder());
        let process = Process::start(&name, place, folder, program, &self.arguments, Talk::No)?;
        until_well(self.process.insert(process), &Api::new(self.address), "/health")
            .await
            .with_context(|| AgentNotWell::of(node))
    }
}

impl Hub {
    fn new(
        run: &Run,
        listen: Option<SocketAddr>,
        nodes: &[Node],
        control: Option<&Control>,
    ) -> anyhow::Result<Self> {
        let address = match listen {
            Some(address) if address.port() != 0 => address,
            _ => free_address()?,
        };
        let data = run.folder().join("hub");
        let mut arguments: Vec<OsString> = vec![
            "serve".into(),
            "--listen".into(),
            address.to_string().into(),
            "--data".into(),
            data.clone().into(),
        ];
        if let Some(control) = control {
            arguments.extend(["--kubeconfig".into(), control.kubeconfig().into()]);
        }
        for node in nodes {
            arguments.extend(["--node".into(), format!("http://{}", node.agent.address).into()]);
        }
        Ok(Self {
            process: None,
            address,
            data,
            place: Place::new(run, "hub", None)?,
            arguments,
        })
    }

    async fn start(&mut self, run: &Run, program: &Path) -> anyhow::Result<()> {
        let (place, folder) = (&self.place, run.folder());
        let process = Process::start("hub", place, folder, program, &self.arguments, Talk::No)?;
        until_well(self.process.insert(process), &Api::new(self.address), "/healthz").await
    }
}

async fn until_well(process: &mut Process, api: &Api, path: &str) -> anyhow::Result<()> {
    let until = Instant::now() + STARTS_WITHIN;
    loop {
        if let Some(status) = process.ended()? {
            bail!("{} ended ({status}){}", process.name(), process.log_tail());
        }
        let last = match api.get(path, &[]).await {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(answer) => format!("{} {}", answer.status, answer.body),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > until {
            bail!(
                "{} is not well after {STARTS_WITHIN:?} ({last}){}",
                process.name(),
                process.log_tail()
            );
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// An address of this machine that nobody listens on.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?)
}

/// Says whose the cgroups and addresses of a node are.
fn write_workloads(file: &Path, pods: &[Pod]) -> anyhow::Result<()> {
    let workloads: Vec<_> = pods
        .iter()
        .map(|pod| {
            json!({
                "match": { "cgroup": pod.name() },
                "pod": pod.name(),
                "namespace": NAMESPACE,
                "service": pod.service,
                "labels": { "app": pod.service },
                "addresses": [pod.address],
            })
        })
        .collect();
    // JSON is YAML.
    fs::write(file, serde_json::to_vec_pretty(&workloads)?)
        .with_context(|| format!("cannot write {}", file.display()))
}
