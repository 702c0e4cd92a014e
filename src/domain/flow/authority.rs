//! Steps of a rotation: which state of the named authority each needs. Whether gateways know what is to be activated, and
//! whether anything of what is to be retired is still good, is not on record: `app` looks at that before.

use super::reject::Reject;
use super::root;
use crate::domain::authority::{AUTHORITIES_MAX, Authority, AuthorityState, NewAuthority};
use crate::domain::certificate::AuthorityKind;
use crate::domain::command::Command;
use crate::domain::id::{AuthorityId, Seq};
use crate::domain::rotation::{APPROVAL_MAX_MS, ROTATIONS_MAX, RotationStep};
use crate::domain::state::{RotationFault, State};
use crate::domain::time::Timestamp;

/// The longest certificate of an authority: one of P-384 has 700 bytes.
const CERTIFICATE_LEN_MAX: usize = 4_096;

fn authority(state: &State, id: AuthorityId) -> Result<&Authority, Reject> {
    state.authorities.get(&id).map(AsRef::as_ref).ok_or(Reject::NotFound("authority"))
}

fn wrong(row: &Authority, need: &'static str) -> Reject {
    Reject::WrongState { what: "authority", have: row.state.to_string(), need }
}

/// May this step of a rotation, or this standing approval, be recorded?
pub(super) fn check(state: &State, command: &Command, now: Timestamp) -> Result<(), Reject> {
    match command {
        Command::PrepareAuthority(new) => {
            check_prepare(state, new, now)?;
            root::check_prepare(state, new)
        }
        Command::ActivateAuthority(id) => check_activate(state, *id, now),
        Command::TaintAuthority { authority: id, .. } => check_taint(state, *id),
        Command::RollbackAuthority(id) => check_rollback(state, *id, now),
        Command::RetireAuthority(id) => check_retire(state, *id),
        Command::RevokeAuthority { authority: id, .. } => check_revoke(state, *id, now),
        Command::PermitRotation { kind, until, rotations } => {
            check_online(state, *kind)?;
            check_permit(*until, *rotations, now)
        }
        Command::TrustRoot(new) => root::check_trust(state, new, now),
        Command::RenewRootList { root: id, list } => root::check_list(state, *id, list, now),
        Command::AddCrossCertificate(new) => root::check_cross(state, new, now),
        Command::DropRoot(id) => root::check_drop(state, *id),
        Command::WithdrawRotation(kind) => match state.rotations.approvals.contains_key(kind) {
            true => Ok(()),
            false => Err(Reject::NotFound("standing approval")),
        },
        // Every other command is checked by its own: one that is not would be refused here.
        other => Err(Reject::Denied(format!("{} is no step of a rotation", other.name()))),
    }
}

/// Is nothing of it valid any more, whatever was revoked?
fn is_spent(row: &Authority, now: Timestamp) -> bool {
    row.issued_until.is_none_or(|until| until < now)
}

fn check_prepare(state: &State, new: &NewAuthority, now: Timestamp) -> Result<(), Reject> {
    if state.authorities.contains_key(&new.id) {
        return Err(Reject::Exists("authority"));
    }
    if new.certificate.is_empty() || new.certificate.len() > CERTIFICATE_LEN_MAX {
        let why = format!("1 to {CERTIFICATE_LEN_MAX} bytes are needed");
        return Err(Reject::Invalid { field: "certificate", why });
    }
    if new.not_after <= now {
        return Err(Reject::Invalid { field: "not_after", why: "it has passed".to_owned() });
    }
    if state.enforcement.authorities.len() >= AUTHORITIES_MAX {
        return Err(Reject::WrongState {
            what: "number of authorities that gateways know",
            have: AUTHORITIES_MAX.to_string(),
            need: "some of them retired",
        });
    }
    Ok(())
}

fn check_activate(state: &State, id: AuthorityId, now: Timestamp) -> Result<(), Reject> {
    let row = authority(state, id)?;
    match row.state {
        AuthorityState::Prepared if row.not_after > now => Ok(()),
        AuthorityState::Prepared => {
            Err(Reject::WrongState { what: "authority", have: "expired".to_owned(), need: "a valid one" })
        }
        AuthorityState::Active
        | AuthorityState::Retiring
        | AuthorityState::Retired
        | AuthorityState::Tainted
        | AuthorityState::Revoked => Err(wrong(row, "PREPARED")),
    }
}

fn check_taint(state: &State, id: AuthorityId) -> Result<(), Reject> {
    let row = authority(state, id)?;
    match row.state {
        AuthorityState::Prepared | AuthorityState::Active | AuthorityState::Retiring => Ok(()),
        AuthorityState::Tainted | AuthorityState::Retired | AuthorityState::Revoked => {
            Err(wrong(row, "PREPARED, ACTIVE or RETIRING"))
        }
    }
}

/// A prepared one goes, but not with certificates that it issued before an earlier rollback.
fn check_rollback(state: &State, id: AuthorityId, now: Timestamp) -> Result<(), Reject> {
    let row = authority(state, id)?;
    match row.state {
        AuthorityState::Prepared if is_spent(row, now) => Ok(()),
        AuthorityState::Prepared => Err(Reject::WrongState {
            what: "authority",
            have: "PREPARED with certificates that are still valid".to_owned(),
            need: "TAINTED, and then to be retired",
        }),
        AuthorityState::Active => {
            let need = "one whose predecessor is RETIRING";
            let before = row.predecessor.ok_or_else(|| wrong(row, need))?;
            match authority(state, before)?.state {
                AuthorityState::Retiring => Ok(()),
                have => {
                    Err(Reject::WrongState { what: "predecessor", have: have.to_string(), need: "RETIRING" })
                }
            }
        }
        AuthorityState::Retiring
        | AuthorityState::Retired
        | AuthorityState::Tainted
        | AuthorityState::Revoked => Err(wrong(row, "PREPARED, or ACTIVE with a RETIRING predecessor")),
    }
}

fn check_retire(state: &State, id: AuthorityId) -> Result<(), Reject> {
    let row = authority(state, id)?;
    match row.state {
        AuthorityState::Retiring | AuthorityState::Tainted => Ok(()),
        AuthorityState::Prepared
        | AuthorityState::Active
        | AuthorityState::Retired
        | AuthorityState::Revoked => Err(wrong(row, "RETIRING or TAINTED")),
    }
}

/// The last access authority can be revoked: then nothing is permitted and nothing issued. Of the system, nobody could
/// reach this service to undo it, so two officers need certificates of another one first.
fn check_revoke(state: &State, id: AuthorityId, now: Timestamp) -> Result<(), Reject> {
    let row = authority(state, id)?;
    match row.state {
        AuthorityState::Prepared
        | AuthorityState::Active
        | AuthorityState::Retiring
        | AuthorityState::Tainted => {}
        AuthorityState::Retired | AuthorityState::Revoked => {
            return Err(wrong(row, "PREPARED, ACTIVE, RETIRING or TAINTED"));
        }
    }
    match (row.kind, row.state) {
        (AuthorityKind::Access, _) | (AuthorityKind::System, AuthorityState::Prepared) => Ok(()),
        (AuthorityKind::System, _) => check_officers_remain(state, id, now),
    }
}

/// What the server makes by itself signs itself: it would leave the root that those before it stand beneath.
fn check_online(state: &State, kind: AuthorityKind) -> Result<(), Reject> {
    match state.authority(kind).is_some_and(|row| row.beneath.is_some()) {
        false => Ok(()),
        true => Err(Reject::WrongState {
            what: "authority",
            have: "one beneath an offline root, which certifies at ceremonies only".to_owned(),
            need: "a self-signed one, or each step by officers",
        }),
    }
}

/// A standing approval ends, so that officers look at it again.
fn check_permit(until: Timestamp, rotations: u32, now: Timestamp) -> Result<(), Reject> {
    if until <= now || until > now.plus_ms(APPROVAL_MAX_MS) {
        let why = "it must lie between now and two years from now".to_owned();
        return Err(Reject::Invalid { field: "until", why });
    }
    match (1..=ROTATIONS_MAX).contains(&rotations) {
        true => Ok(()),
        false => {
            Err(Reject::Invalid { field: "rotations", why: format!("1 to {ROTATIONS_MAX} are allowed") })
        }
    }
}

/// A step that the server takes by itself needs what the same step of officers needs, and a standing approval of theirs.
pub(super) fn check_step(
    state: &State,
    (kind, approval): (AuthorityKind, Seq),
    step: &RotationStep,
    now: Timestamp,
) -> Result<(), Reject> {
    let at = now.max(state.time);
    state.check_rotation((kind, approval), step, at).map_err(|fault| match fault {
        RotationFault::NotApproved
        | RotationFault::ByHand
        | RotationFault::Lapsed(_)
        | RotationFault::Expired(_)
        | RotationFault::UsedUp => Reject::NeedsApproval(fault.to_string()),
        RotationFault::NotDue(_) => Reject::Conflict(fault.to_string()),
        RotationFault::State(need) => {
            Reject::WrongState { what: "list of authorities", have: "another".to_owned(), need }
        }
    })?;
    match step {
        RotationStep::Prepare(new) => check_prepare(state, new, now),
        RotationStep::Activate(id) => check_activate(state, *id, now),
        RotationStep::Retire(id) => check_retire(state, *id),
    }
}

pub(super) fn check_failure(state: &State, kind: AuthorityKind, approval: Seq) -> Result<(), Reject> {
    let held = state.rotations.approvals.get(&kind);
    match held.is_some_and(|held| held.given == approval && held.failed.is_none()) {
        true => Ok(()),
        false => Err(Reject::NotFound("standing approval")),
    }
}

fn check_officers_remain(state: &State, without: AuthorityId, now: Timestamp) -> Result<(), Reject> {
    match state.approvers_remain(without, now) {
        true => Ok(()),
        false => Err(Reject::WrongState {
            what: "system authority",
            have: "the one that the approvers' certificates are of".to_owned(),
            need: "two approvers with certificates of another one",
        }),
    }
}
