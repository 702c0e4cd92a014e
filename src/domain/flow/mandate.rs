//! Commands: are they signed, current and sensible?

use std::collections::BTreeSet;

use super::announced;
use super::authority;
use super::issuance::check_unblocked;
use super::officers;
use super::partners;
use super::policy;
use super::quorum::{self, Gone};
use super::records;
use super::reject::Reject;
use super::screening;
use crate::domain::approval::{Basis, BasisFault, MANDATE_FRESH_MS, Mandate, SignedMandate};
use crate::domain::certificate::{AuthorityKind, PrincipalKind};
use crate::domain::command::{Command, NewPrincipal, Ruling, SubjectDecision};
use crate::domain::entity::{Entity, EntityStatus};
use crate::domain::id::{AuthorityId, Digest, EntityId, ModelId, Ordinal, PrincipalId, Seq, SubjectId};
use crate::domain::revocation::{RevocationScope, StopScope, SuspensionTarget};
use crate::domain::state::State;
use crate::domain::subject::{RULINGS_MAX, SubjectBody};
use crate::domain::time::{Now, OFFICER_AHEAD_MAX_MS, Timestamp};

/// The most entities one annex amendment may name: an annex of a letter has a few hundred lines.
const ANNEX_CHANGES_MAX: usize = 10_000;
/// How far the clock may have walked between an officer's look at it and its acceptance: an hour for two signatures.
const CLOCK_ACCEPT_MS: i64 = 3_600_000;
/// The longest reason an officer may write down.
const REASON_LEN_MAX: usize = 1_000;

/// The mandate of a command as of this state, for an officer to sign.
pub fn mandate_for(state: &State, command: Command, now: Timestamp) -> Mandate {
    let basis = command
        .objects()
        .into_iter()
        .map(|object| Basis { revision: state.revision(&object), object })
        .collect();
    Mandate { trust_domain: state.settings.trust_domain.clone(), command, basis, made_at: now }
}

/// Checks the signatures and the basis, then the command itself. Whether enough officers signed is another question.
///
/// # Errors
/// What does not hold.
pub fn admit(state: &State, signed: &SignedMandate, now: Timestamp) -> Result<Mandate, Reject> {
    let mandate = signed
        .mandate(&state.settings.trust_domain)
        .map_err(|e| Reject::Invalid { field: "mandate", why: e.to_string() })?;
    signed
        .check_signatures(&mandate.command, |id| state.officer(id))
        .map_err(|e| Reject::NeedsApproval(e.to_string()))?;
    if let Some(why) = state.spent_fault(signed, &mandate) {
        return Err(Reject::Conflict(why.to_owned()));
    }
    officers::check_emergency(state, &mandate, now)?;
    // A restriction never fails because something moved meanwhile.
    if !mandate.command.is_restricting() {
        check_basis(state, &mandate, now)?;
    }
    let signers: Vec<_> = signed.approvals.iter().map(|approval| &approval.officer).collect();
    officers::check_parties(state, &mandate.command, &signers)?;
    check(state, &mandate.command, now)?;
    Ok(mandate)
}

pub(super) fn check_basis(state: &State, mandate: &Mandate, now: Timestamp) -> Result<(), Reject> {
    if now < mandate.made_at.plus_ms(-OFFICER_AHEAD_MAX_MS) || now > mandate.made_at.plus_ms(MANDATE_FRESH_MS)
    {
        let why =
            format!("the mandate of {} lies in the future or is older than seven days", mandate.made_at);
        return Err(Reject::Conflict(why));
    }
    if state.predates_restore(mandate) {
        let why = "the mandate was prepared before the record was restored from a backup: prepare it again";
        return Err(Reject::Conflict(why.to_owned()));
    }
    mandate.check_basis(|object| state.revision(object)).map_err(|fault| match fault {
        BasisFault::Incomplete => Reject::Invalid { field: "mandate", why: fault.to_string() },
        BasisFault::Changed { .. } => Reject::Conflict(fault.to_string()),
    })
}

/// Could this command be carried out now, whoever signs it?
///
/// # Errors
/// What does not hold.
pub fn check(state: &State, command: &Command, now: Timestamp) -> Result<(), Reject> {
    match command {
        Command::RegisterPrincipal(new) => check_principal(state, new),
        Command::RemovePrincipal(id) => check_removal(state, id),
        Command::ActivateEntity(id) => partners::check_activation(state, entity(state, *id)?, now),
        Command::RejectEntity(id) => status(entity(state, *id)?, EntityStatus::Applicant, "APPLICANT"),
        Command::RemoveEntity { entity: id, .. } => check_entity_removal(state, *id),
        Command::AmendAnnex { determination, revision, add, remove } => {
            check_annex(state, (determination, *revision), add, remove, now)
        }
        Command::GrantModel { entity: id, grant } => {
            let entity = entity(state, *id)?;
            check_model(state, &grant.model)?;
            if entity.card.grants.iter().any(|held| held.id == grant.id) {
                return Err(Reject::Exists("grant"));
            }
            partners::check_safeguards(state, entity, Some(&grant.model), now)
        }
        Command::EndGrant { entity: id, grant } => {
            let held = entity(state, *id)?.card.grants.iter().any(|held| held.id == *grant);
            if held { Ok(()) } else { Err(Reject::NotFound("grant")) }
        }
        Command::RegisterLicense(license) => partners::check_license(state, license),
        Command::AdoptPolicy(parts) => policy::check(state, parts),
        Command::Impose(new) => policy::check_imposition(state, new),
        Command::Revoke { scope, .. } => check_scope(state, scope),
        Command::Stop { scope, .. } | Command::Drill(scope) => check_stop(state, scope),
        Command::ReleaseStop(scope) => found(state.enforcement.stops.contains(scope), "stop"),
        Command::Suspend { target, .. } => match target {
            SuspensionTarget::Entity(id) => entity(state, *id).map(|_| ()),
            SuspensionTarget::Subject(id) => found(state.subjects.contains_key(id), "subject"),
        },
        Command::Unsuspend(target) => found(state.enforcement.suspended.contains(target), "suspension"),
        Command::Hold { ordinal, .. } => found(is_taken(state, *ordinal), "certificate"),
        Command::ReleaseHold(ordinal) => found(state.enforcement.held.contains(*ordinal), "hold"),
        Command::DecideSubject { subject, decision } => check_subject(state, *subject, decision),
        Command::DecideSubjects(rulings) => check_rulings(state, rulings),
        Command::RecordScreening { entity: id, screening, reason } => {
            entity(state, *id)?;
            text("list_version", &screening.list_version, 1)?;
            text("reason", reason, 1)?;
            if screening.list_date > now {
                return Err(Reject::Invalid { field: "list_date", why: "it lies in the future".to_owned() });
            }
            Ok(())
        }
        Command::RecordSafeguards { entity: id, reverify_due, .. } => {
            partners::check_by_hand(state, entity(state, *id)?, *reverify_due)
        }
        Command::ImportScreeningList { .. } | Command::ResolveScreeningMatch { .. } => {
            screening::check(state, command, now)
        }
        Command::AcceptClock(at) => check_clock(*at, now),
        Command::Records(command) => records::check(state, command),
        Command::AcknowledgeRestore { restored } => check_restore(state, *restored),
        Command::BlockKey { key, .. } => check_block(state, *key),
        Command::UnblockKey(key) => found(state.enforcement.is_blocked(*key), "key block"),
        Command::AnnounceRevocation { scope, .. } => {
            check_announced(state, scope).and_then(|()| announced::check(state, command, now))
        }
        Command::HastenRevocation { .. } | Command::PostponeRevocation { .. } => {
            announced::check(state, command, now)
        }
        Command::Officers(command) => officers::check(state, command, now),
        Command::Partners(command) => partners::check(state, command, now),
        of_authority => authority::check(state, of_authority, now),
    }
}

fn check_entity_removal(state: &State, id: EntityId) -> Result<(), Reject> {
    let entity = entity(state, id)?;
    if entity.card.is_provider {
        return Err(Reject::Denied("the provider itself cannot be removed; stop it".to_owned()));
    }
    status(entity, EntityStatus::Active, "ACTIVE")
}

/// As what is revoked at once, but for an issuer: what it issued so far and nothing else, which takes no authority away.
fn check_announced(state: &State, scope: &RevocationScope) -> Result<(), Reject> {
    match scope {
        RevocationScope::Issuer(id) => check_issuer(state, *id),
        _ => check_scope(state, scope),
    }
}

/// Officers acknowledge the restore that they looked at. What gateways give back afterwards changes its revision.
fn check_restore(state: &State, restored: Seq) -> Result<(), Reject> {
    found(state.pending_restore().is_some_and(|restore| restore.seq == restored), "restore that waits")
}

/// Officers accept the clock that they saw, not whatever it shows by then.
fn check_clock(seen: Timestamp, now: Timestamp) -> Result<(), Reject> {
    let walked_ms = now.millis().saturating_sub(seen.millis());
    if (-OFFICER_AHEAD_MAX_MS..=CLOCK_ACCEPT_MS).contains(&walked_ms) {
        return Ok(());
    }
    Err(Reject::Conflict(format!("the server's clock shows {now}, which is not the {seen} that was signed")))
}

pub(super) fn entity(state: &State, id: EntityId) -> Result<&Entity, Reject> {
    state.entities.get(&id).map(AsRef::as_ref).ok_or(Reject::NotFound("entity"))
}

/// Grants, licences and stops name a model by its own name: under another name they would reach nothing.
pub(super) fn check_model(state: &State, name: &ModelId) -> Result<(), Reject> {
    match state.bundle().registry().resolve(name.as_str()) {
        Some([id, ..]) if id == name => Ok(()),
        Some([id, ..]) => {
            Err(Reject::Invalid { field: "model", why: format!("{name} is another name of {id}") })
        }
        Some([]) | None => Err(Reject::NotFound("model")),
    }
}

pub(super) fn found(is: bool, what: &'static str) -> Result<(), Reject> {
    if is { Ok(()) } else { Err(Reject::NotFound(what)) }
}

pub(super) fn status(entity: &Entity, need: EntityStatus, word: &'static str) -> Result<(), Reject> {
    if entity.status == need {
        Ok(())
    } else {
        Err(Reject::WrongState { what: "entity", have: entity.status.to_string(), need: word })
    }
}

fn is_taken(state: &State, ordinal: Ordinal) -> bool {
    ordinal != Ordinal::default() && ordinal <= state.last_ordinal && !state.gaps.contains(&ordinal)
}

/// A short text for people to read: no control characters.
pub(super) fn text(field: &'static str, value: &str, len_min: usize) -> Result<(), Reject> {
    if value.len() < len_min || value.len() > REASON_LEN_MAX || value.chars().any(char::is_control) {
        return Err(Reject::Invalid {
            field,
            why: format!("{len_min} to {REASON_LEN_MAX} printable characters are needed"),
        });
    }
    Ok(())
}

pub(super) fn check_principal(state: &State, new: &NewPrincipal) -> Result<(), Reject> {
    if state.principals.contains_key(&new.id) {
        return Err(Reject::Exists("principal"));
    }
    if new.kind == PrincipalKind::Server {
        return Err(Reject::Invalid { field: "kind", why: "the server registers itself".to_owned() });
    }
    if new.roles.is_empty() || new.roles.iter().any(|role| !new.kind.roles().contains(role)) {
        return Err(Reject::Invalid {
            field: "roles",
            why: format!("a {} cannot hold these roles", new.kind),
        });
    }
    match (new.kind, new.entity) {
        (PrincipalKind::Partner, Some(id)) => entity(state, id).map(|_| ())?,
        (PrincipalKind::Partner, None) => {
            return Err(Reject::Invalid { field: "entity", why: "a partner acts for one entity".to_owned() });
        }
        (_, Some(_)) => {
            return Err(Reject::Invalid {
                field: "entity",
                why: "only a partner acts for an entity".to_owned(),
            });
        }
        (_, None) => {}
    }
    let algorithms = state.settings.algorithms();
    if !matches!(new.key.len(), 91 | 120) || !algorithms.accepts(&new.key) {
        return Err(Reject::Invalid { field: "key", why: algorithms.remedy().to_owned() });
    }
    let key = Digest::of(&new.key);
    check_unblocked(state, key, "key")?;
    let is_recovery_key = recovery_keys(state).any(|recovery| recovery == key);
    if state.keys.contains_key(&key) || is_recovery_key {
        return Err(Reject::Exists("key"));
    }
    Ok(())
}

/// The recovery keys of genesis.
fn recovery_keys(state: &State) -> impl Iterator<Item = Digest> + '_ {
    state.recovery.iter().flat_map(|recovery| &recovery.keys).map(|key| Digest::of(&key.0))
}

/// Two officers remain who can each approve what the other proposed.
fn check_removal(state: &State, id: &PrincipalId) -> Result<(), Reject> {
    state.principal(id).ok_or(Reject::NotFound("principal"))?;
    quorum::check(state, Gone::Principal(id))
}

/// Any key may be blocked, seen or not, again or not, but for those on which everything rests: the server's own is replaced
/// first, and no officer shuts out those who could undo it, with their own keys or with recovery keys.
fn check_block(state: &State, key: Digest) -> Result<(), Reject> {
    let is_servers = |id: &PrincipalId| !state.principals.contains_key(id);
    if state.system_certificates.iter().any(|(id, last)| last.key == key && is_servers(id)) {
        return Err(Reject::WrongState {
            what: "key",
            have: "the server's own".to_owned(),
            need: "another key of the server, and a restart with it",
        });
    }
    check_recovery_remains(state, key)?;
    quorum::check(state, Gone::Key(key))
}

/// As many recovery keys are left as must sign. What was so before is no reason to refuse.
fn check_recovery_remains(state: &State, key: Digest) -> Result<(), Reject> {
    let unblocked = || recovery_keys(state).filter(|recovery| !state.enforcement.is_blocked(*recovery));
    if !unblocked().any(|recovery| recovery == key) {
        return Ok(());
    }
    let left = unblocked().filter(|recovery| *recovery != key).count();
    let need = state.recovery.as_ref().map_or(0, |recovery| recovery.threshold);
    match usize::try_from(need).is_ok_and(|need| left >= need) {
        true => Ok(()),
        false => Err(Reject::WrongState {
            what: "number of recovery keys that are not blocked",
            have: (left + 1).to_string(),
            need: "more than a recovery needs; unblock another one of them first",
        }),
    }
}

fn check_annex(
    state: &State,
    (determination, revision): (&crate::domain::id::DeterminationId, u32),
    add: &[EntityId],
    remove: &[EntityId],
    now: Timestamp,
) -> Result<(), Reject> {
    if state.bundle().determination(determination).is_none() {
        return Err(Reject::NotFound("determination"));
    }
    if add.len() + remove.len() > ANNEX_CHANGES_MAX || add.len() + remove.len() == 0 {
        return Err(Reject::Invalid { field: "add", why: "1 to 10000 entities are needed".to_owned() });
    }
    let mut named: Vec<_> = add.iter().chain(remove).collect();
    named.sort_unstable();
    if named.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        return Err(Reject::Invalid { field: "add", why: "an entity is named twice".to_owned() });
    }
    let last = state.annexes.get(determination).copied().unwrap_or_default();
    if revision != last + 1 {
        return Err(Reject::Conflict(format!("the last revision of this annex is {last}")));
    }
    let member = |id: &EntityId| -> Result<bool, Reject> {
        Ok(entity(state, *id)?.card.membership(Some(determination), Now::exactly(now)).is_some())
    };
    for id in add {
        if member(id)? {
            return Err(Reject::Exists("membership"));
        }
    }
    for id in remove {
        if !member(id)? {
            return Err(Reject::NotFound("membership"));
        }
    }
    Ok(())
}

fn check_scope(state: &State, scope: &RevocationScope) -> Result<(), Reject> {
    match scope {
        RevocationScope::Certificate(ordinal) => {
            found(is_taken(state, *ordinal), "certificate")?;
            if state.enforcement.revoked.contains(*ordinal) {
                return Err(Reject::Exists("revocation"));
            }
            Ok(())
        }
        RevocationScope::Lineage(id) => found(state.lineages.contains_key(id), "lineage"),
        RevocationScope::Subject(id) => found(state.subjects.contains_key(id), "subject"),
        RevocationScope::Person(id) => {
            let of_person = |e: &crate::domain::subject::Employment| e.person == *id;
            found(state.subjects.values().any(|s| s.employment().is_some_and(of_person)), "person")
        }
        RevocationScope::Entity(id) => entity(state, *id).map(|_| ()),
        RevocationScope::Issuer(_) => Err(Reject::NeedsApproval(
            "one officer stops an authority; two revoke it (REVOKE_AUTHORITY)".to_owned(),
        )),
        // Certificates may state one that a later policy no longer has, and a restriction is never refused for tidiness.
        RevocationScope::Determination(_) => Ok(()),
        RevocationScope::AnnexRevision(id, revision) => {
            let last = state.annexes.get(id).copied().unwrap_or_default();
            found((1..=last).contains(revision), "annex revision")
        }
    }
}

fn check_issuer(state: &State, id: AuthorityId) -> Result<(), Reject> {
    let authority = state.authorities.get(&id).ok_or(Reject::NotFound("authority"))?;
    match authority.kind {
        AuthorityKind::Access => Ok(()),
        AuthorityKind::System => {
            Err(Reject::Denied("no model-access scope reaches the system authority".to_owned()))
        }
    }
}

fn check_stop(state: &State, scope: &StopScope) -> Result<(), Reject> {
    if state.enforcement.stops.contains(scope) {
        return Err(Reject::Exists("stop"));
    }
    match scope {
        StopScope::All => Ok(()),
        StopScope::Model(id) => check_model(state, id),
        StopScope::Entity(id) => entity(state, *id).map(|_| ()),
        StopScope::Subject(id) => found(state.subjects.contains_key(id), "subject"),
        StopScope::Issuer(id) => check_issuer(state, *id),
    }
}

/// A date on which something must be verified again is replaced by another, never taken away: without it nothing would
/// ever be overdue.
pub(super) fn check_due(last: Option<Timestamp>, next: Option<Timestamp>) -> Result<(), Reject> {
    match (last, next) {
        (Some(last), None) => Err(Reject::Invalid {
            field: "reverify_due",
            why: format!("the last one was {last}: say when the next one is"),
        }),
        (_, Some(_)) | (None, None) => Ok(()),
    }
}

fn check_subject(state: &State, id: SubjectId, decision: &SubjectDecision) -> Result<(), Reject> {
    let subject = state.subjects.get(&id).ok_or(Reject::NotFound("subject"))?;
    if let SubjectDecision::Approve { reverify_due, .. } = decision {
        check_due(subject.reverify_due, *reverify_due)?;
    }
    check_decision(subject.body.clone(), decision)
}

fn check_rulings(state: &State, rulings: &[Ruling]) -> Result<(), Reject> {
    if !(1..=RULINGS_MAX).contains(&rulings.len()) {
        let why = format!("1 to {RULINGS_MAX} are decided on at once");
        return Err(Reject::Invalid { field: "subjects", why });
    }
    let mut seen = BTreeSet::new();
    for Ruling { subject, decision } in rulings {
        if !seen.insert(*subject) {
            let why = format!("{subject} is in it twice");
            return Err(Reject::Invalid { field: "subjects", why });
        }
        check_subject(state, *subject, decision)?;
    }
    Ok(())
}

/// Could this officer decide so on one of many? Who nominated somebody does not decide on them.
///
/// # Errors
/// What does not hold.
pub fn check_ruling(state: &State, officer: &PrincipalId, ruling: &Ruling) -> Result<(), Reject> {
    check_subject(state, ruling.subject, &ruling.decision)?;
    match state.nominator_fault(std::slice::from_ref(ruling), std::iter::once(officer)) {
        Some(why) => Err(Reject::Denied(why)),
        None => Ok(()),
    }
}

fn check_decision(body: SubjectBody, decision: &SubjectDecision) -> Result<(), Reject> {
    match (body, decision) {
        (SubjectBody::Human(employment), SubjectDecision::Approve { vetting: None, .. }) => {
            if employment.vetting.is_some() {
                Ok(())
            } else {
                Err(Reject::Invalid {
                    field: "vetting",
                    why: "a person is approved with a vetting".to_owned(),
                })
            }
        }
        (SubjectBody::Human(_), SubjectDecision::Approve { vetting: Some(vetting), .. }) => {
            if vetting.status == vetting.evidence.status() {
                Ok(())
            } else {
                Err(Reject::Invalid {
                    field: "status",
                    why: format!("{} supports {}", vetting.evidence, vetting.evidence.status()),
                })
            }
        }
        (SubjectBody::Workload(_), SubjectDecision::Approve { vetting: Some(_), .. }) => {
            Err(Reject::Invalid { field: "vetting", why: "a workload has none".to_owned() })
        }
        (SubjectBody::Workload(_), SubjectDecision::Approve { vetting: None, .. })
        | (_, SubjectDecision::Refuse) => Ok(()),
    }
}
