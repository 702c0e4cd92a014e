use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::bootstrap::{BootstrapFault, NewAuthority, ServerLeafFault, authority, server_leaf};
use super::lifetime::{Ttl, validity};
use super::*;
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::certificate::*;
use crate::domain::entity::EntityClass;
use crate::domain::flow::LimitKind;
use crate::domain::id::*;
use crate::x509::chain::{check_validity, read};
use crate::x509::lint::LintFault;
use crate::x509::sealed::{Passphrase, SealFault};
use crate::x509::{Arc as OidArc, ClientKey, ServerName, TrustBundle};

/// 2026-06-27T12:00:00.789Z.
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_782_561_600_789);

pub(super) fn profile() -> Profile {
    let base = "http://crl.example/v1".parse().unwrap();
    Profile::new("countersign.example".parse().unwrap(), OidArc::default(), Some(base))
}

fn new_authority(kind: AuthorityKind) -> NewAuthority {
    NewAuthority {
        id: AuthorityId::from_parts(NOW, [u8::from(kind == AuthorityKind::System); 16]),
        kind,
        serial: Serial::from_random([7; 16]),
        not_after: NOW.plus_ms(365 * 86_400_000),
    }
}

/// Counts what it signs, and can be told to fail or to lie.
pub(super) struct WatchedSigner {
    inner: FileSigner,
    pub(super) signed: AtomicUsize,
    answer: Option<Result<Vec<u8>, SignFault>>,
}

impl Signer for WatchedSigner {
    fn public_key(&self) -> &[u8] {
        self.inner.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        self.signed.fetch_add(1, Ordering::SeqCst);
        self.answer.clone().unwrap_or_else(|| self.inner.sign(message))
    }
}

fn key_path(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("authority.key")
}

pub(super) fn issuer_with(
    kind: AuthorityKind,
    curve: Curve,
    answer: Option<Result<Vec<u8>, SignFault>>,
) -> (Issuer, Arc<WatchedSigner>) {
    let dir = tempfile::tempdir().unwrap();
    let inner = FileSigner::create(&key_path(&dir), SignatureAlgorithm::Ecdsa(curve)).unwrap();
    let authority = authority(&inner, &new_authority(kind), AlgorithmProfile::Standard, NOW).unwrap();
    let signer = Arc::new(WatchedSigner { inner, signed: AtomicUsize::new(0), answer });
    let issuer = Issuer::new(authority, profile(), Arc::<WatchedSigner>::clone(&signer)).unwrap();
    (issuer, signer)
}

pub(super) fn order() -> Order {
    let key = ClientKey::generate(Curve::P256).unwrap();
    let limits = [(LimitKind::Issuer, NOW.plus_ms(365 * 86_400_000))];
    let life = validity(NOW, Ttl::default(), &limits, [3; 8]).unwrap();
    Order {
        content: Content {
            serial: Serial::from_random([8; 16]),
            ordinal: Ordinal(1),
            not_before: life.not_before,
            not_after: life.not_after,
            facts: Facts::Access(AccessFacts {
                subject: SubjectId::from_parts(NOW, [1; 16]),
                entity: EntityFacts {
                    entity: EntityId::from_parts(NOW, [2; 16]),
                    class: EntityClass::Unlisted,
                    annex_revision: None,
                    determination: None,
                },
                person: None,
                models: vec!["mythos-5".parse().unwrap()],
                step: LineageStep { lineage: LineageId::from_parts(NOW, [3; 16]), generation: 1 },
            }),
            names: Vec::new(),
        },
        key: RequestedKey::from_csr(&key.request().unwrap()).unwrap(),
    }
}

fn server_content() -> Content {
    let facts = SystemFacts { kind: PrincipalKind::Server, principal: "countersign-1".parse().unwrap() };
    let names = vec![ServerName::dns("localhost").unwrap(), ServerName::Ip("127.0.0.1".parse().unwrap())];
    Content { facts: Facts::System(facts), names, ..order().content }
}

#[test]
fn under_cnsa_an_authority_is_p384() {
    let folder = tempfile::tempdir().unwrap();
    for (name, curve) in [("p256", Curve::P256), ("p384", Curve::P384)] {
        let signer = FileSigner::create(&folder.path().join(name), SignatureAlgorithm::Ecdsa(curve)).unwrap();
        let made = authority(&signer, &new_authority(AuthorityKind::System), AlgorithmProfile::Cnsa, NOW);
        match curve {
            Curve::P256 => assert!(matches!(made, Err(BootstrapFault::Lint(_))), "{made:?}"),
            Curve::P384 => assert_eq!(made.unwrap().key().curve(), curve),
        }
    }
}

#[test]
fn what_is_prepared_is_signed_once_and_verifies() {
    for curve in Curve::ALL {
        let (issuer, signer) = issuer_with(AuthorityKind::Access, curve, None);
        let order = order();
        let prepared = issuer.prepare(&order, NOW).unwrap();
        assert_eq!(signer.signed.load(Ordering::SeqCst), 0, "the key is not touched before signing");
        assert_eq!(prepared.serial(), order.content.serial);
        assert_eq!(prepared.ordinal(), order.content.ordinal);
        assert_eq!(*prepared.facts(), order.content.facts);
        assert_eq!(prepared.key(), order.key.key().digest());
        let tbs = prepared.tbs().to_vec();
        let issued = issuer.sign(prepared).unwrap();
        assert_eq!(signer.signed.load(Ordering::SeqCst), 1);
        assert_eq!(issued.tbs, tbs);
        assert_eq!(assemble(&issued.tbs, curve, &issued.signature), issued.der);
        assert_eq!(issued.hash, Digest::of(&issued.der));

        let bundle = TrustBundle::new(vec![issuer.authority().clone()]).unwrap();
        let certificate = read(&issued.der, &profile(), &bundle).unwrap();
        assert_eq!(certificate.facts, order.content.facts);
        assert_eq!(certificate.hash, issued.hash);
        assert_eq!(check_validity(&certificate, NOW), Ok(()));
    }
}

#[test]
fn nothing_wrong_reaches_the_key() {
    let (issuer, signer) = issuer_with(AuthorityKind::Access, Curve::P256, None);
    let fault = |edit: &dyn Fn(&mut Content)| {
        let mut order = order();
        edit(&mut order.content);
        issuer.prepare(&order, NOW).unwrap_err()
    };
    assert_eq!(
        fault(&|c| c.facts = server_content().facts),
        PrepareFault::Template(TemplateFault::AuthorityKind)
    );
    let broken = |edit: &dyn Fn(&mut Content)| match fault(edit) {
        PrepareFault::Lint(LintFault(findings)) => {
            let ids: Vec<_> = findings.iter().map(|finding| finding.rule.id).collect();
            ids.join(" ")
        }
        other => panic!("{other}"),
    };
    assert_eq!(broken(&|c| c.not_before = NOW.plus_ms(211)), "record_backdated");
    let early = broken(&|c| c.not_before = c.not_before.plus_ms(-1000));
    assert_eq!(early, "issuer_validity record_backdated");
    assert_eq!(broken(&|c| c.not_after = NOW.plus_ms(-789)), "record_backdated");
    assert_eq!(
        broken(&|c| c.not_after = issuer.authority().not_after().plus_ms(1000)),
        "validity_ceiling issuer_validity"
    );
    assert_eq!(broken(&|c| c.not_after = NOW.plus_ms(8 * 86_400_000 - 789)), "validity_ceiling");
    assert_eq!(broken(&|c| c.ordinal = Ordinal(0)), "attribute_value");
    let inconsistent = broken(&|c| {
        let Facts::Access(facts) = &mut c.facts else { unreachable!() };
        facts.entity.annex_revision = Some(1);
    });
    assert_eq!(inconsistent, "attribute_forbidden");
    assert_eq!(signer.signed.load(Ordering::SeqCst), 0);
}

#[test]
fn an_issuer_signs_only_what_it_prepared_with_the_key_it_has() {
    let (first, _) = issuer_with(AuthorityKind::Access, Curve::P256, None);
    let (second, signer) = issuer_with(AuthorityKind::Access, Curve::P256, None);
    let prepared = first.prepare(&order(), NOW).unwrap();
    assert_eq!(second.sign(prepared), Err(IssueFault::WrongAuthority));
    assert_eq!(signer.signed.load(Ordering::SeqCst), 0);
    let wrong = Issuer::new(first.authority().clone(), profile(), signer);
    assert!(matches!(wrong, Err(WrongKey)));
}

#[test]
fn a_signer_that_fails_or_lies_issues_nothing_that_is_accepted() {
    let (failing, _) = issuer_with(AuthorityKind::Access, Curve::P256, Some(Err(SignFault::Failed)));
    let prepared = failing.prepare(&order(), NOW).unwrap();
    assert_eq!(failing.sign(prepared), Err(IssueFault::Sign(SignFault::Failed)));
    let (verbose, _) = issuer_with(AuthorityKind::Access, Curve::P256, Some(Ok(vec![0x30; 4000])));
    let prepared = verbose.prepare(&order(), NOW).unwrap();
    assert_eq!(verbose.sign(prepared), Err(IssueFault::Differs));
    let (lying, _) = issuer_with(AuthorityKind::Access, Curve::P256, Some(Ok(vec![0x30, 0])));
    let issued = lying.sign(lying.prepare(&order(), NOW).unwrap()).unwrap();
    let bundle = TrustBundle::new(vec![lying.authority().clone()]).unwrap();
    assert_eq!(read(&issued.der, &profile(), &bundle), Err(CertificateFault::BadSignature));
}

#[test]
fn authorities_are_made_of_both_kinds_and_curves() {
    let dir = tempfile::tempdir().unwrap();
    for (n, (kind, curve)) in
        [(AuthorityKind::Access, Curve::P256), (AuthorityKind::System, Curve::P384)].into_iter().enumerate()
    {
        let signer =
            FileSigner::create(&dir.path().join(n.to_string()), SignatureAlgorithm::Ecdsa(curve)).unwrap();
        let made = authority(&signer, &new_authority(kind), AlgorithmProfile::Standard, NOW).unwrap();
        assert_eq!((made.id(), made.kind()), (new_authority(kind).id, kind));
        assert_eq!(made.key().spki(), signer.public_key());
        assert_eq!(made.not_before().millis(), 1_782_561_540_000);
        assert_eq!(made.not_after().millis() % 1000, 0);
        for not_after in [NOW, NOW.plus_ms(11 * 366 * 86_400_000)] {
            let new = NewAuthority { not_after, ..new_authority(kind) };
            assert_eq!(
                authority(&signer, &new, AlgorithmProfile::Standard, NOW),
                Err(BootstrapFault::Validity)
            );
        }
    }
    let log = FileSigner::create(&dir.path().join("log"), SignatureAlgorithm::Ed25519).unwrap();
    let refused = authority(&log, &new_authority(AuthorityKind::Access), AlgorithmProfile::Standard, NOW);
    assert_eq!(refused, Err(BootstrapFault::Algorithm));
}

#[test]
fn the_server_gets_its_own_leaf() {
    let (issuer, _) = issuer_with(AuthorityKind::System, Curve::P256, None);
    let key = ClientKey::generate(Curve::P256).unwrap();
    let issued = server_leaf(&issuer, key.public_key().clone(), server_content(), NOW).unwrap();
    let bundle = TrustBundle::new(vec![issuer.authority().clone()]).unwrap();
    assert_eq!(read(&issued.der, &profile(), &bundle).unwrap().facts, server_content().facts);
    let refused = server_leaf(&issuer, key.public_key().clone(), order().content, NOW);
    assert_eq!(refused, Err(ServerLeafFault::NotServer));
}

#[test]
fn a_key_file_is_private_and_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    for (name, algorithm) in [
        ("p256", SignatureAlgorithm::Ecdsa(Curve::P256)),
        ("p384", SignatureAlgorithm::Ecdsa(Curve::P384)),
        ("log", SignatureAlgorithm::Ed25519),
    ] {
        let path = dir.path().join(name);
        let made = FileSigner::create(&path, algorithm).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(matches!(FileSigner::create(&path, algorithm), Err(KeyFileFault::Io(_))));
        let loaded = FileSigner::load(&path).unwrap();
        assert_eq!(loaded.public_key(), made.public_key());
        assert_eq!(loaded.algorithm(), algorithm);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert!(format!("{loaded:?}").len() < 40);
        for mode in [0o640, 0o604, 0o660, 0o700, 0o644, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(FileSigner::load(&path), Err(KeyFileFault::Mode { mode: m }) if m == mode));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(FileSigner::load(&path).is_ok());
    }
    assert!(matches!(FileSigner::load(dir.path()), Err(KeyFileFault::NotFile)));
    assert!(matches!(FileSigner::load(&dir.path().join("none")), Err(KeyFileFault::Io(_))));
}

#[test]
fn an_encrypted_key_file_needs_its_passphrase_and_can_get_another() {
    let passphrase = |text: &str| Passphrase::new(zeroize::Zeroizing::new(text.as_bytes().to_vec())).unwrap();
    let (first, second) = (passphrase("the first passphrase"), passphrase("the second passphrase"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let algorithm = SignatureAlgorithm::Ecdsa(Curve::P384);
    let made = FileSigner::create_with(&path, algorithm, Some(&first)).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    let public = |passphrase| FileSigner::load_with(&path, passphrase).map(|key| key.public_key().to_vec());
    assert_eq!(public(Some(&first)).unwrap(), made.public_key());
    assert!(matches!(public(None), Err(KeyFileFault::Sealed(SealFault::NoPassphrase))));
    assert!(matches!(public(Some(&second)), Err(KeyFileFault::Sealed(SealFault::WrongPassphrase))));
    let wrong = key_file::reseal(&path, Some(&second), &second);
    assert!(matches!(wrong, Err(KeyFileFault::Sealed(SealFault::WrongPassphrase))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "nothing changed");
    // What an interrupted attempt left is in nobody's way.
    std::fs::write(dir.path().join("key.pem.new"), "half").unwrap();
    key_file::reseal(&path, Some(&first), &second).unwrap();
    assert_eq!(public(Some(&second)).unwrap(), made.public_key());
    assert!(matches!(public(Some(&first)), Err(KeyFileFault::Sealed(SealFault::WrongPassphrase))));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_key_in_a_folder_that_others_may_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    FileSigner::create(&path, SignatureAlgorithm::Ed25519).unwrap();
    for (mode, accepted) in [(0o770, false), (0o702, false), (0o755, true), (0o1777, true), (0o500, true)] {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let loaded = FileSigner::load(&path);
        assert_eq!(loaded.is_ok(), accepted, "{mode:o}");
        if let Err(fault) = loaded {
            assert!(matches!(fault, KeyFileFault::Folder { mode: m, .. } if m == mode));
        }
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// Runs openssl; it must be present.
fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().expect("openssl must be installed");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn private(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn keys_of_openssl_load_and_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let name = path.to_str().unwrap();
    for (arguments, accepted) in [
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..], true),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], true),
        (&["-algorithm", "ED25519"], true),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], false),
        (&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], false),
    ] {
        openssl(&[&["genpkey", "-out", name], arguments].concat());
        private(&path);
        let loaded = FileSigner::load(&path);
        assert_eq!(loaded.is_ok(), accepted, "{arguments:?}");
        if let Err(fault) = loaded {
            assert!(matches!(fault, KeyFileFault::UnsupportedKey));
        }
    }
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name]);
    private(&path);
    assert!(
        matches!(FileSigner::load(&path), Err(KeyFileFault::Sealed(SealFault::NotPem))),
        "EC PRIVATE KEY is not PKCS#8"
    );
    std::fs::write(&path, vec![b'x'; 20_000]).unwrap();
    assert!(matches!(FileSigner::load(&path), Err(KeyFileFault::TooLarge)));
    std::fs::write(&path, b"hello").unwrap();
    assert!(matches!(FileSigner::load(&path), Err(KeyFileFault::Sealed(SealFault::NotPem))));
}

#[test]
fn openssl_verifies_a_signature_of_each_algorithm() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(file("message"), b"a head of the log").unwrap();
    for (name, algorithm) in [
        ("p256", SignatureAlgorithm::Ecdsa(Curve::P256)),
        ("p384", SignatureAlgorithm::Ecdsa(Curve::P384)),
        ("log", SignatureAlgorithm::Ed25519),
    ] {
        let signer = FileSigner::create(Path::new(&file(name)), algorithm).unwrap();
        std::fs::write(file("public"), signer.public_key()).unwrap();
        std::fs::write(file("signature"), signer.sign(b"a head of the log").unwrap()).unwrap();
        let hash = match algorithm {
            SignatureAlgorithm::Ecdsa(Curve::P256) => &["-digest", "sha256"][..],
            SignatureAlgorithm::Ecdsa(Curve::P384) => &["-digest", "sha384"],
            SignatureAlgorithm::Ed25519 => &[],
        };
        let (public, signature, message) = (file("public"), file("signature"), file("message"));
        let fixed = ["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", &public];
        let files = ["-sigfile", &signature, "-rawin", "-in", &message];
        openssl(&[&fixed[..], &files[..], hash].concat());
    }
}
