//! What partners owe: reports under licences, safeguards with their evidence; and corrections of the record.

use std::sync::Arc;

use minicbor::{Decode, Encode};

use super::State;
use super::apply::Applied;
use crate::domain::id::{Digest, Seq};
use crate::domain::license::{License, ReportDuty};
use crate::domain::partner_command::PartnerCommand;
use crate::domain::time::{Now, Timestamp};

/// A report that was filed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FiledReport {
    /// SHA-256 of what was filed.
    #[n(0)]
    pub document: Digest,
    /// The record that says so.
    #[n(1)]
    pub seq: Seq,
    /// Its time.
    #[n(2)]
    pub at: Timestamp,
}

/// What was wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Correction {
    /// The record that says it right.
    #[n(0)]
    pub right: Seq,
    /// The record that says so.
    #[n(1)]
    pub by: Seq,
    /// What was wrong.
    #[n(2)]
    pub reason: String,
}

impl State {
    /// The reports of a licence that are not on record, due or not.
    pub fn reports_owed<'a>(&'a self, license: &'a License) -> impl Iterator<Item = &'a ReportDuty> {
        let is_filed = |duty: &&ReportDuty| self.filed.contains_key(&(license.id.clone(), duty.name.clone()));
        license.reports.iter().flatten().filter(move |duty| !is_filed(duty))
    }

    /// Is a report of this licence overdue? It covers nothing then.
    pub fn owes_report(&self, license: &License, now: Now) -> bool {
        self.reports_owed(license).any(|duty| now.narrowed_since(duty.due))
    }

    pub(super) fn enact_of_partners(
        &mut self,
        seq: Seq,
        time: Timestamp,
        command: &PartnerCommand,
    ) -> Result<Applied, String> {
        match command {
            PartnerCommand::FileReport { license, report, document } => {
                let filed = FiledReport { document: *document, seq, at: time };
                self.filed.insert((license.clone(), report.clone()), filed);
            }
            PartnerCommand::SetChecklist(items) => self.checklist.clone_from(items),
            PartnerCommand::AttestSafeguards { entity, evidence, until, reverify_due } => {
                self.safeguards.insert(*entity, Arc::new(evidence.clone()));
                return self.change_entity(*entity, seq, |entity| {
                    (entity.card.safeguards_until, entity.card.reverify_due) = (Some(*until), *reverify_due);
                });
            }
            PartnerCommand::Correct { wrong, right, reason } => {
                let correction = Correction { right: *right, by: seq, reason: reason.clone() };
                Arc::make_mut(self.corrections.entry(*wrong).or_default()).push(correction);
            }
        }
        Ok(Applied::default())
    }
}
