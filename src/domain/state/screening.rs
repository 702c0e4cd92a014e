//! What records of screening do to State: the entity's card says the worst of what is known, and travels to gateways.

use std::sync::Arc;

use super::State;
use super::apply::Applied;
use crate::domain::command::{Command, ObjectRef};
use crate::domain::entity::Screening;
use crate::domain::event::Event;
use crate::domain::id::{EntityId, Seq};
use crate::domain::screening::{EntityScreening, Resolution, Run};
use crate::domain::time::Timestamp;

impl State {
    /// What is known of an entity's screening. Records from before lists were imported left only the card.
    pub fn screening_of(&self, id: EntityId) -> EntityScreening {
        let by_hand = || self.entities.get(&id).and_then(|entity| entity.card.screening.clone());
        let row = self.screenings.get(&id).map(|row| row.as_ref().clone());
        row.unwrap_or_else(|| EntityScreening { by_hand: by_hand(), ..Default::default() })
    }

    pub(super) fn record_screening(
        &mut self,
        seq: Seq,
        id: EntityId,
        screening: &Screening,
    ) -> Result<Applied, String> {
        self.touch(ObjectRef::Entity(id), seq);
        self.change_screening(seq, id, |held| {
            held.by_hand = Some(screening.clone());
            Ok(())
        })
    }

    /// An entity was compared with the newest list.
    pub(super) fn screen(&mut self, seq: Seq, event: &Event) -> Result<Applied, String> {
        let Event::EntityScreened { entity, query, found, more, .. } = event else {
            return Err("it is no comparison".to_owned());
        };
        let list = self.screening_list.clone().ok_or("there is no list")?;
        self.change_screening(seq, *entity, |held| {
            held.take_run(Run { list, query: *query, more: *more }, found);
            Ok(())
        })
    }

    pub(super) fn resolve_match(
        &mut self,
        seq: Seq,
        time: Timestamp,
        command: &Command,
    ) -> Result<Applied, String> {
        let Command::ResolveScreeningMatch { entity, entry, verdict, reason, .. } = command else {
            return Err("it resolves no match".to_owned());
        };
        let (verdict, reason) = (*verdict, reason.clone());
        let resolution = Resolution { verdict, reason, at: time, record: seq };
        self.change_screening(seq, *entity, |held| held.resolve(*entry, resolution))
    }

    /// Changes what is known, and the card with it. A daily list that brings nothing new is no reason for what waits for a
    /// second officer to lapse, so the entity counts as changed only when the result is another one.
    fn change_screening(
        &mut self,
        seq: Seq,
        id: EntityId,
        change: impl FnOnce(&mut EntityScreening) -> Result<(), String>,
    ) -> Result<Applied, String> {
        let mut held = self.screening_of(id);
        let matches = held.matches.clone();
        change(&mut held)?;
        let entity = Arc::make_mut(self.entities.get_mut(&id).ok_or("no such entity")?);
        let before = entity.card.screening.take().map(|screening| screening.result);
        entity.card.screening = held.summary();
        entity.card.revision = seq;
        let after = entity.card.screening.as_ref().map(|screening| screening.result);
        if before != after {
            self.touch(ObjectRef::Entity(id), seq);
        }
        if matches != held.matches {
            self.touch(ObjectRef::Screening(id), seq);
        }
        self.screenings.insert(id, Arc::new(held));
        Ok(Applied::card(id))
    }
}
