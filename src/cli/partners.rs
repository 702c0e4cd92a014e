//! What partners owe: reports of a licence, safeguards with their evidence; and corrections of the record.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Subcommand};

use super::mandate::{Commit, Wait, carry_out};
use super::words::printable;
use super::{Context, Failure, Outcome, files};
use crate::domain::command::Command;
use crate::domain::id::{Digest, EntityId, LicenseId, ModelId, Seq};
use crate::domain::license::ReportDuty;
use crate::domain::partner_command::{PartnerCommand, SafeguardEvidence, SafeguardItem};
use crate::domain::time::Timestamp;

/// A report that was filed.
#[derive(Args)]
pub(super) struct Filed {
    /// The licence number, in lower case.
    #[arg(long)]
    id: LicenseId,
    /// The report, as the licence names it.
    #[arg(long)]
    report: String,
    /// What was filed. Only its SHA-256 goes on record.
    #[arg(long, value_name = "FILE")]
    document: PathBuf,
    #[command(flatten)]
    commit: Commit,
}

#[derive(Subcommand)]
pub(super) enum SafeguardsVerb {
    /// Record until when an entity's safeguards are attested, while no checklist asks for any.
    #[command(
        after_help = "Example:\n  countersign safeguards record ent_01J... --until 2027-01-01T00:00:00Z --commit"
    )]
    Record {
        /// Of whom.
        entity: EntityId,
        #[command(flatten)]
        dates: Dates,
        #[command(flatten)]
        commit: Commit,
    },
    /// Say which safeguards are asked of entities from now on. Two officers sign.
    ///
    /// Whoever is attested stays so until its date. Nobody is activated, granted a model or attested anew without the evidence of each.
    #[command(
        after_help = "Example:\n  countersign safeguards checklist --item 'mfa=every account has two factors' \\\n      \
                            --item 'tcp:mythos-5=a technology control plan is signed' --commit"
    )]
    Checklist {
        /// NAME=WHAT IT ASKS, or NAME:MODEL,MODEL=WHAT for some models only; may be given several times. Without one nothing is asked.
        #[arg(long = "item", value_name = "NAME=TEXT")]
        items: Vec<Item>,
        #[command(flatten)]
        commit: Commit,
    },
    /// Record that an entity has the safeguards that are asked of it, with the evidence of each.
    #[command(
        after_help = "Example:\n  countersign safeguards attest ent_01J... --evidence mfa=report.pdf --evidence tcp=plan.pdf \\\n      \
                            --until 2027-01-01T00:00:00Z --commit"
    )]
    Attest {
        /// Of whom.
        entity: EntityId,
        /// NAME=FILE; may be given several times. Only the file's SHA-256 goes on record.
        #[arg(long, value_name = "NAME=FILE", required = true)]
        evidence: Vec<Shown>,
        #[command(flatten)]
        dates: Dates,
        #[command(flatten)]
        commit: Commit,
    },
}

/// Until when, and when again.
#[derive(Args)]
pub(super) struct Dates {
    /// Attested until.
    #[arg(long, value_name = "RFC3339")]
    until: Timestamp,
    /// When the entity must be verified anew.
    #[arg(long, value_name = "RFC3339")]
    reverify_due: Option<Timestamp>,
}

/// An item of a checklist, as it is typed.
#[derive(Debug, Clone)]
pub(super) struct Item(SafeguardItem);

impl FromStr for Item {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (head, asks) = text.split_once('=').ok_or("NAME=TEXT is needed")?;
        let (name, models) = head.split_once(':').unwrap_or((head, ""));
        let models = models.split(',').filter(|model| !model.is_empty());
        let models: Result<Vec<ModelId>, _> = models.map(str::parse).collect();
        let models = models.map_err(|e| e.to_string())?;
        Ok(Self(SafeguardItem { name: name.to_owned(), asks: asks.to_owned(), models }))
    }
}

/// A piece of evidence, as it is typed.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    item: String,
    file: PathBuf,
}

impl FromStr for Shown {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (item, file) = text.split_once('=').ok_or("NAME=FILE is needed")?;
        Ok(Self { item: item.to_owned(), file: file.into() })
    }
}

/// A report that a licence asks for, as it is typed: NAME=INSTANT.
#[derive(Debug, Clone)]
pub(super) struct Duty(pub(super) ReportDuty);

impl FromStr for Duty {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, due) = text.split_once('=').ok_or("NAME=RFC3339 is needed")?;
        let due = due.parse().map_err(|e| format!("{due}: {e}"))?;
        Ok(Self(ReportDuty { name: name.to_owned(), due }))
    }
}

/// Says that a record is wrong.
#[derive(Args)]
pub(super) struct Correct {
    /// The record that is wrong.
    #[arg(long)]
    record: u64,
    /// The later record that says it right.
    #[arg(long)]
    by: u64,
    /// What was wrong; no personal data.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    commit: Commit,
}

fn digest(path: &Path) -> Result<Digest, Failure> {
    Ok(Digest::of(&files::read(path)?))
}

pub(super) async fn safeguards(verb: SafeguardsVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    let (command, commit) = match verb {
        SafeguardsVerb::Record { entity, dates: Dates { until, reverify_due }, commit } => {
            (Command::RecordSafeguards { entity, until, reverify_due }, commit)
        }
        SafeguardsVerb::Checklist { items, commit } => {
            let items = items.into_iter().map(|item| item.0).collect();
            (Command::Partners(PartnerCommand::SetChecklist(items)), commit)
        }
        SafeguardsVerb::Attest { entity, evidence, dates: Dates { until, reverify_due }, commit } => {
            let shown =
                |shown: Shown| Ok(SafeguardEvidence { document: digest(&shown.file)?, item: shown.item });
            let evidence = evidence.into_iter().map(shown).collect::<Result<_, Failure>>()?;
            let attest = PartnerCommand::AttestSafeguards { entity, evidence, until, reverify_due };
            (Command::Partners(attest), commit)
        }
    };
    carry_out(context, command, commit, Wait::default()).await
}

pub(super) async fn file_report(filed: Filed, context: &Context<'_>) -> Result<Outcome, Failure> {
    let Filed { id: license, report, document, commit } = filed;
    let document = digest(&document)?;
    let command = Command::Partners(PartnerCommand::FileReport { license, report, document });
    carry_out(context, command, commit, Wait::default()).await
}

pub(super) async fn correct(correct: &Correct, context: &Context<'_>) -> Result<Outcome, Failure> {
    let (wrong, right, reason) = (Seq(correct.record), Seq(correct.by), correct.reason.clone());
    let command = Command::Partners(PartnerCommand::Correct { wrong, right, reason });
    carry_out(context, command, correct.commit, Wait::default()).await
}

/// A command in words.
pub(super) fn words(command: &PartnerCommand) -> Vec<String> {
    match command {
        PartnerCommand::FileReport { license, report, document } => vec![
            format!("Record that the report {} of the licence {license} was filed", printable(report)),
            format!("  document    {document}"),
        ],
        PartnerCommand::SetChecklist(items) if items.is_empty() => {
            vec!["Ask no safeguards of entities any more".to_owned()]
        }
        PartnerCommand::SetChecklist(items) => {
            let mut lines =
                vec!["Ask these safeguards of every entity from now on, and no others".to_owned()];
            lines.extend(items.iter().map(|item| {
                let models: Vec<_> = item.models.iter().map(ToString::to_string).collect();
                let models = if models.is_empty() { "every model".to_owned() } else { models.join(", ") };
                format!("  {:<11} {} (for {models})", printable(&item.name), printable(&item.asks))
            }));
            lines
        }
        PartnerCommand::AttestSafeguards { entity, evidence, until, reverify_due } => {
            let mut lines = vec![format!("Record that {entity} has the safeguards that are asked of it")];
            lines.extend(
                evidence.iter().map(|shown| format!("  {:<11} {}", printable(&shown.item), shown.document)),
            );
            lines.push(format!("  until       {until}"));
            lines.extend(reverify_due.map(|due| format!("  verify anew {due}")));
            lines
        }
        PartnerCommand::Correct { wrong, right, reason } => vec![
            format!("Say that record {wrong} is wrong, and record {right} says it right"),
            format!("  because     {}", printable(reason)),
        ],
    }
}
