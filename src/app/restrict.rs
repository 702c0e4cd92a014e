//! Revoke, suspend and stop, and wait until that is enforced everywhere.

use std::sync::Arc;

use super::error::Error;
use super::{App, Caller, Mode};
use crate::domain::approval::SignedMandate;
use crate::domain::enforce::{BarrierReport, Position};
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
        let mandate = signed
            .mandate(&self.state().settings.trust_domain)
            .map_err(|e| Error::Invalid { field: "mandate", why: e.to_string() })?;
        if !mandate.command.is_restricting() {
            return Err(Error::Invalid {
                field: "mandate",
                why: format!("{} does not only take away; submit it as a mandate", mandate.command.name()),
            });
        }
        let done = self.submit(caller, signed, mode).await?;
        let Wait::Enforced { deadline_ms } = wait else {
            return Ok(Restriction {
                position: done.position,
                durable: done.durable,
                report: None,
                took_ms: 0,
            });
        };
        if mode == Mode::ValidateOnly || !done.durable {
            // What has no record has no barrier: until it can be written, only the end of the leases stops gateways.
            return Ok(Restriction { position: done.position, durable: false, report: None, took_ms: 0 });
        }
        let report = self.feed.wait_enforced(done.position, done.boot_ms, deadline_ms).await;
        let took_ms = self.clock.boot_ms().saturating_sub(done.boot_ms);
        let outcome = if report.is_enforced() { "ENFORCED" } else { "PARTIAL" };
        self.metrics().barrier(outcome, took_ms);
        self.note_barrier(done.position, &report, took_ms);
        Ok(Restriction { position: done.position, durable: done.durable, report: Some(report), took_ms })
    }

    /// One record for each finished barrier, after the answer: the restriction itself is durable already.
    fn note_barrier(&self, at: Position, report: &BarrierReport, took_ms: u64) {
        let names =
            |list: &[crate::domain::enforce::ParticipantId]| list.iter().map(ToString::to_string).collect();
        let outcome = BarrierOutcome {
            acked: names(&report.acked),
            weak: names(&report.weak),
            lease_expired: names(&report.lease_expired),
            pending: names(&report.pending),
            took_ms,
        };
        self.note(Event::BarrierFinished { at: at.seq, outcome });
    }
}
