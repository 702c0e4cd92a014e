//! Mandates: prepare, submit, approve, withdraw. What is signed is carried out as it was signed.

use super::error::Error;
use super::{App, Caller, Mode};
use crate::domain::approval::{Approval, Mandate, SignedMandate};
use crate::domain::command::Command;
use crate::domain::enforce::Position;
use crate::domain::event::{Entry, Event};
use crate::domain::flow::{admit, mandate_for};
use crate::domain::id::ProposalId;

/// What became of a mandate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// The record.
    pub position: Position,
    /// When it was durable, in milliseconds of the boot clock.
    pub boot_ms: u64,
    /// False: a restriction that is held in memory because it could not be written.
    pub durable: bool,
    /// The proposal that it became; none: it was carried out.
    pub proposal: Option<ProposalId>,
    /// How many signatures are missing.
    pub missing: usize,
}

impl App {
    /// The mandate of a command as of now, for an officer to look at and sign.
    pub fn prepare(&self, command: Command) -> Mandate {
        mandate_for(&self.state(), command, self.clock.now())
    }

    /// Submits a signed mandate: carried out with enough signatures, otherwise a proposal.
    ///
    /// # Errors
    /// Why it is neither.
    pub async fn submit(
        &self,
        caller: &Caller,
        signed: SignedMandate,
        mode: Mode,
    ) -> Result<Submitted, Error> {
        let state = self.state();
        let mandate = signed
            .mandate(&state.settings.trust_domain)
            .map_err(|e| Error::Invalid { field: "mandate", why: e.to_string() })?;
        let missing = mandate.command.signers().count.saturating_sub(signed.approvals.len());
        let (event, proposal) = if missing == 0 {
            (Event::Enacted { signed, proposal: None }, None)
        } else {
            let id = ProposalId::from_parts(self.clock.now(), self.entropy.bytes16());
            (Event::Proposed { id, signed }, Some(id))
        };
        self.carry_out(caller.entry(event), &mandate.command, mode, (proposal, missing)).await
    }

    /// Adds a signature to a proposal and carries it out when it is the last one needed.
    ///
    /// # Errors
    /// The proposal is gone, the signature does not hold, or something that the mandate rests on changed.
    pub async fn approve(
        &self,
        caller: &Caller,
        id: ProposalId,
        approval: Approval,
        mode: Mode,
    ) -> Result<Submitted, Error> {
        let state = self.state();
        let proposal = state.proposals.get(&id).ok_or(Error::NotFound("proposal"))?;
        let mut signed = proposal.signed.clone();
        signed.approvals.push(approval);
        let mandate = signed
            .mandate(&state.settings.trust_domain)
            .map_err(|e| Error::Invalid { field: "mandate", why: e.to_string() })?;
        let event = Event::Enacted { signed, proposal: Some(id) };
        self.carry_out(caller.entry(event), &mandate.command, mode, (None, 0)).await
    }

    /// Withdraws a proposal.
    ///
    /// # Errors
    /// The proposal is gone.
    pub async fn withdraw(&self, caller: &Caller, id: ProposalId, mode: Mode) -> Result<Position, Error> {
        self.change(caller.entry(Event::ProposalWithdrawn(id)), mode).await
    }

    async fn carry_out(
        &self,
        entry: Entry,
        command: &Command,
        mode: Mode,
        (proposal, missing): (Option<ProposalId>, usize),
    ) -> Result<Submitted, Error> {
        if mode == Mode::ValidateOnly {
            let position = self.validate(&entry)?;
            return Ok(Submitted { position, boot_ms: 0, durable: false, proposal: None, missing });
        }
        let committed = if command.is_restricting() {
            self.engine.record(entry, true).await?
        } else {
            self.record(entry).await?
        };
        tracing::info!(command = command.name(), seq = committed.position.seq.0, missing, "mandate recorded");
        Ok(Submitted {
            position: committed.position,
            boot_ms: committed.boot_ms,
            durable: committed.durable,
            proposal,
            missing,
        })
    }

    /// Records a change, or says whether it could be.
    pub(super) async fn change(&self, entry: Entry, mode: Mode) -> Result<Position, Error> {
        match mode {
            Mode::ValidateOnly => self.validate(&entry),
            Mode::Commit => Ok(self.record(entry).await?.position),
        }
    }

    fn validate(&self, entry: &Entry) -> Result<Position, Error> {
        let state = self.state();
        admit(&state, entry, self.clock.now())?;
        Ok(state.position)
    }
}
