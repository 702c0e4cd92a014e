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
use tokio::time::MissedTickBehavior;

use super::ServerError;
use super::keys::{is_due, server_credential};
use super::own_key::OwnKey;
use super::tls::server_config;
use crate::app::App;
use crate::domain::id::AuthorityId;
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

/// What the listener shows in its handshakes.
#[derive(Clone)]
pub(super) struct Offered {
    /// TLS with a certificate.
    pub(super) config: Arc<ServerConfig>,
    /// Whose certificate it is; none: it cannot be read.
    issuer: Option<AuthorityId>,
}

impl Offered {
    /// Is its authority trusted, as of the record?
    pub(super) fn holds(&self, app: &App) -> bool {
        self.issuer.is_none_or(|issuer| app.state().enforcement.is_trusted(&issuer))
    }
}

/// What the listener shows, and the task that replaces it. Connections that are open keep theirs; whether their
/// callers may call is asked at each call.
pub(super) type Reloaded = (watch::Receiver<Offered>, JoinHandle<()>);

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
    let (offered, shown) = made(app, &source, may_issue).await?;
    let (sender, receiver) = watch::channel(offered);
    let task = tokio::spawn(follow(Arc::clone(app), (source, shown), sender, stopped));
    Ok((receiver, task))
}

/// The leaf that is shown, and what is shown with it.
struct Shown {
    leaf: Vec<u8>,
    above: Vec<Vec<u8>>,
}

impl Shown {
    /// Another cross-certificate is on record, or one is gone.
    fn is_changed(&self, app: &App) -> bool {
        app.above(&self.leaf) != self.above
    }
}

async fn made(app: &Arc<App>, source: &Source, may_issue: bool) -> Result<(Offered, Shown), ServerError> {
    let credential = server_credential(app, source, may_issue).await?;
    let leaf = credential.certificate.clone();
    let above = app.above(&leaf);
    let issuer = app.read_certificate(&leaf).ok().map(|certificate| certificate.issuer);
    let config = server_config(app, credential, &above)?;
    Ok((Offered { config, issuer }, Shown { leaf, above }))
}

async fn follow(
    app: Arc<App>,
    (source, mut shown): (Source, Shown),
    offered: watch::Sender<Offered>,
    mut stopped: watch::Receiver<bool>,
) {
    let (mut wait, mut news): (u32, _) = (0, app.feed().news());
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => wait = wait.saturating_sub(1),
            // Handshakes wait for another certificate when the authority of this one is revoked. Other news wait for the next look.
            _ = news.changed() => if offered.borrow().holds(&app) { continue } else { wait = 0 },
        }
        let is_due = wait == 0 && is_due(&app, &source);
        if is_due {
            wait = RETRY_TICKS;
        }
        if !is_due && !shown.is_changed(&app) {
            continue;
        }
        match made(&app, &source, is_due).await {
            Ok((new, now)) => {
                offered.send_replace(new);
                tracing::info!(
                    "TLS is set up anew: the certificate was due, or another chain leads up from it"
                );
                // The next authority may follow within a minute; what could not be had is not asked for each second.
                if now.leaf != shown.leaf {
                    wait = 0;
                }
                shown = now;
            }
            Err(error) => {
                tracing::error!(%error, "TLS could not be set up anew; it stays as it is");
                // Said once, not each second.
                shown.above = app.above(&shown.leaf);
            }
        }
    }
}
