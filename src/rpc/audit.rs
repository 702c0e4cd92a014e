//! `AuditService`: the record, for auditors.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::calls::Filter;
use super::parse::{optional, page_len, required};
use super::places::{Held, make_page};
use super::provisioning::confined;
use super::{calls, decided, explain, show, status::status};
use crate::app::store::entry_of;
use crate::app::{App, Error};
use crate::domain::call::CallLine;
use crate::domain::command::ObjectRef;
use crate::domain::decided::Decided;
use crate::domain::enforce::Position;
use crate::domain::id::{DecisionId, EntityId, Seq, SubjectId};
use crate::domain::state::State;
use crate::journal::Record;
use crate::pb;

/// Bytes of records in one page, unless the first alone is longer: half of what a client takes by default.
const PAGE_BYTES_MAX: usize = 2 << 20;
/// What a record has beside its body, at most.
const RECORD_OVERHEAD: usize = 512;

pub(super) struct Audit {
    app: Arc<App>,
}

impl Audit {
    pub(super) const fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

fn record(state: &State, record: Record) -> pb::Record {
    let entry = entry_of(&record).ok();
    let header = record.header;
    pb::Record {
        seq: header.seq.0,
        epoch: header.epoch.0,
        time: header.time.to_string(),
        event: entry.as_ref().map_or("purged", |entry| entry.event.name()).to_owned(),
        actor: entry.and_then(|entry| entry.by).map(|by| by.to_string()).unwrap_or_default(),
        body_sha256: header.body.0.to_vec().into(),
        body: record.body.unwrap_or_default().into(),
        header: header.encode().into(),
        corrected_by: state
            .corrections
            .get(&header.seq)
            .map(|list| list.iter().map(|correction| correction.by.0).collect())
            .unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl pb::audit_service_server::AuditService for Audit {
    async fn get_head(
        &self,
        request: Request<pb::GetHeadRequest>,
    ) -> Result<Response<pb::GetHeadResponse>, Status> {
        let (feed, remembered) = (self.app.feed().clone(), request.into_inner().remembered);
        let heads = self.app.heads();
        let looked = move || (feed.lost_history(&remembered), heads.signed_now());
        let looked = tokio::task::spawn_blocking(looked).await;
        let (lost, signed) = looked.map_err(|e| status(Error::Internal(e.to_string())))?;
        let (head, bytes) = signed.map_err(status)?;
        Ok(Response::new(pb::GetHeadResponse {
            position: Some(show::position(Position { epoch: head.epoch, seq: head.seq })),
            root: head.root.0.to_vec().into(),
            signed_head: bytes,
            lost_history: lost.unwrap_or_default(),
        }))
    }

    async fn get_restore(
        &self,
        _: Request<pb::GetRestoreRequest>,
    ) -> Result<Response<pb::GetRestoreResponse>, Status> {
        let state = self.app.state();
        let restore = state.restore.as_ref().map(|restore| show::restore(&state, restore));
        Ok(Response::new(pb::GetRestoreResponse { restore }))
    }

    async fn list_records(
        &self,
        request: Request<pb::ListRecordsRequest>,
    ) -> Result<Response<pb::ListRecordsResponse>, Status> {
        let held = request.extensions().get::<Held>().cloned();
        let message = request.into_inner();
        let (from, len) = (Seq(message.from_seq.max(1)), page_len(message.page_size));
        let journal = Arc::clone(self.app.journal());
        let records = make_page(held, move || journal.read(from, len)).await?;
        let mut records = records.map_err(|e| status(e.into()))?;
        let mut len = 0;
        let fits = |record: &&Record| {
            let is_first = len == 0;
            len += RECORD_OVERHEAD + record.body.as_ref().map_or(0, Vec::len);
            is_first || len <= PAGE_BYTES_MAX
        };
        records.truncate(records.iter().take_while(fits).count());
        let next_seq = records.last().map_or(0, |last| last.header.seq.0 + 1);
        let state = self.app.state();
        let records = records.into_iter().map(|row| record(&state, row)).collect();
        Ok(Response::new(pb::ListRecordsResponse { records, next_seq }))
    }
    async fn list_calls(
        &self,
        request: Request<pb::ListCallsRequest>,
    ) -> Result<Response<pb::ListCallsResponse>, Status> {
        let held = request.extensions().get::<Held>().cloned();
        let filter = Filter::try_from(request.into_inner())?;
        let app = Arc::clone(&self.app);
        let wanted = move || app.list_calls(filter.from, filter.len, &|line: &CallLine| filter.wants(line));
        let (lines, next) = make_page(held, wanted).await?.map_err(status)?;
        let calls = lines.into_iter().map(calls::call).collect();
        Ok(Response::new(pb::ListCallsResponse { calls, next_page_token: calls::token(next) }))
    }

    async fn replay_decision(
        &self,
        request: Request<pb::ReplayDecisionRequest>,
    ) -> Result<Response<pb::ReplayDecisionResponse>, Status> {
        let id: DecisionId = required("decision_id", &request.get_ref().decision_id)?;
        let replayed = self.app.replay(id).await.map_err(status)?;
        Ok(Response::new(explain::replayed(replayed)))
    }

    async fn explain_access(
        &self,
        request: Request<pb::ExplainAccessRequest>,
    ) -> Result<Response<pb::ExplainAccessResponse>, Status> {
        let confined = confined(&self.app.state(), &request)?;
        let message = request.into_inner();
        let of: (EntityId, SubjectId) =
            (required("entity_id", &message.entity_id)?, required("subject_id", &message.subject_id)?);
        let (question, at) = (explain::question(&message)?, optional("at", &message.at)?);
        // Who is another's is as unknown as who is nobody's.
        let of = match confined {
            Some(own) => (own, if own == of.0 { of.1 } else { SubjectId::from_bytes([0; 16]) }),
            None => of,
        };
        let explained = self.app.explain(of, question, at).await.map_err(status)?;
        Ok(Response::new(match confined {
            Some(_) => explain::explained_to_partner(&explained),
            None => explain::explained(&explained),
        }))
    }

    async fn list_exposure(
        &self,
        request: Request<pb::ListExposureRequest>,
    ) -> Result<Response<pb::ListExposureResponse>, Status> {
        let held = request.extensions().get::<Held>().cloned();
        let permits = explain::Permits::try_from(request.into_inner())?;
        let app = Arc::clone(&self.app);
        let look = move || app.exposure(permits.from(), &|line: &Decided| permits.wants(line));
        let (found, next) = make_page(held, look).await?.map_err(status)?;
        let exposures = found.into_iter().map(explain::exposure).collect();
        Ok(Response::new(pb::ListExposureResponse { exposures, next_page_token: decided::token(next) }))
    }

    async fn list_signals(
        &self,
        request: Request<pb::ListSignalsRequest>,
    ) -> Result<Response<pb::ListSignalsResponse>, Status> {
        let message = request.into_inner();
        let boot_id = self.app.boot().to_string();
        let after = if message.boot_id == boot_id { message.after } else { 0 };
        let signals = self.app.signals_after(after, page_len(message.page_size)).into_iter();
        let signals = signals.map(|(number, signal)| decided::signal(number, signal)).collect();
        Ok(Response::new(pb::ListSignalsResponse { signals, boot_id }))
    }

    async fn list_record_holds(
        &self,
        _: Request<pb::ListRecordHoldsRequest>,
    ) -> Result<Response<pb::ListRecordHoldsResponse>, Status> {
        let state = self.app.state();
        let holds = state.record_holds.iter().map(|(id, hold)| pb::RecordHold {
            id: id.to_string(),
            since: hold.since.to_string(),
            reason: hold.reason.clone(),
            revision: state.revision(&ObjectRef::RecordHold(id.clone())).0,
        });
        Ok(Response::new(pb::ListRecordHoldsResponse { holds: holds.collect() }))
    }

    async fn list_decisions(
        &self,
        request: Request<pb::ListDecisionsRequest>,
    ) -> Result<Response<pb::ListDecisionsResponse>, Status> {
        let held = request.extensions().get::<Held>().cloned();
        let filter = decided::Filter::try_from(request.into_inner())?;
        let app = Arc::clone(&self.app);
        let wanted = move || {
            app.list_decisions((filter.from, filter.since()), filter.len, &|line: &Decided| {
                filter.wants(line)
            })
        };
        let (lines, next) = make_page(held, wanted).await?.map_err(status)?;
        let decisions = lines.into_iter().map(decided::decision).collect();
        Ok(Response::new(pb::ListDecisionsResponse { decisions, next_page_token: decided::token(next) }))
    }
}
