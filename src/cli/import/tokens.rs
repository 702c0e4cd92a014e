//! `countersign person tokens`: enrollment tokens for many people. The secrets are made here, are durable in a file of mode
//! 0600 before the server hears of them, and go nowhere else: it gets their digests.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::{Zeroize as _, Zeroizing};

use super::table::{Columns, RowFault, Table};
use super::{BATCH_LEN, Books, bar, beside, check_count};
use crate::cli::remote::Remote;
use crate::cli::remote::retry::Persistent;
use crate::cli::{Context, Failure, Outcome};
use crate::domain::id::{Digest, SubjectId, TokenId};
use crate::domain::time::Timestamp;
use crate::env::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use crate::pb;

const COLUMNS: Columns = Columns {
    known: &[
        "subject_id",
        "entity_id",
        "reference",
        // What files of `person import --results` and of `person vet` have beside.
        "line",
        "outcome",
        "decision",
        "evidence",
        "verified_on",
        "assurance",
        "reverify_due",
    ],
    needed: &[&["subject_id"]],
};
/// How long a call may take: one group of a busy server.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// The longest line of a file of tokens: five short fields.
const LINE_LEN_MAX: u64 = 4 << 10;
const OWNER_ONLY: u32 = 0o600;

#[derive(Args)]
pub(in crate::cli) struct Tokens {
    /// FILE.csv with a header, or FILE.jsonl: subject_id, and what else the files of `person import --results` and
    /// `person vet` have. Who was refused there is left out.
    file: PathBuf,
    /// Where the tokens are written, a JSON object a line, mode 0600. Tokens that it has already are kept while they are
    /// good, so the same command goes on after whatever ended it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How long they may be redeemed, in hours.
    #[arg(long, default_value_t = 72, value_parser = clap::value_parser!(u32).range(1..=336))]
    ttl_hours: u32,
    /// Make them; without it, the file is checked here and at the server, and no token is made.
    #[arg(long)]
    commit: bool,
    /// Where to write who gets none and why, a JSON object a line [default: FILE.errors.jsonl]
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
}

/// A line of the file of tokens.
#[derive(Serialize, Deserialize)]
struct Line {
    subject_id: String,
    #[serde(default)]
    entity_id: String,
    #[serde(default)]
    reference: String,
    token: String,
    expires_at: String,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

/// What is remembered of a token: not its secret.
#[derive(Clone, Copy)]
struct Made {
    id: TokenId,
    secret: Digest,
    expires_at: Timestamp,
}

/// A token of this batch, and the line of it that is not in the file yet.
struct Fresh {
    made: Made,
    line: Option<Zeroizing<String>>,
}

/// A person to get one, and where the file says so.
struct Row {
    line: u64,
    subject: SubjectId,
    entity_id: String,
    reference: String,
}

#[derive(Default)]
struct Tally {
    rows: u64,
    created: u64,
    unchanged: u64,
    refused: u64,
    left_out: u64,
}

pub(in crate::cli) async fn tokens(tokens: Tokens, context: &Context<'_>) -> Result<Outcome, Failure> {
    let mut people = People::open(&tokens.file)?;
    let mut total = 0;
    while people.next()?.is_some() {
        total += 1;
    }
    let mut safe = match tokens.commit {
        true => Safe::open(&tokens.out)?,
        false => Safe::none(),
    };
    let errors = tokens.errors.clone().unwrap_or_else(|| beside(&tokens.file));
    let mut books = Books::create(&errors, None)?;
    let bar = bar(total);
    let made = make_all(&tokens, context, (&mut safe, &mut books), &bar).await;
    bar.finish_and_clear();
    books.flush()?;
    let tally = made.map_err(|Failure(why)| {
        Failure(format!("{why}\nWhat was made stays; run the same command again to go on"))
    })?;
    print(&tokens, context, &tally, &errors);
    Ok(if tally.refused == 0 { Outcome::Done } else { Outcome::Failed })
}

async fn make_all(
    tokens: &Tokens,
    context: &Context<'_>,
    (safe, books): (&mut Safe, &mut Books),
    bar: &ProgressBar,
) -> Result<Tally, Failure> {
    let mut remote = Persistent::connect(context.connection).await?;
    let mut people = People::open(&tokens.file)?;
    let (mut tally, mut rows) = (Tally::default(), Vec::with_capacity(BATCH_LEN));
    loop {
        let next = people.next()?;
        let is_last = next.is_none();
        tally.rows += u64::from(!is_last);
        match next {
            Some(Ok(Some(row))) => rows.push(row),
            Some(Ok(None)) => tally.left_out += 1,
            Some(Err(fault)) => {
                tally.refused += 1;
                books.fault(&fault)?;
            }
            None => {}
        }
        if rows.len() == BATCH_LEN || is_last && !rows.is_empty() {
            let made = safe.make(&rows, tokens.ttl_hours)?;
            let batch: Vec<_> = rows.iter().zip(&made).collect();
            let mut outcomes = send(&mut remote, &batch, Mode::CheckOnly, bar).await?;
            if tokens.commit {
                commit(&mut remote, safe, (&batch, &mut outcomes), bar).await?;
            }
            enter(books, &rows, outcomes, &mut tally)?;
            bar.inc(rows.len() as u64);
            rows.clear();
        }
        if is_last {
            return Ok(tally);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    CheckOnly,
    Commit,
}

async fn send(
    remote: &mut Persistent<'_>,
    batch: &[(&Row, &Fresh)],
    mode: Mode,
    bar: &ProgressBar,
) -> Result<Vec<pb::TokenOutcome>, Failure> {
    let token = |(row, fresh): &(&Row, &Fresh)| pb::MadeToken {
        subject_id: row.subject.to_string(),
        token_id: fresh.made.id.to_string(),
        secret_sha256: fresh.made.secret.0.to_vec().into(),
        expires_at: fresh.made.expires_at.to_string(),
    };
    let request = pb::CreateTokensRequest {
        tokens: batch.iter().map(token).collect(),
        validate_only: mode == Mode::CheckOnly,
    };
    let call = async |remote: &Remote| remote.provisioning().create_tokens(request.clone()).await;
    let answer = remote.call(CALL_LIMIT, bar, call).await?;
    check_count(answer.outcomes.len(), batch.len())?;
    Ok(answer.outcomes)
}

/// Keeps and records those that were not refused when they were checked.
async fn commit(
    remote: &mut Persistent<'_>,
    safe: &mut Safe,
    (batch, outcomes): (&[(&Row, &Fresh)], &mut [pb::TokenOutcome]),
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let good = |outcome: &pb::TokenOutcome| outcome.outcome != "REFUSED";
    let taken: Vec<_> =
        batch.iter().zip(outcomes.iter()).filter(|(_, outcome)| good(outcome)).map(|(one, _)| *one).collect();
    if taken.is_empty() {
        return Ok(());
    }
    safe.keep(&taken)?;
    let recorded = send(remote, &taken, Mode::Commit, bar).await?;
    outcomes.iter_mut().filter(|outcome| good(outcome)).zip(recorded).for_each(|(place, done)| *place = done);
    Ok(())
}

fn enter(
    books: &mut Books,
    rows: &[Row],
    outcomes: Vec<pb::TokenOutcome>,
    tally: &mut Tally,
) -> Result<(), Failure> {
    for (row, outcome) in rows.iter().zip(outcomes) {
        match outcome.outcome.as_str() {
            "CREATED" => tally.created += 1,
            "UNCHANGED" => tally.unchanged += 1,
            _ => {
                tally.refused += 1;
                books.refusal(row.line, &outcome.reason, &outcome.message)?;
            }
        }
    }
    Ok(())
}

/// The file of tokens, and what it has.
struct Safe {
    /// None: only checked.
    file: Option<File>,
    held: HashMap<SubjectId, Made>,
}

impl Safe {
    fn none() -> Self {
        Self { file: None, held: HashMap::new() }
    }

    /// Opens or makes the file, for this process alone, and reads what it has.
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |why: String| Failure(format!("{}: {why}", path.display()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(OWNER_ONLY);
        let file = options.open(path).map_err(|e| failed(e.to_string()))?;
        let mode = file.metadata()?.mode() & 0o777;
        if mode != OWNER_ONLY {
            return Err(failed(format!("its mode is {mode:o}; tokens are secrets: chmod 600")));
        }
        file.try_lock().map_err(|_| failed("another command writes to it".to_owned()))?;
        let (held, end) = read_held(&file).map_err(|Failure(why)| failed(why))?;
        // The end of a line that was being written when something ended the command: its token was never sent.
        file.set_len(end)?;
        (&file).seek(SeekFrom::End(0))?;
        Ok(Self { file: Some(file), held })
    }

    /// A token for each: those that are here and good, and new ones.
    fn make(&self, rows: &[Row], ttl_hours: u32) -> Result<Vec<Fresh>, Failure> {
        let now = SystemClock.now();
        let expires_at = now.plus_ms(i64::from(ttl_hours) * 3_600_000);
        rows.iter()
            .map(|row| match self.held.get(&row.subject).filter(|held| held.expires_at > now) {
                Some(held) => Ok(Fresh { made: *held, line: None }),
                None => fresh(row, now, expires_at),
            })
            .collect()
    }

    /// New ones are durable before they are recorded.
    fn keep(&mut self, taken: &[(&Row, &Fresh)]) -> Result<(), Failure> {
        let mut text = Zeroizing::new(String::new());
        taken.iter().filter_map(|(_, fresh)| fresh.line.as_ref()).for_each(|line| text.push_str(line));
        match &mut self.file {
            Some(file) => Ok(file.write_all(text.as_bytes()).and_then(|()| file.sync_data())?),
            None => Ok(()),
        }
    }
}

fn fresh(row: &Row, now: Timestamp, expires_at: Timestamp) -> Result<Fresh, Failure> {
    let id = TokenId::from_parts(now, SystemEntropy.bytes16());
    let secret = Zeroizing::new(SystemEntropy.bytes32());
    let line = Line {
        subject_id: row.subject.to_string(),
        entity_id: row.entity_id.clone(),
        reference: row.reference.clone(),
        token: format!("{id}.{}", hex::encode(*secret)),
        expires_at: expires_at.to_string(),
    };
    let mut text = Zeroizing::new(serde_json::to_string(&line)?);
    text.push('\n');
    Ok(Fresh { made: Made { id, secret: Digest::of(&*secret), expires_at }, line: Some(text) })
}

/// The last token of each person, and where the last whole line ends.
fn read_held(file: &File) -> Result<(HashMap<SubjectId, Made>, u64), Failure> {
    let (mut reader, mut held, mut end) = (BufReader::new(file), HashMap::new(), 0);
    loop {
        let mut bytes = Zeroizing::new(Vec::new());
        let read = (&mut reader).take(LINE_LEN_MAX).read_until(b'\n', &mut bytes)?;
        if bytes.last() != Some(&b'\n') {
            return Ok((held, end));
        }
        end += read as u64;
        // Not what is wrong with it: that would quote it.
        let other = || Failure("it has lines that are no tokens: name another file with --out".to_owned());
        let line: Line = serde_json::from_slice(&bytes).map_err(|_| other())?;
        let (id, secret) = line.token.split_once('.').ok_or_else(other)?;
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(secret, &mut *bytes).map_err(|_| other())?;
        let made = Made {
            id: id.parse().map_err(|_| other())?,
            secret: Digest::of(&*bytes),
            expires_at: line.expires_at.parse().map_err(|_| other())?,
        };
        held.insert(line.subject_id.parse().map_err(|_| other())?, made);
    }
}

/// The people of a file, in order.
struct People {
    table: Table,
    seen: HashMap<SubjectId, u64>,
}

impl People {
    fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self { table: Table::open(path, COLUMNS)?, seen: HashMap::new() })
    }

    /// The next person; the inner none: one who was refused.
    fn next(&mut self) -> Result<Option<Result<Option<Row>, RowFault>>, Failure> {
        let Some(fields) = self.table.next()? else { return Ok(None) };
        let line = self.table.line();
        let row = fields.and_then(|fields| {
            if fields.of("decision") == "REFUSE" {
                return Ok(None);
            }
            let subject: SubjectId = fields
                .of("subject_id")
                .parse()
                .map_err(|e| self.table.row_fault("subject_id", format!("{e}")))?;
            match self.seen.insert(subject, line) {
                Some(line) => {
                    let why = format!("the same person is in line {line}");
                    Err(self.table.row_fault("subject_id", why))
                }
                None => {
                    let of = |column| fields.of(column).to_owned();
                    Ok(Some(Row { line, subject, entity_id: of("entity_id"), reference: of("reference") }))
                }
            }
        });
        Ok(Some(row))
    }
}

fn print(tokens: &Tokens, context: &Context<'_>, tally: &Tally, errors: &Path) {
    let value = json!({
        "committed": tokens.commit, "rows": tally.rows, "created": tally.created,
        "unchanged": tally.unchanged, "refused": tally.refused, "left_out": tally.left_out,
        "out": tokens.out, "errors": errors,
    });
    let mut text = format!(
        "{} people: {} tokens {}, {} on record already, {} who were refused left out, {} get none\n",
        tally.rows,
        tally.created,
        if tokens.commit { "made" } else { "can be made" },
        tally.unchanged,
        tally.left_out,
        tally.refused
    );
    if tally.refused > 0 {
        text.push_str(&format!("Who and why: {}\n", errors.display()));
    }
    match tokens.commit {
        true => text.push_str(&format!(
            "{} has them, mode 0600: it is all that a stranger needs to enroll as these people. Remove it when they have.\n",
            tokens.out.display()
        )),
        false => text.push_str("No token was made; add --commit to do it.\n"),
    }
    context.output.print(&value, &text);
}
