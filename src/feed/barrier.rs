//! Waiting until a record is enforced everywhere.

use std::sync::Arc;
use std::time::Duration;

use super::{Feed, Shared};
use crate::domain::enforce::{Barrier, BarrierReport, ParticipantId, Position};
use crate::domain::id::Seq;

/// The most barriers that sessions are asked about; further ones wait for the acknowledgements that come anyway.
const BARRIERS_MAX: usize = 1_024;
/// How long sessions are waited for before they are asked: what is enforced was sent to all of them anyway, and their
/// acknowledgements come by themselves.
const ASK_AFTER: Duration = Duration::from_millis(20);
/// The longest sleep between two looks at the clock: a host that slept must not wait for a timer that slept as well.
const SLEEP_MAX_MS: u64 = 1_000;

/// A barrier that sessions are asked about, for as long as somebody waits for it.
struct Asked {
    shared: Arc<Shared>,
    id: Option<u64>,
}

impl Asked {
    fn new(shared: &Arc<Shared>, at: Seq) -> Self {
        let mut inner = shared.lock();
        let id = (inner.barriers.len() < BARRIERS_MAX).then(|| {
            let id = inner.next_barrier;
            inner.next_barrier += 1;
            inner.barriers.insert(id, at);
            id
        });
        drop(inner);
        shared.wake();
        Self { shared: Arc::clone(shared), id }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.lock().barriers.remove(&id);
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
        let (ask, mut asked) = (tokio::time::sleep(ASK_AFTER), None);
        tokio::pin!(ask);
        loop {
            acks.borrow_and_update();
            let now_ms = shared.clock.boot_ms();
            let (report, bound_at_ms, look_again_ms) = shared.report(at, committed_boot_ms, now_ms);
            // Who stops says how it stands: the record is durable, and the next run waits anew for whoever asks.
            let is_due = self.is_draining() || deadline_at_ms.is_some_and(|deadline| now_ms >= deadline);
            if report.enforced_by.is_some() || is_due || now_ms >= bound_at_ms {
                return report;
            }
            let wake_at_ms = look_again_ms.min(deadline_at_ms.unwrap_or(u64::MAX));
            let sleep_ms = wake_at_ms.saturating_sub(now_ms).clamp(1, SLEEP_MAX_MS);
            // The sender lives in `shared`, so the channel is never closed; a timer is only a reason to look.
            tokio::select! {
                _ = acks.changed() => {}
                () = &mut ask, if asked.is_none() => asked = Some(Asked::new(shared, at.seq)),
                () = tokio::time::sleep(Duration::from_millis(sleep_ms)) => {}
            }
        }
    }

    /// How a record stands now, without waiting.
    pub fn report(&self, at: Position, committed_boot_ms: u64) -> BarrierReport {
        self.shared.report(at, committed_boot_ms, self.shared.clock.boot_ms()).0
    }
}

impl Shared {
    /// The report, the bound, and when a lease or a doubt ends next.
    pub(super) fn report(&self, at: Position, committed_ms: u64, now_ms: u64) -> (BarrierReport, u64, u64) {
        // Before the table: an answer that begins later reads a state that has the record.
        let unsent = self.in_flight.oldest();
        let inner = self.lock();
        let barrier = Barrier::new(at, committed_ms, inner.lease_ms_max);
        let complete_at_ms = inner.started_ms.saturating_add(inner.bound_ms());
        let is_complete = inner.is_first_run || now_ms >= complete_at_ms;
        let mut report = barrier.report(&inner.table.participants(), is_complete, now_ms);
        let is_published = inner.state.position >= at;
        if is_published && unsent.is_none_or(|seq| seq >= at.seq) {
            report.acked.push(ParticipantId::Server);
        } else {
            // No lease ends for the server itself: an unsent answer is pending for as long as it is unsent.
            report.pending.push(ParticipantId::Server);
            report.enforced_by = None;
        }
        let mut look_again_ms = barrier.bound_at_ms();
        if now_ms < complete_at_ms {
            look_again_ms = look_again_ms.min(complete_at_ms);
        }
        if let Some(end) = inner.table.next_end_ms(at.seq, now_ms, inner.bound_ms()) {
            look_again_ms = look_again_ms.min(end);
        }
        (report, barrier.bound_at_ms(), look_again_ms)
    }
}
