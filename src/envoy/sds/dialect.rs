//! The two variants of the protocol: state of the world and incremental.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc::Status;

use super::ledger::{Heard, Names};

/// The type of every resource here.
pub(super) const TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// A secret as it is sent.
pub(super) struct Sent {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) secret: Any,
}

/// A variant.
pub(super) trait Dialect: 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;

    /// Who speaks, if it says so, of which type, and what it says.
    fn hear(request: Self::Request) -> (Option<Node>, String, Heard);

    /// A response; none: this variant has no word for it.
    fn speak(secrets: Vec<Sent>, unknown: Vec<String>, nonce: String) -> Option<Self::Response>;
}

/// State of the world: each request names everything that is asked for.
pub(super) struct Sotw;

impl Dialect for Sotw {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn hear(request: DiscoveryRequest) -> (Option<Node>, String, Heard) {
        let answer = answer(request.response_nonce, request.error_detail);
        (request.node, request.type_url, Heard { names: Names::All(request.resource_names), answer })
    }

    fn speak(secrets: Vec<Sent>, _: Vec<String>, nonce: String) -> Option<DiscoveryResponse> {
        // Numbers rise, so the highest tells this response from every other.
        let version_info = secrets.iter().map(|sent| sent.version.clone()).max()?;
        let resources = secrets.into_iter().map(|sent| sent.secret).collect();
        let type_url = TYPE_URL.to_owned();
        Some(DiscoveryResponse { version_info, resources, type_url, nonce, ..Default::default() })
    }
}

/// Incremental.
pub(super) struct Delta;

impl Dialect for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn hear(request: DeltaDiscoveryRequest) -> (Option<Node>, String, Heard) {
        let answer = answer(request.response_nonce, request.error_detail);
        let names = Names::Change(request.resource_names_subscribe, request.resource_names_unsubscribe);
        (request.node, request.type_url, Heard { names, answer })
    }

    fn speak(secrets: Vec<Sent>, unknown: Vec<String>, nonce: String) -> Option<DeltaDiscoveryResponse> {
        let resource = |sent: Sent| Resource {
            name: sent.name,
            version: sent.version,
            resource: Some(sent.secret),
            ..Default::default()
        };
        Some(DeltaDiscoveryResponse {
            resources: secrets.into_iter().map(resource).collect(),
            removed_resources: unknown,
            type_url: TYPE_URL.to_owned(),
            nonce,
            ..Default::default()
        })
    }
}

fn answer(nonce: String, error: Option<Status>) -> Option<(String, Option<String>)> {
    let refused = error.map(|error| format!("code {}: {}", error.code, error.message));
    (!nonce.is_empty()).then_some((nonce, refused))
}
