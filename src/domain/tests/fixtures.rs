//! Values: the shipped policy bundle, instants of its regimes, officers with keys, and a case to vary.

use std::sync::OnceLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use crate::domain::approval::{Approval, MANDATE_PREFIX, Mandate, SignedMandate};
use crate::domain::authority::{Authority, NewAuthority};
use crate::domain::bundle::{Bundle, BundleParts};
use crate::domain::certificate::Serial;
use crate::domain::certificate::{AuthorityKind, PrincipalKind};
use crate::domain::codec::to_bytes;
use crate::domain::command::NewPrincipal;
use crate::domain::decision::{Case, ChainFacts, ScreeningState, Standing, Who};
use crate::domain::determination::{Determination, DeterminationKind, DeterminationState, Instants, Limb};
use crate::domain::entity::{EntityClass, EntityKind, Organisation};
use crate::domain::event::{Genesis, NewEntity};
use crate::domain::grant::Grant;
use crate::domain::id::RootId;
use crate::domain::id::{AuthorityId, DeterminationId, EntityId, GrantId, ModelId, PrincipalId};
use crate::domain::model::{AccessForm, Model};
use crate::domain::person::{Assurance, PersonStatus, Relation};
use crate::domain::policy::{Country, DatedRule, Edge, Place, PolicyRule, Posture};
use crate::domain::principal::Role;
use crate::domain::root::{Root, RootList};
use crate::domain::time::{Interval, Timestamp};

pub(crate) const TRUST_DOMAIN: &str = "countersign.example";
pub(crate) const IMPOSITION: &str = "2026-06-12-imposition";
pub(crate) const LIFT: &str = "2026-06-26-lift";
pub(crate) const RESCISSION: &str = "2026-06-30-rescission";

/// The last second before the imposition.
pub(crate) const R0: &str = "2026-06-12T21:20:59Z";
/// Under the imposition alone.
pub(crate) const R1: &str = "2026-06-20T12:00:00Z";
/// Under the lift.
pub(crate) const R2: &str = "2026-06-27T12:00:00Z";
/// After the rescission, if it is activated.
pub(crate) const R3: &str = "2026-07-01T12:00:00Z";

pub(crate) const PROVIDER: EntityId = EntityId::from_bytes([1; 16]);
pub(crate) const ACCESS_CA: AuthorityId = AuthorityId::from_bytes([2; 16]);
pub(crate) const SYSTEM_CA: AuthorityId = AuthorityId::from_bytes([3; 16]);

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn model(name: &str) -> ModelId {
    name.parse().unwrap()
}

pub(crate) fn determination(name: &str) -> DeterminationId {
    name.parse().unwrap()
}

pub(crate) fn country(code: &str) -> Country {
    code.parse().unwrap()
}

pub(crate) fn place(code: &str) -> Place {
    code.parse().unwrap()
}

/// The bundle that ships in `deploy/policy`; a test of the loader compares the two.
pub(crate) fn sample_parts() -> BundleParts {
    let named = |id: &str, aliases: &[&str], parent: Option<&str>| Model {
        id: model(id),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        descends_from: parent.map(model),
    };
    BundleParts {
        models: vec![
            named("mythos-5", &["MYTHOS_5", "Mythos 5", "Claude Mythos 5", "mythos-5-latest"], None),
            named("fable-5", &["FABLE_5", "Fable 5", "Claude Fable 5", "fable-5-latest"], None),
            named("mythos-5-defender", &[], Some("mythos-5")),
            named("sonata-4", &["Claude Sonata 4"], None),
        ],
        determinations: vec![imposition(), lift(), rescission()],
        rules: sample_rules(),
        posture: Posture {
            remote_access_is_release: true,
            assurance_min: Assurance::Ial2,
            embargoed: ["CU", "IR", "KP", "SY"].map(country).to_vec(),
            screening_fresh_ms: 72 * 3_600_000,
        },
    }
}

fn imposition() -> Determination {
    Determination {
        id: determination(IMPOSITION),
        kind: DeterminationKind::IsInformedNotice,
        state: DeterminationState::Countersigned,
        instants: Instants { received_at: Some(at("2026-06-12T21:21:00Z")), ..Instants::default() },
        models: vec![model("fable-5"), model("mythos-5")],
        beneficiaries: Vec::new(),
        amends: Vec::new(),
        legal_basis: vec!["50 USC 4817(b)(1)".to_owned(), "15 CFR 744.22".to_owned()],
        document: None,
        ended_at: None,
        superseded_by: None,
        document_sha384: None,
    }
}

fn lift() -> Determination {
    Determination {
        id: determination(LIFT),
        kind: DeterminationKind::LiftForBeneficiaries,
        instants: Instants {
            stated_at: None,
            received_at: Some(at("2026-06-26T21:00:00Z")),
            approved_at: Some(at("2026-06-26T22:00:00Z")),
        },
        models: vec![model("mythos-5")],
        beneficiaries: vec![Limb::ProviderForeignEmployees, Limb::AnnexEntities, Limb::AnnexForeignEmployees],
        amends: vec![determination(IMPOSITION)],
        legal_basis: Vec::new(),
        ..imposition()
    }
}

fn rescission() -> Determination {
    Determination {
        id: determination(RESCISSION),
        kind: DeterminationKind::Rescind,
        state: DeterminationState::Draft,
        instants: Instants { received_at: Some(at("2026-06-30T21:00:00Z")), ..Instants::default() },
        amends: vec![determination(IMPOSITION), determination(LIFT)],
        legal_basis: Vec::new(),
        ..imposition()
    }
}

fn sample_rules() -> Vec<DatedRule> {
    let suspended = |name: &str, until| DatedRule {
        rule: PolicyRule::SuspendAll,
        models: vec![model(name)],
        from: Some(Edge::At(at("2026-06-13T00:50:00Z"))),
        until: Some(until),
    };
    let always =
        DatedRule { rule: PolicyRule::NoGrant, models: vec![model("mythos-5")], from: None, until: None };
    let since_lift = PolicyRule::ALL.iter().filter(|rule| **rule > PolicyRule::NoGrant).map(|rule| {
        DatedRule { rule: *rule, from: Some(Edge::Effective(determination(LIFT))), ..always.clone() }
    });
    let mut rules = vec![
        suspended("mythos-5", Edge::Effective(determination(LIFT))),
        suspended("fable-5", Edge::RescissionOf(determination(IMPOSITION))),
        always.clone(),
    ];
    rules.extend(since_lift);
    rules
}

pub(crate) fn sample() -> Bundle {
    Bundle::new(sample_parts()).unwrap()
}

/// The sample with the rescission countersigned.
pub(crate) fn rescinded_parts() -> BundleParts {
    let mut parts = sample_parts();
    parts.determinations[2].state = DeterminationState::Countersigned;
    parts
}

pub(crate) fn grant(id: u8, name: &str) -> Grant {
    Grant {
        id: GrantId::from_bytes([id; 16]),
        model: model(name),
        interval: Interval { from: Timestamp::default(), until: None },
        forms: Vec::new(),
        countries: Vec::new(),
        purposes: Vec::new(),
    }
}

/// A person at work for the entity in the case.
pub(crate) const fn human(status: PersonStatus, relation: Relation) -> Who<'static> {
    Who::Human { status, relation, assurance: Some(Assurance::Ial2) }
}

/// A foreign employee of a listed entity, in the United States, with a grant: EXEMPT and permitted under the lift.
pub(crate) fn case<'a>(family: &'a [ModelId], grant: &'a Grant) -> Case<'a> {
    Case {
        state: None,
        credential: None,
        stopped: false,
        family: Some(family),
        model_not_listed: false,
        form: AccessForm::Inference,
        who: human(PersonStatus::ForeignPerson, Relation::Employee),
        class: EntityClass::AnnexA,
        org: Organisation::Us,
        place: Place::Us,
        serving: Place::Us,
        seat: None,
        mi_flag: false,
        license: None,
        grant: Some(grant),
        standing: Standing {
            provisioned: true,
            suspended: false,
            reverify_overdue: false,
            safeguard_lapsed: false,
            quota_exhausted: false,
        },
        screening: ScreeningState::Clear,
        chain: ChainFacts::Direct,
        purpose: None,
    }
}

/// An officer, with the key that a real one keeps on their own machine.
pub(crate) struct Officer {
    pub(crate) id: PrincipalId,
    pub(crate) roles: Vec<Role>,
    key: EcdsaKeyPair,
}

impl Officer {
    fn new(id: &str, roles: &[Role]) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        Self { id: id.parse().unwrap(), roles: roles.to_vec(), key }
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        AsDer::as_der(self.key.public_key()).unwrap().as_ref().to_vec()
    }

    pub(crate) fn sign(&self, prefix: &[u8], bytes: &[u8]) -> Approval {
        let message = [prefix, bytes].concat();
        let signature = self.key.sign(&SystemRandom::new(), &message).unwrap();
        Approval { officer: self.id.clone(), signature: signature.as_ref().to_vec() }
    }

    pub(crate) fn principal(&self) -> NewPrincipal {
        NewPrincipal {
            id: self.id.clone(),
            kind: PrincipalKind::Officer,
            roles: self.roles.clone(),
            entity: None,
            key: self.spki(),
            is_pausable: false,
        }
    }
}

/// Four officers: alice and bob may do everything and sign genesis, carol only vets, dave only approves.
pub(crate) fn officers() -> &'static [Officer; 4] {
    static OFFICERS: OnceLock<[Officer; 4]> = OnceLock::new();
    OFFICERS.get_or_init(|| {
        let all = PrincipalKind::Officer.roles();
        [
            Officer::new("alice", all),
            Officer::new("bob", all),
            Officer::new("carol", &[Role::Vetter]),
            Officer::new("dave", &[Role::Approver]),
        ]
    })
}

pub(crate) fn alice() -> &'static Officer {
    &officers()[0]
}

pub(crate) fn bob() -> &'static Officer {
    &officers()[1]
}

pub(crate) fn carol() -> &'static Officer {
    &officers()[2]
}

pub(crate) fn dave() -> &'static Officer {
    &officers()[3]
}

/// A mandate with the signatures of these officers.
pub(crate) fn signed(mandate: &Mandate, signers: &[&Officer]) -> SignedMandate {
    let bytes = to_bytes(mandate);
    let approvals = signers.iter().map(|officer| officer.sign(MANDATE_PREFIX, &bytes)).collect();
    SignedMandate { bytes, approvals }
}

pub(crate) fn entity(id: EntityId, org: Organisation) -> NewEntity {
    NewEntity { id, kind: EntityKind::Company, name: "Example".to_owned(), org, seat: None }
}

/// An authority until next June.
pub(crate) fn new_authority(id: AuthorityId, kind: AuthorityKind) -> NewAuthority {
    NewAuthority { id, kind, certificate: vec![0x30], not_after: at("2027-06-01T00:00:00Z"), beneath: None }
}

/// A root until 2041, whose list 1 revokes this.
pub(crate) fn new_root(id: RootId, revoked: &[Serial]) -> Root {
    Root { id, certificate: vec![0x31], not_after: at("2041-06-01T00:00:00Z"), list: root_list(1, revoked) }
}

pub(crate) fn root_list(number: u64, revoked: &[Serial]) -> RootList {
    RootList {
        list: vec![0x32],
        number,
        this_update: at("2026-06-01T00:00:00Z"),
        next_update: at("2027-06-01T00:00:00Z"),
        revoked: revoked.to_vec(),
    }
}

pub(crate) fn genesis() -> Genesis {
    let authority = |id, kind| Authority::first(new_authority(id, kind));
    Genesis {
        trust_domain: TRUST_DOMAIN.to_owned(),
        arc: "1.3.6.1.4.1.32473".to_owned(),
        bundle: sample_parts(),
        officers: vec![alice().principal(), bob().principal()],
        authorities: vec![
            authority(ACCESS_CA, AuthorityKind::Access),
            authority(SYSTEM_CA, AuthorityKind::System),
        ],
        log_key: vec![7; 32],
        provider: entity(PROVIDER, Organisation::Us),
        lease_ms: 10_000,
        ttl_s: 86_400,
        roots: None,
        recovery: None,
        algorithms: None,
    }
}
