//! `countersign audit decisions`: who was permitted or denied what, and why.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::output::table;
use super::remote::answer;
use super::{Context, Failure, Outcome, words};
use crate::domain::id::{DecisionId, EntityId, PrincipalId, SubjectId};
use crate::domain::time::Timestamp;
use crate::pb;
use crate::pb::list_decisions_request::Outcome as Wanted;

/// Decisions in one page: some 300 KB.
const PAGE_LEN: u32 = 1_000;

/// Permits or denials.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Permit,
    Deny,
}

#[derive(Args)]
pub(super) struct Query {
    /// Only the decision with this name.
    #[arg(long, value_name = "ID")]
    id: Option<DecisionId>,
    /// Only those about certificates of this entity.
    #[arg(long, value_name = "ID")]
    entity: Option<EntityId>,
    /// Only those about certificates of this person or workload.
    #[arg(long, value_name = "ID")]
    person: Option<SubjectId>,
    /// Only those for this model, as it was asked for.
    #[arg(long)]
    model: Option<String>,
    /// Only those that this gateway or officer asked for, or that this gateway made.
    #[arg(long, value_name = "ID")]
    gateway: Option<PrincipalId>,
    /// Only those with this code, such as CREDENTIAL_REVOKED.
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Only permits, or only denials.
    #[arg(long, value_enum)]
    outcome: Option<Kind>,
    /// Only decisions from this time on, RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only decisions before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// How many at most.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// Print JSON Lines with the fields of OCSF's API Activity (class 6003), for a SIEM.
    #[arg(long)]
    ocsf: bool,
}

impl Query {
    fn request(&self) -> pb::ListDecisionsRequest {
        let wanted = match self.outcome {
            None => Wanted::Unspecified,
            Some(Kind::Permit) => Wanted::Permit,
            Some(Kind::Deny) => Wanted::Deny,
        };
        pb::ListDecisionsRequest {
            decision_id: text(self.id),
            entity_id: text(self.entity),
            subject_id: text(self.person),
            model: text(self.model.as_ref()),
            gateway: text(self.gateway.as_ref()),
            code: text(self.reason.as_ref()),
            outcome: wanted.into(),
            since: text(self.since),
            until: text(self.until),
            page_size: PAGE_LEN.min(self.limit),
            page_token: String::new(),
        }
    }
}

fn text(value: Option<impl std::fmt::Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

pub(super) async fn run(query: &Query, context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let (mut request, mut decisions) = (query.request(), Vec::new());
    // Ends: each page begins behind the one before, and what is added meanwhile is bounded by the limit.
    while decisions.len() < limit {
        let page = answer(remote.audit().list_decisions(request.clone())).await?;
        decisions.extend(page.decisions);
        if page.next_page_token.is_empty() || page.next_page_token == request.page_token {
            break;
        }
        request.page_token = page.next_page_token;
    }
    decisions.truncate(limit);
    if query.ocsf {
        for decision in &decisions {
            println!("{}", ocsf(decision));
        }
        return Ok(Outcome::Done);
    }
    let value: Vec<_> = decisions.iter().map(plain).collect();
    let rows: Vec<_> = decisions.iter().map(row).collect();
    let head =
        ["TIME", "COUNT", "ANSWER", "CODE", "LAW", "MODEL", "PLACE", "ENTITY", "PERSON", "BY", "DECISION"];
    context.output.print(&json!(value), &table(head, &rows));
    Ok(Outcome::Done)
}

const fn verdict(decision: &pb::RecordedDecision) -> &'static str {
    if decision.permit { "PERMIT" } else { "DENY" }
}

fn row(decision: &pb::RecordedDecision) -> [String; 11] {
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { words::printable(text) };
    let law = match decision.rule.as_str() {
        "" => String::new(),
        rule => format!("{} by {rule}", decision.legal),
    };
    [
        words::printable(&decision.time),
        decision.count.to_string(),
        verdict(decision).to_owned(),
        or_none(&decision.code),
        or_none(&law),
        or_none(&decision.model),
        or_none(&decision.place),
        or_none(&decision.entity_id),
        or_none(&decision.subject_id),
        format!("{} {}", words::printable(&decision.decided_by), or_none(&decision.gateway)),
        or_none(&decision.id),
    ]
}

pub(super) fn plain(decision: &pb::RecordedDecision) -> Value {
    let as_of = decision.as_of.unwrap_or_default();
    json!({
        "id": decision.id, "time": decision.time, "count": decision.count, "decided_by": decision.decided_by,
        "gateway": decision.gateway, "certificate_sha256": hex::encode(&decision.certificate_sha256),
        "ordinal": decision.ordinal, "entity": decision.entity_id, "person": decision.subject_id,
        "model": decision.model, "form": decision.access_form, "place": decision.place,
        "serving_region": decision.serving_region, "purpose": decision.purpose, "chain": decision.chain,
        "end_user_identified": decision.end_user_identified,
        "as_of": { "epoch": as_of.epoch, "record": as_of.seq }, "logic_version": decision.logic_version,
        "policy_sha256": hex::encode(&decision.policy_sha256), "permit": decision.permit,
        "code": decision.code, "legal": decision.legal, "rule": decision.rule, "reason": decision.reason,
        "clause": decision.clause, "determination": decision.determination, "license": decision.license,
        "denials": decision.denials, "policy": decision.policy, "good_until": decision.good_until,
    })
}

/// One event of OCSF 1.3, class API Activity: the operation is the decision, the resources are the model and the entity.
fn ocsf(decision: &pb::RecordedDecision) -> Value {
    let ms = decision.time.parse().map_or(0, |time: Timestamp| time.millis());
    let severity = if decision.permit { 1 } else { 3 };
    let resource = |uid: &str, kind: &str| (!uid.is_empty()).then(|| json!({ "uid": uid, "type": kind }));
    let resources: Vec<_> = [resource(&decision.model, "model"), resource(&decision.entity_id, "entity")]
        .into_iter()
        .flatten()
        .collect();
    json!({
        "category_uid": 6, "category_name": "Application Activity",
        "class_uid": 6_003, "class_name": "API Activity",
        "activity_id": 2, "activity_name": "Read", "type_uid": 600_302, "type_name": "API Activity: Read",
        "time": ms, "count": decision.count,
        "severity_id": severity, "severity": if decision.permit { "Informational" } else { "Medium" },
        "action_id": if decision.permit { 1 } else { 2 },
        "action": if decision.permit { "Allowed" } else { "Denied" },
        "status_id": if decision.permit { 1 } else { 2 },
        "status": if decision.permit { "Success" } else { "Failure" },
        "status_code": decision.code, "status_detail": decision.reason,
        "metadata": {
            "version": "1.3.0", "uid": decision.id,
            "product": { "name": "Countersign", "vendor_name": "Countersign", "version": env!("CARGO_PKG_VERSION") },
        },
        "actor": { "user": { "uid": decision.subject_id, "org": { "uid": decision.entity_id } } },
        "api": {
            "operation": decision.decided_by, "service": { "name": "countersign" },
            "request": { "uid": decision.id },
            "response": { "code": severity, "error": if decision.permit { "" } else { decision.code.as_str() },
                "message": verdict(decision) },
        },
        // Who asked, by the name under which it is registered: no address is kept.
        "src_endpoint": { "uid": decision.gateway, "name": decision.gateway,
            "location": { "country": decision.place } },
        "resources": resources,
        "unmapped": plain(decision),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial() -> pb::RecordedDecision {
        pb::RecordedDecision {
            id: "dec_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
            time: "2026-06-27T12:00:00Z".to_owned(),
            decided_by: "EVALUATE".to_owned(),
            gateway: "gw-1".to_owned(),
            entity_id: "ent_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
            subject_id: "sub_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
            model: "mythos-5\n".to_owned(),
            place: "FR".to_owned(),
            code: "P-PLACE_NOT_ALLOWED".to_owned(),
            reason: "EXEMPT_ANNEX_A_ENTITY".to_owned(),
            count: 1,
            ..Default::default()
        }
    }

    type IsOfType = fn(&Value) -> bool;

    /// What OCSF 1.3 requires of every event and of class 6003, and of which JSON type it is.
    const REQUIRED: &[(&str, IsOfType)] = &[
        ("/activity_id", Value::is_u64),
        ("/category_uid", Value::is_u64),
        ("/class_uid", Value::is_u64),
        ("/type_uid", Value::is_u64),
        ("/severity_id", Value::is_u64),
        ("/time", Value::is_i64),
        ("/metadata/version", Value::is_string),
        ("/metadata/product/vendor_name", Value::is_string),
        ("/actor/user/uid", Value::is_string),
        ("/api/operation", Value::is_string),
        ("/src_endpoint/uid", Value::is_string),
    ];

    #[test]
    fn a_decision_is_an_event_of_ocsf_on_one_line() {
        let permit = pb::RecordedDecision { permit: true, code: "EXEMPT".to_owned(), ..denial() };
        for (decision, status, action) in [(denial(), 2, "Denied"), (permit, 1, "Allowed")] {
            let event = ocsf(&decision);
            for (field, is_type) in REQUIRED {
                let value = event.pointer(field);
                assert!(value.is_some_and(is_type), "{field}: {value:?}");
            }
            // OCSF: the type is the class and the activity.
            let number = |field: &str| event[field].as_u64().unwrap();
            assert_eq!(number("type_uid"), number("class_uid") * 100 + number("activity_id"));
            assert_eq!((number("category_uid"), number("class_uid")), (6, 6_003));
            assert_eq!((number("status_id"), event["action"].as_str().unwrap()), (status, action));
            assert_eq!(event["time"], json!(1_782_561_600_000_i64));
            assert_eq!(event["resources"][1]["uid"], "ent_01ARZ3NDEKTSV4RRFFQ69G5FAV");
            assert!(!event.to_string().contains('\n'), "a line of JSON Lines");
        }
    }
}
