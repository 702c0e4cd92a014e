//! The gate behind the endpoint, and what it promises. What an agent can promise is known only when the proxy was seen to
//! keep it, so a gate begins weak, and another takes its place when the proof is there.
//!
//! Gates report what they decide, and one whose place was taken does so to its end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::own::Own;
use crate::client::{Answer, Gate, GateConfig, GateOptions, Target, TransportFault};
use crate::domain::enforce::Request;
use crate::domain::enforce::message::Strength;
use crate::domain::time::Timestamp;

/// How long a new gate may take until it has a lease, while the old one decides.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether the answers of a gate have all been given.
const LOOK: Duration = Duration::from_millis(20);
/// How long a gate may take to end: answers take three seconds at most, its last reports five.
const END_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Enforcer {
    /// None when the agent ends.
    gate: ArcSwapOption<Gate>,
    config: GateConfig,
    options: GateOptions,
    own: Arc<Own>,
    promised: Mutex<Strength>,
    /// Gates whose place was taken, while they end. One is made for each change of what is promised, ten seconds apart at
    /// the least when it changes to and fro.
    ending: Mutex<JoinSet<()>>,
}

impl Enforcer {
    pub(super) async fn connect(
        config: GateConfig,
        options: GateOptions,
        own: Arc<Own>,
    ) -> Result<Self, TransportFault> {
        let gate = Gate::connect_with(config.clone(), options.clone()).await?;
        let (promised, ending) = (Mutex::new(config.strength), Mutex::default());
        Ok(Self { gate: ArcSwapOption::from_pointee(gate), config, options, own, promised, ending })
    }

    /// Decides, and asks the service where it must; none: the agent ends.
    pub(super) async fn decide(&self, leaf_der: &[u8], request: &Request<'_>) -> Option<Answer> {
        let gate = self.gate.load_full()?;
        Some(gate.decide_or_ask(leaf_der, request).await)
    }

    /// Until when this machine's wall clock may let requests through; none: it has no lease.
    pub(super) fn lease_until(&self) -> Option<Timestamp> {
        let (status, now) = (self.gate.load().as_ref()?.status(), self.config.clock.now());
        let left_ms = i64::try_from(status.lease_left_ms).unwrap_or(0);
        status.fault.is_none().then(|| now.plus_ms(left_ms))
    }

    /// Why nothing is permitted now, if so; for the log.
    pub(super) fn trouble(&self) -> Option<String> {
        let status = self.gate.load().as_ref()?.status();
        status.fault.map(|fault| format!("{fault:?}: {}", status.last_fault))
    }

    /// What it promises.
    pub(super) fn promised(&self) -> Strength {
        *self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the service is, and how it may prove itself now.
    pub(super) fn target(&self) -> Target {
        let target = self.config.target.clone();
        match self.gate.load().as_ref() {
            Some(gate) => Target { system_bundle_pem: gate.system_bundle_pem(), ..target },
            None => target,
        }
    }

    /// Promises this from now on. The old gate decides until the new one has a lease; when less is promised than before,
    /// it is not waited for.
    pub(super) async fn promise(&self, strength: Strength) -> Result<(), String> {
        if self.promised() == strength {
            return Ok(());
        }
        let (target, identity) = (self.target(), self.own.identity());
        let config = GateConfig { strength, target, identity, ..self.config.clone() };
        let gate = Gate::connect_with(config, self.options.clone()).await;
        let gate = gate.map_err(|fault| fault.to_string())?;
        let ready = gate.ready(READY_TIMEOUT).await;
        if !strength.is_weak() {
            ready.map_err(|fault| fault.to_string())?;
        }
        self.end(self.gate.swap(Some(Arc::new(gate))));
        *self.promised.lock().unwrap_or_else(PoisonError::into_inner) = strength;
        Ok(())
    }

    fn end(&self, gate: Option<Arc<Gate>>) {
        let Some(gate) = gate else { return };
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        while ending.try_join_next().is_some() {}
        ending.spawn(async move {
            if timeout(END_TIMEOUT, end(gate)).await.is_err() {
                tracing::error!(
                    "a gate of the agent did not end in time: its last decisions are not reported"
                );
            }
        });
    }

    /// Decides nothing any more, and waits until everything that was decided is reported.
    pub(super) async fn finish(&self) {
        self.end(self.gate.swap(None));
        let mut ending = std::mem::take(&mut *self.ending.lock().unwrap_or_else(PoisonError::into_inner));
        while ending.join_next().await.is_some() {}
    }
}

/// Waits until the answers of a gate have been given, and shuts it down.
async fn end(mut gate: Arc<Gate>) {
    loop {
        match Arc::try_unwrap(gate) {
            Ok(gate) => return gate.shutdown().await,
            Err(shared) => gate = shared,
        }
        sleep(LOOK).await;
    }
}
