//! The barrier: when is a record enforced everywhere? Commit + longest lease + drift closes every gateway, known or
//! unknown, with no bookkeeping; acknowledgements only let the call return earlier (design section 4).

use std::fmt;

use super::lease::LEASE_MAX_MS;
use super::view::Position;
use crate::domain::id::{BootId, PrincipalId, Seq};

/// A participant of barriers: one run of one gateway, the server's own path, or who is not known yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParticipantId {
    /// The server's own Evaluate and Check path.
    Server,
    /// A session of a gateway.
    Gateway(PrincipalId, BootId),
    /// Whoever may hold a lease of an earlier run of the server.
    EarlierRun,
}

impl fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server"),
            Self::Gateway(id, _) => fmt::Display::fmt(id, f),
            Self::EarlierRun => f.write_str("gateways-of-an-earlier-run"),
        }
    }
}

/// What is known of a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Participant {
    /// Up to which record it has acknowledged that it enforces.
    pub acked: Seq,
    /// When the last Pong was sent to it, or the last trust set for it was signed, in milliseconds of the server's boot
    /// clock; none: it never had a lease.
    pub last_pong_ms: Option<u64>,
    /// What extends its lease after the commit brings the record itself, so that the bound closes it: it is pushed trust
    /// sets.
    pub is_pushed: bool,
    /// It cannot promise all of enforcement (per request, within 250 ms, streams cut, a clock that never pauses).
    pub is_weak: bool,
}

/// How long after an instant every lease that was granted until then has run out, in milliseconds: the lease and the
/// drift of two clocks by 0.1 % each way, and 50 ms.
pub const fn bound_ms(lease_ms: u32) -> u64 {
    let lease_ms = lease_ms as u64;
    lease_ms + 2 * (lease_ms / 1000 + 1) + 50
}

/// What made the record enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnforcedBy {
    /// Every participant acknowledged it or its lease ran out.
    Acks,
    /// Commit + longest lease + drift has passed: also gateways that nobody knows of are closed.
    Bound,
}

/// Where a barrier stands. Each participant is in exactly one list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BarrierReport {
    /// Enforce it, as they acknowledged.
    pub acked: Vec<ParticipantId>,
    /// Acknowledged, but cannot promise all of it.
    pub weak: Vec<ParticipantId>,
    /// Did not acknowledge; their leases have run out, so they deny everything.
    pub lease_expired: Vec<ParticipantId>,
    /// Neither acknowledged nor provably closed.
    pub pending: Vec<ParticipantId>,
    /// What made it enforced; none while it is not.
    pub enforced_by: Option<EnforcedBy>,
}

impl BarrierReport {
    /// Enforced everywhere, with every promise kept?
    pub fn is_enforced(&self) -> bool {
        self.enforced_by.is_some() && self.pending.is_empty() && self.weak.is_empty()
    }
}

/// A barrier at one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    at: Position,
    committed_ms: u64,
    lease_ms: u32,
}

impl Barrier {
    /// A barrier at a record that was committed at `committed_ms` of the server's boot clock, while leases were at most
    /// `lease_ms` long.
    pub const fn new(at: Position, committed_ms: u64, lease_ms: u32) -> Self {
        let lease_ms = if lease_ms > LEASE_MAX_MS { LEASE_MAX_MS } else { lease_ms };
        Self { at, committed_ms, lease_ms }
    }

    /// Which record it stands at.
    pub const fn at(&self) -> Position {
        self.at
    }

    /// When every gateway is closed whatever happens, in milliseconds of the server's boot clock.
    pub const fn bound_at_ms(&self) -> u64 {
        self.committed_ms + bound_ms(self.lease_ms)
    }

    /// Where it stands. `is_complete` says that the participants are all that can hold a lease: false after a restart,
    /// until sessions of the run before cannot have a lease any more.
    pub fn report(
        &self,
        participants: impl IntoIterator<Item = (ParticipantId, Participant)>,
        is_complete: bool,
        boot_ms: u64,
    ) -> BarrierReport {
        let mut report = BarrierReport::default();
        let bound_passed = boot_ms >= self.bound_at_ms();
        for (id, participant) in participants {
            let list = if self.awaits(&participant, boot_ms) {
                &mut report.pending
            } else if participant.is_weak {
                // Also without an acknowledgement: a clock that may have paused cannot prove that its lease has run out.
                &mut report.weak
            } else if participant.acked >= self.at.seq {
                &mut report.acked
            } else {
                &mut report.lease_expired
            };
            list.push(id);
        }
        if !is_complete && !bound_passed {
            report.pending.push(ParticipantId::EarlierRun);
        }
        report.enforced_by = if report.pending.is_empty() && is_complete {
            Some(EnforcedBy::Acks)
        } else if bound_passed {
            Some(EnforcedBy::Bound)
        } else {
            None
        };
        report
    }

    /// Has this participant neither acknowledged it nor is provably closed? After the bound that is one whose lease was
    /// extended since: it permits nothing without the record, but has not said that it closed what the record closes.
    pub fn awaits(&self, participant: &Participant, boot_ms: u64) -> bool {
        let holds_lease = |sent: u64| boot_ms < sent.saturating_add(bound_ms(self.lease_ms));
        let is_bounded = participant.is_pushed && boot_ms >= self.bound_at_ms();
        participant.acked < self.at.seq && !is_bounded && participant.last_pong_ms.is_some_and(holds_lease)
    }
}
