//! The gateway library over real mTLS: it permits and denies as the server does, acknowledges what it enforces, and
//! fails closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign::client::{Gate, GateConfig, Identity, Target};
use countersign::domain::command::Command;
use countersign::domain::decision::Denial;
use countersign::domain::enforce::message::Strength;
use countersign::domain::enforce::{Chain, Request, bound_ms};
use countersign::domain::id::DeterminationId;
use countersign::domain::model::AccessForm;
use countersign::domain::person::EvidenceKind;
use countersign::domain::policy::Place;
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope};
use countersign::env::{ManualClock, SystemEntropy};
use countersign::pb;
use countersign::x509::Profile;
use countersign::x509::bundle::certificate_pem;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::health::becomes;
use crate::world::{Caller, World};

/// Certificates of the entity that is removed.
const CERTIFICATES: usize = 100;
/// How long an event may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn question(model: &str) -> Request<'_> {
    Request {
        model,
        form: AccessForm::Inference,
        place: Place::Us,
        serving: Place::Us,
        purpose: None,
        chain: Chain::default(),
    }
}

pub(crate) const STRONG: Strength = Strength {
    per_request: true,
    closes_connections: false,
    resumption_off: true,
    stream_cut_ms: 0,
    pausable: false,
};

/// A gate of the running service, with a clock of its own.
pub(crate) async fn gate(world: &World, name: &str, strength: Strength, clock: &Arc<ManualClock>) -> Gate {
    let caller = world.gateway_on(name, strength.pausable).await;
    connect(world, (&caller, world.running().address()), strength, clock).await
}

/// A gate of a registered gateway that reaches the running service at this address, ready.
pub(crate) async fn connect(
    world: &World,
    (caller, address): (&Caller, SocketAddr),
    strength: Strength,
    clock: &Arc<ManualClock>,
) -> Gate {
    let gate = Gate::connect(config(world, (caller, address), strength, clock)).await.unwrap();
    gate.ready(PATIENCE).await.unwrap();
    gate
}

/// What a registered gateway is configured with.
pub(crate) fn config(
    world: &World,
    (caller, address): (&Caller, SocketAddr),
    strength: Strength,
    clock: &Arc<ManualClock>,
) -> GateConfig {
    let settings = Arc::clone(&world.running().app().state().settings);
    GateConfig {
        target: Target {
            address: address.to_string(),
            server_name: Some("localhost".to_owned()),
            system_bundle_pem: world.system_pem(),
        },
        identity: Identity::from_pem(&certificate_pem(&caller.certificate), &caller.key.to_pem()).unwrap(),
        profile: Profile::new(settings.trust_domain.parse().unwrap(), settings.arc.parse().unwrap(), None),
        log_key: settings.log_key.as_slice().try_into().unwrap(),
        strength,
        clock: Arc::clone(clock) as Arc<dyn countersign::env::Clock>,
        entropy: Arc::new(SystemEntropy),
    }
}

/// Polls until the gate decides as wanted.
pub(crate) async fn until(gate: &Gate, leaf: &[u8], wanted: impl Fn(&Gate, &[u8]) -> bool) {
    let reached = async {
        while !wanted(gate, leaf) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, reached).await.is_err() {
        panic!(
            "the gate does not get there: {:?}, {:?}",
            gate.decide(leaf, &question("mythos-5")),
            gate.status()
        );
    }
}

pub(crate) fn permits(gate: &Gate, leaf: &[u8]) -> bool {
    gate.decide(leaf, &question("mythos-5")).is_permit()
}

pub(crate) async fn world_with_employee() -> (World, Vec<u8>) {
    let world = World::start().await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let leaf = world.enroll(subject).await.certificate;
    (world, leaf)
}

pub(crate) fn revoke(world: &World, leaf: &[u8]) -> Command {
    let ordinal = world.running().app().read_certificate(leaf).unwrap().ordinal;
    Command::Revoke { scope: RevocationScope::Certificate(ordinal), reason: RevocationReason::Misuse }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_waits_returns_when_the_gate_enforces_it() {
    let (world, leaf) = world_with_employee().await;
    let gate = gate(&world, "gw-1", STRONG, &world.clock).await;
    // The first decision asks the server, for the gate does not hold the entity's card yet.
    assert!(gate.decide_or_ask(&leaf, &question("mythos-5")).await.is_permit);
    until(&gate, &leaf, permits).await;
    let done = world.restrict(revoke(&world, &leaf), pb::Wait::Enforced).await.unwrap();
    assert_eq!(done.status(), pb::EnforcementStatus::Enforced, "{done:?}");
    assert!(done.acked.contains(&"gw-1".to_owned()), "{done:?}");
    let denied = gate.decide(&leaf, &question("mythos-5"));
    assert_eq!(denied.decision.denials, [Denial::CredentialRevoked]);
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_26_one_removal_from_the_annex_ends_every_certificate_at_every_gate() {
    let world = World::start().await;
    let (entity, other) = (world.partner().await, world.partner().await);
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let kept = world.person(other, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let kept = world.enroll(kept).await.certificate;
    let mut leaves = Vec::new();
    for _ in 0..CERTIFICATES {
        leaves.push(world.enroll(subject).await.certificate);
    }
    let mut gates = Vec::new();
    for name in ["gw-1", "gw-2", "gw-3"] {
        let gate = gate(&world, name, STRONG, &world.clock).await;
        for leaf in [&leaves[0], &kept] {
            assert!(gate.decide_or_ask(leaf, &question("mythos-5")).await.is_permit);
            until(&gate, leaf, permits).await;
        }
        assert!(leaves.iter().all(|leaf| permits(&gate, leaf)));
        gates.push(gate);
    }
    let before = world.running().app().journal().head().seq.0;
    let determination: DeterminationId = "2026-06-26-lift".parse().unwrap();
    let revision = world.running().app().state().annexes[&determination] + 1;
    let removal = Command::AmendAnnex { determination, revision, add: vec![], remove: vec![entity] };
    let done = world.enact(removal).await.unwrap().position.unwrap();
    assert_eq!(done.seq, before + 1, "one record, however many certificates");
    for gate in gates {
        until(&gate, &leaves[0], |gate, leaf| !permits(gate, leaf)).await;
        // It came in one piece: where one is denied all are, and nobody else is.
        for leaf in &leaves {
            let denied = gate.decide(leaf, &question("mythos-5"));
            assert_eq!(denied.decision.denials[0], Denial::CredentialRevoked, "{denied:?}");
        }
        assert!(permits(&gate, &kept));
        gate.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_cannot_promise_all_is_named_as_weak() {
    let (world, leaf) = world_with_employee().await;
    let weak = Strength { pausable: true, ..STRONG };
    let gate = gate(&world, "gw-weak", weak, &world.clock).await;
    let done = world.restrict(revoke(&world, &leaf), pb::Wait::Enforced).await.unwrap();
    assert_eq!(done.status(), pb::EnforcementStatus::Partial);
    assert_eq!(done.weak, ["gw-weak"], "{done:?}");
    assert!(!done.acked.contains(&"gw-weak".to_owned()));
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_24_a_gate_without_its_server_denies_after_the_lease_and_recovers_by_itself() {
    let (mut world, leaf) = world_with_employee().await;
    let clock = Arc::clone(&world.clock);
    let port = world.running().address().port();
    let gate = gate(&world, "gw-1", STRONG, &clock).await;
    gate.decide_or_ask(&leaf, &question("mythos-5")).await;
    until(&gate, &leaf, permits).await;
    world.close().await;
    clock.advance_ms(u32::try_from(bound_ms(10_000)).unwrap());
    let denied = gate.decide(&leaf, &question("mythos-5"));
    assert_eq!(denied.decision.denials.first(), Some(&Denial::StaleView));
    assert!(!gate.decide_or_ask(&leaf, &question("mythos-5")).await.is_permit);
    world.open_at(port).await;
    until(&gate, &leaf, permits).await;
    gate.shutdown().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_a_model_reaches_the_gate_and_two_officers_release_it() {
    let (world, leaf) = world_with_employee().await;
    let gate = gate(&world, "gw-1", STRONG, &world.clock).await;
    gate.decide_or_ask(&leaf, &question("mythos-5")).await;
    until(&gate, &leaf, permits).await;
    let scope = StopScope::Model("mythos-5".parse().unwrap());
    let stop = Command::Stop { scope: scope.clone(), reason: RevocationReason::Drill };
    let done = world.restrict(stop, pb::Wait::Enforced).await.unwrap();
    assert_eq!(done.status(), pb::EnforcementStatus::Enforced, "{done:?}");
    let denied = gate.decide(&leaf, &question("mythos-5"));
    assert_eq!(denied.decision.denials, [Denial::EmergencyStop]);
    // One officer alone only proposes; with the other it is released.
    let release = Command::ReleaseStop(scope);
    let mandate = world.mandate(&release).await.unwrap();
    let alone = world.submit(mandate.clone(), vec![world.alice.approve(&mandate)]).await.unwrap();
    assert_eq!(alone.signatures_missing, 1);
    assert!(!permits(&gate, &leaf));
    let both = vec![world.alice.approve(&mandate), world.bob.approve(&mandate)];
    world.submit(mandate, both).await.unwrap();
    until(&gate, &leaf, permits).await;
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_a_second_off_the_server_s_time_denies() {
    let (world, leaf) = world_with_employee().await;
    let own = Arc::new(ManualClock::at(countersign::env::Clock::now(world.clock.as_ref())));
    let gate = gate(&world, "gw-1", STRONG, &own).await;
    gate.decide_or_ask(&leaf, &question("mythos-5")).await;
    until(&gate, &leaf, permits).await;
    own.set_wall(countersign::env::Clock::now(own.as_ref()).plus_ms(2_500));
    // The next Pong shows it; a Ping goes out when its time has come on the gate's own steady clock.
    until(&gate, &leaf, |gate, leaf| {
        own.tick_boot_ms(200);
        world.clock.tick_boot_ms(200);
        gate.decide(leaf, &question("mythos-5")).decision.denials.first() == Some(&Denial::ClockUntrusted)
    })
    .await;
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_rolled_back_makes_no_gate_forget_and_stops_the_leases() {
    let (mut world, leaf) = world_with_employee().await;
    let entity = world.facts(&leaf).entity.entity;
    let colleague = world.person(entity, "EMPLOYEE", EvidenceKind::CitizenOrNational).await;
    let kept = world.enroll(colleague).await.certificate;
    let clock = Arc::clone(&world.clock);
    let port = world.running().address().port();
    let gate = gate(&world, "gw-1", STRONG, &clock).await;
    gate.decide_or_ask(&leaf, &question("mythos-5")).await;
    until(&gate, &leaf, permits).await;
    world.close().await;
    let yesterday = world.copy_data();
    world.open_at(port).await;
    until(&gate, &leaf, |gate, _| gate.status().fault.is_none()).await;
    let done = world.restrict(revoke(&world, &leaf), pb::Wait::Committed).await.unwrap();
    let revoked_at = done.position.unwrap().seq;
    until(&gate, &leaf, |gate, _| gate.status().position.seq.0 >= revoked_at).await;
    assert!(!permits(&gate, &leaf));
    until(&gate, &kept, permits).await;
    world.close().await;
    world.restore_data(&yesterday);
    world.open_at(port).await;
    let app = Arc::clone(world.running().app());
    until(&gate, &leaf, |_, _| app.feed().rollback().is_some()).await;
    let why = app.feed().rollback().unwrap();
    assert!(why.contains("it signed record"), "{why}");
    assert!(!permits(&gate, &leaf), "a gate un-revoked");
    // No lease is granted any more: also who was not revoked is denied, here and by the server, which says why.
    clock.advance_ms(u32::try_from(bound_ms(10_000)).unwrap());
    for _ in 0..50 {
        let denied = gate.decide(&kept, &question("mythos-5"));
        assert_eq!(denied.decision.denials.first(), Some(&Denial::StaleView), "{denied:?}");
        clock.advance_ms(100);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!gate.decide_or_ask(&kept, &question("mythos-5")).await.is_permit);
    assert_eq!(app.feed().closed().unwrap(), why);
    becomes(&world.alice(), ServingStatus::NotServing).await;
    // Nothing that loosens is recorded any more, and the answer says why; a restriction is.
    let refused = world.enact(Command::ActivateEntity(world.provider)).await.unwrap_err();
    assert!(refused.message().contains("only restrictions are recorded"), "{}", refused.message());
    world.restrict(revoke(&world, &leaf), pb::Wait::Committed).await.unwrap();
    drop(app);
    gate.shutdown().await;
    world.close().await;
}
