//! `ScreeningService`: lists come in, and matches are shown.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::parse::{invalid, optional, page_len};
use super::status::status;
use crate::app::{App, Error, Receiving};
use crate::domain::entity::ScreeningResult;
use crate::domain::id::EntityId;
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

    fn shown(&self, state: &State, id: EntityId, held: &HeldMatch) -> pb::ScreeningMatch {
        let resolution = held.resolution.as_ref();
        pb::ScreeningMatch {
            entity_id: id.to_string(),
            entity_name: state.entities.get(&id).map(|entity| entity.name.clone()).unwrap_or_default(),
            entry: held.found.entry.to_string(),
            entry_id: held.found.entry_id.clone(),
            source: held.found.source.clone(),
            listed_name: self.app.listed_name(held.found.entry).unwrap_or_default(),
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
        let message = request.into_inner();
        let state = self.app.state();
        let only: Option<EntityId> = optional("entity_id", &message.entity_id)?;
        if only.is_some_and(|id| !state.entities.contains_key(&id)) {
            return Err(status(Error::NotFound("entity")));
        }
        let after: Option<EntityId> = optional("page_token", &message.page_token)?;
        let len = page_len(message.page_size);
        let (mut matches, mut last, mut next) = (Vec::new(), None, None);
        let rows = state.screenings.iter().filter(|(id, _)| only.is_none_or(|only| only == **id));
        // A page is of whole entities: each has at most a thousand.
        for (id, row) in rows.filter(|(id, _)| after.is_none_or(|after| **id > after)) {
            if matches.len() >= len {
                next = last;
                break;
            }
            let wanted = row
                .matches
                .iter()
                .filter(|held| !message.pending_only || held.result() != ScreeningResult::Clear);
            matches.extend(wanted.map(|held| self.shown(&state, *id, held)));
            last = Some(*id);
        }
        let next_page_token = next.map(|id| id.to_string()).unwrap_or_default();
        Ok(Response::new(pb::ListMatchesResponse { matches, next_page_token }))
    }
}

/// A write to disk, beside the threads that answer.
async fn write(mut receiving: Receiving, part: bytes::Bytes) -> Result<Receiving, Error> {
    let written = tokio::task::spawn_blocking(move || receiving.write(&part).map(|()| receiving)).await;
    written.map_err(|e| Error::Internal(e.to_string()))?
}
