//! A leaf as a client shows it. An input that begins like DER is read as it is; another is a change of a real leaf. A leaf
//! that is accepted states what one of the real ones states: nobody else has the authority's signature.
#![no_main]

use std::sync::OnceLock;

use countersign::domain::certificate::Certificate;
use countersign::x509::{chain, explain};
use countersign_fuzz::{bundle, der, profile, seed};

const SEQUENCE: u8 = 0x30;
const NAMES: [&str; 2] = ["leaf/person", "leaf/gateway"];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static LEAVES: OnceLock<Vec<(Vec<u8>, Certificate)>> = OnceLock::new();
    let leaves = LEAVES.get_or_init(|| NAMES.map(real).into());
    let changed;
    let leaf = match data {
        [SEQUENCE, ..] => data,
        [which, change @ ..] => {
            let (leaf, _) = &leaves[usize::from(*which) % leaves.len()];
            let Some(spliced) = der::splice(leaf, change) else { return };
            changed = spliced;
            &changed
        }
        [] => return,
    };
    let _ = explain::explain(leaf, profile());
    if let Ok(read) = chain::read(leaf, profile(), bundle()) {
        // The hash is of the bytes, and an ECDSA signature has a second spelling.
        let is_real = |real: &Certificate| Certificate { hash: real.hash, ..read.clone() } == *real;
        assert!(leaves.iter().any(|(_, certificate)| is_real(certificate)), "a certificate of nobody");
    }
});

fn real(name: &str) -> (Vec<u8>, Certificate) {
    let leaf = seed(name);
    let certificate = chain::read(&leaf, profile(), bundle()).expect("a real leaf");
    (leaf, certificate)
}
