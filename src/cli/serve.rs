//! `countersign serve`: reads the configuration, starts the log and the server, and stops it gracefully on a signal.

use std::future::Future;
use std::path::PathBuf;

use clap::Args;
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use super::unlock::{Source, Unlock};
use super::{Failure, Outcome};
use crate::config::{Config, Log, LogFormat, LogLevel};
use crate::server;
use crate::telemetry::{self, Format};

/// Run the service until it gets SIGTERM or SIGINT.
#[derive(Args)]
#[command(after_help = "Examples:\n  countersign serve --config data/countersign.toml\n  \
    countersign serve --config data/countersign.toml --passphrase-fd 3 3< passphrase")]
pub(super) struct Arguments {
    /// The configuration file; deploy/countersign.toml describes every key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(arguments: &Arguments, unlock: &Unlock) -> Result<Outcome, Failure> {
    let mut config = Config::load(&arguments.config)?;
    match unlock.source() {
        Some(Source::From(source)) => config.keys.passphrase = Some(source),
        Some(Source::Ask) => {
            return Err(Failure("a service asks nobody; name another --passphrase".to_owned()));
        }
        None => {}
    }
    start_log(config.log);
    dump_no_core();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config))?;
    Ok(Outcome::Done)
}

/// Begins to log as the configuration says.
pub(super) fn start_log(log: Log) {
    let format = match log.format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    telemetry::start(format, level);
}

/// A core dump would have every private key, passphrase and PIN in it, whoever starts this: units say so too.
pub(super) fn dump_no_core() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "a crash may leave a core dump, with private keys in it");
    }
}

/// Returns at SIGTERM, as a service manager sends it, or SIGINT, as a terminal does.
pub(super) fn told_to_stop() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// SIGHUP ends nothing: what can change while it serves is followed by itself.
fn ignore_hangup() -> Result<(), Failure> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!(
                "SIGHUP: the server's key and certificate, what it trusts, and the files of listeners are followed by \
                 themselves; the configuration is read at a start"
            );
        }
    });
    Ok(())
}

async fn serve(config: Config) -> Result<(), Failure> {
    ignore_hangup()?;
    let shutdown = told_to_stop()?;
    Ok(server::run(config, shutdown).await?)
}
