//! Simulations over the wire: who asks, what is answered, and that nothing changes.

use countersign::domain::bundle::{Bundle, BundleParts};
use countersign::domain::codec::{from_bytes, to_bytes};
use countersign::domain::command::Command;
use countersign::domain::id::EntityId;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::pb;
use countersign::pb::determination_service_client::DeterminationServiceClient;
use countersign::pb::simulate_response::Message;
use tonic::{Code, Status};

use crate::calls::refused;
use crate::world::World;

const LIFT: &str = "2026-06-26-lift";

fn amend(world: &World, add: &[EntityId], remove: &[EntityId]) -> Command {
    let determination = LIFT.parse().unwrap();
    let last = world.running().app().state().annexes.get(&determination).copied().unwrap_or_default();
    Command::AmendAnnex { determination, revision: last + 1, add: add.to_vec(), remove: remove.to_vec() }
}

async fn simulate(world: &World, command: &Command) -> Result<pb::SimulationReport, Status> {
    let request = pb::SimulateRequest { command: to_bytes(command).into() };
    let mut client = DeterminationServiceClient::new(world.bob());
    let mut answers = client.simulate(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        match answer.message.unwrap() {
            Message::Progress(progress) => assert!(progress.done <= progress.total),
            Message::Report(report) => {
                assert_eq!(answers.message().await?, None, "the report is the last word");
                return Ok(report);
            }
        }
    }
    panic!("no report")
}

fn people(affected: Option<&pb::SimulationAffected>) -> (u64, u64) {
    let affected = affected.unwrap();
    (affected.entities, affected.subjects.unwrap().people)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_simulated_changes_nothing_and_is_what_the_change_then_does() {
    let world = World::start().await;
    let entity = world.partner().await;
    for _ in 0..3 {
        world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    }
    world.person(entity, "EMPLOYEE", EvidenceKind::CitizenOrNational).await;
    let command = amend(&world, &[], &[entity]);
    let before = world.running().app().state().position;
    let report = simulate(&world, &command).await.unwrap();
    assert_eq!(world.running().app().state().position, before, "nothing is recorded");
    assert_eq!(report.as_of.unwrap().seq, before.seq.0);
    assert!(report.question.contains("from the United States"), "{}", report.question);
    let now = &report.forecasts[0];
    assert_eq!(people(now.loses.as_ref()), (1, 3));
    assert_eq!(people(now.gains.as_ref()), (0, 0));
    assert_eq!(people(now.needs_license.as_ref()), (1, 3));
    world.enact(command).await.unwrap();
    let again = simulate(&world, &amend(&world, &[entity], &[])).await.unwrap();
    assert_eq!(people(again.forecasts[0].gains.as_ref()), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_or_is_no_change_of_law_is_not_simulated() {
    let world = World::start().await;
    let entity = world.partner().await;
    let listed = simulate(&world, &amend(&world, &[entity], &[])).await;
    refused(listed, Code::AlreadyExists, "this membership exists already");
    let Command::AmendAnnex { determination, add, remove, .. } = amend(&world, &[], &[entity]) else {
        panic!()
    };
    let other = Command::AmendAnnex { determination, revision: 77, add, remove };
    refused(simulate(&world, &other).await, Code::Aborted, "the last revision of this annex");
    let stop = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };
    refused(simulate(&world, &stop).await, Code::InvalidArgument, "there is nothing to simulate");
    let request = pb::SimulateRequest { command: vec![0xff].into() };
    let answer = DeterminationServiceClient::new(world.bob()).simulate(request).await;
    refused(answer, Code::InvalidArgument, "command");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundle_in_force_is_read_with_its_hash_and_its_determinations() {
    let world = World::start().await;
    let entity = world.partner().await;
    let mut client = DeterminationServiceClient::new(world.bob());
    let policy = client.get_policy(pb::GetPolicyRequest {}).await.unwrap().into_inner();
    let parts: BundleParts = from_bytes(&policy.bundle).unwrap();
    assert_eq!(Bundle::new(parts).unwrap().hash().to_string(), policy.hash);
    let list = client.list_determinations(pb::ListDeterminationsRequest {}).await.unwrap().into_inner();
    let states: Vec<_> = list.determinations.iter().map(|d| (d.state.as_str(), d.members)).collect();
    assert_eq!(states, [("IN_FORCE", 0), ("IN_FORCE", 1), ("DRAFT", 0)]);
    assert_eq!(list.contradictions, Vec::<String>::new());
    assert_eq!(world.running().app().state().entities[&entity].card.memberships.len(), 1);
}
