use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};

use bytes::Bytes;

use super::world::*;
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::enforce::message::*;
use crate::domain::enforce::{EnforcementEvent, EnforcementSet, Position};
use crate::domain::entity::EntityCard;
use crate::domain::id::{Digest, Epoch, Seq, SubjectId};
use crate::feed::{Closed, FeedCounts, OpenFault, PublishedRecord, Session, SessionFault};

/// Everything that the session has to send now.
fn drain(session: &mut Session) -> Vec<ToGateway> {
    std::iter::from_fn(|| session.poll().unwrap()).collect()
}

/// The session of a gateway that holds everything, past its Welcome.
fn live(world: &World, n: u8) -> Session {
    let mut session = world.feed.open(gateway(n), world.current(n)).unwrap();
    assert!(matches!(drain(&mut session).as_slice(), [ToGateway::Welcome(_)]));
    session
}

fn ping(session: &mut Session, ping_id: u64) {
    session.on(FromGateway::Ping { ping_id, applied: Seq(0) }).unwrap();
}

fn ack(session: &mut Session, at: Position) {
    session.on(FromGateway::Ack { applied: at.seq, barrier: None }).unwrap();
}

fn only_delta(session: &mut Session) -> Delta {
    match drain(session).as_slice() {
        [ToGateway::Delta(delta)] => delta.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_gateway_gets_a_snapshot_and_then_what_follows() {
    let mut world = World::new();
    world.lock(1);
    let mut session = world.feed.open(gateway(1), world.open(1)).unwrap();
    let sent = drain(&mut session);
    let [
        ToGateway::Welcome(welcome),
        ToGateway::SnapshotBegin(begin),
        ToGateway::SnapshotPart(part),
        ToGateway::SnapshotEnd { sha256, digest },
    ] = sent.as_slice()
    else {
        panic!("{sent:?}")
    };
    assert_eq!((welcome.head, welcome.ping_ms), (world.state.position, 2_500));
    assert_eq!(begin.position, world.state.position);
    let whole = zstd::bulk::decompress(part, begin.len as usize).unwrap();
    assert_eq!(Digest::of(&whole), *sha256);
    assert_eq!(from_bytes::<EnforcementSet>(&whole).unwrap(), *world.state.enforcement);
    assert_eq!(*digest, world.state.feed_digest);
    let at = world.lock(2);
    let delta = only_delta(&mut session);
    assert_eq!((delta.from, delta.to), (at.seq, at.seq));
    let event = EnforcementEvent::LineageLocked(lineage(2));
    assert_eq!(delta.records[0].events.as_ref(), [Bytes::from(to_bytes(&event))]);
}

#[test]
fn a_pong_follows_the_delta_of_the_head_that_was_committed_when_its_ping_arrived() {
    let mut world = World::new();
    let mut session = live(&world, 1);
    let at = world.append(vec![EnforcementEvent::LineageLocked(lineage(1))], &[]);
    ping(&mut session, 1);
    assert_eq!(drain(&mut session), [], "committed and not published: the lease must wait");
    world.publish();
    let sent = drain(&mut session);
    let [ToGateway::Delta(delta), ToGateway::Pong(pong)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((delta.to, pong.ping_id, pong.head, pong.lease_ms), (at.seq, 1, at, 10_000));
    // Records that are nobody's business are not sent until a Ping asks, and then as an empty Delta.
    let at = world.silent();
    assert_eq!(drain(&mut session), []);
    ping(&mut session, 2);
    let sent = drain(&mut session);
    let [ToGateway::Delta(delta), ToGateway::Pong(pong)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((delta.to, delta.records.len(), pong.head), (at.seq, 0, at));
}

#[test]
fn nobody_gets_a_pong_while_the_feed_is_closed() {
    let world = World::new();
    let mut session = live(&world, 1);
    let pongs = |session: &mut Session| {
        ping(session, 1);
        drain(session).len()
    };
    assert_eq!(pongs(&mut session), 1);
    world.feed.close("the disk is gone");
    assert_eq!(pongs(&mut session), 0);
    assert_eq!(world.feed.closed().as_deref(), Some("the disk is gone"));
    world.feed.reopen();
    assert_eq!(pongs(&mut session), 1);
    let counts = FeedCounts { opened: 1, pongs: 2, refused_pings: 1, ..FeedCounts::default() };
    assert_eq!(world.feed.counts(), counts);
}

#[test]
fn no_lease_before_the_start_is_on_record() {
    let world = World::new();
    let heads = Arc::<FakeHeads>::clone(&world.heads);
    let feed = crate::feed::Feed::new(world.clock.clone(), heads, Arc::clone(&world.state), 0);
    let mut session = feed.open(gateway(1), world.current(1)).unwrap();
    ping(&mut session, 1);
    assert_eq!(drain(&mut session).len(), 1, "only the Welcome");
    feed.start_granting();
    ping(&mut session, 2);
    assert!(matches!(drain(&mut session).as_slice(), [ToGateway::Pong(_)]));
}

#[test]
fn a_slow_gateway_gets_records_merged_and_a_stuck_one_no_lease() {
    let mut world = World::new();
    let mut session = live(&world, 1);
    for n in 0..8 {
        world.lock(n);
        assert_eq!(drain(&mut session).len(), 1);
    }
    let first = world.lock(8);
    let last = world.lock(9);
    assert_eq!(drain(&mut session), [], "eight are not acknowledged");
    ping(&mut session, 1);
    assert_eq!(drain(&mut session), [], "its head is not sent yet");
    let before = Position { seq: Seq(first.seq.0 - 1), ..first };
    ack(&mut session, before);
    let sent = drain(&mut session);
    let [ToGateway::Delta(delta), ToGateway::Pong(_)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((delta.from, delta.to, delta.records.len()), (first.seq, last.seq, 2));
    world.clock.advance_ms(5_000);
    ping(&mut session, 2);
    assert_eq!(drain(&mut session), [], "half a lease without an Ack");
    ack(&mut session, last);
    ping(&mut session, 3);
    assert!(matches!(drain(&mut session).as_slice(), [ToGateway::Pong(_)]));
}

#[test]
fn a_gateway_resumes_where_its_digest_says() {
    let mut world = World::new();
    world.lock(1);
    let claim = world.current(1);
    world.silent();
    let at = world.lock(2);
    let mut session = world.feed.open(gateway(1), claim.clone()).unwrap();
    let sent = drain(&mut session);
    let [ToGateway::Welcome(_), ToGateway::Delta(delta)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((delta.from, delta.to), (claim.position.seq.next(), at.seq));
    // Of another epoch: everything anew.
    let position = Position { epoch: Epoch(0), seq: Seq(99) };
    let mut session = world.feed.open(gateway(1), Open { position, ..claim }).unwrap();
    assert!(matches!(drain(&mut session)[1], ToGateway::SnapshotBegin(_)));
}

#[test]
fn a_gateway_behind_what_is_retained_gets_a_snapshot() {
    let mut world = World::new();
    world.lock(1);
    let claim = world.current(1);
    let mut asleep = live(&world, 2);
    world.lock(2);
    world.clock.advance_ms(86_400_001);
    world.lock(3);
    for session in [&mut world.feed.open(gateway(1), claim).unwrap(), &mut asleep] {
        let sent = drain(session);
        assert!(sent.iter().any(|m| matches!(m, ToGateway::SnapshotEnd { .. })), "{sent:?}");
    }
    assert_eq!(world.feed.counts().snapshots, 2);
}

#[test]
fn a_claim_that_nothing_proves_is_refused_and_counted() {
    let mut world = World::new();
    world.lock(1);
    let good = world.current(1);
    let ahead = Position { seq: Seq(100), ..good.position };
    let forged = Bytes::from_static(b"forged");
    for claim in [
        Open { digest: Digest([9; 32]), ..good.clone() },
        Open { position: ahead, ..good.clone() },
        Open { position: Position { epoch: Epoch(2), seq: Seq(1) }, signed_head: forged, ..good },
    ] {
        assert_eq!(world.feed.open(gateway(1), claim).err(), Some(OpenFault::BadClaim));
    }
    assert_eq!(world.feed.counts().bad_claims, 3);
    assert_eq!(world.feed.rollback(), None);
}

#[test]
fn a_head_that_we_signed_and_do_not_have_stops_all_leases() {
    for is_fork in [false, true] {
        let mut world = World::new();
        let before = world.lock(1);
        let mut other = live(&world, 2);
        let claim = world.current(1);
        let ahead = if is_fork { before } else { Position { seq: Seq(100), ..before } };
        let signed_head = world.heads.sign(ahead);
        *world.heads.branch.lock().unwrap() = u8::from(is_fork);
        let refused = world.feed.open(gateway(1), Open { signed_head, ..claim });
        assert!(matches!(refused.err(), Some(OpenFault::RolledBack(_))));
        assert!(world.feed.rollback().is_some());
        ping(&mut other, 1);
        assert_eq!(drain(&mut other), [], "nobody gets a lease any more");
        world.feed.reopen();
        ping(&mut other, 2);
        assert_eq!(drain(&mut other), [], "reopening does not bring lost history back");
    }
}

#[test]
fn cards_come_when_asked_for_and_whenever_they_change() {
    let mut world = World::new();
    world.commit(Vec::new(), &[entity(1)]);
    let mut session = live(&world, 1);
    world.commit(Vec::new(), &[entity(1)]);
    assert_eq!(drain(&mut session), [], "nobody asked");
    session.on(FromGateway::Want(entity(1))).unwrap();
    session.on(FromGateway::Want(entity(2))).unwrap();
    session.on(FromGateway::Want(entity(1))).unwrap();
    let delta = only_delta(&mut session);
    let [(first, card), (second, none)] = delta.cards.as_slice() else { panic!("{delta:?}") };
    assert_eq!((*first, *second), (entity(1), entity(2)));
    assert_eq!(from_bytes::<EntityCard>(card).unwrap().revision, world.state.position.seq);
    assert!(none.is_empty(), "there is no such entity");
    let at = world.commit(Vec::new(), &[entity(2)]);
    let delta = only_delta(&mut session);
    assert_eq!((delta.from, delta.to), (at.seq, at.seq));
    assert_eq!(from_bytes::<EntityCard>(&delta.cards[0].1).unwrap().revision, at.seq);
}

#[test]
fn cards_that_changed_while_the_server_was_down_are_in_the_first_delta() {
    let mut world = World::new();
    world.commit(Vec::new(), &[entity(1), entity(2)]);
    let claim = world.current(1);
    let revision = claim.position.seq;
    let cards = [1, 2].map(|n| HeldCard { entity: entity(n), revision }).to_vec();
    world.append(Vec::new(), &[entity(2)]);
    let restarted = World::from_state(Arc::clone(&world.state), 60_000);
    let mut session = restarted.feed.open(gateway(1), Open { cards, ..claim }).unwrap();
    let sent = drain(&mut session);
    let [ToGateway::Welcome(_), ToGateway::Delta(delta)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(delta.to, restarted.state.position.seq);
    let [(id, card)] = delta.cards.as_slice() else { panic!("{delta:?}") };
    assert_eq!((*id, from_bytes::<EntityCard>(card).unwrap().revision), (entity(2), delta.to));
}

#[test]
fn a_long_delta_ends_at_the_end_of_a_batch() {
    let mut world = World::new();
    let mut session = live(&world, 1);
    let cut = |n: u8| {
        let subject = |m: u16| {
            let Digest(bytes) = Digest::of(&[[n].as_slice(), &m.to_le_bytes()].concat());
            SubjectId::from_bytes(bytes[..16].try_into().unwrap())
        };
        let subjects = (0..40_000).map(subject).collect();
        EnforcementEvent::SubjectsCut { subjects, cutoff: crate::domain::id::Ordinal(0) }
    };
    let mut ends = Vec::new();
    for n in 0..4 {
        world.append(vec![cut(2 * n)], &[]);
        ends.push(world.commit(vec![cut(2 * n + 1)], &[]).seq);
    }
    let sent = drain(&mut session);
    let to: Vec<_> = sent.iter().map(|m| if let ToGateway::Delta(d) = m { d.to } else { Seq(0) }).collect();
    assert_eq!(to, ends, "{to:?}");
    // More than one message can hold: a snapshot.
    let mut session = live(&world, 1);
    for n in 0..13 {
        world.append(vec![cut(n)], &[]);
    }
    world.publish();
    assert!(matches!(drain(&mut session)[0], ToGateway::SnapshotBegin(_)));
}

#[test]
fn a_gateway_that_is_further_behind_than_a_snapshot_is_long_gets_one() {
    let mut world = World::new();
    let mut session = live(&world, 1);
    let subjects = vec![SubjectId::from_bytes([1; 16]); 20_000];
    let cut = EnforcementEvent::SubjectsCut { subjects, cutoff: crate::domain::id::Ordinal(0) };
    world.commit(vec![cut.clone()], &[]);
    assert!(matches!(drain(&mut session)[0], ToGateway::Delta(_)), "one message");
    for _ in 0..4 {
        world.append(vec![cut.clone()], &[]);
    }
    world.publish();
    let sent = drain(&mut session);
    assert!(matches!(sent[0], ToGateway::SnapshotBegin(_)), "the same again and again is a short snapshot");
    assert!(matches!(sent.last(), Some(ToGateway::SnapshotEnd { .. })), "{sent:?}");
}

/// Counts how often something was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_record_that_no_gateway_is_told_of_wakes_only_who_has_a_ping() {
    let mut world = World::new();
    let (mut idle, mut pinging) = (live(&world, 1), live(&world, 2));
    let head = world.append(vec![], &[]);
    ping(&mut pinging, 1);
    let (of_idle, of_pinging) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    let (idle_waker, pinging_waker) = (of_idle.clone().into(), of_pinging.clone().into());
    let (mut waits, mut has_ping) = (pin!(next(&mut idle)), pin!(next(&mut pinging)));
    let (mut of_waits, mut of_ping) = (Context::from_waker(&idle_waker), Context::from_waker(&pinging_waker));
    assert!(waits.as_mut().poll(&mut of_waits).is_pending());
    assert!(has_ping.as_mut().poll(&mut of_ping).is_pending(), "its head is not published yet");
    world.publish();
    assert_eq!((of_idle.0.load(Ordering::SeqCst), of_pinging.0.load(Ordering::SeqCst)), (0, 1));
    let Poll::Ready(Ok(ToGateway::Delta(delta))) = has_ping.as_mut().poll(&mut of_ping) else { panic!() };
    assert_eq!((delta.to, delta.records.len()), (head.seq, 0));
    // What it is told of wakes it.
    world.lock(1);
    assert_eq!(of_idle.0.load(Ordering::SeqCst), 1);
    assert!(waits.as_mut().poll(&mut of_waits).is_ready());
}

#[test]
fn a_run_that_connects_again_ends_its_first_session() {
    let world = World::new();
    let mut first = live(&world, 1);
    let mut second = live(&world, 1);
    let ack = FromGateway::Ack { applied: Seq(1), barrier: None };
    assert_eq!(first.poll(), Err(Closed::Superseded));
    assert_eq!(first.on(ack), Err(SessionFault::Closed(Closed::Superseded)));
    drop(first);
    ping(&mut second, 1);
    assert_eq!(drain(&mut second).len(), 1);
    assert_eq!(world.feed.sessions().len(), 1);
}

#[test]
fn only_registered_gateways_have_sessions() {
    let mut world = World::new();
    let stranger = world.feed.open("stranger".parse().unwrap(), world.open(1));
    assert!(matches!(stranger.err(), Some(OpenFault::NotAGateway(_))));
    let open = world.open(2);
    let paused = Open { strength: Strength { pausable: true, ..open.strength }, ..open };
    let unknown = world.feed.open(gateway(2), paused.clone());
    assert_eq!(unknown.err(), Some(OpenFault::NotRegisteredPausable(gateway(2))));
    world.register_pausable(2);
    assert!(world.feed.open(gateway(2), paused).is_ok());
    let mut session = live(&world, 1);
    Arc::make_mut(Arc::make_mut(&mut world.state).principals.get_mut(&gateway(1)).unwrap()).is_removed = true;
    world.silent();
    assert_eq!(session.poll(), Err(Closed::Removed));
}

#[test]
fn what_a_session_may_not_say_ends_it() {
    let world = World::new();
    let mut session = live(&world, 1);
    let fault = session.on(FromGateway::Ack { applied: Seq(99), barrier: None });
    assert_eq!(fault, Err(SessionFault::AckAhead(Seq(99))));
    let fault = session.on(FromGateway::Open(world.open(1)));
    assert_eq!(fault, Err(SessionFault::OpenTwice));
    let nack = Nack { applied: Seq(1), code: NackCode::Gap, detail: String::new() };
    let fault = session.on(FromGateway::Nack(nack.clone()));
    assert_eq!(fault, Err(SessionFault::Refused(nack.clone())));
    assert_eq!(world.feed.sessions()[0].last_nack, Some((nack, NOW)));
}

#[test]
fn one_gateway_cannot_fill_the_table() {
    let world = World::new();
    let open = |n: u16| {
        let mut open = world.open(0);
        open.boot = crate::domain::id::BootId::from_bytes(u128::from(n).to_be_bytes());
        world.feed.open(gateway(1), open)
    };
    let sessions: Vec<_> = (0..256).map(|n| open(n).unwrap()).collect();
    assert_eq!(open(256).err(), Some(OpenFault::TooManySessions));
    drop(sessions);
    assert!(open(256).is_ok(), "without a lease nothing is remembered of them");
}

#[test]
fn records_that_do_not_lead_to_the_state_end_all_leases() {
    let mut world = World::new();
    let mut session = live(&world, 1);
    world.append(vec![EnforcementEvent::LineageLocked(lineage(1))], &[]);
    world.feed.publish(Arc::clone(&world.state), vec![PublishedRecord::default()]);
    ping(&mut session, 1);
    assert!(!drain(&mut session).iter().any(|message| matches!(message, ToGateway::Pong(_))));
    assert!(world.feed.closed().is_some());
}

#[tokio::test]
async fn a_session_wakes_when_there_is_something_to_send() {
    let mut world = World::new();
    let mut session = live(&world, 1);
    let sent = tokio::spawn(async move { next(&mut session).await });
    tokio::task::yield_now().await;
    assert!(!sent.is_finished());
    let at = world.lock(1);
    assert!(matches!(sent.await.unwrap().unwrap(), ToGateway::Delta(delta) if delta.to == at.seq));
    let mut session = live(&world, 1);
    world.feed.drain(1, 2);
    let drained = next(&mut session).await.unwrap();
    assert_eq!(drained, ToGateway::Drain { reconnect_after_ms: 1, jitter_ms: 2 });
    assert_eq!(session.poll(), Ok(None), "once");
}
