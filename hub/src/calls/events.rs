//! The table of events: its columns, and how events of a tape become rows.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use rustc_hash::{FxHashSet, FxHasher};
use wiretape_tape::{Event, Nanos};

use super::WriteError;
use super::columns::{Leaf, NumberColumn, Ordered, WordColumn};
use super::growing::Growing;
use super::names::Names;
use super::rows::{node, number};
use super::schema::{self, Column, Kind, column};
use super::session;
use super::writer::{PartWriter, ROWS, Table, Written};

/// Most events remembered so that one that a restarted hub took down again is in the table once: 1 MB.
const MAX_TOLD: usize = 1 << 16;

/// Every column, in the order of the table.
pub const COLUMNS: &[Column] = &[
    column("ts", Kind::Time, "when it happened"),
    column(
        "kind",
        Kind::Word,
        "`process_start`, `process_exit`, `oom_kill`, `socket_refused`, `socket_reset`, `socket_timeout`, `packet_dropped`, `memory_pressure`, `kubernetes`, `recorder` or `other`",
    ),
    column("warning", Kind::Small, "1 if it is something to look at, else 0"),
    column(
        "reason",
        Kind::Word,
        "in a word, as its source has it: `BackOff`, `OOMKilling`, `ECONNREFUSED`",
    ),
    column("message", Kind::Text, "in a sentence"),
    column(
        "count",
        Kind::Int,
        "how often it had happened by then, where its source counts, of `packet_dropped` since it was told last; else 0",
    ),
    column("node", Kind::Word, "the node that it happened on"),
    column("pod", Kind::Word, "the pod that it happened to, or in"),
    column("namespace", Kind::Word, "namespace of the pod or the object"),
    column("service", Kind::Word, "the service that the pod stands behind"),
    column("container", Kind::Word, "the pod's container"),
    column("owner", Kind::Word, "what made the pod"),
    column("process", Kind::Word, "name of the process"),
    column("pid", Kind::MaybeInt, "its number on its node"),
    column("exit_code", Kind::MaybeSmall, "what it exited with"),
    column("signal", Kind::MaybeSmall, "the signal that ended it"),
    column(
        "object_kind",
        Kind::Word,
        "kind of the Kubernetes object that it happened to",
    ),
    column("object", Kind::Word, "name of that object"),
    column("local_ip", Kind::Word, "this end of the connection"),
    column("local_port", Kind::MaybeSmall, "its port"),
    column("remote_ip", Kind::Word, "the other end"),
    column("remote_port", Kind::MaybeSmall, "its port"),
    column("remote_pod", Kind::Word, "the pod at the other end"),
    column("remote_service", Kind::Word, "the service at the other end"),
    column(
        "told_by",
        Kind::Word,
        "the node whose tape holds it, or `cluster`",
    ),
];

/// The table as it is written.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema::build(COLUMNS, DataType::Utf8));
    Arc::clone(&SCHEMA)
}

/// The table as it is read.
pub fn reading_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema::reading(COLUMNS));
    Arc::clone(&SCHEMA)
}

/// An event, and the number of the tape that holds it.
pub struct TapeEvent {
    /// The tape.
    pub tape: u16,
    /// The event.
    pub event: Event,
}

/// The table in the making: events of a window, each once.
pub struct EventTable {
    part: PartWriter<EventRows>,
    window: Option<(Nanos, Nanos)>,
    told: FxHashSet<u64>,
    /// Events stored.
    pub stored: u64,
    /// The first write that failed; nothing is stored after it.
    pub failed: Option<WriteError>,
}

impl EventTable {
    /// Creates the file of its only part, one of the `tables`. `nodes` are the nodes' names by number of tape.
    pub fn create(
        path: &Path,
        names: Arc<Names>,
        nodes: Arc<[String]>,
        window: Option<(Nanos, Nanos)>,
        tables: &Arc<Growing>,
    ) -> Result<Self, WriteError> {
        Ok(Self {
            part: PartWriter::create(path, EventRows::new(names, nodes), 1)?.growing(tables)?,
            window,
            told: FxHashSet::default(),
            stored: 0,
            failed: None,
        })
    }

    /// Takes the events of a chunk.
    pub fn take(&mut self, tape: u16, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            if self
                .window
                .is_some_and(|(from, to)| !(from..to).contains(&event.at))
            {
                continue;
            }
            if self.told.len() >= MAX_TOLD {
                self.told.clear();
            }
            if self.failed.is_some() || !self.told.insert(identity(tape, &event)) {
                continue;
            }
            self.stored += 1;
            self.failed = self.part.push(&[TapeEvent { tape, event }]).err();
        }
        if self.failed.is_none() {
            self.failed = self.part.show().err();
        }
    }

    /// Ends the file; gives how many events it has.
    pub fn finish(self) -> Result<(u64, Written), WriteError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.part.finish().map(|written| (self.stored, written)),
        }
    }
}

/// By what an event is the same though it was taken down twice.
fn identity(tape: u16, event: &Event) -> u64 {
    let mut hasher = FxHasher::default();
    (tape, event.at, event.kind, event.count, event.pid, event.cgroup).hash(&mut hasher);
    (&event.reason, &event.message, &event.object, &event.namespace).hash(&mut hasher);
    (event.local, event.remote).hash(&mut hasher);
    hasher.finish()
}

/// Rows in the making.
pub struct EventRows {
    names: Arc<Names>,
    nodes: Arc<[String]>,
    rows: usize,
    ts: NumberColumn,
    kind: WordColumn,
    warning: NumberColumn,
    texts: [WordColumn; 2],
    count: NumberColumn,
    /// From the node to the process.
    who: [WordColumn; 7],
    pid: NumberColumn,
    ends: [NumberColumn; 2],
    object: [WordColumn; 2],
    local: (WordColumn, NumberColumn),
    remote: (WordColumn, NumberColumn),
    /// Pod and service of the other end, and the tape.
    last: [WordColumn; 3],
}

impl EventRows {
    fn new(names: Arc<Names>, nodes: Arc<[String]>) -> Self {
        let word = || WordColumn::new(false);
        let small = || NumberColumn::new(true, true, Ordered::Chunk);
        Self {
            names,
            nodes,
            rows: 0,
            ts: NumberColumn::new(false, false, Ordered::Chunk),
            kind: word(),
            warning: NumberColumn::new(true, false, Ordered::Chunk),
            texts: std::array::from_fn(|_| word()),
            count: NumberColumn::new(false, false, Ordered::No),
            who: std::array::from_fn(|_| word()),
            pid: NumberColumn::new(false, true, Ordered::Chunk),
            ends: std::array::from_fn(|_| small()),
            object: std::array::from_fn(|_| word()),
            local: (word(), small()),
            remote: (word(), small()),
            last: std::array::from_fn(|_| word()),
        }
    }

    fn append(&mut self, TapeEvent { tape, event }: &TapeEvent) {
        let tape = node(&self.nodes, *tape);
        let here = if event.node.is_empty() { tape } else { &event.node };
        let who = self.names.of_event(tape, event);
        self.ts.push(number(event.at));
        self.kind.push(event.kind.text());
        self.warning.push(i64::from(event.warning));
        let [reason, message] = &mut self.texts;
        reason.push(&event.reason);
        message.push(&event.message);
        self.count.push(number(event.count));
        let first = |told: &'_ str, known: &'_ str| if told.is_empty() { known } else { told }.to_owned();
        let words = [
            here,
            &first(&event.pod, who.pod),
            &first(&event.namespace, who.namespace),
            who.service,
            who.container,
            who.owner,
            &first(&event.process, who.process),
        ];
        for (column, word) in self.who.iter_mut().zip(words) {
            column.push(word);
        }
        self.pid
            .push_option((event.pid != 0).then_some(i64::from(event.pid)));
        let [exit_code, signal] = &mut self.ends;
        exit_code.push_option(event.exit_code.map(i64::from));
        signal.push_option(event.signal.map(i64::from));
        let [kind, object] = &mut self.object;
        kind.push(&event.object_kind);
        object.push(&event.object);
        for (end, (ip, port)) in [(event.local, &mut self.local), (event.remote, &mut self.remote)] {
            ip.push(&end.map_or_else(String::new, |end: SocketAddr| end.ip().to_canonical().to_string()));
            port.push_option(end.map(|end| i64::from(end.port())));
        }
        let other = event.remote.map(|end| self.names.resolve(None, 0, end, event.at));
        let other = other.unwrap_or_default();
        for (column, word) in self.last.iter_mut().zip([other.pod, other.service, tape]) {
            column.push(word);
        }
        self.rows += 1;
    }

    fn leaves(&mut self) -> impl Iterator<Item = &mut dyn Leaf> {
        fn leaf(column: &mut impl Leaf) -> &mut dyn Leaf {
            column
        }
        let [reason, message] = &mut self.texts;
        let first: [&mut dyn Leaf; 6] = [
            &mut self.ts,
            &mut self.kind,
            &mut self.warning,
            reason,
            message,
            &mut self.count,
        ];
        let [exit_code, signal] = &mut self.ends;
        let [kind, object] = &mut self.object;
        let middle: [&mut dyn Leaf; 5] = [&mut self.pid, exit_code, signal, kind, object];
        let ends: [&mut dyn Leaf; 4] = [
            &mut self.local.0,
            &mut self.local.1,
            &mut self.remote.0,
            &mut self.remote.1,
        ];
        first
            .into_iter()
            .chain(self.who.iter_mut().map(leaf))
            .chain(middle)
            .chain(ends)
            .chain(self.last.iter_mut().map(leaf))
    }
}

impl Table for EventRows {
    type Record = TapeEvent;

    const NAME: &'static str = session::EVENTS;

    /// Some ten thousand events.
    const MEMORY: usize = 4 << 20;

    fn schema() -> SchemaRef {
        schema()
    }

    fn push(&mut self, events: &[TapeEvent]) {
        for event in events {
            self.append(event);
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
