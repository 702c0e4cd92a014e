//! What decisions read: the view and the lease behind one atomic pointer, so that no decision mixes two of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::domain::decision::StateFault;
use crate::domain::enforce::{CLOCK_OFFSET_MAX_MS, GateView, PING_MS};
use crate::domain::id::Seq;
use crate::domain::time::Timestamp;

/// A view and for how long it may be permitted on.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// What is enforced; none: nothing has arrived yet.
    pub view: Option<Arc<GateView>>,
    /// When the lease ends, on the gateway's boot clock; none: there is none.
    pub lease_until_ms: Option<u64>,
    /// The last record that the server signed a head of.
    pub head: Seq,
    /// How far the wall clock was from the server's at the last Pong.
    pub clock_offset_ms: i64,
    /// Wall clock minus boot clock at the last Pong: shows a step since.
    pub wall_minus_boot_ms: i64,
}

/// The present standing, and when its keeper was last seen alive.
#[derive(Debug)]
pub struct Published {
    standing: ArcSwap<Standing>,
    last_tick_ms: AtomicU64,
    stall_ms: AtomicU64,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            standing: ArcSwap::default(),
            last_tick_ms: AtomicU64::new(0),
            stall_ms: AtomicU64::new(u64::from(PING_MS)),
        }
    }
}

impl Published {
    /// The present standing.
    pub fn load(&self) -> arc_swap::Guard<Arc<Standing>> {
        self.standing.load()
    }

    pub(super) fn store(&self, standing: Standing) {
        self.standing.store(Arc::new(standing));
    }

    pub(super) fn tick(&self, boot_ms: u64, stall_ms: u32) {
        self.stall_ms.store(u64::from(stall_ms), Ordering::Relaxed);
        self.last_tick_ms.store(boot_ms, Ordering::Release);
    }

    /// Has the keeper of the view stood still for longer than it may?
    pub fn is_stalled(&self, boot_ms: u64) -> bool {
        let last = self.last_tick_ms.load(Ordering::Acquire);
        boot_ms.saturating_sub(last) > self.stall_ms.load(Ordering::Relaxed)
    }

    /// Why nothing may be permitted on this standing at this instant, if so (gate G1).
    pub fn fault(&self, standing: &Standing, boot_ms: u64, now: Timestamp) -> Option<StateFault> {
        let has_lease = standing.lease_until_ms.is_some_and(|until| boot_ms < until);
        if standing.view.is_none() || !has_lease || self.is_stalled(boot_ms) {
            return Some(StateFault::StaleView);
        }
        let moved = wall_minus_boot_ms(boot_ms, now).saturating_sub(standing.wall_minus_boot_ms);
        let offset = standing.clock_offset_ms.saturating_add(moved);
        (offset.saturating_abs() > CLOCK_OFFSET_MAX_MS).then_some(StateFault::ClockUntrusted)
    }
}

pub(super) fn wall_minus_boot_ms(boot_ms: u64, now: Timestamp) -> i64 {
    now.millis().saturating_sub(i64::try_from(boot_ms).unwrap_or(i64::MAX))
}
