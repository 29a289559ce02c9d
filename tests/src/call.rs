//! A call, as the hub answers it in full.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

/// One call. Only what is looked at here.
#[derive(Clone, Debug, Deserialize)]
pub struct Call {
    /// Its id, unique in its dissection.
    pub id: String,
    /// When it began, in milliseconds since 1970.
    pub ts: i64,
    /// Who asked.
    pub src: End,
    /// Who was asked.
    pub dst: End,
    /// Protocol.
    pub proto: String,
    /// Its version, as spoken.
    #[serde(default)]
    pub version: String,
    /// HTTP method, or what stands for it in other protocols.
    #[serde(default)]
    pub method: String,
    /// Path without the query.
    #[serde(default)]
    pub path: String,
    /// What followed `?`.
    #[serde(default)]
    pub query: String,
    /// Host that the request named.
    #[serde(default)]
    pub authority: String,
    /// Status, when there was an answer.
    #[serde(default)]
    pub status: Option<u16>,
    /// What became of it: `ok`, `client_error`, ..
    #[serde(default)]
    pub outcome: String,
    /// What is incomplete about it.
    #[serde(default)]
    pub marks: Vec<String>,
    /// What only its protocol has.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// Bytes of the request's body.
    #[serde(default)]
    pub req_size: u64,
    /// Bytes of the response's body.
    #[serde(default)]
    pub resp_size: u64,
    /// From the request's first byte to the answer's last.
    #[serde(default)]
    pub latency_ms: Option<f64>,
    /// Header fields of the request, names in lower case.
    #[serde(default)]
    pub req_headers: BTreeMap<String, String>,
    /// Header fields of the response.
    #[serde(default)]
    pub resp_headers: BTreeMap<String, String>,
}

/// One end of a call.
#[derive(Clone, Debug, Deserialize)]
pub struct End {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// Pod, if it is one.
    #[serde(default)]
    pub pod: String,
    /// Service, if it is known.
    #[serde(default)]
    pub svc: String,
    /// Node, if it was recorded.
    #[serde(default)]
    pub node: String,
}

impl Call {
    /// The status; `None` also where an answer writes 0 for none.
    pub fn status(&self) -> Option<u16> {
        self.status.filter(|status| *status != 0)
    }

    /// What only its protocol has, by name; empty where it has not.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// When it was over, in milliseconds since 1970.
    pub fn end(&self) -> f64 {
        self.ts as f64 + self.latency_ms.unwrap_or_default()
    }
}
