//! Principals: the officers, gateways and partners that may call the service, by registered key.

use minicbor::{Decode, Encode};

use super::certificate::PrincipalKind;
use super::id::{Digest, EntityId, PrincipalId, Seq};
use super::revocation::RevocationReason;
use super::word::words;

words! {
    /// What a principal may do. A principal may hold several; no person approves what they proposed.
    Role {
        /// Registers entities, people and workloads.
        Registrar = 0, "REGISTRAR";
        /// Decides on people and workloads, enters screening results.
        Vetter = 1, "VETTER";
        /// Signs what loosens.
        Approver = 2, "APPROVER";
        /// Revokes, suspends and stops.
        SecurityOps = 3, "SECURITY_OPS";
        /// Subscribes to the feed and asks for decisions.
        Gateway = 4, "GATEWAY";
        /// Acts for one partner.
        PartnerAdmin = 5, "PARTNER_ADMIN";
        /// Reads the record.
        Auditor = 6, "AUDITOR";
    }
}

/// A registered principal.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Principal {
    /// Its name, chosen by the operator.
    #[n(0)]
    pub id: PrincipalId,
    /// Officer, gateway or partner.
    #[n(1)]
    pub kind: PrincipalKind,
    /// What it may do.
    #[n(2)]
    pub roles: Vec<Role>,
    /// The entity that a partner acts for.
    #[n(3)]
    pub entity: Option<EntityId>,
    /// SubjectPublicKeyInfo (DER) of its registered key: its certificate carries it, and an officer signs with it.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub key: Vec<u8>,
    /// A gateway on a machine that can be paused without its clock noticing: its promises are weak.
    #[n(5)]
    pub is_pausable: bool,
    /// Removed: it may call nothing.
    #[n(6)]
    pub is_removed: bool,
    /// The record that last changed it.
    #[n(7)]
    pub revision: Seq,
    /// Why it is suspended, if it is: it may call and sign nothing until two officers release it.
    #[n(8)]
    pub suspended: Option<RevocationReason>,
}

impl Principal {
    /// SHA-256 of the registered key, as a certificate's `key` shows it.
    pub fn key_digest(&self) -> Digest {
        Digest::of(&self.key)
    }

    /// Does it hold this role?
    pub fn has(&self, role: Role) -> bool {
        !self.is_removed && self.suspended.is_none() && self.roles.contains(&role)
    }
}

impl PrincipalKind {
    /// The roles that a principal of this kind may hold.
    pub const fn roles(self) -> &'static [Role] {
        match self {
            Self::Officer => {
                &[Role::Registrar, Role::Vetter, Role::Approver, Role::SecurityOps, Role::Auditor]
            }
            Self::Gateway => &[Role::Gateway],
            Self::Partner => &[Role::PartnerAdmin],
            Self::Server => &[],
        }
    }
}
