//! The gatekeeper in front of every method: caller, role, rate. Every refusal is logged, once, here, whoever refused.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer, Service};

use super::buckets::{Buckets, Key};
use super::caller::{Who, admit};
use super::frames::Downstream;
use super::methods::method;
use super::parse::Peer;
use super::status::{status, word};
use crate::app::{Admission, App, Error};
use crate::feed::Guard;
use crate::metrics::Stopwatch;

/// Buckets that are kept at once: as many as a thousand strangers a second leave behind, in some ten MiB.
const BUCKETS_MAX: usize = 100_000;
/// Never limited: a probe is one small answer, and a balancer would take one that is refused for a dead service.
const PROBE: &str = "/grpc.health.v1.Health/Check";

/// What a call of something else than a method is counted as.
const NO_METHOD: &str = "none";

/// How many calls one caller may make.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Calls a second, in the long run.
    pub per_s: u32,
    /// Calls at once.
    pub burst: u32,
}

/// Puts a [`Gatekeeper`] in front of a service.
#[derive(Clone)]
pub struct GatekeeperLayer {
    inner: Arc<Shared>,
}

struct Shared {
    app: Arc<App>,
    principals: Rate,
    addresses: Rate,
    buckets: Mutex<Buckets>,
}

impl GatekeeperLayer {
    /// For this service, with these rates for a principal and for an address without a certificate.
    pub fn new(app: Arc<App>, principals: Rate, addresses: Rate) -> Self {
        let buckets = Mutex::new(Buckets::new(BUCKETS_MAX));
        Self { inner: Arc::new(Shared { app, principals, addresses, buckets }) }
    }
}

impl<S> Layer<S> for GatekeeperLayer {
    type Service = Gatekeeper<S>;

    fn layer(&self, service: S) -> Gatekeeper<S> {
        Gatekeeper { shared: Arc::clone(&self.inner), service }
    }
}

/// A service behind the gatekeeper.
#[derive(Clone)]
pub struct Gatekeeper<S> {
    shared: Arc<Shared>,
    service: S,
}

impl Shared {
    /// Counts an answer. A unary error is in the headers; what else begins well is OK.
    fn count(&self, path: &str, answer: &Response<Body>, since: Stopwatch) {
        let code = Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code());
        let method = method(path).map_or(NO_METHOD, |method| method.path);
        self.app.metrics().rpc(method, word(code), since);
    }

    /// For streams that are served outside of this room.
    fn admission(&self, path: &str, who: &Who, peer: Option<&Peer>) -> Option<Admission> {
        let (Who::Principal(id), Some(peer), Some(method)) = (who, peer, method(path)) else { return None };
        let (app, certificate) = (Arc::clone(&self.app), peer.certificate.clone());
        let ask = move || admit(&app, certificate.as_deref(), method.access).map(drop);
        Some(Admission::new(id.clone(), peer.address, ask))
    }

    fn check(&self, path: &str, peer: Option<&Peer>) -> Result<Who, Error> {
        let method = method(path).ok_or_else(|| Error::Denied("there is no such method".to_owned()))?;
        let who = admit(&self.app, peer.and_then(|peer| peer.certificate.as_deref()), method.access)?;
        if path != PROBE {
            let rate = match who {
                Who::Principal(_) => self.principals,
                Who::Subject(_) | Who::Anonymous => self.addresses,
            };
            let key = Key::of(&who, peer.map(|peer| peer.address));
            let mut buckets = self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            buckets.take(key, rate, self.app.clock().boot_ms())?;
        }
        Ok(who)
    }
}

fn is_refusal(status: &Status) -> bool {
    status.code() != Code::Ok
}

/// What somebody tries who may not is worth more attention than a wrong argument.
fn log_refusal((method, caller): (&str, &str), peer: Option<&Peer>, status: &Status) {
    let address = peer.map(|peer| peer.address.to_string());
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let why = status.message();
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::ResourceExhausted | Code::Internal => {
            tracing::warn!(rpc.method = method, caller, peer.address = address, reason, why, "call refused");
        }
        _ => tracing::info!(rpc.method = method, caller, peer.address = address, reason, why, "call refused"),
    }
}

/// A body that keeps its answer in flight until the transport has taken all of it.
struct Guarded {
    body: Body,
    _guard: Arc<Guard>,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<S> Service<Request<Body>> for Gatekeeper<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned();
        let path = request.uri().path().to_owned();
        let since = Stopwatch::start();
        match self.shared.check(&path, peer.as_ref()) {
            Ok(who) => {
                let named = who.to_string();
                if let Some(admission) = self.shared.admission(&path, &who, peer.as_ref()) {
                    request.extensions_mut().insert(admission);
                }
                request.extensions_mut().insert(who);
                // The clone that was polled ready is the one that is called.
                let ready = self.service.clone();
                let mut service = std::mem::replace(&mut self.service, ready);
                let shared = Arc::clone(&self.shared);
                Box::pin(async move {
                    let mut response = service.call(request).await?;
                    if let Some(refusal) = Status::from_header_map(response.headers()).filter(is_refusal) {
                        log_refusal((&path, &named), peer.as_ref(), &refusal);
                    }
                    shared.count(&path, &response, since);
                    // A subscription sends what all of them share.
                    let downstream = response.extensions_mut().remove::<Downstream>();
                    if let Some(frames) = downstream.and_then(Downstream::take) {
                        return Ok(response.map(|_| Body::new(frames)));
                    }
                    // An answer that a barrier waits for is held by its body, which the transport drops when the last
                    // frame is handed over; extensions are dropped as soon as the headers are.
                    Ok(match response.extensions_mut().remove::<Arc<Guard>>() {
                        Some(guard) => response.map(|body| Body::new(Guarded { body, _guard: guard })),
                        None => response,
                    })
                })
            }
            Err(error) => {
                let refusal = status(error);
                log_refusal((&path, "-"), peer.as_ref(), &refusal);
                let refusal = refusal.into_http();
                self.shared.count(&path, &refusal, since);
                Box::pin(async move { Ok(refusal) })
            }
        }
    }
}
