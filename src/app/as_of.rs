//! The state as of an earlier record, computed again: from a snapshot before it, or from the first record on.

use std::sync::Arc;

use super::App;
use super::error::Error;
use super::store::{fold, loaded, log_key, snapshot_taken};
use crate::domain::head::is_snapshot_signed;
use crate::domain::id::Seq;
use crate::domain::state::State;
use crate::domain::time::Timestamp;
use crate::journal::Journal;
use crate::journal::snapshot::{SnapshotId, SnapshotStore};

/// Records that are read at once.
const PAGE: usize = 512;
/// Records behind a snapshot in which it is looked for that it was stored: it is recorded at once.
const STORED_WITHIN: usize = 4_096;

impl App {
    /// The state as of this record. Blocks for as long as it takes to read what led to it: not for an async task. The last one is
    /// kept for who asks next.
    pub(super) fn state_as_of(&self, wanted: Seq) -> Result<Arc<State>, Error> {
        let now = self.state();
        if wanted == now.position.seq {
            return Ok(now);
        }
        if wanted == Seq(0) || wanted > now.position.seq {
            return Err(Error::NotFound("record"));
        }
        let last = self.as_of.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let nearest = snapshot_before(self.journal.as_ref(), &self.snapshots, wanted);
        let begin = [last.filter(|last| last.position.seq <= wanted).map(Arc::unwrap_or_clone), nearest];
        let begin = begin.into_iter().flatten().max_by_key(|state| state.position.seq);
        let state = Arc::new(follow(self.journal.as_ref(), begin, wanted)?);
        *self.as_of.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::clone(&state));
        Ok(state)
    }

    /// The last record at this time.
    pub(super) fn seq_at(&self, at: Timestamp) -> Result<Seq, Error> {
        let invalid = |why: String| Error::Invalid { field: "at", why };
        if at > self.now() {
            return Err(invalid("it lies in the future".to_owned()));
        }
        let time = |seq: Seq| {
            let record = self.journal.read(seq, 1)?.into_iter().next();
            record
                .map(|record| record.header.time)
                .ok_or_else(|| Error::Internal(format!("record {seq} is missing")))
        };
        let begun = time(Seq(1))?;
        if at < begun {
            return Err(invalid(format!("the record begins at {begun}")));
        }
        // Times of records never go back. Ends: the gap is halved each time.
        let (mut low, mut high) = (Seq(1), self.state().position.seq.next());
        while high.0 - low.0 > 1 {
            let middle = Seq(low.0 + (high.0 - low.0) / 2);
            match time(middle)? <= at {
                true => low = middle,
                false => high = middle,
            }
        }
        Ok(low)
    }
}

fn follow(journal: &dyn Journal, begin: Option<State>, wanted: Seq) -> Result<State, Error> {
    let mut state = begin;
    let internal = |error: super::store::StoreError| Error::Internal(error.to_string());
    // Ends: each page moves on, or there is none.
    loop {
        let next = state.as_ref().map_or(Seq(1), |state| state.position.seq.next());
        if next > wanted {
            break;
        }
        let left = usize::try_from(wanted.0 - next.0 + 1).unwrap_or(PAGE);
        let page = journal.read(next, left.min(PAGE))?;
        if page.is_empty() {
            break;
        }
        for record in &page {
            fold(&mut state, record).map_err(internal)?;
        }
    }
    state
        .filter(|state| state.position.seq == wanted)
        .ok_or_else(|| Error::Internal(format!("the records up to {wanted} are not all there")))
}

/// The newest snapshot up to this record that the journal vouches for. Any doubt about one means an older one, or none.
fn snapshot_before(journal: &dyn Journal, snapshots: &SnapshotStore, wanted: Seq) -> Option<State> {
    let key = log_key(journal).ok()?;
    let ids = snapshots.list().ok()?;
    ids.iter().filter(|id| id.seq <= wanted).find_map(|id| {
        let (state, hash) = loaded(snapshots, id).ok()?;
        let (recorded, signature) = stored(journal, id)?;
        (recorded == hash && is_snapshot_signed(&key, id.seq, &hash, &signature)).then_some(state)
    })
}

/// What the journal says of this snapshot: its digest, signed.
fn stored(journal: &dyn Journal, id: &SnapshotId) -> Option<(crate::domain::id::Digest, Vec<u8>)> {
    let mut next = id.seq.next();
    let mut looked = 0;
    while looked < STORED_WITHIN {
        let page = journal.read(next, PAGE).ok()?;
        next = page.last()?.header.seq.next();
        looked += page.len();
        if let Some(found) = page.iter().find_map(|record| snapshot_taken(record, id.seq)) {
            return Some(found);
        }
    }
    None
}
