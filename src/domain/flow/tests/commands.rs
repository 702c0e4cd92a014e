//! Officers' commands: proposals, principals, the annex, grants, stops, revocations, and what each asks of the record.

use crate::domain::approval::{MANDATE_PREFIX, SignedMandate};
use crate::domain::certificate::PrincipalKind;
use crate::domain::command::{Command, NewPrincipal, ObjectRef, SubjectDecision};
use crate::domain::entity::{EntityStatus, Organisation, Screening, ScreeningResult};
use crate::domain::event::{Entry, Event};
use crate::domain::flow::{Reject, mandate_for};
use crate::domain::grant::Grant;
use crate::domain::id::{EntityId, GrantId, LineageId, Ordinal, PersonId, ProposalId, SubjectId};
use crate::domain::license::License;
use crate::domain::person::{EvidenceKind, PersonStatus};
use crate::domain::principal::Role;
use crate::domain::proposal::{CLOSED_MAX, Lapse, Outcome};
use crate::domain::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use crate::domain::subject::Vetting;
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;
use crate::domain::time::Interval;

const REASON: RevocationReason = RevocationReason::Drill;
const NOBODY: EntityId = EntityId::from_bytes([0xee; 16]);

fn stop(scope: StopScope) -> Command {
    Command::Stop { scope, reason: REASON }
}

#[test]
fn a_proposal_waits_for_its_second_signature() {
    let mut world = World::new();
    world.go(stop(StopScope::All));
    let half = world.mandate(Command::ReleaseStop(StopScope::All), &[alice()]);
    let id = world.propose(half.clone()).unwrap();
    assert!(world.state.enforcement.stops.contains(&StopScope::All), "a proposal does nothing");
    let mut whole = half;
    whole.approvals.push(bob().sign(MANDATE_PREFIX, &whole.bytes));
    assert!(matches!(world.propose(whole.clone()), Err(Reject::Conflict(_))), "enough to be enacted");
    world.record(entry(Event::Enacted { signed: whole, proposal: Some(id) })).unwrap();
    assert!(world.state.enforcement.stops.is_empty() && world.state.proposals.is_empty());
}

#[test]
fn enacting_one_command_does_not_use_up_the_proposal_of_another() {
    let mut world = World::new();
    world.go(stop(StopScope::All));
    let half = world.mandate(Command::ReleaseStop(StopScope::All), &[alice()]);
    let id = world.propose(half).unwrap();
    let signed = world.mandate(stop(StopScope::Entity(PROVIDER)), &[bob()]);
    let other = world.record(entry(Event::Enacted { signed, proposal: Some(id) }));
    assert!(matches!(other, Err(Reject::Conflict(_))), "{other:?}");
    let signed = world.mandate(stop(StopScope::Entity(PROVIDER)), &[bob()]);
    let unknown = Some(ProposalId::from_bytes([1; 16]));
    let missing = world.record(entry(Event::Enacted { signed, proposal: unknown }));
    assert_eq!(missing, Err(Reject::NotFound("proposal")));
}

#[test]
fn a_proposal_that_rests_on_an_older_state_is_made_anew() {
    let mut world = World::new();
    world.go(stop(StopScope::All));
    let signed = world.mandate(Command::ReleaseStop(StopScope::All), &[alice(), bob()]);
    world.go(Command::ReleaseStop(StopScope::All));
    world.go(stop(StopScope::All));
    let stale = world.record(entry(Event::Enacted { signed, proposal: None }));
    assert!(matches!(stale, Err(Reject::Conflict(_))));
}

#[test]
fn a_proposal_is_made_once_and_can_be_rejected_with_a_reason() {
    let mut world = World::new();
    world.go(stop(StopScope::All));
    let signed = world.mandate(Command::ReleaseStop(StopScope::All), &[alice()]);
    let id = world.propose(signed.clone()).unwrap();
    let again = world.record(entry(Event::Proposed { id, signed }));
    assert_eq!(again, Err(Reject::Exists("proposal")));
    let reject = |reason: &str| entry(Event::ProposalRejected { id, reason: reason.to_owned() });
    for bad in ["", "a\u{7}b", &"x".repeat(1_001)] {
        assert!(matches!(world.record(reject(bad)), Err(Reject::Invalid { field: "reason", .. })));
    }
    let without = world.record(entry(Event::ProposalWithdrawn(id)));
    assert!(matches!(without, Err(Reject::Denied(_))), "{without:?}");
    let by_nobody = Entry { by: None, ..reject("no") };
    assert!(matches!(world.record(by_nobody), Err(Reject::Denied(_))));
    world.record(reject("not now")).unwrap();
    assert_eq!(world.record(reject("again")), Err(Reject::NotFound("proposal")));
    let closed = world.state.closed_proposal(id).unwrap();
    assert_eq!(closed.outcome, Outcome::Rejected { reason: "not now".to_owned() });
    assert_eq!(closed.by.as_ref(), Some(&alice().id));
}

#[test]
fn a_proposal_lapses_when_it_can_never_be_carried_out_and_only_then() {
    let mut world = World::new();
    world.go(stop(StopScope::All));
    world.go(Command::RegisterPrincipal(dave().principal()));
    let by_alice = world.mandate(Command::ReleaseStop(StopScope::All), &[alice()]);
    let by_dave = world.mandate(Command::ReleaseStop(StopScope::All), &[dave()]);
    let (first, second) = (world.propose(by_alice).unwrap(), world.propose(by_dave).unwrap());
    let lapse = |world: &World, id| world.state.lapse_of(&world.state.proposals[&id], world.now);
    let lapsed = |id, why| entry(Event::ProposalLapsed { id, why });
    assert_eq!((lapse(&world, first), lapse(&world, second)), (None, None));
    let early = world.record(lapsed(first, Lapse::TooOld));
    assert!(matches!(early, Err(Reject::Conflict(_))), "{early:?}");
    // To the millisecond: at seven days it is still good.
    let (before, made) = (world.now, world.state.proposals[&first].mandated_at);
    world.now = made.plus_ms(7 * DAY_MS);
    assert_eq!(lapse(&world, first), None);
    world.now = made.plus_ms(7 * DAY_MS + 1);
    assert_eq!(lapse(&world, first), Some(Lapse::TooOld));
    world.now = before;
    // Who signed is gone: the signature no longer counts.
    world.go(Command::RemovePrincipal(dave().id.clone()));
    let gone = Lapse::SignerGone(dave().id.clone());
    assert_eq!(lapse(&world, second), Some(gone.clone()));
    world.record(lapsed(second, gone.clone())).unwrap();
    assert_eq!(world.state.closed_proposal(second).unwrap().outcome, Outcome::Lapsed(gone));
    // Something that it rests on changed.
    let both = world.mandate(Command::ReleaseStop(StopScope::All), &[alice(), bob()]);
    world.record(entry(Event::Enacted { signed: both, proposal: None })).unwrap();
    let changed = Lapse::Changed(ObjectRef::Stop(StopScope::All));
    assert_eq!(lapse(&world, first), Some(changed.clone()));
    assert!(world.record(lapsed(first, Lapse::TooOld)).is_err());
    world.record(lapsed(first, changed)).unwrap();
    assert!(world.state.proposals.is_empty());
}

#[test]
fn only_the_last_closed_proposals_are_remembered() {
    let mut world = World::new();
    world.go(stop(StopScope::All));
    let mut ids = Vec::new();
    for _ in 0..=CLOSED_MAX {
        world.now = world.now.plus_ms(1);
        let signed = world.mandate(Command::ReleaseStop(StopScope::All), &[alice()]);
        let id = world.propose(signed).unwrap();
        world.record(entry(Event::ProposalRejected { id, reason: "no".to_owned() })).unwrap();
        ids.push(id);
    }
    assert_eq!(world.state.closed.len(), CLOSED_MAX);
    assert!(world.state.closed_proposal(ids[0]).is_none());
    assert!(ids[1..].iter().all(|id| world.state.closed_proposal(*id).is_some()));
}

#[test]
fn bytes_that_are_no_mandate_are_invalid() {
    let mut world = World::new();
    for bytes in [vec![], vec![0xff; 9], vec![0; 1 << 20]] {
        let signed = SignedMandate { bytes, approvals: Vec::new() };
        let rejected = world.record(entry(Event::Enacted { signed, proposal: None }));
        assert!(matches!(rejected, Err(Reject::Invalid { field: "mandate", .. })));
    }
}

#[test]
fn a_mandate_names_the_revision_of_every_object_of_its_command() {
    let (world, member) = World::with_member();
    let command = world.amendment(&[PROVIDER], &[member]);
    let mandate = mandate_for(&world.state, command, world.now);
    let named: Vec<_> = mandate.basis.iter().map(|basis| basis.object.clone()).collect();
    let annex = ObjectRef::Annex(determination(LIFT));
    assert_eq!(named, [annex, ObjectRef::Entity(PROVIDER), ObjectRef::Entity(member)]);
    assert!(mandate.basis.iter().all(|basis| basis.revision == world.state.revision(&basis.object)));
    assert!(mandate.basis.iter().all(|basis| basis.revision.0 > 1));
}

fn new_principal(change: impl FnOnce(&mut NewPrincipal)) -> Command {
    let mut new = dave().principal();
    change(&mut new);
    Command::RegisterPrincipal(new)
}

#[test]
fn a_principal_has_a_kind_roles_and_a_key_of_its_own() {
    let mut world = World::new();
    let mut field = |change: fn(&mut NewPrincipal)| match world.try_go(new_principal(change)) {
        Err(Reject::Invalid { field, .. } | Reject::Exists(field) | Reject::NotFound(field)) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(|p| p.kind = PrincipalKind::Server), "kind");
    assert_eq!(field(|p| p.roles = vec![]), "roles");
    assert_eq!(field(|p| p.roles = vec![Role::Gateway]), "roles");
    assert_eq!(field(|p| (p.kind, p.roles) = (PrincipalKind::Gateway, vec![Role::Approver])), "roles");
    assert_eq!(field(|p| p.entity = Some(PROVIDER)), "entity");
    let partner: fn(&mut NewPrincipal) = |p| {
        (p.kind, p.roles) = (PrincipalKind::Partner, vec![Role::PartnerAdmin]);
    };
    assert_eq!(field(partner), "entity");
    let of_nobody: fn(&mut NewPrincipal) = |p| {
        (p.kind, p.roles, p.entity) = (PrincipalKind::Partner, vec![Role::PartnerAdmin], Some(NOBODY));
    };
    assert_eq!(field(of_nobody), "entity");
    assert_eq!(field(|p| p.key.push(0)), "key");
    assert_eq!(field(|p| p.key = alice().spki()), "key");
    assert_eq!(field(|p| p.id = "alice".parse().unwrap()), "principal");
    world.go(new_principal(|_| {}));
    assert_eq!(world.try_go(new_principal(|_| {})), Err(Reject::Exists("principal")));
}

#[test]
fn a_principal_does_not_share_the_key_of_a_certificate() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let mut intent = world.enrollment(person, "").unwrap();
    intent.key = crate::domain::id::Digest::of(&dave().spki());
    world.intend(&intent).unwrap();
    world.complete(&intent).unwrap();
    assert_eq!(world.try_go(new_principal(|_| {})), Err(Reject::Exists("key")));
}

#[test]
fn two_approvers_always_remain() {
    let mut world = World::new();
    let remove = |officer: &Officer| Command::RemovePrincipal(officer.id.clone());
    let few = world.try_go(remove(bob()));
    assert!(matches!(few, Err(Reject::WrongState { what: "number of approvers", .. })));
    world.go(Command::RegisterPrincipal(carol().principal()));
    assert!(world.try_go(remove(bob())).is_err(), "a vetter is no approver");
    world.go(Command::RegisterPrincipal(dave().principal()));
    world.go(remove(dave()));
    assert_eq!(world.try_go(remove(dave())).map(|_| ()), Err(Reject::NotFound("principal")));
    assert!(world.try_go(remove(bob())).is_err(), "a removed approver does not count");
    world.go(remove(carol()));
}

#[test]
fn an_entity_is_activated_rejected_and_removed_once() {
    let mut world = World::new();
    let status = |world: &World, id| world.state.entities[&id].status;
    let [a, b] = [world.applicant(Organisation::Us), world.applicant(Organisation::Us)];
    world.go(Command::ActivateEntity(a));
    world.go(Command::RejectEntity(b));
    assert_eq!((status(&world, a), status(&world, b)), (EntityStatus::Active, EntityStatus::Rejected));
    let remove = |entity| Command::RemoveEntity { entity, reason: REASON };
    for refused in
        [Command::ActivateEntity(a), Command::ActivateEntity(b), Command::RejectEntity(a), remove(b)]
    {
        let rejected = world.try_go(refused);
        assert!(matches!(rejected, Err(Reject::WrongState { what: "entity", .. })), "{rejected:?}");
    }
    world.go(remove(a));
    assert!(world.try_go(remove(a)).is_err() && world.try_go(Command::ActivateEntity(a)).is_err());
    assert!(matches!(world.try_go(remove(PROVIDER)), Err(Reject::Denied(_))));
}

#[test]
fn an_applicant_is_registered_once_under_a_printable_name() {
    let mut world = World::new();
    let id = world.applicant(Organisation::Us);
    let apply = |name: &str, id| {
        let mut new = entity(id, Organisation::Us);
        new.name = name.to_owned();
        entry(Event::EntityApplied(new))
    };
    assert_eq!(world.record(apply("Again", id)), Err(Reject::Exists("entity")));
    for name in ["", "two\nlines", &"x".repeat(1_001)] {
        let rejected = world.record(apply(name, NOBODY));
        assert!(matches!(rejected, Err(Reject::Invalid { field: "name", .. })));
    }
}

#[test]
fn the_annex_is_amended_revision_by_revision() {
    let (mut world, member) = World::with_member();
    let other = world.partner(Organisation::Us);
    let amend = |revision, add: &[EntityId], remove: &[EntityId]| Command::AmendAnnex {
        determination: determination(LIFT),
        revision,
        add: add.to_vec(),
        remove: remove.to_vec(),
    };
    assert!(matches!(world.try_go(amend(1, &[other], &[])), Err(Reject::Conflict(_))));
    assert!(matches!(world.try_go(amend(3, &[other], &[])), Err(Reject::Conflict(_))));
    assert!(matches!(world.try_go(amend(2, &[], &[])), Err(Reject::Invalid { .. })));
    assert_eq!(world.try_go(amend(2, &[member], &[])), Err(Reject::Exists("membership")));
    assert_eq!(world.try_go(amend(2, &[], &[other])), Err(Reject::NotFound("membership")));
    assert_eq!(world.try_go(amend(2, &[NOBODY], &[])), Err(Reject::NotFound("entity")));
    assert!(matches!(world.try_go(amend(2, &[other, other], &[])), Err(Reject::Invalid { .. })));
    let unknown = Command::AmendAnnex {
        determination: determination("no-such-letter"),
        revision: 1,
        add: vec![other],
        remove: vec![],
    };
    assert_eq!(world.try_go(unknown), Err(Reject::NotFound("determination")));
    world.go(amend(2, &[other], &[member]));
    assert_eq!(world.state.annexes[&determination(LIFT)], 2);
    assert_eq!(world.state.entities[&other].card.memberships[0].revision, 2);
}

#[test]
fn a_grant_names_a_registered_model_by_its_own_name() {
    let (mut world, member) = World::with_member();
    let give = |name: &str| Command::GrantModel { entity: member, grant: grant(60, name) };
    assert_eq!(world.try_go(give("no-such-model")), Err(Reject::NotFound("model")));
    let alias = world.try_go(give("mythos-5-latest"));
    assert!(matches!(alias, Err(Reject::Invalid { field: "model", .. })), "{alias:?}");
    world.go(give("mythos-5-defender"));
    assert_eq!(world.try_go(give("fable-5")), Err(Reject::Exists("grant")));
    let end = |id| Command::EndGrant { entity: member, grant: GrantId::from_bytes([id; 16]) };
    assert_eq!(world.try_go(end(61)), Err(Reject::NotFound("grant")));
    world.go(end(60));
}

#[test]
fn a_licence_names_its_holder_and_registered_models() {
    let (mut world, member) = World::with_member();
    let license = |holder, name: &str| {
        Command::RegisterLicense(License {
            id: "d123456".parse().unwrap(),
            holder,
            subjects: Vec::new(),
            models: vec![model(name)],
            countries: Vec::new(),
            purposes: Vec::new(),
            interval: Interval { from: at(R1), until: None },
            provisos_met: true,
            reports: None,
        })
    };
    assert_eq!(world.try_go(license(NOBODY, "mythos-5")), Err(Reject::NotFound("entity")));
    let alias = world.try_go(license(member, "mythos-5-latest"));
    assert!(matches!(alias, Err(Reject::Invalid { field: "model", .. })));
    world.go(license(member, "mythos-5"));
    assert!(world.state.entities[&member].card.has_licenses);
}

#[test]
fn a_stop_that_would_reach_nothing_is_not_acknowledged() {
    let mut world = World::new();
    let alias = world.try_go(stop(StopScope::Model(model("mythos-5-latest"))));
    let Err(Reject::Invalid { field: "model", why }) = alias else { panic!("{alias:?}") };
    assert_eq!(why, "mythos-5-latest is another name of mythos-5");
    let unknown = world.try_go(stop(StopScope::Model(model("mythos-6"))));
    assert_eq!(unknown, Err(Reject::NotFound("model")));
    assert_eq!(world.try_go(stop(StopScope::Entity(NOBODY))), Err(Reject::NotFound("entity")));
    let subject = SubjectId::from_bytes([1; 16]);
    assert_eq!(world.try_go(stop(StopScope::Subject(subject))), Err(Reject::NotFound("subject")));
    let system = world.try_go(stop(StopScope::Issuer(SYSTEM_CA)));
    assert!(matches!(system, Err(Reject::Denied(_))), "no model-access scope reaches it");
    world.go(stop(StopScope::Model(model("mythos-5"))));
    assert_eq!(world.try_go(stop(StopScope::Model(model("mythos-5")))), Err(Reject::Exists("stop")));
    let other = Command::ReleaseStop(StopScope::All);
    assert_eq!(world.try_go(other), Err(Reject::NotFound("stop")));
}

#[test]
fn what_is_revoked_suspended_or_held_is_on_record() {
    let (mut world, member) = World::with_member();
    let mut missing = |command: Command| match world.try_go(command) {
        Err(Reject::NotFound(what)) => what,
        other => panic!("{other:?}"),
    };
    let mut revoke = |scope| missing(Command::Revoke { scope, reason: REASON });
    assert_eq!(revoke(RevocationScope::Certificate(Ordinal(1))), "certificate");
    assert_eq!(revoke(RevocationScope::Certificate(Ordinal(0))), "certificate");
    assert_eq!(revoke(RevocationScope::Lineage(LineageId::from_bytes([1; 16]))), "lineage");
    assert_eq!(revoke(RevocationScope::Subject(SubjectId::from_bytes([1; 16]))), "subject");
    assert_eq!(revoke(RevocationScope::Person(PersonId::from_bytes([1; 16]))), "person");
    assert_eq!(revoke(RevocationScope::Entity(NOBODY)), "entity");
    for revision in [0, 2] {
        let scope = RevocationScope::AnnexRevision(LIFT.parse().unwrap(), revision);
        assert_eq!(revoke(scope), "annex revision", "the last one is 1");
    }
    assert_eq!(missing(Command::Hold { ordinal: Ordinal(1), reason: REASON }), "certificate");
    assert_eq!(missing(Command::ReleaseHold(Ordinal(1))), "hold");
    let target = SuspensionTarget::Entity(NOBODY);
    assert_eq!(missing(Command::Suspend { target, reason: REASON }), "entity");
    assert_eq!(missing(Command::Unsuspend(SuspensionTarget::Entity(member))), "suspension");
    for issuer in [ACCESS_CA, SYSTEM_CA] {
        let scope = RevocationScope::Issuer(issuer);
        let refused = world.try_go(Command::Revoke { scope, reason: REASON });
        assert!(matches!(refused, Err(Reject::NeedsApproval(_))), "one officer stops it, two revoke it");
    }
}

#[test]
fn a_determination_that_no_policy_has_any_more_can_be_revoked() {
    let (mut world, _) = World::with_member();
    let scope = RevocationScope::Determination("an-act-of-an-earlier-policy".parse().unwrap());
    world.go(Command::Revoke { scope, reason: REASON });
}

#[test]
fn a_hold_is_the_reversible_one() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(person).unwrap();
    let request = inference("mythos-5");
    world.go(Command::Hold { ordinal: certificate.ordinal, reason: REASON });
    assert_eq!(world.decide(&certificate, &request).code(), "CREDENTIAL_HELD");
    let one = world.enact(Command::ReleaseHold(certificate.ordinal), &[alice()]);
    assert!(matches!(one, Err(Reject::NeedsApproval(_))));
    world.go(Command::ReleaseHold(certificate.ordinal));
    assert!(world.decide(&certificate, &request).is_permit());
    let scope = RevocationScope::Certificate(certificate.ordinal);
    world.go(Command::Revoke { scope: scope.clone(), reason: REASON });
    let again = world.try_go(Command::Revoke { scope, reason: REASON });
    assert_eq!(again, Err(Reject::Exists("revocation")));
}

#[test]
fn a_vetter_decides_what_the_evidence_supports() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let job = world.workload(member, &[person]);
    let approve = |subject, vetting| Command::DecideSubject {
        subject,
        decision: SubjectDecision::Approve { vetting, reverify_due: None },
    };
    let vetting = world.vetting(FOREIGN);
    let misstated = Vetting { evidence: EvidenceKind::CitizenOrNational, ..vetting.clone() };
    let rejected = world.try_go(approve(person, Some(misstated)));
    assert!(matches!(rejected, Err(Reject::Invalid { field: "status", .. })));
    let rejected = world.try_go(approve(job, Some(vetting)));
    assert!(matches!(rejected, Err(Reject::Invalid { field: "vetting", .. })));
    // A person who was vetted before may be approved again without a new vetting.
    world.go(approve(person, None));
    let kept = world.state.subjects[&person].employment().unwrap().vetting.clone();
    assert_eq!(kept.unwrap().status, PersonStatus::ForeignPerson);
}

#[test]
fn a_screening_has_a_reason_a_version_and_a_date_that_is_past() {
    let (mut world, member) = World::with_member();
    let good = world.screening(ScreeningResult::Clear);
    let record = |screening: Screening, reason: &str| Command::RecordScreening {
        entity: member,
        screening,
        reason: reason.to_owned(),
    };
    let future = Screening { list_date: world.now.plus_ms(1), ..good.clone() };
    let unnamed = Screening { list_version: String::new(), ..good.clone() };
    for (command, wrong) in [
        (record(future, "x"), "list_date"),
        (record(unnamed, "x"), "list_version"),
        (record(good.clone(), ""), "reason"),
    ] {
        let rejected = world.try_go(command);
        assert!(matches!(&rejected, Err(Reject::Invalid { field, .. }) if *field == wrong), "{rejected:?}");
    }
    world.go(record(good, "x"));
}

#[test]
fn a_bundle_that_does_not_fit_together_is_not_adopted() {
    let mut world = World::new();
    let mut parts = sample_parts();
    parts.models.remove(0);
    let rejected = world.try_go(Command::AdoptPolicy(Box::new(parts)));
    assert!(matches!(rejected, Err(Reject::Invalid { field: "policy", .. })));
    // Nor one that would let a stop reach nothing.
    world.go(stop(StopScope::Model(model("sonata-4"))));
    let mut parts = sample_parts();
    parts.models.retain(|model| model.id.as_str() != "sonata-4");
    let rejected = world.try_go(Command::AdoptPolicy(Box::new(parts)));
    assert!(matches!(rejected, Err(Reject::Conflict(_))));
    world.go(Command::AdoptPolicy(Box::new(rescinded_parts())));
    let mut signed = rescinded_parts();
    signed.determinations[2].instants.approved_at = Some(world.now);
    assert_eq!(world.state.bundle().parts(), &signed);
    assert_eq!(world.gate.enforcement.bundle.hash(), world.state.bundle().hash());
}

#[test]
fn a_grant_is_an_object_of_its_entity() {
    let grant = Grant { ..grant(1, "mythos-5") };
    let command = Command::GrantModel { entity: PROVIDER, grant };
    assert_eq!(command.objects(), [ObjectRef::Entity(PROVIDER)]);
}
