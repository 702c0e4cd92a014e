//! Waiting until a record is enforced everywhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Feed, Shared};
use crate::domain::enforce::{BarrierReport, Outlook, OwnPath, ParticipantId, Position};
use crate::domain::id::Seq;

/// The most barriers that sessions are asked about; further ones wait for the acknowledgements that come anyway.
const BARRIERS_MAX: usize = 1_024;
/// How long sessions are waited for before they are asked: what is enforced was sent to all of them anyway, and their
/// acknowledgements come by themselves.
const ASK_AFTER: Duration = Duration::from_millis(20);
/// The longest sleep between two looks at the clock: a host that slept must not wait for a timer that slept as well.
const SLEEP_MAX_MS: u64 = 1_000;

/// Somebody who waits. While anybody does, no session is forgotten.
struct Waiting {
    shared: Arc<Shared>,
    /// What sessions are asked about, once they are.
    asked: Option<u64>,
}

impl Waiting {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.lock().waiting += 1;
        Self { shared: Arc::clone(shared), asked: None }
    }

    fn ask(&mut self, at: Seq) {
        let mut inner = self.shared.lock();
        self.asked = (inner.barriers.len() < BARRIERS_MAX).then(|| {
            let id = inner.next_barrier;
            inner.next_barrier += 1;
            inner.barriers.insert(id, at);
            id
        });
        drop(inner);
        self.shared.wake();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.waiting -= 1;
        if let Some(id) = self.asked {
            inner.barriers.remove(&id);
        }
    }
}

/// Waits for acknowledgements, until nobody is known to be missing.
async fn acknowledged(acks: &mut watch::Receiver<u64>, is_missing: impl Fn() -> bool) {
    loop {
        // The sender lives in `shared`, so the channel is never closed.
        let _ = acks.changed().await;
        if !is_missing() {
            return;
        }
    }
}

impl Feed {
    /// Waits until a record that was committed at `committed_boot_ms` is enforced: everybody acknowledged or is provably
    /// closed, or commit + longest lease + drift has passed. After `deadline_ms` from now, or when the service stops, the
    /// report says how it stands.
    /// Never longer than that bound: then even an answer of this server that is still unsent is only reported.
    pub async fn wait_enforced(
        &self,
        at: Position,
        committed_boot_ms: u64,
        deadline_ms: Option<u32>,
    ) -> BarrierReport {
        let shared = &self.shared;
        let deadline_at_ms = deadline_ms.map(|ms| shared.clock.boot_ms().saturating_add(u64::from(ms)));
        let mut acks = shared.acks.subscribe();
        let mut waiting = Waiting::new(shared);
        let (ask, mut is_asked) = (tokio::time::sleep(ASK_AFTER), false);
        tokio::pin!(ask);
        loop {
            acks.borrow_and_update();
            let now_ms = shared.clock.boot_ms();
            let Outlook { report, bound_at_ms, look_again_ms } = shared.report(at, committed_boot_ms, now_ms);
            // Who stops says how it stands: the record is durable, and the next run waits anew for whoever asks.
            let is_due = self.is_draining() || deadline_at_ms.is_some_and(|deadline| now_ms >= deadline);
            if report.enforced_by.is_some() || is_due || now_ms >= bound_at_ms {
                return report;
            }
            // One of those who are missing: until it is not, nobody else's acknowledgement ends the wait. The middle one,
            // so that the looks are few whether they acknowledge in order or not.
            let laggard = report.pending.get(report.pending.len() / 2);
            let is_missing = || {
                let now_ms = shared.clock.boot_ms();
                let is_due = self.is_draining() || deadline_at_ms.is_some_and(|deadline| now_ms >= deadline);
                let awaits = |id| shared.lock().roster.awaits(id, at, committed_boot_ms, now_ms);
                !is_due && laggard.is_some_and(awaits)
            };
            let wake_at_ms = look_again_ms.min(deadline_at_ms.unwrap_or(u64::MAX));
            let sleep_ms = wake_at_ms.saturating_sub(now_ms).clamp(1, SLEEP_MAX_MS);
            // A timer is only a reason to look.
            tokio::select! {
                () = acknowledged(&mut acks, is_missing) => {}
                () = &mut ask, if !is_asked => {
                    waiting.ask(at.seq);
                    is_asked = true;
                }
                () = tokio::time::sleep(Duration::from_millis(sleep_ms)) => {}
            }
        }
    }

    /// How a record stands now, without waiting.
    pub fn report(&self, at: Position, committed_boot_ms: u64) -> BarrierReport {
        self.shared.report(at, committed_boot_ms, self.shared.clock.boot_ms()).report
    }
}

impl Shared {
    pub(super) fn report(&self, at: Position, committed_ms: u64, now_ms: u64) -> Outlook {
        // Before the roster: an answer that begins later reads a state that has the record.
        let unsent = self.in_flight.oldest();
        let inner = self.lock();
        let own = OwnPath { published: inner.state.position, unsent };
        let mut outlook = inner.roster.report(at, committed_ms, own, now_ms);
        // Also one that was removed since may have been paused with a lease.
        let mut principals = inner.state.principals.values();
        let is_doubtful = inner.roster.may_miss_paused(now_ms) && principals.any(|p| p.is_pausable);
        if is_doubtful && !outlook.report.pending.contains(&ParticipantId::EarlierRun) {
            outlook.report.weak.push(ParticipantId::EarlierRun);
        }
        outlook
    }
}
