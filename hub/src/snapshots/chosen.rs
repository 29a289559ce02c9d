//! Which packets of a snapshot an export takes: those that pass a filter in libpcap's language, or those of certain
//! connections.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pcap::{BpfProgram, Capture, Linktype, Precision};
use wiretape_dissect::{FlowKey, Packet, Routed, Router};
use wiretape_tape::{LinkType, Nanos, PacketMeta};

use super::ExportError;
use crate::dissections::{direction, link};

/// A connection's transport, and the times between which it is meant.
type Span = (String, Nanos, Nanos);

/// Connections by their addresses and ports, with the times between which these are meant: ports are used again.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    spans: HashMap<FlowKey, Vec<Span>>,
    count: usize,
}

impl Connections {
    /// Adds one of a transport, by the name that it is stored with.
    pub fn add(
        &mut self,
        transport: &str,
        (client, server): (SocketAddr, SocketAddr),
        (from, to): (Nanos, Nanos),
    ) {
        let end = |address: SocketAddr| {
            let ip = match address.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            (ip.octets(), address.port())
        };
        let (key, _) = FlowKey::new(end(client), end(server));
        let spans = self.spans.entry(key).or_default();
        spans.push((transport.to_owned(), from, to));
        self.count += 1;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn has(&self, transport: &str, key: &FlowKey, at: Nanos) -> bool {
        let meant = |(of, from, to): &Span| of == transport && (*from..*to).contains(&at);
        self.spans
            .get(&key.anywhere())
            .is_some_and(|spans| spans.iter().any(meant))
    }
}

/// Decides packet by packet.
pub(super) enum Filter {
    /// libpcap's language.
    Bpf(Programs),
    /// Certain connections. Fragments of a datagram have no ports but the first, and only the last shows what they are
    /// together: of a fragmented one that alone is taken.
    Connections(Arc<Connections>, Box<Router>),
}

impl Filter {
    /// Whether a packet is taken.
    pub(super) fn takes(&mut self, meta: &PacketMeta, data: &[u8]) -> Result<bool, ExportError> {
        match self {
            Self::Bpf(programs) => Ok(programs.program(meta.link)?.filter(data)),
            Self::Connections(connections, router) => {
                let Some(link) = link(meta.link) else {
                    return Ok(false);
                };
                let routed = router.route(&Packet {
                    ts: meta.ts,
                    data,
                    orig_len: meta.orig_len,
                    link,
                    direction: direction(meta.direction),
                    tape: 0,
                    interface: meta.interface,
                    cgroup: meta.cgroup,
                    at: meta.at,
                });
                Ok(match routed {
                    Routed::Segment { segment, .. } | Routed::Owned { segment, .. } => {
                        connections.has("tcp", &segment.flow, meta.ts)
                    }
                    Routed::Datagram { datagram, .. } => {
                        connections.has(&datagram.transport.name(), &datagram.flow, meta.ts)
                    }
                    Routed::Held | Routed::Skipped(_) => false,
                })
            }
        }
    }
}

/// A filter in libpcap's language, compiled for each link type that is met.
pub(super) struct Programs {
    text: String,
    programs: BTreeMap<u16, BpfProgram>,
}

impl Programs {
    pub(super) fn new(text: &str) -> Result<Self, ExportError> {
        // libpcap takes the text up to the first NUL.
        if text.contains('\0') {
            return Err(ExportError::Filter {
                reason: "it contains a NUL character".to_owned(),
            });
        }
        let mut filter = Self {
            text: text.to_owned(),
            programs: BTreeMap::new(),
        };
        // So that nonsense is told even where there is no packet.
        if filter.program(LinkType::RAW).is_err() {
            filter.program(LinkType::ETHERNET)?;
        }
        Ok(filter)
    }

    pub(super) fn program(&mut self, link: LinkType) -> Result<&BpfProgram, ExportError> {
        match self.programs.entry(link.0) {
            std::collections::btree_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::btree_map::Entry::Vacant(free) => {
                let program = compile(&self.text, link).map_err(|reason| ExportError::Filter { reason })?;
                Ok(free.insert(program))
            }
        }
    }
}

fn compile(text: &str, link: LinkType) -> Result<BpfProgram, String> {
    // Files call raw IP 101, libpcap on Linux calls it 12 (<https://www.tcpdump.org/linktypes.html>, LINKTYPE_RAW).
    let number = if link == LinkType::RAW {
        12
    } else {
        i32::from(link.0)
    };
    let said = |error: pcap::Error| match error {
        pcap::Error::PcapError(words) => words,
        error => error.to_string(),
    };
    let capture = Capture::dead_with_precision(Linktype(number), Precision::Nano).map_err(said)?;
    capture.compile(text, true).map_err(said)
}
