//! Whom a gate trusts: the authorities of its view, so that what it acknowledges on the feed covers them. The bundle that
//! it was configured with is where it begins.

use super::cache::Cache;
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::authority::AuthorityCard;
use crate::domain::certificate::AuthorityKind;
use crate::domain::enforce::EnforcementSet;
use crate::domain::id::Digest;
use crate::x509::{Authority, TrustBundle};

/// The authorities that certificates may name, and certificates that were verified under them. Those of a revoked one are
/// read too, so that it can be said why they are refused.
pub(super) struct Trust {
    pub(super) digest: Digest,
    pub(super) bundle: TrustBundle,
    pub(super) cache: Cache,
}

impl Trust {
    /// Of people and workloads; none: nobody is trusted.
    ///
    /// # Errors
    /// An authority of the set is none.
    pub(super) fn of(set: &EnforcementSet) -> Result<Option<Self>, String> {
        let cards = set.authorities.values().filter(|card| card.kind == AuthorityKind::Access);
        let bundle = bundle(cards.map(AsRef::as_ref))?;
        Ok(bundle.map(|bundle| Self { digest: bundle.digest(), bundle, cache: Cache::default() }))
    }
}

/// The authorities that the server may prove itself by, PEM; none: the set trusts nobody of the system.
///
/// # Errors
/// An authority of the set is none, or its key is not one of the profile of algorithms that the gate was configured with.
pub(super) fn system_pem(
    set: &EnforcementSet,
    algorithms: AlgorithmProfile,
) -> Result<Option<String>, String> {
    let Some(bundle) = bundle(set.trusted(AuthorityKind::System).map(AsRef::as_ref))? else {
        return Ok(None);
    };
    let bundle = bundle.stating(algorithms);
    match bundle.algorithms() {
        Ok(_) => Ok(Some(bundle.to_pem())),
        Err(fault) => Err(fault.to_string()),
    }
}

fn bundle<'a>(cards: impl Iterator<Item = &'a AuthorityCard>) -> Result<Option<TrustBundle>, String> {
    let authorities = cards.map(read).collect::<Result<Vec<_>, _>>()?;
    match authorities.is_empty() {
        true => Ok(None),
        false => TrustBundle::new(authorities).map(Some).map_err(|fault| fault.to_string()),
    }
}

fn read(card: &AuthorityCard) -> Result<Authority, String> {
    let authority =
        Authority::from_der(&card.certificate).map_err(|fault| format!("authority {}: {fault}", card.id))?;
    match (authority.id(), authority.kind()) == (card.id, card.kind) {
        true => Ok(authority),
        false => Err(format!("authority {}: its certificate is another's", card.id)),
    }
}
