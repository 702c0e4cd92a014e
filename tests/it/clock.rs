//! A clock that steps an hour, either way, under a running service with gateways, and under a gateway.

use std::sync::Arc;

use countersign::client::{self, Gate};
use countersign::domain::certificate::PrincipalKind;
use countersign::domain::command::Command;
use countersign::domain::decision::Denial;
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::domain::time::Timestamp;
use countersign::env::{Clock as _, ManualClock};
use countersign::pb;
use tonic::Code;

use crate::calls::{apply, denied, refused};
use crate::gate::{STRONG, config, connect, permits, question, revoke, until, world_with_employee};
use crate::world::World;

const HOUR_MS: i64 = 3_600_000;
/// The longest a lease lasts, and its drift.
const LEASE_MS: u32 = 11_000;

/// A world with an employee whom a gate permits. The gate's clock is its own.
async fn permitted() -> (World, Vec<u8>, Gate, Arc<ManualClock>) {
    let (world, leaf) = world_with_employee().await;
    let caller = world.gateway("gw-1").await;
    let clock = Arc::new(ManualClock::at(world.clock.now()));
    let gate = connect(&world, (&caller, world.running().address()), STRONG, &clock).await;
    assert!(gate.decide_or_ask(&leaf, &question("mythos-5")).await.is_permit);
    until(&gate, &leaf, permits).await;
    (world, leaf, gate, clock)
}

fn first_denial(gate: &Gate, leaf: &[u8]) -> Option<Denial> {
    gate.decide(leaf, &question("mythos-5")).decision.denials.first().copied()
}

/// Denied for the clock: as its server says, or because it grants no lease any more.
fn denied_for_time(gate: &Gate, leaf: &[u8]) -> bool {
    matches!(first_denial(gate, leaf), Some(Denial::ClockUntrusted | Denial::StaleView))
}

/// The service's clock steps; its gateways' clocks are right.
async fn the_service_steps(step_ms: i64) {
    let (world, leaf, gate, gate_clock) = permitted().await;
    let right = world.clock.now();
    world.clock.set_wall(right.plus_ms(step_ms));
    // At once: the service permits nothing, and records nothing but restrictions.
    denied(&world.mythos(&leaf).await, "CLOCK_UNTRUSTED");
    let mut portal = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    refused(portal.apply_entity(apply("Late Inc.")).await, Code::Unavailable, "the clock is not trusted");
    // At the end of its lease at the latest: the gate, too. Its own clock is right, so only the lease or the service can tell it.
    world.clock.advance_ms(LEASE_MS);
    gate_clock.advance_ms(LEASE_MS);
    until(&gate, &leaf, denied_for_time).await;
    // A restriction is recorded, at a time that is not the wrong one.
    let done = world.restrict(revoke(&world, &leaf), pb::Wait::Committed).await.unwrap();
    assert!(done.durable);
    let last = world.running().app().state().time;
    let believed = right.plus_ms(i64::from(LEASE_MS));
    assert!(last >= right.plus_ms(-2_000) && last <= believed.plus_ms(2_000), "{last}, not {believed}");
    // Setting it right is not enough; two officers accept it, and that is recorded whatever the clock shows.
    world.clock.set_wall(believed);
    denied(&world.mythos(&leaf).await, "CLOCK_UNTRUSTED");
    let mandate = world.mandate(&Command::AcceptClock(world.clock.now())).await.unwrap();
    let alone = world.submit(mandate.clone(), vec![world.alice.approve(&mandate)]).await.unwrap();
    assert_eq!(alone.signatures_missing, 1);
    denied(&world.mythos(&leaf).await, "CLOCK_UNTRUSTED");
    world.enact(Command::AcceptClock(world.clock.now())).await.unwrap();
    denied(&world.mythos(&leaf).await, "CREDENTIAL_REVOKED");
    portal.apply_entity(apply("In time Inc.")).await.unwrap();
    // The gate has its lease again, and what was recorded meanwhile.
    until(&gate, &leaf, |gate, leaf| {
        world.clock.advance_ms(250);
        gate_clock.advance_ms(250);
        first_denial(gate, leaf) == Some(Denial::CredentialRevoked)
    })
    .await;
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_ahead_the_service_and_its_gates_deny_until_officers_accept_the_clock() {
    the_service_steps(HOUR_MS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_back_the_service_and_its_gates_deny_until_officers_accept_the_clock() {
    the_service_steps(-HOUR_MS).await;
}

/// A gate's clock steps; the service's is right.
async fn the_gate_steps(step_ms: i64) {
    let (world, leaf, gate, clock) = permitted().await;
    let right: Timestamp = clock.now();
    clock.set_wall(right.plus_ms(step_ms));
    assert!(denied_for_time(&gate, &leaf), "at once, by its own steady clock");
    // Pongs do not make it right, they say why; and others are not touched.
    until(&gate, &leaf, |gate, leaf| {
        clock.advance_ms(250);
        world.clock.advance_ms(250);
        assert!(denied_for_time(gate, leaf));
        first_denial(gate, leaf) == Some(Denial::ClockUntrusted)
    })
    .await;
    assert!(world.mythos(&leaf).await.permit);
    // It acknowledges what it enforces all the same: a gate that denies everything enforces it.
    let stop = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };
    let stopped = world.restrict(stop, pb::Wait::Enforced).await.unwrap();
    assert!(stopped.acked.contains(&"gw-1".to_owned()), "{stopped:?}");
    world.enact(Command::ReleaseStop(StopScope::All)).await.unwrap();
    // Set right again, it needs nobody's word: it compares with the next Pong.
    clock.set_wall(world.clock.now());
    until(&gate, &leaf, |gate, leaf| {
        clock.advance_ms(250);
        world.clock.advance_ms(250);
        permits(gate, leaf)
    })
    .await;
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_whose_clock_is_an_hour_ahead_denies_by_itself() {
    the_gate_steps(HOUR_MS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_whose_clock_is_an_hour_back_denies_by_itself() {
    the_gate_steps(-HOUR_MS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_clock_shows_an_officer_can_connect_restrict_and_accept_it() {
    let (world, leaf) = world_with_employee().await;
    let roles = (PrincipalKind::Officer, PrincipalKind::Officer.roles());
    let carol = world.principal("carol", roles, None).await;
    let right = world.clock.now();
    // Her certificate has not begun, or has ended: by this clock.
    for step_ms in [-HOUR_MS, 24 * 40 * HOUR_MS] {
        world.clock.set_wall(right.plus_ms(step_ms));
        denied(&world.mythos(&leaf).await, "CLOCK_UNTRUSTED");
        // Over a new connection too. Her own clock is right.
        let clock = Arc::new(ManualClock::at(right));
        let mine = config(&world, (&carol, world.running().address()), STRONG, &clock);
        let channel = client::channel(&mine.target, Some(&mine.identity), &mine.clock).await.unwrap();
        let mut audit = pb::audit_service_client::AuditServiceClient::new(channel);
        audit.get_head(pb::GetHeadRequest::default()).await.unwrap();
    }
    let stop = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };
    assert!(world.restrict(stop, pb::Wait::Committed).await.unwrap().durable);
    world.clock.set_wall(right);
    world.enact(Command::AcceptClock(right)).await.unwrap();
    world.enact(Command::ReleaseStop(StopScope::All)).await.unwrap();
    // A clock that is trusted judges as ever.
    world.clock.advance_ms(u32::MAX);
    let mut audit = pb::audit_service_client::AuditServiceClient::new(world.connect_as(&carol).await);
    audit.get_head(pb::GetHeadRequest::default()).await.unwrap_err();
}
