//! The gateway library: a subscription that keeps a view of what is enforced, and decisions on it in about a
//! microsecond. Whatever it cannot know it denies.
//!
//! It never permits without a lease, and never on a view that it replaced before it answered. Callers: programs in front
//! of a model; the command line uses its transport.

mod ask;
mod cache;
mod gate;
mod link;
mod published;
mod replica;
#[cfg(test)]
#[cfg(feature = "server")]
mod tests;
pub mod transport;

pub use ask::{Answer, DecidedBy};
pub use gate::{Gate, GateConfig, GateDecision, GateStatus};
pub use replica::{Refusal, Replica, ReplicaConfig, Taken};
pub use transport::{ConnectCause, Identity, Target, TransportFault, channel};

pub use published::{Published, Standing};
