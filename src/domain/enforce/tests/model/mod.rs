//! Lease, barrier, resume and restart, checked in every order of events up to a bound: after a revocation was called
//! enforced, no permit is computed without it at any gateway, known or unknown.
//!
//! Each test explores one neighbourhood of faults completely. `COUNTERSIGN_MODEL_MORE=1` (or more) adds so many waits,
//! Pings and connections to each; the last line of a test's output says how many states there were.

mod consumer;
mod setup;
mod world;

use stateright::{Checker, HasDiscoveries, Model, Property};

use setup::{Broken, Budget, Setup};
use world::World;

use crate::domain::enforce::{EnforcedBy, LEASE_DEFAULT_MS, LEASE_MAX_MS};
use crate::domain::id::Seq;

/// What happens in every neighbourhood.
const BASE: Budget = Budget {
    waits: 1,
    dues: 2,
    pings: 1,
    connects: 0,
    cuts: 0,
    gateway_crashes: 0,
    server_crashes: 0,
    answers: 0,
    records: 0,
    restores: 0,
    revocations: 1,
    signs: 0,
};

const SAFE: &str = "nothing is permitted without what was called enforced";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Wait,
    WaitUntilDue,
    Connect(usize),
    Cut(usize),
    ServerNotices(usize),
    Ping(usize),
    ServerTakes(usize),
    ServerSendsRecords(usize),
    ServerSendsPong(usize),
    GateTakes(usize),
    GateApplies(usize),
    GateCrashes(usize),
    AppendRevocation,
    Publish,
    Record,
    BeginAnswer,
    SendAnswer(Seq),
    ServerCrashes,
    ServerStarts,
    Restore,
    SignSet,
    PushSet(usize),
    ConsumerTakes(usize),
    ServerTakesAnswer(usize),
    ConnectConsumer(usize),
    CutConsumer(usize),
    ServerNoticesConsumer(usize),
}

impl Setup {
    fn new(budget: Budget) -> Self {
        let more = more();
        let add = |count: u8| if count > 0 { count + more } else { 0 };
        let budget = Budget {
            waits: add(budget.waits),
            dues: add(budget.dues),
            pings: add(budget.pings),
            connects: add(budget.connects),
            signs: add(budget.signs),
            ..budget
        };
        Self {
            lease_ms: LEASE_DEFAULT_MS,
            lowered_ms: LEASE_DEFAULT_MS,
            principals: vec!["one"],
            consumers: 0,
            keeps_views: false,
            drift: 1,
            budget,
            broken: None,
        }
    }

    fn gate_steps(&self, world: &World, n: usize, steps: &mut Vec<Step>) {
        let (gate, left) = (&world.gates[n], &world.left);
        let is_up = world.server.is_some();
        let link = gate.link.as_ref();
        let is_behind = world.server.as_ref().is_some_and(|server| link.is_some_and(|l| l.is_behind(server)));
        for (is_possible, step) in [
            (left.connects > 0 && is_up && !gate.is_connected(), Step::Connect(n)),
            (left.cuts > 0 && gate.is_connected(), Step::Cut(n)),
            (is_up && link.is_some_and(world::Link::is_cut), Step::ServerNotices(n)),
            (left.pings > 0 && gate.can_ping(), Step::Ping(n)),
            (is_up && link.is_some_and(world::Link::has_up), Step::ServerTakes(n)),
            (is_behind, Step::ServerSendsRecords(n)),
            (is_up && link.is_some_and(world::Link::has_ping), Step::ServerSendsPong(n)),
            (link.is_some_and(world::Link::has_down), Step::GateTakes(n)),
            (gate.has_received(), Step::GateApplies(n)),
            (left.gateway_crashes > 0, Step::GateCrashes(n)),
        ] {
            if is_possible {
                steps.push(step);
            }
        }
    }

    fn consumer_steps(&self, world: &World, n: usize, steps: &mut Vec<Step>) {
        let (consumer, left) = (&world.consumers[n], &world.left);
        let is_up = world.server.is_some();
        let set = world.server.as_ref().and_then(|server| server.set);
        for (is_possible, step) in [
            (left.connects > 0 && is_up && !consumer.is_connected(), Step::ConnectConsumer(n)),
            (left.cuts > 0 && consumer.is_connected(), Step::CutConsumer(n)),
            (is_up && consumer.is_cut(), Step::ServerNoticesConsumer(n)),
            (is_up && consumer.has_up(), Step::ServerTakesAnswer(n)),
            (consumer.lacks(set), Step::PushSet(n)),
            (consumer.has_down(), Step::ConsumerTakes(n)),
        ] {
            if is_possible {
                steps.push(step);
            }
        }
    }

    fn take(&self, world: &mut World, step: Step) -> bool {
        match step {
            Step::Wait => world.wait(self),
            Step::WaitUntilDue => return world.wait_until_due(self),
            Step::Connect(n) => world.connect(self, n),
            Step::Cut(n) => world.cut(n),
            Step::ServerNotices(n) => world.server_notices(self, n),
            Step::Ping(n) => world.ping(n),
            Step::ServerTakes(n) => world.server_takes(self, n),
            Step::ServerSendsRecords(n) => world.server_sends_records(n),
            Step::ServerSendsPong(n) => return world.server_sends_pong(self, n),
            Step::GateTakes(n) => world.gate_takes(self, n),
            Step::GateApplies(n) => world.gate_applies(n),
            Step::GateCrashes(n) => world.crash_gate(self, n),
            Step::AppendRevocation => world.append_revocation(),
            Step::Publish => world.publish(self),
            Step::Record => world.record(self),
            Step::BeginAnswer => world.begin_answer(),
            Step::SendAnswer(seq) => world.send_answer(seq),
            Step::ServerCrashes => world.crash_server(),
            Step::ServerStarts => world.start_server(self),
            Step::Restore => world.restore(),
            Step::SignSet => return world.sign_set(self),
            Step::PushSet(n) => return world.push_set(self, n),
            Step::ConsumerTakes(n) => world.consumer_takes(n),
            Step::ServerTakesAnswer(n) => world.server_takes_of_consumer(n),
            Step::ConnectConsumer(n) => world.connect_consumer(self, n),
            Step::CutConsumer(n) => world.cut_consumer(n),
            Step::ServerNoticesConsumer(n) => world.server_notices_consumer(self, n),
        }
        true
    }
}

/// What a step takes from the budget.
fn spent(left: &mut Budget, step: Step) {
    let counter = match step {
        Step::Wait => &mut left.waits,
        Step::WaitUntilDue => &mut left.dues,
        Step::Connect(_) | Step::ConnectConsumer(_) => &mut left.connects,
        Step::Cut(_) | Step::CutConsumer(_) => &mut left.cuts,
        Step::SignSet => &mut left.signs,
        Step::Ping(_) => &mut left.pings,
        Step::GateCrashes(_) => &mut left.gateway_crashes,
        Step::AppendRevocation => &mut left.revocations,
        Step::Record => &mut left.records,
        Step::BeginAnswer => &mut left.answers,
        Step::ServerCrashes => &mut left.server_crashes,
        Step::Restore => &mut left.restores,
        Step::ServerNotices(_)
        | Step::ServerTakes(_)
        | Step::ServerSendsRecords(_)
        | Step::ServerSendsPong(_)
        | Step::GateTakes(_)
        | Step::GateApplies(_)
        | Step::Publish
        | Step::SendAnswer(_)
        | Step::PushSet(_)
        | Step::ConsumerTakes(_)
        | Step::ServerTakesAnswer(_)
        | Step::ServerNoticesConsumer(_)
        | Step::ServerStarts => return,
    };
    *counter -= 1;
}

impl Model for Setup {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let (slow, fast) = (1_000 - self.drift, 1_000 + self.drift);
        let parties = self.principals.len() + 1;
        // The extremes: each clock slow or fast. Unless more is asked for, those where the server is not like the rest.
        let combinations = (0..1_u32 << parties).filter(|bits| {
            let others = (1_u32 << parties) - 2;
            more() > 0 || *bits == 1 || *bits == others
        });
        let clocks = combinations.map(|bits| {
            let rate = |place| if bits & (1_u32 << place) == 0 { slow } else { fast };
            (0..parties).map(rate).collect::<Vec<_>>()
        });
        let sides: &[bool] = if self.consumers > 0 { &[false, true] } else { &[false] };
        let world =
            |rates: Vec<u64>| sides.iter().map(move |side| World::new(self, rates[0], &rates[1..], *side));
        clocks.flat_map(world).collect()
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let left = &world.left;
        for n in 0..world.gates.len() {
            self.gate_steps(world, n, steps);
        }
        for n in 0..world.consumers.len() {
            self.consumer_steps(world, n, steps);
        }
        let server = world.server.as_ref();
        let is_up = server.is_some();
        for (is_possible, step) in [
            (left.waits > 0, Step::Wait),
            (left.dues > 0, Step::WaitUntilDue),
            (left.revocations > 0 && is_up, Step::AppendRevocation),
            (world.has_unpublished(), Step::Publish),
            (left.records > 0 && is_up && !world.has_unpublished(), Step::Record),
            (left.answers > 0 && is_up, Step::BeginAnswer),
            (left.server_crashes > 0 && is_up, Step::ServerCrashes),
            (!is_up, Step::ServerStarts),
            (left.restores > 0 && world.can_restore(), Step::Restore),
            (left.signs > 0 && is_up, Step::SignSet),
        ] {
            if is_possible {
                steps.push(step);
            }
        }
        let answers = server.iter().flat_map(|server| server.answers.keys());
        steps.extend(answers.map(|seq| Step::SendAnswer(*seq)));
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        spent(&mut world.left, step);
        let happened = self.take(&mut world, step);
        world.look(self);
        happened.then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(SAFE, |_, world: &World| world.is_safe()),
            Property::sometimes("enforced by acknowledgements", |_, world: &World| {
                world.enforced == Some(EnforcedBy::Acks)
            }),
            Property::sometimes("a lease holds", |_, world: &World| {
                let leased = world.gates.iter().any(|gate| gate.lease.until_ms().is_some());
                leased || world.consumers.iter().any(|consumer| consumer.set.is_some())
            }),
        ];
        if self.budget.restores > 0 {
            properties.push(Property::sometimes("lost history is noticed", |_, world: &World| {
                world.server.as_ref().is_some_and(|server| server.is_rolled_back)
            }));
        }
        properties
    }
}

#[expect(clippy::disallowed_methods, reason = "how deep tests look is not a setting of the program")]
fn more() -> u8 {
    let more = std::env::var("COUNTERSIGN_MODEL_MORE").ok();
    more.map_or(0, |more| more.parse().expect("COUNTERSIGN_MODEL_MORE is a small number"))
}

/// Explores everything: the invariant holds, and what makes it worth something was met.
fn holds(setup: Setup) {
    let checker = setup.checker().threads(2).spawn_dfs().join();
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

/// What is broken is found.
fn is_found(setup: Setup) {
    let broken = setup.broken;
    let checker = setup.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let path = checker.discovery(SAFE).unwrap_or_else(|| panic!("{broken:?} does no harm"));
    println!("{broken:?}: {} states, {:?}", checker.unique_state_count(), path.into_actions());
}

/// One gateway, which loses its connection and crashes.
fn one() -> Setup {
    Setup::new(Budget { pings: 2, connects: 1, cuts: 1, gateway_crashes: 1, ..BASE })
}

/// A server that comes back and knows nobody.
fn restart() -> Setup {
    Setup::new(Budget { pings: 2, connects: 1, dues: 3, server_crashes: 1, ..BASE })
}

/// A lease that is lowered, around a restart.
fn lowered() -> Setup {
    let setup = Setup::new(Budget { connects: 1, server_crashes: 1, records: 1, ..BASE });
    Setup { lease_ms: 2 * LEASE_DEFAULT_MS, ..setup }
}

/// An older copy takes the place of the record.
fn restored() -> Setup {
    Setup::new(Budget { waits: 0, dues: 1, connects: 1, server_crashes: 1, records: 1, restores: 1, ..BASE })
}

/// The server's own answers, beside a gateway.
fn own_path() -> Setup {
    Setup::new(Budget { answers: 2, ..BASE })
}

/// One consumer of pushed sets, which loses its stream and comes back.
fn pushed() -> Setup {
    let budget = Budget { pings: 0, signs: 3, connects: 1, cuts: 1, records: 1, ..BASE };
    Setup { principals: Vec::new(), consumers: 1, ..Setup::new(budget) }
}

/// Two consumers with one name.
fn pushed_twice() -> Setup {
    let budget = Budget { pings: 0, waits: 0, signs: 2, connects: 1, cuts: 1, ..BASE };
    Setup { principals: Vec::new(), consumers: 2, ..Setup::new(budget) }
}

/// A consumer of pushed sets, and a server that comes back and knows nobody.
fn pushed_restart() -> Setup {
    let budget = Budget { pings: 0, signs: 3, connects: 1, dues: 3, server_crashes: 1, ..BASE };
    Setup { principals: Vec::new(), consumers: 1, ..Setup::new(budget) }
}

/// A consumer of pushed sets beside a gateway.
fn pushed_beside() -> Setup {
    Setup { consumers: 1, ..Setup::new(Budget { waits: 0, signs: 2, ..BASE }) }
}

#[test]
fn a_consumer_of_pushed_sets() {
    holds(pushed());
    holds(pushed_twice());
}

#[test]
fn a_consumer_of_pushed_sets_and_a_server_that_restarts() {
    holds(pushed_restart());
    holds(Setup { lease_ms: LEASE_MAX_MS, lowered_ms: LEASE_MAX_MS, ..pushed_restart() });
}

#[test]
fn a_consumer_of_pushed_sets_beside_a_gateway() {
    holds(pushed_beside());
}

#[test]
fn what_is_broken_about_pushed_sets_is_found() {
    for (broken, setup) in [
        (Broken::SetOvertaken, pushed()),
        (Broken::ListOutlivesLease, pushed()),
        (Broken::ForgetsWhoLeft, pushed()),
        (Broken::AckOnReceipt, pushed()),
        (Broken::StreamTakesRow, pushed_twice()),
        (Broken::CompleteAtOnce, pushed_restart()),
    ] {
        is_found(Setup { broken: Some(broken), ..setup });
    }
}

#[test]
fn a_gateway_that_is_cut_off_or_crashes() {
    for keeps_views in [false, true] {
        holds(Setup { keeps_views, ..one() });
    }
}

#[test]
fn a_server_that_restarts_knows_nobody() {
    holds(restart());
    holds(Setup { lease_ms: LEASE_MAX_MS, lowered_ms: LEASE_MAX_MS, ..restart() });
}

#[test]
fn two_sessions_of_one_gateway() {
    let budget = Budget { waits: 0, pings: 2, cuts: 1, ..BASE };
    holds(Setup { principals: vec!["one", "one"], ..Setup::new(budget) });
}

#[test]
fn a_lease_that_is_lowered() {
    holds(lowered());
}

#[test]
fn the_own_answers_of_the_server() {
    holds(own_path());
}

#[test]
fn an_older_copy_of_the_record() {
    holds(Setup { keeps_views: true, ..restored() });
}

#[test]
fn what_is_broken_on_purpose_is_found() {
    for (broken, setup) in [
        (Broken::LeaseFromReceipt, one()),
        (Broken::HeadReadEarly, one()),
        (Broken::PongOvertakes, one()),
        (Broken::ForgetsWhoLeft, one()),
        (Broken::AckOnReceipt, one()),
        (Broken::CompleteAtOnce, restart()),
        (Broken::LoweredAtOnce, lowered()),
        (Broken::OwnPathIgnored, own_path()),
        (Broken::ClaimBelieved, restored()),
    ] {
        is_found(Setup { broken: Some(broken), ..setup });
    }
}

#[test]
fn clocks_that_drift_more_than_the_bound_allows_for_are_found() {
    let lease_ms = LEASE_MAX_MS;
    is_found(Setup { drift: 3, lease_ms, lowered_ms: lease_ms, ..one() });
}
