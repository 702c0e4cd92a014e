//! Rotation by itself: the server takes the steps that are due under a standing approval, waits for gateways as officers do, ends
//! at a failure, and goes on after a kill at any of its steps.

use std::time::Duration;

use countersign::app::store;
use countersign::domain::approval::MANDATE_PREFIX;
use countersign::domain::authority::AuthorityState;
use countersign::domain::certificate::{AuthorityKind, PrincipalKind};
use countersign::domain::command::Command;
use countersign::domain::event::Event;
use countersign::domain::id::{AuthorityId, Seq};
use countersign::domain::officer_command::OfficerCommand;
use countersign::domain::principal::Role;
use countersign::domain::revocation::RevocationReason;
use countersign::domain::time::Timestamp;
use countersign::env::Clock as _;
use countersign::journal::Record;
use countersign::journal::file::verify;
use countersign::pb;
use countersign::pb::authority_service_client::AuthorityServiceClient;
use tonic::Code;

use crate::calls::{enrolled, refused};
use crate::gate::{self, STRONG, permits};
use crate::kill::{Victim, asked};
use crate::world::{World, sign};

const HOUR_MS: u32 = 3_600_000;
const ACCESS: AuthorityKind = AuthorityKind::Access;
/// A step is looked for every second, and a key takes its time; a busy machine may need many times that.
const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    /// Has an authority issue that lives two days, so that its successor is due after one, and is to issue after forty hours.
    async fn short_lived(&self) -> AuthorityId {
        self.clock.advance_ms(5);
        let request =
            pb::PrepareAuthorityRequest { kind: ACCESS.to_string(), life_days: 2, ..Default::default() };
        let mut client = AuthorityServiceClient::new(self.alice());
        let made = client.prepare_authority(request).await.unwrap().into_inner();
        let mandate = made.mandate.to_vec();
        let approvals = vec![self.alice.approve(&mandate), self.bob.approve(&mandate)];
        self.submit(mandate, approvals).await.unwrap();
        let id: AuthorityId = made.authority_id.parse().unwrap();
        self.enact(Command::ActivateAuthority(id)).await.unwrap();
        id
    }

    async fn permit(&self, rotations: u32) -> Seq {
        let until = self.clock.now().plus_ms(100 * 86_400_000);
        let done = self.enact(Command::PermitRotation { kind: ACCESS, until, rotations }).await.unwrap();
        Seq(done.position.unwrap().seq)
    }

    /// Moves the clocks a minute beyond an instant.
    fn pass_until(&self, at: Timestamp) {
        let ms = at.millis() - self.clock.now().millis() + 60_000;
        // It may have passed already.
        self.clock.advance_ms(u32::try_from(ms).unwrap_or_default());
    }

    fn prepared(&self) -> Option<AuthorityId> {
        self.running().app().state().prepared(ACCESS).map(|row| row.id)
    }

    fn issuing(&self) -> AuthorityId {
        self.running().app().state().authority(ACCESS).unwrap().id
    }

    fn stand(&self, id: AuthorityId) -> AuthorityState {
        self.running().app().state().authorities[&id].state
    }

    /// The steps on record, each with the approval that it names.
    fn steps(&self) -> Vec<(&'static str, AuthorityId, Seq)> {
        let records = self.running().app().journal().read(Seq(1), 100_000).unwrap();
        let events = records.iter().map(|record| store::entry_of(record).unwrap().event);
        let steps = events.filter_map(|event| match event {
            Event::RotationStepped { approval, step, .. } => Some((step.name(), step.authority(), approval)),
            _ => None,
        });
        steps.collect()
    }

    /// Until the server has surely looked so often whether a step is due: each time it is late it notes an instant.
    async fn looks(&self, count: u32) {
        for _ in 0..count {
            let id = countersign::domain::id::AnnouncementId::from_parts(
                self.clock.now(),
                countersign::env::Entropy::bytes16(&countersign::env::SystemEntropy),
            );
            let scope = countersign::domain::revocation::RevocationScope::Entity(self.provider);
            let reason = countersign::domain::revocation::RevocationReason::Drill;
            let cut_at = self.clock.now();
            let command = Command::AnnounceRevocation { id, scope, cut_at, reason };
            self.restrict(command, pb::Wait::Committed).await.unwrap();
            // Upkeep ticks once a second, and rotations are looked at as often.
            eventually(|| self.running().app().state().announcements[&id].passed.is_some()).await;
        }
    }

    fn failures(&self) -> usize {
        let records = self.running().app().journal().read(Seq(1), 100_000).unwrap();
        let events = records.iter().map(|record| store::entry_of(record).unwrap().event);
        events.filter(|event| matches!(event, Event::RotationFailed { .. })).count()
    }
}

async fn eventually(is_so: impl Fn() -> bool) {
    let until_so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, until_so).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_prepares_activates_and_retires_when_it_is_due() {
    let mut world = World::start().await;
    let (entity, subject, _) = enrolled(&world).await;
    let first = world.issuing();
    let old = world.short_lived().await;
    let approval = world.permit(1).await;
    // Of the first, whose certificates ended long ago when they have: what is spent goes by itself.
    world.clock.advance_ms(23 * HOUR_MS);
    let caller = world.enroll(subject).await;
    assert_eq!(world.prepared(), None, "not before half of its life is over");
    world.clock.advance_ms(HOUR_MS + 60_000);
    eventually(|| world.prepared().is_some()).await;
    let next = world.prepared().unwrap();
    assert_eq!(world.issuing(), old);
    // Gateways know it before it issues.
    let gateway = world.gateway("gw-1").await;
    let gate = gate::connect(&world, (&gateway, world.running().address()), STRONG, &world.clock).await;
    gate.want(entity);
    gate::until(&gate, &caller.certificate, permits).await;
    world.clock.advance_ms(16 * HOUR_MS);
    eventually(|| world.issuing() == next).await;
    assert_eq!(world.stand(old), AuthorityState::Retiring);
    let renewed = world.enroll(subject).await;
    assert_eq!(world.read(&renewed.certificate).issuer, next);
    gate::until(&gate, &renewed.certificate, permits).await;
    gate.shutdown().await;
    // When nothing of the old one is valid any more, it goes.
    world.clock.advance_ms(9 * HOUR_MS);
    eventually(|| world.stand(old) == AuthorityState::Retired).await;
    eventually(|| world.stand(first) == AuthorityState::Retired).await;
    let steps = world.steps();
    assert!(steps.iter().all(|(_, _, given)| *given == approval), "each names the approval: {steps:?}");
    let of_next: Vec<_> = steps.iter().filter(|(_, id, _)| *id == next).map(|(name, ..)| *name).collect();
    assert_eq!(of_next, ["PREPARE", "ACTIVATE"]);
    // One was all there was: its own successor is left to officers.
    world.clock.advance_ms(24 * HOUR_MS);
    let shown = AuthorityServiceClient::new(world.alice());
    let shown = { shown }.list_authorities(pb::ListAuthoritiesRequest {}).await.unwrap().into_inner();
    let row = shown.rotations.iter().find(|row| row.kind == "ACCESS").unwrap();
    assert_eq!((row.approved_seq, row.rotations_left, row.failed_seq), (approval.0, 0, 0));
    assert!(world.running().app().rotation_outlook().iter().any(|row| row.kind == ACCESS && row.is_overdue));
    world.close().await;
    store::verify_offline(world.dir.path(), &mut |_| ()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_is_recorded_once_and_officers_go_on_by_hand() {
    let mut world = World::start().await;
    world.short_lived().await;
    world.permit(3).await;
    world.clock.advance_ms(24 * HOUR_MS + 60_000);
    eventually(|| world.prepared().is_some()).await;
    let next = world.prepared().unwrap();
    // Its key is gone when it is to issue.
    world.close().await;
    std::fs::remove_file(world.dir.path().join(format!("keys/authorities/{next}.pem"))).unwrap();
    world.open().await;
    world.clock.advance_ms(16 * HOUR_MS);
    eventually(|| world.failures() > 0).await;
    assert!(world.running().app().state().rotations.approvals[&ACCESS].failed.is_some());
    assert!(world.running().app().rotation_outlook().iter().any(|row| row.kind == ACCESS && row.has_failed));
    // Nothing more is tried, also when time passes: the record stands still.
    let activations = || world.steps().iter().filter(|(step, ..)| *step == "ACTIVATE").count();
    world.looks(3).await;
    assert_eq!((world.failures(), activations()), (1, 0));
    // Officers go back, and by hand: the one that cannot issue goes, another is made and issues.
    refused(
        world.enact(Command::ActivateAuthority(next)).await,
        Code::FailedPrecondition,
        "is not at this server",
    );
    world.enact(Command::RollbackAuthority(next)).await.unwrap();
    let by_hand = world.prepare(ACCESS).await;
    world.enact(Command::ActivateAuthority(by_hand)).await.unwrap();
    assert_eq!(world.issuing(), by_hand);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_approval_nothing_is_done_and_withdrawing_it_needs_one_officer() {
    let world = World::start().await;
    let old = world.short_lived().await;
    world.permit(1).await;
    let done = world.restrict(Command::WithdrawRotation(ACCESS), pb::Wait::Committed).await.unwrap();
    assert!(done.durable);
    world.clock.advance_ms(41 * HOUR_MS);
    world.looks(3).await;
    assert_eq!((world.prepared(), world.issuing(), world.steps().len()), (None, old, 0));
    assert!(world.running().app().rotation_outlook().iter().any(|row| row.kind == ACCESS && row.is_overdue));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_whose_officer_was_suspended_carries_nothing_and_says_who() {
    let world = World::start().await;
    let roles = [Role::Approver, Role::SecurityOps];
    let carol = world.principal("carol", (PrincipalKind::Officer, &roles), None).await;
    let old = world.short_lived().await;
    world.permit(3).await;
    let principal = "bob".parse().unwrap();
    let suspend = OfficerCommand::Suspend { principal, reason: RevocationReason::KeyCompromise };
    let done = world.restrict(Command::Officers(suspend), pb::Wait::Committed).await.unwrap();
    world.clock.advance_ms(25 * HOUR_MS);
    world.looks(3).await;
    assert_eq!((world.prepared(), world.issuing(), world.steps().len()), (None, old, 0));
    let outlook = world.running().app().rotation_outlook();
    let row = outlook.iter().find(|row| row.kind == ACCESS).unwrap();
    assert!(row.has_lapsed && row.is_overdue && !row.has_failed, "{row:?}");
    let mut client = AuthorityServiceClient::new(world.alice());
    let shown = client.list_authorities(pb::ListAuthoritiesRequest {}).await.unwrap().into_inner();
    let row = shown.rotations.iter().find(|row| row.kind == "ACCESS").unwrap();
    assert_eq!((row.lapsed_seq, row.lost_signer.as_str()), (done.position.unwrap().seq, "bob"));
    // Two who act permit it anew.
    let until = world.clock.now().plus_ms(86_400_000);
    let permit = Command::PermitRotation { kind: ACCESS, until, rotations: 1 };
    let mandate = world.mandate(&permit).await.unwrap();
    let signature = sign(&carol.key, MANDATE_PREFIX, &mandate).into();
    let of_carol = pb::Approval { officer: "carol".to_owned(), signature };
    world.submit(mandate.clone(), vec![world.alice.approve(&mandate), of_carol]).await.unwrap();
    eventually(|| world.prepared().is_some()).await;
    assert!(world.running().app().rotation_outlook().iter().all(|row| !row.has_lapsed));
}

/// The steps in a record on disk.
fn steps_on_disk(world: &World) -> usize {
    let mut steps = 0;
    let mut visit = |record: &Record| {
        steps += usize::from(record.header.kind == 21);
    };
    verify(&world.dir.path().join("journal"), Some(&mut visit)).unwrap();
    steps
}

/// A service of its own is killed at this point: the record has its step or not, and is whole.
fn killed(world: &World, point: &str, is_recorded: bool) {
    let before = steps_on_disk(world);
    assert!(Victim::start(world, "wait", Some(point)).last_words().is_empty());
    store::verify_offline(world.dir.path(), &mut |_| ()).unwrap();
    assert_eq!(steps_on_disk(world) - before, usize::from(is_recorded), "{point}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_of_its_own_it_stands_before_it_or_after_it_and_goes_on() {
    if asked("COUNTERSIGN_TEST_VICTIM").is_some() {
        return;
    }
    let mut world = World::start().await;
    let (entity, subject, _) = enrolled(&world).await;
    // Nothing of the first is valid any more, so it goes at once and no retirement comes between the steps.
    world.clock.advance_ms(26 * HOUR_MS);
    world.short_lived().await;
    for (point, is_recorded) in
        [("authority.after_key", false), ("rotation.before_record", false), ("rotation.after_record", true)]
    {
        let active = world.issuing();
        world.permit(1).await;
        let is_tidy = || {
            let state = world.running().app().state();
            state.authorities.values().all(|row| row.state != AuthorityState::Retiring)
        };
        eventually(is_tidy).await;
        let schedule = world.running().app().state().schedule(ACCESS).unwrap();
        world.close().await;
        world.pass_until(schedule.prepare_at);
        killed(&world, point, is_recorded);
        world.open().await;
        eventually(|| world.prepared().is_some()).await;
        let next = world.prepared().unwrap();
        world.close().await;
        world.pass_until(schedule.activate_at);
        // The step to come is the activation: it makes no key.
        let point = if point == "authority.after_key" { "rotation.before_record" } else { point };
        killed(&world, point, is_recorded);
        world.open().await;
        eventually(|| world.issuing() == next && world.stand(active) == AuthorityState::Retired).await;
    }
    world.screen(entity).await;
    let caller = world.enroll(subject).await;
    assert_eq!(world.read(&caller.certificate).issuer, world.issuing());
    let of = |name: &str| world.steps().iter().filter(|(step, ..)| *step == name).count();
    assert_eq!((of("PREPARE"), of("ACTIVATE")), (3, 3), "each once: {:?}", world.steps());
    world.close().await;
    store::verify_offline(world.dir.path(), &mut |_| ()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_a_retirement_of_its_own_the_authority_is_retired_once() {
    if asked("COUNTERSIGN_TEST_VICTIM").is_some() {
        return;
    }
    let mut world = World::start().await;
    let (entity, subject, _) = enrolled(&world).await;
    world.clock.advance_ms(26 * HOUR_MS);
    world.short_lived().await;
    for (point, is_recorded) in [("rotation.before_record", false), ("rotation.after_record", true)] {
        let old = world.issuing();
        world.permit(1).await;
        let schedule = world.running().app().state().schedule(ACCESS).unwrap();
        world.pass_until(schedule.prepare_at);
        eventually(|| world.prepared().is_some()).await;
        let next = world.prepared().unwrap();
        // Somebody still has a certificate of it when the next one issues, so it stays for now.
        world.screen(entity).await;
        let caller = world.enroll(subject).await;
        assert_eq!(world.read(&caller.certificate).issuer, old);
        world.pass_until(schedule.activate_at);
        eventually(|| world.issuing() == next).await;
        assert_eq!(world.stand(old), AuthorityState::Retiring);
        world.close().await;
        // An hour after its end, when nothing else is due: its one rotation is used up.
        world.clock.advance_ms(27 * HOUR_MS);
        killed(&world, point, is_recorded);
        world.open().await;
        eventually(|| world.stand(old) == AuthorityState::Retired).await;
        let of_old: Vec<_> = world.steps().into_iter().filter(|(_, id, _)| *id == old).collect();
        let retired = of_old.iter().filter(|(name, ..)| *name == "RETIRE").count();
        assert_eq!(retired, 1, "{point}: {of_old:?}");
        assert_eq!(world.issuing(), next);
    }
    world.close().await;
    store::verify_offline(world.dir.path(), &mut |_| ()).unwrap();
}
