//! Random numbers that are the same on every machine.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
pub struct Random(pub(super) u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit` (which must not be 0), good enough for traffic.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// Mostly success, some of everything else.
    pub fn status(&mut self, method: &str) -> u16 {
        match (self.below(1000), method) {
            (0..20, _) => 404,
            (20..30, _) => 400,
            (30..55, _) => 503,
            (55..60, _) => 500,
            (60..65, _) => 429,
            (65..145, "GET") => 304,
            (_, "POST") => 201,
            (_, "DELETE") => 204,
            _ => 200,
        }
    }
}
