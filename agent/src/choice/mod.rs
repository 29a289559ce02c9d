//! What is recorded, by choice and by budget: asked for by flags and through the hub, decided packet by packet in the
//! kernel (`agent-ebpf/src/choice.rs`), or by the same code in the agent where libpcap records.

pub mod filter;

mod rules;

pub mod budget;

pub mod bulk;

pub mod desk;

use std::collections::BTreeMap;
use std::sync::Arc;

use wiretape_agent_ebpf::choice::{ALL_FLOWS, Choice, Rule as KernelRule, asks, detail, one_in};
use wiretape_tape::{Capture as HowMuch, Name, Nanos, Record, Recording};

use crate::capture::{Capture, CaptureError};
use budget::Level;
use bulk::BulkRate;
use filter::Filter;
use rules::Rules;

/// A recording that can be had: checked, its filter compiled.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    recording: Recording,
    filter: Option<Arc<Filter>>,
}

impl Prepared {
    /// Checks what is asked for.
    ///
    /// # Errors
    /// When it is more than there can be, or libpcap does not understand the filter.
    pub fn new(recording: Recording) -> anyhow::Result<Self> {
        recording.check()?;
        let filter = match recording.filter.as_str() {
            "" => None,
            text => Some(Arc::new(Filter::compile(text)?)),
        };
        Ok(Self { recording, filter })
    }

    /// What was asked for.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// As the programs take it, with what the budget and the machine ask for.
    fn choice(&self, level: Level, bulk: &BulkRate) -> Choice {
        let mut choice = Choice::EVERYTHING;
        let mut parts = 1;
        choice.rule = match self.recording.capture {
            HowMuch::Whole => rule(Record::Whole),
            HowMuch::Headers => rule(Record::Headers),
            HowMuch::First(bytes) => rule(Record::First(bytes)),
            HowMuch::Sample(of) => {
                parts = of;
                rule(Record::Whole)
            }
        };
        if parts > 1 {
            choice.asks |= asks::SAMPLE;
            choice.flows = one_in(parts);
        }
        if let Some(filter) = &self.filter {
            choice.asks |= asks::FILTER;
            choice.filter = *filter.instructions();
        }
        if !self.recording.rules.is_empty() {
            choice.asks |= asks::RULES;
        }
        choice.shed = level.shed();
        choice.bulk = bulk.of_tick();
        // A share of those that are asked for.
        choice.budget_flows = match level.parts() {
            1 => ALL_FLOWS,
            of => one_in(parts.saturating_mul(of)),
        };
        choice
    }
}

fn rule(record: Record) -> KernelRule {
    let (detail, bytes) = match record {
        Record::Whole => (detail::WHOLE, 0),
        Record::Headers => (detail::HEADERS, 0),
        Record::First(bytes) => (detail::FIRST, bytes),
        Record::None => (detail::NONE, 0),
    };
    KernelRule { detail, bytes }
}

/// The recorder's side: what holds now, and which cgroup has which rule.
#[derive(Debug, Default)]
pub struct Chooser {
    now: Prepared,
    level: Level,
    bulk: BulkRate,
    rules: Rules,
}

impl Chooser {
    /// What holds from the beginning on.
    pub fn new(now: Prepared, bulk: BulkRate) -> Self {
        Self {
            now,
            bulk,
            ..Self::default()
        }
    }

    /// What holds now, as the programs take it.
    pub fn choice(&self) -> Choice {
        self.now.choice(self.level, &self.bulk)
    }

    /// What is recorded.
    pub fn recording(&self) -> &Recording {
        self.now.recording()
    }

    /// What is left out to keep the budget.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Has something else recorded from now on. Rules come before the choice that asks for them, and go after it.
    ///
    /// # Errors
    /// When the source cannot; then all is as it was, but for rules.
    pub fn change(&mut self, to: Prepared, capture: &mut dyn Capture) -> Result<(), CaptureError> {
        let changes = self.rules.ask(&to.recording().rules);
        let (come, go): (BTreeMap<_, _>, BTreeMap<_, _>) =
            changes.into_iter().partition(|(_, rule)| rule.is_some());
        enter(come, capture)?;
        capture.choose(&to.choice(self.level, &self.bulk))?;
        enter(go, capture)?;
        self.now = to;
        Ok(())
    }

    /// Has the budget leave out so much.
    ///
    /// # Errors
    /// When the source cannot.
    pub fn shed(&mut self, level: Level, capture: &mut dyn Capture) -> Result<(), CaptureError> {
        capture.choose(&self.now.choice(level, &self.bulk))?;
        self.level = level;
        Ok(())
    }

    /// Has as much of bulk recorded whole as the machine has to spare.
    ///
    /// # Errors
    /// When the source cannot.
    pub fn spare(&mut self, now: Nanos, capture: &mut dyn Capture) -> Result<(), CaptureError> {
        if self.bulk.is_due(now)
            && let Some(idle) = bulk::idle()
            && self.bulk.look(idle, now)
        {
            capture.choose(&self.choice())?;
        }
        Ok(())
    }

    /// Learns what cgroups are called.
    ///
    /// # Errors
    /// When the source cannot take their rules.
    pub fn learn(&mut self, names: &[Name], capture: &mut dyn Capture) -> Result<(), CaptureError> {
        if names.is_empty() {
            return Ok(());
        }
        let changes = self.rules.learn(names, &self.now.recording().rules);
        enter(changes, capture)
    }

    /// Cgroups that there was no room to remember.
    pub fn forgotten(&self) -> u64 {
        self.rules.forgotten()
    }
}

fn enter(changes: BTreeMap<u64, Option<KernelRule>>, capture: &mut dyn Capture) -> Result<(), CaptureError> {
    for (cgroup, rule) in changes {
        capture.rule(cgroup, rule)?;
    }
    Ok(())
}
