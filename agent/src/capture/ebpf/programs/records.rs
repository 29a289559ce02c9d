//! Records of the ring: what the programs say of a packet, and its bytes.

use wiretape_agent_ebpf::choice::{Choice, asks};
use wiretape_agent_ebpf::filter::{self, Frame};
use wiretape_agent_ebpf::{PACKET_RECORD_BYTES, PacketRecord, kind};

/// Takes a record of the ring apart; `None` for a kind that this agent does not know.
pub(super) fn parse(item: &[u8]) -> Option<(PacketRecord, &[u8])> {
    let (head, data) = item.split_first_chunk::<PACKET_RECORD_BYTES>()?;
    let u32_at = |at: usize| Some(u32::from_ne_bytes(*head.get(at..)?.first_chunk()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(*head.get(at..)?.first_chunk()?));
    let record = PacketRecord {
        kind: u32_at(0)?,
        captured: u32_at(4)?,
        time: u64_at(8)?,
        cgroup: u64_at(16)?,
        cookie: u64_at(24)?,
        orig_len: u32_at(32)?,
        ifindex: u32_at(36)?,
    };
    let data = data.get(..record.captured as usize)?;
    kind::is_packet(record.kind).then_some((record, data))
}

/// Whether the filter, if there is one, lets a packet through.
pub(super) fn passes(choice: &Choice, record: &PacketRecord, data: &[u8]) -> bool {
    if choice.asks & asks::FILTER == 0 {
        return true;
    }
    let framed = kind::is_frame(record.kind);
    let network = if framed { ETHERNET_BYTES } else { 0 };
    let length = record.orig_len.saturating_sub(network);
    filter::passes(&choice.filter, &Frame::new(data, network, framed, length))
}

/// Before a frame that is not IP.
const ETHERNET_BYTES: u32 = 14;
