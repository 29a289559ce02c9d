//! The columns of a peer: its address, the name that it was reached under, and who it was.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::FxHashMap;
use wiretape_dissect::Peer;
use wiretape_tape::Nanos;

use super::columns::{Leaf, MapColumn, NumberColumn, Ordered, WordColumn};
use super::dns::{Asking, DnsName};
use super::names::Identity;

/// Most addresses whose text is remembered. More clients than that cost time, not memory.
const ADDRESS_TEXTS: usize = 16 * 1024;

/// Addresses as text.
#[derive(Default)]
pub(super) struct AddressTexts(FxHashMap<IpAddr, String>);

impl AddressTexts {
    pub(super) fn of(&mut self, ip: IpAddr) -> &str {
        if self.0.len() >= ADDRESS_TEXTS {
            self.0.clear();
        }
        self.0.entry(ip).or_insert_with(|| ip.to_string())
    }
}

/// `src_…` or `dst_…`.
pub(super) struct PeerColumns {
    ip: WordColumn,
    /// Whose address the row before has: calls of one connection come together.
    last: Option<IpAddr>,
    port: NumberColumn,
    pod: WordColumn,
    namespace: WordColumn,
    service: WordColumn,
    node: WordColumn,
    process: WordColumn,
    labels: MapColumn,
    /// Container, kind of owner, owner, resolution.
    told: [WordColumn; 4],
    annotations: MapColumn,
    /// Name, source.
    dns: [WordColumn; 2],
}

impl PeerColumns {
    pub(super) fn new() -> Self {
        let word = || WordColumn::new(false);
        Self {
            ip: word(),
            last: None,
            port: NumberColumn::new(true, false, Ordered::Chunk),
            pod: word(),
            namespace: word(),
            service: word(),
            node: word(),
            process: word(),
            labels: MapColumn::new(),
            told: std::array::from_fn(|_| word()),
            annotations: MapColumn::new(),
            dns: std::array::from_fn(|_| word()),
        }
    }

    /// Appends an address as a row, whose name and identity are to follow.
    pub(super) fn push(&mut self, peer: &Peer, ip: IpAddr, texts: &mut AddressTexts) {
        if self.last != Some(ip) || !self.ip.push_again() {
            self.ip.push(texts.of(ip));
            self.last = Some(ip);
        }
        self.port.push(i64::from(peer.address.port()));
    }

    /// Appends the name that so many rows' addresses were reached under.
    pub(super) fn push_name(&mut self, dns: &DnsName<'_>, rows: usize) {
        if rows == 0 {
            return;
        }
        for (column, word) in self.dns.iter_mut().zip([dns.name, dns.source]) {
            column.push_rows(word, rows);
        }
    }

    /// Appends who so many rows' addresses are.
    pub(super) fn push_identity(&mut self, who: &Identity<'_>, rows: usize) {
        if rows == 0 {
            return;
        }
        self.pod.push_rows(who.pod, rows);
        self.namespace.push_rows(who.namespace, rows);
        self.service.push_rows(who.service, rows);
        self.node.push_rows(who.node, rows);
        self.process.push_rows(who.process, rows);
        texts_by_name(&mut self.labels, who.labels, rows);
        let told = [who.container, who.owner_kind, who.owner, who.resolution];
        for (column, word) in self.told.iter_mut().zip(told) {
            column.push_rows(word, rows);
        }
        texts_by_name(&mut self.annotations, who.annotations, rows);
    }

    pub(super) fn leaves(&mut self) -> impl Iterator<Item = &mut dyn Leaf> {
        let words: [&mut dyn Leaf; 7] = [
            &mut self.ip,
            &mut self.port,
            &mut self.pod,
            &mut self.namespace,
            &mut self.service,
            &mut self.node,
            &mut self.process,
        ];
        let told = self.told.iter_mut().map(|column| column as &mut dyn Leaf);
        let dns = self.dns.iter_mut().map(|column| column as &mut dyn Leaf);
        words
            .into_iter()
            .chain(self.labels.leaves())
            .chain(told)
            .chain(self.annotations.leaves())
            .chain(dns)
    }
}

/// Which name `client` had for an address where it went at a time, and said `said`.
pub(super) fn asking<'a>(client: &Peer, address: IpAddr, at: Nanos, said: &'a str) -> Asking<'a> {
    Asking {
        client: (client.address.ip().to_canonical(), client.tape),
        address,
        at,
        said,
    }
}

/// A pod's labels or annotations as so many rows.
fn texts_by_name(column: &mut MapColumn, texts: Option<&BTreeMap<String, String>>, rows: usize) {
    let Some(texts) = texts.filter(|texts| !texts.is_empty()) else {
        return column.end_empty_rows(rows);
    };
    for _ in 0..rows {
        for (key, value) in texts {
            column.entry(key, value);
        }
        column.end_row();
    }
}
