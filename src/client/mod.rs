//! The gateway library: a subscription that keeps a view of what is enforced, and decisions on it in about a
//! microsecond. Whatever it cannot know it denies.
//!
//! It never permits without a lease, and never on a view that it replaced before it answered. Callers: programs in front
//! of a model; the command line uses its transport.

mod ask;
mod cache;
mod connections;
mod gate;
mod index;
mod keep;
mod layer;
mod link;
mod metrics;
mod published;
mod question;
mod renew;
mod replica;
#[cfg(test)]
#[cfg(feature = "server")]
mod tests;
mod tls;
pub mod transport;

pub use ask::{Answer, DecidedBy};
pub use connections::{Barred, Connection, Connections};
pub use gate::{Gate, GateConfig, GateDecision, GateOptions, GateStatus};
pub use index::{Key, Touched};
pub use keep::SnapshotFile;
pub use layer::{GateBody, GateLayer, GateService, Permit};
pub use metrics::GateMetrics;
pub use question::Question;
pub use renew::Renewal;
pub use replica::{Refusal, Replica, ReplicaConfig, Taken};
pub use tls::{AcceptFault, GateAcceptor, GateStream, PeerLeaf};
pub use transport::{ConnectCause, Identity, Target, TransportFault, channel};

pub use published::{Published, Standing};
