//! The running service: listener, TLS, health, graceful stop. Holds no rule of its own.

mod connections;
mod crl_http;
mod handshakes;
mod health;
mod key_store;
mod keys;
mod listener;
mod listeners;
mod metrics;
mod notify;
mod own_key;
mod reload;
mod run;
mod tls;
mod trust_files;
mod turned_away;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::Server;

pub use connections::{CONNECTIONS_MAX, ConnectionLimits};
pub use key_store::{KeyRole, KeyStore};
pub use keys::{CERTIFICATE_FILE, KeyError, passphrase};
pub use listener::PaceTimes;
pub use listeners::read as read_listener;
pub use run::{BadConfig, DESCRIPTORS, run};
pub use tls::TlsError;

use self::own_key::OwnKey;
use self::reload::Source;
use crate::app::store::{self, StoreError};
use crate::app::{App, Error, Ingredients, Keys, Upkeep};
use crate::config::{self, KeyFiles};
use crate::domain::decided::Keep;
use crate::env::{Clock, Entropy};
use crate::envoy::{Authorization, Listeners, Secrets, TrustedHeaders};
use crate::journal::file::Options;
use crate::rpc::{self, GatekeeperLayer, Rates};
use crate::x509::{CrlBase, ServerName};

/// How long one answer may take at most: a little longer than any class of calls, whose own limits come first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(80);
/// Streams on one connection: a proxy's worth of concurrent checks.
const STREAMS_MAX: u32 = 1_024;
/// The longest headers that HTTP/2 reads: twice what a call may have, so that one with more is refused as a call, which is in
/// the audit. More than this is refused before anything is made of it.
const HEADERS_READ_MAX: u32 = 32 << 10;
/// The longest frame: the least that HTTP/2 allows, so that nobody makes the server hold more before it looks.
const FRAME_LEN_MAX: u32 = 16 << 10;
/// Streams that a peer reset before they were answered, after which its connection is over (CVE-2023-44487).
const RESETS_MAX: usize = 20;
/// How long calls under way may take to end when the service stops; then their connections are cut.
const DRAIN: Duration = Duration::from_secs(10);
/// After so much silence a connection is probed, and after as much without an answer it is over. A gateway that pings is never
/// silent for so long; one that only is late must not have to shake hands again, for then a busy server becomes busier.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// When gateways should come back after a stop, and how far apart: a restart takes seconds.
const RECONNECT_AFTER_MS: u32 = 500;
const RECONNECT_JITTER_MS: u32 = 2_000;
/// How often a run that could not begin tries again.
const BEGIN_RETRY: Duration = Duration::from_secs(1);

/// How long a connection without a client certificate lasts: enough to enroll, and health probes connect again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrangerLife {
    /// After that it is told to go away: calls under way end, new ones are made elsewhere.
    pub age: Duration,
    /// After that much more it is cut. Longer than an enrollment that waits for ordinals.
    pub grace: Duration,
}

impl Default for StrangerLife {
    fn default() -> Self {
        Self { age: Duration::from_secs(300), grace: Duration::from_secs(30) }
    }
}

/// What a server needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Its data directory, made by `init`.
    pub data: PathBuf,
    /// Where its private keys are.
    pub keys: KeyFiles,
    /// DNS names and addresses in its own certificate.
    pub names: Vec<ServerName>,
    /// Where CRLs will be found.
    pub crl_base: CrlBase,
    /// Where CRLs are served over plain HTTP; none: nowhere.
    pub crl_listen: Option<SocketAddr>,
    /// How long a CRL may be used, in seconds.
    pub crl_lifetime_s: u32,
    /// How long certificates of officers live, in seconds.
    pub officer_ttl_s: u32,
    /// How many decisions are kept.
    pub keep: Keep,
    /// Under this many free bytes only restrictions are recorded.
    pub low_water: u64,
    /// Connections open at once; a test may take fewer.
    pub connections: ConnectionLimits,
    /// Streams of all principals at once: [`rpc::STREAMS_ALL_MAX`]; a test may take fewer.
    pub streams_max: usize,
    /// How often one caller may call.
    pub rates: Rates,
    /// Connections without a client certificate.
    pub strangers: StrangerLife,
    /// How slow a peer may be.
    pub pace: PaceTimes,
    /// Request headers that a trusted edge sets.
    pub headers: TrustedHeaders,
    /// The certificates that are pushed to gateways for their own listeners.
    pub listeners: config::Listeners,
    /// Where Prometheus reads; none: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Accept the clock as it is, without officers: for `dev` only.
    pub accept_clock: bool,
}

/// Why a server does not run.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The configuration has a value that cannot be used.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// The data directory cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The service refused to start.
    #[error("the service cannot start: {0}")]
    App(#[from] Error),
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Reflection cannot be set up.
    #[error("reflection: {0}")]
    Reflection(String),
}

/// A running server.
pub struct Running {
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    crl_address: Option<SocketAddr>,
    app: Arc<App>,
    stop: watch::Sender<bool>,
    cut: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    upkeep: Upkeep,
}

impl Running {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where Prometheus reads, if anywhere.
    pub const fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Where it serves CRLs over plain HTTP, if it does.
    pub const fn crl_address(&self) -> Option<SocketAddr> {
        self.crl_address
    }

    /// The service behind it.
    pub const fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Stops: no new connections, calls under way end, what is waiting is committed.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.app.feed().drain(RECONNECT_AFTER_MS, RECONNECT_JITTER_MS);
        self.upkeep.stop().await;
        for mut task in self.tasks {
            let drained = tokio::time::timeout(DRAIN, &mut task).await;
            let ended = match drained {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::warn!("calls under way did not end in time; their connections are cut");
                    self.cut.send_replace(true);
                    match tokio::time::timeout(DRAIN, &mut task).await {
                        Ok(ended) => ended,
                        Err(_) => {
                            task.abort();
                            continue;
                        }
                    }
                }
            };
            if let Err(error) = ended {
                tracing::error!(%error, "a server task ended in a panic");
            }
        }
        self.app.stop().await;
    }
}

/// Opens a data directory and recovers its state.
///
/// # Errors
/// Damage, or another process that has it open.
pub fn open(data: &Path, low_water: u64, entropy: &dyn Entropy) -> Result<store::Store, ServerError> {
    let mut options = Options::new(entropy.bytes16());
    options.low_water = low_water;
    let store = store::open(data, &options)?;
    if let Some(dropped) = &store.report.dropped {
        tracing::warn!(
            segment = dropped.segment,
            offset = dropped.offset,
            seq = dropped.seq.0,
            "a batch that was torn by a crash, and never acknowledged, was dropped"
        );
    }
    Ok(store)
}

/// What the service is made of.
fn ingredients(
    settings: &Settings,
    (store, keys): (store::Store, Keys),
    (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
) -> Ingredients {
    Ingredients {
        store,
        keys,
        crl_base: settings.crl_base.clone(),
        crl_lifetime_s: settings.crl_lifetime_s,
        officer_ttl_s: settings.officer_ttl_s,
        keep: settings.keep,
        clock,
        entropy,
    }
}

/// Starts a server. It answers health at once, and permits nothing before its start is durably on record.
///
/// # Errors
/// Why it does not start.
pub async fn start(
    settings: Settings,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Running, ServerError> {
    let data = settings.data.clone();
    let store = open(&data, settings.low_water, entropy.as_ref())?;
    let passphrase = passphrase(&settings.keys)?;
    let keys = KeyStore::open(&settings.keys, passphrase.clone())?.load()?;
    let app = App::start(ingredients(&settings, (store, keys), (Arc::clone(&clock), entropy)))?;
    if settings.accept_clock {
        app.accept_clock();
    }
    let begun = app.begin().await;
    let (listener, address) = listen(settings.listen).await?;
    let page = listen_if(settings.metrics).await?;
    let (stop, stopped) = watch::channel(false);
    let (cut, is_cut) = watch::channel(false);
    let trust_files = trust_files::keep(Arc::clone(&app), data.clone(), stopped.clone());
    let source = Source {
        data,
        key: OwnKey::new(settings.keys.server.clone(), passphrase),
        names: settings.names.clone(),
    };
    let (config, following) = reload::start(&app, source, begun.is_ok(), stopped.clone()).await?;
    let mut tasks = vec![following, tokio::spawn(trust_files)];
    let lists = listen_if(settings.crl_listen).await?;
    let crl_address = lists.map(|(listener, address)| {
        tasks.push(tokio::spawn(crl_http::serve(listener, Arc::clone(&app), stopped.clone())));
        address
    });
    if let Err(error) = begun {
        tracing::error!(%error, "the start cannot be recorded; nothing is permitted until it is");
        tasks.push(tokio::spawn(keep_beginning(Arc::clone(&app), stopped.clone())));
    }
    let watch = listeners::Watch::begin(settings.listeners, clock);
    let listeners = watch.listeners();
    tasks.push(tokio::spawn(watch.carry(stopped.clone())));
    let (reporter, health) = tonic_health::server::health_reporter();
    tasks.push(tokio::spawn(health::watch(Arc::clone(&app), reporter, stopped.clone())));
    let strangers = settings.strangers;
    let bounds = listener::Bounds {
        connections: settings.connections,
        stranger_age: strangers.age + strangers.grace,
        pace: settings.pace,
    };
    let accepted = listener::incoming((listener, bounds), config, Arc::clone(&app), stopped.clone(), is_cut);
    let gatekeeper = GatekeeperLayer::new(Arc::clone(&app), settings.rates, settings.streams_max);
    let routes = routes((&app, &listeners), settings.headers)?.add_service(health);
    let mut server = server().layer(gatekeeper);
    // A server of their own for strangers: the age of a connection is the same for all that a server has.
    let mut of_strangers = server.clone().max_connection_age(strangers.age);
    let shutdown = || wait(stopped.clone());
    let strangers = of_strangers.add_routes(routes.clone());
    let strangers = strangers.serve_with_incoming_shutdown(accepted.strangers, shutdown());
    let known = server.add_routes(routes).serve_with_incoming_shutdown(accepted.known, shutdown());
    tasks.push(tokio::spawn(report(known)));
    tasks.push(tokio::spawn(report(strangers)));
    let metrics = page.map(|(listener, address)| {
        let source = metrics::Source { app: Arc::clone(&app), listeners };
        tasks.push(tokio::spawn(metrics::serve(source, listener, stopped.clone())));
        address
    });
    let upkeep = Upkeep::start(&app);
    tracing::info!(%address, seq = app.state().position.seq.0, "serving");
    Ok(Running { address, metrics, crl_address, app, stop, cut, tasks, upkeep })
}

/// Every service but health.
fn routes(
    (app, listeners): (&Arc<App>, &Arc<Listeners>),
    headers: TrustedHeaders,
) -> Result<Routes, ServerError> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(crate::pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|e| ServerError::Reflection(e.to_string()))?;
    let routes = rpc::routes(app).add_service(reflection);
    Ok(routes.add_service(Authorization::service(app, headers)).add_service(Secrets::service(app, listeners)))
}

async fn listen_if(address: Option<SocketAddr>) -> Result<Option<(TcpListener, SocketAddr)>, ServerError> {
    match address {
        Some(address) => listen(address).await.map(Some),
        None => Ok(None),
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn server() -> Server {
    Server::builder()
        .timeout(ANSWER_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADERS_READ_MAX)
        .max_frame_size(FRAME_LEN_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    drop(stopped.wait_for(|stop| *stop).await);
}

async fn report(served: impl Future<Output = Result<(), tonic::transport::Error>>) {
    if let Err(error) = served.await {
        tracing::error!(%error, "the server ended");
    }
}

async fn keep_beginning(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(BEGIN_RETRY) => {}
        }
        if app.begin().await.is_ok() {
            tracing::info!("the start is recorded; the service permits again");
            return;
        }
    }
}
