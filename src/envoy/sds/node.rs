//! What an Envoy says of itself, in `node` of its first message. What it can promise stands in `node.metadata` under
//! `countersign`; what is absent is not promised. The promises are the operator's word, as a gateway's Open is.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::google::protobuf::Struct;
use envoy_types::pb::google::protobuf::value::Kind;

use crate::domain::enforce::About;
use crate::domain::enforce::message::{SoftwareName, Strength};
use crate::domain::time::Timestamp;

/// The key in `node.metadata`.
const KEY: &str = "countersign";
/// What joins it to this service, as the fleet shows it.
const ADAPTER: &str = "sds";

/// What a node says of itself.
#[derive(Debug, Default)]
pub(super) struct Promises {
    strength: Strength,
    /// Its wall clock is never more than a second from the server's. Without that, nobody can know when a list that it
    /// was sent has run out for it, and its machine might as well have been paused.
    pub(super) has_clock: bool,
}

impl Promises {
    pub(super) fn of(node: &Node) -> Self {
        let fields = node.metadata.as_ref().and_then(|metadata| inner(metadata, KEY));
        let promised = |name: &str| fields.and_then(|fields| truth(fields, name)).unwrap_or_default();
        let has_clock = promised("clock_synchronized");
        let per_request = promised("per_request");
        let stream_cut_ms = fields.map_or(0, |fields| millis(fields, "stream_cut_ms"));
        let strength = Strength {
            per_request,
            // A list cannot say everything that the record says, so closing connections by it is not deciding again.
            closes_connections: per_request && promised("closes_connections"),
            resumption_off: promised("resumption_off"),
            stream_cut_ms,
            pausable: !has_clock,
        };
        Self { strength, has_clock }
    }

    #[cfg(test)]
    pub(super) const fn strength(&self) -> Strength {
        self.strength
    }

    pub(super) fn about(&self, node: &Node, from: (IpAddr, Timestamp)) -> About {
        let (address, since) = from;
        About {
            agent: agent(node),
            adapter: ADAPTER.parse().ok(),
            strength: self.strength,
            from: Some((address.to_string(), since)),
        }
    }
}

fn agent(node: &Node) -> Option<SoftwareName> {
    let version = match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => version.clone(),
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => {
            let version = build.version.as_ref()?;
            format!("{}.{}.{}", version.major_number, version.minor_number, version.patch)
        }
        None => return node.user_agent_name.parse().ok(),
    };
    format!("{}/{version}", node.user_agent_name).parse().ok()
}

fn inner<'a>(fields: &'a Struct, name: &str) -> Option<&'a Struct> {
    match fields.fields.get(name)?.kind.as_ref()? {
        Kind::StructValue(inner) => Some(inner),
        _ => None,
    }
}

fn truth(fields: &Struct, name: &str) -> Option<bool> {
    match fields.fields.get(name)?.kind.as_ref()? {
        Kind::BoolValue(value) => Some(*value),
        _ => None,
    }
}

/// A number of milliseconds; what is none is the longest there could be: it promises nothing.
fn millis(fields: &Struct, name: &str) -> u32 {
    let Some(value) = fields.fields.get(name) else { return 0 };
    match value.kind {
        Some(Kind::NumberValue(number)) if (0.0..=f64::from(u32::MAX)).contains(&number) => {
            number.ceil() as u32
        }
        _ => u32::MAX,
    }
}
