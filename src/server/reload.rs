//! The server's own certificate, which is renewed while it serves.
//!
//! While the system authority is being replaced the server goes on showing the certificate of the one that everybody knows,
//! as long as that one is trusted and half of the certificate's life is not over: who knows the old one only can still
//! connect, and learns of the new one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ServerError;
use super::keys::{is_due, server_credential};
use super::own_key::OwnKey;
use super::tls::server_config;
use crate::app::App;
use crate::x509::ServerName;

/// How often it looks.
const TICK: Duration = Duration::from_secs(1);
/// After how many looks a certificate that could not be had is asked for again: a minute.
const RETRY_TICKS: u32 = 60;

/// Where the server's key and certificate are, and what the certificate names.
pub(super) struct Source {
    pub(super) data: PathBuf,
    pub(super) key: OwnKey,
    pub(super) names: Vec<ServerName>,
}

/// The configuration of the listener, and the task that replaces it. Connections that are open keep theirs; whether their
/// callers may call is asked at each call.
pub(super) type Reloaded = (watch::Receiver<Arc<ServerConfig>>, JoinHandle<()>);

/// Begins with what is so now.
///
/// # Errors
/// There is no certificate and none can be issued, or TLS cannot be set up.
pub(super) async fn start(
    app: &Arc<App>,
    source: Source,
    may_issue: bool,
    stopped: watch::Receiver<bool>,
) -> Result<Reloaded, ServerError> {
    let config = made(app, &source, may_issue).await?;
    let (sender, receiver) = watch::channel(config);
    let task = tokio::spawn(follow(Arc::clone(app), source, sender, stopped));
    Ok((receiver, task))
}

async fn made(app: &Arc<App>, source: &Source, may_issue: bool) -> Result<Arc<ServerConfig>, ServerError> {
    let credential = server_credential(app, source, may_issue).await?;
    Ok(server_config(app, credential)?)
}

async fn follow(
    app: Arc<App>,
    source: Source,
    config: watch::Sender<Arc<ServerConfig>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut wait = 0;
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(TICK) => {}
        }
        let is_due = wait == 0 && is_due(&app, &source);
        wait = if is_due { RETRY_TICKS } else { wait.saturating_sub(1) };
        if !is_due {
            continue;
        }
        match made(&app, &source, true).await {
            Ok(new) => {
                config.send_replace(new);
                tracing::info!("TLS is set up anew: the certificate was due");
            }
            Err(error) => tracing::error!(%error, "TLS could not be set up anew; it stays as it is"),
        }
    }
}
