//! `countersign audit hold`: records that are kept whatever their age.

use clap::Subcommand;
use serde_json::json;

use super::mandate::{Commit, Wait, carry_out};
use super::output::table;
use super::remote::answer;
use super::{Context, Failure, Outcome, words};
use crate::domain::command::Command;
use crate::domain::id::RecordHoldId;
use crate::domain::record_command::{RecordCommand, RecordHold};
use crate::domain::time::Timestamp;
use crate::pb;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Keep all decisions since an instant. One officer signs; said again with an earlier instant it keeps more.
    #[command(
        after_help = "Example:\n  countersign audit hold place doj-2026-14 --since 2026-06-12T00:00:00Z \\\n      \
                      --reason \"request of 2026-07-01\" --commit"
    )]
    Place {
        /// Its name: lower-case letters, digits, '-', '.' and '_'.
        id: RecordHoldId,
        /// From when on.
        #[arg(long, value_name = "RFC3339")]
        since: Timestamp,
        /// Why; no personal data.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        commit: Commit,
    },
    /// Let records go again after their time. Two officers sign; what is older is then removed for good.
    #[command(after_help = "Example:\n  countersign audit hold release doj-2026-14 --commit")]
    Release {
        /// Its name.
        id: RecordHoldId,
        #[command(flatten)]
        commit: Commit,
    },
    /// List them.
    #[command(after_help = "Example:\n  countersign audit hold list")]
    List,
}

pub(super) async fn run(verb: &Verb, context: &Context<'_>) -> Result<Outcome, Failure> {
    let (command, commit) = match verb {
        Verb::List => return list(context).await,
        Verb::Place { id, since, reason, commit } => {
            let hold = RecordHold { since: *since, reason: reason.clone() };
            (RecordCommand::Hold { id: id.clone(), hold }, commit)
        }
        Verb::Release { id, commit } => (RecordCommand::Release(id.clone()), commit),
    };
    carry_out(context, Command::Records(command), *commit, Wait::default()).await
}

async fn list(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let holds = answer(remote.audit().list_record_holds(pb::ListRecordHoldsRequest {})).await?.holds;
    let rows: Vec<_> = holds
        .iter()
        .map(|hold| [&hold.id, &hold.since, &hold.reason].map(|text| words::printable(text)))
        .collect();
    let value: Vec<_> = holds
        .iter()
        .map(|hold| {
            json!({ "id": hold.id, "since": hold.since, "reason": hold.reason, "record": hold.revision })
        })
        .collect();
    context.output.print(&json!(value), &table(["HOLD", "SINCE", "REASON"], &rows));
    Ok(Outcome::Done)
}
