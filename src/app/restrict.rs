//! Revoke, suspend and stop, and wait until that is enforced everywhere.

use std::sync::Arc;

use super::error::Error;
use super::{App, Caller, Mode};
use crate::domain::approval::SignedMandate;
use crate::domain::command::Command;
use crate::domain::drill::DrillTimes;
use crate::domain::enforce::{BarrierReport, ParticipantId, Position};
use crate::domain::event::{BarrierOutcome, Event};

/// What a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until it is durable.
    Committed,
    /// Until it is enforced everywhere, or this many milliseconds have passed.
    Enforced {
        /// None: as long as the lease bound takes.
        deadline_ms: Option<u32>,
    },
}

/// What became of a restriction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restriction {
    /// The record.
    pub position: Position,
    /// False: held in memory; until it can be written nothing is permitted and no lease is granted.
    pub durable: bool,
    /// Where enforcement stands; none when nobody waited for it.
    pub report: Option<BarrierReport>,
    /// From commit to this answer.
    pub took_ms: u64,
    /// What was measured of a drill that was waited for.
    pub drill: Option<DrillTimes>,
}

impl Restriction {
    /// Of one that nobody waited for.
    const fn committed(position: Position, durable: bool) -> Self {
        Self { position, durable, report: None, took_ms: 0, drill: None }
    }
}

impl App {
    /// Carries out a restricting mandate and waits as asked.
    ///
    /// # Errors
    /// The mandate is not a restriction, is not signed, or names something that is not on record.
    pub async fn restrict(
        self: &Arc<Self>,
        caller: &Caller,
        signed: SignedMandate,
        wait: Wait,
        mode: Mode,
    ) -> Result<Restriction, Error> {
        let command = self.command_of(&signed)?;
        if !command.is_restricting() {
            return Err(Error::Invalid {
                field: "mandate",
                why: format!("{} does not only take away; submit it as a mandate", command.name()),
            });
        }
        self.enforce(caller, signed, wait, mode).await
    }

    /// Carries out a drill, and measures what a stop would have taken. One at a time: two would be mistaken for each other.
    ///
    /// # Errors
    /// The mandate is no drill, is not signed, or names something that is not on record; or another drill is under way.
    pub async fn drill(
        self: &Arc<Self>,
        caller: &Caller,
        signed: SignedMandate,
        wait: Wait,
        mode: Mode,
    ) -> Result<Restriction, Error> {
        let command = self.command_of(&signed)?;
        if !command.is_drill() {
            return Err(Error::Invalid { field: "mandate", why: format!("{} is no drill", command.name()) });
        }
        let Ok(_turn) = self.drilling.try_lock() else {
            return Err(Error::WrongState("another drill is under way: wait until it is over".to_owned()));
        };
        self.enforce(caller, signed, wait, mode).await
    }

    fn command_of(&self, signed: &SignedMandate) -> Result<Command, Error> {
        let mandate = signed.mandate(&self.state().settings.trust_domain);
        mandate
            .map(|mandate| mandate.command)
            .map_err(|e| Error::Invalid { field: "mandate", why: e.to_string() })
    }

    async fn enforce(
        self: &Arc<Self>,
        caller: &Caller,
        signed: SignedMandate,
        wait: Wait,
        mode: Mode,
    ) -> Result<Restriction, Error> {
        let (is_drill, begun_ms) = (self.command_of(&signed)?.is_drill(), self.clock.boot_ms());
        let done = self.submit(caller, signed, mode).await?;
        let Wait::Enforced { deadline_ms } = wait else {
            return Ok(Restriction::committed(done.position, done.durable));
        };
        if mode == Mode::ValidateOnly || !done.durable {
            // What has no record has no barrier: until it can be written, only the end of the leases stops gateways.
            return Ok(Restriction::committed(done.position, false));
        }
        let report = self.feed.wait_enforced(done.position, done.boot_ms, deadline_ms).await;
        let took_ms = self.clock.boot_ms().saturating_sub(done.boot_ms);
        let outcome = if report.is_enforced() { "ENFORCED" } else { "PARTIAL" };
        self.metrics().barrier(outcome, took_ms);
        let drill = is_drill.then(|| DrillTimes {
            durable_ms: done.boot_ms.saturating_sub(begun_ms),
            acked_ms: self.acked_ms(done.position, done.boot_ms, &report),
        });
        let (position, durable) = (done.position, done.durable);
        let done = Restriction { position, durable, report: Some(report), took_ms, drill };
        self.note_barrier(&done);
        Ok(done)
    }

    /// When each of `acked`, then of `weak`, acknowledged a drill, from its commit.
    fn acked_ms(&self, at: Position, committed_ms: u64, report: &BarrierReport) -> Vec<Option<u64>> {
        let ids: Vec<ParticipantId> = report.acked.iter().chain(&report.weak).cloned().collect();
        let times = self.feed.drilled_at_ms(at, &ids).into_iter();
        times.map(|at_ms| at_ms.map(|at_ms| at_ms.saturating_sub(committed_ms))).collect()
    }

    /// One record for each finished barrier, after the answer: the restriction itself is durable already.
    fn note_barrier(&self, done: &Restriction) {
        let Some(report) = &done.report else { return };
        let names = |list: &[ParticipantId]| list.iter().map(ToString::to_string).collect();
        let outcome = BarrierOutcome {
            acked: names(&report.acked),
            weak: names(&report.weak),
            lease_expired: names(&report.lease_expired),
            pending: names(&report.pending),
            took_ms: done.took_ms,
            drill: done.drill.clone(),
        };
        self.note(Event::BarrierFinished { at: done.position.seq, outcome });
    }
}
