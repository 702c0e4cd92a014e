//! Revocation lists over plain HTTP/1.1: `GET` and `HEAD` of `/crl/AUTHORITY/SHARD.crl`, with the headers that caches need.
//!
//! Lists are public and signed, so nobody shows who they are, and nothing else is answered here. One request a
//! connection: whoever fetches a list comes back in half an hour.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, EXPIRES, HeaderMap, HeaderName,
    HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RETRY_AFTER,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::app::{App, Error, PublishedCrl};
use crate::domain::time::Timestamp;
use crate::x509::profile::read_crl_path;

/// Connections open at once; further ones wait in the kernel's queue. A cache in front needs a few.
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to send its request: slow ones cannot hold a place.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection lasts: half a megabyte over a slow line, after a wait for the index.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long answers under way may take to end when the service stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes and lines of a request's head: a real one has less than a tenth; hyper buffers no less than 8 KiB.
const HEAD_LEN_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 32;
/// How long to wait when the system has no descriptor to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The last second that an HTTP date can say.
const YEAR_9999_S: i64 = 253_402_300_799;
/// When to come back after 503.
const RETRY_AFTER_S: &str = "1";

/// Answers until the service stops.
pub(super) async fn serve(listener: TcpListener, app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let open = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(room) = Arc::clone(&open).acquire_owned().await else { return };
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, address)) => {
                connections.spawn(connection(socket, address, Arc::clone(&app), room));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while let Some(ended) = connections.try_join_next() {
            joined(ended);
        }
    }
    let all = async {
        while let Some(ended) = connections.join_next().await {
            joined(ended);
        }
    };
    drop(tokio::time::timeout(STOP_TIMEOUT, all).await);
    connections.shutdown().await;
}

fn joined(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an answer of a revocation list ended in a panic");
    }
}

/// One connection, which is one request.
async fn connection(socket: TcpStream, address: SocketAddr, app: Arc<App>, room: OwnedSemaphorePermit) {
    let _room = room;
    let answer = service_fn(|request: Request<Incoming>| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(answer(&app, &request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(HEAD_LEN_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(socket), answer);
    match tokio::time::timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(peer.address = %address.ip(), %error, "a revocation list was not fetched");
        }
        Err(_) => tracing::debug!(peer.address = %address.ip(), "fetching a revocation list took too long"),
    }
}

async fn answer(app: &Arc<App>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let now = app.now();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, now);
        set(&mut refused, ALLOW, "GET, HEAD");
        return refused;
    }
    let Some((authority, shard)) = request.uri().path().strip_prefix("/crl").and_then(read_crl_path) else {
        return plain(StatusCode::NOT_FOUND, now);
    };
    match app.crl(authority, shard).await {
        Ok(Some(list)) => of_list(&list, request, now),
        Ok(None) => plain(StatusCode::NOT_FOUND, now),
        Err(error) => {
            match error {
                Error::Unavailable(_) | Error::Limit { .. } => {
                    // Anybody can ask; what is wrong is logged where it is found.
                    tracing::debug!(%error, "no revocation list is given");
                }
                _ => tracing::error!(%error, "no revocation list is given"),
            }
            let mut later = plain(StatusCode::SERVICE_UNAVAILABLE, now);
            set(&mut later, RETRY_AFTER, RETRY_AFTER_S);
            later
        }
    }
}

/// The list, or that the client has it already (RFC 9110 section 13.2.2: the tag before the time).
fn of_list(list: &PublishedCrl, request: &Request<Incoming>, now: Timestamp) -> Response<Full<Bytes>> {
    let tag = format!("\"{}\"", list.number);
    let has_it = match tags(request.headers()) {
        Some(tags) => tags.iter().any(|known| known == "*" || *known == tag),
        None => list.is_dated && since(request.headers()).is_some_and(|at| at >= system_time(list.signed_at)),
    };
    let mut response = if has_it {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        let body = if request.method() == Method::HEAD { Bytes::new() } else { list.der.clone() };
        let mut found = Response::new(Full::new(body));
        set(&mut found, CONTENT_TYPE, "application/pkix-crl");
        set(&mut found, CONTENT_LENGTH, &list.der.len().to_string());
        found
    };
    let age_s = (list.next_update.seconds() - now.seconds()).max(0);
    set(&mut response, ETAG, &tag);
    set(&mut response, LAST_MODIFIED, &date(list.signed_at));
    set(&mut response, EXPIRES, &date(list.next_update));
    set(&mut response, CACHE_CONTROL, &format!("public, max-age={age_s}"));
    set(&mut response, DATE, &date(now));
    response
}

/// The tags that the client names, none if it names none. The comparison is the weak one (RFC 9110 section 13.1.2).
fn tags(headers: &HeaderMap) -> Option<Vec<String>> {
    let mut lines = headers.get_all(IF_NONE_MATCH).iter().peekable();
    lines.peek()?;
    let tags = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let tag = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    Some(tags.map(tag).collect())
}

fn since(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(IF_MODIFIED_SINCE)?.to_str().ok()?).ok()
}

/// An answer without a list, which no cache keeps.
fn plain(status: StatusCode, now: Timestamp) -> Response<Full<Bytes>> {
    let mut response = empty(status);
    set(&mut response, CONTENT_LENGTH, "0");
    set(&mut response, CACHE_CONTROL, "no-store");
    set(&mut response, DATE, &date(now));
    response
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn set(response: &mut Response<Full<Bytes>>, name: HeaderName, value: &str) {
    // Every value is printable ASCII; another one would leave its header away.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn date(at: Timestamp) -> String {
    httpdate::fmt_http_date(system_time(at))
}

fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at.seconds().clamp(0, YEAR_9999_S).unsigned_abs())
}
