//! The profile of algorithms of genesis, held against what only certificates and requests tell: the record itself reads none.
//! Whatever is certified, trusted or started with is of it; nothing is looked over because it is old.

use super::App;
use super::error::Error;
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::state::State;
use crate::x509::{PublicKey, Root, TrustBundle};

/// Refuses a key that is not of the profile.
pub(super) fn check(algorithms: AlgorithmProfile, key: &PublicKey, field: &'static str) -> Result<(), Error> {
    if algorithms.accepts(key.spki()) {
        return Ok(());
    }
    let why = format!("the key is {}; {}", key.curve().as_str(), algorithms.remedy());
    Err(Error::Invalid { field, why })
}

/// Authorities and roots of a record that a service may start with.
///
/// # Errors
/// One of them is not of the profile.
pub(super) fn check_record(known: &TrustBundle, state: &State) -> Result<(), Error> {
    let algorithms = state.settings.algorithms();
    let wrong = |what: &str, id: String| {
        Error::Internal(format!(
            "genesis says profile {algorithms}, and the key of {what} {id} is another one"
        ))
    };
    let mut authorities = known.authorities().iter();
    if let Some(authority) = authorities.find(|one| !algorithms.accepts(one.key().spki())) {
        return Err(wrong("authority", authority.id().to_string()));
    }
    let is_other = |certificate: &[u8]| {
        Root::from_der(certificate).is_ok_and(|root| !algorithms.accepts(root.certificate().key().spki()))
    };
    match state.roots.values().find(|row| is_other(&row.certificate)) {
        Some(row) => Err(wrong("root", row.id.to_string())),
        None => Ok(()),
    }
}

impl App {
    /// Which algorithms this service uses: as genesis says.
    pub fn algorithms(&self) -> AlgorithmProfile {
        self.profile.algorithms()
    }

    /// Refuses to certify, or to trust, a key that is not of the profile.
    pub(super) fn check_algorithms(&self, key: &PublicKey, field: &'static str) -> Result<(), Error> {
        check(self.algorithms(), key, field)
    }
}
