//! `stalled_reader`: what a gateway that reads nothing costs the server, against one that reads, while records go on.

use std::time::Duration;

use countersign::domain::command::Command;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::pb;

use crate::fanout::target;
use crate::fleet::{Conduct, Fleet};
use crate::in_role;
use crate::issue::{prepare, redeem_all};
use crate::measure::{Row, resident_kib};
use crate::world::World;

/// Gateways of each kind.
const GATEWAYS: usize = 500;
/// How long they read nothing, unless `--seconds` says otherwise.
const STALL_S: usize = 60;
/// Revocations in each second of it.
const REVOCATIONS_PER_S: usize = 10;

pub(crate) fn stalled_reader() -> Row {
    let seconds = crate::SECONDS.get().copied().unwrap_or(STALL_S).to_string();
    // Each in a process of its own: what the first leave behind in the allocator would count for the second.
    let of = |conduct: Conduct| {
        let held: f64 = serde_json::from_value(in_role(&["--held", conduct.word(), &seconds])).unwrap();
        held
    };
    let (reading, stalled) = (of(Conduct::Enforce), of(Conduct::Stall));
    Row {
        name: "stalled_reader",
        measured: (stalled, "KiB"),
        floor: (reading, "KiB"),
        goal: "no more than one that reads (+5 %)",
        met: stalled <= 1.05 * reading,
    }
}

/// The role of such a process.
pub(crate) fn run_held(conduct: &str, seconds: usize) {
    let conduct = Conduct::of(conduct);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let held = runtime.block_on(async {
        let mut world = World::start().await;
        let held = held_kib(&world, conduct, seconds).await;
        world.close().await;
        held
    });
    println!("{held}");
}

/// KiB for each gateway at the end of the time, since before there was any.
async fn held_kib(world: &World, conduct: Conduct, seconds: usize) -> f64 {
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let leaves = redeem_all(world, prepare(world, subject, seconds * REVOCATIONS_PER_S).await).await;
    let target = target(world, conduct, GATEWAYS).await;
    let before = resident_kib();
    let fleet = Fleet::start(world.dir.path(), &target, conduct, GATEWAYS).await;
    let mut beats = tokio::time::interval(Duration::from_secs(1) / u32::try_from(REVOCATIONS_PER_S).unwrap());
    for leaf in &leaves {
        beats.tick().await;
        let ordinal = world.running().app().read_certificate(leaf).unwrap().ordinal;
        let scope = RevocationScope::Certificate(ordinal);
        let command = Command::Revoke { scope, reason: RevocationReason::Drill };
        assert!(world.restrict(command, pb::Wait::Committed).await.unwrap().durable);
    }
    let connected = world.running().app().feed().sessions().iter().filter(|s| s.is_connected).count();
    assert_eq!(connected, GATEWAYS, "all of them are still there");
    let kib = (resident_kib() - before) / GATEWAYS as f64;
    drop(fleet);
    kib
}
