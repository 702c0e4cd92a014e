//! What a simulation found: counts, and a bounded list by entity, model, place and change of reason.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::decision::{Decision, Legal};
use crate::domain::enforce::Position;
use crate::domain::id::{EntityId, ModelId};
use crate::domain::person::SubjectKind;
use crate::domain::policy::Place;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::domain::word::words;

/// The most lines of one instant: more than anybody reads, and 200 KiB in a message. The counts know no bound.
pub const LINES_MAX: usize = 1_000;

words! {
    /// What a change does to an access.
    Effect {
        /// It is permitted, and would be denied.
        Loses = 0, "LOSES";
        /// It is denied, and would be permitted.
        Gains = 1, "GAINS";
        /// It is denied either way, for another reason.
        StillDenied = 2, "STILL_DENIED";
        /// It is permitted either way, for another reason.
        StillPermitted = 3, "STILL_PERMITTED";
    }
}

/// How many subjects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// People, an employment each.
    pub people: u64,
    /// Workloads.
    pub workloads: u64,
}

impl Tally {
    fn add(&mut self, kind: SubjectKind) {
        match kind {
            SubjectKind::Human => self.people += 1,
            SubjectKind::Workload => self.workloads += 1,
        }
    }
}

/// Whom an effect meets: each is counted once, however many models and places.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Affected {
    /// Entities with at least one of them.
    pub entities: u64,
    /// Subjects.
    pub subjects: Tally,
}

/// One change of reason, with how many it meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Of which entity.
    pub entity: EntityId,
    /// For which model.
    pub model: ModelId,
    /// From where.
    pub place: Place,
    /// What it does.
    pub effect: Effect,
    /// The code that is told now.
    pub before: &'static str,
    /// The code that would be told.
    pub after: &'static str,
    /// The law would ask for a licence, and does not now.
    pub needs_license: bool,
    /// How many.
    pub subjects: Tally,
}

/// What changes at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// When.
    pub at: Timestamp,
    /// Everybody who was asked about.
    pub asked: Tally,
    /// Who may use at least one model from at least one place now.
    pub permitted_before: Tally,
    /// The same after the change.
    pub permitted_after: Tally,
    /// Who loses an access.
    pub loses: Affected,
    /// Who gains one.
    pub gains: Affected,
    /// For whom the law would ask for a licence where it does not now.
    pub needs_license: Affected,
    /// What changes, by entity, model and place.
    pub lines: Vec<Line>,
    /// Subjects, by entity, model and place, whose change is counted above and has no line.
    pub left_out: u64,
}

/// What a simulation found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The record that it was judged on.
    pub as_of: Position,
    /// The models that were asked for.
    pub models: Vec<ModelId>,
    /// How many decisions were made. Where nothing that a decision reads differs, one answers for before and after.
    pub decisions: u64,
    /// Now, and each instant to come.
    pub forecasts: Vec<Forecast>,
}

impl Report {
    pub(super) fn new(models: &[ModelId], as_of: Position) -> Self {
        Self { as_of, models: models.to_vec(), decisions: 0, forecasts: Vec::new() }
    }

    pub(super) fn add(&mut self, draft: Draft) {
        self.decisions += draft.decisions;
        self.forecasts.push(draft.finish());
    }
}

pub(super) type Key = (EntityId, ModelId, Place, Effect, &'static str, &'static str, bool);

/// A forecast that is being counted.
pub(super) struct Draft {
    at: Timestamp,
    decisions: u64,
    asked: Tally,
    permitted: [Tally; 2],
    loses: Counted,
    gains: Counted,
    needs_license: Counted,
    lines: BTreeMap<Key, Tally>,
    left_out: u64,
}

#[derive(Default)]
struct Counted {
    entities: BTreeSet<EntityId>,
    subjects: Tally,
}

impl Counted {
    fn add(&mut self, subject: &Subject) {
        self.entities.insert(subject.entity);
        self.subjects.add(subject.kind());
    }

    fn finish(&self) -> Affected {
        Affected { entities: self.entities.len() as u64, subjects: self.subjects }
    }
}

/// What was found of one subject; counted when it is dropped.
pub(super) struct Seen<'a> {
    draft: &'a mut Draft,
    subject: &'a Subject,
    permitted: [bool; 2],
    loses: bool,
    gains: bool,
    needs_license: bool,
}

impl Draft {
    pub(super) fn new(at: Timestamp) -> Self {
        Self {
            at,
            decisions: 0,
            asked: Tally::default(),
            permitted: [Tally::default(); 2],
            loses: Counted::default(),
            gains: Counted::default(),
            needs_license: Counted::default(),
            lines: BTreeMap::new(),
            left_out: 0,
        }
    }

    pub(super) fn of<'a>(&'a mut self, subject: &'a Subject) -> Seen<'a> {
        Seen { draft: self, subject, permitted: [false; 2], loses: false, gains: false, needs_license: false }
    }

    pub(super) fn line(&mut self, key: Key, kind: SubjectKind) {
        if self.lines.len() >= LINES_MAX && !self.lines.contains_key(&key) {
            self.left_out += 1;
        } else {
            self.lines.entry(key).or_default().add(kind);
        }
    }

    fn finish(self) -> Forecast {
        let [permitted_before, permitted_after] = self.permitted;
        let line = |((entity, model, place, effect, before, after, needs_license), subjects)| Line {
            entity,
            model,
            place,
            effect,
            before,
            after,
            needs_license,
            subjects,
        };
        Forecast {
            at: self.at,
            asked: self.asked,
            permitted_before,
            permitted_after,
            loses: self.loses.finish(),
            gains: self.gains.finish(),
            needs_license: self.needs_license.finish(),
            lines: self.lines.into_iter().map(line).collect(),
            left_out: self.left_out,
        }
    }
}

impl Seen<'_> {
    /// One decision that answers for both states.
    pub(super) fn same(&mut self, decision: &Decision) {
        self.draft.decisions += 1;
        let [before, after] = &mut self.permitted;
        *before |= decision.is_permit();
        *after |= decision.is_permit();
    }

    /// The decisions of both states.
    pub(super) fn both(&mut self, model: &ModelId, place: Place, was: &Decision, is: &Decision) {
        self.draft.decisions += 2;
        let [before, after] = &mut self.permitted;
        *before |= was.is_permit();
        *after |= is.is_permit();
        let needs_license = is.legal == Legal::LicenseRequired && was.legal != Legal::LicenseRequired;
        if (was.access, was.code(), was.legal) == (is.access, is.code(), is.legal) {
            return;
        }
        let effect = match (was.is_permit(), is.is_permit()) {
            (true, false) => Effect::Loses,
            (false, true) => Effect::Gains,
            (false, false) => Effect::StillDenied,
            (true, true) => Effect::StillPermitted,
        };
        self.loses |= effect == Effect::Loses;
        self.gains |= effect == Effect::Gains;
        self.needs_license |= needs_license;
        let key = (self.subject.entity, model.clone(), place, effect, was.code(), is.code(), needs_license);
        self.draft.line(key, self.subject.kind());
    }
}

impl Drop for Seen<'_> {
    fn drop(&mut self) {
        let (draft, kind) = (&mut *self.draft, self.subject.kind());
        draft.asked.add(kind);
        for (tally, is_permitted) in draft.permitted.iter_mut().zip(self.permitted) {
            if is_permitted {
                tally.add(kind);
            }
        }
        for (counted, is) in [
            (&mut draft.loses, self.loses),
            (&mut draft.gains, self.gains),
            (&mut draft.needs_license, self.needs_license),
        ] {
            if is {
                counted.add(self.subject);
            }
        }
    }
}
