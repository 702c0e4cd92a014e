//! Certificates of officers and gateways that have ended: their registered key may renew them, and do nothing else.

use super::App;
use crate::domain::certificate::{Certificate, Facts, PrincipalKind};
use crate::domain::id::PrincipalId;
use crate::domain::time::Timestamp;

/// How long after its end a certificate may still be renewed by its key: 90 days, the longest absence that needs no colleague.
const RENEWABLE_MS: i64 = 90 * 86_400_000;

impl App {
    /// Whose certificate this is, if it has ended and may be renewed: of an acting officer or gateway, with the registered
    /// key, from an authority that is trusted, ended at most 90 days ago.
    pub fn may_renew(&self, certificate: &Certificate) -> Option<PrincipalId> {
        let now = self.clock.now();
        let Facts::System(facts) = &certificate.facts else { return None };
        let is_kind = match facts.kind {
            PrincipalKind::Officer | PrincipalKind::Gateway => true,
            PrincipalKind::Partner | PrincipalKind::Server => false,
        };
        let has_ended = now > certificate.not_after && now <= certificate.not_after.plus_ms(RENEWABLE_MS);
        (is_kind && has_ended && self.state().is_current(certificate, facts)).then(|| facts.principal.clone())
    }

    /// For the listener: an instant at which a certificate was valid that has ended and may be renewed.
    pub fn last_valid(&self, der: &[u8]) -> Option<Timestamp> {
        let certificate = self.read_certificate(der).ok()?;
        self.may_renew(&certificate)?;
        Some(certificate.not_after)
    }
}
