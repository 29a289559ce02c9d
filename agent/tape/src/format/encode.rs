//! Blocks as the tape writes them: little-endian, nanosecond stamps, appended to a buffer.

use std::io;
use std::net::IpAddr;

use serde::Serialize;

use super::{BYTE_ORDER, MAX_CAPTURED, PEN, block, option, padding, tag};
use crate::{Direction, EVENT_BYTES, Event, LinkType, Name, Nanos, Packet};

/// Longest text of an option: its length field has 16 bits. Cut at a character.
const MAX_TEXT: usize = 4096;

/// JSON of names per custom block; more names go into more blocks, each small enough for any reader.
const NAMES_PER_BLOCK: usize = 256;

/// Begins a section: who recorded it, on which node, and what people should know.
pub(crate) fn section(out: &mut Vec<u8>, node: &str, agent: &str, comment: &str) {
    block(out, block::SECTION, |out| {
        out.extend_from_slice(&BYTE_ORDER.to_le_bytes());
        // Version 1.0, then the section's length: unknown while it is recorded.
        out.extend_from_slice(&[1, 0, 0, 0]);
        out.extend_from_slice(&u64::MAX.to_le_bytes());
        text(out, option::SECTION_HARDWARE, node);
        text(out, option::SECTION_APPLICATION, agent);
        text(out, option::COMMENT, comment);
        end(out);
    });
}

/// Describes an interface; it takes the next ordinal of its section.
pub(crate) fn interface(out: &mut Vec<u8>, link: LinkType, name: &str, description: &str) {
    block(out, block::INTERFACE, |out| {
        out.extend_from_slice(&link.0.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&(MAX_CAPTURED as u32).to_le_bytes());
        text(out, option::INTERFACE_NAME, name);
        text(out, option::INTERFACE_DESCRIPTION, description);
        // Nanoseconds: 10 to the power of -9.
        field(out, option::INTERFACE_TSRESOL, &[9]);
        end(out);
    });
}

/// One packet; at most [`MAX_CAPTURED`] bytes of it.
pub(crate) fn packet(out: &mut Vec<u8>, interface: u32, p: &Packet<'_>) {
    let start = out.len();
    delivered(out, interface, p);
    if let Some(reason) = p.dropped {
        with_options(out, start, p, |out| {
            text(out, option::COMMENT, &format!("dropped {}", reason.meaning()));
            let mut value = PEN.to_le_bytes().to_vec();
            value.extend_from_slice(&tag::DROPPED);
            value.extend_from_slice(reason.name().as_bytes());
            field(out, option::CUSTOM, &value);
        });
    }
}

/// What there is to say of any packet.
fn delivered(out: &mut Vec<u8>, interface: u32, p: &Packet<'_>) {
    let data = p.data.get(..MAX_CAPTURED).unwrap_or(p.data);
    let pad = padding(data.len());
    let attributed = p.cgroup != 0 || p.cookie != 0;
    let directed = p.direction != Direction::Unknown;
    let options =
        usize::from(directed) * 8 + usize::from(attributed) * 28 + usize::from(directed || attributed) * 4;
    let total = 28 + data.len() + pad + options + 4;
    // Fits: data is at most MAX_CAPTURED.
    let total_field = (total as u32).to_le_bytes();
    out.reserve(total);

    let mut head = [0; 28];
    let fields = [
        block::ENHANCED,
        total as u32,
        interface,
        (p.ts >> 32) as u32,
        p.ts as u32,
        data.len() as u32,
        p.orig_len,
    ];
    for (place, value) in head.as_chunks_mut::<4>().0.iter_mut().zip(fields) {
        *place = value.to_le_bytes();
    }
    out.extend_from_slice(&head);
    out.extend_from_slice(data);
    out.extend_from_slice(&[0; 3][..pad]);
    if directed {
        field(out, option::PACKET_FLAGS, &(p.direction as u32).to_le_bytes());
    }
    if attributed {
        out.extend_from_slice(&option::CUSTOM.to_le_bytes());
        out.extend_from_slice(&24u16.to_le_bytes());
        out.extend_from_slice(&PEN.to_le_bytes());
        out.extend_from_slice(&tag::PACKET);
        out.extend_from_slice(&p.cgroup.to_le_bytes());
        out.extend_from_slice(&p.cookie.to_le_bytes());
    }
    if directed || attributed {
        end(out);
    }
    out.extend_from_slice(&total_field);
}

/// The same, with a comment for people (section 3.5).
pub(crate) fn commented_packet(out: &mut Vec<u8>, interface: u32, p: &Packet<'_>, comment: &str) {
    let start = out.len();
    packet(out, interface, p);
    with_options(out, start, p, |out| text(out, option::COMMENT, comment));
}

/// Puts more options before those of the packet's block that begins at `start` and ends the buffer.
fn with_options(out: &mut Vec<u8>, start: usize, p: &Packet<'_>, more: impl FnOnce(&mut Vec<u8>)) {
    let captured = p.data.len().min(MAX_CAPTURED);
    let options = start + 28 + captured + padding(captured);
    // The other options with their end, if there are any, and the block's length.
    let rest = out.split_off(options);
    more(out);
    match rest.split_last_chunk::<4>() {
        Some((others, _)) if !others.is_empty() => out.extend_from_slice(others),
        _ => end(out),
    }
    // Fits: a text is cut to what an option holds.
    let total = (out.len() - start + 4) as u32;
    out.extend_from_slice(&total.to_le_bytes());
    if let Some(length) = out.get_mut(start + 4..start + 8) {
        length.copy_from_slice(&total.to_le_bytes());
    }
}

/// Names, for us as JSON in custom blocks and for every other tool as name resolution of their addresses.
pub(crate) fn names<'a>(out: &mut Vec<u8>, names: impl IntoIterator<Item = &'a Name>) -> io::Result<()> {
    let names: Vec<&Name> = names.into_iter().collect();
    for names in names.chunks(NAMES_PER_BLOCK) {
        json_block(out, tag::NAMES, &names)?;
    }
    name_resolution(out, &names);
    Ok(())
}

/// An event. `false` when it is longer than [`EVENT_BYTES`] even without its message: nothing is written then.
pub(crate) fn event(out: &mut Vec<u8>, event: &Event) -> io::Result<bool> {
    let mut json = serde_json::to_vec(event)?;
    if json.len() > EVENT_BYTES {
        let message = clip(&event.message).to_owned();
        json = serde_json::to_vec(&Event {
            message,
            ..event.clone()
        })?;
    }
    if json.len() > EVENT_BYTES {
        return Ok(false);
    }
    block(out, block::CUSTOM, |out| {
        out.extend_from_slice(&PEN.to_le_bytes());
        out.extend_from_slice(&tag::EVENT);
        out.extend_from_slice(&event.at.to_le_bytes());
        out.extend_from_slice(&json);
        out.extend_from_slice(&b"   "[..padding(json.len())]);
    });
    Ok(true)
}

/// Only the Name Resolution Block, when any of the names has an address and something to call it by.
pub(crate) fn name_resolution(out: &mut Vec<u8>, names: &[&Name]) {
    let records: Vec<(&IpAddr, String)> = names
        .iter()
        .filter_map(|name| Some((&name.addresses, display(name)?)))
        .flat_map(|(addresses, called)| addresses.iter().map(move |address| (address, called.clone())))
        .collect();
    for records in records.chunks(NAMES_PER_BLOCK) {
        block(out, block::NAMES, |out| {
            for (address, called) in records {
                let (kind, mut value) = match address {
                    IpAddr::V4(v4) => (1, v4.octets().to_vec()),
                    IpAddr::V6(v6) => (2, v6.octets().to_vec()),
                };
                value.extend_from_slice(called.as_bytes());
                value.push(0);
                field(out, kind, &value);
            }
            end(out);
        });
    }
}

/// What the recorder knows of an interface: times, packets received and packets lost, from the section's start on.
pub(crate) struct Statistics {
    /// Of the statistics themselves; that of the newest packet.
    pub at: Nanos,
    pub first: Option<Nanos>,
    pub last: Option<Nanos>,
    pub received: u64,
    pub dropped: u64,
}

/// Interface Statistics.
pub(crate) fn statistics(out: &mut Vec<u8>, interface: u32, statistics: &Statistics) {
    block(out, block::STATISTICS, |out| {
        out.extend_from_slice(&interface.to_le_bytes());
        out.extend_from_slice(&stamp(statistics.at));
        if let Some(first) = statistics.first {
            field(out, option::STATISTICS_START, &stamp(first));
        }
        if let Some(last) = statistics.last {
            field(out, option::STATISTICS_END, &stamp(last));
        }
        field(
            out,
            option::STATISTICS_RECEIVED,
            &statistics.received.to_le_bytes(),
        );
        field(out, option::STATISTICS_DROPPED, &statistics.dropped.to_le_bytes());
        end(out);
    });
}

/// Makes the block that begins at `block`, and ends the buffer with options, `lacking` bytes longer, or as many more as
/// `sector` says where an option is longer than that: by an option that nobody reads.
pub(crate) fn fill(out: &mut Vec<u8>, block: usize, lacking: usize, sector: usize) {
    /// Code, length, our number, and what it is.
    const HEAD: usize = 12;
    /// The end of the options, and the block's length.
    const END: usize = 8;
    if lacking == 0 || out.len() < block + END {
        return;
    }
    let option = if lacking < HEAD { lacking + sector } else { lacking };
    out.truncate(out.len() - END);
    out.extend_from_slice(&option::CUSTOM_PRIVATE.to_le_bytes());
    // Fits: a sector and a bit at most. Counts our number and what follows.
    out.extend_from_slice(&((option - 4) as u16).to_le_bytes());
    out.extend_from_slice(&PEN.to_le_bytes());
    out.extend_from_slice(&tag::FILLER);
    out.resize(out.len() + option - HEAD, 0);
    end(out);
    let total = ((out.len() - block + 4) as u32).to_le_bytes();
    out.extend_from_slice(&total);
    if let Some(length) = out.get_mut(block + 4..block + 8) {
        length.copy_from_slice(&total);
    }
}

/// A custom block of ours: tag, then JSON, padded with spaces, which JSON allows at its end.
pub(crate) fn json_block(out: &mut Vec<u8>, tag: [u8; 4], value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(value)?;
    block(out, block::CUSTOM, |out| {
        out.extend_from_slice(&PEN.to_le_bytes());
        out.extend_from_slice(&tag);
        out.extend_from_slice(&json);
        out.extend_from_slice(&b"   "[..padding(json.len())]);
    });
    Ok(())
}

/// Type, length, body, length again (3.1). The body keeps to 32 bits itself.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    // Fits: texts, names and the index are all bounded far below 4 GiB.
    let total = (out.len() - start + 4) as u32;
    out.extend_from_slice(&total.to_le_bytes());
    if let Some(length) = out.get_mut(start + 4..start + 8) {
        length.copy_from_slice(&total.to_le_bytes());
    }
}

/// One option, or one record of a Name Resolution Block: code, length, value, padding.
fn field(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    out.extend_from_slice(&[0; 3][..padding(value.len())]);
}

fn text(out: &mut Vec<u8>, code: u16, value: &str) {
    if !value.is_empty() {
        field(out, code, clip(value).as_bytes());
    }
}

fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(&option::END.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
}

/// A time as options and blocks hold it: the upper 32 bits first (4.3).
fn stamp(ts: Nanos) -> [u8; 8] {
    ts.rotate_left(32).to_le_bytes()
}

fn clip(value: &str) -> &str {
    value.get(..value.floor_char_boundary(MAX_TEXT)).unwrap_or(value)
}

/// What an address is called in other tools: the most telling of its names.
fn display(name: &Name) -> Option<String> {
    let called = match (name.pod.as_str(), name.namespace.as_str()) {
        ("", _) => [&name.service, &name.process]
            .into_iter()
            .find(|called| !called.is_empty())?
            .clone(),
        (pod, "") => pod.to_owned(),
        (pod, namespace) => format!("{pod}.{namespace}"),
    };
    // A zero ends the name in the record.
    Some(clip(&called).replace('\0', ""))
}
