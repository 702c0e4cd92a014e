//! Secret discovery (SDS): an Envoy asks for a validation context by name, and is sent a new one whenever what it says
//! changes or half of its life is over. What it acknowledges it enforces for every handshake that begins afterwards; what
//! it is sent runs out by itself. Beside that it may be sent the certificate of its own listener, which promises nothing.

mod dialect;
mod ledger;
mod line;
mod listeners;
mod name;
mod node;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
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
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use self::dialect::{Delta, Dialect, Sent, Sotw, TYPE_URL};
use self::ledger::{Fault, Heard, Ledger};
use self::line::Line;
use self::name::Name;
use self::node::Promises;
use crate::app::{Admission, App, CrlNumber, Term, TrustSet};
use crate::feed::OpenFault;

pub use listeners::{ListenerStatus, Listeners};

/// The longest request: a node with its extensions is some 60 KiB.
const REQUEST_LEN_MAX: usize = 256 << 10;
/// Responses that wait for the transport.
const OUTBOX_LEN: usize = 1;
/// How long the last word may wait for a consumer that does not read.
const FAREWELL: Duration = Duration::from_secs(5);

/// The service.
#[derive(Clone)]
pub struct Secrets {
    app: Arc<App>,
    listeners: Arc<Listeners>,
    /// The last secret of each name without a canary: encoded once for all streams.
    encoded: Arc<Mutex<BTreeMap<Name, (CrlNumber, Any)>>>,
}

impl Secrets {
    /// The gRPC service for a server.
    pub fn service(app: &Arc<App>, listeners: &Arc<Listeners>) -> SecretDiscoveryServiceServer<Self> {
        let (app, listeners) = (Arc::clone(app), Arc::clone(listeners));
        let service = Self { app, listeners, encoded: Arc::default() };
        SecretDiscoveryServiceServer::new(service).max_decoding_message_size(REQUEST_LEN_MAX)
    }

    fn secret(&self, name: Name, set: &TrustSet) -> Any {
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, secret)) = encoded.get(&name).filter(|(number, _)| *number == set.number) {
            return secret.clone();
        }
        let secret = secret(name, set);
        if matches!(name, Name::Set { has_canary: false, .. }) {
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
        let (outbox, stream) = mpsc::channel(OUTBOX_LEN);
        let mut line = Line::new(self.clone(), admission, about, promises.has_clock);
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
        let exists = |name: Name| name == Name::Set { term: Term::Unleased, has_canary: false };
        ledger.hear(Heard { answer: None, ..heard }, exists).map_err(end)?;
        let name = ledger.names().next().ok_or_else(|| {
            Status::not_found("there is no such secret to fetch; leased ones are pushed on a stream")
        })?;
        let set = self
            .app
            .trust_set(Term::Unleased, None)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let sent =
            Sent { name: name.to_string(), version: set.number.to_string(), secret: self.secret(name, &set) };
        Sotw::speak(vec![sent], Vec::new(), String::new())
            .map(Response::new)
            .ok_or_else(|| Status::internal("a response without a secret"))
    }
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
    let context = CertificateValidationContext {
        trusted_ca: Some(inline(set.bundle.to_vec())),
        crl: Some(inline(set.crl.to_vec())),
        ..Default::default()
    };
    let secret = Secret { name: name.to_string(), r#type: Some(Type::ValidationContext(context)) };
    Any { type_url: TYPE_URL.to_owned(), value: secret.encode_to_vec() }
}

const fn inline(pem: Vec<u8>) -> DataSource {
    DataSource { watched_directory: None, specifier: Some(Specifier::InlineBytes(pem)) }
}
