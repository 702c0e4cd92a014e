//! The agent beside a proxy that cannot speak the feed: HAProxy or nginx. It holds a gate, answers the proxy's question
//! about each request, and gives the proxy the lists with which it refuses handshakes.
//!
//! It acknowledges a list when it saw by two canaries that the proxy works with it, never because it was told so. It
//! permits nothing by itself; when it dies the proxy is closed. Called by `cli`.

mod authz;
mod canary;
mod enforcer;
mod files;
mod haproxy;
mod hold;
mod nginx;
mod own;
mod probe;
mod prove;
mod publish;
mod remedy;
mod sds;
mod set;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::authz::{Endpoint, Listener};
use self::canary::Nest;
use self::enforcer::Enforcer;
use self::haproxy::Haproxy;
use self::hold::Hold;
use self::nginx::Nginx;
use self::own::Own;
use self::probe::{Flights, Prober};
use self::prove::Prover;
use self::publish::{Proxy, Publisher, Service};
use crate::client::{GateConfig, GateOptions, Reports, Target, TransportFault};
use crate::config::agent::AgentConfig;
use crate::domain::enforce::message::Strength;
use crate::domain::head::PUBLIC_KEY_LEN;
use crate::env::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::x509::{Arc as Oids, Profile, TrustBundle};

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adapter {
    /// HAProxy, through its runtime socket.
    Haproxy,
    /// nginx, through files and SIGHUP.
    Nginx,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        })
    }
}

/// What an agent needs beside its configuration.
pub struct Settings {
    /// Which proxy.
    pub adapter: Adapter,
    /// The configuration.
    pub config: AgentConfig,
    /// The file of this gateway's certificate, which is replaced when it was renewed.
    pub certificate: PathBuf,
    /// What is in it, PEM.
    pub certificate_pem: String,
    /// Its private key, PKCS#8 PEM.
    pub key_pem: String,
    /// The authorities of the service's certificate, PEM.
    pub system_bundle_pem: String,
    /// The public key that signs heads.
    pub log_key: [u8; PUBLIC_KEY_LEN],
}

/// Why an agent cannot begin.
#[derive(Debug, Error)]
pub enum AgentFault {
    /// The configuration has a value that cannot be used, or lacks one.
    #[error("{0}")]
    Config(String),
    /// The endpoint cannot listen.
    #[error("[authz] listen {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Address, bundle or identity are not in their form.
    #[error(transparent)]
    Transport(#[from] TransportFault),
}

/// How many sightings are a proof. HAProxy has one set of files for all threads; the workers of nginx that go on for a
/// tenth of a second after a reload may still accept connections.
const fn sightings(adapter: Adapter) -> u32 {
    match adapter {
        Adapter::Haproxy => 1,
        Adapter::Nginx => 3,
    }
}

/// How long the tasks may take to end by themselves.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The parts that can be made without a network.
struct Parts {
    proxy: Proxy,
    lease: Option<Haproxy>,
    profile: Profile,
    target: Target,
    prober: Prober,
    flights: Arc<Flights>,
    own: Arc<Own>,
}

impl Parts {
    fn of(settings: &Settings) -> Result<Self, AgentFault> {
        let wrong = AgentFault::Config;
        let config = &settings.config;
        let (proxy, lease) = match settings.adapter {
            Adapter::Haproxy => {
                let section = config.haproxy.clone();
                let section = section.ok_or_else(|| wrong("the section [haproxy] is missing".to_owned()))?;
                (Proxy::Haproxy(Haproxy::new(section.clone())), Some(Haproxy::new(section)))
            }
            Adapter::Nginx => {
                let section = config.nginx.clone();
                let section = section.ok_or_else(|| wrong("the section [nginx] is missing".to_owned()))?;
                (Proxy::Nginx(Nginx::new(section)), None)
            }
        };
        let domain = config.trust_domain.parse();
        let domain = domain.map_err(|fault| wrong(format!("trust_domain: {fault}")))?;
        let arc = config.arc.as_deref().map_or_else(|| Ok(Oids::default()), str::parse);
        let arc = arc.map_err(|fault| wrong(format!("arc: {fault}")))?;
        let target = Target {
            address: config.server.clone(),
            server_name: config.server_name.clone(),
            system_bundle_pem: settings.system_bundle_pem.clone(),
        };
        let flights = Arc::new(Flights::default());
        let bundle = TrustBundle::from_pem(&settings.system_bundle_pem);
        let algorithms = bundle.and_then(|bundle| bundle.algorithms());
        let algorithms = algorithms.map_err(|fault| wrong(fault.to_string()))?;
        let prober =
            Prober::new(config.probe.clone(), Arc::clone(&flights), Arc::new(SystemEntropy), algorithms);
        let prober = prober.map_err(wrong)?;
        let own =
            Own::new(settings.certificate.clone(), &settings.certificate_pem, settings.key_pem.clone())?;
        let (profile, own) = (Profile::new(domain, arc, None).with_algorithms(algorithms), Arc::new(own));
        Ok(Self { proxy, lease, profile, target, prober, flights, own })
    }
}

/// Checks everything that can be checked without a network.
///
/// # Errors
/// What is wrong.
pub fn check(settings: &Settings) -> Result<(), AgentFault> {
    Parts::of(settings).map(drop)
}

/// Runs until `shutdown`.
///
/// # Errors
/// The agent cannot begin. What fails later is logged and tried again.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), AgentFault> {
    let Parts { proxy, lease, profile, target, prober, flights, own } = Parts::of(&settings)?;
    let Settings { adapter, config, log_key, .. } = settings;
    let listen = &config.authz.listen;
    let failed = |source| AgentFault::Listen { address: listen.to_string(), source };
    let listener = Listener::bind(listen).await.map_err(failed)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let strength = Strength {
        per_request: false,
        closes_connections: false,
        resumption_off: false,
        stream_cut_ms: config.stream_cut_ms,
        pausable: config.pausable,
    };
    let gate = GateConfig {
        target,
        identity: own.identity(),
        profile: profile.clone(),
        log_key,
        strength,
        clock: Arc::clone(&clock),
        entropy,
    };
    let options = GateOptions {
        renewal: Some(own.renewal()),
        reports: Some(Reports::default()),
        adapter: adapter.to_string().parse().ok(),
        ..GateOptions::default()
    };
    let enforcer = Arc::new(Enforcer::connect(gate, options, Arc::clone(&own)).await?);
    let hold = Arc::new(Hold::new(lease, Arc::clone(&enforcer), Arc::clone(&clock)));
    let timeout = config.probe.apply_timeout();
    let publisher = Publisher {
        service: Service { own, clock },
        proxy,
        prover: Prover::new(prober, Arc::clone(&hold), timeout, sightings(adapter)),
        nest: Nest::at(&config.state, profile),
        enforcer: Arc::clone(&enforcer),
        canaries: Vec::new(),
        is_well: None,
        said: None,
    };
    tracing::info!(authz.listen = %listen, ?adapter, "the agent begins; everything is denied until it has a lease");
    let endpoint = Arc::new(Endpoint { enforcer: Arc::clone(&enforcer), flights, config: config.authz });
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(authz::serve(listener, endpoint, stopped.clone()));
    tasks.spawn(publisher.run(stopped.clone()));
    tasks.spawn(async move { hold.keep(stopped).await });
    tokio::select! {
        () = shutdown => {}
        ended = tasks.join_next() => tracing::error!(?ended, "a task of the agent ended; the agent stops"),
    }
    stop.send_replace(true);
    let ended = async { while tasks.join_next().await.is_some() {} };
    drop(tokio::time::timeout(STOP_TIMEOUT, ended).await);
    tasks.shutdown().await;
    enforcer.finish().await;
    Ok(())
}
