//! What of a packet is recorded: decided by the same code in the kernel, where its programs record, and in the agent,
//! where libpcap does.

use crate::filter::{Instruction, MAX_INSTRUCTIONS};
use crate::headers::{Bytes, Headers, headers};
use crate::{BULK_BYTES, HEAD_BYTES, SMALL_BYTES};

/// How much of a packet is recorded: the values of [`Rule::detail`].
pub mod detail {
    /// All of it.
    pub const WHOLE: u32 = 0;
    /// Its headers.
    pub const HEADERS: u32 = 1;
    /// Of each connection, each way, the first bytes of payload; then headers.
    pub const FIRST: u32 = 2;
    /// Nothing.
    pub const NONE: u32 = 3;
}

/// How much is recorded of one workload's packets, or of all.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// One of [`detail`].
    pub detail: u32,
    /// How many bytes, for [`detail::FIRST`].
    pub bytes: u32,
}

/// What is to be looked at: the bits of [`Choice::asks`].
pub mod asks {
    /// There is a filter.
    pub const FILTER: u32 = 1;
    /// There are rules by cgroup.
    pub const RULES: u32 = 2;
    /// Only some flows are recorded.
    pub const SAMPLE: u32 = 4;
}

/// How much is left out to keep the budget: the values of [`Choice::shed`]. The ring's filling asks for the same.
pub mod shed {
    /// Nothing.
    pub const NOTHING: u32 = 0;
    /// The bodies of bulk packets.
    pub const BULK: u32 = 1;
    /// All bodies.
    pub const BODIES: u32 = 2;
}

/// The rate at which all of bulk is recorded whole.
pub const ALL_BULK: u32 = u32::MAX;

/// Time for which [`Choice::bulk`] says how many bytes, as a shift: about a millisecond.
pub const BULK_TICK: u32 = 20;

/// The share of flows that stands for all of them.
pub const ALL_FLOWS: u32 = u32::MAX;

/// What is recorded, as it was last asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Bits of [`asks`].
    pub asks: u32,
    /// Of what no rule is for.
    pub rule: Rule,
    /// Flows are recorded whose place, from 0 to [`ALL_FLOWS`], is not above this.
    pub flows: u32,
    /// The same, where the budget asks for fewer.
    pub budget_flows: u32,
    /// One of [`shed`].
    pub shed: u32,
    /// Bytes of bulk that are recorded whole in `1 << BULK_TICK` nanoseconds, once it lasts; or [`ALL_BULK`].
    pub bulk: u32,
    /// Unused, for alignment.
    pub reserved: u32,
    /// See [`asks::FILTER`].
    pub filter: [Instruction; MAX_INSTRUCTIONS],
}

impl Choice {
    /// Everything, whole.
    pub const EVERYTHING: Self = Self {
        asks: 0,
        rule: Rule {
            detail: detail::WHOLE,
            bytes: 0,
        },
        flows: ALL_FLOWS,
        budget_flows: ALL_FLOWS,
        shed: shed::NOTHING,
        bulk: ALL_BULK,
        reserved: 0,
        filter: [Instruction {
            code: 0,
            jump_true: 0,
            jump_false: 0,
            k: 0,
        }; MAX_INSTRUCTIONS],
    };
}

const _: () = assert!(size_of::<Choice>() == 32 + 8 * MAX_INSTRUCTIONS);

/// Two choices, of which one holds. The other is written, then [`current`](Self::current), so that no packet meets half
/// of a change.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    /// 0 or 1.
    pub current: u64,
    /// The choices.
    pub banks: [Choice; 2],
}

impl Choices {
    /// The one that holds, as whoever writes them knows.
    pub fn holding(&self) -> &Choice {
        let [even, odd] = &self.banks;
        if self.current & 1 == 0 { even } else { odd }
    }
}

/// Cgroups that rules can be for: as many as are named.
pub const MAX_RULES: u32 = 16 * 1024;

/// Connections of which it is known how much is recorded. When there are more, those that have been silent longest begin
/// anew.
pub const MAX_CONNECTIONS: u32 = 64 * 1024;

/// A flow without a beginning begins anew after so long a silence, in nanoseconds.
pub const FLOW_SILENCE: u64 = 60_000_000_000;

/// How much of a connection has come by.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Bytes of payload, received and sent.
    pub bytes: [u64; 2],
    /// When the last packet came.
    pub last: u64,
}

const _: () = assert!(size_of::<Carried>() == 24);

/// Why a packet is left out by choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// The filter does not let it through.
    Filter,
    /// The rule for its workload.
    Rule,
    /// Its flow is not of those that are recorded.
    Sample,
    /// Its flow is not of those that the budget allows.
    Budget,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// So many of its bytes are recorded.
    Record {
        /// Bytes from its beginning on.
        wanted: u32,
        /// There would be more of them by choice.
        shed: bool,
    },
    /// None.
    LeaveOut(LeftOut),
}

/// A packet to decide about, and what is known beside it.
pub trait Packet: Bytes {
    /// Whether the filter lets it through; also when it is not run here. From the network's header on there are
    /// `length` bytes.
    fn passes(&self, filter: &[Instruction; MAX_INSTRUCTIONS], span: Span, length: u32) -> bool;

    /// The rule for its cgroup, if there is one.
    fn rule(&self) -> Option<Rule>;

    /// Adds `payload` bytes to what its connection has carried this way, and gives what that was before.
    fn carried(&self, headers: &Headers, payload: u32) -> u64;

    /// How urgently the ring asks for less: one of [`shed`].
    fn pressure(&self) -> u32;

    /// Whether bulk has had what it may have at this [rate](Choice::bulk); if not, these bytes take of it.
    fn bulk_is_spent(&self, bytes: u32, rate: u32) -> bool;
}

/// Where a packet is in the bytes that are at hand.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Where what is recorded of it begins.
    pub from: u32,
    /// Bytes from there on.
    pub len: u32,
    /// Where its network header is; not before `from`.
    pub network: u32,
    /// An Ethernet header is before that.
    pub ethernet: bool,
}

/// What of a packet is recorded.
#[inline(always)]
pub fn decide<P: Packet>(choice: &Choice, packet: &P, span: Span) -> Verdict {
    let mut wanted = span.len;
    if choice.asks != 0 || choice.rule.detail != detail::WHOLE || choice.budget_flows != ALL_FLOWS {
        match chosen(choice, packet, span) {
            Ok(bytes) => wanted = bytes,
            Err(why) => return Verdict::LeaveOut(why),
        }
    }
    let shed = wanted > HEAD_BYTES && is_shed(choice, packet, span.len, wanted);
    Verdict::Record {
        wanted: if shed { HEAD_BYTES } else { wanted },
        shed,
    }
}

#[inline(always)]
fn chosen<P: Packet>(choice: &Choice, packet: &P, span: Span) -> Result<u32, LeftOut> {
    let Span {
        from, len, network, ..
    } = span;
    let payload_end = len.saturating_sub(network - from);
    if choice.asks & asks::FILTER != 0 && !packet.passes(&choice.filter, span, payload_end) {
        return Err(LeftOut::Filter);
    }
    let mut rule = choice.rule;
    if choice.asks & asks::RULES != 0 {
        if let Some(own) = packet.rule() {
            rule = own;
        }
        if rule.detail == detail::NONE {
            return Err(LeftOut::Rule);
        }
    }
    let sampled = choice.asks & asks::SAMPLE != 0 || choice.budget_flows != ALL_FLOWS;
    if rule.detail == detail::WHOLE && !sampled {
        return Ok(len);
    }
    let headers = headers(packet, network);
    let place = (headers.flow >> 32) as u32;
    if place > choice.flows {
        return Err(LeftOut::Sample);
    }
    if place > choice.budget_flows {
        return Err(LeftOut::Budget);
    }
    let head = (network - from).saturating_add(headers.bytes);
    let wanted = match rule.detail {
        detail::WHOLE => len,
        detail::FIRST => {
            let payload = payload_end.saturating_sub(headers.bytes);
            let before = packet.carried(&headers, payload);
            let left = u64::from(rule.bytes).saturating_sub(before);
            head.saturating_add(if u64::from(payload) < left {
                payload
            } else {
                left as u32
            })
        }
        _ => head,
    };
    Ok(if wanted < len { wanted } else { len })
}

/// Whether only the head of a packet so long is recorded.
///
/// Of bulk also when it has had its share, however empty the ring is: to copy 64 KiB takes as long as all else that the
/// kernel does with such a packet, so a transfer that is recorded whole runs at half its speed.
#[inline(always)]
fn is_shed<P: Packet>(choice: &Choice, packet: &P, len: u32, wanted: u32) -> bool {
    if len <= SMALL_BYTES {
        return false;
    }
    let bulk = len > BULK_BYTES;
    let least = if bulk { shed::BULK } else { shed::BODIES };
    choice.shed >= least
        || packet.pressure() >= least
        || bulk && choice.bulk != ALL_BULK && packet.bulk_is_spent(wanted, choice.bulk)
}

/// The largest place of the flows of which one in `parts` is recorded.
pub fn one_in(parts: u32) -> u32 {
    ALL_FLOWS / if parts == 0 { 1 } else { parts }
}

/// How much of bulk was recorded whole of late. Bursts are, and what lasts goes on in heads until half of a burst fits
/// again: pieces that hang together tell more than packets here and there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lately {
    /// Bytes that the rate has not made up for yet.
    pub debt: u64,
    /// When that was so, in nanoseconds.
    pub at: u64,
    /// Whether it is too much: 0 or 1.
    pub spent: u64,
}

impl Lately {
    /// What is known when `bytes` more are recorded whole; `None` when they may not be. A debt of more than `burst` is too
    /// much.
    #[inline(always)]
    pub fn with(self, bytes: u32, now: u64, rate: u32, burst: u64) -> Option<Self> {
        /// A quarter of an hour: longer than any debt lasts, and short enough for the product.
        const LONGEST: u64 = 1 << 40;
        let passed = now.saturating_sub(self.at);
        let passed = if passed < LONGEST { passed } else { LONGEST };
        let left = self
            .debt
            .saturating_sub(((passed >> (BULK_TICK - 10)) * u64::from(rate)) >> 10);
        if self.spent != 0 && left > burst / 2 {
            return None;
        }
        let debt = left + u64::from(bytes);
        Some(Self {
            debt,
            at: now,
            spent: u64::from(debt > burst),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: u64 = 32 << 20;
    const PACKET: u32 = 64 << 10;
    const SECOND: u64 = 1_000_000_000;

    /// Sends so many packets a second for some seconds; gives the bytes that are recorded whole in each.
    fn follow(lately: &mut Lately, from: u64, seconds: u64, packets: u64, rate: u32) -> Vec<u64> {
        let mut whole = Vec::new();
        for second in from..from + seconds {
            let taken = (0..packets).filter(|number| {
                let now = second * SECOND + number * SECOND / packets;
                let next = lately.with(PACKET, now, rate, BURST);
                *lately = next.unwrap_or(*lately);
                next.is_some()
            });
            whole.push(taken.count() as u64 * u64::from(PACKET));
        }
        whole
    }

    /// So many MiB in a second.
    fn rate(mib: u64) -> u32 {
        ((mib << 20 << BULK_TICK) / SECOND) as u32
    }

    #[test]
    fn a_burst_is_whole_and_what_lasts_comes_to_the_rate() {
        let mut lately = Lately::default();
        let whole = follow(&mut lately, 100, 60, 40_000, rate(48));
        assert!((BURST..BURST + (48 << 20)).contains(&whole[0]), "{whole:?}");
        let mean = whole[1..].iter().sum::<u64>() / 59;
        assert!((44 << 20..=52 << 20).contains(&mean), "{mean}");
        // After a while without, a burst again.
        assert!(follow(&mut lately, 200, 1, 40_000, rate(48))[0] >= BURST);
    }

    #[test]
    fn what_is_sent_at_less_than_the_rate_is_whole() {
        let mut lately = Lately::default();
        let whole = follow(&mut lately, 0, 30, 500, rate(48));
        assert!(
            whole.iter().all(|bytes| *bytes == 500 * u64::from(PACKET)),
            "{whole:?}"
        );
    }

    #[test]
    fn another_rate_makes_no_new_burst() {
        let mut lately = Lately::default();
        follow(&mut lately, 0, 10, 40_000, rate(48));
        let less = follow(&mut lately, 10, 20, 40_000, rate(3));
        assert!(
            less[1..].iter().sum::<u64>() <= 19 * (3 << 20) + BURST,
            "{less:?}"
        );
    }

    #[test]
    fn clocks_of_processors_that_differ_and_long_silence_spoil_nothing() {
        let lately = Lately {
            debt: BURST,
            at: 1000,
            spent: 0,
        };
        assert_eq!(
            lately.with(1, 900, u32::MAX, BURST).map(|next| next.debt),
            Some(BURST + 1)
        );
        assert_eq!(
            lately.with(1, u64::MAX, u32::MAX, BURST).map(|next| next.debt),
            Some(1)
        );
    }
}
