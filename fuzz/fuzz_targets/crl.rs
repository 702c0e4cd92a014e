//! A revocation list as an agent gets it: DER, or the lists of a set in PEM. Another input is a change of a real list, signed
//! again by its authority, so that what is behind the signature is reached. Otherwise only what the authority signed is a
//! list: nobody else's says whom to refuse.
#![no_main]

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use countersign::x509::crl_read::{read, read_all};
use countersign::x509::template::assemble;
use countersign::x509::{Curve, TrustBundle};
use countersign_fuzz::{der, seed};

const SEQUENCE: u8 = 0x30;

/// An authority of the tests and the part of one of its lists that is signed.
struct Issuer {
    bundle: TrustBundle,
    list: Vec<u8>,
    pair: EcdsaKeyPair,
}

fn issuer() -> &'static Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER.get_or_init(|| {
        let pem = String::from_utf8(seed("access.pem")).expect("PEM");
        let key = pem::parse(seed("access-key.pem")).expect("PEM");
        Issuer {
            bundle: TrustBundle::from_pem(&pem).expect("a bundle"),
            list: der::first_inside(&seed("crl/list")).expect("the signed part").to_vec(),
            pair: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.contents()).expect("a pair"),
        }
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Issuer { bundle, list, pair } = issuer();
    match data {
        [SEQUENCE, ..] => {
            if read(data, bundle).is_ok() {
                assert_eq!(der::first_inside(data), Some(list.as_slice()), "a list of nobody");
            }
        }
        [b'-', ..] => {
            let Ok(text) = std::str::from_utf8(data) else { return };
            let Ok(lists) = read_all(text, bundle) else { return };
            let real = read(&seed("crl/list"), bundle).expect("a real list");
            assert_eq!(lists.until, real.next_update);
            assert!(lists.serials.into_iter().eq(real.serials), "a list of nobody");
        }
        _ => {
            let Some(changed) = der::splice(list, data) else { return };
            let signature = pair.sign(&SystemRandom::new(), &changed).expect("a signature");
            if let Ok(list) = read(&assemble(&changed, Curve::P256, signature.as_ref()), bundle) {
                assert_eq!(list.issuer, bundle.authorities()[0].id());
            }
        }
    }
});
