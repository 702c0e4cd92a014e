//! Roots: which may be trusted, which list replaces which. That a certificate or a list is signed by whom it names is not
//! looked at here: `app` reads both before they are recorded.

use super::reject::Reject;
use crate::domain::authority::NewAuthority;
use crate::domain::id::{Digest, RootId};
use crate::domain::root::{
    Beneath, CROSS_CERTIFICATES_MAX, CrossCertificate, CrossSubject, ListFault, REVOKED_MAX, ROOTS_MAX, Root,
    RootList,
};
use crate::domain::state::{ROOTS_EVER_MAX, State};
use crate::domain::time::{OFFICER_AHEAD_MAX_MS, Timestamp};

/// The longest certificate of a root: one of P-384 has 700 bytes.
const CERTIFICATE_LEN_MAX: usize = 4_096;
/// The longest list: what 256 entries take, with room.
const LIST_LEN_MAX: usize = 16 * 1_024;

fn root(state: &State, id: RootId) -> Result<&Root, Reject> {
    state.roots.get(&id).map(AsRef::as_ref).ok_or(Reject::NotFound("root"))
}

fn invalid(field: &'static str, why: &str) -> Reject {
    Reject::Invalid { field, why: why.to_owned() }
}

fn check_certificate(certificate: &[u8], not_after: Timestamp, now: Timestamp) -> Result<(), Reject> {
    if certificate.is_empty() || certificate.len() > CERTIFICATE_LEN_MAX {
        return Err(invalid("certificate", "1 to 4096 bytes are needed"));
    }
    if not_after <= now { Err(invalid("certificate", "its validity has passed")) } else { Ok(()) }
}

/// A list that has ended would have proxies refuse everybody.
fn check_current(list: &RootList, now: Timestamp) -> Result<(), Reject> {
    if list.list.is_empty() || list.list.len() > LIST_LEN_MAX || list.revoked.len() > REVOKED_MAX {
        return Err(invalid("list", "a list of at most 256 entries in 16 KiB is needed"));
    }
    if list.next_update <= now {
        return Err(invalid(
            "list",
            "its nextUpdate has passed; have the root sign another: countersign root crl",
        ));
    }
    if list.this_update > now.plus_ms(OFFICER_AHEAD_MAX_MS) {
        return Err(invalid("list", "its thisUpdate lies in the future"));
    }
    Ok(())
}

pub(super) fn check_trust(state: &State, new: &Root, now: Timestamp) -> Result<(), Reject> {
    if state.roots.contains_key(&new.id) {
        return Err(Reject::Exists("root"));
    }
    check_certificate(&new.certificate, new.not_after, now)?;
    check_current(&new.list, now)?;
    state.check_comeback(new).map_err(|fault| refused(&new.list, fault))?;
    let dropped = &state.remembered.roots;
    if !dropped.contains_key(&new.id) && dropped.len() + state.roots.len() >= ROOTS_EVER_MAX {
        return Err(Reject::WrongState {
            what: "number of roots that were ever trusted",
            have: ROOTS_EVER_MAX.to_string(),
            need: "one of them, trusted again: what each revoked is never forgotten",
        });
    }
    if state.roots.len() >= ROOTS_MAX {
        let have = ROOTS_MAX.to_string();
        return Err(Reject::WrongState { what: "number of roots", have, need: "some of them dropped" });
    }
    Ok(())
}

/// A newer list can only narrow: it revokes what the last one did, and perhaps more.
pub(super) fn check_list(state: &State, id: RootId, list: &RootList, now: Timestamp) -> Result<(), Reject> {
    let last = &root(state, id)?.list;
    check_current(list, now)?;
    list.check_follows(last.number, &last.revoked).map_err(|fault| refused(list, fault))
}

fn refused(list: &RootList, fault: ListFault) -> Reject {
    match fault {
        ListFault::Number => Reject::WrongState {
            what: "list",
            have: format!("number {}", list.number),
            need: "a higher number than that of the list on record",
        },
        ListFault::Forgets => invalid("list", &fault.to_string()),
    }
}

/// Is the root trusted, does it outlive what it certified, and has it not revoked it?
fn check_beneath(state: &State, beneath: Beneath, not_after: Timestamp) -> Result<(), Reject> {
    let root = root(state, beneath.root)?;
    if root.list.revokes(beneath.serial) {
        return Err(invalid("certificate", "its root has revoked it"));
    }
    if not_after > root.not_after {
        return Err(invalid("certificate", "it outlives its root"));
    }
    Ok(())
}

pub(super) fn check_prepare(state: &State, new: &NewAuthority) -> Result<(), Reject> {
    new.beneath.map_or(Ok(()), |beneath| check_beneath(state, beneath, new.not_after))
}

pub(super) fn check_cross(state: &State, new: &CrossCertificate, now: Timestamp) -> Result<(), Reject> {
    check_certificate(&new.certificate, new.not_after, now)?;
    check_beneath(state, new.by, new.not_after)?;
    match new.subject {
        CrossSubject::Root(id) => drop(root(state, id)?),
        CrossSubject::Authority(id) => {
            let row = state.authorities.get(&id).filter(|row| row.state.is_trusted());
            row.ok_or(Reject::NotFound("authority that is trusted"))?;
        }
    }
    if state.cross_certificates.contains_key(&Digest::of(&new.certificate)) {
        return Err(Reject::Exists("cross-certificate"));
    }
    if state.cross_certificates.len() >= CROSS_CERTIFICATES_MAX {
        return Err(Reject::WrongState {
            what: "number of cross-certificates",
            have: CROSS_CERTIFICATES_MAX.to_string(),
            need: "some of them gone, with a root that is dropped or a list that revokes them",
        });
    }
    Ok(())
}

/// Nothing that is trusted stands beneath it.
pub(super) fn check_drop(state: &State, id: RootId) -> Result<(), Reject> {
    root(state, id)?;
    let stands = |beneath: Option<Beneath>| beneath.is_some_and(|beneath| beneath.root == id);
    let above = state.authorities.values().find(|row| row.state.is_trusted() && stands(row.beneath));
    match above {
        None => Ok(()),
        Some(row) => Err(Reject::WrongState {
            what: "root",
            have: format!("one with the {} authority {} beneath it", row.state, row.id),
            need: "one beneath which every authority is retired or revoked",
        }),
    }
}
