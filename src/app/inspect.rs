//! What a data directory holds, looked at without changing anything and beside a running service. For who looks after the
//! machine; a start believes none of it.

use std::path::Path;

use super::store::{StoreError, fold, journal_dir};
use crate::domain::codec::from_bytes;
use crate::domain::id::Seq;
use crate::domain::state::State;
use crate::journal::Record;
use crate::journal::file::{VerifyReport, look};
use crate::journal::snapshot::SnapshotStore;

/// How much of a record is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What follows the newest snapshot, which is taken at its word.
    Tail,
    /// Everything.
    Whole,
}

/// What was found.
#[derive(Debug)]
pub struct Inspected {
    /// What the journal says.
    pub journal: VerifyReport,
    /// The state as of its last record.
    pub state: State,
    /// The snapshot that was begun with; none: every record was read.
    pub since: Option<Seq>,
}

/// Looks at a data directory.
///
/// # Errors
/// The first thing that does not hold, with its record.
pub fn inspect(data: &Path, depth: Depth) -> Result<Inspected, StoreError> {
    let begin = match depth {
        Depth::Tail => newest(data),
        Depth::Whole => None,
    };
    let (since, mut state) = match begin {
        Some((position, state)) => (Some(position), Some(state)),
        None => (None, None),
    };
    let mut fault = None;
    let mut visit = |record: &Record| {
        let is_new = since.is_none_or(|position| record.header.seq > position.seq);
        if fault.is_none() && is_new {
            fault = fold(&mut state, record).err();
        }
    };
    let journal = look(&journal_dir(data), since, &mut visit)?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let state = state.ok_or_else(|| StoreError::Empty(data.to_owned()))?;
    Ok(Inspected { journal, state, since: since.map(|position| position.seq) })
}

/// The newest snapshot that can be read.
fn newest(data: &Path) -> Option<(crate::journal::Position, State)> {
    let folder = data.join("snapshots");
    if !folder.is_dir() {
        return None;
    }
    let snapshots = SnapshotStore::at(&folder);
    let ids = snapshots.list().ok()?;
    ids.iter().find_map(|id| {
        let state = from_bytes::<State>(&snapshots.load(id).ok()?.0).ok()?;
        Some((id.position(), state))
    })
}
