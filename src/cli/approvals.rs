//! `countersign approvals`: what waits for another officer. What is approved is shown in words first, decoded on this machine
//! from exactly the bytes that are signed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::mandate::{Commit, Wait, approve, carry_out, check, print_done};
use super::output::{confirm, every_page, table};
use super::remote::{Remote, answer, incoming, request_id};
use super::{Context, Failure, Outcome, policy, words};
use crate::domain::command::Command;
use crate::domain::id::{Digest, ProposalId, Seq};
use crate::domain::officer_command::OfficerCommand;
use crate::pb;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// List what waits.
    #[command(after_help = "Example:\n  countersign approvals list")]
    List,
    /// Say in words what a proposal would change, who proposed it, who may still approve it, and when it lapses.
    #[command(after_help = "Example:\n  countersign approvals show prp_01J...")]
    Show {
        /// The proposal.
        proposal: ProposalId,
        /// For a policy bundle: CSV file of cases and expected outcomes, run here against exactly what is signed.
        #[arg(long)]
        vectors: Vec<PathBuf>,
    },
    /// Sign a proposal. It is carried out when yours is the last signature needed.
    #[command(after_help = "Example:\n  countersign approvals approve prp_01J... --identity bob")]
    Approve {
        /// The proposal.
        proposal: ProposalId,
        /// For a policy bundle: CSV file of cases and expected outcomes, run here against exactly what is signed. Nothing is
        /// signed while one disagrees.
        #[arg(long)]
        vectors: Vec<PathBuf>,
        /// Sign without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Reject a proposal, with a reason that goes on record. Who proposed it may do so too.
    #[command(
        after_help = "Example:\n  countersign approvals reject prp_01J... --reason 'the licence ended' --commit"
    )]
    Reject {
        /// The proposal.
        proposal: ProposalId,
        /// Why; no personal data.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        commit: Commit,
    },
    /// Close the review of an emergency (break-glass) of another officer, with what was found.
    #[command(
        after_help = "Example:\n  countersign approvals close-review 412 --finding 'the stop was right' --commit"
    )]
    CloseReview {
        /// The record of the emergency, as `approvals list` prints it.
        #[arg(value_name = "RECORD", value_parser = record)]
        review: u64,
        /// What was found; no personal data.
        #[arg(long)]
        finding: String,
        #[command(flatten)]
        commit: Commit,
    },
    /// What waits, and then each change of it, a line each; with --json one object a line.
    #[command(
        after_help = "Examples:\n  countersign approvals watch\n  countersign approvals watch --json | jq -c .proposal_id"
    )]
    Watch,
}

fn record(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        "the number of a record is needed: `countersign approvals list` prints it as REVIEW".to_owned()
    })
}

pub(super) async fn run(verb: Verb, context: &Context<'_>) -> Result<Outcome, Failure> {
    if let Verb::CloseReview { review, finding, commit } = verb {
        let command = OfficerCommand::CloseReview { review: Seq(review), finding };
        return carry_out(context, Command::Officers(command), commit, Wait::default()).await;
    }
    let remote = context.connection.remote().await?;
    match verb {
        Verb::List => list(&remote, context).await,
        Verb::Show { proposal, vectors } => {
            let shown = shown(&remote, context, proposal, &vectors).await?;
            context.output.print(&shown.value, &shown.text);
            Ok(Outcome::Done)
        }
        Verb::Approve { proposal, vectors, yes } => sign(&remote, context, (proposal, yes), &vectors).await,
        Verb::Reject { proposal, reason, commit } => {
            let request = pb::RejectProposalRequest {
                proposal_id: proposal.to_string(),
                reason,
                request_id: request_id(),
                validate_only: !commit.commit,
            };
            let done = answer(remote.mandates().reject_proposal(request)).await?;
            if commit.commit {
                return print_done(context.output, done.position, None, 0);
            }
            let text = "It can be rejected. Nothing changed; add --commit to do it.";
            context.output.print(&json!({ "checked": true, "committed": false }), text);
            Ok(Outcome::Done)
        }
        Verb::Watch => watch(&remote, context).await,
        Verb::CloseReview { .. } => Err(Failure("it is a command of its own".to_owned())),
    }
}

async fn sign(
    remote: &Remote,
    context: &Context<'_>,
    (id, yes): (ProposalId, bool),
    vectors: &[PathBuf],
) -> Result<Outcome, Failure> {
    let shown = shown(remote, context, id, vectors).await?;
    context.output.note(&shown.text);
    if shown.disagrees {
        return Err(Failure("a vector disagrees with this bundle; nothing was signed".to_owned()));
    }
    if shown.status != WAITING {
        return Err(Failure(format!("{id} waits no more: {}; nothing was signed", shown.status)));
    }
    let identity = context.connection.identity()?;
    confirm(&format!("Sign this as {}?", identity.name()?.principal), yes)?;
    let request = pb::ApproveProposalRequest {
        proposal_id: id.to_string(),
        approval: Some(approve(&identity, &shown.mandate)?),
        request_id: request_id(),
        validate_only: false,
    };
    let done = answer(remote.mandates().approve_proposal(request)).await?;
    let waits = (done.signatures_missing > 0).then_some(id);
    print_done(context.output, done.position, waits, done.signatures_missing)
}

/// The status of a proposal that can be signed.
const WAITING: &str = "WAITING";

fn or_nobody(names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| words::printable(name)).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

/// Its status, and why it is so.
fn standing(proposal: &pb::Proposal) -> String {
    let mut text = words::printable(&proposal.status);
    if !proposal.closed_by.is_empty() {
        text.push_str(&format!(" by {}", words::printable(&proposal.closed_by)));
    }
    if proposal.closed_seq > 0 {
        text.push_str(&format!(" in record {}", proposal.closed_seq));
    }
    if !proposal.why.is_empty() {
        text.push_str(&format!(": {}", words::printable(&proposal.why)));
    }
    text
}

fn value(proposal: &pb::Proposal) -> Value {
    json!({
        "proposal_id": proposal.proposal_id, "command": proposal.command, "status": proposal.status,
        "why": proposal.why, "made_at": proposal.made_at, "lapses_at": proposal.lapses_at,
        "signed_by": proposal.signed_by, "may_approve": proposal.may_approve,
        "signatures_missing": proposal.signatures_missing, "closed_by": proposal.closed_by,
        "closed_seq": proposal.closed_seq,
    })
}

async fn list(remote: &Remote, context: &Context<'_>) -> Result<Outcome, Failure> {
    let (reviews, recoveries) = (std::cell::RefCell::new(Vec::new()), std::cell::RefCell::new(Vec::new()));
    let proposals = every_page(async |page_token| {
        let request = pb::ListProposalsRequest { page_size: 0, page_token };
        let page = answer(remote.mandates().list_proposals(request)).await?;
        reviews.borrow_mut().extend(page.reviews);
        recoveries.borrow_mut().extend(page.recoveries);
        Ok((page.proposals, page.next_page_token))
    })
    .await?;
    let row = |proposal: &pb::Proposal| {
        [
            words::printable(&proposal.proposal_id),
            words::printable(&proposal.command),
            or_nobody(&proposal.signed_by),
            or_nobody(&proposal.may_approve),
            words::printable(&proposal.lapses_at),
            standing(proposal),
        ]
    };
    let header = ["PROPOSAL", "COMMAND", "SIGNED BY", "MAY APPROVE", "LAPSES", "STATUS"];
    let rows: Vec<_> = proposals.iter().map(row).collect();
    let mut text = table(header, &rows);
    let reviews = reviews.into_inner();
    for review in &reviews {
        text = format!("{}\n{}\n", text.trim_end(), review_line(review));
    }
    let recoveries = recoveries.into_inner();
    for recovery in &recoveries {
        text = format!("{}\n{}\n", text.trim_end(), recovery_line(recovery));
    }
    let value = json!({
        "recoveries": Value::from_iter(recoveries.iter().map(recovery_value)),
        "proposals": Value::from_iter(proposals.iter().map(value)),
        "reviews": Value::from_iter(reviews.iter().map(review_value)),
    });
    context.output.print(&value, &text);
    Ok(Outcome::Done)
}

fn recovery_line(recovery: &pb::Recovery) -> String {
    format!(
        "RECOVERY {id}  registers {} ({}) at {}, key sha-256 {}\n  if nobody of you asked for it: countersign approvals reject \
         {id} --reason TEXT --commit",
        words::printable(&recovery.principal),
        or_nobody(&recovery.roles),
        words::printable(&recovery.effective_at),
        words::printable(&recovery.key_sha256),
        id = words::printable(&recovery.recovery_id),
    )
}

fn recovery_value(recovery: &pb::Recovery) -> Value {
    json!({
        "recovery_id": recovery.recovery_id, "principal": recovery.principal, "roles": recovery.roles,
        "key_sha256": recovery.key_sha256, "announced_at": recovery.announced_at,
        "effective_at": recovery.effective_at, "signed_by": recovery.signed_by,
    })
}

fn review_line(review: &pb::Review) -> String {
    format!(
        "REVIEW {}  {} ({}) by {} at {}, without the role: {}",
        review.review,
        words::printable(&review.command),
        or_nobody(&review.objects),
        or_nobody(&review.officers),
        words::printable(&review.time),
        words::printable(&review.reason)
    )
}

fn review_value(review: &pb::Review) -> Value {
    json!({
        "review": review.review, "officers": review.officers, "command": review.command, "scope": review.scope,
        "objects": review.objects, "reason": review.reason, "time": review.time,
    })
}

/// Prints each change until it is interrupted or nobody reads.
async fn watch(remote: &Remote, context: &Context<'_>) -> Result<Outcome, Failure> {
    let mut out = std::io::stdout();
    loop {
        // The server ends a watch after an hour; this one goes on, and shows again what waits.
        let mut news = incoming(remote.mandates().watch_approvals(pb::WatchApprovalsRequest {})).await?;
        while let Some(news) = news.next().await? {
            for line in lines(&news, context.output.is_json()) {
                if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                    return Ok(Outcome::Done);
                }
            }
        }
    }
}

fn lines(news: &pb::WatchApprovalsResponse, json: bool) -> Vec<String> {
    let proposal = |one: &pb::Proposal| if json { value(one).to_string() } else { line(one) };
    let opened = |one: &pb::Review| if json { review_value(one).to_string() } else { review_line(one) };
    let closed = |review: &u64| match json {
        true => json!({ "reviewed": review }).to_string(),
        false => format!("REVIEW {review}  closed"),
    };
    let recovery =
        |one: &pb::Recovery| if json { recovery_value(one).to_string() } else { recovery_line(one) };
    let ended = |id: &String| match json {
        true => json!({ "ended_recovery": id }).to_string(),
        false => format!("RECOVERY {}  waits no more", words::printable(id)),
    };
    let recoveries = news.recoveries.iter().map(recovery).chain(news.ended_recoveries.iter().map(ended));
    let proposals = recoveries.chain(news.changed.iter().map(proposal));
    proposals.chain(news.reviews.iter().map(opened)).chain(news.reviewed.iter().map(closed)).collect()
}

fn line(proposal: &pb::Proposal) -> String {
    format!(
        "{}  {}  signed by {}  {}",
        words::printable(&proposal.proposal_id),
        words::printable(&proposal.command),
        or_nobody(&proposal.signed_by),
        standing(proposal)
    )
}

fn gone(Failure(why): Failure) -> Failure {
    match why.starts_with("NOT_FOUND") {
        true => Failure(format!(
            "{why}\n  what was closed some time ago is in countersign audit list; a RECOVERY of approvals list is approved by \
             nobody: any one officer rejects it"
        )),
        false => Failure(why),
    }
}

/// A proposal as it is shown, and the bytes that it was decoded from.
struct Shown {
    mandate: Vec<u8>,
    status: String,
    /// A vector disagrees with the bundle.
    disagrees: bool,
    text: String,
    value: Value,
}

/// A proposal with its mandate, as text and as JSON: decoded on this machine, from the bytes that are signed.
async fn shown(
    remote: &Remote,
    context: &Context<'_>,
    id: ProposalId,
    vectors: &[PathBuf],
) -> Result<Shown, Failure> {
    let request = pb::GetProposalRequest { proposal_id: id.to_string() };
    let found = answer(remote.mandates().get_proposal(request)).await;
    let proposal = found.map_err(gone)?.proposal.unwrap_or_default();
    let signed = proposal.mandate.clone().unwrap_or_default();
    let trust_domain = context.connection.identity()?.name()?.trust_domain;
    let mandate = check(&signed.mandate, &trust_domain)?;
    let described = words::mandate(&mandate, &signed.mandate)?;
    let mut text = format!("{id}\n{described}");
    let changes = policy::changes(context, &mandate.command).await?;
    for line in &changes {
        writeln!(text, "  changes     {}", words::printable(line))?;
    }
    let tested = policy::tested(&mandate.command, vectors)?;
    for (told, _) in &tested {
        writeln!(text, "  vectors     {}", words::printable(told))?;
    }
    for object in proposal.objects.iter().filter(|object| object.revision_now != object.revision_then) {
        writeln!(
            text,
            "  CHANGED     {}: record {} now",
            words::printable(&object.object),
            object.revision_now
        )?;
    }
    writeln!(text, "  signed by   {}", or_nobody(&proposal.signed_by))?;
    writeln!(text, "  may approve {}", or_nobody(&proposal.may_approve))?;
    writeln!(text, "  lapses      {}", words::printable(&proposal.lapses_at))?;
    writeln!(text, "  status      {}", standing(&proposal))?;
    let objects = proposal.objects.iter().map(|object| {
        json!({
            "object": object.object, "revision_then": object.revision_then, "revision_now": object.revision_now,
        })
    });
    let mut value = value(&proposal);
    if let Value::Object(fields) = &mut value {
        fields.insert("in_words".to_owned(), described.into());
        fields.insert("changes".to_owned(), changes.into());
        fields.insert("vectors".to_owned(), Value::from_iter(tested.iter().map(|(told, _)| told.clone())));
        fields.insert("sha256".to_owned(), Digest::of(&signed.mandate).to_string().into());
        fields.insert("objects".to_owned(), Value::from_iter(objects));
        // What the bytes say, not what the server says of them.
        fields.insert("command".to_owned(), mandate.command.name().into());
    }
    let disagrees = tested.iter().any(|(_, agrees)| !agrees);
    Ok(Shown { mandate: signed.mandate.to_vec(), status: proposal.status, disagrees, text, value })
}
