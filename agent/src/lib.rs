//! The agent: records every packet of a node's sockets onto the node's tape, and serves cuts of the tape to
//! the hub.
//!
//! In the order of a packet: programs in the [`kernel`] record it by [`choice`], a [`capture`] hands it over, [`attribution`] learns whose it is, [`events`] happen beside it, the
//! [`recorder`] puts it onto the tape, and the [`server`] gives the tape out.

pub mod config;

pub mod own_cgroup;

pub mod clocks;

pub mod kernel;

pub mod choice;

pub mod capture;

pub mod attribution;

pub mod events;

pub mod recorder;

pub mod drain;

pub mod keeper;

pub mod status;

pub mod health;

pub mod metrics;

pub mod stream;

pub mod server;

pub mod doctor;
