//! What the writer shares with everybody who decides: the state, the watch over the clock, and whether anything can be recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use super::trusted_time::TrustedTime;
use crate::domain::state::State;
use crate::feed::Feed;
use crate::metrics::Metrics;

/// What the writer shares with everybody else.
pub(super) struct Shared {
    /// The state as of the last durable record.
    pub state: ArcSwap<State>,
    /// The watch over the clock.
    pub time: TrustedTime,
    /// What operators watch.
    pub metrics: Metrics,
    /// The record cannot be written: nothing is permitted.
    unwritable: AtomicBool,
    /// This run has durably begun.
    started: AtomicBool,
}

impl Shared {
    /// Begins from a recovered state.
    pub(super) fn new(state: State, time: TrustedTime) -> Self {
        Self {
            state: ArcSwap::from_pointee(state),
            time,
            metrics: Metrics::default(),
            unwritable: AtomicBool::new(false),
            started: AtomicBool::new(false),
        }
    }

    /// Has this run durably begun?
    pub(super) fn has_started(&self) -> bool {
        self.started.load(Ordering::SeqCst)
    }

    /// This run has durably begun.
    pub(super) fn begin(&self) {
        self.started.store(true, Ordering::SeqCst);
    }

    /// The record cannot be written: nothing is permitted until it can.
    pub(super) fn close(&self) {
        self.unwritable.store(true, Ordering::SeqCst);
    }

    /// All that could not be written is.
    pub(super) fn reopen(&self) {
        self.unwritable.store(false, Ordering::SeqCst);
    }

    /// Can the record be written, and has this run durably begun?
    pub(super) fn is_writable(&self) -> bool {
        self.has_started() && !self.unwritable.load(Ordering::SeqCst)
    }
}

/// A writer that panicked records no stop any more, so nothing is permitted and no lease is granted.
pub(super) struct Guard {
    shared: Arc<Shared>,
    feed: Feed,
}

impl Guard {
    /// Watches the thread that it is moved to.
    pub(super) const fn new(shared: Arc<Shared>, feed: Feed) -> Self {
        Self { shared, feed }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.close();
            self.feed.close("the record cannot be written");
            tracing::error!("the writer ended in a panic; nothing is permitted until a restart");
        }
    }
}
