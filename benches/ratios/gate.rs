//! `gate_known`, `gate_known_2` and `gate_new`: decisions of the gateway library, on a live subscription.

use std::time::Duration;

use countersign::client::{Gate, GateConfig, Identity, Target};
use countersign::domain::certificate::Facts;
use countersign::domain::enforce::message::Strength;
use countersign::domain::enforce::{Chain, Request};
use countersign::domain::id::Digest;
use countersign::domain::model::AccessForm;
use countersign::domain::person::EvidenceKind;
use countersign::domain::policy::Place;
use countersign::env::SystemEntropy;
use countersign::x509::bundle::certificate_pem;
use countersign::x509::{Authority, Profile};

use crate::issue::{prepare, redeem_all};
use crate::measure::{Row, median, median_us, wall_us};
use crate::world::World;

/// What every gateway asks.
pub(crate) fn question() -> Request<'static> {
    Request {
        model: "mythos-5",
        form: AccessForm::Inference,
        place: Place::Us,
        serving: Place::Us,
        purpose: None,
        chain: Chain::default(),
    }
}

/// How a new gateway subscribes over loopback mTLS.
pub(crate) async fn config(world: &World, name: &str) -> GateConfig {
    let caller = world.gateway(name).await;
    let state = world.running().app().state();
    GateConfig {
        target: Target {
            address: world.running().address().to_string(),
            server_name: Some("localhost".to_owned()),
            system_bundle_pem: world.system_pem(),
        },
        identity: Identity::from_pem(&certificate_pem(&caller.certificate), &caller.key.to_pem()).unwrap(),
        profile: Profile::new(
            state.settings.trust_domain.parse().unwrap(),
            state.settings.arc.parse().unwrap(),
            None,
        ),
        log_key: state.settings.log_key.as_slice().try_into().unwrap(),
        strength: Strength { per_request: true, resumption_off: true, ..Strength::default() },
        clock: world.clock.clone(),
        entropy: std::sync::Arc::new(SystemEntropy),
    }
}

/// A gate that has a lease.
pub(crate) async fn connect(world: &World, name: &str) -> Gate {
    let gate = Gate::connect(config(world, name).await).await.unwrap();
    gate.ready(Duration::from_secs(10)).await.unwrap();
    gate
}

/// Has the gate hold the card of the certificate's entity.
pub(crate) async fn hold_card(gate: &Gate, leaf: &[u8]) {
    for _ in 0..1_000 {
        if gate.decide(leaf, &question()).is_permit() {
            return;
        }
        gate.decide_or_ask(leaf, &question()).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the gate never permits: {:?}", gate.decide(leaf, &question()));
}

pub(crate) fn gate_known() -> Row {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (measured, floor) = runtime.block_on(async {
        let mut world = World::start().await;
        let entity = world.partner().await;
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let leaf = world.enroll(subject).await.certificate;
        let gate = connect(&world, "gw-known").await;
        hold_card(&gate, &leaf).await;
        // Batches, for one decision is shorter than the clock's step.
        let batch = 100;
        let decide = median_us(2_000, || {
            for _ in 0..batch {
                assert!(
                    std::hint::black_box(gate.decide(std::hint::black_box(&leaf), &question())).is_permit()
                );
            }
        });
        let hash = median_us(2_000, || {
            for _ in 0..batch {
                std::hint::black_box(Digest::of(std::hint::black_box(&leaf)));
            }
        });
        gate.shutdown().await;
        world.close().await;
        (decide / f64::from(batch), hash / f64::from(batch))
    });
    Row {
        name: "gate_known",
        measured: (measured, "us"),
        floor: (floor, "us"),
        goal: "<= 2.5 x SHA-256 of the leaf",
        met: measured <= 2.5 * floor,
    }
}

/// Decisions about one certificate on two threads, as a multiple of one thread; beside it the same of what shares nothing at
/// all, hashing the certificate, for a machine that does other things as well gives two threads less than two cores.
pub(crate) fn gate_known_2() -> Row {
    const EACH: u32 = 200_000;
    const ROUNDS: usize = 15;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (decide, hash) = runtime.block_on(async {
        let mut world = World::start().await;
        let entity = world.partner().await;
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let leaf = world.enroll(subject).await.certificate;
        let gate = connect(&world, "gw-known-2").await;
        hold_card(&gate, &leaf).await;
        let decide = || {
            for _ in 0..EACH {
                assert!(gate.decide(std::hint::black_box(&leaf), &question()).is_permit());
            }
        };
        let hash = || {
            for _ in 0..2 * EACH {
                std::hint::black_box(Digest::of(std::hint::black_box(&leaf)));
            }
        };
        // One beside the other, so that whatever else the machine does meets all.
        let rounds: Vec<_> = (0..ROUNDS).map(|_| (gain(&decide), gain(&hash))).collect();
        let decide = median(rounds.iter().map(|(decide, _)| *decide).collect());
        let hash = median(rounds.iter().map(|(_, hash)| *hash).collect());
        gate.shutdown().await;
        world.close().await;
        (decide, hash)
    });
    Row {
        name: "gate_known_2",
        measured: (decide, "x"),
        floor: (hash, "x"),
        goal: ">= 1.8 x one thread",
        met: decide >= 1.8,
    }
}

/// What two threads do in the time in which one does the same once.
fn gain(work: &(impl Fn() + Sync)) -> f64 {
    let took_us = |threads: usize| {
        let begin = wall_us();
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        wall_us() - begin
    };
    let one = took_us(1);
    2.0 * one / took_us(2)
}

pub(crate) fn gate_new() -> Row {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (measured, floor) = runtime.block_on(async {
        let mut world = World::start().await;
        let entity = world.partner().await;
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let gate = connect(&world, "gw-new").await;
        let first = world.enroll(subject).await.certificate;
        hold_card(&gate, &first).await;
        let leaves = redeem_all(&world, prepare(&world, subject, 1_000).await).await;
        let decided = leaves.iter().map(|leaf| {
            let begin = wall_us();
            assert!(gate.decide(leaf, &question()).is_permit());
            wall_us() - begin
        });
        let measured = median(decided.collect());
        let floor = median(leaves.iter().map(|leaf| verification_us(&world, leaf)).collect());
        gate.shutdown().await;
        world.close().await;
        (measured, floor)
    });
    Row {
        name: "gate_new",
        measured: (measured, "us"),
        floor: (floor, "us"),
        goal: "<= 1.2 x its verification",
        met: measured <= 1.2 * floor,
    }
}

/// What the one signature verification of a leaf takes.
fn verification_us(world: &World, leaf: &[u8]) -> f64 {
    let app = world.running().app();
    let certificate = app.read_certificate(leaf).unwrap();
    assert!(matches!(certificate.facts, Facts::Access(_)));
    let state = app.state();
    let authority = state.authorities.get(&certificate.issuer).unwrap();
    let authority = Authority::from_der(&authority.certificate).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).unwrap();
    let (tbs, signature) = (parsed.tbs_certificate.as_ref(), parsed.signature_value.as_ref());
    let curve = authority.key().curve();
    let begin = wall_us();
    assert!(authority.verifies(curve, tbs, signature));
    wall_us() - begin
}
