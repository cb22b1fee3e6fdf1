//! SplitMix64 (Steele, Lea, Flood 2014): random words addressed by position, equal on every machine
//! and in every version, which is what a test workload needs. Not for secrets.

/// The golden ratio in 64 bits, the generator's step.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The word at `index` of the stream that `seed` names.
#[inline]
pub const fn word(seed: u64, index: u64) -> u64 {
    let z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(STEP));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A 64-bit hash of `bytes` (FNV-1a, then mixed): good enough to tell names apart, not to resist
/// anyone who chooses them.
pub const fn hash(bytes: &[u8]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        sum = (sum ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    word(sum, 0)
}

/// Draws words of one stream in turn.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    /// The stream that `seed` names, from its start.
    pub const fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The next word.
    pub const fn word(&mut self) -> u64 {
        let word = word(self.seed, self.drawn);
        self.drawn = self.drawn.wrapping_add(1);
        word
    }

    /// The next number in `[0, 1)`, with 53 random bits.
    pub const fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The next index below `bound`; 0 when `bound` is 0.
    pub const fn below(&mut self, bound: usize) -> usize {
        ((self.word() as u128 * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64() {
        // The published test vector of the algorithm for seed 1234567.
        let mut random = Random::new(1_234_567);
        let drawn = [random.word(), random.word(), random.word()];
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn draws_stay_within_their_bounds() {
        let mut random = Random::new(7);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random.unit())));
        assert!((0..1000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(0), 0);
    }
}
