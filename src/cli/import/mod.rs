//! `countersign person import`: many people from a file, as nominations and attestations. Whatever ends it half way, the
//! same command goes on: the server takes each person once. `person vet` and `person tokens` are of the same kind.

mod read;
mod table;
mod tokens;
mod vet;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use self::read::{People, Row};
use self::table::RowFault;
pub(super) use self::tokens::{Tokens, tokens};
pub(super) use self::vet::{Vet, vet};
use super::remote::Remote;
use super::remote::retry::Persistent;
use super::{Context, Failure, Outcome};
use crate::pb;

/// People of one batch, which is recorded at once: the most that the server takes.
const BATCH_LEN: usize = 1_000;
/// People of one call: well within what the server takes, and often enough for a bar to move.
const CALL_LEN: usize = 8 * BATCH_LEN;
/// How long a call may take: eight groups of a busy server.
const CALL_LIMIT: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(super) struct Import {
    /// FILE.csv with a header, or FILE.jsonl with the same names: entity_id, reference (or subject_id), relation and, when an
    /// end is known, relation_until.
    file: PathBuf,
    /// Record them; without it, the file is checked here and at the server and nothing changes.
    #[arg(long)]
    commit: bool,
    /// Attest anew whoever is on record with another relation, as a roster does; otherwise they are refused.
    #[arg(long)]
    attest: bool,
    /// Take references that look like one another.
    #[arg(long)]
    allow_alike: bool,
    /// Where to write who was not taken and why, a JSON object a line [default: FILE.errors.jsonl]
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
    /// Where to write who became which subject, a JSON object a line.
    #[arg(long, value_name = "FILE", requires = "commit")]
    results: Option<PathBuf>,
}

/// What came of them.
#[derive(Default)]
struct Tally {
    rows: u64,
    nominated: u64,
    attested: u64,
    unchanged: u64,
    refused: u64,
    seq: u64,
}

/// Where it is written down.
struct Books {
    errors: BufWriter<File>,
    results: Option<BufWriter<File>>,
}

pub(super) async fn import(import: Import, context: &Context<'_>) -> Result<Outcome, Failure> {
    // The whole file first: a header or an encoding that is wrong is found before anything is recorded.
    let mut people = People::open(&import.file, import.allow_alike)?;
    let mut total = 0;
    while people.next()?.is_some() {
        total += 1;
    }
    let errors = import.errors.clone().unwrap_or_else(|| beside(&import.file));
    let mut books = Books::create(&errors, import.results.as_deref())?;
    let bar = bar(total);
    let sent = send_all(&import, context, &mut books, &bar).await;
    bar.finish_and_clear();
    books.flush()?;
    let tally = sent.map_err(|Failure(why)| {
        Failure(format!("{why}\nWhat was recorded stays; run the same command again to go on"))
    })?;
    print(&import, context, &tally, &errors);
    Ok(if tally.refused == 0 { Outcome::Done } else { Outcome::Failed })
}

async fn send_all(
    import: &Import,
    context: &Context<'_>,
    books: &mut Books,
    bar: &ProgressBar,
) -> Result<Tally, Failure> {
    let mut remote = Persistent::connect(context.connection).await?;
    let mut people = People::open(&import.file, import.allow_alike)?;
    let mut tally = Tally::default();
    let mut rows: Vec<Row> = Vec::with_capacity(CALL_LEN);
    loop {
        let next = people.next()?;
        let is_last = next.is_none();
        tally.rows += u64::from(!is_last);
        match next {
            Some(Ok(row)) => rows.push(row),
            Some(Err(fault)) => {
                tally.refused += 1;
                bar.inc(1);
                books.fault(&fault)?;
            }
            None => {}
        }
        if rows.len() == CALL_LEN || is_last && !rows.is_empty() {
            let answer = send(&mut remote, import, &rows, bar).await?;
            books.enter(&rows, answer, &mut tally)?;
            bar.inc(rows.len() as u64);
            rows.clear();
        }
        if is_last {
            return Ok(tally);
        }
    }
}

async fn send(
    remote: &mut Persistent<'_>,
    import: &Import,
    rows: &[Row],
    bar: &ProgressBar,
) -> Result<pb::ImportPeopleResponse, Failure> {
    let batches: Vec<_> = rows
        .chunks(BATCH_LEN)
        .map(|rows| pb::ImportPeopleRequest {
            people: rows.iter().map(|row| row.person.clone()).collect(),
            attest: import.attest,
            validate_only: !import.commit,
        })
        .collect();
    let call = async |remote: &Remote| {
        remote.provisioning().import_people(tokio_stream::iter(batches.clone())).await
    };
    let answer = remote.call(CALL_LIMIT, bar, call).await?;
    check_count(answer.outcomes.len(), rows.len())?;
    Ok(answer)
}

/// Is there an answer for each row?
fn check_count(answers: usize, rows: usize) -> Result<(), Failure> {
    match answers == rows {
        true => Ok(()),
        false => Err(Failure(format!(
            "the server answered for {answers} of {rows} rows; is it of another version?"
        ))),
    }
}

impl Books {
    fn create(errors: &Path, results: Option<&Path>) -> Result<Self, Failure> {
        Ok(Self {
            errors: BufWriter::new(create(errors)?),
            results: results.map(create).transpose()?.map(BufWriter::new),
        })
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.errors.flush()?;
        Ok(self.results.as_mut().map_or(Ok(()), BufWriter::flush)?)
    }

    /// A row that was not sent.
    fn fault(&mut self, RowFault { line, column, why }: &RowFault) -> Result<(), Failure> {
        self.error(&json!({ "line": line, "column": column, "reason": "INVALID", "message": why }))
    }

    /// A row that the server refused.
    fn refusal(&mut self, line: u64, reason: &str, message: &str) -> Result<(), Failure> {
        self.error(&json!({ "line": line, "column": "", "reason": reason, "message": message }))
    }

    fn enter(
        &mut self,
        rows: &[Row],
        answer: pb::ImportPeopleResponse,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        tally.seq = answer.position.map_or(tally.seq, |position| position.seq);
        for (row, outcome) in rows.iter().zip(answer.outcomes) {
            match outcome.outcome.as_str() {
                "NOMINATED" => tally.nominated += 1,
                "ATTESTED" => tally.attested += 1,
                "UNCHANGED" => tally.unchanged += 1,
                _ => {
                    tally.refused += 1;
                    self.refusal(row.line, &outcome.reason, &outcome.message)?;
                    continue;
                }
            }
            if let Some(results) = &mut self.results {
                let result = json!({
                    "line": row.line, "entity_id": row.person.entity_id, "reference": row.person.reference,
                    "subject_id": outcome.subject_id, "outcome": outcome.outcome,
                });
                writeln!(results, "{result}")?;
            }
        }
        Ok(())
    }

    fn error(&mut self, error: &serde_json::Value) -> Result<(), Failure> {
        Ok(writeln!(self.errors, "{error}")?)
    }
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".errors.jsonl");
    name.into()
}

fn create(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|e| Failure(format!("{}: {e}", path.display())))
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    match ProgressStyle::with_template("{bar:40} {pos}/{len} people, {per_sec}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn print(import: &Import, context: &Context<'_>, tally: &Tally, errors: &Path) {
    let value = json!({
        "committed": import.commit, "rows": tally.rows, "nominated": tally.nominated,
        "attested": tally.attested, "unchanged": tally.unchanged, "refused": tally.refused,
        "seq": tally.seq, "errors": errors,
    });
    let mut text = format!(
        "{} people: {} nominated, {} attested anew, {} on record like this already, {} refused\n",
        tally.rows, tally.nominated, tally.attested, tally.unchanged, tally.refused
    );
    if tally.refused > 0 {
        text.push_str(&format!("Who and why: {}\n", errors.display()));
    }
    text.push_str(match import.commit {
        true => "None of them may do anything before a vetter has decided.\n",
        false => "Nothing was recorded; add --commit to do it.\n",
    });
    context.output.print(&value, &text);
}
