//! Packets from the kernel programs: the only code that knows aya.

use std::time::Duration;

use wiretape_agent_ebpf::choice::{Choice, Rule};
use wiretape_tape::Packet;

use super::{Capture, CaptureCounters, CaptureError, Mark, Polled, Scope, Source, Waker};

#[cfg(ebpf_programs)]
pub use programs::EbpfCapture;

/// Stands for the backend in an agent that was built without the kernel programs: cannot be made.
#[cfg(not(ebpf_programs))]
pub enum EbpfCapture {}

#[cfg(not(ebpf_programs))]
impl EbpfCapture {
    /// Says that there is no such backend.
    ///
    /// # Errors
    /// Always [`CaptureError::NotBuilt`].
    pub fn open(_: Scope, _: &Waker) -> Result<Self, CaptureError> {
        Err(CaptureError::NotBuilt)
    }
}

#[cfg(not(ebpf_programs))]
impl Source for EbpfCapture {
    fn poll(&mut self, _: Duration, _: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
        match *self {}
    }

    fn mark(&mut self) -> Result<Mark, CaptureError> {
        match *self {}
    }

    fn is_past(&mut self, _: &Mark) -> Result<bool, CaptureError> {
        match *self {}
    }

    fn counters(&mut self) -> Result<CaptureCounters, CaptureError> {
        match *self {}
    }

    fn new_interfaces(&mut self) -> Vec<(u32, String)> {
        match *self {}
    }

    fn stop(&mut self) {
        match *self {}
    }
}

#[cfg(not(ebpf_programs))]
impl Capture for EbpfCapture {
    fn choose(&mut self, _: &Choice) -> Result<(), CaptureError> {
        match *self {}
    }

    fn rule(&mut self, _: u64, _: Option<Rule>) -> Result<(), CaptureError> {
        match *self {}
    }
}

#[cfg(ebpf_programs)]
mod programs {
    use std::fs::File;
    use std::os::fd::{AsFd, OwnedFd};
    use std::time::Instant;

    use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, RingBuf};
    use aya::programs::cgroup_skb::CgroupSkbLink;
    use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
    use aya::programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, LinkOrder, ProgramError, SchedClassifier,
        TcAttachType, loaded_programs,
    };
    use aya::sys::{Stats, enable_stats};
    use aya::{Ebpf, EbpfError, EbpfLoader, Pod, include_bytes_aligned};
    use aya_log::EbpfLogger;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::epoll::EpollFlags;
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    use nix::sys::time::TimeValLike;
    use nix::time::{ClockId, clock_gettime};
    use wiretape_agent_ebpf::choice::{Carried, Choices, MAX_CONNECTIONS, MAX_RULES, asks};
    use wiretape_agent_ebpf::filter::{self, Frame};
    use wiretape_agent_ebpf::{
        Exclusion, InterfaceKey, KernelCounters, MAX_EXCLUSIONS, PACKET_RECORD_BYTES, PacketRecord, kind,
    };
    use wiretape_tape::{Direction, LinkType, Nanos};

    use super::super::MAX_BATCH;
    use super::super::interfaces::{Follower, Tap};
    use super::super::wake::Wait;
    use super::*;
    use crate::config::Interfaces;

    /// The programs, as `build.rs` built them.
    static PROGRAMS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/wiretape-agent-ebpf"));

    /// The agent is woken early when this part of the ring has filled, as a shift: a sixty-fourth. Else it
    /// comes by its own timer. On a busy machine it waits for its turn while the rest of the ring fills.
    const WAKE_PART: u32 = 6;

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
                        super::super::causes(&refusal)
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

    /// Holds what is in the kernel.
    enum Programs {
        Sockets { _ebpf: Ebpf },
        Interfaces { _follower: Follower },
    }

    /// Loaded, and attached to nothing yet.
    enum Loaded {
        SocketsOnly(Ebpf),
        WithInterfaces(InterfaceTap),
    }

    impl Loaded {
        fn ebpf(&mut self) -> &mut Ebpf {
            match self {
                Self::SocketsOnly(ebpf) => ebpf,
                Self::WithInterfaces(tap) => &mut tap.ebpf,
            }
        }
    }

    /// Bits of `tc_index`: agents on one machine do not hold each other's marks for their own, unless their
    /// process ids are alike.
    const MARKS: u32 = 16;

    /// Brings the programs into memory; those for interfaces have `mark`, which is 0 where they are not used.
    fn load(scope: &Scope, mark: u32) -> Result<Ebpf, CaptureError> {
        let mut exclusions = [Excluded(Exclusion::default()); MAX_EXCLUSIONS];
        for (entry, cgroup) in exclusions.iter_mut().zip(&scope.excluded) {
            entry.0 = Exclusion {
                id: cgroup.id,
                level: cgroup.level,
                reserved: 0,
            };
        }
        let wake_shift = scope.ring_bytes.ilog2() - WAKE_PART;
        // 256ths of a nanosecond for a byte; a burst is what half of the ring holds.
        let bulk_cost = ((256_000_000_000 / scope.bulk_rate.max(1)).max(1)).min(u64::from(u32::MAX));
        let bulk_burst = (u64::from(scope.ring_bytes / 2) * bulk_cost) >> 8;
        let ebpf = EbpfLoader::new()
            .override_global("BULK_BURST", &bulk_burst, true)
            .override_global("BULK_COST", &bulk_cost, true)
            .override_global("EXCLUDED", &exclusions[..], true)
            .override_global("MARK", &mark, true)
            .override_global("WAKE_SHIFT", &wake_shift, true)
            .map_max_entries("PACKETS", scope.ring_bytes)
            .load(PROGRAMS)?;
        Ok(ebpf)
    }

    /// The programs for interfaces.
    struct InterfaceTap {
        owners: HashMap<MapData, Interface, u64>,
        covered: HashMap<MapData, u64, u8>,
        ebpf: Ebpf,
    }

    const TAPS: [(&str, TcAttachType); 2] = [
        ("frame_in", TcAttachType::Ingress),
        ("frame_out", TcAttachType::Egress),
    ];

    impl InterfaceTap {
        fn new(mut ebpf: Ebpf) -> Result<Self, CaptureError> {
            for (name, _) in TAPS {
                classifier(&mut ebpf, name)?.load().map_err(attach_error(name))?;
            }
            let owners = HashMap::try_from(take_map(&mut ebpf, "OWNERS")?)?;
            let covered = HashMap::try_from(take_map(&mut ebpf, "COVERED")?)?;
            Ok(Self {
                owners,
                covered,
                ebpf,
            })
        }
    }

    fn classifier<'a>(
        ebpf: &'a mut Ebpf,
        name: &'static str,
    ) -> Result<&'a mut SchedClassifier, CaptureError> {
        let program = ebpf.program_mut(name).ok_or(CaptureError::Missing(name))?;
        program.try_into().map_err(attach_error(name))
    }

    fn attach_error(name: &'static str) -> impl Fn(ProgramError) -> CaptureError {
        move |refusal| CaptureError::Attach {
            name,
            source: refusal.into(),
        }
    }

    impl Tap for InterfaceTap {
        type Hold = [SchedClassifierLink; 2];

        fn attach(&mut self, interface: &str) -> Result<Self::Hold, CaptureError> {
            let [received, sent] = TAPS.map(|(name, hook)| {
                let program = classifier(&mut self.ebpf, name)?;
                let options = TcAttachOptions::TcxOrder(LinkOrder::default());
                let link = program
                    .attach_with_options(interface, hook, options)
                    .and_then(|link| program.take_link(link));
                link.map_err(attach_error(name))
            });
            Ok([received?, sent?])
        }

        fn own(&mut self, interface: InterfaceKey, cgroup: Option<u64>) -> Result<(), CaptureError> {
            set(&mut self.owners, &Interface(interface), cgroup.as_ref())
        }

        fn cover(&mut self, namespace: u64, covered: bool) -> Result<(), CaptureError> {
            set(&mut self.covered, &namespace, covered.then_some(&1))
        }
    }

    /// Enters a value, or removes what there is.
    fn set<K: Pod, V: Pod>(
        map: &mut HashMap<MapData, K, V>,
        key: &K,
        value: Option<&V>,
    ) -> Result<(), CaptureError> {
        let outcome = match value {
            Some(value) => map.insert(key, value, 0),
            None => map.remove(key),
        };
        match outcome {
            // It was never said whose it is.
            Err(MapError::KeyNotFound) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    fn take_map(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, CaptureError> {
        ebpf.take_map(name).ok_or(CaptureError::Missing(name))
    }

    fn attach(
        ebpf: &mut Ebpf,
        name: &'static str,
        cgroup: &File,
        hook: CgroupSkbAttachType,
    ) -> Result<CgroupSkbLink, CaptureError> {
        let program = ebpf.program_mut(name).ok_or(CaptureError::Missing(name))?;
        let attached = (|| {
            let program: &mut CgroupSkb = program.try_into()?;
            program.load()?;
            // A link leaves room for other people's programs on the same cgroup, and takes no other mode.
            let link = program.attach(cgroup, hook, CgroupAttachMode::Single)?;
            program.take_link(link)
        })();
        attached.map_err(|refusal: ProgramError| CaptureError::Attach {
            name,
            source: refusal.into(),
        })
    }

    impl From<EbpfError> for CaptureError {
        fn from(refusal: EbpfError) -> Self {
            Self::Load(refusal.into())
        }
    }

    impl From<MapError> for CaptureError {
        fn from(refusal: MapError) -> Self {
            Self::Map(refusal.into())
        }
    }

    impl Source for EbpfCapture {
        fn poll(
            &mut self,
            timeout: Duration,
            sink: &mut dyn FnMut(&Packet<'_>),
        ) -> Result<Polled, CaptureError> {
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

    /// Whether the filter, if there is one, lets a packet through.
    fn passes(choice: &Choice, record: &PacketRecord, data: &[u8]) -> bool {
        if choice.asks & asks::FILTER == 0 {
            return true;
        }
        let framed = matches!(record.kind, kind::FRAME_IN | kind::FRAME_OUT);
        let network = if framed { ETHERNET_BYTES } else { 0 };
        let length = record.orig_len.saturating_sub(network);
        filter::passes(&choice.filter, &Frame::new(data, network, framed, length))
    }

    /// Before a frame that is not IP.
    const ETHERNET_BYTES: u32 = 14;

    /// Whether the ring holds nothing, not even a record that a program is still writing, at which reading stops.
    fn is_empty(ring: &RingBuf<MapData>) -> Result<bool, CaptureError> {
        let mut readable = [PollFd::new(ring.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut readable, PollTimeout::ZERO).map_err(std::io::Error::from)?;
        Ok(ready == 0)
    }

    /// Takes a record of the ring apart; `None` for a kind that this agent does not know.
    fn parse(item: &[u8]) -> Option<(PacketRecord, &[u8])> {
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
        let known = matches!(
            record.kind,
            kind::PACKET_IN | kind::PACKET_OUT | kind::FRAME_IN | kind::FRAME_OUT
        );
        let data = data.get(..record.captured as usize)?;
        known.then_some((record, data))
    }

    /// The memory of the programs' tables, with what the kernel adds to each entry.
    const TABLES: u64 = MAX_CONNECTIONS as u64 * (ENTRY + size_of::<Carried>() as u64)
        + MAX_RULES as u64 * (ENTRY + size_of::<Rule>() as u64);

    /// The kernel's own part of an entry of a hash table, its key and its place in the table.
    const ENTRY: u64 = 64;

    /// Processor time that the programs take. The kernel measures it when asked to, which costs some ten nanoseconds each
    /// time that a program runs: so it is asked for a moment now and then, and the packets' number tells the rest.
    struct Meter {
        /// The programs' ids.
        programs: Vec<u32>,
        /// While the kernel measures: the leave to, since when, and what was counted then.
        measuring: Option<(OwnedFd, Instant, Duration, u64)>,
        per_packet: Duration,
        /// What has been told.
        taken: Duration,
        seen: u64,
    }

    /// How long the kernel measures at a time.
    const MEASURE: Duration = Duration::from_millis(50);

    /// Least packets of a measurement that says something.
    const TELLING: u64 = 20;

    /// What a packet takes before it is measured, or where that is not allowed (`CAP_SYS_ADMIN`).
    const ASSUMED: Duration = Duration::from_nanos(500);

    impl Meter {
        fn of(ebpf: &Ebpf) -> Self {
            let ids = ebpf
                .programs()
                .filter_map(|(_, program)| Some(program.info().ok()?.id()));
            Self {
                programs: ids.collect(),
                measuring: None,
                per_packet: ASSUMED,
                taken: Duration::ZERO,
                seen: 0,
            }
        }

        fn is_due(&self) -> bool {
            self.measuring
                .as_ref()
                .is_some_and(|(_, since, ..)| since.elapsed() >= MEASURE)
        }

        /// Ends a measurement.
        fn read(&mut self, seen: u64) {
            let Some((_leave, _, before, first)) = self.measuring.take() else {
                return;
            };
            let packets = seen.saturating_sub(first);
            if let Some(took) = self.run_time().filter(|_| packets >= TELLING) {
                self.per_packet = took.saturating_sub(before) / u32::try_from(packets).unwrap_or(u32::MAX);
            }
        }

        /// What has been taken for so many packets. Begins the next measurement.
        fn taken(&mut self, seen: u64) -> Duration {
            let packets = seen.saturating_sub(self.seen);
            self.taken += self
                .per_packet
                .saturating_mul(u32::try_from(packets).unwrap_or(u32::MAX));
            self.seen = seen;
            if self.measuring.is_none() && packets >= TELLING {
                self.measuring = enable_stats(Stats::RunTime)
                    .ok()
                    .zip(self.run_time())
                    .map(|(leave, before)| (leave, Instant::now(), before, seen));
            }
            self.taken
        }

        fn run_time(&self) -> Option<Duration> {
            let ours = loaded_programs()
                .filter_map(Result::ok)
                .filter(|info| self.programs.contains(&info.id()));
            let times: Vec<Duration> = ours.map(|info| info.run_time()).collect();
            (!times.is_empty()).then(|| times.into_iter().sum())
        }
    }

    /// Turns the kernel programs' clock, which counts from boot, into UTC.
    struct WallClock {
        /// UTC minus time since boot.
        offset: u64,
        /// Since boot, when the offset was measured.
        measured: u64,
    }

    /// How old a measured offset may be. UTC is slewed and sometimes set; one second keeps the error of
    /// slewing (at most 500 ppm) under a millisecond.
    const OFFSET_LIFETIME: u64 = 1_000_000_000;

    impl WallClock {
        fn read() -> Result<Self, CaptureError> {
            // The thread may be interrupted between the readings: of three tries the quickest is the most
            // exact.
            let mut best: Option<(u64, Self)> = None;
            for _ in 0..3 {
                let before = now(ClockId::CLOCK_BOOTTIME)?;
                let utc = now(ClockId::CLOCK_REALTIME)?;
                let after = now(ClockId::CLOCK_BOOTTIME)?;
                let took = after.saturating_sub(before);
                if best.as_ref().is_none_or(|(least, _)| took < *least) {
                    best = Some((
                        took,
                        Self {
                            offset: utc.saturating_sub(before + took / 2),
                            measured: after,
                        },
                    ));
                }
            }
            best.map(|(_, clock)| clock)
                .ok_or_else(|| std::io::Error::other("the clocks cannot be read").into())
        }

        fn refresh(&mut self) -> Result<(), CaptureError> {
            if now(ClockId::CLOCK_BOOTTIME)?.saturating_sub(self.measured) > OFFSET_LIFETIME {
                *self = Self::read()?;
            }
            Ok(())
        }

        fn wall(&self, since_boot: u64) -> Nanos {
            since_boot + self.offset
        }
    }

    fn now(clock: ClockId) -> Result<u64, CaptureError> {
        let time = clock_gettime(clock).map_err(std::io::Error::from)?;
        Ok(u64::try_from(time.num_nanoseconds()).unwrap_or(0))
    }

    /// [`KernelCounters`] as aya may read them.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    struct Counters(KernelCounters);

    // SAFETY: `u64`s only, any bytes are a value.
    #[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
    unsafe impl Pod for Counters {}

    /// [`Exclusion`] as aya may write it.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    struct Excluded(Exclusion);

    // SAFETY: a `u64` and two `u32`, no padding, any bytes are a value.
    #[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
    unsafe impl Pod for Excluded {}

    /// [`Choices`] as aya may write it.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    struct Chosen(Choices);

    // SAFETY: integers without padding between them, any bytes are a value.
    #[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
    unsafe impl Pod for Chosen {}

    /// [`Rule`] as aya may write it.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    struct CgroupRule(Rule);

    // SAFETY: two `u32`, any bytes are a value.
    #[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
    unsafe impl Pod for CgroupRule {}

    /// [`InterfaceKey`] as aya may write it.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    struct Interface(InterfaceKey);

    // SAFETY: two `u64`, any bytes are a value.
    #[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
    unsafe impl Pod for Interface {}

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
}

#[cfg(test)]
mod tests {
    use wiretape_agent_ebpf::{MAX_PACKET_BYTES, room_for};

    #[test]
    fn little_of_the_ring_is_left_empty() {
        for bytes in 1..=MAX_PACKET_BYTES as u32 {
            let room = room_for(bytes);
            assert!(room >= bytes && room % 8 == 0, "{room} bytes for {bytes}");
            assert!(
                room - bytes <= 40 || f64::from(room - bytes) <= 0.22 * f64::from(bytes),
                "{room} bytes for {bytes}"
            );
        }
        assert_eq!(room_for(u32::MAX), MAX_PACKET_BYTES as u32);
    }
}
