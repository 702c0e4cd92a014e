//! `issue_cpu`: process CPU per certificate, durable, at 64 concurrent requests, without a transport.

use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use countersign::domain::id::SubjectId;
use countersign::domain::person::EvidenceKind;
use countersign::x509::{ClientKey, Curve};

use crate::measure::{Row, process_cpu_us};
use crate::world::World;

/// Certificates measured, after as many to warm up.
const CERTIFICATES: usize = 8_000;
/// Requests under way at once.
const CONCURRENT: usize = 64;

/// Tokens with requests for them, ready to be redeemed.
pub(crate) async fn prepare(world: &World, subject: SubjectId, count: usize) -> Vec<(String, Vec<u8>)> {
    let app = world.running().app();
    let caller = countersign::app::Caller { principal: "alice".parse().ok(), request: None };
    let mut ready = Vec::with_capacity(count);
    for _ in 0..count {
        let mode = countersign::app::Mode::Commit;
        let new = app.create_token(&caller, subject, 0, mode).await.unwrap();
        let key = ClientKey::generate(Curve::P256).unwrap();
        ready.push((new.token.reveal(), key.request().unwrap()));
    }
    ready
}

/// Redeems them, `CONCURRENT` at once.
pub(crate) async fn redeem(world: &World, ready: Vec<(String, Vec<u8>)>) {
    drop(redeem_all(world, ready).await);
}

/// The same, and gives the certificates.
pub(crate) async fn redeem_all(world: &World, ready: Vec<(String, Vec<u8>)>) -> Vec<Vec<u8>> {
    let app = world.running().app();
    let ready = Arc::new(Mutex::new(ready));
    let tasks = (0..CONCURRENT).map(|_| {
        let (app, ready) = (Arc::clone(app), Arc::clone(&ready));
        tokio::spawn(async move {
            let mut issued = Vec::new();
            loop {
                let next = ready.lock().unwrap().pop();
                let Some((token, csr)) = next else { return issued };
                issued.push(app.enroll(&token, &csr).await.unwrap().certificate);
            }
        })
    });
    let mut issued = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        issued.extend(task.await.unwrap());
    }
    issued
}

/// Waits until the certificate index reflects every record.
async fn settle_views(world: &World) {
    let app = world.running().app();
    while app.certificates().applied_seq() < app.journal().head().seq {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn floor_us() -> f64 {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).unwrap();
    let message = [7; 600];
    let rounds = 4_000;
    let begin = process_cpu_us();
    for _ in 0..rounds {
        let signature = pair.sign(&random, &message).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref());
        public.verify(&message, signature.as_ref()).unwrap();
    }
    (process_cpu_us() - begin) / f64::from(rounds)
}

pub(crate) fn issue_cpu() -> Row {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (measured, floor) = runtime.block_on(async {
        let mut world = World::start().await;
        let entity = world.partner().await;
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let warm = prepare(&world, subject, CERTIFICATES / 4).await;
        redeem(&world, warm).await;
        let ready = prepare(&world, subject, CERTIFICATES).await;
        // Neither the floor nor the certificates are charged for what came before.
        settle_views(&world).await;
        let floor = floor_us();
        let begin = process_cpu_us();
        redeem(&world, ready).await;
        // What the index still has to do belongs to the certificates.
        settle_views(&world).await;
        let measured = (process_cpu_us() - begin) / CERTIFICATES as f64;
        world.close().await;
        (measured, floor)
    });
    let met = measured <= 2.5 * floor;
    Row {
        name: "issue_cpu",
        measured: (measured, "us"),
        floor: (floor, "us"),
        goal: "<= 2.5 x (CSR verify + sign)",
        met,
    }
}
