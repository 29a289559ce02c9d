//! A capture from its beginning to its end, a megabyte at a time.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::chunk::{CHUNK_BYTES, Chunk};
use super::decode::{self, PCAP_HEADER, Place, Unreadable};
use super::frame::{Frame, byte_order, frame};
use super::input::{Failure, Input};
use super::layout::{Clock, InterfaceInfo, Kind, Layout, MAX_TABLE, Order, Section};
use super::{Damage, ReadError};
use crate::format::{block, tag};
use crate::names::Names;
use crate::{Event, LinkType, Name, PacketMeta};

/// Read at once when a reader is made, so that it knows what the file is before the first chunk.
const HEAD_BYTES: usize = 64 << 10;

/// What a reader has met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadCounters {
    /// Packets given out.
    pub packets: u64,
    /// Their captured bytes.
    pub bytes: u64,
    /// Packets that have no time (Simple Packet Blocks); theirs is 0.
    pub without_time: u64,
    /// Packets whose captured length reached beyond their block, and which were bounded by it.
    pub overlong: u64,
    /// Packets left out because their block was too short or named no known interface.
    pub unreadable: u64,
    /// Name resolution blocks passed over; our names have blocks of their own.
    pub name_resolution: u64,
    /// Decryption secrets passed over.
    pub secrets: u64,
    /// Custom blocks of other vendors, and of ours that this version does not know.
    pub custom: u64,
    /// Names blocks of ours that could not be read.
    pub bad_names: u64,
    /// Names for which there was no room.
    pub names_refused: u64,
    /// Events given out.
    pub events: u64,
    /// Events of ours that could not be read.
    pub bad_events: u64,
    /// Blocks of types that are not known here.
    pub unknown: u64,
    /// Broken blocks: at most one, because nothing behind it can be trusted.
    pub damaged: u64,
    /// Bytes from the broken block, or from the one that the file's end cuts off, to the end.
    pub unread_bytes: u64,
}

/// Opens a capture file of any kind that is read.
pub fn open(path: &Path) -> Result<ChunkReader<Box<dyn Read + Send>>, ReadError> {
    ChunkReader::new(Box::new(File::open(path)?))
}

/// Reads a capture: pcapng or pcap, of any tool, in either byte order, gzipped or not.
///
/// A block that is broken, or cut off by the end, ends the readable part: [`damage`](Self::damage) says where and why,
/// and the bytes behind it are counted.
pub struct ChunkReader<R: Read> {
    input: Input<R>,
    layout: Layout,
    /// What is read and not yet given out: the part of a block that the last chunk did not hold whole.
    carry: Vec<u8>,
    /// Length of that block, once known.
    wanted: usize,
    /// Offset of the carry in the file.
    at: u64,
    /// No more bytes come from the input.
    drained: bool,
    failed: Option<std::io::Error>,
    damage: Option<Damage>,
    node: Option<String>,
    names: Names,
    /// Only names before the first packet are of interest.
    pub(super) head_only: bool,
    /// Latest count of drops of each interface, in their order.
    drops: Vec<u64>,
    /// Drops told by packets themselves.
    drops_between: u64,
    counters: ReadCounters,
}

impl<R: Read> ChunkReader<R> {
    /// Finds out what the source is. Fails if it is no capture, or cannot be read.
    pub fn new(source: R) -> Result<Self, ReadError> {
        let mut input = Input::new(source)?;
        let mut carry = vec![0; HEAD_BYTES];
        let (filled, failure) = input.fill(&mut carry);
        carry.truncate(filled);
        let first = carry.first_chunk::<4>().copied().unwrap_or_default();
        let mut reader = Self {
            input,
            layout: Layout::pcapng(),
            carry,
            wanted: 0,
            at: 0,
            drained: filled < HEAD_BYTES,
            failed: None,
            damage: None,
            node: None,
            names: Names::default(),
            head_only: false,
            drops: Vec::new(),
            drops_between: 0,
            counters: ReadCounters::default(),
        };
        if let Some(failure) = failure {
            reader.fail(failure, filled as u64);
        }
        if u32::from_le_bytes(first) == block::SECTION {
            reader.peek_node();
        } else {
            reader.start_pcap(first)?;
        }
        Ok(reader)
    }

    /// Fills `chunk` with the next run of the file, reusing its allocations; `false` at the end. A chunk may hold no
    /// packet. An error is that of the source; what was read before it has been given out.
    pub fn next_chunk(&mut self, chunk: &mut Chunk) -> Result<bool, ReadError> {
        chunk.packets.clear();
        chunk.events.clear();
        if let Some(error) = self.failed.take_if(|_| self.drained && self.carry.is_empty()) {
            chunk.len = 0;
            return Err(error.into());
        }
        self.fill(chunk);
        if self.counters.damaged > 0 {
            // Behind a broken block: only count.
            let skipped = chunk.len;
            self.counters.unread_bytes += skipped as u64;
            chunk.len = 0;
            return Ok(skipped > 0 || self.failed.is_some());
        }
        let used = self.take_packets(chunk);
        let read = chunk.len;
        let rest = chunk.bytes().get(used..).unwrap_or(&[]);
        self.at += used as u64;
        if self.counters.damaged > 0 {
            self.counters.unread_bytes += rest.len() as u64;
        } else if self.drained {
            self.end_inside(rest.len());
        } else {
            self.carry.extend_from_slice(rest);
        }
        chunk.len = used;
        Ok(read > 0 || self.failed.is_some())
    }

    /// Counts so far.
    pub fn counters(&self) -> ReadCounters {
        ReadCounters {
            names_refused: self.names.refused(),
            ..self.counters.clone()
        }
    }

    /// The names met so far; each is given once.
    pub fn names(&mut self) -> Vec<Name> {
        self.names.take()
    }

    /// The node that recorded the file, if one of our agents did. Known from the start.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// Packets that the file says are missing in it, so far.
    pub fn losses(&self) -> u64 {
        self.drops
            .iter()
            .fold(self.drops_between, |sum, drops| sum.saturating_add(*drops))
    }

    /// The interfaces met so far; [`PacketMeta::interface`] counts in them.
    pub fn interfaces(&self) -> &[InterfaceInfo] {
        &self.layout.interfaces
    }

    /// Where and why the readable part ended before the file did.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// How the file is laid out, as far as it has been read.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether the source is gzipped.
    pub fn is_packed(&self) -> bool {
        self.input.is_packed()
    }

    /// Offset behind the last whole block read.
    pub(crate) fn read_to(&self) -> u64 {
        self.at
    }

    /// The carry, then as much of the input as makes a chunk, or the block that is waited for.
    fn fill(&mut self, chunk: &mut Chunk) {
        let space = chunk.begin(&self.carry, CHUNK_BYTES.max(self.wanted));
        self.carry.clear();
        if self.drained || space.is_empty() {
            return;
        }
        let (filled, failure) = self.input.fill(space);
        self.drained = filled < space.len();
        chunk.len += filled;
        if let Some(failure) = failure {
            self.fail(failure, self.at + chunk.len as u64);
        }
    }

    /// Gives out the packets of all whole blocks; returns where the last of them ends.
    fn take_packets(&mut self, chunk: &mut Chunk) -> usize {
        let mut used = 0;
        self.wanted = 0;
        let bytes = chunk.room.get(..chunk.len).unwrap_or_default();
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            let place = Place {
                base: used,
                at: self.at + used as u64,
            };
            let outcome = match frame(self.layout.kind, self.order(), rest) {
                Frame::Partial(wanted) => {
                    self.wanted = wanted;
                    break;
                }
                Frame::Broken(reason) => Err(reason),
                Frame::Whole(length) => {
                    let whole = rest.get(..length).unwrap_or(rest);
                    used += length;
                    self.take_record(whole, place, &mut chunk.packets, &mut chunk.events)
                }
            };
            if let Err(reason) = outcome {
                self.damage = Some(Damage { at: place.at, reason });
                self.counters.damaged += 1;
                return place.base;
            }
        }
        used
    }

    /// Takes what one whole record says. An error is the reason why nothing behind it can be read.
    fn take_record(
        &mut self,
        whole: &[u8],
        place: Place,
        packets: &mut Vec<PacketMeta>,
        events: &mut Vec<Event>,
    ) -> Result<(), String> {
        if self.layout.kind == Kind::Pcap {
            let Some(section) = self.layout.current() else {
                return Ok(());
            };
            self.count(decode::record(whole, section, place), packets);
            return Ok(());
        }
        let order = self.order();
        let kind = whole.first_chunk().map_or(0, |kind| order.u32(*kind));
        if kind == block::SECTION {
            return self.take_section(whole, place.at);
        }
        let trailing = whole.last_chunk().map(|length| order.u32(*length) as usize);
        if trailing != Some(whole.len()) {
            return Err(format!(
                "a block whose lengths disagree, {} in front",
                whole.len()
            ));
        }
        match kind {
            block::ENHANCED => {
                let Some(section) = self.layout.current() else {
                    return Ok(());
                };
                self.count(decode::enhanced(whole, section, place), packets);
            }
            block::SIMPLE => {
                let Some(section) = self.layout.current() else {
                    return Ok(());
                };
                self.counters.without_time += 1;
                self.count(decode::simple(whole, section, place), packets);
            }
            block::PACKET => {
                let Some(section) = self.layout.current() else {
                    return Ok(());
                };
                let (decoded, drops) = decode::obsolete(whole, section, place);
                self.drops_between = self.drops_between.saturating_add(drops);
                self.count(decoded, packets);
            }
            block::INTERFACE => return self.take_interface(whole),
            block::STATISTICS => self.take_statistics(whole),
            block::CUSTOM => self.take_custom(whole, events),
            block::CUSTOM_PRIVATE => self.counters.custom += 1,
            block::NAMES => self.counters.name_resolution += 1,
            block::SECRETS => self.counters.secrets += 1,
            _ => self.counters.unknown += 1,
        }
        Ok(())
    }

    fn count(&mut self, decoded: decode::Decoded, packets: &mut Vec<PacketMeta>) {
        match decoded {
            Ok((meta, overlong)) => {
                self.counters.packets += 1;
                self.counters.bytes += meta.data.len() as u64;
                self.counters.overlong += u64::from(overlong);
                packets.push(meta);
            }
            Err(Unreadable::Short | Unreadable::NoInterface) => self.counters.unreadable += 1,
        }
    }

    fn take_section(&mut self, whole: &[u8], at: u64) -> Result<(), String> {
        let magic = whole
            .get(8..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .unwrap_or_default();
        let order = byte_order(magic).ok_or("a section of unknown byte order")?;
        let version = whole
            .get(12..)
            .and_then(|rest| rest.first_chunk())
            .map(|major| order.u16(*major));
        if version != Some(1) {
            return Err(format!("a section of version {version:?}; only 1 is known"));
        }
        if whole.last_chunk().map(|length| order.u32(*length) as usize) != Some(whole.len()) {
            return Err("a section header whose lengths disagree".to_owned());
        }
        if self.layout.sections.len() >= MAX_TABLE {
            return Err(format!("more than {MAX_TABLE} sections"));
        }
        // At most MAX_TABLE.
        let first_interface = self.layout.interfaces.len() as u32;
        self.layout.sections.push(Section {
            at,
            order,
            first_interface,
        });
        Ok(())
    }

    fn take_interface(&mut self, whole: &[u8]) -> Result<(), String> {
        let interface =
            decode::interface(whole, self.order()).ok_or("an interface description that is too short")?;
        if self.layout.interfaces.len() >= MAX_TABLE {
            return Err(format!("more than {MAX_TABLE} interfaces"));
        }
        self.layout.interfaces.push(interface);
        self.drops.push(0);
        Ok(())
    }

    /// Statistics count from the beginning of the section, so the latest of an interface stands.
    fn take_statistics(&mut self, whole: &[u8]) {
        let first = self
            .layout
            .sections
            .last()
            .map_or(0, |section| section.first_interface);
        if let Some((interface, dropped)) = decode::dropped(whole, self.order())
            && let Some(drops) = self.drops.get_mut(first.saturating_add(interface) as usize)
        {
            *drops = dropped;
        }
    }

    fn take_custom(&mut self, whole: &[u8], events: &mut Vec<Event>) {
        match decode::ours(whole, self.order()) {
            Some((tag::NAMES, json)) => {
                if self.head_only && self.counters.packets > 0 {
                    return;
                }
                match serde_json::from_slice::<Vec<Name>>(json) {
                    Ok(names) => names.into_iter().for_each(|name| {
                        self.names.insert(name);
                    }),
                    Err(_) => self.counters.bad_names += 1,
                }
            }
            Some((tag::EVENT, data)) => match decode::event(data) {
                Some(event) => {
                    self.counters.events += 1;
                    events.push(event);
                }
                None => self.counters.bad_events += 1,
            },
            Some((tag::INDEX, _)) => {}
            _ => self.counters.custom += 1,
        }
    }

    /// The end came inside a record of which `rest` bytes are there.
    fn end_inside(&mut self, rest: usize) {
        if rest > 0 {
            self.counters.unread_bytes += rest as u64;
            let reason = || Damage {
                at: self.at,
                reason: format!("the file ends {rest} bytes into a block"),
            };
            self.damage.get_or_insert_with(reason);
        }
    }

    fn fail(&mut self, failure: Failure, at: u64) {
        self.drained = true;
        match failure {
            Failure::Damaged(reason) => self.damage = Some(Damage { at, reason }),
            Failure::Source(error) => self.failed = Some(error),
        }
    }

    /// Byte order of the section being read.
    fn order(&self) -> Order {
        self.layout
            .sections
            .last()
            .map_or(Order::Little, |section| section.order)
    }

    fn peek_node(&mut self) {
        if let Frame::Whole(length) = frame(self.layout.kind, self.order(), &self.carry)
            && let Some(whole) = self.carry.get(..length)
            && let Some(order) = whole
                .get(8..)
                .and_then(|rest| rest.first_chunk())
                .and_then(|m| byte_order(*m))
        {
            self.node = decode::recorded_by_us(whole, order);
        }
    }

    /// The file header of classic pcap, by its magic number.
    fn start_pcap(&mut self, magic: [u8; 4]) -> Result<(), ReadError> {
        let (order, nanos) = match u32::from_be_bytes(magic) {
            0xa1b2_c3d4 => (Order::Big, false),
            0xd4c3_b2a1 => (Order::Little, false),
            0xa1b2_3c4d => (Order::Big, true),
            0x4d3c_b2a1 => (Order::Little, true),
            _ => return Err(self.not_a_capture()),
        };
        let Some(header) = self.carry.first_chunk::<PCAP_HEADER>() else {
            return Err(self.not_a_capture());
        };
        let network = header.last_chunk().map_or(0, |network| order.u32(*network));
        // The upper bits tell of frame check sequences.
        let link = LinkType(network as u16);
        self.layout = Layout::pcap(order, link, if nanos { Clock::NANOS } else { Clock::MICROS });
        self.drops.push(0);
        self.carry.drain(..PCAP_HEADER);
        self.at = PCAP_HEADER as u64;
        Ok(())
    }

    fn not_a_capture(&mut self) -> ReadError {
        match self.failed.take() {
            Some(error) => error.into(),
            None => ReadError::NotACapture {
                found: self.carry.iter().take(8).copied().collect(),
            },
        }
    }
}
