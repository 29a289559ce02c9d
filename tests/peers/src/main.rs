//! Peers that are not ours: servers and clients by the `h2` and `tonic` crates. A client says on standard output what
//! became of each of its calls, one line each; that is what the recorded calls are held against.

mod grpc;
mod h2;

use std::net::SocketAddr;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// An HTTP/2 server by the h2 crate.
    H2Serve {
        /// Where it listens.
        address: SocketAddr,
    },
    /// Its client.
    H2Ask {
        /// Where the server is.
        address: SocketAddr,
    },
    /// A client that keeps one connection, and asks whenever it reads a line: before and after a recording begins.
    H2AskTwice {
        /// Where the server is.
        address: SocketAddr,
    },
    /// A gRPC server by the tonic crate.
    GrpcServe {
        /// Where it listens.
        address: SocketAddr,
    },
    /// Its client.
    GrpcAsk {
        /// Where the server is.
        address: SocketAddr,
        /// Compress what is sent.
        #[arg(long)]
        gzip: bool,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Cli::parse().role {
        Role::H2Serve { address } => h2::serve(address).await,
        Role::H2Ask { address } => h2::ask(address).await,
        Role::H2AskTwice { address } => h2::ask_twice(address).await,
        Role::GrpcServe { address } => grpc::serve(address).await,
        Role::GrpcAsk { address, gzip } => grpc::ask(address, gzip).await,
    }
}
