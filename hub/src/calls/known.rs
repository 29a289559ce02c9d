//! The table of names: who was behind a cgroup or an address, and when, as the agents told it; and which names DNS gave to
//! an address.

use std::sync::Arc;
use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use wiretape_tape::Name;

use super::columns::{Leaf, MapColumn, NumberColumn, Ordered, WordColumn};
use super::dns::Resolved;
use super::names::NodeName;
use super::rows::number;
use super::schema::{self, Column, Kind, column};
use super::session;
use super::writer::{ROWS, Table};

/// What stands between the addresses of a name.
const SEPARATOR: &str = ", ";

/// Every column, in the order of the table.
pub const COLUMNS: &[Column] = &[
    column("since", Kind::Time, "from when the name holds"),
    column("until", Kind::MaybeTime, "until when; NULL if it had not ended"),
    column(
        "cgroup",
        Kind::Id,
        "the cgroup that it names, 0 if it names addresses alone",
    ),
    column("node", Kind::Word, "the node whose agent told it"),
    column(
        "cgroup_path",
        Kind::Word,
        "path of the cgroup below the recorded subtree",
    ),
    column("process", Kind::Word, "name of the process"),
    column("pod", Kind::Word, "the pod"),
    column("namespace", Kind::Word, "the pod's namespace"),
    column("service", Kind::Word, "the service that the pod stands behind"),
    column("addresses", Kind::Word, "its addresses, `, ` between"),
    column("labels", Kind::Map, "the pod's labels"),
    column("container", Kind::Word, "the pod's container"),
    column("container_id", Kind::Word, "its id"),
    column(
        "owner_kind",
        Kind::Word,
        "kind of what made the pod or the process",
    ),
    column("owner", Kind::Word, "name of that"),
    column(
        "on_node",
        Kind::Word,
        "the node that the pod runs on, or that is named",
    ),
    column("annotations", Kind::Map, "the pod's annotations"),
    column(
        "dns",
        Kind::Word,
        "the name that DNS gave to the address, told by packets rather than a node; all else but time and address is empty then",
    ),
];

/// What a row tells.
#[derive(Clone, Debug)]
pub enum KnownName {
    /// A workload, a service or a node.
    Told(Box<NodeName>),
    /// A name that DNS gave to an address.
    Dns(Resolved),
}

/// The table as it is written.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema::build(COLUMNS, DataType::Utf8));
    Arc::clone(&SCHEMA)
}

/// The table as it is read: the same, with text columns as views into the pages.
pub fn reading_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema::reading(COLUMNS));
    Arc::clone(&SCHEMA)
}

/// Rows in the making.
pub struct NameRows {
    rows: usize,
    since: NumberColumn,
    until: NumberColumn,
    cgroup: NumberColumn,
    words: [WordColumn; 7],
    labels: MapColumn,
    told: [WordColumn; 5],
    annotations: MapColumn,
    dns: WordColumn,
}

impl Default for NameRows {
    fn default() -> Self {
        Self {
            rows: 0,
            since: NumberColumn::new(false, false, Ordered::Chunk),
            until: NumberColumn::new(false, true, Ordered::Chunk),
            cgroup: NumberColumn::new(false, false, Ordered::No),
            words: std::array::from_fn(|_| WordColumn::new(false)),
            labels: MapColumn::new(),
            told: std::array::from_fn(|_| WordColumn::new(false)),
            annotations: MapColumn::new(),
            dns: WordColumn::new(false),
        }
    }
}

impl NameRows {
    fn append(&mut self, known: &KnownName) {
        match known {
            KnownName::Told(told) => self.row(told, ""),
            KnownName::Dns(resolved) => {
                let name = Name {
                    since: resolved.since,
                    until: Some(resolved.until),
                    addresses: vec![resolved.address],
                    ..Name::default()
                };
                let node = String::new();
                self.row(&NodeName { node, name }, &resolved.name);
            }
        }
    }

    fn row(&mut self, NodeName { node, name }: &NodeName, dns: &str) {
        self.since.push(number(name.since));
        self.until.push_option(name.until.map(number));
        self.cgroup.push(name.cgroup.cast_signed());
        let addresses: Vec<String> = name.addresses.iter().map(ToString::to_string).collect();
        let addresses = addresses.join(SEPARATOR);
        let words = [
            node,
            &name.cgroup_path,
            &name.process,
            &name.pod,
            &name.namespace,
            &name.service,
            &addresses,
        ];
        for (column, word) in self.words.iter_mut().zip(words) {
            column.push(word);
        }
        for (key, value) in &name.labels {
            self.labels.entry(key, value);
        }
        self.labels.end_row();
        let told = [
            &name.container,
            &name.container_id,
            &name.owner_kind,
            &name.owner,
            &name.node,
        ];
        for (column, word) in self.told.iter_mut().zip(told) {
            column.push(word);
        }
        for (key, value) in &name.annotations {
            self.annotations.entry(key, value);
        }
        self.annotations.end_row();
        self.dns.push(dns);
        self.rows += 1;
    }

    fn leaves(&mut self) -> impl Iterator<Item = &mut dyn Leaf> {
        let numbers: [&mut dyn Leaf; 3] = [&mut self.since, &mut self.until, &mut self.cgroup];
        let words = self.words.iter_mut().map(|column| column as &mut dyn Leaf);
        let told = self.told.iter_mut().map(|column| column as &mut dyn Leaf);
        numbers
            .into_iter()
            .chain(words)
            .chain(self.labels.leaves())
            .chain(told)
            .chain(self.annotations.leaves())
            .chain([&mut self.dns as &mut dyn Leaf])
    }
}

impl Table for NameRows {
    type Record = KnownName;

    const NAME: &'static str = session::NAMES;

    /// Some thousand names with their labels.
    const MEMORY: usize = 4 << 20;

    fn schema() -> SchemaRef {
        schema()
    }

    fn push(&mut self, names: &[KnownName]) {
        for name in names {
            self.append(name);
            if self.rows.is_multiple_of(ROWS) {
                self.end_full_pages();
            }
        }
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn clear(&mut self) {
        self.rows = 0;
    }

    fn each_leaf(&mut self, take: &mut dyn FnMut(&mut dyn Leaf)) {
        self.leaves().for_each(take);
    }
}
