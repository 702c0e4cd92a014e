//! Server and gateways joined by lossy pipes, driven by seeds: nothing is permitted that was called revoked everywhere.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{decided, replica};
use crate::client::{Published, Replica};
use crate::domain::enforce::Position;
use crate::domain::enforce::message::{FromGateway, ToGateway};
use crate::domain::time::Timestamp;
use crate::env::{Clock, Entropy, SeededEntropy};
use crate::feed::tests::world::*;
use crate::feed::{Feed, Session};

const GATEWAYS: u8 = 3;
const LINEAGES: u8 = 12;
const STEPS: usize = 1_500;
const SEEDS: u64 = 24;

struct Node {
    id: u8,
    replica: Replica,
    published: Arc<Published>,
    session: Option<Session>,
    down: VecDeque<ToGateway>,
    up: VecDeque<FromGateway>,
}

impl Node {
    fn new(world: &World, id: u8) -> Self {
        let (replica, published) = replica(world, id);
        Self { id, replica, published, session: None, down: VecDeque::new(), up: VecDeque::new() }
    }

    /// Its own boot clock: 0.1 % slow or fast, or exact.
    fn boot_ms(&self, world: &World) -> u64 {
        let boot_ms = world.clock.boot_ms();
        match self.id % 3 {
            0 => boot_ms - boot_ms / 1_000,
            1 => boot_ms + boot_ms / 1_000,
            _ => boot_ms,
        }
    }

    fn now(&self, world: &World) -> Timestamp {
        world.clock.now()
    }

    /// The connection breaks; what was under way is lost.
    fn cut(&mut self) {
        self.session = None;
        self.down.clear();
        self.up.clear();
        self.replica.close();
    }

    fn connect(&mut self, world: &World) {
        self.cut();
        self.session = Some(world.feed.open(gateway(self.id), self.replica.open()).unwrap());
    }

    fn server_sends(&mut self) {
        if let Some(session) = &mut self.session {
            match session.poll() {
                Ok(message) => self.down.extend(message),
                Err(_) => self.cut(),
            }
        }
    }

    fn gateway_takes(&mut self, world: &World) {
        let Some(message) = self.down.pop_front() else { return };
        match self.replica.take(message, self.boot_ms(world), self.now(world)) {
            Ok(taken) => self.up.extend(taken.send),
            Err(refusal) => panic!("pipes keep the order: {refusal:?}"),
        }
    }

    fn server_takes(&mut self) {
        let (Some(session), Some(message)) = (&mut self.session, self.up.pop_front()) else { return };
        session.on(message).unwrap();
    }

    fn tick(&mut self, world: &World) {
        let ping = self.replica.tick(self.boot_ms(world), self.now(world));
        if self.session.is_some() {
            self.up.extend(ping);
        }
    }
}

struct Run {
    world: World,
    nodes: Vec<Node>,
    /// Locks that were committed: lineage, record, when.
    locks: Vec<(u8, Position, u64)>,
    enforced: Vec<u8>,
    permits: usize,
}

impl Run {
    fn step(&mut self, choice: u8, arg: u8) {
        let world = &mut self.world;
        let node = &mut self.nodes[usize::from(arg % GATEWAYS)];
        match choice % 32 {
            0 if arg.is_multiple_of(4) => {
                let n = arg / 4 % LINEAGES;
                let committed_ms = world.clock.boot_ms();
                self.locks.push((n, world.lock(n), committed_ms));
            }
            1 => drop(world.commit(Vec::new(), &[entity(arg % 3)])),
            2 => drop(world.silent()),
            3 if arg.is_multiple_of(5) => node.cut(),
            4 if arg.is_multiple_of(60) => {
                let heads = Arc::<FakeHeads>::clone(&world.heads);
                let now_ms = world.clock.boot_ms();
                world.feed = Feed::new(world.clock.clone(), heads, Arc::clone(&world.state), now_ms);
                world.feed.start_granting();
                self.nodes.iter_mut().for_each(Node::cut);
            }
            5 => node.up.extend(node.replica.want(entity(arg % 4))),
            6 | 7 if node.session.is_none() => node.connect(world),
            8..=11 => {
                world.clock.advance_ms(u32::from(arg) * 4);
                self.nodes.iter_mut().for_each(|node| node.tick(world));
            }
            12..=18 => node.server_sends(),
            19..=25 => node.gateway_takes(world),
            26.. => node.server_takes(),
            _ => {}
        }
    }

    fn check(&mut self) {
        let now_enforced = self
            .locks
            .iter()
            .filter(|(_, at, committed_ms)| self.world.feed.report(*at, *committed_ms).is_enforced());
        self.enforced.extend(now_enforced.map(|(n, _, _)| *n));
        let enforced = std::mem::take(&mut self.enforced);
        self.locks.retain(|(n, _, _)| !enforced.contains(n));
        self.enforced = enforced;
        self.enforced.sort_unstable();
        self.enforced.dedup();
        for node in &self.nodes {
            for n in 0..LINEAGES {
                let leaf = certificate(entity(n % 3), n);
                let (boot_ms, now) = (node.boot_ms(&self.world), node.now(&self.world));
                let Some(decision) = decided(&node.published, &leaf, boot_ms, now) else { continue };
                if decision.is_permit() {
                    self.permits += 1;
                    assert!(!self.enforced.contains(&n), "lineage {n} is permitted at gateway {}", node.id);
                }
            }
        }
    }

    /// With working pipes everybody gets everything.
    fn settle(&mut self) {
        for node in &mut self.nodes {
            node.connect(&self.world);
            for _ in 0..200 {
                node.server_sends();
                node.gateway_takes(&self.world);
                node.server_takes();
                node.server_takes();
            }
            let ping = FromGateway::Ping { ping_id: u64::MAX, applied: node.replica.position().seq };
            node.session.as_mut().unwrap().on(ping).unwrap();
            for _ in 0..10 {
                node.server_sends();
                node.gateway_takes(&self.world);
            }
            let view = node.replica.view().unwrap();
            let state = &self.world.state;
            assert_eq!(view.position, state.position);
            assert_eq!(view.digest, state.feed_digest);
            assert_eq!(view.enforcement, state.enforcement);
            for (id, card) in &view.cards {
                assert_eq!(card.as_deref(), state.entities.get(id).map(|entity| &entity.card));
            }
        }
    }
}

#[test]
fn nothing_is_permitted_that_was_called_enforced() {
    let (mut permits, mut enforced) = (0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new();
        world.commit(Vec::new(), &[0, 1, 2].map(entity));
        world.clock.advance_ms(20_000);
        let nodes = (0..GATEWAYS).map(|id| Node::new(&world, id)).collect();
        let mut run = Run { world, nodes, locks: Vec::new(), enforced: Vec::new(), permits: 0 };
        let entropy = SeededEntropy::new(seed);
        for _ in 0..STEPS / 8 {
            for pair in entropy.bytes16().chunks(2) {
                run.step(pair[0], pair[1]);
                run.check();
            }
        }
        run.settle();
        permits += run.permits;
        enforced += run.enforced.len();
    }
    // The search must have met what it looks for.
    assert!(permits > 500, "{permits} permits");
    assert!(enforced > 40, "{enforced} locks enforced");
}
