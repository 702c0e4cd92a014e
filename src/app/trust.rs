//! Trust sets that are pushed, for consumers who know nothing but X.509: the access authority and one list of everything
//! that it has revoked, with no distribution point (RFC 5280 section 6.3.3), so that no change of block touches it.
//!
//! A set is signed once and shared by all who are sent it. A *leased* one ends when a lease granted at its signature has
//! run out, so that its consumer is closed without this service; it is signed anew at half of its life. What does not fit
//! one list, and what is refused whole, is a *closed* set: its list has ended, so nobody gets in. It is not an empty
//! bundle, because Envoy verifies nothing at all without an authority.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::App;
use super::crl::{Listed, blocking, entry, listed_access, whole};
use super::error::Error;
use crate::ca::crl::ENTRIES_MAX;
use crate::ca::{ListOrder, backdated};
use crate::domain::certificate::{AuthorityKind, BLOCK_LEN, Serial};
use crate::domain::enforce::{EnforcementSet, list_until};
use crate::domain::id::{AuthorityId, Ordinal, Seq};
use crate::domain::revocation::StopScope;
use crate::domain::state::State;
use crate::domain::time::Timestamp;
use crate::x509::bundle::{certificate_pem, crl_pem};
use crate::x509::{CrlEntry, CrlNumber, ReasonCode};

/// The most certificates that a pushed list names, with a place for a canary.
pub(super) const LISTED_MAX: usize = ENTRIES_MAX - 1;

/// For how long a set is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Term {
    /// As long as a lease of the feed. None is signed while no lease is granted.
    Leased,
    /// As long as the lists that are fetched, for who asks this service at each request anyway. It promises nothing.
    Unleased,
}

/// A trust set, as it is pushed. A clone costs nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustSet {
    /// The authorities (PEM).
    pub bundle: Bytes,
    /// Their lists (PEM).
    pub crl: Bytes,
    /// The number of the list, no other list's: what the set is told from others by.
    pub number: CrlNumber,
    /// It says what the record says up to here.
    pub as_of: Seq,
    /// How many certificates it lists.
    pub entries: usize,
    /// Until when it may be used, in whole seconds; a closed set: never.
    pub next_update: Timestamp,
    /// When it was signed, in milliseconds of the boot clock: its lease counts from here.
    pub signed_boot_ms: u64,
    /// From when on it is signed anew, likewise.
    pub renew_boot_ms: u64,
    /// Nobody gets in with it.
    pub is_closed: bool,
}

/// The sets of this run.
#[derive(Default)]
pub(super) struct TrustSets {
    /// The last set of each term. No canary is on them.
    kept: Mutex<[Option<Kept>; 2]>,
    /// Held by whoever makes a set. State is read under it, so numbers only rise.
    maker: tokio::sync::Mutex<Maker>,
}

#[derive(Clone)]
struct Kept {
    set: TrustSet,
    /// The last enforcement event that it knows: what it says changes only with the next one.
    changed: Seq,
    content: Content,
    /// When it was signed, by the wall clock.
    signed_at: Timestamp,
}

/// What a set says; none: it is closed.
type Content = Option<Arc<Vec<Listed>>>;

#[derive(Default)]
struct Maker {
    /// What was found last, and the set that it was found by.
    found: Option<(Arc<EnforcementSet>, Content)>,
    /// Every certificate of the shards below has expired.
    first_live: u64,
}

impl TrustSets {
    fn kept(&self) -> MutexGuard<'_, [Option<Kept>; 2]> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kept set, as of this state, if nothing that it says has changed and it is in the first half of its life.
    fn fresh(&self, term: Term, state: &State, now: Timestamp, boot_ms: u64) -> Option<TrustSet> {
        let mut kept = self.kept();
        let row = slot(&mut kept, term).as_mut()?;
        if row.changed != state.feed_seq || now < row.signed_at || boot_ms >= row.set.renew_boot_ms {
            return None;
        }
        row.set.as_of = row.set.as_of.max(state.position.seq);
        Some(row.set.clone())
    }

    /// The kept set, if it is young and says this: it then says so as of this state too.
    fn confirm(&self, term: Term, content: &Content, state: &State, boot_ms: u64) -> Option<TrustSet> {
        let mut kept = self.kept();
        let row = slot(&mut kept, term).as_mut()?;
        if row.content != *content || boot_ms >= row.set.renew_boot_ms {
            return None;
        }
        row.changed = state.feed_seq;
        row.set.as_of = row.set.as_of.max(state.position.seq);
        Some(row.set.clone())
    }
}

const fn slot(kept: &mut [Option<Kept>; 2], term: Term) -> &mut Option<Kept> {
    let [leased, unleased] = kept;
    match term {
        Term::Leased => leased,
        Term::Unleased => unleased,
    }
}

impl App {
    /// The set of this term as of now, shared by all who ask until what it says changes or half of its life is over. With
    /// a canary, a set of its own that lists this serial too.
    ///
    /// # Errors
    /// No set may be signed now: nothing may be permitted either, no lease is granted, or the index is being built.
    pub async fn trust_set(self: &Arc<Self>, term: Term, canary: Option<Serial>) -> Result<TrustSet, Error> {
        let state = self.state();
        self.vouch_for(term, &state)?;
        let fresh = |state: &State| match canary {
            None => self.trust.fresh(term, state, self.clock.now(), self.clock.boot_ms()),
            Some(_) => None,
        };
        if let Some(set) = fresh(&state) {
            return Ok(set);
        }
        let mut maker = self.trust.maker.lock().await;
        let state = self.state();
        self.vouch_for(term, &state)?;
        // Whoever waited for the same set finds it here.
        if let Some(set) = fresh(&state) {
            return Ok(set);
        }
        let content = self.found(&mut maker, &state).await?;
        let boot_ms = self.clock.boot_ms();
        if canary.is_none()
            && let Some(set) = self.trust.confirm(term, &content, &state, boot_ms)
        {
            return Ok(set);
        }
        let (app, as_of, listed) = (Arc::clone(self), Arc::clone(&state), content.clone());
        let (set, signed_at) =
            blocking(move || app.sign_set((term, canary), &as_of, listed.as_deref())).await?;
        // It took a while: the clock it was signed by may not be believed any more.
        self.vouch_for(term, &self.state())?;
        if canary.is_none() {
            let kept = Kept { set: set.clone(), changed: state.feed_seq, content, signed_at };
            *slot(&mut self.trust.kept(), term) = Some(kept);
        }
        tracing::debug!(
            crl.number = %set.number, crl.entries = set.entries, crl.next_update = %set.next_update, "trust set signed"
        );
        Ok(set)
    }

    /// How many certificates the last pushed list names, and whether it is closed; none: none was pushed.
    pub fn pushed_set(&self) -> Option<(usize, bool)> {
        let kept = self.trust.kept();
        let last = kept.iter().flatten().max_by_key(|row| row.set.number);
        last.map(|row| (row.set.entries, row.set.is_closed))
    }

    fn vouch_for(&self, term: Term, state: &State) -> Result<(), Error> {
        self.vouch(state)?;
        match (term, self.feed.closed()) {
            (Term::Leased, Some(why)) => Err(Error::Unavailable(format!("no lease is granted: {why}"))),
            (Term::Leased, None) | (Term::Unleased, _) => Ok(()),
        }
    }

    /// What a set says as of a state, in the order of ordinals. What was found is found again until something else is
    /// refused, less what has expired: no certificate is issued that is refused already.
    async fn found(self: &Arc<Self>, maker: &mut Maker, state: &Arc<State>) -> Result<Content, Error> {
        let now = self.clock.now();
        if let Some((found_by, content)) = &mut maker.found
            && refuses_the_same(found_by, &state.enforcement)
            && let Some(listed) = content
        {
            if listed.iter().any(|listed| !self.crls.is_live(listed.not_after, now)) {
                Arc::make_mut(listed).retain(|listed| self.crls.is_live(listed.not_after, now));
            }
            return Ok(content.clone());
        }
        let authority = self.access.authority().id();
        let is_barred = is_barred(state, authority);
        let content = if is_barred { None } else { self.searched(maker, state, authority, now).await? };
        let was_closed = maker.found.as_ref().is_some_and(|(_, content)| content.is_none());
        if content.is_none() && !was_closed {
            match is_barred {
                true => tracing::warn!("everybody is refused: closed trust sets are pushed"),
                false => tracing::error!(
                    "more than {LISTED_MAX} certificates are refused: closed trust sets are pushed, which let nobody in"
                ),
            }
        }
        maker.found = Some((Arc::clone(&state.enforcement), content.clone()));
        Ok(content)
    }

    async fn searched(
        self: &Arc<Self>,
        maker: &mut Maker,
        state: &Arc<State>,
        authority: AuthorityId,
        now: Timestamp,
    ) -> Result<Content, Error> {
        self.await_access_index(state).await?;
        let (app, as_of, from) = (Arc::clone(self), Arc::clone(state), maker.first_live);
        let (listed, first_live) = blocking(move || app.search(&as_of, authority, from, now)).await?;
        maker.first_live = first_live;
        Ok(listed.map(Arc::new))
    }

    /// Every certificate that is refused, none when there are too many; and the first shard where one has not expired.
    /// Blocks.
    fn search(
        &self,
        state: &State,
        authority: AuthorityId,
        from: u64,
        now: Timestamp,
    ) -> Result<(Option<Vec<Listed>>, u64), Error> {
        let last = state.last_ordinal.0 / BLOCK_LEN;
        let (mut listed, mut first_live) = (Vec::new(), from);
        if state.last_ordinal == Ordinal::default() {
            return Ok((Some(listed), first_live));
        }
        for shard in from..=last {
            let rows = self.live_rows(AuthorityKind::Access, shard, now)?;
            // Ordinals that were taken and have no record yet are less than a block behind.
            if rows.is_empty() && shard == first_live && shard + 1 < last {
                first_live += 1;
            }
            let refused =
                rows.iter().filter_map(|row| Some(entry(row, listed_access(state, authority, row)?)));
            listed.extend(refused);
            if listed.len() > LISTED_MAX {
                return Ok((None, first_live));
            }
        }
        Ok((Some(listed), first_live))
    }

    /// Signs a set, and says when by the wall clock. Blocks.
    fn sign_set(
        &self,
        (term, canary): (Term, Option<Serial>),
        state: &State,
        listed: Option<&Vec<Listed>>,
    ) -> Result<(TrustSet, Timestamp), Error> {
        // Both clocks are read before the key is asked: what it takes only shortens the lease.
        let (now, boot_ms) = (self.clock.now(), self.clock.boot_ms());
        let lease_ms = state.enforcement.lease_ms;
        let until = match term {
            Term::Unleased => Some(whole(now).plus_ms(self.crls.lifetime_ms())),
            Term::Leased => list_until(now, lease_ms),
        };
        let until = until.ok_or_else(|| {
            Error::WrongState(format!("a lease of {lease_ms} ms is too short for a list in whole seconds"))
        })?;
        let authority = self.access.authority();
        let mut entries: Vec<CrlEntry> = listed.into_iter().flatten().map(|listed| listed.entry).collect();
        let (this_update, next_update) = match listed {
            Some(_) => (backdated(now), until),
            // It ended when the authority began: also by a clock that is slow.
            None => (authority.not_before(), authority.not_before().plus_ms(1_000)),
        };
        if listed.is_some() {
            let at = backdated(now);
            entries.extend(canary.map(|serial| CrlEntry { serial, at, reason: ReasonCode::Unspecified }));
        }
        let count = entries.len();
        let number = self.crls.numbers.number(state, now)?;
        let order = ListOrder { address: None, number, this_update, next_update, entries };
        let signed = self.access.sign_list(order)?;
        let half_ms = until.millis().saturating_sub(now.millis()) / 2;
        let set = TrustSet {
            bundle: certificate_pem(authority.der()).into(),
            crl: crl_pem(&signed.der).into(),
            number,
            as_of: state.position.seq,
            entries: count,
            next_update,
            signed_boot_ms: boot_ms,
            renew_boot_ms: boot_ms.saturating_add(u64::try_from(half_ms).unwrap_or_default()),
            is_closed: listed.is_none(),
        };
        Ok((set, now))
    }
}

/// Do both refuse the same certificates? Policy, the ceiling and stops of models are in no list.
fn refuses_the_same(a: &EnforcementSet, b: &EnforcementSet) -> bool {
    // Every field by name: a new one is to be judged here.
    let EnforcementSet {
        bundle: _,
        ceiling: _,
        revoked,
        held,
        locked,
        subjects,
        entities,
        issuers,
        stops,
        suspended,
        lease_ms: _,
        determinations,
        keys,
    } = a;
    let of_certificates = |scope: &&StopScope| !matches!(scope, StopScope::Model(_));
    entities.ptr_eq(&b.entities)
        && subjects.ptr_eq(&b.subjects)
        && locked.ptr_eq(&b.locked)
        && issuers.ptr_eq(&b.issuers)
        && suspended.ptr_eq(&b.suspended)
        && determinations.ptr_eq(&b.determinations)
        && keys.ptr_eq(&b.keys)
        && (revoked, held) == (&b.revoked, &b.held)
        && stops.iter().filter(of_certificates).eq(b.stops.iter().filter(of_certificates))
}

/// Is every certificate of the authority refused, whatever it says?
fn is_barred(state: &State, authority: AuthorityId) -> bool {
    let set = &state.enforcement;
    let stopped = |scope| set.stops.contains(&scope);
    set.issuers.contains(&authority) || stopped(StopScope::All) || stopped(StopScope::Issuer(authority))
}
