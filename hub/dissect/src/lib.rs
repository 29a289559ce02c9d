//! Packets in, calls out. No I/O, no clock, no async: a pure function of its input.
//!
//! The modules stand in the order in which a packet meets them.

mod limits;

mod packet;

mod link;

mod ip;

mod fragments;

mod tunnel;

mod flow;

mod segment;

mod datagram;

mod nat;

mod masked;

mod router;

mod shard;

mod datagrams;

mod connection;

mod queue;

mod tcp;

mod recognise;

pub mod driver;

pub mod protocols;

mod join;

mod call;

mod record;

mod body;

pub mod protobuf;

mod counters;

// Always built, not behind a feature: with one, the hub would be built once for its tests and once for use.
#[doc(hidden)]
pub mod testing;

pub use body::{About, Body, BodyLimits, MessageBytes, body_of, read_body};
pub use call::{
    Call, Headers, Marks, Message, Observation, Outcome, PACKETS_PER_MESSAGE, Packets, Peer, Value,
};
pub use counters::{Counters, RouterCounters};
pub use datagram::{Datagram, Transport};
pub use flow::{End, Ends, FlowKey};
pub use limits::{BODY_BYTES, BODY_BYTES_MAX, SHARDS};
pub use packet::{Direction, Link, Nanos, Packet};
pub use protocols::dns::Resolution;
pub use protocols::grpc::{GrpcAbout, GrpcBody, GrpcMessage, grpc_body};
pub use record::{ClientBy, ConnectionRecord, SeenFrom, State, TcpRecord};
pub use router::{Routed, Router, Skip};
pub use segment::{Flags, Observer, Segment, Sender};
pub use shard::Shard;
pub use tcp::{Close, Event, RoundTrips, Sent, Stamp, Told};
