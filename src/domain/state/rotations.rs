//! Rotation by itself: what a step needs, and what it does. Checked here, so that neither a start nor `journal verify` can be
//! fed a step that no standing approval of two officers carries, or one that is not due.

use std::sync::Arc;

use imbl::OrdMap;
use minicbor::{Decode, Encode};
use thiserror::Error;

use super::State;
use super::apply::Applied;
use crate::domain::approval::SignedMandate;
use crate::domain::authority::{AUTHORITIES_MAX, Authority, AuthorityState, NewAuthority};
use crate::domain::certificate::AuthorityKind;
use crate::domain::codec::map;
use crate::domain::command::{Command, ObjectRef};
use crate::domain::event::Event;
use crate::domain::id::{AuthorityId, Seq};
use crate::domain::rotation::{
    LIFE_SLACK_MS, RotationStep, SPENT_MS, Schedule, SignerLost, StandingApproval,
};
use crate::domain::time::Timestamp;

/// Standing approvals, and what they are measured by.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct Rotations {
    /// By the kind of authorities.
    #[n(0)]
    #[cbor(with = "map")]
    pub approvals: OrdMap<AuthorityKind, StandingApproval>,
    /// When each authority came on record: its life counts from there.
    #[n(1)]
    #[cbor(with = "map")]
    pub since: OrdMap<AuthorityId, Timestamp>,
}

impl Rotations {
    pub(super) fn since(authorities: impl Iterator<Item = AuthorityId>, time: Timestamp) -> Self {
        Self { approvals: OrdMap::new(), since: authorities.map(|id| (id, time)).collect() }
    }
}

/// Why a step is not carried by a standing approval.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RotationFault {
    /// There is none, another one, or officers withdrew it.
    #[error("no standing approval of two officers carries it")]
    NotApproved,
    /// A step failed: officers rotate by hand until they permit it anew.
    #[error("a step failed before, and the authorities are rotated by hand")]
    ByHand,
    /// One of its officers may not act any more.
    #[error("the standing approval lapsed at record {}, when {} ceased to act; two officers permit it anew", .0.at, .0.officer)]
    Lapsed(SignerLost),
    /// It ran out.
    #[error("the standing approval ended at {0}")]
    Expired(Timestamp),
    /// No more authorities may be prepared under it.
    #[error("no more rotations are left of the standing approval")]
    UsedUp,
    /// Too early.
    #[error("it is not due before {0}")]
    NotDue(Timestamp),
    /// The list of authorities does not allow it.
    #[error("{0}")]
    State(&'static str),
}

impl State {
    /// When the successor of the authority that issues is due; none: nobody issues.
    pub fn schedule(&self, kind: AuthorityKind) -> Option<Schedule> {
        self.authority(kind).map(|active| self.schedule_of(active))
    }

    fn schedule_of(&self, row: &Authority) -> Schedule {
        // Nothing before the record is known of one that was never noted.
        let since = self.rotations.since.get(&row.id).copied().unwrap_or(row.not_after);
        Schedule::of(row.kind, since, row.not_after)
    }

    /// The standing approval of rotations of a kind, if something may still be done under it.
    ///
    /// # Errors
    /// There is none, it ran out, or a step failed.
    pub fn standing_approval(
        &self,
        kind: AuthorityKind,
        at: Timestamp,
    ) -> Result<&StandingApproval, RotationFault> {
        let approval = self.rotations.approvals.get(&kind).ok_or(RotationFault::NotApproved)?;
        if let Some(lost) = &approval.lapsed {
            Err(RotationFault::Lapsed(lost.clone()))
        } else if approval.failed.is_some() {
            Err(RotationFault::ByHand)
        } else if at >= approval.until {
            Err(RotationFault::Expired(approval.until))
        } else {
            Ok(approval)
        }
    }

    /// May the server take this step by itself now?
    ///
    /// # Errors
    /// Why not.
    pub fn check_rotation(
        &self,
        (kind, given): (AuthorityKind, Seq),
        step: &RotationStep,
        at: Timestamp,
    ) -> Result<(), RotationFault> {
        let approval = self.standing_approval(kind, at)?;
        if approval.given != given {
            return Err(RotationFault::NotApproved);
        }
        match step {
            RotationStep::Prepare(new) => {
                if approval.left == 0 {
                    return Err(RotationFault::UsedUp);
                }
                self.check_prepared(kind, new, at)
            }
            RotationStep::Activate(id) => self.check_activated(kind, *id, at),
            RotationStep::Retire(id) => {
                let row = self.of_kind(kind, *id)?;
                let is_spent = row.issued_until.is_none_or(|until| until.plus_ms(SPENT_MS) < at);
                match (row.state, is_spent) {
                    (AuthorityState::Retiring, true) => Ok(()),
                    (AuthorityState::Retiring, false) => {
                        Err(RotationFault::State("certificates of it are still valid"))
                    }
                    _ => Err(RotationFault::State("only a RETIRING authority is retired by itself")),
                }
            }
        }
    }

    fn of_kind(&self, kind: AuthorityKind, id: AuthorityId) -> Result<&Arc<Authority>, RotationFault> {
        let row = self.authorities.get(&id).filter(|row| row.kind == kind);
        row.ok_or(RotationFault::State("there is no such authority of this kind"))
    }

    fn active_of(&self, kind: AuthorityKind) -> Result<&Arc<Authority>, RotationFault> {
        self.authority(kind).ok_or(RotationFault::State("no authority of this kind is ACTIVE"))
    }

    /// The authority that waits to issue.
    pub fn prepared(&self, kind: AuthorityKind) -> Option<&Arc<Authority>> {
        self.authorities.values().rfind(|row| row.kind == kind && row.state == AuthorityState::Prepared)
    }

    fn check_prepared(
        &self,
        kind: AuthorityKind,
        new: &NewAuthority,
        at: Timestamp,
    ) -> Result<(), RotationFault> {
        let active = self.active_of(kind)?;
        let due = self.schedule_of(active).prepare_at;
        if at < due {
            return Err(RotationFault::NotDue(due));
        }
        // What the server makes by itself signs itself: it would leave the root that those before it stand beneath.
        if active.beneath.is_some() {
            return Err(RotationFault::State(
                "none beneath an offline root, which certifies at ceremonies only: each step by officers",
            ));
        }
        if new.beneath.is_some() {
            return Err(RotationFault::State("what is made by itself is self-signed"));
        }
        if self.prepared(kind).is_some() {
            return Err(RotationFault::State("one is PREPARED already"));
        }
        if new.kind != kind || self.authorities.contains_key(&new.id) {
            return Err(RotationFault::State("it is no new authority of this kind"));
        }
        if self.enforcement.authorities.len() >= AUTHORITIES_MAX {
            return Err(RotationFault::State("gateways know as many authorities as they can"));
        }
        let since = self.rotations.since.get(&active.id).copied().unwrap_or(active.not_after);
        let life_ms = active.not_after.millis().saturating_sub(since.millis());
        if new.not_after <= active.not_after || new.not_after > at.plus_ms(life_ms + LIFE_SLACK_MS) {
            return Err(RotationFault::State("it does not live as long as the one before"));
        }
        Ok(())
    }

    fn check_activated(
        &self,
        kind: AuthorityKind,
        id: AuthorityId,
        at: Timestamp,
    ) -> Result<(), RotationFault> {
        let due = self.schedule_of(self.active_of(kind)?).activate_at;
        if at < due {
            return Err(RotationFault::NotDue(due));
        }
        let row = self.of_kind(kind, id)?;
        match row.state == AuthorityState::Prepared && row.not_after > at {
            true => Ok(()),
            false => Err(RotationFault::State("it is not PREPARED, or has expired")),
        }
    }

    /// A command of officers.
    pub(super) fn enact_rotation(
        &mut self,
        seq: Seq,
        time: Timestamp,
        command: &Command,
    ) -> Result<Applied, String> {
        match command {
            Command::PrepareAuthority(new) => Ok(self.prepare_authority(seq, time, new)),
            Command::ActivateAuthority(id) => self.activate_authority(*id),
            Command::TaintAuthority { authority, .. } => self.taint_authority(*authority),
            Command::RollbackAuthority(id) => self.roll_authority_back(*id),
            Command::RetireAuthority(id) => self.drop_authority(*id),
            Command::RevokeAuthority { authority, .. } => self.revoke_authority(*authority),
            Command::PermitRotation { kind, until, rotations } => {
                // Who signed is known where the signatures are: `settle_approvals`, of the same record.
                let (left, signers) = (*rotations, Vec::new());
                let approval =
                    StandingApproval { given: seq, until: *until, left, failed: None, signers, lapsed: None };
                self.rotations.approvals.insert(*kind, approval);
                Ok(Applied::default())
            }
            Command::WithdrawRotation(kind) => {
                self.rotations.approvals.remove(kind);
                Ok(Applied::default())
            }
            Command::TrustRoot(_)
            | Command::RenewRootList { .. }
            | Command::AddCrossCertificate(_)
            | Command::DropRoot(_) => self.enact_of_roots((seq, time), command),
            // Every other command is carried out by its own: one that is not is refused here.
            other => Err(format!("{} is no step of a rotation", other.name())),
        }
    }

    /// After each command of officers: an approval of this record learns who gave it, and one that lost an officer lapses for
    /// good. What two permitted must not go on with one.
    pub(super) fn settle_approvals(&mut self, seq: Seq, signed: &SignedMandate) {
        for kind in AuthorityKind::ALL {
            let Some(approval) = self.rotations.approvals.get_mut(kind) else { continue };
            if approval.given == seq {
                approval.signers = signed.approvals.iter().map(|approval| approval.officer.clone()).collect();
            }
        }
        let lost = |approval: &StandingApproval| {
            let gone = approval.signers.iter().find(|id| self.officer(id).is_none());
            gone.filter(|_| approval.lapsed.is_none()).cloned()
        };
        let lost: Vec<_> = self.rotations.approvals.iter().map(|(kind, held)| (*kind, lost(held))).collect();
        for (kind, officer) in lost {
            let (Some(officer), Some(held)) = (officer, self.rotations.approvals.get_mut(&kind)) else {
                continue;
            };
            held.lapsed = Some(SignerLost { at: seq, officer });
            self.touch(ObjectRef::Rotation(kind), seq);
        }
    }

    /// What the server did by itself.
    pub(super) fn apply_rotation(
        &mut self,
        (seq, time): (Seq, Timestamp),
        event: &Event,
    ) -> Result<Applied, String> {
        match event {
            Event::RotationStepped { kind, approval, step } => {
                self.step_rotation((seq, time), (*kind, *approval), step)
            }
            Event::RotationFailed { kind, approval, .. } => {
                self.fail_rotation(seq, *kind, *approval).map(|()| Applied::default())
            }
            other => Err(format!("{} is no step of a rotation", other.name())),
        }
    }

    fn step_rotation(
        &mut self,
        (seq, time): (Seq, Timestamp),
        (kind, given): (AuthorityKind, Seq),
        step: &RotationStep,
    ) -> Result<Applied, String> {
        self.check_rotation((kind, given), step, time).map_err(|fault| fault.to_string())?;
        self.touch(ObjectRef::Authorities, seq);
        match step {
            RotationStep::Prepare(new) => {
                if let Some(approval) = self.rotations.approvals.get_mut(&kind) {
                    approval.left = approval.left.saturating_sub(1);
                }
                Ok(self.prepare_authority(seq, time, new))
            }
            RotationStep::Activate(id) => self.activate_authority(*id),
            RotationStep::Retire(id) => self.drop_authority(*id),
        }
    }

    fn fail_rotation(&mut self, seq: Seq, kind: AuthorityKind, given: Seq) -> Result<(), String> {
        let approval = self.rotations.approvals.get_mut(&kind).filter(|approval| approval.given == given);
        approval.ok_or("no such standing approval")?.failed = Some(seq);
        self.touch(ObjectRef::Rotation(kind), seq);
        Ok(())
    }
}
