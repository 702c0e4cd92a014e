//! Roots on record: what is to be recorded of them is read here first, signatures included, and made anew from its bytes.
//!
//! The record itself reads no certificate. So what stands there was verified once, by whoever recorded it, and is verified
//! again when a process starts.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::Error;
use super::{App, algorithms, internal};
use crate::domain::command::Command;
use crate::domain::id::{AuthorityId, RootId};
use crate::domain::root::{Beneath, CrossCertificate, CrossSubject, Root as Row};
use crate::domain::state::State;
use crate::x509::{Authority, Root, TrustBundle, root_row};

/// Before a root's list ends, a ceremony is to be arranged and held: 60 days.
const LIST_ENDS_MS: i64 = 60 * 86_400_000;
/// Before a root ends, another is to be trusted and partners are to learn of it: a year.
const ROOT_ENDS_MS: i64 = 365 * 86_400_000;

fn wrong(field: &'static str, why: impl ToString) -> Error {
    Error::Invalid { field, why: why.to_string() }
}

/// The root of this name, as its certificate says.
fn find(state: &State, id: RootId) -> Result<Root, Error> {
    let row = state.roots.get(&id).ok_or(Error::NotFound("root"))?;
    Root::from_der(&row.certificate).map_err(|e| internal("root", &e))
}

/// Does a command about roots say what its bytes say, and did their issuers sign them?
pub(super) fn check(state: &State, command: &Command) -> Result<(), Error> {
    match command {
        Command::TrustRoot(new) => {
            let read =
                root_row::root(&new.certificate, &new.list.list).map_err(|e| wrong("certificate", e))?;
            same(*new == read, "certificate")?;
            let root = Root::from_der(&new.certificate).map_err(|e| wrong("certificate", e))?;
            algorithms::check(state.settings.algorithms(), root.certificate().key(), "certificate")?;
            check_key(state, &root)
        }
        Command::RenewRootList { root, list } => {
            let read = root_row::list(&list.list, &find(state, *root)?).map_err(|e| wrong("list", e))?;
            same(*list == read, "list")
        }
        Command::AddCrossCertificate(new) => {
            let by = find(state, new.by.root)?;
            let read = root_row::cross(&new.certificate, &by).map_err(|e| wrong("certificate", e))?;
            same(*new == read, "certificate")?;
            check_subject(state, new)
        }
        _ => Ok(()),
    }
}

fn same(is_same: bool, field: &'static str) -> Result<(), Error> {
    if is_same { Ok(()) } else { Err(wrong(field, "what is to be recorded is not what its bytes say")) }
}

/// A root has a key of its own.
fn check_key(state: &State, root: &Root) -> Result<(), Error> {
    let key = root.certificate().key();
    let has_it = |certificate: &[u8]| Authority::from_der(certificate).is_ok_and(|other| other.key() == key);
    let is_root =
        |certificate: &[u8]| Root::from_der(certificate).is_ok_and(|other| other.certificate().key() == key);
    let is_used = state.keys.contains_key(&key.digest())
        || state.authorities.values().any(|row| has_it(&row.certificate))
        || state.roots.values().any(|row| is_root(&row.certificate));
    if is_used { Err(wrong("certificate", "the key of the root is in use already")) } else { Ok(()) }
}

/// A cross-certificate has the key of the one that it names, and is by another root than that one's.
fn check_subject(state: &State, new: &CrossCertificate) -> Result<(), Error> {
    let other = || wrong("certificate", "it certifies another key than that of the one that it names");
    match new.subject {
        CrossSubject::Root(id) => {
            let cross = crate::x509::CrossCertificate::from_der(&new.certificate);
            let cross = cross.map_err(|e| wrong("certificate", e))?;
            let is_its = find(state, id)?.certificate().key() == cross.certificate().key();
            if is_its { Ok(()) } else { Err(other()) }
        }
        CrossSubject::Authority(id) => {
            let row = state.authorities.get(&id).ok_or(Error::NotFound("authority"))?;
            let own = super::authorities::read(&row.certificate)?;
            let cross = Authority::from_der(&new.certificate).map_err(|e| wrong("certificate", e))?;
            if (own.key(), own.kind()) != (cross.key(), cross.kind()) {
                return Err(other());
            }
            match row.beneath.is_some_and(|beneath| beneath.root == new.by.root) {
                false => Ok(()),
                true => Err(wrong("certificate", "it is by the root that the authority is beneath already")),
            }
        }
    }
}

/// Does an authority stand where the record is to say, and did that root certify it?
pub(super) fn check_beneath(state: &State, read: &Authority, beneath: Option<Beneath>) -> Result<(), Error> {
    if root_row::beneath(read) != beneath {
        return Err(wrong("certificate", "it is not beneath the root that is named"));
    }
    let Some(beneath) = beneath else { return Ok(()) };
    find(state, beneath.root)?.check_issued(read).map_err(|e| wrong("certificate", e))
}

/// The bundle with what leads from its authorities up to every root that is trusted; nothing, when none of them stands
/// beneath one: a root lets in whatever it certifies, so it is in no bundle that does not need it.
pub(super) fn with_roots(state: &State, bundle: TrustBundle) -> TrustBundle {
    let is_of = |cross: &&Arc<CrossCertificate>| match cross.subject {
        CrossSubject::Root(_) => true,
        CrossSubject::Authority(id) => bundle.find(id).is_some(),
    };
    let crosses: Vec<_> = state.cross_certificates.values().filter(is_of).collect();
    let is_beneath = bundle.authorities().iter().any(|authority| authority.parent().is_some());
    if !is_beneath && crosses.is_empty() {
        return bundle;
    }
    let roots = state.roots.values().filter_map(|row| Root::from_der(&row.certificate).ok());
    let crosses = crosses.iter().map(|cross| cross.certificate.clone()).collect();
    let roots = roots.collect();
    bundle.with_roots(roots, crosses)
}

/// What is shown with a leaf of an authority: the authority, unless it is self-signed, and certificates by other roots, for
/// those who trust only these. DER, from the leaf upwards.
pub(super) fn chain(state: &State, issuer: AuthorityId) -> Vec<Vec<u8>> {
    let Some(row) = state.authorities.get(&issuer) else { return Vec::new() };
    let own = row.beneath.map(|_| row.certificate.clone());
    let is_above = |cross: &&Arc<CrossCertificate>| match cross.subject {
        CrossSubject::Root(id) => row.beneath.is_some_and(|beneath| beneath.root == id),
        CrossSubject::Authority(id) => id == issuer,
    };
    let crosses = state.cross_certificates.values().filter(is_above);
    own.into_iter().chain(crosses.map(|cross| cross.certificate.clone())).collect()
}

/// The roots beneath which these authorities stand: who checks lists up to a root needs the list of each.
pub(super) fn roots_above(state: &State, authorities: impl Iterator<Item = AuthorityId>) -> Vec<&Arc<Row>> {
    let beneath = authorities.filter_map(|id| state.authorities.get(&id)?.beneath);
    let above: BTreeSet<RootId> = beneath.map(|beneath| beneath.root).collect();
    state.roots.values().filter(|row| above.contains(&row.id)).collect()
}

/// Verifies again what is on record.
///
/// # Errors
/// The record was altered, or written by something else.
pub(super) fn verify(state: &State) -> Result<(), Error> {
    for row in state.roots.values() {
        let read = root_row::root(&row.certificate, &row.list.list).map_err(|e| internal("root", &e))?;
        if read != **row {
            return Err(Error::Internal(format!("root {} on record is not what its bytes say", row.id)));
        }
    }
    for row in state.cross_certificates.values() {
        let read = root_row::cross(&row.certificate, &find(state, row.by.root)?);
        if read.map_err(|e| internal("cross-certificate", &e))? != **row {
            return Err(Error::Internal(
                "a cross-certificate on record is not what its bytes say".to_owned(),
            ));
        }
    }
    let mut trusted = state.authorities.values().filter(|row| row.state.is_trusted());
    trusted.try_for_each(|row| {
        let read = super::authorities::read(&row.certificate)?;
        check_beneath(state, &read, row.beneath)
    })
}

impl App {
    /// What is shown with a leaf of this authority, DER, from the leaf upwards; nothing, when it is self-signed.
    pub fn chain(&self, issuer: AuthorityId) -> Vec<Vec<u8>> {
        chain(&self.state(), issuer)
    }

    /// What leads up from an authority beneath a root: cross-certificates, and the root. DER.
    pub fn way_up(&self, authority: AuthorityId) -> Vec<Vec<u8>> {
        let state = self.state();
        let beneath = state.authorities.get(&authority).and_then(|row| row.beneath);
        let root = beneath.and_then(|beneath| state.roots.get(&beneath.root));
        // Its own certificate is the first of what is above a leaf, unless it is self-signed.
        let crosses = chain(&state, authority).into_iter().skip(usize::from(beneath.is_some()));
        crosses.chain(root.map(|root| root.certificate.clone())).collect()
    }

    /// What is shown with this leaf of ours, likewise.
    pub fn above(&self, leaf: &[u8]) -> Vec<Vec<u8>> {
        self.read_certificate(leaf).map(|leaf| self.chain(leaf.issuer)).unwrap_or_default()
    }

    /// Says in the log which root, or which list of one, ends soon.
    pub(super) fn warn_of_roots(&self) {
        let now = self.clock.now();
        for root in self.state().roots.values() {
            let (root_id, list) = (root.id, &root.list);
            if list.next_update <= now {
                tracing::error!(
                    root.id = %root_id, until = %list.next_update,
                    "the revocation list of a root has ended: proxies that check it refuse everybody; have the root sign another"
                );
            } else if list.next_update <= now.plus_ms(LIST_ENDS_MS) {
                tracing::warn!(root.id = %root_id, until = %list.next_update, "the revocation list of a root ends soon");
            }
            if root.not_after <= now.plus_ms(ROOT_ENDS_MS) {
                tracing::warn!(root.id = %root_id, until = %root.not_after, "a root ends within a year");
            }
        }
    }
}
