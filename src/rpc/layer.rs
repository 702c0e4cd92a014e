//! The gatekeeper in front of every method: caller, role, limits, deadline. Every refusal is logged, once, here, whoever
//! refused, and every call has a name that its answer carries.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer, Service};

use super::buckets::Key;
use super::caller::{Who, admit, identify, permit};
use super::frames::Downstream;
use super::limits::{Limits, Passed, Rates, check_headers};
use super::methods::{Class, Method, method};
use super::parse::Peer;
use super::places::{Held, Place};
use super::readmit::{REFLECTION, Readmitted};
use super::refusals::{Refusals, Refused};
use super::status::{status, word};
use crate::app::{self, Admission, App, Error, Recorded};
use crate::domain::call::{CallerName, NO_METHOD};
use crate::domain::certificate::{AuthorityKind, Facts};
use crate::domain::id::RequestId;
use crate::feed::Guard;
use crate::metrics::Stopwatch;
use crate::wire::REQUEST_ID;

/// A probe that is answered leaves no line: a balancer makes one every second.
const PROBE: &str = "/grpc.health.v1.Health/Check";
/// How much is read of a call that is refused: more than all but a few messages have.
const REFUSED_LEN_MAX: usize = 64 << 10;
/// And for how long: a message is sent with its headers.
const REFUSED_WAIT: Duration = Duration::from_millis(50);
/// Characters of a path that is no method's, in the audit.
const PATH_LEN_MAX: usize = 100;

/// Puts a [`Gatekeeper`] in front of a service.
#[derive(Clone)]
pub struct GatekeeperLayer {
    inner: Arc<Shared>,
}

struct Shared {
    app: Arc<App>,
    limits: Limits,
    refusals: Refusals,
}

impl GatekeeperLayer {
    /// For this service, with these rates and so many streams of all principals together.
    pub fn new(app: Arc<App>, rates: Rates, streams_max: usize) -> Self {
        let (limits, refusals) = (Limits::new(rates, streams_max), Refusals::default());
        Self { inner: Arc::new(Shared { app, limits, refusals }) }
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

/// One call, for whoever looks for it later.
struct Call {
    id: RequestId,
    /// None: there is no such method.
    method: Option<&'static Method>,
    path: String,
    /// None: nobody was admitted.
    who: Option<Who>,
    peer: Option<Peer>,
    since: Stopwatch,
    /// The record that it made, once it has.
    recorded: Recorded,
}

impl Call {
    /// Who, as the audit names callers. A certificate that was not accepted is named all the same.
    fn caller(&self, app: &App) -> CallerName {
        match (&self.who, self.peer.as_ref().and_then(|peer| peer.certificate.as_deref())) {
            (Some(Who::Principal(id) | Who::Expired(id)), _) => CallerName::Principal(id.clone()),
            (Some(Who::Subject(certificate)), _) => CallerName::Subject(certificate.ordinal),
            (None, Some(der)) => app.read_certificate(der).map_or(CallerName::Nobody, |certificate| {
                let authority = match &certificate.facts {
                    Facts::Access(_) | Facts::Canary(_) => AuthorityKind::Access,
                    Facts::System(_) => AuthorityKind::System,
                };
                CallerName::Refused(authority, certificate.ordinal)
            }),
            (Some(Who::Anonymous), _) | (None, None) => CallerName::Nobody,
        }
    }

    /// As the log names it.
    fn refused(&self, app: &App) -> Refused<'_> {
        Refused {
            method: &self.path,
            id: self.id,
            caller: self.who.as_ref().map_or("-".to_owned(), Who::to_string),
            address: self.peer.as_ref().map(|peer| peer.address),
            key: self.key(app),
        }
    }

    /// By whom its calls are counted.
    fn key(&self, app: &App) -> Key {
        let address = self.peer.as_ref().map(|peer| peer.address);
        match &self.who {
            Some(who) => Key::of(who, address),
            None => match self.caller(app) {
                CallerName::Refused(authority, ordinal) => Key::Refused(authority, ordinal),
                CallerName::Nobody | CallerName::Principal(_) | CallerName::Subject(_) => {
                    Key::of(&Who::Anonymous, address)
                }
            },
        }
    }

    /// From where: a principal is a machine or an officer at work, and its address is told; of anybody else, the network.
    fn address(&self, caller: &CallerName) -> Option<IpAddr> {
        let address = self.peer.as_ref()?.address.to_canonical();
        match caller {
            CallerName::Principal(_) | CallerName::Refused(AuthorityKind::System, _) => Some(address),
            CallerName::Nobody | CallerName::Subject(_) | CallerName::Refused(AuthorityKind::Access, _) => {
                Some(neighbourhood(address))
            }
        }
    }
}

/// The network of an address, too large to name a household.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

/// What a call that may be made has.
struct Admitted {
    class: Class,
    passed: Passed,
}

impl Shared {
    /// May the call be made? It learns who makes it.
    fn check(&self, call: &mut Call, request: &Request<Body>) -> Result<Admitted, Status> {
        let found = method(&call.path);
        call.method = found.map(|(method, _)| method);
        let class = match self.permit(call, found) {
            Ok(class) => class,
            Err(error) => return Err(self.refuse(call, found.map(|(_, class)| class), error)),
        };
        let passed = self.limits.pass(&self.app, call.key(&self.app), class, request.headers())?;
        check_headers(request.headers())?;
        Ok(Admitted { class, passed })
    }

    fn permit(&self, call: &mut Call, found: Option<(&Method, Class)>) -> Result<Class, Error> {
        let (method, class) = found.ok_or_else(|| Error::Denied("there is no such method".to_owned()))?;
        let certificate = call.peer.as_ref().and_then(|peer| peer.certificate.as_deref());
        let who = call.who.insert(identify(&self.app, certificate)?);
        permit(&self.app, who, method.access)?;
        Ok(class)
    }

    /// Why a call may not be made, or only that there are too many like it. Probes are told each time.
    fn refuse(&self, call: &Call, class: Option<Class>, error: Error) -> Status {
        let limit = match class {
            Some(Class::Probe) => None,
            Some(_) | None => self.limits.refuse(&self.app, call.key(&self.app)).err(),
        };
        status(limit.unwrap_or(error))
    }

    /// For streams that are served outside of this room.
    fn admission(&self, call: &Call) -> Option<Admission> {
        let (Some(Who::Principal(id)), Some(peer), Some(method)) = (&call.who, &call.peer, call.method)
        else {
            return None;
        };
        let (app, certificate) = (Arc::clone(&self.app), peer.certificate.clone());
        let ask = move || admit(&app, certificate.as_deref(), method.access).map(drop);
        Some(Admission::new(id.clone(), peer.address, ask))
    }

    /// Counts, logs, keeps and names an answer. A unary error is in the headers; what else begins well is OK.
    fn finish(&self, call: &Call, response: &mut Response<Body>) {
        let refusal = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok);
        let now_ms = self.app.clock().boot_ms();
        if let Some(refusal) = &refusal {
            self.refusals.log(call.refused(&self.app), refusal, now_ms);
        }
        self.refusals.log_left_out(now_ms);
        let code = word(refusal.as_ref().map_or(Code::Ok, Status::code));
        self.app.metrics().rpc(call.method.map_or(NO_METHOD, |method| method.path), code, call.since);
        self.keep(call, code, refusal.as_ref());
        name(call.id, response);
    }
}

impl Shared {
    /// A line in the audit of calls. Probes that are answered say nothing of anybody.
    fn keep(&self, call: &Call, code: &'static str, refusal: Option<&Status>) {
        if refusal.is_none() && call.path == PROBE {
            return;
        }
        let reason = refusal.and_then(|status| status.get_details_error_info()).map(|info| info.reason);
        let caller = call.caller(&self.app);
        let path = || call.path.chars().filter(|c| !c.is_control()).take(PATH_LEN_MAX).collect();
        self.app.note_call(app::Call {
            at: self.app.now(),
            request: call.id,
            method: call.method.map(|method| method.path),
            address: call.address(&caller),
            caller,
            code,
            reason: reason.map_or(Cow::Borrowed(""), Cow::Owned),
            took_us: call.since.micros(),
            seq: call.recorded.seq(),
            detail: call.method.is_none().then(path),
        });
    }
}

/// A call that is being answered. It leaves its line whatever becomes of it: who resets the stream or cuts the connection has
/// called all the same, and so has whose answer never came.
struct Open {
    shared: Arc<Shared>,
    /// None: it left its line.
    call: Option<Call>,
}

impl Open {
    fn finish(mut self, response: &mut Response<Body>) {
        if let Some(call) = self.call.take() {
            self.shared.finish(&call, response);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        let fate = match std::thread::panicking() {
            true => status(Error::Internal("the call was not carried out to its end".to_owned())),
            false => Status::cancelled("the caller is gone"),
        };
        self.shared.finish(&call, &mut fate.into_http());
    }
}

/// Takes the message of a call that is refused, if it comes at once. To answer before it came would reset its stream, and HTTP/2
/// ends a connection with a thousand such streams, together with the subscriptions on it.
async fn take(mut body: Body) {
    let rest = async {
        let mut len = 0;
        while len <= REFUSED_LEN_MAX {
            let frame = poll_fn(|context| http_body::Body::poll_frame(Pin::new(&mut body), context)).await;
            let Some(Ok(frame)) = frame else { return };
            len += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Who has not sent it by then, or sends a stream, is answered all the same.
    drop(tokio::time::timeout(REFUSED_WAIT, rest).await);
}

/// A body that keeps what its answer holds until the transport has taken all of it.
struct Guarded {
    body: Body,
    /// An answer in flight, which a barrier waits for.
    _guard: Option<Arc<Guard>>,
    /// A stream's place.
    _place: Option<Place>,
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

/// The body as the transport gets it, and with what it holds.
fn carried(mut response: Response<Body>, place: Option<Place>) -> Response<Body> {
    // An answer that a barrier waits for is held by its body, which the transport drops when the last frame is handed over;
    // extensions are dropped as soon as the headers are.
    let guard = response.extensions_mut().remove::<Arc<Guard>>();
    // A subscription sends what all of them share.
    let downstream = response.extensions_mut().remove::<Downstream>();
    let response = match downstream.and_then(Downstream::take) {
        Some(frames) => response.map(|_| Body::new(frames)),
        None => response,
    };
    match (&guard, &place) {
        (None, None) => response,
        _ => response.map(|body| Body::new(Guarded { body, _guard: guard, _place: place })),
    }
}

/// Has a service answer until the deadline of the call. What takes something away is finished whoever waits for it: it goes on
/// in a task of its own, also when the caller's deadline passes or its connection ends, and its line says what became of it.
async fn answered<S>(
    mut service: S,
    request: Request<Body>,
    admitted: &Admitted,
    (open, recorded): (Open, Recorded),
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    let time_left = admitted.passed.time_left;
    let called = recorded.during(service.call(request));
    if admitted.class != Class::Restriction {
        let answer = tokio::time::timeout(time_left, called).await;
        let mut answer = answer.unwrap_or_else(|_| Ok(status(Error::Deadline).into_http()))?;
        open.finish(&mut answer);
        return Ok(answer);
    }
    let id = open.call.as_ref().map(|call| call.id);
    let task = tokio::spawn(async move {
        let mut answer = called.await?;
        open.finish(&mut answer);
        Ok(answer)
    });
    let mut early = match tokio::time::timeout(time_left, task).await {
        Ok(Ok(answer)) => return answer,
        Ok(Err(error)) => status(Error::Internal(error.to_string())),
        Err(_) => status(Error::Deadline),
    }
    .into_http();
    if let Some(id) = id {
        name(id, &mut early);
    }
    Ok(early)
}

/// An answer carries the name of its call.
fn name(id: RequestId, response: &mut Response<Body>) {
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
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

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let mut call = Call {
            id: shared.app.new_request(),
            method: None,
            path: request.uri().path().to_owned(),
            who: None,
            peer: request.extensions().get::<Peer>().cloned(),
            since: Stopwatch::start(),
            recorded: Recorded::default(),
        };
        let mut admitted = match shared.check(&mut call, &request) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let mut refusal = refusal.into_http();
                shared.finish(&call, &mut refusal);
                let body = request.into_body();
                return Box::pin(async move {
                    take(body).await;
                    Ok(refusal)
                });
            }
        };
        // A page has its place until its thread is done with it.
        let held = admitted.passed.place.take_if(|_| admitted.class == Class::List).map(Held::from);
        if let Some(held) = &held {
            request.extensions_mut().insert(held.clone());
        }
        let admission = shared.admission(&call);
        if let Some(admission) = &admission {
            request.extensions_mut().insert(admission.clone());
        }
        if let Some(who) = &call.who {
            if let Who::Principal(id) = who {
                request.extensions_mut().insert(app::Asker(id.clone()));
            }
            request.extensions_mut().insert(who.clone());
        }
        // The clone that was polled ready is the one that is called.
        let ready = self.service.clone();
        let service = std::mem::replace(&mut self.service, ready);
        let (is_reflection, recorded) = (call.path == REFLECTION, call.recorded.clone());
        let open = Open { shared, call: Some(call) };
        Box::pin(async move {
            let response = answered(service, request, &admitted, (open, recorded)).await?;
            // A page is made; a stream goes on.
            drop(held);
            let place = admitted.passed.place.take().filter(|_| admitted.class == Class::Stream);
            let response = carried(response, place);
            Ok(match admission.filter(|_| is_reflection) {
                Some(admission) => response.map(|body| Body::new(Readmitted::new(body, admission))),
                None => response,
            })
        })
    }
}
