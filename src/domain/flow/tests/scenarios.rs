//! The scenarios that need a record: partners, people, certificates and officers over time.

use crate::domain::certificate::Certificate;
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::Command;
use crate::domain::decision::{Decision, Denial, Legal, Rule, StateFault};
use crate::domain::enforce::{Chain, Request, decide};
use crate::domain::entity::{EntityClass, Organisation, Screening, ScreeningResult};
use crate::domain::event::Event;
use crate::domain::flow::Reject;
use crate::domain::id::{EntityId, PersonId, Seq};
use crate::domain::license::License;
use crate::domain::person::{EvidenceKind, PersonStatus, Relation};
use crate::domain::policy::PolicyRule;
use crate::domain::revocation::{RevocationReason, StopScope};
use crate::domain::state::State;
use crate::domain::subject::{SubjectStatus, Vetting};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;
use crate::domain::time::{Interval, Now};

const REASON: RevocationReason = RevocationReason::GovernmentOrder;

/// The decision on Mythos, the same at the server and at the gateway.
fn mythos(world: &World, certificate: &Certificate) -> Decision {
    let decision = world.decide(certificate, &inference("mythos-5"));
    assert_eq!(world.decide_at_gate(certificate, &inference("mythos-5")), decision);
    decision
}

fn release() -> Command {
    Command::ReleaseStop(StopScope::All)
}

#[test]
fn scenario_06_and_07_members_and_the_providers_staff_use_mythos_under_the_lift() {
    let (mut world, member) = World::with_member();
    let engineer = world.person(PROVIDER, FOREIGN, EMPLOYEE);
    let employee = world.person(member, FOREIGN, EMPLOYEE);
    let [own, listed] = [engineer, employee].map(|subject| world.enroll(subject).unwrap());
    assert_eq!((mythos(&world, &own).rule, mythos(&world, &own).is_permit()), (Rule::Row("L-20"), true));
    assert_eq!(mythos(&world, &listed).rule, Rule::Row("L-21"));
    assert!(mythos(&world, &listed).is_permit());
}

#[test]
fn scenario_08_the_same_certificate_opens_no_other_model() {
    let (mut world, member) = World::with_member();
    let employee = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(employee).unwrap();
    let decision = world.decide(&certificate, &inference("fable-5"));
    assert_eq!((decision.legal, decision.is_permit()), (Legal::LicenseRequired, false));
    assert_eq!(decision.denials, [Denial::ModelNotListed]);
    assert_eq!(decision.policy, Some(PolicyRule::SuspendAll));
}

#[test]
fn scenario_09_a_listed_entity_that_is_not_activated_gets_no_certificate() {
    let (mut world, _) = World::with_member();
    let listed = world.applicant(Organisation::Us);
    world.screen(listed);
    world.go(Command::GrantModel { entity: listed, grant: grant(70, "mythos-5") });
    world.list(&[listed]);
    world.now = world.now.plus_ms(2_000);
    let employee = world.person(listed, FOREIGN, EMPLOYEE);
    let refused = world.enroll(employee);
    assert!(matches!(refused, Err(Reject::WrongState { what: "entity", need: "ACTIVE", .. })));
    world.go(Command::ActivateEntity(listed));
    let certificate = world.enroll(employee).unwrap();
    assert!(mythos(&world, &certificate).is_permit());
}

#[test]
fn scenario_10_a_country_that_the_grant_lists_opens_and_another_does_not() {
    let (mut world, member) = World::with_member();
    let mut abroad = grant(71, "mythos-5");
    abroad.countries = vec![country("FR")];
    let before = world.state.entities[&member].card.grants[0].id;
    world.go(Command::EndGrant { entity: member, grant: before });
    world.go(Command::GrantModel { entity: member, grant: abroad });
    let citizen = world.person(member, US, EMPLOYEE);
    let certificate = world.enroll(citizen).unwrap();
    let code = |place| {
        let request = Request { place, ..inference("mythos-5") };
        let decision = world.decide(&certificate, &request);
        assert_eq!((decision.legal, decision.rule), (Legal::Exempt, Rule::Row("L-23")));
        decision.code()
    };
    assert_eq!(code(place("FR")), "EXEMPT_ANNEX_A_ENTITY");
    assert_eq!(code(place("DE")), "P-PLACE_NOT_ALLOWED");
    assert_eq!(code(place("")), "P-PLACE_NOT_ALLOWED");
}

#[test]
fn scenario_13_a_members_subsidiary_has_no_part_in_the_membership() {
    let (mut world, _) = World::with_member();
    let subsidiary = world.partner(Organisation::Us);
    let employee = world.person(subsidiary, FOREIGN, EMPLOYEE);
    assert!(matches!(world.enroll(employee), Err(Reject::Denied(why)) if why.contains("LICENSE_REQUIRED")));
}

#[test]
fn scenario_17_a_reverification_that_finds_the_same_status_revokes_nothing() {
    let (mut world, member) = World::with_member();
    let resident = world.person(member, US, EMPLOYEE);
    let certificate = world.enroll(resident).unwrap();
    // The card has expired; the residence has not.
    let vetting = Vetting { evidence: EvidenceKind::LawfulPermanentResident, ..world.vetting(US) };
    let decision =
        crate::domain::command::SubjectDecision::Approve { vetting: Some(vetting), reverify_due: None };
    world.go(Command::DecideSubject { subject: resident, decision });
    assert!(mythos(&world, &certificate).is_permit());
}

#[test]
fn scenario_20_an_undetermined_employee_gets_a_certificate_that_policy_denies() {
    let (mut world, member) = World::with_member();
    let employee = world.person(member, PersonStatus::Undetermined, EMPLOYEE);
    let certificate = world.enroll(employee).unwrap();
    let decision = mythos(&world, &certificate);
    assert_eq!((decision.legal, decision.code()), (Legal::Exempt, "P-STATUS_UNVERIFIED"));
}

#[test]
fn scenario_22_a_certificate_ends_no_later_than_its_licence() {
    let (mut world, _) = World::with_member();
    let firm = world.partner(Organisation::Us);
    let employee = world.person(firm, FOREIGN, EMPLOYEE);
    let end = world.now.plus_ms(40 * 60_000);
    world.go(Command::RegisterLicense(License {
        id: "d123456".parse().unwrap(),
        holder: firm,
        subjects: vec![employee],
        models: vec![model("mythos-5")],
        countries: Vec::new(),
        purposes: Vec::new(),
        interval: Interval { from: world.now.plus_ms(-60_000), until: Some(end) },
        provisos_met: true,
        reports: None,
    }));
    let certificate = world.enroll(employee).unwrap();
    assert!(certificate.not_after < end);
    assert_eq!(world.decide(&certificate, &inference("mythos-5")).legal, Legal::Licensed);
    world.now = end.plus_ms(1_000);
    // Whatever a certificate said, after the end of the licence the law requires one.
    let longer = Certificate { not_after: world.now.plus_ms(DAY_MS), ..certificate };
    assert_eq!(world.decide(&longer, &inference("mythos-5")).legal, Legal::LicenseRequired);
    assert!(world.enroll(employee).is_err());
}

#[test]
fn scenario_23_the_record_wins_over_an_unexpired_certificate() {
    let (mut world, member) = World::with_member();
    let employee = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(employee).unwrap();
    let not_pushed_yet = project(&world.state);
    world.unlist(&[member]);
    assert_eq!(world.decide(&certificate, &inference("mythos-5")).code(), "CREDENTIAL_REVOKED");
    // A gateway that has the new card and not yet the revocation sees a fact that is no longer so.
    let mut view = not_pushed_yet;
    view.take_card(member, Some(world.state.entities[&member].card.clone().into()));
    let decision = decide(&view, None, Ok(&certificate), &inference("mythos-5"), Now::exactly(world.now));
    assert_eq!(decision.code(), "CREDENTIAL_STALE");
}

#[test]
fn scenario_24_past_its_lease_a_gateway_denies_everything() {
    let (mut world, member) = World::with_member();
    let employee = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(employee).unwrap();
    let disconnected = project_all(&world.state);
    world.unlist(&[member]);
    for name in ["mythos-5", "fable-5"] {
        let now = Now::exactly(world.now);
        let stale = Some(StateFault::StaleView);
        let decision = decide(&disconnected, stale, Ok(&certificate), &inference(name), now);
        assert_eq!((decision.code(), decision.is_permit()), ("STALE_VIEW", false));
    }
}

#[test]
fn scenario_27_one_officer_stops_and_another_must_agree_to_release() {
    let mut world = World::new();
    world.enact(Command::Stop { scope: StopScope::All, reason: REASON }, &[alice()]).unwrap();
    let alone = world.enact(release(), &[alice()]);
    assert!(matches!(alone, Err(Reject::NeedsApproval(_))));
    let twice = world.enact(release(), &[alice(), alice()]);
    assert!(matches!(twice, Err(Reject::NeedsApproval(_))));
    world.enact(release(), &[alice(), bob()]).unwrap();
    assert!(world.state.enforcement.stops.is_empty());
    // Both are on record, with who signed them.
    let signers: Vec<usize> = world
        .log
        .iter()
        .rev()
        .take(2)
        .map(|(_, _, entry)| match &entry.event {
            Event::Enacted { signed, .. } => signed.approvals.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(signers, [2, 1]);
}

#[test]
fn scenario_28_a_stop_survives_a_restart() {
    let (mut world, member) = World::with_member();
    let employee = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(employee).unwrap();
    world.go(Command::Stop { scope: StopScope::All, reason: REASON });
    let restarted: State = from_bytes(&to_bytes(&world.state)).unwrap();
    let now = Now::exactly(world.now);
    let decision = decide(&restarted, None, Ok(&certificate), &inference("mythos-5"), now);
    assert_eq!((decision.legal, decision.code()), (Legal::Exempt, "EMERGENCY_STOP"));
    // On a store that cannot be written, the state's own fault comes first.
    let fault = Some(StateFault::Unavailable);
    let decision = decide(&restarted, fault, Ok(&certificate), &inference("mythos-5"), now);
    assert_eq!(decision.denials, [Denial::StateUnavailable, Denial::EmergencyStop]);
}

#[test]
fn scenario_29_moving_the_clock_back_permits_nothing() {
    let (mut world, member) = World::with_member();
    let employee = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(employee).unwrap();
    world.now = at(R0);
    let fault = Some(StateFault::ClockUntrusted);
    let now = Now::exactly(world.now);
    let decision = decide(&world.state, fault, Ok(&certificate), &inference("fable-5"), now);
    assert_eq!((decision.legal, decision.code()), (Legal::Indeterminate, "CLOCK_UNTRUSTED"));
    // Even with the fault unnoticed, a certificate of tomorrow is not valid yet.
    assert_eq!(world.decide(&certificate, &inference("fable-5")).code(), "CREDENTIAL_NOT_YET_VALID");
}

#[test]
fn scenario_32_a_reseller_does_not_lend_its_membership_to_an_anonymous_user() {
    let (mut world, reseller) = World::with_member();
    let employee = world.person(reseller, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(employee).unwrap();
    let chain = Chain { hops: vec![reseller], end_user_identified: false };
    let request = Request { chain, ..inference("mythos-5") };
    assert!(world.decide_at_gate(&certificate, &request).ask_server);
    let decision = world.decide(&certificate, &request);
    assert_eq!((decision.legal, decision.code()), (Legal::Indeterminate, "END_USER_UNIDENTIFIED"));
}

#[test]
fn scenario_33_a_job_with_one_contractor_is_not_exempt() {
    let (mut world, member) = World::with_member();
    let employee = world.person(member, FOREIGN, EMPLOYEE);
    let second = world.person(member, FOREIGN, EMPLOYEE);
    let job = world.workload(member, &[employee, second]);
    let certificate = world.enroll(job).unwrap();
    assert_eq!(mythos(&world, &certificate).rule, Rule::Row("L-24"));
    world.attest(second, Relation::Contractor, None);
    assert_eq!(mythos(&world, &certificate).code(), "CREDENTIAL_REVOKED");
    // Nor would a new one be: the worst operator decides.
    assert!(matches!(world.enroll(job), Err(Reject::Denied(why)) if why.contains("LICENSE_REQUIRED")));
}

#[test]
fn scenario_34_a_certificate_is_good_for_its_own_entity_only() {
    let (mut world, member) = World::with_member();
    let firm = world.partner(Organisation::Us);
    let person = PersonId::from_bytes([99; 16]);
    let home = world.employee_of(member, person, FOREIGN, EMPLOYEE);
    let seconded = world.employee_of(firm, person, FOREIGN, EMPLOYEE);
    // For the work of the unlisted firm there is no certificate, whoever else employs the person.
    assert!(matches!(world.enroll(seconded), Err(Reject::Denied(_))));
    let certificate = world.enroll(home).unwrap();
    let for_firm =
        Request { chain: Chain { hops: vec![firm], end_user_identified: true }, ..inference("mythos-5") };
    assert_eq!(world.decide(&certificate, &for_firm).code(), "END_USER_UNIDENTIFIED");
    // The member attests that the person works there no more.
    world.attest(home, Relation::None, None);
    assert!(!mythos(&world, &certificate).is_permit());
}

#[test]
fn scenario_35_of_two_employers_each_stands_for_its_own() {
    let (mut world, a) = World::with_member();
    let b = world.partner(Organisation::Us);
    world.list(&[b]);
    world.now = world.now.plus_ms(2_000);
    let person = PersonId::from_bytes([99; 16]);
    let [at_a, at_b] = [a, b].map(|entity| world.employee_of(entity, person, FOREIGN, EMPLOYEE));
    let [with_a, with_b] = [at_a, at_b].map(|subject| world.enroll(subject).unwrap());
    world.unlist(&[a]);
    assert!(!mythos(&world, &with_a).is_permit());
    assert!(mythos(&world, &with_b).is_permit());
}

fn record(world: &mut World, entity: EntityId, result: ScreeningResult, reason: &str) {
    let screening = world.screening(result);
    world.go(Command::RecordScreening { entity, screening, reason: reason.to_owned() });
}

#[test]
fn scenario_36_an_unresolved_hit_waits_and_a_cleared_one_does_not_come_back() {
    let (mut world, member) = World::with_member();
    let employee = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(employee).unwrap();
    record(&mut world, member, ScreeningResult::Unresolved, "score 0.91");
    let decision = mythos(&world, &certificate);
    assert_eq!((decision.legal, decision.code()), (Legal::Exempt, "SCREENING_PENDING"));
    assert!(matches!(world.enroll(employee), Err(Reject::WrongState { what: "screening", .. })));
    record(&mut world, member, ScreeningResult::Clear, "another date of birth");
    assert!(mythos(&world, &certificate).is_permit());
    record(&mut world, member, ScreeningResult::Confirmed, "the same registry number");
    let decision = mythos(&world, &certificate);
    assert_eq!((decision.legal, decision.code()), (Legal::Prohibited, "PARTY_DENIED"));
}

#[test]
fn scenario_37_a_list_older_than_three_days_stops_issuance_and_decisions() {
    let (mut world, member) = World::with_member();
    let list_date = world.now.plus_ms(-3 * DAY_MS + 3_600_000);
    let screening = Screening { list_date, ..world.screening(ScreeningResult::Clear) };
    let reason = "no match".to_owned();
    world.go(Command::RecordScreening { entity: member, screening, reason });
    let employee = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(employee).unwrap();
    assert!(mythos(&world, &certificate).is_permit());
    world.now = world.now.plus_ms(3_600_000);
    let decision = mythos(&world, &certificate);
    assert_eq!((decision.legal, decision.code()), (Legal::Exempt, "SCREENING_STALE"));
    assert!(matches!(world.enroll(employee), Err(Reject::WrongState { what: "screening", .. })));
}

#[test]
fn scenario_38_one_officer_adds_nobody_and_a_draft_decides_nothing() {
    let (mut world, _) = World::with_member();
    let firm = world.partner(Organisation::Us);
    let addition = world.amendment(&[firm], &[]);
    let refused = world.enact(addition, &[alice(), alice()]);
    assert!(matches!(refused, Err(Reject::NeedsApproval(_))));
    let half = world.mandate(world.amendment(&[firm], &[]), &[alice()]);
    world.propose(half).unwrap();
    let class = world.state.entities[&firm].card.class(Now::exactly(world.now));
    assert_eq!(class, EntityClass::Unlisted);
    // The rescission ships as a draft: long after its date nothing is rescinded.
    let family = [model("mythos-5")];
    let later = Now::exactly(at("2026-12-01T00:00:00Z"));
    assert!(world.state.bundle().regime(&family, later).imposed_by.is_some());
}

#[test]
fn scenario_38_a_removal_takes_one_officer() {
    let (mut world, member) = World::with_member();
    let removal = world.amendment(&[], &[member]);
    world.enact(removal, &[alice()]).unwrap();
    let class = world.state.entities[&member].card.class(Now::exactly(world.now));
    assert_eq!(class, EntityClass::Unlisted);
}

#[test]
fn scenario_39_a_lift_with_a_past_date_holds_from_its_second_approval() {
    let mut world = World::new();
    world.now = at("2026-06-28T09:00:00Z");
    let mut parts = sample_parts();
    // The files claim an approval that nobody gave.
    parts.determinations[1].instants.stated_at = Some(at("2026-06-26T00:00:00Z"));
    parts.determinations[1].instants.approved_at = Some(at("2026-06-26T00:00:00Z"));
    world.go(Command::AdoptPolicy(Box::new(parts)));
    let family = [model("mythos-5")];
    let lifted = |at| world.state.bundle().regime(&family, Now::exactly(at)).lifted_by.is_some();
    assert!(!lifted(at(R2)), "what was denied then stays denied");
    assert!(!lifted(world.now.plus_ms(-1)) && lifted(world.now));
    // One signature of two: a proposal, which lifts nothing however long it waits.
    let half = world.mandate(Command::AdoptPolicy(Box::new(rescinded_parts())), &[alice()]);
    world.propose(half).unwrap();
    assert!(
        world.state.bundle().regime(&family, Now::exactly(at("2026-12-01T00:00:00Z"))).imposed_by.is_some()
    );
}

#[test]
fn scenario_40_a_decision_is_computed_again_from_the_state_of_its_record() {
    let (mut world, member) = World::with_member();
    let employee = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(employee).unwrap();
    let (then, as_of) = (Now::exactly(world.now), world.state.position);
    let decided = world.decide(&certificate, &inference("mythos-5"));
    let policy = world.state.bundle().hash();
    world.unlist(&[member]);
    world.go(Command::AdoptPolicy(Box::new(rescinded_parts())));
    // The journal up to that record gives the state, the state the same answer under the same policy.
    let (_, time, genesis) = &world.log[0];
    let mut state = State::genesis(as_of.epoch, *time, genesis).unwrap();
    for (seq, time, entry) in world.log.iter().skip(1).take_while(|(seq, ..)| *seq <= as_of.seq) {
        state.apply(*seq, *time, entry).unwrap();
    }
    assert_eq!(state.position, as_of);
    assert_eq!(decide(&state, None, Ok(&certificate), &inference("mythos-5"), then), decided);
    assert_eq!(state.bundle().hash(), policy);
}

#[test]
fn scenario_41_near_identical_names_are_two_entities() {
    let (mut world, member) = World::with_member();
    let name = world.state.entities[&member].name.clone();
    let twin = world.applicant(Organisation::Us);
    assert_eq!(world.state.entities[&twin].name, name);
    // Nothing matches by name: the annex names entities by their opaque identifiers.
    let class = world.state.entities[&twin].card.class(Now::exactly(world.now));
    assert_eq!(class, EntityClass::Unlisted);
}

#[test]
fn scenario_44_a_key_that_is_in_use_is_refused() {
    let (mut world, member) = World::with_member();
    let [first, second] = [FOREIGN, US].map(|status| world.person(member, status, EMPLOYEE));
    let intent = world.enrollment(first, "the same key").unwrap();
    world.intend(&intent).unwrap();
    world.complete(&intent).unwrap();
    let reused = world.enrollment(second, "the same key").unwrap();
    assert!(matches!(world.intend(&reused), Err(Reject::Invalid { field: "csr", .. })));
}

#[test]
fn scenario_49_a_removal_is_one_record_with_everything_that_follows_from_it() {
    let (mut world, member) = World::with_member();
    let people: Vec<_> = (0..20).map(|_| world.person(member, FOREIGN, EMPLOYEE)).collect();
    let certificates: Vec<_> = people.iter().map(|person| world.enroll(*person).unwrap()).collect();
    let before = world.state.clone();
    world.unlist(&[member]);
    assert_eq!(world.state.position.seq, Seq(before.position.seq.0 + 1));
    // With the record none is permitted, without it all are: there is no state between.
    for certificate in &certificates {
        let now = Now::exactly(world.now);
        assert!(decide(&before, None, Ok(certificate), &inference("mythos-5"), now).is_permit());
        assert!(!mythos(&world, certificate).is_permit());
    }
}

#[test]
fn scenario_50_after_the_rescission_certificates_stay_good_for_their_models() {
    let (mut world, member) = World::with_member();
    let employee = world.person(member, FOREIGN, EMPLOYEE);
    world.go(Command::AdoptPolicy(Box::new(rescinded_parts())));
    world.now = at(R3);
    for entity in [member, PROVIDER] {
        world.screen(entity);
    }
    let certificate = world.enroll(employee).unwrap();
    let decision = mythos(&world, &certificate);
    assert_eq!((decision.legal, decision.is_permit()), (Legal::NotControlled, true));
    assert!(world.decide(&certificate, &inference("fable-5")).is_permit());
    assert_eq!(world.state.subjects[&employee].status, SubjectStatus::Approved);
}
