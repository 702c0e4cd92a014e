//! What records do to the index, for every adapter alike. Pure: the adapter supplies the rows and stores the changes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;

use super::{APPLY_RECORDS_MAX, CertificateRow, ViewError};
use crate::domain::certificate::AuthorityKind;
use crate::domain::event::{Entry, Event, Intent};
use crate::domain::id::{Digest, Ordinal, Seq};

/// What names a row: ordinals are dense for each authority by itself.
pub(super) type Key = (AuthorityKind, Ordinal);

/// A row that is made or changed.
#[derive(Debug)]
pub(super) struct Change {
    /// As stored; none: it is new.
    pub(super) before: Option<CertificateRow>,
    /// As it shall be.
    pub(super) after: CertificateRow,
}

/// What a page of records comes to.
#[derive(Debug)]
pub(super) struct Changes {
    /// The last record of the page.
    pub(super) last: Seq,
    pub(super) rows: BTreeMap<Key, Change>,
}

/// Folds the records after `applied`; `stored` looks up a row.
pub(super) fn fold(
    applied: Seq,
    entries: &[(Seq, Entry)],
    stored: impl Fn(Key) -> Result<Option<CertificateRow>, ViewError>,
) -> Result<Changes, ViewError> {
    if entries.len() > APPLY_RECORDS_MAX {
        return Err(ViewError::TooMany { records: entries.len() });
    }
    let mut changes = Changes { last: applied, rows: BTreeMap::new() };
    for (seq, entry) in entries {
        let expected = changes.last.next();
        if *seq != expected {
            return Err(ViewError::Gap { expected, found: *seq });
        }
        changes.last = *seq;
        match &entry.event {
            Event::IssuanceIntended(intent) => changes.intend(*seq, intent, &stored)?,
            Event::CertificateIssued { authority, ordinal, signature: _, hash } => {
                changes.issue(*seq, (*authority, *ordinal), *hash, &stored)?;
            }
            Event::Genesis { .. }
            | Event::ServerStarted { .. }
            | Event::Proposed { .. }
            | Event::ProposalWithdrawn(_)
            | Event::ProposalRejected { .. }
            | Event::ProposalLapsed { .. }
            | Event::RecoveryAnnounced { .. }
            | Event::RecoveryTookEffect(_)
            | Event::Enacted { .. }
            | Event::EntityApplied(_)
            | Event::SubjectNominated { .. }
            | Event::RelationAttested { .. }
            | Event::TokenCreated { .. }
            | Event::LineageLocked(_)
            | Event::CeilingAnnounced(_)
            | Event::BlockOpened(_)
            | Event::BarrierFinished { .. }
            | Event::InstantPassed(_)
            | Event::SnapshotTaken { .. }
            | Event::Restored
            | Event::RestrictionsCollected { .. }
            | Event::RotationStepped { .. }
            | Event::RotationFailed { .. }
            | Event::AnnouncementPassed(_)
            | Event::CallsSealed(_)
            | Event::DecisionsSealed(_)
            | Event::DecisionsRemoved(_)
            | Event::EntityScreened { .. } => {}
        }
    }
    Ok(changes)
}

impl Changes {
    fn intend(
        &mut self,
        seq: Seq,
        intent: &Intent,
        stored: impl Fn(Key) -> Result<Option<CertificateRow>, ViewError>,
    ) -> Result<(), ViewError> {
        let key = (intent.authority, intent.ordinal);
        if self.rows.contains_key(&key) || stored(key)?.is_some() {
            return Err(contradiction(seq, key, "intends it a second time"));
        }
        self.rows.insert(key, Change { before: None, after: CertificateRow::intended(seq, intent) });
        Ok(())
    }

    fn issue(
        &mut self,
        seq: Seq,
        key: Key,
        hash: Digest,
        stored: impl Fn(Key) -> Result<Option<CertificateRow>, ViewError>,
    ) -> Result<(), ViewError> {
        let change = match self.rows.entry(key) {
            Place::Occupied(place) => place.into_mut(),
            Place::Vacant(place) => {
                let row =
                    stored(key)?.ok_or_else(|| contradiction(seq, key, "issues it without an intent"))?;
                place.insert(Change { before: Some(row.clone()), after: row })
            }
        };
        if change.after.issued.is_some() {
            return Err(contradiction(seq, key, "issues it a second time"));
        }
        change.after.issued = Some(seq);
        change.after.hash = Some(hash);
        Ok(())
    }
}

/// The journal's writer lets none of this happen, so a row here is missing or was never written.
fn contradiction(seq: Seq, (authority, ordinal): Key, what: &str) -> ViewError {
    ViewError::damaged(format!("certificate {authority} {ordinal}: record {seq} {what}"))
}
