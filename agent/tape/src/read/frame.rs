//! Where one block or record ends and the next begins: the first thing that a broken file gets wrong.

use super::decode::{FRAME, RECORD};
use super::layout::{Kind, Order};
use crate::format::{BYTE_ORDER, MAX_BLOCK, block};

/// What stands at a place of a file.
pub(super) enum Frame {
    Whole(usize),
    /// Goes on behind the bytes at hand; so long in all.
    Partial(usize),
    Broken(String),
}

/// How long the record at the beginning of `rest` is.
pub(super) fn frame(kind: Kind, order: Order, rest: &[u8]) -> Frame {
    let (length, least) = match kind {
        Kind::Pcap => {
            let Some(head) = rest.first_chunk::<RECORD>() else {
                return Frame::Partial(RECORD);
            };
            let [_, _, captured, _] = head.as_chunks::<4>().0 else {
                return Frame::Partial(RECORD);
            };
            (RECORD + order.u32(*captured) as usize, RECORD)
        }
        Kind::Pcapng => {
            let Some(head) = rest.first_chunk::<FRAME>() else {
                return Frame::Partial(FRAME);
            };
            let [kind, length, magic] = head.as_chunks::<4>().0 else {
                return Frame::Partial(FRAME);
            };
            let order = if u32::from_le_bytes(*kind) == block::SECTION {
                match byte_order(*magic) {
                    Some(order) => order,
                    None => {
                        return Frame::Broken(format!("a section of unknown byte order {magic:02x?}"));
                    }
                }
            } else {
                order
            };
            let length = order.u32(*length) as usize;
            if !length.is_multiple_of(4) {
                return Frame::Broken(format!("a block of {length} bytes, which is no multiple of 4"));
            }
            (length, FRAME)
        }
    };
    if length < least {
        Frame::Broken(format!("a block of {length} bytes, less than its own head"))
    } else if length > MAX_BLOCK {
        Frame::Broken(format!(
            "a block of {length} bytes, more than the {MAX_BLOCK} that are read"
        ))
    } else if length > rest.len() {
        Frame::Partial(length)
    } else {
        Frame::Whole(length)
    }
}

/// By the byte-order magic of a section header.
pub(super) fn byte_order(magic: [u8; 4]) -> Option<Order> {
    match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
        (BYTE_ORDER, _) => Some(Order::Little),
        (_, BYTE_ORDER) => Some(Order::Big),
        _ => None,
    }
}
