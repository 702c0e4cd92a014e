//! The messages of the feed between server and gateway, as pure values. The transport's spelling of them is the wire
//! room's business; what they mean is in the feed and in the gateway's replica, which speak only these.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::view::Position;
use crate::domain::id::{BootId, Digest, EntityId, Seq};
use crate::domain::time::Timestamp;
use crate::domain::word::words;

/// The most cards that a session may ask for: 100,000, the memory of a gateway that meets every partner there could be.
pub const WANTS_MAX: usize = 100_000;
/// The most format versions that a gateway may name: far more than will ever be in use at once.
pub const VERSIONS_MAX: usize = 16;
/// The longest signed head: its fields take less than 200 bytes.
pub const SIGNED_HEAD_LEN_MAX: usize = 512;
/// The longest detail of a Nack that is kept: one line of a log.
pub const NACK_DETAIL_LEN_MAX: usize = 256;
/// The largest part of a snapshot that is accepted: 1 MiB, a quarter of what tonic accepts unless told otherwise.
pub const SNAPSHOT_PART_LEN_MAX: usize = 1 << 20;
/// A part as this service sends it: 64 KiB. A reader that stalls in the middle of a snapshot holds up no more than a few.
pub const SNAPSHOT_PART_LEN: usize = 64 << 10;
/// The largest snapshot before compression: 64 MiB, thirty times a million revocations.
pub const SNAPSHOT_LEN_MAX: usize = 64 << 20;
/// The largest sum of events and cards in one Delta: 8 MiB. More than that is sent as a snapshot.
pub const DELTA_LEN_MAX: usize = 8 << 20;
/// The largest message of the feed, for the limits of the transport: a Delta with its framing.
pub const MESSAGE_LEN_MAX: usize = 16 << 20;
/// The longest name of a gateway's software: a product and its version.
pub const SOFTWARE_NAME_LEN_MAX: usize = 64;
/// Streams of a revoked subject that last longer than this are not cut: a promise of more is none.
pub const STREAM_CUT_MAX_MS: u32 = 60_000;

words! {
    /// Why a gateway refuses a message.
    NackCode {
        /// Records are missing.
        Gap = 0, "GAP";
        /// What was sent does not have the digest that was announced.
        Digest = 1, "DIGEST";
        /// The server is behind what the gateway has seen from it.
        Rollback = 2, "ROLLBACK";
        /// Not in the form of this protocol.
        Undecodable = 3, "UNDECODABLE";
    }
}

words! {
    /// Why a gateway cannot promise all of enforcement.
    Weakness {
        /// Its machine can be paused, or its clock be wrong, without its noticing.
        Pausable = 0, "PAUSABLE";
        /// It decides connections only, and those of the revoked stay open or can be resumed.
        ConnectionsOutlive = 1, "CONNECTIONS_OUTLIVE";
        /// Streams of a revoked subject go on for more than a minute.
        StreamsOutlive = 2, "STREAMS_OUTLIVE";
    }
}

/// The name of a piece of a gateway's software, such as `countersign-client/0.1.0`. It is only shown; nothing is decided
/// by it. Its characters can neither move a cursor nor break a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SoftwareName(String);

/// Not the name of a piece of software.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("1 to {SOFTWARE_NAME_LEN_MAX} letters, digits and . _ + - / are needed")]
pub struct NotASoftwareName;

impl FromStr for SoftwareName {
    type Err = NotASoftwareName;
    fn from_str(text: &str) -> Result<Self, NotASoftwareName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._+-/".contains(&b);
        let is_name = (1..=SOFTWARE_NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(allowed);
        if is_name { Ok(Self(text.to_owned())) } else { Err(NotASoftwareName) }
    }
}

impl fmt::Display for SoftwareName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a gateway says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromGateway {
    /// The first message: its claim of what it holds.
    Open(Open),
    /// It enforces every record up to this one. Cumulative.
    Ack {
        /// Up to and including.
        applied: Seq,
        /// The barrier that asked for it.
        barrier: Option<u64>,
    },
    /// It refuses what it got, and has let its lease go.
    Nack(Nack),
    /// Asks for a lease.
    Ping {
        /// The number of the Ping.
        ping_id: u64,
        /// Up to which record it is.
        applied: Seq,
    },
    /// Asks for the card of an entity, now and whenever it changes.
    Want(EntityId),
}

/// A gateway's claim of what it holds and what it can promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The run of the gateway.
    pub boot: BootId,
    /// Up to which record it holds; epoch 0: nothing.
    pub position: Position,
    /// The digest of the enforcement events up to there.
    pub digest: Digest,
    /// Canonical CBOR of the last signed head that it verified; empty: none.
    pub signed_head: Bytes,
    /// Certificate format versions that it understands.
    pub versions: Vec<u32>,
    /// What it can promise.
    pub strength: Strength,
    /// Entities whose cards it asked for.
    pub cards: Vec<HeldCard>,
    /// The software that speaks the feed, with its version, if it says so.
    pub agent: Option<SoftwareName>,
    /// What joins it to the gateway: the library, or a proxy's adapter.
    pub adapter: Option<SoftwareName>,
}

/// A card that a gateway asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldCard {
    /// Whose.
    pub entity: EntityId,
    /// The revision that it holds; 0: it holds none.
    pub revision: Seq,
}

/// What a gateway can promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Strength {
    /// It decides every request, not only every connection.
    pub per_request: bool,
    /// It closes connections of revoked subjects.
    pub closes_connections: bool,
    /// TLS session resumption is off.
    pub resumption_off: bool,
    /// Streams of a revoked subject end within this many milliseconds; 0: it has no streams.
    pub stream_cut_ms: u32,
    /// Its machine can be paused, or its clock be wrong, without its noticing.
    pub pausable: bool,
}

impl Strength {
    /// Can it not promise all of enforcement? A request is decided each time, or the connections of the revoked are
    /// closed and cannot be resumed; streams are cut; its clock never stands still.
    pub fn is_weak(&self) -> bool {
        self.weaknesses().next().is_some()
    }

    /// Every promise that it cannot keep.
    pub fn weaknesses(self) -> impl Iterator<Item = Weakness> {
        let decides_again = self.per_request || (self.closes_connections && self.resumption_off);
        let found = [
            self.pausable.then_some(Weakness::Pausable),
            (!decides_again).then_some(Weakness::ConnectionsOutlive),
            (self.stream_cut_ms > STREAM_CUT_MAX_MS).then_some(Weakness::StreamsOutlive),
        ];
        found.into_iter().flatten()
    }
}

/// A gateway's refusal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Nack {
    /// Up to which record it is.
    pub applied: Seq,
    /// Why.
    pub code: NackCode,
    /// In words, for the log.
    pub detail: String,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToGateway {
    /// The first message.
    Welcome(Welcome),
    /// Records, contiguous with what was applied.
    Delta(Delta),
    /// A snapshot begins.
    SnapshotBegin(SnapshotBegin),
    /// A part of it.
    SnapshotPart(Bytes),
    /// It is complete.
    SnapshotEnd {
        /// SHA-256 of the whole, before compression.
        sha256: Digest,
        /// The digest of the enforcement events up to the snapshot's record.
        digest: Digest,
    },
    /// Grants a lease.
    Pong(Pong),
    /// Asks for an Ack at once.
    Barrier {
        /// Its number.
        id: u64,
        /// Up to which record.
        at: Seq,
    },
    /// Reconnect elsewhere.
    Drain {
        /// Not before.
        reconnect_after_ms: u32,
        /// And up to this much later.
        jitter_ms: u32,
    },
}

/// The server's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// Its head.
    pub head: Position,
    /// Deltas are retained from here on.
    pub oldest: Seq,
    /// How often to ping.
    pub ping_ms: u32,
    /// Canonical CBOR of the signed head.
    pub signed_head: Bytes,
    /// The service was restored, and asks for what this gateway holds and it lost.
    pub wants_restrictions: bool,
}

/// Records `from..=to`, applied whole or not at all. With `to` one less than `from` it carries cards only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The record after the last one sent.
    pub from: Seq,
    /// The last record.
    pub to: Seq,
    /// Records with enforcement events; those between have none.
    pub records: Vec<RecordEvents>,
    /// Cards as of `to`: canonical CBOR; empty: there is no such entity.
    pub cards: Vec<(EntityId, Bytes)>,
}

/// The events of one record, as canonical CBOR: the bytes that the digest covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordEvents {
    /// Which record.
    pub seq: Seq,
    /// Its events, encoded once and shared by all sessions.
    pub events: Arc<[Bytes]>,
}

/// What a snapshot will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotBegin {
    /// As of which record.
    pub position: Position,
    /// How many parts follow.
    pub parts: u32,
    /// Length of the whole before compression.
    pub len: u64,
}

/// Grants a lease, counted from when its Ping was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pong {
    /// The Ping that it answers.
    pub ping_id: u64,
    /// The head that was committed after the Ping arrived.
    pub head: Position,
    /// How long.
    pub lease_ms: u32,
    /// The server's wall time.
    pub server_time: Timestamp,
    /// Canonical CBOR of the signed head.
    pub signed_head: Bytes,
}
