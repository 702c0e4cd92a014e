//! The profile of algorithms that genesis settles for good: which keys are certified, and what TLS offers.
//!
//! `standard` is P-256 by default and takes P-384 too. `cnsa` is the CNSA suite as it is for certificates (RFC 8603) and TLS
//! (RFC 9151): P-384 and SHA-384 alone. There is no way from one to the other but a new service: whoever could loosen it
//! would do it when it matters.

use crate::domain::word::words;

/// The length of the SubjectPublicKeyInfo of a P-384 key (RFC 5480, uncompressed point).
const P384_LEN: usize = 120;

words! {
    /// Which algorithms a service uses.
    AlgorithmProfile {
        /// P-256 by default, P-384 too.
        Standard = 0, "standard";
        /// P-384 with SHA-384, and TLS to match.
        Cnsa = 1, "cnsa";
    }
}

impl AlgorithmProfile {
    /// May this public key (SubjectPublicKeyInfo, DER) be used? Whether it is one at all is asked elsewhere.
    pub const fn accepts(self, spki: &[u8]) -> bool {
        match self {
            Self::Standard => true,
            Self::Cnsa => spki.len() == P384_LEN,
        }
    }

    /// What to do about a key that this profile does not take.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Standard => "a P-256 or P-384 public key is needed",
            Self::Cnsa => {
                "this service has the profile cnsa and certifies P-384 keys only; make a new key: countersign officer new \
                 --profile cnsa, or openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-384 -sha384"
            }
        }
    }
}
