//! Mandates: prepare, submit, approve, reject. What is signed is carried out as it was signed.

use std::sync::Arc;

use super::error::Error;
use super::{App, Caller, Mode};
use crate::domain::approval::{Approval, Mandate, SignedMandate};
use crate::domain::command::Command;
use crate::domain::enforce::Position;
use crate::domain::event::{Entry, Event};
use crate::domain::flow::{admit, admit_mandate, mandate_for};
use crate::domain::id::ProposalId;
use crate::domain::officer_command::OfficerCommand;
use crate::domain::proposal::Outcome;
use crate::domain::state::State;
use crate::faults::kill_point;

/// The most lapsed proposals that are closed at once; the others a second later.
const LAPSED_AT_ONCE_MAX: usize = 64;

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
    /// Why it is neither; and a restriction that the caller could not have signed.
    pub async fn submit(
        self: &Arc<Self>,
        caller: &Caller,
        signed: SignedMandate,
        mode: Mode,
    ) -> Result<Submitted, Error> {
        let state = self.state();
        let mandate = signed
            .mandate(&state.settings.trust_domain)
            .map_err(|e| Error::Invalid { field: "mandate", why: e.to_string() })?;
        check_submitter(&state, caller, &mandate.command)?;
        let missing = mandate.command.signers().count.saturating_sub(signed.approvals.len());
        if mode == Mode::ValidateOnly {
            // The signatures that are there are checked; none need be, so that a dry run leaves nothing to carry out.
            admit_mandate(&state, &signed, self.clock.now())?;
            self.check_step(&mandate.command, true).await?;
            let position = state.position;
            return Ok(Submitted { position, boot_ms: 0, durable: false, proposal: None, missing });
        }
        match self.done_before(caller).await? {
            Some((Event::Enacted { signed: old, proposal: None }, position)) if old == signed => {
                return Ok(self.submitted_before(position, None, missing));
            }
            Some((Event::Proposed { id, signed: old }, position)) if old == signed => {
                return Ok(self.submitted_before(position, Some(id), missing));
            }
            Some((_, position)) => return Err(Error::Repeated(position.seq)),
            None => {}
        }
        self.check_step(&mandate.command, missing == 0).await?;
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
        self: &Arc<Self>,
        caller: &Caller,
        id: ProposalId,
        approval: Approval,
        mode: Mode,
    ) -> Result<Submitted, Error> {
        let state = self.state();
        match self.done_before(caller).await? {
            Some((Event::Enacted { signed, proposal: Some(old) }, position))
                if old == id && signed.approvals.contains(&approval) =>
            {
                return Ok(self.submitted_before(position, None, 0));
            }
            Some((_, position)) => return Err(Error::Repeated(position.seq)),
            None => {}
        }
        let proposal = state.proposals.get(&id).ok_or_else(|| not_waiting(&state, id))?;
        let mut signed = proposal.signed.clone();
        signed.approvals.push(approval);
        let mandate = signed
            .mandate(&state.settings.trust_domain)
            .map_err(|e| Error::Invalid { field: "mandate", why: e.to_string() })?;
        self.check_step(&mandate.command, true).await?;
        let event = Event::Enacted { signed, proposal: Some(id) };
        self.carry_out(caller.entry(event), &mandate.command, mode, (None, 0)).await
    }

    /// Rejects what waits for other officers.
    ///
    /// # Errors
    /// It waits no more, or the caller may not.
    pub async fn reject(
        &self,
        caller: &Caller,
        (id, reason): (ProposalId, String),
        mode: Mode,
    ) -> Result<Position, Error> {
        let state = self.state();
        let event = Event::ProposalRejected { id, reason };
        match self.change_once(caller, event, mode).await {
            Err(Error::NotFound(_)) => Err(not_waiting(&state, id)),
            answer => answer,
        }
    }

    /// Records which proposals can never be carried out, so that nobody signs one in vain.
    pub(super) async fn close_lapsed(&self) {
        let (state, now) = (self.state(), self.clock.now());
        let lapsed = state.proposals.values().filter_map(|p| Some((p.id, state.lapse_of(p, now)?)));
        for (id, why) in lapsed.take(LAPSED_AT_ONCE_MAX) {
            tracing::info!(proposal.id = %id, %why, "proposal lapsed");
            let event = Event::ProposalLapsed { id, why };
            if let Err(error) = self.record(Caller::default().entry(event)).await {
                // It lapses all the same: nothing carries it out.
                tracing::debug!(proposal.id = %id, %error, "that it lapsed is not recorded yet");
                return;
            }
        }
    }

    /// What the caller's request did when it was carried out before. A retry gets the answer of the first time where the
    /// record shows it; an id that somebody else used, or used for something else, is refused with the record's number.
    pub(super) async fn done_before(&self, caller: &Caller) -> Result<Option<(Event, Position)>, Error> {
        let state = self.state();
        let Some(seq) = caller.request.and_then(|request| state.requests.get(&request).copied()) else {
            return Ok(None);
        };
        let journal = std::sync::Arc::clone(&self.journal);
        let read = tokio::task::spawn_blocking(move || journal.read(seq, 1)).await;
        let records = read.map_err(|e| Error::Internal(e.to_string()))??;
        // A body that was purged meanwhile says nothing any more.
        let entry = records.first().and_then(|record| super::store::entry_of(record).ok());
        match entry.filter(|entry| entry.by == caller.principal) {
            Some(entry) => Ok(Some((entry.event, Position { epoch: state.position.epoch, seq }))),
            None => Err(Error::Repeated(seq)),
        }
    }

    /// Records an event whose answer is its position; a retry gets the same.
    pub(super) async fn change_once(
        &self,
        caller: &Caller,
        event: Event,
        mode: Mode,
    ) -> Result<Position, Error> {
        match self.done_before(caller).await? {
            Some((old, position)) if old == event => Ok(position),
            Some((_, position)) => Err(Error::Repeated(position.seq)),
            None => self.change(caller.entry(event), mode).await,
        }
    }

    fn submitted_before(
        &self,
        position: Position,
        proposal: Option<ProposalId>,
        missing: usize,
    ) -> Submitted {
        // It was durable earlier; who waits for enforcement counts from now, which can only be longer.
        Submitted { position, boot_ms: self.clock.boot_ms(), durable: true, proposal, missing }
    }

    async fn carry_out(
        self: &Arc<Self>,
        entry: Entry,
        command: &Command,
        mode: Mode,
        (proposal, missing): (Option<ProposalId>, usize),
    ) -> Result<Submitted, Error> {
        if mode == Mode::ValidateOnly {
            let position = self.validate(&entry)?;
            return Ok(Submitted { position, boot_ms: 0, durable: false, proposal: None, missing });
        }
        // Whoever has another one made instead removes the key of this one, and does not while this is recorded.
        let _made = match command {
            Command::PrepareAuthority(new) if !self.state().authorities.contains_key(&new.id) => {
                let made = self.rotation.lock().await;
                self.check_key_here(new.id).await?;
                Some(made)
            }
            _ => None,
        };
        // Only what takes effect may use the reserve; a proposal waits like everything else.
        let is_enacted = matches!(entry.event, Event::Enacted { .. });
        let restricts = command.is_restricting() && is_enacted;
        kill_point("mandate.before_record");
        let committed =
            if restricts { self.engine.record(entry, true).await? } else { self.record(entry).await? };
        kill_point("mandate.after_record");
        if let (Command::PrepareAuthority(new), true) = (command, is_enacted) {
            self.rotation.note(new.id, committed.boot_ms);
        }
        if restricts {
            let scope = command.restriction().map_or("NONE", |(scope, _)| scope);
            self.metrics().restricted(command.name(), scope);
        }
        if let (Command::Officers(OfficerCommand::BreakGlass { what, .. }), true) = (command, is_enacted) {
            let (what, seq) = (what.command().name(), committed.position.seq.0);
            tracing::error!(
                command = what,
                seq,
                "an officer without the role broke the glass: another one reviews it"
            );
        }
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
        drop(admit(&state, entry, self.clock.now())?);
        Ok(state.position)
    }
}

/// Why a proposal cannot be approved or rejected: what became of it, if that is still known.
fn not_waiting(state: &State, id: ProposalId) -> Error {
    let Some(closed) = state.closed_proposal(id) else { return Error::NotFound("proposal") };
    match &closed.outcome {
        Outcome::Lapsed(why) => Error::Conflict(why.to_string()),
        outcome => {
            Error::WrongState(format!("{id} waits no more: {} in record {}", outcome.as_str(), closed.seq))
        }
    }
}

/// A signed restriction is good for ever, so only who may sign one may submit one, their own or a colleague's.
fn check_submitter(state: &State, caller: &Caller, command: &Command) -> Result<(), Error> {
    let submitter = caller.principal.as_ref().and_then(|id| state.acting(id));
    let may_sign = submitter.is_some_and(|p| command.signers().roles.iter().any(|role| p.has(*role)));
    match command.is_restricting() && !may_sign {
        true => Err(Error::Denied("a restriction is submitted by who may sign one".to_owned())),
        false => Ok(()),
    }
}
