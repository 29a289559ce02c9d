//! Questions to a dissection.

mod database;

mod filter;

mod fields;

mod functions;

mod calls;

mod row;

mod entry;

mod entries;

mod connection;

mod bodies;

mod explain;

pub use calls::{
    CallsPage, CallsQuery, DEFAULT_LIMIT, Format, MAX_LIMIT, Order, PREVIEW, call_by_id, call_details, calls,
};
pub use database::{Database, Databases, QueryError};
pub use filter::MAX_CONDITIONS;
