//! The table of calls: what its columns are, how calls become rows, and how it is opened again.

pub mod names;

pub use names::{NodeName, Names};

/// Why a table could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The part.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Parquet or Arrow refused.
    #[error("{}: {message}", path.display())]
    Format {
        /// The part.
        path: std::path::PathBuf,
        /// Why.
        message: String,
    },
}
