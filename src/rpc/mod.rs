//! The gRPC services, thin: convert, call `app`, convert back. Who may call what is decided before, in one table.

mod attestation;
mod audit;
mod authority;
mod buckets;
mod caller;
mod calls;
mod decided;
mod determination;
mod due;
mod enforcement;
mod explain;
mod fleet;
mod frames;
mod guest;
mod layer;
mod limits;
mod lines;
mod mandate;
pub mod methods;
mod parse;
mod people;
mod places;
mod provisioning;
mod readmit;
mod refusals;
mod renewals;
mod revocation;
mod screening;
mod show;
mod show_approvals;
pub mod status;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;

use tonic::service::Routes;

pub use buckets::network;
pub use guest::{Guest, Holder};
pub use layer::{Gatekeeper, GatekeeperLayer};
pub use limits::{CLIENT_SKEW_MAX_MS, Rate, Rates, STREAMS_ALL_MAX};
pub use lines::Lines;
pub use parse::Peer;

use crate::app::App;
use crate::pb;

/// The longest message about a certificate, which also strangers may send: a request for one is at most 8 KiB.
const CERTIFICATE_LEN_MAX: usize = 128 << 10;
/// The longest message that a caller may send: the largest is a mandate with a policy bundle.
const REQUEST_LEN_MAX: usize = 1 << 20;

/// Every service of `countersign.v1`.
pub fn routes(app: &Arc<App>) -> Routes {
    let watches = Arc::new(watch::Watches::default());
    let attestation = pb::attestation_service_server::AttestationServiceServer::new(
        attestation::Attestation::new(Arc::clone(app)),
    );
    let audit = pb::audit_service_server::AuditServiceServer::new(audit::Audit::new(Arc::clone(app)));
    let authority = pb::authority_service_server::AuthorityServiceServer::new(authority::Authorities::new(
        Arc::clone(app),
        Arc::clone(&watches),
    ));
    let determination = pb::determination_service_server::DeterminationServiceServer::new(
        determination::Determinations::new(Arc::clone(app), Arc::clone(&watches)),
    );
    let subscriptions = pb::enforcement_service_server::EnforcementServiceServer::new(
        enforcement::Enforcement::new(Arc::clone(app), Arc::clone(&watches)),
    );
    let mandate = pb::mandate_service_server::MandateServiceServer::new(mandate::Mandates::new(
        Arc::clone(app),
        Arc::clone(&watches),
    ));
    let provisioning = pb::provisioning_service_server::ProvisioningServiceServer::new(
        provisioning::Provisioning::new(Arc::clone(app)),
    );
    let screening = pb::screening_service_server::ScreeningServiceServer::new(screening::Screenings::new(
        Arc::clone(app),
    ));
    let revocation = pb::revocation_service_server::RevocationServiceServer::new(
        revocation::Revocation::new(Arc::clone(app), watches),
    );
    Routes::new(attestation.max_decoding_message_size(CERTIFICATE_LEN_MAX))
        .add_service(audit.max_decoding_message_size(REQUEST_LEN_MAX))
        .add_service(authority.max_decoding_message_size(REQUEST_LEN_MAX))
        .add_service(determination.max_decoding_message_size(REQUEST_LEN_MAX))
        .add_service(subscriptions.max_decoding_message_size(REQUEST_LEN_MAX))
        .add_service(mandate.max_decoding_message_size(REQUEST_LEN_MAX))
        .add_service(provisioning.max_decoding_message_size(REQUEST_LEN_MAX))
        .add_service(screening.max_decoding_message_size(REQUEST_LEN_MAX))
        .add_service(revocation.max_decoding_message_size(REQUEST_LEN_MAX))
}
