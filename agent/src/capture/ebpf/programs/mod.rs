//! The programs of packets, and their ring.

mod loading;

mod meter;

mod records;

mod shared;

mod tap;

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::CgroupSkbAttachType;
use aya::programs::cgroup_skb::CgroupSkbLink;
use aya_log::EbpfLogger;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::EpollFlags;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use wiretape_agent_ebpf::choice::{Choice, Choices, Rule};
use wiretape_agent_ebpf::{MAX_EXCLUSIONS, kind};
use wiretape_tape::{Direction, LinkType, Packet};

use super::super::clock::WallClock;
use super::super::interfaces::Follower;
use super::super::wake::Wait;
use super::super::{
    Capture, CaptureCounters, CaptureError, MAX_BATCH, Mark, Polled, Scope, Source, Waker, causes,
};
use crate::config::Interfaces;
use loading::{Loaded, MARKS, Programs, attach, load, set, take_map};
use meter::{Meter, TABLES};
use records::{parse, passes};
use shared::{CgroupRule, Chosen, Counters};
use tap::InterfaceTap;

/// The loopback interface has this index in every network namespace.
const LOOPBACK: u32 = 1;

/// The programs, attached, and the ring they write into.
pub struct EbpfCapture {
    /// `None` once stopped.
    programs: Option<Programs>,
    links: Vec<CgroupSkbLink>,
    ring: RingBuf<MapData>,
    counters: PerCpuArray<MapData, Counters>,
    choices: Array<MapData, Chosen>,
    rules: HashMap<MapData, u64, CgroupRule>,
    /// What is in `choices`.
    chosen: Box<Choices>,
    meter: Meter,
    ring_bytes: u32,
    /// Packets that came out of the ring and that the filter did not let through.
    filtered: u64,
    logger: EbpfLogger<ToTracing>,
    wait: Wait,
    clock: WallClock,
    /// Not yet told.
    interfaces: Vec<(u32, String)>,
    /// Records taken out of the ring since the start.
    taken: u64,
    /// The last poll left packets in the ring, so the next need not wait.
    behind: bool,
}

impl EbpfCapture {
    /// Loads the programs and attaches them to the cgroup of `scope`, and to interfaces where the kernel lets
    /// them.
    ///
    /// # Errors
    /// When the kernel refuses, or more is to be excluded than the programs check.
    pub fn open(scope: Scope, waker: &Waker) -> Result<Self, CaptureError> {
        let excluded = &scope.excluded;
        if excluded.len() > MAX_EXCLUSIONS {
            return Err(CaptureError::TooManyExclusions {
                given: excluded.len(),
                max: MAX_EXCLUSIONS,
            });
        }
        // Before Linux 5.11, maps counted as locked memory, of which there is little by default. Where
        // the limit cannot be raised and matters, the load says so.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);

        let mut tapped = None;
        if scope.interfaces != Interfaces::None {
            match load(&scope, 1 << (std::process::id() % MARKS)).and_then(InterfaceTap::new) {
                Ok(tap) => tapped = Some(tap),
                Err(refusal) => tracing::warn!(
                    "packets that no socket sends or receives are not recorded, which needs Linux 6.15: {}",
                    causes(&refusal)
                ),
            }
        }
        let mut loaded = match tapped {
            Some(tap) => Loaded::WithInterfaces(tap),
            None => Loaded::SocketsOnly(load(&scope, 0)?),
        };
        let ebpf = loaded.ebpf();
        let logger = EbpfLogger::init_with_logger(ebpf, ToTracing)
            .map_err(|_| CaptureError::Missing("the map AYA_LOGS"))?;
        let ring = RingBuf::try_from(take_map(ebpf, "PACKETS")?)?;
        let counters = PerCpuArray::try_from(take_map(ebpf, "COUNTERS")?)?;
        let mut choices = Array::try_from(take_map(ebpf, "CHOICES")?)?;
        let rules = HashMap::try_from(take_map(ebpf, "RULES")?)?;
        let chosen = Box::new(Choices {
            current: 0,
            banks: [scope.choice; 2],
        });
        // Before there is a packet to choose from.
        choices.set(0, Chosen(*chosen), 0)?;
        // Edge-triggered: the ring counts as readable whenever it holds anything, but the agent is to
        // sleep until the programs wake it.
        let wait = Wait::new(&ring, EpollFlags::EPOLLIN | EpollFlags::EPOLLET, waker)?;

        let cgroup = File::open(&scope.recorded)?;
        let mut links = Vec::new();
        for (name, hook) in [
            ("packet_in", CgroupSkbAttachType::Ingress),
            ("packet_out", CgroupSkbAttachType::Egress),
        ] {
            links.push(attach(ebpf, name, &cgroup, hook)?);
        }
        let meter = Meter::of(ebpf);
        let programs = match loaded {
            Loaded::SocketsOnly(ebpf) => Programs::Sockets { _ebpf: ebpf },
            Loaded::WithInterfaces(tap) => {
                let home = scope.interfaces == Interfaces::All;
                Programs::Interfaces {
                    _follower: Follower::start(scope.recorded, home, tap)?,
                }
            }
        };
        let (clock, interfaces) = (WallClock::read()?, vec![(LOOPBACK, "lo".to_owned())]);
        Ok(Self {
            programs: Some(programs),
            links,
            ring,
            counters,
            choices,
            rules,
            chosen,
            meter,
            ring_bytes: scope.ring_bytes,
            filtered: 0,
            logger,
            wait,
            clock,
            interfaces,
            taken: 0,
            behind: false,
        })
    }
}

impl Source for EbpfCapture {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
        if !self.behind {
            self.wait.wait(timeout)?;
        }
        self.logger.flush();
        self.clock.refresh()?;
        let mut handed = 0;
        while handed < MAX_BATCH {
            let Some(item) = self.ring.next() else { break };
            self.taken += 1;
            let Some((record, data)) = parse(&item) else {
                continue;
            };
            handed += 1;
            if !passes(
                &self.chosen.banks[self.chosen.current as usize & 1],
                &record,
                data,
            ) {
                self.filtered += 1;
                continue;
            }
            sink(&Packet {
                ts: self.clock.wall(record.time),
                data,
                orig_len: record.orig_len,
                link: if matches!(record.kind, kind::PACKET_IN | kind::PACKET_OUT) {
                    LinkType::RAW
                } else {
                    LinkType::ETHERNET
                },
                ifindex: record.ifindex,
                direction: if matches!(record.kind, kind::PACKET_IN | kind::FRAME_IN) {
                    Direction::In
                } else {
                    Direction::Out
                },
                cgroup: record.cgroup,
                cookie: record.cookie,
            });
        }
        self.behind = handed == MAX_BATCH;
        if self.meter.is_due() {
            let seen = self.counters()?.seen;
            self.meter.read(seen);
        }
        Ok(Polled::Packets(handed))
    }

    /// Records stand in the ring in the order in which the programs reserved them, so those of packets that
    /// have passed a program by now are among the first `packets` of all.
    fn mark(&mut self) -> Result<Mark, CaptureError> {
        // Read in this order, since packets come by meanwhile: too many only makes the wait longer, and
        // ends it at an empty ring.
        let none = self.in_kernel()?;
        let seen = self.in_kernel()?.seen;
        Ok(Mark {
            at: Instant::now(),
            packets: seen.saturating_sub(none.not_handed_over()),
        })
    }

    fn is_past(&mut self, mark: &Mark) -> Result<bool, CaptureError> {
        Ok(self.taken >= mark.packets || is_empty(&self.ring)?)
    }

    fn counters(&mut self) -> Result<CaptureCounters, CaptureError> {
        let mut counters = self.in_kernel()?;
        counters.left_out.filter = self.filtered;
        Ok(counters)
    }

    /// Indices count anew in every network namespace, and packets come from all of them; only the
    /// loopback interface is the same everywhere.
    fn new_interfaces(&mut self) -> Vec<(u32, String)> {
        std::mem::take(&mut self.interfaces)
    }

    fn stop(&mut self) {
        self.links.clear();
        self.programs = None;
    }
}

impl EbpfCapture {
    /// What the programs have counted.
    fn in_kernel(&self) -> Result<CaptureCounters, CaptureError> {
        let mut sum = CaptureCounters::default();
        for Counters(cpu) in self.counters.get(&0, 0)?.iter() {
            sum.seen += cpu.seen;
            sum.seen_bytes += cpu.seen_bytes;
            sum.excluded += cpu.excluded;
            sum.lost_buffer_full += cpu.ring_full;
            sum.lost_unreadable += cpu.load_failed;
            sum.truncated += cpu.truncated;
            sum.shed += cpu.shed;
            sum.left_out.rule += cpu.ruled_out;
            sum.left_out.sample += cpu.sampled_out;
            sum.left_out.budget += cpu.shed_flows;
        }
        Ok(sum)
    }
}

impl Capture for EbpfCapture {
    /// Writes into the bank that does not hold, then has that one hold. A program that is at work in it by then began
    /// two changes ago.
    fn choose(&mut self, choice: &Choice) -> Result<(), CaptureError> {
        let next = self.chosen.current ^ 1;
        let [even, odd] = &mut self.chosen.banks;
        *(if next == 0 { even } else { odd }) = *choice;
        self.choices.set(0, Chosen(*self.chosen), 0)?;
        self.chosen.current = next;
        self.choices.set(0, Chosen(*self.chosen), 0)?;
        Ok(())
    }

    fn rule(&mut self, cgroup: u64, rule: Option<Rule>) -> Result<(), CaptureError> {
        set(&mut self.rules, &cgroup, rule.map(CgroupRule).as_ref())
    }

    fn beside(&mut self) -> Result<Duration, CaptureError> {
        let seen = self.counters()?.seen;
        Ok(self.meter.taken(seen))
    }

    fn memory(&self) -> u64 {
        u64::from(self.ring_bytes) + TABLES
    }
}

/// Whether the ring holds nothing, not even a record that a program is still writing, at which reading stops.
fn is_empty(ring: &RingBuf<MapData>) -> Result<bool, CaptureError> {
    let mut readable = [PollFd::new(ring.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut readable, PollTimeout::ZERO).map_err(std::io::Error::from)?;
    Ok(ready == 0)
}

/// Hands the programs' messages on to the agent's own log.
struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        match record.level() {
            log::Level::Error | log::Level::Warn => tracing::warn!(from = "kernel", "{}", record.args()),
            _ => tracing::info!(from = "kernel", "{}", record.args()),
        }
    }

    fn flush(&self) {}
}
