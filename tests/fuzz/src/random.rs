//! Numbers that look random and are the same on every machine.

/// `SplitMix64`: a state that counts, and a mix of its bits.
pub struct Random(u64);

impl Random {
    /// Those of one case of a seed.
    pub fn new(seed: u64, case: u64) -> Self {
        let mut random = Self(seed ^ case.rotate_left(32));
        random.next();
        random
    }

    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below a bound; 0 below 0 and 1.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
