//! The authorities as this process can use them: the keys that it has, and the bundles that follow the record.
//!
//! Who issues is decided by the record at each issuance; a key that is here and not on record signs nothing. Callers: app.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use imbl::OrdMap;

use super::error::Error;
use super::{App, Keys, hierarchy, internal};
use crate::ca::{AuthorityKeys, Issuer, Signer};
use crate::domain::approval::Mandate;
use crate::domain::authority::{Authority as Row, AuthorityCard, AuthorityState, NewAuthority};
use crate::domain::certificate::AuthorityKind;
use crate::domain::command::Command;
use crate::domain::id::AuthorityId;
use crate::domain::state::State;
use crate::x509::{Authority, BundleFault, Curve, Profile, TrustBundle};

type Cards = OrdMap<AuthorityId, Arc<AuthorityCard>>;

/// The bundles of one list of authorities.
struct Bundles {
    of: Cards,
    /// Every authority that a certificate may name, the revoked ones too: so it can be said that they are.
    known: Arc<TrustBundle>,
}

/// Keys and bundles.
pub(super) struct Authorities {
    keys: Arc<dyn AuthorityKeys>,
    profile: Profile,
    issuers: ArcSwap<BTreeMap<AuthorityId, Arc<Issuer>>>,
    bundles: ArcSwap<Bundles>,
}

impl Authorities {
    /// Finds the key of every authority on record that may still sign something, certificates or lists.
    ///
    /// # Errors
    /// An authority that issues has no key here, or has the key of another.
    pub(super) fn new(keys: &Keys, profile: &Profile, state: &State) -> Result<Self, Error> {
        hierarchy::verify(state)?;
        set_orphans_aside(keys.authorities.as_ref(), state);
        let mut issuers = BTreeMap::new();
        for row in state.authorities.values().filter(|row| row.state != AuthorityState::Retired) {
            let found = find(keys, row).and_then(|signer| issuer(row, profile, signer));
            match found {
                Ok(issuer) => drop(issuers.insert(row.id, Arc::new(issuer))),
                // A revoked authority issues nothing, and the service still starts, to deny what it issued.
                Err(error) if row.state != AuthorityState::Active => {
                    tracing::error!(authority.id = %row.id, authority.state = %row.state, %error, "it signs no lists");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            keys: Arc::clone(&keys.authorities),
            profile: profile.clone(),
            issuers: ArcSwap::from_pointee(issuers),
            bundles: ArcSwap::from_pointee(bundles(&state.enforcement.authorities)?),
        })
    }

    /// Makes a key. It signs nothing before its authority is on record.
    pub(super) fn make(&self, id: AuthorityId, curve: Curve) -> Result<Arc<dyn Signer>, Error> {
        self.keys.make(id, curve).map_err(|e| internal("a key cannot be kept", &e))
    }

    /// The keys that wait for a root to certify them, each with its request.
    pub(super) fn requests(&self) -> Result<Vec<(AuthorityId, Vec<u8>)>, Error> {
        let failed = |e| internal("the requests of keys cannot be read", &e);
        let mut found = Vec::new();
        for id in self.keys.list().map_err(failed)? {
            found.extend(self.keys.request(id).map_err(failed)?.map(|request| (id, request)));
        }
        Ok(found)
    }

    /// Keeps the request of a key.
    pub(super) fn keep_request(&self, id: AuthorityId, request: &[u8]) -> Result<(), Error> {
        self.keys.keep_request(id, request).map_err(|e| internal("a request cannot be kept", &e))
    }

    /// Destroys a key that is no authority's.
    pub(super) fn remove(&self, id: AuthorityId) -> Result<(), Error> {
        self.keys.remove(id).map_err(|e| internal("a key cannot be removed", &e))
    }

    /// Is its key kept here? Blocks.
    pub(super) fn check_key(&self, id: AuthorityId) -> Result<(), Error> {
        match self.keys.find(id).map_err(|e| internal("authority key", &e))? {
            Some(_) => Ok(()),
            None => Err(Error::WrongState(format!(
                "the key of authority {id} is not at this server: another one was made instead; sign for that one"
            ))),
        }
    }

    /// Has the key of an authority at hand before it is recorded. No officer need have signed what is shown here, so it
    /// stays only until another certificate of the same key is shown, or recorded.
    pub(super) fn adopt(&self, new: &NewAuthority) -> Result<(), Error> {
        self.take(new.id, &new.certificate).map(drop)
    }

    /// Its key at hand, with this certificate and no other.
    fn take(&self, id: AuthorityId, certificate: &[u8]) -> Result<Arc<Issuer>, Error> {
        if let Some(own) = self.get(id).filter(|own| own.authority().der() == certificate) {
            return Ok(own);
        }
        let missing = || Error::WrongState(format!("the key of authority {id} is not at this server"));
        let key = self.keys.find(id).map_err(|e| internal("authority key", &e))?.ok_or_else(missing)?;
        let own = Issuer::new(read(certificate)?, self.profile.clone(), key);
        let own = Arc::new(own.map_err(|e| Error::WrongState(format!("authority {id}: {e}")))?);
        self.issuers.rcu(|issuers| {
            let mut issuers = BTreeMap::clone(issuers);
            issuers.insert(id, Arc::clone(&own));
            issuers
        });
        Ok(own)
    }

    /// The authority of a row with its key and the certificate that is on record, if the key is here.
    pub(super) fn of(&self, row: &Row) -> Option<Arc<Issuer>> {
        self.get(row.id)?;
        let own = self.take(row.id, &row.certificate);
        own.inspect_err(|error| tracing::error!(authority.id = %row.id, %error, "its key cannot be used"))
            .ok()
    }

    /// The authority with its key, if the key is here.
    pub(super) fn get(&self, id: AuthorityId) -> Option<Arc<Issuer>> {
        self.issuers.load().get(&id).cloned()
    }

    /// Every authority that the state knows, the revoked ones too.
    pub(super) fn known(&self, state: &State) -> Arc<TrustBundle> {
        let last = self.bundles.load();
        let cards = &state.enforcement.authorities;
        if last.of.ptr_eq(cards) {
            return Arc::clone(&last.known);
        }
        match bundles(cards) {
            Ok(new) => {
                let known = Arc::clone(&new.known);
                self.bundles.store(Arc::new(new));
                known
            }
            // Cannot happen: each was read before it was recorded. The ones before stay, and `decide` trusts by the record.
            Err(error) => {
                tracing::error!(%error, "the list of authorities on record cannot be read");
                Arc::clone(&last.known)
            }
        }
    }
}

/// A crash between a key and its record leaves a key that nothing names; nor can anything that it would sign be believed.
/// One that officers may still sign for stays.
fn set_orphans_aside(keys: &dyn AuthorityKeys, state: &State) {
    let found = match keys.list() {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, "the keys of authorities cannot be listed");
            return;
        }
    };
    // A ceremony takes days, and a key that waits for one is worth its file.
    let waits = |id: AuthorityId| !matches!(keys.request(id), Ok(None));
    let is_orphan = |id: &AuthorityId| !is_named(state, *id) && !waits(*id);
    for id in found.into_iter().filter(is_orphan) {
        match keys.set_aside(id) {
            Ok(()) => tracing::warn!(authority.id = %id, "a key that no record names was set aside"),
            Err(error) => {
                tracing::error!(authority.id = %id, %error, "a key that no record names is still there")
            }
        }
    }
}

/// Is it on record, or do officers sign for it?
pub(super) fn is_named(state: &State, id: AuthorityId) -> bool {
    let prepares =
        |mandate: Mandate| matches!(mandate.command, Command::PrepareAuthority(new) if new.id == id);
    let proposed = state.proposals.values().any(|proposal| {
        let mandate = proposal.signed.mandate(&state.settings.trust_domain);
        mandate.is_ok_and(prepares)
    });
    proposed || state.authorities.contains_key(&id)
}

pub(super) fn read(certificate: &[u8]) -> Result<Authority, Error> {
    Authority::from_der(certificate).map_err(|e| internal("authority", &e))
}

fn bundles(cards: &Cards) -> Result<Bundles, Error> {
    let known = cards.values().map(|card| read(&card.certificate)).collect::<Result<Vec<_>, _>>()?;
    let known = TrustBundle::new(known).map_err(|e| internal("authorities", &e))?;
    Ok(Bundles { of: cards.clone(), known: Arc::new(known) })
}

/// The key of an authority: under its id, or one of those that genesis was made with.
fn find(keys: &Keys, row: &Row) -> Result<Arc<dyn Signer>, Error> {
    let own = keys.authorities.find(row.id).map_err(|e| internal("authority key", &e))?;
    let first = match row.kind {
        AuthorityKind::Access => &keys.access,
        AuthorityKind::System => &keys.system,
    };
    Ok(own.unwrap_or_else(|| Arc::clone(first)))
}

fn issuer(row: &Row, profile: &Profile, signer: Arc<dyn Signer>) -> Result<Issuer, Error> {
    let place = signer.place();
    let own = Issuer::new(read(&row.certificate)?, profile.clone(), signer);
    own.map_err(|e| internal(&format!("the key of {} authority {} in {place}", row.kind, row.id), &e))
}

impl App {
    /// Every authority that certificates may name, the revoked ones too.
    pub fn known_authorities(&self) -> Arc<TrustBundle> {
        self.authorities.known(&self.state())
    }

    /// The authorities of a kind that are trusted now; none: all were revoked.
    pub fn trusted(&self, kind: AuthorityKind) -> Option<TrustBundle> {
        let state = self.state();
        let known = self.authorities.known(&state);
        let trusted = state.enforcement.trusted(kind).filter_map(|card| known.find(card.id).cloned());
        match TrustBundle::new(trusted.collect()) {
            Ok(bundle) => Some(hierarchy::with_roots(&state, bundle).stating(self.algorithms())),
            Err(BundleFault::Empty) => None,
            Err(error) => {
                tracing::error!(%error, "the trusted authorities are no bundle");
                None
            }
        }
    }

    /// The authority that issues now.
    pub(super) fn active(&self, state: &State, kind: AuthorityKind) -> Result<Arc<Issuer>, Error> {
        let row = state.authority(kind).ok_or_else(|| {
            Error::WrongState(format!("no {kind} authority is ACTIVE; nothing of its kind is issued"))
        })?;
        let missing = || Error::Internal(format!("the key of authority {} is not here", row.id));
        self.authorities.of(row).ok_or_else(missing)
    }
}
