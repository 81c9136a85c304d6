//! Randomness as an argument.

/// Where random bytes come from.
pub trait Random: Send + Sync + std::fmt::Debug {
    /// Fills `bytes` with unpredictable ones.
    fn fill(&self, bytes: &mut [u8]);

    /// A number below `bound` (0 for a bound of 0), with a bias below 2^-32 for bounds below 2^32.
    fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes).checked_rem(bound).unwrap_or(0)
    }

    /// A fresh id.
    fn unique_id(&self) -> holdfast_proto::ids::UniqueId {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes.into()
    }
}

/// The machine's own randomness. Private keys always come from it (inside aws-lc), whatever a test passes elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes)
            .expect("aws-lc's generator aborts the process before it returns an error");
    }
}

/// Bytes that follow from a seed (SplitMix64): the same run again.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug)]
pub struct SeededRandom(std::sync::atomic::AtomicU64);

#[cfg(any(test, feature = "testing"))]
impl SeededRandom {
    /// A generator that starts at `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(std::sync::atomic::AtomicU64::new(seed))
    }
}

#[cfg(any(test, feature = "testing"))]
impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
            let mut z = self
                .0
                .fetch_add(STEP, std::sync::atomic::Ordering::Relaxed)
                .wrapping_add(STEP);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_be_bytes()[..chunk.len()]);
        }
    }
}
