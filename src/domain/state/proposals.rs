//! What waits for other officers: when it lapses, and how it is closed.

use std::sync::Arc;

use super::State;
use crate::domain::approval::{MANDATE_FRESH_MS, Mandate, SignedMandate};
use crate::domain::event::Event;
use crate::domain::id::{PrincipalId, ProposalId, Seq};
use crate::domain::proposal::{CLOSED_MAX, ClosedProposal, Lapse, Outcome, Proposal};
use crate::domain::time::Timestamp;

impl State {
    /// Why this proposal can never be carried out, if so.
    pub fn lapse_of(&self, proposal: &Proposal, now: Timestamp) -> Option<Lapse> {
        let gone =
            proposal.signed.approvals.iter().find(|approval| self.officer(&approval.officer).is_none());
        if let Some(approval) = gone {
            return Some(Lapse::SignerGone(approval.officer.clone()));
        }
        if let Some(basis) = proposal.basis.iter().find(|b| self.revision(&b.object) != b.revision) {
            return Some(Lapse::Changed(basis.object.clone()));
        }
        (now > proposal.mandated_at.plus_ms(MANDATE_FRESH_MS)).then_some(Lapse::TooOld)
    }

    /// The proposal of this name, if it was closed a short while ago.
    pub fn closed_proposal(&self, id: ProposalId) -> Option<&ClosedProposal> {
        self.closed.values().map(AsRef::as_ref).find(|closed| closed.proposal.id == id)
    }

    /// A command begins to wait for signatures, or waits no more.
    pub(super) fn propose_or_close(
        &mut self,
        (seq, time): (Seq, Timestamp),
        event: &Event,
        mandate: Option<&Mandate>,
        by: Option<&PrincipalId>,
    ) -> Result<(), String> {
        let (id, outcome) = match event {
            Event::Proposed { id, signed } => {
                let mandate = mandate.ok_or("its signatures were not verified")?;
                let (basis, mandated_at) = (mandate.basis.clone(), mandate.made_at);
                let proposal =
                    Proposal { id: *id, signed: signed.clone(), made_at: time, basis, mandated_at };
                self.proposals.insert(*id, Arc::new(proposal));
                return Ok(());
            }
            Event::ProposalWithdrawn(id) => (id, Outcome::Withdrawn),
            Event::ProposalRejected { id, reason } => (id, Outcome::Rejected { reason: reason.clone() }),
            Event::ProposalLapsed { id, why } => (id, Outcome::Lapsed(why.clone())),
            of_recovery => return self.recover((seq, time), of_recovery, mandate),
        };
        self.remember_rejection(*id, &outcome, time);
        self.close_proposal(*id, outcome, (by, seq))
    }

    /// A proposal got its last signature.
    pub(super) fn close_enacted(
        &mut self,
        id: ProposalId,
        signed: &SignedMandate,
        closer: (Option<&PrincipalId>, Seq),
    ) -> Result<(), String> {
        if let Some(waiting) = self.proposals.get_mut(&id) {
            Arc::make_mut(waiting).signed = signed.clone();
        }
        self.close_proposal(id, Outcome::Enacted, closer)
    }

    /// Its bytes are good for days yet, and a rejection binds.
    fn remember_rejection(&mut self, id: ProposalId, outcome: &Outcome, time: Timestamp) {
        if !matches!(outcome, Outcome::Rejected { .. }) {
            return;
        }
        if let Some(proposal) = self.proposals.get(&id) {
            self.remembered.reject_proposal(&proposal.signed.bytes, proposal.mandated_at, time);
        }
        if let Some(recovery) = self.recoveries.get(&id) {
            // Never made later than it was announced, but for what an officer's clock may be ahead.
            let made_at =
                recovery.signed.read(&self.settings.trust_domain).map(|(mandate, _)| mandate.made_at);
            let made_at = made_at.unwrap_or(time);
            self.remembered.reject_recovery(&recovery.signed.bytes, made_at, time);
        }
    }

    fn close_proposal(
        &mut self,
        id: ProposalId,
        outcome: Outcome,
        (by, seq): (Option<&PrincipalId>, Seq),
    ) -> Result<(), String> {
        if self.recoveries.remove(&id).is_some() {
            return Ok(());
        }
        let proposal = self.proposals.remove(&id).ok_or("it closes a proposal that does not wait")?;
        let closed = ClosedProposal { proposal: (*proposal).clone(), outcome, by: by.cloned(), seq };
        self.closed.insert(seq, Arc::new(closed));
        if self.closed.len() > CLOSED_MAX
            && let Some((oldest, _)) = self.closed.get_min().cloned()
        {
            self.closed.remove(&oldest);
        }
        Ok(())
    }
}
