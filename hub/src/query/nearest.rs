//! The nearest known name to one that is not known.

/// Longest name that is looked for: comparing costs the product of lengths.
const LONGEST: usize = 64;

/// The name that one who wrote `name` may have meant.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase();
    let known: Vec<&str> = known.collect();
    // Swapped letters are one slip, though they are two edits.
    if let Some(swapped) = known.iter().find(|known| letters(known) == letters(&name)) {
        return Some(swapped);
    }
    let (distance, known) = known
        .into_iter()
        .map(|known| (edits(&name, known), known))
        .min()?;
    // A third of the letters wrong is another word.
    (distance <= (name.len() / 3).max(1)).then_some(known)
}

fn letters(name: &str) -> Vec<char> {
    let mut letters: Vec<char> = name.chars().collect();
    letters.sort_unstable();
    letters
}

/// Levenshtein's distance.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.chars().enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        for (b, above) in other.iter().zip(row.iter_mut().skip(1)) {
            let here = (diagonal + usize::from(a != *b)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_told_from_other_words() {
        let known = ["status", "dst_service", "elapsed_ns"];
        let near = |name| nearest(name, known.into_iter());
        assert_eq!(near("statu"), Some("status"));
        assert_eq!(near("STATUS"), Some("status"));
        assert_eq!(near("sattus"), Some("status"));
        assert_eq!(near("dst_svc"), None);
        assert_eq!(near("elapsed"), None);
        assert_eq!(near("elapsedns"), Some("elapsed_ns"));
        assert_eq!(near(&"x".repeat(100)), None);
    }
}
