//! The server's own decisions as a participant of barriers: an answer that was computed on a state before a revocation
//! and not handed out yet keeps that revocation from being called enforced.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::id::Seq;
use crate::domain::state::State;

/// Answers that are being computed, by the state they read.
#[derive(Debug)]
pub struct InFlight {
    answers: Mutex<BTreeMap<Seq, u64>>,
    done: Arc<watch::Sender<u64>>,
}

/// One answer. Dropped when it was handed to the transport, or given up.
#[derive(Debug)]
pub struct Guard {
    answers: Arc<InFlight>,
    seq: Seq,
}

impl InFlight {
    pub(super) const fn new(done: Arc<watch::Sender<u64>>) -> Self {
        Self { answers: Mutex::new(BTreeMap::new()), done }
    }

    /// Begins an answer on the state that `load` gives. The state is loaded inside, so that no barrier can look between
    /// the two and miss the answer.
    pub fn enter(self: &Arc<Self>, load: impl FnOnce() -> Arc<State>) -> (Arc<State>, Guard) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let state = load();
        let seq = state.position.seq;
        *answers.entry(seq).or_default() += 1;
        drop(answers);
        (state, Guard { answers: Arc::clone(self), seq })
    }

    /// The oldest state that an unsent answer was computed on.
    pub(super) fn oldest(&self) -> Option<Seq> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).keys().next().copied()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut answers = self.answers.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let left = answers.get_mut(&self.seq).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            answers.remove(&self.seq);
        }
        drop(answers);
        if left == Some(0) {
            self.answers.done.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}
