//! Secret discovery (SDS): an Envoy asks for a validation context by name, and is sent a new one whenever what it says
//! changes or half of its life is over. What it acknowledges it enforces for every handshake that begins afterwards; what
//! it is sent runs out by itself.

mod dialect;
mod ledger;
mod name;
mod node;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{CertificateValidationContext, Secret};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use self::dialect::{Delta, Dialect, Sent, Sotw, TYPE_URL};
use self::ledger::{Fault, Heard, Ledger};
use self::name::Name;
use self::node::Promises;
use crate::app::{Admission, App, CrlNumber, Error, Term, TrustSet};
use crate::domain::certificate::{CanaryFacts, CanarySide, Serial};
use crate::domain::enforce::message::{NACK_DETAIL_LEN_MAX, Nack, NackCode};
use crate::domain::id::{PrincipalId, Seq};
use crate::domain::state::State;
use crate::feed::{OpenFault, PushedSession};

/// The longest request: a node with its extensions is some 60 KiB.
const REQUEST_LEN_MAX: usize = 256 << 10;
/// Responses that wait for the transport.
const OUTBOX_LEN: usize = 1;
/// How often a stream's caller is looked at again.
const ADMIT_INTERVAL: Duration = Duration::from_secs(1);
/// The longest pause between two looks at the sets, and the one after a look that found none.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// The shortest one.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// How long the last word may wait for a consumer that does not read.
const FAREWELL: Duration = Duration::from_secs(5);

/// The service.
#[derive(Clone)]
pub struct Secrets {
    app: Arc<App>,
    /// The last secret of each name without a canary: encoded once for all streams.
    encoded: Arc<Mutex<BTreeMap<Name, (CrlNumber, Any)>>>,
}

impl Secrets {
    /// The gRPC service for a server.
    pub fn service(app: &Arc<App>) -> SecretDiscoveryServiceServer<Self> {
        let service = Self { app: Arc::clone(app), encoded: Arc::default() };
        SecretDiscoveryServiceServer::new(service).max_decoding_message_size(REQUEST_LEN_MAX)
    }

    fn secret(&self, name: Name, set: &TrustSet) -> Any {
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, secret)) = encoded.get(&name).filter(|(number, _)| *number == set.number) {
            return secret.clone();
        }
        let secret = secret(name, set);
        if !name.has_canary {
            encoded.insert(name, (set.number, secret.clone()));
        }
        secret
    }

    async fn open<D: Dialect>(
        &self,
        request: Request<Streaming<D::Request>>,
    ) -> Result<Response<Answers<D::Response>>, Status> {
        let admission = admission(&request)?;
        let mut inbox = request.into_inner();
        // What is promised stands in the first message, and in no other.
        let first = inbox.message().await?.ok_or_else(|| Status::invalid_argument("no request"))?;
        let (node, type_url, heard) = D::hear(first);
        let node = node.unwrap_or_default();
        let promises = Promises::of(&node);
        let gateway = admission.principal().clone();
        let about = promises.about(&node, (admission.address(), self.app.now()));
        let session = self.app.feed().open_pushed((gateway.clone(), self.app.new_run()), about);
        let session = session.map_err(|fault| refuse(&fault))?;
        let state = self.app.state();
        let is_pausable = state.principal(&gateway).is_some_and(|principal| principal.is_pausable);
        let (outbox, stream) = mpsc::channel(OUTBOX_LEN);
        let mut line = Line {
            secrets: self.clone(),
            may_lease: promises.has_clock || is_pausable,
            admission,
            session,
            ledger: Ledger::default(),
            acked: Seq(0),
        };
        line.hear(&type_url, heard)?;
        tokio::spawn(async move {
            // The session is over by then; who does not read gets no more than the end of the stream.
            if let Err(end) = line.carry::<D>(inbox, &outbox).await {
                tracing::info!(gateway.id = %gateway, why = end.message(), "secret stream ended by the service");
                drop(tokio::time::timeout(FAREWELL, outbox.send(Err(end))).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

type Outbox<D> = mpsc::Sender<Result<<D as Dialect>::Response, Status>>;
type Answers<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Secrets {
    type StreamSecretsStream = Answers<DiscoveryResponse>;
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        self.open::<Sotw>(request).await
    }

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        self.open::<Delta>(request).await
    }

    /// Once, without a promise: what is leased is pushed only, because nobody would know who holds it.
    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let (_, type_url, heard) = Sotw::hear(request.into_inner());
        check_type(&type_url)?;
        let mut ledger = Ledger::default();
        let exists = |name: Name| name == Name { term: Term::Unleased, has_canary: false };
        ledger.hear(Heard { answer: None, ..heard }, exists).map_err(end)?;
        let name = ledger.names().next().ok_or_else(|| {
            Status::not_found("there is no such secret to fetch; leased ones are pushed on a stream")
        })?;
        let set = self
            .app
            .trust_set(name.term, None)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let sent =
            Sent { name: name.to_string(), version: set.number.to_string(), secret: self.secret(name, &set) };
        Sotw::speak(vec![sent], Vec::new(), String::new())
            .map(Response::new)
            .ok_or_else(|| Status::internal("a response without a secret"))
    }
}

/// The two canaries of a gateway, if it has them.
fn canaries(state: &State, gateway: &PrincipalId) -> Option<[Serial; 2]> {
    let of = |side| {
        let canary = state.canaries.get(&CanaryFacts { gateway: gateway.clone(), side })?;
        Some(canary.serial)
    };
    Some([of(CanarySide::A)?, of(CanarySide::B)?])
}

fn admission<T>(request: &Request<T>) -> Result<Admission, Status> {
    let admission = request.extensions().get::<Admission>().cloned();
    admission.ok_or_else(|| Status::unauthenticated("a gateway's certificate is needed"))
}

fn refuse(fault: &OpenFault) -> Status {
    match fault {
        OpenFault::NotAGateway(_) => Status::permission_denied(fault.to_string()),
        OpenFault::TooManySessions => Status::resource_exhausted(fault.to_string()),
        OpenFault::BadClaim | OpenFault::RolledBack(_) | OpenFault::NotRegisteredPausable(_) => {
            Status::unavailable(fault.to_string())
        }
    }
}

fn end(fault: Fault) -> Status {
    match fault {
        Fault::TooMuch | Fault::UnknownNonce => Status::invalid_argument(fault.to_string()),
        Fault::Dropped => Status::aborted(fault.to_string()),
    }
}

fn check_type(type_url: &str) -> Result<(), Status> {
    // In a service of one type it may be left out.
    match type_url.is_empty() || type_url == TYPE_URL {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!("only {TYPE_URL} is served here"))),
    }
}

fn secret(name: Name, set: &TrustSet) -> Any {
    let inline = |pem: &[u8]| DataSource {
        specifier: Some(Specifier::InlineBytes(pem.to_vec())),
        ..Default::default()
    };
    let context = CertificateValidationContext {
        trusted_ca: Some(inline(&set.bundle)),
        crl: Some(inline(&set.crl)),
        ..Default::default()
    };
    let secret = Secret { name: name.to_string(), r#type: Some(Type::ValidationContext(context)) };
    Any { type_url: TYPE_URL.to_owned(), value: secret.encode_to_vec() }
}

/// A set that was made for a name.
struct Made {
    name: Name,
    /// The shared set that it was made from, and up to which record that says what the record says.
    base: CrlNumber,
    as_of: Seq,
    set: TrustSet,
}

/// The sets that could be made, and when to look again.
type Making = Pin<Box<dyn Future<Output = Result<(Vec<Made>, Duration), Status>> + Send>>;

/// What is to be made: for each name the shared set that was sent last, and the canary that comes next.
type Wishes = Vec<(Name, Option<CrlNumber>, Option<Serial>)>;

async fn make(app: Arc<App>, wishes: Wishes) -> Result<(Vec<Made>, Duration), Status> {
    let (mut made, mut pause) = (Vec::new(), LOOK_INTERVAL);
    for (name, last, canary) in wishes {
        let base = match app.trust_set(name.term, None).await {
            Ok(base) => base,
            Err(error) => {
                not_made(error)?;
                continue;
            }
        };
        let left_ms = base.renew_boot_ms.saturating_sub(app.clock().boot_ms());
        pause = pause.min(Duration::from_millis(left_ms)).max(LOOK_INTERVAL_MIN);
        let (number, as_of) = (base.number, base.as_of);
        let set = match canary {
            Some(canary) if last != Some(number) => app.trust_set(name.term, Some(canary)).await,
            Some(_) | None => Ok(base),
        };
        match set {
            Ok(set) => made.push(Made { name, base: number, as_of, set }),
            Err(error) => not_made(error)?,
        }
    }
    Ok((made, pause))
}

/// A set that cannot be made now may be later; what was sent runs out meanwhile.
fn not_made(error: Error) -> Result<(), Status> {
    match error {
        Error::Unavailable(why) => tracing::debug!(why, "no trust set"),
        Error::WrongState(why) => return Err(Status::failed_precondition(why)),
        other => tracing::error!(error = %other, "no trust set"),
    }
    Ok(())
}

/// One stream of one gateway.
struct Line {
    secrets: Secrets,
    /// Something makes sure that its lease ends.
    may_lease: bool,
    admission: Admission,
    session: PushedSession,
    ledger: Ledger,
    acked: Seq,
}

impl Line {
    /// Carries messages both ways until either side ends, the gateway may no longer call, or the service stops. What the
    /// consumer says is always heard, also while it does not read.
    async fn carry<D: Dialect>(
        mut self,
        mut inbox: Streaming<D::Request>,
        outbox: &Outbox<D>,
    ) -> Result<(), Status> {
        let mut waiting: Option<D::Response> = None;
        let mut making: Option<Making> = Some(self.begin_making());
        let mut looks = tokio::time::interval(ADMIT_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pause = LOOK_INTERVAL;
        loop {
            tokio::select! {
                _ = looks.tick() => self.admitted()?,
                heard = inbox.message() => {
                    let Some(message) = heard? else { return Ok(()) };
                    let (_, type_url, heard) = D::hear(message);
                    self.hear(&type_url, heard)?;
                    pause = Duration::ZERO;
                }
                () = self.session.news(), if making.is_none() => making = Some(self.begin_making()),
                () = sleep(pause), if making.is_none() => making = Some(self.begin_making()),
                sets = finished(&mut making), if making.is_some() && waiting.is_none() => {
                    making = None;
                    let (made, again) = sets?;
                    waiting = self.take::<D>(made);
                    pause = again;
                }
                place = outbox.reserve(), if waiting.is_some() => {
                    let Ok(place) = place else { return Ok(()) };
                    if let Some(response) = waiting.take() {
                        place.send(Ok(response));
                    }
                }
            }
        }
    }

    /// The stream outlives the call that was admitted, so the same question is asked again.
    fn admitted(&self) -> Result<(), Status> {
        if self.secrets.app.feed().is_draining() {
            return Err(Status::unavailable("the service stops"));
        }
        self.admission.still_holds().map_err(|error| {
            tracing::warn!(code = error.code(), %error, "a secret stream ended: the gateway may no longer call");
            Status::unauthenticated(error.to_string())
        })
    }

    fn hear(&mut self, type_url: &str, heard: Heard) -> Result<(), Status> {
        check_type(type_url)?;
        let has_canaries = self.canaries().is_some();
        let exists = |name: Name| !name.has_canary || has_canaries;
        if let Some(why) = self.ledger.hear(heard, exists).map_err(end)? {
            let detail: String = why.chars().filter(|c| !c.is_control()).collect();
            let detail = detail.chars().scan(0, |len, c| {
                *len += c.len_utf8();
                (*len <= NACK_DETAIL_LEN_MAX).then_some(c)
            });
            let detail: String = detail.collect();
            tracing::warn!(gateway.id = %self.admission.principal(), detail, "a trust set was refused by the gateway");
            self.session.nack(Nack { applied: self.acked, code: NackCode::Undecodable, detail });
        }
        let is_leased = self.ledger.names().any(|name| name.term == Term::Leased);
        if is_leased && !self.may_lease {
            return Err(Status::failed_precondition(
                "leased secrets end by the clock of this gateway: set clock_synchronized in node.metadata.countersign, \
                 have the gateway registered as pausable, or ask for countersign-access-unleased",
            ));
        }
        self.acknowledge();
        Ok(())
    }

    fn canaries(&self) -> Option<[Serial; 2]> {
        canaries(&self.secrets.app.state(), self.admission.principal())
    }

    fn begin_making(&self) -> Making {
        let canaries = self.canaries();
        let wish = |name: Name| {
            let (last, turn) = self.ledger.last(name);
            let canary = canaries.filter(|_| name.has_canary);
            (name, last, canary.map(|[first, second]| if turn { second } else { first }))
        };
        let wishes = self.ledger.names().map(wish).collect();
        Box::pin(make(Arc::clone(&self.secrets.app), wishes))
    }

    /// The response with what must be sent, if anything.
    fn take<D: Dialect>(&mut self, made: Vec<Made>) -> Option<D::Response> {
        for made in &made {
            self.ledger.confirm(made.name, made.base, made.as_of);
        }
        self.acknowledge();
        if !self.ledger.has_room() {
            return None;
        }
        let mut due = made;
        due.retain(|made| {
            let Made { name, base, as_of, set } = made;
            self.ledger.is_due(*name, *base)
                && (name.term == Term::Unleased
                    || set.is_closed
                    || self.session.lease(*as_of, set.signed_boot_ms))
        });
        let unknown = self.ledger.take_unknown();
        if due.is_empty() && unknown.is_empty() {
            return None;
        }
        let nonce = self.ledger.send(due.iter().map(|made| (made.name, made.base, made.as_of)).collect());
        let sent = |made: &Made| Sent {
            name: made.name.to_string(),
            version: made.set.number.to_string(),
            secret: self.secrets.secret(made.name, &made.set),
        };
        D::speak(due.iter().map(sent).collect(), unknown, nonce)
    }

    fn acknowledge(&mut self) {
        if let Some(seq) = self.ledger.acked().filter(|seq| *seq > self.acked) {
            self.acked = seq;
            self.session.ack(seq);
        }
    }
}

async fn finished(making: &mut Option<Making>) -> Result<(Vec<Made>, Duration), Status> {
    match making {
        Some(making) => making.await,
        None => std::future::pending().await,
    }
}
