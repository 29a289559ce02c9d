//! Where a series changes its level and keeps to the new one.
//!
//! A series is cut into the stretches that are best told by one level each: least squares, and a penalty for every
//! stretch in terms of the series' own noise (optimal partitioning; Jackson et al. 2005, as in PELT). Latencies and
//! rates are compared by their logarithms, so that a change counts by its factor.

/// A stretch of buckets with one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Its first bucket.
    pub(super) from: usize,
    /// The bucket after its last.
    pub(super) to: usize,
}

/// Shortest stretch: one bucket may be an accident.
const SHORTEST: usize = 2;

/// Penalty of a stretch, in units of noise and the logarithm of the length: twice what is usual for two parameters,
/// so that a finding is worth being woken for.
const PENALTY: f64 = 4.0;

/// The stretches of a series, in which `None` says nothing. At least `noise` is taken for accident.
pub(super) fn stretches(series: &[Option<f64>], noise: f64) -> Vec<Stretch> {
    let known: Vec<(usize, f64)> = series
        .iter()
        .enumerate()
        .filter_map(|(bucket, value)| Some((bucket, (*value)?)))
        .collect();
    let count = known.len();
    if count == 0 {
        return Vec::new();
    }
    // Sums up to each value, so that the error of a stretch costs the same whatever its length.
    let (mut sums, mut squares) = (vec![0.0], vec![0.0]);
    let (mut sum, mut square) = (0.0, 0.0);
    for (_, value) in &known {
        sum += value;
        square += value * value;
        sums.push(sum);
        squares.push(square);
    }
    let between = |of: &[f64], from: usize, to: usize| {
        of.get(to).copied().unwrap_or_default() - of.get(from).copied().unwrap_or_default()
    };
    let error = |from: usize, to: usize| {
        let sum = between(&sums, from, to);
        (between(&squares, from, to) - sum * sum / (to - from).max(1) as f64).max(0.0)
    };
    let noise = noise.max(accident(&known));
    let penalty = PENALTY * noise * noise * (count as f64).ln().max(1.0);

    // The least cost of the first n values, and where the last of its stretches begins.
    let mut best: Vec<(f64, usize)> = vec![(0.0, 0)];
    for to in 1..=count {
        let cost = |from: usize| {
            let before = best.get(from).map_or(f64::INFINITY, |(cost, _)| *cost);
            before + error(from, to) + penalty
        };
        let whole = (cost(0), 0);
        let cheapest = (SHORTEST..=to.saturating_sub(SHORTEST))
            .map(|from| (cost(from), from))
            .fold(whole, |a, b| if b.0 < a.0 { b } else { a });
        best.push(cheapest);
    }
    let mut cuts = Vec::new();
    let mut to = count;
    while to > 0 {
        let from = best.get(to).map_or(0, |(_, from)| *from);
        cuts.push((from, to));
        to = from;
    }
    // What comes after the last value says nothing.
    let end = known.last().map_or(0, |(bucket, _)| bucket + 1);
    let bucket = |at: usize| known.get(at).map_or(end, |(bucket, _)| *bucket);
    cuts.into_iter()
        .rev()
        .map(|(from, to)| Stretch {
            from: bucket(from),
            to: bucket(to),
        })
        .collect()
}

/// The noise of a series: what neighbours differ by, without the few that differ by a change of level.
fn accident(known: &[(usize, f64)]) -> f64 {
    let mut steps: Vec<f64> = known
        .windows(2)
        .filter_map(|pair| match pair {
            [(_, a), (_, b)] => Some((b - a).abs()),
            _ => None,
        })
        .collect();
    steps.sort_by(f64::total_cmp);
    let median = steps.get(steps.len() / 2).copied().unwrap_or_default();
    // From the median of the differences of normal values to their standard deviation.
    median / 0.6745 / std::f64::consts::SQRT_2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(series: &[(f64, usize)]) -> Vec<Option<f64>> {
        let mut values = Vec::new();
        for (level, count) in series {
            for _ in 0..*count {
                // A little noise that is the same each time.
                let wave = (values.len() * 7919 % 11) as f64 / 11.0 - 0.5;
                values.push(Some(level + wave * 0.1));
            }
        }
        values
    }

    fn begins(series: &[Option<f64>]) -> Vec<usize> {
        stretches(series, 0.1)
            .iter()
            .map(|stretch| stretch.from)
            .collect()
    }

    #[test]
    fn a_level_shift_is_found_where_it_is() {
        assert_eq!(begins(&levels(&[(5.3, 30), (8.3, 13), (5.3, 17)])), [0, 30, 43]);
        assert_eq!(begins(&levels(&[(1.0, 10), (3.0, 50)])), [0, 10]);
        assert_eq!(begins(&levels(&[(1.0, 2), (3.0, 2)])), [0, 2]);
    }

    #[test]
    fn noise_and_single_buckets_are_no_shift() {
        assert_eq!(begins(&levels(&[(5.0, 60)])), [0]);
        let mut spike = levels(&[(5.0, 60)]);
        spike[30] = Some(5.6);
        assert_eq!(begins(&spike), [0]);
        let waves: Vec<_> = (0..60).map(|at| Some(f64::from(at % 2))).collect();
        assert_eq!(begins(&waves), [0]);
        assert_eq!(begins(&[]), Vec::<usize>::new());
        assert_eq!(begins(&[None, Some(1.0), None]), [1]);
    }

    #[test]
    fn buckets_without_calls_say_nothing() {
        let mut series = levels(&[(1.0, 10), (4.0, 10)]);
        for at in [3, 9, 10, 15] {
            series[at] = None;
        }
        assert_eq!(begins(&series), [0, 11]);
        series.extend([None; 5]);
        assert_eq!(stretches(&series, 0.1).last().map(|last| last.to), Some(20));
    }
}
