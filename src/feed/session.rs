//! One connection of one gateway: a cursor into the shared log. What it sends next is computed from where the gateway
//! is and where the head is; there is no queue that could fill up.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;

use super::log::card;
use super::{Inner, OpenFault, Shared};
use crate::domain::enforce::message::{
    DELTA_LEN_MAX, Delta, FromGateway, Nack, Open, Pong, RecordEvents, ToGateway, WANTS_MAX, Welcome,
};
use crate::domain::enforce::{PING_MS, Pings, Position, SessionKey, Start, judge};
use crate::domain::id::{EntityId, PrincipalId, Seq};
use crate::domain::principal::Role;
use crate::domain::state::State;

/// Deltas and snapshots that may be sent and not acknowledged. A gateway that has more to do gets them merged later.
const UNACKED_MAX: usize = 8;
/// Where a Delta is cut, at the end of a batch: 1 MiB.
const DELTA_LEN: usize = 1 << 20;
/// Bytes of new cards in one Delta: 1 MiB.
const NEW_CARDS_LEN: usize = 1 << 20;
/// Changed cards that a resumption may need in one piece; with more it begins with a snapshot.
const OVERDUE_MAX: usize = 1_000;

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Closed {
    /// The same run of the gateway connected again.
    #[error("the gateway connected again")]
    Superseded,
    /// The gateway is no longer registered.
    #[error("the gateway is no longer registered")]
    Removed,
    /// The snapshot that it needs cannot be made.
    #[error("no snapshot can be made")]
    NoSnapshot,
}

/// What a gateway did that ends its session.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionFault {
    /// A second Open.
    #[error("the stream is already open")]
    OpenTwice,
    /// It acknowledged what it was not sent.
    #[error("record {0} was acknowledged and never sent")]
    AckAhead(Seq),
    /// It refused what it was sent, and will connect again.
    #[error("refused by the gateway: {}: {}", .0.code, .0.detail)]
    Refused(Nack),
    /// The session was over before.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// A card that the gateway asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// To be sent with the next Delta that reaches the head.
    New,
    /// Sent; changes follow.
    Sent,
}

/// One connection of one gateway. Dropping it ends it.
pub struct Session {
    shared: Arc<Shared>,
    news: watch::Receiver<u64>,
    moved: watch::Receiver<u64>,
    key: SessionKey,
    connection: u64,
    /// Sent up to here.
    cursor: Seq,
    /// Nothing between the cursor and here concerns this gateway.
    scanned: Seq,
    acked: Seq,
    needs_snapshot: bool,
    outbox: VecDeque<ToGateway>,
    /// Sent and not acknowledged, with when.
    unacked: VecDeque<(Seq, u64)>,
    wants: BTreeMap<EntityId, Want>,
    new_cards: VecDeque<EntityId>,
    /// Cards that the gateway holds and that changed before the log begins: part of the first Delta.
    overdue: Vec<EntityId>,
    pings: Pings,
    last_barrier: u64,
    is_drained: bool,
    /// The gateway said something that may be answered.
    is_told: bool,
}

impl Session {
    pub(super) fn open(shared: Arc<Shared>, gateway: PrincipalId, open: Open) -> Result<Self, OpenFault> {
        // Registered for news first, so that nothing published from here on is missed.
        let (news, moved) = (shared.news.subscribe(), shared.moved.subscribe());
        let committed = shared.heads.committed_head();
        let signed_head = shared.heads.signed_head();
        let lost = shared.lost_history(committed, &open.signed_head);
        let now_ms = shared.clock.boot_ms();
        let mut inner = shared.lock();
        let principal = inner.state.acting(&gateway).filter(|principal| principal.has(Role::Gateway));
        let Some(is_pausable) = principal.map(|principal| principal.is_pausable) else {
            return Err(OpenFault::NotAGateway(gateway));
        };
        if open.strength.pausable && !is_pausable {
            return Err(OpenFault::NotRegisteredPausable(gateway));
        }
        if let Some(lost) = lost {
            drop(inner);
            tracing::error!(gateway.id = %gateway, "history was lost: {lost}");
            shared.roll_back(&lost);
            return Err(OpenFault::RolledBack(lost));
        }
        let claim = (open.position, open.digest);
        let Ok(start) = judge(claim, inner.state.position, |seq| inner.log.digest_at(seq)) else {
            inner.counts.bad_claims += 1;
            return Err(OpenFault::BadClaim);
        };
        let holds = if start == Start::Resume { open.position.seq } else { Seq(0) };
        inner.forget(now_ms);
        let connection = inner.roster.enter(&gateway, &open, is_pausable, holds)?;
        inner.counts.opened += 1;
        let welcome = Welcome {
            head: inner.state.position,
            oldest: inner.log.floor(),
            ping_ms: PING_MS.min(inner.state.enforcement.lease_ms / 4),
            signed_head,
            wants_restrictions: inner.state.pending_restore().is_some_and(|r| !r.covers(open.position)),
        };
        let last_barrier = inner.barriers.keys().next().map_or(inner.next_barrier, |id| *id) - 1;
        let (state, floor) = (Arc::clone(&inner.state), inner.log.floor());
        let is_same_epoch = open.position.epoch == state.position.epoch;
        let cursor = if is_same_epoch { open.position.seq } else { Seq(0) };
        drop(inner);
        let mut session = Self {
            news,
            moved,
            key: (gateway, open.boot),
            connection,
            cursor,
            // Resumed from below the log: no event lies in between, and revisions tell which cards changed.
            scanned: cursor.max(floor),
            acked: Seq(0),
            needs_snapshot: start == Start::Snapshot,
            outbox: VecDeque::from([ToGateway::Welcome(welcome)]),
            unacked: VecDeque::new(),
            wants: BTreeMap::new(),
            new_cards: VecDeque::new(),
            overdue: Vec::new(),
            pings: Pings::default(),
            last_barrier,
            is_drained: false,
            is_told: true,
            shared,
        };
        session.take_claimed_cards(&open, &state, floor);
        if session.needs_snapshot {
            // Made here, where somebody may wait for it: the task of the stream only sends it.
            drop(session.shared.image(session.cursor));
        }
        Ok(session)
    }

    /// Cards that the gateway says it holds are current up to its claimed record, so the frames after it suffice, unless
    /// the log does not reach back that far: then revisions tell.
    fn take_claimed_cards(&mut self, open: &Open, state: &State, floor: Seq) {
        for held in &open.cards {
            let is_held = !self.needs_snapshot && held.revision != Seq(0);
            if !self.want(held.entity) || !is_held {
                continue;
            }
            self.wants.insert(held.entity, Want::Sent);
            self.new_cards.pop_back();
            let revision = state.entities.get(&held.entity).map(|entity| entity.card.revision);
            if open.position.seq < floor && revision != Some(held.revision) {
                self.overdue.push(held.entity);
            }
        }
        self.needs_snapshot |= self.overdue.len() > OVERDUE_MAX;
    }

    /// Says where the gateway connects from, for who looks at the fleet.
    pub fn came_from(&self, address: IpAddr) {
        let now = self.shared.clock.now();
        self.shared.lock().roster.came_from(&self.key, self.connection, (address.to_string(), now));
    }

    /// Takes a message of the gateway.
    ///
    /// # Errors
    /// Why the session is over.
    pub fn on(&mut self, message: FromGateway) -> Result<(), SessionFault> {
        match message {
            FromGateway::Open(_) => return Err(SessionFault::OpenTwice),
            FromGateway::Ack { applied, barrier: _ } => self.ack(applied)?,
            FromGateway::Nack(nack) => {
                let shared = Arc::clone(&self.shared);
                let mut inner = shared.lock();
                inner.counts.nacks += 1;
                let now = shared.clock.now();
                inner.roster.nack(&self.key, self.connection, nack.clone(), now);
                return Err(SessionFault::Refused(nack));
            }
            FromGateway::Ping { ping_id, applied: _ } => {
                // The head is read here, after the Ping arrived.
                self.pings.arrive(ping_id, self.shared.heads.committed_head());
                self.is_told = true;
            }
            FromGateway::Want(entity) => self.is_told |= self.want(entity),
        }
        Ok(())
    }

    /// True when the card is now asked for and was not before.
    fn want(&mut self, entity: EntityId) -> bool {
        if self.wants.contains_key(&entity) || self.wants.len() >= WANTS_MAX || !self.shared.take_wants(1) {
            return false;
        }
        self.wants.insert(entity, Want::New);
        self.new_cards.push_back(entity);
        true
    }

    fn ack(&mut self, applied: Seq) -> Result<(), SessionFault> {
        if self.needs_snapshot {
            // Of what it held before: the snapshot makes it void.
            return Ok(());
        }
        if applied > self.cursor {
            return Err(SessionFault::AckAhead(applied));
        }
        self.acked = self.acked.max(applied);
        // There may be room for what waits.
        self.is_told |= self.unacked.len() >= UNACKED_MAX;
        while self.unacked.front().is_some_and(|(seq, _)| *seq <= applied) {
            self.unacked.pop_front();
        }
        let shared = Arc::clone(&self.shared);
        let mut inner = shared.lock();
        if !inner.roster.ack(&self.key, self.connection, applied) {
            return Err(Closed::Superseded.into());
        }
        inner.roster.note_drill(&self.key, shared.clock.boot_ms());
        drop(inner);
        shared.wake_barriers();
        Ok(())
    }

    /// Waits until there may be a message. Can be dropped and called again without loss.
    pub async fn changed(&mut self) {
        if self.is_told {
            return;
        }
        // The senders live in `shared`, so the channels are never closed.
        tokio::select! {
            _ = self.news.changed() => {}
            _ = self.moved.changed(), if !self.pings.is_empty() => {}
        }
    }

    /// The next message, if there is one now.
    ///
    /// # Errors
    /// The session is over.
    pub fn poll(&mut self) -> Result<Option<ToGateway>, Closed> {
        self.news.borrow_and_update();
        self.moved.borrow_and_update();
        let message = self.look()?;
        // Behind this one there may be another.
        self.is_told = message.is_some();
        Ok(message)
    }

    fn look(&mut self) -> Result<Option<ToGateway>, Closed> {
        // Several rounds, for a log that ran ahead asks for a snapshot and only the next round begins it.
        for _ in 0..2 {
            if let Some(message) = self.outbox.pop_front() {
                return Ok(Some(message));
            }
            // Until a restore is acknowledged gateways keep what they hold: it may be all there is of what was lost.
            if self.needs_snapshot && self.shared.lock().state.pending_restore().is_none() {
                self.begin_snapshot()?;
                continue;
            }
            if let Some(message) = self.tail()? {
                return Ok(Some(message));
            }
            if !self.needs_snapshot {
                return Ok(None);
            }
        }
        Ok(self.outbox.pop_front())
    }

    /// Is a snapshot shorter than what there is to send?
    fn is_far_behind(&self, backlog: u64) -> bool {
        self.shared.image(self.cursor).is_some_and(|image| image.sent_len() < backlog)
    }

    fn begin_snapshot(&mut self) -> Result<(), Closed> {
        let image = self.shared.image(self.cursor).ok_or(Closed::NoSnapshot)?;
        self.outbox.extend(image.messages());
        self.needs_snapshot = false;
        self.cursor = image.position.seq;
        self.scanned = self.cursor;
        self.unacked.push_back((self.cursor, self.shared.clock.boot_ms()));
        // A gateway empties its cards with a snapshot.
        self.overdue.clear();
        self.new_cards = self.wants.keys().copied().collect();
        self.wants.values_mut().for_each(|want| *want = Want::New);
        self.shared.lock().counts.snapshots += 1;
        Ok(())
    }

    fn tail(&mut self) -> Result<Option<ToGateway>, Closed> {
        let shared = Arc::clone(&self.shared);
        let signed_head = (!self.pings.is_empty()).then(|| shared.heads.signed_head());
        let now_ms = shared.clock.boot_ms();
        let mut inner = shared.lock();
        if !inner.roster.is_present(&self.key, self.connection) {
            return Err(Closed::Superseded);
        }
        if !inner.state.acting(&self.key.0).is_some_and(|p| p.has(Role::Gateway)) {
            return Err(Closed::Removed);
        }
        if inner.state.pending_restore().is_some() {
            inner.counts.refused_pings += self.pings.refuse();
            return Ok(None);
        }
        if self.unacked.len() < UNACKED_MAX {
            let backlog = inner.log.len_after(self.scanned);
            if backlog > DELTA_LEN as u64 {
                // To make one takes time.
                drop(inner);
                self.needs_snapshot = self.is_far_behind(backlog);
                if self.needs_snapshot {
                    return Ok(None);
                }
                inner = shared.lock();
            }
            if let Some(delta) = self.delta(&inner) {
                if delta.to > self.acked {
                    self.unacked.push_back((delta.to, now_ms));
                }
                return Ok(Some(ToGateway::Delta(delta)));
            }
            if self.needs_snapshot {
                return Ok(None);
            }
        }
        if let Some((id, at)) = self.barrier(&inner) {
            return Ok(Some(ToGateway::Barrier { id, at }));
        }
        if let Some(signed_head) = signed_head
            && let Some(pong) = self.pong(&mut inner, signed_head, now_ms)
        {
            return Ok(Some(ToGateway::Pong(pong)));
        }
        let drain = inner.drain.filter(|_| !self.is_drained);
        self.is_drained |= drain.is_some();
        Ok(drain.map(|(reconnect_after_ms, jitter_ms)| ToGateway::Drain { reconnect_after_ms, jitter_ms }))
    }

    /// Everything between the cursor and the head that concerns this gateway, or as much of it as one message holds.
    /// Sets `needs_snapshot` when it must be one.
    fn delta(&mut self, inner: &Inner) -> Option<Delta> {
        if self.scanned < inner.log.floor() {
            self.needs_snapshot = true;
            return None;
        }
        let gathered = self.gather(inner);
        if gathered.is_too_long {
            self.needs_snapshot = true;
            return None;
        }
        let asked_for = |at: &Seq| *at > self.cursor;
        let is_asked = self.pings.heads().any(|head| asked_for(&head.seq))
            || inner.barriers.range(self.last_barrier + 1..).any(|(_, at)| asked_for(at));
        let has_cards = !self.overdue.is_empty() || !self.new_cards.is_empty();
        let can_move = gathered.to > self.cursor;
        let is_news = !gathered.records.is_empty() || !gathered.cards.is_empty() || has_cards;
        if !(is_news || is_asked && can_move) {
            self.scanned = gathered.to;
            return None;
        }
        let mut cards = gathered.cards;
        if gathered.to == inner.state.position.seq {
            self.add_cards(&inner.state, &mut cards);
        }
        let from = self.cursor.next();
        self.cursor = gathered.to;
        self.scanned = gathered.to;
        Some(Delta { from, to: gathered.to, records: gathered.records, cards: cards.into_iter().collect() })
    }

    fn gather(&self, inner: &Inner) -> Gathered {
        let head = inner.state.position.seq;
        let mut gathered = Gathered::default();
        let (mut len, mut batch_end) = (0, Seq(0));
        for frame in inner.log.after(self.scanned) {
            // With overdue cards it must reach the head in one piece, for they are as of the head.
            if len > DELTA_LEN && frame.batch_end != batch_end && self.overdue.is_empty() {
                gathered.to = batch_end;
                return gathered;
            }
            batch_end = frame.batch_end;
            if !frame.events.is_empty() {
                len += frame.events.iter().map(Bytes::len).sum::<usize>();
                let events = Arc::clone(&frame.events);
                gathered.records.push(RecordEvents { seq: frame.seq, events });
            }
            for (id, card) in &frame.cards {
                if self.wants.get(id) == Some(&Want::Sent) {
                    len += card.len();
                    gathered.cards.insert(*id, card.clone());
                }
            }
            if len > DELTA_LEN_MAX {
                gathered.is_too_long = true;
                return gathered;
            }
        }
        gathered.to = head;
        gathered
    }

    /// Cards as of the head.
    fn add_cards(&mut self, state: &State, cards: &mut BTreeMap<EntityId, Bytes>) {
        for id in self.overdue.drain(..) {
            cards.insert(id, card(state, id));
        }
        let mut len = 0;
        while len < NEW_CARDS_LEN {
            let Some(id) = self.new_cards.pop_front() else { return };
            let card = card(state, id);
            // What an identifier costs in a message.
            len += card.len() + 40;
            cards.insert(id, card);
            self.wants.insert(id, Want::Sent);
        }
    }

    /// The next barrier that the gateway has been sent the record of and has not acknowledged.
    fn barrier(&mut self, inner: &Inner) -> Option<(u64, Seq)> {
        for (id, at) in inner.barriers.range(self.last_barrier + 1..) {
            if *at > self.cursor {
                return None;
            }
            self.last_barrier = *id;
            if *at > self.acked {
                return Some((*id, *at));
            }
        }
        None
    }

    /// The Pong of the last Ping whose head has been sent. A gateway that is alive and does not apply what it gets is
    /// given none, so that its lease ends.
    fn pong(&mut self, inner: &mut Inner, signed_head: Bytes, now_ms: u64) -> Option<Pong> {
        let lease_ms = inner.state.enforcement.lease_ms;
        let late = |(_, sent): &(Seq, u64)| now_ms >= sent + u64::from(lease_ms / 2);
        if !inner.grants() || self.unacked.front().is_some_and(late) {
            inner.counts.refused_pings += self.pings.refuse();
            return None;
        }
        // A Pong never overtakes a record, even one that its Ping came before: a barrier that counts this gateway as
        // closed may have ended meanwhile.
        if self.scanned < inner.state.position.seq {
            return None;
        }
        let sent = Position { epoch: inner.state.position.epoch, seq: self.cursor };
        let (ping_id, head) = self.pings.answer(sent)?;
        if !inner.roster.pong(&self.key, self.connection, now_ms) {
            return None;
        }
        inner.counts.pongs += 1;
        let server_time = self.shared.clock.now();
        Some(Pong { ping_id, head, lease_ms, server_time, signed_head })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.give_wants(self.wants.len());
        self.shared.lock().roster.leave(&self.key, self.connection);
        self.shared.wake_barriers();
    }
}

#[derive(Debug, Default)]
struct Gathered {
    records: Vec<RecordEvents>,
    cards: BTreeMap<EntityId, Bytes>,
    to: Seq,
    is_too_long: bool,
}
