//! The full check of a journal on disk, without the service: every checksum, body digest, tree hash and number.

use std::io::ErrorKind;
use std::path::Path;

use super::{Dropped, LOCK, io, lock, scan};
use crate::domain::id::Seq;
use crate::domain::time::Timestamp;
use crate::journal::disk::{Disk, RealDisk};
use crate::journal::{Head, JournalError, Position, Record};

/// What a verified journal contains. The caller compares the head with signed heads it trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The last record, and the root over all that were read.
    pub head: Head,
    /// How many segments, the reserve included when it is in use.
    pub segments: usize,
    /// How many records.
    pub records: u64,
    /// How many of them have had their body purged.
    pub purged: u64,
    /// How many records are older than the one before. Not an error here: restricting changes are appended whatever
    /// the clock says, and officers may accept a clock that went back; the audit wants to know.
    pub time_steps_back: u64,
    /// The first of them.
    pub first_step_back: Option<Seq>,
    /// A torn frame at the very end; the next open removes it.
    pub torn: Option<Dropped>,
}

/// Reads and checks everything, changes nothing, and shows each record to the visitor. Refuses while a process has the
/// journal open: its tail would look torn.
pub fn verify(dir: &Path, visit: Option<&mut dyn FnMut(&Record)>) -> Result<VerifyReport, JournalError> {
    verify_on(&RealDisk, dir, visit)
}

/// Reads and checks what follows this position, or everything; changes nothing, and asks nobody whether a process has the
/// journal open. Beside one that writes, what it is writing just then looks torn.
///
/// # Errors
/// The first thing that does not hold.
pub fn look(
    dir: &Path,
    after: Option<Position>,
    visit: &mut dyn FnMut(&Record),
) -> Result<VerifyReport, JournalError> {
    report(&RealDisk, dir, after, &mut Some(visit))
}

pub(super) fn verify_on(
    disk: &dyn Disk,
    dir: &Path,
    mut visit: Option<&mut dyn FnMut(&Record)>,
) -> Result<VerifyReport, JournalError> {
    let names = disk.list(dir).map_err(|source| io("list", dir, source))?;
    let held = match names.iter().any(|name| name == LOCK).then(|| lock(disk, dir)).transpose() {
        Ok(held) => held,
        // A copy on a medium that cannot be written: nobody writes to it.
        Err(JournalError::Io { source, .. })
            if matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
        {
            None
        }
        Err(error) => return Err(error),
    };
    let report = report(disk, dir, None, &mut visit)?;
    drop(held);
    Ok(report)
}

fn report(
    disk: &dyn Disk,
    dir: &Path,
    after: Option<Position>,
    visit: &mut Option<&mut dyn FnMut(&Record)>,
) -> Result<VerifyReport, JournalError> {
    let (mut purged, mut steps_back, mut first_step_back) = (0, 0, None);
    let mut before = Timestamp::from_millis(i64::MIN);
    let scan = scan::scan(disk, dir, after, &mut |record| {
        purged += u64::from(record.body.is_none());
        if record.header.time < before {
            steps_back += 1;
            first_step_back = first_step_back.or(Some(record.header.seq));
        }
        before = record.header.time;
        if let Some(visit) = visit.as_mut() {
            visit(record);
        }
    })?;
    Ok(VerifyReport {
        head: scan.head,
        segments: scan.segments.len(),
        records: scan.records,
        purged,
        time_steps_back: steps_back,
        first_step_back,
        torn: scan.dropped,
    })
}
