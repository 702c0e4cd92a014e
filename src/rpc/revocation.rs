//! `RevocationService`: takes away, and waits until that is enforced.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::parse::{caller, mandate, mode, wait};
use super::{show, status::status};
use crate::app::App;
use crate::pb;

pub(super) struct Revocation {
    app: Arc<App>,
}

impl Revocation {
    pub(super) const fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    async fn restrict<T>(
        &self,
        request: &Request<T>,
        signed: Option<pb::SignedMandate>,
        (request_id, validate_only): (&str, bool),
        (wanted, deadline_ms): (i32, u32),
    ) -> Result<Option<pb::Enforcement>, Status> {
        let caller = caller(request, request_id)?;
        let done = self
            .app
            .restrict(&caller, mandate(signed)?, wait(wanted, deadline_ms), mode(validate_only))
            .await
            .map_err(status)?;
        Ok(Some(show::enforcement(&done)))
    }
}

#[tonic::async_trait]
impl pb::revocation_service_server::RevocationService for Revocation {
    async fn revoke(
        &self,
        request: Request<pb::RevokeRequest>,
    ) -> Result<Response<pb::RevokeResponse>, Status> {
        let m = request.get_ref().clone();
        let how = (m.request_id.as_str(), m.validate_only);
        let enforcement = self.restrict(&request, m.mandate, how, (m.wait, m.deadline_ms)).await?;
        Ok(Response::new(pb::RevokeResponse { enforcement }))
    }

    async fn suspend(
        &self,
        request: Request<pb::SuspendRequest>,
    ) -> Result<Response<pb::SuspendResponse>, Status> {
        let m = request.get_ref().clone();
        let how = (m.request_id.as_str(), m.validate_only);
        let enforcement = self.restrict(&request, m.mandate, how, (m.wait, m.deadline_ms)).await?;
        Ok(Response::new(pb::SuspendResponse { enforcement }))
    }

    async fn stop(&self, request: Request<pb::StopRequest>) -> Result<Response<pb::StopResponse>, Status> {
        let m = request.get_ref().clone();
        let how = (m.request_id.as_str(), m.validate_only);
        let enforcement = self.restrict(&request, m.mandate, how, (m.wait, m.deadline_ms)).await?;
        Ok(Response::new(pb::StopResponse { enforcement }))
    }

    async fn list_restrictions(
        &self,
        _: Request<pb::ListRestrictionsRequest>,
    ) -> Result<Response<pb::ListRestrictionsResponse>, Status> {
        let state = self.app.state();
        let set = &state.enforcement;
        Ok(Response::new(pb::ListRestrictionsResponse {
            stops: set.stops.iter().map(ToString::to_string).collect(),
            suspensions: set.suspended.iter().map(ToString::to_string).collect(),
            held_ordinals: set.held.iter().map(|ordinal| ordinal.0).collect(),
            revoked_certificates: set.revoked.len(),
            revoked_lineages: set.locked.len() as u64,
            subject_cutoffs: set.subjects.len() as u64,
            entity_cutoffs: set.entities.len() as u64,
            revoked_issuers: set.issuers.iter().map(ToString::to_string).collect(),
            as_of: Some(show::position(state.position)),
        }))
    }
}
