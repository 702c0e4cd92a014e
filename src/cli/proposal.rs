//! `countersign proposal`: commands that wait for another officer. What is approved is shown in words first, and the
//! signature is over exactly the bytes that were shown.

use clap::Subcommand;
use serde_json::{Value, json};

use super::mandate::{Commit, approve, check, print_done};
use super::output::{confirm, every_page, table};
use super::remote::{Remote, answer, request_id};
use super::{Context, Failure, Outcome, words};
use crate::domain::id::{Digest, ProposalId};
use crate::pb;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// List what waits.
    #[command(after_help = "Example:\n  countersign proposal list")]
    List,
    /// Show in words what a proposal would do, and who signed it.
    #[command(after_help = "Example:\n  countersign proposal show prp_01J...")]
    Show {
        /// The proposal.
        proposal: ProposalId,
    },
    /// Sign a proposal. It is carried out when yours is the last signature needed.
    #[command(after_help = "Example:\n  countersign proposal approve prp_01J... --identity bob")]
    Approve {
        /// The proposal.
        proposal: ProposalId,
        /// Sign without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Withdraw a proposal.
    #[command(after_help = "Example:\n  countersign proposal withdraw prp_01J... --commit")]
    Withdraw {
        /// The proposal.
        proposal: ProposalId,
        #[command(flatten)]
        commit: Commit,
    },
}

pub(super) async fn run(verb: Verb, context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    match verb {
        Verb::List => list(&remote, context).await,
        Verb::Show { proposal } => {
            let (_, text, value) = shown(&remote, context, proposal).await?;
            context.output.print(&value, &text);
            Ok(Outcome::Done)
        }
        Verb::Approve { proposal, yes } => {
            let (signed, text, _) = shown(&remote, context, proposal).await?;
            context.output.note(&text);
            let identity = context.connection.identity()?;
            confirm(&format!("Sign this as {}?", identity.name()?.principal), yes)?;
            let request = pb::ApproveProposalRequest {
                proposal_id: proposal.to_string(),
                approval: Some(approve(&identity, &signed.mandate)?),
                request_id: request_id(),
                validate_only: false,
            };
            let done = answer(remote.mandates().approve_proposal(request)).await?;
            let waits = (done.signatures_missing > 0).then_some(proposal);
            print_done(context.output, done.position, waits, done.signatures_missing)
        }
        Verb::Withdraw { proposal, commit } => {
            let request = pb::WithdrawProposalRequest {
                proposal_id: proposal.to_string(),
                request_id: request_id(),
                validate_only: !commit.commit,
            };
            let done = answer(remote.mandates().withdraw_proposal(request)).await?;
            if commit.commit {
                return print_done(context.output, done.position, None, 0);
            }
            let text = "It can be withdrawn. Nothing changed; add --commit to do it.";
            context.output.print(&json!({ "checked": true, "committed": false }), text);
            Ok(Outcome::Done)
        }
    }
}

fn signers(proposal: &pb::Proposal) -> Vec<String> {
    let approvals = proposal.mandate.iter().flat_map(|signed| &signed.approvals);
    approvals.map(|approval| words::printable(&approval.officer)).collect()
}

async fn list(remote: &Remote, context: &Context<'_>) -> Result<Outcome, Failure> {
    let proposals = every_page(async |page_token| {
        let request = pb::ListProposalsRequest { page_size: 0, page_token };
        let page = answer(remote.mandates().list_proposals(request)).await?;
        Ok((page.proposals, page.next_page_token))
    })
    .await?;
    let rows: Vec<_> = proposals
        .iter()
        .map(|proposal| {
            [
                proposal.proposal_id.clone(),
                proposal.command.clone(),
                proposal.made_at.clone(),
                signers(proposal).join(", "),
                proposal.signatures_missing.to_string(),
            ]
        })
        .collect();
    let value: Vec<_> = proposals
        .iter()
        .map(|proposal| {
            json!({
                "proposal_id": proposal.proposal_id, "command": proposal.command, "made_at": proposal.made_at,
                "signed_by": signers(proposal), "signatures_missing": proposal.signatures_missing,
            })
        })
        .collect();
    let header = ["PROPOSAL", "COMMAND", "MADE", "SIGNED BY", "MISSING"];
    context.output.print(&json!(value), &table(header, &rows));
    Ok(Outcome::Done)
}

fn gone(Failure(why): Failure) -> Failure {
    match why.starts_with("NOT_FOUND") {
        true => Failure(format!("{why}\n  what was carried out or withdrawn does not wait any more")),
        false => Failure(why),
    }
}

/// A proposal with its mandate, as text and as JSON: decoded on this machine, from the bytes that are signed.
async fn shown(
    remote: &Remote,
    context: &Context<'_>,
    id: ProposalId,
) -> Result<(pb::SignedMandate, String, Value), Failure> {
    let request = pb::GetProposalRequest { proposal_id: id.to_string() };
    let found = answer(remote.mandates().get_proposal(request)).await;
    let proposal = found.map_err(gone)?.proposal.unwrap_or_default();
    let signed_by = signers(&proposal);
    let signed = proposal.mandate.unwrap_or_default();
    let trust_domain = context.connection.identity()?.name()?.trust_domain;
    let mandate = check(&signed.mandate, &trust_domain)?;
    let described = words::mandate(&mandate, &signed.mandate)?;
    let by = if signed_by.is_empty() { "nobody yet".to_owned() } else { signed_by.join(", ") };
    let text = format!("{id}\n{described}  signed by   {by}\n");
    let value = json!({
        "proposal_id": id.to_string(), "command": mandate.command.name(), "in_words": described,
        "made_at": mandate.made_at.to_string(), "signed_by": signed_by,
        "sha256": Digest::of(&signed.mandate).to_string(), "signatures_missing": proposal.signatures_missing,
    });
    Ok((signed, text, value))
}
