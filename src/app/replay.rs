//! Decisions that were made, judged again: on the state of then, to show that they follow from the record, or on the facts as they
//! are known now, to find what should not have been permitted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::App;
use super::decided::{Asking, Cursor, Shown};
use super::error::Error;
use super::evaluate::{Answer, good_until, judged};
use crate::domain::certificate::{AuthorityKind, Certificate};
use crate::domain::codec::to_bytes;
use crate::domain::command::ObjectRef;
use crate::domain::decided::{Decided, Question};
use crate::domain::decision::{Decision, Denial, LOGIC_VERSION, Legal, StateFault, Step};
use crate::domain::enforce::{Chain, Request, decide_on_record};
use crate::domain::id::{DecisionId, EntityId, Seq, SubjectId};
use crate::domain::policy::PolicyRule;
use crate::domain::state::State;
use crate::domain::time::{Now, Timestamp};

/// Decisions that one call judges again: each takes some microseconds.
const AGAIN_MAX: usize = 10_000;
/// Pages that are looked through for a decision: its name says when it was made, and it is written within a second unless the
/// disk is full.
const PAGES_MAX: usize = 64;
/// How long who asks for one more state of then should wait.
const RETRY_AFTER_MS: u32 = 2_000;

/// A decision that was made, and what comes of it now on the state of then.
#[derive(Debug)]
pub struct Replayed {
    /// As it is on record.
    pub recorded: Decided,
    /// As it is judged now.
    pub again: Decided,
    /// Why, by the rules of now.
    pub steps: Vec<Step>,
    /// What it rests on.
    pub facts: Vec<(ObjectRef, Seq)>,
}

impl Replayed {
    /// Is it the same to the byte?
    pub fn is_same(&self) -> bool {
        to_bytes(&self.recorded) == to_bytes(&self.again)
    }
}

/// What a decision about a subject on record would be, and why.
#[derive(Debug)]
pub struct Explained {
    /// The decision.
    pub decision: Decision,
    /// When.
    pub at: Timestamp,
    /// On which state.
    pub state: Arc<State>,
    /// Why.
    pub steps: Vec<Step>,
    /// What it rests on, with the records that changed it last.
    pub facts: Vec<(ObjectRef, Seq)>,
}

/// What should not have been permitted, by the facts as they are known now: one row for each subject, model and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// What the law says now.
    pub legal: Legal,
    /// How many permits.
    pub count: u64,
    /// When the first was given, and the last.
    pub interval: (Timestamp, Timestamp),
    /// The first.
    pub first: DecisionId,
}

/// Whose exposure, of what, and why: entity, subject, model and code.
pub type Exposed = (EntityId, SubjectId, String, &'static str);

impl Question {
    fn request(&self) -> Request<'_> {
        Request {
            model: &self.model,
            form: self.form,
            place: self.place,
            serving: self.serving.unwrap_or(crate::domain::policy::Place::Unknown),
            purpose: self.purpose.clone(),
            chain: Chain { hops: self.chain.clone(), end_user_identified: self.end_user_identified },
        }
    }
}

impl App {
    /// Judges a recorded decision again, on the state that it was made on. Of a gateway's decision the answer and its code are on
    /// record, and no more.
    ///
    /// # Errors
    /// It is not on record, or it does not say all that is needed.
    pub async fn replay(self: &Arc<Self>, id: DecisionId) -> Result<Replayed, Error> {
        let app = Arc::clone(self);
        let recorded = self.looking(move || app.find_decision(id)).await?;
        let wrong = |why: &str| Err(Error::WrongState(format!("{id} cannot be replayed: {why}")));
        match &recorded.question {
            None => return wrong("it is about a certificate, and not about an access"),
            Some(question) if question.serving.is_none() => {
                return wrong("its gateway did not say all that was asked; explain its subject as of then");
            }
            Some(_) if recorded.code == Denial::ServerNotAsked.as_str() => {
                return wrong("its gateway could not ask the server, which the record does not know of");
            }
            Some(_) => {}
        }
        let certificate = self.certificate_of(&recorded).await?;
        let app = Arc::clone(self);
        self.looking(move || app.replayed(recorded, certificate.as_deref())).await
    }

    fn replayed(&self, recorded: Decided, certificate: Option<&Certificate>) -> Result<Replayed, Error> {
        let Some(question) = &recorded.question else { return Err(Error::NotFound("question")) };
        let state = self.state_as_of(recorded.as_of.seq)?;
        if state.position != recorded.as_of {
            return Err(Error::WrongState(format!(
                "{} was made in epoch {}: what was recorded then was lost by a restore",
                recorded.id, recorded.as_of.epoch
            )));
        }
        let request = question.request();
        let decision = judged(&state, state_fault(&recorded), certificate, &request, recorded.at);
        let steps = steps(&state, &decision, &request, recorded.at);
        let facts = facts(&state, &decision, recorded.entity.zip(recorded.subject));
        let Some(hash) = recorded.certificate else {
            // A gateway says what came of it, and not why.
            let again = Decided {
                is_permit: decision.is_permit(),
                code: decision.code().to_owned(),
                logic: Some(LOGIC_VERSION),
                ..recorded.clone()
            };
            return Ok(Replayed { again, steps, facts, recorded });
        };
        let answer = Answer {
            id: Some(recorded.id),
            decision,
            as_of: state.position,
            good_until: good_until(certificate, recorded.at),
            certificate_fault: None,
        };
        let shown = Shown {
            id: recorded.id,
            at: recorded.at,
            hash,
            certificate,
            bundle: state.bundle().hash(),
            as_of: state.position,
        };
        let asking = Asking { by: recorded.by, gateway: recorded.gateway.clone() };
        let again = shown.answered(asking, &request, &answer);
        Ok(Replayed { again, steps, facts, recorded })
    }

    /// What would be decided of a subject on record, with a certificate in order: now, or as of an earlier time.
    ///
    /// # Errors
    /// No such subject of this entity was on record then.
    pub async fn explain(
        self: &Arc<Self>,
        (entity, subject): (EntityId, SubjectId),
        question: Question,
        at: Option<Timestamp>,
    ) -> Result<Explained, Error> {
        let app = Arc::clone(self);
        let explain = move || {
            let (state, at) = match at {
                None => (app.state(), app.now()),
                Some(at) => (app.state_as_of(app.seq_at(at)?)?, at),
            };
            let request = question.request();
            let decision =
                on_record(&state, (entity, subject), &request, at).ok_or(Error::NotFound("subject"))?;
            let steps = steps(&state, &decision, &request, at);
            let facts = facts(&state, &decision, Some((entity, subject)));
            Ok(Explained { decision, at, state, steps, facts })
        };
        match at {
            None => explain(),
            Some(_) => self.looking(explain).await,
        }
    }

    /// Recorded permits that would be denied by the facts as they are known now, and where to go on. Blocks: not for an async
    /// task.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn exposure(
        &self,
        from: (Cursor, Option<Timestamp>),
        wanted: &dyn Fn(&Decided) -> bool,
    ) -> Result<(BTreeMap<Exposed, Exposure>, Option<Cursor>), Error> {
        let is_permit = |line: &Decided| line.is_permit && line.question.is_some() && wanted(line);
        let (permits, next) = self.list_decisions(from, AGAIN_MAX, &is_permit)?;
        let state = self.state();
        let mut found: BTreeMap<Exposed, Exposure> = BTreeMap::new();
        for permit in permits {
            let (Some(entity), Some(subject), Some(question)) =
                (permit.entity, permit.subject, &permit.question)
            else {
                continue;
            };
            let decision = on_record(&state, (entity, subject), &question.request(), permit.at);
            let Some((code, legal)) =
                decision.map_or(Some((NO_SUBJECT, Legal::Indeterminate)), |d| exposed(&d))
            else {
                continue;
            };
            let key = (entity, subject, question.model.clone(), code);
            let row = found.entry(key).or_insert(Exposure {
                legal,
                count: 0,
                interval: (permit.at, permit.at),
                first: permit.id,
            });
            row.count += permit.count;
            row.interval = (row.interval.0.min(permit.at), row.interval.1.max(permit.at));
        }
        Ok((found, next))
    }

    fn find_decision(&self, id: DecisionId) -> Result<Decided, Error> {
        let mut from = Cursor::default();
        for _ in 0..PAGES_MAX {
            let (found, next) = self.list_decisions((from, Some(id.made_at())), 1, &|line| line.id == id)?;
            match (found.into_iter().next(), next) {
                (Some(line), _) => return Ok(line),
                (None, Some(next)) => from = next,
                (None, None) => break,
            }
        }
        Err(Error::NotFound("decision"))
    }

    /// The certificate that was shown; none: it was none of this service.
    async fn certificate_of(&self, recorded: &Decided) -> Result<Option<Arc<Certificate>>, Error> {
        let Some(ordinal) = recorded.ordinal else { return Ok(None) };
        // The server's own certificate is one of these, so that it is never said that there are none.
        self.await_index(&self.state(), AuthorityKind::System, 0).await?;
        let index = Arc::clone(&self.certificates);
        let rows = tokio::task::spawn_blocking(move || {
            [AuthorityKind::Access, AuthorityKind::System].map(|kind| index.by_ordinal(kind, ordinal))
        });
        let rows = rows.await.map_err(|e| Error::Internal(e.to_string()))?;
        for row in rows {
            let row = row
                .map_err(|e| Error::Internal(e.to_string()))?
                .filter(|row| recorded.certificate.is_none_or(|hash| row.hash == Some(hash)));
            if let Some((intended, Some(issued))) = row.map(|row| (row.intended, row.issued)) {
                let der = self.stored_in(intended, issued).await?.certificate;
                let read = self.read_certificate(&der);
                return read.map(Some).map_err(|fault| Error::Internal(fault.to_string()));
            }
        }
        Err(Error::WrongState(format!("certificate {ordinal} as it was shown is not on record")))
    }

    /// Does this on a thread of its own, one at a time with simulations: it may read all of the record.
    async fn looking<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.simulations).try_acquire_owned();
        let permit = permit.map_err(|_| Error::Limit { retry_after_ms: RETRY_AFTER_MS })?;
        let looked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            look()
        });
        looked.await.map_err(|e| Error::Internal(e.to_string()))?
    }
}

/// The code of a permit whose subject is not on record.
const NO_SUBJECT: &str = "NO_SUBJECT";

/// What the service itself was not able to do then, as the answer says.
fn state_fault(recorded: &Decided) -> Option<StateFault> {
    // The gate that fails first is the code, and this one is the first of all.
    let faults = [
        (Denial::StateUnavailable, StateFault::Unavailable),
        (Denial::ClockUntrusted, StateFault::ClockUntrusted),
        (Denial::StaleView, StateFault::StaleView),
    ];
    faults.into_iter().find(|(denial, _)| recorded.code == denial.as_str()).map(|(_, fault)| fault)
}

/// What is decided of a subject that is on record with this entity.
fn on_record(
    state: &State,
    (entity, subject): (EntityId, SubjectId),
    request: &Request<'_>,
    at: Timestamp,
) -> Option<Decision> {
    let now = Now::with_margin(at);
    let subject = state.subjects.get(&subject).filter(|subject| subject.entity == entity)?;
    let card = &state.entities.get(&entity)?.card;
    Some(decide_on_record(state, (card, subject), request, (now, now)))
}

/// Why a permit should not have been given: what the law says, or a gate or rule that rests on facts about the parties. Whatever
/// began or ended since says nothing about then.
fn exposed(decision: &Decision) -> Option<(&'static str, Legal)> {
    let denial = decision.denials.iter().find(|denial| denial.is_of_facts());
    let rule = decision.policy.filter(|rule| {
        matches!(
            rule,
            PolicyRule::NoGrant
                | PolicyRule::AccessForm
                | PolicyRule::StatusUnverified
                | PolicyRule::NotEmployee
                | PolicyRule::PlaceNotAllowed
                | PolicyRule::AssuranceTooLow
                | PolicyRule::Purpose
        )
    });
    let code = match (denial, rule) {
        (Some(denial), _) => denial.as_str(),
        (None, _) if !decision.legal.allows() => decision.reason.as_str(),
        (None, Some(rule)) => rule.as_str(),
        (None, None) => return None,
    };
    Some((code, decision.legal))
}

fn steps(state: &State, decision: &Decision, request: &Request<'_>, at: Timestamp) -> Vec<Step> {
    let bundle = state.bundle();
    decision.steps(bundle, bundle.registry().resolve(request.model), Now::with_margin(at))
}

/// What a decision rests on, with the records that changed it last.
fn facts(state: &State, decision: &Decision, of: Option<(EntityId, SubjectId)>) -> Vec<(ObjectRef, Seq)> {
    let mut objects = vec![ObjectRef::Policy];
    if let Some((entity, subject)) = of {
        objects.extend([
            ObjectRef::Entity(entity),
            ObjectRef::Subject(subject),
            ObjectRef::Screening(entity),
        ]);
        objects.push(ObjectRef::ScreeningList);
    }
    objects.extend(decision.determination.clone().map(ObjectRef::Annex));
    objects.extend(decision.license.clone().map(ObjectRef::License));
    objects.into_iter().map(|object| (object.clone(), state.revision(&object))).collect()
}
