//! Packets from the kernel programs: the only code that knows aya.

use std::time::Duration;

use wiretape_tape::Packet;

use super::{Capture, CaptureCounters, CaptureError, Inherited, Mark, Polled, Refusal, Scope, Waker};

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
impl Capture for EbpfCapture {
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

    fn inherited(&self) -> Option<Inherited> {
        match *self {}
    }

    fn skip(&mut self, _: u64) {
        match *self {}
    }

    fn is_kept(&self) -> bool {
        match *self {}
    }

    fn keep(&mut self, _: wiretape_tape::Place, _: u64) -> Result<(), CaptureError> {
        match *self {}
    }
}

#[cfg(ebpf_programs)]
mod programs {
    mod tap;

    use std::collections::VecDeque;
    use std::fs::File;
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::Arc;
    use std::time::Instant;

    use aya::maps::{Array, MapData, MapError, PerCpuArray};
    use aya::pin::PinError;
    use aya::programs::cgroup_skb::CgroupSkbLink;
    use aya::programs::links::FdLink;
    use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType};
    use aya::{Ebpf, EbpfError, EbpfLoader, Pod, include_bytes_aligned};
    use aya_log::EbpfLogger;
    use nix::sys::epoll::EpollFlags;
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    use wiretape_agent_ebpf::{
        Exclusion, Handover, KernelCounters, MAX_EXCLUSIONS, PACKET_RECORD_BYTES, PacketRecord, kind,
    };
    use wiretape_tape::{Direction, LinkType, Nanos, Place};

    use super::super::MAX_BATCH;
    use super::super::clock::WallClock;
    use super::super::interfaces::Follower;
    use super::super::pins::{self, Pins};
    use super::super::ring::Ring;
    use super::super::wake::Wait;
    use super::*;
    use crate::config::Interfaces;
    use crate::events::layout;
    use tap::InterfaceTap;

    /// The programs, as `build.rs` built them.
    static PROGRAMS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/wiretape-agent-ebpf"));

    /// The agent is woken early when this part of the ring has filled, as a shift: a sixty-fourth. Else it
    /// comes by its own timer. On a busy machine it waits for its turn while the rest of the ring fills.
    const WAKE_PART: u32 = 6;

    /// The loopback interface has this index in every network namespace.
    const LOOPBACK: u32 = 1;

    /// No poll reads more than this part of the ring, as a shift: what is read stays in it until it is on the tape.
    const READ_PART: u32 = 4;

    /// Maps that outlive the agent, by their names in the programs and among the pins.
    const KEPT: [&str; 5] = [RING, "COUNTERS", "HANDOVER", "OWNERS", "COVERED"];

    const RING: &str = "PACKETS";

    /// A ring of another size that an earlier agent had.
    const OLD_RING: &str = "PACKETS-old";

    /// How long programs of an earlier agent may still be running after they were replaced: none runs for a millisecond.
    const LAST_RUNS: Duration = Duration::from_millis(50);

    /// The programs, attached, and the ring they write into.
    pub struct EbpfCapture {
        /// `None` once stopped.
        programs: Option<Programs>,
        hooks: Vec<Hook>,
        /// The last is the one that is written to; those before it are read to their end, and let go.
        rings: VecDeque<Ring>,
        counters: PerCpuArray<MapData, Counters>,
        handover: Array<MapData, Handed>,
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
            let tapped = if scope.interfaces == Interfaces::None {
                None
            } else {
                tap_interfaces(&scope, mark, pins)
            };
            let mut loaded = match tapped {
                Some(tap) => Loaded::WithInterfaces(tap),
                None => Loaded::SocketsOnly(load(&scope, 0, [0; 2], pins)?),
            };
            let ebpf = loaded.ebpf();
            let logger = EbpfLogger::init_with_logger(ebpf, ToTracing)
                .map_err(|_| CaptureError::Missing("the map AYA_LOGS"))?;
            // The programs name it by this descriptor until they are loaded.
            let ring_map = ring_map(take_map(ebpf, RING)?)?;
            let ring = open_ring(&ring_map)?;
            let counters = PerCpuArray::try_from(take_map(ebpf, "COUNTERS")?)?;
            let mut handover: Array<_, Handed> = Array::try_from(take_map(ebpf, "HANDOVER")?)?;
            let started = Handover {
                mark: u64::from(mark),
                ..left
            };
            handover.set(0, Handed(started), 0)?;
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
            drop(ring_map);
            let programs = match loaded {
                Loaded::SocketsOnly(ebpf) => Programs::Sockets { _ebpf: ebpf },
                Loaded::WithInterfaces(tap) => {
                    let home = scope.interfaces == Interfaces::All;
                    Programs::Interfaces {
                        _follower: Follower::start(scope.recorded, home, tap)?,
                    }
                }
            };
            if let Some(pins) = pins {
                pins.settle();
            }
            let (clock, interfaces) = (WallClock::read()?, vec![(LOOPBACK, "lo".to_owned())]);
            Ok(Self {
                programs: Some(programs),
                hooks,
                rings,
                counters,
                handover,
                pins: pins.cloned(),
                inherited: started,
                logger,
                wait,
                clock,
                interfaces,
                taken: 0,
                skipped: 0,
                told: CaptureCounters::default(),
                behind: true,
                begun: Instant::now(),
            })
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
            let Handed(word) = self.handover.get(&0, 0)?;
            let position = next.position();
            self.handover.set(0, Handed(Handover { position, ..word }), 0)?;
            self.rings.pop_front();
            if let Some(pins) = &self.pins {
                pins.remove(OLD_RING);
            }
            Ok(())
        }
    }

    /// The place where nothing is left over, if pins are wanted and can be had.
    fn take_pins(scope: &Scope) -> Option<Arc<Pins>> {
        let base = scope.pin.as_ref()?;
        match Pins::take(base, scope.top) {
            Ok(pins) => {
                let swept = pins::sweep(base, false);
                if swept > 0 {
                    tracing::info!(swept, "programs of cgroups that are gone are let go");
                }
                Some(Arc::new(pins))
            }
            Err(error) => {
                tracing::warn!(
                    "what passes between two agents is not recorded, as nothing can be pinned: {error}"
                );
                None
            }
        }
    }

    /// What an earlier agent has left.
    fn inherited(pins: Option<&Arc<Pins>>) -> Option<Handover> {
        let map = MapData::from_pin(pins?.path("HANDOVER")).ok()?;
        let handover: Array<_, Handed> = Array::try_from(aya::maps::Map::Array(map)).ok()?;
        handover.get(&0, 0).ok().map(|Handed(handover)| handover)
    }

    /// The ring of an earlier agent, if it is of another size than this agent's is to be: unpinned, so that one is made.
    fn put_old_ring_aside(pins: &Pins, wanted: u32) -> Result<Option<Ring>, CaptureError> {
        let size = |name| match pins.get(name)? {
            Some(_) => Ok::<_, CaptureError>(Some(open_ring(&MapData::from_pin(pins.path(name))?)?)),
            None => Ok(None),
        };
        match size(RING)? {
            // While there is one before it, it stays as it is.
            Some(ring) if ring.size() != u64::from(wanted) && pins.get(OLD_RING)?.is_none() => {
                pins.rename(RING, OLD_RING)?;
                Ok(Some(ring))
            }
            // An agent may have ended before it came to the end of the one before.
            _ => size(OLD_RING),
        }
    }

    fn ring_map(map: aya::maps::Map) -> Result<MapData, CaptureError> {
        match map {
            aya::maps::Map::RingBuf(map) => Ok(map),
            _ => Err(CaptureError::Missing("the ring")),
        }
    }

    fn open_ring(map: &MapData) -> Result<Ring, CaptureError> {
        let bytes = map.info()?.max_entries();
        Ok(Ring::new(map.fd().as_fd().try_clone_to_owned()?, bytes)?)
    }

    /// Keeps a program on a cgroup.
    enum Hook {
        /// For as long as this lives.
        Attached(#[expect(dead_code, reason = "dropped, it is gone")] CgroupSkbLink),
        /// Until it is unpinned, whoever lives. The descriptor shows whether it is still attached.
        Pinned(#[expect(dead_code, reason = "looked at in /proc")] OwnedFd),
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

    /// Loads the programs for interfaces, in the form that this kernel takes: it tells a namespace's cookie (Linux 6.15), or
    /// describes its types, by which the namespace's number is found.
    fn tap_interfaces(scope: &Scope, mark: u32, pins: Option<&Arc<Pins>>) -> Option<InterfaceTap> {
        let tap = |at, by_inode| {
            load(scope, mark, at, pins)
                .and_then(|ebpf| InterfaceTap::new(ebpf, pins.cloned(), by_inode, scope.top))
        };
        let refusal = match tap([0; 2], false) {
            Ok(tap) => return Some(tap),
            Err(refusal) => super::super::causes(&refusal),
        };
        let refusal = match namespace_at().map(|at| tap(at, true)) {
            Some(Ok(tap)) => return Some(tap),
            Some(Err(refusal)) => super::super::causes(&refusal),
            None => refusal,
        };
        tracing::warn!(
            "packets that no socket sends or receives are not recorded: {}",
            refusal.lines().next().unwrap_or_default()
        );
        tracing::debug!("{refusal}");
        None
    }

    /// Where this kernel keeps a socket's namespace, and the number in it.
    fn namespace_at() -> Option<[u32; 2]> {
        let btf = std::fs::read(layout::KERNEL).ok()?;
        let offset = |structure, field| layout::offset(&btf, structure, field).ok().flatten();
        let number = offset("net", "ns")? + offset("ns_common", "inum")?;
        Some([offset("sock_common", "skc_net")?, number])
    }

    /// Brings the programs into memory; those for interfaces have `mark`, which is 0 where they are not used.
    fn load(
        scope: &Scope,
        mark: u32,
        namespace_at: [u32; 2],
        pins: Option<&Arc<Pins>>,
    ) -> Result<Ebpf, CaptureError> {
        let mut exclusions = [Excluded(Exclusion::default()); MAX_EXCLUSIONS];
        for (entry, cgroup) in exclusions.iter_mut().zip(&scope.excluded) {
            entry.0 = Exclusion {
                id: cgroup.id,
                level: cgroup.level,
                reserved: 0,
            };
        }
        let wake_shift = scope.ring_bytes.ilog2() - WAKE_PART;
        let mut loader = EbpfLoader::new();
        loader
            .override_global("EXCLUDED", &exclusions[..], true)
            .override_global("MARK", &mark, true)
            .override_global("NAMESPACE_AT", &namespace_at[..], true)
            .override_global("WAKE_SHIFT", &wake_shift, true)
            .map_max_entries(RING, scope.ring_bytes);
        for name in KEPT {
            if let Some(pins) = pins {
                loader.map_pin_path(name, pins.path(name));
            }
        }
        Ok(loader.load(PROGRAMS)?)
    }

    fn take_map(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, CaptureError> {
        ebpf.take_map(name).ok_or(CaptureError::Missing(name))
    }

    /// Attaches a program, in the place of an earlier agent's where there is one.
    fn attach(
        ebpf: &mut Ebpf,
        name: &'static str,
        cgroup: &File,
        hook: CgroupSkbAttachType,
        pins: Option<&Arc<Pins>>,
    ) -> Result<Hook, CaptureError> {
        let program = ebpf.program_mut(name).ok_or(CaptureError::Missing(name))?;
        let program: &mut CgroupSkb = program.try_into().map_err(attach_error(name))?;
        program.load().map_err(attach_error(name))?;
        if let Some(pins) = pins
            && let Some(link) = pins.get(name)?
        {
            match pins::replace(&link, program.fd().map_err(attach_error(name))?) {
                Ok(()) => return Ok(Hook::Pinned(link)),
                Err(error) => tracing::warn!(name, "an earlier agent's program was detached: {error}"),
            }
            pins.remove(name);
        }
        // A link leaves room for other people's programs on the same cgroup, and takes no other mode.
        let link = program
            .attach(cgroup, hook, CgroupAttachMode::Single)
            .and_then(|link| program.take_link(link))
            .map_err(attach_error(name))?;
        let Some(pins) = pins else {
            return Ok(Hook::Attached(link));
        };
        let link = FdLink::try_from(link).map_err(attach_error(name))?;
        Ok(Hook::Pinned(pinned(link, pins, name)?))
    }

    /// Pins a link, and gives a descriptor of it.
    fn pinned(link: FdLink, pins: &Pins, name: &str) -> Result<OwnedFd, CaptureError> {
        link.pin(pins.path(name))?;
        pins.get(name)?.ok_or(CaptureError::Missing("a pin"))
    }

    fn attach_error<E: Into<Refusal>>(name: &'static str) -> impl Fn(E) -> CaptureError {
        move |refusal| CaptureError::Attach {
            name,
            source: refusal.into(),
        }
    }

    impl From<PinError> for CaptureError {
        fn from(refusal: PinError) -> Self {
            Self::Map(refusal.into())
        }
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

    impl Capture for EbpfCapture {
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
            self.leave_old_ring()?;
            let Some(ring) = self.rings.front_mut() else {
                return Ok(Polled::Ended);
            };
            let most = ring.size() >> READ_PART;
            let mut handed = 0;
            while handed < MAX_BATCH && ring.held() < most {
                let Some(item) = ring.next() else { break };
                self.taken += 1;
                let Some((record, data)) = parse(item) else {
                    continue;
                };
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
                handed += 1;
            }
            self.behind = handed == MAX_BATCH || ring.held() >= most || self.rings.len() > 1;
            if self.pins.is_none() {
                self.give_back();
            }
            Ok(Polled::Packets(handed))
        }

        /// Records stand in the ring in the order in which the programs reserved them, so those of packets that
        /// have passed a program by now are among the first `packets` of all.
        fn mark(&mut self) -> Result<Mark, CaptureError> {
            // Read in this order, since packets come by meanwhile: too many only makes the wait longer, and
            // ends it at an empty ring.
            let none = self.counters()?;
            let seen = self.counters()?.seen;
            Ok(Mark {
                at: Instant::now(),
                packets: seen.saturating_sub(none.excluded + none.lost()),
            })
        }

        fn is_past(&mut self, mark: &Mark) -> Result<bool, CaptureError> {
            Ok(self.taken >= mark.packets || self.rings.iter().all(Ring::is_empty))
        }

        fn counters(&mut self) -> Result<CaptureCounters, CaptureError> {
            let (all, before) = (self.counted()?, self.inherited.told);
            self.told = CaptureCounters {
                seen: all.seen.saturating_sub(before.seen + self.skipped),
                seen_bytes: all.seen_bytes.saturating_sub(before.seen_bytes),
                excluded: all.excluded.saturating_sub(before.excluded),
                lost_buffer_full: all.ring_full.saturating_sub(before.ring_full),
                lost_unreadable: all.load_failed.saturating_sub(before.load_failed),
                truncated: all.truncated.saturating_sub(before.truncated),
                shed: all.shed.saturating_sub(before.shed),
            };
            Ok(self.told)
        }

        /// Indices count anew in every network namespace, and packets come from all of them; only the
        /// loopback interface is the same everywhere.
        fn new_interfaces(&mut self) -> Vec<(u32, String)> {
            std::mem::take(&mut self.interfaces)
        }

        fn stop(&mut self) {
            self.hooks.clear();
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
            for _ in 0..packets {
                let Some(ring) = self.rings.front_mut() else {
                    return;
                };
                if ring.next().is_none() {
                    break;
                }
                self.skipped += 1;
            }
        }

        fn is_kept(&self) -> bool {
            self.pins.is_some()
        }

        fn keep(&mut self, place: Place, now: Nanos) -> Result<(), CaptureError> {
            let Some(ring) = self.rings.front() else {
                return Ok(());
            };
            let (told, before) = (&self.told, &self.inherited.told);
            let [start, sequence] = place.segment;
            let accounted = self.taken + self.skipped + told.excluded + told.lost();
            let handover = Handover {
                mark: self.inherited.mark,
                position: ring.position(),
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
                },
            };
            // In this order: who takes over in between goes on at the position that was told.
            self.handover.set(0, Handed(handover), 0)?;
            self.give_back();
            Ok(())
        }
    }

    impl EbpfCapture {
        fn give_back(&mut self) {
            if let Some(ring) = self.rings.front_mut() {
                ring.give_back();
            }
        }
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

    /// [`KernelCounters`] as aya may read them.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    struct Counters(KernelCounters);

    // SAFETY: seven `u64`, any bytes are a value.
    #[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
    unsafe impl Pod for Counters {}

    /// [`Handover`] as aya may read and write it.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    struct Handed(Handover);

    // SAFETY: nothing but `u64`, any bytes are a value.
    #[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
    unsafe impl Pod for Handed {}

    /// [`Exclusion`] as aya may write it.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    struct Excluded(Exclusion);

    // SAFETY: a `u64` and two `u32`, no padding, any bytes are a value.
    #[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
    unsafe impl Pod for Excluded {}

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
