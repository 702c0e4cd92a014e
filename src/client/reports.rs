//! Decisions reported to the server, in batches, each until it is on disk there.
//!
//! Nothing is lost silently. When the server takes no reports the queue fills; then nothing is permitted any more, because a
//! permit that could not be reported would be one that nobody knows of. Denials go on: those for which there is no room are
//! counted by their code, and the counts are reported. What a crash of the process loses is what waits here: about a second
//! of decisions while the server answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;

use super::gate::{Shared, told_to_stop};
use crate::domain::enforce::Position;
use crate::domain::enforce::report::{BATCH_LEN_MAX, CODE_LEN_MAX, DecisionReport};
use crate::domain::id::BootId;
use crate::domain::model::{AccessForm, MODEL_NAME_LEN_MAX};
use crate::domain::policy::Place;
use crate::pb;
use crate::pb::enforcement_service_client::EnforcementServiceClient;

/// How long the first decision of a batch waits for others.
const GATHER_MS: u64 = 1_000;
/// How long an answer may take.
const CALL_TIMEOUT_MS: u64 = 10_000;
/// The first pause after a failure, and the longest: it doubles.
const PAUSE_MIN_MS: u64 = 250;
const PAUSE_MAX_MS: u64 = 10_000;
/// How long the last batches may take when the gate is shut down.
const FAREWELL_MS: u64 = 5_000;
/// The most codes that are counted apart: more than there are.
const CODES_MAX: usize = 256;

/// The gate reports its decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reports {
    /// How many may wait; a quarter is for denials only. At least 4, and at most a million, some 200 MB.
    pub queue_max: usize,
}

impl Default for Reports {
    fn default() -> Self {
        Self { queue_max: 65_536 }
    }
}

/// There is no room: a permit may not be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull;

/// Where decisions wait.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: mpsc::Sender<DecisionReport>,
    /// For denials only.
    kept_free: usize,
    /// Denials for which there was no room, by code.
    counted: Mutex<BTreeMap<String, u32>>,
    pub(super) sent: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Queue {
    pub(super) fn new(reports: Reports) -> (Self, mpsc::Receiver<DecisionReport>) {
        let queue_max = reports.queue_max.clamp(4, 1_000_000);
        let (waiting, receiver) = mpsc::channel(queue_max);
        let queue = Self {
            waiting,
            kept_free: queue_max / 4,
            counted: Mutex::default(),
            sent: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        (queue, receiver)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.max_capacity().saturating_sub(self.waiting.capacity())
    }

    /// Takes a decision. A denial is always taken.
    pub(super) fn put(&self, mut report: DecisionReport) -> Result<(), QueueFull> {
        if report.model.len() > MODEL_NAME_LEN_MAX {
            // No model has such a name.
            report.model.clear();
        }
        // A code of the server may be of any characters.
        let end = (0..=CODE_LEN_MAX).rfind(|at| report.code.is_char_boundary(*at)).unwrap_or(0);
        report.code.truncate(end);
        if report.is_permit && self.waiting.capacity() <= self.kept_free {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(QueueFull);
        }
        let Err(full) = self.waiting.try_send(report) else { return Ok(()) };
        let report = full.into_inner();
        if report.is_permit {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(QueueFull);
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let code = if counted.len() < CODES_MAX { report.code } else { String::new() };
        let count = counted.entry(code).or_default();
        *count = count.saturating_add(1);
        Ok(())
    }

    fn take_counted(&self) -> BTreeMap<String, u32> {
        std::mem::take(&mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The task that sends them.
pub(super) struct Reporter {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    waiting: mpsc::Receiver<DecisionReport>,
    boot: BootId,
    stopped: watch::Receiver<bool>,
}

impl Reporter {
    pub(super) const fn new(
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        waiting: mpsc::Receiver<DecisionReport>,
        boot: BootId,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self { shared, queue, waiting, boot, stopped }
    }

    /// Runs until the gate is shut down; then what waits is sent, as far as that works in five seconds.
    pub(super) async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        let mut unsent = Vec::new();
        let mut batch = 1;
        tokio::select! {
            () = told_to_stop(&mut stopped) => {}
            () = self.send_all(&mut unsent, &mut batch, true) => {}
        }
        self.waiting.close();
        let farewell = self.send_all(&mut unsent, &mut batch, false);
        let is_late = tokio::time::timeout(Duration::from_millis(FAREWELL_MS), farewell).await.is_err();
        let left = unsent.len() + self.queue.len();
        if is_late && left > 0 {
            tracing::error!(left, "LOST: decisions that the server did not take before the gate ended");
        }
    }

    /// Sends batch after batch. `unsent` is the batch of this number until the server has it: this can be dropped at any
    /// point and begun again, for what is sent already does not change, and the server knows it by its number. Ends when nothing waits, unless it is to go on.
    async fn send_all(&mut self, unsent: &mut Vec<DecisionReport>, batch: &mut u64, goes_on: bool) {
        let mut pause_ms = PAUSE_MIN_MS;
        loop {
            if unsent.is_empty() {
                self.gather(unsent, goes_on).await;
                if unsent.is_empty() {
                    return;
                }
            }
            match self.send(unsent, *batch).await {
                Ok(()) => {
                    self.queue.sent.fetch_add(unsent.len() as u64, Ordering::Relaxed);
                    unsent.clear();
                    *batch += 1;
                    pause_ms = PAUSE_MIN_MS;
                }
                Err(why) => {
                    tracing::warn!(why, waiting = self.queue.len(), "decisions could not be reported");
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    pause_ms = (pause_ms * 2).min(PAUSE_MAX_MS);
                }
            }
        }
    }

    /// Waits for a decision, and a little for others.
    async fn gather(&mut self, batch: &mut Vec<DecisionReport>, goes_on: bool) {
        if goes_on {
            let Some(first) = self.waiting.recv().await else { return };
            batch.push(first);
            let full = async {
                while batch.len() < BATCH_LEN_MAX {
                    let Some(next) = self.waiting.recv().await else { return };
                    batch.push(next);
                }
            };
            // Late: what came is a batch.
            let _ = tokio::time::timeout(Duration::from_millis(GATHER_MS), full).await;
        } else {
            while batch.len() < BATCH_LEN_MAX
                && let Ok(next) = self.waiting.try_recv()
            {
                batch.push(next);
            }
        }
        for (code, count) in self.queue.take_counted() {
            batch.push(self.counted(code, count));
        }
        // The counts make it longer than a batch may be: what is too much waits for the next one.
        while batch.len() > BATCH_LEN_MAX
            && let Some(report) = batch.pop()
        {
            self.count_again(&report);
        }
    }

    fn count_again(&self, report: &DecisionReport) {
        let mut counted = self.queue.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counted.entry(report.code.clone()).or_default();
        *count = count.saturating_add(report.count);
    }

    fn counted(&self, code: String, count: u32) -> DecisionReport {
        let standing = self.shared.published.load();
        DecisionReport {
            at: self.shared.clock.now(),
            is_permit: false,
            code,
            model: String::new(),
            form: AccessForm::Inference,
            place: Place::Unknown,
            subject: None,
            entity: None,
            ordinal: None,
            as_of: standing.view.as_ref().map_or(Position::default(), |view| view.position),
            count,
            asked: None,
        }
    }

    async fn send(&self, batch: &[DecisionReport], number: u64) -> Result<(), String> {
        let channel = self.shared.channel.load_full().ok_or("there is no connection")?;
        let mut client = EnforcementServiceClient::new(Channel::clone(&channel));
        let decisions = batch.iter().cloned().map(Into::into).collect();
        let boot_id = self.boot.to_string();
        let call = client.report_decisions(pb::ReportDecisionsRequest { boot_id, batch: number, decisions });
        let answer = tokio::time::timeout(Duration::from_millis(CALL_TIMEOUT_MS), call).await;
        answer
            .map_err(|_| "the answer did not arrive in time".to_owned())?
            .map_err(|status| status.to_string())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn a_long_code_of_any_characters_is_cut() {
        let (queue, mut waiting) = Queue::new(Reports::default());
        for (code, cut) in
            [("\u{e9}".repeat(40), 64), (format!("x{}", "\u{e9}".repeat(40)), 63), ("OK".to_owned(), 2)]
        {
            let report = DecisionReport {
                at: Timestamp::default(),
                is_permit: false,
                code: code.clone(),
                model: String::new(),
                form: AccessForm::Inference,
                place: Place::Unknown,
                subject: None,
                entity: None,
                ordinal: None,
                as_of: Position::default(),
                count: 1,
                asked: None,
            };
            queue.put(report).unwrap();
            assert_eq!(waiting.try_recv().unwrap().code, code[..cut]);
        }
    }
}
