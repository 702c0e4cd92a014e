//! The record of decisions: every decision is in it, whoever made it, and what shows that it was altered.

use std::time::Duration;

use countersign::app::store::verify_offline;
use countersign::app::{App, Asking};
use countersign::domain::certificate::PrincipalKind;
use countersign::domain::command::Command;
use countersign::domain::decided::{DecidedBy, UNWRITTEN_MAX};
use countersign::domain::enforce::{Chain, Request};
use countersign::domain::id::RecordHoldId;
use countersign::domain::model::AccessForm;
use countersign::domain::policy::Place;
use countersign::domain::principal::Role;
use countersign::domain::record_command::{RecordCommand, RecordHold};
use countersign::env::Clock as _;
#[cfg(feature = "faults")]
use countersign::journal::faulty::DiskFaults;
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::pb::audit_service_client::AuditServiceClient;
use countersign::pb::list_decisions_request::Outcome;
use tonic::transport::Channel;
use tonic::{Code, Status};

#[cfg(feature = "faults")]
use crate::calls::denied;
use crate::calls::{enrolled, question, refused};
use crate::kill::{Victim, acknowledge, brief, told};
use crate::world::World;

/// A decision is on disk within a tenth of a second; a busy machine may need many times that.
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

async fn list(
    channel: &Channel,
    request: pb::ListDecisionsRequest,
) -> Result<Vec<pb::RecordedDecision>, Status> {
    let (mut decisions, mut request) = (Vec::new(), request);
    loop {
        let mut client = AuditServiceClient::new(channel.clone());
        let page = client.list_decisions(request.clone()).await?.into_inner();
        decisions.extend(page.decisions);
        if page.next_page_token.is_empty() {
            return Ok(decisions);
        }
        request.page_token = page.next_page_token;
    }
}

/// The decision with this name, once it is on disk.
pub(crate) async fn recorded(world: &World, id: &str) -> pb::RecordedDecision {
    let found = async {
        loop {
            let request = pb::ListDecisionsRequest { decision_id: id.to_owned(), ..Default::default() };
            if let Some(decision) = list(&world.alice(), request).await.unwrap().pop() {
                return decision;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, found).await.expect("the decision is on record")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_decision_is_on_record_with_what_was_asked_and_answered() {
    let world = World::start().await;
    let (entity, subject, caller) = enrolled(&world).await;
    let gateway = world.connect_as(&world.gateway("gw-1").await).await;
    let permit = world.evaluate(&gateway, &caller.certificate, "Claude Mythos 5").await;
    assert!(permit.permit && permit.id.starts_with("dec_"), "{permit:?}");
    let found = recorded(&world, &permit.id).await;
    assert_eq!((found.decided_by.as_str(), found.gateway.as_str()), ("EVALUATE", "gw-1"));
    assert_eq!((found.entity_id, found.subject_id), (entity.to_string(), subject.to_string()));
    assert_eq!((found.model.as_str(), found.place.as_str(), found.count), ("Claude Mythos 5", "US", 1));
    assert_eq!((found.permit, found.code, found.legal), (true, permit.code, permit.legal));
    assert_eq!((found.rule, found.clause), (permit.rule, permit.clause));
    assert_eq!((found.as_of, found.good_until), (permit.as_of, permit.good_until));
    let certificate = world.read(&caller.certificate);
    assert_eq!(
        (found.ordinal, &found.certificate_sha256[..]),
        (certificate.ordinal.0, &certificate.hash.0[..])
    );
    let state = world.running().app().state();
    assert_eq!(&found.policy_sha256[..], &state.bundle().hash().0[..]);
    assert!(found.logic_version > 0);
    // A denial, with its gates and the policy rule.
    let denial = world.evaluate_from(&gateway, &caller.certificate, "mythos-5", "FR").await;
    let found = recorded(&world, &denial.id).await;
    assert_eq!((found.permit, found.code, found.policy), (false, denial.code, denial.policy));
    // Of something that is no certificate: the hash of what was shown, and nobody.
    let junk = world.ask_alice(question(b"junk", "mythos-5")).await;
    let found = recorded(&world, &junk.id).await;
    assert_eq!((found.gateway.as_str(), found.ordinal, found.entity_id.as_str()), ("alice", 0, ""));
    assert_eq!((found.denials, found.certificate_sha256.len()), (junk.denials, 32));
    // A certificate that is verified, good and not.
    let mut client = AttestationServiceClient::new(gateway.clone());
    for (certificate, code) in [(caller.certificate.clone(), "VALID"), (b"junk".to_vec(), "")] {
        let request = pb::VerifyRequest { certificate: certificate.into(), min_position: None };
        let verified = client.verify(request).await.unwrap().into_inner();
        let found = recorded(&world, &verified.decision_id).await;
        assert_eq!((found.decided_by.as_str(), found.model.as_str()), ("VERIFY", ""));
        assert_eq!(found.permit, verified.valid);
        assert_eq!(found.code, if verified.valid { code.to_owned() } else { verified.code });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_reports_is_on_record_once() {
    let world = World::start().await;
    let caller = world.gateway("gw-1").await;
    let mut reporter = crate::reports::client(&world, &caller).await;
    for _ in 0..2 {
        reporter.report_decisions(crate::reports::good()).await.unwrap();
    }
    let later = pb::ReportDecisionsRequest { batch: 2, ..crate::reports::good() };
    reporter.report_decisions(later).await.unwrap();
    let of_gateway = pb::ListDecisionsRequest { gateway: "gw-1".to_owned(), ..Default::default() };
    let two = async {
        loop {
            let found = list(&world.alice(), of_gateway.clone()).await.unwrap();
            if found.len() >= 2 {
                return found;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let found = tokio::time::timeout(LIMIT, two).await.expect("both batches are on record");
    assert_eq!(found.len(), 2, "the one that came twice is there once");
    for decision in found {
        assert_eq!((decision.decided_by.as_str(), decision.permit), ("GATEWAY", false));
        assert_eq!((decision.code.as_str(), decision.logic_version), ("CREDENTIAL_REVOKED", 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_found_by_whose_what_when_and_why_and_only_by_those_who_may() {
    let world = World::start().await;
    let (entity, subject, caller) = enrolled(&world).await;
    let (other_entity, other, other_caller) = enrolled(&world).await;
    let gateway = world.connect_as(&world.gateway("gw-1").await).await;
    let mut last = String::new();
    for _ in 0..3 {
        assert!(world.evaluate(&gateway, &caller.certificate, "mythos-5").await.permit);
        world.evaluate_from(&gateway, &other_caller.certificate, "mythos-5", "FR").await;
        last = world.ask_alice(question(&other_caller.certificate, "fable-5")).await.id;
    }
    recorded(&world, &last).await;
    let alice = world.alice();
    let count = |change: &dyn Fn(&mut pb::ListDecisionsRequest)| {
        let mut request = pb::ListDecisionsRequest { page_size: 2, ..Default::default() };
        change(&mut request);
        let alice = alice.clone();
        async move { list(&alice, request).await.unwrap().len() }
    };
    assert_eq!(count(&|_| ()).await, 9);
    assert_eq!(count(&|r| r.entity_id = entity.to_string()).await, 3);
    assert_eq!(count(&|r| r.entity_id = other_entity.to_string()).await, 6);
    assert_eq!(count(&|r| r.subject_id = subject.to_string()).await, 3);
    assert_eq!(count(&|r| r.subject_id = other.to_string()).await, 6);
    assert_eq!(count(&|r| r.model = "fable-5".to_owned()).await, 3);
    assert_eq!(count(&|r| r.gateway = "gw-1".to_owned()).await, 6);
    assert_eq!(count(&|r| r.gateway = "alice".to_owned()).await, 3);
    assert_eq!(count(&|r| r.code = "P-PLACE_NOT_ALLOWED".to_owned()).await, 3);
    assert_eq!(count(&|r| r.set_outcome(Outcome::Permit)).await, 3);
    assert_eq!(count(&|r| r.set_outcome(Outcome::Deny)).await, 6);
    assert_eq!(count(&|r| r.since = "2026-06-28T00:00:00Z".to_owned()).await, 0);
    assert_eq!(count(&|r| r.until = "2026-06-28T00:00:00Z".to_owned()).await, 9);
    // Auditors may; a gateway and a registrar may not, and nonsense is named.
    let roles = (PrincipalKind::Officer, [Role::Auditor].as_slice());
    let auditor = world.connect_as(&world.principal("auditor-1", roles, None).await).await;
    assert_eq!(list(&auditor, pb::ListDecisionsRequest::default()).await.unwrap().len(), 9);
    let roles = (PrincipalKind::Officer, [Role::Registrar].as_slice());
    let registrar = world.connect_as(&world.principal("registrar-1", roles, None).await).await;
    for stranger in [gateway, registrar] {
        let answer = list(&stranger, pb::ListDecisionsRequest::default()).await;
        refused(answer, Code::PermissionDenied, "none of your roles");
    }
    for (request, field) in [
        (pb::ListDecisionsRequest { entity_id: "x".to_owned(), ..Default::default() }, "entity_id"),
        (pb::ListDecisionsRequest { page_token: "x".to_owned(), ..Default::default() }, "page_token"),
        (pb::ListDecisionsRequest { model: "x".repeat(200), ..Default::default() }, "model"),
        (pb::ListDecisionsRequest { outcome: 7, ..Default::default() }, "outcome"),
    ] {
        refused(list(&auditor, request).await, Code::InvalidArgument, field);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_decision_survives_a_restart_and_its_alteration_is_found() {
    let mut world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    let before = world.ask_alice(question(&caller.certificate, "mythos-5")).await;
    recorded(&world, &before.id).await;
    // The last ones are written when the service ends.
    let last = world.ask_alice(question(&caller.certificate, "fable-5")).await;
    world.close().await;
    world.open().await;
    for id in [&before.id, &last.id] {
        assert_eq!(&recorded(&world, id).await.id, id);
    }
    // What the run before left is complete, and the journal names it.
    let dir = world.dir.path().join("decided");
    on_record(&world, "decisions.sealed").await;
    let complete = segment(&dir, 1).expect("the first segment is there");
    assert_eq!(complete.extension().unwrap(), "decided");
    world.close().await;
    let good = verify_offline(world.dir.path(), &mut |_| {}).unwrap().decisions;
    assert_eq!((good.good, good.lines, good.faults.len()), (1, 2, 0), "{good:?}");
    let mut bytes = std::fs::read(&complete).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&complete, bytes).unwrap();
    let found = verify_offline(world.dir.path(), &mut |_| {}).unwrap().decisions;
    assert_eq!((found.good, found.faults[0].segment, found.faults[0].why), (0, 1, "decisions were altered"));
    world.open().await;
}

/// The file of a segment.
fn segment(dir: &std::path::Path, number: u64) -> Option<std::path::PathBuf> {
    let begins = format!("{number:020}.");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&begins))
}

/// Waits until something of this kind is on record.
async fn on_record(world: &World, event: &str) {
    let found = async {
        loop {
            let request = pb::ListRecordsRequest { from_seq: 1, page_size: 1_000 };
            let page = AuditServiceClient::new(world.alice()).list_records(request).await.unwrap();
            if page.into_inner().records.iter().any(|record| record.event == event) {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, found).await.expect("it is on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_46_what_is_kept_long_enough_is_removed_and_an_order_keeps_it() {
    let mut world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    world.settings.keep.age_ms = 10 * 60_000;
    let began = world.clock.now();
    // Three runs leave three segments; the clock stands still but for what is said here.
    for _ in 0..3 {
        let decision = world.ask_alice(question(&caller.certificate, "mythos-5")).await;
        recorded(&world, &decision.id).await;
        world.close().await;
        world.clock.advance_ms(60_000);
        world.open().await;
    }
    let dir = world.dir.path().join("decided");
    // One officer has everything since the second run kept.
    let hold = RecordHold { since: began.plus_ms(60_000 + 5 * 60_000 + 1), reason: "a request".to_owned() };
    let id: RecordHoldId = "doj-1".parse().unwrap();
    let hold = Command::Records(RecordCommand::Hold { id: id.clone(), hold });
    world.restrict(hold, pb::Wait::Committed).await.unwrap();
    let holds = AuditServiceClient::new(world.alice()).list_record_holds(pb::ListRecordHoldsRequest {}).await;
    assert_eq!(holds.unwrap().into_inner().holds[0].id, "doj-1");
    world.clock.advance_ms(60 * 60_000);
    on_record(&world, "decisions.removed").await;
    let gone = async {
        while segment(&dir, 1).is_some() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("the oldest segment is removed");
    assert!(segment(&dir, 2).is_some(), "what is on hold stays");
    // Two let it go; then it goes too. The last complete one stays, as a start seals it again.
    world.enact(Command::Records(RecordCommand::Release(id))).await.unwrap();
    let gone = async {
        while segment(&dir, 2).is_some() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("what is no longer on hold is removed");
    world.close().await;
    let found = verify_offline(world.dir.path(), &mut |_| {}).unwrap().decisions;
    assert_eq!((found.removed, found.faults.len()), (2, 0), "{found:?}");
    world.open().await;
}

/// Decides one access after the other, and says the name of each, until it is killed.
pub(crate) async fn decide_for_ever(app: &App, data: &std::path::Path) {
    let certificate = hex::decode(told(data, "certificate")).unwrap();
    let message = question(&certificate, "mythos-5");
    let request = Request {
        model: &message.model,
        form: AccessForm::Inference,
        place: Place::Us,
        serving: Place::Us,
        purpose: None,
        chain: Chain::default(),
    };
    loop {
        let asking = Asking { by: DecidedBy::Evaluate, gateway: None };
        let decided = app.evaluate(&certificate, &request, None, asking).await.unwrap().answer;
        acknowledge(&format!("ack {}", decided.id.expect("there is room")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_the_last_decisions_and_none_before_them() {
    let mut world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    world.close().await;
    brief(&world, "certificate", &hex::encode(&caller.certificate));
    let mut victim = Victim::start(&world, "decide", None);
    victim.says("ready");
    // Something is on disk; what is answered from here on may be lost.
    let dir = world.dir.path().join("decided");
    let written = async {
        let is_written = |path: std::path::PathBuf| std::fs::metadata(path).is_ok_and(|file| file.len() > 0);
        while !(dir.exists() && segment(&dir, 1).is_some_and(is_written)) {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, written).await.expect("the first decisions are on disk");
    victim.process.kill().unwrap();
    let answered: Vec<_> = victim.last_words().into_iter().map(|words| words[1].clone()).collect();
    world.open().await;
    let found =
        list(&world.alice(), pb::ListDecisionsRequest { page_size: 1_000, ..Default::default() }).await;
    let recorded: Vec<_> = found.unwrap().into_iter().map(|decision| decision.id).collect();
    let both = answered.len().min(recorded.len());
    assert!(both > 0, "{} answered, {} recorded", answered.len(), recorded.len());
    assert_eq!(recorded[..both], answered[..both], "none is missing before the last ones");
    let lost = answered.len() - both;
    assert!(lost <= UNWRITTEN_MAX, "{lost} are lost");
    // What is left is sealed by this start, and good.
    on_record(&world, "decisions.sealed").await;
    world.close().await;
    let good = verify_offline(world.dir.path(), &mut |_| {}).unwrap().decisions;
    assert_eq!((good.lines, good.faults.len()), (recorded.len() as u64, 0), "{good:?}");
    world.open().await;
}

#[cfg(feature = "faults")]
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_what_has_no_room_is_denied_and_no_denial_is_lost() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    let ask = || world.ask_alice(question(&caller.certificate, "mythos-5"));
    let before = ask().await;
    recorded(&world, &before.id).await;
    let faults = DiskFaults::at(&world.dir.path().join("journal"));
    faults.leave_free(Some(1));
    // Under the mark nothing is written; what is decided waits in memory, as long as there is room.
    let app = world.running().app();
    let room = app.take_room_but(3).expect("nobody else asks");
    let (first, second) = (ask().await, ask().await);
    assert!(first.permit && second.permit);
    let abroad = world.evaluate_from(&world.alice(), &caller.certificate, "mythos-5", "FR").await;
    denied(&abroad, "P-PLACE_NOT_ALLOWED");
    assert_eq!(app.readings().decisions_unwritten, UNWRITTEN_MAX as u64);
    for _ in 0..2 {
        let answer = ask().await;
        denied(&answer, "STATE_UNAVAILABLE");
        assert_eq!(answer.id, "");
    }
    assert_eq!(without_room(&world).await, 0, "nothing is written");
    drop(room);
    faults.leave_free(None);
    for id in [&first.id, &second.id, &abroad.id] {
        assert_eq!(&recorded(&world, id).await.id, id);
    }
    let counted = async {
        while without_room(&world).await < 2 {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, counted).await.expect("denials without room are counted");
    assert!(ask().await.permit);
}

/// Decisions that nobody could tell apart: denied for want of room.
#[cfg(feature = "faults")]
async fn without_room(world: &World) -> u64 {
    let code = "STATE_UNAVAILABLE".to_owned();
    let request = pb::ListDecisionsRequest { code, ..Default::default() };
    list(&world.alice(), request).await.unwrap().iter().map(|decision| decision.count).sum()
}

#[cfg(feature = "faults")]
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_is_denied_and_counted_and_then_all_goes_on() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    let ask = || world.ask_alice(question(&caller.certificate, "mythos-5"));
    let before = ask().await;
    assert!(before.permit);
    recorded(&world, &before.id).await;
    let app = world.running().app();
    let room = app.take_room_but(0).expect("nobody else asks");
    for _ in 0..2 {
        let answer = ask().await;
        denied(&answer, "STATE_UNAVAILABLE");
        assert_eq!((answer.id.as_str(), answer.legal.as_str()), ("", "INDETERMINATE"), "{answer:?}");
    }
    assert!(!world.verify(&caller.certificate).await.valid);
    let mut reporter = crate::reports::client(&world, &world.gateway("gw-1").await).await;
    let refusal = reporter.report_decisions(crate::reports::good()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable, "the gateway keeps them: {refusal:?}");
    drop(room);
    assert!(ask().await.permit);
    reporter.report_decisions(crate::reports::good()).await.unwrap();
    let counted = async {
        while without_room(&world).await < 3 {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, counted).await.expect("denials without room are counted");
    assert_eq!(without_room(&world).await, 3);
    let reported = pb::ListDecisionsRequest { gateway: "gw-1".to_owned(), ..Default::default() };
    assert_eq!(list(&world.alice(), reported).await.unwrap().len(), 1, "and what came again is there once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_denials_and_an_impossible_move_are_signalled() {
    let world = World::start().await;
    let (entity, subject, caller) = enrolled(&world).await;
    assert!(world.ask_alice(question(&caller.certificate, "mythos-5")).await.permit);
    for _ in 0..20 {
        assert!(!world.evaluate_from(&world.alice(), &caller.certificate, "mythos-5", "FR").await.permit);
    }
    let signals = |after, boot_id: String| {
        let request = pb::ListSignalsRequest { after, page_size: 10, boot_id };
        let alice = world.alice();
        async move { AuditServiceClient::new(alice).list_signals(request).await.unwrap().into_inner() }
    };
    let both = async {
        loop {
            let found = signals(0, String::new()).await;
            if found.signals.len() >= 2 {
                return found;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let found = tokio::time::timeout(LIMIT, both).await.expect("both are signalled");
    let kinds: Vec<_> = found.signals.iter().map(|signal| signal.kind.as_str()).collect();
    assert_eq!(kinds, ["IMPOSSIBLE_MOVE", "DENIAL_BURST"]);
    for signal in &found.signals {
        assert_eq!((&signal.entity_id, &signal.subject_id), (&entity.to_string(), &subject.to_string()));
        assert_eq!(recorded(&world, &signal.decision_id).await.subject_id, subject.to_string());
    }
    assert_eq!(signals(1, found.boot_id.clone()).await.signals, found.signals[1..]);
    assert_eq!(signals(2, found.boot_id).await.signals, []);
    // Numbers of another run mean nothing.
    assert_eq!(signals(2, "boo_1".to_owned()).await.signals.len(), 2);
    let page = world.running().app().metrics().render(&world.running().app().readings()).unwrap();
    assert!(page.contains("countersign_signals_total{kind=\"DENIAL_BURST\"} 1"), "{page}");
}
