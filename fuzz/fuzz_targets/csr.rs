//! A certificate request of a stranger. What it wishes for is read only when its own key signed it, so changed requests are
//! signed again here.
#![no_main]

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use countersign::x509::template::assemble;
use countersign::x509::{ClientKey, Curve, RequestedKey};
use countersign_fuzz::der;

const SEQUENCE: u8 = 0x30;

/// A requester: the part of their request that is signed, and the key that signs it.
struct Requester {
    info: Vec<u8>,
    pair: EcdsaKeyPair,
}

fn requester() -> &'static Requester {
    static REQUESTER: OnceLock<Requester> = OnceLock::new();
    REQUESTER.get_or_init(|| {
        let key = ClientKey::generate(Curve::P256).expect("a key");
        let request = key.request().expect("a request");
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.to_pkcs8()).expect("a pair");
        Requester { info: der::first_inside(&request).expect("the signed part").to_vec(), pair }
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let [SEQUENCE, ..] = data {
        let _ = RequestedKey::from_csr(data);
        return;
    }
    let Requester { info, pair } = requester();
    let Some(info) = der::splice(info, data) else { return };
    let signature = pair.sign(&SystemRandom::new(), &info).expect("a signature");
    if let Ok(requested) = RequestedKey::from_csr(&assemble(&info, Curve::P256, signature.as_ref())) {
        let _ = format!("{:?}", requested.ignored());
    }
});
