//! A server without disk and network: a state that tests change record by record, its heads, and the feed.

use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use bytes::Bytes;

use crate::domain::approval::{Approval, GENESIS_PREFIX};
use crate::domain::authority::{Authority, NewAuthority};
use crate::domain::bundle::BundleParts;
use crate::domain::certificate::*;
use crate::domain::codec::to_bytes;
use crate::domain::command::NewPrincipal;
use crate::domain::enforce::message::{Open, Strength, ToGateway};
use crate::domain::enforce::{Chain, EnforcementEvent, Position, Request, chain};
use crate::domain::entity::*;
use crate::domain::event::{Entry, Event, Genesis, NewEntity};
use crate::domain::head::SignedHead;
use crate::domain::id::*;
use crate::domain::model::{AccessForm, Model};
use crate::domain::person::Assurance;
use crate::domain::policy::{Place, Posture};
use crate::domain::principal::{Principal, Role};
use crate::domain::state::State;
use crate::domain::time::Timestamp;
use crate::env::{Clock, ManualClock};
use crate::feed::{Closed, Feed, Heads, PublishedRecord, Session};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_782_500_000_000);
pub(crate) const MODEL: &str = "mythos-5";
pub(crate) const STRONG: Strength = Strength {
    per_request: true,
    closes_connections: true,
    resumption_off: true,
    stream_cut_ms: 100,
    pausable: false,
};

/// Heads of a log whose tree hash at a record is the hash of its number and of the branch of history, which begins after
/// a record.
pub(crate) struct FakeHeads {
    pub(crate) committed: Mutex<Position>,
    pub(crate) branch: Mutex<u8>,
    pub(crate) branch_after: Mutex<Seq>,
    key: Ed25519KeyPair,
}

impl FakeHeads {
    pub(crate) fn public_key(&self) -> [u8; 32] {
        self.key.public_key().as_ref().try_into().unwrap()
    }

    pub(crate) fn sign(&self, at: Position) -> Bytes {
        let root = self.root_at(at.seq).unwrap();
        Bytes::from(to_bytes(&SignedHead::sign((at.epoch, at.seq, root), NOW, &self.key).unwrap()))
    }
}

impl Heads for FakeHeads {
    fn committed_head(&self) -> Position {
        *self.committed.lock().unwrap()
    }

    fn signed_head(&self) -> Bytes {
        self.sign(self.committed_head())
    }

    fn verify(&self, head: &SignedHead) -> bool {
        head.verify(&self.public_key()).is_ok()
    }

    fn root_at(&self, seq: Seq) -> Option<Digest> {
        let is_after = seq > *self.branch_after.lock().unwrap();
        let branch = if is_after { *self.branch.lock().unwrap() } else { 0 };
        Some(Digest::of(&[branch, u8::try_from(seq.0 % 251).unwrap()]))
    }
}

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) heads: Arc<FakeHeads>,
    pub(crate) state: Arc<State>,
    pub(crate) feed: Feed,
    unpublished: Vec<PublishedRecord>,
}

pub(crate) fn gateway(n: u8) -> PrincipalId {
    format!("gateway-{n}").parse().unwrap()
}

pub(crate) fn boot(n: u8) -> BootId {
    BootId::from_bytes([n; 16])
}

pub(crate) fn entity(n: u8) -> EntityId {
    EntityId::from_bytes([n; 16])
}

pub(crate) fn lineage(n: u8) -> LineageId {
    LineageId::from_bytes([n; 16])
}

impl World {
    pub(crate) fn new() -> Self {
        Self::from_state(Arc::new(first_state()), 0)
    }

    /// A process that starts on a state of before.
    pub(crate) fn from_state(state: Arc<State>, boot_ms: u32) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        clock.advance_ms(boot_ms);
        let heads = Arc::new(FakeHeads {
            committed: Mutex::new(state.position),
            branch: Mutex::new(0),
            branch_after: Mutex::new(Seq(0)),
            key: Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap(),
        });
        let feed = Feed::new(
            Arc::<ManualClock>::clone(&clock),
            Arc::<FakeHeads>::clone(&heads),
            Arc::clone(&state),
            clock.boot_ms(),
        );
        feed.start_granting();
        Self { clock, heads, state, feed, unpublished: Vec::new() }
    }

    /// Commits a record without publishing it.
    pub(crate) fn append(&mut self, events: Vec<EnforcementEvent>, cards: &[EntityId]) -> Position {
        let state = Arc::make_mut(&mut self.state);
        let seq = state.position.seq.next();
        state.position.seq = seq;
        for event in &events {
            Arc::make_mut(&mut state.enforcement).apply(event);
            state.feed_digest = chain(state.feed_digest, seq, event);
            state.feed_seq = seq;
        }
        for id in cards {
            let row = state.entities.entry(*id).or_insert_with(|| Arc::new(partner(*id)));
            let card = &mut Arc::make_mut(row).card;
            card.revision = seq;
        }
        self.unpublished.push(PublishedRecord { seq, events, cards: cards.to_vec() });
        *self.heads.committed.lock().unwrap() = self.state.position;
        self.state.position
    }

    pub(crate) fn publish(&mut self) {
        self.feed.publish(Arc::clone(&self.state), std::mem::take(&mut self.unpublished));
    }

    pub(crate) fn commit(&mut self, events: Vec<EnforcementEvent>, cards: &[EntityId]) -> Position {
        let at = self.append(events, cards);
        self.publish();
        at
    }

    /// A record that locks a lineage.
    pub(crate) fn lock(&mut self, n: u8) -> Position {
        self.commit(vec![EnforcementEvent::LineageLocked(lineage(n))], &[])
    }

    /// A record that is nobody's business.
    pub(crate) fn silent(&mut self) -> Position {
        self.commit(Vec::new(), &[])
    }

    /// A gateway is now registered as one that can be paused.
    pub(crate) fn register_pausable(&mut self, n: u8) {
        let registered = Arc::make_mut(&mut self.state).principals.get_mut(&gateway(n)).unwrap();
        Arc::make_mut(registered).is_pausable = true;
        self.silent();
    }

    pub(crate) fn open(&self, n: u8) -> Open {
        Open {
            boot: boot(n),
            position: Position::default(),
            digest: Digest::default(),
            signed_head: Bytes::new(),
            versions: vec![1],
            strength: STRONG,
            cards: Vec::new(),
            agent: Some("test-gateway/1".parse().unwrap()),
            adapter: None,
        }
    }

    /// The Open of a gateway that holds everything.
    pub(crate) fn current(&self, n: u8) -> Open {
        Open { position: self.state.position, digest: self.state.feed_digest, ..self.open(n) }
    }
}

fn partner(id: EntityId) -> Entity {
    let screening =
        Screening { list_version: "1".to_owned(), list_date: NOW, result: ScreeningResult::Clear };
    let card = EntityCard {
        id,
        revision: Seq(0),
        is_provider: false,
        memberships: Vec::new(),
        org: Organisation::Us,
        seat: None,
        is_active: true,
        grants: Vec::new(),
        screening: Some(screening),
        safeguards_until: None,
        reverify_due: None,
        mi_flag: false,
        has_licenses: false,
    };
    Entity { card, kind: EntityKind::Company, name: "A partner".to_owned(), status: EntityStatus::Active }
}

/// The certificate of a workload of an entity, in lineage `n`.
pub(crate) fn certificate(of: EntityId, n: u8) -> Certificate {
    Certificate {
        hash: Digest::default(),
        issuer: AuthorityId::from_bytes([1; 16]),
        serial: Serial::from_random([n; 16]),
        ordinal: Ordinal(u64::from(n) + 1),
        not_before: NOW.plus_ms(-60_000),
        not_after: NOW.plus_ms(86_400_000),
        key: Digest::default(),
        facts: Facts::Access(AccessFacts {
            subject: SubjectId::from_bytes([n; 16]),
            entity: EntityFacts {
                entity: of,
                class: EntityClass::Unlisted,
                annex_revision: None,
                determination: None,
            },
            person: None,
            models: vec![MODEL.parse().unwrap()],
            step: LineageStep { lineage: lineage(n), generation: 1 },
        }),
    }
}

pub(crate) fn request() -> Request<'static> {
    Request {
        model: MODEL,
        form: AccessForm::Inference,
        place: Place::Us,
        serving: Place::Us,
        purpose: None,
        chain: Chain::default(),
    }
}

fn officer(n: u8) -> (EcdsaKeyPair, NewPrincipal) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let principal = NewPrincipal {
        id: format!("officer-{n}").parse().unwrap(),
        kind: PrincipalKind::Officer,
        roles: vec![Role::Approver],
        entity: None,
        key: spki.as_ref().to_vec(),
        is_pausable: false,
    };
    drop(spki);
    (pair, principal)
}

/// Genesis, and gateways 0 to 9.
fn first_state() -> State {
    let officers = [officer(1), officer(2)];
    let provider = NewEntity {
        id: entity(255),
        kind: EntityKind::Company,
        name: "The provider".to_owned(),
        org: Organisation::Us,
        seat: None,
    };
    let posture = Posture {
        remote_access_is_release: true,
        assurance_min: Assurance::Ial1,
        embargoed: Vec::new(),
        screening_fresh_ms: 7 * 86_400_000,
    };
    let model = Model { id: MODEL.parse().unwrap(), aliases: Vec::new(), descends_from: None };
    let genesis = Genesis {
        trust_domain: "example.org".to_owned(),
        arc: "1.3.6.1.4.1.32473".to_owned(),
        bundle: BundleParts { models: vec![model], determinations: Vec::new(), rules: Vec::new(), posture },
        officers: officers.iter().map(|(_, principal)| principal.clone()).collect(),
        authorities: vec![authority(1, AuthorityKind::Access), authority(2, AuthorityKind::System)],
        log_key: vec![0; 32],
        provider,
        lease_ms: 10_000,
        ttl_s: 86_400,
        roots: None,
        recovery: None,
        algorithms: None,
    };
    let bytes = to_bytes(&genesis);
    let approve = |(pair, principal): &(EcdsaKeyPair, NewPrincipal)| {
        let message = [GENESIS_PREFIX, &bytes].concat();
        let signature = pair.sign(&SystemRandom::new(), &message).unwrap();
        Approval { officer: principal.id.clone(), signature: signature.as_ref().to_vec() }
    };
    let approvals = officers.iter().map(approve).collect();
    let entry = Entry { event: Event::Genesis { bytes, approvals }, by: None, request: None };
    let mut state = State::genesis(Epoch(1), NOW, &entry).unwrap();
    Arc::make_mut(&mut state.enforcement).ceiling = Ordinal(10_000);
    for n in 0..10 {
        let principal = Principal {
            id: gateway(n),
            kind: PrincipalKind::Gateway,
            roles: vec![Role::Gateway],
            entity: None,
            key: vec![n],
            is_pausable: false,
            is_removed: false,
            suspended: None,
            revision: Seq(1),
        };
        state.principals.insert(gateway(n), Arc::new(principal));
    }
    state
}

fn authority(number: u8, kind: AuthorityKind) -> Authority {
    let not_after = NOW.plus_ms(86_400_000);
    let id = AuthorityId::from_bytes([number; 16]);
    Authority::first(NewAuthority { id, kind, certificate: vec![number], not_after, beneath: None })
}

/// The next message of a session, when there is one.
pub(crate) async fn next(session: &mut Session) -> Result<ToGateway, Closed> {
    loop {
        session.changed().await;
        if let Some(message) = session.poll()? {
            return Ok(message);
        }
    }
}
