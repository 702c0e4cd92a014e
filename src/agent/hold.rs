//! The lease that HAProxy is given: requests are let through until the gate's lease ends, or the list that the proxy was
//! last seen to work with, whichever is first. A dead agent gives none, so it closes the proxy by doing nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::enforcer::Enforcer;
use super::haproxy::Haproxy;
use super::remedy::Refusal;
use crate::domain::time::Timestamp;
use crate::env::Clock;

/// How often the lease is looked at: a Ping extends it every 2.5 s.
const LOOK: Duration = Duration::from_millis(250);
/// After so many looks it is written again, for a process of HAProxy that began anew.
const LOOKS_UNTIL_WRITTEN_AGAIN: u32 = 8;

/// What a proxy without a lease of its own is given.
pub(super) struct Hold {
    proxy: Option<Haproxy>,
    enforcer: Arc<Enforcer>,
    clock: Arc<dyn Clock>,
    /// Until when the proxy may work with its list, in seconds; 0: it is closed.
    allowed_s: AtomicI64,
    written_s: tokio::sync::Mutex<i64>,
}

impl Hold {
    /// For HAProxy; without one there is nothing to do.
    pub(super) fn new(proxy: Option<Haproxy>, enforcer: Arc<Enforcer>, clock: Arc<dyn Clock>) -> Self {
        let (allowed_s, written_s) = (AtomicI64::new(0), tokio::sync::Mutex::new(0));
        Self { proxy, enforcer, clock, allowed_s, written_s }
    }

    /// Does the proxy need a lease?
    pub(super) const fn is_needed(&self) -> bool {
        self.proxy.is_some()
    }

    /// Does it have one?
    pub(super) async fn is_open(&self) -> bool {
        *self.written_s.lock().await > self.clock.now().seconds()
    }

    /// The list that the proxy works with may be used until then; 1970 closes it.
    pub(super) async fn allow(&self, until: Timestamp) -> Result<(), Refusal> {
        self.allowed_s.store(until.seconds(), Ordering::Relaxed);
        self.write(true).await
    }

    async fn write(&self, again: bool) -> Result<(), Refusal> {
        let Some(proxy) = &self.proxy else { return Ok(()) };
        let lease_s = self.enforcer.lease_until().map_or(0, Timestamp::seconds);
        let mut written = self.written_s.lock().await;
        let until_s = lease_s.min(self.allowed_s.load(Ordering::Relaxed));
        if until_s != *written || again {
            proxy.hold_until(Timestamp::from_millis(until_s.saturating_mul(1_000))).await?;
            *written = until_s;
        }
        Ok(())
    }

    /// Extends it until the agent stops.
    pub(super) async fn keep(&self, mut stopped: watch::Receiver<bool>) {
        let mut looks = 0_u32;
        let mut in_trouble = false;
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            looks = looks.wrapping_add(1);
            match self.write(in_trouble || looks.is_multiple_of(LOOKS_UNTIL_WRITTEN_AGAIN)).await {
                Ok(()) => in_trouble = false,
                Err(refusal) if in_trouble => tracing::debug!(%refusal, "the lease is not extended"),
                Err(refusal) => {
                    tracing::error!(%refusal, "the lease cannot be extended: the proxy will deny every request");
                    in_trouble = true;
                }
            }
        }
    }
}
