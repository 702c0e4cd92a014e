//! Entities: what they are, where they stand with the operator, and how the law classes them at an instant.

use minicbor::{Decode, Encode};

use super::decision::ScreeningState;
use super::grant::Grant;
use super::id::{DeterminationId, EntityId, ModelId, Seq};
use super::policy::Country;
use super::time::{Interval, Now, Timestamp};
use super::word::words;

words! {
    /// How the law classes an entity at an instant. Removed, not-yet-effective and affiliate all count as UNLISTED.
    EntityClass {
        /// Listed in the annex of a determination.
        AnnexA = 0, "ANNEX_A";
        /// The provider of the models itself.
        Provider = 1, "PROVIDER";
        /// Everybody else.
        Unlisted = 2, "UNLISTED";
    }
}

words! {
    /// Under whose law an entity is organised. Unknown is FOREIGN.
    Organisation {
        /// Organised under United States law.
        Us = 0, "US";
        /// Anything else, and unknown.
        Foreign = 1, "FOREIGN";
    }
}

words! {
    /// What sort of body an entity is.
    EntityKind {
        /// A company.
        Company = 0, "COMPANY";
        /// A federal agency.
        FederalAgency = 1, "FEDERAL_AGENCY";
        /// A state or local agency.
        StateAgency = 2, "STATE_AGENCY";
        /// An operator of critical infrastructure.
        CriticalInfrastructure = 3, "CRITICAL_INFRASTRUCTURE";
    }
}

words! {
    /// Where an entity stands with the operator. Membership of an annex is another matter.
    EntityStatus {
        /// Applied or nominated; grants nothing.
        Applicant = 0, "APPLICANT";
        /// Approved by two officers.
        Active = 1, "ACTIVE";
        /// Removed; its certificates are cut off for good.
        Removed = 2, "REMOVED";
        /// Rejected before it was active.
        Rejected = 3, "REJECTED";
    }
}

words! {
    /// The outcome of a screening that an officer entered.
    ScreeningResult {
        /// No match, or every match resolved as somebody else.
        Clear = 0, "CLEAR";
        /// A match that nobody has resolved.
        Unresolved = 1, "UNRESOLVED";
        /// A confirmed match.
        Confirmed = 2, "CONFIRMED";
    }
}

/// A screening of every party of an entity against one version of the lists.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Screening {
    /// Name of the list version, as published.
    #[n(0)]
    pub list_version: String,
    /// When that version was published.
    #[n(1)]
    pub list_date: Timestamp,
    /// What came of it.
    #[n(2)]
    pub result: ScreeningResult,
}

/// Membership of the annex of a determination.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Membership {
    /// The determination that the annex belongs to.
    #[n(0)]
    pub determination: DeterminationId,
    /// The revision of the annex that added the entity.
    #[n(1)]
    pub revision: u32,
    /// When it holds.
    #[n(2)]
    pub interval: Interval,
}

/// What a decision reads of an entity. A gateway holds the same card, so that it reaches the same decision.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EntityCard {
    /// Which entity.
    #[n(0)]
    pub id: EntityId,
    /// The record that last changed the card.
    #[n(1)]
    pub revision: Seq,
    /// True for the provider of the models.
    #[n(2)]
    pub is_provider: bool,
    /// Every membership, past ones included.
    #[n(3)]
    pub memberships: Vec<Membership>,
    /// Under whose law it is organised.
    #[n(4)]
    pub org: Organisation,
    /// Country of its seat, if known and not the United States.
    #[n(5)]
    pub seat: Option<Country>,
    /// Approved by two officers, and neither removed nor rejected since.
    #[n(6)]
    pub is_active: bool,
    /// Every grant, past ones included.
    #[n(7)]
    pub grants: Vec<Grant>,
    /// The last screening.
    #[n(8)]
    pub screening: Option<Screening>,
    /// Until when its safeguards are attested; none: no safeguard is asked of it.
    #[n(9)]
    pub safeguards_until: Option<Timestamp>,
    /// When the next re-verification is due.
    #[n(10)]
    pub reverify_due: Option<Timestamp>,
    /// An open military-intelligence red flag.
    #[n(11)]
    pub mi_flag: bool,
    /// Licences exist that may cover it; only the server knows them.
    #[n(12)]
    pub has_licenses: bool,
}

impl EntityCard {
    /// The membership in force now, of this determination's annex or, without one, of any.
    pub fn membership(&self, of: Option<&DeterminationId>, now: Now) -> Option<&Membership> {
        self.memberships
            .iter()
            .find(|m| of.is_none_or(|id| *id == m.determination) && m.interval.permits(now))
    }

    /// Class for the regime of one model: membership counts only in the annex of the lift that is in force for it.
    pub fn class_under(&self, lift: Option<&DeterminationId>, now: Now) -> EntityClass {
        if self.is_provider {
            return EntityClass::Provider;
        }
        match lift.and_then(|lift| self.membership(Some(lift), now)) {
            Some(_) => EntityClass::AnnexA,
            None => EntityClass::Unlisted,
        }
    }

    /// Class as a certificate states it: membership of any annex.
    pub fn class(&self, now: Now) -> EntityClass {
        match (self.is_provider, self.membership(None, now)) {
            (true, _) => EntityClass::Provider,
            (false, Some(_)) => EntityClass::AnnexA,
            (false, None) => EntityClass::Unlisted,
        }
    }

    /// The active grant for a model of this family.
    pub fn grant(&self, family: &[ModelId], now: Now) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.covers(family) && grant.is_active(now))
    }

    /// Where it stands with the screening lists, given how long a list stays fresh.
    pub fn screening_state(&self, fresh_ms: i64, now: Now) -> ScreeningState {
        match &self.screening {
            None => ScreeningState::Pending,
            Some(screening) => match screening.result {
                ScreeningResult::Confirmed => ScreeningState::Denied,
                ScreeningResult::Unresolved => ScreeningState::Pending,
                ScreeningResult::Clear if now.narrowed_since(screening.list_date.plus_ms(fresh_ms)) => {
                    ScreeningState::Stale
                }
                ScreeningResult::Clear => ScreeningState::Clear,
            },
        }
    }
}

/// An entity as the record holds it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Entity {
    /// What decisions read.
    #[n(0)]
    pub card: EntityCard,
    /// What sort of body it is.
    #[n(1)]
    pub kind: EntityKind,
    /// Its legal name. Never in a certificate, the feed or a log line.
    #[n(2)]
    pub name: String,
    /// Where it stands.
    #[n(3)]
    pub status: EntityStatus,
}
