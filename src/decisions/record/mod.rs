//! Every decision, the server's own and those that gateways report: a record beside the journal, so that decisions can neither
//! delay nor fill it. Whoever answers takes a place first ([`DecisionRecord::reserve`]) and fills it without waiting for a
//! disk; somebody else writes what is due ten times a second.
//!
//! What a crash can lose is bounded twice: by [`WRITE_MS`] and one write, and by [`UNWRITTEN_MAX`] decisions. When so many are
//! not on disk, whoever asks waits, and is then denied; that denial is counted and recorded when there is room again. A segment
//! that is complete is sealed: its digests go into the journal, and [`verify()`] finds what was altered or taken out since. One
//! that is removed after its time is named in the journal first. Called by `app`.

mod files;
#[cfg(test)]
mod tests;
mod verify;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

pub use crate::segments::sealed::Cursor;
pub use files::RecordFault;
pub use verify::{DecisionsFault, DecisionsVerified, verify};

use self::files::Files;
use crate::domain::decided::{Decided, Keep, RemovedDecisions, SealedDecisions, UNWRITTEN_MAX};
use crate::domain::id::DecisionId;
use crate::domain::signal::{Signal, Watch};
use crate::domain::time::Timestamp;

/// How often what is due is written: what a killed process loses was answered within this time and one write before.
pub const WRITE_MS: u64 = 100;
/// How long an answer waits for room: as long as a permit may be used.
const WAIT: Duration = Duration::from_millis(250);
/// Decisions in one batch: each is at most some 1,200 bytes, and a batch has a megabyte.
const BATCH_LINES: usize = 500;

/// The record.
#[derive(Debug)]
pub struct DecisionRecord {
    queue: Mutex<Queue>,
    files: Mutex<Files>,
    watch: Mutex<Watch>,
    /// There is room again.
    room: Notify,
    /// Half of all places are taken: it is time to write.
    due: Notify,
    unwritten_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<Decided>,
    /// Places that were given out, and lines that are being written.
    taken: usize,
    /// Denials for which there was no room, since the last line that says so.
    refused: u64,
}

/// Room for so many decisions. Dropped unfilled, it is given back.
#[derive(Debug)]
#[must_use]
pub struct Place<'a> {
    record: &'a DecisionRecord,
    len: usize,
}

impl Place<'_> {
    /// Records a decision. Never waits.
    pub fn fill(self, line: Decided) {
        // Counted as a line from here on; dropping the place gives back the place itself.
        self.record.lock().lines.push(line);
    }

    /// Records decisions: no more than there is room for. Never waits.
    pub fn fill_all(self, mut lines: Vec<Decided>) {
        lines.truncate(self.len);
        self.record.lock().lines.append(&mut lines);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.record.lock();
        queue.taken = queue.taken.saturating_sub(self.len);
    }
}

/// What a write did.
#[derive(Debug, Default)]
pub struct Written {
    /// Decisions that are on disk now.
    pub lines: u64,
    /// What in them somebody should look at.
    pub signals: Vec<Signal>,
    /// Segments that are complete: to be recorded.
    pub sealed: Vec<SealedDecisions>,
    /// Why not all is written; it is tried again.
    pub fault: Option<RecordFault>,
}

impl DecisionRecord {
    /// Opens the record in this folder, which the first decision makes. One that cannot be opened stores nothing and says so;
    /// the service then denies as soon as there is no room.
    pub fn open(dir: &Path) -> Self {
        Self::with_room(dir, UNWRITTEN_MAX)
    }

    fn with_room(dir: &Path, unwritten_max: usize) -> Self {
        Self {
            queue: Mutex::default(),
            files: Mutex::new(Files::open(dir)),
            watch: Mutex::default(),
            room: Notify::new(),
            due: Notify::new(),
            unwritten_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for so many decisions, if there is now.
    pub fn try_reserve(&self, len: usize) -> Option<Place<'_>> {
        let mut queue = self.lock();
        let unwritten = queue.lines.len() + queue.taken + len;
        if unwritten > self.unwritten_max {
            return None;
        }
        queue.taken += len;
        drop(queue);
        let half = self.unwritten_max / 2;
        if unwritten >= half && unwritten - len < half {
            self.due.notify_one();
        }
        Some(Place { record: self, len })
    }

    /// A place for a decision. Waits a moment when there is none; then none is given, and nothing may be permitted.
    pub async fn reserve(&self) -> Option<Place<'_>> {
        if let Some(place) = self.try_reserve(1) {
            return Some(place);
        }
        let wait = async {
            // Ends: with the timeout around it.
            loop {
                let mut room = std::pin::pin!(self.room.notified());
                // Before looking: what is written in between is not missed.
                room.as_mut().enable();
                if let Some(place) = self.try_reserve(1) {
                    return place;
                }
                room.await;
            }
        };
        tokio::time::timeout(WAIT, wait).await.ok()
    }

    /// Counts a denial for which there was no room.
    pub fn refuse(&self) {
        let mut queue = self.lock();
        queue.refused = queue.refused.saturating_add(1);
    }

    /// Decisions that are not on disk yet.
    pub fn unwritten(&self) -> usize {
        let queue = self.lock();
        queue.lines.len() + queue.taken
    }

    /// Waits until it is time to write.
    pub async fn due(&self) {
        drop(tokio::time::timeout(Duration::from_millis(WRITE_MS), self.due.notified()).await);
    }

    /// Writes what is due, unless nothing may be written now, and seals what is complete. Blocks for writes and their syncs. `id`
    /// names a line that stands for denials without room.
    pub fn write(&self, (now, now_ms): (Timestamp, u64), may_write: bool, id: DecisionId) -> Written {
        let mut written = Written::default();
        if !may_write {
            return written;
        }
        // One writer at a time, and lines in the order in which they were taken.
        let mut files = self.files();
        let mut lines = self.take((now, id));
        while !lines.is_empty() && written.fault.is_none() {
            let rest = lines.split_off(lines.len().min(BATCH_LINES));
            let batch = std::mem::replace(&mut lines, rest);
            let len = batch.len();
            match files.append(batch, now) {
                Ok(batch) => {
                    written.lines += len as u64;
                    let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
                    written.signals.extend(batch.iter().flat_map(|line| watch.note(line)));
                    drop(watch);
                    self.lock().taken -= len;
                    self.room.notify_waiters();
                }
                Err((mut batch, fault)) => {
                    batch.append(&mut lines);
                    self.put_back(batch);
                    written.fault = Some(fault);
                }
            }
        }
        if written.fault.is_none() {
            match files.seal(now_ms) {
                Ok(sealed) => written.sealed = sealed,
                Err(fault) => written.fault = Some(fault),
            }
        }
        written
    }

    fn take(&self, (now, id): (Timestamp, DecisionId)) -> Vec<Decided> {
        let mut queue = self.lock();
        let mut lines = std::mem::take(&mut queue.lines);
        let refused = std::mem::take(&mut queue.refused);
        if refused > 0 {
            lines.push(Decided::unrecorded(id, now, refused));
        }
        queue.taken += lines.len();
        lines
    }

    /// What could not be written goes first the next time.
    fn put_back(&self, mut lines: Vec<Decided>) {
        let mut queue = self.lock();
        queue.taken -= lines.len();
        lines.append(&mut queue.lines);
        queue.lines = lines;
    }

    /// The segments that need not be kept any more, as long as nothing from this instant on is among them: first recorded as
    /// removed, then [removed](Self::remove).
    pub fn overdue(
        &self,
        keep: &Keep,
        now: Timestamp,
        held_since: Option<Timestamp>,
    ) -> Option<RemovedDecisions> {
        self.files().overdue(keep, now, held_since)
    }

    /// Removes the segments that the journal says are removed.
    ///
    /// # Errors
    /// One cannot be removed; those before it are.
    pub fn remove(&self, removed: &RemovedDecisions) -> Result<(), RecordFault> {
        self.files().remove(removed.last)
    }

    /// How long the complete segments are together.
    pub fn kept_len(&self) -> u64 {
        self.files().len()
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decisions from a place on that are wanted, oldest segment first, and where to go on; none: that was all. Looks through so
    /// many segments and no more, and through none that ended before this time.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn page(
        &self,
        (from, since): (Cursor, Option<Timestamp>),
        len: usize,
        wanted: &dyn Fn(&Decided) -> bool,
    ) -> Result<(Vec<Decided>, Option<Cursor>), RecordFault> {
        // Only the names are looked up under the lock: segments are never changed but at their end.
        let paths = self.files().paths(from, since);
        files::page(&paths, from, len, wanted)
    }
}
