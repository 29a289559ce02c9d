//! The shop on a cluster.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use wiretape_shop::story::{self, Clock};
use wiretape_shop::truth::Truth;
use wiretape_shop::{Directory, Role};

use crate::binaries;
use crate::cluster::{Cluster, Pod};
use crate::process::{Process, Talk};

/// How long a role may take to finish what it has begun.
const PATIENCE: Duration = Duration::from_secs(60);
/// From the order to begin until the beginning: all roles are to have heard it.
const HEADSTART: Duration = Duration::from_millis(200);

/// How the story is played.
#[derive(Clone, Copy, Debug)]
pub struct Play {
    /// How many times as fast as the wall's clock.
    pub time_scale: f64,
    /// Makes the users' requests repeatable.
    pub seed: u64,
    /// Journeys begun in a second of the story.
    pub rate: f64,
}

/// Where a role is: on which node, counted from 0, or outside; and at which address.
fn site(role: Role) -> (Option<usize>, Ipv4Addr) {
    match role {
        Role::Frontend => (Some(0), Ipv4Addr::new(10, 77, 1, 11)),
        Role::CartService => (Some(0), Ipv4Addr::new(10, 77, 1, 12)),
        Role::Checkout => (Some(1), Ipv4Addr::new(10, 77, 2, 11)),
        Role::Catalogue => (Some(1), Ipv4Addr::new(10, 77, 2, 12)),
        Role::PaymentService => (Some(2), Ipv4Addr::new(10, 77, 3, 11)),
        Role::CatalogueDb => (Some(2), Ipv4Addr::new(10, 77, 3, 12)),
        // Addresses for documentation (RFC 5737): somewhere on the Internet.
        Role::Users => (None, Ipv4Addr::new(198, 51, 100, 20)),
        Role::Gateway => (None, Ipv4Addr::new(203, 0, 113, 10)),
    }
}

/// The pods of the shop on three nodes.
pub fn pods() -> Vec<Vec<Pod>> {
    let mut nodes = vec![Vec::new(); 3];
    for role in Role::ALL {
        if let (Some(node), address) = site(role)
            && let Some(pods) = nodes.get_mut(node)
        {
            pods.push(Pod::new(role.name(), address));
        }
    }
    nodes
}

/// The address of a role.
pub fn address(role: Role) -> IpAddr {
    site(role).1.into()
}

/// The role at an address.
pub fn role_at(address: IpAddr) -> Option<Role> {
    Role::ALL.into_iter().find(|role| site(*role).1 == address)
}

/// Where everybody finds everybody.
pub fn directory() -> Directory {
    Directory::new(Role::ALL.into_iter().map(|role| (role, address(role))))
}

/// The shop at work.
#[derive(Debug)]
pub struct Shop {
    roles: Vec<(Role, Process)>,
    truths: Vec<PathBuf>,
    clock: Clock,
    /// When the story began, in milliseconds since 1970.
    pub began: u64,
    /// How it is played.
    pub play: Play,
}

impl Shop {
    /// Opens the shop: starts every role at its place, waits until all listen, and lets the story begin.
    ///
    /// # Errors
    /// A role that does not start.
    pub fn open(cluster: &mut Cluster, play: Play) -> anyhow::Result<Self> {
        let program = binaries::find("wiretape-shop")?;
        let folder = cluster.folder().join("truth");
        fs::create_dir_all(&folder)?;
        let mut roles = Vec::new();
        let mut truths = Vec::new();
        for role in Role::ALL {
            let place = match site(role) {
                (Some(_), _) => cluster.place(role.name())?,
                (None, address) => cluster.outsider(role.name(), address.into())?,
            };
            let truth = folder.join(format!("{}.json", role.name()));
            let mut arguments = vec!["play".to_owned(), role.name().to_owned()];
            for other in Role::ALL {
                arguments.extend(["--at".to_owned(), format!("{}={}", other.name(), address(other))]);
            }
            arguments.extend(["--truth".to_owned(), truth.display().to_string()]);
            arguments.extend(["--time-scale".to_owned(), play.time_scale.to_string()]);
            arguments.extend(["--seed".to_owned(), play.seed.to_string()]);
            arguments.extend(["--rate".to_owned(), play.rate.to_string()]);
            let process = Process::start(
                role.name(),
                &place,
                cluster.folder(),
                &program,
                arguments,
                Talk::Yes,
            )?;
            roles.push((role, process));
            truths.push(truth);
        }
        for (_, process) in &mut roles {
            process.hear()?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let began = u64::try_from((now + HEADSTART).as_millis())?;
        for (_, process) in &mut roles {
            process.tell(&format!("start {began}"))?;
        }
        Ok(Self {
            roles,
            truths,
            clock: Clock::beginning_at(began, play.time_scale),
            began,
            play,
        })
    }

    /// How far the story is.
    pub fn told(&self) -> Duration {
        self.clock.now().min(story::LENGTH)
    }

    /// How long the story goes on, on the wall's clock.
    pub fn remaining(&self) -> Duration {
        self.clock.real(story::LENGTH - self.told())
    }

    /// Whether the users have gone home.
    ///
    /// # Errors
    /// A role that has failed.
    pub fn over(&mut self) -> anyhow::Result<bool> {
        let mut over = false;
        for (role, process) in &mut self.roles {
            if process.ended()?.is_some() {
                process.wait(Duration::ZERO)?;
                over |= *role == Role::Users;
            }
        }
        Ok(over)
    }

    /// Waits until the story is over, closes the shop and adds the truth up.
    ///
    /// # Errors
    /// A role that fails, or a truth that contradicts itself.
    pub async fn close(mut self) -> anyhow::Result<Truth> {
        while !self.over()? {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for (_, process) in &mut self.roles {
            process.hush();
        }
        for (_, process) in &mut self.roles {
            process.wait(PATIENCE)?;
        }
        Truth::read(&self.truths).context("the shop's own truth does not hold")
    }
}
