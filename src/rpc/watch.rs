//! Streams that only look: bounded in number, for each caller and for all, and in life. Whoever does not read one holds
//! a place until its life ends, and nothing else waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::caller::admit;
use super::methods::Access;
use super::parse::{Peer, principal};
use super::places::{Place, Places};
use super::status::status;
use crate::app::{App, Error};

/// Streams of one caller at once: a few terminals.
const EACH_MAX: usize = 8;
/// Streams of all callers at once: every officer's terminals.
const ALL_MAX: usize = 64;
/// How long the last word may wait for a caller that does not read.
const FAREWELL: Duration = Duration::from_secs(5);

/// The streams that are open.
#[derive(Debug)]
pub(super) struct Watches(Arc<Places>);

impl Default for Watches {
    fn default() -> Self {
        Self(Arc::new(Places::new(EACH_MAX, ALL_MAX)))
    }
}

/// What a look found.
#[derive(Debug)]
pub(super) enum Look<T> {
    /// Nothing new.
    Same,
    /// To be sent.
    News(T),
    /// To be sent, and there will be nothing new any more.
    Last(T),
}

/// The answer that a watching method gives.
pub(super) type Stream<T> = ReceiverStream<Result<T, Status>>;

impl Watches {
    /// Begins a stream for the caller of a request.
    pub(super) fn begin<R, T>(
        &self,
        app: &Arc<App>,
        request: &Request<R>,
        access: Access,
    ) -> Result<(Watch<T>, Stream<T>), Status> {
        let place = self.0.enter(principal(request)?).map_err(status)?;
        let (outbox, stream) = mpsc::channel(1);
        let peer = request.extensions().get::<Peer>().cloned();
        let watch = Watch { app: Arc::clone(app), peer, access, outbox, _place: place };
        Ok((watch, ReceiverStream::new(stream)))
    }
}

/// One stream.
pub(super) struct Watch<T> {
    app: Arc<App>,
    peer: Option<Peer>,
    access: Access,
    outbox: mpsc::Sender<Result<T, Status>>,
    _place: Place,
}

impl<T: Send + 'static> Watch<T> {
    /// Looks every so often, until there is nothing more to see, the caller leaves or may no longer call, the service
    /// stops, or the life of the stream ends.
    pub(super) fn run(
        self,
        (every, life): (Duration, Duration),
        look: impl FnMut(&App) -> Look<T> + Send + 'static,
    ) {
        tokio::spawn(async move {
            if let Ok(Err(end)) = tokio::time::timeout(life, self.carry(every, look)).await {
                drop(tokio::time::timeout(FAREWELL, self.outbox.send(Err(end))).await);
            }
        });
    }

    async fn carry(&self, every: Duration, mut look: impl FnMut(&App) -> Look<T>) -> Result<(), Status> {
        let mut looks = tokio::time::interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.outbox.closed() => return Ok(()),
                _ = looks.tick() => {}
            }
            if self.app.feed().is_draining() {
                return Err(status(Error::Unavailable("the service is shutting down".to_owned())));
            }
            // The stream outlives the call that was admitted, so the same question is asked again.
            let certificate = self.peer.as_ref().and_then(|peer| peer.certificate.as_deref());
            admit(&self.app, certificate, self.access).map_err(|error| {
                tracing::warn!(code = error.code(), %error, "a watch ended: the caller may no longer call");
                status(error)
            })?;
            let (found, is_last) = match look(&self.app) {
                Look::Same => continue,
                Look::News(found) => (found, false),
                Look::Last(found) => (found, true),
            };
            if self.outbox.send(Ok(found)).await.is_err() || is_last {
                return Ok(());
            }
        }
    }
}
