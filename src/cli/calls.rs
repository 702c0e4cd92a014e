//! `countersign audit calls`: who called what, and what came of it.

use clap::Args;
use serde_json::{Value, json};

use super::output::{say, table};
use super::remote::answer;
use super::{Context, Failure, Outcome, words};
use crate::domain::time::Timestamp;
use crate::pb;

/// Lines in one page.
const PAGE_LEN: u32 = 1_000;

#[derive(Args)]
pub(super) struct Query {
    /// Only calls of this principal.
    #[arg(long, value_name = "ID")]
    principal: Option<String>,
    /// Only methods with this in their path, such as Revoke or AuditService/.
    #[arg(long, value_name = "TEXT")]
    method: Option<String>,
    /// Only calls with this code of gRPC, such as PERMISSION_DENIED.
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Only calls that were refused or failed.
    #[arg(long)]
    refused: bool,
    /// Only the call with this name: what a user's error message says.
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Only calls from this time on, RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only calls before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// How many lines at most.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// Print JSON Lines with the fields of OCSF's API Activity (class 6003), for a SIEM.
    #[arg(long)]
    ocsf: bool,
}

pub(super) async fn run(query: &Query, context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let mut request = pb::ListCallsRequest {
        principal: query.principal.clone().unwrap_or_default(),
        method: query.method.clone().unwrap_or_default(),
        code: query.code.clone().unwrap_or_default(),
        refused: query.refused,
        request_id: query.request.clone().unwrap_or_default(),
        since: query.since.map(|time| time.to_string()).unwrap_or_default(),
        until: query.until.map(|time| time.to_string()).unwrap_or_default(),
        page_size: PAGE_LEN.min(query.limit),
        page_token: String::new(),
    };
    let mut calls = Vec::new();
    // Ends: each page begins behind the one before, and the service has so many segments and no more.
    while calls.len() < limit {
        let page = answer(remote.audit().list_calls(request.clone())).await?;
        calls.extend(page.calls);
        if page.next_page_token.is_empty() || page.next_page_token == request.page_token {
            break;
        }
        request.page_token = page.next_page_token;
    }
    calls.truncate(limit);
    if query.ocsf {
        for call in &calls {
            say(&ocsf(call).to_string());
        }
        return Ok(Outcome::Done);
    }
    let value: Vec<_> = calls.iter().map(plain).collect();
    let rows: Vec<_> = calls.iter().map(row).collect();
    let head = ["TIME", "CALLS", "WHO", "FROM", "METHOD", "CODE", "REASON", "RECORD", "REQUEST"];
    context.output.print(&json!(value), &table(head, &rows));
    Ok(Outcome::Done)
}

/// Who called, in words.
fn who(call: &pb::Call) -> String {
    match (call.principal.as_str(), call.ordinal, call.refused_authority.as_str()) {
        ("", 0, _) => "-".to_owned(),
        ("", ordinal, "") => format!("certificate {ordinal}"),
        ("", ordinal, authority) => format!("refused {} {ordinal}", words::printable(authority)),
        (principal, ..) => words::printable(principal),
    }
}

fn row(call: &pb::Call) -> [String; 9] {
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { words::printable(text) };
    let method = call.method.rsplit_once('.').map_or(call.method.as_str(), |(_, short)| short);
    [
        words::printable(&call.time),
        call.count.to_string(),
        who(call),
        or_none(&call.address),
        or_none(if call.detail.is_empty() { method } else { &call.detail }),
        words::printable(&call.code),
        or_none(&call.reason),
        if call.record_seq == 0 { "-".to_owned() } else { call.record_seq.to_string() },
        or_none(&call.request_id),
    ]
}

fn plain(call: &pb::Call) -> Value {
    json!({
        "time": call.time, "last_time": call.last_time, "count": call.count, "request_id": call.request_id,
        "method": call.method, "principal": call.principal, "ordinal": call.ordinal,
        "refused_authority": call.refused_authority, "address": call.address, "code": call.code,
        "reason": call.reason, "duration_us": call.duration_us, "record": call.record_seq, "detail": call.detail,
    })
}

/// One event of OCSF 1.3, class API Activity.
fn ocsf(call: &pb::Call) -> Value {
    let verb = call.method.rsplit('/').next().unwrap_or_default();
    let service = call.method.trim_start_matches('/').split('/').next().unwrap_or_default();
    let activity = activity(verb);
    let is_refused = call.code != "OK";
    let ms = |text: &str| text.parse().map_or(0, |time: Timestamp| time.millis());
    json!({
        "category_uid": 6, "category_name": "Application Activity",
        "class_uid": 6_003, "class_name": "API Activity",
        "activity_id": activity, "type_uid": 600_300 + activity,
        "time": ms(&call.time), "start_time": ms(&call.time), "end_time": ms(&call.last_time),
        "count": call.count, "duration": call.duration_us / 1_000,
        "severity_id": if is_refused { 3 } else { 1 },
        "status_id": if is_refused { 2 } else { 1 },
        "status_code": call.code, "status_detail": call.reason,
        "metadata": {
            "version": "1.3.0", "uid": call.request_id,
            "product": { "name": "Countersign", "version": env!("CARGO_PKG_VERSION") },
        },
        "actor": { "user": { "name": who(call), "uid": call.principal } },
        "api": {
            "operation": verb, "service": { "name": service }, "request": { "uid": call.request_id },
            "response": { "error": call.reason, "message": call.code },
        },
        "src_endpoint": { "ip": call.address },
        "unmapped": {
            "record_seq": call.record_seq, "certificate_ordinal": call.ordinal,
            "refused_authority": call.refused_authority, "detail": call.detail,
        },
    })
}

/// OCSF's: create, read, update, delete, other.
fn activity(verb: &str) -> u32 {
    let begins = |words: &[&str]| words.iter().any(|word| verb.starts_with(word));
    if begins(&[
        "Get",
        "List",
        "Watch",
        "Verify",
        "Evaluate",
        "Check",
        "Subscribe",
        "Stream",
        "Fetch",
        "Delta",
    ]) {
        2
    } else if begins(&["Apply", "Create", "Nominate", "Issue", "Enroll", "Prepare", "Submit"]) {
        1
    } else if begins(&["Renew", "Attest", "Approve"]) {
        3
    } else if begins(&["Revoke", "Suspend", "Stop", "Withdraw"]) {
        4
    } else {
        99
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_call_is_an_event_of_ocsf() {
        let call = pb::Call {
            time: "2026-06-27T12:00:00Z".to_owned(),
            last_time: "2026-06-27T12:00:01Z".to_owned(),
            count: 3,
            request_id: "req_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
            method: "/countersign.v1.RevocationService/Revoke".to_owned(),
            principal: "officer-1".to_owned(),
            code: "PERMISSION_DENIED".to_owned(),
            reason: "DENIED".to_owned(),
            duration_us: 2_500,
            ..Default::default()
        };
        let event = ocsf(&call);
        assert_eq!(
            (&event["class_uid"], &event["type_uid"], &event["activity_id"]),
            (&json!(6_003), &json!(600_304), &json!(4))
        );
        assert_eq!((&event["status_id"], &event["severity_id"]), (&json!(2), &json!(3)));
        assert_eq!(event["api"]["service"]["name"], "countersign.v1.RevocationService");
        assert_eq!(event["api"]["operation"], "Revoke");
        assert_eq!(
            (&event["time"], &event["end_time"]),
            (&json!(1_782_561_600_000_i64), &json!(1_782_561_601_000_i64))
        );
        assert_eq!(event["duration"], 2);
        assert!(!event.to_string().contains('\n'), "a line of JSON Lines");
        let read = pb::Call { method: "/a.B/GetHead".to_owned(), code: "OK".to_owned(), ..call };
        assert_eq!((&ocsf(&read)["type_uid"], &ocsf(&read)["status_id"]), (&json!(600_302), &json!(1)));
    }
}
