use std::sync::Arc;

use super::world::*;
use crate::domain::enforce::message::{FromGateway, Open, Strength, ToGateway};
use crate::domain::enforce::{BarrierReport, EnforcedBy, ParticipantId, Position, bound_ms};
use crate::domain::id::Seq;
use crate::env::Clock;
use crate::feed::Session;

/// Longer than the leases of the process before.
const SETTLED_MS: u32 = 20_000;

fn participant(n: u8) -> ParticipantId {
    ParticipantId::Gateway(gateway(n), boot(n))
}

/// A world in which nobody can hold a lease that this process does not know of.
fn settled() -> World {
    let world = World::new();
    world.clock.advance_ms(SETTLED_MS);
    world
}

/// A connected gateway with a lease, current.
fn leased(world: &World, n: u8, strength: Strength) -> Session {
    let open = Open { strength, ..world.current(n) };
    let mut session = world.feed.open(gateway(n), open).unwrap();
    session.on(FromGateway::Ping { ping_id: 1, applied: Seq(0) }).unwrap();
    let mut pongs = 0;
    while let Some(message) = session.poll().unwrap() {
        pongs += usize::from(matches!(message, ToGateway::Pong(_)));
    }
    assert_eq!(pongs, 1);
    session
}

fn ack_all(session: &mut Session) -> Vec<ToGateway> {
    let sent: Vec<_> = std::iter::from_fn(|| session.poll().unwrap()).collect();
    for message in &sent {
        if let ToGateway::Delta(delta) = message {
            session.on(FromGateway::Ack { applied: delta.to, barrier: None }).unwrap();
        }
    }
    sent
}

fn wait(world: &World, at: Position, deadline_ms: Option<u32>) -> tokio::task::JoinHandle<BarrierReport> {
    let (feed, committed_ms) = (world.feed.clone(), world.clock.boot_ms());
    tokio::spawn(async move { feed.wait_enforced(at, committed_ms, deadline_ms).await })
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_barrier_ends_when_everybody_has_acknowledged() {
    let mut world = settled();
    let mut sessions = [1, 2].map(|n| leased(&world, n, STRONG));
    let at = world.lock(1);
    let waiting = wait(&world, at, None);
    settle().await;
    let sent = ack_all(&mut sessions[0]);
    assert!(
        matches!(sent.as_slice(), [ToGateway::Delta(_)]),
        "who acknowledges at once is not asked: {sent:?}"
    );
    settle().await;
    assert!(!waiting.is_finished(), "one has not");
    ack_all(&mut sessions[1]);
    let report = waiting.await.unwrap();
    assert!(report.is_enforced());
    assert_eq!(report.enforced_by, Some(EnforcedBy::Acks));
    assert_eq!(report.acked, [participant(1), participant(2), ParticipantId::Server]);
}

#[tokio::test]
async fn a_gateway_that_does_not_acknowledge_by_itself_is_asked() {
    let mut world = settled();
    let mut session = leased(&world, 1, STRONG);
    // It has no event, so that no gateway hears of it unasked.
    let at = world.silent();
    let waiting = wait(&world, at, None);
    settle().await;
    assert_eq!(session.poll().unwrap(), None);
    let ToGateway::Delta(delta) = next(&mut session).await.unwrap() else { panic!("the record comes first") };
    assert_eq!((delta.to, delta.records.len()), (at.seq, 0));
    let barrier = next(&mut session).await.unwrap();
    assert!(matches!(barrier, ToGateway::Barrier { at: asked, .. } if asked == at.seq), "{barrier:?}");
    session.on(FromGateway::Ack { applied: at.seq, barrier: None }).unwrap();
    assert_eq!(waiting.await.unwrap().enforced_by, Some(EnforcedBy::Acks));
}

#[tokio::test]
async fn after_a_restart_a_gateway_that_may_have_been_paused_is_weak_for_an_hour() {
    let mut world = settled();
    world.register_pausable(1);
    let at = world.lock(1);
    let report = world.feed.report(at, world.clock.boot_ms());
    assert_eq!(
        (report.weak.as_slice(), report.is_enforced()),
        ([ParticipantId::EarlierRun].as_slice(), false)
    );
    world.clock.advance_ms(3_600_000);
    let at = world.lock(2);
    assert!(world.feed.report(at, world.clock.boot_ms()).is_enforced(), "no lease lasts that long");
}

#[tokio::test]
async fn a_gateway_that_left_is_waited_for_until_its_lease_has_run_out() {
    let mut world = settled();
    drop(leased(&world, 1, STRONG));
    world.clock.advance_ms(3_000);
    let at = world.lock(1);
    let report = wait(&world, at, Some(0)).await.unwrap();
    assert_eq!((report.pending, report.enforced_by), (vec![participant(1)], None));
    let waiting = wait(&world, at, None);
    world.clock.advance_ms(u32::try_from(bound_ms(10_000)).unwrap() - 3_001);
    world.feed.tick();
    settle().await;
    assert!(!waiting.is_finished());
    world.clock.advance_ms(1);
    world.feed.tick();
    let report = waiting.await.unwrap();
    assert_eq!(report.lease_expired, [participant(1)]);
    assert_eq!(report.enforced_by, Some(EnforcedBy::Acks), "before the bound of the commit");
    assert!(report.is_enforced());
    world.silent();
    assert_eq!(world.feed.sessions(), [], "and then forgotten");
}

#[tokio::test]
async fn after_a_restart_only_time_tells() {
    let mut world = World::new();
    let at = world.lock(1);
    let waiting = wait(&world, at, None);
    world.clock.advance_ms(u32::try_from(bound_ms(10_000)).unwrap() - 1);
    world.feed.tick();
    settle().await;
    assert!(!waiting.is_finished(), "gateways of the run before may hold leases");
    world.clock.advance_ms(1);
    world.feed.tick();
    assert!(waiting.await.unwrap().is_enforced());
}

#[tokio::test]
async fn an_answer_that_is_under_way_is_waited_for() {
    let mut world = settled();
    let before = Arc::clone(&world.state);
    let (state, guard) = world.feed.in_flight().enter(|| Arc::clone(&before));
    assert_eq!(state.position, before.position);
    let at = world.lock(1);
    let (_, newer) = world.feed.in_flight().enter(|| Arc::clone(&world.state));
    let waiting = wait(&world, at, None);
    settle().await;
    assert!(!waiting.is_finished());
    drop(guard);
    assert!(waiting.await.unwrap().is_enforced(), "an answer on the new state is not in its way");
    drop(newer);
    // One that is never sent is never called enforced.
    let (_, _stuck) = world.feed.in_flight().enter(|| before);
    let waiting = wait(&world, at, None);
    world.clock.advance_ms(20_000);
    world.feed.tick();
    let report = waiting.await.unwrap();
    assert_eq!((report.pending.as_slice(), report.enforced_by), ([ParticipantId::Server].as_slice(), None));
}

#[tokio::test]
async fn a_gateway_that_cannot_promise_all_is_weak() {
    let mut world = settled();
    let mut weak = leased(&world, 1, Strength { per_request: false, resumption_off: false, ..STRONG });
    let at = world.lock(1);
    ack_all(&mut weak);
    let report = wait(&world, at, None).await.unwrap();
    assert_eq!(
        (report.weak.as_slice(), report.enforced_by),
        ([participant(1)].as_slice(), Some(EnforcedBy::Acks))
    );
    assert!(!report.is_enforced());
    assert!(world.feed.sessions()[0].is_weak);
    // A paused machine may think that its lease still holds, long after it left.
    world.register_pausable(2);
    let paused = leased(&world, 2, Strength { pausable: true, ..STRONG });
    drop(paused);
    world.clock.advance_ms(60_000);
    let at = world.lock(2);
    ack_all(&mut weak);
    world.clock.advance_ms(20_000);
    let report = wait(&world, at, None).await.unwrap();
    assert_eq!(report.weak, [participant(1), participant(2), ParticipantId::EarlierRun]);
}

#[tokio::test]
async fn a_deadline_names_the_laggards() {
    let mut world = settled();
    let _session = leased(&world, 1, STRONG);
    let at = world.lock(1);
    let waiting = wait(&world, at, Some(100));
    settle().await;
    world.clock.advance_ms(100);
    world.feed.tick();
    let report = waiting.await.unwrap();
    assert_eq!((report.pending.as_slice(), report.enforced_by), ([participant(1)].as_slice(), None));
    assert_eq!(report.acked, [ParticipantId::Server]);
}

#[test]
fn a_run_that_lost_what_it_acknowledged_is_pending_again() {
    let mut world = settled();
    let mut session = leased(&world, 1, STRONG);
    let at = world.lock(1);
    ack_all(&mut session);
    assert!(world.feed.report(at, world.clock.boot_ms()).is_enforced());
    drop(session);
    let _again = world.feed.open(gateway(1), world.open(1)).unwrap();
    let report = world.feed.report(at, world.clock.boot_ms());
    assert_eq!((report.pending, report.enforced_by), (vec![participant(1)], None));
}

#[test]
fn a_lease_never_comes_before_records_that_a_barrier_counted() {
    let mut world = settled();
    let mut session = world.feed.open(gateway(1), world.current(1)).unwrap();
    let mut received = Seq(0);
    // As many records under way as may be, and a Ping that names the last of them.
    for n in 0..8 {
        world.lock(n);
        for message in std::iter::from_fn(|| session.poll().unwrap()) {
            if let ToGateway::Delta(delta) = message {
                received = delta.to;
            }
        }
    }
    session.on(FromGateway::Ping { ping_id: 1, applied: received }).unwrap();
    let at = world.lock(8);
    let report = world.feed.report(at, world.clock.boot_ms());
    assert!(report.is_enforced(), "it never had a lease");
    assert_eq!(session.poll().unwrap(), None, "a lease now would be one without the record");
    session.on(FromGateway::Ack { applied: received, barrier: None }).unwrap();
    let ToGateway::Delta(delta) = session.poll().unwrap().unwrap() else { panic!("the record comes first") };
    assert_eq!(delta.to, at.seq);
    assert!(matches!(session.poll().unwrap(), Some(ToGateway::Pong(_))));
}
