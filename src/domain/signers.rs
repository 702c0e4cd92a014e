//! Who must sign: restrict with one, loosen with two, a vetter for what vetters decide.

use super::principal::Role;

/// Who must sign a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signers {
    /// How many different officers.
    pub count: usize,
    /// The roles, one of which each of them must hold.
    pub roles: &'static [Role],
}

pub(super) const RESTRICT: Signers = Signers { count: 1, roles: &[Role::SecurityOps, Role::Approver] };
pub(super) const LOOSEN: Signers = Signers { count: 2, roles: &[Role::Approver] };
pub(super) const VET: Signers = Signers { count: 1, roles: &[Role::Vetter] };
/// What a vetter decides and what would let somebody in whom a list nearly names.
pub(super) const VET_BY_TWO: Signers = Signers { count: 2, roles: &[Role::Vetter, Role::Approver] };
