//! Brings an index up to a head, on a thread of the caller's: start-up never waits for it.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;

use super::{CertificateIndex, ViewError};
use crate::domain::event::Entry;
use crate::domain::id::Seq;

/// The most records asked for at once: sled holds off its readers while it writes a batch; this one took 24 ms (p99 40 ms)
/// in an unoptimised build on two cores.
pub const PAGE_RECORDS: usize = 512;
/// How often one call empties a damaged index: when it is damaged again, the journal contradicts itself or the disk fails.
const CLEARS_MAX: usize = 1;

/// How a rebuild ended without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The index reflects the head that was asked for.
    AtHead {
        /// Whether it was found damaged and emptied on the way.
        cleared: bool,
    },
    /// It was told to stop; what was applied stays.
    Stopped,
}

/// Why an index could not be brought up to a head.
#[derive(Debug, Error)]
pub enum RebuildError<E: Error + 'static> {
    /// The index failed.
    #[error(transparent)]
    View(ViewError),
    /// The journal failed.
    #[error("cannot read the journal: {0}")]
    Read(#[source] E),
    /// The journal ends before the head.
    #[error("the journal has no record {0}")]
    Missing(Seq),
}

/// Checks the index, empties it if it is damaged, and applies the records up to `head` in pages. `read` returns the
/// records from a number on, at most so many. Between pages it looks at `stop`.
pub fn rebuild<E: Error + 'static>(
    index: &dyn CertificateIndex,
    mut read: impl FnMut(Seq, usize) -> Result<Vec<(Seq, Entry)>, E>,
    head: Seq,
    stop: &AtomicBool,
) -> Result<Ended, RebuildError<E>> {
    let mut clears = 0;
    loop {
        let result = index.check(stop).map_err(RebuildError::View);
        match result.and_then(|()| follow(index, &mut read, head, stop)) {
            Ok(true) => return Ok(Ended::AtHead { cleared: clears > 0 }),
            Ok(false) => return Ok(Ended::Stopped),
            Err(RebuildError::View(ViewError::Damaged { .. })) if clears < CLEARS_MAX => {
                clears += 1;
                index.clear().map_err(RebuildError::View)?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// True at the head, false when told to stop.
fn follow<E: Error + 'static>(
    index: &dyn CertificateIndex,
    read: &mut impl FnMut(Seq, usize) -> Result<Vec<(Seq, Entry)>, E>,
    head: Seq,
    stop: &AtomicBool,
) -> Result<bool, RebuildError<E>> {
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let applied = index.applied_seq();
        let left = usize::try_from(head.0.saturating_sub(applied.0)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(true);
        }
        let page = read(applied.next(), left.min(PAGE_RECORDS)).map_err(RebuildError::Read)?;
        if page.is_empty() {
            return Err(RebuildError::Missing(applied.next()));
        }
        index.apply(&page).map_err(RebuildError::View)?;
    }
}
