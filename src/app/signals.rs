//! Signals about decisions: the last ones, for who looks, and a count of each kind.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::App;
use crate::domain::id::BootId;
use crate::domain::signal::Signal;

/// The last signals that are kept: some 2 MB. All of them are in the log.
const KEPT_MAX: usize = 10_000;

/// The last signals, numbered since the start.
#[derive(Debug, Default)]
pub(super) struct Signals(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    signals: VecDeque<(u64, Signal)>,
}

impl Signals {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    pub(super) fn signal(&self, signals: Vec<Signal>) {
        let mut kept = self.signals.lock();
        for signal in signals {
            let (entity, subject) = signal.of.unzip();
            tracing::warn!(
                signal = signal.kind.as_str(),
                entity.id = entity.map(|id| id.to_string()),
                subject.id = subject.map(|id| id.to_string()),
                gateway.id = signal.gateway.as_ref().map(ToString::to_string),
                decision.id = %signal.decision,
                detail = signal.detail,
                "a signal about decisions"
            );
            self.metrics().signal(signal.kind.as_str());
            kept.last += 1;
            if kept.signals.len() >= KEPT_MAX {
                kept.signals.pop_front();
            }
            let number = kept.last;
            kept.signals.push_back((number, signal));
        }
    }

    /// This run.
    pub const fn boot(&self) -> BootId {
        self.boot
    }

    /// Signals after the one with this number, oldest first, with their numbers. They begin at 1 with each start.
    pub fn signals_after(&self, number: u64, len: usize) -> Vec<(u64, Signal)> {
        let kept = self.signals.lock();
        let later = kept.signals.iter().filter(|(known, _)| *known > number);
        later.take(len).cloned().collect()
    }
}
