//! Who takes part, and where each is found.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A part in the shop; one process plays one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// People with browsers; the only role that starts anything.
    Users,
    /// What the users talk to.
    Frontend,
    /// Keeps carts; buys on behalf of users with one click, and retries too eagerly.
    CartService,
    /// Turns a cart into an order.
    Checkout,
    /// Lists products.
    Catalogue,
    /// Charges cards through the gateway.
    PaymentService,
    /// The payment provider, outside the cluster.
    Gateway,
    /// The catalogue's database: a TCP protocol of its own, reconnected for each query.
    CatalogueDb,
}

impl Role {
    /// Every role, those that are called before those that call them.
    pub const ALL: [Self; 8] = [
        Self::CatalogueDb,
        Self::Gateway,
        Self::PaymentService,
        Self::Catalogue,
        Self::Checkout,
        Self::CartService,
        Self::Frontend,
        Self::Users,
    ];

    /// Its name: service, host and word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Frontend => "frontend",
            Self::CartService => "cart-service",
            Self::Checkout => "checkout",
            Self::Catalogue => "catalogue",
            Self::PaymentService => "payment-service",
            Self::Gateway => "gateway",
            Self::CatalogueDb => "catalogue-db",
        }
    }

    /// The port that it listens on; users listen on none and have 0.
    pub fn port(self) -> u16 {
        match self {
            Self::Users => 0,
            Self::CatalogueDb => 7432,
            _ => 8080,
        }
    }
}

/// Where each role is found.
#[derive(Clone, Debug, Default)]
pub struct Directory(BTreeMap<Role, SocketAddr>);

impl Directory {
    /// From entries of the form `frontend=10.77.1.11`.
    ///
    /// # Errors
    /// An entry of another form, an unknown role, or a role that is left out.
    pub fn parse(entries: &[String]) -> anyhow::Result<Self> {
        let mut addresses = BTreeMap::new();
        for entry in entries {
            let (name, address) = entry
                .split_once('=')
                .with_context(|| format!("write --at as ROLE=ADDRESS, not {entry:?}"))?;
            let Ok(role) = Role::from_str(name, false) else {
                bail!("no role is called {name:?}");
            };
            let address: IpAddr = address
                .parse()
                .with_context(|| format!("{address:?} is not an IP address"))?;
            addresses.insert(role, address);
        }
        if let Some(missing) = Role::ALL.iter().find(|role| !addresses.contains_key(role)) {
            bail!("say where {0} is: --at {0}=ADDRESS", missing.name());
        }
        Ok(Self::new(addresses))
    }

    /// From addresses; each role listens there on its own port.
    pub fn new(addresses: impl IntoIterator<Item = (Role, IpAddr)>) -> Self {
        Self(
            addresses
                .into_iter()
                .map(|(role, address)| (role, SocketAddr::new(address, role.port())))
                .collect(),
        )
    }

    /// Address and port of a role.
    ///
    /// # Errors
    /// A role that was not told.
    pub fn find(&self, role: Role) -> anyhow::Result<SocketAddr> {
        self.0
            .get(&role)
            .copied()
            .with_context(|| format!("nobody said where {} is", role.name()))
    }
}
