//! Mandates over the wire: restrict with one, loosen with two, and nothing but what was signed, once.

use countersign::domain::approval::{GENESIS_PREFIX, MANDATE_PREFIX, Mandate};
use countersign::domain::certificate::PrincipalKind;
use countersign::domain::codec::{from_bytes, to_bytes};
use countersign::domain::command::Command;
use countersign::domain::event::{Entry, Event};
use countersign::domain::id::EntityId;
use countersign::domain::person::EvidenceKind;
use countersign::domain::principal::Role;
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use countersign::pb;
use countersign::pb::mandate_service_client::MandateServiceClient;
use countersign::pb::provisioning_service_client::ProvisioningServiceClient;
use countersign::pb::revocation_service_client::RevocationServiceClient;
use tonic::{Code, Status};

use crate::calls::{denied, reason, refused};
use crate::world::{World, sign};

const REASON: RevocationReason = RevocationReason::Drill;
const DAY_MS: u32 = 86_400_000;

fn seq(world: &World) -> u64 {
    world.running().app().state().position.seq.0
}

/// A screened applicant, and the mandate that would activate it.
async fn applicant(world: &World) -> (EntityId, Vec<u8>) {
    let entity = world.applicant().await;
    world.screen(entity).await;
    (entity, world.mandate(&Command::ActivateEntity(entity)).await.unwrap())
}

fn is_active(world: &World, entity: EntityId) -> bool {
    world.running().app().state().entities[&entity].card.is_active
}

async fn approve(world: &World, proposal: &str, approval: pb::Approval) -> Result<u32, Status> {
    let request = pb::ApproveProposalRequest {
        proposal_id: proposal.to_owned(),
        approval: Some(approval),
        ..Default::default()
    };
    let answer = MandateServiceClient::new(world.bob()).approve_proposal(request).await?;
    Ok(answer.into_inner().signatures_missing)
}

async fn proposals(world: &World) -> Vec<pb::Proposal> {
    let mut client = MandateServiceClient::new(world.bob());
    client.list_proposals(pb::ListProposalsRequest::default()).await.unwrap().into_inner().proposals
}

async fn proposal(world: &World, id: &str) -> Result<pb::Proposal, Status> {
    let request = pb::GetProposalRequest { proposal_id: id.to_owned() };
    let answer = MandateServiceClient::new(world.bob()).get_proposal(request).await?;
    Ok(answer.into_inner().proposal.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_is_read_by_its_id_as_it_is_listed() {
    let world = World::start().await;
    for _ in 0..3 {
        let (_, mandate) = applicant(&world).await;
        world.submit(mandate.clone(), vec![world.alice.approve(&mandate)]).await.unwrap();
    }
    let listed = proposals(&world).await;
    assert_eq!(listed.len(), 3);
    for one in listed {
        // The list leaves out what is long.
        let read = proposal(&world, &one.proposal_id).await.unwrap();
        assert!(read.mandate.is_some() && one.mandate.is_none());
        assert_eq!(pb::Proposal { mandate: None, ..read }, one);
    }
    let unknown = proposal(&world, "prp_01ARZ3NDEKTSV4RRFFQ69G5FAV").await;
    refused(unknown, Code::NotFound, "there is no such proposal");
    refused(proposal(&world, "prp").await, Code::InvalidArgument, "proposal_id");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_signature_proposes_and_another_officer_s_enacts() {
    let mut world = World::start().await;
    let (entity, mandate) = applicant(&world).await;
    let proposed = world.submit(mandate.clone(), vec![world.alice.approve(&mandate)]).await.unwrap();
    assert_eq!(proposed.signatures_missing, 1);
    assert!(!is_active(&world, entity));
    world.close().await;
    world.open().await;
    let waiting = proposals(&world).await;
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].command.as_str(), waiting[0].signatures_missing), ("ACTIVATE_ENTITY", 1));
    let read = proposal(&world, &proposed.proposal_id).await.unwrap();
    assert_eq!(read.mandate.unwrap().mandate, mandate);
    let missing = approve(&world, &proposed.proposal_id, world.bob.approve(&mandate)).await.unwrap();
    assert_eq!(missing, 0);
    assert!(is_active(&world, entity));
    assert!(proposals(&world).await.is_empty());
    let again = approve(&world, &proposed.proposal_id, world.bob.approve(&mandate)).await;
    refused(again, Code::FailedPrecondition, "waits no more: ENACTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_38_nobody_approves_what_they_proposed() {
    let world = World::start().await;
    let (entity, _) = applicant(&world).await;
    world.enact(Command::ActivateEntity(entity)).await.unwrap();
    let determination = "2026-06-26-lift".parse().unwrap();
    let add = Command::AmendAnnex { determination, revision: 1, add: vec![entity], remove: vec![] };
    let mandate = world.mandate(&add).await.unwrap();
    let alice = || world.alice.approve(&mandate);
    let twice = world.submit(mandate.clone(), vec![alice(), alice()]).await;
    refused(twice, Code::FailedPrecondition, "signed twice");
    let proposed = world.submit(mandate.clone(), vec![alice()]).await.unwrap();
    refused(approve(&world, &proposed.proposal_id, alice()).await, Code::FailedPrecondition, "signed twice");
    // Somebody else's name over the same key's signature does not help either.
    let disguised = pb::Approval { officer: "bob".to_owned(), ..alice() };
    refused(approve(&world, &proposed.proposal_id, disguised).await, Code::FailedPrecondition, "not verify");
    assert!(world.running().app().state().annexes.is_empty(), "a proposal affects no decision");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rests_on_something_that_changed_is_not_carried_out() {
    let world = World::start().await;
    let (entity, mandate) = applicant(&world).await;
    let both = vec![world.alice.approve(&mandate), world.bob.approve(&mandate)];
    let proposed = world.submit(mandate.clone(), both[..1].to_vec()).await.unwrap();
    // The entity is screened anew between the signatures.
    world.screen(entity).await;
    refused(world.submit(mandate.clone(), both.clone()).await, Code::Aborted, "changed since");
    refused(approve(&world, &proposed.proposal_id, both[1].clone()).await, Code::Aborted, "changed since");
    assert!(!is_active(&world, entity));
    // Signatures do not wait in a drawer.
    let mandate = world.mandate(&Command::ActivateEntity(entity)).await.unwrap();
    let both = vec![world.alice.approve(&mandate), world.bob.approve(&mandate)];
    world.clock.advance_ms(7 * DAY_MS);
    world.clock.advance_ms(1);
    refused(world.submit(mandate, both).await, Code::Aborted, "older than seven days");
    // What was carried out once is not carried out again.
    let mandate = world.mandate(&Command::ActivateEntity(entity)).await.unwrap();
    let both = vec![world.alice.approve(&mandate), world.bob.approve(&mandate)];
    world.submit(mandate.clone(), both.clone()).await.unwrap();
    refused(world.submit(mandate, both).await, Code::Aborted, "changed since");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restriction_is_carried_out_whatever_changed_meanwhile() {
    let world = World::start().await;
    let entity = world.partner().await;
    let target = SuspensionTarget::Entity(entity);
    let scope = RevocationScope::Entity(entity);
    for command in [Command::Suspend { target, reason: REASON }, Command::Revoke { scope, reason: REASON }] {
        let mandate = world.mandate(&command).await.unwrap();
        world.screen(entity).await;
        world.clock.advance_ms(8 * DAY_MS);
        let approvals = vec![world.alice.approve(&mandate)];
        world.submit(mandate, approvals).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restriction_never_expires_and_another_officer_may_submit_it_again() {
    let world = World::start().await;
    let mandate = world.mandate(&Command::Stop { scope: StopScope::All, reason: REASON }).await.unwrap();
    let signed =
        pb::SignedMandate { approvals: vec![world.alice.approve(&mandate)], mandate: mandate.into() };
    let roles = [Role::Vetter, Role::Registrar];
    let clerk = world.principal("clerk", (PrincipalKind::Officer, &roles), None).await;
    let submit = async |channel| {
        let request = pb::SubmitMandateRequest { mandate: Some(signed.clone()), ..Default::default() };
        let answer = MandateServiceClient::new(channel).submit_mandate(request).await?;
        Ok::<_, Status>(answer.into_inner().position.unwrap().seq)
    };
    submit(world.alice()).await.unwrap();
    world.enact(Command::ReleaseStop(StopScope::All)).await.unwrap();
    world.clock.advance_ms(20 * DAY_MS);
    // Who could not sign it cannot submit it either.
    refused(submit(world.connect_as(&clerk).await).await, Code::PermissionDenied, "who may sign one");
    assert!(world.running().app().state().enforcement.stops.is_empty());
    let seq = submit(world.bob()).await.unwrap();
    assert!(world.running().app().state().enforcement.stops.contains(&StopScope::All));
    // The record says who submitted what alice signed.
    let list = pb::ListRecordsRequest { from_seq: seq, page_size: 1 };
    let mut auditor = pb::audit_service_client::AuditServiceClient::new(world.alice());
    let record = auditor.list_records(list).await.unwrap().into_inner().records.remove(0);
    assert_eq!(record.actor, "bob");
    let entry: Entry = from_bytes(&record.body).unwrap();
    let Event::Enacted { signed, .. } = entry.event else { panic!("{:?}", entry.event) };
    assert_eq!(signed.approvals.iter().map(|a| a.officer.as_str()).collect::<Vec<_>>(), ["alice"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_checks_everything_and_changes_nothing() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (applied, mandate) = applicant(&world).await;
    let before = seq(&world);
    let approvals = vec![world.alice.approve(&mandate), world.bob.approve(&mandate)];
    let signed = |approvals| Some(pb::SignedMandate { mandate: mandate.clone().into(), approvals });
    let mut client = MandateServiceClient::new(world.alice());
    let request = |approvals| pb::SubmitMandateRequest {
        mandate: signed(approvals),
        validate_only: true,
        ..Default::default()
    };
    client.submit_mandate(request(approvals.clone())).await.unwrap();
    let proposal = client.submit_mandate(request(approvals[..1].to_vec())).await.unwrap().into_inner();
    assert_eq!((proposal.proposal_id.as_str(), proposal.signatures_missing), ("", 1));
    let twice = vec![approvals[0].clone(), approvals[0].clone()];
    refused(client.submit_mandate(request(twice)).await, Code::FailedPrecondition, "signed twice");

    let stop = Command::Stop { scope: StopScope::All, reason: REASON };
    let stop = world.mandate(&stop).await.unwrap();
    let request = pb::StopRequest {
        mandate: Some(pb::SignedMandate {
            approvals: vec![world.alice.approve(&stop)],
            mandate: stop.into(),
        }),
        wait: pb::Wait::Enforced.into(),
        validate_only: true,
        ..Default::default()
    };
    RevocationServiceClient::new(world.alice()).stop(request).await.unwrap();
    let mut portal = ProvisioningServiceClient::new(world.alice());
    let apply = pb::ApplyEntityRequest { validate_only: true, ..crate::calls::apply("Nobody Ltd") };
    portal.apply_entity(apply).await.unwrap();
    let person = pb::NominatedPerson { relation: "EMPLOYEE".to_owned(), ..Default::default() };
    let nominate = pb::NominateSubjectRequest {
        entity_id: entity.to_string(),
        body: Some(pb::nominate_subject_request::Body::Person(person)),
        validate_only: true,
        ..Default::default()
    };
    portal.nominate_subject(nominate).await.unwrap();
    assert_eq!(seq(&world), before);
    assert!(!is_active(&world, applied));

    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let before = seq(&world);
    let token =
        pb::CreateTokenRequest { subject_id: subject.to_string(), validate_only: true, ..Default::default() };
    assert_eq!(portal.create_token(token).await.unwrap().into_inner().token, "");
    assert_eq!(seq(&world), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_27_one_officer_stops_and_two_release() {
    let mut world = World::start().await;
    let entity = world.partner().await;
    let caller = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    let stop = Command::Stop { scope: StopScope::All, reason: REASON };
    world.restrict(stop.clone(), pb::Wait::Committed).await.unwrap();
    denied(&world.mythos(&caller.certificate).await, "EMERGENCY_STOP");
    refused(world.restrict(stop, pb::Wait::Committed).await, Code::AlreadyExists, "stop");
    world.close().await;
    world.open().await;
    denied(&world.mythos(&caller.certificate).await, "EMERGENCY_STOP");
    let mandate = world.mandate(&Command::ReleaseStop(StopScope::All)).await.unwrap();
    let alice = || world.alice.approve(&mandate);
    let released = world.submit(mandate.clone(), vec![alice()]).await.unwrap();
    assert_eq!(released.signatures_missing, 1);
    denied(&world.mythos(&caller.certificate).await, "EMERGENCY_STOP");
    refused(approve(&world, &released.proposal_id, alice()).await, Code::FailedPrecondition, "signed twice");
    denied(&world.mythos(&caller.certificate).await, "EMERGENCY_STOP");
    approve(&world, &released.proposal_id, world.bob.approve(&mandate)).await.unwrap();
    assert!(world.mythos(&caller.certificate).await.permit);
    // A release is not slipped in as a restriction.
    let answer = world.restrict(Command::ReleaseStop(StopScope::All), pb::Wait::Committed).await;
    refused(answer, Code::InvalidArgument, "does not only take away");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_the_signed_bytes_is_carried_out() {
    let world = World::start().await;
    let (entity, mandate) = applicant(&world).await;
    let both = || vec![world.alice.approve(&mandate), world.bob.approve(&mandate)];
    let before = seq(&world);
    for at in 0..mandate.len() {
        let mut bent = mandate.clone();
        bent[at] ^= 0x01;
        let status = world.submit(bent, both()).await.unwrap_err();
        assert!(
            matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition),
            "{at}: {status:?}"
        );
    }
    let mut read: Mandate = from_bytes(&mandate).unwrap();
    read.trust_domain = "elsewhere.example".to_owned();
    let elsewhere = to_bytes(&read);
    let approvals = vec![world.alice.approve(&elsewhere), world.bob.approve(&elsewhere)];
    refused(world.submit(elsewhere, approvals).await, Code::InvalidArgument, "for the trust domain");
    // A signature for something else, by somebody else, or of another kind.
    let genesis = sign(&world.bob.key, GENESIS_PREFIX, &mandate);
    let stranger = sign(&crate::calls::key(), MANDATE_PREFIX, &mandate);
    for signature in [genesis, stranger, Vec::new(), vec![0x30; 4096]] {
        let bob = pb::Approval { officer: "bob".to_owned(), signature: signature.into() };
        let answer = world.submit(mandate.clone(), vec![world.alice.approve(&mandate), bob]).await;
        refused(answer, Code::FailedPrecondition, "does not verify");
    }
    let mallory = pb::Approval { officer: "mallory".to_owned(), ..world.bob.approve(&mandate) };
    let answer = world.submit(mandate.clone(), vec![world.alice.approve(&mandate), mallory]).await;
    refused(answer, Code::FailedPrecondition, "not a registered officer");
    let crowd = vec![world.alice.approve(&mandate); 17];
    refused(world.submit(mandate.clone(), crowd).await, Code::InvalidArgument, "at most 16");
    assert_eq!(seq(&world), before);
    assert!(!is_active(&world, entity));
    world.submit(mandate.clone(), both()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_officer_signs_only_what_its_roles_allow() {
    let world = World::start().await;
    let key = crate::calls::key();
    let clerk = countersign::domain::command::NewPrincipal {
        id: "clerk".parse().unwrap(),
        kind: PrincipalKind::Officer,
        roles: vec![Role::Vetter, Role::Registrar],
        entity: None,
        key: key.public_key().spki().to_vec(),
        is_pausable: false,
    };
    world.enact(Command::RegisterPrincipal(clerk)).await.unwrap();
    let (_, mandate) = applicant(&world).await;
    let signature = sign(&key, MANDATE_PREFIX, &mandate).into();
    let clerk = pb::Approval { officer: "clerk".to_owned(), signature };
    let answer = world.submit(mandate.clone(), vec![world.alice.approve(&mandate), clerk]).await;
    refused(answer, Code::FailedPrecondition, "none of the roles");
    // Two approvers must remain.
    let answer = world.enact(Command::RemovePrincipal("bob".parse().unwrap())).await;
    refused(answer, Code::FailedPrecondition, "two remain");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_request_gets_the_answer_of_the_first_time() {
    let mut world = World::start().await;
    let (entity, mandate) = applicant(&world).await;
    let id = |last: char| format!("req_01ARZ3NDEKTSV4RRFFQ69G5FA{last}");
    let apply = pb::ApplyEntityRequest { request_id: id('A'), ..crate::calls::apply("Twice Inc.") };
    let propose = pb::SubmitMandateRequest {
        mandate: Some(pb::SignedMandate {
            mandate: mandate.clone().into(),
            approvals: vec![world.alice.approve(&mandate)],
        }),
        request_id: id('B'),
        ..Default::default()
    };
    let mut portal = ProvisioningServiceClient::new(world.alice());
    let first = portal.apply_entity(apply.clone()).await.unwrap().into_inner();
    let mut client = MandateServiceClient::new(world.alice());
    let proposed = client.submit_mandate(propose.clone()).await.unwrap().into_inner();
    let approval = pb::ApproveProposalRequest {
        proposal_id: proposed.proposal_id.clone(),
        approval: Some(world.bob.approve(&mandate)),
        request_id: id('C'),
        ..Default::default()
    };
    let mut bob = MandateServiceClient::new(world.bob());
    let enacted = bob.approve_proposal(approval.clone()).await.unwrap().into_inner();
    assert!(is_active(&world, entity));
    world.close().await;
    world.open().await;
    let before = seq(&world);
    let mut portal = ProvisioningServiceClient::new(world.alice());
    let mut client = MandateServiceClient::new(world.alice());
    let mut bob = MandateServiceClient::new(world.bob());
    assert_eq!(portal.apply_entity(apply.clone()).await.unwrap().into_inner(), first);
    assert_eq!(client.submit_mandate(propose.clone()).await.unwrap().into_inner(), proposed);
    assert_eq!(bob.approve_proposal(approval).await.unwrap().into_inner(), enacted);

    // The same id for something else, or from somebody else, names the record and tells nothing more.
    let record = format!("record {}", first.position.unwrap().seq);
    let other = pb::ApplyEntityRequest { name: "Other Inc.".to_owned(), ..apply.clone() };
    let status = portal.apply_entity(other).await.unwrap_err();
    assert_eq!(reason(&status), "REPEATED");
    refused(Err::<(), _>(status), Code::AlreadyExists, &record);
    let mut other = ProvisioningServiceClient::new(world.bob());
    refused(other.apply_entity(apply.clone()).await, Code::AlreadyExists, &record);
    let reused = pb::SubmitMandateRequest { request_id: id('A'), ..propose };
    refused(client.submit_mandate(reused).await, Code::AlreadyExists, &record);
    let bad = pb::ApplyEntityRequest { request_id: "mine".to_owned(), ..apply };
    refused(portal.apply_entity(bad).await, Code::InvalidArgument, "request_id");
    assert_eq!(seq(&world), before);

    // A token's secret is not on record, so it cannot be shown again.
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let request =
        pb::CreateTokenRequest { subject_id: subject.to_string(), request_id: id('D'), ..Default::default() };
    portal.create_token(request.clone()).await.unwrap();
    refused(portal.create_token(request).await, Code::AlreadyExists, "record");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_equal_requests_at_once_one_is_carried_out() {
    let world = World::start().await;
    let apply = pb::ApplyEntityRequest {
        request_id: "req_01ARZ3NDEKTSV4RRFFQ69G5FAE".to_owned(),
        ..crate::calls::apply("At Once Inc.")
    };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (mut client, apply) = (ProvisioningServiceClient::new(world.alice()), apply.clone());
        tasks.spawn(async move { client.apply_entity(apply).await });
    }
    let mut made = std::collections::BTreeSet::new();
    while let Some(answer) = tasks.join_next().await {
        match answer.unwrap() {
            Ok(answer) => drop(made.insert(answer.into_inner().entity_id)),
            Err(status) => assert_eq!(status.code(), Code::AlreadyExists),
        }
    }
    assert_eq!(made.len(), 1);
    let state = world.running().app().state();
    let named = state.entities.values().filter(|entity| entity.name == "At Once Inc.").count();
    assert_eq!(named, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restriction_that_nobody_signed_is_refused_and_changes_nothing() {
    let world = World::start().await;
    let command = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };
    let mandate = world.mandate(&command).await.unwrap();
    let before = world.running().app().state().position;
    let mut client = pb::revocation_service_client::RevocationServiceClient::new(world.alice());
    let request = pb::StopRequest {
        mandate: Some(pb::SignedMandate { mandate: mandate.clone().into(), approvals: vec![] }),
        wait: pb::Wait::Enforced.into(),
        ..Default::default()
    };
    let refused = client.stop(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("needs the signatures of 1 officers"), "{}", refused.message());
    // Nor does it wait as a proposal.
    let refused = world.submit(mandate, vec![]).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert_eq!(world.running().app().state().position, before);
}
