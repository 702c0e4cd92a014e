//! Determinations: dated official acts that impose, lift, condition, rescind or enjoin a requirement.
//!
//! Nothing about any letter is compiled in. A determination states which models it reaches, from when, and for a lift
//! which limbs of beneficiaries it names; the legal rows ask only those questions.

use minicbor::{Decode, Encode};

use super::id::{DeterminationId, Digest, ModelId, Sha384};
use super::time::{Now, Timestamp};
use super::word::words;

words! {
    /// What a determination does.
    DeterminationKind {
        /// An individual notice under 15 CFR 744 that a licence is required.
        IsInformedNotice = 0, "IS_INFORMED_NOTICE";
        /// Any other act that imposes a requirement.
        Impose = 1, "IMPOSE";
        /// Lifts the requirement for named beneficiaries.
        LiftForBeneficiaries = 2, "LIFT_FOR_BENEFICIARIES";
        /// Attaches a condition; no effect on the legal rows by itself.
        Condition = 3, "CONDITION";
        /// Ends the determinations that it amends.
        Rescind = 4, "RESCIND";
        /// A court's stay. Until counsel marks otherwise the stricter reading holds (question Q20): no effect.
        Enjoin = 5, "ENJOIN";
        /// Explains; no effect on the legal rows.
        Clarify = 6, "CLARIFY";
    }
}

words! {
    /// Where a determination stands with the operator.
    DeterminationState {
        /// Modelled and simulated, never enforced.
        Draft = 0, "DRAFT";
        /// Signed by two officers, an imposition by one; in force from its effective instant.
        Countersigned = 1, "COUNTERSIGNED";
        /// Another one took its place: no effect from the instant of its end.
        Superseded = 2, "SUPERSEDED";
        /// Stayed by a court, as counsel reads it: no effect on the legal rows from the instant of its end. Provider policy
        /// that waits for its rescission goes on.
        Enjoined = 3, "ENJOINED";
        /// Taken back by whoever made it: no effect from the instant of its end.
        Rescinded = 4, "RESCINDED";
    }
}

words! {
    /// Who benefits from a lift, limb by limb as the June 26 letter names them.
    Limb {
        /// The provider's foreign national employees.
        ProviderForeignEmployees = 0, "PROVIDER_FOREIGN_EMPLOYEES";
        /// The listed entities themselves.
        AnnexEntities = 1, "ANNEX_ENTITIES";
        /// The listed entities' foreign national employees.
        AnnexForeignEmployees = 2, "ANNEX_FOREIGN_EMPLOYEES";
    }
}

/// The instants that bear on when a determination takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Instants {
    /// The instant that the document states, if it does.
    #[n(0)]
    pub stated_at: Option<Timestamp>,
    /// When the operator received it, orally or in writing.
    #[n(1)]
    pub received_at: Option<Timestamp>,
    /// When the second officer approved it.
    #[n(2)]
    pub approved_at: Option<Timestamp>,
}

/// A determination as the record holds it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Determination {
    /// Its name.
    #[n(0)]
    pub id: DeterminationId,
    /// What it does.
    #[n(1)]
    pub kind: DeterminationKind,
    /// Draft or countersigned.
    #[n(2)]
    pub state: DeterminationState,
    /// When it takes effect.
    #[n(3)]
    pub instants: Instants,
    /// The model families it names.
    #[n(4)]
    pub models: Vec<ModelId>,
    /// Whom a lift names.
    #[n(5)]
    pub beneficiaries: Vec<Limb>,
    /// The determinations that it lifts or rescinds.
    #[n(6)]
    pub amends: Vec<DeterminationId>,
    /// Legal basis, one citation an entry.
    #[n(7)]
    pub legal_basis: Vec<String>,
    /// SHA-256 of the document, when there is one.
    #[n(8)]
    pub document: Option<Digest>,
    /// When it was superseded, enjoined or rescinded.
    #[n(9)]
    pub ended_at: Option<Timestamp>,
    /// What took its place.
    #[n(10)]
    pub superseded_by: Option<DeterminationId>,
    /// SHA-384 of the signed document.
    #[n(11)]
    pub document_sha384: Option<Sha384>,
}

impl Determination {
    /// True when it takes something away: it then takes effect at the earliest instant, otherwise at the latest.
    pub const fn restricts(&self) -> bool {
        self.imposes() || matches!(self.kind, DeterminationKind::Condition)
    }

    /// Does it impose a requirement?
    pub const fn imposes(&self) -> bool {
        matches!(self.kind, DeterminationKind::IsInformedNotice | DeterminationKind::Impose)
    }

    /// The instant it takes effect. An imposition: the earliest supported one, for oral notice counts. A lift or a
    /// rescission: the latest of stated, received and approved (domain section 2.4). None while it is a draft, or
    /// when nothing says when.
    pub fn effective_at(&self) -> Option<Timestamp> {
        if self.state == DeterminationState::Draft {
            return None;
        }
        let Instants { stated_at, received_at, approved_at } = self.instants;
        let instants = [stated_at, received_at, approved_at].into_iter().flatten();
        if self.restricts() { instants.min() } else { instants.max() }
    }

    /// Has it taken effect?
    pub fn has_taken_effect(&self, now: Now) -> bool {
        self.effective_at()
            .is_some_and(|at| if self.restricts() { now.narrowed_since(at) } else { now.widened_since(at) })
    }

    /// Has its effect ended? The end of what restricts widens, and the other way round.
    pub fn has_ended(&self, now: Now) -> bool {
        self.ended_at
            .is_some_and(|at| if self.restricts() { now.widened_since(at) } else { now.narrowed_since(at) })
    }

    /// Does it name this model or one that the model descends from?
    pub fn names(&self, family: &[ModelId]) -> bool {
        self.models.iter().any(|named| family.contains(named))
    }
}
