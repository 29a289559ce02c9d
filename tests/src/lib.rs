//! A small cluster on one machine, for tests and the demo: nodes are network namespaces, pods are cgroups in them, each
//! node has its own agent, one hub answers for all, and a double of the Kubernetes API tells both who is who. On it runs the shop; its truth is held against the hub's answers.

pub mod binaries;
pub mod rootless;
pub mod run;

pub mod network;
pub mod process;

pub mod cluster;
pub mod control;
pub mod workload;

pub mod api;
pub mod assistant;
pub mod call;
pub mod clients;
pub mod held;
pub mod investigation;
pub mod offline;
pub mod packets;
pub mod report;
