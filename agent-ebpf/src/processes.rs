//! Processes that start, end and are killed for want of memory, and cgroups that are made: for names of what is gone before
//! anybody can look.

#![allow(
    unsafe_code,
    reason = "the ring's memory and the kernel's are reached through pointers"
)]

use core::ptr::addr_of_mut;

use aya_ebpf::helpers::{bpf_ktime_get_boot_ns, bpf_probe_read_kernel_str_bytes};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use wiretape_agent_ebpf::{CgroupRecord, EventRecord, kind, layout};

use crate::kernel::{Address, cgroup_of, field, recorded, reserve, tell};

/// `signal_struct.flags`: the process ends as a whole, and `group_exit_code` says how.
const SIGNAL_GROUP_EXIT: u32 = 4;

/// Addresses in the kernel's half of the memory have this bit.
const KERNEL_HALF: u64 = 1 << 63;

/// `sched_process_exec(task, old_pid, program)`: by now the name is the new one's.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_start(ctx: RawTracePointContext) -> i32 {
    let _ = of_task(ctx.arg(0), kind::PROCESS_START, 0);
    0
}

/// `sched_process_exit(task)`, of each thread; the last one's is the end of the process.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn process_exit(ctx: RawTracePointContext) -> i32 {
    let _ = exit(ctx.arg(0));
    0
}

/// `mark_victim(task, uid)`, before Linux 6.8 `mark_victim(pid)`.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn oom_kill(ctx: RawTracePointContext) -> i32 {
    let victim: u64 = ctx.arg(0);
    if victim & KERNEL_HALF != 0 {
        let _ = of_task(victim, kind::OOM_KILL, 0);
    } else {
        // Whose cgroup it is, is found by its process.
        tell(EventRecord {
            kind: kind::OOM_KILL,
            pid: victim as u32,
            ..EventRecord::default()
        });
    }
    0
}

/// `cgroup_mkdir(cgroup, path)`.
#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub fn cgroup_made(ctx: RawTracePointContext) -> i32 {
    let _ = made(ctx.arg(0), ctx.arg(1));
    0
}

#[inline(always)]
fn exit(task: Address) -> Option<()> {
    let signal: Address = field(task, layout::TASK_SIGNAL)?;
    let live: i32 = field(signal, layout::SIGNAL_LIVE)?;
    if live > 0 {
        return None;
    }
    let flags: u32 = field(signal, layout::SIGNAL_FLAGS)?;
    let status: u32 = if flags & SIGNAL_GROUP_EXIT != 0 {
        field(signal, layout::SIGNAL_EXIT_CODE)?
    } else {
        field(field(task, layout::TASK_LEADER)?, layout::TASK_EXIT_CODE)?
    };
    of_task(task, kind::PROCESS_EXIT, status)
}

/// Tells of the process that a thread belongs to, by its first thread's name.
#[inline(always)]
fn of_task(task: Address, kind: u32, status: u32) -> Option<()> {
    let cgroup = recorded(cgroup_of(task)?)?;
    let leader: Address = field(task, layout::TASK_LEADER)?;
    tell(EventRecord {
        kind,
        pid: field(task, layout::TASK_TGID)?,
        cgroup,
        status,
        comm: field(leader, layout::TASK_COMM)?,
        ..EventRecord::default()
    });
    Some(())
}

#[inline(always)]
fn made(cgroup: Address, path: Address) -> Option<()> {
    // Those of version 1 count their ids by themselves.
    let hierarchy: i32 = field(field(cgroup, layout::CGROUP_ROOT)?, layout::ROOT_HIERARCHY)?;
    if hierarchy != 0 {
        return None;
    }
    let id = recorded(cgroup)?;
    let mut entry = reserve::<CgroupRecord>()?;
    let record = entry.as_mut_ptr();
    // SAFETY: `record` is the ring's memory, reserved for this record alone until it is submitted; the helper writes no more
    // than the path's length, and what it does not write is not read.
    unsafe {
        addr_of_mut!((*record).kind).write(kind::CGROUP_MADE);
        addr_of_mut!((*record).time).write(bpf_ktime_get_boot_ns());
        addr_of_mut!((*record).cgroup).write(id);
        let text = bpf_probe_read_kernel_str_bytes(path as *const u8, &mut (*record).path);
        addr_of_mut!((*record).length).write(text.map_or(0, |text| text.len() as u32));
    }
    entry.submit(0);
    Some(())
}
