//! What really happened, to hold a recording against.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// A request, as its client tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// What `x-request-id` said, in the request and in its response: no other has it.
    pub id: String,
    /// Role that sent it.
    pub client: String,
    /// Role that it was sent to.
    pub server: String,
    /// Method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Status of the answer; `None` when the client gave up waiting.
    pub status: Option<u16>,
    /// Whether it had a correlation id.
    pub correlated: bool,
    /// The same in a request and its retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Which retry it is; 0 is the first attempt.
    pub retry: u32,
    /// When it was sent, in nanoseconds since 1970.
    pub at: u64,
    /// Microseconds until it was answered or given up.
    pub took_us: u64,
}

/// The same request, as its server tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// See [`Sent::id`].
    pub id: String,
    /// Role that received it.
    pub server: String,
    /// Method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Status that was answered; `None` when the connection was gone before.
    pub status: Option<u16>,
}

/// What one role wrote down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleTruth {
    /// Its name.
    pub role: String,
    /// Requests sent as a client.
    pub sent: Vec<Sent>,
    /// Requests received as a server.
    pub received: Vec<Received>,
    /// Connections opened to catalogue-db.
    pub database_connections: u64,
    /// Connections reset.
    pub resets: u64,
}

impl RoleTruth {
    /// Writes it to a file, as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_vec(self)?;
        fs::write(file, json).with_context(|| format!("cannot write the truth to {}", file.display()))
    }
}

/// One call, as both of its ends tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrueCall {
    /// The client's word.
    pub sent: Sent,
    /// The status that the server answered, if it did.
    pub answered: Option<u16>,
}

impl TrueCall {
    /// Whether a recording may show this status. A client that gave up closes its eyes to an answer that is on the wire
    /// already, so then the server's word counts too.
    pub fn allows(&self, status: Option<u16>) -> bool {
        status == self.sent.status || (self.sent.status.is_none() && status == self.answered)
    }
}

/// What all roles wrote down, put together.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Every call, by its request id.
    pub calls: BTreeMap<String, TrueCall>,
    /// Connections opened to catalogue-db.
    pub database_connections: u64,
    /// Connections that payment-service reset.
    pub resets: u64,
}

/// Calls of one kind: client, server, method, path and status.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Kind {
    /// Role that asked.
    pub client: String,
    /// Role that was asked.
    pub server: String,
    /// Method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Status as the client got it.
    pub status: Option<u16>,
}

impl Truth {
    /// Reads the files of all roles.
    ///
    /// # Errors
    /// A file that cannot be read, or ends that contradict each other.
    pub fn read<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> anyhow::Result<Self> {
        let roles = files
            .into_iter()
            .map(|file| {
                let file = file.as_ref();
                let json = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
                serde_json::from_slice(&json)
                    .with_context(|| format!("{} is not a role's truth", file.display()))
            })
            .collect::<anyhow::Result<Vec<RoleTruth>>>()?;
        Self::new(roles)
    }

    /// Puts together what all roles wrote down.
    ///
    /// # Errors
    /// Ends that contradict each other: a truth that does not agree with itself proves nothing.
    pub fn new(roles: impl IntoIterator<Item = RoleTruth>) -> anyhow::Result<Self> {
        let mut truth = Self::default();
        let mut received = HashMap::new();
        for role in roles {
            truth.database_connections += role.database_connections;
            truth.resets += role.resets;
            for sent in role.sent {
                let call = TrueCall { answered: None, sent };
                if let Some(twice) = truth.calls.insert(call.sent.id.clone(), call) {
                    anyhow::bail!("request id {} was given twice", twice.sent.id);
                }
            }
            for entry in role.received {
                if let Some(twice) = received.insert(entry.id.clone(), entry) {
                    anyhow::bail!("request {} was received twice", twice.id);
                }
            }
        }
        for call in truth.calls.values_mut() {
            let sent = &call.sent;
            let Some(entry) = received.remove(&sent.id) else {
                // Given up before the server had read it whole.
                anyhow::ensure!(
                    sent.status.is_none(),
                    "{} was answered, but not received",
                    sent.id
                );
                continue;
            };
            let same =
                (&entry.server, &entry.method, &entry.path) == (&sent.server, &sent.method, &sent.path);
            anyhow::ensure!(same, "{} was received as another request: {entry:?}", sent.id);
            anyhow::ensure!(
                sent.status.is_none() || sent.status == entry.status,
                "{} was answered with {:?} and got {:?}",
                sent.id,
                entry.status,
                sent.status,
            );
            call.answered = entry.status;
        }
        if let Some(id) = received.keys().next() {
            anyhow::bail!("request {id} was received, but not sent");
        }
        Ok(truth)
    }

    /// How many calls of each kind there were.
    pub fn counts(&self) -> BTreeMap<Kind, u64> {
        let mut counts = BTreeMap::new();
        for TrueCall { sent, .. } in self.calls.values() {
            let kind = Kind {
                client: sent.client.clone(),
                server: sent.server.clone(),
                method: sent.method.clone(),
                path: sent.path.clone(),
                status: sent.status,
            };
            *counts.entry(kind).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(id: &str, status: Option<u16>) -> Sent {
        Sent {
            id: id.into(),
            server: "gateway".into(),
            status,
            ..Sent::default()
        }
    }

    fn received(id: &str, status: Option<u16>) -> Received {
        Received {
            id: id.into(),
            server: "gateway".into(),
            status,
            ..Received::default()
        }
    }

    fn truth(sent: Vec<Sent>, received: Vec<Received>) -> anyhow::Result<Truth> {
        Truth::new([RoleTruth {
            sent,
            received,
            ..RoleTruth::default()
        }])
    }

    #[test]
    fn client_that_gave_up_allows_the_servers_answer() {
        let truth = truth(vec![sent("a", None)], vec![received("a", Some(200))]).unwrap();
        let call = &truth.calls["a"];
        assert!(call.allows(None));
        assert!(call.allows(Some(200)));
        assert!(!call.allows(Some(503)));
    }

    #[test]
    fn ends_that_disagree_are_refused() {
        assert!(truth(vec![sent("a", Some(200))], vec![received("a", Some(201))]).is_err());
        assert!(truth(vec![sent("a", Some(200))], vec![]).is_err());
        assert!(truth(vec![], vec![received("a", Some(200))]).is_err());
        assert!(truth(vec![sent("a", None), sent("a", None)], vec![]).is_err());
    }
}
