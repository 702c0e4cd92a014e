//! Issuance: what a certificate may state, for how long, and whether it may be issued now. Everything comes from the
//! record; renewal runs every rule again and copies nothing.

use super::reject::Reject;
use crate::domain::authority::{Authority, AuthorityState};
use crate::domain::certificate::{
    AccessFacts, AuthorityKind, EntityFacts, Facts, LineageStep, PersonFacts, PrincipalKind, SystemFacts,
    TTL_MAX_S,
};
use crate::domain::decision::{
    Case, ChainFacts, Decision, Operator, Operators, ScreeningState, Standing, Who, judge,
};
use crate::domain::determination::Limb;
use crate::domain::enforce::{Names, operators_of, states};
use crate::domain::entity::{Entity, EntityClass};
use crate::domain::event::{Cause, Intent};
use crate::domain::id::{AuthorityId, DeterminationId, Digest, ModelId, Ordinal, PrincipalId, SubjectId};
use crate::domain::model::AccessForm;
use crate::domain::person::PersonStatus;
use crate::domain::policy::Place;
use crate::domain::revocation::StopScope;
use crate::domain::state::State;
use crate::domain::subject::{Subject, SubjectBody, SubjectStatus};
use crate::domain::time::{Now, Timestamp};

/// What may end a certificate before its configured life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// The configured life itself.
    Ttl,
    /// The end of the entity's membership in an annex.
    Membership,
    /// The end of the licence.
    License,
    /// The end of the entity's attestation.
    Attestation,
    /// The day on which the person's status must be verified again.
    Reverification,
    /// The end of the issuing authority's certificate.
    Issuer,
}

impl LimitKind {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Membership => "membership",
            Self::License => "license",
            Self::Attestation => "attestation",
            Self::Reverification => "reverification",
            Self::Issuer => "issuer",
        }
    }
}

/// Instants that a certificate may not outlive: each is the first at which something that it rests on no longer holds,
/// so its `notAfter`, which is inclusive, lies before all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits(pub Vec<(LimitKind, Timestamp)>);

/// What an access certificate of this subject would state now, and what it may not outlive.
///
/// # Errors
/// Why none may be issued.
pub fn certifiable(
    state: &State,
    subject: SubjectId,
    step: LineageStep,
    now: Timestamp,
) -> Result<(AccessFacts, Limits), Reject> {
    let subject = state.subjects.get(&subject).ok_or(Reject::NotFound("subject"))?;
    let entity = state.entities.get(&subject.entity).ok_or(Reject::NotFound("entity"))?;
    let authority = access_authority(state)?;
    let judged = Now::with_margin(now);
    check_standing(state, entity, subject, judged)?;
    let models = models(state, entity, subject, judged)?;
    let membership = entity.card.membership(None, judged);
    let class = entity.card.class(judged);
    if class == EntityClass::AnnexA {
        check_operators(state, subject, judged)?;
    }
    let (annex_revision, determination) = match (class, membership) {
        (EntityClass::AnnexA, Some(m)) => (Some(m.revision), Some(m.determination.clone())),
        (EntityClass::Provider, _) => (None, lift_for_staff(state, &models, judged)),
        (EntityClass::AnnexA | EntityClass::Unlisted, _) => (None, None),
    };
    let facts = AccessFacts {
        subject: subject.id,
        entity: EntityFacts { entity: entity.card.id, class, annex_revision, determination },
        person: person(subject)?,
        models,
        step,
    };
    let membership_end = membership.and_then(|m| m.interval.until);
    let license_ends = state
        .licenses_of(entity.card.id)
        .filter(|license| license.interval.permits(judged))
        .map(|license| (LimitKind::License, license.interval.until));
    let limits = [
        (LimitKind::Membership, membership_end),
        (LimitKind::Issuer, Some(authority.not_after.plus_ms(1))),
        (LimitKind::Reverification, entity.card.reverify_due),
    ];
    let limits = limits.into_iter().chain(subject_limits(state, subject)).chain(license_ends);
    Ok((facts, Limits(limits.filter_map(|(kind, at)| Some((kind, at?))).collect())))
}

/// When the attestations and re-verifications end that a subject rests on: its own and those of its operators.
fn subject_limits(state: &State, subject: &Subject) -> Vec<(LimitKind, Option<Timestamp>)> {
    let operators: &[SubjectId] = match &subject.body {
        SubjectBody::Human(_) => &[],
        SubjectBody::Workload(workload) => &workload.operators,
    };
    let operators = operators.iter().filter_map(|id| state.subjects.get(id)).map(AsRef::as_ref);
    let ends = |s: &Subject| {
        let attested_until = s.employment().and_then(|e| e.relation_until);
        [(LimitKind::Reverification, s.reverify_due), (LimitKind::Attestation, attested_until)]
    };
    std::iter::once(subject).chain(operators).flat_map(ends).collect()
}

/// A listed entity's workload gets a certificate only while its operators are all eligible: a gateway takes that from
/// the certificate, and a cut-off says when it ends.
fn check_operators(state: &State, subject: &Subject, now: Now) -> Result<(), Reject> {
    let SubjectBody::Workload(workload) = &subject.body else { return Ok(()) };
    let operators = operators_of(state, subject.entity, &workload.operators, now);
    if operators.is_empty() || !operators.iter().all(Operator::is_eligible) {
        return Err(Reject::WrongState {
            what: "workload",
            have: "not operated by eligible employees alone".to_owned(),
            need: "operators who are all approved employees of known status",
        });
    }
    Ok(())
}

/// The lift that names the provider's staff for one of these models.
fn lift_for_staff(state: &State, models: &[ModelId], now: Now) -> Option<DeterminationId> {
    let bundle = state.bundle();
    models.iter().find_map(|model| {
        let regime = bundle.regime(bundle.registry().resolve(model.as_str())?, now);
        let named = regime.limbs.contains(Limb::ProviderForeignEmployees);
        regime.lifted_by.filter(|_| named).cloned()
    })
}

fn person(subject: &Subject) -> Result<Option<PersonFacts>, Reject> {
    match &subject.body {
        SubjectBody::Workload(_) => Ok(None),
        SubjectBody::Human(employment) => {
            let vetting = employment.vetting.as_ref().ok_or(Reject::WrongState {
                what: "subject",
                have: "not vetted".to_owned(),
                need: "a vetting",
            })?;
            Ok(Some(PersonFacts {
                status: vetting.status,
                verified_on: vetting.verified_on,
                relation: employment.relation,
                assurance: vetting.assurance,
            }))
        }
    }
}

fn check_standing(state: &State, entity: &Entity, subject: &Subject, now: Now) -> Result<(), Reject> {
    if !entity.card.is_active {
        return Err(Reject::WrongState { what: "entity", have: entity.status.to_string(), need: "ACTIVE" });
    }
    if subject.status != SubjectStatus::Approved {
        return Err(Reject::WrongState {
            what: "subject",
            have: subject.status.to_string(),
            need: "APPROVED",
        });
    }
    if state.enforcement.is_suspended(entity.card.id, subject.id) {
        return Err(Reject::WrongState {
            what: "subject",
            have: "suspended".to_owned(),
            need: "no suspension",
        });
    }
    let due = |at: Option<Timestamp>| at.is_some_and(|at| now.narrowed_since(at));
    if due(subject.reverify_due) || due(entity.card.reverify_due) {
        return Err(Reject::WrongState {
            what: "re-verification",
            have: "overdue".to_owned(),
            need: "a re-verification",
        });
    }
    if subject.employment().is_some_and(|e| due(e.relation_until)) {
        return Err(Reject::WrongState {
            what: "relation",
            have: "no longer attested".to_owned(),
            need: "an attestation of the entity",
        });
    }
    let fresh_ms = state.bundle().parts().posture.screening_fresh_ms;
    let need = "a fresh screening without open hits";
    match entity.card.screening_state(fresh_ms, now) {
        ScreeningState::Clear => Ok(()),
        ScreeningState::Stale => {
            Err(Reject::WrongState { what: "screening", have: "stale (SCREENING_STALE)".to_owned(), need })
        }
        ScreeningState::Pending => Err(Reject::WrongState {
            what: "screening",
            have: "pending (SCREENING_PENDING)".to_owned(),
            need,
        }),
        ScreeningState::Denied => {
            Err(Reject::WrongState { what: "screening", have: "a hit (PARTY_DENIED)".to_owned(), need })
        }
    }
}

/// The model families that the subject could use from within the United States: a grant, and a law that allows it
/// (requirement E04). None: no certificate.
fn models(state: &State, entity: &Entity, subject: &Subject, now: Now) -> Result<Vec<ModelId>, Reject> {
    let mut models = Vec::new();
    let mut refusals = Vec::new();
    for grant in entity.card.grants.iter().filter(|grant| grant.is_active(now)) {
        let Some(family) = state.bundle().registry().resolve(grant.model.as_str()) else { continue };
        let stopped = state.enforcement.is_stopped(Some(family), None)
            || state.enforcement.stops.iter().any(|scope| match scope {
                StopScope::Entity(id) => *id == entity.card.id,
                StopScope::Subject(id) => *id == subject.id,
                StopScope::All => true,
                StopScope::Issuer(id) => state.authority(AuthorityKind::Access).is_some_and(|a| a.id == *id),
                StopScope::Model(_) => false,
            });
        let decision = judge_grant(state, entity, subject, family, now);
        if stopped {
            refusals.push(format!("{}: access is stopped (EMERGENCY_STOP)", grant.model));
        } else if decision.legal.allows() {
            models.push(grant.model.clone());
        } else {
            refusals.push(format!("{}: {} ({})", grant.model, decision.legal, decision.reason));
        }
    }
    models.sort();
    models.dedup();
    match (models.is_empty(), refusals.is_empty()) {
        (false, _) => Ok(models),
        (true, true) => Err(Reject::WrongState {
            what: "entity",
            have: "without an active grant".to_owned(),
            need: "a model grant",
        }),
        (true, false) => {
            Err(Reject::Denied(format!("no granted model may be used: {}", refusals.join("; "))))
        }
    }
}

fn judge_grant(state: &State, entity: &Entity, subject: &Subject, family: &[ModelId], now: Now) -> Decision {
    let lift = state.bundle().regime(family, now).lifted_by;
    let operators = match &subject.body {
        SubjectBody::Human(_) => Vec::new(),
        SubjectBody::Workload(workload) => operators_of(state, entity.card.id, &workload.operators, now),
    };
    let who = match &subject.body {
        SubjectBody::Human(employment) => Who::Human {
            status: employment.vetting.as_ref().map_or(PersonStatus::Undetermined, |vetting| vetting.status),
            relation: employment.relation,
            assurance: None,
        },
        SubjectBody::Workload(_) if operators.is_empty() => Who::Workload(Operators::Unknown),
        SubjectBody::Workload(_) => Who::Workload(Operators::Listed(&operators)),
    };
    let license = state
        .licenses_of(entity.card.id)
        .filter(|license| !state.owes_report(license, now))
        .find(|license| license.covers(subject.id, family, Place::Us, license.purposes.first(), now));
    let case = Case {
        state: None,
        credential: None,
        stopped: false,
        family: Some(family),
        model_not_listed: false,
        form: AccessForm::Inference,
        who,
        class: entity.card.class_under(lift, now),
        org: entity.card.org,
        place: Place::Us,
        serving: Place::Us,
        seat: entity.card.seat,
        mi_flag: entity.card.mi_flag,
        license: license.map(|license| &license.id),
        grant: entity.card.grant(family, now),
        standing: Standing {
            provisioned: true,
            suspended: false,
            reverify_overdue: false,
            safeguard_lapsed: false,
            quota_exhausted: false,
        },
        screening: ScreeningState::Clear,
        chain: ChainFacts::Direct,
        purpose: None,
    };
    judge(state.bundle(), &case, now)
}

/// May this intent be recorded? Its facts must be the ones that the record gives now.
pub(super) fn admit_intent(state: &State, intent: &Intent, now: Timestamp) -> Result<(), Reject> {
    if !intent.is_coherent() {
        let why = format!("the {} authority issues no such certificate", intent.authority);
        return Err(Reject::Invalid { field: "authority", why });
    }
    check_active(state, intent)?;
    match &intent.facts {
        Facts::Access(facts) => {
            check_unblocked(state, intent.key, "csr")?;
            check_ordinal(state, intent, cutoff(state, intent, facts))?;
            admit_access(state, intent, facts, now)
        }
        Facts::System(facts) => admit_system(state, intent, facts),
        Facts::Canary(facts) => {
            check_unblocked(state, intent.key, "csr")?;
            check_ordinal(state, intent, state.enforcement.key_cutoff(intent.key))?;
            check_ttl(intent, now)?;
            check_limits(intent, &canary_limits(state, &facts.gateway)?)?;
            check_key(state, intent.key)
        }
    }
}

/// What a new certificate must lie above. What was announced is cut later, but whoever renews for it must not get a
/// certificate that it reaches.
fn cutoff(state: &State, intent: &Intent, facts: &AccessFacts) -> Ordinal {
    let set = &state.enforcement;
    let names = Names {
        issuer: state.issuer_of(intent).map_or(AuthorityId::from_bytes([0; 16]), |authority| authority.id),
        ordinal: intent.ordinal,
        entity: facts.entity.entity,
        subject: facts.subject,
        lineage: facts.step.lineage,
        determination: facts.entity.determination.as_ref(),
        annex_revision: facts.entity.annex_revision,
        key: intent.key,
    };
    let announced = set.announcements(&names).map(|announced| announced.cutoff).max();
    set.cutoff(facts).max(set.key_cutoff(intent.key)).max(announced.unwrap_or_default())
}

/// Is its authority the one that issues now? A rotation may have come between, and then its successor issues.
fn check_active(state: &State, intent: &Intent) -> Result<(), Reject> {
    let active = state.authority(intent.authority).map(|authority| authority.id);
    match active.is_some() && active == state.issuer_of(intent).map(|authority| authority.id) {
        true => Ok(()),
        false => Err(Reject::Conflict("the authority does not issue any more".to_owned())),
    }
}

/// Is its ordinal open, not taken, and above what is cut off?
fn check_ordinal(state: &State, intent: &Intent, cutoff: Ordinal) -> Result<(), Reject> {
    if intent.ordinal > state.opened {
        return Err(Reject::Conflict("this ordinal is not open for issuance yet".to_owned()));
    }
    let taken = intent.ordinal <= state.last_ordinal && !state.gaps.contains(&intent.ordinal);
    match taken || intent.ordinal <= cutoff {
        true => Err(Reject::Conflict("this ordinal was overtaken".to_owned())),
        false => Ok(()),
    }
}

fn check_ttl(intent: &Intent, now: Timestamp) -> Result<(), Reject> {
    match intent.not_after > now.plus_ms(i64::from(TTL_MAX_S) * 1_000) {
        true => Err(Reject::Invalid { field: "not_after", why: "it lies more than 7 days ahead".to_owned() }),
        false => Ok(()),
    }
}

/// What a canary of this gateway may not outlive. It rests on nothing but the gateway's registration.
///
/// # Errors
/// It is not a registered gateway, or nobody can sign.
pub fn canary_limits(state: &State, gateway: &PrincipalId) -> Result<Limits, Reject> {
    let registered = state.acting(gateway).filter(|principal| principal.kind == PrincipalKind::Gateway);
    registered.ok_or(Reject::NotFound("gateway"))?;
    Ok(Limits(vec![(LimitKind::Issuer, access_authority(state)?.not_after.plus_ms(1))]))
}

fn access_authority(state: &State) -> Result<&Authority, Reject> {
    let none = || {
        // Ids begin with the time: the last one is the newest.
        let last = state.authorities.values().rfind(|authority| authority.kind == AuthorityKind::Access);
        let have = last.map_or(AuthorityState::Revoked, |authority| authority.state).to_string();
        Reject::WrongState { what: "access authority", have, need: "ACTIVE" }
    };
    state.authority(AuthorityKind::Access).map(AsRef::as_ref).ok_or_else(none)
}

fn admit_access(state: &State, intent: &Intent, facts: &AccessFacts, now: Timestamp) -> Result<(), Reject> {
    let (current, limits) = certifiable(state, facts.subject, facts.step, now)?;
    if current != *facts {
        return Err(Reject::Conflict("a fact changed meanwhile".to_owned()));
    }
    check_ttl(intent, now)?;
    check_limits(intent, &limits)?;
    let lineage = state.lineages.get(&facts.step.lineage);
    check_lineage(state, facts)?;
    match (&intent.cause, lineage) {
        (Cause::Enroll(id), None) if facts.step.generation == 1 => {
            let token = state.tokens.get(id).ok_or(Reject::NotFound("token"))?;
            let same_key = token
                .redeemed
                .is_none_or(|(key, lineage)| key == intent.key && lineage == facts.step.lineage);
            if token.subject != facts.subject || !same_key || token.expires_at <= now {
                return Err(Reject::NotFound("token"));
            }
            check_key(state, intent.key)
        }
        (Cause::Renew(ordinal), Some(lineage))
            if lineage.subject == facts.subject
                && lineage.last.ordinal == *ordinal
                && lineage.last.generation + 1 == facts.step.generation =>
        {
            if lineage.last.key == intent.key {
                return Err(Reject::Invalid { field: "csr", why: "a renewal needs a new key".to_owned() });
            }
            check_key(state, intent.key)
        }
        (Cause::Enroll(_) | Cause::Renew(_) | Cause::Register(_), _) => {
            Err(Reject::Conflict("this generation was issued meanwhile".to_owned()))
        }
    }
}

fn check_limits(intent: &Intent, limits: &Limits) -> Result<(), Reject> {
    match limits.0.iter().any(|(_, limit)| intent.not_after >= *limit) {
        true => Err(Reject::Conflict("a limit of its validity changed meanwhile".to_owned())),
        false => Ok(()),
    }
}

fn check_lineage(state: &State, facts: &AccessFacts) -> Result<(), Reject> {
    match state.enforcement.locked.contains(&facts.step.lineage) {
        true => {
            Err(Reject::WrongState { what: "lineage", have: "locked".to_owned(), need: "a new enrollment" })
        }
        false => Ok(()),
    }
}

/// A blocked key is certified for nobody. Whoever holds it is told, for they can make another one.
///
/// # Errors
/// It is blocked.
pub fn check_unblocked(state: &State, key: Digest, field: &'static str) -> Result<(), Reject> {
    match state.enforcement.is_blocked(key) {
        true => Err(Reject::Invalid {
            field,
            why: "this key is blocked (KEY_BLOCKED); make a new one".to_owned(),
        }),
        false => Ok(()),
    }
}

/// A key is the current one of one lineage at most, and never a principal's.
///
/// # Errors
/// It is blocked or in use.
pub fn check_key(state: &State, key: Digest) -> Result<(), Reject> {
    check_unblocked(state, key, "csr")?;
    if state.keys.contains_key(&key) {
        return Err(Reject::Invalid {
            field: "csr",
            why: "this key is in use already; make a new one".to_owned(),
        });
    }
    Ok(())
}

fn admit_system(state: &State, intent: &Intent, facts: &SystemFacts) -> Result<(), Reject> {
    if intent.ordinal != Ordinal(state.last_system_ordinal.0 + 1) {
        return Err(Reject::Conflict("this ordinal was overtaken".to_owned()));
    }
    // Nobody believes what outlives its authority, and a proxy would refuse it only then.
    let issuer = state.issuer_of(intent).ok_or(Reject::NotFound("authority"))?;
    if intent.not_after > issuer.not_after {
        return Err(Reject::Conflict(format!(
            "it outlives its authority, which ends at {}",
            issuer.not_after
        )));
    }
    check_principal(state, intent, facts)
}

fn check_principal(state: &State, intent: &Intent, facts: &SystemFacts) -> Result<(), Reject> {
    check_unblocked(state, intent.key, "csr")?;
    if facts.kind == PrincipalKind::Server {
        return Ok(());
    }
    let principal = state.acting(&facts.principal).ok_or(Reject::NotFound("principal"))?;
    if principal.kind != facts.kind || principal.key_digest() != intent.key {
        return Err(Reject::Invalid {
            field: "csr",
            why: "the key is not the one that is registered for this principal".to_owned(),
        });
    }
    Ok(())
}

/// May this intent be completed? Entity, grant, stops and facts are checked again, for they may have changed since.
pub(super) fn admit_completion(
    state: &State,
    authority: AuthorityKind,
    ordinal: Ordinal,
    now: Timestamp,
) -> Result<(), Reject> {
    let row = state.intents(authority).get(&ordinal).ok_or(Reject::NotFound("intent"))?;
    let (_, intent) = row.as_ref();
    check_active(state, intent)?;
    match &intent.facts {
        Facts::System(facts) => check_principal(state, intent, facts),
        Facts::Canary(facts) => {
            check_unblocked(state, intent.key, "csr")?;
            let cut = ordinal <= state.enforcement.key_cutoff(intent.key);
            if cut || state.enforcement.revoked.contains(ordinal) {
                return Err(Reject::Conflict("it was revoked before it was issued".to_owned()));
            }
            check_limits(intent, &canary_limits(state, &facts.gateway)?)?;
            check_key(state, intent.key)
        }
        Facts::Access(facts) => {
            check_unblocked(state, intent.key, "csr")?;
            let cut = ordinal <= cutoff(state, intent, facts);
            if cut || state.enforcement.revoked.contains(ordinal) {
                return Err(Reject::Conflict("it was revoked before it was issued".to_owned()));
            }
            let subject = state.subjects.get(&facts.subject).ok_or(Reject::NotFound("subject"))?;
            if !states(facts, subject) {
                return Err(Reject::Conflict("a fact changed meanwhile".to_owned()));
            }
            let (_, limits) = certifiable(state, facts.subject, facts.step, now)?;
            check_limits(intent, &limits)?;
            check_lineage(state, facts)?;
            let last = state.lineages.get(&facts.step.lineage).map_or(0, |lineage| lineage.last.generation);
            if last + 1 != facts.step.generation {
                return Err(Reject::Conflict("this generation was issued meanwhile".to_owned()));
            }
            // Another lineage's certificate for the same key may have been completed since.
            check_key(state, intent.key)
        }
    }
}
