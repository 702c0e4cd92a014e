//! `countersign explain`, `replay` and `audit exposure`: why, whether it still follows, and what should not have been.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use super::output::table;
use super::remote::answer;
use super::{Context, Failure, Outcome, decisions, words};
use crate::domain::id::{DecisionId, EntityId, PurposeId, SubjectId};
use crate::domain::model::AccessForm;
use crate::domain::policy::Place;
use crate::domain::time::Timestamp;
use crate::pb;

/// Say what is decided of a person or workload with a certificate in order, and why: every gate, the row of law with its clause,
/// the rules of policy, and the records that it rests on.
///
/// A partner asks about its own people. Exit code 2: denied.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  countersign explain ent_01J... sub_01J... mythos-5 --place US --serving-region US\n  \
                  countersign explain ent_01J... sub_01J... mythos-5 --at 2026-06-20T12:00:00Z"
)]
pub(super) struct Arguments {
    /// The entity.
    entity: EntityId,
    /// The person or workload.
    person: SubjectId,
    /// The model, by any of its names.
    model: String,
    /// As of when [default: now]
    #[arg(long, value_name = "RFC3339")]
    at: Option<Timestamp>,
    /// INFERENCE, WEIGHTS or INTERNALS.
    #[arg(long, default_value = "INFERENCE")]
    form: AccessForm,
    /// Where the subject is: US or a two-letter country; what is not known is judged as abroad.
    #[arg(long, default_value = "UNKNOWN", hide_default_value = true)]
    place: Place,
    /// Where the model is served from: US or a two-letter country.
    #[arg(long, default_value = "UNKNOWN", hide_default_value = true)]
    serving_region: Place,
    /// The declared purpose.
    #[arg(long)]
    purpose: Option<PurposeId>,
    /// An intermediary, nearest to the model first; may be given several times.
    #[arg(long)]
    chain: Vec<EntityId>,
    /// The end user behind the intermediaries is this person.
    #[arg(long)]
    end_user_identified: bool,
}

pub(super) async fn run(arguments: Arguments, context: &Context<'_>) -> Result<Outcome, Failure> {
    let known = |place: Place| match place {
        Place::Us | Place::Country(_) => place.to_string(),
        Place::Unknown => String::new(),
    };
    let request = pb::ExplainAccessRequest {
        entity_id: arguments.entity.to_string(),
        subject_id: arguments.person.to_string(),
        model: arguments.model,
        access_form: arguments.form.to_string(),
        place: known(arguments.place),
        serving_region: known(arguments.serving_region),
        purpose: text(arguments.purpose),
        chain: arguments.chain.iter().map(ToString::to_string).collect(),
        end_user_identified: arguments.end_user_identified,
        at: text(arguments.at),
    };
    let remote = context.connection.remote().await?;
    let explained = answer(remote.audit().explain_access(request)).await?;
    let decision = explained.decision.clone().unwrap_or_default();
    let as_of = decision.as_of.unwrap_or_default();
    let verdict = if decision.permit { "PERMIT" } else { "DENY" };
    let sentence = decision.explanation.trim_start_matches("permitted: ").trim_start_matches("denied: ");
    let mut shown =
        format!("{verdict} at {}: {}\n", words::printable(&explained.at), words::printable(sentence));
    shown.push_str(&chain(&explained.steps, &explained.facts));
    let value = json!({
        "permit": decision.permit, "code": decision.code, "legal": decision.legal, "rule": decision.rule,
        "reason": decision.reason, "clause": decision.clause, "determination": decision.determination,
        "denials": decision.denials, "policy": decision.policy, "explanation": decision.explanation,
        "at": explained.at, "as_of": { "epoch": as_of.epoch, "record": as_of.seq },
        "logic_version": explained.logic_version, "policy_sha256": hex::encode(&explained.policy_sha256),
        "steps": steps(&explained.steps), "facts": facts(&explained.facts),
    });
    context.output.print(&value, &shown);
    Ok(if decision.permit { Outcome::Done } else { Outcome::Denied })
}

/// Judge a recorded decision again, on the state that it was made on.
///
/// Exit code 1: it comes out otherwise; both are shown. That is so when the rules have another version.
#[derive(Args)]
#[command(after_help = "Example:\n  countersign replay dec_01J...")]
pub(super) struct ReplayArguments {
    /// The decision, as its answer names it.
    decision: DecisionId,
}

pub(super) async fn replay(arguments: &ReplayArguments, context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let request = pb::ReplayDecisionRequest { decision_id: arguments.decision.to_string() };
    let replayed = answer(remote.audit().replay_decision(request)).await?;
    let (Some(recorded), Some(again)) = (&replayed.recorded, &replayed.again) else {
        return Err(Failure("the server did not say what it found".to_owned()));
    };
    let verdict = match (replayed.same, recorded.logic_version == again.logic_version) {
        (true, _) => "SAME: judged again it is the same to the byte",
        (false, false) => "DIFFERS: the rules have another version",
        (false, true) => "DIFFERS: by the same version of the rules; keep both, and find out why",
    };
    let row = |name: &str, decision: &pb::RecordedDecision| {
        let answer = if decision.permit { "PERMIT" } else { "DENY" };
        let law = format!("{} by {} ({})", decision.legal, decision.rule, decision.reason);
        [
            name.to_owned(),
            answer.to_owned(),
            words::printable(&decision.code),
            words::printable(&law),
            words::printable(&decision.policy),
            decision.logic_version.to_string(),
        ]
    };
    let head = ["", "ANSWER", "CODE", "LAW", "POLICY", "RULES"];
    let mut shown = format!("{verdict}\n");
    shown.push_str(&table(head, &[row("recorded", recorded), row("again", again)]));
    shown.push('\n');
    shown.push_str(&chain(&replayed.steps, &replayed.facts));
    let value = json!({
        "same": replayed.same, "recorded": decisions::plain(recorded), "again": decisions::plain(again),
        "steps": steps(&replayed.steps), "facts": facts(&replayed.facts),
    });
    context.output.print(&value, &shown);
    Ok(if replayed.same { Outcome::Done } else { Outcome::Failed })
}

#[derive(Args)]
pub(super) struct ExposureQuery {
    /// Only permits of this entity.
    #[arg(long, value_name = "ID")]
    entity: Option<EntityId>,
    /// Only permits from this time on, RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only permits before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
}

/// Rows that are added up: as many as there are subjects, models and reasons among a large provider's permits.
const ROWS_MAX: usize = 1_000_000;

pub(super) async fn exposure(query: &ExposureQuery, context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let mut request = pb::ListExposureRequest {
        entity_id: text(query.entity),
        since: text(query.since),
        until: text(query.until),
        page_token: String::new(),
    };
    let mut rows: BTreeMap<[String; 4], pb::Exposure> = BTreeMap::new();
    // Ends: each page begins behind the one before, and what is added meanwhile is behind `until` or soon passed.
    while rows.len() < ROWS_MAX {
        let page = answer(remote.audit().list_exposure(request.clone())).await?;
        page.exposures.into_iter().for_each(|row| add(&mut rows, row));
        if page.next_page_token.is_empty() || page.next_page_token == request.page_token {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let shown: Vec<_> = rows
        .values()
        .map(|row| {
            [
                &row.entity_id,
                &row.subject_id,
                &row.model,
                &row.code,
                &row.legal,
                &row.first_time,
                &row.last_time,
            ]
            .map(|text| words::printable(text))
        })
        .zip(rows.values().map(|row| row.permits.to_string()))
        .map(|([entity, person, model, code, law, first, last], permits)| {
            [entity, person, model, code, law, permits, first, last]
        })
        .collect();
    let value: Vec<_> = rows
        .values()
        .map(|row| {
            json!({
                "entity": row.entity_id, "person": row.subject_id, "model": row.model, "code": row.code,
                "legal": row.legal, "permits": row.permits, "first": row.first_time, "last": row.last_time,
                "first_decision": row.first_decision_id,
            })
        })
        .collect();
    let head = ["ENTITY", "PERSON", "MODEL", "CODE NOW", "LAW NOW", "PERMITS", "FIRST", "LAST"];
    context.output.print(&json!(value), &table(head, &shown));
    Ok(Outcome::Done)
}

fn add(rows: &mut BTreeMap<[String; 4], pb::Exposure>, row: pb::Exposure) {
    let key = [&row.entity_id, &row.subject_id, &row.model, &row.code].map(Clone::clone);
    match rows.get_mut(&key) {
        // Pages follow the record, and gateways report late: either may be the earlier one. RFC 3339 in UTC is in order as text.
        Some(known) => {
            known.permits += row.permits;
            if row.first_time < known.first_time {
                (known.first_time, known.first_decision_id) = (row.first_time, row.first_decision_id);
            }
            if row.last_time > known.last_time {
                known.last_time = row.last_time;
            }
        }
        None => drop(rows.insert(key, row)),
    }
}

fn text(value: Option<impl std::fmt::Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn chain(steps: &[pb::ReasonStep], facts: &[pb::FactUsed]) -> String {
    let rows: Vec<_> = steps
        .iter()
        .map(|step| {
            [&step.stage, &step.name, &step.finding, &step.text, &step.clause]
                .map(|text| words::printable(text))
        })
        .collect();
    let mut shown =
        if rows.is_empty() { String::new() } else { table(["STAGE", "RULE", "", "WHY", "CLAUSE"], &rows) };
    for fact in facts {
        shown.push_str(&format!(
            "\n  rests on {}, as of record {}",
            words::printable(&fact.object),
            fact.revision
        ));
    }
    shown
}

fn steps(steps: &[pb::ReasonStep]) -> Vec<Value> {
    let step = |step: &pb::ReasonStep| {
        json!({
            "stage": step.stage, "rule": step.name, "finding": step.finding, "why": step.text, "clause": step.clause,
        })
    };
    steps.iter().map(step).collect()
}

fn facts(facts: &[pb::FactUsed]) -> Vec<Value> {
    facts.iter().map(|fact| json!({ "object": fact.object, "record": fact.revision })).collect()
}
