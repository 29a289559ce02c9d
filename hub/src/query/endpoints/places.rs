//! Where paths vary: a tree of the texts that follow one another. A place with more different texts than names have
//! becomes one value, and what follows those texts becomes what follows the value. Adding the same paths in any order
//! gives the same tree.

use std::collections::BTreeMap;

use super::rules::RULES;

/// Stands for the texts of a place that has too many of them.
pub(super) const VALUE: &str = "{value}";

/// Most places of one protocol's paths: some 20 MB.
pub(super) const MAX_PLACES: usize = 100_000;

/// There are more than [`MAX_PLACES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The tree.
#[derive(Debug)]
pub(super) struct Places {
    root: Place,
    names: usize,
    count: usize,
}

/// What may follow the same beginning.
#[derive(Debug, Default)]
struct Place {
    next: BTreeMap<Box<str>, Place>,
}

impl Places {
    /// An empty tree, in whose places up to `names` different texts are names.
    pub(super) fn new(names: usize) -> Self {
        Self {
            root: Place::default(),
            names,
            count: 0,
        }
    }

    /// Adds the parts of a path.
    pub(super) fn add(&mut self, parts: &[&str]) -> Result<(), Full> {
        let mut place = &mut self.root;
        for part in parts {
            place = place.step(part, self.names, &mut self.count);
        }
        self.room()
    }

    /// Adds the paths of another tree, made with the same number of names.
    pub(super) fn merge(&mut self, other: Self) -> Result<(), Full> {
        self.root.merge(other.root, self.names, &mut self.count);
        self.room()
    }

    /// The endpoint of a path, whose parts these are.
    pub(super) fn name(&self, parts: &[&str]) -> String {
        let mut name = String::new();
        let mut place = Some(&self.root);
        for part in parts {
            let here = place.map(|place| &place.next);
            // A path that was not learned keeps its own parts from there on.
            let known = here.and_then(|next| next.get_key_value(*part).or_else(|| next.get_key_value(VALUE)));
            name.push_str(known.map_or(part, |(text, _)| text));
            place = known.map(|(_, place)| place);
        }
        name
    }

    fn room(&self) -> Result<(), Full> {
        if self.count > MAX_PLACES {
            Err(Full)
        } else {
            Ok(())
        }
    }
}

impl Place {
    /// The place after `part`, made if it is not there.
    fn step(&mut self, part: &str, names: usize, count: &mut usize) -> &mut Place {
        let is_name = is_name(part);
        let part = if is_name && self.next.contains_key(VALUE) {
            VALUE
        } else {
            part
        };
        if !self.next.contains_key(part) {
            self.next.insert(part.into(), Place::default());
            *count += 1;
            if is_name
                && self.next.len() > names
                && self.next.keys().filter(|text| is_name_of(text)).count() > names
            {
                self.collapse(names, count);
                return self.next.entry(VALUE.into()).or_default();
            }
        }
        self.next.entry(part.into()).or_default()
    }

    /// Makes one value of all names here.
    fn collapse(&mut self, names: usize, count: &mut usize) {
        let all = std::mem::take(&mut self.next);
        let (texts, mut kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.into_iter().partition(|(text, _)| is_name_of(text));
        let mut value = kept.remove(VALUE).unwrap_or_else(|| {
            *count += 1;
            Self::default()
        });
        for place in texts.into_values() {
            *count -= place.size();
            value.merge(place, names, count);
        }
        kept.insert(VALUE.into(), value);
        self.next = kept;
    }

    /// This place and all that follow it.
    fn size(&self) -> usize {
        1 + self.next.values().map(Self::size).sum::<usize>()
    }

    /// Takes in what may follow here according to another tree. Its places are counted anew as they come in here.
    fn merge(&mut self, other: Self, names: usize, count: &mut usize) {
        // A value first: names that come after it are its own.
        let mut other = other.next;
        if let Some(value) = other.remove(VALUE) {
            if !self.next.contains_key(VALUE) {
                self.collapse(names, count);
            }
            let into = self.next.entry(VALUE.into()).or_default();
            into.merge(value, names, count);
        }
        for (text, place) in other {
            self.step(&text, names, count).merge(place, names, count);
        }
    }
}

fn is_name_of(text: &str) -> bool {
    is_name(text) && text != VALUE
}

/// Whether a text may be one of a place's names: separators and placeholders are not.
fn is_name(text: &str) -> bool {
    !matches!(text, "/" | ":" | "." | VALUE | super::rules::REST)
        && !RULES.iter().any(|rule| rule.placeholder == text)
}
