//! The shop: a small workload with an incident in it, and the truth about every request of it.
//!
//! Eight roles speak real HTTP/1.1 (and one database protocol that is not HTTP) over TCP, each from an address of its
//! own. A clock plays an incident: the payment gateway slows down, payments time out, a connection pool runs dry,
//! checkouts fail, somebody retries too eagerly. Each role writes down what it sent and what it answered, so that a
//! recorder of the traffic can be held against it, call by call.

mod role;
pub mod story;

mod body;
mod journal;
mod link;
mod pod;
mod server;

mod users;

mod frontend;

mod cart;
mod catalogue;
mod checkout;
mod database;
mod gateway;
mod payment;

pub mod truth;

pub use pod::{Pod, Stop};
pub use role::{Directory, Role};
