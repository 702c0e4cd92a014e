//! `countersign agent`: reads the configuration and the gateway's identity, and runs beside a proxy until a signal.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::head::read_log_key;
use super::identity::{CERTIFICATE, Identity, LOG_KEY, SYSTEM_BUNDLE};
use super::serve::{dump_no_core, start_log, told_to_stop};
use super::unlock::Unlock;
use super::{Failure, Outcome, Output, files};
use crate::agent::{self, Adapter, Settings};
use crate::config::agent::AgentConfig;
use crate::env::{Clock as _, SystemClock};

/// Run beside HAProxy or nginx: the proxy asks it for each request, and gets its revocation lists from it.
///
/// It acknowledges a list only when it saw, by two certificates of its own, that the proxy works with it. When it ends,
/// the proxy denies every request.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    countersign agent --adapter haproxy --config /etc/countersign/agent.toml --check\n  \
    countersign agent --adapter nginx --config /etc/countersign/agent.toml\n\
    Samples with every key: deploy/haproxy/ and deploy/nginx/.")]
pub(super) struct Arguments {
    /// Which proxy.
    #[arg(long, value_enum)]
    adapter: Proxy,
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/countersign/agent.toml")]
    config: PathBuf,
    /// Only check the configuration and the files that it names.
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Proxy {
    /// HAProxy 2.5 or later, through its runtime socket.
    Haproxy,
    /// nginx, through files and SIGHUP.
    Nginx,
}

pub(super) fn run(arguments: &Arguments, unlock: &Unlock, output: &Output) -> Result<Outcome, Failure> {
    let config = AgentConfig::load(&arguments.config)?;
    let identity = Identity::at(&config.identity, unlock);
    identity.check_validity(SystemClock.now())?;
    let log = config.log;
    let settings = Settings {
        adapter: match arguments.adapter {
            Proxy::Haproxy => Adapter::Haproxy,
            Proxy::Nginx => Adapter::Nginx,
        },
        certificate_pem: identity.chain_pem()?,
        // Mode and form of the key are looked at here.
        key_pem: identity.key_pem()?.to_string(),
        certificate: identity.path(CERTIFICATE),
        system_bundle_pem: files::read_text(&identity.path(SYSTEM_BUNDLE))?,
        log_key: read_log_key(&identity.path(LOG_KEY))?,
        config,
    };
    agent::check(&settings)?;
    if arguments.check {
        output.print(&json!({ "checked": true }), "The configuration can be used.");
        return Ok(Outcome::Done);
    }
    files::make_folder(&settings.config.state)?;
    start_log(log);
    dump_no_core();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { Ok::<_, Failure>(agent::run(settings, told_to_stop()?).await?) })?;
    Ok(Outcome::Done)
}
