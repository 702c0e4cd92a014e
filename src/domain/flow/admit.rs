//! `admit`: may this entry be the next record? Called by the one writer, on the state that the record will follow.

use super::announced;
use super::issuance;
use super::records;
use super::recovery;
use super::reject::Reject;
use super::screening;
use super::{authority, mandate};
use crate::domain::approval::{Mandate, SignedMandate};
use crate::domain::enforce::EnforcementEvent;
use crate::domain::event::{Entry, Event, NewEntity};
use crate::domain::id::{Digest, EntityId, PrincipalId, ProposalId, SubjectId};
use crate::domain::principal::{Principal, Role};
use crate::domain::proposal::Lapse;
use crate::domain::state::{Admitted, State};
use crate::domain::subject::{Subject, SubjectBody, SubjectStatus};
use crate::domain::time::Timestamp;

/// How long a one-time token may live: 14 days.
pub const TOKEN_TTL_MAX_MS: i64 = 14 * 86_400_000;
/// The most proposals that may wait: far more than two officers can look at.
const PROPOSALS_MAX: usize = 1_000;
/// The most of them that one officer has signed: whoever floods leaves room for the others.
pub(super) const PROPOSALS_EACH_MAX: usize = 100;
/// The most bytes of mandates that wait, since all of State is in memory: 32 policy bundles of the largest size.
pub(super) const PROPOSALS_LEN_MAX: usize = 16 << 20;
/// The most operators a workload may have.
const OPERATORS_MAX: usize = 64;

/// Checks an entry against the state that it will follow.
///
/// # Errors
/// Why it cannot be recorded.
pub fn admit<'a>(state: &State, entry: &'a Entry, now: Timestamp) -> Result<Admitted<'a>, Reject> {
    if let Some(seq) = entry.request.and_then(|request| state.requests.get(&request)) {
        return Err(Reject::Repeated(*seq));
    }
    let mandate = match &entry.event {
        Event::Proposed { id, signed } => Some(check_proposed(state, *id, signed, now)?),
        Event::Enacted { signed, proposal } => {
            let mandate = mandate::admit(state, signed, now)?;
            signed.check_count(&mandate.command).map_err(|e| Reject::NeedsApproval(e.to_string()))?;
            check_proposal(state, *proposal, signed)?;
            Some(mandate)
        }
        Event::RecoveryAnnounced { id, signed } => Some(recovery::admit(state, *id, signed, now)?),
        event => {
            check(state, entry.by.as_ref(), event, now)?;
            None
        }
    };
    Ok(Admitted::new(state, entry, mandate))
}

/// What no officer signs.
fn check(state: &State, by: Option<&PrincipalId>, event: &Event, now: Timestamp) -> Result<(), Reject> {
    match event {
        Event::Genesis { .. } => Err(Reject::Exists("genesis")),
        Event::Proposed { .. } | Event::Enacted { .. } | Event::RecoveryAnnounced { .. } => {
            Err(Reject::NeedsApproval("it was not signed".to_owned()))
        }
        Event::ServerStarted { .. }
        | Event::BarrierFinished { .. }
        | Event::InstantPassed(_)
        | Event::SnapshotTaken { .. }
        | Event::CallsSealed(_)
        | Event::DecisionsSealed(_) => Ok(()),
        Event::DecisionsRemoved(removed) => records::check_removed(state, removed),
        // Only offline, before anything is served.
        Event::Restored => {
            Err(Reject::Denied("a record is restored by `countersign restore begin`".to_owned()))
        }
        Event::RestrictionsCollected { events, .. } => match state.pending_restore() {
            Some(_) if events.iter().all(EnforcementEvent::is_restricting) => Ok(()),
            Some(_) => Err(Reject::Denied("a gateway gives back restrictions only".to_owned())),
            None => Err(Reject::NotFound("restore that waits")),
        },
        Event::ProposalWithdrawn(_) => {
            Err(Reject::Denied("a proposal is rejected, with a reason".to_owned()))
        }
        Event::RecoveryTookEffect(id) => recovery::check_effect(state, *id, now),
        Event::ProposalRejected { id, reason } => check_rejection(state, *id, by, reason),
        Event::ProposalLapsed { id, why } => check_lapse(state, *id, why, now),
        Event::EntityApplied(new) => check_applicant(state, new),
        Event::SubjectNominated { id, entity, body, reference } => {
            check_nomination(state, (*id, *reference), *entity, body, by)
        }
        Event::RelationAttested { subject, .. } => check_attestation(state, *subject, by),
        Event::TokenCreated { id, subject, expires_at, .. } => {
            let subject = own_subject(state, by, *subject)?;
            if state.tokens.contains_key(id) {
                return Err(Reject::Exists("token"));
            }
            check_token(subject, *expires_at, now)
        }
        Event::IssuanceIntended(intent) => issuance::admit_intent(state, intent, now),
        Event::CertificateIssued { authority, ordinal, .. } => {
            issuance::admit_completion(state, *authority, *ordinal, now)
        }
        Event::LineageLocked(lineage) => match state.lineages.contains_key(lineage) {
            true => Ok(()),
            false => Err(Reject::NotFound("lineage")),
        },
        Event::CeilingAnnounced(ordinal) => match *ordinal > state.enforcement.ceiling {
            true => Ok(()),
            false => Err(Reject::Conflict("this block is announced already".to_owned())),
        },
        Event::RotationStepped { kind, approval, step } => {
            authority::check_step(state, (*kind, *approval), step, now)
        }
        Event::RotationFailed { kind, approval, why } => {
            mandate::text("why", why, 1)?;
            authority::check_failure(state, *kind, *approval)
        }
        Event::AnnouncementPassed(id) => announced::check_passed(state, *id, now),
        Event::EntityScreened { .. } => screening::check_run(state, event),
        Event::BlockOpened(ordinal) => {
            match *ordinal > state.opened && *ordinal <= state.enforcement.ceiling {
                true => Ok(()),
                false => Err(Reject::Conflict("this block is open already, or not announced".to_owned())),
            }
        }
    }
}

/// A command that waits for more signatures.
fn check_proposed(
    state: &State,
    id: ProposalId,
    signed: &SignedMandate,
    now: Timestamp,
) -> Result<Mandate, Reject> {
    let mandate = mandate::admit(state, signed, now)?;
    if state.proposals.contains_key(&id) {
        return Err(Reject::Exists("proposal"));
    }
    // What one signature carries is carried out or refused; it never waits, and nothing waits without one.
    if signed.approvals.is_empty() || mandate.command.signers().count < 2 {
        let missing = signed.check_count(&mandate.command).err().map(|e| e.to_string());
        return Err(Reject::NeedsApproval(missing.unwrap_or_default()));
    }
    if state.proposals.len() >= PROPOSALS_MAX {
        return Err(Reject::WrongState {
            what: "number of open proposals",
            have: PROPOSALS_MAX.to_string(),
            need: "some of them approved or rejected",
        });
    }
    check_room(state, signed)?;
    match signed.check_count(&mandate.command) {
        Ok(()) => Err(Reject::Conflict("the command has enough signatures; enact it".to_owned())),
        Err(_) => Ok(mandate),
    }
}

/// May one more wait of whoever signed it, and of its length?
fn check_room(state: &State, signed: &SignedMandate) -> Result<(), Reject> {
    let waiting = || state.proposals.values().map(|proposal| &proposal.signed);
    let len: usize = waiting().map(|other| other.bytes.len()).sum();
    if len.saturating_add(signed.bytes.len()) > PROPOSALS_LEN_MAX {
        return Err(Reject::WrongState {
            what: "length of open proposals",
            have: format!("{len} bytes of {PROPOSALS_LEN_MAX}"),
            need: "some of them approved or rejected",
        });
    }
    let by = |other: &&SignedMandate, id: &PrincipalId| other.approvals.iter().any(|a| a.officer == *id);
    let is_full = |id: &PrincipalId| waiting().filter(|other| by(other, id)).count() >= PROPOSALS_EACH_MAX;
    match signed.approvals.iter().find(|approval| is_full(&approval.officer)) {
        None => Ok(()),
        Some(approval) => Err(Reject::WrongState {
            what: "number of open proposals of this officer",
            have: format!("{PROPOSALS_EACH_MAX} of {}", approval.officer),
            need: "some of them approved or rejected",
        }),
    }
}

/// What waits can never be carried out, for this reason.
fn check_lapse(state: &State, id: ProposalId, why: &Lapse, now: Timestamp) -> Result<(), Reject> {
    if state.recoveries.contains_key(&id) {
        return recovery::check_lapse(state, id, why);
    }
    let proposal = state.proposals.get(&id).ok_or(Reject::NotFound("proposal"))?;
    match state.lapse_of(proposal, now).as_ref() == Some(why) {
        true => Ok(()),
        false => Err(Reject::Conflict(format!("{id} has not lapsed so"))),
    }
}

/// Who may restrict may reject, and so may who proposed: it takes away what one other signature would carry out.
fn check_rejection(
    state: &State,
    id: ProposalId,
    by: Option<&PrincipalId>,
    reason: &str,
) -> Result<(), Reject> {
    if state.recoveries.contains_key(&id) {
        return recovery::check_rejection(state, by, reason);
    }
    mandate::text("reason", reason, 1)?;
    let proposal = state.proposals.get(&id).ok_or(Reject::NotFound("proposal"))?;
    let officer = by.and_then(|id| state.officer(id));
    let may = officer.is_some_and(|officer| {
        let proposed = proposal.signed.approvals.iter().any(|approval| approval.officer == officer.id);
        proposed || officer.has(Role::Approver) || officer.has(Role::SecurityOps)
    });
    match may {
        true => Ok(()),
        false => Err(Reject::Denied("who may approve or restrict rejects a proposal".to_owned())),
    }
}

/// What is enacted is what was proposed, so that a command cannot use up the proposal of another.
fn check_proposal(state: &State, proposal: Option<ProposalId>, signed: &SignedMandate) -> Result<(), Reject> {
    let Some(id) = proposal else { return Ok(()) };
    let proposal = state.proposals.get(&id).ok_or(Reject::NotFound("proposal"))?;
    match proposal.signed.bytes == signed.bytes {
        true => Ok(()),
        false => Err(Reject::Conflict(format!("{id} proposes another command"))),
    }
}

/// A partner acts for its own entity only; a registrar for any. To everybody else, the entity is not there.
///
/// # Errors
/// It does not, or nobody is to know whether there is such an entity.
pub fn check_acts_for(state: &State, by: Option<&PrincipalId>, entity: EntityId) -> Result<(), Reject> {
    let principal = by.and_then(|id| state.principal(id)).ok_or(Reject::NotFound("principal"))?;
    if acts_for(principal, entity) { Ok(()) } else { Err(Reject::NotFound("entity")) }
}

fn acts_for(principal: &Principal, entity: EntityId) -> bool {
    principal.has(Role::Registrar) || principal.has(Role::PartnerAdmin) && principal.entity == Some(entity)
}

/// A subject of an entity that the caller acts for. Another's is answered as one that is not there.
///
/// # Errors
/// There is none for this caller.
pub fn own_subject<'a>(
    state: &'a State,
    by: Option<&PrincipalId>,
    id: SubjectId,
) -> Result<&'a Subject, Reject> {
    // Whether there is none or it is another's: the same is looked up, and the same is compared.
    let principal = by.and_then(|id| state.principal(id));
    let found =
        state.subjects.get(&id).filter(|subject| principal.is_some_and(|p| acts_for(p, subject.entity)));
    found.map(AsRef::as_ref).ok_or(Reject::NotFound("subject"))
}

fn check_applicant(state: &State, new: &NewEntity) -> Result<(), Reject> {
    mandate::text("name", &new.name, 1)?;
    if state.entities.contains_key(&new.id) {
        return Err(Reject::Exists("entity"));
    }
    Ok(())
}

fn check_nomination(
    state: &State,
    (id, reference): (SubjectId, Option<Digest>),
    entity: EntityId,
    body: &SubjectBody,
    by: Option<&PrincipalId>,
) -> Result<(), Reject> {
    check_acts_for(state, by, entity)?;
    if !state.entities.contains_key(&entity) {
        return Err(Reject::NotFound("entity"));
    }
    if state.subjects.contains_key(&id) {
        return Err(Reject::Exists("subject"));
    }
    if reference.is_some_and(|reference| state.references.contains_key(&reference)) {
        return Err(Reject::Exists("reference"));
    }
    match body {
        SubjectBody::Human(employment) => match &employment.vetting {
            Some(_) => Err(Reject::Denied("only a vetter establishes a status".to_owned())),
            None => Ok(()),
        },
        SubjectBody::Workload(workload) => {
            if workload.operators.len() > OPERATORS_MAX {
                return Err(Reject::Invalid { field: "operators", why: "at most 64 are allowed".to_owned() });
            }
            if !workload.operators.is_empty() && !workload.operators.contains(&workload.owner) {
                return Err(Reject::Invalid {
                    field: "operators",
                    why: "the owner operates it too".to_owned(),
                });
            }
            let named = std::iter::once(&workload.owner).chain(&workload.operators);
            let known = |id: &SubjectId| {
                state.subjects.get(id).is_some_and(|s| s.entity == entity && s.employment().is_some())
            };
            match named.into_iter().all(known) {
                true => Ok(()),
                false => Err(Reject::Invalid {
                    field: "operators",
                    why: "owner and operators must be people of the same entity".to_owned(),
                }),
            }
        }
    }
}

fn check_attestation(state: &State, id: SubjectId, by: Option<&PrincipalId>) -> Result<(), Reject> {
    match own_subject(state, by, id)?.body {
        SubjectBody::Human(_) => Ok(()),
        SubjectBody::Workload(_) => {
            Err(Reject::Invalid { field: "subject", why: "a workload has no relation".to_owned() })
        }
    }
}

fn check_token(subject: &Subject, expires_at: Timestamp, now: Timestamp) -> Result<(), Reject> {
    if subject.status != SubjectStatus::Approved {
        return Err(Reject::WrongState {
            what: "subject",
            have: subject.status.to_string(),
            need: "APPROVED by a vetter",
        });
    }
    if expires_at <= now || expires_at > now.plus_ms(TOKEN_TTL_MAX_MS) {
        return Err(Reject::Invalid {
            field: "expires_at",
            why: "it must lie between now and 14 days from now".to_owned(),
        });
    }
    Ok(())
}
