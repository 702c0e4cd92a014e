use std::process::{Command, Stdio};

use super::*;
use crate::x509::{ClientKey, Curve};

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

/// Runs openssl with these words on a text.
fn openssl(words: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut process =
        Command::new("openssl").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(input).unwrap();
    let ended = process.wait_with_output().unwrap();
    assert!(ended.status.success(), "{words:?}");
    ended.stdout
}

fn key() -> Vec<u8> {
    ClientKey::generate(Curve::P256).unwrap().to_pkcs8()
}

#[test]
fn what_is_sealed_is_opened_with_its_passphrase_and_no_other() {
    let (key, own) = (key(), passphrase("correct horse battery"));
    let sealed = to_pem(&key, Some(&own)).unwrap();
    assert!(is_sealed(sealed.as_bytes()));
    assert_eq!(*open(sealed.as_bytes(), Some(&own)).unwrap(), key);
    let again = to_pem(&key, Some(&own)).unwrap();
    assert_ne!(*sealed, *again, "salt and iv are new each time");
    let other = passphrase("correct horse battery.");
    assert_eq!(open(sealed.as_bytes(), Some(&other)), Err(SealFault::WrongPassphrase));
    assert_eq!(open(sealed.as_bytes(), None), Err(SealFault::NoPassphrase));
    assert_eq!(to_pem(&key, Some(&passphrase("short"))), Err(SealFault::PassphraseShort));
}

#[test]
fn a_plain_key_is_read_with_and_without_a_passphrase() {
    let key = key();
    let plain = to_pem(&key, None).unwrap();
    assert!(!is_sealed(plain.as_bytes()));
    assert_eq!(*open(plain.as_bytes(), None).unwrap(), key);
    assert_eq!(*open(plain.as_bytes(), Some(&passphrase("x"))).unwrap(), key);
}

#[test]
fn openssl_reads_what_is_sealed_here() {
    let (key, own) = (key(), passphrase("correct horse battery"));
    let sealed = to_pem(&key, Some(&own)).unwrap();
    let plain =
        openssl(&["pkey", "-passin", "pass:correct horse battery", "-outform", "DER"], sealed.as_bytes());
    let [plain, key] = [&plain, &key].map(|der| ClientKey::from_pkcs8(der).unwrap());
    assert_eq!(plain.public_key(), key.public_key());
}

#[test]
fn what_openssl_seals_is_read_here() {
    let key = key();
    let plain = to_pem(&key, None).unwrap();
    let own = passphrase("correct horse");
    let base = ["pkcs8", "-topk8", "-passout", "pass:correct horse"];
    for (more, expected) in [
        (&["-v2", "aes-256-cbc"][..], None),
        (&["-v2", "aes-128-cbc", "-iter", "1000"], None),
        (&["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512", "-iter", "5000"], None),
        (&["-v2", "aes-256-cbc", "-iter", "999"], Some(SealFault::Iterations(999))),
        (&["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"], Some(SealFault::Scheme)),
        (&["-v2", "aes-192-cbc"], Some(SealFault::Scheme)),
        (&["-scrypt"], Some(SealFault::Scheme)),
        (&["-v1", "PBE-SHA1-3DES"], Some(SealFault::Scheme)),
    ] {
        let sealed = openssl(&[&base[..], more].concat(), plain.as_bytes());
        let opened = open(&sealed, Some(&own));
        match expected {
            None => {
                let opened = ClientKey::from_pkcs8(&opened.unwrap()).unwrap();
                assert_eq!(opened.public_key(), ClientKey::from_pkcs8(&key).unwrap().public_key());
            }
            Some(fault) => assert_eq!(opened, Err(fault), "{more:?}"),
        }
    }
}

#[test]
fn a_file_that_asks_for_years_of_work_is_refused_at_once() {
    let own = passphrase("correct horse battery");
    let iv = [0; 16];
    for iterations in [0, 1, 999, 10_000_001, 100_000_000] {
        let encryption_algorithm =
            Parameters::generate_pbkdf2_sha256_aes256cbc(iterations, &[7; 16], iv).unwrap().into();
        let info = EncryptedPrivateKeyInfo {
            encryption_algorithm,
            encrypted_data: OctetStringRef::new(&[0; 32]).unwrap(),
        };
        let text = pem::encode(&pem::Pem::new(SEALED, info.to_der().unwrap()));
        assert_eq!(open(text.as_bytes(), Some(&own)), Err(SealFault::Iterations(iterations)));
    }
}

#[test]
fn what_is_cut_or_changed_is_refused() {
    let own = passphrase("correct horse battery");
    let sealed = to_pem(&key(), Some(&own)).unwrap();
    let der = pem::parse(sealed.as_bytes()).unwrap().into_contents();
    let again = |der: &[u8]| open(pem::encode(&pem::Pem::new(SEALED, der)).as_bytes(), Some(&own));
    for len in [0, 1, 10, der.len() / 2, der.len() - 1] {
        assert!(again(&der[..len]).is_err(), "{len}");
    }
    let mut longer = der.clone();
    longer.push(0);
    assert_eq!(again(&longer), Err(SealFault::Scheme));
    let text = pem::encode(&pem::Pem::new("EC PRIVATE KEY", der));
    assert_eq!(open(text.as_bytes(), Some(&own)), Err(SealFault::NotPem));
    assert_eq!(open(b"", None), Err(SealFault::NotPem));
}

#[test]
fn a_passphrase_is_not_shown_and_has_a_length() {
    assert_eq!(format!("{:?}", passphrase("secret")), "Passphrase");
    for len in [0, PASSPHRASE_LEN_MAX + 1] {
        assert!(Passphrase::new(Zeroizing::new(vec![b'x'; len])).is_err());
    }
}
