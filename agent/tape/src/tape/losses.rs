//! Losses by place and time: a short list, however many there are.

use crate::Loss;

/// Most entries of one segment, and of the whole ring's boundaries: what a person can read. Beyond it, neighbours are
/// told as one.
pub(super) const MAX_LOSSES: usize = 64;

/// Losses of one stage that are no further apart than this are one: the recorder counts once a second.
const NEIGHBOURS: u64 = 2_000_000_000;

/// Adds a loss to a list.
pub(super) fn add(list: &mut Vec<Loss>, loss: Loss) {
    if loss.packets == 0 {
        return;
    }
    let near = |known: &&mut Loss| {
        known.stage == loss.stage
            && loss.since <= known.until.saturating_add(NEIGHBOURS)
            && known.since <= loss.until.saturating_add(NEIGHBOURS)
    };
    if let Some(known) = list.iter_mut().rev().find(near) {
        widen(known, loss);
        return;
    }
    list.push(loss);
    if list.len() > MAX_LOSSES {
        merge_oldest(list);
    }
}

/// Takes the latest `packets` off a list: the part that did not get told where the list was.
pub(super) fn take_latest(list: &mut Vec<Loss>, mut packets: u64) -> Vec<Loss> {
    let mut taken = Vec::new();
    while packets > 0
        && let Some(mut last) = list.pop()
    {
        let part = last.packets.min(packets);
        packets -= part;
        taken.insert(
            0,
            Loss {
                packets: part,
                ..last
            },
        );
        if part < last.packets {
            last.packets -= part;
            list.push(last);
        }
    }
    taken
}

/// Makes one of the two oldest entries of the same stage. There are two: the list is longer than there are stages.
fn merge_oldest(list: &mut Vec<Loss>) {
    let pair = list.iter().enumerate().find_map(|(at, older)| {
        let later = list
            .iter()
            .skip(at + 1)
            .position(|later| later.stage == older.stage)?;
        Some((at, at + 1 + later))
    });
    if let Some((older, later)) = pair {
        let later = list.remove(later);
        list.get_mut(older)
            .into_iter()
            .for_each(|older| widen(older, later));
    }
}

fn widen(known: &mut Loss, loss: Loss) {
    known.since = known.since.min(loss.since);
    known.until = known.until.max(loss.until);
    known.packets = known.packets.saturating_add(loss.packets);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LossStage::{BufferFull, DiskFull};

    fn loss(stage: crate::LossStage, second: u64, packets: u64) -> Loss {
        let since = second * 1_000_000_000;
        Loss {
            stage,
            since,
            until: since + 1,
            packets,
        }
    }

    #[test]
    fn neighbours_of_one_stage_are_one_loss() {
        let mut list = Vec::new();
        add(&mut list, loss(BufferFull, 10, 1));
        add(&mut list, loss(DiskFull, 10, 2));
        add(&mut list, loss(BufferFull, 11, 4));
        add(&mut list, loss(BufferFull, 20, 8));
        add(&mut list, loss(BufferFull, 30, 0));
        let packets: Vec<u64> = list.iter().map(|loss| loss.packets).collect();
        assert_eq!(packets, [5, 2, 8]);
        assert_eq!((list[0].since, list[0].until), (10_000_000_000, 11_000_000_001));
    }

    #[test]
    fn more_than_are_kept_are_told_together_and_none_is_forgotten() {
        let mut list = Vec::new();
        for n in 0..1000 {
            let stage = if n % 3 == 0 { DiskFull } else { BufferFull };
            add(&mut list, loss(stage, n * 10, 1));
            assert!(list.len() <= MAX_LOSSES);
        }
        assert_eq!(list.iter().map(|loss| loss.packets).sum::<u64>(), 1000);
    }
}
