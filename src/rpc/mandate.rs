//! `MandateService`: commands that officers sign.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::parse::{approval, caller, invalid, mandate, mode, page_len, required};
use super::{show, status::status};
use crate::app::{App, Error};
use crate::domain::approval::MANDATE_LEN_MAX;
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::Command;
use crate::domain::id::ProposalId;
use crate::pb;

pub(super) struct Mandates {
    app: Arc<App>,
}

impl Mandates {
    pub(super) const fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl pb::mandate_service_server::MandateService for Mandates {
    async fn prepare_mandate(
        &self,
        request: Request<pb::PrepareMandateRequest>,
    ) -> Result<Response<pb::PrepareMandateResponse>, Status> {
        let message = request.into_inner();
        if message.command.len() > MANDATE_LEN_MAX {
            return Err(invalid("command", "it is longer than 512 KiB"));
        }
        let command: Command =
            from_bytes(&message.command).map_err(|e| invalid("command", &e.to_string()))?;
        let signatures_needed = show::count(command.signers().count);
        let mandate = to_bytes(&self.app.prepare(command)).into();
        Ok(Response::new(pb::PrepareMandateResponse { mandate, signatures_needed }))
    }

    async fn submit_mandate(
        &self,
        request: Request<pb::SubmitMandateRequest>,
    ) -> Result<Response<pb::SubmitMandateResponse>, Status> {
        let caller = caller(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let signed = mandate(message.mandate)?;
        let done = self.app.submit(&caller, signed, mode(message.validate_only)).await.map_err(status)?;
        Ok(Response::new(pb::SubmitMandateResponse {
            position: Some(show::position(done.position)),
            proposal_id: done.proposal.map(|id| id.to_string()).unwrap_or_default(),
            signatures_missing: show::count(done.missing),
            durable: done.durable,
        }))
    }

    async fn approve_proposal(
        &self,
        request: Request<pb::ApproveProposalRequest>,
    ) -> Result<Response<pb::ApproveProposalResponse>, Status> {
        let caller = caller(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let id: ProposalId = required("proposal_id", &message.proposal_id)?;
        let approval = approval(message.approval.ok_or_else(|| invalid("approval", "it is missing"))?)?;
        let done =
            self.app.approve(&caller, id, approval, mode(message.validate_only)).await.map_err(status)?;
        Ok(Response::new(pb::ApproveProposalResponse {
            position: Some(show::position(done.position)),
            signatures_missing: show::count(done.missing),
        }))
    }

    async fn withdraw_proposal(
        &self,
        request: Request<pb::WithdrawProposalRequest>,
    ) -> Result<Response<pb::WithdrawProposalResponse>, Status> {
        let caller = caller(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let id = required("proposal_id", &message.proposal_id)?;
        let position = self.app.withdraw(&caller, id, mode(message.validate_only)).await.map_err(status)?;
        Ok(Response::new(pb::WithdrawProposalResponse { position: Some(show::position(position)) }))
    }

    async fn get_proposal(
        &self,
        request: Request<pb::GetProposalRequest>,
    ) -> Result<Response<pb::GetProposalResponse>, Status> {
        let id: ProposalId = required("proposal_id", &request.get_ref().proposal_id)?;
        let state = self.app.state();
        let proposal = state.proposals.get(&id).ok_or_else(|| status(Error::NotFound("proposal")))?;
        Ok(Response::new(pb::GetProposalResponse { proposal: Some(show::proposal(&state, proposal)) }))
    }

    async fn list_proposals(
        &self,
        request: Request<pb::ListProposalsRequest>,
    ) -> Result<Response<pb::ListProposalsResponse>, Status> {
        let message = request.into_inner();
        let state = self.app.state();
        let after: Option<ProposalId> = super::parse::optional("page_token", &message.page_token)?;
        let len = page_len(message.page_size);
        let rows = state.proposals.iter().filter(|(id, _)| after.is_none_or(|after| **id > after));
        let mut page: Vec<_> = rows.take(len + 1).map(|(_, proposal)| proposal).collect();
        let more = page.len() > len;
        page.truncate(len);
        let proposals = page.iter().map(|proposal| show::proposal(&state, proposal)).collect();
        let next = if more { page.last().map(|proposal| proposal.id.to_string()) } else { None };
        Ok(Response::new(pb::ListProposalsResponse { proposals, next_page_token: next.unwrap_or_default() }))
    }
}
