//! Why and since when certificates are refused, for revocation lists. The enforcement set alone says that they are; no
//! decision reads this.

use imbl::OrdMap;
use minicbor::{Decode, Encode};

use super::State;
use crate::domain::certificate::TTL_MAX_S;
use crate::domain::codec::map;
use crate::domain::command::Command;
use crate::domain::decision::CredentialFault;
use crate::domain::enforce::{EnforcementEvent, Names};
use crate::domain::event::Event;
use crate::domain::id::{AuthorityId, DeterminationId, Digest, EntityId, LineageId, Ordinal, SubjectId};
use crate::domain::revocation::{RevocationReason, StopScope, SuspensionTarget};
use crate::domain::time::{Now, Timestamp};

/// How long a cause is kept that cannot be released: no access certificate that it reaches lives half as long.
const KEPT_MS: i64 = 2 * 1_000 * TTL_MAX_S as i64;
/// The fewest causes at which old ones are looked for.
const SWEEP_LEN_MIN: u64 = 1_024;

/// No ordinal is above this one.
const LAST: Ordinal = Ordinal(u64::MAX);

/// Why something was taken away, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct RevocationCause {
    /// The time of the record.
    #[n(0)]
    pub at: Timestamp,
    /// Why.
    #[n(1)]
    pub reason: RevocationReason,
}

/// How a certificate is refused, and why if that is still known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawal {
    /// For good.
    Revoked(Option<RevocationCause>),
    /// Until it is released.
    Held(Option<RevocationCause>),
}

/// What an event takes away. Cut-offs never go down, so the first one at or above an ordinal is the one that cut it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
enum Taken {
    #[n(0)]
    Certificate(#[n(0)] Ordinal),
    #[n(1)]
    Lineage(#[n(0)] LineageId),
    #[n(2)]
    Subject(#[n(0)] SubjectId, #[n(1)] Ordinal),
    #[n(3)]
    Entity(#[n(0)] EntityId, #[n(1)] Ordinal),
    #[n(4)]
    Issuer(#[n(0)] AuthorityId),
    #[n(5)]
    Held(#[n(0)] Ordinal),
    #[n(6)]
    Suspended(#[n(0)] SuspensionTarget),
    #[n(7)]
    Stopped(#[n(0)] StopScope),
    #[n(8)]
    Determination(#[n(0)] DeterminationId, #[n(1)] Option<u32>, #[n(2)] Ordinal),
    /// The last ordinal there is: blocked.
    #[n(9)]
    Key(#[n(0)] Digest, #[n(1)] Ordinal),
}

impl Taken {
    /// Can it be forgotten by itself? What may be released is forgotten then.
    const fn is_passing(&self) -> bool {
        match self {
            Self::Certificate(_)
            | Self::Lineage(_)
            | Self::Subject(..)
            | Self::Entity(..)
            | Self::Determination(..)
            | Self::Held(_) => true,
            Self::Key(_, cutoff) => cutoff.0 != LAST.0,
            Self::Issuer(_) | Self::Suspended(_) | Self::Stopped(_) => false,
        }
    }
}

/// The causes of what is taken away.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Causes {
    #[n(0)]
    #[cbor(with = "map")]
    rows: OrdMap<Taken, RevocationCause>,
    /// Old ones are looked for when there are so many: twice what the last look left, so that a look costs little for
    /// each.
    #[n(1)]
    sweep_at: u64,
}

impl Default for Causes {
    fn default() -> Self {
        Self { rows: OrdMap::new(), sweep_at: SWEEP_LEN_MIN }
    }
}

impl Causes {
    /// Notes what an event took away or gave back.
    pub(super) fn note(&mut self, event: &EnforcementEvent, cause: RevocationCause) {
        match event {
            EnforcementEvent::CertificateRevoked(ordinal) => self.take(Taken::Certificate(*ordinal), cause),
            EnforcementEvent::LineageLocked(lineage) => self.take(Taken::Lineage(*lineage), cause),
            EnforcementEvent::SubjectsCut { subjects, cutoff } => {
                subjects.iter().for_each(|subject| self.take(Taken::Subject(*subject, *cutoff), cause));
            }
            EnforcementEvent::EntityCut { entity, cutoff } => {
                self.take(Taken::Entity(*entity, *cutoff), cause);
            }
            EnforcementEvent::DeterminationCut { determination, annex_revision, cutoff } => {
                self.take(Taken::Determination(determination.clone(), *annex_revision, *cutoff), cause);
            }
            EnforcementEvent::KeyBlocked(key) => self.take(Taken::Key(*key, LAST), cause),
            // What was issued before stays revoked, for the reason it was blocked for.
            EnforcementEvent::KeyUnblocked { key, cutoff } => {
                let blocked = self.rows.remove(&Taken::Key(*key, LAST));
                self.take(Taken::Key(*key, *cutoff), blocked.unwrap_or(cause));
            }
            EnforcementEvent::IssuerRevoked(authority) => self.take(Taken::Issuer(*authority), cause),
            EnforcementEvent::Held(ordinal) => self.take(Taken::Held(*ordinal), cause),
            EnforcementEvent::HoldReleased(ordinal) => drop(self.rows.remove(&Taken::Held(*ordinal))),
            EnforcementEvent::Suspended(target) => self.take(Taken::Suspended(*target), cause),
            EnforcementEvent::Unsuspended(target) => drop(self.rows.remove(&Taken::Suspended(*target))),
            EnforcementEvent::Stopped(scope) => self.take(Taken::Stopped(scope.clone()), cause),
            EnforcementEvent::StopReleased(scope) => drop(self.rows.remove(&Taken::Stopped(scope.clone()))),
            // Of a range nothing is on record that a list could name.
            EnforcementEvent::RangeRevoked(_)
            | EnforcementEvent::CeilingRaised(_)
            | EnforcementEvent::PolicyAdopted(_)
            | EnforcementEvent::AuthorityListed(_)
            | EnforcementEvent::AuthorityDropped(_)
            // The announcement itself says since when, and its row why.
            | EnforcementEvent::RevocationAnnounced(_)
            | EnforcementEvent::RevocationPostponed { .. }
            | EnforcementEvent::Drilled(_) => {}
        }
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when nothing is taken away.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The first cause stays: what is revoked is not revoked again.
    fn take(&mut self, taken: Taken, cause: RevocationCause) {
        self.rows.entry(taken).or_insert(cause);
        if self.rows.len() as u64 >= self.sweep_at {
            let until = cause.at.plus_ms(-KEPT_MS);
            let rows = self.rows.iter().filter(|(taken, cause)| !taken.is_passing() || cause.at >= until);
            self.rows = rows.map(|(taken, cause)| (taken.clone(), *cause)).collect();
            self.sweep_at = (2 * self.rows.len() as u64).max(SWEEP_LEN_MIN);
        }
    }

    pub(super) fn revoked(&self, names: &Names<'_>) -> Option<RevocationCause> {
        let Names { issuer, ordinal, entity, subject, lineage, key, .. } = *names;
        let last = LAST;
        let first = |from, to| self.rows.range(from..=to).next().map(|(_, cause)| cause);
        let determination = |revision| {
            let taken = |ordinal| Some(Taken::Determination(names.determination?.clone(), revision, ordinal));
            first(taken(ordinal)?, taken(last)?)
        };
        let causes = [
            self.rows.get(&Taken::Certificate(ordinal)),
            self.rows.get(&Taken::Lineage(lineage)),
            first(Taken::Subject(subject, ordinal), Taken::Subject(subject, last)),
            first(Taken::Entity(entity, ordinal), Taken::Entity(entity, last)),
            self.rows.get(&Taken::Issuer(issuer)),
            first(Taken::Key(key, ordinal), Taken::Key(key, last)),
            determination(None),
            names.annex_revision.and_then(|revision| determination(Some(revision))),
        ];
        causes.into_iter().flatten().min_by_key(|cause| cause.at).copied()
    }

    pub(super) fn held(&self, names: &Names<'_>) -> Option<RevocationCause> {
        let taken = [
            Taken::Held(names.ordinal),
            Taken::Suspended(SuspensionTarget::Entity(names.entity)),
            Taken::Suspended(SuspensionTarget::Subject(names.subject)),
            Taken::Stopped(StopScope::All),
            Taken::Stopped(StopScope::Entity(names.entity)),
            Taken::Stopped(StopScope::Subject(names.subject)),
            Taken::Stopped(StopScope::Issuer(names.issuer)),
        ];
        taken.iter().filter_map(|taken| self.rows.get(taken)).min_by_key(|cause| cause.at).copied()
    }
}

impl State {
    /// Is every access with this certificate refused, whatever the model, and why? For consumers who have nothing but a
    /// revocation list, a suspension and a stop that reach all of it are a hold.
    pub fn withdrawal(&self, names: &Names<'_>, now: Now) -> Option<Withdrawal> {
        let set = &self.enforcement;
        match set.fault_of(names, now) {
            Some(CredentialFault::Revoked | CredentialFault::LineageLocked) => {
                let causes = [self.causes.revoked(names), self.announced_cause(names, now)];
                Some(Withdrawal::Revoked(causes.into_iter().flatten().min_by_key(|cause| cause.at)))
            }
            Some(_) => Some(Withdrawal::Held(self.causes.held(names))),
            None if set.is_suspended(names.entity, names.subject) || set.is_barred(names) => {
                Some(Withdrawal::Held(self.causes.held(names)))
            }
            None => None,
        }
    }

    /// The same for a canary, of which nothing else can be said: a list that named both canaries of a gateway whenever
    /// everything is stopped would show nothing.
    pub fn canary_withdrawal(
        &self,
        issuer: AuthorityId,
        ordinal: Ordinal,
        key: Digest,
    ) -> Option<Withdrawal> {
        let set = &self.enforcement;
        let cause = |taken| self.causes.rows.get(&taken).copied();
        if set.issuers.contains(&issuer) {
            Some(Withdrawal::Revoked(cause(Taken::Issuer(issuer))))
        } else if set.revoked.contains(ordinal) {
            Some(Withdrawal::Revoked(cause(Taken::Certificate(ordinal))))
        } else if ordinal <= set.key_cutoff(key) {
            let mut causes = self.causes.rows.range(Taken::Key(key, ordinal)..=Taken::Key(key, LAST));
            Some(Withdrawal::Revoked(causes.next().map(|(_, cause)| *cause)))
        } else if set.held.contains(ordinal) {
            Some(Withdrawal::Held(cause(Taken::Held(ordinal))))
        } else {
            None
        }
    }

    /// When a public key was blocked, and why; none: it is not.
    pub fn key_blocked(&self, key: Digest) -> Option<RevocationCause> {
        self.causes.rows.get(&Taken::Key(key, LAST)).copied()
    }

    /// When an authority was revoked, and why.
    pub fn authority_revoked(&self, authority: AuthorityId) -> Option<RevocationCause> {
        self.causes.rows.get(&Taken::Issuer(authority)).copied()
    }
}

/// Why this entry took it away: the reason that officers gave, or what the entry itself says.
pub(super) fn reason_of(
    event: &Event,
    command: Option<&Command>,
    taken: &EnforcementEvent,
) -> RevocationReason {
    match (command, taken, event) {
        (Some(Command::AmendAnnex { remove, .. }), EnforcementEvent::EntityCut { entity, .. }, _)
            if remove.contains(entity) =>
        {
            RevocationReason::AnnexRemoved
        }
        // A listed entity gets certificates that state it.
        (Some(Command::AmendAnnex { .. }), _, _) => RevocationReason::Superseded,
        (Some(command), _, _) => {
            command.restriction().map_or(RevocationReason::StatusChanged, |(_, reason)| reason)
        }
        // A generation was renewed twice: somebody has a copy of a key.
        (None, _, Event::LineageLocked(_)) => RevocationReason::KeyCompromise,
        // The reasons were lost with the records.
        (None, _, Event::Restored | Event::RestrictionsCollected { .. }) => RevocationReason::StatusChanged,
        (None, _, _) => RevocationReason::AffiliationEnded,
    }
}
