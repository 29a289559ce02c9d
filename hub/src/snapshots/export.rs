//! Packets of a snapshot as one capture file: merged by time over the nodes, cut to a window, filtered like tcpdump.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wiretape_dissect::Router;
use wiretape_tape::{
    Chunk, ChunkReader, Export as Sink, ExportError as SinkError, ExportFormat, InterfaceInfo, LinkType,
    Nanos, ReadError,
};

use super::chosen::{Connections, Filter, Programs};
use super::{Manifest, NodePart, Origin, SEGMENTS};

/// Read at once where segments are given out as they lie.
const COPY_BYTES: usize = 256 << 10;

/// What shall be in the file.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Nodes by name; all when empty.
    pub nodes: Vec<String>,
    /// Packets at this time or later; the snapshot's own start when not given.
    pub start: Option<Nanos>,
    /// Packets before this time; the snapshot's own end when not given.
    pub end: Option<Nanos>,
    /// In libpcap's language.
    pub bpf: Option<String>,
    /// Those of certain connections, instead of such a filter.
    pub connections: Option<Arc<Connections>>,
    /// Whether it shall be pcapng; classic pcap otherwise.
    pub pcapng: bool,
}

/// Why there is no such file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The snapshot has no part of that node.
    #[error("the snapshot has no packets of a node `{asked}`; its nodes are: {}", .there.join(", "))]
    UnknownNode {
        /// The node asked for.
        asked: String,
        /// Those it has.
        there: Vec<String>,
    },
    /// The window is empty.
    #[error("the window is empty: `end_time` must be later than `start_time`")]
    EmptyWindow,
    /// libpcap does not take the filter.
    #[error("bpf_filter: {reason}; it is written as for tcpdump, e.g. tcp port 80 and host 10.0.0.1")]
    Filter {
        /// What libpcap says.
        reason: String,
    },
    /// The file cannot be written on.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A segment cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Segment {
        /// The segment.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// An export that is checked and can only fail for reasons of the disk or of whoever reads it.
pub struct Export {
    tapes: Vec<Tape>,
    window: (Nanos, Nanos),
    filter: Option<Filter>,
    format: ExportFormat,
    names: Vec<wiretape_tape::Name>,
    /// For people.
    comment: String,
    /// Segments are given out as they lie: so many bytes.
    whole: Option<u64>,
}

/// Who writes the file.
const WHO: &str = concat!("hub ", env!("CARGO_PKG_VERSION"));

impl Export {
    /// Checks what is wanted of the snapshot in `folder`, looking into each segment for its link types. Blocks.
    pub fn prepare(folder: &Path, manifest: &Manifest, wanted: &Wanted) -> Result<Self, ExportError> {
        let chosen = choose(manifest, &wanted.nodes)?;
        let window = (
            wanted.start.unwrap_or(manifest.start),
            wanted.end.unwrap_or(manifest.end),
        );
        if window.1 <= window.0 {
            return Err(ExportError::EmptyWindow);
        }
        let unfiltered = wanted.start.is_none()
            && wanted.end.is_none()
            && wanted.bpf.is_none()
            && wanted.connections.is_none();
        // Segments of agents end with a whole block, so one may follow another; foreign files may end anywhere.
        let whole = (wanted.pcapng && unfiltered && manifest.origin == Origin::Cut)
            .then(|| chosen.iter().map(|part| part.bytes()).sum());
        let segments = folder.join(SEGMENTS);
        let mut tapes: Vec<Tape> = chosen
            .iter()
            .map(|part| Tape::new(&segments, part, whole.is_none().then_some(window)))
            .collect();
        let mut filter = match (&wanted.connections, wanted.bpf.as_deref()) {
            (Some(connections), _) => Some(Filter::Connections(
                Arc::clone(connections),
                Box::new(Router::new()),
            )),
            (None, Some(text)) => Some(Filter::Bpf(Programs::new(text)?)),
            (None, None) => None,
        };
        let mut links = BTreeSet::new();
        if whole.is_none() {
            for tape in &mut tapes {
                for path in tape.files.as_slice() {
                    links.extend(links_of(path)?);
                }
                tape.advance()?;
            }
        }
        if let Some(Filter::Bpf(programs)) = &mut filter {
            for link in &links {
                programs.program(LinkType(*link))?;
            }
        }
        let format = match (wanted.pcapng, links.len() < 2) {
            (true, _) => ExportFormat::Pcapng,
            (false, true) => ExportFormat::Pcap,
            // One classic file holds one link type: what all of them have in common is IP.
            (false, false) => ExportFormat::PcapRaw,
        };
        let nodes: Vec<&str> = chosen.iter().map(|part| part.name.as_str()).collect();
        let names = manifest
            .names
            .iter()
            .filter(|name| nodes.contains(&name.node.as_str()));
        Ok(Self {
            tapes,
            window,
            filter,
            format,
            names: names.map(|name| name.name.clone()).collect(),
            comment: String::new(),
            whole,
        })
    }

    /// Has a pcapng begin with a comment for people.
    pub fn commented(mut self, comment: String) -> Self {
        self.comment = comment;
        self
    }

    /// What comes before segments that are given out as they lie.
    fn remark(&self) -> Vec<u8> {
        if self.comment.is_empty() {
            return Vec::new();
        }
        wiretape_tape::remark(WHO, &self.comment)
    }

    /// Bytes that it will have, where that is known beforehand.
    pub fn length(&self) -> Option<u64> {
        Some(self.whole? + self.remark().len() as u64)
    }

    /// Writes it; gives the number of packets, or of bytes where segments go out as they lie. Blocks. Ends with an
    /// error as soon as `out` does not take any more.
    pub fn write(self, out: impl Write) -> Result<u64, ExportError> {
        if self.whole.is_some() {
            self.write_whole(out)
        } else {
            self.write_merged(out)
        }
    }

    fn write_whole(self, mut out: impl Write) -> Result<u64, ExportError> {
        let remark = self.remark();
        out.write_all(&remark).map_err(SinkError::Io)?;
        let mut written = remark.len() as u64;
        let mut buffer = vec![0; COPY_BYTES];
        for tape in self.tapes {
            for path in tape.files {
                let broken = |error: io::Error| ExportError::Segment {
                    path: path.clone(),
                    reason: error.to_string(),
                };
                let mut file = File::open(&path).map_err(broken)?;
                loop {
                    let read = file.read(&mut buffer).map_err(broken)?;
                    if read == 0 {
                        break;
                    }
                    out.write_all(buffer.get(..read).unwrap_or_default())
                        .map_err(SinkError::Io)?;
                    written += read as u64;
                }
            }
        }
        out.flush().map_err(SinkError::Io)?;
        Ok(written)
    }

    fn write_merged(mut self, out: impl Write) -> Result<u64, ExportError> {
        let mut sink = Sink::commented(out, self.format, WHO, &self.comment);
        sink.names(&self.names)?;
        let mut heads: BinaryHeap<Reverse<(Nanos, usize)>> = BinaryHeap::with_capacity(self.tapes.len());
        heads.extend(
            self.tapes
                .iter()
                .enumerate()
                .filter_map(|(number, tape)| Some(Reverse((tape.head()?, number)))),
        );
        while let Some(Reverse((_, number))) = heads.pop() {
            let Some(tape) = self.tapes.get_mut(number) else {
                continue;
            };
            // All that come before the next tape's first go in one run.
            let bound = heads.peek().map_or(Nanos::MAX, |Reverse((ts, _))| *ts);
            loop {
                tape.give(&mut sink, self.window, self.filter.as_mut())?;
                match tape.head() {
                    Some(ts) if ts <= bound => {}
                    Some(ts) => {
                        heads.push(Reverse((ts, number)));
                        break;
                    }
                    None => break,
                }
            }
        }
        let packets = sink.counters().packets;
        sink.finish()?;
        Ok(packets)
    }
}

fn choose<'m>(manifest: &'m Manifest, asked: &[String]) -> Result<Vec<&'m NodePart>, ExportError> {
    if let Some(asked) = asked
        .iter()
        .find(|asked| !manifest.nodes.iter().any(|part| part.name == **asked))
    {
        let there = manifest.nodes.iter().map(|part| part.name.clone()).collect();
        return Err(ExportError::UnknownNode {
            asked: super::shown(asked),
            there,
        });
    }
    let meant = |part: &&NodePart| asked.is_empty() || asked.contains(&part.name);
    Ok(manifest.nodes.iter().filter(meant).collect())
}

/// Link types of a file's packets: as its index tells, and of one that has none, as far as its first packets do.
fn links_of(path: &Path) -> Result<Vec<u16>, ExportError> {
    let links = |interfaces: &[InterfaceInfo]| interfaces.iter().map(|interface| interface.link.0).collect();
    let broken = |error: ReadError| ExportError::Segment {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    if let Some(index) = wiretape_tape::index(path).map_err(broken)? {
        return Ok(links(&index.interfaces));
    }
    let mut reader = wiretape_tape::open(path).map_err(broken)?;
    let mut chunk = Chunk::default();
    while chunk.packets.is_empty() && reader.next_chunk(&mut chunk).map_err(broken)? {}
    Ok(links(reader.interfaces()))
}

/// The segments of one node, read one after the other.
struct Tape {
    node: String,
    files: std::vec::IntoIter<PathBuf>,
    open: Option<(PathBuf, ChunkReader<Box<dyn Read + Send>>)>,
    chunk: Chunk,
    next: usize,
}

impl Tape {
    fn new(segments: &Path, part: &NodePart, window: Option<(Nanos, Nanos)>) -> Self {
        let overlaps = |first: Option<Nanos>, last: Option<Nanos>| match (window, first, last) {
            (Some((start, end)), Some(first), Some(last)) => last >= start && first < end,
            _ => true,
        };
        let files: Vec<PathBuf> = part
            .segments
            .iter()
            .filter(|segment| overlaps(segment.first, segment.last))
            .map(|segment| segments.join(&part.folder).join(&segment.name))
            .collect();
        Self {
            node: part.name.clone(),
            files: files.into_iter(),
            open: None,
            chunk: Chunk::default(),
            next: 0,
        }
    }

    /// Time of the next packet.
    fn head(&self) -> Option<Nanos> {
        self.chunk.packets.get(self.next).map(|packet| packet.ts)
    }

    /// Reads on until there is a packet, or no file any more.
    fn advance(&mut self) -> Result<(), ExportError> {
        self.next = 0;
        self.chunk.packets.clear();
        loop {
            let Some((path, reader)) = &mut self.open else {
                let Some(path) = self.files.next() else {
                    return Ok(());
                };
                let reader = wiretape_tape::open(&path).map_err(|error| ExportError::Segment {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
                self.open = Some((path, reader));
                continue;
            };
            let more = reader
                .next_chunk(&mut self.chunk)
                .map_err(|error| ExportError::Segment {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
            if !self.chunk.packets.is_empty() {
                return Ok(());
            }
            if !more {
                self.open = None;
            }
        }
    }

    /// Puts the next packet into the sink if it is wanted, and goes on to the one behind it.
    fn give<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        window: (Nanos, Nanos),
        filter: Option<&mut Filter>,
    ) -> Result<(), ExportError> {
        if let (Some(packet), Some((_, reader))) = (self.chunk.packets.get(self.next), &self.open) {
            let data = self.chunk.data(packet);
            let wanted = (window.0..window.1).contains(&packet.ts)
                && match filter {
                    Some(filter) => filter.takes(packet, data)?,
                    None => true,
                };
            if wanted {
                sink.packet(&self.node, reader.interfaces(), packet, data)?;
            }
        }
        self.next += 1;
        if self.next >= self.chunk.packets.len() {
            self.advance()?;
        }
        Ok(())
    }
}
