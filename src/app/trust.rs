//! Trust sets that are pushed, for consumers who know nothing but X.509: every trusted access authority, and for each one
//! list of everything that it has revoked, with no distribution point (RFC 5280 section 6.3.3), so that no change of block
//! touches it. An authority that is stopped is left out.
//!
//! A set is signed once and shared by all who are sent it. A *leased* one ends when a lease granted at its signature has
//! run out, so that its consumer is closed without this service; it is signed anew at half of its life. What does not fit
//! the lists, and what is refused whole, is a *closed* set: its lists have ended, so nobody gets in. It is not an empty
//! bundle, because Envoy verifies nothing at all without an authority.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use imbl::OrdMap;

use super::crl::{Listed, blocking, bounded, entry, is_of, listed_access, listing, whole};
use super::error::Error;
use super::{App, hierarchy};
use crate::ca::crl::ENTRIES_MAX;
use crate::ca::{ListOrder, backdated};
use crate::domain::announcement::LISTED_AHEAD_MS;
use crate::domain::certificate::{AuthorityKind, BLOCK_LEN, Serial};
use crate::domain::enforce::{EnforcementSet, list_until};
use crate::domain::id::{AuthorityId, Ordinal, RootId, Seq};
use crate::domain::revocation::StopScope;
use crate::domain::root::Root;
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
    /// The number of the last of the lists, no other list's: what the set is told from others by.
    pub number: CrlNumber,
    /// It says what the record says up to here.
    pub as_of: Seq,
    /// How many certificates its lists name.
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
    /// The last drill that it was signed after: each is shown by a set of its own.
    drill: Seq,
    content: Content,
    /// When it was signed, by the wall clock.
    signed_at: Timestamp,
    /// The roots then: no enforcement event tells of a newer list of one.
    roots: OrdMap<RootId, Arc<Root>>,
}

/// What a set says; none: it is closed.
type Content = Option<Arc<Vec<Part>>>;

/// What a set says of one authority.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    authority: AuthorityId,
    /// Its certificates that are refused, in the order of ordinals.
    listed: Vec<Listed>,
}

#[derive(Default)]
struct Maker {
    /// What was found last, the set that it was found by, and when something that was announced is to be named next.
    found: Option<(Arc<EnforcementSet>, Option<Timestamp>, Content)>,
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
        let is_same = row.changed == state.feed_seq && row.roots.ptr_eq(&state.roots);
        if !is_same || now < row.signed_at || boot_ms >= row.set.renew_boot_ms {
            return None;
        }
        row.set.as_of = row.set.as_of.max(state.position.seq);
        Some(row.set.clone())
    }

    /// The kept set, if it is young and says this: it then says so as of this state too.
    fn confirm(
        &self,
        term: Term,
        content: &Content,
        state: &State,
        (now, boot_ms): (Timestamp, u64),
    ) -> Option<TrustSet> {
        let mut kept = self.kept();
        let row = slot(&mut kept, term).as_mut()?;
        let is_bounded = row.set.is_closed || row.set.next_update <= bounded(state, now, row.set.next_update);
        let is_drilled = row.drill == state.drills.last();
        let is_same = row.content == *content && row.roots.ptr_eq(&state.roots);
        let is_young = boot_ms < row.set.renew_boot_ms && is_bounded;
        if !is_same || !is_young || !is_drilled {
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
            && let Some(set) = self.trust.confirm(term, &content, &state, (self.clock.now(), boot_ms))
        {
            return Ok(set);
        }
        let (app, as_of, parts) = (Arc::clone(self), Arc::clone(&state), content.clone());
        let (set, signed_at) =
            blocking(move || app.sign_set((term, canary), &as_of, parts.as_deref())).await?;
        // It took a while: the clock it was signed by may not be believed any more.
        self.vouch_for(term, &self.state())?;
        if canary.is_none() {
            let (changed, drill) = (state.feed_seq, state.drills.last());
            let kept =
                Kept { set: set.clone(), changed, drill, content, signed_at, roots: state.roots.clone() };
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

    /// What a set says as of a state. What was found is found again until something else is
    /// refused, less what has expired: no certificate is issued that is refused already.
    async fn found(self: &Arc<Self>, maker: &mut Maker, state: &Arc<State>) -> Result<Content, Error> {
        let now = self.clock.now();
        if let Some((found_by, next_cut, content)) = &mut maker.found
            && next_cut.is_none_or(|at| !listing(now).narrowed_since(at))
            && refuses_the_same(found_by, &state.enforcement)
            && let Some(parts) = content
        {
            let is_live = |listed: &Listed| self.crls.is_live(listed.not_after, now);
            if parts.iter().flat_map(|part| &part.listed).any(|listed| !is_live(listed)) {
                Arc::make_mut(parts).iter_mut().for_each(|part| part.listed.retain(is_live));
            }
            return Ok(content.clone());
        }
        let is_barred = open_authorities(state).next().is_none();
        let content = if is_barred { None } else { self.searched(maker, state, now).await? };
        let was_closed = maker.found.as_ref().is_some_and(|(_, _, content)| content.is_none());
        if content.is_none() && !was_closed {
            match is_barred {
                true => tracing::warn!("everybody is refused: closed trust sets are pushed"),
                false => tracing::error!(
                    "more than {LISTED_MAX} certificates are refused: closed trust sets are pushed, which let nobody in"
                ),
            }
        }
        let next_cut = state.enforcement.next_cut_after(now.plus_ms(LISTED_AHEAD_MS));
        maker.found = Some((Arc::clone(&state.enforcement), next_cut, content.clone()));
        Ok(content)
    }

    async fn searched(
        self: &Arc<Self>,
        maker: &mut Maker,
        state: &Arc<State>,
        now: Timestamp,
    ) -> Result<Content, Error> {
        self.await_access_index(state).await?;
        let (app, as_of, from) = (Arc::clone(self), Arc::clone(state), maker.first_live);
        let (parts, first_live) = blocking(move || app.search(&as_of, from, now)).await?;
        maker.first_live = first_live;
        Ok(parts.map(Arc::new))
    }

    /// Every certificate that is refused, none when there are too many; and the first shard where one has not expired.
    /// Blocks.
    fn search(&self, state: &State, from: u64, now: Timestamp) -> Result<(Option<Vec<Part>>, u64), Error> {
        let last = state.last_ordinal.0 / BLOCK_LEN;
        let none = |authority| Part { authority, listed: Vec::new() };
        let mut parts: Vec<Part> = open_authorities(state).map(none).collect();
        let (mut count, mut first_live) = (0, from);
        if state.last_ordinal == Ordinal::default() {
            return Ok((Some(parts), first_live));
        }
        for shard in from..=last {
            let rows = self.live_rows(AuthorityKind::Access, shard, now)?;
            // Ordinals that were taken and have no record yet are less than a block behind.
            if rows.is_empty() && shard == first_live && shard + 1 < last {
                first_live += 1;
            }
            for part in &mut parts {
                let own = rows.iter().filter(|row| is_of(state, part.authority, row));
                let refused = own.filter_map(|row| {
                    Some(entry(row, listed_access(state, part.authority, row, listing(now))?))
                });
                let before = part.listed.len();
                part.listed.extend(refused);
                count += part.listed.len() - before;
            }
            if count > LISTED_MAX {
                return Ok((None, first_live));
            }
        }
        Ok((Some(parts), first_live))
    }

    /// Signs a set, and says when by the wall clock. Blocks.
    fn sign_set(
        &self,
        (term, canary): (Term, Option<Serial>),
        state: &State,
        parts: Option<&Vec<Part>>,
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
        let until = bounded(state, now, until);
        let half_ms = until.millis().saturating_sub(now.millis()) / 2;
        let mut set = TrustSet {
            bundle: Bytes::new(),
            crl: Bytes::new(),
            number: self.crls.numbers.number(state, now)?,
            as_of: state.position.seq,
            entries: 0,
            next_update: until,
            signed_boot_ms: boot_ms,
            renew_boot_ms: boot_ms.saturating_add(u64::try_from(half_ms).unwrap_or_default()),
            is_closed: parts.is_none(),
        };
        let active = || state.authority(AuthorityKind::Access).map(|authority| authority.id);
        let canary = canary.and_then(|serial| Some((serial, canary_issuer(state, serial).or_else(active)?)));
        let (mut bundle, mut lists) = (String::new(), String::new());
        let closed = closed_parts(state);
        for part in parts.unwrap_or(&closed) {
            let issuer = match (self.signer_of(part.authority), parts) {
                (Ok(issuer), _) => issuer,
                // Whoever shows its certificates is refused without it, too.
                (Err(_), None) => continue,
                (Err(error), Some(_)) => return Err(error),
            };
            let mut entries: Vec<CrlEntry> = part.listed.iter().map(|listed| listed.entry).collect();
            let own = canary.filter(|(_, issuer)| parts.is_some() && *issuer == part.authority);
            let at = backdated(now);
            entries.extend(own.map(|(serial, _)| CrlEntry { serial, at, reason: ReasonCode::Unspecified }));
            set.entries += entries.len();
            set.number = self.crls.numbers.number(state, now)?;
            let (this_update, next_update) = match parts {
                Some(_) => (at, until),
                // It ended when the authority began: also by a clock that is slow.
                None => {
                    let begin = issuer.authority().not_before();
                    (begin, begin.plus_ms(1_000))
                }
            };
            set.next_update = set.next_update.min(next_update);
            let order = ListOrder { address: None, number: set.number, this_update, next_update, entries };
            lists.push_str(&crl_pem(&issuer.sign_list(order)?.der));
            bundle.push_str(&certificate_pem(issuer.authority().der()));
        }
        let named = parts.unwrap_or(&closed).iter().map(|part| part.authority);
        for root in hierarchy::roots_above(state, named) {
            bundle.push_str(&certificate_pem(&root.certificate));
            lists.push_str(&crl_pem(&root.list.list));
            // Whoever checks up to the root refuses everybody from then on.
            set.next_update = set.next_update.min(root.list.next_update);
        }
        (set.bundle, set.crl) = (bundle.into(), lists.into());
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
        authorities,
        announced,
    } = a;
    let of_certificates = |scope: &&StopScope| !matches!(scope, StopScope::Model(_));
    entities.ptr_eq(&b.entities)
        && subjects.ptr_eq(&b.subjects)
        && locked.ptr_eq(&b.locked)
        && issuers.ptr_eq(&b.issuers)
        && authorities.ptr_eq(&b.authorities)
        && suspended.ptr_eq(&b.suspended)
        && determinations.ptr_eq(&b.determinations)
        && keys.ptr_eq(&b.keys)
        && announced.ptr_eq(&b.announced)
        && (revoked, held) == (&b.revoked, &b.held)
        && stops.iter().filter(of_certificates).eq(b.stops.iter().filter(of_certificates))
}

/// The authorities that are in a set: those of which not everything is refused, whatever it says.
fn open_authorities(state: &State) -> impl Iterator<Item = AuthorityId> {
    let set = &state.enforcement;
    let trusted = set.trusted(AuthorityKind::Access).map(|card| card.id);
    let is_stopped =
        |authority| set.stops.contains(&StopScope::All) || set.stops.contains(&StopScope::Issuer(authority));
    trusted.filter(move |authority| !is_stopped(*authority))
}

/// What a closed set names: an authority is needed, for Envoy verifies nothing at all without one.
fn closed_parts(state: &State) -> Vec<Part> {
    let set = &state.enforcement;
    let none = |authority| Part { authority, listed: Vec::new() };
    let trusted: Vec<_> = set.trusted(AuthorityKind::Access).map(|card| none(card.id)).collect();
    if !trusted.is_empty() {
        return trusted;
    }
    let of_kind = set.authorities.values().filter(|card| card.kind == AuthorityKind::Access);
    of_kind.map(|card| none(card.id)).collect()
}

/// Which authority signed a canary.
fn canary_issuer(state: &State, serial: Serial) -> Option<AuthorityId> {
    state.canaries.values().find(|canary| canary.serial == serial).map(|canary| canary.issued.issuer)
}
