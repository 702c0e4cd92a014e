//! One server and many gateways, driven by seeds on one thread: the real feed, sessions and replicas, over streams that
//! are late, break and are noticed late, with clocks that drift, processes that stand still, crash and restart, and a
//! record that is replaced by an older copy. Nothing is permitted that was called enforced everywhere.
//!
//! `COUNTERSIGN_SIMULATE_SEEDS=20000` tries so many seeds; `COUNTERSIGN_SIMULATE_SEED=17` that one alone. A seed that
//! fails is printed with the command that runs it again.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::{decided, replica};
use crate::client::{Published, Replica};
use crate::domain::enforce::message::{FromGateway, ToGateway};
use crate::domain::enforce::{EnforcementEvent, Position};
use crate::domain::id::{Ordinal, Seq, SubjectId};
use crate::domain::revocation::StopScope;
use crate::domain::state::State;
use crate::domain::time::Timestamp;
use crate::env::{Clock, Entropy, ManualClock, SeededEntropy};
use crate::feed::tests::world::*;
use crate::feed::{Closed, Feed, Guard, OpenFault, Session, SessionFault};

/// Gateways by principal: two sessions of the first.
const GATEWAYS: [u8; 8] = [0, 1, 2, 0, 3, 4, 5, 6];
/// How many of them a run has.
const COUNTS: [usize; 6] = [1, 2, 3, 4, 5, 8];
const LINEAGES: u8 = 12;
const STEPS: usize = 400;
const SEEDS: u64 = 500;

struct Node {
    gateway: u8,
    boot: u8,
    /// How far its clock is off the server's, in thousandths: both may drift by one.
    drift: i64,
    replica: Replica,
    published: Arc<Published>,
    session: Option<Session>,
    down: VecDeque<ToGateway>,
    up: VecDeque<FromGateway>,
    /// It never goes back behind this.
    held: Position,
}

impl Node {
    fn new(world: &World, gateway: u8, boot: u8, drift: i64) -> Self {
        let (mut replica, published) = replica(world, boot);
        (0..3).for_each(|n| drop(replica.want(entity(n))));
        let (down, up, held) = (VecDeque::new(), VecDeque::new(), Position::default());
        Self { gateway, boot, drift, replica, published, session: None, down, up, held }
    }

    fn boot_ms(&self, world: &World) -> u64 {
        let boot_ms = world.clock.boot_ms();
        boot_ms.saturating_add_signed(i64::try_from(boot_ms).unwrap() * self.drift / 1_000)
    }

    fn now(&self, world: &World) -> Timestamp {
        world.clock.now()
    }

    /// Has it a view and a lease?
    fn may_permit(&self, world: &World) -> bool {
        let standing = self.published.load();
        self.published.fault(&standing, self.boot_ms(world), self.now(world)).is_none()
    }

    fn permits(&self, world: &World, n: u8) -> bool {
        let leaf = certificate(entity(n % 3), n);
        decided(&self.published, &leaf, self.boot_ms(world), self.now(world)).is_some_and(|d| d.is_permit())
    }

    /// The connection breaks at this end. What the other end has is still read there.
    fn cut(&mut self) -> Option<(Session, VecDeque<FromGateway>)> {
        self.down.clear();
        self.replica.close();
        let up = std::mem::take(&mut self.up);
        self.session.take().map(|session| (session, up))
    }

    fn server_sends(&mut self) {
        if let Some(session) = &mut self.session {
            match session.poll() {
                Ok(message) => self.down.extend(message),
                Err(closed) => panic!("there is one session each: {closed}"),
            }
        }
    }

    fn gateway_takes(&mut self, world: &World) {
        let Some(message) = self.down.pop_front() else { return };
        let taken = self.replica.take(message, self.boot_ms(world), self.now(world));
        match taken {
            Ok(taken) => self.up.extend(taken.send),
            Err(refusal) => panic!("streams keep their order: {refusal:?}"),
        }
        assert!(self.replica.position() >= self.held, "a view went back");
        self.held = self.replica.position();
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

/// A revocation that somebody waits for.
struct Wait {
    n: u8,
    at: Position,
    committed_ms: u64,
}

/// What the search has met.
#[derive(Debug, Default)]
struct Met {
    permits: usize,
    enforced: usize,
    answers_awaited: usize,
    restarts: usize,
    rollbacks: usize,
    bad_claims: u64,
    snapshots: u64,
}

struct Run {
    world: World,
    nodes: Vec<Node>,
    boots: u8,
    /// Server's ends of streams whose gateway is gone.
    left_behind: Vec<(Session, VecDeque<FromGateway>)>,
    /// Revocations that are durable and not published.
    appended: Vec<(u8, Position)>,
    waits: Vec<Wait>,
    enforced: Vec<(u8, Position)>,
    /// What the server's own decisions read.
    visible: Arc<State>,
    answers: Vec<(Seq, Guard)>,
    /// An older copy of the record.
    backup: Arc<State>,
    is_lowered: bool,
    is_restored: bool,
    /// Pongs at the moment when lost history was noticed.
    pongs_at_rollback: Option<u64>,
    met: Met,
}

impl Run {
    fn new(base: &Arc<State>, entropy: &SeededEntropy) -> Self {
        let world = World::from_state(Arc::clone(base), 0);
        let random = entropy.bytes16();
        // Half of the runs begin when nobody can hold a lease of before.
        world.clock.advance_ms(if random[15].is_multiple_of(2) { 20_000 } else { 0 });
        let drift = |place: usize| i64::from(random[place] % 5) - 2;
        let node = |(place, gateway): (usize, &u8)| {
            Node::new(&world, *gateway, u8::try_from(place).unwrap(), drift(place))
        };
        // Few and many: with one gateway alone a barrier does not wait for others.
        let count = COUNTS[usize::from(random[14]) % COUNTS.len()];
        let nodes: Vec<_> = GATEWAYS.iter().take(count).enumerate().map(node).collect();
        Self {
            boots: u8::try_from(nodes.len()).unwrap(),
            nodes,
            left_behind: Vec::new(),
            appended: Vec::new(),
            waits: Vec::new(),
            enforced: Vec::new(),
            visible: Arc::clone(base),
            answers: Vec::new(),
            backup: Arc::clone(base),
            is_lowered: false,
            is_restored: false,
            pongs_at_rollback: None,
            met: Met::default(),
            world,
        }
    }

    fn step(&mut self, choice: u8, arg: u8) {
        let place = usize::from(arg) % self.nodes.len();
        let node = &mut self.nodes[place];
        match choice % 64 {
            0 | 1 => self.append(arg),
            2..=4 => self.publish(),
            5 => self.burst(arg),
            6 => drop(node.replica.want(entity(arg / 4 % 4)).map(|want| node.up.push_back(want))),
            7 if arg < 64 => self.left_behind.extend(node.cut()),
            8 if arg < 24 => self.crash_gateway(place),
            9 if arg < 24 && !self.is_lowered => self.restart(),
            10 if arg < 12 => self.lower(),
            11 if arg < 24 => self.backup = Arc::clone(&self.world.state),
            12 if arg < 16 && !self.is_lowered && !self.is_restored => self.restore(),
            13 if arg < 64 => self.begin_answer(),
            14 | 15 if !self.answers.is_empty() => {
                drop(self.answers.remove(usize::from(arg) % self.answers.len()))
            }
            16..=18 => self.left_behind(arg),
            19..=22 if node.session.is_none() => self.connect(place),
            23..=27 => self.advance(arg),
            28..=39 => (0..=arg / 4 % 4).for_each(|_| node.server_sends()),
            40..=51 => (0..=arg / 4 % 4).for_each(|_| node.gateway_takes(&self.world)),
            52.. => (0..=arg / 4 % 4).for_each(|_| node.server_takes()),
            _ => {}
        }
    }

    /// A revocation becomes durable.
    fn append(&mut self, arg: u8) {
        let n = arg / 4 % LINEAGES;
        let subject = SubjectId::from_bytes([n; 16]);
        let ordinal = Ordinal(u64::from(n) + 1);
        let event = match arg % 4 {
            0 => EnforcementEvent::LineageLocked(lineage(n)),
            1 => EnforcementEvent::CertificateRevoked(ordinal),
            2 => EnforcementEvent::SubjectsCut { subjects: vec![subject], cutoff: ordinal },
            _ => EnforcementEvent::Stopped(StopScope::Subject(subject)),
        };
        self.appended.push((n, self.world.append(vec![event], &[])));
    }

    /// What is durable becomes visible, is pushed, and then answered: whoever revoked begins to wait.
    fn publish(&mut self) {
        self.visible = Arc::clone(&self.world.state);
        self.world.publish();
        let committed_ms = self.world.clock.boot_ms();
        let waits = self.appended.drain(..).map(|(n, at)| Wait { n, at, committed_ms });
        self.waits.extend(waits);
    }

    /// Records that follow each other faster than they are acknowledged, and then a revocation.
    fn burst(&mut self, arg: u8) {
        for n in 0..arg % 12 {
            if n % 3 == 0 {
                self.world.append(Vec::new(), &[entity(arg % 3)]);
            } else {
                self.world.append(vec![EnforcementEvent::CertificateRevoked(Ordinal(9_000))], &[]);
            }
            self.publish();
            for node in &mut self.nodes {
                node.server_sends();
                if n == 8 && arg >= 128 {
                    node.server_takes();
                }
            }
        }
        self.append(arg);
        self.publish();
    }

    fn crash_gateway(&mut self, place: usize) {
        self.left_behind.extend(self.nodes[place].cut());
        let Node { gateway, drift, .. } = self.nodes[place];
        self.nodes[place] = Node::new(&self.world, gateway, self.boots, drift);
        self.boots += 1;
    }

    /// The server crashes and comes back: what it sent before may still arrive, what was durable is published.
    fn restart(&mut self) {
        let world = &mut self.world;
        self.left_behind.clear();
        self.answers.clear();
        for node in &mut self.nodes {
            node.session = None;
            node.up.clear();
        }
        let (heads, now_ms) = (Arc::<FakeHeads>::clone(&world.heads), world.clock.boot_ms());
        self.met.bad_claims += world.feed.counts().bad_claims;
        self.met.snapshots += world.feed.counts().snapshots;
        // Nothing is left to be published to this run.
        world.publish();
        world.feed =
            Feed::new(Arc::<ManualClock>::clone(&world.clock), heads, Arc::clone(&world.state), now_ms);
        world.feed.start_granting();
        self.visible = Arc::clone(&world.state);
        // Whoever revoked asks again.
        let again = self.appended.drain(..).map(|(n, at)| Wait { n, at, committed_ms: now_ms });
        self.waits.extend(again);
        self.waits.iter_mut().for_each(|wait| wait.committed_ms = now_ms);
        self.pongs_at_rollback = None;
        self.met.restarts += 1;
    }

    /// A shorter lease, published like any record.
    fn lower(&mut self) {
        self.is_lowered = true;
        let state = Arc::make_mut(&mut self.world.state);
        Arc::make_mut(&mut state.enforcement).lease_ms = 5_000;
        self.world.append(Vec::new(), &[]);
        self.publish();
    }

    /// An older copy takes the place of the record, in the same epoch. What was promised on the lost branch is void.
    fn restore(&mut self) {
        if self.backup.position == self.world.state.position {
            return;
        }
        self.is_restored = true;
        self.publish();
        self.world.state = Arc::clone(&self.backup);
        let at = self.backup.position;
        *self.world.heads.committed.lock().unwrap() = at;
        *self.world.heads.branch.lock().unwrap() = 1;
        *self.world.heads.branch_after.lock().unwrap() = at.seq;
        self.waits.clear();
        self.enforced.clear();
        self.restart();
    }

    fn begin_answer(&mut self) {
        let (state, guard) = self.world.feed.in_flight().enter(|| Arc::clone(&self.visible));
        self.answers.push((state.position.seq, guard));
    }

    /// The server reads, sends to or closes a stream whose gateway is gone.
    fn left_behind(&mut self, arg: u8) {
        if self.left_behind.is_empty() {
            return;
        }
        let place = usize::from(arg) % self.left_behind.len();
        let (session, up) = &mut self.left_behind[place];
        let is_over = match arg / 8 % 4 {
            0 => true,
            1 => matches!(session.poll(), Err(Closed::Superseded)),
            _ => up.pop_front().is_some_and(|message| match session.on(message) {
                Ok(()) => false,
                Err(SessionFault::Closed(Closed::Superseded)) => true,
                Err(fault) => panic!("{fault}"),
            }),
        };
        if is_over {
            drop(self.left_behind.remove(place));
        }
    }

    fn connect(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        assert!(node.cut().is_none(), "it has no session");
        match self.world.feed.open(gateway(node.gateway), node.replica.open()) {
            Ok(session) => node.session = Some(session),
            Err(fault @ (OpenFault::RolledBack(_) | OpenFault::BadClaim)) => {
                assert!(self.is_restored, "{fault}");
                node.replica.close();
            }
            Err(fault) => panic!("{fault}"),
        }
        if self.world.feed.rollback().is_some() && self.pongs_at_rollback.is_none() {
            self.pongs_at_rollback = Some(self.world.feed.counts().pongs);
            self.met.rollbacks += 1;
        }
    }

    fn advance(&mut self, arg: u8) {
        self.world.clock.advance_ms(u32::from(arg) * 4);
        for (place, node) in self.nodes.iter_mut().enumerate() {
            // Now and then one stands still.
            if (usize::from(arg) + place) % 16 != 0 {
                node.tick(&self.world);
            }
        }
    }

    fn check(&mut self, step: usize) {
        let (world, answers) = (&self.world, &self.answers);
        let (mut still, mut now_enforced) = (Vec::new(), Vec::new());
        for wait in self.waits.drain(..) {
            let report = world.feed.report(wait.at, wait.committed_ms);
            if report.is_enforced() {
                now_enforced.push((wait.n, wait.at));
            } else {
                self.met.answers_awaited += usize::from(answers.iter().any(|(seq, _)| *seq < wait.at.seq));
                still.push(wait);
            }
        }
        self.waits = still;
        self.met.enforced += now_enforced.len();
        self.enforced.extend(now_enforced);
        for (n, at) in &self.enforced {
            assert!(answers.iter().all(|(seq, _)| *seq >= at.seq), "an answer without record {}", at.seq);
            for node in self.nodes.iter().filter(|node| node.may_permit(world)) {
                assert!(!node.permits(world, *n), "{n} is permitted at gateway {}", node.gateway);
            }
        }
        if let Some(pongs) = self.pongs_at_rollback {
            assert_eq!(world.feed.counts().pongs, pongs, "history was lost, and a lease granted");
        }
        if step.is_multiple_of(8) {
            let n = u8::try_from(step / 8 % usize::from(LINEAGES)).unwrap();
            self.met.permits += self.nodes.iter().filter(|node| node.permits(world, n)).count();
            self.check_acknowledgements();
        }
    }

    /// Nobody is believed to enforce what it does not hold.
    fn check_acknowledgements(&self) {
        if self.is_restored {
            return;
        }
        for status in self.world.feed.sessions() {
            let node = self.nodes.iter().find(|node| boot(node.boot) == status.boot);
            assert!(node.is_none_or(|node| status.acked <= node.replica.position().seq), "{status:?}");
        }
    }

    /// With working streams everybody gets everything.
    fn settle(&mut self) {
        self.publish();
        for place in 0..self.nodes.len() {
            self.left_behind.extend(self.nodes[place].cut());
            self.connect(place);
            let node = &mut self.nodes[place];
            for _ in 0..200 {
                node.server_sends();
                node.gateway_takes(&self.world);
                node.server_takes();
            }
            assert!(node.down.is_empty() && node.up.is_empty());
            self.world.clock.advance_ms(2_500);
            node.tick(&self.world);
            for _ in 0..10 {
                node.server_takes();
                node.server_sends();
                node.gateway_takes(&self.world);
            }
            assert!(node.may_permit(&self.world), "it has a lease");
            let (view, state) = (node.replica.view().unwrap(), &self.world.state);
            assert_eq!((view.position, view.digest), (state.position, state.feed_digest));
            // No event carries the length of leases: each Pong does.
            let mut held = view.enforcement.as_ref().clone();
            held.lease_ms = state.enforcement.lease_ms;
            assert_eq!(&held, state.enforcement.as_ref());
            for (id, card) in &view.cards {
                assert_eq!(card.as_deref(), state.entities.get(id).map(|entity| &entity.card));
            }
        }
    }
}

/// Says which seed failed, and how to run it again.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!(
                "seed {seed} fails; again: COUNTERSIGN_SIMULATE_SEED={seed} \
                 cargo test --lib client::tests::simulate"
            );
        }
    }
}

fn run(base: &Arc<State>, seed: u64) -> Met {
    let _named = Seed(seed);
    let entropy = SeededEntropy::new(seed);
    let mut run = Run::new(base, &entropy);
    for eight in 0..STEPS / 8 {
        for (place, pair) in entropy.bytes16().chunks(2).enumerate() {
            run.step(pair[0], pair[1]);
            run.check(8 * eight + place);
        }
    }
    if !run.is_restored {
        run.settle();
        run.check(0);
    }
    run.met.bad_claims += run.world.feed.counts().bad_claims;
    run.met.snapshots += run.world.feed.counts().snapshots;
    run.met
}

#[expect(clippy::disallowed_methods, reason = "how long tests search is not a setting of the program")]
fn number(name: &str) -> Option<u64> {
    let number = std::env::var(name).ok();
    number.map(|number| number.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn nothing_is_permitted_that_was_called_enforced() {
    let alone = number("COUNTERSIGN_SIMULATE_SEED");
    let seeds: Range<u64> = match alone {
        Some(seed) => seed..seed + 1,
        None => 0..number("COUNTERSIGN_SIMULATE_SEEDS").unwrap_or(SEEDS),
    };
    let mut world = World::new();
    world.commit(Vec::new(), &[0, 1, 2].map(entity));
    let mut met = Met::default();
    for seed in seeds.clone() {
        let one = run(&world.state, seed);
        met.permits += one.permits;
        met.enforced += one.enforced;
        met.answers_awaited += one.answers_awaited;
        met.restarts += one.restarts;
        met.rollbacks += one.rollbacks;
        met.bad_claims += one.bad_claims;
        met.snapshots += one.snapshots;
    }
    println!("{} seeds: {met:?}", seeds.end - seeds.start);
    if alone.is_none() {
        // The search must have met what it looks for.
        let Met { permits, enforced, answers_awaited, restarts, rollbacks, bad_claims, snapshots } = met;
        assert!(permits > 5_000 && enforced > 500 && answers_awaited > 100, "{met:?}");
        assert!(restarts > 100 && rollbacks > 20 && bad_claims > 5 && snapshots > 1_000, "{met:?}");
    }
}
