//! A cluster of any size to point an agent or a hub at: `wiretape-kubernetes --pods 5000 --kubeconfig FILE`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use wiretape_kubernetes::{Kubernetes, objects};

/// Serves the double of a Kubernetes API server until Ctrl-C, then says what was asked of it
#[derive(Debug, Parser)]
struct Args {
    /// Address to serve on
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to write a kubeconfig for it
    #[arg(long, default_value = "kubeconfig")]
    kubeconfig: PathBuf,
    /// Nodes: node-0, node-1, …
    #[arg(long, default_value_t = 50)]
    nodes: usize,
    /// Pods, dealt out to the nodes in turn
    #[arg(long, default_value_t = 5000)]
    pods: usize,
    /// Services, each for the pods of one deployment
    #[arg(long, default_value_t = 500)]
    services: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let kubernetes = Kubernetes::start_at(args.listen)?;
    fill(&kubernetes, &args);
    std::fs::write(&args.kubeconfig, kubernetes.kubeconfig())
        .with_context(|| format!("{} cannot be written", args.kubeconfig.display()))?;
    println!("serving on {}", kubernetes.address());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(tokio::signal::ctrl_c())?;
    for (path, load) in kubernetes.loads() {
        println!(
            "{path}: {} requests, {} of them watches, {} bytes",
            load.requests, load.watches, load.bytes
        );
    }
    Ok(())
}

fn fill(kubernetes: &Kubernetes, args: &Args) {
    kubernetes.put(objects::namespace("shop"));
    let (nodes, services) = (args.nodes.max(1), args.services.max(1));
    for node in 0..nodes {
        kubernetes.put(objects::node(
            &format!("node-{node}"),
            &format!("192.168.{}.{}", node / 250, node % 250 + 1),
        ));
    }
    let pods: Vec<(usize, String, String, String)> = (0..args.pods)
        .map(|pod| {
            let service = pod % services;
            let name = format!("service{service}-6d4cf56db6-p{pod:05}");
            let address = format!("10.{}.{}.{}", 1 + pod / 62_500, pod / 250 % 250, pod % 250 + 1);
            (service, name, format!("node-{}", pod % nodes), address)
        })
        .collect();
    for (_, name, node, address) in &pods {
        kubernetes.put(objects::pod("shop", name, node, address));
    }
    for service in 0..args.services {
        let name = format!("service{service}");
        kubernetes.put(objects::service(
            "shop",
            &name,
            &format!("10.96.{}.{}", service / 250, service % 250 + 1),
        ));
        let endpoints: Vec<(&str, &str, &str)> = pods
            .iter()
            .filter(|(of, ..)| *of == service)
            .map(|(_, pod, node, address)| (pod.as_str(), node.as_str(), address.as_str()))
            .collect();
        kubernetes.put(objects::endpoint_slice("shop", &name, &endpoints));
    }
}
