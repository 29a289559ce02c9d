//! Which names the hub goes by, and from which web pages it may be spoken to.

use std::net::SocketAddr;

use axum::http::uri::{Authority, Uri};
use axum::http::{HeaderMap, header};

/// What names this machine itself.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Under which names the hub may be spoken to over MCP, and from which pages over MCP and WebSockets. A browser is told
/// names by whoever made the page, so that a hub that took any could be read from any page (DNS rebinding).
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `Host`s: names or addresses, with or without a port. This machine's own are always among them.
    pub hosts: Vec<String>,
    /// `Origin`s: `https://assistant.example.com:443`; the port may be `*`. This machine's own are always among them.
    pub origins: Vec<String>,
}

impl Access {
    /// The address that is listened on is a good name for it, unless it stands for all addresses.
    #[must_use]
    pub fn listening_on(mut self, address: SocketAddr) -> Self {
        let ip = address.ip();
        if !ip.is_unspecified() && !ip.is_loopback() {
            self.hosts.push(ip.to_string());
        }
        self
    }

    /// Every `Host` that is good.
    pub(super) fn all_hosts(&self) -> impl Iterator<Item = String> {
        let hosts = LOOPBACK.iter().map(|host| (*host).to_owned());
        hosts.chain(self.hosts.iter().cloned())
    }

    /// Every `Origin` that is good.
    pub(super) fn all_origins(&self) -> impl Iterator<Item = String> {
        let own = ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("http://{host}:*"));
        own.into_iter().chain(self.origins.iter().cloned())
    }

    /// Whether a page that may not may have sent this: browsers open WebSockets for any page without asking, and name
    /// its origin in each (RFC 6455 section 10.2). What is no browser names none.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return true;
        };
        let origin = origin.to_str().ok().and_then(|origin| origin.parse().ok());
        origin.is_some_and(|origin| self.all_origins().any(|allowed| is_origin(&origin, &allowed)))
    }
}

/// Whether an origin is the one that is allowed, whose port may be `*`. The port of the scheme may be left out.
fn is_origin(origin: &Uri, allowed: &str) -> bool {
    let (allowed, any_port) = match allowed.strip_suffix(":*") {
        Some(allowed) => (allowed, true),
        None => (allowed, false),
    };
    let Ok(allowed) = allowed.parse::<Uri>() else {
        return false;
    };
    let port = |of: &Uri| {
        let usual = match of.scheme_str() {
            Some("http") => Some(80),
            Some("https") => Some(443),
            _ => None,
        };
        of.port_u16().or(usual)
    };
    let host = |of: &Uri| of.authority().map(Authority::host).map(str::to_ascii_lowercase);
    origin.scheme() == allowed.scheme()
        && host(origin) == host(&allowed)
        && (any_port || port(origin) == port(&allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_strangers_are_not_admitted() {
        let access = Access {
            origins: vec!["https://assistant.example.com:443".to_owned()],
            ..Access::default()
        };
        let admits = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, origin.parse().expect("a header"));
            access.admits(&headers)
        };
        assert!(access.admits(&HeaderMap::new()));
        for good in [
            "https://assistant.example.com",
            "https://assistant.example.com:443",
            "https://ASSISTANT.example.com",
            "http://localhost:6274",
            "http://[::1]:80",
        ] {
            assert!(admits(good), "{good}");
        }
        for bad in [
            "null",
            "",
            "http://assistant.example.com",
            "https://assistant.example.com:444",
            "https://assistant.example.com.attacker.example",
            "https://attacker.example",
        ] {
            assert!(!admits(bad), "{bad}");
        }
    }
}
