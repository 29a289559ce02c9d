//! What recorders did not get whole onto their tapes: on which node, at which stage, when, and how many packets. Few
//! entries, however much it was.

use serde::{Deserialize, Serialize};
use wiretape_tape::{Loss, LossStage, Nanos, SegmentInfo};

/// Most entries that are kept of a snapshot or a dissection. Beyond it, neighbours are told as one.
pub const KEPT: usize = 256;

/// What one node's recorder lost at one stage within a time, or recorded without its end, is one entry if it is no
/// further apart than this: recorders count once a second.
const NEIGHBOURS: Nanos = 2_000_000_000;

/// Packets of one node that are not on its tape, or not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The node.
    pub node: String,
    /// Where on their way.
    pub stage: Stage,
    /// The earliest that one of them passed.
    pub since: Nanos,
    /// The latest.
    pub until: Nanos,
    /// How many.
    pub packets: u64,
}

/// Where on its way a packet is lost, or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// More came than the recorder could take.
    BufferFull,
    /// The kernel could not read its bytes.
    Unreadable,
    /// The disk was full.
    DiskFull,
    /// The disk failed otherwise.
    WriteError,
    /// Someone deleted the tape's file, or cut it short.
    Vanished,
    /// The file tells that it was, and not where.
    Unknown,
    /// Recorded, but without its end: bodies go before packets do when a recorder has too much to do, and other tools'
    /// captures have a longest packet.
    CutShort,
}

impl From<LossStage> for Stage {
    fn from(stage: LossStage) -> Self {
        match stage {
            LossStage::BufferFull => Self::BufferFull,
            LossStage::Unreadable => Self::Unreadable,
            LossStage::DiskFull => Self::DiskFull,
            LossStage::WriteError => Self::WriteError,
            LossStage::Vanished => Self::Vanished,
        }
    }
}

impl Lost {
    /// A loss that a recorder has told of.
    pub fn told(node: &str, loss: &Loss) -> Self {
        Self {
            node: node.to_owned(),
            stage: loss.stage.into(),
            since: loss.since,
            until: loss.until,
            packets: loss.packets,
        }
    }

    /// Whether any of it may have been in the time of `[start, end)`; without one, there is no such limit.
    pub fn touches(&self, start: Option<Nanos>, end: Option<Nanos>) -> bool {
        start.is_none_or(|start| self.until >= start) && end.is_none_or(|end| self.since < end)
    }

    /// Whether it is next to a later one of its kind.
    fn continues(&self, later: &Self, apart: Nanos) -> bool {
        self.node == later.node
            && self.stage == later.stage
            && later.since <= self.until.saturating_add(apart)
    }
}

/// All that a node's segments tell. What they cannot tell the time of was lost while they were recorded.
pub fn of_segments(node: &str, segments: &[SegmentInfo]) -> Vec<Lost> {
    let mut all = Vec::new();
    for segment in segments {
        all.extend(segment.losses.iter().map(|loss| Lost::told(node, loss)));
        let known: u64 = segment.losses.iter().map(|loss| loss.packets).sum();
        let rest = segment.lost.saturating_sub(known);
        if rest > 0 {
            all.push(Lost {
                node: node.to_owned(),
                stage: Stage::Unknown,
                since: segment.first.unwrap_or(0),
                until: segment.last.unwrap_or(Nanos::MAX),
                packets: rest,
            });
        }
    }
    all
}

/// The same in at most so many entries, if there are no more nodes and stages than that, by time.
pub fn merged(mut all: Vec<Lost>, most: usize) -> Vec<Lost> {
    let place =
        |a: &Lost, b: &Lost| (&a.node, a.stage, a.since, a.until).cmp(&(&b.node, b.stage, b.since, b.until));
    all.sort_by(place);
    let mut apart = NEIGHBOURS;
    loop {
        all.dedup_by(|later, earlier| {
            let one = earlier.continues(later, apart);
            if one {
                earlier.until = earlier.until.max(later.until);
                earlier.packets = earlier.packets.saturating_add(later.packets);
            }
            one
        });
        if all.len() <= most || apart == Nanos::MAX {
            break;
        }
        apart = apart.saturating_mul(4);
    }
    all.sort_by(|a, b| (a.since, &a.node, a.stage).cmp(&(b.since, &b.node, b.stage)));
    all
}

/// Packets that are on no tape.
pub fn lost(losses: &[Lost]) -> u64 {
    let lost = losses.iter().filter(|lost| lost.stage != Stage::CutShort);
    lost.map(|lost| lost.packets).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn at(node: &str, stage: Stage, second: u64, packets: u64) -> Lost {
        Lost {
            node: node.to_owned(),
            stage,
            since: second * SECOND,
            until: second * SECOND + SECOND / 2,
            packets,
        }
    }

    #[test]
    fn neighbours_of_a_node_and_a_stage_are_one() {
        let all = vec![
            at("b", Stage::BufferFull, 11, 2),
            at("a", Stage::BufferFull, 10, 1),
            at("a", Stage::DiskFull, 11, 8),
            at("a", Stage::BufferFull, 12, 4),
            at("a", Stage::BufferFull, 20, 16),
        ];
        let told = merged(all, KEPT);
        let told: Vec<(&str, Stage, u64)> = told
            .iter()
            .map(|lost| (lost.node.as_str(), lost.stage, lost.packets))
            .collect();
        assert_eq!(
            told,
            [
                ("a", Stage::BufferFull, 5),
                ("a", Stage::DiskFull, 8),
                ("b", Stage::BufferFull, 2),
                ("a", Stage::BufferFull, 16),
            ]
        );
    }

    #[test]
    fn there_are_few_however_many_there_were_and_none_is_forgotten() {
        let all: Vec<Lost> = (0..10_000)
            .map(|n| {
                let stage = if n % 3 == 0 {
                    Stage::CutShort
                } else {
                    Stage::Unreadable
                };
                at(if n % 2 == 0 { "a" } else { "b" }, stage, n * 30, 1)
            })
            .collect();
        for most in [KEPT, 5] {
            let told = merged(all.clone(), most);
            assert!(told.len() <= most, "{}", told.len());
            assert_eq!(told.iter().map(|lost| lost.packets).sum::<u64>(), 10_000);
            assert_eq!(lost(&told), 6_666);
            assert!(told.is_sorted_by_key(|lost| lost.since));
        }
    }

    #[test]
    fn what_a_segment_does_not_know_the_time_of_was_lost_in_its_own() {
        let segment = SegmentInfo {
            lost: 5,
            first: Some(10),
            last: Some(20),
            losses: vec![Loss {
                stage: LossStage::DiskFull,
                since: 12,
                until: 13,
                packets: 3,
            }],
            ..SegmentInfo::default()
        };
        let told = of_segments("a", &[segment]);
        assert_eq!(lost(&told), 5);
        assert!(told[0].touches(Some(13), None) && !told[0].touches(Some(14), None));
        assert!(!told[0].touches(None, Some(12)) && told[1].touches(Some(14), Some(15)));
        assert_eq!(
            (told[1].stage, told[1].since, told[1].until),
            (Stage::Unknown, 10, 20)
        );
    }
}
