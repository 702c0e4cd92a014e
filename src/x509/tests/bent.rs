//! Inputs bent at random: nothing panics, and whatever parses is the one encoding of what it says.

use proptest::prelude::*;

use super::*;
use crate::x509::der::{INTEGER, SEQUENCE, element, only};

fn access_content() -> Content {
    content(Facts::Access(human()))
}

/// Writes what was read again. Equal bytes for every input that parses mean: one certificate, one encoding.
fn written_again(der: &[u8], shops: [&Workshop; 2]) -> Option<Vec<u8>> {
    let read = parse(der, &profile()).ok()?;
    let content = Content {
        serial: read.serial(),
        ordinal: read.ordinal(),
        not_before: read.not_before(),
        not_after: read.not_after(),
        facts: read.facts().clone(),
        names: read.names().to_vec(),
    };
    let shop = shops.into_iter().find(|shop| shop.authority.kind() == read.issuer_kind()).unwrap();
    let key = PublicKey::from_spki(read.spki()).unwrap();
    Some(shop.template.draft(&key, &content).unwrap().into_tbs())
}

#[test]
fn every_flipped_bit_is_refused_or_another_canonical_certificate() {
    let (access, system_authority) = (Workshop::access(), Workshop::system());
    for (_, der) in every_leaf(&access, &system_authority) {
        let mut accepted = 0;
        for bit in 0..der.len() * 8 {
            let mut bent = der.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let Ok(read) = parse(&bent, &profile()) else { continue };
            accepted += 1;
            // What is left as it was in the issuer (name, key id, curve) is judged by `verify`.
            let mine = (read.issuer(), read.issuer_key_id()) == {
                let shop =
                    if read.issuer_kind() == AuthorityKind::Access { &access } else { &system_authority };
                (shop.authority.id(), shop.authority.key_id().as_slice())
            };
            if mine {
                let again = written_again(&bent, [&access, &system_authority]).unwrap();
                assert_eq!(hex::encode(again), hex::encode(read.tbs()), "bit {bit}");
            }
            let bundle =
                TrustBundle::new(vec![access.authority.clone(), system_authority.authority.clone()]).unwrap();
            assert!(parse(&bent, &profile()).unwrap().verify(&bundle).is_err(), "bit {bit}");
        }
        assert!(accepted > 0, "the signature and the serial are not judged by the parser");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(parse(&bytes, &profile()).is_err());
        prop_assert!(Authority::from_der(&bytes).is_err());
        prop_assert!(RequestedKey::from_csr(&bytes).is_err());
        let _ = explain::explain(&bytes, &profile());
    }

    #[test]
    fn splices_never_panic_and_stay_canonical(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..4, proptest::collection::vec(any::<u8>(), 0..4)), 1..4),
    ) {
        let (access, system_authority) = (Workshop::access(), Workshop::system());
        let mut der = access.leaf(&access_content());
        for (at, remove, insert) in edits {
            let at = at.index(der.len());
            let end = (at + remove).min(der.len());
            der.splice(at..end, insert);
        }
        if let Ok(read) = parse(&der, &profile()) && read.issuer_key_id() == access.authority.key_id() {
            prop_assert_eq!(written_again(&der, [&access, &system_authority]).unwrap(), read.tbs());
        }
        let _ = explain::explain(&der, &profile());
    }
}

/// The DER INTEGER of a big-endian number.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let at = bytes.iter().position(|byte| *byte != 0).unwrap();
    let sign: &[u8] = if bytes[at] & 0x80 != 0 { &[0] } else { &[] };
    element(INTEGER, &[sign, &bytes[at..]])
}

#[test]
fn a_negated_signature_is_another_hash_of_the_same_certificate() {
    // The order of P-256 (SEC 2 section 2.4.2).
    let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
    let shop = Workshop::access();
    let der = shop.leaf(&access_content());
    let leaf = parse(&der, &profile()).unwrap();
    let mut pair = only(leaf.signature(), SEQUENCE).unwrap().inside();
    let r = pair.expect(INTEGER).unwrap().raw;
    let s = pair.expect(INTEGER).unwrap().value;
    let mut negated = order;
    let mut borrow = 0_i16;
    for (place, byte) in negated.iter_mut().rev().enumerate() {
        let taken = s.len().checked_sub(place + 1).map_or(0, |at| i16::from(s[at]));
        let difference = i16::from(*byte) - taken - borrow;
        borrow = i16::from(difference < 0);
        *byte = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let signature = element(SEQUENCE, &[r, &integer(&negated)]);
    let twin = assemble(leaf.tbs(), Curve::P256, &signature);
    let (first, second) =
        (chain::read(&der, &profile(), &shop.bundle()), chain::read(&twin, &profile(), &shop.bundle()));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.hash, second.hash);
    assert_eq!(Certificate { hash: first.hash, ..second }, first);
}
