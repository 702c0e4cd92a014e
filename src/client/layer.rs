//! A tower layer in front of a model's service: decides each request, answers what is denied, and cuts the answer of what
//! is denied while it is under way.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tonic::codegen::http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE, request::Parts,
};
use tower::{Layer, Service};

use super::connections::{Barred, Connection, Connections};
use super::gate::{Gate, Shared};
use super::question::Question;
use super::tls::PeerLeaf;
use crate::domain::decision::Denial;
use crate::domain::enforce::Position;

/// The code of a denial: the same header that the service sends through Envoy.
const CODE_HEADER: HeaderName = HeaderName::from_static("x-countersign-code");
/// The code of an upgrade that is refused: no decision about a model.
const UPGRADE_REFUSED: HeaderValue = HeaderValue::from_static("UPGRADE_REFUSED");
const GRPC: &str = "application/grpc";
/// Status codes of gRPC.
const GRPC_PERMISSION_DENIED: HeaderValue = HeaderValue::from_static("7");
const GRPC_UNAVAILABLE: HeaderValue = HeaderValue::from_static("14");

type Code = Cow<'static, str>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a request was permitted on: an extension of requests that pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// The state of the world that was judged.
    pub as_of: Position,
    /// When it ends at the latest, on this machine's boot clock, in milliseconds. The layer cuts the answer by itself.
    pub good_until_boot_ms: Option<u64>,
}

/// Decides requests. `question` says what a request asks, from its route and from what a trusted edge added, never from
/// what only the client says; none: it is denied as a request for no model.
///
/// What leaves HTTP cannot be cut: an answer that upgrades the connection (101, or 2xx to CONNECT, such as a WebSocket) is
/// replaced by 501 with the code `UPGRADE_REFUSED`.
///
/// The certificate is the extension [`PeerLeaf`] of the request, or that of [`GateService::of_peer`].
#[derive(Clone)]
pub struct GateLayer<F> {
    gate: Decider,
    question: F,
}

/// The part of a gate that decides. Cheap to clone; the gate itself keeps the subscription.
#[derive(Clone)]
struct Decider {
    shared: Arc<Shared>,
    connections: Connections,
}

impl<F> GateLayer<F> {
    /// A layer that decides with this gate, which must be kept: when it is dropped everything is denied.
    pub fn new(gate: &Gate, question: F) -> Self {
        let (shared, connections) = (Arc::clone(&gate.shared), gate.connections());
        Self { gate: Decider { shared, connections }, question }
    }
}

impl<S, F: Clone> Layer<S> for GateLayer<F> {
    type Service = GateService<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        GateService { inner, gate: self.gate.clone(), question: self.question.clone(), peer: None }
    }
}

/// A service behind a [`GateLayer`].
#[derive(Clone)]
pub struct GateService<S, F> {
    inner: S,
    gate: Decider,
    question: F,
    peer: Option<PeerLeaf>,
}

impl<S, F> GateService<S, F> {
    /// The same service for the requests of one connection.
    #[must_use]
    pub fn of_peer(self, leaf: PeerLeaf) -> Self {
        Self { peer: Some(leaf), ..self }
    }
}

impl<S, F, In, Out> Service<Request<In>> for GateService<S, F>
where
    S: Service<Request<In>, Response = Response<Out>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    F: Fn(&Parts) -> Option<Question>,
    In: Send + 'static,
    Out: Body + Default + Send + 'static,
{
    type Response = Response<GateBody<Out>>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        // The one that is ready is called; its clone takes its place.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let (mut parts, body) = request.into_parts();
        let leaf = self.peer.clone().or_else(|| parts.extensions.get::<PeerLeaf>().cloned());
        let question = (self.question)(&parts);
        let is_grpc =
            parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()));
        let (gate, method) = (self.gate.clone(), parts.method.clone());
        Box::pin(async move {
            let (permit, stream) = match gate.admit(leaf, question).await {
                Ok(admitted) => admitted,
                Err(code) => return Ok(denied(&code, is_grpc)),
            };
            parts.extensions.insert(permit);
            let answer = tokio::select! {
                biased;
                code = stream.denied() => return Ok(denied(code, is_grpc)),
                answer = inner.call(Request::from_parts(parts, body)) => answer?,
            };
            if is_upgrade(&method, answer.status()) {
                return Ok(upgrade_refused());
            }
            Ok(answer.map(|inner| GateBody::of(inner, stream, &gate.shared.runtime)))
        })
    }
}

impl Decider {
    /// Decides, asks the server where it must, and registers the answer that is to come.
    async fn admit(
        &self,
        leaf: Option<PeerLeaf>,
        question: Option<Question>,
    ) -> Result<(Permit, Connection), Code> {
        let PeerLeaf(leaf) = leaf.ok_or(Code::from(Denial::CredentialInvalid.as_str()))?;
        let question = question.ok_or(Code::from(Denial::ModelUnknown.as_str()))?;
        let (answer, stream) = self.shared.admit(&self.connections, &leaf, question).await?;
        Ok((Permit { as_of: answer.as_of, good_until_boot_ms: answer.good_until_boot_ms }, stream))
    }
}

/// Could nobody decide? Then it is worth asking again.
fn is_unavailable(code: &str) -> bool {
    let faults =
        [Denial::StaleView, Denial::StateUnavailable, Denial::ClockUntrusted, Denial::ServerNotAsked];
    faults.iter().any(|fault| fault.as_str() == code)
}

/// The answer to what is denied: 403, 503 when nobody could decide, or the status of gRPC.
fn denied<B: Default>(code: &str, is_grpc: bool) -> Response<GateBody<B>> {
    let mut response = Response::new(GateBody::default());
    // A code of the server that no header can carry is not shown.
    let shown = HeaderValue::from_str(code).unwrap_or(HeaderValue::from_static(""));
    response.headers_mut().insert(CODE_HEADER, shown.clone());
    if is_grpc {
        let status = if is_unavailable(code) { GRPC_UNAVAILABLE } else { GRPC_PERMISSION_DENIED };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
        headers.insert(HeaderName::from_static("grpc-status"), status);
        headers.insert(HeaderName::from_static("grpc-message"), shown);
    } else {
        let status =
            if is_unavailable(code) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::FORBIDDEN };
        *response.status_mut() = status;
    }
    response
}

/// What follows such an answer is no body, and could not be cut (RFC 9110 sections 7.8 and 9.3.6, RFC 8441).
fn is_upgrade(method: &Method, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (method == Method::CONNECT && status.is_success())
}

fn upgrade_refused<B: Default>() -> Response<GateBody<B>> {
    let mut response = Response::new(GateBody::default());
    *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
    response.headers_mut().insert(CODE_HEADER, UPGRADE_REFUSED);
    response
}

/// The body of an answer, which ends with an error when its holder is denied. Then it lets go of what it streams from,
/// whether or not anybody polls it: a client that does not read holds no acknowledgement back.
pub struct GateBody<B> {
    source: Source<B>,
}

enum Source<B> {
    /// Of a denial.
    Unwatched(Pin<Box<B>>),
    Watched(Watched<B>),
    /// It was cut, and said so.
    Cut,
}

struct Watched<B> {
    /// None: it was cut.
    open: Arc<Mutex<Option<Open<B>>>>,
    denied: Pin<Box<dyn Future<Output = &'static str> + Send>>,
    watch: AbortHandle,
}

struct Open<B> {
    // In this order: what it streams from is let go before it is said to be.
    inner: Pin<Box<B>>,
    _stream: Connection,
}

fn lock<B>(open: &Mutex<Option<Open<B>>>) -> MutexGuard<'_, Option<Open<B>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets go of it, outside of the lock.
fn cut<B>(open: &Mutex<Option<Open<B>>>) {
    let open = lock(open).take();
    drop(open);
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl<B: Default> Default for GateBody<B> {
    fn default() -> Self {
        Self { source: Source::Unwatched(Box::pin(B::default())) }
    }
}

impl<B: Send + 'static> GateBody<B> {
    fn of(inner: B, stream: Connection, runtime: &Handle) -> Self {
        let (signal, watched) = (stream.signal(), stream.signal());
        let open = Arc::new(Mutex::new(Some(Open { inner: Box::pin(inner), _stream: stream })));
        let weak = Arc::downgrade(&open);
        // Beside the polls: a server does not poll a body while the client gives it no window (RFC 9113 section 5.2).
        let watch = runtime.spawn(async move {
            watched.wait().await;
            if let Some(open) = weak.upgrade() {
                cut(&open);
            }
        });
        let denied = Box::pin(async move { signal.wait().await });
        Self { source: Source::Watched(Watched { open, denied, watch: watch.abort_handle() }) }
    }
}

impl<B> Body for GateBody<B>
where
    B: Body,
    B::Data: Buf,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        if let Source::Watched(watched) = &mut self.source
            && let Poll::Ready(code) = watched.denied.as_mut().poll(context)
        {
            cut(&watched.open);
            self.source = Source::Cut;
            return Poll::Ready(Some(Err(Box::new(Barred(code)))));
        }
        match &mut self.source {
            Source::Unwatched(inner) => inner.as_mut().poll_frame(context).map_err(Into::into),
            Source::Watched(watched) => match lock(&watched.open).as_mut() {
                Some(open) => open.inner.as_mut().poll_frame(context).map_err(Into::into),
                // Cut since the look above, which is told then.
                None => Poll::Pending,
            },
            Source::Cut => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Unwatched(inner) => inner.is_end_stream(),
            Source::Watched(watched) => {
                lock(&watched.open).as_ref().is_some_and(|open| open.inner.is_end_stream())
            }
            Source::Cut => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Unwatched(inner) => inner.size_hint(),
            Source::Watched(watched) => {
                lock(&watched.open).as_ref().map(|open| open.inner.size_hint()).unwrap_or_default()
            }
            Source::Cut => SizeHint::with_exact(0),
        }
    }
}
