//! Simulation: who would lose or gain access by a change of law or policy, before anybody signs it.
//!
//! Pure: two states go in, the one that is and the one that the change would make, and every enrolled person and
//! workload is decided in both by the function that decides an access. What is asked is part of the report. Nothing
//! about one person leaves: the report counts.

mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

pub use report::{Affected, Effect, Forecast, LINES_MAX, Line, Report, Tally};

use super::bundle::Bundle;
use super::command::Command;
use super::decision::Decision;
use super::enforce::{Chain, Request, decide_on_record};
use super::entity::{Entity, EntityCard};
use super::id::{ModelId, PurposeId};
use super::model::AccessForm;
use super::policy::Place;
use super::state::State;
use super::subject::{Subject, SubjectStatus};
use super::time::{Now, Timestamp};
use report::Draft;

/// The most instants that one simulation looks at: now and the next of the bundles. A bundle with more is simulated again
/// when the first have passed.
pub const INSTANTS_MAX: usize = 8;
/// How many subjects are decided between two looks at whether somebody still waits.
const STEP: u64 = 1_024;

/// What is asked of everybody, as the report states it.
pub const QUESTION: &str = "INFERENCE of every model that a determination or a rule names, served from the United States, \
     from the United States and from every country that a grant of the entity lists, for the first purpose of the grant \
     if it has any, by every approved person and workload with a certificate in order and no intermediary, \
     with screening as it stands now";

/// Can this command be simulated? Others change nothing about who may do what, or only take away.
pub const fn is_simulated(command: &Command) -> bool {
    matches!(command, Command::AdoptPolicy(_) | Command::Impose(_) | Command::AmendAnnex { .. })
}

/// Decides for everybody before and after, now and at each instant to come. `progress` hears how many subjects are done
/// of how many, and may break off.
pub fn simulate(
    before: &State,
    after: &State,
    now: Timestamp,
    mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Option<Report> {
    let models = asked(before.bundle(), after.bundle());
    let instants = instants(before.bundle(), after.bundle(), now);
    let enrolled = |subject: &&Arc<Subject>| subject.status == SubjectStatus::Approved;
    let is_same_law = Arc::ptr_eq(&before.enforcement.bundle, &after.enforcement.bundle);
    let total = before.subjects.len() as u64 * instants.len() as u64;
    let mut report = Report::new(&models, before.position);
    let mut done = 0;
    for at in instants {
        let mut draft = Draft::new(at);
        for subject in before.subjects.values() {
            done += 1;
            if done % STEP == 0 && progress(done, total).is_break() {
                return None;
            }
            if !enrolled(&subject) {
                continue;
            }
            let cards = (before.entities.get(&subject.entity), after.entities.get(&subject.entity));
            let (Some(old), Some(new)) = cards else { continue };
            let pair = Pair { before, after, old, new, is_same: is_same_law && Arc::ptr_eq(old, new) };
            pair.decide(&models, subject, (Now::exactly(at), Now::exactly(now)), &mut draft);
        }
        report.add(draft);
    }
    progress(total, total).is_continue().then_some(report)
}

/// One subject's entity in both states.
struct Pair<'a> {
    before: &'a State,
    after: &'a State,
    old: &'a Arc<Entity>,
    new: &'a Arc<Entity>,
    /// Nothing that a decision reads differs: the same bundle and the same card, and no command that is simulated
    /// touches stops, suspensions, licences or subjects. One decision then answers for both.
    is_same: bool,
}

impl Pair<'_> {
    fn decide(&self, models: &[ModelId], subject: &Subject, now: (Now, Now), draft: &mut Draft) {
        let mut seen = draft.of(subject);
        for model in models {
            for place in self.places(model) {
                let was = ask(self.before, &self.old.card, subject, (model, place), now);
                if self.is_same {
                    seen.same(&was);
                } else {
                    let is = ask(self.after, &self.new.card, subject, (model, place), now);
                    seen.both(model, place, &was, &is);
                }
            }
        }
    }

    /// The United States, and where grants of the entity for this model let it be used, before or after.
    fn places(&self, model: &ModelId) -> impl Iterator<Item = Place> + use<> {
        let cards = [&self.old.card, &self.new.card];
        let grants = cards.into_iter().flat_map(|card| &card.grants).filter(|grant| grant.model == *model);
        let mut countries: Vec<_> = grants.flat_map(|grant| grant.countries.iter().copied()).collect();
        countries.sort_unstable();
        countries.dedup();
        std::iter::once(Place::Us).chain(countries.into_iter().map(Place::Country))
    }
}

fn ask(
    state: &State,
    card: &EntityCard,
    subject: &Subject,
    (model, place): (&ModelId, Place),
    now: (Now, Now),
) -> Decision {
    let request = Request {
        model: model.as_str(),
        form: AccessForm::Inference,
        place,
        serving: Place::Us,
        purpose: purpose(card, model),
        chain: Chain::default(),
    };
    decide_on_record(state, (card, subject), &request, now)
}

/// What the entity's grant of this model is for.
fn purpose(card: &EntityCard, model: &ModelId) -> Option<PurposeId> {
    card.grants.iter().find(|grant| grant.model == *model)?.purposes.first().cloned()
}

/// Models that a determination or a rule of either bundle names, and those that descend from them. Of the others there
/// is nothing to ask: they are open to everybody.
fn asked(before: &Bundle, after: &Bundle) -> Vec<ModelId> {
    let mut named = BTreeSet::new();
    for bundle in [before, after] {
        let parts = bundle.parts();
        let of_law = parts.determinations.iter().flat_map(|determination| &determination.models);
        let of_policy = parts.rules.iter().flat_map(|rule| &rule.models);
        let roots: BTreeSet<_> = of_law.chain(of_policy).collect();
        named.extend(parts.models.iter().map(|model| &model.id).filter(|id| {
            let family = bundle.registry().resolve(id.as_str()).unwrap_or_default();
            family.iter().any(|ancestor| roots.contains(ancestor))
        }));
    }
    named.into_iter().cloned().collect()
}

/// Now, and the instants to come at which either bundle changes what it says.
fn instants(before: &Bundle, after: &Bundle, now: Timestamp) -> Vec<Timestamp> {
    let next =
        |at: &Timestamp| [before, after].iter().filter_map(|bundle| bundle.next_instant_after(*at)).min();
    std::iter::successors(Some(now), next).take(INSTANTS_MAX).collect()
}
