//! What partners owe, and how far access to them is restored.

use crate::domain::command::Command;
use crate::domain::decision::{Decision, Legal};
use crate::domain::due::{DueKind, DueStage, due};
use crate::domain::entity::Organisation;
use crate::domain::event::Event;
use crate::domain::flow::Reject;
use crate::domain::id::{Digest, EntityId, GrantId, Seq};
use crate::domain::license::{License, ReportDuty};
use crate::domain::partner_command::{CORRECTIONS_MAX, PartnerCommand, SafeguardEvidence, SafeguardItem};
use crate::domain::person::Relation;
use crate::domain::restoration::{Cohort, restoration};
use crate::domain::revocation::{RevocationReason, RevocationScope};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;
use crate::domain::time::{Interval, Now};

const MINUTE_MS: i64 = 60_000;

fn of(command: PartnerCommand) -> Command {
    Command::Partners(command)
}

fn file(report: &str) -> Command {
    let (license, report) = ("d123456".parse().unwrap(), report.to_owned());
    of(PartnerCommand::FileReport { license, report, document: Digest([7; 32]) })
}

fn item(name: &str, models: &[&str]) -> SafeguardItem {
    let models = models.iter().map(|name| model(name)).collect();
    SafeguardItem { name: name.to_owned(), asks: "something".to_owned(), models }
}

fn attest(world: &World, entity: EntityId, items: &[&str]) -> Command {
    let shown = |item: &&str| SafeguardEvidence { item: (*item).to_owned(), document: Digest([9; 32]) };
    let evidence = items.iter().map(shown).collect();
    let until = world.now.plus_ms(365 * DAY_MS);
    of(PartnerCommand::AttestSafeguards { entity, evidence, until, reverify_due: Some(until) })
}

#[test]
fn a_report_that_is_overdue_makes_its_licence_cover_nothing_until_it_is_filed() {
    let (mut world, _) = World::with_member();
    let firm = world.partner(Organisation::Us);
    let employee = world.person(firm, FOREIGN, EMPLOYEE);
    let due_at = world.now.plus_ms(40 * MINUTE_MS);
    let duty = |name: &str| ReportDuty { name: name.to_owned(), due: due_at };
    let license = |reports: Vec<ReportDuty>| License {
        id: "d123456".parse().unwrap(),
        holder: firm,
        subjects: vec![employee],
        models: vec![model("mythos-5")],
        countries: Vec::new(),
        purposes: Vec::new(),
        interval: Interval { from: at(R1), until: None },
        provisos_met: true,
        reports: Some(reports),
    };
    for names in [vec!["annual", "annual"], vec![""], vec!["two words"]] {
        let reports = names.into_iter().map(duty).collect();
        let answer = world.try_go(Command::RegisterLicense(license(reports)));
        assert!(matches!(answer, Err(Reject::Invalid { field: "reports", .. })), "{answer:?}");
    }
    world.go(Command::RegisterLicense(license(vec![duty("annual")])));
    let certificate = world.enroll(employee).unwrap();
    let ask = |world: &World| -> Decision { world.decide(&certificate, &inference("mythos-5")) };
    assert_eq!(ask(&world).legal, Legal::Licensed);
    assert_eq!(world.try_go(file("quarterly")), Err(Reject::NotFound("report of this licence")));
    world.now = due_at;
    assert_eq!(ask(&world).legal, Legal::LicenseRequired, "from its instant on, without a record");
    assert!(world.enroll(employee).is_err(), "nor is anything issued on it");
    let owed = due(&world.state, Some(firm), world.now, world.now);
    let kinds: Vec<_> = owed.iter().map(|row| (row.kind, row.what.as_str())).collect();
    assert_eq!(kinds, [(DueKind::LicenseReport, "d123456 annual")]);
    let alone = world.enact(file("annual"), &[alice()]);
    assert!(matches!(alone, Err(Reject::NeedsApproval(_))), "it loosens: {alone:?}");
    world.go(file("annual"));
    assert_eq!(ask(&world).legal, Legal::Licensed);
    assert_eq!(world.try_go(file("annual")), Err(Reject::Exists("report")));
    assert_eq!(due(&world.state, Some(firm), world.now, world.now), []);
    // Registered again, it owes what was not filed.
    world.go(Command::RegisterLicense(license(vec![duty("annual"), duty("second")])));
    assert_eq!(ask(&world).legal, Legal::LicenseRequired);
}

#[test]
fn safeguards_are_attested_with_the_evidence_of_each_that_is_asked() {
    let (mut world, member) = World::with_member();
    let checklist = |items: &[SafeguardItem]| of(PartnerCommand::SetChecklist(items.to_vec()));
    for items in [vec![item("mfa", &[]), item("mfa", &[])], vec![item("", &[])], vec![item("a=b", &[])]] {
        let answer = world.try_go(checklist(&items));
        assert!(matches!(answer, Err(Reject::Invalid { field: "items", .. })), "{answer:?}");
    }
    assert_eq!(world.try_go(checklist(&[item("mfa", &["mythos-6"])])), Err(Reject::NotFound("model")));
    world.go(checklist(&[item("mfa", &[]), item("tcp", &["mythos-5"])]));
    let until = world.now.plus_ms(DAY_MS);
    let by_hand = Command::RecordSafeguards { entity: member, until, reverify_due: None };
    let refused = |answer: Result<_, Reject>, have: &str| match answer {
        Err(Reject::WrongState { have: found, .. }) => assert!(found.contains(have), "{found}"),
        other => panic!("{other:?}"),
    };
    refused(world.try_go(by_hand).map(drop), "2 items");
    // An applicant is activated with what is asked of everybody, and granted a model with what is asked for it.
    let applicant = world.applicant(Organisation::Us);
    world.screen(applicant);
    refused(world.try_go(Command::ActivateEntity(applicant)).map(drop), "without evidence of mfa");
    refused(world.try_go(attest(&world, applicant, &[])).map(drop), "without evidence of mfa");
    for items in [["mfa", "none"], ["mfa", "mfa"]] {
        let answer = world.try_go(attest(&world, applicant, &items));
        assert!(matches!(answer, Err(Reject::Invalid { field: "evidence", .. })), "{answer:?}");
    }
    world.go(attest(&world, applicant, &["mfa"]));
    world.go(Command::ActivateEntity(applicant));
    let give = |id: u8| Command::GrantModel {
        entity: applicant,
        grant: crate::domain::grant::Grant { id: GrantId::from_bytes([id; 16]), ..grant(id, "mythos-5") },
    };
    refused(world.try_go(give(70)).map(drop), "without evidence of tcp");
    world.go(attest(&world, applicant, &["mfa", "tcp"]));
    world.go(give(70));
    // Whoever has the model is attested anew with all of it.
    refused(world.try_go(attest(&world, applicant, &["mfa"])).map(drop), "without evidence of tcp");
    // After its date nothing new is granted, and what stands is denied.
    world.now = world.now.plus_ms(365 * DAY_MS);
    refused(world.try_go(give(71)).map(drop), "lapsed");
    // What was signed for another checklist is not carried out.
    let signed = world.mandate(attest(&world, applicant, &["mfa", "tcp"]), &[alice()]);
    world.go(checklist(&[item("mfa", &[])]));
    let answer = world.record(entry(Event::Enacted { signed, proposal: None }));
    assert!(matches!(answer, Err(Reject::Conflict(_))), "{answer:?}");
    world.go(checklist(&[]));
    world.go(give(71));
}

#[test]
fn a_correction_cites_a_later_record_and_changes_nothing() {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, Relation::Contractor);
    let wrong = world.state.position.seq;
    world.attest(person, EMPLOYEE, None);
    let right = world.state.position.seq;
    let correct =
        |wrong, right, reason: &str| of(PartnerCommand::Correct { wrong, right, reason: reason.to_owned() });
    for (first, second) in [(right, wrong), (wrong, wrong), (wrong, Seq(10_000)), (Seq(0), right)] {
        let answer = world.try_go(correct(first, second, "x"));
        assert!(matches!(answer, Err(Reject::Invalid { field: "right", .. })), "{answer:?}");
    }
    let empty = world.try_go(correct(wrong, right, ""));
    assert!(matches!(empty, Err(Reject::Invalid { field: "reason", .. })));
    let before = world.state.subjects.clone();
    assert_eq!(world.go(correct(wrong, right, "the relation was another one")), []);
    assert_eq!(world.state.subjects, before);
    let said = &world.state.corrections[&wrong];
    assert_eq!((said.len(), said[0].right, said[0].by), (1, right, world.state.position.seq));
    assert_eq!(world.try_go(correct(wrong, right, "again")), Err(Reject::Exists("correction")));
    for _ in 1..CORRECTIONS_MAX {
        let last = world.state.position.seq;
        world.go(correct(wrong, last, "and again"));
    }
    let last = world.state.position.seq;
    let many = world.try_go(correct(wrong, last, "too often"));
    assert!(matches!(many, Err(Reject::WrongState { .. })), "{many:?}");
}

#[test]
fn what_is_due_is_listed_by_its_instant_and_denied_from_then() {
    let (mut world, member) = World::with_member();
    let people = [(), ()].map(|()| world.person(member, FOREIGN, EMPLOYEE));
    world.enroll(people[0]).unwrap();
    let (entity, begin) = (member, world.now);
    let until = begin.plus_ms(20 * DAY_MS);
    let reverify_due = Some(begin.plus_ms(3 * DAY_MS));
    world.go(Command::RecordSafeguards { entity, until, reverify_due });
    for person in people {
        world.attest(person, EMPLOYEE, Some(begin.plus_ms(40 * DAY_MS)));
    }
    let rows = |world: &World, days: i64| {
        let rows = due(&world.state, Some(member), world.now, world.now.plus_ms(days * DAY_MS));
        let now = Now::with_margin(world.now);
        rows.iter().map(|row| (row.kind, row.stage(now), row.subjects)).collect::<Vec<_>>()
    };
    let (review, safeguards) = (DueKind::Reverification, DueKind::Safeguards);
    let near = [(review, DueStage::Grace, 0), (safeguards, DueStage::Reminder, 0)];
    assert_eq!(rows(&world, 30), near);
    assert_eq!(rows(&world, 60), [&near[..], &[(DueKind::Roster, DueStage::Later, 2)]].concat());
    let stranger = world.applicant(Organisation::Us);
    assert_eq!(due(&world.state, Some(stranger), world.now, until), [], "an applicant owes nothing yet");
    let restored = |world: &World| restoration(&world.state, "mythos-5", world.now).unwrap();
    assert_eq!(restored(&world).totals(), (2, 1));
    // Nothing is recorded, and everything is denied.
    world.now = begin.plus_ms(3 * DAY_MS);
    world.screen(member);
    assert_eq!(rows(&world, 0), [(review, DueStage::Overdue, 0)]);
    let denied = &restored(&world).entities[0].denied;
    assert_eq!(denied.iter().collect::<Vec<_>>(), [(&"P-REVERIFY_OVERDUE", &2)]);
    let next = world.now.plus_ms(365 * DAY_MS);
    world.go(Command::RecordSafeguards { entity, until, reverify_due: Some(next) });
    assert_eq!(restored(&world).totals().0, 2);
    // People whose attestation ended are denied likewise, and leave the list after a quarter.
    world.now = begin.plus_ms(40 * DAY_MS);
    world.go(Command::RecordSafeguards { entity, until: next, reverify_due: Some(next) });
    world.screen(member);
    assert_eq!(rows(&world, 0), [(DueKind::Roster, DueStage::Overdue, 2)]);
    assert_eq!(restored(&world).entities[0].denied.get("P-REVERIFY_OVERDUE"), Some(&2));
    world.now = world.now.plus_ms(100 * DAY_MS);
    assert_eq!(rows(&world, 0), []);
}

#[test]
fn a_restoration_counts_who_is_permitted_and_who_has_a_certificate() {
    let (mut world, member) = World::with_member();
    let engineer = world.person(PROVIDER, FOREIGN, EMPLOYEE);
    let [enrolled, waiting] = [(), ()].map(|()| world.person(member, FOREIGN, EMPLOYEE));
    world.person(member, FOREIGN, Relation::Contractor);
    let unlisted = world.partner(Organisation::Us);
    world.person(unlisted, FOREIGN, EMPLOYEE);
    world.enroll(engineer).unwrap();
    let first = world.enroll(enrolled).unwrap();
    let enrolled_at = world.state.position.seq;
    let look = |world: &World, name: &str| restoration(&world.state, name, world.now);
    let found = look(&world, "MYTHOS-5-LATEST").unwrap();
    assert_eq!((found.model.as_str(), found.totals()), ("mythos-5", (3, 2)));
    assert!(found.since.is_some_and(|since| since <= world.now));
    assert_eq!(found.last_enrolled, Some(enrolled_at));
    let counts =
        |row: &crate::domain::restoration::Restored| (row.cohort, row.approved, row.eligible, row.certified);
    let rows: Vec<_> = found.entities.iter().map(counts).collect();
    let listed = (Cohort::Revision(1), 3, 2, 1);
    assert_eq!(rows, [(Cohort::Provider, 1, 1, 1), listed, (Cohort::Unlisted, 1, 0, 0)]);
    let denied = |at: usize| found.entities[at].denied.iter().collect::<Vec<_>>();
    assert_eq!(denied(1), [(&"DEEMED_EXPORT_LICENSE_REQUIRED", &1)]);
    assert_eq!(denied(2), [(&"DEEMED_EXPORT_LICENSE_REQUIRED", &1)]);
    // A renewal is a certificate, and says nothing of when its holder was restored.
    world.renew(&first).unwrap();
    let renewed = look(&world, "mythos-5").unwrap();
    assert_eq!(renewed.totals(), (3, 2));
    assert!(renewed.last_enrolled < Some(enrolled_at));
    world.enroll(waiting).unwrap();
    assert_eq!(look(&world, "mythos-5").unwrap().totals(), (3, 3));
    let (scope, reason) = (RevocationScope::Subject(waiting), RevocationReason::Misuse);
    world.go(Command::Revoke { scope, reason });
    assert_eq!(look(&world, "mythos-5").unwrap().totals(), (3, 2), "what is revoked is none");
    let fable = look(&world, "fable-5").unwrap();
    assert_eq!((fable.since, fable.totals()), (None, (0, 0)));
    assert_eq!(look(&world, "mythos-6"), None);
}
