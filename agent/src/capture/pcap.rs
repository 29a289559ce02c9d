//! Packets from libpcap, on one interface or on all: where eBPF cannot run. It knows no sockets, so no
//! cgroups.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;
use pcap::{Active, Linktype, Precision};
use wiretape_tape::{Direction, LinkType, Nanos, Packet};

use super::wake::Wait;
use super::{CaptureCounters, CaptureError, MAX_BATCH, Mark, Polled, Source, Waker};
use crate::config::Config;

/// More than any packet: GSO makes them up to 64 KiB, BIG TCP up to 512 KiB, of which libpcap's own limit is
/// kept.
const SNAPLEN: i32 = 256 * 1024;

/// How long the kernel may gather packets before it hands a block over, in milliseconds.
const BLOCK_MILLIS: i32 = 100;

/// After this time the kernel has handed over the block that a packet is in, full or not: its timer fires each
/// [`BLOCK_MILLIS`], and on a busy machine later than it should.
const BLOCK_LIFETIME: Duration = Duration::from_millis(2 * BLOCK_MILLIS as u64);

/// How often the list of interfaces is looked at.
const INTERFACES_LIFETIME: Duration = Duration::from_secs(1);

/// A live capture.
pub struct PcapCapture {
    capture: pcap::Capture<Active>,
    wait: Wait,
    interface: String,
    link: Link,
    counters: CaptureCounters,
    /// libpcap's counter of drops as read last: it is 32 bits wide and wraps.
    dropped: u32,
    interfaces: HashMap<u32, String>,
    interfaces_read: Option<Instant>,
    /// When the last poll began that took out all blocks there were.
    emptied: Option<Instant>,
    stopped: bool,
    /// Bytes of the kernel's buffer.
    buffer: u64,
}

/// What the link layer says beside the packet.
enum Link {
    /// Interface and direction of each packet stand in a header made by the kernel.
    Cooked2,
    /// Direction only.
    Cooked1,
    /// Sent if it bears the interface's own address.
    Ethernet { own: Option<[u8; 6]>, ifindex: u32 },
    /// Nothing.
    Other { number: u16, ifindex: u32 },
}

impl PcapCapture {
    /// Opens the interface of the configuration.
    ///
    /// # Errors
    /// What libpcap says: no such interface, no permission.
    pub fn open(config: &Config, waker: &Waker) -> Result<Self, CaptureError> {
        let interface = config.interface.clone();
        let (capture, link) =
            open_interface(config).map_err(|source| CaptureError::Pcap { interface, source })?;
        // SAFETY: the descriptor is open as long as `capture` is, which lives through this call. Closing it takes
        // it out of the set that is waited for.
        #[expect(unsafe_code, reason = "the pcap crate lends the descriptor as a number only")]
        let fd = unsafe { BorrowedFd::borrow_raw(capture.as_raw_fd()) };
        Ok(Self {
            wait: Wait::new(fd, EpollFlags::EPOLLIN, waker)?,
            capture,
            interface: config.interface.clone(),
            link,
            counters: CaptureCounters::default(),
            dropped: 0,
            interfaces: HashMap::new(),
            interfaces_read: None,
            emptied: None,
            stopped: false,
            buffer: u64::from(config.ring_bytes()),
        })
    }

    fn lost(&mut self, dropped: u32) {
        let lost = u64::from(dropped.wrapping_sub(self.dropped));
        self.dropped = dropped;
        self.counters.lost_buffer_full += lost;
        self.counters.seen += lost;
    }

    fn failed(&self, source: pcap::Error) -> CaptureError {
        CaptureError::Pcap {
            interface: self.interface.clone(),
            source,
        }
    }
}

/// The interface of the configuration, and what it says beside each packet.
fn open_interface(config: &Config) -> Result<(pcap::Capture<Active>, Link), pcap::Error> {
    let mut capture = pcap::Capture::from_device(config.interface.as_str())?
        .promisc(false)
        .snaplen(SNAPLEN)
        .timeout(BLOCK_MILLIS)
        .buffer_size(i32::try_from(config.ring_bytes()).unwrap_or(i32::MAX))
        .precision(Precision::Nano)
        .open()?
        .setnonblock()?;
    let cooked2 = Linktype(i32::from(LinkType::LINUX_SLL2.0));
    if capture.list_datalinks()?.contains(&cooked2) {
        capture.set_datalink(cooked2)?;
    }
    // Without cgroups, the agent's own traffic can only be told by its port. Were it recorded, every cut
    // that the hub fetches would be recorded in its turn.
    capture.filter(&format!("not tcp port {}", config.listen.port()), true)?;
    let ifindex = sysfs(&config.interface, "ifindex")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let link = match LinkType(u16::try_from(capture.get_datalink().0).unwrap_or(0)) {
        LinkType::LINUX_SLL2 => Link::Cooked2,
        LinkType::LINUX_SLL => Link::Cooked1,
        LinkType::ETHERNET => {
            let own = sysfs(&config.interface, "address").and_then(|text| ethernet_address(&text));
            Link::Ethernet { own, ifindex }
        }
        // libpcap numbers raw IP as the host does; files number it 101.
        LinkType(12 | 14) => Link::Other {
            number: LinkType::RAW.0,
            ifindex,
        },
        LinkType(number) => Link::Other { number, ifindex },
    };
    Ok((capture, link))
}

impl Source for PcapCapture {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
        if self.stopped {
            return Ok(Polled::Packets(0));
        }
        self.wait.wait(timeout)?;
        let begun = Instant::now();
        let (link, counters) = (&self.link, &mut self.counters);
        let dispatched = self.capture.dispatch(Some(MAX_BATCH), |packet| {
            let (link, ifindex, direction) = link.describe(packet.data);
            // libpcap's own count goes ahead of the packets that it has handed over.
            counters.seen += 1;
            counters.seen_bytes += u64::from(packet.header.len);
            counters.truncated += u64::from(packet.header.caplen < packet.header.len);
            sink(&Packet {
                ts: nanos(packet.header),
                data: packet.data,
                orig_len: packet.header.len,
                link,
                ifindex,
                direction,
                cgroup: 0,
                cookie: 0,
                dropped: None,
            });
        });
        let handed = match dispatched {
            Ok(handed) => handed,
            Err(pcap::Error::TimeoutExpired) => 0,
            Err(source) => return Err(self.failed(source)),
        };
        if handed < MAX_BATCH {
            self.emptied = Some(begun);
        }
        Ok(Polled::Packets(handed))
    }

    /// The kernel gathers packets in blocks that it does not show before it hands them over, so a mark is a time.
    fn mark(&mut self) -> Result<Mark, CaptureError> {
        Ok(Mark {
            at: Instant::now(),
            packets: u64::MAX,
        })
    }

    fn is_past(&mut self, mark: &Mark) -> Result<bool, CaptureError> {
        let emptied = |since: Instant| self.emptied.is_some_and(|emptied| emptied >= since);
        Ok(self.stopped || emptied(mark.at + BLOCK_LIFETIME))
    }

    fn counters(&mut self) -> Result<CaptureCounters, CaptureError> {
        if !self.stopped {
            let stat = self.capture.stats().map_err(|source| self.failed(source))?;
            self.lost(stat.dropped);
        }
        Ok(self.counters)
    }

    fn new_interfaces(&mut self) -> Vec<(u32, String)> {
        if self
            .interfaces_read
            .is_some_and(|read| read.elapsed() < INTERFACES_LIFETIME)
        {
            return Vec::new();
        }
        self.interfaces_read = Some(Instant::now());
        let names = interfaces().filter(|(ifindex, name)| self.interfaces.get(ifindex) != Some(name));
        let new: Vec<_> = names.collect();
        self.interfaces.extend(new.iter().cloned());
        new
    }

    fn memory(&self) -> u64 {
        self.buffer
    }

    fn stop(&mut self) {
        self.stopped = true;
    }
}

impl Link {
    /// Link type, interface and direction of one packet.
    fn describe(&self, data: &[u8]) -> (LinkType, u32, Direction) {
        match self {
            // LINKTYPE_LINUX_SLL2: protocol 2, reserved 2, interface index 4, ARPHRD 2, packet type 1.
            Self::Cooked2 => {
                let ifindex = data
                    .get(4..8)
                    .and_then(|bytes| bytes.first_chunk())
                    .map_or(0, |b| u32::from_be_bytes(*b));
                let kind = data.get(10).copied().map(u16::from);
                (
                    LinkType::LINUX_SLL2,
                    ifindex,
                    cooked_direction(u16_at(data, 8), kind),
                )
            }
            // LINKTYPE_LINUX_SLL: packet type 2, ARPHRD 2.
            Self::Cooked1 => {
                let direction = cooked_direction(u16_at(data, 2), u16_at(data, 0));
                (LinkType::LINUX_SLL, 0, direction)
            }
            Self::Ethernet { own, ifindex } => {
                let direction = match (own, data.get(6..12)) {
                    (Some(own), Some(source)) if own == source => Direction::Out,
                    (Some(_), Some(_)) => Direction::In,
                    _ => Direction::Unknown,
                };
                (LinkType::ETHERNET, *ifindex, direction)
            }
            Self::Other { number, ifindex } => (LinkType(*number), *ifindex, Direction::Unknown),
        }
    }
}

/// Loopback in the kernel's `if_arp.h`.
const ARPHRD_LOOPBACK: u16 = 772;

/// Packet types of the kernel's `if_packet.h`: 0 to us, 1 broadcast, 2 multicast, 3 to somebody else, 4 sent
/// by us.
fn cooked_direction(hardware: Option<u16>, kind: Option<u16>) -> Direction {
    match (hardware, kind) {
        // What passes over it passes twice, and libpcap leaves out the sending. What is left is neither end's view
        // of a connection: as received, requests would all be the server's, and responses the client's.
        (Some(ARPHRD_LOOPBACK), _) => Direction::Unknown,
        (_, Some(0..=2)) => Direction::In,
        (_, Some(4)) => Direction::Out,
        _ => Direction::Unknown,
    }
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?
        .first_chunk()
        .map(|bytes| u16::from_be_bytes(*bytes))
}

fn nanos(header: &pcap::PacketHeader) -> Nanos {
    // With nanosecond precision, the microsecond field holds nanoseconds.
    let (seconds, nanos) = (u64::try_from(header.ts.tv_sec), u64::try_from(header.ts.tv_usec));
    seconds.unwrap_or(0) * 1_000_000_000 + nanos.unwrap_or(0)
}

fn sysfs(interface: &str, file: &str) -> Option<String> {
    Some(
        fs::read_to_string(format!("/sys/class/net/{interface}/{file}"))
            .ok()?
            .trim()
            .to_owned(),
    )
}

fn ethernet_address(text: &str) -> Option<[u8; 6]> {
    let mut address = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut address {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    // The loopback interface's address is all zeros, at both ends.
    (parts.next().is_none() && address != [0; 6]).then_some(address)
}

fn interfaces() -> impl Iterator<Item = (u32, String)> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| Some((sysfs(&name, "ifindex")?.parse().ok()?, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cooked_header_tells_interface_and_direction() {
        let mut data = [0; 20];
        data[7] = 3;
        data[10] = 4;
        assert_eq!(
            Link::Cooked2.describe(&data),
            (LinkType::LINUX_SLL2, 3, Direction::Out)
        );
        assert_eq!(
            Link::Cooked1.describe(&[0, 0, 0, 1]),
            (LinkType::LINUX_SLL, 0, Direction::In)
        );
        assert_eq!(
            Link::Cooked2.describe(&[0; 3]),
            (LinkType::LINUX_SLL2, 0, Direction::Unknown)
        );
    }

    #[test]
    fn a_packet_on_the_loopback_interface_is_neither_sent_nor_received() {
        let mut data = [0; 20];
        data[7] = 1;
        data[8..10].copy_from_slice(&ARPHRD_LOOPBACK.to_be_bytes());
        assert_eq!(
            Link::Cooked2.describe(&data),
            (LinkType::LINUX_SLL2, 1, Direction::Unknown)
        );
        let [high, low] = ARPHRD_LOOPBACK.to_be_bytes();
        assert_eq!(
            Link::Cooked1.describe(&[0, 0, high, low]),
            (LinkType::LINUX_SLL, 0, Direction::Unknown)
        );
    }

    #[test]
    fn a_frame_with_the_interfaces_own_address_was_sent() {
        let own = ethernet_address("02:00:00:00:00:01");
        let link = Link::Ethernet { own, ifindex: 7 };
        let frame = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0];
        assert_eq!(link.describe(&frame), (LinkType::ETHERNET, 7, Direction::Out));
        assert_eq!(link.describe(&[0; 14]).2, Direction::In);
        assert_eq!(ethernet_address("00:00:00:00:00:00"), None);
    }
}
