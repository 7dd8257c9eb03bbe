//! Small stable hashes for ordering, splitting and state checks. Not for security: files are checked with SHA-256.

/// A 64-bit hash of bytes that never changes between versions: FNV-1a, then the `SplitMix64` finaliser.
#[must_use]
pub fn hash64(bytes: &[u8]) -> u64 {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    for &b in bytes {
        h = (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    }
    mix64(h)
}

/// A map by ids, with a hash of its own in every process: a long session looks ids up hundreds of thousands of times, and
/// its order is never used.
pub type IdMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// The `SplitMix64` finaliser: a bijection on 64 bits that spreads neighbouring inputs.
#[must_use]
pub fn mix64(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A running hash of a sequence of parts; the order and the boundaries of the parts matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fold64(u64);

impl Fold64 {
    /// Adds one part.
    pub fn add(&mut self, part: &[u8]) {
        self.0 = mix64(self.0 ^ hash64(part)).wrapping_add(part.len() as u64);
    }

    /// The hash so far as 16 hex digits.
    #[must_use]
    pub fn hex(self) -> String {
        format!("{:016x}", self.0)
    }
}
