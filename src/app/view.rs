//! The thread that keeps the certificate index up with the journal, and builds it anew when it is damaged. It never
//! holds up the writer, an answer or the start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::store::{StoreError, entry_of};
use crate::domain::event::Entry;
use crate::domain::id::Seq;
use crate::journal::Journal;
use crate::views::{CertificateIndex, rebuild};

/// Records gathered before the index is written, unless nothing comes for a while: one batch instead of many.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// The thread, ended and joined by [`stop`](Follower::stop).
pub(super) struct Follower {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Follower {
    /// Starts it.
    pub(super) fn start(
        journal: Arc<dyn Journal>,
        index: Arc<dyn CertificateIndex>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("views".to_owned())
            .spawn(move || follow(journal.as_ref(), index.as_ref(), &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Ends it and waits until it has.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        if self.thread.join().is_err() {
            tracing::error!("the view thread ended in a panic");
        }
    }
}

fn follow(journal: &dyn Journal, index: &dyn CertificateIndex, stop: &AtomicBool) {
    // The first round walks the index; it is rebuilt when it is damaged.
    let mut whole = true;
    while !stop.load(Ordering::SeqCst) {
        let head = journal.head().seq;
        let done = if whole {
            rebuild(index, |from, limit| read(journal, from, limit), head, stop)
                .map(|_| ())
                .map_err(|e| e.to_string())
        } else {
            catch_up(journal, index, head)
        };
        match done {
            Ok(()) => whole = false,
            Err(why) => {
                tracing::warn!(why, "the certificate index is checked and built anew");
                whole = true;
            }
        }
        std::thread::sleep(PAUSE);
    }
}

fn catch_up(journal: &dyn Journal, index: &dyn CertificateIndex, head: Seq) -> Result<(), String> {
    while index.applied_seq() < head {
        let entries = read(journal, index.applied_seq().next(), crate::views::APPLY_RECORDS_MAX)
            .map_err(|e| e.to_string())?;
        index.apply(&entries).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn read(journal: &dyn Journal, from: Seq, limit: usize) -> Result<Vec<(Seq, Entry)>, StoreError> {
    let records = journal.read(from, limit)?;
    records.iter().map(|record| Ok((record.header.seq, entry_of(record)?))).collect()
}
