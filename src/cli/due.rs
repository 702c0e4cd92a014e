//! What is due, and how far access is restored after a lift.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{every_page, table};
use super::remote::{Remote, answer};
use super::{Context, Failure, Outcome};
use crate::domain::id::EntityId;
use crate::pb;

/// How often a restoration is looked at by who watches it: a look decides for everybody on record.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Subcommand)]
pub(super) enum Verb {
    /// List what must be verified, attested or reported anew, the nearest first. From its date on what rests on it is denied.
    #[command(
        after_help = "Examples:\n  countersign due list\n  countersign due list --entity ent_01J... --within-days 365 --json\n\n\
                            Exit code 3: something is overdue."
    )]
    List {
        /// Of this entity only.
        #[arg(long)]
        entity: Option<EntityId>,
        /// What is due within so many days, beside what is overdue.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_660))]
        within_days: u32,
    },
}

/// A restoration to look at.
#[derive(Args)]
pub(super) struct Query {
    /// The model, by any of its names.
    #[arg(long)]
    model: String,
    /// This entity only, with what it owes: its compliance report.
    #[arg(long)]
    entity: Option<EntityId>,
}

pub(super) async fn run(verb: Verb, context: &Context<'_>) -> Result<Outcome, Failure> {
    let Verb::List { entity, within_days } = verb;
    let remote = context.connection.remote().await?;
    let due = fetch(&remote, entity, within_days).await?;
    let is_overdue = due.iter().any(|row| row.stage == "OVERDUE");
    let values: Vec<_> = due.iter().map(due_value).collect();
    context.output.print(&json!(values), &due_table(&due));
    Ok(if is_overdue { Outcome::Warned } else { Outcome::Done })
}

async fn fetch(remote: &Remote, entity: Option<EntityId>, within_days: u32) -> Result<Vec<pb::Due>, Failure> {
    let entity_id = entity.map(|entity| entity.to_string()).unwrap_or_default();
    every_page(async |page_token| {
        let request =
            pb::ListDueRequest { entity_id: entity_id.clone(), within_days, page_size: 0, page_token };
        let page = answer(remote.provisioning().list_due(request)).await?;
        Ok((page.due, page.next_page_token))
    })
    .await
}

fn due_table(due: &[pb::Due]) -> String {
    let rows: Vec<_> = due
        .iter()
        .map(|row| {
            let subjects = if row.subjects == 0 { "-".to_owned() } else { row.subjects.to_string() };
            let (stage, at, kind) = (row.stage.clone(), row.at.clone(), row.kind.clone());
            [stage, at, kind, row.entity_id.clone(), subjects, row.what.clone()]
        })
        .collect();
    table(["STAGE", "BY", "WHAT", "ENTITY", "SUBJECTS", "OF"], &rows)
}

fn due_value(row: &pb::Due) -> Value {
    json!({
        "kind": row.kind, "stage": row.stage, "at": row.at, "entity_id": row.entity_id, "of": row.what,
        "subjects": row.subjects, "subject_ids": row.subject_ids,
    })
}

/// What a restoration is, whole.
async fn restoration(remote: &Remote, query: &Query) -> Result<pb::GetRestorationResponse, Failure> {
    let mut last = pb::GetRestorationResponse::default();
    let entities = every_page(async |page_token| {
        let request = pb::GetRestorationRequest { model: query.model.clone(), page_size: 1_000, page_token };
        let page = answer(remote.provisioning().get_restoration(request)).await?;
        Ok((vec![page.clone()], page.next_page_token))
    })
    .await?;
    let mut rows = Vec::new();
    for page in entities {
        rows.extend(page.entities.clone());
        last = page;
    }
    if let Some(entity) = query.entity {
        rows.retain(|row| row.entity_id == entity.to_string());
    }
    Ok(pb::GetRestorationResponse { entities: rows, ..last })
}

/// Who is eligible, cohort by cohort, and why others are not.
pub(super) async fn plan(query: &Query, context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let found = restoration(&remote, query).await?;
    let rows: Vec<_> = found
        .entities
        .iter()
        .map(|row| {
            let denied: Vec<_> =
                row.denied.iter().map(|denied| format!("{} {}", denied.subjects, denied.code)).collect();
            let left = row.eligible.saturating_sub(row.certified);
            [
                row.cohort.clone(),
                row.entity_id.clone(),
                row.approved.to_string(),
                row.eligible.to_string(),
                left.to_string(),
                denied.join(", "),
            ]
        })
        .collect();
    let header = ["COHORT", "ENTITY", "APPROVED", "ELIGIBLE", "TO ENROLL", "DENIED"];
    let text = format!("{}\n\n{}", headline(&found), table(header, &rows));
    context.output.print(&value(&found, &[]), &text);
    Ok(Outcome::Done)
}

/// How far it is, cohort by cohort; once, or until everybody eligible has a certificate.
pub(super) async fn status(query: &Query, watch: bool, context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    loop {
        let found = restoration(&remote, query).await?;
        let due = match query.entity {
            Some(entity) => fetch(&remote, Some(entity), 365).await?,
            None => Vec::new(),
        };
        let mut text = format!("{}\n\n{}", headline(&found), cohorts(&found.entities));
        if query.entity.is_some() {
            text.push_str(&format!("\n\nDue within a year:\n{}", due_table(&due)));
        }
        context.output.print(&value(&found, &due), &text);
        if !watch || found.stage != "RESTORING" {
            return Ok(Outcome::Done);
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

fn headline(found: &pb::GetRestorationResponse) -> String {
    let since = match found.since.as_str() {
        "" => "no lift is in force".to_owned(),
        since => format!("lifted {since}, {} after that", duration(found.took_s)),
    };
    format!(
        "{}  {}: {} of {} have a certificate; {since}",
        found.model, found.stage, found.certified, found.eligible
    )
}

/// Hours, minutes and seconds.
fn duration(took_s: u64) -> String {
    format!("{:02}:{:02}:{:02}", took_s / 3_600, took_s / 60 % 60, took_s % 60)
}

fn cohorts(entities: &[pb::RestoredEntity]) -> String {
    let mut sums = BTreeMap::<(usize, &str), [u64; 4]>::new();
    for (at, row) in entities.iter().enumerate() {
        let first = entities.iter().position(|other| other.cohort == row.cohort).unwrap_or(at);
        let sum = sums.entry((first, &row.cohort)).or_default();
        for (sum, count) in sum.iter_mut().zip([1, row.approved, row.eligible, row.certified]) {
            *sum += count;
        }
    }
    let rows: Vec<_> = sums
        .into_iter()
        .map(|((_, cohort), [entities, approved, eligible, certified])| {
            // Nobody eligible is everybody.
            let share = (100 * certified).checked_div(eligible).unwrap_or(100);
            let counts = [entities, approved, eligible, certified].map(|count| count.to_string());
            let [entities, approved, eligible, certified] = counts;
            [cohort.to_owned(), entities, approved, eligible, certified, format!("{share} %")]
        })
        .collect();
    table(["COHORT", "ENTITIES", "APPROVED", "ELIGIBLE", "CERTIFIED", "DONE"], &rows)
}

fn value(found: &pb::GetRestorationResponse, due: &[pb::Due]) -> Value {
    let entities: Vec<_> = found
        .entities
        .iter()
        .map(|row| {
            let denied: BTreeMap<_, _> =
                row.denied.iter().map(|denied| (denied.code.clone(), denied.subjects)).collect();
            json!({
                "entity_id": row.entity_id, "cohort": row.cohort, "approved": row.approved,
                "eligible": row.eligible, "certified": row.certified, "denied": denied,
            })
        })
        .collect();
    json!({
        "model": found.model, "stage": found.stage, "since": found.since, "took_s": found.took_s,
        "eligible": found.eligible, "certified": found.certified, "entities": entities,
        "due": due.iter().map(due_value).collect::<Vec<_>>(),
    })
}
