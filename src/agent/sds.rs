//! The subscription to trust sets: the secret discovery service (SDS), state of the world. A set is acknowledged when the
//! proxy was seen to work with it, and refused, with what was seen instead, when it was not.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use envoy_types::pb::google::rpc::Status;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Stream as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::set::TrustSet;
use crate::domain::enforce::message::Strength;

/// The type of what is subscribed to.
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Requests that may wait for the transport: one for each answer. When it is full the stream is ended.
const REQUESTS_MAX: usize = 8;
/// The longest answer: one set.
const RESPONSE_LEN_MAX: usize = 16 << 20;
/// How long the service may take to accept the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a refusal may be (of what the proxy said).
const DETAIL_LEN_MAX: usize = 500;
/// google.rpc.Code FAILED_PRECONDITION.
const FAILED_PRECONDITION: i32 = 9;

/// A set that the service offers.
pub(super) struct Offer {
    version: String,
    nonce: String,
    /// The set, or why it is none.
    pub(super) set: Result<TrustSet, String>,
}

/// A stream with one secret.
pub(super) struct Subscription {
    name: &'static str,
    accepted: String,
    requests: mpsc::Sender<DiscoveryRequest>,
    offers: Streaming<DiscoveryResponse>,
}

impl Subscription {
    /// Subscribes to the secret of this name.
    pub(super) async fn open(
        channel: Channel,
        name: &'static str,
        strength: Strength,
    ) -> Result<Self, String> {
        let (requests, waiting) = mpsc::channel(REQUESTS_MAX);
        let first = DiscoveryRequest {
            node: Some(node(strength)),
            resource_names: vec![name.to_owned()],
            type_url: SECRET.to_owned(),
            ..DiscoveryRequest::default()
        };
        // The channel is new and has room.
        let _ = requests.try_send(first);
        let mut client =
            SecretDiscoveryServiceClient::new(channel).max_decoding_message_size(RESPONSE_LEN_MAX);
        let opened = timeout(OPEN_TIMEOUT, client.stream_secrets(ReceiverStream::new(waiting))).await;
        let opened = opened.map_err(|_| "the service did not accept the stream in time".to_owned())?;
        let offers = opened.map_err(|status| status.message().to_owned())?.into_inner();
        Ok(Self { name, accepted: String::new(), requests, offers })
    }

    /// The next set; of several that wait, the last. Nothing is lost when it is not awaited to its end.
    pub(super) async fn next(&mut self) -> Result<Offer, String> {
        let failed = |status: tonic::Status| status.message().to_owned();
        let ended = || "the service ended the stream".to_owned();
        let mut last = self.offers.message().await.map_err(failed)?.ok_or_else(ended)?;
        while let Some(newer) = poll_fn(|context| Poll::Ready(self.poll(context))).await {
            last = newer.map_err(failed)?;
        }
        let set = self.set_of(&last);
        Ok(Offer { version: last.version_info, nonce: last.nonce, set })
    }

    /// What has arrived already.
    fn poll(&mut self, context: &mut Context<'_>) -> Option<Result<DiscoveryResponse, tonic::Status>> {
        match Pin::new(&mut self.offers).poll_next(context) {
            Poll::Ready(arrived) => arrived,
            Poll::Pending => None,
        }
    }

    fn set_of(&self, response: &DiscoveryResponse) -> Result<TrustSet, String> {
        let secrets = response.resources.iter().filter(|resource| resource.type_url == SECRET);
        let secrets = secrets.map(|resource| Secret::decode(resource.value.as_slice()));
        let secrets = secrets.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let secret = secrets.iter().find(|secret| secret.name == self.name);
        TrustSet::read(secret.ok_or_else(|| format!("the secret {} is not there", self.name))?)
    }

    /// Says that the proxy works with the set.
    pub(super) fn acknowledge(&mut self, offer: &Offer) -> Result<(), String> {
        self.accepted.clone_from(&offer.version);
        self.answer(offer, None)
    }

    /// Says that it does not, and what was seen.
    pub(super) fn refuse(&self, offer: &Offer, why: &str) -> Result<(), String> {
        let message = why.chars().take(DETAIL_LEN_MAX).collect();
        self.answer(offer, Some(Status { code: FAILED_PRECONDITION, message, details: Vec::new() }))
    }

    fn answer(&self, offer: &Offer, error_detail: Option<Status>) -> Result<(), String> {
        let request = DiscoveryRequest {
            version_info: self.accepted.clone(),
            resource_names: vec![self.name.to_owned()],
            type_url: SECRET.to_owned(),
            response_nonce: offer.nonce.clone(),
            error_detail,
            ..DiscoveryRequest::default()
        };
        self.requests.try_send(request).map_err(|_| "the service does not read".to_owned())
    }
}

/// Who subscribes, and what the proxy was seen to keep.
fn node(strength: Strength) -> Node {
    let fields = [
        // The gate closes as soon as this clock and the service's are more than a second apart.
        ("clock_synchronized", Kind::BoolValue(!strength.pausable)),
        ("per_request", Kind::BoolValue(strength.per_request)),
        ("resumption_off", Kind::BoolValue(strength.resumption_off)),
        ("stream_cut_ms", Kind::NumberValue(strength.stream_cut_ms.into())),
    ];
    let fields = fields.map(|(name, kind)| (name.to_owned(), Value { kind: Some(kind) }));
    let promises = Kind::StructValue(Struct { fields: fields.into_iter().collect() });
    let metadata = [("countersign".to_owned(), Value { kind: Some(promises) })];
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Node {
        user_agent_name: "countersign-agent".to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(version)),
        metadata: Some(Struct { fields: metadata.into_iter().collect() }),
        ..Node::default()
    }
}
