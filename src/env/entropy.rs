//! The entropy port: random bytes for serials, identifiers and tokens. Keys never come from here; they stay in the
//! cryptographic library.

use std::sync::Mutex;

use aws_lc_rs::rand::SecureRandom;

/// Where randomness comes from.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the bytes. A system that cannot supply randomness ends the process: nothing may be issued without it.
    fn fill(&self, bytes: &mut [u8]);

    /// Sixteen random bytes: an identifier or a serial.
    fn bytes16(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes
    }

    /// Thirty-two random bytes: a token's secret.
    fn bytes32(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.fill(&mut bytes);
        bytes
    }
}

/// The random number generator of the cryptographic library.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        if aws_lc_rs::rand::SystemRandom::new().fill(bytes).is_err() {
            tracing::error!("the system supplies no randomness; nothing can be issued safely");
            std::process::abort();
        }
    }
}

/// A repeatable stream (SplitMix64) for tests and simulations that replay from a seed. Never for anything secret.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<u64>);

impl SeededEntropy {
    /// The stream of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(
                &(z ^ (z >> 31)).to_le_bytes().into_iter().take(chunk.len()).collect::<Vec<_>>(),
            );
        }
    }
}
