//! Every call of the API, refused ones included: a bounded log of its own beside the journal, so that calls can neither delay
//! nor fill the record. Whoever answers a call only notes it ([`CallLog::note`], a microsecond); somebody else writes what is due
//! every second.
//!
//! A segment that is complete is sealed: its digests go into the journal, and [`verify()`] finds what was altered or taken out
//! since. Strangers have segments of their own. When there is no room, permits and reads are dropped and counted; refusals are
//! counted by caller and never dropped. Called by `app`.

mod book;
mod files;
#[cfg(test)]
mod tests;
mod verify;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub use crate::segments::sealed::Cursor;
pub use book::Call;
pub use files::CallLogFault;
pub use verify::{CallsFault, CallsVerified, verify};

use self::book::Book;
use self::files::Files;
use crate::domain::call::{CallLine, Origin, SealedCalls};
use crate::domain::time::Timestamp;

/// Lines in one batch: some 250 KB before compression.
const BATCH_LINES: usize = 2_000;

/// The log.
#[derive(Debug)]
pub struct CallLog {
    book: Mutex<Book>,
    files: Mutex<Files>,
}

/// What a write did.
#[derive(Debug, Default)]
pub struct Written {
    /// Lines that are on disk now.
    pub lines: u64,
    /// Calls that left no line.
    pub dropped: u64,
    /// Segments that are complete: to be recorded.
    pub sealed: Vec<SealedCalls>,
    /// Why not all is written; it is tried again.
    pub fault: Option<CallLogFault>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CallLog {
    /// Opens the log in this folder, which the first line makes. One that cannot be opened stores nothing and says so; the
    /// service runs without it.
    pub fn open(dir: &Path) -> Self {
        Self { book: Mutex::default(), files: Mutex::new(Files::open(dir)) }
    }

    /// Notes a call. Never waits for a disk.
    pub fn note(&self, call: Call) {
        lock(&self.book).note(call);
    }

    /// Writes what is due, unless nothing may be written now, and seals what is complete. Blocks for writes and their syncs.
    pub fn write(&self, (now, now_ms): (Timestamp, u64), may_write: bool, is_last: bool) -> Written {
        let (lines, dropped) = lock(&self.book).due(now, now_ms, is_last);
        let mut written = Written { dropped, ..Written::default() };
        if !may_write {
            lock(&self.book).take_back(lines);
            return written;
        }
        let mut files = lock(&self.files);
        let (known, strangers): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line.caller.origin() == Origin::Known);
        for (origin, mut lines) in [(Origin::Known, known), (Origin::Strangers, strangers)] {
            lines.sort_by_key(|line| line.at);
            while !lines.is_empty() {
                let rest = lines.split_off(lines.len().min(BATCH_LINES));
                let batch = std::mem::replace(&mut lines, rest);
                match files.append(origin, batch) {
                    Ok(count) => written.lines += count,
                    Err((batch, fault)) => {
                        let mut book = lock(&self.book);
                        book.take_back(batch);
                        book.take_back(std::mem::take(&mut lines));
                        written.fault = Some(fault);
                    }
                }
            }
        }
        match files.seal(now_ms) {
            Ok(sealed) => written.sealed = sealed,
            Err(fault) => written.fault = Some(fault),
        }
        written
    }

    /// Lines from a place on that are wanted, oldest segment first, and where to go on; none: that was all. Looks through so many
    /// segments and no more.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn page(
        &self,
        from: Cursor,
        len: usize,
        wanted: &dyn Fn(&CallLine) -> bool,
    ) -> Result<(Vec<CallLine>, Option<Cursor>), CallLogFault> {
        // Only the names are looked up under the lock: segments are never changed but at their end.
        let paths = lock(&self.files).paths(from)?;
        files::page(&paths, from, len, wanted)
    }
}
