//! `countersign backup`: a verified copy of the record, made while the service runs.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;

use super::files::{self, Access};
use super::identity::{Identity, LOG_KEY};
use super::mandate::progress;
use super::remote::{Remote, answer};
use super::{Context, Failure, Outcome, head};
use crate::app::backup::Backup;
use crate::app::store::{StoreError, verify_offline};
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::head::{PUBLIC_KEY_LEN, SignedHead};
use crate::domain::id::Seq;
use crate::env::{Entropy as _, SystemEntropy};
use crate::journal::file::Options;
use crate::journal::{Header, Record};
use crate::pb;

/// The signed head that covers a backup, canonical CBOR.
pub(super) const HEAD: &str = "head.cbor";
/// The folder of a copy's records.
const JOURNAL: &str = "journal";
/// Records asked for at a time; the server sends fewer when they are long.
const PAGE_LEN: u32 = 1_000;
/// The progress of the verification is drawn after this many records.
const PROGRESS_RECORDS: u64 = 1_000;

/// Copy the record of the running service into a folder, and verify the copy.
///
/// The first time it takes every record, later only what is new. Every record and signature is checked, and the log key's
/// signature over the whole. Who asks needs the role SECURITY_OPS or AUDITOR. Not in it: private keys, which never leave
/// the service's machine (keep copies of its keys folder offline), and the decisions that gateways reported.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  countersign backup --to /backup/countersign --identity alice\n\n\
                        Verify it anywhere, without the service:\n  countersign journal verify --data /backup/countersign")]
pub(super) struct Arguments {
    /// Folder of the backup; made when it is not there.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

pub(super) async fn run(arguments: &Arguments, context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let folder = &arguments.to;
    let (folder_path, salt) = (folder.clone(), SystemEntropy.bytes16());
    files::make_folder(folder)?;
    check_ours(folder)?;
    let backup = Backup::open(&folder_path, &Options::new(salt))?;
    let response = answer(remote.audit().get_head(pb::GetHeadRequest::default())).await?;
    let signed: SignedHead = from_bytes(&response.signed_head)
        .map_err(|e| Failure(format!("the server sent something else than a signed head: {e}")))?;
    let before = backup.head().seq;
    if before > signed.seq {
        return Err(Failure(format!(
            "{} goes up to record {before}, the server only to {}: the server lost history, or this is the backup of \
             another service; nothing was changed",
            folder.display(),
            signed.seq
        )));
    }
    let bar = progress("reading");
    let copied = copy(&remote, &backup, signed.seq, &bar).await;
    bar.finish_and_clear();
    copied?;
    let log_key = log_key(&context.connection.identity()?, &backup)?;
    signed.verify(&log_key)?;
    backup.check(&signed).map_err(|fault| {
        Failure(format!("{fault}; the copy in {} is not good: remove it and begin anew", folder.display()))
    })?;
    // The verification opens it itself.
    drop(backup);
    let records = verify(folder)?;
    files::write(&folder.join(HEAD), &to_bytes(&signed), Access::Private)?;
    let added = signed.seq.0 - before.0;
    let text = format!(
        "{} is good: records 1 to {} ({added} new), epoch {}\nroot    {}\nsigned  {} with the log key {}",
        folder.display(),
        signed.seq,
        signed.epoch,
        signed.root,
        signed.time,
        signed.key
    );
    let value = json!({
        "folder": folder, "good": true, "records": records, "added": added, "head": signed.seq.0,
        "epoch": signed.epoch.0, "root": signed.root.to_string(), "key_sha256": signed.key.to_string(),
    });
    context.output.print(&value, &text);
    Ok(Outcome::Done)
}

/// Refuses a folder in which no backup was begun and that holds something else: an identity, a service's keys, a home.
fn check_ours(folder: &Path) -> Result<(), Failure> {
    if folder.join(JOURNAL).exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        // What a fresh disk has.
        if name != "lost+found" {
            return Err(Failure(format!(
                "{} is no backup: it holds {}; name a new folder",
                folder.display(),
                name.display()
            )));
        }
    }
    Ok(())
}

/// Reads what is new, up to this record.
async fn copy(remote: &Remote, backup: &Backup, until: Seq, bar: &ProgressBar) -> Result<(), Failure> {
    let mut next = backup.head().seq.next();
    // Ends: each page moves on, or it fails.
    while next <= until {
        let request = pb::ListRecordsRequest { from_seq: next.0, page_size: PAGE_LEN };
        let page = answer(remote.audit().list_records(request)).await?;
        let records = page.records.into_iter().map(record).collect::<Result<Vec<_>, _>>()?;
        let wanted = records.partition_point(|record| record.header.seq <= until);
        let records = records.get(..wanted).unwrap_or_default();
        if records.is_empty() {
            return Err(Failure(format!("the server has no record {next}, which its head covers")));
        }
        next = backup.add(records)?.next();
        bar.set_message(format!("record {} of {until}", next.0 - 1));
    }
    Ok(())
}

fn record(message: pb::Record) -> Result<Record, Failure> {
    let header = Header::decode(&message.header)
        .ok_or_else(|| Failure(format!("the server sent no header of record {}", message.seq)))?;
    let is_purged = message.body.is_empty() && header.body_len > 0;
    Ok(Record { header, body: (!is_purged).then(|| message.body.to_vec()) })
}

/// The log key that the identity knows, or else the one that genesis names.
fn log_key(identity: &Identity, backup: &Backup) -> Result<[u8; PUBLIC_KEY_LEN], Failure> {
    let path = identity.path(LOG_KEY);
    if path.exists() { head::read_log_key(&path) } else { Ok(backup.log_key()?) }
}

/// Every record and every signature.
fn verify(folder: &Path) -> Result<u64, Failure> {
    let bar = progress("verifying");
    let mut shown = |seq: Seq| {
        if seq.0.is_multiple_of(PROGRESS_RECORDS) {
            bar.set_message(format!("verifying, at record {seq}"));
        }
    };
    let verified = verify_offline(folder, &mut shown);
    bar.finish_and_clear();
    let why = |fault: StoreError| {
        Failure(format!("the copy in {} is not good, although it is the server's: {fault}", folder.display()))
    };
    Ok(verified.map_err(why)?.journal.records)
}
