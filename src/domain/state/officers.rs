//! What commands about principals do to State, and reviews of emergencies.

use std::sync::Arc;

use super::State;
use super::apply::Applied;
use crate::domain::approval::{Mandate, SignedMandate};
use crate::domain::command::{Command, ObjectRef, Ruling, SubjectDecision};
use crate::domain::id::{PrincipalId, Seq};
use crate::domain::officer_command::{OfficerCommand, Review};
use crate::domain::revocation::RevocationReason;
use crate::domain::time::Timestamp;

impl State {
    /// Why these may not sign this, beyond their roles: nobody closes the review of what they did, or decides on many of whom
    /// they nominated some.
    pub(in crate::domain) fn party_fault<'a>(
        &self,
        command: &Command,
        mut signers: impl Iterator<Item = &'a PrincipalId>,
    ) -> Option<String> {
        if let Command::DecideSubjects(rulings) = command {
            return self.nominator_fault(rulings, signers);
        }
        let Command::Officers(OfficerCommand::CloseReview { review, .. }) = command else { return None };
        let own = self.reviews.get(review)?;
        let id = signers.find(|id| own.officers.contains(id))?;
        Some(format!("{id} broke the glass; another officer reviews it"))
    }

    /// Whom one of these officers nominated and is to approve now. To refuse is open to everybody.
    pub(in crate::domain) fn nominator_fault<'a>(
        &self,
        rulings: &[Ruling],
        signers: impl Iterator<Item = &'a PrincipalId>,
    ) -> Option<String> {
        let signers: Vec<_> = signers.collect();
        rulings.iter().filter(|ruling| ruling.decision != SubjectDecision::Refuse).find_map(|ruling| {
            let own = self.nominators.get(&ruling.subject).filter(|own| signers.contains(own))?;
            Some(format!("{own} nominated {}; another officer decides", ruling.subject))
        })
    }

    /// An emergency opens its review in the same record, and its mandate is used up.
    pub(super) fn open_review(
        &mut self,
        (seq, time): (Seq, Timestamp),
        signed: &SignedMandate,
        (mandate, by): (&Mandate, Option<&PrincipalId>),
    ) {
        let Command::Officers(OfficerCommand::BreakGlass { what, reason }) = &mandate.command else { return };
        self.remembered.use_emergency(&signed.bytes, mandate.made_at, time);
        let mut officers: Vec<_> = signed.approvals.iter().map(|approval| approval.officer.clone()).collect();
        // Who brings what another one signed takes part in it.
        officers.extend(by.filter(|by| !officers.contains(by)).cloned());
        let review = Review { seq, officers, what: what.clone(), reason: reason.clone(), at: time };
        self.reviews.insert(seq, Arc::new(review));
        self.touch(ObjectRef::Review(seq), seq);
    }

    pub(super) fn enact_of_officers(
        &mut self,
        seq: Seq,
        time: Timestamp,
        command: &OfficerCommand,
    ) -> Result<Applied, String> {
        match command {
            OfficerCommand::Suspend { principal, reason } => {
                self.set_suspended(principal, Some(*reason), seq)?
            }
            OfficerCommand::Release(id) => self.set_suspended(id, None, seq)?,
            OfficerCommand::BreakGlass { what, .. } => return self.enact(seq, time, &what.command()),
            OfficerCommand::CloseReview { review, .. } => drop(self.reviews.remove(review)),
        }
        Ok(Applied::default())
    }

    fn set_suspended(
        &mut self,
        id: &PrincipalId,
        suspended: Option<RevocationReason>,
        seq: Seq,
    ) -> Result<(), String> {
        let principal = Arc::make_mut(self.principals.get_mut(id).ok_or("no such principal")?);
        (principal.suspended, principal.revision) = (suspended, seq);
        Ok(())
    }
}
