//! The view that a decision is made on: the server's State, or a gateway's projection of it.

use std::sync::Arc;

use imbl::OrdMap;
use minicbor::{Decode, Encode};

use super::event::EnforcementEvent;
use super::set::EnforcementSet;
use crate::domain::codec::to_bytes;
use crate::domain::entity::EntityCard;
use crate::domain::id::{Digest, EntityId, Epoch, LicenseId, ModelId, PurposeId, Seq, SubjectId};
use crate::domain::policy::Place;
use crate::domain::subject::Subject;
use crate::domain::time::Now;

/// Names a state of the world, with the journal's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Position {
    /// The epoch.
    #[n(0)]
    pub epoch: Epoch,
    /// The last record.
    #[n(1)]
    pub seq: Seq,
}

/// What a view knows of an entity.
#[derive(Debug, Clone, Copy)]
pub enum CardLookup<'a> {
    /// Its card.
    Known(&'a EntityCard),
    /// There is no such entity.
    Absent,
    /// A gateway that does not hold the card yet.
    NotHere,
}

/// What a view knows of a subject.
#[derive(Debug, Clone, Copy)]
pub enum SubjectLookup<'a> {
    /// The record.
    Known(&'a Subject),
    /// There is no such subject.
    Absent,
    /// A gateway: the certificate's facts hold, for a cut-off says when they end.
    ByCertificate,
}

/// What a decision reads.
pub trait View {
    /// Which state of the world this is.
    fn position(&self) -> Position;
    /// What is enforced everywhere.
    fn enforcement(&self) -> &EnforcementSet;
    /// The card of an entity.
    fn card(&self, entity: EntityId) -> CardLookup<'_>;
    /// The record of a subject.
    fn subject(&self, subject: SubjectId) -> SubjectLookup<'_>;
    /// A licence of the entity that covers the use; a gateway knows none.
    fn license(
        &self,
        entity: EntityId,
        subject: SubjectId,
        family: &[ModelId],
        place: Place,
        purpose: Option<&PurposeId>,
        now: Now,
    ) -> Option<&LicenseId>;
}

/// The digest of the global enforcement events so far: a hash chain, the same at every gateway.
pub(crate) fn chain(digest: Digest, seq: Seq, event: &EnforcementEvent) -> Digest {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(&digest.0);
    bytes.extend_from_slice(&seq.0.to_be_bytes());
    bytes.extend_from_slice(&to_bytes(event));
    Digest::of(&bytes)
}

/// What a gateway holds: a projection of State on which it runs the same [`decide`](super::decide()).
#[derive(Debug, Clone)]
pub struct GateView {
    /// Up to which record the view is complete.
    pub position: Position,
    /// The digest of the global events up to there.
    pub digest: Digest,
    /// What is enforced everywhere.
    pub enforcement: Arc<EnforcementSet>,
    /// The cards that the gateway asked for.
    pub cards: OrdMap<EntityId, Option<Arc<EntityCard>>>,
}

impl GateView {
    /// Applies the global events of one record, in order.
    pub fn apply(&mut self, seq: Seq, events: &[EnforcementEvent]) {
        let set = Arc::make_mut(&mut self.enforcement);
        for event in events {
            set.apply(event);
            self.digest = chain(self.digest, seq, event);
        }
    }

    /// Takes a card, or the fact that there is none. An older revision than the one held is ignored.
    pub fn take_card(&mut self, entity: EntityId, card: Option<Arc<EntityCard>>) {
        let held = self.cards.get(&entity).and_then(Option::as_ref).map(|card| card.revision);
        if card.as_ref().map(|card| card.revision) >= held {
            self.cards.insert(entity, card);
        }
    }
}

impl View for GateView {
    fn position(&self) -> Position {
        self.position
    }

    fn enforcement(&self) -> &EnforcementSet {
        &self.enforcement
    }

    fn card(&self, entity: EntityId) -> CardLookup<'_> {
        match self.cards.get(&entity) {
            Some(Some(card)) => CardLookup::Known(card),
            Some(None) => CardLookup::Absent,
            None => CardLookup::NotHere,
        }
    }

    fn subject(&self, _: SubjectId) -> SubjectLookup<'_> {
        SubjectLookup::ByCertificate
    }

    fn license(
        &self,
        _: EntityId,
        _: SubjectId,
        _: &[ModelId],
        _: Place,
        _: Option<&PurposeId>,
        _: Now,
    ) -> Option<&LicenseId> {
        None
    }
}
