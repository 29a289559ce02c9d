//! Packets out again: one file of what was asked for, from any number of tapes.

use std::collections::HashMap;
use std::io::{self, Write};

use crate::format::{APPLICATION, encode};
use crate::{InterfaceInfo, LinkType, Name, Packet, PacketMeta};

/// Bytes gathered before they are written.
const WRITE_BUFFER: usize = 64 << 10;

/// Magic number of pcap with nanosecond stamps.
const PCAP_NANOS: u32 = 0xa1b2_3c4d;

/// What an export is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// pcapng: every interface, direction and owner is kept, and what addresses are called.
    Pcapng,
    /// Classic pcap with nanosecond stamps, of the first packet's link type. Packets of another are refused.
    Pcap,
    /// Classic pcap with nanosecond stamps, of IP packets alone: link headers are stripped, so that tapes of any
    /// recorder go into one file. Packets that are not IP are left out and counted.
    PcapRaw,
}

/// Why a packet cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Classic pcap knows one link type per file.
    #[error("packets of link types {} and {} do not go into one pcap file; export pcapng, or IP packets alone", first.0, other.0)]
    MixedLinks {
        /// Of the file.
        first: LinkType,
        /// Of the packet.
        other: LinkType,
    },
    /// The sink failed.
    #[error("cannot write the export: {0}")]
    Io(#[from] io::Error),
}

/// What was exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportCounters {
    /// Packets written.
    pub packets: u64,
    /// Their captured bytes.
    pub bytes: u64,
    /// Packets left out because they are not IP.
    pub not_ip: u64,
}

/// Ordinals of interfaces with one name by link, and by number in their file where that name is empty.
type Namesakes = HashMap<(u32, LinkType), u32>;

/// Writes packets of one or more nodes as one capture file.
pub struct Export<W: Write> {
    out: W,
    format: ExportFormat,
    buffer: Vec<u8>,
    /// Of classic pcap, once its header is written.
    link: Option<LinkType>,
    /// Ordinals by node and the interface's name there: segments number theirs anew, each as packets come.
    interfaces: HashMap<String, HashMap<String, Namesakes>>,
    next_interface: u32,
    counters: ExportCounters,
}

impl<W: Write> Export<W> {
    /// Begins a file. `who` stands in it as the application, behind `wiretape`: e.g. `hub 0.1.0`.
    pub fn new(out: W, format: ExportFormat, who: &str) -> Self {
        Self::commented(out, format, who, "")
    }

    /// The same, with a comment on the whole for people, if there is something to say. Classic pcap has no place for it.
    pub fn commented(out: W, format: ExportFormat, who: &str, comment: &str) -> Self {
        let mut buffer = Vec::with_capacity(WRITE_BUFFER);
        if format == ExportFormat::Pcapng {
            buffer.extend_from_slice(&remark(who, comment));
        }
        let interfaces = HashMap::new();
        Self {
            out,
            format,
            buffer,
            link: None,
            interfaces,
            next_interface: 0,
            counters: ExportCounters::default(),
        }
    }

    /// Puts names in, as name resolution of their addresses. Our own names blocks stay out: other tools list a custom
    /// block among the packets. Classic pcap has no place for names at all.
    pub fn names<'a>(&mut self, names: impl IntoIterator<Item = &'a Name>) -> Result<(), ExportError> {
        if self.format == ExportFormat::Pcapng {
            let names: Vec<&Name> = names.into_iter().collect();
            encode::name_resolution(&mut self.buffer, &names);
        }
        Ok(self.drain(WRITE_BUFFER)?)
    }

    /// Puts a packet in: `interfaces` are those of its file, `data` its captured bytes.
    pub fn packet(
        &mut self,
        node: &str,
        interfaces: &[InterfaceInfo],
        meta: &PacketMeta,
        data: &[u8],
    ) -> Result<(), ExportError> {
        self.commented_packet(node, interfaces, meta, data, "")
    }

    /// The same, with a comment for people where there is something to say. Classic pcap has no place for it.
    pub fn commented_packet(
        &mut self,
        node: &str,
        interfaces: &[InterfaceInfo],
        meta: &PacketMeta,
        data: &[u8],
        comment: &str,
    ) -> Result<(), ExportError> {
        let (link, data, stripped) = match self.format {
            ExportFormat::Pcapng | ExportFormat::Pcap => (meta.link, data, 0),
            ExportFormat::PcapRaw => match strip_link(meta.link, data) {
                Some(ip) => (LinkType::RAW, ip, data.len() - ip.len()),
                None => {
                    self.counters.not_ip += 1;
                    return Ok(());
                }
            },
        };
        let packet = Packet {
            ts: meta.ts,
            data,
            orig_len: meta.orig_len.saturating_sub(stripped as u32),
            link,
            ifindex: 0,
            direction: meta.direction,
            cgroup: meta.cgroup,
            cookie: meta.cookie,
            dropped: meta.dropped,
        };
        match self.format {
            ExportFormat::Pcapng => {
                let interface = self.interface(node, interfaces, meta);
                if comment.is_empty() {
                    encode::packet(&mut self.buffer, interface, &packet);
                } else {
                    encode::commented_packet(&mut self.buffer, interface, &packet, comment);
                }
            }
            ExportFormat::Pcap | ExportFormat::PcapRaw => self.record(&packet)?,
        }
        self.counters.packets += 1;
        self.counters.bytes += data.len() as u64;
        Ok(self.drain(WRITE_BUFFER)?)
    }

    /// Counts so far.
    pub fn counters(&self) -> ExportCounters {
        self.counters
    }

    /// Writes what is left and gives the sink back. Of classic pcap without a packet, the header says raw IP.
    pub fn finish(mut self) -> Result<W, ExportError> {
        if self.format != ExportFormat::Pcapng && self.link.is_none() {
            self.pcap_header(LinkType::RAW);
        }
        self.drain(0)?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Ordinal of an interface in the export; described there on first use.
    fn interface(&mut self, node: &str, interfaces: &[InterfaceInfo], meta: &PacketMeta) -> u32 {
        let own = interfaces
            .get(meta.interface as usize)
            .map_or("", |interface| interface.name.as_str());
        let number = if own.is_empty() { meta.interface } else { 0 };
        let key = (number, meta.link);
        let known = self.interfaces.get(node).and_then(|known| known.get(own));
        if let Some(ordinal) = known.and_then(|namesakes| namesakes.get(&key)) {
            return *ordinal;
        }
        let name = [node, own]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/");
        encode::interface(&mut self.buffer, meta.link, &name, node);
        let ordinal = self.next_interface;
        self.next_interface += 1;
        self.interfaces
            .entry(node.to_owned())
            .or_default()
            .entry(own.to_owned())
            .or_default()
            .insert(key, ordinal);
        ordinal
    }

    fn record(&mut self, packet: &Packet<'_>) -> Result<(), ExportError> {
        match self.link {
            None => self.pcap_header(packet.link),
            Some(first) if first != packet.link => {
                return Err(ExportError::MixedLinks {
                    first,
                    other: packet.link,
                });
            }
            Some(_) => {}
        }
        // Seconds have 32 bits in this format: until 2106.
        let seconds = (packet.ts / 1_000_000_000) as u32;
        let nanos = (packet.ts % 1_000_000_000) as u32;
        for field in [seconds, nanos, packet.data.len() as u32, packet.orig_len] {
            self.buffer.extend_from_slice(&field.to_le_bytes());
        }
        self.buffer.extend_from_slice(packet.data);
        Ok(())
    }

    fn pcap_header(&mut self, link: LinkType) {
        self.link = Some(link);
        self.buffer.extend_from_slice(&PCAP_NANOS.to_le_bytes());
        // Version 2.4, then zone and accuracy, which are always zero.
        self.buffer
            .extend_from_slice(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        self.buffer
            .extend_from_slice(&(crate::MAX_CAPTURED as u32).to_le_bytes());
        self.buffer.extend_from_slice(&u32::from(link.0).to_le_bytes());
    }

    /// Writes the buffer once it holds more than `most` bytes.
    fn drain(&mut self, most: usize) -> io::Result<()> {
        if self.buffer.len() > most {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// A pcapng section with nothing in it but a comment, for before segments that are given out as they lie.
pub fn remark(who: &str, comment: &str) -> Vec<u8> {
    let mut section = Vec::new();
    encode::section(&mut section, "", &format!("{APPLICATION}-{who}"), comment);
    section
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad and the older stacked tags.
const ETHERTYPE_TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// The IP packet in a frame; `None` when there is none.
fn strip_link(link: LinkType, frame: &[u8]) -> Option<&[u8]> {
    match link.0 {
        // RAW, and BSD's numbers for it (IPV4 and IPV6 are 228 and 229).
        12 | 14 | 101 | 228 | 229 => Some(frame),
        // NULL and LOOP: four bytes of address family.
        0 | 108 => frame.get(4..),
        1 => strip_ethertype(frame.get(12..)?),
        // SLL ends with the type; SLL2 begins with it, 20 bytes in all.
        113 => strip_ethertype(frame.get(14..)?),
        276 => is_ip(frame.get(..2)?).then_some(frame.get(20..)?),
        _ => None,
    }
    .filter(|packet| matches!(packet.first().map(|byte| byte >> 4), Some(4 | 6)))
}

/// What follows an Ethernet type and any tags.
fn strip_ethertype(mut rest: &[u8]) -> Option<&[u8]> {
    while rest
        .first_chunk()
        .is_some_and(|kind| ETHERTYPE_TAGS.contains(&u16::from_be_bytes(*kind)))
    {
        rest = rest.get(4..)?;
    }
    is_ip(rest).then_some(rest.get(2..)?)
}

fn is_ip(kind: &[u8]) -> bool {
    kind.first_chunk()
        .is_some_and(|kind| [ETHERTYPE_IPV4, ETHERTYPE_IPV6].contains(&u16::from_be_bytes(*kind)))
}
