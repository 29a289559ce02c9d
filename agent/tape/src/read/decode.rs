//! From a block's bytes to what it says. Nothing here trusts a length.

use std::ops::Range;

use super::layout::{Clock, InterfaceInfo, Order, View};
use crate::format::{APPLICATION, PEN, option, padding, tag};
use crate::{Direction, DropReason, Event, LinkType, PacketMeta};

/// Type and length in front, length again behind.
pub(super) const HEAD: usize = 8;
pub(super) const FRAME: usize = 12;

/// Header of a classic pcap file, and of each record in it.
pub(super) const PCAP_HEADER: usize = 24;
pub(super) const RECORD: usize = 16;

/// Where a packet's block stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// In the bytes that the packet's data range counts from.
    pub base: usize,
    /// In the file.
    pub at: u64,
}

/// Why a packet's block gives no packet, though its frame is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Too short for its fixed fields.
    Short,
    /// Its interface was never described.
    NoInterface,
}

/// A packet, and whether its captured length reached beyond its block (it then ends with the block).
pub(super) type Decoded = Result<(PacketMeta, bool), Unreadable>;

/// An Enhanced Packet Block (4.3). `block` is the whole block.
pub(super) fn enhanced(block: &[u8], section: View<'_>, place: Place) -> Decoded {
    let (fixed, rest) = body(block).split_first_chunk::<20>().ok_or(Unreadable::Short)?;
    let &[interface, high, low, captured, original] = fixed.as_chunks::<4>().0 else {
        return Err(Unreadable::Short);
    };
    let order = section.order;
    let fields = Fields {
        interface: order.u32(interface),
        stamp: u64::from(order.u32(high)) << 32 | u64::from(order.u32(low)),
        captured: order.u32(captured),
        original: order.u32(original),
        data_at: HEAD + 20,
    };
    with_options(fields, rest, section, place)
}

/// A Packet Block, obsolete (appendix A): the packet, and the packets lost before it.
pub(super) fn obsolete(block: &[u8], section: View<'_>, place: Place) -> (Decoded, u64) {
    let Some((fixed, rest)) = body(block).split_first_chunk::<20>() else {
        return (Err(Unreadable::Short), 0);
    };
    let &[ids, high, low, captured, original] = fixed.as_chunks::<4>().0 else {
        return (Err(Unreadable::Short), 0);
    };
    let order = section.order;
    let [i0, i1, d0, d1] = ids;
    let drops = order.u16([d0, d1]);
    let fields = Fields {
        interface: u32::from(order.u16([i0, i1])),
        stamp: u64::from(order.u32(high)) << 32 | u64::from(order.u32(low)),
        captured: order.u32(captured),
        original: order.u32(original),
        data_at: HEAD + 20,
    };
    // All ones: not known.
    let drops = if drops == u16::MAX { 0 } else { u64::from(drops) };
    (with_options(fields, rest, section, place), drops)
}

/// A Simple Packet Block (4.4): of the section's first interface, without a time (it stays 0).
pub(super) fn simple(block: &[u8], section: View<'_>, place: Place) -> Decoded {
    let (original, data) = body(block).split_first_chunk::<4>().ok_or(Unreadable::Short)?;
    let original = section.order.u32(*original);
    let interface = section.interfaces.first().ok_or(Unreadable::NoInterface)?;
    let snapped = if interface.snap == 0 {
        original
    } else {
        original.min(interface.snap)
    };
    let captured = data.len().min(snapped as usize);
    let meta = PacketMeta {
        ts: 0,
        data: range(place.base + HEAD + 4, captured),
        orig_len: original,
        link: interface.link,
        interface: section.first_interface,
        direction: Direction::Unknown,
        cgroup: 0,
        cookie: 0,
        dropped: None,
        at: place.at,
    };
    Ok((meta, captured < snapped as usize))
}

/// One record of a classic pcap file, whose data is all there.
pub(super) fn record(record: &[u8], section: View<'_>, place: Place) -> Decoded {
    let (fixed, data) = record.split_first_chunk::<RECORD>().ok_or(Unreadable::Short)?;
    let &[seconds, fraction, captured, original] = fixed.as_chunks::<4>().0 else {
        return Err(Unreadable::Short);
    };
    let order = section.order;
    let interface = section.interfaces.first().ok_or(Unreadable::NoInterface)?;
    let captured = data.len().min(order.u32(captured) as usize);
    let meta = PacketMeta {
        ts: u64::from(order.u32(seconds)) * 1_000_000_000 + interface.clock.nanos(order.u32(fraction).into()),
        data: range(place.base + RECORD, captured),
        orig_len: order.u32(original),
        link: interface.link,
        interface: 0,
        direction: Direction::Unknown,
        cgroup: 0,
        cookie: 0,
        dropped: None,
        at: place.at,
    };
    Ok((meta, false))
}

/// What an Enhanced Packet and its ancestor have in common.
struct Fields {
    interface: u32,
    stamp: u64,
    captured: u32,
    original: u32,
    /// Where the data begin in the block.
    data_at: usize,
}

fn with_options(fields: Fields, rest: &[u8], section: View<'_>, place: Place) -> Decoded {
    let interface = section
        .interfaces
        .get(fields.interface as usize)
        .ok_or(Unreadable::NoInterface)?;
    let claimed = fields.captured as usize;
    let captured = claimed.min(rest.len());
    let mut meta = PacketMeta {
        ts: interface.clock.nanos(fields.stamp),
        data: range(place.base + fields.data_at, captured),
        orig_len: fields.original,
        link: interface.link,
        interface: section.first_interface.saturating_add(fields.interface),
        direction: Direction::Unknown,
        cgroup: 0,
        cookie: 0,
        dropped: None,
        at: place.at,
    };
    let list = rest.get(captured + padding(captured)..).unwrap_or(&[]);
    for (code, value) in options(list, section.order) {
        match code {
            option::PACKET_FLAGS => meta.direction = direction(value, section.order),
            option::CUSTOM => {
                if let Some((cgroup, cookie)) = owner(value, section.order) {
                    (meta.cgroup, meta.cookie) = (cgroup, cookie);
                } else if let Some(reason) = drop_reason(value, section.order) {
                    meta.dropped = Some(reason);
                }
            }
            _ => {}
        }
    }
    Ok((meta, captured < claimed))
}

/// `epb_flags` bits 0 and 1.
fn direction(value: &[u8], order: Order) -> Direction {
    match value.first_chunk::<4>().map(|flags| order.u32(*flags) & 3) {
        Some(1) => Direction::In,
        Some(2) => Direction::Out,
        _ => Direction::Unknown,
    }
}

/// Our custom option: the owning socket's cgroup and cookie. Little-endian whatever the section is, because tools
/// that copy a file into their own byte order do not know what is in it.
fn owner(value: &[u8], order: Order) -> Option<(u64, u64)> {
    let (pen, value) = value.split_first_chunk::<4>()?;
    let value = value.strip_prefix(&tag::PACKET)?;
    let &[cgroup, cookie] = value.as_chunks::<8>().0 else {
        return None;
    };
    (order.u32(*pen) == PEN).then_some((u64::from_le_bytes(cgroup), u64::from_le_bytes(cookie)))
}

/// Our other custom option: why the kernel dropped it.
fn drop_reason(value: &[u8], order: Order) -> Option<DropReason> {
    let (pen, value) = value.split_first_chunk::<4>()?;
    let name = value.strip_prefix(&tag::DROPPED)?;
    let name = std::str::from_utf8(name).unwrap_or_default();
    (order.u32(*pen) == PEN).then(|| DropReason::of(name))
}

/// A Section Header Block: the node that recorded it, if we did.
pub(super) fn recorded_by_us(block: &[u8], order: Order) -> Option<String> {
    let list = body(block).get(16..)?;
    let find = |wanted| {
        options(list, order)
            .find(|(code, _)| *code == wanted)
            .map(|(_, value)| value)
    };
    find(option::SECTION_APPLICATION)?
        .starts_with(APPLICATION.as_bytes())
        .then_some(())?;
    Some(string(find(option::SECTION_HARDWARE)?))
}

/// An Interface Description Block (4.2).
pub(super) fn interface(block: &[u8], order: Order) -> Option<InterfaceInfo> {
    let (fixed, list) = body(block).split_first_chunk::<8>()?;
    let &[l0, l1, _, _, s0, s1, s2, s3] = fixed;
    let mut interface = InterfaceInfo {
        link: LinkType(order.u16([l0, l1])),
        name: String::new(),
        clock: Clock::MICROS,
        snap: order.u32([s0, s1, s2, s3]),
    };
    for (code, value) in options(list, order) {
        match (code, value) {
            (option::INTERFACE_NAME, name) => interface.name = string(name),
            (option::INTERFACE_TSRESOL, [resolution, ..]) => {
                interface.clock = interface.clock.with_resolution(*resolution);
            }
            (option::INTERFACE_TSOFFSET, offset) => {
                if let Some(offset) = offset.first_chunk() {
                    interface.clock = interface.clock.with_offset(order.u64(*offset).cast_signed());
                }
            }
            _ => {}
        }
    }
    Some(interface)
}

/// An Interface Statistics Block (4.6): interface and packets dropped so far, if it says.
pub(super) fn dropped(block: &[u8], order: Order) -> Option<(u32, u64)> {
    let (fixed, list) = body(block).split_first_chunk::<12>()?;
    let interface = order.u32(*fixed.first_chunk()?);
    let (_, value) = options(list, order).find(|(code, _)| *code == option::STATISTICS_DROPPED)?;
    Some((interface, order.u64(*value.first_chunk()?)))
}

/// A Custom Block (4.8) of ours: its tag and what follows.
pub(super) fn ours(block: &[u8], order: Order) -> Option<([u8; 4], &[u8])> {
    let (pen, data) = body(block).split_first_chunk::<4>()?;
    let (tag, data) = data.split_first_chunk::<4>()?;
    (order.u32(*pen) == PEN).then_some((*tag, data))
}

/// An event, as it stands behind its tag. The time is little-endian whatever the section is, as the owner of a packet is.
pub(super) fn event(data: &[u8]) -> Option<Event> {
    let (at, json) = data.split_first_chunk()?;
    let event: Event = serde_json::from_slice(json).ok()?;
    Some(Event {
        at: u64::from_le_bytes(*at),
        ..event
    })
}

/// The options of a list, up to its end or to the first that does not fit.
fn options(list: &[u8], order: Order) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let (head, after) = rest.split_first_chunk::<4>()?;
        let &[c0, c1, l0, l1] = head;
        let code = order.u16([c0, c1]);
        let length = usize::from(order.u16([l0, l1]));
        if code == option::END {
            return None;
        }
        let value = after.get(..length)?;
        rest = after.get(length + padding(length)..).unwrap_or(&[]);
        Some((code, value))
    })
}

/// What stands between the head and the trailing length.
fn body(block: &[u8]) -> &[u8] {
    block
        .get(HEAD..block.len().saturating_sub(FRAME - HEAD))
        .unwrap_or(&[])
}

fn string(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

/// Chunks are far smaller than 4 GiB.
fn range(start: usize, len: usize) -> Range<u32> {
    start as u32..(start + len) as u32
}
