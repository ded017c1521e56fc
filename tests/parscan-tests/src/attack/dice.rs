//! Choices that a seed decides.

/// A generator of choices (xorshift64*).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// Below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).unwrap_or(0) % bound
    }

    /// Whether one chance in `n` comes.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub(crate) fn word(&mut self) -> u32 {
        let bytes = self.next().to_le_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }

    /// A byte that does not look like old memory when it is read back.
    pub(crate) fn plain(&mut self) -> u8 {
        self.byte() & 0x7F
    }

    /// Such bytes.
    pub(crate) fn text(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.plain()).collect()
    }

    /// Nanoseconds: microseconds mostly, milliseconds, seconds now and then.
    pub(crate) fn time(&mut self) -> u64 {
        // A port that waits for its device costs time of the host, too.
        let most = if self.one_in(100) {
            3_000_000_000
        } else {
            self.of(&[1000, 20_000, 50_000, 500_000, 5_000_000])
        };
        u64::try_from(self.below(most)).unwrap_or(0)
    }
}
