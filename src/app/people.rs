//! Many people at once: what a partner or a registrar brings in a list.
//!
//! A row is known by its entity and the entity's own reference, or by the subject that it became, so whoever brings a list
//! again changes nothing. Rows are nominations and attestations like those that come one by one: they grant nothing until
//! a vetter has decided.

use std::collections::HashSet;

use super::engine::Committed;
use super::error::Error;
use super::{App, Caller, Mode};
use crate::domain::enforce::Position;
use crate::domain::event::{Entry, Event};
use crate::domain::flow::{admit, check_acts_for, own_subject};
use crate::domain::id::{Digest, EntityId, PersonId, SubjectId};
use crate::domain::person::Relation;
use crate::domain::state::State;
use crate::domain::subject::{Employment, Subject, SubjectBody, is_reference, reference_digest};
use crate::domain::time::Timestamp;

/// Rows of one batch, which become one group of the journal: some 150 KiB of records.
pub const PEOPLE_MAX: usize = 1_000;

/// By what a row is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// What its entity calls the person.
    Reference(String),
    /// The subject that the person became.
    Subject(SubjectId),
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonRow {
    /// Whose.
    pub entity: EntityId,
    /// Who.
    pub known: Known,
    /// As the entity attests.
    pub relation: Relation,
    /// Until when.
    pub until: Option<Timestamp>,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Nominated now; when only checked, nobody yet.
    Nominated(Option<SubjectId>),
    /// Attested anew now.
    Attested(SubjectId),
    /// On record like this already.
    Unchanged(SubjectId),
}

/// Whether people on record whose relation is another one are attested anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Differing {
    /// They are refused: an old list must not undo what was attested since.
    Refuse,
    /// They are attested anew: the list is the roster.
    Attest,
}

/// A row that is to be recorded.
pub(super) struct Step<T> {
    /// Its place in the batch.
    pub(super) at: usize,
    pub(super) event: Event,
    /// What became of it then.
    pub(super) taken: T,
}

/// What became of each row, in order, and where the record stands.
pub type TakenRows = (Vec<Result<Taken, Error>>, Position);

impl App {
    /// Takes a batch of people: each row has an outcome of its own, and those that are recorded are so together.
    ///
    /// # Errors
    /// Why no row was tried.
    pub async fn take_people(
        &self,
        caller: &Caller,
        rows: Vec<Result<PersonRow, Error>>,
        (differing, mode): (Differing, Mode),
    ) -> Result<TakenRows, Error> {
        if rows.len() > PEOPLE_MAX {
            return Err(Error::Invalid { field: "people", why: format!("at most {PEOPLE_MAX} are allowed") });
        }
        let state = self.state();
        let (mut outcomes, mut steps, mut seen) =
            (Vec::with_capacity(rows.len()), Vec::new(), HashSet::new());
        for (at, row) in rows.into_iter().enumerate() {
            let planned = row.and_then(|row| self.plan(&state, caller, &row, differing));
            outcomes.push(match planned {
                Ok((_, _, key)) if !seen.insert(key) => {
                    Err(Error::Conflict("an earlier row of this batch is of the same person".to_owned()))
                }
                Ok((taken, event, _)) => {
                    steps.extend(event.map(|event| Step { at, event, taken }));
                    Ok(taken)
                }
                Err(error) => Err(error),
            });
        }
        if mode == Mode::ValidateOnly {
            // Nobody is there yet.
            for step in &mut steps {
                if let Taken::Nominated(id) = &mut step.taken {
                    *id = None;
                }
            }
        }
        let position = self.take_steps(caller, (steps, mode), &mut outcomes).await?;
        Ok((outcomes, position.unwrap_or(state.position)))
    }

    /// Records rows together, or only checks them, and puts what became of each in its place.
    pub(super) async fn take_steps<T>(
        &self,
        caller: &Caller,
        (steps, mode): (Vec<Step<T>>, Mode),
        outcomes: &mut [Result<T, Error>],
    ) -> Result<Option<Position>, Error> {
        if mode == Mode::ValidateOnly {
            let (state, now) = (self.state(), self.clock.now());
            for Step { at, event, taken } in steps {
                let checked = admit(&state, &row_entry(caller, event), now).map(drop);
                put(outcomes, at, checked.map(|()| taken).map_err(Error::from));
            }
            return Ok(None);
        }
        if steps.is_empty() {
            return Ok(None);
        }
        let (places, entries): (Vec<_>, Vec<_>) =
            steps.into_iter().map(|step| ((step.at, step.taken), row_entry(caller, step.event))).unzip();
        let mut last = None;
        for ((at, taken), recorded) in places.into_iter().zip(self.record_all(entries).await?) {
            let recorded = recorded.map(|Committed { position, .. }| last = last.max(Some(position)));
            put(outcomes, at, recorded.map(|()| taken));
        }
        Ok(last)
    }

    /// What is to be done about a row, with what tells it from others.
    fn plan(
        &self,
        state: &State,
        caller: &Caller,
        row: &PersonRow,
        differing: Differing,
    ) -> Result<(Taken, Option<Event>, Digest), Error> {
        // First of all: nobody learns of another's people.
        check_acts_for(state, caller.principal.as_ref(), row.entity)?;
        let (subject, key, reference) = match &row.known {
            Known::Reference(reference) if !is_reference(reference) => {
                let why = "1 to 64 printable ASCII characters without spaces are needed".to_owned();
                return Err(Error::Invalid { field: "reference", why });
            }
            Known::Reference(reference) => {
                let key = reference_digest(row.entity, reference);
                let id = state.references.get(&key);
                (id.and_then(|id| state.subjects.get(id)).map(AsRef::as_ref), key, Some(key))
            }
            Known::Subject(id) => {
                let subject = own_subject(state, caller.principal.as_ref(), *id)?;
                let subject = Some(subject).filter(|subject| subject.entity == row.entity);
                (Some(subject.ok_or(Error::NotFound("subject"))?), Digest::of(&id.to_bytes()), None)
            }
        };
        let (taken, event) = match subject {
            Some(subject) => attested(subject, row, differing)?,
            None => self.nominated(row, reference),
        };
        // By whatever name, a person has one row.
        Ok((taken, event, subject.map_or(key, |subject| Digest::of(&subject.id.to_bytes()))))
    }

    fn nominated(&self, row: &PersonRow, reference: Option<Digest>) -> (Taken, Option<Event>) {
        let now = self.clock.now();
        let body = SubjectBody::Human(Employment {
            person: PersonId::from_parts(now, self.entropy.bytes16()),
            vetting: None,
            relation: row.relation,
            relation_until: row.until,
        });
        let id = SubjectId::from_parts(now, self.entropy.bytes16());
        let event = Event::SubjectNominated { id, entity: row.entity, body, reference };
        (Taken::Nominated(Some(id)), Some(event))
    }
}

/// A row is known by what it says, so it needs no request of its own, which would push others' out of memory.
fn row_entry(caller: &Caller, event: Event) -> Entry {
    Entry { event, by: caller.principal.clone(), request: None }
}

fn put<T>(outcomes: &mut [Result<T, Error>], at: usize, outcome: Result<T, Error>) {
    if let Some(place) = outcomes.get_mut(at) {
        *place = outcome;
    }
}

fn attested(
    subject: &Subject,
    row: &PersonRow,
    differing: Differing,
) -> Result<(Taken, Option<Event>), Error> {
    let Some(employment) = subject.employment() else {
        return Err(Error::Invalid { field: "subject_id", why: "a workload has no relation".to_owned() });
    };
    if (employment.relation, employment.relation_until) == (row.relation, row.until) {
        return Ok((Taken::Unchanged(subject.id), None));
    }
    match differing {
        Differing::Refuse => Err(Error::Conflict(
            "this person is on record with another relation; say that the list attests anew, or correct it"
                .to_owned(),
        )),
        Differing::Attest => {
            let event =
                Event::RelationAttested { subject: subject.id, relation: row.relation, until: row.until };
            Ok((Taken::Attested(subject.id), Some(event)))
        }
    }
}
