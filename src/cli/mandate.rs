//! How an officer acts: the server prepares a mandate, this machine checks that it says exactly what was meant, shows it
//! in words, signs it with the officer's key and sends it back.
//!
//! A dry run sends no signature: what is never signed can never be carried out by anybody.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::follow::beside;
use super::identity::Identity;
use super::remote::{NOT_THE_ROLE, Remote, answer, answer_within, request_id};
use super::{Context, Failure, Outcome, Output, words};
use crate::domain::approval::{MANDATE_PREFIX, Mandate};
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::Command;
use crate::domain::enforce::LEASE_MAX_MS;
use crate::domain::id::{ProposalId, Seq};
use crate::domain::officer_command::{Emergency, OfficerCommand};
use crate::pb;

/// The longest that a barrier takes: every lease has run out, with room for drift and a slow disk.
pub(super) const BARRIER_MAX: Duration = Duration::from_millis(2 * LEASE_MAX_MS as u64);
/// What the server says to who has the role and asks for an emergency.
const BREAK_NO_GLASS: &str = "break no glass";
/// What the server says to who lacks the role.
const NOT_A_SIGNER: &str = "a restriction is submitted by who may sign one";
/// How often the clock of a wait moves.
const PROGRESS_TICK: Duration = Duration::from_millis(100);

/// For what widens or destroys.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Commit {
    /// Sign and do it. Without this flag it is only checked, and nothing is signed.
    #[arg(long)]
    pub(super) commit: bool,
}

/// For what takes away and can be given back.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Check {
    /// Only check whether it could be done; nothing is signed.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Waiting for enforcement.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Waiting {
    /// Wait until it is enforced at every gateway; exit 1 when that is not so in the end.
    #[arg(long)]
    pub(super) wait: bool,
    /// With --wait: answer after this many milliseconds at the latest; 0: as long as the leases take.
    #[arg(long, value_name = "MS", default_value_t = 0, requires = "wait")]
    pub(super) deadline_ms: u32,
}

/// Waiting for the enforcement of what may be an emergency, and doing it without the role.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Wait {
    #[command(flatten)]
    waiting: Waiting,
    /// An emergency: do it without the role for it, and say why. Another officer reviews it afterwards.
    #[arg(long, value_name = "REASON")]
    break_glass: Option<String>,
}

impl From<Waiting> for Wait {
    fn from(waiting: Waiting) -> Self {
        Self { waiting, break_glass: None }
    }
}

/// Whether a command is carried out or only checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Commit,
    /// With the flag that would carry it out.
    CheckOnly(&'static str),
}

impl From<Commit> for Doing {
    fn from(flag: Commit) -> Self {
        if flag.commit { Self::Commit } else { Self::CheckOnly("add --commit to sign and do it") }
    }
}

impl From<Check> for Doing {
    fn from(flag: Check) -> Self {
        if flag.dry_run { Self::CheckOnly("leave out --dry-run to do it") } else { Self::Commit }
    }
}

/// Carries out a command of the calling officer, as far as one signature goes.
pub(super) async fn carry_out(
    context: &Context<'_>,
    command: Command,
    doing: impl Into<Doing>,
    wait: impl Into<Wait>,
) -> Result<Outcome, Failure> {
    carry_out_on(context, command, (None, doing.into()), wait.into()).await
}

/// The same, if the mandate rests on this record of its first object: what was shown or built on is what is replaced.
pub(super) async fn carry_out_on(
    context: &Context<'_>,
    command: Command,
    (base, doing): (Option<Seq>, Doing),
    mut wait: Wait,
) -> Result<Outcome, Failure> {
    let command = in_emergency(command, wait.break_glass.take())?;
    let (remote, signed) = sign(context, &command, doing).await?;
    if let Some(base) = base {
        let mandate: Mandate = from_bytes(&signed.mandate).map_err(|e| Failure(e.to_string()))?;
        if let Some(basis) = mandate.basis.first().filter(|basis| basis.revision != base) {
            return Err(Failure(format!(
                "{} changed meanwhile, in record {}; nothing was sent: look again and repeat the command",
                basis.object, basis.revision
            )));
        }
    }
    let sending = Sending { remote, signed, doing, wait: wait.waiting };
    let done = match command.is_restricting() {
        true => sending.restrict(&command, context.output).await,
        false => sending.submit(context.output).await,
    };
    done.map_err(|why| refused(why, &command))
}

/// A refusal for want of the role, with what an emergency allows.
fn refused(Failure(why): Failure, command: &Command) -> Failure {
    match command {
        Command::Officers(OfficerCommand::BreakGlass { .. }) if why.contains(BREAK_NO_GLASS) => Failure(
            why.replace(NOT_THE_ROLE, "leave out --break-glass: it is done at once, and nobody reviews it"),
        ),
        other if why.contains(NOT_A_SIGNER) && Emergency::of(other).is_some() => Failure(format!(
            "{why}\n  an emergency, and nobody with the role answers? add --break-glass REASON; another officer reviews it"
        )),
        _ => Failure(why),
    }
}

/// Has the mandate of a command prepared, shows it in words, and signs it unless it is only checked.
pub(super) async fn sign(
    context: &Context<'_>,
    command: &Command,
    doing: Doing,
) -> Result<(Remote, pb::SignedMandate), Failure> {
    let identity = context.connection.identity()?;
    let name = identity.name()?;
    let remote = context.connection.remote().await?;
    let request = pb::PrepareMandateRequest { command: to_bytes(command).into() };
    let prepared = answer(remote.mandates().prepare_mandate(request)).await?;
    let mandate = check(&prepared.mandate, &name.trust_domain)?;
    if mandate.command != *command {
        return Err(Failure(
            "the server prepared another command than the one that was asked for; nothing was signed"
                .to_owned(),
        ));
    }
    context.output.note(&words::mandate(&mandate, &prepared.mandate)?);
    let approvals = match doing {
        Doing::Commit => vec![approve(&identity, &prepared.mandate)?],
        Doing::CheckOnly(_) => Vec::new(),
    };
    Ok((remote, pb::SignedMandate { mandate: prepared.mandate, approvals }))
}

/// The command as who lacks the role for it signs it.
fn in_emergency(command: Command, reason: Option<String>) -> Result<Command, Failure> {
    let Some(reason) = reason else { return Ok(command) };
    let what = Emergency::of(&command).ok_or_else(|| {
        Failure(format!(
            "--break-glass is for what is only taken away at once, and {} is not",
            command.name()
        ))
    })?;
    Ok(Command::Officers(OfficerCommand::BreakGlass { what, reason }))
}

/// The mandate that the bytes spell, if it is for this trust domain and names what it rests on.
pub(super) fn check(bytes: &[u8], trust_domain: &str) -> Result<Mandate, Failure> {
    let mandate: Mandate = from_bytes(bytes).map_err(|e| {
        Failure(format!("the server sent something else than a mandate ({e}); nothing was signed"))
    })?;
    if mandate.trust_domain != trust_domain {
        return Err(Failure(format!(
            "the mandate is for the trust domain {} and this identity of {trust_domain}; nothing was signed",
            words::printable(&mandate.trust_domain)
        )));
    }
    let objects = mandate.basis.iter().map(|basis| &basis.object);
    if !objects.eq(mandate.command.objects().iter()) {
        return Err(Failure(
            "the mandate does not rest on the objects of its command; nothing was signed".to_owned(),
        ));
    }
    Ok(mandate)
}

/// The officer's signature over exactly these bytes.
pub(super) fn approve(identity: &Identity, mandate: &[u8]) -> Result<pb::Approval, Failure> {
    let officer = identity.name()?.principal.to_string();
    Ok(pb::Approval { officer, signature: identity.sign(MANDATE_PREFIX, mandate)?.into() })
}

struct Sending {
    remote: Remote,
    signed: pb::SignedMandate,
    doing: Doing,
    wait: Waiting,
}

impl Sending {
    async fn submit(self, output: &Output) -> Result<Outcome, Failure> {
        let request = pb::SubmitMandateRequest {
            mandate: Some(self.signed),
            request_id: request_id(),
            validate_only: self.doing != Doing::Commit,
        };
        let done = answer(self.remote.mandates().submit_mandate(request)).await?;
        if let Doing::CheckOnly(how) = self.doing {
            return print_checked(output, how);
        }
        let proposal = done.proposal_id.parse::<ProposalId>().ok();
        print_done(output, done.position, proposal, done.signatures_missing)
    }

    async fn restrict(self, command: &Command, output: &Output) -> Result<Outcome, Failure> {
        let (mandate, request_id) = (Some(self.signed), request_id());
        let validate_only = self.doing != Doing::Commit;
        let (wait, deadline_ms) = match self.wait.wait && !validate_only {
            true => (pb::Wait::Enforced.into(), self.wait.deadline_ms),
            false => (pb::Wait::Committed.into(), 0),
        };
        let deadline = match deadline_ms {
            0 => BARRIER_MAX,
            ms => Duration::from_millis(u64::from(ms)),
        };
        let mut revocation = self.remote.revocation();
        let asked = request_id.clone();
        let carried_out = async {
            Ok(match command {
                Command::Stop { .. } => {
                    let request = pb::StopRequest { mandate, wait, deadline_ms, request_id, validate_only };
                    answer_within(deadline, revocation.stop(request)).await?.enforcement
                }
                Command::Suspend { .. }
                | Command::Hold { .. }
                | Command::Officers(OfficerCommand::Suspend { .. }) => {
                    let request =
                        pb::SuspendRequest { mandate, wait, deadline_ms, request_id, validate_only };
                    answer_within(deadline, revocation.suspend(request)).await?.enforcement
                }
                _ => {
                    let request = pb::RevokeRequest { mandate, wait, deadline_ms, request_id, validate_only };
                    answer_within(deadline, revocation.revoke(request)).await?.enforcement
                }
            })
        };
        let enforcement = if self.wait.wait && !validate_only {
            let progress = progress("waiting for the gateways");
            let answered = beside(carried_out, &self.remote, asked, &progress).await;
            progress.finish_and_clear();
            answered?
        } else {
            carried_out.await?
        };
        if let Doing::CheckOnly(how) = self.doing {
            return print_checked(output, how);
        }
        let enforcement =
            enforcement.ok_or_else(|| Failure("the server did not say how enforcement stands".to_owned()))?;
        let is_glass = matches!(command, Command::Officers(OfficerCommand::BreakGlass { .. }));
        print_enforcement(output, &enforcement, (self.wait.wait, is_glass))
    }
}

/// A clock on standard error that runs while something is awaited; invisible without a terminal.
pub(super) fn progress(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed_precise}");
    let bar = ProgressBar::new_spinner().with_message(what);
    let bar = style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style));
    bar.enable_steady_tick(PROGRESS_TICK);
    bar
}

pub(super) fn print_checked(output: &Output, how: &str) -> Result<Outcome, Failure> {
    let text = format!("It can be done. Nothing was signed and nothing changed; {how}.");
    output.print(&json!({ "checked": true, "committed": false }), &text);
    Ok(Outcome::Done)
}

/// "done at record N", or which proposal waits for whom.
pub(super) fn print_done(
    output: &Output,
    position: Option<pb::Position>,
    proposal: Option<ProposalId>,
    missing: u32,
) -> Result<Outcome, Failure> {
    let seq = position.unwrap_or_default().seq;
    let text = match proposal {
        None => format!("done at record {seq}"),
        Some(id) => format!(
            "proposal {id} waits for {missing} more signature(s), of another officer:\n  \
             countersign approvals approve {id}"
        ),
    };
    let value = json!({
        "committed": proposal.is_none(), "record": seq, "proposal": proposal.map(|id| id.to_string()),
        "signatures_missing": missing,
    });
    output.print(&value, &text);
    Ok(Outcome::Done)
}

fn print_enforcement(
    output: &Output,
    at: &pb::Enforcement,
    (waited, is_glass): (bool, bool),
) -> Result<Outcome, Failure> {
    let seq = at.position.as_ref().map_or(0, |position| position.seq);
    let status = at.status().as_str_name().trim_start_matches("ENFORCEMENT_STATUS_");
    let by = at.enforced_by().as_str_name().trim_start_matches("ENFORCED_BY_");
    let mut text = if at.durable {
        format!("done at record {seq}: {status}")
    } else {
        "NOT on disk: it is held in memory, and the server permits nothing and grants no lease until it can write"
            .to_owned()
    };
    if waited && at.durable {
        write!(text, " after {} ms", at.took_ms)?;
    }
    text.push('\n');
    for (label, names) in [
        ("acked", &at.acked),
        ("weak", &at.weak),
        ("lease_expired", &at.lease_expired),
        ("pending", &at.pending),
    ] {
        if waited {
            let names = if names.is_empty() { "-".to_owned() } else { names.join(", ") };
            writeln!(text, "  {label:<14} {names}")?;
        }
    }
    // The record of an emergency names its review.
    let review = (is_glass && at.durable).then_some(seq);
    let value = json!({
        "record": seq, "status": status, "enforced_by": by, "durable": at.durable, "took_ms": at.took_ms,
        "acked": at.acked, "weak": at.weak, "lease_expired": at.lease_expired, "pending": at.pending,
        "review": review,
    });
    if let Some(seq) = review {
        writeln!(text, "review {seq} is open; another officer closes it:")?;
        writeln!(text, "  countersign approvals close-review {seq} --finding TEXT --commit")?;
    }
    output.print(&value, &text);
    let is_enforced = at.status() == pb::EnforcementStatus::Enforced;
    Ok(if at.durable && (is_enforced || !waited) { Outcome::Done } else { Outcome::Failed })
}
