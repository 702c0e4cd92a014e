//! What others make of our certificates: openssl and webpki. The openssl binary must be present.

use std::process::Command;

use rustls::pki_types::{CertificateDer, UnixTime};

use super::*;
use crate::x509::bundle::certificate_pem;
use crate::x509::explain::{Standing, explain};
use crate::x509::{AuthorityFault, BundleFault};

/// Runs openssl and gives what it printed.
pub(super) fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().expect("openssl must be installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
    output.stdout
}

/// A request with a new key, DER.
pub(super) fn request(arguments: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.pem");
    let mut all = vec!["req", "-new", "-nodes", "-outform", "DER", "-keyout", key.to_str().unwrap()];
    all.extend(arguments);
    if !arguments.contains(&"-subj") {
        all.extend(["-subj", "/"]);
    }
    openssl(&all)
}

fn access_content() -> Content {
    content(Facts::Access(human()))
}

/// Does openssl accept the leaf for this purpose at this time under this bundle file?
fn openssl_accepts(der: &[u8], bundle: &TrustBundle, purpose: &str, at: Timestamp) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (leaf, anchors) = (dir.path().join("leaf.pem"), dir.path().join("bundle.pem"));
    std::fs::write(&leaf, certificate_pem(der)).unwrap();
    std::fs::write(&anchors, bundle.to_pem()).unwrap();
    let at = at.seconds().to_string();
    Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", purpose, "-attime", &at, "-CAfile"])
        .args([&anchors, &leaf])
        .output()
        .expect("openssl must be installed")
        .status
        .success()
}

#[test]
fn openssl_verifies_every_leaf_under_the_bundle_file_as_it_is() {
    for curve in Curve::ALL {
        let access = Workshop::new(AuthorityKind::Access, curve, 1);
        let system_authority = Workshop::new(AuthorityKind::System, curve, 2);
        let bundle =
            TrustBundle::new(vec![access.authority.clone(), system_authority.authority.clone()]).unwrap();
        for (content, der) in every_leaf(&access, &system_authority) {
            let purpose = if content.names.is_empty() { "sslclient" } else { "sslserver" };
            let other = if content.names.is_empty() { "sslserver" } else { "sslclient" };
            assert!(openssl_accepts(&der, &bundle, purpose, NOW));
            assert!(!openssl_accepts(&der, &bundle, other, NOW));
            assert!(!openssl_accepts(&der, &bundle, purpose, content.not_after.plus_ms(2000)));
            assert!(!openssl_accepts(&der, &Workshop::access().bundle(), purpose, NOW));
        }
    }
}

#[test]
fn openssl_prints_what_was_meant() {
    let shop = Workshop::access();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leaf.der");
    std::fs::write(&path, shop.leaf(&access_content())).unwrap();
    let path = path.to_str().unwrap();
    let text =
        String::from_utf8(openssl(&["x509", "-inform", "DER", "-in", path, "-noout", "-text"])).unwrap();
    for expected in [
        "Version: 3 (0x2)",
        "Signature Algorithm: ecdsa-with-SHA256",
        "Not Before: Jun 27 11:59:00 2026 GMT",
        "Not After : Jun 28 12:00:00 2026 GMT",
        "X509v3 Key Usage: critical\n                Digital Signature",
        "TLS Web Client Authentication",
        &format!("URI:{}", profile().spiffe_id(&access_content().facts)),
        &format!("URI:http://crl.example/v1/{}/4.crl", shop.authority.id()),
        &format!("Subject: CN = {}", human().subject),
        &format!("Issuer: OU = ACCESS, CN = {}", shop.authority.id()),
        "1.3.6.1.4.1.32473.1.13: \n",
        "fable-5,mythos-5",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert_eq!(text.matches("critical").count(), 1);
    assert_eq!(text.matches("1.3.6.1.4.1.32473.1.").count(), 13);
    assert!(!text.contains("Basic Constraints") && !text.contains("Subject Key Identifier"));
    let other = dir.path().join("authority.der");
    std::fs::write(&other, shop.authority.der()).unwrap();
    let other = other.to_str().unwrap();
    let text =
        String::from_utf8(openssl(&["x509", "-inform", "DER", "-in", other, "-noout", "-text"])).unwrap();
    for expected in [
        "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign",
        "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0",
        "X509v3 Subject Key Identifier",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(!text.contains("Name Constraints"));
}

#[test]
fn rustls_webpki_accepts_a_leaf_for_client_authentication() {
    let shop = Workshop::access();
    let leaf = CertificateDer::from(shop.leaf(&access_content()));
    let anchor_der = CertificateDer::from(shop.authority.der());
    let anchors = [webpki::anchor_from_trusted_cert(&anchor_der).unwrap()];
    let algorithms = [webpki::aws_lc_rs::ECDSA_P256_SHA256];
    let end_entity = webpki::EndEntityCert::try_from(&leaf).unwrap();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.seconds().unsigned_abs()));
    let verify =
        |usage| end_entity.verify_for_usage(&algorithms, &anchors, &[], at, usage, None, None).map(|_| ());
    assert_eq!(verify(webpki::KeyUsage::client_auth()), Ok(()));
    assert!(verify(webpki::KeyUsage::server_auth()).is_err());

    let system_authority = Workshop::system();
    let leaf = CertificateDer::from(system_authority.leaf(&system(PrincipalKind::Server)));
    let anchor_der = CertificateDer::from(system_authority.authority.der());
    let anchors = [webpki::anchor_from_trusted_cert(&anchor_der).unwrap()];
    let end_entity = webpki::EndEntityCert::try_from(&leaf).unwrap();
    let usage = webpki::KeyUsage::server_auth();
    end_entity.verify_for_usage(&algorithms, &anchors, &[], at, usage, None, None).unwrap();
    for name in ["countersign.example", "127.0.0.1", "::1"] {
        let name = rustls::pki_types::ServerName::try_from(name).unwrap();
        end_entity.verify_is_valid_for_subject_name(&name).unwrap();
    }
}

#[test]
fn a_bundle_reads_back_and_refuses_what_is_not_an_authority() {
    let (access, system_authority) = (Workshop::access(), Workshop::system());
    let bundle =
        TrustBundle::new(vec![system_authority.authority.clone(), access.authority.clone()]).unwrap();
    let text = bundle.to_pem();
    let again = TrustBundle::from_pem(&text).unwrap();
    assert_eq!(again, bundle);
    assert_eq!(again.to_pem(), text);
    assert_eq!(again.digest(), bundle.digest());
    assert_eq!(again.find(access.authority.id()).unwrap().kind(), AuthorityKind::Access);
    assert_eq!(again.find(system_authority.authority.id()).unwrap().kind(), AuthorityKind::System);
    assert_eq!(again.find(AuthorityId::from_bytes([0; 16])), None);

    let leaf = certificate_pem(&access.leaf(&access_content()));
    assert!(matches!(TrustBundle::from_pem(&leaf), Err(BundleFault::Authority { index: 0, .. })));
    assert_eq!(TrustBundle::from_pem("").unwrap_err(), BundleFault::Empty);
    assert_eq!(TrustBundle::from_pem(&"#".repeat(600_000)).unwrap_err(), BundleFault::TooLarge);
    let twice = format!("{text}{text}");
    assert!(matches!(TrustBundle::from_pem(&twice), Err(BundleFault::Duplicate(_))));
    let key = ClientKey::generate(Curve::P256).unwrap().to_pem();
    assert_eq!(
        TrustBundle::from_pem(&format!("{text}{key}")).unwrap_err(),
        BundleFault::WrongBlock { index: 2 }
    );
    assert_eq!(
        TrustBundle::from_pem(&text.replacen("-----END", "-----FIN", 1)).unwrap_err(),
        BundleFault::NotPem
    );
    assert_eq!(TrustBundle::from_pem(&text.replacen("MII", "!!!", 1)).unwrap_err(), BundleFault::NotPem);

    let mut changed = access.authority.der().to_vec();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert_eq!(Authority::from_der(&changed).unwrap_err(), AuthorityFault::Signature);
}

#[test]
fn dates_from_2050_on_are_generalized_time() {
    let shop = Workshop::access();
    let content = AuthorityContent {
        id: shop.authority.id(),
        kind: AuthorityKind::Access,
        serial: shop.authority.serial(),
        not_before: "2049-12-31T23:59:59Z".parse().unwrap(),
        not_after: "2050-01-01T00:00:00Z".parse().unwrap(),
    };
    let der = shop.sign(authority_draft(shop.authority.key(), &content).unwrap().tbs());
    assert!(der.windows(15).any(|window| window == b"\x17\x0d491231235959Z"));
    assert!(der.windows(17).any(|window| window == b"\x18\x0f20500101000000Z"));
    let authority = Authority::from_der(&der).unwrap();
    assert_eq!((authority.not_before(), authority.not_after()), (content.not_before, content.not_after));
}

#[test]
fn every_flipped_bit_of_an_authority_is_refused() {
    let der = Workshop::access().authority.der().to_vec();
    for bit in 0..der.len() * 8 {
        let mut bent = der.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(Authority::from_der(&bent).is_err(), "bit {bit}");
    }
}

#[test]
fn a_certificate_is_explained_in_words() {
    let (access, system_authority) = (Workshop::access(), Workshop::system());
    let der = access.leaf(&access_content());
    let from_der = explain(&der, &profile()).unwrap();
    assert_eq!(explain(certificate_pem(&der).as_bytes(), &profile()).unwrap(), from_der);
    assert_eq!(from_der.standing, Standing::Leaf(AuthorityKind::Access));
    for attribute in Attribute::ALL {
        let label = format!(".1.{} {}", attribute.number(), attribute.name());
        assert!(from_der.lines.iter().any(|line| line.label == label && line.meaning == attribute.meaning()));
    }
    let text = from_der.to_text();
    assert!(text.contains("FOREIGN_PERSON") && text.contains("2026-06-28T12:00:00Z"));
    assert!(from_der.to_json().starts_with("[{\"label\":\"certificate\",\"value\":\"leaf v1 of an access"));

    let leaf = system_authority.leaf(&system(PrincipalKind::Server));
    let server = explain(&leaf, &profile()).unwrap();
    assert_eq!(server.standing, Standing::Leaf(AuthorityKind::System));
    assert!(server.to_text().contains("DNS countersign.example") && server.to_text().contains("IP ::1"));
    let authority = explain(access.authority.der(), &profile()).unwrap();
    assert_eq!(authority.standing, Standing::Authority(AuthorityKind::Access));
    assert!(authority.to_text().contains("CA true, path length 0"));
}

#[test]
fn a_foreign_certificate_is_called_foreign() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.pem");
    let pem = openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        key.to_str().unwrap(),
        "-subj",
        "/CN=evil\u{1b}[2J/O=Elsewhere",
        "-utf8",
        "-addext",
        "subjectAltName=DNS:a.example,email:a@b.example",
    ]);
    let explanation = explain(&pem, &profile()).unwrap();
    assert!(matches!(explanation.standing, Standing::Foreign(_)));
    let text = explanation.to_text();
    assert!(text.contains("NOT a certificate of this service") && text.contains("RSA keys are not accepted"));
    assert!(!text.contains('\u{1b}'), "a stranger's name must not drive the terminal");
    assert!(explain(b"hello", &profile()).is_err());
    assert!(explain(b"", &profile()).is_err());
    assert!(explain(&vec![0x30; 70_000], &profile()).is_err());
}
