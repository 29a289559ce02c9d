//! Questions to a dissection.

mod calls;
mod database;

pub use calls::{CallsPage, CallsQuery, Format, Order, call_by_id, call_details, calls};
pub use database::{Database, Databases, QueryError};
