//! What the hub can be asked, a function each, in the order of an investigation: parameters in, JSON out. REST, RPC and
//! tools call these and never each other.

pub(super) mod losses;

pub(super) mod boundaries;

pub(super) mod health;

pub(super) mod recording;

pub(super) mod switches;

pub(super) mod live;

pub(super) mod following;

pub(super) mod entry;

pub(super) mod settings;

pub(super) mod snapshots;

pub(super) mod pcap;

pub(super) mod dissections;

pub(super) mod service;

pub(super) mod workloads;

pub(super) mod follow;

pub(super) mod language;

pub(super) mod calls;

pub(super) mod stats;

pub(super) mod timeline;

pub(super) mod events;

pub(super) mod flows;

pub(super) mod sql;

pub(super) mod investigate;

use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;

use super::params::Params;
use super::{ApiError, App};

/// An operation: takes the parameters that it knows, and leaves the others for a warning.
pub(super) type Operation = for<'a> fn(&'a App, &'a mut Params) -> Answering<'a>;

/// What an operation comes to.
pub(super) type Answering<'a> = BoxFuture<'a, Result<Value, ApiError>>;

/// Every spelling of the parameter that names a snapshot (contract 8: names and ids are used for each other).
pub(super) const SNAPSHOT: &[&str] = &["snapshot", "snapshot_name", "snapshot_id"];
/// Every spelling of the parameter that names a dissection of a snapshot.
pub(super) const DISSECTION: &[&str] = &["dissection", "dissection_name", "dissection_id", "name"];

/// An async function as an [`Operation`].
macro_rules! operation {
    ($function:path) => {
        |app, params| Box::pin($function(app, params))
    };
}
pub(super) use operation;

/// A parameter that there is no doing without. The first name is the one to say.
pub(super) fn required(params: &mut Params, names: &[&str]) -> Result<String, ApiError> {
    params
        .text(names)?
        .filter(|text| !text.is_empty())
        .ok_or_else(|| ApiError::bad_request(format!("`{}` is required", names.first().unwrap_or(&"id"))))
}

fn json(answer: impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(answer).map_err(ApiError::internal)
}

/// Milliseconds, as the API counts time.
fn millis(nanos: u64) -> u64 {
    nanos / 1_000_000
}
