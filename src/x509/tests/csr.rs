use super::tools::request;
use super::*;
use crate::x509::csr::CSR_LEN_MAX;
use crate::x509::der::{BIT_STRING, SEQUENCE, element};

fn fault(der: &[u8]) -> CsrFault {
    RequestedKey::from_csr(der).unwrap_err()
}

#[test]
fn our_own_request_asks_for_nothing() {
    for curve in Curve::ALL {
        let key = ClientKey::generate(curve).unwrap();
        let requested = RequestedKey::from_csr(&key.request().unwrap()).unwrap();
        assert_eq!(requested.key(), key.public_key());
        assert_eq!(requested.key().curve(), curve);
        assert_eq!(requested.ignored(), []);
        let again = ClientKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }
}

#[test]
fn requests_of_openssl_are_read() {
    for (curve, hash) in [("P-256", "-sha256"), ("P-384", "-sha384")] {
        let der = request(&["-newkey", "ec", "-pkeyopt", &format!("ec_paramgen_curve:{curve}"), hash]);
        assert_eq!(RequestedKey::from_csr(&der).unwrap().key().curve().as_str(), curve);
    }
}

#[test]
fn wishes_are_listed_without_their_values_and_not_granted() {
    let other = "URI:spiffe://countersign.example/entity/ent_other/person/sub_other,email:alice@example.org";
    let der = request(&[
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-subj",
        "/CN=Alice/C=US",
        "-addext",
        &format!("subjectAltName={other}"),
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign",
        "-addext",
        "extendedKeyUsage=serverAuth",
        "-addext",
        "1.3.6.1.4.1.32473.1.2=ASN1:UTF8String:ent_other",
    ]);
    let requested = RequestedKey::from_csr(&der).unwrap();
    assert_eq!(
        requested.ignored(),
        [
            Ignored::Subject,
            Ignored::AlternativeNames,
            Ignored::BasicConstraints,
            Ignored::KeyUsage,
            Ignored::ExtendedKeyUsage,
            Ignored::Extension("1.3.6.1.4.1.32473.1.2".to_owned()),
        ]
    );
    let shop = Workshop::access();
    let content = content(Facts::Access(human()));
    let draft = shop.template.draft(requested.key(), &content).unwrap();
    let read = parse(draft.der(), &profile()).unwrap();
    assert_eq!(*read.facts(), content.facts);
    assert!(!draft.der().windows(5).any(|window| window == b"Alice" || window == b"alice"));
}

#[test]
fn the_list_of_wishes_is_bounded() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.custom_extensions =
        (0..100).map(|n| rcgen::CustomExtension::from_oid_content(&[1, 2, 3, n], vec![5, 0])).collect();
    let requested = RequestedKey::from_csr(params.serialize_request(&pair).unwrap().der()).unwrap();
    assert_eq!(requested.ignored().len(), 33);
    assert_eq!(requested.ignored().last(), Some(&Ignored::More(69)));
}

#[test]
fn a_hash_that_does_not_fit_the_curve_is_refused() {
    for (curve, hash) in [("P-384", "-sha256"), ("P-256", "-sha384")] {
        let der = request(&["-newkey", "ec", "-pkeyopt", &format!("ec_paramgen_curve:{curve}"), hash]);
        assert_eq!(fault(&der), CsrFault::HashMismatch, "{curve} {hash}");
    }
    let der = request(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha512"]);
    assert_eq!(fault(&der), CsrFault::SignatureAlgorithm);
}

#[test]
fn other_kinds_of_keys_are_refused_each_with_its_reason() {
    assert_eq!(fault(&request(&["-newkey", "rsa:2048"])), CsrFault::RsaKey);
    assert_eq!(fault(&request(&["-newkey", "rsa:512"])), CsrFault::RsaKey);
    assert_eq!(
        fault(&request(&["-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"])),
        CsrFault::RsaKey
    );
    assert_eq!(fault(&request(&["-newkey", "ed25519"])), CsrFault::EdwardsKey);
    assert_eq!(fault(&request(&["-newkey", "ed448"])), CsrFault::EdwardsKey);
    for curve in ["P-521", "secp256k1", "prime192v1", "secp224r1", "brainpoolP256r1"] {
        let der = request(&["-newkey", "ec", "-pkeyopt", &format!("ec_paramgen_curve:{curve}")]);
        assert_eq!(fault(&der), CsrFault::Curve, "{curve}");
    }
    let explicit = ["-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"];
    assert_eq!(fault(&request(&[&["-newkey", "ec"], &explicit[..]].concat())), CsrFault::Curve);
}

#[test]
fn a_compressed_point_is_refused() {
    let uncompressed = super::key();
    let sign = if uncompressed.point()[64] & 1 == 0 { 2 } else { 3 };
    let point = [&[0, sign], &uncompressed.point()[1..33]].concat();
    // id-ecPublicKey and prime256v1, as in the uncompressed key.
    let algorithm = &uncompressed.spki()[2..23];
    let spki = element(SEQUENCE, &[algorithm, &element(BIT_STRING, &[&point])]);
    let info = element(SEQUENCE, &[&[2, 1, 0], &[0x30, 0], &spki, &[0xa0, 0]]);
    let signature = element(BIT_STRING, &[&[0, 0x30, 6, 2, 1, 1, 2, 1, 1]]);
    let der = element(SEQUENCE, &[&info, Curve::P256.signature_algorithm(), &signature]);
    assert_eq!(fault(&der), CsrFault::PointForm);
}

#[test]
fn a_point_off_its_curve_and_a_foreign_signature_are_refused() {
    let key = ClientKey::generate(Curve::P256).unwrap();
    let der = key.request().unwrap();
    let point = key.public_key().point();
    let at = der.windows(point.len()).position(|window| window == point).unwrap();
    let mut off = der.clone();
    off[at + 40] ^= 1;
    assert_eq!(fault(&off), CsrFault::OffCurve);
    let mut hybrid = der.clone();
    hybrid[at] = 0x06;
    assert_eq!(fault(&hybrid), CsrFault::PointForm);
    let mut infinity = der.clone();
    infinity[at + 1..at + 65].fill(0);
    assert_eq!(fault(&infinity), CsrFault::OffCurve);
    // Somebody else's point: the signature proves nothing.
    let mut stolen = der;
    stolen[at..at + 65].copy_from_slice(super::key().point());
    assert_eq!(fault(&stolen), CsrFault::BadSignature);
}

#[test]
fn size_truncation_trailing_bytes_and_version_are_checked() {
    let der = ClientKey::generate(Curve::P256).unwrap().request().unwrap();
    assert_eq!(fault(&vec![0x30; CSR_LEN_MAX + 1]), CsrFault::TooLarge);
    assert_eq!(fault(&[der.as_slice(), &[0]].concat()), CsrFault::TrailingBytes);
    for len in 0..der.len() {
        assert_eq!(fault(&der[..len]), CsrFault::Malformed, "{len}");
    }
    let mut version = der.clone();
    let at = version.windows(3).position(|window| window == [2, 1, 0]).unwrap();
    version[at + 2] = 2;
    assert_eq!(fault(&version), CsrFault::Version);
}

#[test]
fn every_flipped_bit_of_a_request_is_refused() {
    let der = ClientKey::generate(Curve::P256).unwrap().request().unwrap();
    for bit in 0..der.len() * 8 {
        let mut bent = der.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(RequestedKey::from_csr(&bent).is_err(), "bit {bit}");
    }
}
