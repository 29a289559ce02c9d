//! Queues that mostly hold one thing, of which there are some for each of many connections.

use std::collections::VecDeque;

/// Appends; the first thing gets room for itself only, where the standard library makes room for four.
pub(crate) fn push<T>(queue: &mut VecDeque<T>, thing: T) {
    if queue.capacity() == 0 {
        queue.reserve_exact(1);
    }
    queue.push_back(thing);
}

/// Bytes of a queue that nothing lies in.
pub(crate) fn spare<T>(queue: &VecDeque<T>) -> usize {
    (queue.capacity() - queue.len()) * size_of::<T>()
}
