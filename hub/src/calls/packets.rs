//! Where a packet can be found again: one number that holds the file and the place in it.
//!
//! The file is its ordinal in [`Summary::files`](crate::dissections::Summary); the place is the offset of the packet's
//! block in it (in the inflated bytes, if the file is compressed). Tables hold locations, never bodies.

/// Bits of a location that hold the offset: files of 256 TiB.
const OFFSET_BITS: u32 = 48;

/// The location of the packet whose block begins at `offset` of file number `file`.
pub fn location(file: u16, offset: u64) -> u64 {
    u64::from(file) << OFFSET_BITS | offset & ((1 << OFFSET_BITS) - 1)
}

/// Which file and which offset a location means.
pub fn place(location: u64) -> (usize, u64) {
    (
        (location >> OFFSET_BITS) as usize,
        location & ((1 << OFFSET_BITS) - 1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_holds_the_last_file_and_a_far_offset() {
        for (file, offset) in [(0, 0), (1, 28), (u16::MAX, (1 << OFFSET_BITS) - 1)] {
            assert_eq!(place(location(file, offset)), (usize::from(file), offset));
        }
    }
}
