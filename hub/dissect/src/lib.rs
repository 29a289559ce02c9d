//! Packets in, calls out. No I/O, no clock, no async: a pure function of its input.

mod call;
mod packet;

pub use call::{Call, Headers, Marks, Message, Observation, Outcome, PACKETS_PER_MESSAGE, Peer, Value};
pub use packet::{Direction, Link, Nanos, Packet};
