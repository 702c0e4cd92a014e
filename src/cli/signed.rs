//! What officers signed in a record, for who reads the record: decoded here, from the bytes of its body.

use super::words::printable;
use crate::domain::codec::from_bytes;
use crate::domain::event::{Entry, Event};
use crate::pb;

/// A command and who signed it; of a record that nobody signs, nothing.
#[derive(Debug, Default)]
pub(super) struct Signed {
    pub(super) command: Option<&'static str>,
    pub(super) by: Vec<String>,
}

impl Signed {
    /// Of a record; a body that was purged or that this version does not know says nothing.
    pub(super) fn of(record: &pb::Record, trust_domain: &str) -> Self {
        let Ok(entry) = from_bytes::<Entry>(&record.body) else { return Self::default() };
        let (Event::Proposed { signed, .. } | Event::Enacted { signed, .. }) = entry.event else {
            return Self::default();
        };
        let by = signed.approvals.iter().map(|approval| printable(approval.officer.as_str())).collect();
        let command = signed.mandate(trust_domain).ok().map(|mandate| mandate.command.name());
        Self { command, by }
    }

    /// The event's name with what was signed.
    pub(super) fn named(&self, event: &str) -> String {
        match self.command {
            Some(command) => format!("{event} {command} ({})", self.by.join(", ")),
            None => event.to_owned(),
        }
    }
}
