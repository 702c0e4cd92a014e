//! A whole session with a server that says anything: messages one after the other, each with its length before it, as they
//! are kept in the seeds. Snapshots are decompressed and read here too.
//!
//! Whatever is said: what is held never goes back, nothing is acknowledged that is not held, a refusal ends the lease, and
//! no lease is longer than the longest.
#![no_main]

use std::sync::{Arc, OnceLock};

use bytes::Buf;
use countersign::client::{Published, Refusal, Replica, ReplicaConfig};
use countersign::domain::enforce::LEASE_MAX_MS;
use countersign::domain::enforce::message::{FromGateway, NackCode, Strength, ToGateway};
use countersign::domain::id::{BootId, EntityId};
use countersign::domain::time::Timestamp;
use countersign::pb::SubscribeResponse;
use countersign_fuzz::array;
use prost::Message as _;

/// Between two messages: a ping interval, so that each may answer a Ping.
const STEP_MS: u64 = 2_500;
/// A wall clock near that of the seeds.
const WALL_MS: i64 = 1_782_561_600_000;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static LOG_KEY: OnceLock<[u8; 32]> = OnceLock::new();
    static ENTITY: OnceLock<[u8; 16]> = OnceLock::new();
    let log_key = *LOG_KEY.get_or_init(|| array("log-key"));
    let published = Arc::new(Published::default());
    let boot = BootId::from_bytes([1; 16]);
    let config = ReplicaConfig { boot, strength: Strength::default(), log_key, adapter: None };
    let mut replica = Replica::new(config, Arc::clone(&published));
    let _ = replica.want(EntityId::from_bytes(*ENTITY.get_or_init(|| array("entity"))));
    let _ = replica.open();
    let (mut rest, mut boot_ms) = (data, STEP_MS);
    while rest.has_remaining() {
        let now = Timestamp::from_millis(WALL_MS + boot_ms as i64);
        let before = replica.position();
        let Ok(response) = SubscribeResponse::decode_length_delimited(&mut rest) else { return };
        let taken = match ToGateway::try_from(response) {
            Ok(message) => replica.take(message, boot_ms, now),
            Err(error) => Err(replica.refuse(NackCode::Undecodable, error.to_string())),
        };
        assert!(replica.position() >= before, "it went back");
        let lease = published.load().lease_until_ms;
        match taken {
            Ok(taken) => {
                let is_held = |sent: &FromGateway| match sent {
                    FromGateway::Ack { applied, .. } => *applied == replica.position().seq,
                    _ => true,
                };
                assert!(taken.send.iter().all(is_held), "it acknowledged what it does not hold");
                assert!(lease.is_none_or(|until| until <= boot_ms + u64::from(LEASE_MAX_MS)), "a long lease");
            }
            Err(Refusal(nack)) => {
                assert!(
                    lease.is_none() && nack.applied == before.seq,
                    "a refusal changed more than the lease"
                );
                let _ = replica.open();
            }
        }
        boot_ms += STEP_MS;
        let _ = replica.tick(boot_ms, now);
    }
});
