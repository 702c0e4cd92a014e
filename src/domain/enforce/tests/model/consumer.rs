//! Consumers that are pushed trust sets: what they check handshakes with runs out by their own wall clock, which is within a
//! second of the server's and whole seconds for them.
//!
//! What is shipped is what runs here: [`list_until`] and the [`Roster`](crate::domain::enforce::Roster) with its barrier.
//! The streams are the model's, and a server signs when it likes.

use std::collections::VecDeque;

use super::setup::{Broken, Setup};
use super::world::{REVOCATION, World, at, boot};
use crate::domain::enforce::message::Strength;
use crate::domain::enforce::{About, CLOCK_OFFSET_MAX_MS, Claim, SessionKey, list_until};
use crate::domain::id::Seq;
use crate::domain::time::Timestamp;

/// Where the wall clock stands at first: at the beginning of a second, where rounding down takes nothing from a list.
const WALL_MS: i64 = 1_782_561_600_000;

/// A signed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Set {
    claim: Claim,
    until: Timestamp,
    signed_ms: u64,
}

/// A stream, and the server's end of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stream {
    key: SessionKey,
    connection: u64,
    is_cut: bool,
    is_orphan: bool,
    sent: Option<Set>,
    acked: Option<Set>,
    up: VecDeque<Set>,
    down: VecDeque<Set>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Consumer {
    streams: u8,
    /// How far its wall clock is from the server's.
    offset_ms: i64,
    pub(super) set: Option<Set>,
    stream: Option<Stream>,
}

impl Consumer {
    pub(super) const fn new(is_ahead: bool) -> Self {
        let offset_ms = if is_ahead { CLOCK_OFFSET_MAX_MS } else { -CLOCK_OFFSET_MAX_MS };
        Self { streams: 0, offset_ms, set: None, stream: None }
    }

    fn open(&mut self) -> Option<&mut Stream> {
        self.stream.as_mut().filter(|stream| !stream.is_cut)
    }

    fn session(&mut self) -> Option<&mut Stream> {
        self.stream.as_mut().filter(|stream| !stream.is_orphan)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.is_cut && !stream.is_orphan)
    }

    pub(super) fn is_cut(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.is_cut)
    }

    pub(super) fn has_up(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.is_orphan && !stream.up.is_empty())
    }

    pub(super) fn has_down(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.is_cut && !stream.down.is_empty())
    }

    /// Has it not been sent this set?
    pub(super) fn lacks(&self, set: Option<Set>) -> bool {
        set.is_some() && self.stream.as_ref().is_some_and(|stream| !stream.is_orphan && stream.sent != set)
    }

    pub(super) fn orphan(&mut self) {
        self.stream.take_if(|stream| stream.is_cut);
        if let Some(stream) = &mut self.stream {
            stream.is_orphan = true;
            stream.up.clear();
        }
    }
}

impl World {
    fn wall(&self, offset_ms: i64) -> Timestamp {
        Timestamp::from_millis(WALL_MS + offset_ms + i64::try_from(self.now_us / 1_000).unwrap())
    }

    /// Does a consumer let somebody in whom the revocation keeps out?
    pub(super) fn lets_in_without(
        &self,
        consumer: &Consumer,
        revocation: (crate::domain::enforce::Position, u8),
    ) -> bool {
        let Some(set) = consumer.set else { return false };
        let place = usize::try_from(revocation.0.seq.0).unwrap() - 1;
        set.claim.1.0[place] != revocation.1 && self.wall(consumer.offset_ms) < set.until
    }

    /// The last record that changed something for gateways.
    fn changed(&self) -> Seq {
        let Some(server) = &self.server else { return Seq(0) };
        let len = usize::try_from(server.published.seq.0).unwrap();
        let last = self.journal[..len].iter().rposition(|byte| byte % 4 == REVOCATION);
        at(last.map_or(0, |place| place + 1)).seq
    }

    /// The server signs the set of now.
    pub(super) fn sign_set(&mut self, setup: &Setup) -> bool {
        let (signed_ms, wall) = (self.server_ms(), self.wall(0));
        let Some(published) = self.server.as_ref().map(|server| server.published) else { return false };
        let lease_ms = self.lease_ms(setup, published);
        let until = match setup.broken {
            Some(Broken::ListOutlivesLease) => {
                Some(Timestamp::from_millis((wall.plus_ms(i64::from(lease_ms)).seconds() + 1) * 1_000))
            }
            _ => list_until(wall, lease_ms),
        };
        let (Some(until), claim) = (until, self.claim(published)) else { return false };
        let Some(server) = &mut self.server else { return false };
        if server.is_rolled_back {
            return false;
        }
        server.set = Some(Set { claim, until, signed_ms });
        true
    }

    /// A consumer connects: each stream is a session of its own.
    pub(super) fn connect_consumer(&mut self, setup: &Setup, n: usize) {
        self.server_notices_consumer(setup, n);
        let now_ms = self.server_ms();
        let Some(server) = &mut self.server else { return };
        let consumer = &mut self.consumers[n];
        let is_replaced = setup.broken == Some(Broken::StreamTakesRow);
        consumer.streams += 1;
        let run = if is_replaced { boot(9, 0) } else { boot(n + 5, consumer.streams) };
        let key = ("consumer".parse().unwrap(), run);
        let strength = Strength { per_request: true, ..Strength::default() };
        let about = About { agent: None, adapter: None, strength, from: None };
        server.roster.forget(now_ms, true);
        let connection = server.roster.enter_pushed(key.clone(), about).unwrap();
        let (up, down) = (VecDeque::new(), VecDeque::new());
        consumer.stream = Some(Stream {
            key,
            connection,
            is_cut: false,
            is_orphan: false,
            sent: None,
            acked: None,
            up,
            down,
        });
    }

    pub(super) fn cut_consumer(&mut self, n: usize) {
        let stream = &mut self.consumers[n].stream;
        stream.take_if(|stream| stream.is_orphan);
        if let Some(stream) = stream {
            stream.is_cut = true;
            stream.down.clear();
        }
    }

    pub(super) fn server_notices_consumer(&mut self, setup: &Setup, n: usize) {
        let now_ms = self.server_ms();
        let (Some(stream), Some(server)) = (self.consumers[n].stream.take(), &mut self.server) else {
            return;
        };
        if !stream.is_orphan {
            server.roster.leave(&stream.key, stream.connection);
        }
        if setup.broken == Some(Broken::ForgetsWhoLeft) {
            server.roster.forget(u64::MAX, true);
        }
        server.roster.forget(now_ms, true);
    }

    /// Sends the signed set; false when it may not be sent.
    pub(super) fn push_set(&mut self, setup: &Setup, n: usize) -> bool {
        let changed = if setup.broken == Some(Broken::SetOvertaken) { Seq(0) } else { self.changed() };
        let (Some(stream), Some(server)) = (self.consumers[n].session(), &mut self.server) else {
            return false;
        };
        let Some(set) = server.set.filter(|_| !server.is_rolled_back) else { return false };
        let session = (&stream.key, stream.connection);
        if !server.roster.push(session, (set.claim.0.seq, set.signed_ms), changed) {
            return false;
        }
        stream.sent = Some(set);
        if setup.broken == Some(Broken::AckOnReceipt) {
            server.roster.ack(&stream.key, stream.connection, set.claim.0.seq);
        }
        if !stream.is_cut {
            stream.down.push_back(set);
        }
        true
    }

    pub(super) fn consumer_takes(&mut self, n: usize) {
        let consumer = &mut self.consumers[n];
        let Some(set) = consumer.open().and_then(|stream| stream.down.pop_front()) else { return };
        consumer.set = Some(set);
        if let Some(stream) = consumer.open().filter(|stream| !stream.is_orphan) {
            stream.up.push_back(set);
        }
    }

    pub(super) fn server_takes_of_consumer(&mut self, n: usize) {
        let Some(stream) = self.consumers[n].session() else { return };
        stream.acked = stream.up.pop_front().or(stream.acked);
        self.confirm(n);
    }

    /// What was acknowledged says the same as of now: it is acknowledged up to now, and nothing is sent.
    pub(super) fn confirm(&mut self, n: usize) {
        let changed = self.changed();
        let (Some(stream), Some(server)) = (self.consumers[n].session(), &mut self.server) else { return };
        let Some(acked) = stream.acked.map(|set| set.claim.0.seq) else { return };
        let seq = if acked >= changed { server.published.seq.max(acked) } else { acked };
        server.roster.ack(&stream.key, stream.connection, seq);
    }
}
