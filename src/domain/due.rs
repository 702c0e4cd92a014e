//! What must be verified, attested or reported anew, and by when.
//!
//! The instant on record is the last one: from then on certificates have ended and decisions deny, by the clock and without a
//! record. The reminder and the grace lie before it, so that no date ever means more than it said. Pure; it decides nothing.

use std::collections::BTreeMap;

use super::entity::EntityStatus;
use super::id::{EntityId, SubjectId};
use super::state::State;
use super::subject::{Subject, SubjectStatus};
use super::time::{Now, Timestamp};
use super::word::words;

/// How long before its instant something is reminded of: a month, in which an entity can collect evidence.
pub const REMINDER_MS: i64 = 30 * 86_400_000;
/// How long before it the grace begins: a week, in which officers call.
pub const GRACE_MS: i64 = 7 * 86_400_000;
/// How long a person stays on the list after that: a quarter. Who has not been attested since has left.
const PERSON_KEPT_MS: i64 = 92 * 86_400_000;
/// The most people who are named in a line; the count knows no bound.
pub const NAMED_MAX: usize = 20;

words! {
    /// What is due.
    DueKind {
        /// The yearly look at an entity and its officer.
        Reverification = 0, "REVERIFICATION";
        /// The yearly attestation of an entity's safeguards.
        Safeguards = 1, "SAFEGUARDS";
        /// The attestation of its people's relations, each quarter.
        Roster = 2, "ROSTER";
        /// A person or workload that a vetter looks at again.
        SubjectReverification = 3, "SUBJECT_REVERIFICATION";
        /// A report that the holder of a licence owes.
        LicenseReport = 4, "LICENSE_REPORT";
        /// The end of a licence.
        LicenseEnd = 5, "LICENSE_END";
        /// The end of a grant.
        GrantEnd = 6, "GRANT_END";
    }
}

words! {
    /// How near it is.
    DueStage {
        /// More than a month.
        Later = 0, "LATER";
        /// Within a month.
        Reminder = 1, "REMINDER";
        /// Within a week.
        Grace = 2, "GRACE";
        /// Over: what rests on it is denied.
        Overdue = 3, "OVERDUE";
    }
}

/// One line: what is due at one instant of one entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// By when.
    pub at: Timestamp,
    /// Whose.
    pub entity: EntityId,
    /// What.
    pub kind: DueKind,
    /// Of which licence, report or grant; empty for the others.
    pub what: String,
    /// How many people and workloads it is about; 0: the entity itself.
    pub subjects: u64,
    /// The first of them.
    pub named: Vec<SubjectId>,
}

impl Due {
    /// How near it is.
    pub fn stage(&self, now: Now) -> DueStage {
        let is_past = |ahead_ms: i64| now.narrowed_since(self.at.plus_ms(-ahead_ms));
        match () {
            () if is_past(0) => DueStage::Overdue,
            () if is_past(GRACE_MS) => DueStage::Grace,
            () if is_past(REMINDER_MS) => DueStage::Reminder,
            () => DueStage::Later,
        }
    }

    /// By what lines are sorted and told apart.
    pub fn key(&self) -> (Timestamp, EntityId, DueKind, &str) {
        (self.at, self.entity, self.kind, &self.what)
    }
}

/// Lines by their keys, with the people of each.
type Lines = BTreeMap<(Timestamp, EntityId, DueKind, String), (u64, Vec<SubjectId>)>;

/// What is overdue or due until then, of one entity or of all, the nearest first.
pub fn due(state: &State, of: Option<EntityId>, now: Timestamp, until: Timestamp) -> Vec<Due> {
    let mut lines = Lines::new();
    let is_active = |id: &EntityId| {
        of.is_none_or(|of| of == *id)
            && state.entities.get(id).is_some_and(|entity| entity.status == EntityStatus::Active)
    };
    for (id, entity) in state.entities.iter().filter(|(id, _)| is_active(id)) {
        for (kind, at) in [
            (DueKind::Reverification, entity.card.reverify_due),
            (DueKind::Safeguards, entity.card.safeguards_until),
        ] {
            lines.extend(at.map(|at| ((at, *id, kind, String::new()), (0, Vec::new()))));
        }
        let grants = entity.card.grants.iter().filter_map(|grant| Some((grant.id, grant.interval.until?)));
        let ends = grants.filter(|(_, at)| *at > now);
        lines.extend(
            ends.map(|(grant, at)| ((at, *id, DueKind::GrantEnd, grant.to_string()), (0, Vec::new()))),
        );
    }
    for subject in state.subjects.values().filter(|subject| is_active(&subject.entity)) {
        add_subject(&mut lines, subject, now);
    }
    add_licenses(&mut lines, state, is_active, now);
    let near = lines.into_iter().filter(|((at, ..), _)| *at <= until);
    near.map(|((at, entity, kind, what), (subjects, named))| Due { at, entity, kind, what, subjects, named })
        .collect()
}

fn add_subject(lines: &mut Lines, subject: &Subject, now: Timestamp) {
    if subject.status != SubjectStatus::Approved {
        return;
    }
    let attested = subject.employment().and_then(|employment| employment.relation_until);
    for (kind, at) in [(DueKind::Roster, attested), (DueKind::SubjectReverification, subject.reverify_due)] {
        let Some(at) = at.filter(|at| at.plus_ms(PERSON_KEPT_MS) > now) else { continue };
        let (count, named) = lines.entry((at, subject.entity, kind, String::new())).or_default();
        *count += 1;
        if named.len() < NAMED_MAX {
            named.push(subject.id);
        }
    }
}

fn add_licenses(lines: &mut Lines, state: &State, is_active: impl Fn(&EntityId) -> bool, now: Timestamp) {
    for license in state.licenses.values().filter(|license| is_active(&license.holder)) {
        let holder = license.holder;
        for duty in state.reports_owed(license) {
            let what = format!("{} {}", license.id, duty.name);
            lines.insert((duty.due, holder, DueKind::LicenseReport, what), (0, Vec::new()));
        }
        if let Some(at) = license.interval.until.filter(|at| *at > now) {
            lines.insert((at, holder, DueKind::LicenseEnd, license.id.to_string()), (0, Vec::new()));
        }
    }
}
