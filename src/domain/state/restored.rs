//! What a restore does to State, and what gateways give back afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::State;
use super::apply::Applied;
use crate::domain::approval::Mandate;
use crate::domain::certificate::BLOCK_LEN;
use crate::domain::command::ObjectRef;
use crate::domain::enforce::{EnforcementEvent, Position};
use crate::domain::id::{AuthorityId, Digest, Epoch, Ordinal, PrincipalId, Seq};
use crate::domain::principal::{Principal, Role};
use crate::domain::recovery::RecoveryKey;
use crate::domain::restore::{ORDINALS_SKIPPED, REPORTS_MAX, Restore, RestoreReport};
use crate::domain::revocation::OrdinalRange;
use crate::domain::time::Timestamp;

/// As many approvers as a loosening needs.
const APPROVERS_MIN: usize = 2;

impl State {
    /// The restore that waits for its acknowledgement.
    pub fn pending_restore(&self) -> Option<&Restore> {
        self.restore.as_ref().filter(|restore| restore.is_pending())
    }

    /// Was the mandate prepared before the record was restored? It may have been carried out in the part that was lost, and
    /// taken back since.
    pub fn predates_restore(&self, mandate: &Mandate) -> bool {
        self.restore.as_ref().is_some_and(|restore| mandate.made_at < restore.at)
    }

    /// A new epoch begins after a backup: certificates that may have been issued since are revoked, tokens that may have
    /// been redeemed and proposals that may have been withdrawn are gone.
    pub(super) fn begin_after_backup(&mut self, seq: Seq, time: Timestamp) -> Result<Applied, String> {
        let from = self.position;
        let first = self.last_ordinal.0.saturating_add(1);
        let last = self.last_ordinal.0.saturating_add(ORDINALS_SKIPPED).next_multiple_of(BLOCK_LEN);
        let gap = OrdinalRange::new(Ordinal(first), Ordinal(last)).ok_or("the ordinals are used up")?;
        // What was intended may have been issued, and a number that was skipped may have been used.
        let doubtful = self.intents.keys().chain(&self.gaps).copied();
        let mut events: Vec<_> = doubtful.map(EnforcementEvent::CertificateRevoked).collect();
        // Nobody has a lease before it holds this, so the first block beyond is open at once.
        let opened = Ordinal(gap.last().0.saturating_add(BLOCK_LEN));
        events.push(EnforcementEvent::CeilingRaised(opened));
        events.push(EnforcementEvent::RangeRevoked(gap));
        (self.last_ordinal, self.opened) = (gap.last(), opened);
        self.last_system_ordinal = Ordinal(self.last_system_ordinal.0.saturating_add(ORDINALS_SKIPPED));
        (self.intents, self.system_intents, self.gaps) = (OrdMap::new(), OrdMap::new(), OrdSet::new());
        let redeemed = self.tokens.iter().filter(|(_, token)| token.redeemed.is_some());
        self.tokens = redeemed.map(|(id, token)| (*id, Arc::clone(token))).collect();
        (self.proposals, self.recoveries) = (OrdMap::new(), OrdMap::new());
        // They may have been withdrawn.
        self.rotations.approvals = OrdMap::new();
        self.position.epoch = Epoch(from.epoch.0.saturating_add(1));
        self.touch(ObjectRef::Restore, seq);
        self.restore = Some(Restore { from, seq, at: time, gap, reports: Vec::new(), acknowledged: None });
        Ok(Applied { events, cards: Vec::new() })
    }

    pub(super) const fn acknowledge_restore(&mut self, seq: Seq) {
        if let Some(restore) = self.restore.as_mut() {
            restore.acknowledged = Some(seq);
        }
    }

    /// A gateway gave back what was lost.
    pub(super) fn collect(
        &mut self,
        (gateway, upto): (&PrincipalId, Position),
        (seq, time): (Seq, Timestamp),
        events: &[EnforcementEvent],
    ) -> Result<Applied, String> {
        let restore = self.restore.as_mut().filter(|restore| restore.is_pending());
        let restore = restore.ok_or("no restore waits for what gateways hold")?;
        if !events.iter().all(EnforcementEvent::is_restricting) {
            return Err("a gateway gives back restrictions only".to_owned());
        }
        let restrictions = events.len() as u64;
        let is_full = restore.reports.len() >= REPORTS_MAX;
        if let Some(report) = restore.reports.iter_mut().find(|report| report.gateway == *gateway) {
            report.restrictions = report.restrictions.saturating_add(restrictions);
            (report.upto, report.at) = (report.upto.max(upto), time);
        } else if !is_full {
            let (gateway, spared) = (gateway.clone(), None);
            restore.reports.push(RestoreReport { gateway, upto, at: time, restrictions, spared });
        }
        self.touch(ObjectRef::Restore, seq);
        let mut applied = Applied::default();
        let (mut blocked, mut spared) = (BTreeSet::new(), Vec::new());
        for event in events {
            match event {
                EnforcementEvent::IssuerRevoked(id) => {
                    applied.events.extend(self.collect_issuer(*id, (seq, time))?.events);
                }
                EnforcementEvent::KeyBlocked(key) if self.is_needed(*key, &blocked) => spared.push(*key),
                event => {
                    if let EnforcementEvent::KeyBlocked(key) = event {
                        blocked.insert(*key);
                    }
                    applied.events.push(event.clone());
                }
            }
        }
        self.spare(gateway, spared);
        Ok(applied)
    }

    /// Officers see which blocks were left to them.
    fn spare(&mut self, gateway: &PrincipalId, keys: Vec<Digest>) {
        let reports = self.restore.as_mut().map(|restore| restore.reports.iter_mut());
        let report = reports.into_iter().flatten().find(|report| report.gateway == *gateway);
        let Some(report) = report.filter(|_| !keys.is_empty()) else { return };
        let held = report.spared.get_or_insert_default();
        // No more than there are officers and recovery keys.
        keys.into_iter().for_each(|key| {
            if !held.contains(&key) {
                held.push(key)
            }
        });
    }

    /// Would a block of this key, after these, leave too few who can undo it? One gateway says no more than one officer may
    /// (`check_block`): the server's own key is spared, and so are officers of whom two have to approve, and recovery keys.
    fn is_needed(&self, key: Digest, blocked: &BTreeSet<Digest>) -> bool {
        let is_servers = |id: &PrincipalId| !self.principals.contains_key(id);
        let mut issued = self.system_certificates.iter();
        let is_left = |other: &Digest| !blocked.contains(other) && !self.enforcement.is_blocked(*other);
        let few = |left: &[Digest], need: usize| left.contains(&key) && left.len() <= need;
        let approvers = self.principals.keys().filter_map(|id| self.officer(id));
        let approvers = approvers.filter(|officer| officer.roles.contains(&Role::Approver));
        let approvers: Vec<_> = approvers.map(Principal::key_digest).filter(is_left).collect();
        let recovery = self.recovery.iter().flat_map(|recovery| &recovery.keys);
        let recovery: Vec<_> = recovery.map(|RecoveryKey(key)| Digest::of(key)).filter(is_left).collect();
        let threshold = self.recovery.as_ref().map_or(0, |recovery| recovery.threshold);
        issued.any(|(id, last)| last.key == key && is_servers(id))
            || few(&approvers, APPROVERS_MIN)
            || few(&recovery, usize::try_from(threshold).unwrap_or(usize::MAX))
    }

    /// One gateway says that an authority was revoked. The row says so as well; one of the system that officers still need
    /// is tainted and left to them; one that nobody knows was prepared in the part that was lost, and issues nothing here.
    fn collect_issuer(&mut self, id: AuthorityId, (seq, time): (Seq, Timestamp)) -> Result<Applied, String> {
        match self.authorities.get(&id) {
            None => Ok(Applied::default()),
            Some(row) if !row.state.is_trusted() => Ok(Applied::event(EnforcementEvent::IssuerRevoked(id))),
            Some(_) => {
                self.touch(ObjectRef::Authorities, seq);
                self.end_authority(id, time)
            }
        }
    }
}
