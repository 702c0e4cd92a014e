//! A call of a registered principal that was let through, for streams that outlive it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::error::Error;
use crate::domain::id::PrincipalId;

type Ask = Arc<dyn Fn() -> Result<(), Error> + Send + Sync>;

/// Who was let through, and the same question again.
#[derive(Clone)]
pub struct Admission {
    principal: PrincipalId,
    address: IpAddr,
    ask: Ask,
}

impl Admission {
    /// Of this principal, from this address; `ask` says whether it may still call.
    pub fn new(
        principal: PrincipalId,
        address: IpAddr,
        ask: impl Fn() -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        Self { principal, address, ask: Arc::new(ask) }
    }

    /// Who calls.
    pub const fn principal(&self) -> &PrincipalId {
        &self.principal
    }

    /// Where from.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// May it still call?
    ///
    /// # Errors
    /// Why not: its certificate ended, or its principal is gone or has another key.
    pub fn still_holds(&self) -> Result<(), Error> {
        (self.ask)()
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("principal", &self.principal).finish_non_exhaustive()
    }
}
