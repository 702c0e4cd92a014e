//! Do the parts of a bundle make sense together? What overlaps or says nothing is a fault of whoever wrote it, and is
//! named with its part and key, so that a file and a line can be found.
//!
//! Not asked when a record is read back: what was adopted under an older reading stays what it is. Determinations that
//! contradict each other are no fault of a file. The strict one holds, and they are shown for counsel to mark one.

use std::fmt;

use super::Bundle;
use crate::domain::determination::{Determination, DeterminationKind, DeterminationState};
use crate::domain::id::{DeterminationId, ModelId};
use crate::domain::policy::{DatedRule, PolicyRule};
use crate::domain::time::Timestamp;

/// The part of a bundle that something is wrong with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A determination.
    Determination(DeterminationId),
    /// A rule, by its place in the list, from 0.
    Rule(usize, PolicyRule),
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Determination(id) => write!(f, "determination {id}"),
            Self::Rule(index, rule) => write!(f, "rule {} ({rule})", index + 1),
        }
    }
}

/// A part that makes no sense beside the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}, {key}: {why}")]
pub struct Inconsistency {
    /// Which.
    pub part: Named,
    /// Its key, as the files spell it.
    pub key: &'static str,
    /// What is wrong.
    pub why: String,
}

/// A requirement that a lift does not reach: the strict reading holds until counsel marks one of them (question Q20).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// For which model.
    pub model: ModelId,
    /// What lifts a requirement.
    pub lift: DeterminationId,
    /// What binds all the same.
    pub binding: DeterminationId,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lifts a requirement for {}, and {} still imposes one: the strict reading holds until counsel marks one of them",
            self.lift, self.model, self.binding
        )
    }
}

impl Bundle {
    /// Everything that makes no sense, in the order of the parts.
    pub fn inconsistencies(&self) -> Vec<Inconsistency> {
        let mut found = Vec::new();
        for determination in &self.parts.determinations {
            found.extend(self.senseless(determination).map(|(key, why)| {
                let part = Named::Determination(determination.id.clone());
                Inconsistency { part, key, why }
            }));
        }
        for (index, rule) in self.parts.rules.iter().enumerate() {
            found.extend(self.misplaced(index, rule).map(|(key, why)| Inconsistency {
                part: Named::Rule(index, rule.rule),
                key,
                why,
            }));
        }
        found
    }

    /// What is senseless about a determination: its key, and why; the first thing.
    pub fn senseless(&self, determination: &Determination) -> Option<(&'static str, String)> {
        let lifts = determination.kind == DeterminationKind::LiftForBeneficiaries;
        let amended = || determination.amends.iter().filter_map(|id| self.determination(id));
        let instants = determination.instants;
        let is_dated =
            [instants.stated_at, instants.received_at, instants.approved_at].iter().any(Option::is_some);
        if determination.amends.contains(&determination.id) {
            return Some(("amends", "it amends itself".to_owned()));
        }
        if (lifts || determination.imposes()) && determination.models.is_empty() {
            return Some(("models", "it names no model, so it reaches nothing".to_owned()));
        }
        if lifts && determination.beneficiaries.is_empty() {
            return Some(("beneficiaries", "it lifts a requirement for nobody".to_owned()));
        }
        if !lifts && !determination.beneficiaries.is_empty() {
            return Some(("beneficiaries", "only a lift has beneficiaries".to_owned()));
        }
        if determination.state != DeterminationState::Draft && !is_dated {
            let why = "it is signed, and neither stated_at, received_at nor approved_at says from when";
            return Some(("state", why.to_owned()));
        }
        let is_ended = determination.state > DeterminationState::Countersigned;
        if determination.ended_at.is_some() && !is_ended {
            return Some(("ended_at", format!("it is {}, which has no end", determination.state)));
        }
        if determination.ended_at.is_none() && is_ended {
            return Some((
                "state",
                format!("it is {}, and ended_at does not say from when", determination.state),
            ));
        }
        if is_ended && !lifts && !determination.imposes() {
            return Some(("state", format!("only what imposes or lifts is {}", determination.state)));
        }
        if determination.superseded_by.is_some() != (determination.state == DeterminationState::Superseded) {
            return Some((
                "superseded_by",
                "what is SUPERSEDED names what took its place, and nothing else does".to_owned(),
            ));
        }
        if determination.superseded_by.as_ref() == Some(&determination.id) {
            return Some(("superseded_by", "it supersedes itself".to_owned()));
        }
        if let Some(other) = amended().find(|other| lifts && !other.imposes()) {
            return Some(("amends", format!("it lifts {}, which imposes nothing", other.id)));
        }
        let named = |model: &&ModelId| amended().any(|other| other.models.contains(model));
        let stray = determination.models.iter().find(|model| lifts && !named(model));
        stray.map(|model| {
            ("models", format!("it lifts a requirement for {model} that nothing it amends imposes"))
        })
    }

    /// What is wrong with when a rule holds.
    fn misplaced(&self, index: usize, rule: &DatedRule) -> Option<(&'static str, String)> {
        if rule.models.is_empty() {
            return Some(("models", "it names no model, so it reaches nothing".to_owned()));
        }
        let (from, until) = self.interval(rule)?;
        if until.is_some_and(|until| until <= from) {
            let why = format!("it ends at {}, before it begins at {from}", until.unwrap_or_default());
            return Some(("until", why));
        }
        let before = self.parts.rules.iter().enumerate().take(index);
        before.filter(|(_, other)| other.rule == rule.rule).find_map(|(place, other)| {
            let model = rule.models.iter().find(|model| other.models.contains(model))?;
            let (other_from, other_until) = self.interval(other)?;
            let meet = until.is_none_or(|until| other_from < until)
                && other_until.is_none_or(|other_until| from < other_until);
            meet.then(|| ("models", format!("it overlaps rule {} of the same name for {model}", place + 1)))
        })
    }

    /// From when until when a rule holds; none: it never begins.
    fn interval(&self, rule: &DatedRule) -> Option<(Timestamp, Option<Timestamp>)> {
        let from = match &rule.from {
            None => Timestamp::from_millis(i64::MIN),
            Some(edge) => self.edge_at(edge)?,
        };
        Some((from, rule.until.as_ref().and_then(|edge| self.edge_at(edge))))
    }

    /// Requirements that bind although a lift names their model, whenever both are in force.
    pub fn contradictions(&self) -> Vec<Contradiction> {
        let determinations = &self.parts.determinations;
        let in_force = |d: &&Determination| d.effective_at().is_some();
        let is_ended = |id: &DeterminationId| {
            self.rescission_of(id, |_| true).is_some()
                || self.determination(id).is_some_and(|d| d.ended_at.is_some())
        };
        let mut found = Vec::new();
        for lift in determinations.iter().filter(in_force) {
            if lift.kind != DeterminationKind::LiftForBeneficiaries || is_ended(&lift.id) {
                continue;
            }
            for model in &lift.models {
                let binding = determinations.iter().filter(in_force).filter(|d| {
                    d.imposes() && d.models.contains(model) && !is_ended(&d.id) && !self.is_lifted(d, model)
                });
                found.extend(binding.map(|binding| Contradiction {
                    model: model.clone(),
                    lift: lift.id.clone(),
                    binding: binding.id.clone(),
                }));
            }
        }
        found
    }

    /// Does any lift reach this requirement for this model?
    fn is_lifted(&self, imposition: &Determination, model: &ModelId) -> bool {
        self.parts.determinations.iter().any(|lift| {
            lift.kind == DeterminationKind::LiftForBeneficiaries
                && lift.amends.contains(&imposition.id)
                && lift.models.contains(model)
                && lift.effective_at().is_some()
        })
    }
}
