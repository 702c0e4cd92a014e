//! The one page that Prometheus reads, over plain HTTP/1: `GET /metrics`. It shows names of gateways and counts, and
//! nothing of people, entities or certificates; who can reach the address can read it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::app::App;
use crate::domain::time::Timestamp;
use crate::envoy::{ListenerStatus, Listeners};
use crate::metrics::{ListenerReading, Readings};

/// Connections at once: several scrapers, each with one.
const CONNECTIONS_MAX: usize = 16;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last; a scraper connects again.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);
/// How long to wait when the system has no descriptor to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The only path.
const PATH: &str = "/metrics";
/// OpenMetrics 1.0, which Prometheus reads since 2.5.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the page shows.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) app: Arc<App>,
    pub(super) listeners: Arc<Listeners>,
}

impl Source {
    /// Asks the disk for its room: not for an async task.
    fn render(&self) -> Result<String, std::fmt::Error> {
        let reading = |status: ListenerStatus| ListenerReading {
            gateway: status.gateway.to_string(),
            certificate_ends_s: status.not_after.map_or(0, Timestamp::seconds),
            is_stale: status.is_stale,
            nacks: status.refused,
        };
        let listeners = self.listeners.status().into_iter().map(reading).collect();
        self.app.metrics().render(&Readings { listeners, ..self.app.readings() })
    }
}

/// Serves until the service stops.
pub(super) async fn serve(source: Source, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (source, mut stopped) = (source.clone(), stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => {}
                _ = tokio::time::timeout(CONNECTION_AGE_MAX, answer(source, socket)) => {}
            }
            drop(place);
        });
    }
}

async fn answer(source: Source, socket: TcpStream) {
    let service = service_fn(move |request| {
        let source = source.clone();
        async move { Ok::<_, Infallible>(page(source, request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    // What goes wrong here is the scraper's to notice.
    drop(server.serve_connection(TokioIo::new(socket), service).await);
}

async fn page(source: Source, request: Request<Incoming>) -> Response<String> {
    if request.uri().path() != PATH {
        return text(StatusCode::NOT_FOUND, "the only page is /metrics\n".to_owned());
    }
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed\n".to_owned());
    }
    let read = tokio::task::spawn_blocking(move || source.render()).await;
    let Ok(Ok(metrics)) = read else {
        tracing::error!("the metrics cannot be read");
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the server's log says more\n".to_owned());
    };
    let mut page = Response::new(metrics);
    page.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(OPEN_METRICS));
    page
}

fn text(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response
}
