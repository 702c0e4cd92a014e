//! The gateway's end of the feed, without a network: messages in, messages out, and the view that decisions read.
//!
//! A message is applied whole or refused; the view is published before it is acknowledged; a server that shows less
//! history than it signed before is refused, and the view stays.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::index::{Key, Touched};
use super::keep::Kept;
use super::published::{Published, Standing, wall_minus_boot_ms};
use crate::domain::certificate::FORMAT_VERSION;
use crate::domain::codec::from_bytes;
use crate::domain::enforce::message::{
    Delta, FromGateway, HeldCard, Nack, NackCode, Open, Pong, SNAPSHOT_LEN_MAX, SNAPSHOT_PART_LEN_MAX,
    SnapshotBegin, SoftwareName, Strength, ToGateway, WANTS_MAX, Welcome,
};
use crate::domain::enforce::{
    EnforcementEvent, EnforcementSet, GateView, Lease, PING_MS, PongFault, Position,
};
use crate::domain::entity::EntityCard;
use crate::domain::head::{PUBLIC_KEY_LEN, SignedHead};
use crate::domain::id::{BootId, Digest, EntityId, Epoch, Seq};
use crate::domain::time::Timestamp;

/// The shortest interval of pings that a server can ask for: more would be load, not safety.
const PING_MIN_MS: u32 = 100;
/// What this library calls itself, for who looks at the fleet.
const AGENT: &str = concat!("countersign-client/", env!("CARGO_PKG_VERSION"));
/// How it is joined to its gateway, if nobody says otherwise: linked into it.
const ADAPTER: &str = "library";
/// Cards asked for between an Open and its Welcome: they must fit into what may wait for the transport.
const UNSENT_MAX: usize = 128;
/// Sent Pings whose wall time is remembered; as many as the lease remembers.
const PINGS_MAX: usize = 8;

/// What a replica is made of.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// This run of the gateway.
    pub boot: BootId,
    /// What the gateway can promise.
    pub strength: Strength,
    /// The log key that signs heads: Ed25519.
    pub log_key: [u8; PUBLIC_KEY_LEN],
    /// What joins it to its gateway. Without one: `library`.
    pub adapter: Option<SoftwareName>,
}

/// What a message led to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Taken {
    /// To be sent, in this order. What they acknowledge is already published.
    pub send: Vec<FromGateway>,
    /// The server asks to connect again, not before and up to so much later (milliseconds).
    pub drain: Option<(u32, u32)>,
    /// The lease was extended.
    pub has_lease: bool,
    /// The connections to be looked at before anything is sent.
    pub touched: Touched,
    /// What the server lost and asks for.
    pub(super) gives_back: Option<Held>,
}

/// What a gateway holds of the record that a restored service lost a part of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    pub(super) position: Position,
    pub(super) signed_head: Bytes,
    pub(super) enforcement: Arc<EnforcementSet>,
}

/// A message that was refused. The lease is gone; the Nack is to be sent and the connection to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub Nack);

/// Where the connection stands.
#[derive(Debug)]
enum Link {
    /// There is none, or no Welcome yet.
    Opening,
    /// Welcomed, and what is held is not of this epoch: a snapshot must come.
    Empty(Epoch),
    /// A snapshot is arriving.
    Loading(Loading),
    /// Deltas follow.
    Live(Epoch),
}

#[derive(Debug)]
struct Loading {
    begin: SnapshotBegin,
    parts: u32,
    data: Vec<u8>,
}

/// The gateway's copy of what is enforced.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    published: Arc<Published>,
    view: Option<Arc<GateView>>,
    asked: BTreeSet<EntityId>,
    /// Asked for after the last Open and not sent yet.
    unsent: Vec<EntityId>,
    head: Option<(SignedHead, Bytes)>,
    /// The last one of the epoch of what is held, before the present connection.
    held_head: Option<Bytes>,
    lease: Lease,
    clock_offset_ms: i64,
    wall_minus_boot_ms: i64,
    link: Link,
    ping_ms: u32,
    last_ping_ms: Option<u64>,
    last_tick_ms: Option<u64>,
    ping_walls: VecDeque<(u64, Timestamp)>,
    /// What is held was kept by an earlier run, and no server has confirmed it yet.
    is_kept: bool,
}

type Refused = (NackCode, String);

fn gap(why: &str) -> Refused {
    (NackCode::Gap, why.to_owned())
}

fn undecodable(why: impl ToString) -> Refused {
    (NackCode::Undecodable, why.to_string())
}

fn rollback(why: String) -> Refused {
    (NackCode::Rollback, why)
}

impl Replica {
    /// Holds nothing yet, and publishes there.
    pub fn new(config: ReplicaConfig, published: Arc<Published>) -> Self {
        Self {
            config,
            published,
            view: None,
            asked: BTreeSet::new(),
            unsent: Vec::new(),
            head: None,
            held_head: None,
            lease: Lease::default(),
            clock_offset_ms: 0,
            wall_minus_boot_ms: 0,
            link: Link::Opening,
            ping_ms: PING_MS,
            last_ping_ms: None,
            last_tick_ms: None,
            ping_walls: VecDeque::new(),
            is_kept: false,
        }
    }

    /// Takes what an earlier run kept. There is no lease: nothing is permitted on it before the first Pong.
    ///
    /// # Errors
    /// It is not of the service whose log key this is, or its head does not cover it.
    pub fn resume(&mut self, kept: Kept) -> Result<(), String> {
        let head: SignedHead = from_bytes(&kept.signed_head).map_err(|error| error.to_string())?;
        head.verify(&self.config.log_key).map_err(|error| error.to_string())?;
        if head.epoch != kept.position.epoch || head.seq < kept.position.seq {
            return Err("its head does not cover it".to_owned());
        }
        let Kept { position, digest, signed_head, enforcement, asked } = kept;
        self.head = Some((head, Bytes::from(Vec::from(signed_head))));
        let enforcement = Arc::new(enforcement);
        self.view = Some(Arc::new(GateView { position, digest, enforcement, cards: imbl::OrdMap::new() }));
        self.asked = asked.into_iter().take(WANTS_MAX).collect();
        self.is_kept = true;
        self.publish();
        Ok(())
    }

    /// What is to be kept. Only what a signed head covers: so a server that lost some of it is behind that head as well,
    /// and is refused.
    pub(super) fn kept(&self) -> Option<Kept> {
        let (view, (head, bytes)) = (self.view.as_ref()?, self.head.as_ref()?);
        let is_covered = head.epoch == view.position.epoch && head.seq >= view.position.seq;
        is_covered.then(|| Kept {
            position: view.position,
            digest: view.digest,
            signed_head: bytes.to_vec().into(),
            enforcement: EnforcementSet::clone(&view.enforcement),
            asked: self.asked.iter().copied().collect(),
        })
    }

    /// The server says that what is held was never so. What an earlier run kept is dropped, and the head is not: a server
    /// that is behind it stays refused. True if there was something to drop.
    pub(super) fn drop_kept(&mut self) -> bool {
        if self.is_kept {
            (self.view, self.is_kept) = (None, false);
            self.publish();
            return true;
        }
        false
    }

    /// What is held.
    pub const fn view(&self) -> Option<&Arc<GateView>> {
        self.view.as_ref()
    }

    /// Begins a connection: the message to send first. An earlier connection is over; the lease stands until it ends.
    pub fn open(&mut self) -> Open {
        self.link = Link::Opening;
        self.last_ping_ms = None;
        self.unsent.clear();
        let revision = |entity: &EntityId| {
            let held = self.view.as_ref().and_then(|view| view.cards.get(entity)).and_then(Option::as_ref);
            HeldCard { entity: *entity, revision: held.map_or(Seq(0), |card| card.revision) }
        };
        Open {
            boot: self.config.boot,
            position: self.view.as_ref().map(|view| view.position).unwrap_or_default(),
            digest: self.view.as_ref().map(|view| view.digest).unwrap_or_default(),
            signed_head: self.head.as_ref().map(|(_, bytes)| bytes.clone()).unwrap_or_default(),
            versions: vec![u32::from(FORMAT_VERSION)],
            strength: self.config.strength,
            cards: self.asked.iter().map(revision).collect(),
            agent: AGENT.parse().ok(),
            adapter: self.config.adapter.clone().or_else(|| ADAPTER.parse().ok()),
        }
    }

    /// The connection is over: nothing is sent until the next [`Replica::open`].
    pub fn close(&mut self) {
        self.link = Link::Opening;
    }

    /// Asks for a card. Gives the message to send, unless it was asked for before or the list is full; without a
    /// connection the next Open carries it, and before the Welcome it is sent with what the Welcome leads to.
    pub fn want(&mut self, entity: EntityId) -> Option<FromGateway> {
        let is_opening = matches!(self.link, Link::Opening);
        // What does not fit is asked for by the next decision about it.
        let is_full = self.asked.len() >= WANTS_MAX || (is_opening && self.unsent.len() >= UNSENT_MAX);
        if is_full || !self.asked.insert(entity) {
            return None;
        }
        if is_opening {
            self.unsent.push(entity);
            return None;
        }
        Some(FromGateway::Want(entity))
    }

    /// To be called several times in each ping interval. Gives the Ping to send, when one is due. A stall of more than
    /// a ping interval since the last call ends the lease: nobody can say for how long this process stood still.
    pub fn tick(&mut self, boot_ms: u64, now: Timestamp) -> Option<FromGateway> {
        let stalled =
            self.last_tick_ms.is_some_and(|last| boot_ms.saturating_sub(last) > u64::from(self.ping_ms));
        self.last_tick_ms = Some(boot_ms);
        if stalled {
            self.lease.drop_lease();
            self.publish();
        }
        self.published.tick(boot_ms, self.ping_ms);
        let is_due = |last: u64| boot_ms.saturating_sub(last) >= u64::from(self.ping_ms);
        if !matches!(self.link, Link::Live(_)) || !self.last_ping_ms.is_none_or(is_due) {
            return None;
        }
        let applied = self.view.as_ref()?.position.seq;
        self.last_ping_ms = Some(boot_ms);
        let ping_id = self.lease.ping(boot_ms);
        if self.ping_walls.len() >= PINGS_MAX {
            self.ping_walls.pop_front();
        }
        self.ping_walls.push_back((ping_id, now));
        Some(FromGateway::Ping { ping_id, applied })
    }

    /// Takes a message of the server.
    ///
    /// # Errors
    /// It is refused: what is held stays, the lease ends.
    pub fn take(&mut self, message: ToGateway, boot_ms: u64, now: Timestamp) -> Result<Taken, Refusal> {
        let taken = match message {
            ToGateway::Welcome(welcome) => self.welcome(&welcome),
            ToGateway::Delta(delta) => self.delta(&delta),
            ToGateway::SnapshotBegin(begin) => self.snapshot_begin(begin),
            ToGateway::SnapshotPart(part) => self.snapshot_part(&part),
            ToGateway::SnapshotEnd { sha256, digest } => self.snapshot_end(sha256, digest),
            ToGateway::Pong(pong) => self.pong(&pong, boot_ms, now),
            ToGateway::Barrier { id, at: _ } => Ok(Taken { send: self.ack(Some(id)), ..Taken::default() }),
            ToGateway::Drain { reconnect_after_ms, jitter_ms } => {
                Ok(Taken { drain: Some((reconnect_after_ms, jitter_ms)), ..Taken::default() })
            }
        };
        taken.map_err(|(code, detail)| self.refuse(code, detail))
    }

    /// Refuses what arrived: also for what cannot be read as a message at all.
    pub fn refuse(&mut self, code: NackCode, detail: String) -> Refusal {
        self.lease.drop_lease();
        self.link = Link::Opening;
        self.publish();
        let applied = self.view.as_ref().map(|view| view.position.seq).unwrap_or_default();
        Refusal(Nack { applied, code, detail })
    }

    fn ack(&self, barrier: Option<u64>) -> Vec<FromGateway> {
        let applied = match (&self.link, &self.view) {
            (Link::Live(_), Some(view)) => view.position.seq,
            _ => return Vec::new(),
        };
        vec![FromGateway::Ack { applied, barrier }]
    }

    fn welcome(&mut self, welcome: &Welcome) -> Result<Taken, Refused> {
        if !matches!(self.link, Link::Opening) {
            return Err(undecodable("a second welcome"));
        }
        if let (Some(view), Some((head, bytes))) = (&self.view, &self.head)
            && head.epoch == view.position.epoch
        {
            self.held_head = Some(bytes.clone());
        }
        self.note_head(&welcome.signed_head, welcome.head.epoch)?;
        let held = self.view.as_ref().map(|view| view.position).unwrap_or_default();
        if welcome.head < held {
            return Err(rollback(format!(
                "the server is at record {} of epoch {}, behind record {} of epoch {}",
                welcome.head.seq, welcome.head.epoch, held.seq, held.epoch
            )));
        }
        if self.view.is_some() && held.epoch != welcome.head.epoch {
            // Whatever was leased was leased on another history.
            self.lease.drop_lease();
            self.publish();
        }
        self.is_kept = false;
        self.ping_ms = welcome.ping_ms.clamp(PING_MIN_MS, PING_MS);
        self.link = match self.view.is_some() && held.epoch == welcome.head.epoch {
            true => Link::Live(welcome.head.epoch),
            false => Link::Empty(welcome.head.epoch),
        };
        // What it holds it enforces: a resumed session with nothing new would otherwise never say so.
        let mut send = self.ack(None);
        send.extend(self.unsent.drain(..).map(FromGateway::Want));
        let gives_back = if welcome.wants_restrictions { self.held() } else { None };
        Ok(Taken { send, gives_back, ..Taken::default() })
    }

    fn held(&self) -> Option<Held> {
        // The last head of the history that is held, not the one that was just shown.
        let (view, signed_head) = (self.view.as_ref()?, self.held_head.clone()?);
        Some(Held { position: view.position, signed_head, enforcement: Arc::clone(&view.enforcement) })
    }

    fn delta(&mut self, delta: &Delta) -> Result<Taken, Refused> {
        let (Link::Live(_), Some(view)) = (&self.link, &self.view) else {
            return Err(gap("records before a snapshot"));
        };
        let held = view.position.seq;
        if Some(delta.from.0) != held.0.checked_add(1) || delta.to < held {
            return Err(gap("records are missing or repeated"));
        }
        let mut next = GateView::clone(view);
        let mut last = held;
        let mut touched = Touched::default();
        for record in &delta.records {
            if record.seq <= last || record.seq > delta.to {
                return Err(undecodable("records are out of order"));
            }
            last = record.seq;
            let decode = |bytes: &Bytes| from_bytes::<EnforcementEvent>(bytes);
            let events: Vec<_> =
                record.events.iter().map(decode).collect::<Result<_, _>>().map_err(undecodable)?;
            next.apply(record.seq, &events);
            events.iter().for_each(|event| touched.add_event(event));
        }
        for (entity, bytes) in &delta.cards {
            let card = read_card(*entity, bytes)?;
            // Cards that nobody asked for would make the list grow without bound.
            if self.asked.contains(entity) {
                next.take_card(*entity, card);
                touched.add(Key::Entity(*entity));
            }
        }
        next.position.seq = delta.to;
        self.view = Some(Arc::new(next));
        self.publish();
        Ok(Taken { send: self.ack(None), touched, ..Taken::default() })
    }

    fn snapshot_begin(&mut self, begin: SnapshotBegin) -> Result<Taken, Refused> {
        let (Link::Empty(epoch) | Link::Live(epoch)) = self.link else {
            return Err(undecodable("a snapshot out of place"));
        };
        if begin.position.epoch != epoch || begin.len > SNAPSHOT_LEN_MAX as u64 {
            return Err(undecodable("a snapshot of another epoch, or too long"));
        }
        if self.view.as_ref().is_some_and(|view| begin.position < view.position) {
            return Err(rollback(format!(
                "a snapshot of record {}, behind what is held",
                begin.position.seq
            )));
        }
        // What is compressed is shorter, and what the system gives costs nothing until it is written to.
        let data = Vec::with_capacity(usize::try_from(begin.len).unwrap_or_default());
        self.link = Link::Loading(Loading { begin, parts: 0, data });
        Ok(Taken::default())
    }

    fn snapshot_part(&mut self, part: &[u8]) -> Result<Taken, Refused> {
        let Link::Loading(loading) = &mut self.link else {
            return Err(undecodable("a part of no snapshot"));
        };
        loading.parts += 1;
        let is_long = loading.data.len() + part.len() > SNAPSHOT_LEN_MAX + SNAPSHOT_PART_LEN_MAX;
        if loading.parts > loading.begin.parts || is_long {
            return Err(undecodable("more of a snapshot than was announced"));
        }
        loading.data.extend_from_slice(part);
        Ok(Taken::default())
    }

    fn snapshot_end(&mut self, sha256: Digest, digest: Digest) -> Result<Taken, Refused> {
        let Link::Loading(loading) = &self.link else {
            return Err(undecodable("the end of no snapshot"));
        };
        let position = loading.begin.position;
        if loading.parts != loading.begin.parts {
            return Err(gap("parts of the snapshot are missing"));
        }
        let len = usize::try_from(loading.begin.len).unwrap_or(SNAPSHOT_LEN_MAX).min(SNAPSHOT_LEN_MAX);
        let whole = zstd::bulk::decompress(&loading.data, len).map_err(undecodable)?;
        if whole.len() != len || Digest::of(&whole) != sha256 {
            return Err((NackCode::Digest, "the snapshot does not have its hash".to_owned()));
        }
        let is_other = |view: &Arc<GateView>| view.position == position && view.digest != digest;
        if self.view.as_ref().is_some_and(is_other) {
            return Err(rollback(format!("another history up to record {}", position.seq)));
        }
        let enforcement: EnforcementSet = from_bytes(&whole).map_err(undecodable)?;
        let enforcement = Arc::new(enforcement);
        // Cards belong to a record: those of the view before do not fit to this one. They arrive anew.
        self.view = Some(Arc::new(GateView { position, digest, enforcement, cards: imbl::OrdMap::new() }));
        self.link = Link::Live(position.epoch);
        self.publish();
        Ok(Taken { send: self.ack(None), touched: Touched::All, ..Taken::default() })
    }

    fn pong(&mut self, pong: &Pong, boot_ms: u64, now: Timestamp) -> Result<Taken, Refused> {
        self.note_head(&pong.signed_head, pong.head.epoch)?;
        let Some((_, sent)) = self.ping_walls.iter().find(|(id, _)| *id == pong.ping_id).copied() else {
            return Ok(Taken::default());
        };
        self.ping_walls.retain(|(id, _)| *id > pong.ping_id);
        // The server read its clock between sending and arrival: half of the way is the best guess (RFC 5905).
        let between = sent.millis().midpoint(now.millis());
        self.clock_offset_ms = between.saturating_sub(pong.server_time.millis());
        self.wall_minus_boot_ms = wall_minus_boot_ms(boot_ms, now);
        let applied = self.view.as_ref().map(|view| view.position).unwrap_or_default();
        let extended = self.lease.pong(pong.ping_id, pong.head, applied, pong.lease_ms, self.clock_offset_ms);
        match extended {
            Ok(()) => {
                self.publish();
                Ok(Taken { has_lease: true, ..Taken::default() })
            }
            // It was dropped meanwhile, with the Pings that were under way.
            Err(PongFault::Unasked) => Ok(Taken::default()),
            Err(PongFault::Behind) => Err(gap("a lease for records that were not sent")),
        }
    }

    /// Believes a head only with the log key's signature, and never one that is behind the last.
    fn note_head(&mut self, bytes: &Bytes, epoch: Epoch) -> Result<(), Refused> {
        if self.head.as_ref().is_some_and(|(last, same)| same == bytes && last.epoch == epoch) {
            return Ok(());
        }
        let head: SignedHead = from_bytes(bytes).map_err(undecodable)?;
        head.verify(&self.config.log_key).map_err(undecodable)?;
        if head.epoch != epoch {
            return Err(undecodable("a signed head of another epoch"));
        }
        if let Some((last, _)) = &self.head {
            head.follows(last).map_err(|behind| rollback(behind.to_string()))?;
        }
        self.head = Some((head, bytes.clone()));
        Ok(())
    }

    fn publish(&self) {
        self.published.store(Standing {
            view: self.view.clone(),
            lease_until_ms: self.lease.until_ms(),
            head: self.head.as_ref().map(|(head, _)| head.seq).unwrap_or_default(),
            clock_offset_ms: self.clock_offset_ms,
            wall_minus_boot_ms: self.wall_minus_boot_ms,
        });
    }

    /// Up to which record it is, for people.
    pub fn position(&self) -> Position {
        self.view.as_ref().map(|view| view.position).unwrap_or_default()
    }
}

fn read_card(entity: EntityId, bytes: &[u8]) -> Result<Option<Arc<EntityCard>>, Refused> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let card: EntityCard = from_bytes(bytes).map_err(undecodable)?;
    if card.id != entity {
        return Err(undecodable("a card of another entity"));
    }
    Ok(Some(Arc::new(card)))
}
