//! A workshop for the tests: two authorities, and leaves that can be bent before they are signed.

mod bent;
mod cert;
mod csr;
mod lint;
mod lists;
mod oids;
mod roots;
mod tools;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
};

use super::template::{AuthorityContent, Template, assemble, authority_draft};
use super::*;
use crate::domain::certificate::*;
use crate::domain::entity::EntityClass;
use crate::domain::id::*;
use crate::domain::person::*;
use crate::domain::time::Timestamp;

/// 2026-06-27T12:00:00Z.
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_782_561_600_000);

pub(super) fn profile() -> Profile {
    Profile::new(
        "countersign.example".parse().unwrap(),
        Arc::default(),
        Some("http://crl.example/v1".parse().unwrap()),
    )
}

pub(super) struct Workshop {
    pub(super) authority: Authority,
    pub(super) template: Template,
    pair: EcdsaKeyPair,
    curve: Curve,
}

impl Workshop {
    pub(super) fn new(kind: AuthorityKind, curve: Curve, seed: u8) -> Self {
        let algorithm = match curve {
            Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        };
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let key = PublicKey::from_point(curve, pair.public_key().as_ref()).unwrap();
        let content = AuthorityContent {
            id: AuthorityId::from_parts(NOW, [seed; 16]),
            kind,
            serial: Serial::from_random([seed; 16]),
            not_before: NOW.plus_ms(-86_400_000),
            not_after: NOW.plus_ms(365 * 86_400_000),
        };
        let tbs = authority_draft(&key, &content).unwrap().into_tbs();
        let signature = pair.sign(&SystemRandom::new(), &tbs).unwrap();
        let authority = Authority::from_der(&assemble(&tbs, curve, signature.as_ref())).unwrap();
        let template = Template::new(authority.clone(), profile());
        Self { authority, template, pair, curve }
    }

    pub(super) fn access() -> Self {
        Self::new(AuthorityKind::Access, Curve::P256, 1)
    }

    pub(super) fn system() -> Self {
        Self::new(AuthorityKind::System, Curve::P256, 2)
    }

    pub(super) fn bundle(&self) -> TrustBundle {
        TrustBundle::new(vec![self.authority.clone()]).unwrap()
    }

    pub(super) fn sign(&self, tbs: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), tbs).unwrap();
        assemble(tbs, self.curve, signature.as_ref())
    }

    /// A leaf whose parameters were bent after the template wrote them.
    pub(super) fn bent(
        &self,
        content: &Content,
        bend: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> Vec<u8> {
        let mut params = self.template.params(content).unwrap();
        bend(&mut params);
        self.sign(self.template.draft_of(&key(), &params).unwrap().tbs())
    }

    pub(super) fn leaf(&self, content: &Content) -> Vec<u8> {
        self.bent(content, |_| {})
    }

    /// A leaf in whose signed part one run of bytes was replaced by another of the same length.
    pub(super) fn patched(&self, content: &Content, from: &[u8], to: &[u8]) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let mut tbs = self.template.draft(&key(), content).unwrap().into_tbs();
        let places: Vec<usize> = (0..tbs.len()).filter(|at| tbs[*at..].starts_with(from)).collect();
        assert_eq!(places.len(), 1, "the bytes to replace must occur once");
        tbs[places[0]..places[0] + to.len()].copy_from_slice(to);
        self.sign(&tbs)
    }
}

/// The same subject's key in every test.
pub(super) fn key() -> PublicKey {
    static KEY: std::sync::OnceLock<PublicKey> = std::sync::OnceLock::new();
    KEY.get_or_init(|| ClientKey::generate(Curve::P256).unwrap().public_key().clone()).clone()
}

pub(super) fn content(facts: Facts) -> Content {
    Content {
        serial: Serial::from_random([0x5a; 16]),
        ordinal: Ordinal(40_812),
        not_before: NOW.plus_ms(-60_000),
        not_after: NOW.plus_ms(86_400_000),
        facts,
        names: Vec::new(),
    }
}

pub(super) fn human() -> AccessFacts {
    AccessFacts {
        subject: SubjectId::from_parts(NOW, [3; 16]),
        entity: EntityFacts {
            entity: EntityId::from_parts(NOW, [4; 16]),
            class: EntityClass::AnnexA,
            annex_revision: Some(3),
            determination: Some("2026-06-26-lift".parse().unwrap()),
        },
        person: Some(PersonFacts {
            status: PersonStatus::ForeignPerson,
            verified_on: "2026-06-27".parse().unwrap(),
            relation: Relation::Employee,
            assurance: Assurance::Ial2,
        }),
        models: vec!["fable-5".parse().unwrap(), "mythos-5".parse().unwrap()],
        step: LineageStep { lineage: LineageId::from_parts(NOW, [5; 16]), generation: 7 },
    }
}

pub(super) fn workload() -> AccessFacts {
    AccessFacts {
        entity: EntityFacts {
            class: EntityClass::Unlisted,
            annex_revision: None,
            determination: None,
            ..human().entity
        },
        person: None,
        ..human()
    }
}

pub(super) fn provider() -> AccessFacts {
    let mut facts = human();
    facts.entity.class = EntityClass::Provider;
    facts.entity.annex_revision = None;
    facts
}

pub(super) fn system(kind: PrincipalKind) -> Content {
    let mut content = content(Facts::System(SystemFacts { kind, principal: "gw-eu-1".parse().unwrap() }));
    if kind == PrincipalKind::Server {
        content.names = vec![
            ServerName::dns("countersign.example").unwrap(),
            ServerName::Ip("127.0.0.1".parse().unwrap()),
            ServerName::Ip("::1".parse().unwrap()),
        ];
    }
    content
}

/// One leaf of every shape, with the authority that issues it.
pub(super) fn every_leaf(access: &Workshop, system_authority: &Workshop) -> Vec<(Content, Vec<u8>)> {
    let mut provider_without = provider();
    provider_without.entity.determination = None;
    let mut out: Vec<(Content, Vec<u8>)> = [human(), workload(), provider(), provider_without]
        .into_iter()
        .map(|facts| content(Facts::Access(facts)))
        .map(|content| (content.clone(), access.leaf(&content)))
        .collect();
    for side in CanarySide::ALL {
        let content =
            content(Facts::Canary(CanaryFacts { gateway: "gw-eu-1".parse().unwrap(), side: *side }));
        out.push((content.clone(), access.leaf(&content)));
    }
    for kind in PrincipalKind::ALL {
        let content = system(*kind);
        out.push((content.clone(), system_authority.leaf(&content)));
    }
    out
}
