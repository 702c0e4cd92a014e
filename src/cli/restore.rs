//! `countersign restore`: a record goes on from a backup; and how far access is restored after a lift.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::backup::HEAD;
use super::mandate::{Commit, Wait, carry_out, progress};
use super::output::table;
use super::remote::{Remote, answer};
use super::{Context, Failure, Outcome, Output, due, files, head, words};
use crate::app::backup::{Restored, restore};
use crate::domain::codec::from_bytes;
use crate::domain::command::Command;
use crate::domain::head::SignedHead;
use crate::domain::id::{BootId, Seq};
use crate::env::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use crate::journal::file::Options;
use crate::pb;

/// The progress is drawn after this many records.
const PROGRESS_RECORDS: u64 = 1_000;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// On the service's machine, before it starts: verify a backup and go on from it in a new epoch.
    ///
    /// Certificates that may have been issued after the backup are revoked, open proposals and unredeemed tokens are gone.
    /// The service then comes up closed: it permits nothing and grants no lease until officers acknowledge the restore,
    /// and it takes back the revocations and stops that gateways still hold. Its keys folder is not part of a backup: put
    /// it in its place first.
    #[command(
        after_help = "Example:\n  countersign restore begin --from /backup/countersign --data /var/lib/countersign \\\n    \
                            --log-key alice/log-key.pem"
    )]
    Begin(Begin),
    /// What is known to be lost, and which gateways gave back what they held.
    #[command(after_help = "Example:\n  countersign restore show --identity alice")]
    Show,
    /// Go on from the backup, knowing what may be missing. Two officers sign.
    #[command(after_help = "Example:\n  countersign restore acknowledge --identity alice --commit")]
    Acknowledge {
        #[command(flatten)]
        commit: Commit,
    },
    /// After a lift: who may use a model by the record, cohort by cohort, who still has to enroll, and why others are denied.
    #[command(after_help = "Example:\n  countersign restore plan --model mythos-5")]
    Plan {
        #[command(flatten)]
        query: due::Query,
    },
    /// After a lift: how many of them have a certificate, and how long it took.
    #[command(after_help = "Examples:\n  countersign restore status --model mythos-5 --watch\n  \
                            countersign restore status --model mythos-5 --entity ent_01J... --json")]
    Status {
        #[command(flatten)]
        query: due::Query,
        /// Go on showing it until everybody eligible has a certificate.
        #[arg(long)]
        watch: bool,
    },
}

#[derive(Args)]
pub(super) struct Begin {
    /// Folder of the backup.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The service's folder; it must not have a record.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The public log key, from an officer's identity: the backup must be covered by a head that it signed.
    #[arg(long, value_name = "FILE", required_unless_present = "unsealed")]
    log_key: Option<PathBuf>,
    /// The backup is a copy of a service's folder, which no signed head covers: nothing vouches for its end.
    #[arg(long, conflicts_with = "log_key")]
    unsealed: bool,
}

pub(super) fn begin(arguments: &Begin, output: &Output) -> Result<Outcome, Failure> {
    let Begin { from, data, log_key, .. } = arguments;
    let vouched = log_key.as_deref().map(|key| sealed(from, key)).transpose()?;
    let (now, salt) = (SystemClock.now(), SystemEntropy.bytes16());
    let boot = BootId::from_parts(now, SystemEntropy.bytes16());
    files::make_folder(data)?;
    let bar = progress("restoring");
    let mut shown = |seq: Seq| {
        if seq.0.is_multiple_of(PROGRESS_RECORDS) {
            bar.set_message(format!("restoring, at record {seq}"));
        }
    };
    let restored = restore((from, data), &Options::new(salt), (boot, now), vouched.as_ref(), &mut shown);
    bar.finish_and_clear();
    let Restored { from: end, head, torn } = restored?;
    let dropped = torn.as_ref().map_or_else(String::new, |torn| {
        format!(
            "DROPPED: a torn frame after the last record ({}, byte {}, record {}): {}\n",
            torn.segment, torn.offset, torn.seq, torn.why
        )
    });
    let text = format!(
        "restored records 1 to {} of epoch {} into {}; epoch {} begins at record {}\n{dropped}\
         The service comes up closed: nothing is permitted and no lease granted. Next:\n  \
         countersign serve --config ...               (the keys folder must be in its place)\n  \
         countersign restore show                     (until the gateways have given back what they hold)\n  \
         countersign restore acknowledge --commit     (two officers)",
        end.seq,
        end.epoch,
        data.display(),
        head.epoch,
        head.seq
    );
    let value = json!({
        "records": end.seq.0, "root": end.root.to_string(), "epoch": head.epoch.0, "restored": head.seq.0,
        "sealed": vouched.is_some(), "dropped": torn.map(|torn| torn.seq.0),
    });
    output.print(&value, &text);
    Ok(Outcome::Done)
}

/// The head that the backup was sealed with, if the log key signed it.
fn sealed(from: &Path, log_key: &Path) -> Result<SignedHead, Failure> {
    let path = from.join(HEAD);
    let signed: SignedHead = from_bytes(&files::read(&path)?)
        .map_err(|e| Failure(format!("{} is not a signed head: {e}", path.display())))?;
    signed.verify(&head::read_log_key(log_key)?)?;
    Ok(signed)
}

pub(super) async fn run(verb: Verb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        Verb::Begin(_) => Err(Failure("this verb needs no server".to_owned())),
        Verb::Show => show(context).await,
        Verb::Plan { query } => due::plan(&query, context).await,
        Verb::Status { query, watch } => due::status(&query, watch, context).await,
        Verb::Acknowledge { commit } => {
            let remote = context.connection.remote().await?;
            let restore = last(&remote).await?.filter(|restore| restore.acknowledged_seq == 0);
            let restore = restore.ok_or_else(|| Failure("no restore waits for officers".to_owned()))?;
            let restored = Seq(restore.position.unwrap_or_default().seq);
            carry_out(context, Command::AcknowledgeRestore { restored }, commit, Wait::default()).await
        }
    }
}

async fn last(remote: &Remote) -> Result<Option<pb::Restore>, Failure> {
    Ok(answer(remote.audit().get_restore(pb::GetRestoreRequest {})).await?.restore)
}

async fn show(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let Some(restore) = last(&remote).await? else {
        context.output.print(&json!(null), "The record was never restored from a backup.");
        return Ok(Outcome::Done);
    };
    let (position, end) = (restore.position.unwrap_or_default(), restore.backup_end.unwrap_or_default());
    let lost = match restore.records_lost {
        0 => "no record is known to be lost".to_owned(),
        count => format!("{count} records are known to be lost, {} to {}", end.seq + 1, end.seq + count),
    };
    let standing = match restore.acknowledged_seq {
        0 => "WAITS: nothing is permitted until two officers acknowledge it".to_owned(),
        seq => format!("acknowledged at record {seq}"),
    };
    let rows: Vec<_> = restore
        .reports
        .iter()
        .map(|report| {
            let gateway = words::printable(&report.gateway);
            [gateway, report.applied_seq.to_string(), report.restrictions.to_string(), report.time.clone()]
        })
        .collect();
    let silent: Vec<_> = restore.silent_gateways.iter().map(|gateway| words::printable(gateway)).collect();
    let text = format!(
        "restored {} at record {}, epoch {}\nfrom     a backup that ends at record {} of epoch {}\nlost     {lost}\n\
         revoked  certificates {} to {}, which may have been issued since\nsilent   {}\n{}{standing}\n\n{}",
        restore.time,
        position.seq,
        position.epoch,
        end.seq,
        end.epoch,
        restore.first_ordinal,
        restore.last_ordinal,
        if silent.is_empty() { "no registered gateway".to_owned() } else { silent.join(", ") },
        given_back(&restore),
        table(["GATEWAY", "APPLIED", "GAVE BACK", "AT"], &rows),
    );
    let value = json!({
        "restored": position.seq, "epoch": position.epoch, "time": restore.time, "backup_end": end.seq,
        "records_lost": restore.records_lost, "first_ordinal": restore.first_ordinal,
        "last_ordinal": restore.last_ordinal, "reports": reports(&restore), "silent_gateways": restore.silent_gateways,
        "announcements": announcements(&restore),
        "acknowledged": (restore.acknowledged_seq != 0).then_some(restore.acknowledged_seq),
    });
    context.output.print(&value, &text);
    Ok(Outcome::Done)
}

fn announcements(restore: &pb::Restore) -> Vec<serde_json::Value> {
    let announcement = |one: &pb::AnnouncementGivenBack| {
        json!({
            "announcement_id": one.announcement_id, "announced_at": one.announced_at, "cut_at": one.cut_at,
        })
    };
    restore.announcements.iter().map(announcement).collect()
}

fn reports(restore: &pb::Restore) -> Vec<serde_json::Value> {
    let report = |report: &pb::RestoreReport| {
        json!({
            "gateway": report.gateway, "applied": report.applied_seq, "restrictions": report.restrictions,
            "time": report.time, "keys_spared": report.keys_spared,
        })
    };
    restore.reports.iter().map(report).collect()
}

/// What officers have to look at of what gateways gave back, a line each.
fn given_back(restore: &pb::Restore) -> String {
    let announced = restore.announcements.iter().map(|one| {
        let [id, at] = [&one.announcement_id, &one.cut_at].map(|text| words::printable(text));
        format!("cut      {id} at {at}, as gateways gave back; why is lost\n")
    });
    let keys =
        restore.reports.iter().flat_map(|report| report.keys_spared.iter().map(move |key| (report, key)));
    let spared = keys.map(|(report, key)| {
        let [gateway, key] = [&report.gateway, key].map(|text| words::printable(text));
        format!("LOOK     {gateway} says that the key {key} is blocked; too few would be left\n")
    });
    announced.chain(spared).collect()
}
