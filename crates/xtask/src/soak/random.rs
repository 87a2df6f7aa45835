//! Repeatable random numbers. In: a seed. Out: numbers, always the same ones for the same seed, on
//! every machine and in every version of this program.

/// `SplitMix64` (Steele, Lea and Flood, 2014): small, and good enough for choices.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `from..to`.
    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// True in `percent` of the cases.
    pub(super) fn happens(&mut self, percent: u64) -> bool {
        self.between(0, 100) < percent
    }

    /// One of these.
    pub(super) fn one<T: Copy>(&mut self, of: &[T]) -> T {
        let last = of.len() as u64;
        of[usize::try_from(self.between(0, last)).unwrap_or(0)]
    }

    /// One of these, each in proportion to its weight.
    pub(super) fn weighted<T: Copy>(&mut self, of: &[(u64, T)]) -> T {
        let mut left = self.between(0, of.iter().map(|(weight, _)| weight).sum());
        for (weight, one) in of {
            if left < *weight {
                return *one;
            }
            left -= weight;
        }
        of[0].1
    }

    /// At least `least` of these, in their order.
    pub(super) fn some<T: Copy>(&mut self, of: &[T], least: usize) -> Vec<T> {
        let wanted = self.between(least.min(of.len()) as u64, of.len() as u64 + 1);
        let mut left: Vec<usize> = (0..of.len()).collect();
        while left.len() as u64 > wanted {
            let out = self.between(0, left.len() as u64);
            left.remove(usize::try_from(out).unwrap_or(0));
        }
        left.into_iter().map(|index| of[index]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let mut random = Random::new(1_234_567);
        let expected = [
            6_457_827_717_110_365_317_u64,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!([(); 3].map(|()| random.next()), expected);
    }

    #[test]
    fn choices_stay_within_their_bounds_and_reach_them() {
        let mut random = Random::new(7);
        let mut sizes = [0; 4];
        for _ in 0..400 {
            assert!((5..9).contains(&random.between(5, 9)));
            let some = random.some(&[1, 2, 3], 2);
            assert!(some.is_sorted());
            sizes[some.len()] += 1;
        }
        assert!(sizes[0] + sizes[1] == 0 && sizes[2] > 0 && sizes[3] > 0);
        let never = (0..400).any(|_| random.weighted(&[(3, false), (0, true), (1, false)]));
        assert!(!never, "a choice without weight was taken");
    }
}
