//! `countersign stop drill`: practise an emergency stop, with a report that the record keeps.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::follow::beside;
use super::mandate::{BARRIER_MAX, Check, Doing, Waiting, print_checked, progress, sign};
use super::output::table;
use super::remote::{answer, answer_within, request_id};
use super::words::printable;
use super::{Context, Failure, Outcome, Output};
use crate::domain::command::Command;
use crate::domain::drill::DrillTimes;
use crate::domain::revocation::StopScope;
use crate::pb;

/// Carries out a drill of a stop.
pub(super) async fn run(
    context: &Context<'_>,
    scope: StopScope,
    check: Check,
    wait: Waiting,
) -> Result<Outcome, Failure> {
    let doing = Doing::from(check);
    let (remote, signed) = sign(context, &Command::Drill(scope.clone()), doing).await?;
    let is_awaited = wait.wait && doing == Doing::Commit;
    let request = pb::DrillRequest {
        mandate: Some(signed),
        wait: if is_awaited { pb::Wait::Enforced } else { pb::Wait::Committed }.into(),
        deadline_ms: if is_awaited { wait.deadline_ms } else { 0 },
        request_id: request_id(),
        validate_only: doing != Doing::Commit,
    };
    let deadline = match request.deadline_ms {
        0 => BARRIER_MAX,
        ms => Duration::from_millis(u64::from(ms)),
    };
    let (asked, mut revocation) = (request.request_id.clone(), remote.revocation());
    let carried_out = answer_within(deadline, revocation.drill(request));
    let done = if is_awaited {
        let progress = progress("waiting for the gateways");
        let answered = beside(carried_out, &remote, asked, &progress).await;
        progress.finish_and_clear();
        answered?
    } else {
        carried_out.await?
    };
    match doing {
        Doing::CheckOnly(how) => print_checked(context.output, how),
        Doing::Commit => print(context.output, &scope, &done, is_awaited),
    }
}

fn milliseconds(time: Option<u64>) -> String {
    time.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"))
}

/// How many, and who.
fn listed(names: &[String]) -> String {
    let named: Vec<_> = names.iter().map(|name| printable(name)).collect();
    if named.is_empty() { "-".to_owned() } else { format!("{} ({})", named.len(), named.join(", ")) }
}

fn print(
    output: &Output,
    scope: &StopScope,
    done: &pb::DrillResponse,
    is_awaited: bool,
) -> Result<Outcome, Failure> {
    let at = done
        .enforcement
        .as_ref()
        .ok_or_else(|| Failure("the server did not say how the drill stands".to_owned()))?;
    let seq = at.position.as_ref().map_or(0, |position| position.seq);
    if !is_awaited {
        let text =
            format!("drill of {scope} at record {seq}; nobody waits for its end, so it leaves no report");
        output.print(&json!({ "record": seq, "scope": scope.to_string(), "reported": false }), &text);
        return Ok(Outcome::Done);
    }
    let acked_ms = done.acknowledgements.iter().map(|acknowledgement| Some(acknowledgement.took_ms));
    let times = DrillTimes { durable_ms: done.durable_ms, acked_ms: acked_ms.collect() };
    let quantiles = [50, 99, 100].map(|percent| times.quantile_ms(percent));
    let status = at.status().as_str_name().trim_start_matches("ENFORCEMENT_STATUS_");
    output.print(
        &value(scope, (seq, status), done, quantiles),
        &text(scope, (seq, status), (done, at), quantiles),
    );
    let is_enforced = at.status() == pb::EnforcementStatus::Enforced;
    Ok(if is_enforced { Outcome::Done } else { Outcome::Failed })
}

fn text(
    scope: &StopScope,
    (seq, status): (u64, &str),
    (done, at): (&pb::DrillResponse, &pb::Enforcement),
    [p50, p99, max]: [Option<u64>; 3],
) -> String {
    let mut text = format!("drill of {scope} at record {seq}: {status}\n");
    let rows = [
        ("on disk after", milliseconds(Some(done.durable_ms))),
        (
            "acknowledged after",
            format!("p50 {}, p99 {}, max {}", milliseconds(p50), milliseconds(p99), milliseconds(max)),
        ),
        ("everywhere after", milliseconds(Some(at.took_ms))),
        ("acked", listed(&at.acked)),
        ("weak", listed(&at.weak)),
        ("lease_expired", listed(&at.lease_expired)),
        ("pending", listed(&at.pending)),
    ];
    for (label, value) in rows {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "  {label:<20} {value}");
    }
    text.push_str("nobody was denied anything; the record keeps this: countersign stop drills\n");
    text
}

fn value(
    scope: &StopScope,
    (seq, status): (u64, &str),
    done: &pb::DrillResponse,
    [p50, p99, max]: [Option<u64>; 3],
) -> serde_json::Value {
    let at = done.enforcement.clone().unwrap_or_default();
    let acknowledgements: Vec<_> = done
        .acknowledgements
        .iter()
        .map(|one| json!({ "participant": one.participant, "took_ms": one.took_ms }))
        .collect();
    json!({
        "record": seq, "scope": scope.to_string(), "status": status, "reported": true,
        "durable_ms": done.durable_ms, "acked_p50_ms": p50, "acked_p99_ms": p99, "acked_max_ms": max,
        "took_ms": at.took_ms, "acknowledgements": acknowledgements,
        "acked": at.acked, "weak": at.weak, "lease_expired": at.lease_expired, "pending": at.pending,
    })
}

/// The last drills, the newest first.
pub(super) async fn list(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let drills = answer(remote.revocation().list_drills(pb::ListDrillsRequest {})).await?.drills;
    let rows: Vec<_> = drills.iter().map(row).collect();
    let value: Vec<_> = drills
        .iter()
        .map(|drill| {
            json!({
                "record": drill.seq, "scope": drill.scope, "time": drill.time, "reported": drill.report_seq > 0,
                "report": drill.report_seq, "durable_ms": drill.durable_ms, "took_ms": drill.took_ms,
                "acked_p50_ms": drill.acked_p50_ms, "acked_p99_ms": drill.acked_p99_ms,
                "acked_max_ms": drill.acked_max_ms, "acked": drill.acked, "weak": drill.weak,
                "lease_expired": drill.lease_expired, "pending": drill.pending,
            })
        })
        .collect();
    let header = [
        "RECORD", "TIME", "SCOPE", "REPORT", "TOOK", "P50", "P99", "MAX", "ACKED", "WEAK", "EXPIRED",
        "PENDING",
    ];
    context.output.print(&json!(value), &table(header, &rows));
    Ok(Outcome::Done)
}

fn row(drill: &pb::DrillRecord) -> [String; 12] {
    let is_reported = drill.report_seq > 0;
    let if_reported = |text: String| if is_reported { text } else { "-".to_owned() };
    [
        drill.seq.to_string(),
        drill.time.clone(),
        printable(&drill.scope),
        if_reported(drill.report_seq.to_string()),
        if_reported(milliseconds(Some(drill.took_ms))),
        milliseconds(drill.acked_p50_ms),
        milliseconds(drill.acked_p99_ms),
        milliseconds(drill.acked_max_ms),
        if_reported(drill.acked.to_string()),
        if_reported(drill.weak.to_string()),
        if_reported(drill.lease_expired.to_string()),
        if_reported(drill.pending.to_string()),
    ]
}
