use std::sync::Arc;

use bytes::Bytes;

use super::{decided, replica};
use crate::client::{Published, Refusal, Replica};
use crate::domain::decision::Denial;
use crate::domain::enforce::Position;
use crate::domain::enforce::message::*;
use crate::domain::id::{Digest, Epoch, Seq};
use crate::env::Clock;
use crate::feed::Session;
use crate::feed::tests::world::*;

/// A gateway and its session, with nothing in between.
struct Direct {
    replica: Replica,
    published: Arc<Published>,
    session: Session,
}

impl Direct {
    /// Connected, current and with a lease.
    fn new(world: &World) -> Self {
        let (mut replica, published) = replica(world, 1);
        let session = world.feed.open(gateway(1), replica.open()).unwrap();
        let mut direct = Self { replica, published, session };
        direct.run(world);
        direct.ping(world);
        assert!(direct.has_lease(world));
        direct
    }

    fn ping(&mut self, world: &World) {
        for _ in 0..30 {
            world.clock.advance_ms(100);
            let ping = self.replica.tick(world.clock.boot_ms(), world.clock.now());
            ping.into_iter().for_each(|ping| self.session.on(ping).unwrap());
            self.run(world);
        }
    }

    fn run(&mut self, world: &World) {
        while let Some(message) = self.session.poll().unwrap() {
            let taken = self.replica.take(message, world.clock.boot_ms(), world.clock.now()).unwrap();
            taken.send.into_iter().for_each(|message| self.session.on(message).unwrap());
        }
    }

    fn has_lease(&self, world: &World) -> bool {
        let standing = self.published.load();
        self.published.fault(&standing, world.clock.boot_ms(), world.clock.now()).is_none()
    }

    fn refuses(&mut self, world: &World, message: ToGateway) -> NackCode {
        let held = self.replica.position();
        let refused = self.replica.take(message, world.clock.boot_ms(), world.clock.now());
        let Err(Refusal(nack)) = refused else { panic!("{refused:?}") };
        assert!(!self.has_lease(world), "a refusal ends the lease");
        assert_eq!((self.replica.position(), nack.applied), (held, held.seq), "and the view stays");
        nack.code
    }
}

fn welcome(world: &World, head: Position, signed: Position) -> ToGateway {
    let signed_head = world.heads.sign(signed);
    ToGateway::Welcome(Welcome {
        head,
        oldest: Seq(1),
        ping_ms: 2_500,
        signed_head,
        wants_restrictions: false,
    })
}

fn delta(world: &mut World, n: u8) -> ToGateway {
    let mut other = world.feed.open(gateway(9), world.current(9)).unwrap();
    other.poll().unwrap();
    world.lock(n);
    other.poll().unwrap().unwrap()
}

#[test]
fn what_arrives_is_enforced_and_then_acknowledged() {
    let mut world = World::new();
    world.commit(Vec::new(), &[entity(1)]);
    let mut gate = Direct::new(&world);
    let leaf = certificate(entity(1), 1);
    let asked = |gate: &Direct, world: &World| {
        decided(&gate.published, &leaf, world.clock.boot_ms(), world.clock.now()).unwrap()
    };
    assert!(asked(&gate, &world).ask_server, "the card is not here");
    let want = gate.replica.want(entity(1)).unwrap();
    gate.session.on(want).unwrap();
    gate.run(&world);
    let decision = asked(&gate, &world);
    assert!(decision.is_permit(), "{decision:?}");
    assert_eq!(gate.replica.want(entity(1)), None, "asked for once");
    let at = world.lock(1);
    gate.run(&world);
    assert_eq!(asked(&gate, &world).denials, [Denial::CredentialLineageLocked]);
    assert_eq!(world.feed.sessions()[0].acked, at.seq);
    let view = gate.replica.view().unwrap();
    assert_eq!((view.digest, &view.enforcement), (world.state.feed_digest, &world.state.enforcement));
}

#[test]
fn a_lease_counts_from_the_ping_and_ends() {
    let world = World::new();
    let mut gate = Direct::new(&world);
    let until_ms = gate.published.load().lease_until_ms.unwrap();
    while world.clock.boot_ms() < until_ms - 100 {
        world.clock.advance_ms(100);
        drop(gate.replica.tick(world.clock.boot_ms(), world.clock.now()));
        assert!(gate.has_lease(&world));
    }
    world.clock.advance_ms(100);
    drop(gate.replica.tick(world.clock.boot_ms(), world.clock.now()));
    assert!(!gate.has_lease(&world));
}

#[test]
fn scenario_25_after_a_lost_or_repeated_record_nothing_is_permitted_before_the_resync() {
    for is_repeated in [false, true] {
        let mut world = World::new();
        let mut gate = Direct::new(&world);
        let first = delta(&mut world, 1);
        let message = if is_repeated {
            gate.run(&world);
            first
        } else {
            delta(&mut world, 2)
        };
        assert_eq!(gate.refuses(&world, message), NackCode::Gap);
        assert!(!gate.has_lease(&world));
        // It connects again and gets what it missed.
        gate.session = world.feed.open(gateway(1), gate.replica.open()).unwrap();
        gate.run(&world);
        assert!(!gate.has_lease(&world), "not before a ping shows that it holds everything");
        gate.ping(&world);
        assert!(gate.has_lease(&world));
        assert_eq!(gate.replica.view().unwrap().digest, world.state.feed_digest);
    }
}

#[test]
fn records_in_another_order_are_refused_and_nothing_is_permitted_before_the_resync() {
    let mut world = World::new();
    world.commit(Vec::new(), &[entity(1)]);
    let mut gate = Direct::new(&world);
    gate.session.on(gate.replica.want(entity(1)).unwrap()).unwrap();
    gate.run(&world);
    let (locked, kept) = (certificate(entity(1), 1), certificate(entity(1), 3));
    let asked = |gate: &Direct, world: &World, leaf| {
        decided(&gate.published, leaf, world.clock.boot_ms(), world.clock.now()).unwrap()
    };
    assert!(asked(&gate, &world, &locked).is_permit() && asked(&gate, &world, &kept).is_permit());
    let first = delta(&mut world, 1);
    let second = delta(&mut world, 2);
    for message in [second, first] {
        assert_eq!(gate.refuses(&world, message), NackCode::Gap);
        for leaf in [&locked, &kept] {
            assert_eq!(asked(&gate, &world, leaf).denials[0], Denial::StaleView);
        }
    }
    // However long it waits, it asks for no lease on this connection.
    for _ in 0..60 {
        world.clock.advance_ms(100);
        assert_eq!(gate.replica.tick(world.clock.boot_ms(), world.clock.now()), None);
    }
    assert!(!gate.has_lease(&world));
    gate.session = world.feed.open(gateway(1), gate.replica.open()).unwrap();
    gate.run(&world);
    assert_eq!(asked(&gate, &world, &kept).denials[0], Denial::StaleView, "it caught up, and has no lease");
    gate.ping(&world);
    assert_eq!(asked(&gate, &world, &locked).denials, [Denial::CredentialLineageLocked]);
    assert!(asked(&gate, &world, &kept).is_permit());
    assert_eq!(gate.replica.view().unwrap().digest, world.state.feed_digest);
}

#[test]
fn a_server_that_lost_history_is_refused() {
    let mut world = World::new();
    world.lock(1);
    let here = world.state.position;
    let before = Position { seq: Seq(here.seq.0 - 1), ..here };
    let earlier = Position { epoch: Epoch(0), seq: Seq(99) };
    for (head, signed) in [(before, before), (here, before), (earlier, earlier), (before, here)] {
        let mut gate = Direct::new(&world);
        let signed_head = gate.replica.open().signed_head;
        assert_eq!(signed_head, world.heads.sign(here), "it shows what it saw");
        assert_eq!(gate.refuses(&world, welcome(&world, head, signed)), NackCode::Rollback);
        assert_eq!(gate.replica.open().signed_head, signed_head);
    }
    // Another history at the same record.
    let mut gate = Direct::new(&world);
    drop(gate.replica.open());
    *world.heads.branch.lock().unwrap() = 1;
    assert_eq!(gate.refuses(&world, welcome(&world, here, here)), NackCode::Rollback);
}

#[test]
fn a_snapshot_of_less_or_of_another_history_is_refused() {
    let mut world = World::new();
    world.lock(1);
    let here = world.state.position;
    let begin = |position| ToGateway::SnapshotBegin(SnapshotBegin { position, parts: 1, len: 1 });
    let mut gate = Direct::new(&world);
    let before = Position { seq: Seq(here.seq.0 - 1), ..here };
    assert_eq!(gate.refuses(&world, begin(before)), NackCode::Rollback);
    let mut gate = Direct::new(&world);
    let mut other = world.feed.open(gateway(2), world.open(2)).unwrap();
    let sent: Vec<_> = std::iter::from_fn(|| other.poll().unwrap()).skip(1).collect();
    for message in sent {
        match message {
            ToGateway::SnapshotEnd { sha256, .. } => {
                let end = ToGateway::SnapshotEnd { sha256, digest: Digest([1; 32]) };
                assert_eq!(gate.refuses(&world, end), NackCode::Rollback);
            }
            message => drop(gate.replica.take(message, world.clock.boot_ms(), world.clock.now()).unwrap()),
        }
    }
}

#[test]
fn a_new_epoch_is_believed_only_with_a_signed_head_of_it() {
    let world = World::new();
    let mut gate = Direct::new(&world);
    let next = Position { epoch: Epoch(2), seq: Seq(1) };
    drop(gate.replica.open());
    let unsigned = welcome(&world, next, world.state.position);
    assert_eq!(gate.refuses(&world, unsigned), NackCode::Undecodable);
    drop(gate.replica.open());
    let forged = ToGateway::Welcome(Welcome {
        head: next,
        oldest: Seq(1),
        ping_ms: 2_500,
        signed_head: Bytes::from_static(b"forged"),
        wants_restrictions: false,
    });
    assert_eq!(gate.refuses(&world, forged), NackCode::Undecodable);
    drop(gate.replica.open());
    let taken = gate.replica.take(welcome(&world, next, next), 0, NOW).unwrap();
    assert_eq!(taken.send, [], "what it holds is of another epoch: it acknowledges nothing");
}

#[test]
fn broken_snapshots_are_refused() {
    let world = World::new();
    let position = world.state.position;
    let begin = |parts, len| ToGateway::SnapshotBegin(SnapshotBegin { position, parts, len });
    let part = || ToGateway::SnapshotPart(Bytes::from_static(b"no zstd"));
    let end = || ToGateway::SnapshotEnd { sha256: Digest([0; 32]), digest: Digest([0; 32]) };
    for (messages, code) in [
        (vec![part()], NackCode::Undecodable),
        (vec![end()], NackCode::Undecodable),
        (vec![begin(2, 1), part(), end()], NackCode::Gap),
        (vec![begin(1, 1), part(), part()], NackCode::Undecodable),
        (vec![begin(1, u64::MAX)], NackCode::Undecodable),
        (vec![begin(1, 1), part(), end()], NackCode::Undecodable),
        (vec![begin(1, 1), begin(1, 1)], NackCode::Undecodable),
    ] {
        let (mut replica, _) = replica(&world, 1);
        replica.take(welcome(&world, position, position), 0, NOW).unwrap();
        let refused = messages.into_iter().find_map(|message| replica.take(message, 0, NOW).err());
        assert_eq!(refused.unwrap().0.code, code);
    }
    let whole = zstd::bulk::compress(b"?", 1).unwrap();
    let (mut replica, _) = replica(&world, 1);
    replica.take(welcome(&world, position, position), 0, NOW).unwrap();
    replica.take(begin(1, 1), 0, NOW).unwrap();
    replica.take(ToGateway::SnapshotPart(whole.into()), 0, NOW).unwrap();
    assert_eq!(replica.take(end(), 0, NOW).unwrap_err().0.code, NackCode::Digest);
}

#[test]
fn a_process_that_stood_still_has_no_lease() {
    let world = World::new();
    let mut gate = Direct::new(&world);
    world.clock.advance_ms(2_501);
    assert!(!gate.has_lease(&world), "before its keeper runs again");
    drop(gate.replica.tick(world.clock.boot_ms(), world.clock.now()));
    assert!(!gate.has_lease(&world), "and after");
    gate.ping(&world);
    assert!(gate.has_lease(&world));
}

#[test]
fn a_clock_that_is_off_is_not_trusted() {
    let world = World::new();
    let mut gate = Direct::new(&world);
    let leaf = certificate(entity(1), 1);
    let denials =
        |gate: &Direct, at| decided(&gate.published, &leaf, world.clock.boot_ms(), at).unwrap().denials;
    let now = world.clock.now();
    assert_eq!(denials(&gate, now.plus_ms(1_001))[0], Denial::ClockUntrusted, "stepped since the Pong");
    assert_ne!(denials(&gate, now.plus_ms(1_000))[0], Denial::ClockUntrusted);
    // Off at the Pong: the gateway's wall clock is not the server's.
    world.clock.advance_ms(2_400);
    let off = now.plus_ms(2_400 + 5_000);
    let ping = gate.replica.tick(world.clock.boot_ms(), off).unwrap();
    gate.session.on(ping).unwrap();
    let pong = gate.session.poll().unwrap().unwrap();
    assert!(gate.replica.take(pong, world.clock.boot_ms(), off).unwrap().has_lease);
    assert_eq!(denials(&gate, off)[0], Denial::ClockUntrusted);
}

#[test]
fn cards_that_nobody_asked_for_are_not_kept_and_a_snapshot_empties_them() {
    let mut world = World::new();
    world.commit(Vec::new(), &[entity(1)]);
    let mut gate = Direct::new(&world);
    let from = world.state.position.seq.next();
    let empty = |cards| ToGateway::Delta(Delta { from, to: Seq(from.0 - 1), records: Vec::new(), cards });
    gate.replica.take(empty(vec![(entity(3), Bytes::new())]), 0, NOW).unwrap();
    assert!(gate.replica.view().unwrap().cards.is_empty());
    gate.session.on(gate.replica.want(entity(1)).unwrap()).unwrap();
    gate.run(&world);
    assert_eq!(gate.replica.view().unwrap().cards.len(), 1);
    let mut world = World::from_state(Arc::clone(&world.state), 60_000);
    let state = Arc::make_mut(&mut world.state);
    state.position.epoch = Epoch(2);
    let state = Arc::clone(&world.state);
    let mut world = World::from_state(state, 60_000);
    gate.session = world.feed.open(gateway(1), gate.replica.open()).unwrap();
    for _ in 0..4 {
        let message = gate.session.poll().unwrap().unwrap();
        gate.replica.take(message, 60_000, NOW).unwrap();
    }
    assert!(gate.replica.view().unwrap().cards.is_empty());
    gate.run(&world);
    assert_eq!(gate.replica.view().unwrap().cards.len(), 1, "and they arrive anew");
    world.lock(1);
    gate.run(&world);
    assert_eq!(gate.replica.position(), world.state.position);
}
