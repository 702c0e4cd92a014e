//! The files of the certificates that are pushed to gateways for their listeners: read at the start, and again when they
//! changed. What cannot be used is said and not used: a service that revokes must not fail to start because of them.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::ca::read_key_file;
use crate::config::{self, ListenerFiles};
use crate::domain::id::PrincipalId;
use crate::domain::time::Timestamp;
use crate::env::Clock;
use crate::envoy::Listeners;
use crate::x509::TlsPair;

/// How often it looks: a certificate is renewed days before its end.
const LOOK: Duration = Duration::from_secs(1);
/// The longest file with a chain: 10 certificates of 4 KiB in PEM, with comments.
const CHAIN_FILE_LEN_MAX: u64 = 64 << 10;

/// Looks at all files.
pub(super) struct Watch {
    listeners: Arc<Listeners>,
    clock: Arc<dyn Clock>,
    rows: Vec<Row>,
}

struct Row {
    gateway: PrincipalId,
    files: ListenerFiles,
    /// What was seen at the last look, and what was read last.
    seen: Stamps,
    read: Option<Stamps>,
    /// Why what was read last cannot be used.
    fault: Option<String>,
}

/// The chain's file and the key's; none: there is no such file.
type Stamps = [Option<Stamp>; 2];

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    len: u64,
    mode: u32,
    /// Of its content, and of its mode and owner as well.
    changed: [(i64, i64); 2],
}

impl From<Metadata> for Stamp {
    fn from(file: Metadata) -> Self {
        Self {
            place: (file.dev(), file.ino()),
            len: file.len(),
            mode: file.mode(),
            changed: [(file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec())],
        }
    }
}

fn stamps(files: &ListenerFiles) -> Stamps {
    [&files.chain, &files.key].map(|path| std::fs::metadata(path).ok().map(Stamp::from))
}

impl Watch {
    /// Reads every pair once. Blocks.
    pub(super) fn begin(files: config::Listeners, clock: Arc<dyn Clock>) -> Self {
        let listeners = Arc::new(Listeners::new(files.keys().cloned()));
        let row = |(gateway, files)| Row { gateway, seen: stamps(&files), files, read: None, fault: None };
        let mut watch = Self { listeners, clock, rows: files.into_iter().map(row).collect() };
        watch.look();
        watch
    }

    /// What was read, for who pushes it.
    pub(super) fn listeners(&self) -> Arc<Listeners> {
        Arc::clone(&self.listeners)
    }

    /// Looks until the service stops.
    pub(super) async fn carry(mut self, mut stopped: watch::Receiver<bool>) {
        while !self.rows.is_empty() {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            // A disk of the network may take its time.
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            let Ok(watch) = looked.await else {
                tracing::error!("the files of listeners are not looked at any more");
                return;
            };
            self = watch;
        }
    }

    fn look(&mut self) {
        let now = self.clock.now();
        for row in &mut self.rows {
            row.look(&self.listeners, now);
        }
    }
}

impl Row {
    fn look(&mut self, listeners: &Listeners, now: Timestamp) {
        let stamps = stamps(&self.files);
        // Two files are not replaced at once: what is still changing is looked at again.
        let is_settled = std::mem::replace(&mut self.seen, stamps) == stamps;
        // What could not be used may be usable without a change: a chain that was not valid yet.
        if !is_settled || (self.read == Some(stamps) && self.fault.is_none()) {
            return;
        }
        self.read = Some(stamps);
        match read(&self.files, now) {
            Ok(pair) => {
                tracing::info!(
                    gateway.id = %self.gateway, cert.fingerprint = %pair.fingerprint(), cert.not_after = %pair.not_after(),
                    "the certificate of a gateway's listener was read"
                );
                listeners.replace(&self.gateway, pair);
                self.fault = None;
            }
            Err(why) => {
                if self.fault.as_ref() != Some(&why) {
                    tracing::error!(
                        gateway.id = %self.gateway, why,
                        "the certificate of a gateway's listener cannot be used; what was pushed before stays"
                    );
                }
                listeners.keep(&self.gateway);
                self.fault = Some(why);
            }
        }
    }
}

/// Reads a pair as the service does.
///
/// # Errors
/// Why it cannot be used, with the file.
pub fn read(files: &ListenerFiles, now: Timestamp) -> Result<TlsPair, String> {
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |error: &dyn std::fmt::Display| format!("{path}: {error}")
    };
    let chain = read_chain(&files.chain).map_err(|error| at(&files.chain)(&error))?;
    let key = read_key_file(&files.key).map_err(|error| at(&files.key)(&error))?;
    TlsPair::read(&chain, key, now).map_err(|fault| at(&files.chain)(&fault))
}

fn read_chain(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > CHAIN_FILE_LEN_MAX {
        return Err(std::io::Error::other("not a file of at most 64 KiB"));
    }
    let mut text = Vec::new();
    file.take(CHAIN_FILE_LEN_MAX).read_to_end(&mut text)?;
    Ok(text)
}
