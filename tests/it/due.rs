//! What is due, and how far access is restored after a lift, over the wire and on the command line.

use countersign::domain::certificate::PrincipalKind;
use countersign::domain::command::Command;
use countersign::domain::principal::Role;
use countersign::env::Clock as _;
use countersign::pb;
use countersign::pb::provisioning_service_client::ProvisioningServiceClient;
use serde_json::json;
use tonic::Code;
use tonic::transport::Channel;

use crate::calls::{enrolled, refused};
use crate::cli::Ended;
use crate::cli_served::Served;
use crate::world::World;

const DAY_MS: i64 = 86_400_000;

async fn list(channel: &Channel, request: pb::ListDueRequest) -> pb::ListDueResponse {
    ProvisioningServiceClient::new(channel.clone()).list_due(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_shown_to_officers_in_pages_and_to_a_partner_only_its_own() {
    let world = World::start().await;
    let (own, _, _) = enrolled(&world).await;
    let (other, _, _) = enrolled(&world).await;
    let now = world.clock.now();
    for (entity, days) in [(own, 5), (other, 20)] {
        let (until, due) = (now.plus_ms(days * DAY_MS), now.plus_ms((days + 60) * DAY_MS));
        world.enact(Command::RecordSafeguards { entity, until, reverify_due: Some(due) }).await.unwrap();
    }
    let kinds = |rows: &[pb::Due]| -> Vec<_> {
        rows.iter().map(|row| (row.entity_id.clone(), row.kind.clone(), row.stage.clone())).collect()
    };
    let line = |entity: &countersign::domain::id::EntityId, kind: &str, stage: &str| {
        (entity.to_string(), kind.to_owned(), stage.to_owned())
    };
    let all = [
        line(&own, "SAFEGUARDS", "GRACE"),
        line(&other, "SAFEGUARDS", "REMINDER"),
        line(&own, "REVERIFICATION", "LATER"),
        line(&other, "REVERIFICATION", "LATER"),
    ];
    let near = list(&world.alice(), pb::ListDueRequest::default()).await;
    assert_eq!((kinds(&near.due).as_slice(), near.next_page_token.as_str()), (&all[..2], ""));
    // Pages make the whole, without gap or repeat.
    let (mut found, mut token) = (Vec::new(), String::new());
    for _ in 0..all.len() {
        let request =
            pb::ListDueRequest { within_days: 100, page_size: 1, page_token: token, ..Default::default() };
        let page = list(&world.alice(), request).await;
        assert_eq!(page.due.len(), 1);
        found.extend(page.due);
        token = page.next_page_token;
    }
    assert_eq!((kinds(&found).as_slice(), token.as_str()), (&all[..], ""));
    let roles = [Role::PartnerAdmin];
    let admin = world.principal("partner-1", (PrincipalKind::Partner, &roles), Some(own)).await;
    let channel = world.connect_as(&admin).await;
    let mine = list(&channel, pb::ListDueRequest { within_days: 100, ..Default::default() }).await;
    assert_eq!(kinds(&mine.due), [all[0].clone(), all[2].clone()]);
    let far = pb::ListDueRequest { within_days: 3_661, ..Default::default() };
    refused(
        ProvisioningServiceClient::new(channel.clone()).list_due(far).await,
        Code::InvalidArgument,
        "3660",
    );
    // When the time has come it says so, and the partner's people are denied.
    world.clock.advance_ms(5 * 86_400_000);
    world.screen(own).await;
    let overdue = list(&channel, pb::ListDueRequest::default()).await;
    assert_eq!(kinds(&overdue.due), [line(&own, "SAFEGUARDS", "OVERDUE")]);
    let request = pb::GetRestorationRequest { model: "mythos-5".to_owned(), ..Default::default() };
    let mut officer = ProvisioningServiceClient::new(world.alice());
    let restored = officer.get_restoration(request).await.unwrap().into_inner();
    let row = restored.entities.iter().find(|row| row.entity_id == own.to_string()).unwrap();
    assert_eq!((row.eligible, row.denied[0].code.as_str()), (0, "P-SAFEGUARD_LAPSED"));
    let none = pb::GetRestorationRequest { model: "mythos-6".to_owned(), ..Default::default() };
    refused(officer.get_restoration(none).await, Code::NotFound, "model");
}

fn id(ended: Ended) -> String {
    ended.done().json()["id"].as_str().unwrap().to_owned()
}

/// A partner of the annex with an approved person, whose safeguards a checklist asks for.
fn onboarded(served: &Served) -> (String, String) {
    let entity = id(served.by("alice", &["entity", "apply", "--name", "Acme Inc.", "--organisation", "US"]));
    served.both(&["safeguards", "checklist", "--item", "mfa=every account has two factors"]);
    served.by("alice", &["entity", "activate", &entity]).fails(&["without evidence of mfa"]);
    let until = ["--until", "2099-01-01T00:00:00Z", "--commit"];
    served
        .by("alice", &[&["safeguards", "record", &entity][..], &until].concat())
        .fails(&["safeguards attest"]);
    std::fs::write(served.desk.path("mfa.pdf"), "evidence").unwrap();
    let attest = ["safeguards", "attest", &entity, "--evidence", "mfa=mfa.pdf"];
    served.by("alice", &[&attest[..], &until].concat()).done();
    served.both(&["entity", "activate", &entity]);
    served.both(&["grant", "add", &entity, "--model", "mythos-5", "--from", "2026-01-01T00:00:00Z"]);
    served.both(&[
        "annex",
        "amend",
        "--determination",
        "2026-06-26-lift",
        "--revision",
        "1",
        "--add",
        &entity,
    ]);
    let head = served.by("alice", &["audit", "head"]).done().json();
    let screening = [
        "screening",
        "record",
        &entity,
        "--list-version",
        "csl-1",
        "--list-date",
        head["time"].as_str().unwrap(),
    ];
    let clear = ["--result", "CLEAR", "--reason", "no match", "--commit"];
    served.by("alice", &[&screening[..], &clear].concat()).done();
    let person =
        id(served.by("alice", &["person", "nominate", "--entity", &entity, "--relation", "EMPLOYEE"]));
    let approve = ["person", "approve", &person, "--evidence", "CITIZEN_OR_NATIONAL", "--assurance", "IAL2"];
    served.by("bob", &[&approve[..], &["--verified-on", "2026-06-27", "--commit"]].concat()).done();
    (entity, person)
}

#[test]
fn a_restoration_is_planned_and_followed_on_the_command_line() {
    let served = Served::start();
    let (entity, person) = onboarded(&served);
    let model = ["--model", "mythos-5"];
    let plan = served.by("alice", &[&["restore", "plan"][..], &model].concat()).done().json();
    let expected = json!({
        "entity_id": entity, "cohort": "REVISION 1", "approved": 1, "eligible": 1, "certified": 0, "denied": {},
    });
    assert_eq!((&plan["stage"], &plan["entities"]), (&"RESTORING".into(), &json!([expected])));
    let token = served.by("alice", &["token", "create", &person]).done().json();
    served.enroll(token["token"].as_str().unwrap(), "me").done();
    let status = ["restore", "status", "--entity", &entity, "--watch"];
    let status = served.by("alice", &[&status[..], &model].concat()).done().json();
    assert_eq!(
        (&status["stage"], &status["certified"], &status["eligible"]),
        (&"RESTORED".into(), &1.into(), &1.into())
    );
    assert!(status["took_s"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(status["due"], json!([]), "nothing is due within a year");
    let shown = served.desk.run(&[
        "restore",
        "status",
        "--model",
        "mythos-5",
        "--server",
        &served.url,
        "--identity",
        "alice",
    ]);
    assert!(shown.done().out.contains("REVISION 1"), "the table has its cohorts");
    served.by("alice", &["restore", "plan", "--model", "mythos-6"]).fails(&["NOT_FOUND"]);
}

#[test]
fn a_report_that_is_owed_is_listed_until_it_is_filed_and_a_record_is_corrected() {
    let served = Served::start();
    let (entity, _) = onboarded(&served);
    let register = ["license", "register", "--id", "d1234567", "--holder", &entity, "--model", "mythos-5"];
    served.both(&[&register[..], &["--provisos-met", "--report", "annual=2026-11-01T00:00:00Z"]].concat());
    let owed = served.by("alice", &["due", "list", "--entity", &entity]);
    assert_eq!(owed.code, 3, "{}{}", owed.out, owed.err);
    let row = &owed.json()[0];
    assert_eq!(
        (&row["kind"], &row["stage"], &row["of"]),
        (&"LICENSE_REPORT".into(), &"OVERDUE".into(), &"d1234567 annual".into())
    );
    std::fs::write(served.desk.path("report.pdf"), "what was filed").unwrap();
    let file =
        ["license", "file-report", "--id", "d1234567", "--report", "annual", "--document", "report.pdf"];
    served.both(&file);
    assert_eq!(served.by("alice", &["due", "list", "--entity", &entity]).done().json(), json!([]));
    served.by("alice", &[&file[..], &["--commit"]].concat()).fails(&["report"]);
    let head = served.by("alice", &["audit", "head"]).done().json();
    let last = head["record"].as_u64().unwrap();
    let (wrong, right) = ((last - 1).to_string(), last.to_string());
    let correct = [
        "audit",
        "correct",
        "--record",
        &wrong,
        "--by",
        &right,
        "--reason",
        "the wrong document",
        "--commit",
    ];
    served.by("alice", &correct).done();
    let listed = served.by("alice", &["audit", "list", "--from", &wrong, "--limit", "1"]).done().json();
    assert!(listed[0]["corrected_by"][0].as_u64().unwrap() > last, "{listed}");
    served.by("alice", &correct).fails(&["correction"]);
}
