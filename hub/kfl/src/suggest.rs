//! The nearest known name to one that is not known.

/// Longest name that is looked for; longer ones are no slip of the finger, and comparing costs the product of lengths.
const LONGEST: usize = 48;

/// Most names that are offered at once.
const OFFERED: usize = 4;

/// What somebody who wrote `name` may have meant: names that continue it at a dot (`src` is no field, `src.ip` is),
/// else the nearest by edit distance, if it is near.
pub(crate) fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    if name.len() > LONGEST {
        return None;
    }
    let continues = |known: &&str| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    let longer: Vec<_> = known
        .clone()
        .filter(continues)
        .take(OFFERED)
        .map(|known| format!("`{known}`"))
        .collect();
    if !longer.is_empty() {
        return Some(format!("did you mean one of {}?", longer.join(", ")));
    }
    let nearest = known.map(|known| (distance(name, known), known)).min()?;
    // A third of the letters wrong is another word.
    let near = nearest.0 <= (name.len() / 3).clamp(1, 4);
    near.then(|| format!("did you mean `{}`?", nearest.1))
}

/// Letters to insert, leave out, replace or swap with their neighbour to come from one name to the other (optimal
/// string alignment), in any case.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.to_lowercase().chars().collect();
    let other: Vec<char> = other.to_lowercase().chars().collect();
    // Distances of `one[..i]` to every `other[..j]`, for the last i and the one before.
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&last, j) + usize::from(a != b);
            let mut best = replaced.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if swapped {
                best = best.min(at(&before_last, j - 1) + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    #[test]
    fn distance_counts_slips() {
        for (one, other, expect) in [
            ("", "", 0),
            ("", "abc", 3),
            ("path", "path", 0),
            ("path", "Path", 0),
            ("paht", "path", 1),
            ("pth", "path", 1),
            ("patch", "path", 1),
            ("bath", "path", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), expect, "{one} {other}");
            assert_eq!(distance(other, one), expect, "{other} {one}");
        }
    }

    #[test]
    fn names_that_people_miss() {
        let suggested = |name| suggestion(name, names::known()).unwrap_or_default();
        assert_eq!(suggested("src.podd"), "did you mean `src.pod`?");
        assert_eq!(suggested("stauts_code"), "did you mean `status_code`?");
        assert_eq!(suggested("request.Path"), "did you mean `request.path`?");
        assert_eq!(suggested("HTTP"), "did you mean `http`?");
        assert_eq!(
            suggested("dst"),
            "did you mean one of `dst.ip`, `dst.port`, `dst.name`, `dst.namespace`?"
        );
        assert_eq!(suggested("frontend"), "");
        assert_eq!(suggested(&"x".repeat(10_000)), "");
    }
}
