//! How far access to a model is restored after a lift: who may use it by the record, and who has a certificate for it.
//!
//! Pure: one state goes in. Whoever is approved is decided by the function that decides an access, as with a certificate in
//! order, so what is counted as eligible is what a gateway would permit. Nobody is named; it counts.

use std::collections::{BTreeMap, BTreeSet};

use super::enforce::{Chain, Names, Request, decide_on_record};
use super::entity::{Entity, EntityClass};
use super::id::{EntityId, ModelId, Seq, SubjectId};
use super::model::AccessForm;
use super::policy::Place;
use super::state::State;
use super::subject::{Subject, SubjectStatus};
use super::time::{Now, Timestamp};

/// What an entity is restored with: the provider's staff, or the revision of the annex that added it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cohort {
    /// The provider.
    Provider,
    /// A revision of the lift's annex.
    Revision(u32),
    /// In no annex of the lift: only a licence helps.
    Unlisted,
}

/// One entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Which.
    pub entity: EntityId,
    /// With whom it is restored.
    pub cohort: Cohort,
    /// People and workloads whom a vetter approved.
    pub approved: u64,
    /// Those whom the record permits the model, from the United States.
    pub eligible: u64,
    /// Those of them who have a certificate in order.
    pub certified: u64,
    /// Why the others are denied, by the code that they would be told.
    pub denied: BTreeMap<&'static str, u64>,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restoration {
    /// The model, by its own name.
    pub model: ModelId,
    /// When the lift that is in force took effect; none: there is none.
    pub since: Option<Timestamp>,
    /// The record of the newest first certificate of who is eligible: not one of a renewal.
    pub last_enrolled: Option<Seq>,
    /// Every entity with somebody approved, cohort by cohort.
    pub entities: Vec<Restored>,
}

impl Restoration {
    /// Eligible, and those of them who have a certificate.
    pub fn totals(&self) -> (u64, u64) {
        let sum = |count: fn(&Restored) -> u64| self.entities.iter().map(count).sum();
        (sum(|row| row.eligible), sum(|row| row.certified))
    }
}

/// How far the access to a model is restored; none: there is no such model.
pub fn restoration(state: &State, model: &str, now: Timestamp) -> Option<Restoration> {
    let family = state.bundle().registry().resolve(model)?;
    let own = family.first()?;
    let lift = state.bundle().regime(family, Now::exactly(now)).lifted_by;
    let since = lift.and_then(|id| state.bundle().determination(id)?.effective_at());
    let (certified, mut last_enrolled) = (certified(state, now), None);
    let mut rows = BTreeMap::<EntityId, Restored>::new();
    for subject in state.subjects.values().filter(|subject| subject.status == SubjectStatus::Approved) {
        let Some(entity) = state.entities.get(&subject.entity) else { continue };
        let row = rows.entry(subject.entity).or_insert_with(|| Restored {
            entity: subject.entity,
            cohort: cohort(entity, lift, now),
            approved: 0,
            eligible: 0,
            certified: 0,
            denied: BTreeMap::new(),
        });
        row.approved += 1;
        match denial(state, entity, subject, own, now) {
            Some(code) => *row.denied.entry(code).or_default() += 1,
            None => {
                row.eligible += 1;
                if let Some(enrolled) = certified.get(&subject.id) {
                    row.certified += 1;
                    last_enrolled = last_enrolled.max(*enrolled);
                }
            }
        }
    }
    let mut entities: Vec<_> = rows.into_values().collect();
    entities.sort_by_key(|row| (row.cohort, row.entity));
    Some(Restoration { model: own.clone(), since, last_enrolled, entities })
}

fn cohort(entity: &Entity, lift: Option<&super::id::DeterminationId>, now: Timestamp) -> Cohort {
    let now = Now::exactly(now);
    match (entity.card.class_under(lift, now), entity.card.membership(lift, now)) {
        (EntityClass::Provider, _) => Cohort::Provider,
        (EntityClass::AnnexA, Some(membership)) => Cohort::Revision(membership.revision),
        (EntityClass::AnnexA, None) | (EntityClass::Unlisted, _) => Cohort::Unlisted,
    }
}

/// Why the record denies somebody the model; none: it permits it.
fn denial(
    state: &State,
    entity: &Entity,
    subject: &Subject,
    model: &ModelId,
    now: Timestamp,
) -> Option<&'static str> {
    let grant = entity.card.grants.iter().find(|grant| grant.model == *model);
    let request = Request {
        model: model.as_str(),
        form: AccessForm::Inference,
        place: Place::Us,
        serving: Place::Us,
        purpose: grant.and_then(|grant| grant.purposes.first().cloned()),
        chain: Chain::default(),
    };
    let exactly = Now::exactly(now);
    let decision = decide_on_record(state, (&entity.card, subject), &request, (exactly, exactly));
    // Certificates never outlive these, so whoever is beyond one has none.
    let attested = subject.employment().and_then(|employment| employment.relation_until);
    let is_over = [attested, subject.reverify_due].into_iter().flatten().any(|at| exactly.narrowed_since(at));
    match (decision.is_permit(), is_over) {
        (true, false) => None,
        (true, true) => Some(super::policy::PolicyRule::ReverifyOverdue.as_str()),
        (false, _) => Some(decision.code()),
    }
}

/// Who has a certificate in order, with the record of it if it is the first of its chain. A cut-off of a determination is not looked at: it
/// reaches what states it, which only the certificate says.
fn certified(state: &State, now: Timestamp) -> BTreeMap<SubjectId, Option<Seq>> {
    let exactly = Now::exactly(now);
    let good = state.lineages.iter().filter_map(|(id, lineage)| {
        let entity = state.subjects.get(&lineage.subject)?.entity;
        let last = &lineage.last;
        let names = Names {
            issuer: last.issuer,
            ordinal: last.ordinal,
            entity,
            subject: lineage.subject,
            lineage: *id,
            determination: None,
            annex_revision: None,
            key: last.key,
        };
        let is_good = last.not_after > now && state.enforcement.fault_of(&names, exactly).is_none();
        is_good.then_some((lineage.subject, (last.generation == 1).then_some(last.issued)))
    });
    let mut found = BTreeMap::new();
    let mut renewed = BTreeSet::new();
    for (subject, first) in good {
        match first {
            None => drop(renewed.insert(subject)),
            Some(_) => drop(found.insert(subject, first)),
        }
    }
    // Who has renewed was restored before.
    found.extend(renewed.into_iter().map(|subject| (subject, None)));
    found
}
