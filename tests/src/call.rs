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
    /// HTTP method.
    #[serde(default)]
    pub method: String,
    /// Path without the query.
    #[serde(default)]
    pub path: String,
    /// Status, when there was an answer.
    #[serde(default)]
    pub status: Option<u16>,
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

    /// When it was over, in milliseconds since 1970.
    pub fn end(&self) -> f64 {
        self.ts as f64 + self.latency_ms.unwrap_or_default()
    }
}
