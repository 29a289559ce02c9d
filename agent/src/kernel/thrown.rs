//! What the programs are told of packets that the kernel throws away, before they are loaded: which reasons are asked for, and
//! where this kernel keeps a packet.

use anyhow::{Result, ensure};
use wiretape_agent_ebpf::{DROP_REASONS, packet_layout as place};
use wiretape_tape::DropReason;

use super::btf::Types;

/// What the kernel's reasons begin with.
const PREFIX: &str = "SKB_DROP_REASON_";

/// See the module.
#[derive(Debug)]
pub struct Thrown {
    /// Our number of each of the kernel's reasons; 0 for those that are not asked for.
    pub reasons: [u8; DROP_REASONS],
    /// By the places of `packet_layout`.
    pub layout: [u32; place::FIELDS],
}

impl Thrown {
    /// For programs that are not used.
    pub const NOTHING: Self = Self {
        reasons: [0; DROP_REASONS],
        layout: [0; place::FIELDS],
    };

    /// Finds it in the kernel's description of its types, for the reasons with these names.
    ///
    /// # Errors
    /// When the kernel has no reasons (before Linux 5.17), or no packets such as the programs read.
    pub fn find(types: &Types<'_>, asked: &[&str]) -> Result<Self> {
        let mut reasons = [0; DROP_REASONS];
        for (name, number) in types.values("skb_drop_reason") {
            let name = name.strip_prefix(PREFIX).unwrap_or_default();
            if let (true, Some(reason)) = (asked.contains(&name), reasons.get_mut(number as usize)) {
                *reason = DropReason::of(name).number();
            }
        }
        ensure!(
            reasons.iter().any(|reason| *reason != 0),
            "this kernel does not say why it drops a packet (Linux 5.17 does; what firewalls drop, 5.18)"
        );
        let layout = types.places(&[
            (place::HEAD, "sk_buff", "head"),
            (place::DATA, "sk_buff", "data"),
            (place::LENGTH, "sk_buff", "len"),
            (place::ELSEWHERE, "sk_buff", "data_len"),
            (place::NETWORK, "sk_buff", "network_header"),
            (place::PROTOCOL, "sk_buff", "protocol"),
            (place::TC_INDEX, "sk_buff", "tc_index"),
            (place::RECEIVED_BY, "sk_buff", "skb_iif"),
            (place::INTERFACE, "sk_buff", "dev"),
            (place::INTERFACE_INDEX, "net_device", "ifindex"),
            (place::INTERFACE_ADDRESS, "net_device", "dev_addr"),
            (place::SOCKET, "sk_buff", "sk"),
            (place::SOCKET_STATE, "sock_common", "skc_state"),
        ])?;
        Ok(Self { reasons, layout })
    }
}
