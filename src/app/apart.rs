//! One key is never used for two things: not for two authorities, nor for an authority and the log, the server, a
//! principal or a subject. Whoever had the one would have the other. The record keeps principals, subjects and canaries
//! apart by itself (`State::keys`); what only certificates of authorities tell is looked at here.

use std::sync::Arc;

use super::App;
use super::error::Error;
use crate::domain::command::Command;
use crate::domain::id::{AuthorityId, Digest, RootId};
use crate::domain::root::Root as Row;
use crate::domain::state::State;
use crate::x509::{Authority, Root, TrustBundle};

/// The authority that has this key.
fn authority_with(known: &TrustBundle, key: Digest) -> Option<AuthorityId> {
    known.authorities().iter().find(|authority| authority.key().digest() == key).map(Authority::id)
}

/// Has somebody this key, or will a recovery that waits give it to somebody?
pub(super) fn is_held(state: &State, key: Digest) -> bool {
    let waits = state.recoveries.values().any(|pending| Digest::of(&pending.new.key) == key);
    let mut recovery = state.recovery.iter().flat_map(|recovery| &recovery.keys);
    waits || state.keys.contains_key(&key) || recovery.any(|recovery| Digest::of(&recovery.0) == key)
}

/// The root that has this key.
fn root_with(state: &State, key: Digest) -> Option<RootId> {
    let has_it = |row: &&Arc<Row>| {
        Root::from_der(&row.certificate).is_ok_and(|root| root.certificate().key().digest() == key)
    };
    state.roots.values().find(has_it).map(|row| row.id)
}

/// Keys of a record that a service may start with.
///
/// # Errors
/// Two authorities have one key, or somebody has that of an authority.
pub(super) fn check_record(known: &TrustBundle, state: &State) -> Result<(), Error> {
    for (at, authority) in known.authorities().iter().enumerate() {
        let key = authority.key().digest();
        let other = known.authorities().iter().skip(at + 1).find(|other| other.key().digest() == key);
        if let Some(other) = other {
            return Err(Error::Internal(format!(
                "the authorities {} and {} have the same key; nothing that one of them signed can be told from the other's",
                authority.id(),
                other.id()
            )));
        }
        if let Some(holder) = state.keys.get(&key) {
            return Err(Error::Internal(format!(
                "the key of authority {} is also that of {holder:?}",
                authority.id()
            )));
        }
    }
    Ok(())
}

impl App {
    /// Refuses the key of an authority or of a root for anything else.
    pub(super) fn check_apart(&self, key: Digest, field: &'static str) -> Result<(), Error> {
        match authority_with(&self.known_authorities(), key) {
            None => {}
            Some(id) => {
                let why = format!("this is the key of authority {id}; make a new one");
                return Err(Error::Invalid { field, why });
            }
        }
        match root_with(&self.state(), key) {
            None => Ok(()),
            Some(id) => {
                Err(Error::Invalid { field, why: format!("this is the key of root {id}; make a new one") })
            }
        }
    }

    /// Refuses what a command would give an authority's key to.
    pub(super) fn check_apart_command(&self, command: &Command) -> Result<(), Error> {
        match command {
            Command::RegisterPrincipal(new) => self.check_apart(Digest::of(&new.key), "key"),
            _ => Ok(()),
        }
    }
}
