//! `/authz`: the proxy asks here for each request, as nginx `auth_request` and other proxies' forward-auth do. 204 lets it
//! through, 403 denies it with a reason, 503 says that nobody can decide now.
//!
//! Who asks is believed to be the proxy, so nothing but a loopback address or a Unix socket is listened on.

use std::convert::Infallible;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::enforcer::Enforcer;
use super::probe::{Flights, PROBE_HEADER};
use crate::client::Answer;
use crate::config::agent::{AuthzConfig, LocalAddress};
use crate::domain::decision::Denial;
use crate::envoy::asked::{Asked, CODE_HEADER, body, is_outage, leaf};

/// Connections open at once: a proxy keeps some for each of its workers. Further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1_024;
/// How long a proxy may take to send a head, and how long a connection may be idle before its next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long an answer may take: asking the service takes two seconds at most.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes and lines of a head: a certificate in PEM, URL-encoded, beside everything that a browser sends.
const HEAD_LEN_MAX: usize = 128 * 1024;
const HEADERS_MAX: usize = 128;
/// How long to wait when the system has no descriptor to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The socket is for the agent's user and group: the proxy's workers must be in it.
const SOCKET_MODE: u32 = 0o660;

/// What answers.
pub(super) struct Endpoint {
    pub(super) enforcer: Arc<Enforcer>,
    pub(super) flights: Arc<Flights>,
    pub(super) config: AuthzConfig,
}

/// What listens.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Begins to listen.
    pub(super) async fn bind(address: &LocalAddress) -> std::io::Result<Self> {
        match address {
            LocalAddress::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            LocalAddress::Unix(path) => {
                remove_left_over(path).await?;
                let listener = UnixListener::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
                Ok(Self::Unix(listener))
            }
        }
    }

    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Box::new(stream) as _),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A socket that a killed agent left behind; one that somebody answers on is in use.
async fn remove_left_over(path: &Path) -> std::io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() || UnixStream::connect(path).await.is_ok() {
        return Err(std::io::Error::from(std::io::ErrorKind::AddrInUse));
    }
    std::fs::remove_file(path)
}

/// Answers until the agent stops.
pub(super) async fn serve(listener: Listener, endpoint: Arc<Endpoint>, mut stopped: watch::Receiver<bool>) {
    let open = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(room) = Arc::clone(&open).acquire_owned().await else { return };
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                connections.spawn(connection(stream, Arc::clone(&endpoint), room));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection of the proxy was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while let Some(ended) = connections.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "an answer to the proxy ended in a panic");
            }
        }
    }
    connections.shutdown().await;
}

async fn connection(stream: Box<dyn Stream>, endpoint: Arc<Endpoint>, room: OwnedSemaphorePermit) {
    let _room = room;
    let answer = service_fn(|request: Request<Incoming>| {
        let endpoint = Arc::clone(&endpoint);
        async move {
            let answered = tokio::time::timeout(ANSWER_TIMEOUT, endpoint.answer(&request)).await;
            let late =
                |_| denied(StatusCode::SERVICE_UNAVAILABLE, Denial::ServerNotAsked.as_str(), Bytes::new());
            Ok::<_, Infallible>(answered.unwrap_or_else(late))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LEN_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection of the proxy ended");
    }
}

impl Endpoint {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != "/authz" {
            return plain(StatusCode::NOT_FOUND);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED);
        }
        let headers = request.headers();
        let certificate = single(headers, &self.config.certificate_header).and_then(leaf).unwrap_or_default();
        let asked = self.asked(headers);
        let Some(answer) = self.enforcer.decide(&certificate, &asked.request()).await else {
            return denied(StatusCode::SERVICE_UNAVAILABLE, Denial::StateUnavailable.as_str(), Bytes::new());
        };
        if let Some(probe) = single(headers, PROBE_HEADER).filter(|_| !answer.is_permit) {
            self.flights.arrived(probe);
        }
        respond(&answer)
    }

    fn asked(&self, headers: &HeaderMap) -> Asked {
        let config = &self.config;
        let header = |name: &Option<String>| single(headers, name.as_ref()?).map(str::to_owned);
        Asked {
            model: header(&config.model_header).or_else(|| config.model.clone()),
            access_form: config.access_form.clone(),
            place: header(&config.place_header),
            serving_region: config.serving_region.clone(),
            purpose: config.purpose.clone(),
        }
    }
}

/// The value of a header that is there once. Twice means that the proxy did not take the client's own away.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok().filter(|value| !value.is_empty())
}

fn respond(answer: &Answer) -> Response<Full<Bytes>> {
    if answer.is_permit {
        let mut permitted = plain(StatusCode::NO_CONTENT);
        set(&mut permitted, HeaderName::from_static(CODE_HEADER), &answer.code);
        return permitted;
    }
    let outage = answer.code.parse::<Denial>().is_ok_and(is_outage);
    let status = if outage { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::FORBIDDEN };
    let text = body(&answer.code, &answer.legal, None, &answer.explanation);
    denied(status, &answer.code, Bytes::from(text))
}

fn denied(status: StatusCode, code: &str, text: Bytes) -> Response<Full<Bytes>> {
    let mut response = plain(status);
    *response.body_mut() = Full::new(text);
    set(&mut response, HeaderName::from_static(CODE_HEADER), code);
    set(&mut response, CONTENT_TYPE, "application/json");
    response
}

/// An answer that no cache keeps.
fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    set(&mut response, CACHE_CONTROL, "no-store");
    response
}

fn set(response: &mut Response<Full<Bytes>>, name: HeaderName, value: &str) {
    // Every value is printable ASCII; another one would leave its header away.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_there_twice_is_not_believed() {
        let mut headers = HeaderMap::new();
        headers.append("x-model", HeaderValue::from_static("mythos-5"));
        assert_eq!(single(&headers, "x-model"), Some("mythos-5"));
        headers.append("x-model", HeaderValue::from_static("fable-5"));
        assert_eq!(single(&headers, "x-model"), None);
        assert_eq!(single(&headers, "x-place"), None);
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("authz.sock");
        let address = LocalAddress::Unix(path.clone());
        let first = Listener::bind(&address).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(Listener::bind(&address).await.is_err(), "somebody answers there");
        drop(first);
        assert!(Listener::bind(&address).await.is_ok(), "nobody answers there");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a file").unwrap();
        assert!(Listener::bind(&address).await.is_err(), "no file is removed");
    }
}
