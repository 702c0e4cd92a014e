//! `countersign audit` and `journal`: the record, from the server or from a folder on disk.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::mandate::progress;
use super::output::table;
use super::remote::answer;
use super::signed::Signed;
use super::{Context, Failure, Outcome, Output, calls, decisions, explain, holds, partners, signals, words};
use crate::app::store::{StoreError, Verified, verify_offline};
use crate::domain::codec::from_bytes;
use crate::domain::head::SignedHead;
use crate::domain::id::Seq;
use crate::journal::JournalError;
use crate::pb;

/// The progress is drawn after this many records.
const PROGRESS_RECORDS: u64 = 1_000;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// The signed head: what the log key vouches for. Keep it; a later head must contain it.
    #[command(after_help = "Example:\n  countersign audit head --json > head-2026-06-27.json")]
    Head,
    /// List records in order.
    #[command(after_help = "Example:\n  countersign audit list --from 1 --limit 50")]
    List {
        /// The first record.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
    },
    /// Who called what, and what came of it: every call, refused ones too.
    #[command(after_help = "Examples:\n  countersign audit calls --refused --since 2026-06-27T00:00:00Z\n  \
                      countersign audit calls --principal officer-1 --method Revoke\n  \
                      countersign audit calls --request req_01J...\n  \
                      countersign audit calls --limit 1000000 --ocsf > calls.jsonl")]
    Calls(Box<calls::Query>),
    /// Say that a record is wrong, and which later one says it right. Nothing is edited.
    #[command(
        after_help = "Example:\n  countersign audit correct --record 120 --by 131 --reason 'relation of another person' --commit"
    )]
    Correct(partners::Correct),
    /// Who was permitted or denied what, and why: every decision of the server, and of gateways as they reported it.
    #[command(
        after_help = "Examples:\n  countersign audit decisions --outcome deny --since 2026-06-27T00:00:00Z\n  \
                      countersign audit decisions --entity ent_01J... --model mythos-5\n  \
                      countersign audit decisions --id dec_01J...\n  \
                      countersign audit decisions --limit 1000000 --ocsf > decisions.jsonl"
    )]
    Decisions(Box<decisions::Query>),
    /// Recorded permits that would be denied by the facts as they are known now: for a disclosure (15 CFR 764.5).
    #[command(after_help = "Examples:\n  countersign audit exposure --since 2026-06-12T00:00:00Z\n  \
                      countersign audit exposure --entity ent_01J... --json")]
    Exposure(explain::ExposureQuery),
    /// What in decisions somebody should look at: bursts of denials, impossible moves, sleepers that woke.
    #[command(
        after_help = "Examples:\n  countersign audit signals\n  countersign audit signals --follow > signals.jsonl"
    )]
    Signals(signals::Query),
    /// Orders to keep records whatever their age: place one, release it, list them.
    #[command(subcommand)]
    Hold(holds::Verb),
}

#[derive(Subcommand)]
pub(super) enum JournalVerb {
    /// Verify a stopped service's record: every checksum, digest, tree hash, rule and officer's signature; and the audit of
    /// calls and the record of decisions against the record.
    #[command(after_help = "Example:\n  countersign journal verify --data ./data\n\n\
                            Exit code 1: damaged; the segment, byte and record are named.")]
    Verify {
        /// The service's folder.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

pub(super) async fn run(verb: &Verb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        Verb::Head => head(context).await,
        Verb::List { from, limit } => list(*from, *limit, context).await,
        Verb::Calls(query) => calls::run(query, context).await,
        Verb::Correct(correct) => partners::correct(correct, context).await,
        Verb::Decisions(query) => decisions::run(query, context).await,
        Verb::Exposure(query) => explain::exposure(query, context).await,
        Verb::Signals(query) => signals::run(query, context).await,
        Verb::Hold(verb) => holds::run(verb, context).await,
    }
}

async fn head(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let head = answer(remote.audit().get_head(pb::GetHeadRequest::default())).await?;
    let signed: SignedHead = from_bytes(&head.signed_head)
        .map_err(|e| Failure(format!("the server sent something else than a signed head: {e}")))?;
    let text = format!(
        "epoch   {}\nrecord  {}\nroot    {}\nsigned  {} with the log key {}",
        signed.epoch, signed.seq, signed.root, signed.time, signed.key
    );
    let value = json!({
        "epoch": signed.epoch.0, "record": signed.seq.0, "root": signed.root.to_string(),
        "time": signed.time.to_string(), "key_sha256": signed.key.to_string(),
        "signed_head": hex::encode(&head.signed_head),
    });
    context.output.print(&value, &text);
    Ok(Outcome::Done)
}

async fn list(from: u64, limit: u32, context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let limit_len = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut records, mut from_seq) = (Vec::new(), from);
    // Ends: each page moves on, and the limit bounds the rows.
    while records.len() < limit_len {
        let left = u32::try_from(limit_len - records.len()).unwrap_or(limit);
        let request = pb::ListRecordsRequest { from_seq, page_size: left };
        let page = answer(remote.audit().list_records(request)).await?;
        let is_last = page.next_seq <= from_seq || page.records.is_empty();
        records.extend(page.records);
        if is_last {
            break;
        }
        from_seq = page.next_seq;
    }
    records.truncate(limit_len);
    let trust_domain = context.connection.identity()?.name()?.trust_domain;
    let signed: Vec<_> = records.iter().map(|record| Signed::of(record, &trust_domain)).collect();
    let rows: Vec<_> = records
        .iter()
        .zip(&signed)
        .map(|(record, signed)| {
            let actor =
                if record.actor.is_empty() { "-".to_owned() } else { words::printable(&record.actor) };
            let by: Vec<_> = record.corrected_by.iter().map(|by| format!(" (corrected by {by})")).collect();
            let event = format!("{}{}", signed.named(&record.event), by.concat());
            [record.seq.to_string(), record.time.clone(), event, actor]
        })
        .collect();
    let value: Vec<_> = records
        .iter()
        .zip(&signed)
        .map(|(record, signed)| {
            json!({
                "seq": record.seq, "epoch": record.epoch, "time": record.time, "event": record.event,
                "command": signed.command, "signed_by": signed.by, "actor": record.actor, "body_sha256": hex::encode(&record.body_sha256),
                "body": hex::encode(&record.body), "corrected_by": record.corrected_by,
            })
        })
        .collect();
    context.output.print(&json!(value), &table(["RECORD", "TIME", "EVENT", "BY"], &rows));
    Ok(Outcome::Done)
}

pub(super) fn journal(verb: &JournalVerb, output: &Output) -> Result<Outcome, Failure> {
    let JournalVerb::Verify { data } = verb;
    let bar = progress("verifying");
    let mut shown = |seq: Seq| {
        if seq.0.is_multiple_of(PROGRESS_RECORDS) {
            bar.set_message(format!("verifying, at record {seq}"));
        }
    };
    let verified = verify_offline(data, &mut shown);
    bar.finish_and_clear();
    match verified {
        Ok(verified) if !(verified.calls.faults.is_empty() && verified.decisions.faults.is_empty()) => {
            print_altered(&verified, output);
            Ok(Outcome::Failed)
        }
        Ok(verified) => Ok(print_good(data, &verified, output)),
        Err(StoreError::Journal(JournalError::Corrupt { segment, offset, seq, why })) => {
            let text = format!("DAMAGED: segment {segment}, byte {offset}, record {seq}: {why}");
            let value =
                json!({ "good": false, "segment": segment, "offset": offset, "record": seq.0, "why": why });
            output.print(&value, &text);
            Ok(Outcome::Failed)
        }
        Err(error @ (StoreError::Apply(_) | StoreError::Body { .. })) => {
            output.print(&json!({ "good": false, "why": error.to_string() }), &format!("NOT GOOD: {error}"));
            Ok(Outcome::Failed)
        }
        Err(error) => Err(error.into()),
    }
}

/// The record is good, and the audit of calls or the record of decisions is not what it says.
fn print_altered(verified: &Verified, output: &Output) {
    let line = |of: &str, what: &str, segment, (offset, line): (Option<u64>, Option<u64>), why: &str| {
        let place = match (offset, line) {
            (Some(offset), Some(line)) => format!(", from byte {offset} ({what} {line}) on"),
            _ => String::new(),
        };
        format!("ALTERED: segment {segment} of the {of}{place}: {why}")
    };
    let (calls, decisions) = (&verified.calls.faults, &verified.decisions.faults);
    let of_calls =
        calls.iter().map(|at| line("audit of calls", "line", at.segment, (at.offset, at.line), &at.why));
    let of_decisions = decisions
        .iter()
        .map(|at| line("record of decisions", "decision", at.segment, (at.offset, at.line), at.why));
    let text: Vec<_> = of_calls.chain(of_decisions).collect();
    let fault = |segment: u64, offset: Option<u64>, line: Option<u64>, why: &str| json!({ "segment": segment, "offset": offset, "line": line, "why": why });
    let calls: Vec<_> = calls.iter().map(|at| fault(at.segment, at.offset, at.line, &at.why)).collect();
    let decisions: Vec<_> =
        decisions.iter().map(|at| fault(at.segment, at.offset, at.line, at.why)).collect();
    output.print(&json!({ "good": false, "calls": calls, "decisions": decisions }), &text.join("\n"));
}

fn print_good(data: &Path, verified: &Verified, output: &Output) -> Outcome {
    let journal = &verified.journal;
    let mut text = format!(
        "good: {} records in {} segments of {}\nhead  record {}, epoch {}, root {}\n",
        journal.records,
        journal.segments,
        data.display(),
        journal.head.seq,
        journal.head.epoch,
        journal.head.root
    );
    if journal.purged > 0 {
        text.push_str(&format!("note  {} bodies were purged\n", journal.purged));
    }
    let calls = &verified.calls;
    if calls.good + calls.unsealed + calls.retired > 0 {
        text.push_str(&format!(
            "calls {} lines; {} segments as the record says, {} not sealed yet, {} made room\n",
            calls.lines, calls.good, calls.unsealed, calls.retired
        ));
    }
    let decisions = &verified.decisions;
    if decisions.lines > 0 || decisions.removed > 0 {
        text.push_str(&format!(
            "decisions {}; {} segments as the record says, {} not sealed yet, {} removed after their time\n",
            decisions.lines, decisions.good, decisions.unsealed, decisions.removed
        ));
    }
    if let Some(seq) = journal.first_step_back {
        text.push_str(&format!(
            "note  {} records are older than the one before, first {seq}\n",
            journal.time_steps_back
        ));
    }
    if let Some(torn) = &journal.torn {
        text.push_str(&format!(
            "note  a torn frame at the end ({}, byte {}, record {}); the next start removes it. If an officer or \
             gateway has a signed head beyond record {}, it was durable: restore a backup\n",
            torn.segment, torn.offset, torn.seq, journal.head.seq
        ));
    }
    let value = json!({
        "good": true, "records": journal.records, "segments": journal.segments, "head": journal.head.seq.0,
        "epoch": journal.head.epoch.0, "root": journal.head.root.to_string(), "purged": journal.purged,
        "time_steps_back": journal.time_steps_back,
        "calls": {
            "lines": calls.lines, "good": calls.good, "unsealed": calls.unsealed, "retired": calls.retired,
        },
        "decisions": {
            "lines": decisions.lines, "good": decisions.good, "unsealed": decisions.unsealed,
            "removed": decisions.removed,
        },
        "torn": journal.torn.as_ref().map(|torn| json!({
            "segment": torn.segment, "offset": torn.offset, "record": torn.seq.0, "why": torn.why,
        })),
    });
    output.print(&value, &text);
    Outcome::Done
}
