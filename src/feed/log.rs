//! The retained log: one frame for each record that changed something for gateways, encoded once and shared by all
//! sessions. Sessions that fall behind it get a snapshot.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::PublishedRecord;
use crate::domain::codec::to_bytes;
use crate::domain::enforce::chain;
use crate::domain::id::{Digest, EntityId, Seq};
use crate::domain::state::State;

/// The most frames that are retained: a day of twelve records a second.
const FRAMES_MAX: usize = 1_000_000;
/// The most bytes of events and cards that are retained: 64 MiB.
const FRAMES_LEN_MAX: u64 = 64 << 20;
/// How long a frame is retained: 24 h, longer than any maintenance of a gateway.
const FRAME_AGE_MAX_MS: u64 = 86_400_000;
/// What a frame costs beside its bytes, for the bound above.
const FRAME_OVERHEAD: u64 = 160;

/// One record that changed something for gateways.
#[derive(Debug)]
pub(super) struct Frame {
    /// Which record.
    pub(super) seq: Seq,
    /// Its events, encoded.
    pub(super) events: Arc<[Bytes]>,
    /// Cards that it changed, as of the end of its batch; empty: there is no such entity.
    pub(super) cards: Vec<(EntityId, Bytes)>,
    /// The last record of its batch. Deltas end there, so that cards and events fit together.
    pub(super) batch_end: Seq,
    /// The digest after it.
    digest: Digest,
    /// Bytes of all frames up to and including it, since the start.
    total: u64,
    at_ms: u64,
}

/// The frames, oldest first.
#[derive(Debug)]
pub(super) struct Log {
    frames: VecDeque<Arc<Frame>>,
    /// Every frame after this record is here.
    floor: Seq,
    /// The digest is known from this record on, and it is this one there.
    base: (Seq, Digest),
    /// Bytes of all frames since the start, and of those that were dropped.
    total: u64,
    dropped: u64,
}

impl Log {
    /// No frames yet. The digest is known since the last record with an event, but which cards changed since is not.
    pub(super) fn new(state: &State) -> Self {
        Self {
            frames: VecDeque::new(),
            floor: state.position.seq,
            base: (state.feed_seq, state.feed_digest),
            total: 0,
            dropped: 0,
        }
    }

    /// Every frame after this record is retained.
    pub(super) const fn floor(&self) -> Seq {
        self.floor
    }

    /// Adds the frames of one batch. False when the records do not lead to the state.
    pub(super) fn push(&mut self, state: &State, records: Vec<PublishedRecord>, at_ms: u64) -> bool {
        let mut digest = self.digest();
        let mut last = self.frames.back().map_or(self.floor, |frame| frame.seq);
        let mut fits = true;
        let batch_end = state.position.seq;
        for record in records {
            fits &= record.seq > last && record.seq <= batch_end;
            last = record.seq;
            if record.events.is_empty() && record.cards.is_empty() {
                continue;
            }
            digest = record.events.iter().fold(digest, |digest, event| chain(digest, record.seq, event));
            let events: Arc<[Bytes]> =
                record.events.iter().map(|event| Bytes::from(to_bytes(event))).collect();
            let cards: Vec<_> = record.cards.iter().map(|id| (*id, card(state, *id))).collect();
            let len: usize = events.iter().map(Bytes::len).sum::<usize>()
                + cards.iter().map(|(_, card)| card.len()).sum::<usize>();
            self.total += len as u64 + FRAME_OVERHEAD;
            let frame = Frame { seq: record.seq, events, cards, batch_end, digest, total: self.total, at_ms };
            self.frames.push_back(Arc::new(frame));
        }
        self.trim(at_ms);
        fits && digest == state.feed_digest
    }

    fn trim(&mut self, now_ms: u64) {
        while let Some(oldest) = self.frames.front() {
            let is_old = oldest.at_ms.saturating_add(FRAME_AGE_MAX_MS) < now_ms;
            let is_over = self.frames.len() > FRAMES_MAX || self.total - self.dropped > FRAMES_LEN_MAX;
            if !is_old && !is_over {
                return;
            }
            self.floor = oldest.seq;
            self.base = (oldest.seq, oldest.digest);
            self.dropped = oldest.total;
            self.frames.pop_front();
        }
    }

    fn digest(&self) -> Digest {
        self.frames.back().map_or(self.base.1, |frame| frame.digest)
    }

    /// The digest at a record, if it is known.
    pub(super) fn digest_at(&self, seq: Seq) -> Option<Digest> {
        match self.place_after(seq).checked_sub(1).and_then(|place| self.frames.get(place)) {
            Some(frame) => Some(frame.digest),
            None => (seq >= self.base.0).then_some(self.base.1),
        }
    }

    /// Frames after a record.
    pub(super) fn after(&self, seq: Seq) -> impl Iterator<Item = &Arc<Frame>> {
        self.frames.range(self.place_after(seq)..)
    }

    /// Bytes of the frames after a record.
    pub(super) fn len_after(&self, seq: Seq) -> u64 {
        let before = self.place_after(seq).checked_sub(1).and_then(|place| self.frames.get(place));
        self.total - before.map_or(self.dropped, |frame| frame.total)
    }

    fn place_after(&self, seq: Seq) -> usize {
        self.frames.partition_point(|frame| frame.seq <= seq)
    }
}

/// The card of an entity as it is sent.
pub(super) fn card(state: &State, id: EntityId) -> Bytes {
    state.entities.get(&id).map_or_else(Bytes::new, |entity| Bytes::from(to_bytes(&entity.card)))
}
