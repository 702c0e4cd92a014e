//! The audit of calls: noted as they are answered, written every second, sealed in the record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::App;
use super::error::Error;
use crate::calls::CallLogFault;
use crate::domain::call::CallLine;
use crate::domain::event::Event;
use crate::domain::id::Seq;
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

    /// Writes what is due of the audit. Blocks: not for an async task.
    pub(super) fn write_calls(&self, is_last: bool) {
        // What officers record comes first: the audit takes none of the room that is kept for it.
        let has_room = match self.journal.condition() {
            Condition::Open(space) => space.free >= space.low_water,
            Condition::Closed(_) => true,
        };
        let written = self.calls.write((self.now(), self.clock.boot_ms()), has_room, is_last);
        self.metrics().calls_written(written.lines, written.dropped);
        if let Some(fault) = written.fault {
            tracing::error!(%fault, "the audit of calls is not written; refusals are counted meanwhile");
        }
        for sealed in written.sealed {
            self.note(Event::CallsSealed(Box::new(sealed)));
        }
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
            CallLogFault::Io(_) | CallLogFault::Closed(_) => Error::Unavailable(fault.to_string()),
        })
    }
}
