//! Roots: what they certify passes the lint and the strict readers, and one of each that does not.

use super::lint::{Broken, Failing, broken, common_name, rebuilt};
use super::*;
use crate::x509::der::{SEQUENCE, element, only};
use crate::x509::lint::{Kind, examine, lint_certified, lint_root, lint_root_list};
use crate::x509::root_template::{RootContent, RootTemplate, root_draft};
use crate::x509::template::Draft;

const DAY_MS: i64 = 86_400_000;

/// A root with its key.
pub(super) struct RootShop {
    pub(super) root: Root,
    template: RootTemplate,
    pair: EcdsaKeyPair,
    curve: Curve,
}

fn root_content(seed: u8, days: i64) -> RootContent {
    RootContent {
        id: RootId::from_parts(NOW, [seed; 16]),
        serial: Serial::from_random([seed; 16]),
        not_before: NOW.plus_ms(-2 * DAY_MS),
        not_after: NOW.plus_ms(days * DAY_MS),
    }
}

impl RootShop {
    pub(super) fn new(curve: Curve, seed: u8) -> Self {
        let algorithm = match curve {
            Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        };
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let key = PublicKey::from_point(curve, pair.public_key().as_ref()).unwrap();
        let draft = root_draft(&key, &root_content(seed, 3_000)).unwrap();
        assert_eq!(lint_root(draft.der()), Ok(()));
        let signature = pair.sign(&SystemRandom::new(), draft.tbs()).unwrap();
        let root = Root::from_der(&assemble(draft.tbs(), curve, signature.as_ref())).unwrap();
        Self { template: RootTemplate::new(root.clone()), root, pair, curve }
    }

    fn sign(&self, tbs: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), tbs).unwrap();
        assemble(tbs, self.curve, signature.as_ref())
    }

    fn certified(&self, draft: &Draft) -> Vec<u8> {
        assert_eq!(lint_certified(draft.der(), &self.root), Ok(()));
        self.sign(draft.tbs())
    }

    /// The certificate of an authority beneath it.
    pub(super) fn authority(&self, kind: AuthorityKind, key: &PublicKey) -> Vec<u8> {
        let content = AuthorityContent {
            id: AuthorityId::from_parts(NOW, [7; 16]),
            kind,
            serial: Serial::from_random([7; 16]),
            not_before: NOW.plus_ms(-DAY_MS),
            not_after: NOW.plus_ms(365 * DAY_MS),
        };
        self.certified(&self.template.authority(key, &content).unwrap())
    }

    pub(super) fn cross(&self, other: &RootShop) -> Vec<u8> {
        let content = RootContent { id: other.root.id(), ..root_content(9, 900) };
        self.certified(&self.template.cross(other.root.certificate().key(), &content).unwrap())
    }

    pub(super) fn list(&self, content: &CrlContent) -> Vec<u8> {
        let draft = self.template.list(content).unwrap();
        assert_eq!(lint_root_list(draft.der(), &self.root, content), Ok(()));
        self.sign(draft.tbs())
    }
}

pub(super) fn list_content(number: u64) -> CrlContent {
    let serial = Serial::from_random([7; 16]);
    CrlContent {
        address: None,
        number: CrlNumber::counted(number),
        this_update: NOW,
        next_update: NOW.plus_ms(400 * DAY_MS),
        entries: vec![CrlEntry { serial, at: NOW, reason: ReasonCode::CaCompromise }],
    }
}

/// Everything that a root signs, with who signed it.
pub(super) fn every_one(curve: Curve) -> Vec<(Kind, Vec<u8>, CaCertificate)> {
    let (old, new) = (RootShop::new(curve, 1), RootShop::new(Curve::P384, 2));
    let signer = old.root.certificate().clone();
    let by_old = |kind, der| (kind, der, signer.clone());
    vec![
        by_old(Kind::Root, old.root.certificate().der().to_vec()),
        by_old(Kind::Cross, old.cross(&new)),
        by_old(Kind::Subordinate, old.authority(AuthorityKind::Access, &key())),
        by_old(Kind::Subordinate, old.authority(AuthorityKind::System, &key())),
        by_old(Kind::RootList, old.list(&list_content(1))),
        by_old(Kind::RootList, old.list(&CrlContent { entries: Vec::new(), ..list_content(2) })),
    ]
}

fn tbs_of(der: &[u8]) -> &[u8] {
    only(der, SEQUENCE).unwrap().inside().expect(SEQUENCE).unwrap().raw
}

/// What something breaks whose fields were replaced and which was signed again.
fn bent(der: &[u8], shop: &RootShop, rebuild: impl FnOnce(&mut Vec<Vec<u8>>)) -> Broken {
    let der = shop.sign(&rebuilt(tbs_of(der), rebuild));
    broken(&examine(&der, &profile(), Some(shop.root.certificate())))
}

fn replaced(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let place = (0..bytes.len()).find(|at| bytes[*at..].starts_with(from)).unwrap();
    bytes[place..place + to.len()].copy_from_slice(to);
}

/// A name that says that it is a root's, with this common name.
fn unit_and(name: &str) -> Vec<u8> {
    let common = common_name(name);
    let common = only(&common, SEQUENCE).unwrap().value.to_vec();
    let root = RootShop::new(Curve::P256, 3);
    let own = only(root.root.certificate().name(), SEQUENCE).unwrap();
    let unit = own.inside().any().unwrap().raw.to_vec();
    element(SEQUENCE, &[&unit, &common])
}

fn bent_root(rebuild: impl FnOnce(&mut Vec<Vec<u8>>)) -> Broken {
    let shop = RootShop::new(Curve::P256, 1);
    bent(shop.root.certificate().der(), &shop, rebuild)
}

fn bent_cross(rebuild: impl FnOnce(&mut Vec<Vec<u8>>)) -> Broken {
    let (old, new) = (RootShop::new(Curve::P256, 1), RootShop::new(Curve::P256, 2));
    bent(&old.cross(&new), &old, rebuild)
}

fn bent_list(content: &CrlContent, rebuild: impl FnOnce(&mut Vec<Vec<u8>>)) -> Broken {
    let shop = RootShop::new(Curve::P256, 1);
    let draft = shop.template.list(content).unwrap();
    bent(draft.der(), &shop, rebuild)
}

const PATH_LEN: [u8; 6] = [1, 1, 0xff, 2, 1, 0];

fn path_len(len: u8) -> [u8; 6] {
    let mut bytes = PATH_LEN;
    bytes[5] = len;
    bytes
}

#[rustfmt::skip]
pub(super) const FAILING: &[Failing] = &[
    ("root_issuer", || {
        let shop = RootShop::new(Curve::P256, 1);
        bent(&shop.authority(AuthorityKind::Access, &key()), &shop, |fields| fields[3] = unit_and("elsewhere"))
    }),
    ("root_name", || bent_root(|fields| { fields[3] = unit_and("elsewhere"); fields[5] = unit_and("elsewhere"); })),
    ("root_self_issued", || {
        // It says that it is a root in its subject only.
        let shop = RootShop::new(Curve::P256, 1);
        let der = shop.sign(&rebuilt(tbs_of(shop.root.certificate().der()), |fields| fields[3] = common_name("other")));
        let report = crate::x509::lint::examine_as(Kind::Root, &der);
        broken(&report)
    }),
    ("root_constraints", || bent_root(|fields| replaced(&mut fields[7], &path_len(2), &path_len(9)))),
    ("subordinate_usage", || {
        // clientAuth for serverAuth (id-kp 2 and 1).
        let shop = RootShop::new(Curve::P256, 1);
        let (client, server) = ([0x2b, 6, 1, 5, 5, 7, 3, 2], [0x2b, 6, 1, 5, 5, 7, 3, 1]);
        bent(&shop.authority(AuthorityKind::System, &key()), &shop, |fields| replaced(&mut fields[7], &server, &client))
    }),
    ("cross_constraints", || bent_cross(|fields| replaced(&mut fields[7], &path_len(1), &path_len(2)))),
    ("root_list_issuer_form", || bent_list(&list_content(1), |fields| fields[2] = unit_and("elsewhere"))),
    ("root_list_extensions", || {
        let content = CrlContent { address: Some("http://crl.example/root.crl".to_owned()), ..list_content(1) };
        bent_list(&content, |_| {})
    }),
    ("root_list_life", || {
        let content = CrlContent { next_update: NOW.plus_ms(800 * DAY_MS), ..list_content(1) };
        bent_list(&content, |_| {})
    }),
];

#[test]
fn an_authority_beneath_a_root_is_read_and_is_of_that_root_only() {
    for curve in Curve::ALL {
        let (shop, other) = (RootShop::new(curve, 1), RootShop::new(curve, 2));
        let der = shop.authority(AuthorityKind::System, &key());
        let authority = Authority::from_der(&der).unwrap();
        assert_eq!(authority.parent().unwrap().root, shop.root.id());
        assert_eq!(shop.root.check_issued(&authority), Ok(()));
        assert_eq!(other.root.check_issued(&authority), Err(RootFault::OtherRoot));
        // A root with the same name and another key is another root.
        let twin = RootShop::new(curve, 1);
        assert_eq!(twin.root.check_issued(&authority), Err(RootFault::OtherRoot));
        let last = der.len() - 1;
        let mut changed = der.clone();
        changed[last] ^= 1;
        let changed = Authority::from_der(&changed).unwrap();
        assert_eq!(shop.root.check_issued(&changed), Err(RootFault::NotSigned));
    }
    let own = Workshop::access().authority;
    assert_eq!(RootShop::new(Curve::P256, 1).root.check_issued(&own), Err(RootFault::OtherRoot));
}

#[test]
fn a_root_certifies_nothing_beyond_its_life_and_not_its_own_key() {
    let shop = RootShop::new(Curve::P256, 1);
    let content = AuthorityContent {
        id: AuthorityId::from_parts(NOW, [7; 16]),
        kind: AuthorityKind::Access,
        serial: Serial::from_random([7; 16]),
        not_before: NOW,
        not_after: shop.root.certificate().not_after().plus_ms(1_000),
    };
    let issue = |key: &PublicKey, content: &AuthorityContent| {
        let der = shop.sign(shop.template.authority(key, content).unwrap().tbs());
        shop.root.check_issued(&Authority::from_der(&der).unwrap())
    };
    assert_eq!(issue(&key(), &content), Err(RootFault::Outlives));
    let content = AuthorityContent { not_after: NOW.plus_ms(DAY_MS), ..content };
    assert_eq!(issue(shop.root.certificate().key(), &content), Err(RootFault::OwnKey));
    assert_eq!(issue(&key(), &content), Ok(()));
}

#[test]
fn a_cross_certificate_is_of_two_roots_and_no_root_itself() {
    let (old, new) = (RootShop::new(Curve::P384, 1), RootShop::new(Curve::P256, 2));
    let cross = CrossCertificate::from_der(&old.cross(&new)).unwrap();
    assert_eq!((cross.root(), cross.issuer()), (new.root.id(), old.root.id()));
    assert_eq!(old.root.check_cross(&cross), Ok(()));
    assert_eq!(new.root.check_cross(&cross), Err(RootFault::OtherRoot));
    assert_eq!(Root::from_der(cross.certificate().der()), Err(RootFault::NotSelfIssued));
    assert!(Authority::from_der(cross.certificate().der()).is_err());
    let own = CrossCertificate::from_der(new.root.certificate().der());
    assert_eq!(own, Err(RootFault::NotCross));
}

#[test]
fn every_flipped_bit_of_a_root_is_refused() {
    let der = RootShop::new(Curve::P256, 1).root.certificate().der().to_vec();
    for bit in 0..der.len() * 8 {
        let mut bent = der.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(Root::from_der(&bent).is_err(), "bit {bit}");
    }
}

#[test]
fn a_list_of_a_root_is_read_and_by_no_other_key() {
    let (shop, other) = (RootShop::new(Curve::P384, 1), RootShop::new(Curve::P384, 1));
    let der = shop.list(&list_content(300));
    let list = RootList::read(&der, &shop.root).unwrap();
    assert_eq!((list.number.count(), list.entries.len()), (Some(300), 1));
    assert_eq!((list.this_update, list.next_update), (NOW, NOW.plus_ms(400 * DAY_MS)));
    assert_eq!(list.entries, list_content(1).entries);
    assert!(RootList::read(&der, &other.root).unwrap_err().to_string().contains("list_signature"));
    let of_authority = super::lists::good(&Workshop::access()).remove(1);
    assert!(RootList::read(&of_authority, &shop.root).is_err());
    for bit in (0..der.len() * 8).step_by(7) {
        let mut bent = der.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(
            RootList::read(&bent, &shop.root).is_err(),
            "bit {bit}: {}",
            hex::encode(&bent[bit / 8 - 12..bit / 8 + 6])
        );
    }
}

fn request(edit: impl FnOnce(&mut rcgen::CertificateParams)) -> Vec<u8> {
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, "ACCESS");
    let id = AuthorityId::from_parts(NOW, [7; 16]);
    params.distinguished_name.push(rcgen::DnType::CommonName, id.to_string());
    edit(&mut params);
    params.serialize_request(&pair).unwrap().der().to_vec()
}

#[test]
fn a_request_names_an_authority_and_asks_for_nothing() {
    let read = AuthorityRequest::from_der(&request(|_| {})).unwrap();
    assert_eq!(read.kind, AuthorityKind::Access);
    let refused = |edit: fn(&mut rcgen::CertificateParams)| {
        AuthorityRequest::from_der(&request(edit)).unwrap_err().to_string()
    };
    let wish = refused(|params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(5));
    });
    assert!(wish.contains("basicConstraints"), "{wish}");
    let wish = refused(|params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("a.example".try_into().unwrap())];
    });
    assert!(wish.contains("subjectAltName"), "{wish}");
    let name = refused(|params| params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example"));
    assert!(name.contains("the subject of the request is not"), "{name}");
    let name =
        refused(|params| params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, "ROOT"));
    assert!(name.contains("the subject of the request is not"), "{name}");
}

#[test]
fn a_request_of_ours_is_read_again() {
    let shop = Workshop::access();
    let made = AuthorityRequest {
        id: shop.authority.id(),
        kind: AuthorityKind::System,
        key: shop.authority.key().clone(),
    };
    let signature = shop.pair.sign(&SystemRandom::new(), &made.info()).unwrap();
    let der = made.assemble(signature.as_ref());
    assert_eq!(AuthorityRequest::from_der(&der), Ok(made.clone()));
    let foreign = AuthorityRequest { key: key(), ..made }.assemble(signature.as_ref());
    assert!(AuthorityRequest::from_der(&foreign).unwrap_err().to_string().contains("not by its key"));
}

#[test]
fn a_chain_is_a_leaf_its_authority_and_cross_certificates() {
    let (old, new) = (RootShop::new(Curve::P384, 1), RootShop::new(Curve::P384, 2));
    let issuer = Workshop::new(AuthorityKind::Access, Curve::P256, 7);
    let leaf = issuer.leaf(&content(Facts::Access(human())));
    let (above, cross) = (old.authority(AuthorityKind::Access, &key()), old.cross(&new));
    let chain = chain_pem(&leaf, &[above.clone(), cross.clone()]).unwrap();
    let blocks: Vec<_> = pem::parse_many(chain).unwrap().into_iter().map(pem::Pem::into_contents).collect();
    assert_eq!(blocks, [leaf.clone(), above.clone(), cross.clone()]);
    assert!(chain_pem::<Vec<u8>>(&leaf, &[]).is_ok());
    let refused = |above: &[Vec<u8>]| chain_pem(&leaf, above).unwrap_err();
    assert_eq!(refused(&[old.root.certificate().der().to_vec()]), AboveFault::Other);
    assert_eq!(refused(&[issuer.authority.der().to_vec()]), AboveFault::Other, "self-signed");
    assert_eq!(refused(&[old.authority(AuthorityKind::System, &key())]), AboveFault::OtherIssuer);
    assert_eq!(refused(&[above, b"junk".to_vec()]), AboveFault::Other);
    assert_eq!(refused(&vec![cross; ABOVE_MAX + 1]), AboveFault::TooMany);
    assert_eq!(chain_pem::<Vec<u8>>(b"junk", &[]), Err(AboveFault::Leaf));
}
