//! The revocation set and the gateway's view of it.

use std::sync::Arc;

use crate::domain::certificate::{AccessFacts, EntityFacts, LineageStep};
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::Command;
use crate::domain::decision::CredentialFault;
use crate::domain::enforce::{
    CardLookup, EnforcementEvent, EnforcementSet, GateView, OrdinalSet, SubjectLookup, View,
};
use crate::domain::entity::{EntityCard, EntityClass};
use crate::domain::id::{EntityId, LineageId, Ordinal, Seq, SubjectId};
use crate::domain::revocation::{RevocationReason, StopScope, SuspensionTarget};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;
use crate::domain::time::Now;

const ENTITY: EntityId = EntityId::from_bytes([21; 16]);
const SUBJECT: SubjectId = SubjectId::from_bytes([22; 16]);

#[test]
fn an_ordinal_set_holds_what_was_put_in_and_survives_its_encoding() {
    let mut set = OrdinalSet::default();
    let members = [1, 2, 65_535, 65_536, 1 << 20, (1 << 40) + 3, u64::MAX].map(Ordinal);
    members.iter().for_each(|ordinal| set.insert(*ordinal));
    set.insert(Ordinal(2));
    assert_eq!((set.len(), set.is_empty()), (7, false));
    assert_eq!(set.iter().collect::<Vec<_>>(), members);
    assert!(set.contains(Ordinal(65_536)) && !set.contains(Ordinal(65_537)));
    assert_eq!(from_bytes::<OrdinalSet>(&to_bytes(&set)).unwrap(), set);
    set.remove(Ordinal(3));
    members.iter().for_each(|ordinal| set.remove(*ordinal));
    assert_eq!(set, OrdinalSet::default());
}

#[test]
fn a_dense_ordinal_set_survives_its_encoding_in_every_form() {
    let mut set = OrdinalSet::default();
    (0..70_000).for_each(|n| set.insert(Ordinal(n)));
    assert!(from_bytes::<OrdinalSet>(&to_bytes(&set)).unwrap() == set);
    (0..69_000).for_each(|n| set.remove(Ordinal(n)));
    assert!(from_bytes::<OrdinalSet>(&to_bytes(&set)).unwrap() == set);
}

#[test]
fn a_clone_of_an_ordinal_set_stands_by_itself() {
    let mut set = OrdinalSet::default();
    set.insert(Ordinal(1));
    let before = set.clone();
    set.insert(Ordinal(2));
    assert!(!before.contains(Ordinal(2)) && set.contains(Ordinal(2)));
}

#[test]
fn bytes_that_are_no_ordinal_set_are_refused() {
    let mut set = OrdinalSet::default();
    set.insert(Ordinal(7));
    let good = to_bytes(&set);
    for at in 0..good.len() {
        let mut cut = good.clone();
        cut.truncate(at);
        assert!(from_bytes::<OrdinalSet>(&cut).is_err());
    }
    // An empty shard is another spelling of nothing.
    let mut empty = Vec::new();
    roaring::RoaringBitmap::new().serialize_into(&mut empty).unwrap();
    let mut bytes = vec![0xa1, 0x00, 0x40 | u8::try_from(empty.len()).unwrap()];
    bytes.extend(empty);
    assert!(from_bytes::<OrdinalSet>(&bytes).is_err());
}

#[test]
fn cutoffs_and_the_ceiling_never_go_down() {
    let mut set = EnforcementSet::new(Arc::new(sample()));
    for (step, highest) in [(5, 5), (3, 5), (8, 8), (0, 8)] {
        set.apply(&EnforcementEvent::EntityCut { entity: ENTITY, cutoff: Ordinal(step) });
        let subjects = vec![SUBJECT];
        set.apply(&EnforcementEvent::SubjectsCut { subjects, cutoff: Ordinal(step + 1) });
        set.apply(&EnforcementEvent::CeilingRaised(Ordinal(step * 100)));
        assert_eq!(set.entities[&ENTITY], Ordinal(highest));
        assert_eq!(set.subjects[&SUBJECT], Ordinal(highest + 1));
        assert_eq!(set.ceiling, Ordinal(highest * 100));
        assert_eq!(
            set.cutoff(&stating(ENTITY, SUBJECT, None)),
            Ordinal(highest + 1),
            "the higher of the two"
        );
    }
    let nobody = (EntityId::from_bytes([0; 16]), SubjectId::from_bytes([0; 16]));
    assert_eq!(set.cutoff(&stating(nobody.0, nobody.1, None)), Ordinal(0));
}

fn stating(entity: EntityId, subject: SubjectId, cited: Option<(&str, u32)>) -> AccessFacts {
    let lineage = LineageId::from_bytes([4; 16]);
    AccessFacts {
        subject,
        entity: EntityFacts {
            entity,
            class: EntityClass::AnnexA,
            annex_revision: cited.map(|(_, revision)| revision),
            determination: cited.map(|(id, _)| id.parse().unwrap()),
        },
        person: None,
        models: Vec::new(),
        step: LineageStep { lineage, generation: 1 },
    }
}

#[test]
fn a_determination_is_cut_off_whole_or_by_the_revision_of_its_annex() {
    let mut set = EnforcementSet::new(Arc::new(sample()));
    let cut = |id: &str, annex_revision, cutoff| EnforcementEvent::DeterminationCut {
        determination: id.parse().unwrap(),
        annex_revision,
        cutoff: Ordinal(cutoff),
    };
    let cutoff = |set: &EnforcementSet, cited| set.cutoff(&stating(ENTITY, SUBJECT, cited)).0;
    set.apply(&cut("lift", Some(2), 50));
    assert_eq!(cutoff(&set, Some(("lift", 2))), 50);
    assert_eq!(cutoff(&set, Some(("lift", 1))), 0);
    set.apply(&cut("lift", None, 20));
    assert_eq!([1, 2].map(|revision| cutoff(&set, Some(("lift", revision)))), [20, 50]);
    set.apply(&cut("lift", Some(2), 10));
    set.apply(&cut("lift", None, 5));
    assert_eq!([1, 2].map(|revision| cutoff(&set, Some(("lift", revision)))), [20, 50], "never down");
    assert_eq!([cutoff(&set, Some(("another", 2))), cutoff(&set, None)], [0, 0]);
    assert_eq!(set.determinations.values().map(|cutoffs| cutoffs.count()).sum::<u64>(), 2);
}

#[test]
fn what_is_wrong_with_a_credential_is_told_by_the_gravest() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let mut certificate = world.enroll(person).unwrap();
    let crate::domain::certificate::Facts::Access(facts) = certificate.facts.clone() else { panic!() };
    let base = world.state.enforcement.as_ref().clone();
    let now = Now::exactly(world.now);
    let fault = |events: &[EnforcementEvent]| {
        let mut set = base.clone();
        events.iter().for_each(|event| set.apply(event));
        set.credential_fault(&certificate, &facts, now)
    };
    let ordinal = certificate.ordinal;
    let held = EnforcementEvent::Held(ordinal);
    let locked = EnforcementEvent::LineageLocked(facts.step.lineage);
    let revoked = EnforcementEvent::CertificateRevoked(ordinal);
    assert_eq!(fault(&[]), None);
    assert_eq!(fault(std::slice::from_ref(&held)), Some(CredentialFault::Held));
    assert_eq!(fault(&[held.clone(), locked.clone()]), Some(CredentialFault::LineageLocked));
    assert_eq!(fault(&[held, locked, revoked]), Some(CredentialFault::Revoked));
    let cut = |cutoff| EnforcementEvent::EntityCut { entity: member, cutoff: Ordinal(cutoff) };
    assert_eq!(fault(&[cut(ordinal.0 - 1)]), None);
    assert_eq!(fault(&[cut(ordinal.0)]), Some(CredentialFault::Revoked), "up to and including");
    let other = EnforcementEvent::LineageLocked(LineageId::from_bytes([0; 16]));
    assert_eq!(fault(&[other, EnforcementEvent::IssuerRevoked(SYSTEM_CA)]), None);
    assert_eq!(fault(&[EnforcementEvent::IssuerRevoked(ACCESS_CA)]), Some(CredentialFault::Revoked));
    for (forged, expected) in [(0, true), (10_000, false), (10_001, true)] {
        certificate.ordinal = Ordinal(forged);
        let fault = base.credential_fault(&certificate, &facts, now);
        assert_eq!(fault == Some(CredentialFault::NotIssued), expected, "ordinal {forged}");
    }
}

#[test]
fn what_is_released_was_engaged_and_leaves_no_trace() {
    let empty = EnforcementSet::new(Arc::new(sample()));
    let mut set = empty.clone();
    let target = SuspensionTarget::Subject(SUBJECT);
    set.apply(&EnforcementEvent::Stopped(StopScope::All));
    set.apply(&EnforcementEvent::Suspended(target));
    set.apply(&EnforcementEvent::Held(Ordinal(9)));
    assert!(set.is_stopped(None, None) && set.is_suspended(ENTITY, SUBJECT));
    set.apply(&EnforcementEvent::StopReleased(StopScope::All));
    set.apply(&EnforcementEvent::Unsuspended(target));
    set.apply(&EnforcementEvent::HoldReleased(Ordinal(9)));
    assert!(set == empty);
}

#[test]
fn a_stop_reaches_its_scope() {
    let (mut world, member) = World::with_member();
    let [person, colleague] = [FOREIGN, US].map(|status| world.person(member, status, EMPLOYEE));
    let own = world.person(PROVIDER, US, EMPLOYEE);
    let certificates = [person, colleague, own].map(|subject| world.enroll(subject).unwrap());
    let mut stopped = |scope: StopScope, name: &str| {
        world.go(Command::Stop { scope: scope.clone(), reason: RevocationReason::Drill });
        let codes = certificates.each_ref().map(|certificate| {
            let decision = world.decide(certificate, &inference(name));
            assert_eq!(decision, world.decide_at_gate(certificate, &inference(name)));
            decision.code() == "EMERGENCY_STOP"
        });
        world.go(Command::ReleaseStop(scope));
        codes
    };
    assert_eq!(stopped(StopScope::All, "sonata-4"), [true, true, true]);
    assert_eq!(stopped(StopScope::Model(model("mythos-5")), "Claude Mythos 5"), [true, true, true]);
    assert_eq!(stopped(StopScope::Model(model("mythos-5")), "mythos-5-defender"), [true, true, true]);
    assert_eq!(stopped(StopScope::Model(model("mythos-5-defender")), "mythos-5"), [false; 3]);
    assert_eq!(stopped(StopScope::Model(model("fable-5")), "mythos-5"), [false; 3]);
    assert_eq!(stopped(StopScope::Entity(member), "mythos-5"), [true, true, false]);
    assert_eq!(stopped(StopScope::Subject(person), "mythos-5"), [true, false, false]);
    assert_eq!(stopped(StopScope::Issuer(ACCESS_CA), "mythos-5"), [true, true, true]);
}

#[test]
fn a_gateway_that_applied_the_same_events_has_the_same_digest_and_set() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let before = world.state.feed_digest;
    assert_eq!(world.gate.digest, before);
    let certificate = world.enroll(person).unwrap();
    assert_eq!(world.state.feed_digest, before, "issuance is nobody's business");
    world.decide_person(person, US);
    world.go(Command::Hold { ordinal: certificate.ordinal, reason: RevocationReason::Drill });
    assert_ne!(world.state.feed_digest, before);
    assert_eq!(
        (world.gate.digest, world.state.feed_seq),
        (world.state.feed_digest, world.state.position.seq)
    );
    assert!(world.gate.enforcement == world.state.enforcement);
    // The order and the record count, not only the events.
    let [a, b] = [EnforcementEvent::Held(Ordinal(1)), EnforcementEvent::Held(Ordinal(2))];
    let digest = |steps: &[(u64, &EnforcementEvent)]| {
        let mut view = project(&world.state);
        steps.iter().for_each(|(seq, event)| view.apply(Seq(*seq), &[(*event).clone()]));
        view.digest
    };
    assert_ne!(digest(&[(1, &a), (2, &b)]), digest(&[(1, &b), (2, &a)]));
    assert_ne!(digest(&[(1, &a)]), digest(&[(2, &a)]));
}

#[test]
fn a_gateway_keeps_the_newest_card() {
    let world = World::new();
    let mut view: GateView = project(&world.state);
    let card = |revision| {
        Some(Arc::new(EntityCard { revision: Seq(revision), ..world.state.entities[&PROVIDER].card.clone() }))
    };
    let held = |view: &GateView| match view.card(PROVIDER) {
        CardLookup::Known(card) => Some(card.revision.0),
        CardLookup::Absent => Some(0),
        CardLookup::NotHere => None,
    };
    assert_eq!(held(&view), None);
    for (taken, expected) in [(None, 0), (card(5), 5), (card(4), 5), (None, 5), (card(6), 6), (card(6), 6)] {
        view.take_card(PROVIDER, taken);
        assert_eq!(held(&view), Some(expected));
    }
    assert!(matches!(view.subject(SUBJECT), SubjectLookup::ByCertificate));
}
