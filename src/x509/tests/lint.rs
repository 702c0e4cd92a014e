//! Each rule of the lint has a certificate that passes it and one that fails it; a rule without one fails the test.

use std::collections::BTreeSet;

use rcgen::{CustomExtension, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType, SerialNumber};

use super::*;
use crate::domain::algorithm::AlgorithmProfile;
use crate::x509::der::{BIT_STRING, INTEGER, OID, SEQUENCE, SET, UTF8_STRING, element, only};
use crate::x509::extension;
use crate::x509::lint::{Intent, Kind, LintFault, RULES, Report, Severity, examine, lint, lint_authority};

/// The rules that a certificate breaks.
pub(super) type Broken = Vec<&'static str>;

pub(super) fn broken(report: &Report) -> Broken {
    report.findings.iter().map(|finding| finding.rule.id).collect()
}

fn person() -> Content {
    content(Facts::Access(human()))
}

fn machine() -> Content {
    content(Facts::Access(workload()))
}

/// What a leaf breaks under cnsa whose key is on one curve and whose authority's is on the other.
fn under_cnsa(own: Curve, issuing: Curve) -> Broken {
    let shop = Workshop::new(AuthorityKind::Access, issuing, 1);
    let key = ClientKey::generate(own).unwrap();
    let tbs = shop.template.draft(key.public_key(), &person()).unwrap().into_tbs();
    let profile = profile().with_algorithms(AlgorithmProfile::Cnsa);
    broken(&examine(&shop.sign(&tbs), &profile, Some(shop.authority.certificate())))
}

/// The profiles that an authority with a key on this curve passes under.
fn profiles_of(curve: Curve) -> &'static [AlgorithmProfile] {
    match curve {
        Curve::P256 => &[AlgorithmProfile::Standard],
        Curve::P384 => AlgorithmProfile::ALL,
    }
}

fn judged(der: &[u8], shop: &Workshop) -> Broken {
    broken(&examine(der, &profile(), Some(shop.authority.certificate())))
}

/// What the leaf of a person breaks that was bent before it was written.
fn bent(bend: impl FnOnce(&mut rcgen::CertificateParams)) -> Broken {
    bent_of(&person(), bend)
}

fn bent_of(content: &Content, bend: impl FnOnce(&mut rcgen::CertificateParams)) -> Broken {
    let shop = Workshop::access();
    judged(&shop.bent(content, bend), &shop)
}

/// A signed part with some of its fields replaced.
pub(super) fn rebuilt(tbs: &[u8], rebuild: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let mut fields = Vec::new();
    let mut reader = only(tbs, SEQUENCE).unwrap().inside();
    while !reader.is_empty() {
        fields.push(reader.any().unwrap().raw.to_vec());
    }
    rebuild(&mut fields);
    element(SEQUENCE, &fields.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// What the leaf of a person breaks whose fields were replaced: 0 version, 1 serial, 2 algorithm, 3 issuer,
/// 4 validity, 5 subject, 6 key, 7 extensions.
fn rebuilt_leaf(rebuild: impl FnOnce(&mut Vec<Vec<u8>>)) -> Broken {
    let shop = Workshop::access();
    let tbs = shop.template.draft(&key(), &person()).unwrap().into_tbs();
    judged(&shop.sign(&rebuilt(&tbs, rebuild)), &shop)
}

fn with_key(spki: Vec<u8>) -> Broken {
    rebuilt_leaf(|fields| fields[6] = spki)
}

fn key_of(kind: &[u8], parameters: &[u8], bits: &[u8]) -> Vec<u8> {
    let algorithm = element(SEQUENCE, &[&element(OID, &[kind]), parameters]);
    element(SEQUENCE, &[&algorithm, &element(BIT_STRING, &[&[0], bits])])
}

const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const SECP256K1: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];

fn rsa(bits: usize) -> Vec<u8> {
    let modulus = element(INTEGER, &[&[0], &vec![0xc3; bits / 8]]);
    let key = element(SEQUENCE, &[&modulus, &[INTEGER, 3, 1, 0, 1]]);
    key_of(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01], &[5, 0], &key)
}

/// The point that belongs to a private key of one small number.
fn guessed(private: u8) -> Vec<u8> {
    let mut scalar = vec![0; 31];
    scalar.push(private);
    let algorithm = &aws_lc_rs::agreement::ECDH_P256;
    let key = aws_lc_rs::agreement::PrivateKey::from_private_key(algorithm, &scalar).unwrap();
    key.compute_public_key().unwrap().as_ref().to_vec()
}

/// A name of one common name.
pub(super) fn common_name(text: &str) -> Vec<u8> {
    let pair = element(SEQUENCE, &[&[OID, 3, 0x55, 4, 3], &element(UTF8_STRING, &[text.as_bytes()])]);
    element(SEQUENCE, &[&element(SET, &[&pair])])
}

fn attribute(number: u64, value: Vec<u8>) -> CustomExtension {
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 32473, 1, number], value)
}

fn with_attribute(number: u64, value: Vec<u8>) -> Broken {
    bent(|params| {
        let is_it = |extension: &CustomExtension| extension.oid_components().last() == Some(number);
        let place = params.custom_extensions.iter().position(is_it).unwrap();
        params.custom_extensions[place] = attribute(number, value);
    })
}

/// What the certificate of an authority breaks whose fields were replaced.
fn rebuilt_authority(rebuild: impl FnOnce(&mut Vec<Vec<u8>>)) -> Broken {
    let shop = Workshop::access();
    let tbs = only(shop.authority.der(), SEQUENCE).unwrap().inside().expect(SEQUENCE).unwrap().raw;
    judged(&shop.sign(&rebuilt(tbs, rebuild)), &shop)
}

fn replaced(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let place = (0..bytes.len()).find(|at| bytes[*at..].starts_with(from)).unwrap();
    bytes[place..place + to.len()].copy_from_slice(to);
}

/// What the lint says of the leaf of a person when this was meant instead.
fn meant(edit: impl FnOnce(&mut Content)) -> Broken {
    let shop = Workshop::access();
    let der = shop.leaf(&person());
    let mut content = person();
    edit(&mut content);
    refused(lint(&der, &intent(&shop, &content, &key(), NOW)))
}

fn facts(edit: impl FnOnce(&mut AccessFacts)) -> Broken {
    meant(|content| {
        let Facts::Access(facts) = &mut content.facts else { unreachable!() };
        edit(facts);
    })
}

pub(super) fn refused(result: Result<(), LintFault>) -> Broken {
    result.unwrap_err().0.iter().map(|finding| finding.rule.id).collect()
}

fn intent<'a>(shop: &'a Workshop, content: &'a Content, key: &'a PublicKey, now: Timestamp) -> Intent<'a> {
    Intent { authority: &shop.authority, profile: shop.template.profile(), key, content, now }
}

/// A rule, and a certificate that breaks it.
pub(super) type Failing = (&'static str, fn() -> Broken);

#[rustfmt::skip]
const FORM: &[Failing] = &[
    ("der_encoding", || { let shop = Workshop::access(); judged(&[shop.leaf(&person()), vec![0]].concat(), &shop) }),
    ("der_canonical", || rebuilt_leaf(|fields| {
        // An extension that says that it is not critical, which is the default.
        let list = only(&fields[7], 0xa3).unwrap();
        let said = rebuilt(list.value, |list| list[0] = rebuilt(&list[0], |parts| parts.insert(1, vec![1, 1, 0])));
        fields[7] = element(0xa3, &[&said]);
    })),
    ("size", || bent(|params| params.custom_extensions.push(attribute(99, extension::encode(&"x".repeat(4096)))))),
    ("version", || rebuilt_leaf(|fields| fields[0] = vec![0xa0, 3, INTEGER, 1, 1])),
    ("serial_form", || bent(|params| params.serial_number = Some(SerialNumber::from_slice(&[1; 16])))),
    ("signature_algorithm", || rebuilt_leaf(|fields| fields[2][11] = 4)),
    ("signature_algorithms_equal", || {
        let shop = Workshop::access();
        let tbs = shop.template.draft(&key(), &person()).unwrap().into_tbs();
        judged(&assemble(&tbs, Curve::P384, &[0x30, 6, 2, 1, 1, 2, 1, 1]), &shop)
    }),
    ("validity_encoding", || rebuilt_leaf(|fields| {
        let dates: [&[u8]; 2] = [b"\x18\x0f20260627115900Z", b"\x18\x0f20260628120000Z"];
        fields[4] = element(SEQUENCE, &dates);
    })),
    ("validity_order", || bent(|params| std::mem::swap(&mut params.not_before, &mut params.not_after))),
    ("validity_ceiling", || bent(|params| params.not_after += std::time::Duration::from_secs(7 * 86_400))),
    ("unique_ids", || rebuilt_leaf(|fields| fields.insert(7, vec![0x81, 2, 0, 1]))),
    ("key_algorithm", || with_key(rsa(2048))),
    ("key_curve", || with_key(key_of(EC, SECP256K1, key().point()))),
    ("key_point_form", || with_key(key_of(EC, P256, &[&[2], &key().point()[1..33]].concat()))),
    ("key_on_curve", || { let mut spki = key().spki().to_vec(); spki[90] ^= 1; with_key(spki) }),
    ("key_weak", || with_key(key_of(EC, P256, &guessed(3)))),
    ("profile_key", || under_cnsa(Curve::P256, Curve::P384)),
    ("profile_signature", || under_cnsa(Curve::P384, Curve::P256)),
    ("extension_set", || bent(|params| params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0])))),
    ("extension_duplicate", || bent(|params| params.custom_extensions.push(params.custom_extensions[12].clone()))),
    ("extension_order", || bent(|params| params.custom_extensions.swap(3, 4))),
    ("extension_critical", || bent(|params| params.custom_extensions[0].set_criticality(true))),
    ("key_usage", || bent(|params| params.key_usages.push(KeyUsagePurpose::KeyEncipherment))),
];

#[rustfmt::skip]
const LEAF: &[Failing] = &[
    ("issuer_name_form", || rebuilt_leaf(|fields| fields[3] = common_name("elsewhere"))),
    ("issuer_name", || judged(&Workshop::access().leaf(&person()), &Workshop::new(AuthorityKind::Access, Curve::P256, 9))),
    ("issuer_signature_algorithm", || judged(&Workshop::access().leaf(&person()), &Workshop::new(AuthorityKind::Access, Curve::P384, 1))),
    ("issuer_signature", || { let shop = Workshop::access(); judged(shop.template.draft(&key(), &person()).unwrap().der(), &shop) }),
    ("issuer_validity", || bent(|params| { params.not_before -= std::time::Duration::from_secs(2 * 86_400); })),
    ("issuer_other_key", || {
        let shop = Workshop::access();
        judged(&shop.sign(shop.template.draft(shop.authority.key(), &person()).unwrap().tbs()), &shop)
    }),
    ("issuer_key_id_form", || bent(|params| {
        params.use_authority_key_identifier_extension = false;
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 35], vec![0x30, 3, 0x80, 1, 7]));
    })),
    ("issuer_key_id", || judged(&Workshop::access().leaf(&person()), &Workshop::access())),
    ("subject_form", || bent(|params| params.distinguished_name.push(DnType::OrganizationName, "Example"))),
    ("name_form", || bent(|params| params.subject_alt_names = vec![SanType::URI("spiffe://countersign.example/person/alice".try_into().unwrap())])),
    ("name_trust_domain", || bent(|params| {
        let id = profile().spiffe_id(&person().facts).replace("countersign.example", "elsewhere.example");
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
    })),
    ("name_subject", || bent(|params| params.distinguished_name.push(DnType::CommonName, SubjectId::from_bytes([1; 16]).to_string()))),
    ("server_names", || bent(|params| params.subject_alt_names.push(SanType::DnsName("a.example".try_into().unwrap())))),
    ("extended_key_usage", || bent(|params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth))),
    ("crl_address_form", || bent(|params| params.crl_distribution_points[0].uris.push("http://other.example/1.crl".to_owned()))),
    ("crl_address_shard", || bent(|params| params.crl_distribution_points[0].uris[0] = "http://crl.example/v1/other/4.crl".to_owned())),
    ("attribute_encoding", || with_attribute(3, b"\x13\x07ANNEX_A".to_vec())),
    ("format_version", || with_attribute(1, extension::encode("2"))),
    ("attribute_value", || with_attribute(11, extension::encode("mythos-5,fable-5"))),
    ("attribute_required", || bent(|params| { params.custom_extensions.pop(); })),
    ("attribute_forbidden", || bent_of(&machine(), |params| params.custom_extensions.insert(3, attribute(4, extension::encode("3"))))),
    ("name_entity", || with_attribute(2, extension::encode(&EntityId::from_bytes([1; 16]).to_string()))),
    ("name_kind", || with_attribute(6, extension::encode("WORKLOAD"))),
];

#[rustfmt::skip]
const AUTHORITY: &[Failing] = &[
    ("authority_name", || rebuilt_authority(|fields| { fields[3] = common_name("root"); fields[5] = common_name("root"); })),
    ("authority_self_issued", || rebuilt_authority(|fields| fields[3] = common_name("root"))),
    ("authority_constraints", || rebuilt_authority(|fields| replaced(&mut fields[7], &[1, 1, 0xff, 2, 1, 0], &[1, 1, 0xff, 2, 1, 1]))),
    ("authority_signature", || {
        let shop = Workshop::access();
        let tbs = only(shop.authority.der(), SEQUENCE).unwrap().inside().expect(SEQUENCE).unwrap().raw;
        judged(&assemble(tbs, Curve::P256, &[0x30, 6, 2, 1, 1, 2, 1, 1]), &shop)
    }),
    ("authority_key_identifier", || rebuilt_authority(|fields| replaced(&mut fields[7], &[4, 22, 4, 20], &[4, 22, 4, 20, 0, 0, 0]))),
];

#[rustfmt::skip]
const RECORD: &[Failing] = &[
    ("record_serial", || meant(|content| content.serial = Serial::from_random([1; 16]))),
    ("record_validity", || meant(|content| content.not_after = content.not_after.plus_ms(1000))),
    ("record_backdated", || {
        let shop = Workshop::access();
        refused(lint(&shop.leaf(&person()), &intent(&shop, &person(), &key(), NOW.plus_ms(1000))))
    }),
    ("record_subject", || facts(|facts| facts.subject = SubjectId::from_bytes([0; 16]))),
    ("record_key", || {
        let (shop, other) = (Workshop::access(), ClientKey::generate(Curve::P256).unwrap());
        refused(lint(&shop.leaf(&person()), &intent(&shop, &person(), other.public_key(), NOW)))
    }),
    ("record_name", || facts(|facts| facts.entity.entity = EntityId::from_bytes([0; 16]))),
    ("record_crl_address", || meant(|content| content.ordinal = Ordinal(50_812))),
    ("record_attributes", || facts(|facts| facts.step.generation = 8)),
];

#[test]
fn every_rule_has_a_certificate_that_breaks_it() {
    let failing: Vec<_> = [FORM, LEAF, AUTHORITY, RECORD, lists::FAILING, roots::FAILING].concat();
    let named: BTreeSet<_> = failing.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(named.len(), failing.len(), "one example for each rule");
    assert_eq!(named, RULES.iter().map(|rule| rule.id).collect::<BTreeSet<_>>());
    for (rule, example) in failing {
        let broken = example();
        assert!(broken.contains(&rule), "{rule}: {broken:?}");
        // A weak example would break everything at once.
        assert!(broken.len() <= 4, "{rule}: {broken:?}");
    }
}

#[test]
fn every_rule_has_a_certificate_that_passes_it() {
    for curve in Curve::ALL {
        let access = Workshop::new(AuthorityKind::Access, curve, 1);
        let system_authority = Workshop::new(AuthorityKind::System, curve, 2);
        let mut passed = BTreeSet::new();
        let mut pass = |kind: Kind, der: &[u8], issuer: &CaCertificate| {
            let report = examine(der, &profile(), Some(issuer));
            assert_eq!((report.kind, broken(&report)), (kind, Vec::new()));
            let skipped: Vec<_> = report.skipped.iter().map(|rule| rule.id).collect();
            assert!(skipped.iter().all(|rule| rule.starts_with("record_")), "{skipped:?}");
            let judged =
                RULES.iter().filter(|rule| rule.kinds.contains(&kind) && !skipped.contains(&rule.id));
            passed.extend(judged.map(|rule| (rule.id, kind.as_str())));
        };
        for (content, der) in every_leaf(&access, &system_authority) {
            let shop = if matches!(content.facts, Facts::System(_)) { &system_authority } else { &access };
            let key = key();
            let meant = intent(shop, &content, &key, NOW);
            assert_eq!(lint(&der, &meant), Ok(()));
            pass(examine(&der, &profile(), None).kind, &der, shop.authority.certificate());
        }
        for shop in [&access, &system_authority] {
            pass(Kind::Authority, shop.authority.der(), shop.authority.certificate());
            for algorithms in profiles_of(curve) {
                assert_eq!(lint_authority(shop.authority.der(), *algorithms), Ok(()));
            }
            lists::good(shop)
                .into_iter()
                .for_each(|der| pass(Kind::List, &der, shop.authority.certificate()));
        }
        for (kind, der, issuer) in roots::every_one(curve) {
            pass(kind, &der, &issuer);
        }
        for rule in RULES.iter().filter(|rule| !rule.id.starts_with("record_")) {
            for kind in rule.kinds {
                assert!(passed.contains(&(rule.id, kind.as_str())), "{} for {}", rule.id, kind.as_str());
            }
        }
    }
}

#[test]
fn under_cnsa_p384_by_p384_passes_and_nothing_else() {
    assert_eq!(under_cnsa(Curve::P384, Curve::P384), Broken::new());
    assert_eq!(under_cnsa(Curve::P256, Curve::P384), ["profile_key"]);
    assert_eq!(under_cnsa(Curve::P384, Curve::P256), ["profile_signature"]);
    let authority = Workshop::access().authority;
    let broken = refused(lint_authority(authority.der(), AlgorithmProfile::Cnsa));
    assert_eq!(broken, ["profile_key", "profile_signature"]);
}

#[test]
fn every_rule_is_named_once_and_says_what_it_is() {
    let ids: BTreeSet<_> = RULES.iter().map(|rule| rule.id).collect();
    let clauses: BTreeSet<_> = RULES.iter().map(|rule| rule.clause).collect();
    assert_eq!((ids.len(), clauses.len()), (RULES.len(), RULES.len()));
    for rule in RULES {
        assert!(rule.id.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", rule.id);
        assert!(rule.source.contains(' ') || rule.source == "profile", "{}", rule.id);
        assert!(!rule.demand.is_empty() && !rule.kinds.is_empty());
        assert!(rule.severity == Severity::Error || rule.demand.contains("rather"), "{}", rule.id);
    }
    let shown: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(
        shown.join(" "),
        "person workload canary system server authority subordinate root cross crl root-crl"
    );
}

#[test]
fn keys_that_anybody_can_guess_or_look_up_are_weak() {
    assert!(!key().is_weak());
    for private in [1, 2, 17, 64] {
        let point = guessed(private);
        assert!(PublicKey::from_point(Curve::P256, &point).unwrap().is_weak(), "{private}");
    }
    // RFC 6979 appendix A.2.5: Ux and Uy.
    let point = "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6\
                 7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
    let published = PublicKey::from_point(Curve::P256, &hex::decode(point).unwrap()).unwrap();
    assert!(published.is_weak() && published.parse().is_ok());
}

#[test]
fn files_that_are_nothing_break_the_first_rule_and_never_panic() {
    for bytes in [&b""[..], b"hello", &[0x30, 0x80], &[0x30; 4000]] {
        let report = examine(bytes, &profile(), None);
        assert_eq!(broken(&report), ["der_encoding"]);
    }
    let shop = Workshop::access();
    let der = shop.leaf(&person());
    // What the signature covers is sampled, what it does not is tried whole.
    let signed = crate::x509::cert::halves(&der).unwrap().0.len() * 8;
    for bit in (0..signed).step_by(31).chain(signed..der.len() * 8) {
        let mut bent = der.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        let report = examine(&bent, &profile(), Some(shop.authority.certificate()));
        assert!(!report.findings.is_empty(), "bit {bit}");
    }
}
