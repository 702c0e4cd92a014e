//! `countersign person vet`: a vetter's decisions on many people from a file. The officer signs the decisions themselves, a
//! thousand at a time, on this machine; the server says beforehand which of them can be made.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;

use super::table::{Columns, Fields, RowFault, Table};
use super::{Books, bar, beside, check_count};
use crate::cli::identity::Identity;
use crate::cli::mandate::{approve, check};
use crate::cli::remote::retry::Persistent;
use crate::cli::remote::{Remote, request_id};
use crate::cli::{Context, Failure, Outcome};
use crate::domain::codec::to_bytes;
use crate::domain::command::{Command, Ruling, SubjectDecision};
use crate::domain::id::SubjectId;
use crate::domain::person::EvidenceKind;
use crate::domain::subject::{RULINGS_MAX, Vetting};
use crate::pb;

const COLUMNS: Columns = Columns {
    known: &[
        "subject_id",
        "decision",
        "evidence",
        "verified_on",
        "assurance",
        "reverify_due",
        // What `person import --results` writes beside.
        "line",
        "entity_id",
        "reference",
        "outcome",
    ],
    needed: &[&["subject_id"], &["decision"]],
};
/// How long a call may take: one record of a busy server.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How often a batch is prepared anew because somebody else changed one of its people meanwhile.
const PREPARED_MAX: u32 = 5;

#[derive(Args)]
pub(in crate::cli) struct Vet {
    /// FILE.csv with a header, or FILE.jsonl with the same names: subject_id, decision (APPROVE or REFUSE) and, for who is
    /// approved, evidence, verified_on, assurance and reverify_due. The file of `person import --results` with these added
    /// is one.
    file: PathBuf,
    /// Sign and record them; without it, the file is checked here and at the server and nothing is signed.
    #[arg(long)]
    commit: bool,
    /// Where to write who was not decided on and why, a JSON object a line [default: FILE.errors.jsonl]
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
}

/// A decision, and where the file says so.
struct Row {
    line: u64,
    ruling: Ruling,
}

/// The decisions of a file, in order.
struct Rulings {
    table: Table,
    seen: HashMap<SubjectId, u64>,
}

/// What came of them.
#[derive(Default)]
struct Tally {
    rows: u64,
    decided: u64,
    unchanged: u64,
    refused: u64,
    signatures: u64,
    seq: u64,
}

pub(in crate::cli) async fn vet(vet: Vet, context: &Context<'_>) -> Result<Outcome, Failure> {
    let (total, kinds) = survey(&vet.file)?;
    // What is about to be signed is said before: the details are the file's.
    context
        .output
        .note(&kinds.iter().map(|(kind, count)| format!("{count:>8} {kind}\n")).collect::<String>());
    let errors = vet.errors.clone().unwrap_or_else(|| beside(&vet.file));
    let mut books = Books::create(&errors, None)?;
    let bar = bar(total);
    let decided = decide_all(&vet, context, &mut books, &bar).await;
    bar.finish_and_clear();
    books.flush()?;
    let tally = decided.map_err(|Failure(why)| {
        Failure(format!("{why}\nWhat was recorded stays; run the same command again to go on"))
    })?;
    print(&vet, context, &tally, (&kinds, &errors));
    Ok(if tally.refused == 0 { Outcome::Done } else { Outcome::Failed })
}

/// Reads the whole file: how many rows it has, and how many of each kind of decision.
fn survey(path: &Path) -> Result<(u64, BTreeMap<String, u64>), Failure> {
    let mut rulings = Rulings::open(path)?;
    let (mut total, mut kinds) = (0, BTreeMap::new());
    while let Some(row) = rulings.next()? {
        total += 1;
        if let Ok(row) = row {
            *kinds.entry(kind(&row.ruling.decision)).or_default() += 1;
        }
    }
    Ok((total, kinds))
}

fn kind(decision: &SubjectDecision) -> String {
    match decision {
        SubjectDecision::Refuse => "refused".to_owned(),
        SubjectDecision::Approve { vetting: None, .. } => "approved as established before".to_owned(),
        SubjectDecision::Approve { vetting: Some(vetting), .. } => {
            format!("approved: {} on {}, {}", vetting.status, vetting.evidence, vetting.assurance)
        }
    }
}

/// What decides for an officer.
struct Desk<'a> {
    remote: Persistent<'a>,
    identity: Identity,
    trust_domain: String,
    commit: bool,
}

async fn decide_all(
    vet: &Vet,
    context: &Context<'_>,
    books: &mut Books,
    bar: &ProgressBar,
) -> Result<Tally, Failure> {
    let identity = context.connection.identity()?;
    let trust_domain = identity.name()?.trust_domain;
    let remote = Persistent::connect(context.connection).await?;
    let mut desk = Desk { remote, identity, trust_domain, commit: vet.commit };
    let mut rulings = Rulings::open(&vet.file)?;
    let (mut tally, mut rows) = (Tally::default(), Vec::with_capacity(RULINGS_MAX));
    loop {
        let next = rulings.next()?;
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
        if rows.len() == RULINGS_MAX || is_last && !rows.is_empty() {
            let outcomes = desk.decide(&rows, &mut tally, bar).await?;
            enter(books, &rows, outcomes, &mut tally)?;
            bar.inc(rows.len() as u64);
            rows.clear();
        }
        if is_last {
            return Ok(tally);
        }
    }
}

fn enter(
    books: &mut Books,
    rows: &[Row],
    outcomes: Vec<pb::RulingOutcome>,
    tally: &mut Tally,
) -> Result<(), Failure> {
    for (row, outcome) in rows.iter().zip(outcomes) {
        match outcome.outcome.as_str() {
            "READY" => tally.decided += 1,
            "UNCHANGED" => tally.unchanged += 1,
            _ => {
                tally.refused += 1;
                books.refusal(row.line, &outcome.reason, &outcome.message)?;
            }
        }
    }
    Ok(())
}

impl Desk<'_> {
    /// Decides on a batch; the outcomes are those of what was signed.
    async fn decide(
        &mut self,
        rows: &[Row],
        tally: &mut Tally,
        bar: &ProgressBar,
    ) -> Result<Vec<pb::RulingOutcome>, Failure> {
        let rulings: Vec<_> = rows.iter().map(|row| row.ruling.clone()).collect();
        let command = to_bytes(&Command::DecideSubjects(rulings));
        for _ in 0..PREPARED_MAX {
            let request = pb::PrepareRulingsRequest { command: command.clone().into() };
            let call = async |remote: &Remote| remote.mandates().prepare_rulings(request.clone()).await;
            let prepared = self.remote.call(CALL_LIMIT, bar, call).await?;
            check_count(prepared.outcomes.len(), rows.len())?;
            self.check(rows, &prepared)?;
            if !self.commit || prepared.mandate.is_empty() {
                return Ok(prepared.outcomes);
            }
            let approvals = vec![approve(&self.identity, &prepared.mandate)?];
            tally.signatures += 1;
            let mandate = pb::SignedMandate { mandate: prepared.mandate, approvals };
            if let Some(seq) = self.submit(mandate, bar).await? {
                tally.seq = seq;
                return Ok(prepared.outcomes);
            }
        }
        Err(Failure("its people are changed all the time: another command works on them".to_owned()))
    }

    /// Does the mandate say exactly what the file says of those who are ready?
    fn check(&self, rows: &[Row], prepared: &pb::PrepareRulingsResponse) -> Result<(), Failure> {
        let ready: Vec<_> = rows
            .iter()
            .zip(&prepared.outcomes)
            .filter(|(_, outcome)| outcome.outcome == "READY")
            .map(|(row, _)| row.ruling.clone())
            .collect();
        let is_same = match prepared.mandate.is_empty() {
            true => ready.is_empty(),
            false => {
                let mandate = check(&prepared.mandate, &self.trust_domain)?;
                !ready.is_empty() && mandate.command == Command::DecideSubjects(ready)
            }
        };
        match is_same {
            true => Ok(()),
            false => Err(Failure(
                "the server prepared other decisions than those of the file; nothing was signed".to_owned(),
            )),
        }
    }

    /// The record; none: something changed meanwhile, or an answer was lost, and the batch is looked at anew.
    async fn submit(
        &mut self,
        mandate: pb::SignedMandate,
        bar: &ProgressBar,
    ) -> Result<Option<u64>, Failure> {
        let request = pb::SubmitMandateRequest {
            mandate: Some(mandate),
            request_id: request_id(),
            validate_only: false,
        };
        let call = async |remote: &Remote| remote.mandates().submit_mandate(request.clone()).await;
        match self.remote.call(CALL_LIMIT, bar, call).await {
            Ok(done) => Ok(Some(done.position.unwrap_or_default().seq)),
            Err(Failure(why)) if why.starts_with("CONFLICT") => Ok(None),
            Err(why) => Err(why),
        }
    }
}

impl Rulings {
    fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self { table: Table::open(path, COLUMNS)?, seen: HashMap::new() })
    }

    fn next(&mut self) -> Result<Option<Result<Row, RowFault>>, Failure> {
        let Some(fields) = self.table.next()? else { return Ok(None) };
        let line = self.table.line();
        let row = fields.and_then(|fields| {
            let ruling = ruling(&fields).and_then(|ruling| match self.seen.insert(ruling.subject, line) {
                Some(line) => Err(("subject_id", format!("the same person is in line {line}"))),
                None => Ok(ruling),
            });
            ruling.map_err(|(column, why)| self.table.row_fault(column, why))
        });
        Ok(Some(row.map(|ruling| Row { line, ruling })))
    }
}

type Fault = (&'static str, String);

fn ruling(fields: &Fields) -> Result<Ruling, Fault> {
    let subject = required(fields, "subject_id")?;
    let decision = match fields.of("decision") {
        "APPROVE" => {
            let reverify_due = match fields.of("reverify_due") {
                "" => None,
                _ => Some(required(fields, "reverify_due")?),
            };
            SubjectDecision::Approve { vetting: vetting(fields)?, reverify_due }
        }
        "REFUSE" => {
            let extra = ["evidence", "verified_on", "assurance", "reverify_due"]
                .into_iter()
                .find(|column| !fields.of(column).is_empty());
            match extra {
                Some(column) => return Err((column, "who is refused has none".to_owned())),
                None => SubjectDecision::Refuse,
            }
        }
        _ => return Err(("decision", "it is neither APPROVE nor REFUSE".to_owned())),
    };
    Ok(Ruling { subject, decision })
}

/// What was established: all of it or nothing, which leaves what was established before.
fn vetting(fields: &Fields) -> Result<Option<Vetting>, Fault> {
    if ["evidence", "verified_on", "assurance"].iter().all(|column| fields.of(column).is_empty()) {
        return Ok(None);
    }
    let evidence: EvidenceKind = required(fields, "evidence")?;
    Ok(Some(Vetting {
        status: evidence.status(),
        evidence,
        verified_on: required(fields, "verified_on")?,
        assurance: required(fields, "assurance")?,
    }))
}

fn required<T: std::str::FromStr<Err: std::fmt::Display>>(
    fields: &Fields,
    column: &'static str,
) -> Result<T, Fault> {
    match fields.of(column) {
        "" => Err((column, "it is empty".to_owned())),
        text => text.parse().map_err(|e: T::Err| (column, e.to_string())),
    }
}

fn print(vet: &Vet, context: &Context<'_>, tally: &Tally, (kinds, errors): (&BTreeMap<String, u64>, &Path)) {
    let value = json!({
        "committed": vet.commit, "rows": tally.rows, "decided": tally.decided, "unchanged": tally.unchanged,
        "refused": tally.refused, "signatures": tally.signatures, "seq": tally.seq, "kinds": kinds,
        "errors": errors,
    });
    let mut text = format!(
        "{} decisions: {} {}, {} on record like this already, {} not taken\n",
        tally.rows,
        tally.decided,
        if vet.commit { "made" } else { "can be made" },
        tally.unchanged,
        tally.refused
    );
    if tally.refused > 0 {
        text.push_str(&format!("Who and why: {}\n", errors.display()));
    }
    text.push_str(match vet.commit {
        true => "Who is approved needs a token to enroll: countersign person tokens.\n",
        false => "Nothing was signed and nothing changed; add --commit to sign and do it.\n",
    });
    context.output.print(&value, &text);
}
