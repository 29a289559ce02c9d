//! What went wrong on the way: retransmissions, windows, round trips, told segment by segment from headers alone.
//!
//! The rules are those of Wireshark's `tcp.analysis.*`, by which engineers know these words. They compare each segment
//! with what its sender has sent and the other end has acknowledged so far, as one observer saw it; so they say what it
//! looks like from there: the same connection has other figures at its other end.

use super::round_trips::{RoundTrips, Unacked};
use super::{Event, Told};
use crate::flow::{End, Ends};
use crate::record::TcpRecord;
use crate::segment::{Flags, Segment};
use crate::{Counters, Nanos};

/// Both ends of a connection, by what one observer saw of their headers.
#[derive(Debug, Default)]
pub(crate) struct Analysis {
    /// When the first segment was seen, and the last.
    pub first: Nanos,
    pub last: Nanos,
    /// When the first SYN was seen; 0 without any.
    pub first_syn: Nanos,
    /// When the last SYN was seen before the first segment that acknowledges anything; from then on, how long that took.
    syn_to_ack: Nanos,
    syn_acknowledged: bool,
    /// When the handshake's last segment was seen; 0 when it was not.
    pub established: Nanos,
    /// When the last reset was seen; 0 without any.
    pub reset: Nanos,
    /// Who sent the first reset.
    pub reset_by: Option<End>,
    /// Who sent the first SYN, as far as the handshake tells.
    pub opener: Option<End>,
    /// Which kinds of segments were seen: Wireshark's `tcp.completeness`.
    pub completeness: u8,
    pub ends: Ends<Side>,
}

/// What one end sent.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub sent: Sent,
    /// When its first payload was seen, and its first FIN; 0 when it has sent none.
    pub first_data: Nanos,
    pub fin: Nanos,
    /// Its first segment's sequence number.
    base: u32,
    /// Behind the last byte that was seen of it, and when that was seen.
    next: u32,
    next_at: Nanos,
    /// Of its last segment: what that acknowledges, when, with which window, and of which kind it was.
    ack: u32,
    ack_at: Nanos,
    window: u16,
    kind: Kind,
    /// How often it has repeated its last acknowledgement.
    repeated: u32,
    /// How its windows are scaled.
    scaling: Scaling,
    unacked: Unacked,
}

/// What one end of a TCP connection sent, counted by one observer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sent {
    /// Packets.
    pub packets: u64,
    /// Bytes of them, from the IP header on.
    pub bytes: u64,
    /// Bytes of payload, each counted once however often it was sent.
    pub goodput: u64,
    /// Segments that occupy sequence numbers: with payload, SYN or FIN.
    pub segments: u32,
    /// Of these, sent again: all kinds of it (Wireshark's `tcp.analysis.retransmission`).
    pub retransmissions: u32,
    /// Of those, right after the other end had asked by repeated acknowledgements.
    pub fast_retransmissions: u32,
    /// Segments that came a little behind one that follows them.
    pub out_of_order: u32,
    /// Acknowledgements that repeat the one before.
    pub dup_acks: u32,
    /// Segments before which something is missing in the recording (`tcp.analysis.lost_segment`).
    pub lost_segments: u32,
    /// Segments that say that the sender has no room for more.
    pub zero_windows: u32,
    /// Segments that fill the other end's window to its edge.
    pub windows_full: u32,
    /// Keep-alives: at most one byte, which the other end has already.
    pub keep_alives: u32,
    /// Resets.
    pub resets: u32,
    /// Segments with FIN, repeated ones included.
    pub fins: u32,
    /// By how many bits its windows are shifted; `None` where that is not known, or not agreed on.
    pub window_shift: Option<u8>,
    /// Sum of the windows that it announced, scaled, in all but SYNs and resets; how many these are.
    pub windows: (u64, u32),
    /// How long its segments waited for their acknowledgements, at the observer.
    pub round_trips: RoundTrips,
}

/// How a window is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scaling {
    /// The handshake was not seen.
    #[default]
    Unknown,
    /// By so many bits; by none where one end did not want it.
    By(u8),
}

/// What the last segment of an end was, as far as the other end's answer is judged by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// There was none.
    #[default]
    None,
    Usual,
    /// Its window is not scaled (RFC 7323, section 2.2).
    Syn,
    KeepAlive,
    /// One byte beyond a window that is closed.
    WindowProbe,
}

/// A segment that looks like one sent again, and comes so soon behind the last new one, is out of order: Wireshark's
/// threshold, where the connection's round trip is not known.
const OUT_OF_ORDER: Nanos = 3_000_000;

/// A fast retransmission comes so soon behind the acknowledgement that asked for it, as Wireshark has it.
const FAST: Nanos = 20_000_000;

/// Repeated acknowledgements that ask for one (RFC 5681, section 3.2 says three, but one may be lost in the recording).
const FAST_ASKED: u32 = 2;

/// Bits of [`Analysis::completeness`].
mod seen {
    pub const SYN: u8 = 1;
    pub const SYN_ACK: u8 = 2;
    pub const ACK: u8 = 4;
    pub const DATA: u8 = 8;
    pub const FIN: u8 = 16;
    pub const RST: u8 = 32;

    /// A handshake was begun.
    pub const HANDSHAKE: u8 = SYN | SYN_ACK;
}

impl Analysis {
    /// Bytes that it holds beside itself.
    pub fn memory(&self) -> usize {
        self.ends.low.unacked.memory() + self.ends.high.unacked.memory()
    }

    /// The connection is over: gives back the room for what is waited for while it is open.
    pub fn close(&mut self) {
        for end in End::BOTH {
            self.ends[end].unacked.shrink();
        }
    }

    /// Takes the next segment.
    pub fn segment(&mut self, segment: &Segment, counters: &mut Counters) {
        let (from, flags, ts) = (segment.from.end, segment.flags, segment.ts);
        if self.first == 0 {
            self.first = ts;
        }
        self.last = ts;
        let len = segment.payload_len();
        if flags.any(Flags::CONTROL) {
            self.control(segment);
        } else if len > 0 {
            self.completeness |= seen::DATA;
        }
        if !self.syn_acknowledged && self.first_syn != 0 && flags.has(Flags::ACK) && !flags.has(Flags::SYN) {
            self.syn_acknowledged = true;
            self.syn_to_ack = ts.saturating_sub(self.syn_to_ack);
        }
        if self.established == 0 && self.completeness & seen::HANDSHAKE != 0 {
            self.shake_hands(segment);
        }
        let threshold = self.initial_rtt().unwrap_or(OUT_OF_ORDER);
        let (mine, other) = self.ends.pair_mut(from);
        mine.count(segment);
        let kind = mine.compare(other, segment);
        if len > 0 || flags.any(Flags::SYN | Flags::FIN) {
            mine.sent.segments += 1;
            mine.repeats(other, segment, kind, threshold);
            let end = mine.end(segment);
            mine.unacked.sent(end, ts, counters);
        }
        mine.advance(segment, kind);
        if flags.has(Flags::ACK) {
            other
                .unacked
                .acknowledged(segment.ack, ts, &mut other.sent.round_trips);
            if other.kind == Kind::WindowProbe && segment.ack == other.next.wrapping_add(1) {
                // The probe's byte found room after all.
                other.next = segment.ack;
            }
        }
    }

    /// Takes what was told of the streams: bytes that are told are seen for the first time.
    pub fn told(&mut self, told: &Told<'_>) {
        if let Event::Data { bytes, .. } = told.event {
            self.ends[told.from].sent.goodput += bytes.len() as u64;
        }
    }

    /// What there is to tell of the whole connection.
    pub fn record(&self, client: End) -> TcpRecord {
        let (asked, said) = (self.ends[client].first_data, self.ends[client.other()].first_data);
        TcpRecord {
            completeness: self.completeness,
            initial_rtt: self.initial_rtt(),
            handshake: self.handshake(),
            handshake_at_server: None,
            first_byte: (asked != 0 && said > asked).then(|| said - asked),
        }
    }

    /// Whether a SYN begins another connection than the one that was seen so far.
    pub fn contradicts(&self, segment: &Segment) -> bool {
        let side = &self.ends[segment.from.end];
        // What follows the SYN at once can be recorded before it.
        let begin = side.base == segment.seq || side.base == segment.seq.wrapping_add(1);
        segment.flags.has(Flags::SYN) && side.kind != Kind::None && !begin
    }

    /// From the first SYN to the handshake's last segment.
    pub fn handshake(&self) -> Option<Nanos> {
        let seen = self.established != 0 && self.first_syn != 0;
        seen.then(|| self.established.saturating_sub(self.first_syn))
    }

    /// From the last SYN to the first acknowledgement behind it: Wireshark's `tcp.analysis.initial_rtt`.
    pub fn initial_rtt(&self) -> Option<Nanos> {
        self.syn_acknowledged.then_some(self.syn_to_ack)
    }

    /// Whether the other end of the opener has taken the connection.
    pub fn accepted(&self) -> bool {
        self.completeness & seen::SYN_ACK != 0
    }

    /// Whether the begin was seen.
    pub fn whole(&self) -> bool {
        self.completeness & seen::HANDSHAKE != 0
    }

    /// Whether anything but a handshake was seen.
    pub fn went_on(&self) -> bool {
        self.established != 0 || self.completeness & (seen::ACK | seen::DATA | seen::FIN) != 0
    }

    /// The opener's first acknowledgement ends the handshake.
    fn shake_hands(&mut self, segment: &Segment) {
        let acknowledges = segment.flags.has(Flags::ACK) && !segment.flags.any(Flags::SYN | Flags::RST);
        if acknowledges && self.opener == Some(segment.from.end) {
            self.established = segment.ts;
            self.completeness |= seen::ACK;
        }
    }

    /// What a SYN, FIN or RST says.
    fn control(&mut self, segment: &Segment) {
        let (from, flags, ts) = (segment.from.end, segment.flags, segment.ts);
        let ack = flags.has(Flags::ACK);
        if flags.has(Flags::SYN) {
            self.completeness |= if ack { seen::SYN_ACK } else { seen::SYN };
            self.opener.get_or_insert(if ack { from.other() } else { from });
            if !ack {
                if !self.syn_acknowledged {
                    self.syn_to_ack = ts;
                }
                if self.first_syn == 0 {
                    self.first_syn = ts;
                }
            }
            self.agree_on_scaling(from, segment.scale, ack);
        }
        if flags.has(Flags::RST) {
            self.completeness |= seen::RST;
            self.reset = ts;
            self.reset_by.get_or_insert(from);
        }
        if flags.has(Flags::FIN) {
            self.completeness |= seen::FIN;
            let side = &mut self.ends[from];
            if side.fin == 0 {
                side.fin = ts;
            }
        }
        if !flags.any(Flags::SYN | Flags::RST) && segment.payload_len() > 0 {
            self.completeness |= seen::DATA;
        }
    }

    /// Windows are scaled if both ends say how (RFC 7323, section 2.2).
    fn agree_on_scaling(&mut self, from: End, scale: Option<u8>, answer: bool) {
        let (mine, other) = self.ends.pair_mut(from);
        mine.scaling = Scaling::By(scale.unwrap_or(0));
        mine.sent.window_shift = scale;
        let refused = scale.is_none() || (other.kind == Kind::Syn && other.sent.window_shift.is_none());
        if answer && refused {
            for side in [mine, other] {
                side.scaling = Scaling::By(0);
                side.sent.window_shift = None;
            }
        }
    }
}

impl Side {
    fn count(&mut self, segment: &Segment) {
        let sent = &mut self.sent;
        let flags = segment.flags;
        sent.packets += 1;
        sent.bytes += segment.wire_len();
        sent.fins += u32::from(flags.has(Flags::FIN));
        sent.resets += u32::from(flags.has(Flags::RST));
        if self.scaling != Scaling::Unknown && !flags.any(Flags::SYN | Flags::RST) {
            let shift = sent.window_shift.unwrap_or(0);
            sent.windows.0 += u64::from(segment.window) << shift;
            sent.windows.1 += 1;
        }
        if self.first_data == 0 && segment.payload_len() > 0 {
            self.first_data = segment.ts;
        }
    }

    /// Behind the last number that a segment occupies.
    fn end(&self, segment: &Segment) -> u32 {
        let control = u32::from(segment.flags.any(Flags::SYN | Flags::FIN));
        segment
            .seq
            .wrapping_add(segment.payload_len())
            .wrapping_add(control)
    }

    /// Compares a segment with the one before and with the other end's window; counts what it shows.
    fn compare(&mut self, other: &Self, segment: &Segment) -> Kind {
        let (seq, ack, len, window) = (segment.seq, segment.ack, segment.payload_len(), segment.window);
        let control = segment.flags.any(Flags::CONTROL);
        let (met, expected) = (
            self.kind != Kind::None,
            self.kind != Kind::None && seq == self.next,
        );
        if len == 1 && expected && other.kind != Kind::None && other.window == 0 {
            return Kind::WindowProbe;
        }
        self.sent.zero_windows += u32::from(window == 0 && !control);
        let ahead = met && is_before(self.next, seq) && !segment.flags.has(Flags::RST);
        self.sent.lost_segments += u32::from(ahead);
        if control {
            return if segment.flags.has(Flags::SYN) {
                Kind::Syn
            } else {
                Kind::Usual
            };
        }
        let mut kind = Kind::Usual;
        if len <= 1 && met && seq == self.next.wrapping_sub(1) {
            self.sent.keep_alives += 1;
            kind = Kind::KeepAlive;
        }
        if len > 0 {
            let full = other.edge() == Some(seq.wrapping_add(len));
            self.sent.windows_full += u32::from(full);
            return kind;
        }
        // What answers a keep-alive or a probe repeats an acknowledgement, too, and so does what has a new window.
        let repeated = expected && ack == self.ack && window == self.window;
        let asked = matches!(other.kind, Kind::KeepAlive | Kind::WindowProbe);
        if repeated && window > 0 && !asked {
            self.sent.dup_acks += 1;
            self.repeated += 1;
        }
        kind
    }

    /// Whether this end has said that it has received all that the other sent.
    pub fn has_acknowledged(&self, other: &Self) -> bool {
        !is_before(self.ack, other.next)
    }

    /// The edge of the window that this end has last announced.
    fn edge(&self) -> Option<u32> {
        let shift = match (self.kind, self.scaling) {
            (Kind::None, _) | (_, Scaling::Unknown) => return None,
            (Kind::Syn, _) => 0,
            (_, Scaling::By(shift)) => shift,
        };
        Some(self.ack.wrapping_add(u32::from(self.window) << shift))
    }

    /// Counts a segment that occupies numbers which were seen before.
    fn repeats(&mut self, other: &Self, segment: &Segment, kind: Kind, threshold: Nanos) {
        if self.kind == Kind::None || kind == Kind::WindowProbe {
            return;
        }
        let (seq, len) = (segment.seq, segment.payload_len());
        let behind = is_before(seq, self.next);
        if behind && kind == Kind::KeepAlive {
            return;
        }
        let end = seq.wrapping_add(len);
        if len > 0 && other.kind != Kind::None && other.ack != 0 && !is_before(other.ack, end) {
            // The other end has it already.
            self.sent.retransmissions += 1;
            return;
        }
        // Behind a probe of a closed window, its byte is sent again with what follows it.
        if !behind || (len > 1 && seq == self.next.wrapping_sub(1)) {
            return;
        }
        let since = |at: Nanos| segment.ts.saturating_sub(at);
        if other.repeated >= FAST_ASKED && other.ack == seq && since(other.ack_at) < FAST {
            self.sent.retransmissions += 1;
            self.sent.fast_retransmissions += 1;
        } else if since(self.next_at) < threshold && self.end(segment) != self.next {
            self.sent.out_of_order += 1;
        } else {
            self.sent.retransmissions += 1;
        }
    }

    /// Remembers what the next segments are compared with.
    fn advance(&mut self, segment: &Segment, kind: Kind) {
        let end = self.end(segment);
        let first = self.kind == Kind::None;
        if first {
            self.base = segment.seq;
        }
        if (first || is_before(self.next, end)) && kind != Kind::WindowProbe {
            if segment.missing > 0 {
                // What the capture cut is told to nobody, but was sent.
                let new = end.wrapping_sub(if first { segment.seq } else { self.next });
                self.sent.goodput += u64::from(segment.missing.min(new));
            }
            self.next = end;
            self.next_at = segment.ts;
        }
        if segment.ack != self.ack {
            self.repeated = 0;
        }
        self.ack = segment.ack;
        self.ack_at = segment.ts;
        self.window = segment.window;
        self.kind = kind;
    }
}

/// Whether a sequence number comes before another (RFC 9293, section 3.4).
fn is_before(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is one for every observer of every connection: 60 MiB, if all shards are full of them.
    #[test]
    fn an_analysis_is_small() {
        assert!(size_of::<Analysis>() <= 472, "{}", size_of::<Analysis>());
    }
}
