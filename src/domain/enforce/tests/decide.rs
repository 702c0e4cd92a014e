//! `decide`: what it gathers from view, certificate and request, and when a gateway asks the server.

use crate::domain::certificate::{Certificate, Facts, PrincipalKind, SystemFacts};
use crate::domain::command::Command;
use crate::domain::decision::{Access, CredentialFault, Decision, Denial, Gate, Legal, Rule, StateFault};
use crate::domain::enforce::{Chain, GateView, Request, decide};
use crate::domain::entity::{Organisation, ScreeningResult};
use crate::domain::id::{EntityId, SubjectId};
use crate::domain::license::License;
use crate::domain::policy::PolicyRule;
use crate::domain::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;
use crate::domain::time::{Interval, Now};

const REASON: RevocationReason = RevocationReason::Drill;

fn scene() -> (World, EntityId, SubjectId, Certificate) {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    let certificate = world.enroll(person).unwrap();
    (world, member, person, certificate)
}

/// The decision of server and gateway, which are the same.
fn both(world: &World, certificate: &Certificate, request: &Request<'_>) -> Decision {
    let server = world.decide(certificate, request);
    assert_eq!(world.decide_at_gate(certificate, request), server);
    server
}

/// The decision of the server, where the gateway asks.
fn asked(world: &World, certificate: &Certificate, request: &Request<'_>) -> Decision {
    assert!(world.decide_at_gate(certificate, request).ask_server);
    world.decide(certificate, request)
}

fn through(hops: &[EntityId], end_user_identified: bool) -> Request<'static> {
    Request { chain: Chain { hops: hops.to_vec(), end_user_identified }, ..inference("mythos-5") }
}

#[test]
fn a_good_certificate_is_permitted_and_every_alias_of_the_model_is_the_model() {
    let (world, _, _, certificate) = scene();
    for name in ["mythos-5", "MYTHOS_5", "Claude Mythos 5", "mythos-5-latest", "mythos-5-defender"] {
        let decision = both(&world, &certificate, &inference(name));
        assert_eq!((decision.legal, decision.access), (Legal::Exempt, Access::Permit), "{name}");
    }
}

#[test]
fn without_a_credential_nobody_is_permitted_anything() {
    let (world, ..) = scene();
    for fault in CredentialFault::ALL {
        for name in ["mythos-5", "sonata-4"] {
            let now = Now::exactly(world.now);
            let decision = decide(&world.state, None, Err(*fault), &inference(name), now);
            assert_eq!(decision.code(), fault.as_str());
            assert!(!decision.is_permit() && !decision.ask_server);
            assert_eq!(decide(&world.gate, None, Err(*fault), &inference(name), now), decision);
        }
    }
}

#[test]
fn a_certificate_of_the_system_authority_opens_no_model() {
    let (world, _, _, certificate) = scene();
    let facts = SystemFacts { kind: PrincipalKind::Officer, principal: alice().id.clone() };
    let certificate = Certificate { issuer: SYSTEM_CA, facts: Facts::System(facts), ..certificate };
    assert_eq!(both(&world, &certificate, &inference("sonata-4")).code(), "CREDENTIAL_WRONG_KIND");
}

#[test]
fn validity_has_both_its_ends_and_the_margin_takes_a_second_from_each() {
    let (mut world, _, _, certificate) = scene();
    let mut code = |at: crate::domain::time::Timestamp, with_margin: bool| {
        world.now = at;
        let now = if with_margin { Now::with_margin(at) } else { Now::exactly(at) };
        decide(&world.state, None, Ok(&certificate), &inference("mythos-5"), now).code()
    };
    let (first, last) = (certificate.not_before, certificate.not_after);
    let permitted = "EXEMPT_ANNEX_A_FN_EMPLOYEE";
    assert_eq!(code(first.plus_ms(-1), false), "CREDENTIAL_NOT_YET_VALID");
    assert_eq!(code(first, false), permitted);
    assert_eq!(code(last, false), permitted);
    assert_eq!(code(last.plus_ms(1), false), "CREDENTIAL_EXPIRED");
    assert_eq!(code(first.plus_ms(999), true), "CREDENTIAL_NOT_YET_VALID");
    assert_eq!(code(first.plus_ms(1_000), true), permitted);
    assert_eq!(code(last.plus_ms(-1_000), true), permitted);
    assert_eq!(code(last.plus_ms(-999), true), "CREDENTIAL_EXPIRED");
}

#[test]
fn an_ordinal_above_the_ceiling_was_never_issued() {
    let (world, _, _, certificate) = scene();
    let forged = Certificate { ordinal: crate::domain::id::Ordinal(10_001), ..certificate };
    assert_eq!(both(&world, &forged, &inference("mythos-5")).code(), "CREDENTIAL_NOT_ISSUED");
}

#[test]
fn a_fault_of_the_state_denies_whatever_else_holds_and_asks_nobody() {
    let (world, _, _, certificate) = scene();
    for (fault, code) in [
        (StateFault::Unavailable, "STATE_UNAVAILABLE"),
        (StateFault::ClockUntrusted, "CLOCK_UNTRUSTED"),
        (StateFault::StaleView, "STALE_VIEW"),
    ] {
        for view in [project(&world.state), project_all(&world.state)] {
            let now = Now::exactly(world.now);
            let request = inference("mythos-5");
            let decision = decide(&view, Some(fault), Ok(&certificate), &request, now);
            assert_eq!((decision.code(), decision.ask_server), (code, false));
            assert_eq!((decision.legal, decision.rule), (Legal::Indeterminate, Rule::Gate(Gate::G1)));
        }
    }
}

#[test]
fn a_gateway_without_the_card_asks_and_denies_meanwhile() {
    let (world, _, _, certificate) = scene();
    let view: GateView = project(&world.state);
    let decision = decide(&view, None, Ok(&certificate), &inference("mythos-5"), Now::exactly(world.now));
    assert!(decision.ask_server && !decision.is_permit());
}

#[test]
fn an_entity_that_is_not_on_record_is_stale_everywhere() {
    let (world, _, _, mut certificate) = scene();
    let unknown = EntityId::from_bytes([0xee; 16]);
    if let Facts::Access(facts) = &mut certificate.facts {
        facts.entity.entity = unknown;
    }
    let now = Now::exactly(world.now);
    let server = decide(&world.state, None, Ok(&certificate), &inference("mythos-5"), now);
    let mut view = project(&world.state);
    view.take_card(unknown, None);
    assert_eq!(server.code(), "CREDENTIAL_STALE");
    assert_eq!(decide(&view, None, Ok(&certificate), &inference("mythos-5"), now), server);
}

#[test]
fn licences_are_the_servers_to_judge() {
    let (mut world, _, _, _) = scene();
    let firm = world.partner(Organisation::Us);
    let employee = world.person(firm, FOREIGN, EMPLOYEE);
    assert!(world.enroll(employee).is_err(), "a licence is required");
    world.go(Command::RegisterLicense(License {
        id: "d123456".parse().unwrap(),
        holder: firm,
        subjects: vec![employee],
        models: vec![model("mythos-5")],
        countries: Vec::new(),
        purposes: Vec::new(),
        interval: Interval { from: world.now.plus_ms(-2_000), until: None },
        provisos_met: true,
        reports: None,
    }));
    let certificate = world.enroll(employee).unwrap();
    let decision = asked(&world, &certificate, &inference("mythos-5"));
    assert_eq!((decision.legal, decision.is_permit()), (Legal::Licensed, true));
    assert_eq!(decision.license, Some("d123456".parse().unwrap()));
    // Under a stop the record still says what the law says; a refused credential is judged without the licence.
    world.go(Command::Stop { scope: StopScope::All, reason: REASON });
    let decision = asked(&world, &certificate, &inference("mythos-5"));
    assert_eq!((decision.legal, decision.code()), (Legal::Licensed, "EMERGENCY_STOP"));
    world.go(Command::Revoke { scope: RevocationScope::Entity(firm), reason: REASON });
    let decision = both(&world, &certificate, &inference("mythos-5"));
    assert_eq!((decision.legal, decision.license), (Legal::Indeterminate, None));
    assert_eq!(decision.denials, [Denial::CredentialRevoked, Denial::EmergencyStop]);
}

#[test]
fn every_hop_is_listed_and_screened_and_the_end_user_identified() {
    let (mut world, member, _, certificate) = scene();
    let firm = world.partner(Organisation::Us);
    let unknown = EntityId::from_bytes([0xee; 16]);
    let denials = |world: &World, request: &Request<'_>| asked(world, &certificate, request).denials;
    assert_eq!(denials(&world, &through(&[PROVIDER], true)), []);
    assert_eq!(denials(&world, &through(&[member, PROVIDER], true)), []);
    assert_eq!(denials(&world, &through(&[PROVIDER], false)), [Denial::EndUserUnidentified]);
    assert_eq!(denials(&world, &through(&[PROVIDER, firm], true)), [Denial::EndUserUnidentified]);
    let strange = [Denial::ScreeningPending, Denial::EndUserUnidentified];
    assert_eq!(denials(&world, &through(&[unknown], true)), strange);
    let screening = world.screening(ScreeningResult::Confirmed);
    let reason = "a match".to_owned();
    world.go(Command::RecordScreening { entity: PROVIDER, screening, reason });
    let decision = asked(&world, &certificate, &through(&[PROVIDER], true));
    assert_eq!((decision.legal, decision.denials), (Legal::Prohibited, vec![Denial::PartyDenied]));
    // Without intermediaries nobody else is a party.
    assert!(both(&world, &certificate, &inference("mythos-5")).is_permit());
}

#[test]
fn a_stopped_or_suspended_hop_lets_nothing_through() {
    let (mut world, _, _, certificate) = scene();
    let reseller = world.partner(Organisation::Us);
    world.list(&[reseller]);
    world.now = world.now.plus_ms(2_000);
    let denials = |world: &World| asked(world, &certificate, &through(&[PROVIDER, reseller], true)).denials;
    let refused = [Denial::EndUserUnidentified];
    assert_eq!(denials(&world), []);
    let scope = StopScope::Entity(reseller);
    world.go(Command::Stop { scope: scope.clone(), reason: REASON });
    assert_eq!(denials(&world), refused);
    world.go(Command::ReleaseStop(scope));
    assert_eq!(denials(&world), []);
    let target = SuspensionTarget::Entity(reseller);
    world.go(Command::Suspend { target, reason: REASON });
    assert_eq!(denials(&world), refused);
    world.go(Command::Unsuspend(target));
    assert_eq!(denials(&world), []);
    world.go(Command::RemoveEntity { entity: reseller, reason: REASON });
    assert_eq!(denials(&world), refused);
}

#[test]
fn a_refused_credential_speaks_for_no_chain() {
    let (mut world, member, _, certificate) = scene();
    world.go(Command::Revoke { scope: RevocationScope::Entity(member), reason: REASON });
    let unknown = EntityId::from_bytes([0xee; 16]);
    let decision = both(&world, &certificate, &through(&[unknown], false));
    assert_eq!(decision.denials, [Denial::CredentialRevoked]);
}

#[test]
fn what_a_refused_credential_also_lacks_is_recorded_from_the_card() {
    let (mut world, member, _, certificate) = scene();
    let screening = world.screening(ScreeningResult::Confirmed);
    let reason = "a match".to_owned();
    world.go(Command::RecordScreening { entity: member, screening, reason });
    world.now = certificate.not_after.plus_ms(1);
    let request = Request { place: place("CU"), ..inference("mythos-5") };
    let decision = both(&world, &certificate, &request);
    assert_eq!(decision.denials, [Denial::CredentialExpired, Denial::PartyDenied, Denial::Embargo]);
}

#[test]
fn standing_and_conditions_come_from_the_record() {
    let (mut world, member, person, certificate) = scene();
    let request = inference("mythos-5");
    let policy = |world: &World| both(world, &certificate, &request).policy;
    assert_eq!(policy(&world), None);
    let suspend = SuspensionTarget::Subject(person);
    world.go(Command::Suspend { target: suspend, reason: REASON });
    assert_eq!(policy(&world), Some(PolicyRule::Suspended));
    world.go(Command::Unsuspend(suspend));
    let due = world.now.plus_ms(3_600_000);
    world.go(Command::RecordSafeguards { entity: member, until: due, reverify_due: None });
    assert_eq!(policy(&world), None);
    world.now = due;
    assert_eq!(policy(&world), Some(PolicyRule::SafeguardLapsed));
    let later = due.plus_ms(3_600_000);
    world.go(Command::RecordSafeguards { entity: member, until: later, reverify_due: Some(due) });
    assert_eq!(policy(&world), Some(PolicyRule::ReverifyOverdue));
    world.go(Command::RecordSafeguards { entity: member, until: later, reverify_due: Some(later) });
    assert_eq!(policy(&world), None);
    let grant = world.state.entities[&member].card.grants[0].id;
    world.go(Command::EndGrant { entity: member, grant });
    assert_eq!(policy(&world), Some(PolicyRule::NoGrant));
}

#[test]
fn an_unknown_model_is_unknown_to_both_also_through_a_chain() {
    let (world, _, _, certificate) = scene();
    assert_eq!(both(&world, &certificate, &inference("gpt")).denials, [Denial::ModelUnknown]);
    let request = Request { model: "gpt", ..through(&[PROVIDER], true) };
    assert_eq!(asked(&world, &certificate, &request).code(), "MODEL_UNKNOWN");
}
