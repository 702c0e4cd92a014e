//! `countersign screening`: import a list, look at matches, resolve them; and names of which a person must choose.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::mandate::{Commit, Wait, carry_out, progress};
use super::output::{every_page, table};
use super::remote::{Remote, answer, answer_within};
use super::{Context, Failure, Outcome, words};
use crate::domain::command::Command;
use crate::domain::entity::{Screening, ScreeningResult};
use crate::domain::id::{Digest, EntityId};
use crate::domain::screening::{MatchVerdict, SCORE_MIN, ScreeningList};
use crate::domain::time::Timestamp;
use crate::pb;
use crate::screening::{EntryKind, ListEntry, ListSummary, NameIndex, Query, read_list};

/// How much of a file goes in one message.
const PART_LEN: usize = 256 << 10;
/// How long an upload may take: the server reads the list before it answers.
const UPLOAD_LIMIT: Duration = Duration::from_secs(75);
/// Parts that wait to be sent.
const PARTS_AHEAD: usize = 4;
/// The longest file of names: ten thousand long ones.
const NAMES_LEN_MAX: u64 = 4 << 20;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Make a file of the Consolidated Screening List the newest list. Every entity is compared with it at once.
    #[command(
        after_help = "Example:\n  countersign screening import consolidated.csv --list-version csl-2026-06-27 \\\n      \
                      --list-date 2026-06-27T00:00:00Z --commit\n\nThe file is consolidated.csv, consolidated.tsv or \
                      consolidated.json as trade.gov publishes it. Without --commit it is read here and at the server, \
                      and nothing changes."
    )]
    Import(Import),
    /// Show the newest list and the matches that are open or confirmed.
    #[command(after_help = "Example:\n  countersign screening list")]
    List,
    /// Show every match of an entity, with why, and what was made of it.
    #[command(after_help = "Example:\n  countersign screening show ent_01J...")]
    Show {
        /// Of whom.
        entity: EntityId,
    },
    /// Say what a match is.
    #[command(
        after_help = "Examples:\n  countersign screening resolve ent_01J... 5f2a90c1 --false-positive \\\n      \
                            --reason 'another registry number and country' --commit\n  countersign screening resolve \
                            ent_01J... 5f2a90c1 --confirm --reason 'same registry number' --commit\n\nOne vetter signs. \
                            From a score of 95 on, two officers say that it is somebody else, and two withdraw what was \
                            confirmed."
    )]
    Resolve(Resolve),
    /// Record by hand what came of screening people and owners, whom this service does not know by name.
    #[command(
        after_help = "Example:\n  countersign screening record ent_01J... --list-version csl-2026-06-27 \\\n      \
                            --list-date 2026-06-27T00:00:00Z --result CLEAR --reason 'no match' --commit"
    )]
    Record {
        /// Of whom.
        entity: EntityId,
        /// Name of the list version, as published.
        #[arg(long)]
        list_version: String,
        /// When that version was published.
        #[arg(long, value_name = "RFC3339")]
        list_date: Timestamp,
        /// CLEAR, UNRESOLVED or CONFIRMED.
        #[arg(long)]
        result: ScreeningResult,
        /// Why it came out so; no personal data.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        commit: Commit,
    },
    /// For each name of a file, show the registered entities that are close. Matches nothing: a person chooses.
    #[command(
        after_help = "Example:\n  countersign screening candidates annex-names.txt\n\nThe file has one name a line, as \
                            the annex or the application spells it."
    )]
    Candidates {
        /// The names, one a line, in UTF-8.
        file: PathBuf,
        /// The least score that is shown.
        #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u8).range(0..=100))]
        score_min: u8,
    },
}

#[derive(Args)]
pub(super) struct Import {
    /// The file.
    file: PathBuf,
    /// Name of the version; each is imported once.
    #[arg(long)]
    list_version: String,
    /// When it was published. Decisions rest on it for as long as the policy says from then on.
    #[arg(long, value_name = "RFC3339")]
    list_date: Timestamp,
    /// It may have over 10 % fewer entries than the list before; two officers sign.
    #[arg(long)]
    shrinks: bool,
    /// The least score that is a match; for a higher one than the default two officers sign.
    #[arg(long, default_value_t = SCORE_MIN, value_parser = clap::value_parser!(u8).range(0..=100))]
    score_min: u8,
    #[command(flatten)]
    commit: Commit,
}

#[derive(Args)]
pub(super) struct Resolve {
    /// Of whom.
    entity: EntityId,
    /// The match: the first digits of its entry, as `screening show` prints them.
    entry: String,
    #[command(flatten)]
    verdict: Verdict,
    /// Why; no personal data.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    commit: Commit,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Verdict {
    /// It is somebody else.
    #[arg(long)]
    false_positive: bool,
    /// It is the party: everything is denied to it.
    #[arg(long)]
    confirm: bool,
    /// What was confirmed is not so, or not any more.
    #[arg(long)]
    withdraw: bool,
}

impl Verdict {
    const fn word(&self) -> MatchVerdict {
        match (self.confirm, self.withdraw) {
            (true, _) => MatchVerdict::Confirmed,
            (false, true) => MatchVerdict::Withdrawn,
            (false, false) => MatchVerdict::FalsePositive,
        }
    }
}

pub(super) async fn run(verb: Verb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        Verb::Import(arguments) => import(arguments, context).await,
        Verb::List => list(context).await,
        Verb::Show { entity } => show(entity, context).await,
        Verb::Resolve(arguments) => resolve(arguments, context).await,
        Verb::Record { entity, list_version, list_date, result, reason, commit } => {
            let screening = Screening { list_version, list_date, result };
            let command = Command::RecordScreening { entity, screening, reason };
            carry_out(context, command, commit, Wait::default()).await
        }
        Verb::Candidates { file, score_min } => candidates(&file, score_min, context).await,
    }
}

async fn import(arguments: Import, context: &Context<'_>) -> Result<Outcome, Failure> {
    let Import { file, list_version, list_date, shrinks, score_min, commit } = arguments;
    // Here first: what is wrong with a file is said before anything is sent.
    let summary = read_here(&file)?;
    let by_source: Vec<_> = summary.by_source.iter().map(|(source, n)| format!("{source} {n}")).collect();
    context.output.note(&format!(
        "{}: {} with {} entries ({})\n",
        file.display(),
        summary.format,
        summary.entries,
        words::printable(&by_source.join(", "))
    ));
    let remote = context.connection.remote().await?;
    let uploaded = upload(&remote, &file).await?;
    if (uploaded.file.as_str(), uploaded.entries) != (summary.file.to_string().as_str(), summary.entries) {
        return Err(Failure("the server read another file than this machine; nothing was signed".to_owned()));
    }
    let list = ScreeningList {
        version: list_version,
        date: list_date,
        file: summary.file,
        entries: summary.entries,
        score_min,
    };
    carry_out(context, Command::ImportScreeningList { list, shrinks }, commit, Wait::default()).await
}

fn read_here(file: &Path) -> Result<ListSummary, Failure> {
    let open = File::open(file).map_err(|e| Failure(format!("{}: {e}", file.display())))?;
    read_list(std::io::BufReader::new(open), |_| Ok(()))
        .map_err(|e| Failure(format!("{}: {e}", file.display())))
}

async fn upload(remote: &Remote, path: &Path) -> Result<pb::UploadListResponse, Failure> {
    let mut file = File::open(path)?;
    // Full: the reader waits, so memory holds a few parts.
    let (send, parts) = tokio::sync::mpsc::channel(PARTS_AHEAD);
    let reading = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        loop {
            let mut part = Vec::new();
            (&mut file).take(PART_LEN as u64).read_to_end(&mut part)?;
            if part.is_empty() || send.blocking_send(pb::UploadListRequest { part: part.into() }).is_err() {
                return Ok(());
            }
        }
    });
    let bar = progress("uploading and reading the list");
    let parts = tokio_stream::wrappers::ReceiverStream::new(parts);
    let uploaded = answer_within(UPLOAD_LIMIT, remote.screening().upload_list(parts)).await;
    bar.finish_and_clear();
    let read = reading.await.map_err(|e| Failure(e.to_string()))?;
    read.map_err(|e| Failure(format!("{}: {e}", path.display())))?;
    uploaded
}

async fn matches(
    remote: &Remote,
    entity_id: String,
    pending_only: bool,
) -> Result<Vec<pb::ScreeningMatch>, Failure> {
    every_page(async |page_token| {
        let request =
            pb::ListMatchesRequest { entity_id: entity_id.clone(), pending_only, page_size: 0, page_token };
        let page = answer(remote.screening().list_matches(request)).await?;
        Ok((page.matches, page.next_page_token))
    })
    .await
}

async fn list(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let newest = answer(remote.screening().get_screening(pb::GetScreeningRequest {})).await?;
    let matches = matches(&remote, String::new(), true).await?;
    let mut text = match newest.list_version.as_str() {
        "" => "no list was imported: `countersign screening import`\n".to_owned(),
        version => format!(
            "list      {} of {}, {} entries, fresh until {}\nmatches   from a score of {}\nwaiting   {} entities\n",
            words::printable(version),
            newest.list_date,
            newest.entries,
            newest.fresh_until,
            newest.score_min,
            newest.waiting
        ),
    };
    if newest.file_missing {
        text.push_str("MISSING   the file is not at the server: nobody is compared; import it again\n");
    }
    let rows: Vec<_> = matches
        .iter()
        .map(|found| {
            [
                found.entity_id.clone(),
                short(&found.entry),
                found.source.clone(),
                found.score.to_string(),
                found.result.clone(),
                words::printable(&found.entity_name),
            ]
        })
        .collect();
    text.push_str(&table(["ENTITY", "ENTRY", "LIST", "SCORE", "RESULT", "NAME"], &rows));
    let value = json!({
        "list_version": newest.list_version, "list_date": newest.list_date, "file": newest.file,
        "entries": newest.entries, "score_min": newest.score_min, "fresh_until": newest.fresh_until,
        "file_missing": newest.file_missing, "waiting": newest.waiting, "open_matches": newest.open_matches,
        "matches": matches.iter().map(value).collect::<Vec<_>>(),
    });
    context.output.print(&value, &text);
    Ok(Outcome::Done)
}

fn short(entry: &str) -> String {
    entry.chars().take(12).collect()
}

fn value(found: &pb::ScreeningMatch) -> serde_json::Value {
    json!({
        "entity_id": found.entity_id, "entity_name": found.entity_name, "entry": found.entry, "entry_id": found.entry_id,
        "source": found.source, "listed_name": found.listed_name, "score": found.score,
        "explanation": found.explanation, "list_version": found.list_version, "result": found.result,
        "verdict": found.verdict, "reason": found.reason, "resolved_at": found.resolved_at, "record": found.record,
    })
}

async fn show(entity: EntityId, context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let matches = matches(&remote, entity.to_string(), false).await?;
    let mut text = String::new();
    for found in &matches {
        let listed = match found.listed_name.as_str() {
            "" => "(not on the newest list)".to_owned(),
            name => words::printable(name),
        };
        writeln!(text, "{} {} score {} {}", short(&found.entry), found.source, found.score, found.result)?;
        writeln!(text, "  ours      {}", words::printable(&found.entity_name))?;
        writeln!(text, "  listed    {listed}, id {}", words::printable(&found.entry_id))?;
        writeln!(text, "  why       {}", words::printable(&found.explanation))?;
        writeln!(text, "  found in  {}", words::printable(&found.list_version))?;
        if !found.verdict.is_empty() {
            let reason = words::printable(&found.reason);
            writeln!(
                text,
                "  verdict   {} at {}, record {}: {reason}",
                found.verdict, found.resolved_at, found.record
            )?;
        }
    }
    if matches.is_empty() {
        text.push_str("no match\n");
    }
    context.output.print(&json!(matches.iter().map(value).collect::<Vec<_>>()), &text);
    Ok(Outcome::Done)
}

async fn resolve(arguments: Resolve, context: &Context<'_>) -> Result<Outcome, Failure> {
    let Resolve { entity, entry, verdict, reason, commit } = arguments;
    let remote = context.connection.remote().await?;
    let all = matches(&remote, entity.to_string(), false).await?;
    let mut named = all.iter().filter(|found| !entry.is_empty() && found.entry.starts_with(&entry));
    let found = match (named.next(), named.next()) {
        (Some(found), None) => found,
        (None, _) => {
            return Err(Failure(format!(
                "{entity} has no match with an entry {}; `countersign screening show {entity}` lists them",
                words::printable(&entry)
            )));
        }
        (Some(_), Some(_)) => {
            return Err(Failure("more than one entry begins so; give more digits".to_owned()));
        }
    };
    context.output.note(&format!(
        "ours {:?}, listed {:?} ({}), score {}\n",
        found.entity_name, found.listed_name, found.source, found.score
    ));
    let digest: Digest = found.entry.parse()?;
    let score = u8::try_from(found.score)?;
    let verdict = verdict.word();
    let command = Command::ResolveScreeningMatch { entity, entry: digest, score, verdict, reason };
    carry_out(context, command, commit, Wait::default()).await
}

async fn candidates(file: &Path, score_min: u8, context: &Context<'_>) -> Result<Outcome, Failure> {
    let names = names(file)?;
    let remote = context.connection.remote().await?;
    let entities = every_page(async |page_token| {
        let request = pb::ListEntitiesRequest { page_size: 0, page_token };
        let page = answer(remote.provisioning().list_entities(request)).await?;
        Ok((page.entities, page.next_page_token))
    })
    .await?;
    let mut index = NameIndex::new();
    for entity in entities {
        index.add(registered(entity)).map_err(|fault| Failure(fault.to_string()))?;
    }
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for name in &names {
        let hits = index.find(Query { name, country: None, score_min });
        let shown = words::printable(name);
        if hits.is_empty() {
            rows.push([shown.clone(), "-".to_owned(), "no candidate".to_owned(), String::new()]);
        }
        for hit in &hits {
            let score = hit.score.to_string();
            rows.push([shown.clone(), score, hit.entry.id.clone(), words::printable(hit.name)]);
        }
        let close = hits.iter().map(|hit| {
            json!({ "entity_id": hit.entry.id, "name": hit.name, "score": hit.score, "explanation": hit.explanation })
        });
        values.push(json!({ "name": name, "matched": null, "candidates": close.collect::<Vec<_>>() }));
    }
    let mut text = table(["NAME", "SCORE", "ENTITY", "REGISTERED AS"], &rows);
    text.push_str(
        "Nothing was matched. Choose yourself, and name entities: `countersign annex amend --add ent_...`\n",
    );
    context.output.print(&json!(values), &text);
    Ok(Outcome::Done)
}

/// Names, one a line; each once.
fn names(file: &Path) -> Result<Vec<String>, Failure> {
    let wrong = |why: String| Failure(format!("{}: {why}", file.display()));
    let mut bytes = Vec::new();
    let open = File::open(file).map_err(|e| wrong(e.to_string()))?;
    open.take(NAMES_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > NAMES_LEN_MAX {
        return Err(wrong("it is longer than 4 MiB".to_owned()));
    }
    let mut names = BTreeMap::new();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = std::str::from_utf8(line).map_err(|_| wrong(format!("line {} is not UTF-8", at + 1)))?;
        let name = line.trim_start_matches('\u{feff}').trim();
        if !name.is_empty() && names.values().all(|known| known != name) {
            names.insert(at, name.to_owned());
        }
    }
    if names.is_empty() {
        return Err(wrong("it has no names".to_owned()));
    }
    Ok(names.into_values().collect())
}

fn registered(entity: pb::Entity) -> ListEntry {
    ListEntry {
        id: entity.entity_id,
        source: "REGISTRY".to_owned(),
        kind: EntryKind::Entity,
        name: entity.name,
        alt_names: Vec::new(),
        countries: Vec::new(),
        programs: Vec::new(),
        start_date: String::new(),
        end_date: String::new(),
    }
}
