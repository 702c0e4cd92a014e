//! Decisions explained, now and as of then; replayed to the byte; and judged again on the facts as they are known now.

use std::time::Duration;

use countersign::domain::certificate::PrincipalKind;
use countersign::domain::command::Command;
use countersign::domain::entity::{Screening, ScreeningResult};
use countersign::domain::id::{EntityId, SubjectId};
use countersign::domain::principal::Role;
use countersign::domain::revocation::{RevocationReason, SuspensionTarget};
use countersign::domain::time::Timestamp;
use countersign::env::Clock as _;
use countersign::pb;
use countersign::pb::audit_service_client::AuditServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::calls::{denied, enrolled, question, refused};
use crate::decided::recorded;
use crate::gate::{permits, until};
use crate::reports::reporting;
use crate::world::World;

fn asked((entity, subject): (EntityId, SubjectId), at: Option<Timestamp>) -> pb::ExplainAccessRequest {
    pb::ExplainAccessRequest {
        entity_id: entity.to_string(),
        subject_id: subject.to_string(),
        model: "Claude Mythos 5".to_owned(),
        place: "US".to_owned(),
        serving_region: "US".to_owned(),
        at: at.map(|at| at.to_string()).unwrap_or_default(),
        ..Default::default()
    }
}

async fn explain(
    channel: &Channel,
    request: pb::ExplainAccessRequest,
) -> Result<pb::ExplainAccessResponse, Status> {
    Ok(AuditServiceClient::new(channel.clone()).explain_access(request).await?.into_inner())
}

async fn replay(world: &World, id: &str) -> Result<pb::ReplayDecisionResponse, Status> {
    let request = pb::ReplayDecisionRequest { decision_id: id.to_owned() };
    Ok(AuditServiceClient::new(world.alice()).replay_decision(request).await?.into_inner())
}

async fn exposure(world: &World, change: impl FnOnce(&mut pb::ListExposureRequest)) -> Vec<pb::Exposure> {
    let mut request = pb::ListExposureRequest::default();
    change(&mut request);
    let page = AuditServiceClient::new(world.alice()).list_exposure(request).await.unwrap().into_inner();
    assert_eq!(page.next_page_token, "", "the record is short");
    page.exposures
}

async fn suspend(world: &World, entity: EntityId) {
    let target = SuspensionTarget::Entity(entity);
    let command = Command::Suspend { target, reason: RevocationReason::Drill };
    world.restrict(command, pb::Wait::Committed).await.unwrap();
}

async fn confirm_hit(world: &World, entity: EntityId) {
    let screening = Screening {
        list_version: "csl-2026-06-28".to_owned(),
        list_date: world.clock.now(),
        result: ScreeningResult::Confirmed,
    };
    let reason = "the list names it".to_owned();
    world.enact(Command::RecordScreening { entity, screening, reason }).await.unwrap();
}

fn findings(steps: &[pb::ReasonStep], finding: &str) -> Vec<(String, String)> {
    let found = steps.iter().filter(|step| step.finding == finding);
    found.map(|step| (step.stage.clone(), step.name.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_40_what_was_decided_follows_from_the_record_to_the_byte() {
    let mut world = World::start().await;
    let (entity, _, caller) = enrolled(&world).await;
    let gateway = world.connect_as(&world.gateway("gw-1").await).await;
    let permit = world.evaluate(&gateway, &caller.certificate, "mythos-5").await;
    let abroad = world.evaluate_from(&gateway, &caller.certificate, "mythos-5", "FR").await;
    let unknown = world.evaluate(&gateway, &caller.certificate, "no-such-model").await;
    let junk = world.ask_alice(question(b"junk", "mythos-5")).await;
    let system = world.ask_alice(question(&world.gateway("gw-2").await.certificate, "mythos-5")).await;
    suspend(&world, entity).await;
    let suspended = world.evaluate(&gateway, &caller.certificate, "mythos-5").await;
    assert!(permit.permit);
    denied(&abroad, "P-PLACE_NOT_ALLOWED");
    denied(&suspended, "P-SUSPENDED");
    denied(&system, "CREDENTIAL_WRONG_KIND");
    let all = [&permit, &abroad, &unknown, &junk, &system, &suspended];
    for decision in all {
        recorded(&world, &decision.id).await;
    }
    // Everything changes, and time passes: what was answered then still follows.
    world
        .restrict(Command::RemoveEntity { entity, reason: RevocationReason::Drill }, pb::Wait::Committed)
        .await
        .unwrap();
    world.close().await;
    world.clock.advance_ms(3 * 86_400_000);
    world.open().await;
    for decision in all {
        let replayed = replay(&world, &decision.id).await.unwrap();
        let (then, again) = (replayed.recorded.unwrap(), replayed.again.unwrap());
        assert_eq!(then, again);
        assert!(replayed.same, "{then:?}");
        assert_eq!(
            (then.permit, &then.code, &then.as_of),
            (decision.permit, &decision.code, &decision.as_of)
        );
    }
    // And why, in the order in which it is asked.
    let steps = replay(&world, &permit.id).await.unwrap().steps;
    assert_eq!(findings(&steps, "FAILS"), []);
    let stages: Vec<_> = steps.iter().map(|step| step.stage.as_str()).collect();
    assert_eq!(stages[..9], ["GATE", "GATE", "GATE", "GATE", "GATE", "GATE", "GATE", "GATE", "LAW"]);
    assert!(stages.len() > 9 && stages[9..].iter().all(|stage| *stage == "POLICY"));
    assert_eq!((steps[8].name.as_str(), steps[8].clause.is_empty()), (permit.rule.as_str(), false));
    let steps = replay(&world, &abroad.id).await.unwrap().steps;
    assert_eq!(findings(&steps, "FAILS"), [("POLICY".to_owned(), "P-PLACE_NOT_ALLOWED".to_owned())]);
    let facts = replay(&world, &suspended.id).await.unwrap().facts;
    assert!(
        facts.iter().any(|fact| fact.object == format!("entity {entity}") && fact.revision > 0),
        "{facts:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_decided_is_replayed_from_its_report() {
    let world = World::start().await;
    let (entity, _, caller) = enrolled(&world).await;
    let gate = reporting(&world, &world.gateway("gw-1").await, 1_000).await;
    gate.want(entity);
    until(&gate, &caller.certificate, permits).await;
    suspend(&world, entity).await;
    until(&gate, &caller.certificate, |gate, leaf| !permits(gate, leaf)).await;
    gate.shutdown().await;
    // All reports are stored when it is down; they are read when they are written.
    let both = async {
        loop {
            let request = pb::ListDecisionsRequest {
                gateway: "gw-1".to_owned(),
                page_size: 1_000,
                ..Default::default()
            };
            let mut client = AuditServiceClient::new(world.alice());
            let found = client.list_decisions(request).await.unwrap().into_inner().decisions;
            let has = |code: &str| found.iter().any(|decision| decision.code == code);
            if found.iter().any(|decision| decision.permit) && has("P-SUSPENDED") {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), both).await.expect("both are on record");
    for decision in found.iter().filter(|decision| decision.permit || decision.code == "P-SUSPENDED") {
        let replayed = replay(&world, &decision.id).await.unwrap();
        assert!(replayed.same, "{replayed:?}");
        assert!(!replayed.steps.is_empty() && decision.logic_version > 0);
    }
    // A report that does not say what was asked.
    let mut reporter = crate::reports::client(&world, &world.gateway("gw-2").await).await;
    reporter.report_decisions(crate::reports::good()).await.unwrap();
    let of = pb::ListDecisionsRequest { gateway: "gw-2".to_owned(), ..Default::default() };
    let bare = async {
        loop {
            let mut client = AuditServiceClient::new(world.alice());
            if let Some(found) = client.list_decisions(of.clone()).await.unwrap().into_inner().decisions.pop()
            {
                return found.id;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let bare = tokio::time::timeout(Duration::from_secs(30), bare).await.expect("it is on record");
    refused(replay(&world, &bare).await, Code::FailedPrecondition, "did not say all");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_replayed_is_said_to_be_so() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    let verified = world.verify(&caller.certificate).await;
    recorded(&world, &verified.decision_id).await;
    refused(replay(&world, &verified.decision_id).await, Code::FailedPrecondition, "about a certificate");
    refused(replay(&world, "dec_01ARZ3NDEKTSV4RRFFQ69G5FAV").await, Code::NotFound, "no such decision");
    refused(replay(&world, "dec_1").await, Code::InvalidArgument, "decision_id");
}

/// A decision without its record: the service records things of its own at any time.
fn judged(decision: Option<pb::Decision>) -> pb::Decision {
    pb::Decision { as_of: None, ..decision.unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_is_explained_as_it_is_now_and_as_it_was_then() {
    let world = World::start().await;
    let (entity, subject, _) = enrolled(&world).await;
    let before = world.clock.now();
    let now = explain(&world.alice(), asked((entity, subject), None)).await.unwrap();
    let decision = now.decision.unwrap();
    assert!(decision.permit && decision.legal == "EXEMPT", "{decision:?}");
    assert_eq!((now.at.as_str(), now.policy_sha256.len()), (before.to_string().as_str(), 32));
    assert_eq!(findings(&now.steps, "FAILS"), []);
    world.clock.advance_ms(60_000);
    suspend(&world, entity).await;
    let after = explain(&world.alice(), asked((entity, subject), None)).await.unwrap();
    denied(&after.decision.clone().unwrap(), "P-SUSPENDED");
    assert_eq!(findings(&after.steps, "FAILS"), [("POLICY".to_owned(), "P-SUSPENDED".to_owned())]);
    assert!(!findings(&after.steps, "NOT_REPORTED").is_empty(), "{:?}", after.steps);
    // As of then, whatever is so now.
    let then = explain(&world.alice(), asked((entity, subject), Some(before))).await.unwrap();
    assert_eq!((judged(then.decision), then.steps), (judged(Some(decision)), now.steps));
    let next = explain(&world.alice(), asked((entity, subject), Some(world.clock.now()))).await.unwrap();
    assert_eq!((judged(next.decision), next.steps), (judged(after.decision), after.steps));
    let alice = world.alice();
    let never = |at: Timestamp| explain(&alice, asked((entity, subject), Some(at)));
    refused(never(world.clock.now().plus_ms(1)).await, Code::InvalidArgument, "in the future");
    refused(never(Timestamp::from_millis(0)).await, Code::InvalidArgument, "the record begins at");
    let stranger = explain(&world.alice(), asked((EntityId::from_bytes([1; 16]), subject), None)).await;
    refused(stranger, Code::NotFound, "no such subject");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_is_told_of_its_own_people_and_less_than_an_officer() {
    let world = World::start().await;
    let (own, mine, _) = enrolled(&world).await;
    let (other, theirs, _) = enrolled(&world).await;
    let roles = (PrincipalKind::Partner, [Role::PartnerAdmin].as_slice());
    let partner = world.connect_as(&world.principal("partner-1", roles, Some(own)).await).await;
    let told = explain(&partner, asked((own, mine), None)).await.unwrap();
    let decision = told.decision.unwrap();
    assert!(
        decision.permit && decision.legal == "EXEMPT" && decision.determination.is_empty(),
        "{decision:?}"
    );
    assert!(told.policy_sha256.is_empty());
    let objects: Vec<_> = told.facts.iter().map(|fact| fact.object.as_str()).collect();
    assert_eq!(objects, [format!("entity {own}"), format!("subject {mine}")]);
    let stages: Vec<_> = told.steps.iter().map(|step| step.stage.as_str()).collect();
    assert_eq!(stages, ["LAW"], "what denies, and the law");
    // Another's are as unknown as nobody's, whoever is named as their entity.
    let nobody = SubjectId::from_bytes([7; 16]);
    let unknown = explain(&partner, asked((own, nobody), None)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    for of in [(other, theirs), (own, theirs), (other, mine)] {
        let refusal = explain(&partner, asked(of, None)).await.unwrap_err();
        assert_eq!(
            (refusal.code(), refusal.message(), refusal.details()),
            (unknown.code(), unknown.message(), unknown.details())
        );
    }
    // Nobody is warned that a list names them: the officer sees it, the partner that there is something.
    confirm_hit(&world, own).await;
    let officer = explain(&world.alice(), asked((own, mine), None)).await.unwrap();
    denied(&officer.decision.unwrap(), "PARTY_DENIED");
    assert_eq!(findings(&officer.steps, "FAILS")[0], ("GATE".to_owned(), "G5".to_owned()));
    let told = explain(&partner, asked((own, mine), None)).await.unwrap();
    let text = format!("{told:?}");
    denied(&told.decision.unwrap(), "ASK_THE_PROVIDER");
    assert!(told.steps.is_empty(), "{:?}", told.steps);
    for word in ["PARTY", "PROHIBITED", "screening", "list"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permits_that_the_facts_of_now_do_not_bear_are_listed_by_whose_and_when() {
    let world = World::start().await;
    let (entity, subject, caller) = enrolled(&world).await;
    let (_, _, fine) = enrolled(&world).await;
    let ask = |certificate: &[u8]| world.ask_alice(question(certificate, "mythos-5"));
    let first = ask(&caller.certificate).await;
    let began = world.clock.now();
    world.clock.advance_ms(3_600_000);
    let second = ask(&caller.certificate).await;
    let ended = world.clock.now();
    assert!(first.permit && second.permit && ask(&fine.certificate).await.permit);
    denied(
        &world.evaluate_from(&world.alice(), &caller.certificate, "mythos-5", "FR").await,
        "P-PLACE_NOT_ALLOWED",
    );
    let last = ask(&fine.certificate).await;
    recorded(&world, &last.id).await;
    assert_eq!(exposure(&world, |_| ()).await, []);
    // What ends now was in order then.
    suspend(&world, entity).await;
    assert_eq!(exposure(&world, |_| ()).await, []);
    // What is known now was so then: a list names the entity.
    confirm_hit(&world, entity).await;
    let found = exposure(&world, |_| ()).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let row = &found[0];
    assert_eq!((&row.entity_id, &row.subject_id), (&entity.to_string(), &subject.to_string()));
    assert_eq!((row.code.as_str(), row.legal.as_str(), row.permits), ("PARTY_DENIED", "PROHIBITED", 2));
    assert_eq!((&row.first_time, &row.last_time), (&began.to_string(), &ended.to_string()));
    assert_eq!(row.first_decision_id, first.id);
    let later = exposure(&world, |r| r.since = ended.to_string()).await;
    assert_eq!((later[0].permits, &later[0].first_decision_id), (1, &second.id));
    assert_eq!(exposure(&world, |r| r.until = began.to_string()).await, []);
    assert_eq!(exposure(&world, |r| r.entity_id = EntityId::from_bytes([1; 16]).to_string()).await, []);
}
