//! `simulate_100k`: who would lose access by an annex revision, over 100,000 people with 1,000,000 certificates on record,
//! beside one bare `decide` a person and model. CPU of the whole process.

use std::ops::ControlFlow;
use std::sync::Arc;

use countersign::domain::certificate::{Certificate, Facts};
use countersign::domain::command::Command;
use countersign::domain::enforce::{Request, decide};
use countersign::domain::entity::Entity;
use countersign::domain::id::{EntityId, LineageId, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::simulate::simulate;
use countersign::domain::state::State;
use countersign::domain::time::Now;

use crate::gate::question;
use crate::measure::{Row, median, process_cpu_us};
use crate::world::World;

const PEOPLE: usize = 100_000;
const CERTIFICATES: usize = 1_000_000;
const ENTITIES: usize = 120;
/// Entities that the revision removes.
const REMOVED: usize = 3;
/// Each beside the other, so that whatever else the machine does meets both.
const ROUNDS: usize = 5;

/// The nth identifier of its kind.
fn bytes(n: usize) -> [u8; 16] {
    (u128::MAX / 3 + n as u128).to_be_bytes()
}

/// The state of a service, with its one partner and person multiplied.
fn multiplied(state: &State, entity: EntityId, subject: SubjectId) -> State {
    let mut state = state.clone();
    let (entity, subject) = (state.entities[&entity].clone(), state.subjects[&subject].clone());
    let lineage = state.lineages.values().next().unwrap().clone();
    for n in 0..ENTITIES {
        let mut row = Entity::clone(&entity);
        row.card.id = EntityId::from_bytes(bytes(n));
        state.entities.insert(row.card.id, Arc::new(row));
    }
    for n in 0..PEOPLE {
        let mut row = subject.as_ref().clone();
        row.id = SubjectId::from_bytes(bytes(n));
        row.entity = EntityId::from_bytes(bytes(n % ENTITIES));
        state.subjects.insert(row.id, Arc::new(row));
    }
    for n in 0..CERTIFICATES {
        let mut row = *lineage.as_ref();
        row.subject = SubjectId::from_bytes(bytes(n % PEOPLE));
        state.lineages.insert(LineageId::from_bytes(bytes(n)), Arc::new(row));
    }
    state
}

/// What everybody shows.
fn certificates(sample: &Certificate) -> Vec<Certificate> {
    let of = |n: usize| {
        let mut certificate = sample.clone();
        let Facts::Access(facts) = &mut certificate.facts else { panic!("not an access certificate") };
        facts.subject = SubjectId::from_bytes(bytes(n));
        facts.entity.entity = EntityId::from_bytes(bytes(n % ENTITIES));
        certificate
    };
    (0..PEOPLE).map(of).collect()
}

pub(crate) fn simulate_100k() -> Row {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (state, sample, now) = runtime.block_on(async {
        let mut world = World::start().await;
        let entity = world.partner().await;
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let leaf = world.enroll(subject).await.certificate;
        let sample = world.running().app().read_certificate(&leaf).unwrap();
        let state = multiplied(&world.running().app().state(), entity, subject);
        let now = state.time.plus_ms(5_000);
        world.close().await;
        (state, sample, now)
    });
    let certificates = certificates(&sample);
    let remove: Vec<_> = (0..REMOVED).map(|n| EntityId::from_bytes(bytes(n))).collect();
    let determination = "2026-06-26-lift".parse().unwrap();
    let command = Command::AmendAnnex { determination, revision: 2, add: Vec::new(), remove };
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begin = process_cpu_us();
        let after = state.supposing(&command, now).unwrap();
        let report = simulate(&state, &after, now, |_, _| ControlFlow::Continue(())).unwrap();
        let simulated = process_cpu_us() - begin;
        let forecast = &report.forecasts[0];
        let lost = (0..PEOPLE).filter(|n| n % ENTITIES < REMOVED).count() as u64;
        assert_eq!((forecast.loses.entities, forecast.loses.subjects.people), (REMOVED as u64, lost));
        let begin = process_cpu_us();
        let mut permits = 0;
        for certificate in &certificates {
            for model in &report.models {
                let request = Request { model: model.as_str(), ..question() };
                let decision = decide(&state, None, Ok(certificate), &request, Now::exactly(now));
                permits += usize::from(decision.is_permit());
            }
        }
        assert!(permits >= PEOPLE, "{permits} permits");
        rounds.push((simulated, process_cpu_us() - begin));
    }
    let measured = median(rounds.iter().map(|(simulated, _)| simulated / 1e3).collect());
    let floor = median(rounds.iter().map(|(_, bare)| bare / 1e3).collect());
    Row {
        name: "simulate_100k",
        measured: (measured, "ms"),
        floor: (floor, "ms"),
        goal: "<= 3 x one bare decide each",
        met: measured <= 3.0 * floor,
    }
}
