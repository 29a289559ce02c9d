//! The nodes: find their agents, one client each, and ask all of them at once.
//!
//! A node that fails is named with its reason; it never fails the question for the others.

mod find;

mod client;

use std::collections::HashMap;
use std::sync::Mutex;

use futures::future::join_all;
use wiretape_tape::{Boundaries, Name};

pub use client::{Agent, NodeError, Patience};
pub use find::{FindError, Where, parse_dns, parse_url};

/// Every agent that the hub was told of.
pub struct Nodes {
    places: Where,
    patience: Patience,
    /// One client for each address, kept so that its connections are reused.
    clients: Mutex<HashMap<String, Agent>>,
}

/// What one node says of its tape, or why it says nothing.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// The node's own name; its URL while it does not answer.
    pub name: String,
    /// Its agent.
    pub agent: Agent,
    /// Its tape.
    pub boundaries: Result<Boundaries, NodeError>,
}

impl Nodes {
    /// Nothing is asked yet; addresses are looked up afresh each time.
    pub fn new(places: Where, patience: Patience) -> Self {
        Self {
            places,
            patience,
            clients: Mutex::new(HashMap::new()),
        }
    }

    /// The agents there are now. A DNS name is resolved afresh, so that nodes come and go without a restart.
    pub async fn agents(&self) -> Result<Vec<Agent>, FindError> {
        let urls = self.places.urls().await?;
        let mut clients = self
            .clients
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        clients.retain(|url, _| urls.contains(url));
        let mut agents = Vec::with_capacity(urls.len());
        for url in urls {
            let agent = match clients.get(&url) {
                Some(agent) => agent.clone(),
                None => {
                    Agent::new(&url, self.patience).map_err(|error| FindError::Client(error.to_string()))?
                }
            };
            clients.insert(url, agent.clone());
            agents.push(agent);
        }
        Ok(agents)
    }

    /// The agent at a URL that an earlier run of the hub noted down.
    pub fn agent(&self, url: &str) -> Result<Agent, NodeError> {
        let mut clients = self
            .clients
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(agent) = clients.get(url) {
            return Ok(agent.clone());
        }
        let agent = Agent::new(url, self.patience)?;
        clients.insert(url.to_owned(), agent.clone());
        Ok(agent)
    }

    /// The names that every node's agent knows now, by the node's name.
    pub async fn names(&self) -> Result<Vec<(String, Result<Vec<Name>, NodeError>)>, FindError> {
        let surveyed = self.survey().await?;
        Ok(join_all(surveyed.into_iter().map(|node| async move {
            let names = match node.boundaries {
                Ok(_) => node.agent.names().await,
                Err(error) => Err(error),
            };
            (node.name, names)
        }))
        .await)
    }

    /// Asks every node for its boundaries, all at once; in the order in which the nodes were named.
    pub async fn survey(&self) -> Result<Vec<Surveyed>, FindError> {
        let agents = self.agents().await?;
        Ok(join_all(agents.into_iter().map(|agent| async move {
            let boundaries = agent.boundaries().await;
            let name = match &boundaries {
                Ok(boundaries) if !boundaries.node.is_empty() => boundaries.node.clone(),
                _ => agent.url().to_owned(),
            };
            Surveyed {
                name,
                agent,
                boundaries,
            }
        }))
        .await)
    }
}
