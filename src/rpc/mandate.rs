//! `MandateService`: commands that officers sign.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::methods::APPROVAL_WATCHERS;
use super::parse::{approval, caller, invalid, mandate, mode, page_len, required};
use super::show_approvals::Mandates::{With, Without};
use super::show_approvals::{Watched, closed, recoveries, reviews, waiting};
use super::watch::{self, Look, Watches};
use super::{show, status::status};
use crate::app::{App, Error, Recovered, Ruled};
use crate::domain::approval::MANDATE_LEN_MAX;
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::Command;
use crate::domain::id::{ProposalId, Seq};
use crate::domain::recovery::{RECOVERY_KEYS_MAX, RecoverySignature, SignedRecovery};
use crate::pb;

/// How often what waits is looked at for who watches it.
const APPROVALS_INTERVAL: Duration = Duration::from_millis(500);
/// How long one such watch lasts; a command that goes on begins another.
const APPROVALS_LIFE: Duration = Duration::from_secs(3_600);

/// The longest mandate of a recovery: it registers one officer.
const RECOVERY_LEN_MAX: usize = 4 << 10;

pub(super) struct Mandates {
    app: Arc<App>,
    watches: Arc<Watches>,
}

impl Mandates {
    pub(super) const fn new(app: Arc<App>, watches: Arc<Watches>) -> Self {
        Self { app, watches }
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

    async fn prepare_rulings(
        &self,
        request: Request<pb::PrepareRulingsRequest>,
    ) -> Result<Response<pb::PrepareRulingsResponse>, Status> {
        let caller = caller(&request, "")?;
        let bytes = &request.get_ref().command;
        if bytes.len() > MANDATE_LEN_MAX {
            return Err(invalid("command", "it is longer than 512 KiB"));
        }
        let command: Command = from_bytes(bytes).map_err(|e| invalid("command", &e.to_string()))?;
        let Command::DecideSubjects(rulings) = command else {
            return Err(invalid("command", "only DECIDE_SUBJECTS is prepared here"));
        };
        let (outcomes, mandate) = self.app.prepare_rulings(&caller, &rulings).map_err(status)?;
        Ok(Response::new(pb::PrepareRulingsResponse {
            outcomes: outcomes.into_iter().map(ruling_outcome).collect(),
            mandate: mandate.map(|mandate| to_bytes(&mandate).into()).unwrap_or_default(),
        }))
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

    async fn reject_proposal(
        &self,
        request: Request<pb::RejectProposalRequest>,
    ) -> Result<Response<pb::RejectProposalResponse>, Status> {
        let caller = caller(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let id = required("proposal_id", &message.proposal_id)?;
        let rejected = self.app.reject(&caller, (id, message.reason), mode(message.validate_only)).await;
        let position = rejected.map_err(status)?;
        Ok(Response::new(pb::RejectProposalResponse { position: Some(show::position(position)) }))
    }

    async fn get_proposal(
        &self,
        request: Request<pb::GetProposalRequest>,
    ) -> Result<Response<pb::GetProposalResponse>, Status> {
        let id: ProposalId = required("proposal_id", &request.get_ref().proposal_id)?;
        let state = self.app.state();
        let waits = state.proposals.get(&id).map(|p| waiting(&state, p, self.app.now(), With));
        let closed = || state.closed_proposal(id).map(|proposal| closed(&state, proposal, With));
        let proposal = waits.or_else(closed).ok_or_else(|| status(Error::NotFound("proposal")))?;
        Ok(Response::new(pb::GetProposalResponse { proposal: Some(proposal) }))
    }

    async fn list_proposals(
        &self,
        request: Request<pb::ListProposalsRequest>,
    ) -> Result<Response<pb::ListProposalsResponse>, Status> {
        let message = request.into_inner();
        let (state, now) = (self.app.state(), self.app.now());
        let after: Option<ProposalId> = super::parse::optional("page_token", &message.page_token)?;
        let len = page_len(message.page_size);
        let rows = state.proposals.iter().filter(|(id, _)| after.is_none_or(|after| **id > after));
        let mut page: Vec<_> = rows.take(len + 1).map(|(_, proposal)| proposal).collect();
        let more = page.len() > len;
        page.truncate(len);
        let proposals = page.iter().map(|proposal| waiting(&state, proposal, now, Without)).collect();
        let next = if more { page.last().map(|proposal| proposal.id.to_string()) } else { None };
        let reviews = if after.is_none() { reviews(&state, Seq(0)) } else { Vec::new() };
        Ok(Response::new(pb::ListProposalsResponse {
            proposals,
            next_page_token: next.unwrap_or_default(),
            recoveries: if after.is_none() { recoveries(&state) } else { Vec::new() },
            reviews,
        }))
    }

    async fn submit_recovery(
        &self,
        request: Request<pb::SubmitRecoveryRequest>,
    ) -> Result<Response<pb::SubmitRecoveryResponse>, Status> {
        let message = request.into_inner();
        if message.signatures.len() > RECOVERY_KEYS_MAX {
            return Err(invalid("signatures", "at most 16 are allowed"));
        }
        if message.mandate.len() > RECOVERY_LEN_MAX {
            return Err(invalid("mandate", "it is longer than 4 KiB"));
        }
        let signature = |one: pb::RecoverySignature| -> Result<RecoverySignature, Status> {
            let key = required("signatures.key_sha256", &one.key_sha256)?;
            Ok(RecoverySignature { key, signature: one.signature.to_vec() })
        };
        let signatures = message.signatures.into_iter().map(signature).collect::<Result<_, _>>()?;
        let signed = SignedRecovery { bytes: message.mandate.to_vec(), signatures };
        let recovered = self.app.recover(signed, &message.csr, mode(message.validate_only)).await;
        Ok(Response::new(match recovered.map_err(status)? {
            Recovered::Checked => pb::SubmitRecoveryResponse::default(),
            Recovered::Announced { id, effective_at } => pb::SubmitRecoveryResponse {
                recovery_id: id.to_string(),
                effective_at: effective_at.to_string(),
                ..Default::default()
            },
            Recovered::Effective(None) => pb::SubmitRecoveryResponse::default(),
            Recovered::Effective(Some(issued)) => pb::SubmitRecoveryResponse {
                chain: self.app.above(&issued.certificate).into_iter().map(Into::into).collect(),
                certificate: issued.certificate.into(),
                ..Default::default()
            },
        }))
    }

    type WatchApprovalsStream = watch::Stream<pb::WatchApprovalsResponse>;

    async fn watch_approvals(
        &self,
        request: Request<pb::WatchApprovalsRequest>,
    ) -> Result<Response<Self::WatchApprovalsStream>, Status> {
        let (watch, stream) = self.watches.begin(&self.app, &request, APPROVAL_WATCHERS)?;
        let mut watched = Watched::default();
        watch.run((APPROVALS_INTERVAL, APPROVALS_LIFE), move |app| {
            watched.look(app).map_or(Look::Same, Look::News)
        });
        Ok(Response::new(stream))
    }
}

fn ruling_outcome(ruled: Result<Ruled, Error>) -> pb::RulingOutcome {
    let shown = |outcome: &str| pb::RulingOutcome { outcome: outcome.to_owned(), ..Default::default() };
    match ruled {
        Ok(Ruled::Ready) => shown("READY"),
        Ok(Ruled::Unchanged) => shown("UNCHANGED"),
        Err(error) => {
            let reason = error.code().to_owned();
            pb::RulingOutcome { reason, message: status(error).message().to_owned(), ..shown("REFUSED") }
        }
    }
}
