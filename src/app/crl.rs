//! Revocation lists: what belongs on the list of a shard, and the lists that are signed.
//!
//! The enforcement set says who is refused; the index only says which certificates a shard has. A list is made when it is
//! asked for and what it says has changed, or half of its life is over: one at a time, so that lists never take more than
//! one core from decisions. No list is older than the record: the index must have read as far as the state that is
//! judged by.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use imbl::OrdMap;

use super::App;
use super::error::Error;
use crate::ca::{Issuer, ListOrder, SignedList, backdated};
use crate::domain::announcement::LISTED_AHEAD_MS;
use crate::domain::authority::AuthorityState;
use crate::domain::certificate::{AuthorityKind, BLOCK_LEN};
use crate::domain::enforce::Names;
use crate::domain::id::{AuthorityId, PrincipalId, Seq};
use crate::domain::principal::Principal;
use crate::domain::state::{Issued, RevocationCause, State, Withdrawal};
use crate::domain::time::{Now, Timestamp};
use crate::views::{CertificateRow, shard_ordinals};
use crate::x509::{CrlEntry, CrlNumber, ReasonCode};

/// The most lists kept: those of a week at 180,000 certificates a day; 100 MiB if every one of them were revoked.
const KEPT_MAX: usize = 128;
/// Requests that may wait for a list to be made; further ones are told to come back.
const WAITING_MAX: usize = 64;
/// How long a list waits for the index, which follows the record within a tenth of a second unless it is built anew.
const INDEX_WAIT: Duration = Duration::from_secs(5);
/// How often it looks.
const INDEX_LOOK: Duration = Duration::from_millis(10);
/// When who finds too many waiting should come back.
const RETRY_AFTER_MS: u32 = 1_000;

/// A signed list, as it is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedCrl {
    /// The list (DER).
    pub der: Bytes,
    /// Its number, no other list's.
    pub number: CrlNumber,
    /// When it was signed, in whole seconds.
    pub signed_at: Timestamp,
    /// Until when it may be used.
    pub next_update: Timestamp,
    /// No other list of this shard was signed in the same second: the time names it.
    pub is_dated: bool,
}

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    authority: AuthorityId,
    kind: AuthorityKind,
    shard: u64,
}

/// The lists of this run.
pub(super) struct Crls {
    lifetime_s: u32,
    /// The last record before this run. None signs a list before the first record of its own.
    recovered: Seq,
    pub(super) numbers: Numbers,
    kept: Mutex<BTreeMap<Place, Kept>>,
    /// Held by whoever makes a list. State is read under it, so numbers of one shard only rise.
    maker: tokio::sync::Mutex<Maker>,
    waiting: tokio::sync::Semaphore,
}

/// How the last signature was counted.
#[derive(Default)]
pub(super) struct Numbers(AtomicU64);

impl Numbers {
    /// Counts the next signature: by the time, so that it is more than in any run before, also of a lost record, and more
    /// than the last one. A number is spent even if the key does not sign.
    fn next(&self, now: Timestamp) -> u64 {
        let now_ms = u64::try_from(now.millis()).unwrap_or_default();
        let after = |last: u64| now_ms.max(last.saturating_add(1));
        let last = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(after(last)));
        last.map_or(now_ms, after)
    }

    /// The number of a list that is signed now, as of this state. Whoever signs several lists of one scope reads the
    /// state in the order in which he numbers them.
    pub(super) fn number(&self, state: &State, now: Timestamp) -> Result<CrlNumber, Error> {
        // A clock that was set back does not set back the time of the record.
        CrlNumber::new(state.position.epoch, self.next(now.max(state.time)), state.position.seq)
            .ok_or_else(|| Error::Internal("the epoch does not fit the number of a CRL".to_owned()))
    }
}

/// What makes lists.
struct Maker {
    /// A list that is no longer kept, or of an earlier run, may have been signed up to here.
    unknown_until: Timestamp,
}

/// A certificate that is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) entry: CrlEntry,
    /// Its `notAfter`.
    pub(super) not_after: Timestamp,
}

/// A list that is kept.
struct Kept {
    list: PublishedCrl,
    entries: Vec<CrlEntry>,
    basis: Basis,
    /// When it was last asked for, in milliseconds of the boot clock.
    used_ms: u64,
}

/// What the content of a list depends on, beside the clock.
struct Basis {
    feed_seq: Seq,
    principals: OrdMap<PrincipalId, Arc<Principal>>,
    certificates: OrdMap<PrincipalId, Issued>,
}

impl Basis {
    fn of(state: &State) -> Self {
        Self {
            feed_seq: state.feed_seq,
            principals: state.principals.clone(),
            certificates: state.system_certificates.clone(),
        }
    }

    fn still_holds(&self, state: &State) -> bool {
        self.feed_seq == state.feed_seq
            && self.principals.ptr_eq(&state.principals)
            && self.certificates.ptr_eq(&state.system_certificates)
    }
}

impl Crls {
    pub(super) fn new(lifetime_s: u32, recovered: Seq, now: Timestamp) -> Self {
        Self {
            lifetime_s,
            recovered,
            kept: Mutex::new(BTreeMap::new()),
            numbers: Numbers::default(),
            maker: tokio::sync::Mutex::new(Maker { unknown_until: whole(now) }),
            waiting: tokio::sync::Semaphore::new(WAITING_MAX),
        }
    }

    /// How long a list may be used, in milliseconds.
    pub(super) const fn lifetime_ms(&self) -> i64 {
        1_000 * self.lifetime_s as i64
    }

    /// Is a certificate still listed? RFC 5280 section 3.3: until a list was issued after it expired.
    pub(super) fn is_live(&self, not_after: Timestamp, now: Timestamp) -> bool {
        not_after.plus_ms(self.lifetime_ms()) >= now
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Place, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list that is kept, if nothing that it says has changed and it is in the first half of its life.
    fn fresh(&self, place: Place, state: &State, now: Timestamp, boot_ms: u64) -> Option<PublishedCrl> {
        let mut kept = self.kept();
        let row = kept.get_mut(&place)?;
        row.used_ms = boot_ms;
        (row.basis.still_holds(state) && self.is_young(&row.list, now)).then(|| row.list.clone())
    }

    fn is_young(&self, list: &PublishedCrl, now: Timestamp) -> bool {
        let is_in_time = now.plus_ms(LISTED_AHEAD_MS) < list.next_update;
        now >= list.signed_at && now < list.signed_at.plus_ms(self.lifetime_ms() / 2) && is_in_time
    }

    /// The list that is kept, if it is young and says this: it then says so as of this state too.
    fn confirm(
        &self,
        place: Place,
        entries: &[CrlEntry],
        state: &State,
        now: Timestamp,
    ) -> Option<PublishedCrl> {
        let mut kept = self.kept();
        let row = kept.get_mut(&place)?;
        let is_bounded = row.list.next_update <= bounded(state, now, row.list.next_update);
        if row.entries != entries || !self.is_young(&row.list, now) || !is_bounded {
            return None;
        }
        row.basis = Basis::of(state);
        Some(row.list.clone())
    }

    /// Keeps a list, and says when the one was signed that had to go for it.
    fn keep(&self, place: Place, row: Kept) -> Option<Timestamp> {
        let mut kept = self.kept();
        kept.insert(place, row);
        if kept.len() <= KEPT_MAX {
            return None;
        }
        let oldest = kept.iter().min_by_key(|(_, row)| row.used_ms).map(|(place, _)| *place)?;
        kept.remove(&oldest).map(|row| row.list.signed_at)
    }

    /// When the list of a shard was last signed, if it is kept.
    fn signed_at(&self, place: Place) -> Option<Timestamp> {
        self.kept().get(&place).map(|row| row.list.signed_at)
    }
}

impl App {
    /// The list of a shard as of now; none when there is no such authority, or the shard was not announced. A shard has a
    /// list before its first certificate.
    ///
    /// # Errors
    /// No list may be signed now: nothing may be permitted either, or the index is being built. Too many wait for one.
    pub async fn crl(
        self: &Arc<Self>,
        authority: AuthorityId,
        shard: u64,
    ) -> Result<Option<PublishedCrl>, Error> {
        let state = self.state();
        let Some(row) = state.authorities.get(&authority) else { return Ok(None) };
        if shard > last_shard(&state, row.kind) || row.state == AuthorityState::Retired {
            return Ok(None);
        }
        self.vouch(&state)?;
        let place = Place { authority, kind: row.kind, shard };
        if let Some(list) = self.crls.fresh(place, &state, self.clock.now(), self.clock.boot_ms()) {
            return Ok(Some(list));
        }
        let waiting = self.crls.waiting.try_acquire();
        let _waiting = waiting.map_err(|_| Error::Limit { retry_after_ms: RETRY_AFTER_MS })?;
        let mut maker = self.crls.maker.lock().await;
        self.make(&mut maker, place).await.map(Some)
    }

    async fn make(self: &Arc<Self>, maker: &mut Maker, place: Place) -> Result<PublishedCrl, Error> {
        let (state, now, boot_ms) = (self.state(), self.clock.now(), self.clock.boot_ms());
        self.vouch(&state)?;
        // Whoever waited for the same list finds it here.
        if let Some(list) = self.crls.fresh(place, &state, now, boot_ms) {
            return Ok(list);
        }
        self.await_index(&state, place.kind, place.shard).await?;
        let (app, as_of) = (Arc::clone(self), Arc::clone(&state));
        let listed = blocking(move || app.listed(&as_of, place, now)).await?;
        let entries: Vec<_> = listed.iter().map(|listed| listed.entry).collect();
        if let Some(list) = self.crls.confirm(place, &entries, &state, now) {
            return Ok(list);
        }
        let number = self.crls.numbers.number(&state, now)?;
        let (app, listed) = (Arc::clone(self), entries.clone());
        let until = bounded(&state, now, whole(now).plus_ms(self.crls.lifetime_ms()));
        let signed = blocking(move || app.sign_list(place, number, listed, (now, until))).await?;
        let signed_at = whole(now);
        let list = PublishedCrl {
            der: Bytes::from(signed.der),
            number,
            signed_at,
            next_update: signed.next_update,
            is_dated: signed_at > self.crls.signed_at(place).unwrap_or(maker.unknown_until),
        };
        let kept = Kept { list: list.clone(), entries, basis: Basis::of(&state), used_ms: boot_ms };
        if let Some(gone) = self.crls.keep(place, kept) {
            maker.unknown_until = maker.unknown_until.max(gone);
        }
        tracing::info!(
            crl.number = %number, crl.shard = place.shard, crl.authority = %place.authority, "revocation list signed"
        );
        Ok(list)
    }

    /// No list says that all is well while the service itself permits nothing, or in the name of an earlier run.
    pub(super) fn vouch(&self, state: &State) -> Result<(), Error> {
        match self.state_fault().is_some() || state.position.seq <= self.crls.recovered {
            true => Err(Error::Unavailable("the record cannot be vouched for now".to_owned())),
            false => Ok(()),
        }
    }

    /// The authority that signs this list. It may issue nothing any more.
    pub(super) fn signer_of(&self, authority: AuthorityId) -> Result<Arc<Issuer>, Error> {
        let missing = || Error::Unavailable(format!("the key of authority {authority} is not here"));
        self.authorities.get(authority).ok_or_else(missing)
    }

    fn sign_list(
        &self,
        place: Place,
        number: CrlNumber,
        entries: Vec<CrlEntry>,
        (now, next_update): (Timestamp, Timestamp),
    ) -> Result<SignedList, Error> {
        let (first, _) = shard_ordinals(place.shard);
        let address = self.profile.crl_address(&place.authority, first);
        let address = address.ok_or_else(|| Error::Internal("no CRL base is configured".to_owned()))?;
        let this_update = backdated(now);
        let order = ListOrder { address: Some(address), number, this_update, next_update, entries };
        Ok(self.signer_of(place.authority)?.sign_list(order)?)
    }

    /// Waits until the index has read every access certificate of this state.
    pub(super) async fn await_access_index(&self, state: &State) -> Result<(), Error> {
        self.await_index(state, AuthorityKind::Access, 0).await
    }

    /// Waits until the index has read as far as this state, if the shard has certificates at all.
    pub(super) async fn await_index(
        &self,
        state: &State,
        kind: AuthorityKind,
        shard: u64,
    ) -> Result<(), Error> {
        if is_unused(state, kind, shard) {
            return Ok(());
        }
        let caught_up = async {
            while self.certificates.applied_seq() < state.position.seq {
                tokio::time::sleep(INDEX_LOOK).await;
            }
        };
        let behind = |_| Error::Unavailable("the certificate index is behind the record".to_owned());
        tokio::time::timeout(INDEX_WAIT, caught_up).await.map_err(behind)
    }

    /// What the list of a shard says as of a state, in the order of ordinals. Blocks.
    fn listed(&self, state: &State, place: Place, now: Timestamp) -> Result<Vec<Listed>, Error> {
        if is_unused(state, place.kind, place.shard) {
            return Ok(Vec::new());
        }
        let mut listed = Vec::new();
        let live = self.live_rows(place.kind, place.shard, now)?;
        // Authorities of a kind share the ordinals, and each lists its own.
        for row in live.into_iter().filter(|row| is_of(state, place.authority, row)) {
            let cause = match place.kind {
                AuthorityKind::Access => listed_access(state, place.authority, &row, listing(now)),
                AuthorityKind::System => self.listed_system(state, place.authority, &row)?,
            };
            listed.extend(cause.map(|cause| entry(&row, cause)));
        }
        Ok(listed)
    }

    /// The certificates of a shard that a list may still have to name. Blocks.
    pub(super) fn live_rows(
        &self,
        kind: AuthorityKind,
        shard: u64,
        now: Timestamp,
    ) -> Result<Vec<CertificateRow>, Error> {
        let rows = self.certificates.by_shard(kind, shard);
        let mut rows = rows.map_err(|e| Error::Unavailable(format!("the certificate index: {e}")))?;
        rows.retain(|row| self.crls.is_live(row.not_after, now));
        Ok(rows)
    }

    /// Since when and why a certificate of a principal is refused: its key is blocked, it was removed, has another key, or,
    /// the server's own, was replaced.
    fn listed_system(
        &self,
        state: &State,
        issuer: AuthorityId,
        row: &CertificateRow,
    ) -> Result<Option<(Timestamp, ReasonCode)>, Error> {
        if state.enforcement.issuers.contains(&issuer) {
            return Ok(Some(because(state.authority_revoked(issuer), row)));
        }
        if state.enforcement.is_blocked(row.key) {
            return Ok(Some(because(state.key_blocked(row.key), row)));
        }
        let (Some(id), Some(hash)) = (&row.principal, row.hash) else { return Ok(None) };
        let (changed, reason) = match (state.principals.get(id), state.system_certificates.get(id)) {
            (Some(principal), _) if principal.is_removed => {
                (principal.revision, ReasonCode::CessationOfOperation)
            }
            (Some(principal), _) if principal.key_digest() != row.key => {
                (principal.revision, ReasonCode::Superseded)
            }
            (None, Some(last)) if last.hash != hash => (last.issued, ReasonCode::Superseded),
            (Some(_) | None, _) => return Ok(None),
        };
        let records = self.journal.read(changed, 1)?;
        let record = records.first().ok_or_else(|| Error::Internal("a record is missing".to_owned()))?;
        Ok(Some((record.header.time, reason)))
    }
}

/// Did this authority sign it?
pub(super) fn is_of(state: &State, authority: AuthorityId, row: &CertificateRow) -> bool {
    state.issuer_named(row.authority, row.issuer).is_some_and(|issuer| issuer.id == authority)
}

/// The entry of a certificate.
pub(super) const fn entry(row: &CertificateRow, (at, reason): (Timestamp, ReasonCode)) -> Listed {
    Listed { entry: CrlEntry { serial: row.serial, at: whole(at), reason }, not_after: row.not_after }
}

/// Since when and why an access certificate is refused, whatever the model.
pub(super) fn listed_access(
    state: &State,
    issuer: AuthorityId,
    row: &CertificateRow,
    now: Now,
) -> Option<(Timestamp, ReasonCode)> {
    let withdrawal = match (row.entity, row.subject, row.step) {
        (Some(_), Some(_), Some(_)) => state.withdrawal(&names(issuer, row)?, now),
        // A canary names nobody.
        _ => state.canary_withdrawal(issuer, row.ordinal, row.key),
    };
    match withdrawal? {
        Withdrawal::Revoked(cause) => Some(because(cause, row)),
        Withdrawal::Held(cause) => Some((because(cause, row).0, ReasonCode::CertificateHold)),
    }
}

/// What an access certificate is known by; none: a canary, which names nobody.
pub(super) fn names(issuer: AuthorityId, row: &CertificateRow) -> Option<Names<'_>> {
    let (Some(entity), Some(subject), Some(step)) = (row.entity, row.subject, row.step) else { return None };
    Some(Names {
        issuer,
        ordinal: row.ordinal,
        entity,
        subject,
        lineage: step.lineage,
        determination: row.determination.as_ref(),
        annex_revision: row.annex_revision,
        key: row.key,
    })
}

/// The instant by which lists judge what was announced.
pub(super) const fn listing(now: Timestamp) -> Now {
    Now::exactly(now.plus_ms(LISTED_AHEAD_MS))
}

/// Until when a list may be used that is signed now: not beyond an instant at which it would have to name more.
pub(super) fn bounded(state: &State, now: Timestamp, until: Timestamp) -> Timestamp {
    let cut_at = state.enforcement.next_cut_after(now.plus_ms(LISTED_AHEAD_MS));
    cut_at.map_or(until, |cut_at| until.min(whole(cut_at)))
}

/// A cause is forgotten only after its certificates expired; without one, the certificate was never good.
fn because(cause: Option<RevocationCause>, row: &CertificateRow) -> (Timestamp, ReasonCode) {
    cause.map_or((row.not_before, ReasonCode::Unspecified), |cause| (cause.at, cause.reason.into()))
}

/// The last shard that has a list: an empty one is there before the first certificate that names it. Ordinals of access
/// certificates are announced; those of principals follow one another, so the next shard is always there.
fn last_shard(state: &State, kind: AuthorityKind) -> u64 {
    match kind {
        AuthorityKind::Access => state.enforcement.ceiling.0 / BLOCK_LEN,
        AuthorityKind::System => state.last_system_ordinal.0 / BLOCK_LEN + 1,
    }
}

/// Has no ordinal of the shard been taken?
const fn is_unused(state: &State, kind: AuthorityKind, shard: u64) -> bool {
    let last = match kind {
        AuthorityKind::Access => state.last_ordinal,
        AuthorityKind::System => state.last_system_ordinal,
    };
    shard_ordinals(shard).0.0 > last.0
}

/// X.509 has no parts of seconds.
pub(super) const fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.seconds().saturating_mul(1_000))
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Internal(e.to_string()))?
}

#[cfg(test)]
mod tests;
