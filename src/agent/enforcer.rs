//! The gate behind the endpoint, and what it promises. What an agent can promise is known only when the proxy was seen to
//! keep it, so a gate begins weak, and another takes its place when the proof is there.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::own::Own;
use crate::client::{Answer, Gate, GateConfig, GateOptions, Target, TransportFault};
use crate::domain::enforce::Request;
use crate::domain::enforce::message::Strength;
use crate::domain::time::Timestamp;

/// How long a new gate may take until it has a lease, while the old one decides.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Enforcer {
    gate: ArcSwap<Gate>,
    config: GateConfig,
    own: Arc<Own>,
    promised: std::sync::Mutex<Strength>,
}

impl Enforcer {
    pub(super) async fn connect(config: GateConfig, own: Arc<Own>) -> Result<Self, TransportFault> {
        let gate = gate(config.clone(), &own).await?;
        let promised = std::sync::Mutex::new(config.strength);
        Ok(Self { gate: ArcSwap::from_pointee(gate), config, own, promised })
    }

    /// Decides, and asks the service where it must.
    pub(super) async fn decide(&self, leaf_der: &[u8], request: &Request<'_>) -> Answer {
        let gate = self.gate.load_full();
        gate.decide_or_ask(leaf_der, request).await
    }

    /// Until when this machine's wall clock may let requests through; none: it has no lease.
    pub(super) fn lease_until(&self) -> Option<Timestamp> {
        let (status, now) = (self.gate.load().status(), self.config.clock.now());
        let left_ms = i64::try_from(status.lease_left_ms).unwrap_or(0);
        status.fault.is_none().then(|| now.plus_ms(left_ms))
    }

    /// Why nothing is permitted now, if so; for the log.
    pub(super) fn trouble(&self) -> Option<String> {
        let status = self.gate.load().status();
        status.fault.map(|fault| format!("{fault:?}: {}", status.last_fault))
    }

    /// What it promises.
    pub(super) fn promised(&self) -> Strength {
        *self.promised.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Where the service is, and how it may prove itself now.
    pub(super) fn target(&self) -> Target {
        Target { system_bundle_pem: self.gate.load().system_bundle_pem(), ..self.config.target.clone() }
    }

    /// Promises this from now on. The old gate decides until the new one has a lease; when less is promised than before,
    /// it is not waited for.
    pub(super) async fn promise(&self, strength: Strength) -> Result<(), String> {
        if self.promised() == strength {
            return Ok(());
        }
        let (target, identity) = (self.target(), self.own.identity());
        let config = GateConfig { strength, target, identity, ..self.config.clone() };
        let gate = gate(config, &self.own).await.map_err(|fault| fault.to_string())?;
        let ready = gate.ready(READY_TIMEOUT).await;
        if !strength.is_weak() {
            ready.map_err(|fault| fault.to_string())?;
        }
        self.gate.store(Arc::new(gate));
        *self.promised.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = strength;
        Ok(())
    }
}

/// A gate that renews the agent's certificate.
async fn gate(config: GateConfig, own: &Arc<Own>) -> Result<Gate, TransportFault> {
    let options = GateOptions { renewal: Some(own.renewal()), ..GateOptions::default() };
    Gate::connect_with(config, options).await
}
