//! TCP connections that end with an error: refused, reset, timed out.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::RawTracePointContext;
use wiretape_agent_ebpf::{COMM_BYTES, EventRecord, kind, layout};

use crate::kernel::{Address, field, is_telling, offset, read, recorded, tell};

const TCP_SYN_SENT: i32 = 2;
const TCP_CLOSE: i32 = 7;
const IPPROTO_TCP: u16 = 6;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Who connects, by the socket's address: when it ends, anybody may be running. The oldest make room.
#[map]
static CONNECTING: LruHashMap<u64, Owner> = LruHashMap::with_max_entries(16 * 1024, 0);

#[derive(Clone, Copy)]
#[repr(C)]
struct Owner {
    pid: u32,
    comm: [u8; COMM_BYTES],
}

/// `inet_sock_set_state(sock, before, after)`: before the state is changed, and after the error is set.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn socket_state(ctx: RawTracePointContext) -> i32 {
    // Who connects is remembered, and forgotten, once.
    if !is_telling() {
        return 0;
    }
    let (sock, before, after): (Address, i32, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    if after == TCP_SYN_SENT {
        // `connect` is called by the process that connects.
        let owner = Owner {
            pid: ctx.tgid(),
            comm: ctx.command().unwrap_or_default(),
        };
        let _ = CONNECTING.insert(&sock, &owner, 0);
    } else if after == TCP_CLOSE {
        let _ = closed(sock, before);
        let _ = CONNECTING.remove(&sock);
    }
    0
}

#[inline(always)]
fn closed(sock: Address, before: i32) -> Option<()> {
    let error: i32 = field(sock, layout::SOCK_ERROR)?;
    let protocol: u16 = field(sock, layout::SOCK_PROTOCOL)?;
    if error == 0 || protocol != IPPROTO_TCP {
        return None;
    }
    let cgroup: Address = field(sock, layout::SOCK_CGROUP)?;
    // Before Linux 5.15, an odd number there is none.
    if cgroup == 0 || cgroup & 1 == 1 {
        return None;
    }
    let family: u16 = field(sock, layout::SOCK_FAMILY)?;
    let mut record = EventRecord {
        kind: kind::SOCKET_ERROR,
        cgroup: recorded(cgroup)?,
        status: error as u32,
        family,
        local_port: field(sock, layout::SOCK_LOCAL_PORT)?,
        remote_port: field(sock, layout::SOCK_REMOTE_PORT)?,
        state: before as u16,
        ..EventRecord::default()
    };
    match family {
        AF_INET => {
            let (local, remote): ([u8; 4], [u8; 4]) = (
                field(sock, layout::SOCK_LOCAL)?,
                field(sock, layout::SOCK_REMOTE)?,
            );
            [record.local[0], record.local[1], record.local[2], record.local[3]] = local;
            [
                record.remote[0],
                record.remote[1],
                record.remote[2],
                record.remote[3],
            ] = remote;
        }
        AF_INET6 if offset(layout::SOCK_LOCAL_6) != 0 => {
            record.local = read(sock + offset(layout::SOCK_LOCAL_6))?;
            record.remote = read(sock + offset(layout::SOCK_REMOTE_6))?;
        }
        _ => return None,
    }
    // SAFETY: the value is copied before the entry can be taken away.
    #[allow(unsafe_code, reason = "a map's value is reached through a pointer")]
    if let Some(owner) = unsafe { CONNECTING.get(&sock) }.copied() {
        record.pid = owner.pid;
        record.comm = owner.comm;
    }
    tell(record);
    Some(())
}
