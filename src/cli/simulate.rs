//! `policy simulate` and `annex simulate`: who would lose or gain access, before anybody signs.

use std::fmt::Write as _;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::output::table;
use super::remote::incoming;
use super::{Context, Failure, Outcome, words};
use crate::domain::codec::to_bytes;
use crate::domain::command::Command;
use crate::pb;
use crate::pb::simulate_response::Message;

/// Asks the server to simulate a command, shows how far it is, and prints what it found.
pub(super) async fn run(context: &Context<'_>, command: &Command) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let request = pb::SimulateRequest { command: to_bytes(command).into() };
    let mut answers = incoming(remote.determinations().simulate(request)).await?;
    let style = ProgressStyle::with_template("deciding for everybody {bar:30} {percent} %");
    let bar = ProgressBar::new(0);
    let bar = style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style));
    while let Some(response) = answers.next().await? {
        match response.message {
            Some(Message::Progress(progress)) => {
                bar.set_length(progress.total);
                bar.set_position(progress.done);
            }
            Some(Message::Report(report)) => {
                bar.finish_and_clear();
                context.output.print(&value(&report), &text(&report)?);
                return Ok(Outcome::Done);
            }
            None => {}
        }
    }
    Err(Failure("the server ended the simulation before it was over: repeat the command".to_owned()))
}

const fn counts(tally: Option<pb::SimulationTally>) -> (u64, u64) {
    match tally {
        Some(tally) => (tally.people, tally.workloads),
        None => (0, 0),
    }
}

/// "3 entities, 412 people, 5 workloads".
fn in_words(affected: Option<&pb::SimulationAffected>) -> String {
    let entities = affected.map_or(0, |affected| affected.entities);
    let (people, workloads) = counts(affected.and_then(|affected| affected.subjects));
    let number = |n: u64, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    format!(
        "{}, {}, {}",
        number(entities, "entity", "entities"),
        number(people, "person", "people"),
        number(workloads, "workload", "workloads")
    )
}

fn text(report: &pb::SimulationReport) -> Result<String, Failure> {
    let mut text = String::new();
    writeln!(text, "asked       {}", words::printable(&report.question))?;
    writeln!(text, "models      {}", words::printable(&report.models.join(", ")))?;
    let seq = report.as_of.as_ref().map_or(0, |position| position.seq);
    writeln!(text, "as of       record {seq}; {} decisions", report.decisions)?;
    for forecast in &report.forecasts {
        let (before, after) = (counts(forecast.permitted_before), counts(forecast.permitted_after));
        writeln!(text, "\nat {}", words::printable(&forecast.at))?;
        writeln!(text, "  lose access     {}", in_words(forecast.loses.as_ref()))?;
        writeln!(text, "  gain access     {}", in_words(forecast.gains.as_ref()))?;
        writeln!(text, "  need a licence  {}", in_words(forecast.needs_license.as_ref()))?;
        writeln!(
            text,
            "  permitted       {} people and {} workloads -> {} and {}",
            before.0, before.1, after.0, after.1
        )?;
        if forecast.lines.is_empty() {
            continue;
        }
        let rows: Vec<_> = forecast.lines.iter().map(row).collect();
        let header = ["ENTITY", "MODEL", "PLACE", "EFFECT", "NOW", "THEN", "PEOPLE", "WORKLOADS"];
        text.push_str(&table(header, &rows));
        if forecast.left_out > 0 {
            write!(text, "\n  and {} more, counted above", forecast.left_out)?;
        }
        text.push('\n');
    }
    Ok(text)
}

fn row(line: &pb::SimulationLine) -> [String; 8] {
    let (people, workloads) = counts(line.subjects);
    [
        words::printable(&line.entity_id),
        words::printable(&line.model),
        words::printable(&line.place),
        words::printable(&line.effect),
        words::printable(&line.before),
        words::printable(&line.after),
        people.to_string(),
        workloads.to_string(),
    ]
}

fn tally(tally: Option<pb::SimulationTally>) -> Value {
    let (people, workloads) = counts(tally);
    json!({ "people": people, "workloads": workloads })
}

fn affected(affected: Option<&pb::SimulationAffected>) -> Value {
    let (people, workloads) = counts(affected.and_then(|affected| affected.subjects));
    let entities = affected.map_or(0, |affected| affected.entities);
    json!({ "entities": entities, "people": people, "workloads": workloads })
}

fn value(report: &pb::SimulationReport) -> Value {
    let line = |line: &pb::SimulationLine| {
        json!({
            "entity_id": line.entity_id, "model": line.model, "place": line.place, "effect": line.effect,
            "before": line.before, "after": line.after, "needs_license": line.needs_license,
            "subjects": tally(line.subjects),
        })
    };
    let forecast = |forecast: &pb::SimulationForecast| {
        json!({
            "at": forecast.at, "asked": tally(forecast.asked),
            "permitted_before": tally(forecast.permitted_before),
            "permitted_after": tally(forecast.permitted_after),
            "loses": affected(forecast.loses.as_ref()), "gains": affected(forecast.gains.as_ref()),
            "needs_license": affected(forecast.needs_license.as_ref()),
            "lines": forecast.lines.iter().map(line).collect::<Vec<_>>(), "left_out": forecast.left_out,
        })
    };
    json!({
        "record": report.as_of.as_ref().map_or(0, |position| position.seq), "question": report.question,
        "models": report.models, "decisions": report.decisions,
        "forecasts": report.forecasts.iter().map(forecast).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_told_in_numbers_and_lines() {
        let tally = |people, workloads| Some(pb::SimulationTally { people, workloads });
        let affected = |entities, people, workloads| {
            Some(pb::SimulationAffected { entities, subjects: tally(people, workloads) })
        };
        let line = pb::SimulationLine {
            entity_id: "ent_1".to_owned(),
            model: "mythos-5\u{1b}".to_owned(),
            effect: "LOSES".to_owned(),
            subjects: tally(412, 5),
            ..Default::default()
        };
        let forecast = pb::SimulationForecast {
            at: "2026-06-27T12:00:00Z".to_owned(),
            loses: affected(3, 412, 5),
            gains: affected(1, 1, 1),
            lines: vec![line],
            left_out: 7,
            ..Default::default()
        };
        let report = pb::SimulationReport { forecasts: vec![forecast], ..Default::default() };
        let text = text(&report).unwrap();
        for part in [
            "lose access     3 entities, 412 people, 5 workloads",
            "gain access     1 entity, 1 person, 1 workload",
            "mythos-5\u{fffd}",
            "and 7 more",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert_eq!(value(&report)["forecasts"][0]["loses"]["people"], 412);
    }
}
