use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::Ordering;

use rustls::pki_types::{CertificateDer, UnixTime};

use super::super::tests::{NOW, issuer_with, order, profile};
use super::*;
use crate::domain::certificate::{AuthorityKind, Serial};
use crate::domain::id::{Epoch, Ordinal, Seq};
use crate::domain::revocation::RevocationReason;
use crate::x509::bundle::certificate_pem;
use crate::x509::template::Template;
use crate::x509::{Curve, ReasonCode};

fn openssl(arguments: &[&str]) -> Output {
    Command::new("openssl").args(arguments).output().expect("openssl must be installed")
}

fn number(seq: u64, signature: u64) -> CrlNumber {
    CrlNumber::new(Epoch(1), signature, Seq(seq)).unwrap()
}

fn entry(serial: Serial, reason: ReasonCode) -> CrlEntry {
    CrlEntry { serial, at: Timestamp::from_millis(1_782_561_000_000), reason }
}

fn list(address: &str, entries: Vec<CrlEntry>) -> ListOrder {
    let (this_update, next_update) =
        (backdated(NOW), Timestamp::from_millis(NOW.seconds() * 1_000).plus_ms(3_600_000));
    ListOrder {
        address: Some(address.to_owned()),
        number: number(40_812, 7),
        this_update,
        next_update,
        entries,
    }
}

fn address(issuer: &Issuer) -> String {
    profile().crl_address(&issuer.authority().id(), Ordinal(1)).unwrap()
}

fn serial(seed: u64) -> Serial {
    Serial::from_random([seed.to_be_bytes(), seed.to_be_bytes()].concat().try_into().unwrap())
}

#[test]
fn numbers_rise_by_signature_and_epoch_and_fit_20_octets() {
    let at = |epoch, signature, seq| CrlNumber::new(Epoch(epoch), signature, Seq(seq)).unwrap();
    let rising = [
        at(0, 0, 0),
        at(1, 1, 0),
        at(1, 1, 1),
        at(1, 1, u64::MAX),
        at(1, 2, 0),
        at(1, u64::MAX, 9),
        at(2, 0, 0),
        at(0x7fff_ffff, u64::MAX, u64::MAX),
    ];
    assert!(rising.is_sorted_by(|a, b| a < b));
    // As integers too: the same length, and never negative.
    assert!(rising.iter().all(|number| number.as_bytes()[0] < 0x80));
    assert_eq!(CrlNumber::new(Epoch(0x8000_0000), 1, Seq(1)), None);
    assert_eq!(CrlNumber::new(Epoch(u64::MAX), 1, Seq(1)), None);
}

#[test]
fn openssl_reads_what_was_meant_and_verifies_it() {
    for curve in Curve::ALL {
        let (issuer, signer) = issuer_with(AuthorityKind::Access, curve, None);
        let entries = [
            ReasonCode::Unspecified,
            ReasonCode::KeyCompromise,
            ReasonCode::CaCompromise,
            ReasonCode::AffiliationChanged,
            ReasonCode::Superseded,
            ReasonCode::CessationOfOperation,
            ReasonCode::CertificateHold,
            ReasonCode::PrivilegeWithdrawn,
        ];
        let entries: Vec<_> =
            entries.iter().zip(1..).map(|(reason, at)| entry(serial(at), *reason)).collect();
        let signed = issuer.sign_list(list(&address(&issuer), entries)).unwrap();
        assert_eq!(signer.signed.load(Ordering::SeqCst), 1);
        let dir = tempfile::tempdir().unwrap();
        let (der, ca) = (dir.path().join("list.crl"), dir.path().join("ca.pem"));
        std::fs::write(&der, &signed.der).unwrap();
        std::fs::write(&ca, certificate_pem(issuer.authority().der())).unwrap();
        let (der, ca) = (der.to_str().unwrap(), ca.to_str().unwrap());
        let read = openssl(&["crl", "-inform", "DER", "-in", der, "-CAfile", ca, "-text", "-noout"]);
        let text = String::from_utf8(read.stdout).unwrap();
        let said = String::from_utf8(read.stderr).unwrap();
        assert!(said.contains("verify OK"), "{said}");
        for expected in [
            "Version 2 (0x1)",
            &format!("Issuer: OU = ACCESS, CN = {}", issuer.authority().id()),
            "Last Update: Jun 27 11:59:00 2026 GMT",
            "Next Update: Jun 27 13:00:00 2026 GMT",
            "X509v3 Issuing Distribution Point: critical",
            "Only User Certificates",
            &format!("URI:{}", address(&issuer)),
            "X509v3 CRL Number: \n                0x0100000000000000070000000000009F6C",
            "Revocation Date: Jun 27 11:50:00 2026 GMT",
            "Key Compromise",
            "CA Compromise",
            "Affiliation Changed",
            "Superseded",
            "Cessation Of Operation",
            "Certificate Hold",
            "Privilege Withdrawn",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert_eq!(text.matches("Serial Number:").count(), 8);
        assert_eq!(text.matches("CRL Reason Code").count(), 7, "unspecified is absent (RFC 5280 5.3.1)");
        assert_eq!(text.matches("critical").count(), 1);
    }
}

/// Does openssl accept the leaf under this list?
fn accepts(issuer: &Issuer, leaf: &[u8], list: &[u8]) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ca = file("ca.pem", certificate_pem(issuer.authority().der()).as_bytes());
    let leaf = file("leaf.pem", certificate_pem(leaf).as_bytes());
    let list = file("list.der", list);
    let pem = Path::new(&list).with_extension("pem");
    let pem = pem.to_str().unwrap();
    assert!(openssl(&["crl", "-inform", "DER", "-in", &list, "-out", pem]).status.success());
    let at = NOW.seconds().to_string();
    let verify = ["verify", "-x509_strict", "-crl_check", "-attime", &at];
    let output = Command::new("openssl").args(verify).args(["-CAfile", &ca, "-CRLfile", pem, &leaf]).output();
    let output = output.expect("openssl must be installed");
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// What webpki, the verifier behind rustls, makes of the leaf under this list.
fn webpki_accepts(issuer: &Issuer, leaf: &[u8], list: &[u8]) -> Result<(), webpki::Error> {
    let (leaf, anchor) = (CertificateDer::from(leaf), CertificateDer::from(issuer.authority().der()));
    let anchors = [webpki::anchor_from_trusted_cert(&anchor).unwrap()];
    let list = webpki::BorrowedCertRevocationList::from_der(list).unwrap().to_owned().unwrap().into();
    let lists = [&list];
    let options = webpki::RevocationOptionsBuilder::new(&lists).unwrap();
    let options = options.with_expiration_policy(webpki::ExpirationPolicy::Enforce).build();
    let end_entity = webpki::EndEntityCert::try_from(&leaf).unwrap();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.seconds().unsigned_abs()));
    let (algorithms, usage) = ([webpki::aws_lc_rs::ECDSA_P256_SHA256], webpki::KeyUsage::client_auth());
    end_entity.verify_for_usage(&algorithms, &anchors, &[], at, usage, Some(options), None).map(|_| ())
}

#[test]
fn webpki_agrees() {
    let (issuer, _) = issuer_with(AuthorityKind::Access, Curve::P256, None);
    let order = order();
    let leaf = issuer.sign(issuer.prepare(&order, NOW).unwrap()).unwrap().der;
    let sign = |address: &str, entries| issuer.sign_list(list(address, entries)).unwrap().der;
    let own = address(&issuer);
    let reason = ReasonCode::KeyCompromise;
    assert_eq!(webpki_accepts(&issuer, &leaf, &sign(&own, vec![entry(serial(9), reason)])), Ok(()));
    let listed = sign(&own, vec![entry(order.content.serial, reason)]);
    assert_eq!(webpki_accepts(&issuer, &leaf, &listed), Err(webpki::Error::CertRevoked));
    let shard = profile().crl_address(&issuer.authority().id(), Ordinal(10_000)).unwrap();
    let of_another = sign(&shard, vec![]);
    assert_eq!(webpki_accepts(&issuer, &leaf, &of_another), Err(webpki::Error::UnknownRevocationStatus));
}

#[test]
fn openssl_refuses_what_is_listed_and_a_list_of_another_shard() {
    let (issuer, _) = issuer_with(AuthorityKind::Access, Curve::P256, None);
    let order = order();
    let serial = order.content.serial;
    let leaf = issuer.sign(issuer.prepare(&order, NOW).unwrap()).unwrap().der;
    let list = |address: String, entries| issuer.sign_list(list(&address, entries)).unwrap().der;
    let other = super::tests::serial(9);
    let reason = ReasonCode::PrivilegeWithdrawn;
    assert_eq!(accepts(&issuer, &leaf, &list(address(&issuer), vec![])), Ok(()));
    assert_eq!(accepts(&issuer, &leaf, &list(address(&issuer), vec![entry(other, reason)])), Ok(()));
    for reason in [reason, ReasonCode::CertificateHold] {
        let refused = accepts(&issuer, &leaf, &list(address(&issuer), vec![entry(serial, reason)]));
        assert!(refused.as_ref().is_err_and(|why| why.contains("certificate revoked")), "{refused:?}");
    }
    let shard = profile().crl_address(&issuer.authority().id(), Ordinal(10_000)).unwrap();
    let refused = accepts(&issuer, &leaf, &list(shard, vec![]));
    assert!(refused.as_ref().is_err_and(|why| why.contains("different CRL scope")), "{refused:?}");
}

#[test]
fn a_full_shard_is_signed_and_more_is_refused() {
    let (issuer, signer) = issuer_with(AuthorityKind::Access, Curve::P256, None);
    let before = signer.signed.load(Ordering::SeqCst);
    let full: Vec<_> = (0..10_000).map(|seed| entry(serial(seed), ReasonCode::PrivilegeWithdrawn)).collect();
    let mut more = full.clone();
    more.push(entry(serial(10_000), ReasonCode::Superseded));
    let error = issuer.sign_list(list(&address(&issuer), more)).unwrap_err();
    assert_eq!(error, ListFault::TooMany);
    assert_eq!(signer.signed.load(Ordering::SeqCst), before, "the key is not touched for a wrong list");
    let signed = issuer.sign_list(list(&address(&issuer), full)).unwrap();
    assert!(signed.der.len() > 65_536 && signed.der.len() < 600_000, "{}", signed.der.len());
    let (tbs, signature) = halves(&signed.der).unwrap();
    assert!(issuer.authority().verifies(Curve::P256, tbs, signature));
}

#[test]
fn the_lint_finds_each_difference() {
    let (issuer, _) = issuer_with(AuthorityKind::Access, Curve::P256, None);
    let content = CrlContent {
        address: Some(address(&issuer)),
        number: number(5, 0),
        this_update: Timestamp::from_millis(1_782_561_540_000),
        next_update: Timestamp::from_millis(1_782_565_200_000),
        entries: vec![entry(serial(1), ReasonCode::KeyCompromise)],
    };
    let template = Template::new(issuer.authority().clone(), profile());
    let draft = template.list(&content).unwrap();
    assert_eq!(lint_list(draft.der(), issuer.authority(), &content), Ok(()));
    let fault = |edit: &dyn Fn(&mut CrlContent)| {
        let mut other = content.clone();
        edit(&mut other);
        lint_list(draft.der(), issuer.authority(), &other).unwrap_err().to_string()
    };
    let address = fault(&|c| c.address.iter_mut().for_each(|address| address.push('x')));
    assert_eq!(
        address,
        "refused by the lint: record_list (profile): the address is not the one that was meant"
    );
    assert!(fault(&|c| c.number = number(6, 0)).ends_with("number is not the one that was meant"));
    assert!(
        fault(&|c| c.this_update = c.this_update.plus_ms(1000))
            .ends_with("dates are not those that were meant")
    );
    assert!(
        fault(&|c| c.next_update = c.next_update.plus_ms(1000))
            .ends_with("dates are not those that were meant")
    );
    assert!(fault(&|c| c.entries.clear()).ends_with("entries are not as many as were meant"));
    for edit in [
        (|entry| entry.serial = serial(2)) as fn(&mut CrlEntry),
        |entry| entry.at = entry.at.plus_ms(1000),
        |entry| entry.reason = ReasonCode::CertificateHold,
        |entry| entry.reason = ReasonCode::Unspecified,
    ] {
        assert!(fault(&|c| edit(&mut c.entries[0])).ends_with("an entry is not the one that was meant"));
    }
    let (system, _) = issuer_with(AuthorityKind::System, Curve::P256, None);
    assert!(
        lint_list(draft.der(), system.authority(), &content).unwrap_err().to_string().contains("list_issuer")
    );
    let uneven = CrlContent { next_update: content.this_update, ..content };
    assert_eq!(template.list(&uneven).unwrap_err(), TemplateFault::Validity);
}

#[test]
fn a_list_that_the_key_did_not_sign_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let other = crate::ca::FileSigner::create(
        &dir.path().join("other.key"),
        crate::ca::SignatureAlgorithm::Ecdsa(Curve::P256),
    );
    let wrong = crate::ca::Signer::sign(&other.unwrap(), b"something else").unwrap();
    for (answer, expected) in
        [(Ok(wrong), ListFault::Differs), (Err(SignFault::Failed), ListFault::Sign(SignFault::Failed))]
    {
        let (issuer, _) = issuer_with(AuthorityKind::Access, Curve::P256, Some(answer));
        let refused = issuer.sign_list(list(&address(&issuer), vec![])).unwrap_err();
        assert_eq!(refused, expected);
    }
}

#[test]
fn every_reason_has_its_code() {
    for reason in RevocationReason::ALL {
        let code = ReasonCode::from(*reason);
        assert_ne!(code, ReasonCode::CertificateHold, "{reason}: a revocation is no hold");
    }
    for (reason, code) in [
        (RevocationReason::KeyCompromise, ReasonCode::KeyCompromise),
        (RevocationReason::CaCompromise, ReasonCode::CaCompromise),
        (RevocationReason::AffiliationEnded, ReasonCode::AffiliationChanged),
        (RevocationReason::Superseded, ReasonCode::Superseded),
        (RevocationReason::ScreeningHit, ReasonCode::PrivilegeWithdrawn),
        (RevocationReason::Drill, ReasonCode::Unspecified),
    ] {
        assert_eq!(ReasonCode::from(reason), code, "{reason}");
    }
}
