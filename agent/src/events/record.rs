//! Records of the kernel programs -> events.

use std::net::{IpAddr, SocketAddr};

use wiretape_agent_ebpf::{CGROUP_RECORD_HEAD, EVENT_RECORD_BYTES, RECEIVED, kind};
use wiretape_tape::{DropReason, Event, EventKind, Nanos};

use super::wall;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// A connection that is being made, as the kernel numbers states.
const TCP_SYN_SENT: u16 = 2;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are events, and none is kept"
)]
pub enum Happened {
    /// A cgroup was made, at this path below the hierarchy's root.
    Made {
        /// Its id.
        cgroup: u64,
        /// Where.
        path: String,
        /// When.
        at: Nanos,
    },
    /// Something for the tape.
    Event(Event),
}

/// Reads a record; `None` for a kind that this agent does not know. `offset` is UTC less the time since boot.
pub fn parse(record: &[u8], offset: Nanos) -> Option<Happened> {
    let kind = number(record, 0)?;
    if kind == kind::CGROUP_MADE {
        let length = number(record, 4)? as usize;
        let path = record.get(CGROUP_RECORD_HEAD..)?.get(..length)?;
        return Some(Happened::Made {
            cgroup: long(record, 16)?,
            path: String::from_utf8_lossy(path).into_owned(),
            at: wall(long(record, 8)?, offset),
        });
    }
    let record = record.first_chunk::<EVENT_RECORD_BYTES>()?;
    let event = Event {
        at: wall(long(record, 8)?, offset),
        cgroup: long(record, 16)?,
        pid: number(record, 4)?,
        process: comm(record.get(40..56)?),
        ..Event::default()
    };
    let status = number(record, 24)?;
    let event = match kind {
        kind::PROCESS_START => Event {
            kind: EventKind::ProcessStart,
            ..event
        },
        kind::PROCESS_EXIT => exit(event, status),
        kind::OOM_KILL => Event {
            kind: EventKind::OomKill,
            warning: true,
            reason: "OOMKilled".to_owned(),
            ..event
        },
        kind::SOCKET_ERROR => {
            let state = short(record, 34)?;
            let (local, remote) = ends(record)?;
            Event {
                local: Some(local),
                remote: Some(remote),
                ..failed(event, status, state)
            }
        }
        kind::PACKET_THROWN_AWAY => {
            let ends = ends(record)?;
            dropped(event, status, short(record, 34)?, number(record, 36)?, ends)
        }
        _ => return None,
    };
    Some(Happened::Event(event))
}

/// `wait(2)`: the signal in the low seven bits, else the code in the second byte.
fn exit(event: Event, status: u32) -> Event {
    let signal = (status & 0x7f) as i32;
    let code = (status >> 8 & 0xff) as i32;
    Event {
        kind: EventKind::ProcessExit,
        warning: status != 0,
        reason: if signal == 0 {
            String::new()
        } else {
            signal_name(signal).to_owned()
        },
        exit_code: (signal == 0).then_some(code),
        signal: (signal != 0).then_some(signal),
        ..event
    }
}

/// Signals have the same numbers on the machines that the agent is built for.
fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        _ => "signal",
    }
}

/// A connection that ended with an error. A reset of one that the process here had been told the end of shows as a broken
/// pipe; it is a reset all the same.
fn failed(event: Event, error: u32, state: u16) -> Event {
    let (kind, reason) = match error {
        32 => (EventKind::SocketReset, "EPIPE"),
        103 => (EventKind::SocketReset, "ECONNABORTED"),
        104 => (EventKind::SocketReset, "ECONNRESET"),
        110 => (EventKind::SocketTimeout, "ETIMEDOUT"),
        111 => (EventKind::SocketRefused, "ECONNREFUSED"),
        101 => (EventKind::Other, "ENETUNREACH"),
        113 => (EventKind::Other, "EHOSTUNREACH"),
        _ => (EventKind::Other, ""),
    };
    Event {
        kind,
        warning: true,
        reason: if reason.is_empty() {
            format!("errno {error}")
        } else {
            reason.to_owned()
        },
        message: if state == TCP_SYN_SENT {
            "while connecting".to_owned()
        } else {
            String::new()
        },
        ..event
    }
}

/// A packet that the kernel threw away: in its sentence from where to where, whichever end is the one here.
fn dropped(
    event: Event,
    reason: u32,
    state: u16,
    count: u32,
    (local, remote): (SocketAddr, SocketAddr),
) -> Event {
    let reason = u8::try_from(reason).ok().and_then(DropReason::numbered);
    let reason = reason.unwrap_or(DropReason::OTHER);
    let (from, to) = if state & RECEIVED == 0 {
        (local, remote)
    } else {
        (remote, local)
    };
    let protocol = match state & !RECEIVED {
        1 | 58 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        132 => "SCTP".to_owned(),
        other => format!("IP protocol {other}"),
    };
    let ends = if to.port() == 0 {
        format!("{} to {}", from.ip(), to.ip())
    } else {
        format!("{from} to {to}")
    };
    Event {
        kind: EventKind::PacketDropped,
        warning: true,
        reason: reason.name().to_owned(),
        message: format!("{protocol} from {ends} dropped {}", reason.meaning()),
        count: u64::from(count),
        local: Some(local),
        remote: Some(remote),
        ..event
    }
}

fn ends(record: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let family = short(record, 28)?;
    let address = |at: usize| match family {
        AF_INET => Some(IpAddr::from(*record.get(at..)?.first_chunk::<4>()?)),
        // An IPv4 address in an IPv6 socket is written as what it is.
        AF_INET6 => Some(IpAddr::from(*record.get(at..)?.first_chunk::<16>()?).to_canonical()),
        _ => None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(*record.get(at..)?.first_chunk()?));
    Some((
        SocketAddr::new(address(56)?, port(30)?),
        SocketAddr::new(address(72)?, port(32)?),
    ))
}

fn comm(bytes: &[u8]) -> String {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn short(record: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*record.get(at..)?.first_chunk()?))
}

fn number(record: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*record.get(at..)?.first_chunk()?))
}

fn long(record: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*record.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of `kind` at 5, of process 42 in cgroup 7, called "sh".
    fn record(kind: u32, status: u32) -> Vec<u8> {
        let mut record = vec![0; EVENT_RECORD_BYTES];
        record[0..4].copy_from_slice(&kind.to_ne_bytes());
        record[4..8].copy_from_slice(&42_u32.to_ne_bytes());
        record[8..16].copy_from_slice(&5_u64.to_ne_bytes());
        record[16..24].copy_from_slice(&7_u64.to_ne_bytes());
        record[24..28].copy_from_slice(&status.to_ne_bytes());
        record[40..42].copy_from_slice(b"sh");
        record
    }

    fn event(record: &[u8]) -> Event {
        match parse(record, 1000) {
            Some(Happened::Event(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ends_of_processes() {
        let well = event(&record(kind::PROCESS_EXIT, 0));
        assert_eq!(
            (well.at, well.cgroup, well.pid, well.process.as_str()),
            (1005, 7, 42, "sh")
        );
        assert_eq!(
            (well.exit_code, well.signal, well.warning),
            (Some(0), None, false)
        );
        let failed = event(&record(kind::PROCESS_EXIT, 3 << 8));
        assert_eq!(
            (failed.exit_code, failed.signal, failed.warning),
            (Some(3), None, true)
        );
        // With a core dump.
        let crashed = event(&record(kind::PROCESS_EXIT, 0x8b));
        assert_eq!(
            (crashed.exit_code, crashed.signal, crashed.reason.as_str()),
            (None, Some(11), "SIGSEGV")
        );
    }

    #[test]
    fn ends_of_connections() {
        let mut refused = record(kind::SOCKET_ERROR, 111);
        refused[28..30].copy_from_slice(&AF_INET.to_ne_bytes());
        refused[30..32].copy_from_slice(&50_000_u16.to_be_bytes());
        refused[32..34].copy_from_slice(&80_u16.to_be_bytes());
        refused[34..36].copy_from_slice(&TCP_SYN_SENT.to_ne_bytes());
        refused[56..60].copy_from_slice(&[10, 0, 0, 1]);
        refused[72..76].copy_from_slice(&[10, 0, 0, 2]);
        let refused = event(&refused);
        assert_eq!(
            (refused.kind, refused.reason.as_str()),
            (EventKind::SocketRefused, "ECONNREFUSED")
        );
        let ends = (
            refused.local.expect("an end").to_string(),
            refused.remote.expect("an end").to_string(),
        );
        assert_eq!(ends, ("10.0.0.1:50000".to_owned(), "10.0.0.2:80".to_owned()));
    }

    #[test]
    fn packets_that_are_dropped_say_from_where_to_where() {
        let mut dropped = record(
            kind::PACKET_THROWN_AWAY,
            u32::from(DropReason::of("NETFILTER_DROP").number()),
        );
        dropped[28..30].copy_from_slice(&AF_INET.to_ne_bytes());
        dropped[30..32].copy_from_slice(&50_000_u16.to_be_bytes());
        dropped[32..34].copy_from_slice(&80_u16.to_be_bytes());
        dropped[34..36].copy_from_slice(&6_u16.to_ne_bytes());
        dropped[36..40].copy_from_slice(&3_u32.to_ne_bytes());
        dropped[56..60].copy_from_slice(&[10, 0, 0, 1]);
        dropped[72..76].copy_from_slice(&[10, 0, 0, 2]);
        let sent = event(&dropped);
        assert_eq!(
            (sent.kind, sent.reason.as_str(), sent.count, sent.warning),
            (EventKind::PacketDropped, "NETFILTER_DROP", 3, true)
        );
        assert_eq!(
            sent.message,
            "TCP from 10.0.0.1:50000 to 10.0.0.2:80 dropped by a rule of netfilter (iptables, nftables)"
        );
        // The same ends, of which the first was to receive it; and a reason that only a later agent knows.
        dropped[34..36].copy_from_slice(&(17 | RECEIVED).to_ne_bytes());
        dropped[24..28].copy_from_slice(&255_u32.to_ne_bytes());
        let received = event(&dropped);
        assert_eq!(received.local, sent.local);
        assert_eq!(
            (received.reason.as_str(), received.message.as_str()),
            (
                "other",
                "UDP from 10.0.0.2:80 to 10.0.0.1:50000 dropped for a reason that this version does not know"
            )
        );
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_no_event() {
        let whole = record(kind::PROCESS_START, 0);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length], 0), None);
        }
        assert_eq!(parse(&record(99, 0), 0), None);
        let mut made = vec![0; CGROUP_RECORD_HEAD + 8];
        made[0..4].copy_from_slice(&kind::CGROUP_MADE.to_ne_bytes());
        made[4..8].copy_from_slice(&4_u32.to_ne_bytes());
        made[24..28].copy_from_slice(b"/pod");
        let path = "/pod".to_owned();
        assert_eq!(
            parse(&made, 9),
            Some(Happened::Made {
                cgroup: 0,
                path,
                at: 9
            })
        );
        made[4] = 9;
        assert_eq!(parse(&made, 9), None);
    }
}
