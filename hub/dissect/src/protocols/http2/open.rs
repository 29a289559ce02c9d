//! The streams of a connection that are open, in the order of their numbers.

use std::collections::VecDeque;

use super::stream::Stream;

/// See the module. Each side's numbers rise (RFC 9113, section 5.1.1), and servers hardly ever begin a stream: a new one mostly
/// comes behind all others, and the one that is asked for is often the newest. So a row that is looked at from its end is
/// quicker than a tree; another place costs a move of 8 KiB at most.
#[derive(Default)]
pub(super) struct Open {
    streams: VecDeque<(u32, Box<Stream>)>,
}

/// Streams that there is always room for, once there were so many: what servers allow at a time.
const KEPT: usize = 128;

impl Open {
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Bytes that it holds beside the streams themselves.
    pub fn memory(&self) -> usize {
        self.streams.capacity() * size_of::<(u32, Box<Stream>)>()
    }

    pub fn has(&self, number: u32) -> bool {
        self.find(number).is_ok()
    }

    pub fn get(&self, number: u32) -> Option<&Stream> {
        let (_, stream) = self.streams.get(self.find(number).ok()?)?;
        Some(stream)
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut Stream> {
        let at = self.find(number).ok()?;
        let (_, stream) = self.streams.get_mut(at)?;
        Some(stream)
    }

    /// Opens one, in the place of what had its number.
    pub fn insert(&mut self, number: u32, stream: Box<Stream>) {
        match self.find(number) {
            Err(at) => self.streams.insert(at, (number, stream)),
            Ok(at) => {
                if let Some((_, other)) = self.streams.get_mut(at) {
                    *other = stream;
                }
            }
        }
    }

    pub fn remove(&mut self, number: u32) -> Option<Box<Stream>> {
        let (_, stream) = self.streams.remove(self.find(number).ok()?)?;
        self.shrink();
        Some(stream)
    }

    pub fn pop_first(&mut self) -> Option<(u32, Box<Stream>)> {
        self.streams.pop_front()
    }

    /// Gives back room that was needed for a moment.
    fn shrink(&mut self) {
        let room = self.streams.capacity();
        if room > KEPT && self.streams.len() < room / 8 {
            self.streams.shrink_to(room / 4);
        }
    }

    /// All of them, and their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Stream)> {
        self.streams.iter().map(|(number, stream)| (*number, &**stream))
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.streams.iter_mut().map(|(_, stream)| &mut **stream)
    }

    /// Where it is, or where it belongs.
    fn find(&self, number: u32) -> Result<usize, usize> {
        let Some((newest, _)) = self.streams.back() else {
            return Err(0);
        };
        let len = self.streams.len();
        match newest.cmp(&number) {
            std::cmp::Ordering::Less => Err(len),
            std::cmp::Ordering::Equal => Ok(len - 1),
            std::cmp::Ordering::Greater => self.streams.binary_search_by_key(&number, |(of, _)| *of),
        }
    }
}

impl IntoIterator for Open {
    type Item = (u32, Box<Stream>);
    type IntoIter = std::collections::vec_deque::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.streams.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_in_the_order_of_their_numbers_however_they_were_opened() {
        let mut open = Open::default();
        for number in [5, 9, 2, 7, 1, 12] {
            assert!(!open.has(number));
            open.insert(number, Box::default());
            assert!(open.has(number));
        }
        assert!(open.remove(7).is_some() && open.remove(7).is_none());
        assert!(open.get(8).is_none() && open.get_mut(9).is_some());
        let numbers: Vec<u32> = open.iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [1, 2, 5, 9, 12]);
        assert_eq!(open.pop_first().map(|(number, _)| number), Some(1));
        assert_eq!(open.len(), 4);
    }
}
