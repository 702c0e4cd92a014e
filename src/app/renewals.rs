//! What is to be renewed before its time, and how far that is: announced revocations, and authorities that are to be replaced.
//!
//! It only shows. What is cut, and when, is the enforcement set's word; what counts as renewed is the record's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::App;
use super::crl::{blocking, listed_access, names};
use super::error::Error;
use crate::domain::announcement::{Announcement, LISTED_AHEAD_MS};
use crate::domain::authority::{Authority, AuthorityState};
use crate::domain::certificate::{AccessFacts, AuthorityKind, BLOCK_LEN, Certificate, TTL_MAX_S};
use crate::domain::enforce::Names;
use crate::domain::id::{AuthorityId, EntityId, LineageId, Ordinal, PrincipalId, Seq, SubjectId};
use crate::domain::revocation::RevocationReason;
use crate::domain::state::State;
use crate::domain::time::{Now, Timestamp};
use crate::env::SystemClock;
use crate::views::CertificateRow;
use crate::x509::ReasonCode;

/// The least time between two looks, and how many times as long as the last one took: a look reads every certificate that
/// may be valid, and must not take a core from decisions.
const LOOK_PAUSE_US: u64 = 500_000;
const LOOK_SHARE: u64 = 10;
/// The most certificates that a partner is shown by name.
const NAMED_MAX: usize = 1_000;
/// When a certificate is renewed that nothing hurries: between seven and nine tenths of its life.
const WINDOW_TENTHS: (i64, i64) = (7, 9);
/// Over how long those are spread whose authority is to be replaced: all of them learn that at once.
const SPREAD_MS: i64 = 60_000;
/// After how long a subject asks again: as often as a lease of a minute would.
const RETRY_S: u32 = 60;

/// Why certificates are to be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CampaignCause {
    /// Officers announced that they are revoked at an instant.
    Announced(Arc<Announcement>),
    /// Their authority is to be replaced.
    Authority(AuthorityId, AuthorityState),
}

/// How far the renewal of some certificates is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Why.
    pub cause: CampaignCause,
    /// What, in words.
    pub scope: String,
    /// The reason that officers gave.
    pub reason: Option<RevocationReason>,
    /// Chains of renewals and principals that are renewed, by entity; none: principals.
    pub renewed: BTreeMap<Option<EntityId>, u64>,
    /// Those that are not.
    pub left: BTreeMap<Option<EntityId>, u64>,
    /// The first of the certificates that are left of each entity.
    pub named: BTreeMap<EntityId, Vec<(SubjectId, Ordinal)>>,
}

/// When one certificate is to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalWindow {
    /// Not before.
    pub from: Timestamp,
    /// And not after.
    pub until: Timestamp,
    /// Why: LIFETIME, ANNOUNCED, TAINTED or RETIRING.
    pub cause: &'static str,
    /// Ask again after so many seconds.
    pub retry_after_s: u32,
}

/// The last look.
#[derive(Default)]
pub(super) struct Renewals {
    last: tokio::sync::Mutex<Option<Look>>,
}

struct Look {
    /// The last enforcement event that it knows: another one is looked at at once, for officers make few.
    feed_seq: Seq,
    next_us: u64,
    campaigns: Arc<Vec<Campaign>>,
}

/// What one campaign is counted with: each chain once.
struct Count {
    campaign: Campaign,
    chains: BTreeSet<LineageId>,
    principals: BTreeSet<PrincipalId>,
}

impl App {
    /// Every campaign, as of a moment ago.
    ///
    /// # Errors
    /// The certificate index is behind or damaged.
    pub async fn renewal_campaigns(self: &Arc<Self>) -> Result<Arc<Vec<Campaign>>, Error> {
        let mut last = self.renewals.last.lock().await;
        // The time of the machine: what is bounded is its work.
        let (state, begun_us) = (self.state(), SystemClock.steady_us());
        let is_good = |look: &&Look| begun_us < look.next_us && look.feed_seq == state.feed_seq;
        if let Some(look) = last.as_ref().filter(is_good) {
            return Ok(Arc::clone(&look.campaigns));
        }
        let campaigns = Arc::new(self.look_at_renewals(&state).await?);
        let took_us = SystemClock.steady_us().saturating_sub(begun_us);
        let next_us = begun_us.saturating_add(LOOK_PAUSE_US.max(LOOK_SHARE * took_us));
        *last = Some(Look { feed_seq: state.feed_seq, next_us, campaigns: Arc::clone(&campaigns) });
        Ok(campaigns)
    }

    async fn look_at_renewals(self: &Arc<Self>, state: &Arc<State>) -> Result<Vec<Campaign>, Error> {
        let now = self.clock.now();
        let counts = counts(state, now);
        if counts.is_empty() {
            return Ok(Vec::new());
        }
        self.await_index(state, AuthorityKind::System, 0).await?;
        let (app, as_of) = (Arc::clone(self), Arc::clone(state));
        blocking(move || app.count_renewals(&as_of, counts, now)).await
    }

    /// From the newest shard back to one that is older than any certificate lives. Blocks.
    fn count_renewals(
        &self,
        state: &State,
        mut counts: Vec<Count>,
        now: Timestamp,
    ) -> Result<Vec<Campaign>, Error> {
        for shard in (0..=state.last_ordinal.0 / BLOCK_LEN).rev() {
            let rows = self.certificates.by_shard(AuthorityKind::Access, shard);
            let rows = rows.map_err(|e| Error::Unavailable(format!("the certificate index: {e}")))?;
            for row in rows.iter().filter(|row| row.issued.is_some()) {
                counts.iter_mut().for_each(|count| count.add(state, row, now));
            }
            let newest = rows.iter().map(|row| row.not_before).max();
            if newest.is_some_and(|at| at.plus_ms(i64::from(TTL_MAX_S) * 1_000 + 3_600_000) < now) {
                break;
            }
        }
        counts.iter_mut().for_each(|count| count.add_principals(state, now));
        Ok(counts.into_iter().map(|count| count.campaign).collect())
    }

    /// When the holder of a certificate is to renew it.
    pub fn renewal_window(&self, certificate: &Certificate, facts: &AccessFacts) -> RenewalWindow {
        let (state, now) = (self.state(), self.clock.now());
        let names = Names::of(certificate, facts);
        let announced = state.enforcement.announcements(&names).min_by_key(|announced| announced.cut_at);
        let authority = state.authorities.get(&certificate.issuer).map(|row| row.state);
        let at = |from: Timestamp, until: Timestamp, cause| {
            let until = until.max(from);
            RenewalWindow { from, until, cause, retry_after_s: RETRY_S }
        };
        match (announced, authority) {
            (Some(announced), _) => {
                at(announced.announced_at, announced.cut_at.plus_ms(-LISTED_AHEAD_MS), "ANNOUNCED")
            }
            (None, Some(state)) if state.is_to_be_replaced() => {
                at(now, now.plus_ms(SPREAD_MS).min(certificate.not_after), state.as_str())
            }
            (None, _) => {
                let life_ms = certificate.not_after.millis().saturating_sub(certificate.not_before.millis());
                let after = |tenths| certificate.not_before.plus_ms(life_ms / 10 * tenths);
                at(after(WINDOW_TENTHS.0), after(WINDOW_TENTHS.1), "LIFETIME")
            }
        }
    }
}

/// The campaigns that there are now.
fn counts(state: &State, now: Timestamp) -> Vec<Count> {
    let announced = state.enforcement.announced.values().filter(|held| !held.is_spent(now));
    let announced = announced.map(|held| {
        let row = state.announcements.get(&held.id);
        let scope = row.map_or_else(|| "given back by a gateway".to_owned(), |row| row.scope.to_string());
        Count::new(CampaignCause::Announced(Arc::clone(held)), scope, row.map(|row| row.reason))
    });
    let replaced = state.authorities.values().filter(|row| row.state.is_to_be_replaced());
    let replaced = replaced.map(|row: &Arc<Authority>| {
        Count::new(CampaignCause::Authority(row.id, row.state), row.kind.to_string(), None)
    });
    announced.chain(replaced).collect()
}

impl Count {
    fn new(cause: CampaignCause, scope: String, reason: Option<RevocationReason>) -> Self {
        let (renewed, left, named) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let campaign = Campaign { cause, scope, reason, renewed, left, named };
        Self { campaign, chains: BTreeSet::new(), principals: BTreeSet::new() }
    }

    fn reaches(&self, names: &Names<'_>) -> bool {
        match &self.campaign.cause {
            CampaignCause::Announced(announced) => announced.reaches(names),
            CampaignCause::Authority(id, _) => names.issuer == *id,
        }
    }

    /// A certificate in scope; of each chain the last one on record says whether it is renewed.
    fn add(&mut self, state: &State, row: &CertificateRow, now: Timestamp) {
        let Some(issuer) = state.issuer_named(row.authority, row.issuer) else { return };
        let Some(names) = names(issuer.id, row) else { return };
        let Some(last) = state.lineages.get(&names.lineage).map(|lineage| lineage.last) else { return };
        if !self.reaches(&names) || self.chains.contains(&names.lineage) {
            return;
        }
        if last.ordinal != row.ordinal {
            // A later one of the chain is in scope too, and will be met; else the chain is renewed.
            if self.reaches(&Names { ordinal: last.ordinal, issuer: last.issuer, ..names }) {
                return;
            }
            self.chains.insert(names.lineage);
            *self.campaign.renewed.entry(Some(names.entity)).or_default() += 1;
            return;
        }
        let listed = listed_access(state, issuer.id, row, Now::exactly(now));
        let is_cut_otherwise = listed.is_some_and(|(_, reason)| reason != ReasonCode::CertificateHold)
            && !matches!(&self.campaign.cause, CampaignCause::Announced(own) if own.cut_at <= now);
        if row.not_after <= now || is_cut_otherwise {
            return;
        }
        self.chains.insert(names.lineage);
        *self.campaign.left.entry(Some(names.entity)).or_default() += 1;
        let named = self.campaign.named.entry(names.entity).or_default();
        if named.len() < NAMED_MAX {
            named.push((names.subject, names.ordinal));
        }
    }

    /// Principals have one certificate each that counts, and it is on record.
    fn add_principals(&mut self, state: &State, now: Timestamp) {
        let CampaignCause::Authority(id, _) = &self.campaign.cause else { return };
        let Some(authority) = state.authorities.get(id).filter(|row| row.kind == AuthorityKind::System)
        else {
            return;
        };
        for (principal, last) in &state.system_certificates {
            let is_there = state.principals.get(principal).is_none_or(|row| !row.is_removed);
            if last.not_after <= now || !is_there || !self.principals.insert(principal.clone()) {
                continue;
            }
            let side = match last.issuer == authority.id {
                true => &mut self.campaign.left,
                false => &mut self.campaign.renewed,
            };
            *side.entry(None).or_default() += 1;
        }
    }
}
