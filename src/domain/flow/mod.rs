//! Workflows: may this event be recorded now? Each is a pure check of State; what the event then does is in
//! [`State::apply`](super::state::State::apply).

mod admit;
mod announced;
mod authority;
mod issuance;
mod mandate;
mod officers;
mod partners;
mod policy;
mod quorum;
mod records;
mod recovery;
mod reject;
mod root;
mod screening;
#[cfg(test)]
pub(in crate::domain) mod tests;

pub use admit::{TOKEN_TTL_MAX_MS, admit, check_acts_for, own_subject};
pub use issuance::{LimitKind, Limits, canary_limits, certifiable, check_key, check_unblocked};
pub use mandate::{admit as admit_mandate, check as check_command, mandate_for};
pub use reject::Reject;
