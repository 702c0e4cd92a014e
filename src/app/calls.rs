//! The audit of calls: noted as they are answered, written every second, sealed in the record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Error;
use super::{App, Caller};
use crate::calls::CallLogFault;
use crate::domain::call::{CallLine, SealedCalls};
use crate::domain::event::Event;
use crate::domain::id::Seq;
use crate::faults::kill_point;
use crate::journal::Condition;

pub use crate::calls::{Call, CallsFault, CallsVerified, Cursor};

tokio::task_local! {
    /// Where the call that this task answers learns what it recorded.
    static RECORDED: Recorded;
}

/// The last record that a call made.
#[derive(Debug, Clone, Default)]
pub struct Recorded(Arc<AtomicU64>);

impl Recorded {
    /// Learns what is recorded while this is carried out.
    pub fn during<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        RECORDED.scope(self.clone(), future)
    }

    /// The record, if one was made.
    pub fn seq(&self) -> Option<Seq> {
        Some(Seq(self.0.load(Ordering::Relaxed))).filter(|seq| seq.0 > 0)
    }

    /// Something was recorded for whoever asked, if this is a call.
    pub(super) fn note(seq: Seq) {
        // Outside of a call nobody asks.
        let _ = RECORDED.try_with(|recorded| recorded.0.fetch_max(seq.0, Ordering::Relaxed));
    }
}

impl App {
    /// Notes a call that was answered. Never waits.
    pub fn note_call(&self, call: Call) {
        self.calls.note(call);
    }

    /// Writes what is due of the audit, and has the record name what is complete of it. What the record does not take now is
    /// tried again with the next write.
    pub(super) async fn audit_calls(self: &Arc<Self>, is_last: bool) {
        let app = Arc::clone(self);
        let unsealed = tokio::task::spawn_blocking(move || app.write_calls(is_last)).await;
        let unsealed = unsealed.unwrap_or_else(|_| {
            tracing::error!("writing the audit of calls ended in a panic");
            Vec::new()
        });
        if unsealed.is_empty() || !self.shared.is_writable() {
            return;
        }
        kill_point("calls.before_seal");
        let sealed = self.record_seals(unsealed).await;
        kill_point("calls.after_seal");
        let app = Arc::clone(self);
        let named = tokio::task::spawn_blocking(move || app.calls.sealed(&sealed)).await;
        if let Ok(Err(fault)) = named {
            tracing::warn!(%fault, "segments of the audit that are on record are recorded again at the next start");
        }
    }

    /// Which of them are on record now.
    async fn record_seals(&self, unsealed: Vec<SealedCalls>) -> Vec<u64> {
        let numbers: Vec<_> = unsealed.iter().map(|seal| seal.number).collect();
        let events = unsealed.into_iter().map(|seal| Event::CallsSealed(Box::new(seal)));
        let entries = events.map(|event| Caller::default().entry(event)).collect();
        let outcomes = match self.engine.record_all(entries).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::warn!(%error, "complete segments of the audit of calls are not on record yet");
                return Vec::new();
            }
        };
        let mut sealed = Vec::new();
        for (number, outcome) in numbers.into_iter().zip(outcomes) {
            match outcome {
                Ok(committed) if committed.durable => sealed.push(number),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(segment = number, %error, "a complete segment of the audit of calls is not on record yet");
                }
            }
        }
        sealed
    }

    /// Blocks: not for an async task.
    fn write_calls(&self, is_last: bool) -> Vec<SealedCalls> {
        // What officers record comes first: the audit takes none of the room that is kept for it.
        let has_room = match self.journal.condition() {
            Condition::Open(space) => space.free >= space.low_water,
            Condition::Closed(_) => true,
        };
        let written = self.calls.write((self.now(), self.clock.boot_ms()), has_room, is_last);
        self.metrics().calls_written(written.lines, written.dropped);
        match written.fault {
            Some(fault @ (CallLogFault::Io(_) | CallLogFault::Closed(_) | CallLogFault::Full)) => {
                tracing::error!(%fault, "the audit of calls is not written; refusals are counted meanwhile");
            }
            Some(fault @ CallLogFault::Room { .. }) => {
                tracing::warn!(%fault, "the audit of calls is written, and longer than it may be");
            }
            None => {}
        }
        written.unsealed
    }

    /// A page of the audit: lines that are wanted, and where to go on. Blocks: not for an async task.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn list_calls(
        &self,
        from: Cursor,
        len: usize,
        wanted: &dyn Fn(&CallLine) -> bool,
    ) -> Result<(Vec<CallLine>, Option<Cursor>), Error> {
        self.calls.page(from, len, wanted).map_err(|fault| match fault {
            CallLogFault::Io(_)
            | CallLogFault::Closed(_)
            | CallLogFault::Room { .. }
            | CallLogFault::Full => Error::Unavailable(fault.to_string()),
        })
    }
}
