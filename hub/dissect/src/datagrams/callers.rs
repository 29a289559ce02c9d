//! Flows by their client, so that both sides of a call find each other.

use rustc_hash::FxHashMap;

use crate::flow::{FlowKey, Place};
use crate::limits::CALLER_FLOWS;

/// Flows by the address and port of their client.
#[derive(Default)]
pub(super) struct Callers(FxHashMap<Place, Flows>);

/// The flows of one client's port.
#[derive(Default)]
struct Flows {
    known: Vec<FlowKey>,
    /// How many more there are.
    more: usize,
    /// Whether one was given up while its calls could still be another's.
    evicted: bool,
}

impl Callers {
    /// A flow has begun. Whether there was room for it.
    pub fn add(&mut self, flow: &FlowKey) -> bool {
        let Some(place) = flow.caller_place() else {
            return true;
        };
        let flows = self.0.entry(place).or_default();
        let room = flows.known.len() < CALLER_FLOWS;
        if room {
            // Most have one.
            flows.known.reserve_exact(1);
            flows.known.push(*flow);
        } else {
            flows.more += 1;
        }
        room
    }

    /// A flow was given up, because there was no room for it.
    pub fn evict(&mut self, flow: &FlowKey) {
        if let Some(flows) = flow.caller_place().and_then(|place| self.0.get_mut(&place)) {
            flows.evicted = true;
        }
    }

    /// A flow is over.
    pub fn remove(&mut self, flow: &FlowKey) {
        let Some(place) = flow.caller_place() else {
            return;
        };
        let Some(flows) = self.0.get_mut(&place) else {
            return;
        };
        match flows.known.iter().position(|known| known == flow) {
            Some(n) => {
                flows.known.swap_remove(n);
            }
            None => flows.more = flows.more.saturating_sub(1),
        }
        if flows.known.is_empty() && flows.more == 0 {
            self.0.remove(&place);
        }
    }

    /// All flows of a flow's client, if there are several, and none is missing.
    pub fn all(&self, flow: &FlowKey) -> &[FlowKey] {
        let flows = flow.caller_place().and_then(|place| self.0.get(&place));
        match flows {
            Some(Flows {
                known,
                more: 0,
                evicted: false,
            }) if known.len() > 1 => known,
            _ => &[],
        }
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        self.0.len() * (size_of::<(Place, Flows)>() + size_of::<FlowKey>())
    }
}
