//! The hub over HTTP, against agents that serve real tapes.

mod agent;
mod hub;
mod session;

mod bad_input;
mod captures;
mod catalogue;
mod cluster;
mod documented;
mod faults;
mod flows;
mod grpc;
mod investigate;
mod live;
mod load;
mod losses;
mod lost;
mod mcp;
mod page;
mod parameters;
mod proxy;
mod questions;
mod recording;
mod restart;
mod stdio;
mod stream;
mod switches;
mod tools;
mod under_way;
