//! Decisions that gateways report: on disk before they are acknowledged, and counted.

use super::App;
use super::error::Error;
use crate::decisions::Stored;
use crate::domain::decision::{Denial, LegalReason};
use crate::domain::enforce::DecisionBatch;
use crate::domain::enforce::report::DecisionReport;
use crate::domain::id::{BootId, PrincipalId};
use crate::domain::policy::PolicyRule;
use crate::journal::Condition;

impl App {
    /// Stores a batch. The same batch again is acknowledged and not stored. Blocks: not for an async task.
    ///
    /// # Errors
    /// It cannot be written now; the gateway keeps it and tries again.
    pub fn report_decisions(
        &self,
        gateway: PrincipalId,
        (boot, number): (BootId, u64),
        decisions: Vec<DecisionReport>,
    ) -> Result<(), Error> {
        // What officers record comes first: reports take none of the room that is kept for it.
        if let Condition::Open(space) = self.journal.condition()
            && space.free < space.low_water
        {
            return Err(Error::Unavailable("the disk is nearly full".to_owned()));
        }
        // First: what cannot be recorded now is neither stored nor acknowledged, and comes again.
        let places = self.record.try_reserve(decisions.len());
        let places = places
            .ok_or_else(|| Error::Unavailable("there is no room to record decisions now".to_owned()))?;
        let batch = DecisionBatch { gateway, boot, number, received: self.clock.now(), decisions };
        let stored = self.decisions.append(&batch);
        match stored.map_err(|fault| Error::Unavailable(fault.to_string()))? {
            Stored::Before => {}
            Stored::Now => {
                batch.decisions.iter().for_each(|report| self.count_reported(&batch, report));
                places.fill_all(self.reported(&batch.gateway, &batch.decisions));
            }
        }
        Ok(())
    }

    fn count_reported(&self, batch: &DecisionBatch, report: &DecisionReport) {
        let outcome = if report.is_permit { "PERMIT" } else { "DENY" };
        let metrics = self.metrics();
        metrics.reported(batch.gateway.as_str(), (outcome, known(&report.code)), report.count.into());
    }
}

/// A code of a closed vocabulary: what a gateway sends is never a label as it is.
fn known(code: &str) -> &'static str {
    let denials = Denial::ALL.iter().map(|denial| denial.as_str());
    let rules = PolicyRule::ALL.iter().map(|rule| rule.as_str());
    let reasons = LegalReason::ALL.iter().map(|reason| reason.as_str());
    denials.chain(rules).chain(reasons).find(|known| *known == code).unwrap_or("OTHER")
}
