//! `AuthorityService`: the authorities, and the key of the next one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::methods::AUTHORITY_WATCHERS;
use super::parse::required;
use super::watch::{self, Look, Watches};
use super::{show, status::status};
use crate::app::{App, AuthorityStanding, Error};
use crate::domain::certificate::AuthorityKind;
use crate::domain::codec::to_bytes;
use crate::domain::id::{AuthorityId, Digest};
use crate::domain::state::State;
use crate::pb;

/// How often the list is looked at for who watches it. It counts certificates, so a look may take a while.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long one watch lasts; a command that goes on begins another.
const LIFE: Duration = Duration::from_secs(3_600);
const DAY_S: u64 = 86_400;

pub(super) struct Authorities {
    app: Arc<App>,
    watches: Arc<Watches>,
}

impl Authorities {
    pub(super) const fn new(app: Arc<App>, watches: Arc<Watches>) -> Self {
        Self { app, watches }
    }
}

#[tonic::async_trait]
impl pb::authority_service_server::AuthorityService for Authorities {
    async fn prepare_authority(
        &self,
        request: Request<pb::PrepareAuthorityRequest>,
    ) -> Result<Response<pb::PrepareAuthorityResponse>, Status> {
        let message = request.into_inner();
        let kind: AuthorityKind = required("kind", &message.kind)?;
        let life_s = (message.life_days != 0).then(|| u64::from(message.life_days) * DAY_S);
        if message.beneath_root && message.certificate.is_empty() {
            let (id, request) = self.app.request_authority(kind).await.map_err(status)?;
            return Ok(Response::new(pb::PrepareAuthorityResponse {
                authority_id: id.to_string(),
                certificate_request: request.into(),
                ..Default::default()
            }));
        }
        let made = match message.beneath_root {
            true => self.app.certified_authority(kind, message.certificate.to_vec()).await,
            false => self.app.prepare_authority(kind, life_s).await,
        };
        let made = made.map_err(status)?;
        Ok(Response::new(pb::PrepareAuthorityResponse {
            authority_id: made.authority.id.to_string(),
            signatures_needed: show::count(made.mandate.command.signers().count),
            mandate: to_bytes(&made.mandate).into(),
            certificate: made.authority.certificate.into(),
            certificate_request: Default::default(),
        }))
    }

    async fn list_authorities(
        &self,
        _: Request<pb::ListAuthoritiesRequest>,
    ) -> Result<Response<pb::ListAuthoritiesResponse>, Status> {
        let as_of = Some(show::position(self.app.state().position));
        let authorities = self.app.authority_standings().await.map_err(status)?;
        let authorities = authorities.iter().map(shown).collect();
        let rotations = rotations(&self.app.state());
        Ok(Response::new(pb::ListAuthoritiesResponse { authorities, as_of, rotations }))
    }

    async fn get_authority(
        &self,
        request: Request<pb::GetAuthorityRequest>,
    ) -> Result<Response<pb::GetAuthorityResponse>, Status> {
        let id: AuthorityId = required("authority_id", &request.get_ref().authority_id)?;
        let as_of = Some(show::position(self.app.state().position));
        let authorities = self.app.authority_standings().await.map_err(status)?;
        let found = authorities.iter().find(|standing| standing.row.id == id);
        let found = found.ok_or_else(|| status(Error::NotFound("authority")))?;
        let certificate = found.row.certificate.clone().into();
        let chain = self.app.way_up(id).into_iter().map(Into::into).collect();
        let authority = Some(shown(found));
        Ok(Response::new(pb::GetAuthorityResponse { authority, certificate, as_of, chain }))
    }

    type WatchAuthoritiesStream = watch::Stream<pb::WatchAuthoritiesResponse>;

    async fn watch_authorities(
        &self,
        request: Request<pb::WatchAuthoritiesRequest>,
    ) -> Result<Response<Self::WatchAuthoritiesStream>, Status> {
        let (watch, stream) = self.watches.begin(&self.app, &request, AUTHORITY_WATCHERS)?;
        let mut watched = Watched::new(Arc::clone(&self.app));
        watch.run((LOOK_INTERVAL, LIFE), move |_| watched.look());
        Ok(Response::new(stream))
    }
}

/// What a watch shows: the last look that is over, while the next one is made beside it.
struct Watched {
    app: Arc<App>,
    found: Arc<Mutex<Option<Vec<pb::Authority>>>>,
    looking: Option<tokio::task::JoinHandle<()>>,
    last: Option<Vec<pb::Authority>>,
}

impl Watched {
    fn new(app: Arc<App>) -> Self {
        Self { app, found: Arc::default(), looking: None, last: None }
    }

    fn look(&mut self) -> Look<pb::WatchAuthoritiesResponse> {
        if self.looking.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            let (app, found) = (Arc::clone(&self.app), Arc::clone(&self.found));
            self.looking = Some(tokio::spawn(async move {
                match app.authority_standings().await {
                    Ok(authorities) => {
                        let shown = authorities.iter().map(shown).collect();
                        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
                    }
                    Err(error) => tracing::debug!(%error, "the authorities cannot be shown now"),
                }
            }));
        }
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(authorities) = found.filter(|found| self.last.as_ref() != Some(found)) else {
            return Look::Same;
        };
        self.last = Some(authorities.clone());
        let rotations = rotations(&self.app.state());
        Look::News(pb::WatchAuthoritiesResponse { authorities, rotations })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.looking.take().into_iter().for_each(|task| task.abort());
    }
}

/// How each kind is rotated.
fn rotations(state: &State) -> Vec<pb::StandingRotation> {
    let row = |kind: &AuthorityKind| {
        let approval = state.rotations.approvals.get(kind);
        let lost = approval.and_then(|held| held.lapsed.as_ref());
        let schedule = state.schedule(*kind);
        pb::StandingRotation {
            kind: kind.to_string(),
            approved_seq: approval.map_or(0, |held| held.given.0),
            until: approval.map(|held| held.until.to_string()).unwrap_or_default(),
            rotations_left: approval.map_or(0, |held| held.left),
            failed_seq: approval.and_then(|held| held.failed).map_or(0, |seq| seq.0),
            lapsed_seq: lost.map_or(0, |lost| lost.at.0),
            lost_signer: lost.map(|lost| lost.officer.to_string()).unwrap_or_default(),
            prepare_at: schedule.map(|schedule| schedule.prepare_at.to_string()).unwrap_or_default(),
            activate_at: schedule.map(|schedule| schedule.activate_at.to_string()).unwrap_or_default(),
        }
    };
    AuthorityKind::ALL.iter().map(row).collect()
}

fn shown(standing: &AuthorityStanding) -> pb::Authority {
    let row = &standing.row;
    let report = standing.known.as_ref().map(|known| known.report.clone()).unwrap_or_default();
    let names =
        |list: &[crate::domain::enforce::ParticipantId]| list.iter().map(ToString::to_string).collect();
    let known_by = [report.acked, report.weak].concat();
    let missing = standing.known.iter().flat_map(|known| &known.missing);
    let unaware = missing.map(|(id, left_ms)| pb::Unaware {
        participant: id.to_string(),
        left_ms: left_ms.unwrap_or_default(),
    });
    let holder =
        |(entity, certificates): (&Option<crate::domain::id::EntityId>, &u64)| pb::CertificateHolder {
            entity_id: entity.map(|id| id.to_string()).unwrap_or_default(),
            certificates: *certificates,
        };
    pb::Authority {
        authority_id: row.id.to_string(),
        kind: row.kind.to_string(),
        state: row.state.to_string(),
        not_after: row.not_after.to_string(),
        sha256: Digest::of(&row.certificate).to_string(),
        predecessor: row.predecessor.map(|id| id.to_string()).unwrap_or_default(),
        issued_until: row.issued_until.map(|at| at.to_string()).unwrap_or_default(),
        has_key: standing.has_key,
        known_by: names(&known_by),
        lease_expired: names(&report.lease_expired),
        unaware: unaware.collect(),
        known_everywhere: standing.is_known_everywhere(),
        certificates: standing.held_count(),
        holders: standing.held.iter().map(holder).collect(),
        root_id: row.beneath.map(|beneath| beneath.root.to_string()).unwrap_or_default(),
        root_list_until: standing.root_list_until.map(|at| at.to_string()).unwrap_or_default(),
    }
}
