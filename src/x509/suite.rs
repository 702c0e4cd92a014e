//! What TLS offers under a profile of algorithms: the one place that says so, for every listener and every client.
//!
//! Under `cnsa` there is one cipher suite, one group and one signature scheme (RFC 9151; its section 4 is about key establishment
//! and authentication, 5.1 about the curve), so a peer that cannot do them gets no connection: nothing is negotiated downwards.
//! The hybrid groups (X25519MLKEM768 and its like) are not in the suite, and ML-KEM-1024 alone is not a registered choice of the
//! peers that there are; so there is none.

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use webpki::aws_lc_rs::ECDSA_P384_SHA384;

use crate::domain::algorithm::AlgorithmProfile;

/// One signature: certificates and handshakes alike.
static CNSA_SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[ECDSA_P384_SHA384],
    mapping: &[(SignatureScheme::ECDSA_NISTP384_SHA384, &[ECDSA_P384_SHA384])],
};

/// Cipher suites, groups and signatures of a profile.
pub fn provider(algorithms: AlgorithmProfile) -> CryptoProvider {
    match algorithms {
        AlgorithmProfile::Standard => default_provider(),
        AlgorithmProfile::Cnsa => CryptoProvider {
            cipher_suites: vec![TLS13_AES_256_GCM_SHA384],
            kx_groups: vec![kx_group::SECP384R1],
            signature_verification_algorithms: CNSA_SIGNATURES,
            ..default_provider()
        },
    }
}
