//! The hub: snapshots of what agents recorded, dissections of snapshots, answers about dissections.

pub mod dissections;
pub mod calls;
pub mod query;
pub mod offline;
