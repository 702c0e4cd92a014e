//! What every gateway enforces: the revocation set, the view that decisions are made on, leases and barriers.
//!
//! All of it is pure. The server, the gateway library and the tests run the same code.

mod barrier;
mod claim;
mod decide;
mod event;
mod lease;
pub mod message;
mod missing;
mod ordinals;
mod pings;
pub mod report;
mod roster;
mod set;
#[cfg(test)]
mod tests;
mod view;

pub use barrier::{Barrier, BarrierReport, EnforcedBy, Participant, ParticipantId, bound_ms};
pub use claim::{Claim, Contradiction, Start, judge, lost_history};
pub use decide::{Chain, Request, decide, decide_on_record};
pub(crate) use decide::{operators_of, states, validity_fault};
pub use event::EnforcementEvent;
pub use lease::{CLOCK_OFFSET_MAX_MS, LEASE_DEFAULT_MS, LEASE_MAX_MS, Lease, PING_MS, PongFault, list_until};
pub use missing::missing;
pub use ordinals::OrdinalSet;
pub use pings::Pings;
pub use report::{DecisionBatch, DecisionReport};
pub use roster::{About, Outlook, OwnPath, Roster, RosterFull, SessionKey, SessionStatus};
pub use set::{DeterminationCutoffs, EnforcementSet, Names};
pub(crate) use view::chain;
pub use view::{CardLookup, GateView, Position, SubjectLookup, View};
