//! Partners and their people: what portals and partners record without an officer's signature.

use super::enroll::TokenText;
use super::error::Error;
use super::{App, Caller, Mode};
use crate::domain::enforce::Position;
use crate::domain::entity::{EntityKind, Organisation};
use crate::domain::event::{Event, NewEntity};
use crate::domain::id::{EntityId, PersonId, SubjectId, TokenId};
use crate::domain::person::Relation;
use crate::domain::policy::Country;
use crate::domain::subject::{Employment, SubjectBody, Workload};
use crate::domain::time::Timestamp;

/// How long a token lives unless the caller says otherwise: three days.
const TOKEN_TTL_DEFAULT_S: u32 = 3 * 86_400;

/// Whom an entity nominates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nomination {
    /// A person.
    Person {
        /// On record already through another employment.
        person: Option<PersonId>,
        /// As the entity attests.
        relation: Relation,
        /// Until when.
        until: Option<Timestamp>,
    },
    /// A workload.
    Workload {
        /// Who answers for it.
        owner: SubjectId,
        /// Who operates it, the owner included.
        operators: Vec<SubjectId>,
    },
}

impl Nomination {
    /// Is this what it became? A person whom the service named may have any name.
    fn made(&self, body: &SubjectBody) -> bool {
        match (self, body) {
            (Self::Person { person, relation, until }, SubjectBody::Human(old)) => {
                person.is_none_or(|person| person == old.person)
                    && (*relation, *until) == (old.relation, old.relation_until)
            }
            (Self::Workload { owner, operators }, SubjectBody::Workload(old)) => {
                (owner, operators) == (&old.owner, &old.operators)
            }
            (Self::Person { .. }, SubjectBody::Workload(_))
            | (Self::Workload { .. }, SubjectBody::Human(_)) => false,
        }
    }
}

/// A new token: its text is shown once.
pub struct NewToken {
    /// The token.
    pub token: TokenText,
    /// Until when.
    pub expires_at: Timestamp,
    /// The record.
    pub position: Position,
}

impl App {
    /// Registers an applicant.
    ///
    /// # Errors
    /// Why it cannot be recorded.
    pub async fn apply_entity(
        &self,
        caller: &Caller,
        (kind, name): (EntityKind, String),
        (org, seat): (Organisation, Option<Country>),
        mode: Mode,
    ) -> Result<(EntityId, Position), Error> {
        let id = EntityId::from_parts(self.clock.now(), self.entropy.bytes16());
        let new = NewEntity { id, kind, name, org, seat };
        match self.done_before(caller).await? {
            Some((Event::EntityApplied(old), position))
                if old == (NewEntity { id: old.id, ..new.clone() }) =>
            {
                Ok((old.id, position))
            }
            Some((_, position)) => Err(Error::Repeated(position.seq)),
            None => Ok((id, self.change(caller.entry(Event::EntityApplied(new)), mode).await?)),
        }
    }

    /// Nominates a person or a workload.
    ///
    /// # Errors
    /// Why it cannot be recorded.
    pub async fn nominate(
        &self,
        caller: &Caller,
        entity: EntityId,
        nomination: Nomination,
        mode: Mode,
    ) -> Result<(SubjectId, Position), Error> {
        let now = self.clock.now();
        match self.done_before(caller).await? {
            Some((Event::SubjectNominated { id, entity: of, body, .. }, position))
                if of == entity && nomination.made(&body) =>
            {
                return Ok((id, position));
            }
            Some((_, position)) => return Err(Error::Repeated(position.seq)),
            None => {}
        }
        let body = match nomination {
            Nomination::Person { person, relation, until } => SubjectBody::Human(Employment {
                person: person.unwrap_or_else(|| PersonId::from_parts(now, self.entropy.bytes16())),
                vetting: None,
                relation,
                relation_until: until,
            }),
            Nomination::Workload { owner, operators } => SubjectBody::Workload(Workload { owner, operators }),
        };
        let id = SubjectId::from_parts(now, self.entropy.bytes16());
        let event = Event::SubjectNominated { id, entity, body, reference: None };
        Ok((id, self.change(caller.entry(event), mode).await?))
    }

    /// Attests a relation anew.
    ///
    /// # Errors
    /// Why it cannot be recorded.
    pub async fn attest_relation(
        &self,
        caller: &Caller,
        subject: SubjectId,
        (relation, until): (Relation, Option<Timestamp>),
        mode: Mode,
    ) -> Result<Position, Error> {
        self.change_once(caller, Event::RelationAttested { subject, relation, until }, mode).await
    }

    /// Makes a one-time enrollment token.
    ///
    /// # Errors
    /// Why it cannot be recorded.
    pub async fn create_token(
        &self,
        caller: &Caller,
        subject: SubjectId,
        ttl_s: u32,
        mode: Mode,
    ) -> Result<NewToken, Error> {
        let now = self.clock.now();
        let ttl_s = if ttl_s == 0 { TOKEN_TTL_DEFAULT_S } else { ttl_s };
        let expires_at = now.plus_ms(i64::from(ttl_s) * 1_000);
        let token = TokenText::new(TokenId::from_parts(now, self.entropy.bytes16()), self.entropy.bytes32());
        let event =
            Event::TokenCreated { id: token.id(), secret: token.secret_digest(), subject, expires_at };
        let position = self.change(caller.entry(event), mode).await?;
        Ok(NewToken { token, expires_at, position })
    }
}
