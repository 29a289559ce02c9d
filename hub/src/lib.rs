//! The hub: what runs once. It finds the agents, cuts windows of time out of their tapes into snapshots, dissects
//! snapshots into calls, and answers questions about them.
//!
//! Modules stand in the order in which a packet meets them; [`hub`] ties them together, [`config`] reads flags.

pub mod nodes;

pub mod cluster;

pub mod losses;

pub mod snapshots;

pub mod dissections;

pub mod calls;

pub mod jobs;

pub mod live;

pub mod descriptors;

pub mod query;

pub mod catalogue;

pub mod api;

pub mod offline;

pub mod language;

pub mod hub;

pub mod config;

use std::time::{SystemTime, UNIX_EPOCH};

use wiretape_tape::Nanos;

/// The time, as every time in the project: nanoseconds since 1970 UTC.
pub fn now() -> Nanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Nanos::try_from(since.as_nanos()).unwrap_or(Nanos::MAX)
}
