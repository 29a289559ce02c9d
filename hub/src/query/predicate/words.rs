//! What is asked of words alone: decided once for each combination of words, and looked up for the rows.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::Int32Type;
use datafusion::common::Result;

/// Columns of words: the numbers of each row, and what they are the numbers of.
pub(super) struct Words<'a> {
    columns: Vec<&'a DictionaryArray<Int32Type>>,
    /// How many different rows there could be.
    combinations: usize,
}

impl<'a> Words<'a> {
    /// `None` for columns of other kinds, and where there may be as many different rows as rows.
    pub(super) fn of(arrays: &'a [ArrayRef], rows: usize) -> Option<Self> {
        let columns: Vec<_> = arrays
            .iter()
            .map(|array| {
                array
                    .as_dictionary_opt::<Int32Type>()
                    .filter(|words| words.null_count() == 0)
            })
            .collect::<Option<_>>()?;
        let mut sizes = columns.iter().map(|words| words.values().len());
        let combinations = sizes.try_fold(1_usize, usize::checked_mul)?;
        (!columns.is_empty() && combinations <= rows).then_some(Self {
            columns,
            combinations,
        })
    }

    /// Decides each combination of words once, and each row by the combination that it has.
    pub(super) fn decided(
        &self,
        decide: impl FnOnce(Vec<ArrayRef>, usize) -> Result<BooleanBuffer>,
    ) -> Result<BooleanBuffer> {
        let numbers = |words: &DictionaryArray<Int32Type>| words.keys().values().clone();
        if let [words] = self.columns.as_slice() {
            let decided = decide(vec![Arc::clone(words.values())], self.combinations)?;
            return Ok(looked_up(&numbers(words), &decided.iter().collect::<Vec<_>>()));
        }
        let mut combined = vec![0_i32; self.columns.first().map_or(0, |words| words.len())];
        for words in &self.columns {
            // There are no more combinations than rows, which 32 bits can count.
            let size = words.values().len() as i32;
            for (combined, number) in combined.iter_mut().zip(words.keys().values()) {
                *combined = *combined * size + number;
            }
        }
        // Only what occurs is decided: a filter may take long for what does not.
        let mut place = vec![false; self.combinations];
        for combination in &combined {
            if let Some(occurs) = usize::try_from(*combination)
                .ok()
                .and_then(|at| place.get_mut(at))
            {
                *occurs = true;
            }
        }
        let mut left: Vec<i32> = (0_i32..)
            .zip(&place)
            .filter(|(_, occurs)| **occurs)
            .map(|(at, _)| at)
            .collect();
        let occurring = left.clone();
        let mut arrays = Vec::new();
        for words in self.columns.iter().rev() {
            let size = (words.values().len() as i32).max(1);
            let of: Int32Array = left.iter().map(|combination| combination % size).collect();
            left.iter_mut().for_each(|combination| *combination /= size);
            arrays.push(take(words.values(), &of, None)?);
        }
        arrays.reverse();
        let decided = decide(arrays, occurring.len())?;
        for (combination, holds) in occurring.into_iter().zip(&decided) {
            if let Some(place) = usize::try_from(combination).ok().and_then(|at| place.get_mut(at)) {
                *place = holds;
            }
        }
        Ok(looked_up(&combined, &place))
    }
}

/// The truth of each number.
fn looked_up(numbers: &[i32], truths: &[bool]) -> BooleanBuffer {
    BooleanBuffer::collect_bool(numbers.len(), |row| {
        let at = numbers.get(row).and_then(|number| usize::try_from(*number).ok());
        at.and_then(|at| truths.get(at)).copied().unwrap_or(false)
    })
}
