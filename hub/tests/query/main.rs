//! From captures to answers: dissection jobs, the table of calls, and questions to it.

mod captures;

mod answers;
mod bodies;
mod connections;
mod corpora;
mod dns;
mod duckdb;
mod jobs;
mod names;
mod offline;
mod packets;
mod pages;
mod schema;
mod sql;
mod stats;
mod timeline;
mod under_way;
