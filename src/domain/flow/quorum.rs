//! Enough officers: nothing may leave fewer than two who can each approve what the other proposed.

use crate::domain::id::{Digest, PrincipalId};
use crate::domain::principal::{Principal, Role};
use crate::domain::state::State;

use super::reject::Reject;

/// What a command would take away.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gone<'a> {
    /// A principal, for good or until it is released.
    Principal(&'a PrincipalId),
    /// Everything of a public key.
    Key(Digest),
}

/// One officer, as the quorum counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// May sign what widens: proposing it and approving it are the same signature.
    pub approves: bool,
    /// Neither removed nor suspended, and its key is not blocked.
    pub acts: bool,
    /// What the command would take away.
    pub goes: bool,
}

/// Two proposers, each with another one to approve: that is two who act and approve. Whoever counts twice is one, as
/// names and keys are.
const QUORUM: usize = 2;

/// Would the command leave too few? It would not when it takes away nobody who counts: a restriction is not refused for
/// what was so before it.
pub(super) fn leaves_too_few(officers: impl IntoIterator<Item = Standing>) -> Option<usize> {
    let counting: Vec<Standing> = officers.into_iter().filter(|o| o.approves && o.acts).collect();
    let left = counting.iter().filter(|officer| !officer.goes).count();
    (left < QUORUM && left < counting.len()).then_some(counting.len())
}

/// Two officers remain who can each approve what the other proposed.
///
/// # Errors
/// Fewer would.
pub(super) fn check(state: &State, gone: Gone<'_>) -> Result<(), Reject> {
    let standing = |principal: &Principal| Standing {
        approves: principal.roles.contains(&Role::Approver),
        acts: state.officer(&principal.id).is_some(),
        goes: match gone {
            Gone::Principal(id) => principal.id == *id,
            Gone::Key(key) => principal.key_digest() == key,
        },
    };
    match leaves_too_few(state.principals.values().map(|principal| standing(principal))) {
        None => Ok(()),
        Some(have) => Err(Reject::WrongState {
            what: "number of approvers",
            have: have.to_string(),
            need: "three, so that two remain",
        }),
    }
}
