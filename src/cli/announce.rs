//! `countersign revoke announce`: renew now, cut at T. One officer announces and hastens; two postpone and withdraw.

use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::mandate::{Commit, Wait, Waiting, carry_out};
use super::output::table;
use super::remote::incoming;
use super::restrict::ordinal;
use super::words::printable;
use super::{Context, Failure, Outcome};
use crate::domain::command::Command;
use crate::domain::id::{
    AnnouncementId, AuthorityId, DeterminationId, EntityId, LineageId, Ordinal, PersonId, SubjectId,
};
use crate::domain::revocation::{RevocationReason, RevocationScope};
use crate::domain::time::Timestamp;
use crate::env::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::pb;

/// How often the countdown moves between two messages of the server.
const COUNT: Duration = Duration::from_secs(1);

#[derive(Subcommand)]
pub(super) enum AnnounceVerb {
    /// Announce a revocation: whoever holds a certificate in scope renews it now, and what is left is revoked at an instant.
    #[command(after_help = "Examples:\n  \
                            countersign revoke announce --issuer aut_01J... --cut-at 2026-12-01T06:00:00Z --reason CA_COMPROMISE --commit\n  \
                            countersign revoke announce --entity ent_01J... --in-hours 24 --reason STATUS_CHANGED --commit")]
    Announce {
        #[command(flatten)]
        scope: Box<Scope>,
        #[command(flatten)]
        cut: Cut,
        /// Why, for example CA_COMPROMISE; a wrong word lists all.
        #[arg(long)]
        reason: RevocationReason,
        #[command(flatten)]
        commit: Commit,
        #[command(flatten)]
        wait: Waiting,
    },
    /// What is announced, and what authorities are to be replaced: how much is renewed, and how much time is left.
    #[command(
        after_help = "Examples:\n  countersign revoke announced\n  countersign revoke announced --watch --json | jq ."
    )]
    Announced {
        /// Go on showing it, as a countdown, until it is interrupted; with --json one object a line.
        #[arg(long)]
        watch: bool,
    },
    /// Cut what was announced earlier. One officer signs.
    #[command(
        after_help = "Example:\n  countersign revoke hasten ann_01J... --cut-at 2026-12-01T02:00:00Z --commit"
    )]
    Hasten {
        /// The announcement.
        announcement: AnnouncementId,
        #[command(flatten)]
        cut: Cut,
        #[command(flatten)]
        commit: Commit,
        #[command(flatten)]
        wait: Waiting,
    },
    /// Cut what was announced later. Two officers sign, until three seconds before it is cut.
    #[command(
        after_help = "Example:\n  countersign revoke postpone ann_01J... --cut-at 2026-12-02T06:00:00Z --commit"
    )]
    Postpone {
        /// The announcement.
        announcement: AnnouncementId,
        #[command(flatten)]
        cut: Cut,
        #[command(flatten)]
        commit: Commit,
    },
    /// Withdraw an announcement: nothing of it is revoked. Two officers sign, until three seconds before it is cut.
    #[command(after_help = "Example:\n  countersign revoke withdraw ann_01J... --commit")]
    Withdraw {
        /// The announcement.
        announcement: AnnouncementId,
        #[command(flatten)]
        commit: Commit,
    },
}

/// When: exactly one of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Cut {
    /// The instant, RFC 3339; at most seven days ahead.
    #[arg(long, value_name = "TIME")]
    cut_at: Option<Timestamp>,
    /// So many hours from now.
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u16).range(0..=168))]
    in_hours: Option<u16>,
}

impl Cut {
    fn at(&self) -> Timestamp {
        let hours = i64::from(self.in_hours.unwrap_or_default());
        // In whole seconds, as lists and people count.
        let later = SystemClock.now().plus_ms(hours * 3_600_000).seconds();
        self.cut_at.unwrap_or(Timestamp::from_millis(later * 1_000))
    }
}

/// What is to be renewed: exactly one of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Scope {
    /// What an access authority issued so far.
    #[arg(long)]
    issuer: Option<AuthorityId>,
    /// What was issued so far to the people and workloads of an entity.
    #[arg(long)]
    entity: Option<EntityId>,
    /// What was issued so far to a person, in every employment.
    #[arg(long)]
    person: Option<PersonId>,
    /// What was issued so far to one employment or workload.
    #[arg(long)]
    subject: Option<SubjectId>,
    /// A chain of renewals so far.
    #[arg(long)]
    lineage: Option<LineageId>,
    /// What was issued so far that states a determination.
    #[arg(long)]
    determination: Option<DeterminationId>,
    /// What states one revision of its annex, for example 2026-06-26-lift/3.
    #[arg(long, value_name = "DETERMINATION/NUMBER", value_parser = revision)]
    annex_revision: Option<(DeterminationId, u32)>,
    /// One certificate.
    #[arg(long, value_name = "ORDINAL", value_parser = ordinal)]
    certificate: Option<Ordinal>,
}

fn revision(text: &str) -> Result<(DeterminationId, u32), String> {
    let (id, number) = text.split_once('/').ok_or("DETERMINATION/NUMBER is needed")?;
    let id = id.parse().map_err(|e: crate::domain::id::InvalidId| e.to_string())?;
    let number = number.parse().map_err(|_| "a number is needed after the /")?;
    Ok((id, number))
}

impl Scope {
    fn scope(self) -> Result<RevocationScope, Failure> {
        let scope = self.issuer.map(RevocationScope::Issuer);
        let scope = scope.or(self.entity.map(RevocationScope::Entity));
        let scope = scope.or(self.person.map(RevocationScope::Person));
        let scope = scope.or(self.subject.map(RevocationScope::Subject));
        let scope = scope.or(self.lineage.map(RevocationScope::Lineage));
        let scope = scope.or(self.determination.map(RevocationScope::Determination));
        let revision = |(id, number)| RevocationScope::AnnexRevision(id, number);
        let scope = scope.or(self.annex_revision.map(revision));
        let scope = scope.or(self.certificate.map(RevocationScope::Certificate));
        scope.ok_or_else(|| Failure("say what is to be renewed, for example --issuer".to_owned()))
    }
}

pub(super) async fn run(verb: AnnounceVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        AnnounceVerb::Announce { scope, cut, reason, commit, wait } => {
            let id = AnnouncementId::from_parts(SystemClock.now(), SystemEntropy.bytes16());
            let command = Command::AnnounceRevocation { id, scope: scope.scope()?, cut_at: cut.at(), reason };
            carry_out(context, command, commit, wait).await
        }
        AnnounceVerb::Hasten { announcement, cut, commit, wait } => {
            let command = Command::HastenRevocation { announcement, cut_at: cut.at() };
            carry_out(context, command, commit, wait).await
        }
        AnnounceVerb::Postpone { announcement, cut, commit } => {
            let command = Command::PostponeRevocation { announcement, cut_at: Some(cut.at()) };
            carry_out(context, command, commit, Wait::default()).await
        }
        AnnounceVerb::Withdraw { announcement, commit } => {
            let command = Command::PostponeRevocation { announcement, cut_at: None };
            carry_out(context, command, commit, Wait::default()).await
        }
        AnnounceVerb::Announced { watch: false } => list(context).await,
        AnnounceVerb::Announced { watch: true } => watch(context).await,
    }
}

async fn list(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let mut lists = incoming(remote.revocation().watch_renewals(pb::WatchRenewalsRequest {})).await?;
    let found = lists.next().await?.unwrap_or_default();
    let now = SystemClock.now();
    context.output.print(&value(&found.campaigns), &rows(&found.campaigns, now));
    Ok(Outcome::Done)
}

/// Shows the countdown until it is interrupted, or nobody reads: on a terminal with a bar, elsewhere a line for each change.
async fn watch(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} renewed  {msg}") {
        bar.set_style(style);
    }
    loop {
        // The server ends a watch after an hour; this one goes on.
        let request = pb::WatchRenewalsRequest {};
        let mut lists = incoming(remote.revocation().watch_renewals(request)).await?;
        let mut last = Vec::new();
        loop {
            let next = tokio::time::timeout(COUNT, lists.next()).await;
            match next {
                Ok(list) => match list? {
                    Some(list) => last = list.campaigns,
                    None => break,
                },
                Err(_) if bar.is_hidden() || context.output.is_json() => continue,
                Err(_) => {}
            }
            if !show(&last, &bar, context) {
                return Ok(Outcome::Done);
            }
        }
    }
}

fn show(campaigns: &[pb::RenewalCampaign], bar: &ProgressBar, context: &Context<'_>) -> bool {
    use std::io::Write as _;
    let now = SystemClock.now();
    if !bar.is_hidden() && !context.output.is_json() {
        bar.set_length(campaigns.iter().map(|row| row.affected).sum());
        bar.set_position(campaigns.iter().map(|row| row.renewed).sum());
        bar.set_message(line(campaigns, now));
        return true;
    }
    let text = match context.output.is_json() {
        true => json!({ "campaigns": value(campaigns) }).to_string(),
        false => rows(campaigns, now),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// What is cut next, for the bar.
fn line(campaigns: &[pb::RenewalCampaign], now: Timestamp) -> String {
    let mut next: Vec<_> = campaigns.iter().filter(|row| row.left > 0).collect();
    next.sort_by(|a, b| (a.cut_at.is_empty(), &a.cut_at).cmp(&(b.cut_at.is_empty(), &b.cut_at)));
    let Some(first) = next.first() else { return "nothing is left to renew".to_owned() };
    let more = if next.len() > 1 { format!("; {} more", next.len() - 1) } else { String::new() };
    format!("{} of {} left, {}{more}", first.left, printable(&first.cause), time_left(first, now))
}

/// How long until it is cut.
fn time_left(row: &pb::RenewalCampaign, now: Timestamp) -> String {
    let Ok(at) = row.cut_at.parse::<Timestamp>() else { return "no instant is set".to_owned() };
    let seconds = at.seconds().saturating_sub(now.seconds());
    match seconds {
        ..=0 => format!("cut {} s ago", -seconds),
        seconds => format!("cut in {}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60),
    }
}

fn rows(campaigns: &[pb::RenewalCampaign], now: Timestamp) -> String {
    let row = |row: &pb::RenewalCampaign| {
        [
            printable(&row.cause),
            printable(&row.state),
            if row.scope.is_empty() { "-".to_owned() } else { printable(&row.scope) },
            format!("{} of {}", row.renewed, row.affected),
            row.left.to_string(),
            time_left(row, now),
        ]
    };
    let header = ["CAUSE", "STATE", "SCOPE", "RENEWED", "LEFT", "WHEN"];
    table(header, &campaigns.iter().map(row).collect::<Vec<_>>())
}

fn value(campaigns: &[pb::RenewalCampaign]) -> Value {
    let of = |row: &pb::RenewalCampaign| {
        let holders = row.holders.iter();
        let holders = holders.map(|h| json!({ "entity_id": h.entity_id, "certificates": h.certificates }));
        let left = row.certificates.iter();
        let left = left.map(|c| json!({ "subject_id": c.subject_id, "ordinal": c.ordinal }));
        json!({
            "cause": row.cause, "state": row.state, "scope": row.scope, "reason": row.reason,
            "since": row.since, "cut_at": row.cut_at, "affected": row.affected, "renewed": row.renewed,
            "left": row.left, "holders": Value::from_iter(holders), "certificates": Value::from_iter(left),
        })
    };
    Value::from_iter(campaigns.iter().map(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn campaign(cause: &str, cut_at: &str, left: u64) -> pb::RenewalCampaign {
        let (cause, cut_at) = (cause.to_owned(), cut_at.to_owned());
        pb::RenewalCampaign { cause, cut_at, left, affected: 10, renewed: 10 - left, ..Default::default() }
    }

    #[test]
    fn a_countdown_shows_what_is_cut_next_and_how_much_of_it_is_left() {
        let now: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
        let later = campaign("ann_b\u{1b}", "2026-12-01T06:01:05Z", 3);
        assert_eq!(time_left(&later, now), "cut in 6:01:05");
        assert_eq!(time_left(&later, "2026-12-01T06:01:15Z".parse().unwrap()), "cut 10 s ago");
        let tainted = campaign("aut_a", "", 2);
        assert_eq!(time_left(&tainted, now), "no instant is set");
        let done = campaign("ann_c", "2026-12-01T01:00:00Z", 0);
        assert_eq!(line(std::slice::from_ref(&done), now), "nothing is left to renew");
        assert_eq!(line(&[tainted, done, later], now), "3 of ann_b\u{fffd} left, cut in 6:01:05; 1 more");
    }

    #[test]
    fn a_revision_of_an_annex_is_named_with_its_determination() {
        assert_eq!(revision("2026-06-26-lift/3"), Ok(("2026-06-26-lift".parse().unwrap(), 3)));
        for wrong in ["2026-06-26-lift", "x/", "/3", "a b/3"] {
            assert!(revision(wrong).is_err(), "{wrong}");
        }
    }
}
