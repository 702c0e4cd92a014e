//! `ScreeningService`: lists come in, and matches are shown.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::parse::{invalid, optional, page_len};
use super::places::{Held, make_page};
use super::status::status;
use crate::app::{App, Error, Receiving};
use crate::domain::entity::ScreeningResult;
use crate::domain::id::{Digest, EntityId};
use crate::domain::screening::HeldMatch;
use crate::domain::state::State;
use crate::pb;

/// The longest part of a file: half of the longest message.
const PART_LEN_MAX: usize = 512 << 10;

pub(super) struct Screenings {
    app: Arc<App>,
}

impl Screenings {
    pub(super) const fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

fn shown(app: &App, state: &State, id: EntityId, held: &HeldMatch) -> pb::ScreeningMatch {
    let resolution = held.resolution.as_ref();
    pb::ScreeningMatch {
        entity_id: id.to_string(),
        entity_name: state.entities.get(&id).map(|entity| entity.name.clone()).unwrap_or_default(),
        entry: held.found.entry.to_string(),
        entry_id: held.found.entry_id.clone(),
        source: held.found.source.clone(),
        listed_name: app.listed_name(held.found.entry).unwrap_or_default(),
        score: u32::from(held.found.score),
        explanation: held.found.explanation.clone(),
        list_version: held.version.clone(),
        result: held.result().to_string(),
        verdict: resolution.map(|r| r.verdict.to_string()).unwrap_or_default(),
        reason: resolution.map(|r| r.reason.clone()).unwrap_or_default(),
        resolved_at: resolution.map(|r| r.at.to_string()).unwrap_or_default(),
        record: resolution.map_or(0, |r| r.record.0),
    }
}

/// Where a page of matches begins: an entity, and the entry of the first of its matches.
type Place = (EntityId, Digest);

fn place(token: &str) -> Result<Option<Place>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let parts = token.split_once('.').and_then(|(id, entry)| Some((id.parse().ok()?, entry.parse().ok()?)));
    parts.map(Some).ok_or_else(|| invalid("page_token", "it is not one of this service"))
}

/// A page of matches, and where the next one begins. Those of an entity come by the digests of their entries, which stay
/// while others come and go.
fn page(
    app: &App,
    state: &State,
    (only, from, pending_only): (Option<EntityId>, Option<Place>, bool),
    len: usize,
) -> (Vec<pb::ScreeningMatch>, Option<Place>) {
    let mut matches = Vec::new();
    let rows = state.screenings.iter().filter(|(id, _)| only.is_none_or(|only| only == **id));
    for (id, row) in rows.filter(|(id, _)| from.is_none_or(|(from, _)| **id >= from)) {
        let first = from.filter(|(from, _)| from == id).map(|(_, entry)| entry);
        let is_wanted = |held: &&HeldMatch| {
            first.is_none_or(|first| held.found.entry >= first)
                && (!pending_only || held.result() != ScreeningResult::Clear)
        };
        let mut rows: Vec<_> = row.matches.iter().filter(is_wanted).collect();
        rows.sort_by_key(|held| held.found.entry);
        for held in rows {
            if matches.len() >= len {
                return (matches, Some((*id, held.found.entry)));
            }
            matches.push(shown(app, state, *id, held));
        }
    }
    (matches, None)
}

#[tonic::async_trait]
impl pb::screening_service_server::ScreeningService for Screenings {
    async fn upload_list(
        &self,
        request: Request<Streaming<pb::UploadListRequest>>,
    ) -> Result<Response<pb::UploadListResponse>, Status> {
        let mut parts = request.into_inner();
        let mut receiving = self.app.receive_list().await.map_err(status)?;
        while let Some(message) = parts.message().await? {
            if message.part.len() > PART_LEN_MAX {
                return Err(invalid("part", "it is longer than 512 KiB"));
            }
            receiving = write(receiving, message.part).await.map_err(status)?;
        }
        let summary = self.app.take_list(receiving).await.map_err(status)?;
        let sources = summary.by_source.into_iter();
        Ok(Response::new(pb::UploadListResponse {
            file: summary.file.to_string(),
            format: summary.format.to_string(),
            entries: summary.entries,
            sources: sources.map(|(source, entries)| pb::SourceCount { source, entries }).collect(),
        }))
    }

    async fn get_screening(
        &self,
        _: Request<pb::GetScreeningRequest>,
    ) -> Result<Response<pb::GetScreeningResponse>, Status> {
        let state = self.app.state();
        let reading = self.app.screening_reading(&state);
        let fresh_ms = state.bundle().parts().posture.screening_fresh_ms;
        let mut shown = pb::GetScreeningResponse {
            file_missing: reading.is_list_missing,
            waiting: reading.waiting,
            open_matches: reading.open_matches,
            ..Default::default()
        };
        if let Some(list) = &state.screening_list {
            shown.list_version.clone_from(&list.version);
            shown.list_date = list.date.to_string();
            shown.file = list.file.to_string();
            shown.entries = list.entries;
            shown.score_min = u32::from(list.score_min);
            shown.fresh_until = list.date.plus_ms(fresh_ms).to_string();
        }
        Ok(Response::new(shown))
    }

    async fn list_matches(
        &self,
        request: Request<pb::ListMatchesRequest>,
    ) -> Result<Response<pb::ListMatchesResponse>, Status> {
        let held = request.extensions().get::<Held>().cloned();
        let message = request.into_inner();
        let state = self.app.state();
        let only: Option<EntityId> = optional("entity_id", &message.entity_id)?;
        if only.is_some_and(|id| !state.entities.contains_key(&id)) {
            return Err(status(Error::NotFound("entity")));
        }
        let wanted = (only, place(&message.page_token)?, message.pending_only);
        let (app, len) = (Arc::clone(&self.app), page_len(message.page_size));
        let (matches, next) = make_page(held, move || page(&app, &state, wanted, len)).await?;
        let next_page_token = next.map(|(id, entry)| format!("{id}.{entry}")).unwrap_or_default();
        Ok(Response::new(pb::ListMatchesResponse { matches, next_page_token }))
    }
}

/// A write to disk, beside the threads that answer.
async fn write(mut receiving: Receiving, part: bytes::Bytes) -> Result<Receiving, Error> {
    let written = tokio::task::spawn_blocking(move || receiving.write(&part).map(|()| receiving)).await;
    written.map_err(|e| Error::Internal(e.to_string()))?
}
