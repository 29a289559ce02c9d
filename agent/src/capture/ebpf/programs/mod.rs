//! The programs of packets, and their ring.

mod loading;

mod drops;

mod messages;

mod meter;

mod records;

mod shared;

mod tap;

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use aya::programs::CgroupSkbAttachType;
use aya_log::EbpfLogger;
use nix::sys::epoll::EpollFlags;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use wiretape_agent_ebpf::choice::{Choice, Choices, Rule, asks};
use wiretape_agent_ebpf::{Handover, KernelCounters, MAX_EXCLUSIONS, kind};
use wiretape_tape::{Direction, DropReason, LinkType, Nanos, Packet, Place};

use super::super::clock::WallClock;
use super::super::interfaces::{Follower, Notices};
use super::super::ring::Ring;
use super::super::wake::Wait;
use super::super::{
    Capture, CaptureCounters, CaptureError, Disturbed, Handed, Inherited, LeftOut, MAX_BATCH, Mark, Polled,
    Scope, Source, Waker,
};
use crate::config::Interfaces;
use crate::kernel::pins::Pins;
use crate::kernel::tracepoint::Attached;
use drops::Told;
use loading::{
    Hook, Loaded, MARKS, OLD_RING, Programs, RING, attach, filters_in_kernel, inherited, load, open_ring,
    put_old_ring_aside, ring_map, take_map, take_pins, tap_interfaces,
};
use messages::ToTracing;
use meter::{Meter, TABLES};
use records::{parse, passes};
use shared::{CgroupRule, Chosen, Counters, Word};
use tap::set;

/// The loopback interface has this index in every network namespace.
const LOOPBACK: u32 = 1;

/// No poll reads more than this part of the ring, as a shift.
const POLL_PART: u32 = 4;

/// The same where what was read stays in the ring until it is in the tape's files: in steps so small, it is given back.
const STEP_PART: u32 = 6;

/// No more than this part of the ring waits for that, as a shift: the programs shed when half of it is full.
const WAITING_PART: u32 = 2;

/// How long programs of an earlier agent may still be running after they were replaced: none runs for a millisecond.
const LAST_RUNS: Duration = Duration::from_millis(50);

/// The programs, attached, and the ring they write into.
pub struct EbpfCapture {
    /// `None` once stopped.
    programs: Option<Programs>,
    hooks: Vec<Hook>,
    /// `None` where the kernel does not tell what it drops, and once stopped.
    drops: Option<Attached>,
    /// The last is the one that is written to; those before it are read to their end, and let go.
    rings: VecDeque<Ring>,
    counters: PerCpuArray<MapData, Counters>,
    handover: Array<MapData, Word>,
    choices: Array<MapData, Chosen>,
    rules: HashMap<MapData, u64, CgroupRule>,
    /// What is in `choices`.
    chosen: Box<Choices>,
    meter: Meter,
    /// Whether the programs leave the filter to the agent.
    filters_here: bool,
    /// Packets that came out of the ring and that the filter then did not let through.
    filtered: u64,
    pins: Option<Arc<Pins>>,
    /// What an earlier agent has accounted for.
    inherited: Handover,
    logger: EbpfLogger<ToTracing>,
    wait: Wait,
    clock: WallClock,
    /// Not yet told.
    interfaces: Vec<(u32, String)>,
    /// Records taken out of the ring since the start.
    taken: u64,
    /// Of those, how many the tape had before.
    skipped: u64,
    /// What was counted when the counters were last asked for, as it is told by now.
    told: CaptureCounters,
    /// Of that, what is in the tape's files.
    kept: CaptureCounters,
    /// The last poll left packets in the ring, so the next need not wait.
    behind: bool,
    begun: Instant,
}

impl EbpfCapture {
    /// Loads the programs and attaches them to the cgroup of `scope`, and to interfaces where the kernel lets
    /// them. Where an earlier agent has left its ring and its programs, goes on with that ring and puts its own programs
    /// in their place.
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

        let pins = take_pins(&scope);
        let pins = pins.as_ref();
        let left = inherited(pins).unwrap_or_default();
        let old = pins
            .map(|pins| put_old_ring_aside(pins, scope.ring_bytes))
            .transpose()?;

        let mark = match u32::try_from(left.mark) {
            Ok(mark) if mark != 0 => mark,
            _ => 1 << (std::process::id() % MARKS),
        };
        let told = drops::told(&scope);
        let tapped = if scope.interfaces == Interfaces::None {
            None
        } else {
            tap_interfaces(&scope, mark, &told, pins)
        };
        let mut loaded = match tapped {
            Some(tap) => Loaded::WithInterfaces(Box::new(tap)),
            None => Loaded::SocketsOnly(load(&scope, 0, [0; 2], &told, pins)?),
        };
        let on_interfaces = matches!(loaded, Loaded::WithInterfaces(_));
        let ebpf = loaded.ebpf();
        let logger = EbpfLogger::init_with_logger(ebpf, ToTracing)
            .map_err(|_| CaptureError::Missing("the map AYA_LOGS"))?;
        // The programs name it by this descriptor until they are loaded.
        let ring_map = ring_map(take_map(ebpf, RING)?)?;
        let ring = open_ring(&ring_map)?;
        let counters = PerCpuArray::try_from(take_map(ebpf, "COUNTERS")?)?;
        let mut handover: Array<_, Word> = Array::try_from(take_map(ebpf, "HANDOVER")?)?;
        let started = Handover {
            mark: u64::from(mark),
            ..left
        };
        handover.set(0, Word(started), 0)?;
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
        let mut rings: VecDeque<_> = old.flatten().into_iter().chain([ring]).collect();
        if let Some(ring) = rings.front_mut() {
            ring.skip_to(left.position);
        }

        let cgroup = File::open(&scope.recorded)?;
        let mut hooks = Vec::new();
        for (name, hook) in [
            ("packet_in", CgroupSkbAttachType::Ingress),
            ("packet_out", CgroupSkbAttachType::Egress),
        ] {
            hooks.push(attach(ebpf, name, &cgroup, hook, pins)?);
        }
        let told = if on_interfaces { told } else { Told::NOTHING };
        let drops = drops::attach(ebpf, &told, pins.map(Arc::as_ref));
        drop(ring_map);
        let meter = Meter::of(ebpf);
        let programs = match loaded {
            Loaded::SocketsOnly(ebpf) => Programs::Sockets { _ebpf: ebpf },
            Loaded::WithInterfaces(tap) => {
                let home = scope.interfaces == Interfaces::All;
                Programs::Interfaces {
                    follower: Follower::start(scope.recorded, home, *tap)?,
                }
            }
        };
        if let Some(pins) = pins {
            pins.settle();
        }
        let (clock, interfaces) = (WallClock::read()?, vec![(LOOPBACK, "lo".to_owned())]);
        let capture = Self {
            programs: Some(programs),
            hooks,
            drops,
            rings,
            counters,
            handover,
            choices,
            rules,
            chosen,
            meter,
            filters_here: !filters_in_kernel(&scope.choice),
            filtered: 0,
            pins: pins.cloned(),
            inherited: started,
            logger,
            wait,
            clock,
            interfaces,
            taken: 0,
            skipped: 0,
            kept: CaptureCounters::default(),
            told: CaptureCounters::default(),
            behind: true,
            begun: Instant::now(),
        };
        capture.tell_of_filter(&scope.choice);
        Ok(capture)
    }

    fn tell_of_filter(&self, choice: &Choice) {
        if self.filters_here && choice.asks & asks::FILTER != 0 {
            tracing::info!(
                "the filter is run by the agent, before it writes: the kernel runs one that an agent starts with, since Linux 5.17"
            );
        }
    }

    /// All that was counted, by all agents that had these counters.
    fn counted(&self) -> Result<KernelCounters, CaptureError> {
        let mut sum = KernelCounters::default();
        for Counters(cpu) in self.counters.get(&0, 0)?.iter() {
            sum.seen += cpu.seen;
            sum.seen_bytes += cpu.seen_bytes;
            sum.excluded += cpu.excluded;
            sum.ring_full += cpu.ring_full;
            sum.load_failed += cpu.load_failed;
            sum.truncated += cpu.truncated;
            sum.shed += cpu.shed;
            sum.filtered_out += cpu.filtered_out;
            sum.ruled_out += cpu.ruled_out;
            sum.sampled_out += cpu.sampled_out;
            sum.shed_flows += cpu.shed_flows;
        }
        Ok(sum)
    }

    /// Lets a ring go that is read to its end, on the tape, and not written to any more.
    fn leave_old_ring(&mut self) -> Result<(), CaptureError> {
        let (Some(old), Some(next)) = (self.rings.front(), self.rings.get(1)) else {
            return Ok(());
        };
        if self.begun.elapsed() <= LAST_RUNS || !old.is_empty() || old.held() > 0 {
            return Ok(());
        }
        // Before the old one goes: positions are those of the ring that is read.
        let Word(word) = self.handover.get(&0, 0)?;
        let position = next.position();
        self.handover.set(0, Word(Handover { position, ..word }), 0)?;
        self.rings.pop_front();
        if let Some(pins) = &self.pins {
            pins.remove(OLD_RING);
        }
        Ok(())
    }
}

impl Source for EbpfCapture {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
        if !self.behind {
            self.wait.wait(timeout)?;
        }
        self.logger.flush();
        self.clock.refresh()?;
        self.leave_old_ring()?;
        let Some(ring) = self.rings.front_mut() else {
            return Ok(Polled::Ended);
        };
        let part = if self.pins.is_some() { STEP_PART } else { POLL_PART };
        let end = ring.position() + (ring.size() >> part);
        let most = ring.size() >> WAITING_PART;
        let mut handed = 0;
        while handed < MAX_BATCH && ring.position() < end && ring.held() < most {
            let Some(item) = ring.next() else { break };
            self.taken += 1;
            let Some((record, data)) = parse(item) else {
                continue;
            };
            handed += 1;
            if self.filters_here && !passes(self.chosen.holding(), &record, data) {
                self.filtered += 1;
                continue;
            }
            sink(&Packet {
                ts: self.clock.wall(record.time),
                data,
                orig_len: record.orig_len,
                link: if kind::is_frame(record.kind) {
                    LinkType::ETHERNET
                } else {
                    LinkType::RAW
                },
                ifindex: record.ifindex,
                direction: if kind::is_inward(record.kind) {
                    Direction::In
                } else {
                    Direction::Out
                },
                cgroup: record.cgroup,
                cookie: record.cookie,
                dropped: match kind::drop_reason(record.kind) {
                    0 => None,
                    // Of a later agent's program, it may have a number that this one does not know.
                    number => Some(DropReason::numbered(number).unwrap_or(DropReason::OTHER)),
                },
            });
        }
        self.behind =
            handed == MAX_BATCH || ring.position() >= end || ring.held() >= most || self.rings.len() > 1;
        if self.pins.is_none() {
            self.give_back();
        }
        if self.meter.is_due() {
            let seen = self.counted()?.seen;
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
        Ok(self.taken >= mark.packets || self.rings.iter().all(Ring::is_empty))
    }

    fn counters(&mut self) -> Result<CaptureCounters, CaptureError> {
        let mut counters = self.in_kernel()?;
        counters.left_out.filter += self.filtered;
        Ok(counters)
    }

    /// Indices count anew in every network namespace, and packets come from all of them; only the
    /// loopback interface is the same everywhere.
    fn new_interfaces(&mut self) -> Vec<(u32, String)> {
        std::mem::take(&mut self.interfaces)
    }

    fn disturbed(&self) -> Disturbed {
        self.follower().map(Follower::disturbed).unwrap_or_default()
    }

    fn memory(&self) -> u64 {
        self.rings.iter().map(Ring::size).sum::<u64>() + TABLES
    }

    fn pins(&self) -> Option<Arc<Pins>> {
        self.pins.clone()
    }

    fn notices(&self) -> Option<Notices> {
        self.follower().map(Follower::notices)
    }

    fn stop(&mut self) {
        self.hooks.clear();
        self.drops = None;
        self.programs = None;
    }

    fn inherited(&self) -> Option<Inherited> {
        let Handover { at, tape, .. } = self.inherited;
        let [start, sequence, packets] = tape;
        (at != 0).then_some(Inherited {
            at,
            place: Place {
                segment: [start, sequence],
                packets,
            },
        })
    }

    fn skip(&mut self, packets: u64) {
        let mut left = packets;
        while left > 0 {
            let Some(item) = self.rings.front_mut().and_then(Ring::next) else {
                return;
            };
            match parse(item) {
                Some((record, data))
                    if !self.filters_here || passes(self.chosen.holding(), &record, data) =>
                {
                    self.skipped += 1;
                    left -= 1;
                }
                // It is not on the tape.
                _ => self.taken += 1,
            }
        }
    }

    fn is_kept(&self) -> bool {
        self.pins.is_some()
    }

    fn handed(&self) -> Handed {
        Handed {
            position: self.rings.front().map_or(0, Ring::position),
            records: self.taken,
        }
    }

    /// An old ring that is read to its end is let go once all of it is kept.
    fn is_crowded(&self) -> bool {
        let is_full = |ring: &Ring| ring.held() >= ring.size() >> WAITING_PART;
        self.rings.front().is_some_and(is_full) || self.rings.len() > 1
    }

    fn keep(&mut self, handed: Handed, place: Place, told: bool, now: Nanos) -> Result<(), CaptureError> {
        if told {
            self.kept = self.told;
        }
        let (told, before) = (&self.kept, &self.inherited.told);
        let [start, sequence] = place.segment;
        let accounted = handed.records + self.skipped + told.not_handed_over();
        let handover = Handover {
            mark: self.inherited.mark,
            position: handed.position,
            tape: [start, sequence, place.packets],
            at: now,
            told: KernelCounters {
                seen: before.seen + accounted,
                seen_bytes: before.seen_bytes + told.seen_bytes,
                excluded: before.excluded + told.excluded,
                ring_full: before.ring_full + told.lost_buffer_full,
                load_failed: before.load_failed + told.lost_unreadable,
                truncated: before.truncated + told.truncated,
                shed: before.shed + told.shed,
                filtered_out: before.filtered_out + told.left_out.filter,
                ruled_out: before.ruled_out + told.left_out.rule,
                sampled_out: before.sampled_out + told.left_out.sample,
                shed_flows: before.shed_flows + told.left_out.budget,
            },
        };
        // In this order: who takes over in between goes on at the position that was told.
        self.handover.set(0, Word(handover), 0)?;
        if let Some(ring) = self.rings.front_mut() {
            ring.give_back_to(handed.position);
        }
        Ok(())
    }
}

impl EbpfCapture {
    fn follower(&self) -> Option<&Follower> {
        match &self.programs {
            Some(Programs::Interfaces { follower }) => Some(follower),
            _ => None,
        }
    }

    /// What the programs have counted since the earlier agent, if there was one, has told of it.
    fn in_kernel(&mut self) -> Result<CaptureCounters, CaptureError> {
        let (all, before) = (self.counted()?, self.inherited.told);
        self.told = CaptureCounters {
            seen: all.seen.saturating_sub(before.seen + self.skipped),
            seen_bytes: all.seen_bytes.saturating_sub(before.seen_bytes),
            excluded: all.excluded.saturating_sub(before.excluded),
            lost_buffer_full: all.ring_full.saturating_sub(before.ring_full),
            lost_unreadable: all.load_failed.saturating_sub(before.load_failed),
            truncated: all.truncated.saturating_sub(before.truncated),
            shed: all.shed.saturating_sub(before.shed),
            left_out: LeftOut {
                filter: all.filtered_out.saturating_sub(before.filtered_out),
                rule: all.ruled_out.saturating_sub(before.ruled_out),
                sample: all.sampled_out.saturating_sub(before.sampled_out),
                budget: all.shed_flows.saturating_sub(before.shed_flows),
            },
            untold_drops: self.drops.as_ref().map_or(0, Attached::left_out),
        };
        Ok(self.told)
    }

    fn give_back(&mut self) {
        if let Some(ring) = self.rings.front_mut() {
            ring.give_back();
        }
    }
}

impl Capture for EbpfCapture {
    /// Writes into the bank that does not hold, then has that one hold. A program that is at work in it by then began
    /// two changes ago.
    fn choose(&mut self, choice: &Choice) -> Result<(), CaptureError> {
        self.tell_of_filter(choice);
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
        let seen = self.counted()?.seen;
        Ok(self.meter.taken(seen))
    }
}
