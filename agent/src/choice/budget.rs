//! What recording may cost, kept by recording less: first without the bodies of bulk packets, then without any, then of
//! ever fewer flows. Memory is kept by the size of the buffer instead, for recording less would free none.

use std::fmt;
use std::time::Duration;

use wiretape_agent_ebpf::choice::shed;
use wiretape_tape::Nanos;

/// How often what is used is looked at.
pub const LOOK: Duration = Duration::from_millis(500);

/// Over how long use is taken: a burst that is shorter is no reason to record less.
const OVER: f64 = 1.0;

/// More is recorded again when no more than this part of the budget was used for a while.
const CALM: f64 = 0.7;

/// How long that while is at first. It doubles each time that more was too much, up to the longest.
const LEAST_HOLD: Duration = Duration::from_secs(4);
const LONGEST_HOLD: Duration = Duration::from_secs(128);

/// So much above the budget asks for two steps at once.
const FAR_ABOVE: f64 = 2.5;

/// Shares of flows go down to one in 2 to this power.
const HALVINGS: u8 = 8;

/// How much is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// The bodies of bulk packets.
    const BULK: u8 = 1;
    /// All bodies.
    const BODIES: u8 = 2;
    /// The most there is.
    const MOST: Self = Self(Self::BODIES + HALVINGS);

    /// Whether anything is.
    pub fn is_shedding(self) -> bool {
        self.0 > 0
    }

    /// A number for it: 0 for nothing, 1 for the bodies of bulk packets, 2 for all bodies, from 3 on half of the flows of
    /// the level before.
    pub fn number(self) -> u8 {
        self.0
    }

    /// What of each packet is left out, as the programs have it.
    pub fn shed(self) -> u32 {
        match self.0 {
            0 => shed::NOTHING,
            Self::BULK => shed::BULK,
            _ => shed::BODIES,
        }
    }

    /// One flow in so many is recorded.
    pub fn parts(self) -> u32 {
        1 << self.0.saturating_sub(Self::BODIES)
    }

    fn more(self, steps: u8) -> Self {
        Self(self.0.saturating_add(steps)).min(Self::MOST)
    }

    fn less(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "nothing is left out"),
            Self::BULK => write!(f, "the bodies of bulk packets are left out"),
            Self::BODIES => write!(f, "all bodies are left out"),
            _ => write!(
                f,
                "all bodies are left out, and all flows but one in {}",
                self.parts()
            ),
        }
    }
}

/// What recording may cost. What is not limited is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// Of a processor: 1.0 is all of one.
    pub cpu: Option<f64>,
    /// Bytes written in a second.
    pub disk: Option<u64>,
    /// Bytes of memory, the kernel's for the programs included.
    pub memory: Option<u64>,
}

impl Budget {
    /// Whether there is a limit at all.
    pub fn is_limited(&self) -> bool {
        self.cpu.is_some() || self.disk.is_some() || self.memory.is_some()
    }
}

/// What has been used since the start, and of memory now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// Processor time, the programs' included.
    pub cpu: Duration,
    /// Bytes written.
    pub disk: u64,
    /// Bytes of memory.
    pub memory: u64,
}

/// What is used of the budget: 1.0 is all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// `None` where there is no limit.
    pub cpu: Option<f64>,
    /// The same.
    pub disk: Option<f64>,
    /// The same.
    pub memory: Option<f64>,
}

impl Shares {
    /// The greatest of those that recording less lowers, and what it is of.
    fn greatest(&self) -> (f64, &'static str) {
        let all = [(self.cpu, "--cpu-budget"), (self.disk, "--disk-budget")];
        let known = all.into_iter().filter_map(|(share, name)| Some((share?, name)));
        known.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, ""))
    }
}

/// Keeps a budget.
#[derive(Debug)]
pub struct Keeper {
    budget: Budget,
    last: Option<(Nanos, Used)>,
    shares: Shares,
    level: Level,
    /// Since when there was room, at this level.
    calm: Option<Nanos>,
    hold: Duration,
    /// When more was last tried.
    tried: Option<Nanos>,
}

impl Keeper {
    /// Of a recorder that has used nothing yet.
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            last: None,
            shares: Shares::default(),
            level: Level::default(),
            calm: None,
            hold: LEAST_HOLD,
            tried: None,
        }
    }

    /// What is used now.
    pub fn shares(&self) -> Shares {
        self.shares
    }

    /// Whether it is time to look.
    pub fn is_due(&self, now: Nanos) -> bool {
        let since = |(last, _): (Nanos, Used)| now.saturating_sub(last) >= nanos(LOOK);
        self.budget.is_limited() && self.last.is_none_or(since)
    }

    /// Looks at what has been used by `now`, of the steady clock. Gives what is to be left out from now on, if that is
    /// another than before, and the limit that asks for it.
    pub fn look(&mut self, used: Used, now: Nanos) -> Option<(Level, &'static str)> {
        let (then, before) = self.last.replace((now, used))?;
        let passed = now.saturating_sub(then) as f64 / 1e9;
        if passed <= 0.0 {
            return None;
        }
        let weight = 1.0 - (-passed / OVER).exp();
        let toward = |known: Option<f64>, rate: f64, limit: f64| {
            let (known, share) = (known.unwrap_or_default(), rate / limit.max(f64::MIN_POSITIVE));
            Some(known + (share - known) * weight)
        };
        let cpu = used.cpu.saturating_sub(before.cpu).as_secs_f64() / passed;
        let disk = used.disk.saturating_sub(before.disk) as f64 / passed;
        self.shares = Shares {
            cpu: self
                .budget
                .cpu
                .and_then(|limit| toward(self.shares.cpu, cpu, limit)),
            disk: self
                .budget
                .disk
                .and_then(|limit| toward(self.shares.disk, disk, limit as f64)),
            // Not a rate.
            memory: self
                .budget
                .memory
                .map(|limit| used.memory as f64 / limit.max(1) as f64),
        };
        self.judge(now)
    }

    fn judge(&mut self, now: Nanos) -> Option<(Level, &'static str)> {
        let (share, limit) = self.shares.greatest();
        let before = self.level;
        if share > 1.0 {
            self.calm = None;
            self.level = before.more(if share > FAR_ABOVE { 2 } else { 1 });
            // More was too much: it is not tried so soon again.
            if self.tried.take().is_some() {
                self.hold = (self.hold * 2).min(LONGEST_HOLD);
            }
            self.forget_rates();
        } else if share < CALM {
            let since = *self.calm.get_or_insert(now);
            if before.is_shedding() && now.saturating_sub(since) >= nanos(self.hold) {
                self.level = before.less();
                (self.calm, self.tried) = (None, Some(now));
            }
        } else {
            self.calm = None;
        }
        if !self.level.is_shedding()
            && self
                .tried
                .is_some_and(|at| now.saturating_sub(at) > nanos(LONGEST_HOLD))
        {
            (self.hold, self.tried) = (LEAST_HOLD, None);
        }
        (self.level != before).then_some((self.level, limit))
    }

    /// What was used before a step says nothing of what will be after it: half a budget is what is expected.
    fn forget_rates(&mut self) {
        for share in [&mut self.shares.cpu, &mut self.shares.disk]
            .into_iter()
            .flatten()
        {
            *share = share.min(CALM);
        }
    }
}

fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load that costs so many bytes a second at each level, followed for so many seconds; gives the bytes of each.
    fn follow(keeper: &mut Keeper, from: u64, seconds: u64, load: impl Fn(Level) -> u64) -> Vec<u64> {
        let (mut level, mut disk) = (keeper.level, keeper.last.map_or(0, |(_, used)| used.disk));
        let mut rates = Vec::new();
        for half in 0..2 * seconds {
            let written = load(level) / 2;
            disk += written;
            rates.push(written);
            let used = Used {
                disk,
                ..Used::default()
            };
            let now = (from * 2 + half + 1) * 500_000_000;
            if let Some((next, limit)) = keeper.look(used, now) {
                assert_eq!(limit, "--disk-budget");
                level = next;
            }
        }
        rates.chunks(2).map(|second| second.iter().sum()).collect()
    }

    fn keeper() -> Keeper {
        Keeper::new(Budget {
            disk: Some(1000),
            ..Budget::default()
        })
    }

    /// Bodies of bulk packets are half of the load, heads a twentieth.
    fn load(level: Level) -> u64 {
        match level.number() {
            0 => 40_000,
            1 => 20_000,
            _ => 2000 / u64::from(level.parts()),
        }
    }

    #[test]
    fn a_load_that_is_far_above_is_brought_below_the_budget_in_seconds_and_held_there() {
        let mut keeper = keeper();
        let rates = follow(&mut keeper, 0, 300, load);
        assert!(rates[5..10].iter().all(|rate| *rate <= 1000), "{rates:?}");
        let mean = rates[5..].iter().sum::<u64>() / 295;
        assert!((500..=1000).contains(&mean), "{mean}");
        let above = rates[5..].iter().filter(|rate| **rate > 1100).count();
        assert!(above <= 12, "{above} seconds above");
    }

    #[test]
    fn bodies_of_bulk_go_before_all_bodies_and_those_before_flows() {
        let mut keeper = keeper();
        let level = |keeper: &mut Keeper, rate: u64, from| {
            follow(
                keeper,
                from,
                30,
                |level| if level.is_shedding() { 800 } else { rate },
            );
            (keeper.level.shed(), keeper.level.parts())
        };
        assert_eq!(level(&mut keeper, 1300, 0), (shed::BULK, 1));
        assert_eq!((Level(2).shed(), Level(2).parts()), (shed::BODIES, 1));
        assert_eq!((Level(3).shed(), Level(3).parts()), (shed::BODIES, 2));
        assert_eq!(Level::MOST.parts(), 256);
    }

    #[test]
    fn when_the_load_is_gone_all_is_recorded_again() {
        let mut keeper = keeper();
        follow(&mut keeper, 0, 20, load);
        assert!(keeper.level.is_shedding());
        follow(&mut keeper, 20, 200, |_| 10);
        assert_eq!(keeper.level, Level::default());
    }

    #[test]
    fn memory_that_is_short_has_nothing_left_out_and_keeps_nothing_from_coming_back() {
        let mut keeper = Keeper::new(Budget {
            disk: Some(1000),
            memory: Some(100),
            ..Budget::default()
        });
        let mut disk = 0;
        for half in 1..200 {
            disk += if half < 20 { 5000 } else { 10 };
            let used = Used {
                disk,
                memory: 120,
                ..Used::default()
            };
            keeper.look(used, half * 500_000_000);
            assert!(half != 19 || keeper.level.is_shedding());
        }
        assert_eq!(keeper.level, Level::default());
        assert_eq!(keeper.shares().memory, Some(1.2));
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_look_at() {
        assert!(!Keeper::new(Budget::default()).is_due(0));
        assert!(keeper().is_due(0));
    }
}
