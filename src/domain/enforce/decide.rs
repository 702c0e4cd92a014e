//! `decide`: gathers a case from a view and a certificate and judges it. Pure and total, and the same function on the
//! server and in the gateway library.

use super::set::EnforcementSet;
use super::view::{CardLookup, SubjectLookup, View};
use crate::domain::certificate::{AccessFacts, Certificate, Facts};
use crate::domain::decision::{
    Case, ChainFacts, CredentialFault, Decision, Operator, Operators, ScreeningState, Standing, StateFault,
    Who, judge,
};
use crate::domain::entity::{EntityCard, EntityClass, Organisation};
use crate::domain::id::{EntityId, ModelId, PurposeId, SubjectId};
use crate::domain::model::AccessForm;
use crate::domain::person::{PersonStatus, Relation};
use crate::domain::policy::Place;
use crate::domain::revocation::{StopScope, SuspensionTarget};
use crate::domain::subject::{Subject, SubjectBody, SubjectStatus};
use crate::domain::time::{Now, Timestamp};

/// The intermediaries of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Entities between the subject and the model, nearest to the model first.
    pub hops: Vec<EntityId>,
    /// The end user is the subject of the certificate.
    pub end_user_identified: bool,
}

/// What a caller supplies. Everything else comes from the record or the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// The model, by any of its names.
    pub model: &'a str,
    /// How it is reached.
    pub form: AccessForm,
    /// Where the subject is.
    pub place: Place,
    /// Where the model is served from.
    pub serving: Place,
    /// What for.
    pub purpose: Option<PurposeId>,
    /// Through whom.
    pub chain: Chain,
}

/// The most operators of a workload that a decision looks at; a workload with more is judged as unknown.
const OPERATORS_MAX: usize = 64;

/// Decides. `credential` is the verified certificate, or why there is none; `state` is a fault of gate G1, if there is
/// one.
pub fn decide(
    view: &impl View,
    state: Option<StateFault>,
    credential: Result<&Certificate, CredentialFault>,
    request: &Request<'_>,
    now: Now,
) -> Decision {
    let set = view.enforcement();
    let bundle = set.bundle.as_ref();
    let family = bundle.registry().resolve(request.model);
    let access = match credential {
        Ok(certificate) => match &certificate.facts {
            Facts::Access(facts) => Ok((certificate, facts)),
            Facts::System(_) | Facts::Canary(_) => Err(CredentialFault::WrongKind),
        },
        Err(fault) => Err(fault),
    };
    let (certificate, facts) = match access {
        Ok(access) => access,
        Err(fault) => {
            let stopped = set.is_stopped(family, None);
            return judge(bundle, &nobody(state, fault, stopped, family, request), now);
        }
    };
    let shown = Shown { certificate, facts, family };
    let card = view.card(facts.entity.entity);
    let CardLookup::Known(card) = card else {
        let known = shown.fault(set, now).unwrap_or(CredentialFault::Stale);
        let stopped = set.is_stopped(family, Some((certificate, facts)));
        let mut decision = judge(bundle, &nobody(state, known, stopped, family, request), now);
        decision.ask_server = matches!(card, CardLookup::NotHere) && state.is_none();
        return decision;
    };
    let subject = view.subject(facts.subject);
    let fault = shown.fault(set, now).or_else(|| stale_fault(facts, card, subject, now));
    let at_gateway = matches!(subject, SubjectLookup::ByCertificate);
    // A credential that is refused is judged by what it states, and speaks for nobody: what only the record knows, of
    // its subject, its licences and its chain, is not looked up. So a gateway refuses it without asking anybody.
    let subject = if fault.is_some() { SubjectLookup::ByCertificate } else { subject };
    let hops = if fault.is_some() { &[] } else { request.chain.hops.as_slice() };
    let license = family.filter(|_| fault.is_none()).and_then(|family| {
        view.license(card.id, facts.subject, family, request.place, request.purpose.as_ref(), now)
    });
    let operators = operators(view, subject, now);
    let case = Case {
        state,
        credential: fault,
        who: who(facts, operators.as_deref()),
        license,
        standing: standing(set, card, facts, subject, now),
        screening: screening(view, card, hops, now),
        chain: chain(view, hops, request.chain.end_user_identified, now),
        ..shown.case(set, card, request, now)
    };
    let mut decision = judge(bundle, &case, now);
    // Also under a stop, which leaves the legal answer to the rows: it is recorded as the server would.
    decision.ask_server |= (card.has_licenses && family.is_some()) || !hops.is_empty();
    decision.ask_server &= at_gateway && fault.is_none() && state.is_none();
    decision
}

/// A certificate that was shown, and the model that was asked for.
struct Shown<'a> {
    certificate: &'a Certificate,
    facts: &'a AccessFacts,
    family: Option<&'a [ModelId]>,
}

impl<'a> Shown<'a> {
    /// What is wrong with the certificate by itself and by the revocation set.
    fn fault(&self, set: &EnforcementSet, now: Now) -> Option<CredentialFault> {
        validity_fault(self.certificate, now)
            .or_else(|| set.credential_fault(self.certificate, self.facts, now))
    }

    /// What certificate, card and request say, the same at the server and at every gateway.
    fn case(
        &self,
        set: &'a EnforcementSet,
        card: &'a EntityCard,
        request: &'a Request<'_>,
        now: Now,
    ) -> Case<'a> {
        let lift = self.family.and_then(|family| set.bundle.regime(family, now).lifted_by);
        let lists = |family: &[ModelId]| self.facts.models.iter().any(|model| family.contains(model));
        let stopped = set.is_stopped(self.family, Some((self.certificate, self.facts)));
        Case {
            model_not_listed: !self.family.is_some_and(lists),
            class: card.class_under(lift, now),
            org: card.org,
            seat: card.seat,
            mi_flag: card.mi_flag,
            grant: self.family.and_then(|family| card.grant(family, now)),
            purpose: request.purpose.as_ref(),
            ..nobody(None, CredentialFault::Stale, stopped, self.family, request)
        }
    }
}

/// Where entity and subject stand with the operator.
fn standing(
    set: &EnforcementSet,
    card: &EntityCard,
    facts: &AccessFacts,
    subject: SubjectLookup<'_>,
    now: Now,
) -> Standing {
    Standing {
        provisioned: card.is_active && is_on_roster(subject),
        suspended: set.is_suspended(card.id, facts.subject),
        reverify_overdue: card.reverify_due.is_some_and(|due| now.narrowed_since(due)),
        safeguard_lapsed: card.safeguards_until.is_some_and(|until| now.narrowed_since(until)),
        quota_exhausted: false,
    }
}

/// A case in which nothing is known of whoever asks.
const fn nobody<'a>(
    state: Option<StateFault>,
    fault: CredentialFault,
    stopped: bool,
    family: Option<&'a [ModelId]>,
    request: &Request<'_>,
) -> Case<'a> {
    Case {
        state,
        credential: Some(fault),
        stopped,
        family,
        model_not_listed: false,
        form: request.form,
        who: Who::Human { status: PersonStatus::Undetermined, relation: Relation::None, assurance: None },
        class: EntityClass::Unlisted,
        org: Organisation::Foreign,
        place: request.place,
        serving: request.serving,
        seat: None,
        mi_flag: false,
        license: None,
        grant: None,
        standing: Standing {
            provisioned: false,
            suspended: false,
            reverify_overdue: false,
            safeguard_lapsed: false,
            quota_exhausted: false,
        },
        screening: ScreeningState::Pending,
        chain: ChainFacts::Direct,
        purpose: None,
    }
}

/// RFC 5280 section 4.1.2.5: both ends of the validity are inside it.
pub(crate) fn validity_fault(certificate: &Certificate, now: Now) -> Option<CredentialFault> {
    if !now.widened_since(certificate.not_before) {
        Some(CredentialFault::NotYetValid)
    } else if now.narrowed_since(certificate.not_after.plus_ms(1)) {
        Some(CredentialFault::Expired)
    } else {
        None
    }
}

/// A compared attribute that is no longer so (design section 2). A gateway compares what the card shows; the rest is
/// kept true by cut-offs, and the server compares it.
fn stale_fault(
    facts: &AccessFacts,
    card: &EntityCard,
    subject: SubjectLookup<'_>,
    now: Now,
) -> Option<CredentialFault> {
    let current = match subject {
        SubjectLookup::ByCertificate => true,
        SubjectLookup::Absent => false,
        SubjectLookup::Known(subject) => subject.entity == facts.entity.entity && states(facts, subject),
    };
    (!current || card.class(now) != facts.entity.class).then_some(CredentialFault::Stale)
}

/// Does the certificate state what the record says of the subject?
pub(crate) fn states(facts: &AccessFacts, subject: &Subject) -> bool {
    match (&subject.body, &facts.person) {
        (SubjectBody::Human(employment), Some(person)) => {
            employment.relation == person.relation
                && employment.vetting.as_ref().is_some_and(|vetting| vetting.status == person.status)
        }
        (SubjectBody::Workload(_), None) => true,
        (SubjectBody::Human(_), None) | (SubjectBody::Workload(_), Some(_)) => false,
    }
}

fn is_on_roster(subject: SubjectLookup<'_>) -> bool {
    match subject {
        SubjectLookup::Known(subject) => subject.status == SubjectStatus::Approved,
        SubjectLookup::Absent => false,
        // Approval ends with a cut-off.
        SubjectLookup::ByCertificate => true,
    }
}

fn who<'a>(facts: &AccessFacts, operators: Option<&'a [Operator]>) -> Who<'a> {
    match (facts.person, operators) {
        (Some(person), _) => {
            Who::Human { status: person.status, relation: person.relation, assurance: Some(person.assurance) }
        }
        (None, None) => Who::Workload(Operators::EligibleByIssuance),
        (None, Some([])) => Who::Workload(Operators::Unknown),
        (None, Some(operators)) => Who::Workload(Operators::Listed(operators)),
    }
}

/// The operators of a workload: none at a gateway, empty when they are not known.
fn operators(view: &impl View, subject: SubjectLookup<'_>, now: Now) -> Option<Vec<Operator>> {
    let SubjectLookup::Known(subject) = subject else { return None };
    let SubjectBody::Workload(workload) = &subject.body else { return None };
    Some(operators_of(view, subject.entity, &workload.operators, now))
}

/// What is known of these operators of a workload of this entity; empty when one is not known.
pub(crate) fn operators_of(
    view: &impl View,
    entity: EntityId,
    operators: &[SubjectId],
    now: Now,
) -> Vec<Operator> {
    if operators.len() > OPERATORS_MAX {
        return Vec::new();
    }
    let known = operators.iter().map(|id| match view.subject(*id) {
        SubjectLookup::Known(subject) => operator(view, entity, subject, now),
        SubjectLookup::Absent | SubjectLookup::ByCertificate => None,
    });
    known.collect::<Option<Vec<_>>>().unwrap_or_default()
}

fn operator(view: &impl View, entity: EntityId, subject: &Subject, now: Now) -> Option<Operator> {
    let employment = subject.employment()?;
    let holds = |until: Option<Timestamp>| !until.is_some_and(|until| now.narrowed_since(until));
    // A suspended entity keeps its operators: its suspension is provider policy and no fact about them.
    let suspended = view.enforcement().suspended.contains(&SuspensionTarget::Subject(subject.id));
    Some(Operator {
        status: employment.vetting.as_ref().map_or(PersonStatus::Undetermined, |vetting| vetting.status),
        relation: employment.relation,
        in_good_standing: subject.entity == entity
            && subject.status == SubjectStatus::Approved
            && holds(employment.relation_until)
            && holds(subject.reverify_due)
            && !suspended,
    })
}

/// The worst standing of any party.
fn screening(view: &impl View, card: &EntityCard, hops: &[EntityId], now: Now) -> ScreeningState {
    let fresh_ms = view.enforcement().bundle.parts().posture.screening_fresh_ms;
    let hops = hops.iter().map(|hop| match view.card(*hop) {
        CardLookup::Known(card) => card.screening_state(fresh_ms, now),
        CardLookup::Absent | CardLookup::NotHere => ScreeningState::Pending,
    });
    hops.fold(card.screening_state(fresh_ms, now), ScreeningState::max)
}

/// Question Q12: every hop is the provider or listed, neither stopped nor suspended, and the end user is identified. A
/// stop of a party reaches what passes through it.
fn chain(view: &impl View, hops: &[EntityId], end_user_identified: bool, now: Now) -> ChainFacts {
    if hops.is_empty() {
        return ChainFacts::Direct;
    }
    let listed = hops.iter().all(|hop| match view.card(*hop) {
        CardLookup::Known(card) => {
            let set = view.enforcement();
            card.is_active
                && card.class(now) != EntityClass::Unlisted
                && !set.stops.contains(&StopScope::Entity(*hop))
                && !set.suspended.contains(&SuspensionTarget::Entity(*hop))
        }
        CardLookup::Absent | CardLookup::NotHere => false,
    });
    if listed && end_user_identified { ChainFacts::Identified } else { ChainFacts::Unidentified }
}
