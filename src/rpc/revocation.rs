//! `RevocationService`: takes away, and waits until that is enforced.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::methods::{RENEWAL_WATCHERS, RESTRICTION_WATCHERS};
use super::parse::{caller, mandate, mode, required, wait};
use super::provisioning::confined;
use super::watch::{self, Look, Watches};
use super::{renewals, show, status::status};
use crate::app::App;
use crate::domain::enforce::{DeterminationCutoffs, LEASE_MAX_MS, Position};
use crate::domain::id::RequestId;
use crate::domain::state::State;
use crate::feed::Standing;
use crate::pb;

/// How often a restriction is looked at for who watches it.
const ENFORCEMENT_INTERVAL: Duration = Duration::from_millis(250);
/// How long such a watch lasts: the longest bound, with room for a record that is not there yet.
const ENFORCEMENT_LIFE: Duration = Duration::from_millis(2 * LEASE_MAX_MS as u64);

/// The most blocked keys that are named: an answer of 700 KiB.
const BLOCKED_KEYS_MAX: usize = 10_000;

/// The most suspended principals that are named: far more than there are.
const SUSPENDED_MAX: usize = 10_000;

pub(super) struct Revocation {
    app: Arc<App>,
    watches: Arc<Watches>,
}

impl Revocation {
    pub(super) const fn new(app: Arc<App>, watches: Arc<Watches>) -> Self {
        Self { app, watches }
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

/// What a watch of a restriction has seen.
struct Watched {
    request: RequestId,
    /// The record, and when it was first seen: it was durable by then, so what is counted from there can only be longer.
    seen: Option<(Position, u64)>,
    last: Option<Standing>,
}

impl Watched {
    fn look(&mut self, app: &App) -> Look<pb::WatchEnforcementResponse> {
        let now_ms = app.clock().boot_ms();
        let state = app.state();
        let record = || state.requests.get(&self.request).map(|seq| Position { seq: *seq, ..state.position });
        let Some((position, seen_ms)) = self.seen.or_else(|| record().map(|position| (position, now_ms)))
        else {
            return Look::Same;
        };
        self.seen = Some((position, seen_ms));
        let standing = app.feed().standing(position, seen_ms);
        // News by the second: a lease that runs out is no change of who is missing.
        let seconds = |standing: &Standing| standing.bound_left_ms.div_ceil(1_000);
        let is_same = |last: &Standing| last.report == standing.report && seconds(last) == seconds(&standing);
        if self.last.as_ref().is_some_and(is_same) {
            return Look::Same;
        }
        let is_over = standing.report.enforced_by.is_some() || standing.bound_left_ms == 0;
        let message = show::standing(position, &standing, now_ms.saturating_sub(seen_ms));
        self.last = Some(standing);
        if is_over { Look::Last(message) } else { Look::News(message) }
    }
}

fn suspended_principals(state: &State) -> Vec<String> {
    let suspended = state.principals.values().filter(|p| p.suspended.is_some() && !p.is_removed);
    suspended.take(SUSPENDED_MAX).map(|principal| principal.id.to_string()).collect()
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

    async fn drill(&self, request: Request<pb::DrillRequest>) -> Result<Response<pb::DrillResponse>, Status> {
        let m = request.get_ref().clone();
        let caller = caller(&request, &m.request_id)?;
        let (wait, mode) = (wait(m.wait, m.deadline_ms), mode(m.validate_only));
        let done = self.app.drill(&caller, mandate(m.mandate)?, wait, mode).await.map_err(status)?;
        Ok(Response::new(show::drill(&done)))
    }

    async fn list_drills(
        &self,
        _: Request<pb::ListDrillsRequest>,
    ) -> Result<Response<pb::ListDrillsResponse>, Status> {
        let state = self.app.state();
        let drills = state.drills.iter().rev().map(|(seq, drill)| show::drill_record(*seq, drill));
        Ok(Response::new(pb::ListDrillsResponse { drills: drills.collect() }))
    }

    type WatchEnforcementStream = watch::Stream<pb::WatchEnforcementResponse>;

    async fn watch_enforcement(
        &self,
        request: Request<pb::WatchEnforcementRequest>,
    ) -> Result<Response<Self::WatchEnforcementStream>, Status> {
        let id = required("request_id", &request.get_ref().request_id)?;
        let (watch, stream) = self.watches.begin(&self.app, &request, RESTRICTION_WATCHERS)?;
        let mut watched = Watched { request: id, seen: None, last: None };
        watch.run((ENFORCEMENT_INTERVAL, ENFORCEMENT_LIFE), move |app| watched.look(app));
        Ok(Response::new(stream))
    }

    type WatchRenewalsStream = watch::Stream<pb::WatchRenewalsResponse>;

    async fn watch_renewals(
        &self,
        request: Request<pb::WatchRenewalsRequest>,
    ) -> Result<Response<Self::WatchRenewalsStream>, Status> {
        let own = confined(&self.app.state(), &request)?;
        let (watch, stream) = self.watches.begin(&self.app, &request, RENEWAL_WATCHERS)?;
        renewals::follow(&self.app, watch, own);
        Ok(Response::new(stream))
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
            determination_cutoffs: set.determinations.values().map(DeterminationCutoffs::count).sum(),
            blocked_keys: set.blocked_keys().take(BLOCKED_KEYS_MAX).map(|key| key.to_string()).collect(),
            blocked_keys_total: set.blocked_keys().count() as u64,
            as_of: Some(show::position(state.position)),
            suspended_principals: suspended_principals(&state),
        }))
    }
}
