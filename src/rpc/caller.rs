//! Who calls: from the verified peer certificate to a registered principal or a subject, anew for every call, so that a
//! removed principal or a revoked certificate is refused on an open connection too.

use std::sync::Arc;

use super::methods::Access;
use crate::app::{App, Error};
use crate::domain::certificate::{Certificate, Facts, PrincipalKind, SystemFacts};
use crate::domain::id::PrincipalId;
use crate::domain::state::State;
use crate::domain::time::Now;
use crate::x509::{CertificateFault, check_validity};

/// Who calls, as the services see it.
#[derive(Debug, Clone)]
pub(super) enum Who {
    /// Nobody showed a certificate.
    Anonymous,
    /// A person or workload.
    Subject(Arc<Certificate>),
    /// A registered principal.
    Principal(PrincipalId),
    /// An officer or a gateway whose certificate ended a while ago: it may renew it and do nothing else.
    Expired(PrincipalId),
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => f.write_str("-"),
            Self::Subject(certificate) => write!(f, "certificate {}", certificate.ordinal),
            Self::Principal(id) => write!(f, "{id}"),
            Self::Expired(id) => write!(f, "{id} (expired)"),
        }
    }
}

/// Decides whether the peer may call.
pub(super) fn admit(app: &App, peer: Option<&[u8]>, access: Access) -> Result<Who, Error> {
    let who = identify(app, peer)?;
    permit(app, &who, access)?;
    Ok(who)
}

/// Decides whether this caller may call.
pub(super) fn permit(app: &App, who: &Who, access: Access) -> Result<(), Error> {
    match (access, who) {
        (Access::Anyone, _)
        | (Access::Subject, Who::Subject(_))
        | (Access::Renewal, Who::Principal(_) | Who::Expired(_)) => Ok(()),
        (_, Who::Expired(_)) => Err(Error::Expired { renewable: true }),
        (Access::Roles(roles), Who::Principal(id)) => {
            let state = app.state();
            let principal = state.principal(id).ok_or_else(unregistered)?;
            match roles.iter().any(|role| principal.has(*role)) {
                true => Ok(()),
                false => Err(Error::Denied("none of your roles may call this method".to_owned())),
            }
        }
        (_, Who::Anonymous) => Err(Error::Unauthenticated("a client certificate is needed".to_owned())),
        (Access::Subject, Who::Principal(_)) | (Access::Roles(_) | Access::Renewal, Who::Subject(_)) => {
            Err(Error::Denied("a certificate of this kind may not call this method".to_owned()))
        }
    }
}

fn unregistered() -> Error {
    Error::Unauthenticated("this certificate belongs to no registered principal".to_owned())
}

/// Only to who has the registered key: nobody else learns who is suspended.
fn suspended(state: &State, certificate: &Certificate, facts: &SystemFacts) -> Option<Error> {
    let principal = state.principal(&facts.principal).filter(|p| p.key_digest() == certificate.key)?;
    let why = principal.suspended?;
    Some(Error::Unauthenticated(format!("{} is suspended ({why}); two officers release it", principal.id)))
}

/// Who the peer is.
pub(super) fn identify(app: &App, peer: Option<&[u8]>) -> Result<Who, Error> {
    let Some(der) = peer else { return Ok(Who::Anonymous) };
    identify_certificate(app, app.read_certificate(der).map_err(|fault| refuse(&fault))?)
}

fn refuse(why: &dyn std::fmt::Display) -> Error {
    Error::Unauthenticated(format!("your certificate is refused: {why}"))
}

/// Whose certificate this is, now.
pub(super) fn identify_certificate(app: &App, certificate: Arc<Certificate>) -> Result<Who, Error> {
    let is_good = |at| check_validity(&certificate, at).is_ok();
    if let Err(fault) = check_validity(&certificate, app.now())
        && !app.doubted_now().is_some_and(is_good)
    {
        return match (app.may_renew(&certificate), fault) {
            (Some(id), _) => Ok(Who::Expired(id)),
            (None, CertificateFault::Expired) => Err(Error::Expired { renewable: false }),
            (None, fault) => Err(refuse(&fault)),
        };
    }
    let state = app.state();
    match &certificate.facts {
        Facts::Access(facts) => {
            match state.enforcement.credential_fault(&certificate, facts, Now::with_margin(app.now())) {
                Some(fault) => Err(refuse(&fault)),
                None => Ok(Who::Subject(certificate)),
            }
        }
        Facts::Canary(_) => Err(unregistered()),
        Facts::System(facts) => {
            match facts.kind != PrincipalKind::Server && state.is_current(&certificate, facts) {
                true => Ok(Who::Principal(facts.principal.clone())),
                false => Err(suspended(&state, &certificate, facts).unwrap_or_else(unregistered)),
            }
        }
    }
}
