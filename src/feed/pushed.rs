//! A stream that is pushed trust sets, as a participant of barriers. It enforces a record when it acknowledged a set that
//! says so; when it does not, it is closed as soon as the newest leased set that it was sent has run out.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Feed, OpenFault, Shared};
use crate::domain::enforce::message::Nack;
use crate::domain::enforce::{About, SessionKey};
use crate::domain::id::Seq;
use crate::domain::principal::Role;

/// One stream. Dropping it ends it.
pub struct PushedSession {
    shared: Arc<Shared>,
    news: watch::Receiver<u64>,
    key: SessionKey,
    connection: u64,
}

impl Feed {
    /// Begins a session of a stream, which is named by its gateway's verified certificate and a run that nobody else has.
    ///
    /// # Errors
    /// It is not a gateway's, or there are too many.
    pub fn open_pushed(&self, key: SessionKey, mut about: About) -> Result<PushedSession, OpenFault> {
        let shared = Arc::clone(&self.shared);
        let news = shared.news.subscribe();
        let now_ms = shared.clock.boot_ms();
        let mut inner = shared.lock();
        let principal = inner.state.acting(&key.0).filter(|p| p.has(Role::Gateway));
        let is_pausable = principal.map(|principal| principal.is_pausable);
        about.strength.pausable |= is_pausable.ok_or_else(|| OpenFault::NotAGateway(key.0.clone()))?;
        inner.forget(now_ms);
        let connection = inner.roster.enter_pushed(key.clone(), about)?;
        inner.counts.opened += 1;
        drop(inner);
        Ok(PushedSession { shared, news, key, connection })
    }
}

impl PushedSession {
    /// Waits until sets may say something else.
    pub async fn news(&mut self) {
        // The sender lives in `shared`, so the channel is never closed.
        drop(self.news.changed().await);
    }

    /// May a leased set that was signed at `signed_ms` of the boot clock, as of this record, be sent now? Its lease is
    /// then on record. No while no lease is granted, and when there is a record that it does not know.
    pub fn lease(&self, as_of: Seq, signed_ms: u64) -> bool {
        let mut inner = self.shared.lock();
        let changed = inner.state.feed_seq;
        let may =
            inner.grants() && inner.roster.push((&self.key, self.connection), (as_of, signed_ms), changed);
        match may {
            true => inner.counts.pongs += 1,
            false => inner.counts.refused_pings += 1,
        }
        may
    }

    /// It enforces every record up to this one, as far as lists can say it.
    pub fn ack(&self, as_of: Seq) {
        let now_ms = self.shared.clock.boot_ms();
        let mut inner = self.shared.lock();
        inner.roster.ack(&self.key, self.connection, as_of);
        inner.roster.note_drill(&self.key, now_ms);
        drop(inner);
        self.shared.wake_barriers();
    }

    /// It refused a set.
    pub fn nack(&self, nack: Nack) {
        let now = self.shared.clock.now();
        let mut inner = self.shared.lock();
        inner.counts.nacks += 1;
        inner.roster.nack(&self.key, self.connection, nack, now);
    }
}

impl Drop for PushedSession {
    fn drop(&mut self) {
        self.shared.lock().roster.leave(&self.key, self.connection);
        self.shared.wake_barriers();
    }
}
