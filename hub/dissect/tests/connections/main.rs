//! Connections as such: what their headers tell. One situation each.

mod failures;
mod observed;
mod script;
mod way;
