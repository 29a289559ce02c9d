//! Where the agents are: URLs from the command line, or every address behind a DNS name.

use std::collections::BTreeSet;

use reqwest::Url;

/// Port of an agent when its URL names none.
const AGENT_PORT: u16 = 8897;

/// Why the agents could not be found.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FindError {
    /// The flag's value is no address of an agent.
    #[error("`{0}` is not the address of an agent: write http://HOST:PORT, e.g. http://10.0.0.1:8897")]
    Url(String),
    /// The flag's value is no DNS name with a port.
    #[error("`{0}` is not a DNS name with a port: write NAME:PORT, e.g. wiretape-agent.wiretape.svc:8897")]
    Dns(String),
    /// The name has no addresses now.
    #[error("cannot look up `{name}`: {reason}; check --nodes-dns and the cluster's DNS")]
    Lookup {
        /// The name.
        name: String,
        /// What the resolver said.
        reason: String,
    },
    /// The HTTP client could not be made.
    #[error("cannot make a client for the agents: {0}")]
    Client(String),
}

/// Where to look for agents.
#[derive(Clone, Debug, Default)]
pub struct Where {
    /// Base URLs, in the order given.
    pub urls: Vec<String>,
    /// A name and a port; every address behind it is an agent.
    pub dns: Option<(String, u16)>,
}

impl Where {
    /// Base URLs of all agents there are now, none twice.
    pub(super) async fn urls(&self) -> Result<Vec<String>, FindError> {
        let mut urls = self.urls.clone();
        if let Some((name, port)) = &self.dns {
            let found = tokio::net::lookup_host((name.as_str(), *port))
                .await
                .map_err(|error| FindError::Lookup {
                    name: name.clone(),
                    reason: error.to_string(),
                })?;
            // Sorted: resolvers rotate their answers, and an answer's order should not.
            let addresses: BTreeSet<_> = found.collect();
            urls.extend(addresses.into_iter().map(|address| format!("http://{address}")));
        }
        let mut seen = BTreeSet::new();
        urls.retain(|url| seen.insert(url.clone()));
        Ok(urls)
    }
}

/// Checks an agent's address and brings it into the form `http://host:port`.
pub fn parse_url(text: &str) -> Result<String, FindError> {
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let wrong = || FindError::Url(text.to_owned());
    let url = Url::parse(&full).map_err(|_| wrong())?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    if url.scheme() != "http" || url.path() != "/" || url.query().is_some() {
        return Err(wrong());
    }
    // `port()` hides a scheme's default, so `http://host:80` has to be told apart by its text.
    let port = match url.port() {
        Some(port) => port,
        None if full.trim_end_matches('/').ends_with(":80") => 80,
        None => AGENT_PORT,
    };
    Ok(format!("http://{host}:{port}"))
}

/// Checks `NAME:PORT`.
pub fn parse_dns(text: &str) -> Result<(String, u16), FindError> {
    let wrong = || FindError::Dns(text.to_owned());
    let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if name.is_empty() || name.contains(['/', ' ']) || port == 0 {
        return Err(wrong());
    }
    Ok((name.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_get_one_form() {
        for (text, url) in [
            ("http://10.0.0.1:8897", "http://10.0.0.1:8897"),
            ("http://10.0.0.1:8897/", "http://10.0.0.1:8897"),
            ("10.0.0.1:9000", "http://10.0.0.1:9000"),
            ("node-1", "http://node-1:8897"),
            ("http://node-1:80", "http://node-1:80"),
            ("http://[::1]:8897", "http://[::1]:8897"),
        ] {
            assert_eq!(parse_url(text).as_deref().ok(), Some(url), "{text}");
        }
        for text in [
            "",
            "https://node-1",
            "http://node-1/path",
            "http://",
            "http://a b",
        ] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dns_needs_a_port() {
        assert_eq!(
            parse_dns("agents.svc:8897").ok(),
            Some(("agents.svc".to_owned(), 8897))
        );
        for text in [
            "agents.svc",
            "agents.svc:",
            ":8897",
            "agents.svc:70000",
            "http://agents:1",
        ] {
            assert!(parse_dns(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_nothing_comes_twice() {
        let places = Where {
            urls: vec!["http://127.0.0.1:8897".into(), "http://127.0.0.1:8897".into()],
            dns: Some(("127.0.0.1".into(), 8897)),
        };
        assert_eq!(
            places.urls().await.ok(),
            Some(vec!["http://127.0.0.1:8897".to_owned()])
        );
    }
}
