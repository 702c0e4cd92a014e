//! `snapshot_1m`: a million revoked certificates of ten million, as a snapshot: how long the server's bytes are and how long
//! a gateway takes to hold them.
//!
//! The set is put into a State by hand, for no officer signs a million mandates; from there on everything is the service's
//! own: the feed makes the snapshot, a session sends it, the library's replica applies it.

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use bytes::Bytes;
use countersign::client::{Published, Replica, ReplicaConfig};
use countersign::domain::codec::to_bytes;
use countersign::domain::enforce::message::{Strength, ToGateway};
use countersign::domain::enforce::{EnforcementSet, OrdinalSet, Position};
use countersign::domain::head::SignedHead;
use countersign::domain::id::{BootId, Digest, Ordinal, Seq, SubjectId};
use countersign::domain::state::State;
use countersign::env::{Clock as _, Entropy as _, ManualClock, SeededEntropy};
use countersign::feed::{Feed, Heads, Session};
use roaring::RoaringBitmap;

use crate::measure::{Row, median, wall_us};
use crate::world::World;

/// Certificates, and how many of them are revoked one by one.
const CERTIFICATES: u64 = 10_000_000;
const REVOKED: usize = 1_000_000;
/// Employments that ended, each with a cut-off: the rest of the view. And of a service with ten times as many.
const CUT: usize = 2_000;
const CUT_MANY: usize = 20_000;
const ROUNDS: usize = 15;

/// The heads of a record that nobody writes to.
struct Still {
    position: Position,
    key: Ed25519KeyPair,
}

impl Heads for Still {
    fn committed_head(&self) -> Position {
        self.position
    }

    fn signed_head(&self) -> Bytes {
        let head = (self.position.epoch, self.position.seq, Digest::default());
        let signed = SignedHead::sign(head, crate::world::BEGIN.parse().unwrap(), &self.key);
        Bytes::from(to_bytes(&signed.unwrap()))
    }

    fn verify(&self, _: &SignedHead) -> bool {
        false
    }

    fn root_at(&self, _: Seq) -> Option<Digest> {
        None
    }
}

pub(crate) fn snapshot_1m() -> Vec<Row> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (state, clock) = runtime.block_on(async {
        let mut world = World::start().await;
        world.gateway("gw-snapshot").await;
        let made = (State::clone(&world.running().app().state()), Arc::clone(&world.clock));
        world.close().await;
        made
    });
    let mut state = state;
    let without = to_bytes(state.enforcement.as_ref()).len();
    let set = Arc::make_mut(&mut state.enforcement);
    revoke(set);
    cut(set, CUT);
    let bitmap = to_bytes(&set.revoked);
    let whole = to_bytes(set);
    let mut with_many = state.clone();
    cut(Arc::make_mut(&mut with_many.enforcement), CUT_MANY - CUT);
    let (measured, floor, sent) = apply(Arc::new(state), &clock);
    let (measured_many, floor_many, _) = apply(Arc::new(with_many), &clock);
    let mib = |len: usize| len as f64 / 1e6;
    vec![
        Row {
            name: "snapshot_1m_bytes",
            measured: (mib(bitmap.len()), "MB"),
            floor: (mib(REVOKED * 49), "MB"),
            goal: "bitmap <= 1.3 MB; a DER CRL is the floor",
            met: bitmap.len() <= 1_300_000,
        },
        Row {
            name: "snapshot_1m_rest",
            measured: (mib(whole.len() - bitmap.len()), "MB"),
            floor: (mib(without), "MB"),
            goal: "2,000 cut-offs; without them: floor",
            met: true,
        },
        Row {
            name: "snapshot_1m_wire",
            measured: (mib(sent), "MB"),
            floor: (mib(whole.len()), "MB"),
            goal: "zstd, of all of it",
            met: true,
        },
        Row {
            name: "snapshot_1m",
            measured: (measured / 1e3, "ms"),
            floor: (floor / 1e3, "ms"),
            goal: "<= 2 x SHA-256 + zstd + bitmap load",
            met: measured <= 2.0 * floor,
        },
        Row {
            name: "snapshot_1m_20k",
            measured: (measured_many / 1e3, "ms"),
            floor: (floor_many / 1e3, "ms"),
            goal: "the same with 20,000 cut-offs",
            met: true,
        },
    ]
}

/// Revokes at random, the worst case for a bitmap.
fn revoke(set: &mut EnforcementSet) {
    let entropy = SeededEntropy::new(1);
    set.ceiling = Ordinal(CERTIFICATES);
    let mut revoked = OrdinalSet::default();
    let mut count = 0;
    while count < REVOKED {
        let random = u128::from_le_bytes(entropy.bytes16());
        let ordinal = Ordinal(u64::try_from(random % u128::from(CERTIFICATES)).unwrap() + 1);
        count += usize::from(!revoked.contains(ordinal));
        revoked.insert(ordinal);
    }
    set.revoked = revoked;
}

fn cut(set: &mut EnforcementSet, count: usize) {
    let entropy = SeededEntropy::new(count as u64);
    for n in 0..count {
        set.subjects.insert(SubjectId::from_bytes(entropy.bytes16()), Ordinal(n as u64));
    }
}

/// What a gateway takes to hold the snapshot, what the unavoidable takes, and the bytes that were sent.
fn apply(state: Arc<State>, clock: &Arc<ManualClock>) -> (f64, f64, usize) {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let log_key: [u8; 32] = key.public_key().as_ref().try_into().unwrap();
    let heads = Arc::new(Still { position: state.position, key });
    let feed = Feed::new(Arc::<ManualClock>::clone(clock), heads, Arc::clone(&state), 0);
    let (mut measured, mut floor, mut sent) = (Vec::new(), Vec::new(), 0);
    for n in 0..ROUNDS {
        let boot = BootId::from_bytes([u8::try_from(n).unwrap(); 16]);
        let strength = Strength { per_request: true, ..Strength::default() };
        let config = ReplicaConfig { boot, strength, log_key, adapter: None };
        let mut replica = Replica::new(config, Arc::new(Published::default()));
        let mut session = feed.open("gw-snapshot".parse().unwrap(), replica.open()).unwrap();
        let messages = until_end(&mut session);
        let part = |message: &ToGateway| match message {
            ToGateway::SnapshotPart(part) => part.to_vec(),
            _ => Vec::new(),
        };
        let parts: Vec<u8> = messages.iter().flat_map(part).collect();
        sent = parts.len();
        floor.push(unavoidable_us(&parts, &state.enforcement));
        let begin = wall_us();
        for message in messages {
            replica.take(message, clock.boot_ms(), clock.now()).unwrap();
        }
        measured.push(wall_us() - begin);
        assert_eq!(replica.view().unwrap().enforcement, state.enforcement);
    }
    (median(measured), median(floor), sent)
}

fn until_end(session: &mut Session) -> Vec<ToGateway> {
    let mut messages = Vec::new();
    loop {
        let message = session.poll().unwrap().unwrap();
        let is_end = matches!(message, ToGateway::SnapshotEnd { .. });
        messages.push(message);
        if is_end {
            return messages;
        }
    }
}

/// Decompressing and hashing the same bytes, and loading the bitmap as one.
fn unavoidable_us(parts: &[u8], set: &EnforcementSet) -> f64 {
    let len = to_bytes(set).len();
    let mut bitmap = Vec::new();
    let whole: RoaringBitmap = set.revoked.iter().map(|ordinal| u32::try_from(ordinal.0).unwrap()).collect();
    whole.serialize_into(&mut bitmap).unwrap();
    let begin = wall_us();
    let whole = zstd::bulk::decompress(parts, len).unwrap();
    std::hint::black_box(Digest::of(&whole));
    std::hint::black_box(RoaringBitmap::deserialize_from(bitmap.as_slice()).unwrap());
    wall_us() - begin
}
