//! Who a connection is of, and whether they may still call: for the listener, which holds connections of callers that ask
//! nothing for hours. The same question as for each call, with the same answer.

use std::sync::Arc;

use super::caller::{Who, identify_certificate};
use crate::app::App;
use crate::domain::certificate::{Certificate, Facts, PrincipalKind};
use crate::domain::id::PrincipalId;

/// Whoever showed a certificate by which calls are let through.
#[derive(Debug, Clone)]
pub struct Guest {
    certificate: Arc<Certificate>,
    holder: Holder,
}

/// Whose certificate it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Of a registered officer.
    Officer(PrincipalId),
    /// Of a registered gateway or partner.
    Machine(PrincipalId),
    /// Of a person or workload.
    Subject,
}

impl Guest {
    /// None: no certificate, or none that is accepted.
    pub fn of(app: &App, certificate: Option<&[u8]>) -> Option<Self> {
        let certificate = app.read_certificate(certificate?).ok()?;
        let holder = match identify_certificate(app, Arc::clone(&certificate)).ok()? {
            Who::Anonymous => return None,
            Who::Subject(_) => Holder::Subject,
            Who::Principal(id) | Who::Expired(id) => match &certificate.facts {
                Facts::System(facts) if facts.kind == PrincipalKind::Officer => Holder::Officer(id),
                Facts::System(_) | Facts::Access(_) | Facts::Canary(_) => Holder::Machine(id),
            },
        };
        Some(Self { certificate, holder })
    }

    /// Whose certificate it is.
    pub const fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Would a call be let through as far as its caller goes?
    pub fn may_call(&self, app: &App) -> bool {
        identify_certificate(app, Arc::clone(&self.certificate)).is_ok()
    }
}
