//! The tables of calls, connections, names and events: who their peers were, what their columns are, how calls and connections become
//! rows and rows become Parquet, where the packets of a call are, and how the tables are opened again.

pub mod names;

pub mod dns;

pub mod schema;

mod columns;

mod peers;

mod messages;

mod rows;

pub mod connections;

pub mod known;

pub mod events;

mod writer;

pub mod growing;

pub mod packets;

pub mod parts;

pub mod session;

use std::path::PathBuf;

pub use connections::ConnectionRows;
pub use dns::DnsNames;
pub use events::EventTable;
pub use known::{KnownName, NameRows};
pub use names::{Identity, Names, NodeName};
pub use rows::Rows;
pub use writer::{PartWriter, Written};

/// Why a table could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The part.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Arrow or Parquet refused.
    #[error("{}: {message}", path.display())]
    Format {
        /// The part.
        path: PathBuf,
        /// Why.
        message: String,
    },
}
