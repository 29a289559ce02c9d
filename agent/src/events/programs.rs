//! The kernel programs of events, loaded and attached.

#[cfg(not(ebpf_programs))]
pub use without::Programs;

#[cfg(ebpf_programs)]
pub use with::Programs;

/// Stands for the programs in an agent that was built without them: cannot be made.
#[cfg(not(ebpf_programs))]
mod without {
    use std::time::Duration;

    use anyhow::{Result, bail};

    use crate::kernel::pins::Pins;
    use crate::own_cgroup::CgroupId;

    /// None.
    pub enum Programs {}

    impl Programs {
        /// Says so.
        ///
        /// # Errors
        /// Always.
        pub fn load(_: CgroupId, _: &[CgroupId], _: Option<&Pins>) -> Result<Self> {
            bail!("this agent was built without the kernel programs")
        }

        /// Never.
        pub fn wait(&mut self, _: Duration) -> Result<()> {
            match *self {}
        }

        /// Never.
        pub fn next<T>(&mut self, _: impl FnOnce(&[u8]) -> T) -> Option<T> {
            match *self {}
        }

        /// Never.
        pub fn counters(&self) -> Result<[u64; wiretape_agent_ebpf::counted::COUNTERS]> {
            match *self {}
        }

        /// Never.
        pub fn left_out(&self) -> u64 {
            match *self {}
        }
    }
}

#[cfg(ebpf_programs)]
mod with {
    use std::os::fd::AsFd;
    use std::time::Duration;

    use anyhow::{Context, Result};
    use aya::maps::{MapData, PerCpuArray, RingBuf};
    use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use wiretape_agent_ebpf::{MAX_EXCLUSIONS, counted};

    use super::super::layout;
    use super::super::reasons::TOLD;
    use crate::kernel::btf::{self, Types};
    use crate::kernel::pins::Pins;
    use crate::kernel::thrown::Thrown;
    use crate::kernel::tracepoint::{self, Attached};
    use crate::own_cgroup::CgroupId;

    /// The programs, as `build.rs` built them.
    static PROGRAMS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/wiretape-agent-ebpf-events"));

    /// Each program and the tracepoint that it is for.
    const TRACEPOINTS: [(&str, &str); 6] = [
        ("process_start", "sched_process_exec"),
        ("process_exit", "sched_process_exit"),
        ("oom_kill", "mark_victim"),
        ("cgroup_made", "cgroup_mkdir"),
        ("socket_state", "inet_sock_set_state"),
        (THROWN_AWAY, "kfree_skb"),
    ];

    /// The one that a kernel may not have what it needs for.
    const THROWN_AWAY: &str = "packet_thrown_away";

    /// Maps that outlive the agent, by their names in the programs and among the pins.
    const KEPT: [&str; 3] = ["EVENTS", "CONNECTING", "TELLING"];

    /// The pin of a program's link.
    fn pin(program: &str) -> String {
        format!("event-{program}")
    }

    /// The programs, attached, and the ring they write into.
    pub struct Programs {
        /// Holds the programs in the kernel.
        _ebpf: Ebpf,
        attached: Vec<Attached>,
        ring: RingBuf<MapData>,
        counters: PerCpuArray<MapData, [u64; counted::COUNTERS]>,
    }

    impl Programs {
        /// Loads and attaches them, for the sub-tree at `top` without the `excluded` ones. With `pins` they outlive the
        /// agent, and come in the place of an earlier one's.
        ///
        /// # Errors
        /// When the kernel refuses, or does not describe its types.
        pub fn load(top: CgroupId, excluded: &[CgroupId], pins: Option<&Pins>) -> Result<Self> {
            let loaded = Self::begin(top, excluded, pins);
            if let (Err(_), Some(pins)) = (&loaded, pins) {
                for (name, _) in TRACEPOINTS {
                    tracepoint::let_go(pins, &pin(name));
                }
            }
            loaded
        }

        fn begin(top: CgroupId, excluded: &[CgroupId], pins: Option<&Pins>) -> Result<Self> {
            let btf = btf::of_kernel()?;
            let types = Types::parse(&btf)?;
            let places = layout::read(&types)?;
            let mut trees = [[0; 2]; 1 + MAX_EXCLUSIONS];
            for (tree, cgroup) in trees.iter_mut().zip([&top].into_iter().chain(excluded)) {
                *tree = [cgroup.id, u64::from(cgroup.level)];
            }
            let agent = tracepoint::agent_number()?;
            let thrown = Thrown::find(&types, &TOLD).map_err(|error| {
                tracing::info!("what the kernel drops is not told: {error:#}");
            });
            let (has_reasons, thrown) = (thrown.is_ok(), thrown.unwrap_or(Thrown::NOTHING));
            let mut loader = EbpfLoader::new();
            loader
                .override_global("AGENT", &agent, true)
                .override_global("LAYOUT", &places[..], true)
                .override_global("PACKET_LAYOUT", &thrown.layout[..], true)
                .override_global("REASONS", &thrown.reasons[..], true)
                .override_global("TREES", &trees[..], true);
            for name in KEPT {
                if let Some(pins) = pins {
                    loader.map_pin_path(name, pins.path(name));
                }
            }
            let mut ebpf = loader
                .load(PROGRAMS)
                .context("the kernel programs cannot be loaded")?;
            let map = |ebpf: &mut Ebpf, name| ebpf.take_map(name).with_context(|| format!("no map {name}"));
            let ring = RingBuf::try_from(map(&mut ebpf, "EVENTS")?)?;
            let counters = PerCpuArray::try_from(map(&mut ebpf, "EVENT_COUNTERS")?)?;
            let mut attached = Vec::new();
            for (name, tracepoint) in TRACEPOINTS {
                let program = if name == THROWN_AWAY && !has_reasons {
                    None
                } else {
                    match Attached::attach(&mut ebpf, name, tracepoint, &pin(name), pins) {
                        Ok(program) => Some(program),
                        // All others tell without it.
                        Err(error) if name == THROWN_AWAY => {
                            tracing::warn!("what the kernel drops is not told: {error:#}");
                            None
                        }
                        Err(error) => return Err(error),
                    }
                };
                if let (None, Some(pins)) = (&program, pins) {
                    tracepoint::let_go(pins, &pin(name));
                }
                attached.extend(program);
            }
            tracepoint::speak(&mut ebpf, "TELLING", agent)?;
            for program in &attached {
                pins.map_or(Ok(()), |pins| program.settle(pins))?;
            }
            Ok(Self {
                _ebpf: ebpf,
                attached,
                ring,
                counters,
            })
        }

        /// Waits until there is a record, or for `timeout`.
        ///
        /// # Errors
        /// When it cannot be waited for.
        pub fn wait(&mut self, timeout: Duration) -> Result<()> {
            let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO);
            let mut readable = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
            match poll(&mut readable, timeout) {
                Ok(_) | Err(Errno::EINTR) => Ok(()),
                Err(error) => Err(error).context("events cannot be waited for"),
            }
        }

        /// Takes one record out; `None` when there is none.
        pub fn next<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
            self.ring.next().map(|record| read(&record))
        }

        /// What is counted, by the places of [`counted`].
        ///
        /// # Errors
        /// When the kernel does not hand the counters over.
        pub fn counters(&self) -> Result<[u64; counted::COUNTERS]> {
            let cpus = self.counters.get(&0, 0).context("the counters cannot be read")?;
            let mut sum = [0; counted::COUNTERS];
            for cpu in cpus.iter() {
                sum.iter_mut().zip(cpu).for_each(|(sum, more)| *sum += more);
            }
            Ok(sum)
        }

        /// How often the kernel has left a program out, because it was at work on the same processor.
        pub fn left_out(&self) -> u64 {
            self.attached.iter().map(Attached::left_out).sum()
        }
    }
}
