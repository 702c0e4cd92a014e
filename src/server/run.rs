//! A server as its configuration describes it, until it is told to stop.

use std::future::Future;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit, setrlimit};
use thiserror::Error;

use super::handshakes::HANDSHAKES_MAX;
use super::notify::Manager;
use super::{CONNECTIONS_MAX, ConnectionLimits, PaceTimes, ServerError, Settings, StrangerLife, start};
use crate::config::Config;
use crate::env::{SystemClock, SystemEntropy};
use crate::envoy::TrustedHeaders;
use crate::rpc::{Rate, Rates, STREAMS_ALL_MAX};
use crate::x509::ServerName;

/// File descriptors of everything but connections: journal, index, listeners, timers.
const FILES: usize = 512;
/// All file descriptors: of connections, of those that still shake hands, and of everything else.
pub const DESCRIPTORS: usize = CONNECTIONS_MAX + HANDSHAKES_MAX + FILES;

/// A value of the configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("configuration key {key}: {why}")]
pub struct BadConfig {
    /// Which key.
    pub key: &'static str,
    /// What is wrong with its value.
    pub why: String,
}

impl TryFrom<Config> for Settings {
    type Error = BadConfig;
    fn try_from(config: Config) -> Result<Self, BadConfig> {
        let bad = |key, why: String| BadConfig { key, why };
        let name = |text: &String| {
            let address = text.parse().ok().map(ServerName::Ip);
            let name = address.or_else(|| ServerName::dns(text));
            name.ok_or_else(|| bad("names", format!("{text:?} is not a DNS name or an address")))
        };
        let mut names = config.names.iter().map(name).collect::<Result<Vec<_>, _>>()?;
        names.sort();
        names.dedup();
        let limits = config.limits;
        Ok(Self {
            listen: config.listen,
            low_water: config.low_water(),
            data: config.data,
            keys: config.keys,
            names,
            crl_base: config.crl_base_url.parse().map_err(|e| bad("crl_base_url", format!("{e}")))?,
            connections: ConnectionLimits::default(),
            streams_max: STREAMS_ALL_MAX,
            rates: Rates {
                principals: Rate::per_s(limits.requests_per_s),
                addresses: Rate::per_s(limits.address_requests_per_s),
                reads: Rate::per_s(limits.reads_per_s),
                lists: Rate::per_s(limits.lists_per_s),
                mutations: Rate::per_s(limits.mutations_per_s),
                mandates: Rate::per_s(limits.mandates_per_s),
                streams: Rate::per_s(limits.streams_per_s),
            },
            strangers: StrangerLife::default(),
            pace: PaceTimes::default(),
            crl_listen: config.crl.listen,
            crl_lifetime_s: config.crl.lifetime_s,
            officer_ttl_s: config.officer_ttl_s,
            keep: config.decisions.keep(),
            headers: TrustedHeaders { model: config.envoy.model_header, place: config.envoy.place_header },
            listeners: config.listeners,
            metrics: config.metrics.listen,
            accept_clock: false,
        })
    }
}

/// Serves until `shutdown` ends, then stops gracefully.
///
/// # Errors
/// Why it does not start.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
    let settings = Settings::try_from(config)?;
    raise_descriptors();
    let running = start(settings, Arc::new(SystemClock), Arc::new(SystemEntropy)).await?;
    if running.app().profile().arc().is_documentation() {
        tracing::warn!(
            "certificates use the documentation arc (RFC 5612), which nobody owns: not for production; \
             `countersign init --arc` takes your own"
        );
    }
    let manager = Manager::of_this_process();
    manager.ready();
    shutdown.await;
    tracing::info!("stopping");
    manager.stopping();
    running.stop().await;
    Ok(())
}

/// Takes as many file descriptors as the system lets this process have: shells and service managers commonly begin with
/// 1,024, and each connection is one.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let raised = setrlimit(Resource::Nofile, limit);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let wanted = DESCRIPTORS as u64;
    if limit < wanted {
        let error = raised.err().map(|error| error.to_string());
        tracing::warn!(
            limit,
            wanted,
            error,
            "fewer connections than could be: raise the limit of open files"
        );
    }
}
