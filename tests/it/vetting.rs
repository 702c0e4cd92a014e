//! Decisions on many people by one signature, and their tokens: never by who nominated them, each by itself, each once.

use countersign::domain::certificate::PrincipalKind;
use countersign::domain::codec::{from_bytes, to_bytes};
use countersign::domain::command::{Command, Ruling, SubjectDecision};
use countersign::domain::id::{Digest, EntityId, SubjectId, TokenId};
use countersign::domain::person::{Assurance, EvidenceKind};
use countersign::domain::principal::Role;
use countersign::domain::subject::Vetting;
use countersign::env::{Clock as _, Entropy as _, SystemEntropy};
use countersign::pb;
use countersign::pb::mandate_service_client::MandateServiceClient;
use countersign::pb::provisioning_service_client::ProvisioningServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::calls::{key, refused};
use crate::world::World;

async fn nominated(world: &World, channel: Channel, entity: EntityId, count: usize) -> Vec<SubjectId> {
    let person = |n: usize| pb::ImportedPerson {
        entity_id: entity.to_string(),
        reference: format!("{}-{n}", world.running().app().state().position.seq),
        relation: "EMPLOYEE".to_owned(),
        ..Default::default()
    };
    let batch = pb::ImportPeopleRequest { people: (0..count).map(person).collect(), ..Default::default() };
    let mut client = ProvisioningServiceClient::new(channel);
    let answer = client.import_people(tokio_stream::once(batch)).await.unwrap().into_inner();
    answer.outcomes.iter().map(|outcome| outcome.subject_id.parse().unwrap()).collect()
}

fn approve(world: &World, subject: SubjectId) -> Ruling {
    let evidence = EvidenceKind::CitizenOrNational;
    let vetting = Some(Vetting {
        status: evidence.status(),
        evidence,
        verified_on: world.clock.now().day(),
        assurance: Assurance::Ial2,
    });
    Ruling { subject, decision: SubjectDecision::Approve { vetting, reverify_due: None } }
}

fn refuse(subject: SubjectId) -> Ruling {
    Ruling { subject, decision: SubjectDecision::Refuse }
}

async fn prepare(channel: Channel, rulings: Vec<Ruling>) -> Result<pb::PrepareRulingsResponse, Status> {
    let command = to_bytes(&Command::DecideSubjects(rulings)).into();
    let mut client = MandateServiceClient::new(channel);
    Ok(client.prepare_rulings(pb::PrepareRulingsRequest { command }).await?.into_inner())
}

fn outcomes(answer: &pb::PrepareRulingsResponse) -> Vec<(&str, &str)> {
    answer.outcomes.iter().map(|one| (one.outcome.as_str(), one.reason.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_signature_decides_on_many_and_none_of_who_nominated_them() {
    let world = World::start().await;
    let entity = world.partner().await;
    let people = nominated(&world, world.alice(), entity, 3).await;
    let rulings = || vec![approve(&world, people[0]), approve(&world, people[1]), refuse(people[2])];
    let own = prepare(world.alice(), rulings()).await.unwrap();
    let (denied, ready) = (("REFUSED", "DENIED"), ("READY", ""));
    assert_eq!(outcomes(&own), [denied, denied, ready], "who nominated may refuse");
    // Nor by a mandate that is made elsewhere.
    let mandate = world.mandate(&Command::DecideSubjects(rulings())).await.unwrap();
    let signed = vec![world.alice.approve(&mandate)];
    refused(world.submit(mandate.clone(), signed).await, Code::PermissionDenied, "alice nominated");
    refused(world.submit(mandate, Vec::new()).await, Code::FailedPrecondition, "");

    let unknown: SubjectId = "sub_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let without = SubjectDecision::Approve { vetting: None, reverify_due: None };
    let mut asked = rulings();
    asked.insert(1, refuse(unknown));
    asked.push(Ruling { subject: people[2], decision: without });
    let prepared = prepare(world.bob(), asked).await.unwrap();
    let (missing, invalid) = (("REFUSED", "NOT_FOUND"), ("REFUSED", "INVALID"));
    assert_eq!(outcomes(&prepared), [ready, missing, ready, ready, invalid]);
    let read: countersign::domain::approval::Mandate = from_bytes(&prepared.mandate).unwrap();
    assert_eq!(read.command, Command::DecideSubjects(rulings()));
    let before = world.running().app().state().position.seq;
    let approvals = vec![world.bob.approve(&prepared.mandate)];
    world.submit(prepared.mandate.to_vec(), approvals.clone()).await.unwrap();
    let state = world.running().app().state();
    assert_eq!(state.position.seq.0, before.0 + 1, "one record");
    for Ruling { subject, decision } in rulings() {
        assert!(state.subjects[&subject].is_decided(&decision));
    }
    let again = prepare(world.bob(), rulings()).await.unwrap();
    assert_eq!((outcomes(&again), again.mandate.len()), (vec![("UNCHANGED", ""); 3], 0));
    refused(world.submit(prepared.mandate.to_vec(), approvals).await, Code::Aborted, "changed since");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_partner_brought_any_vetter_decides_on_and_a_restart_knows_who_nominated() {
    let mut world = World::start().await;
    let entity = world.partner().await;
    let roles = [Role::PartnerAdmin];
    let admin = world.principal("partner-1", (PrincipalKind::Partner, &roles), Some(entity)).await;
    let theirs = nominated(&world, world.connect_as(&admin).await, entity, 1).await;
    let ours = nominated(&world, world.alice(), entity, 1).await;
    world.close().await;
    world.open().await;
    let rulings = vec![approve(&world, theirs[0]), approve(&world, ours[0])];
    let prepared = prepare(world.alice(), rulings).await.unwrap();
    assert_eq!(outcomes(&prepared), [("READY", ""), ("REFUSED", "DENIED")]);
    let auditor = world.principal("carol", (PrincipalKind::Officer, &[Role::Auditor]), None).await;
    let rulings = vec![approve(&world, theirs[0])];
    refused(prepare(world.connect_as(&auditor).await, rulings).await, Code::PermissionDenied, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_refusals_cuts_everybody_on_it_by_one_event() {
    let world = World::start().await;
    let entity = world.partner().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        held.push((subject, world.enroll(subject).await.certificate));
    }
    let gateway = world.gateway("gw-1").await;
    let channel = world.connect_as(&gateway).await;
    let rulings: Vec<_> = held.iter().take(2).map(|(subject, _)| refuse(*subject)).collect();
    let before = world.running().app().state().feed_seq;
    let prepared = prepare(world.alice(), rulings).await.unwrap();
    let approvals = vec![world.alice.approve(&prepared.mandate)];
    world.submit(prepared.mandate.to_vec(), approvals).await.unwrap();
    let state = world.running().app().state();
    assert!(state.feed_seq > before && state.feed_seq == state.position.seq);
    for (at, (_, certificate)) in held.iter().enumerate() {
        let decision = world.evaluate(&channel, certificate, "mythos-5").await;
        assert_eq!(decision.permit, at == 2, "{at}: {decision:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_decisions_the_same_person_twice_and_other_commands_are_refused() {
    let world = World::start().await;
    let entity = world.partner().await;
    let people = nominated(&world, world.alice(), entity, 1).await;
    let many = vec![refuse(people[0]); 1_001];
    refused(prepare(world.bob(), many).await, Code::InvalidArgument, "at most 1000");
    let twice = Command::DecideSubjects(vec![refuse(people[0]), refuse(people[0])]);
    let none = Command::DecideSubjects(Vec::new());
    for (command, why) in [(twice, "in it twice"), (none, "1 to 1000")] {
        let mandate = world.mandate(&command).await.unwrap();
        let approvals = vec![world.alice.approve(&mandate)];
        refused(world.submit(mandate, approvals).await, Code::InvalidArgument, why);
    }
    let other = to_bytes(&Command::ActivateEntity(entity)).into();
    let mut client = MandateServiceClient::new(world.bob());
    let asked = client.prepare_rulings(pb::PrepareRulingsRequest { command: other }).await;
    refused(asked, Code::InvalidArgument, "DECIDE_SUBJECTS");
}

/// A token as its caller makes it, and what the service gets of it.
fn made(world: &World, subject: SubjectId, days: i64) -> (String, pb::MadeToken) {
    let now = world.clock.now();
    let (id, secret) = (TokenId::from_parts(now, SystemEntropy.bytes16()), SystemEntropy.bytes32());
    let token = pb::MadeToken {
        subject_id: subject.to_string(),
        token_id: id.to_string(),
        secret_sha256: Digest::of(&secret).0.to_vec().into(),
        expires_at: now.plus_ms(days * 86_400_000).to_string(),
    };
    (format!("{id}.{}", hex::encode(secret)), token)
}

async fn create(channel: Channel, tokens: Vec<pb::MadeToken>, check: bool) -> Vec<(String, String)> {
    let request = pb::CreateTokensRequest { tokens, validate_only: check };
    let answer = ProvisioningServiceClient::new(channel).create_tokens(request).await.unwrap().into_inner();
    answer.outcomes.into_iter().map(|one| (one.outcome, one.reason)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_their_caller_made_are_recorded_once_and_redeemed() {
    let world = World::start().await;
    let (own, other) = (world.partner().await, world.partner().await);
    let person = world.person(own, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let hers = world.person(other, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let undecided = nominated(&world, world.alice(), own, 1).await[0];
    let roles = [Role::PartnerAdmin];
    let admin = world.principal("partner-1", (PrincipalKind::Partner, &roles), Some(own)).await;
    let channel = world.connect_as(&admin).await;
    let (text, good) = made(&world, person, 3);
    let nobody = "sub_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let short = pb::MadeToken { secret_sha256: vec![1; 31].into(), ..good.clone() };
    let rows = vec![
        good.clone(),
        made(&world, hers, 3).1,
        made(&world, nobody, 3).1,
        made(&world, undecided, 3).1,
        made(&world, person, 15).1,
        short,
    ];
    let before = world.running().app().state();
    let checked = create(channel.clone(), rows.clone(), true).await;
    assert!(*world.running().app().state() == *before, "a check changes nothing");
    let made_now = create(channel.clone(), rows.clone(), false).await;
    assert_eq!(made_now, checked);
    let words = |rows: &[(String, String)]| -> Vec<String> {
        rows.iter().map(|(outcome, reason)| format!("{outcome} {reason}")).collect()
    };
    assert_eq!(
        words(&made_now),
        [
            "CREATED ",
            "REFUSED NOT_FOUND",
            "REFUSED NOT_FOUND",
            "REFUSED WRONG_STATE",
            "REFUSED INVALID",
            "REFUSED INVALID"
        ]
    );
    let seq = world.running().app().state().position.seq;
    // The same again changes nothing; the same name for another secret or another person is refused.
    let forged = pb::MadeToken { secret_sha256: vec![7; 32].into(), ..good.clone() };
    let again = create(channel, vec![good, forged], false).await;
    assert_eq!(words(&again), ["UNCHANGED ", "REFUSED EXISTS"]);
    assert_eq!(world.running().app().state().position.seq, seq);
    world.redeem(&text, &key()).await.unwrap();
    refused(world.redeem(&text, &key()).await, Code::NotFound, "");
    let many = pb::CreateTokensRequest { tokens: vec![pb::MadeToken::default(); 1_001], validate_only: true };
    let asked = ProvisioningServiceClient::new(world.alice()).create_tokens(many).await;
    refused(asked, Code::InvalidArgument, "at most 1000");
}
