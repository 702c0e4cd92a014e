//! Issuance: tokens, lineages, keys, limits, and what is checked again when a certificate is completed.

use crate::domain::certificate::{AuthorityKind, Certificate, Facts, Serial, SystemFacts, TTL_MAX_S};
use crate::domain::certificate::{LineageStep, PrincipalKind};
use crate::domain::command::{Command, SubjectDecision};
use crate::domain::entity::{EntityClass, Organisation, ScreeningResult};
use crate::domain::event::{Cause, Event, Intent};
use crate::domain::flow::{LimitKind, Reject, TOKEN_TTL_MAX_MS, certifiable};
use crate::domain::id::{Digest, EntityId, LineageId, Ordinal, SubjectId, TokenId};
use crate::domain::license::License;
use crate::domain::person::{PersonStatus, Relation};
use crate::domain::revocation::{RevocationReason, RevocationScope, StopScope, SuspensionTarget};
use crate::domain::tests::fixtures::*;
use crate::domain::tests::world::*;
use crate::domain::time::Interval;

const REASON: RevocationReason = RevocationReason::Drill;
const STEP: LineageStep = LineageStep { lineage: LineageId::from_bytes([8; 16]), generation: 1 };

fn scene() -> (World, EntityId, SubjectId) {
    let (mut world, member) = World::with_member();
    let person = world.person(member, FOREIGN, EMPLOYEE);
    (world, member, person)
}

fn facts(certificate: &Certificate) -> crate::domain::certificate::AccessFacts {
    match &certificate.facts {
        Facts::Access(facts) => facts.clone(),
        Facts::System(_) | Facts::Canary(_) => panic!("not an access certificate"),
    }
}

fn wrong_state<T>(result: Result<T, Reject>) -> (&'static str, String) {
    match result {
        Err(Reject::WrongState { what, have, .. }) => (what, have),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("nothing is wrong"),
    }
}

#[test]
fn a_certificate_states_what_the_record_says() {
    let (mut world, member, person) = scene();
    let issued = facts(&world.enroll(person).unwrap());
    assert_eq!((issued.entity.entity, issued.entity.class), (member, EntityClass::AnnexA));
    assert_eq!(issued.entity.annex_revision, Some(1));
    assert_eq!(issued.entity.determination, Some(determination(LIFT)));
    let stated = issued.person.unwrap();
    assert_eq!((stated.status, stated.relation), (PersonStatus::ForeignPerson, Relation::Employee));
    assert_eq!(issued.models, [model("mythos-5")]);
    let own = world.person(PROVIDER, FOREIGN, EMPLOYEE);
    let issued = facts(&world.enroll(own).unwrap()).entity;
    assert_eq!((issued.class, issued.annex_revision), (EntityClass::Provider, None));
    assert_eq!(issued.determination, Some(determination(LIFT)), "it names the provider's staff");
    let job = world.workload(member, &[person]);
    assert_eq!(facts(&world.enroll(job).unwrap()).person, None);
}

#[test]
fn facts_that_are_not_the_records_are_not_recorded() {
    let (mut world, _, person) = scene();
    let honest = world.enrollment(person, "key").unwrap();
    let mut forged = |change: fn(&mut crate::domain::certificate::AccessFacts)| {
        let mut intent = honest.clone();
        if let Facts::Access(facts) = &mut intent.facts {
            change(facts);
        }
        world.intend(&intent)
    };
    let conflict = Err(Reject::Conflict("a fact changed meanwhile".to_owned()));
    assert_eq!(forged(|f| f.models.push(model("sonata-4"))).map(|_| ()), conflict);
    assert_eq!(forged(|f| f.entity.class = EntityClass::Provider).map(|_| ()), conflict);
    assert_eq!(forged(|f| f.entity.entity = PROVIDER).map(|_| ()), conflict);
    assert_eq!(forged(|f| f.person = None).map(|_| ()), conflict);
    assert!(forged(|_| {}).is_ok());
}

#[test]
fn a_token_is_redeemed_by_one_key_for_its_subject_in_its_time() {
    let (mut world, member, person) = scene();
    let first = world.enrollment(person, "first key").unwrap();
    let Cause::Enroll(token) = first.cause else { panic!("no token") };
    world.intend(&first).unwrap();
    // Another key, and another lineage with the same key: the token is spent for both.
    let mut other = Intent { ordinal: Ordinal(2), key: Digest::of(b"second key"), ..first.clone() };
    assert_eq!(world.intend(&other), Err(Reject::NotFound("token")));
    other.key = first.key;
    if let Facts::Access(facts) = &mut other.facts {
        facts.step.lineage = LineageId::from_bytes([9; 16]);
    }
    assert_eq!(world.intend(&other), Err(Reject::NotFound("token")));
    // The same key and lineage may try again; the second of two is not completed.
    let again = Intent { ordinal: Ordinal(2), ..first.clone() };
    world.intend(&again).unwrap();
    world.complete(&first).unwrap();
    assert!(matches!(world.complete(&again), Err(Reject::Conflict(_))));
    // A token for somebody else, an unknown one, and one whose time is over.
    let colleague = world.person(member, US, EMPLOYEE);
    let stolen = world.token(colleague).unwrap();
    let mut attempt = |cause: Cause, later_ms: i64| {
        let step = LineageStep { lineage: LineageId::from_bytes([7; 16]), generation: 1 };
        let now = world.now;
        world.now = now.plus_ms(later_ms);
        let intent = world.intent(person, cause, step, "third key").unwrap();
        let result = world.intend(&intent);
        world.now = now;
        result
    };
    assert_eq!(attempt(Cause::Enroll(stolen), 0), Err(Reject::NotFound("token")));
    assert_eq!(attempt(Cause::Enroll(TokenId::from_bytes([1; 16])), 0), Err(Reject::NotFound("token")));
    assert!(matches!(attempt(Cause::Enroll(token), 0), Err(Reject::NotFound("token"))));
    let fresh = world.token(person).unwrap();
    let step = LineageStep { lineage: LineageId::from_bytes([6; 16]), generation: 1 };
    world.now = world.now.plus_ms(DAY_MS);
    let intent = world.intent(person, Cause::Enroll(fresh), step, "fourth key").unwrap();
    // An expired token is answered like one that is not there.
    assert_eq!(world.intend(&intent).unwrap_err(), Reject::NotFound("token"));
}

#[test]
fn a_token_is_made_for_an_approved_subject_and_two_weeks_at_most() {
    let (mut world, _, person) = scene();
    let token = |world: &mut World, id: u8, ms: i64| {
        let expires_at = world.now.plus_ms(ms);
        let id = TokenId::from_bytes([id; 16]);
        let secret = Digest([1; 32]);
        world.record(entry(Event::TokenCreated { id, secret, subject: person, expires_at })).map(|_| ())
    };
    assert!(matches!(token(&mut world, 1, 0), Err(Reject::Invalid { field: "expires_at", .. })));
    let too_long = token(&mut world, 1, TOKEN_TTL_MAX_MS + 1);
    assert!(matches!(too_long, Err(Reject::Invalid { field: "expires_at", .. })));
    assert_eq!(token(&mut world, 1, TOKEN_TTL_MAX_MS), Ok(()));
    assert_eq!(token(&mut world, 1, 1), Err(Reject::Exists("token")));
    world.go(Command::DecideSubject { subject: person, decision: SubjectDecision::Refuse });
    assert_eq!(wrong_state(token(&mut world, 2, 1)), ("subject", "REFUSED".to_owned()));
}

#[test]
fn a_lineage_goes_up_by_one_from_its_last_certificate() {
    let (mut world, member, person) = scene();
    let first = world.enroll(person).unwrap();
    let second = world.renew(&first).unwrap();
    assert_eq!(facts(&second).step.generation, 2);
    let issued_meanwhile = Err(Reject::Conflict("this generation was issued meanwhile".to_owned()));
    let mut attempt = |before: &Certificate, change: fn(&mut Intent)| {
        let mut intent = world.renewal(before, "a new key").unwrap();
        change(&mut intent);
        world.intend(&intent).map(|_| ())
    };
    assert_eq!(attempt(&first, |_| {}), issued_meanwhile, "renewed before");
    assert_eq!(attempt(&second, |i| i.cause = Cause::Renew(Ordinal(1))), issued_meanwhile);
    let skip: fn(&mut Intent) = |i| {
        if let Facts::Access(facts) = &mut i.facts {
            facts.step.generation += 1;
        }
    };
    assert_eq!(attempt(&second, skip), issued_meanwhile);
    let register: fn(&mut Intent) = |i| i.cause = Cause::Register("alice".parse().unwrap());
    assert_eq!(attempt(&second, register), issued_meanwhile);
    assert_eq!(attempt(&second, |_| {}), Ok(()));
    // Somebody else's lineage cannot be renewed.
    let colleague = world.person(member, US, EMPLOYEE);
    let step = LineageStep { generation: 3, ..facts(&second).step };
    let theft = world.intent(colleague, Cause::Renew(second.ordinal), step, "key of a thief").unwrap();
    assert_eq!(world.intend(&theft).map(|_| ()), issued_meanwhile);
}

#[test]
fn of_two_renewals_of_one_generation_one_is_completed() {
    let (mut world, _, person) = scene();
    let first = world.enroll(person).unwrap();
    let mine = world.renewal(&first, "mine").unwrap();
    world.intend(&mine).unwrap();
    let theirs = world.renewal(&first, "theirs").unwrap();
    world.intend(&theirs).unwrap();
    world.complete(&theirs).unwrap();
    assert!(matches!(world.complete(&mine), Err(Reject::Conflict(_))));
    // Two keys for one generation: somebody has a copy, so the lineage is locked, and nothing else.
    world.record(entry(Event::LineageLocked(facts(&first).step.lineage))).unwrap();
    assert_eq!(world.decide(&first, &inference("mythos-5")).code(), "CREDENTIAL_LINEAGE_LOCKED");
    let again = world.enroll(person).unwrap();
    assert!(world.decide(&again, &inference("mythos-5")).is_permit());
    let unknown = Event::LineageLocked(LineageId::from_bytes([1; 16]));
    assert_eq!(world.record(entry(unknown)), Err(Reject::NotFound("lineage")));
}

#[test]
fn a_key_in_use_is_refused() {
    let (mut world, member, person) = scene();
    let first = world.enrollment(person, "key").unwrap();
    world.intend(&first).unwrap();
    let certificate = world.complete(&first).unwrap();
    let in_use = |result: Result<_, Reject>| matches!(result, Err(Reject::Invalid { field: "csr", why }) if why.contains("new"));
    let same = world.renewal(&certificate, "key").unwrap();
    assert!(in_use(world.intend(&same)), "a renewal with the same key");
    let colleague = world.person(member, US, EMPLOYEE);
    let shared = world.enrollment(colleague, "key").unwrap();
    assert!(in_use(world.intend(&shared)), "the key of a colleague");
    let mut officers = world.enrollment(colleague, "").unwrap();
    officers.key = Digest::of(&alice().spki());
    assert!(in_use(world.intend(&officers)), "the key of an officer");
    // Nor may two that are under way both be completed.
    let one = world.enrollment(person, "shared").unwrap();
    world.intend(&one).unwrap();
    let other = world.enrollment(colleague, "shared").unwrap();
    world.intend(&other).unwrap();
    world.complete(&one).unwrap();
    assert!(
        in_use(world.complete(&other).map(|_| Default::default())),
        "completed meanwhile for somebody else"
    );
}

/// What comes between the intent and its completion.
type Meanwhile = fn(&mut World, EntityId, SubjectId);

const MEANWHILE: &[(&str, Meanwhile)] = &[
    ("the entity is suspended", |w, entity, _| {
        w.go(Command::Suspend { target: SuspensionTarget::Entity(entity), reason: REASON });
    }),
    ("the person is suspended", |w, _, person| {
        w.go(Command::Suspend { target: SuspensionTarget::Subject(person), reason: REASON });
    }),
    ("the person is refused", |w, _, person| {
        w.go(Command::DecideSubject { subject: person, decision: SubjectDecision::Refuse });
    }),
    ("the relation changes", |w, _, person| w.attest(person, Relation::Contractor, None)),
    ("the attestation ends sooner", |w, _, person| {
        let soon = w.now.plus_ms(3_600_000);
        w.attest(person, EMPLOYEE, Some(soon));
    }),
    ("the entity is removed", |w, entity, _| {
        w.go(Command::RemoveEntity { entity, reason: REASON });
    }),
    ("the entity leaves the annex", |w, entity, _| w.unlist(&[entity])),
    ("the grant ends", |w, entity, _| {
        let grant = w.state.entities[&entity].card.grants[0].id;
        w.go(Command::EndGrant { entity, grant });
    }),
    ("a list names a party", |w, entity, _| {
        let screening = w.screening(ScreeningResult::Confirmed);
        w.go(Command::RecordScreening { entity, screening, reason: "a match".to_owned() });
    }),
    ("everything is stopped", |w, _, _| {
        w.go(Command::Stop { scope: StopScope::All, reason: REASON });
    }),
    ("the model is stopped", |w, _, _| {
        w.go(Command::Stop { scope: StopScope::Model(model("mythos-5")), reason: REASON });
    }),
    ("the entity is stopped", |w, entity, _| {
        w.go(Command::Stop { scope: StopScope::Entity(entity), reason: REASON });
    }),
    ("the person is stopped", |w, _, person| {
        w.go(Command::Stop { scope: StopScope::Subject(person), reason: REASON });
    }),
    ("the issuer is stopped", |w, _, _| {
        w.go(Command::Stop { scope: StopScope::Issuer(ACCESS_CA), reason: REASON });
    }),
    ("the issuer is revoked", |w, _, _| {
        w.go(Command::RevokeAuthority { authority: ACCESS_CA, reason: REASON });
    }),
    ("the certificate is revoked", |w, _, _| {
        let ordinal = w.state.last_ordinal;
        w.go(Command::Revoke { scope: RevocationScope::Certificate(ordinal), reason: REASON });
    }),
    ("the entity's safeguards are due for re-verification", |w, entity, _| {
        let reverify_due = Some(w.now.plus_ms(3_600_000));
        w.go(Command::RecordSafeguards { entity, until: w.now.plus_ms(DAY_MS), reverify_due });
    }),
];

#[test]
fn what_changed_since_the_intent_keeps_it_from_completion() {
    for (what, meanwhile) in MEANWHILE {
        let (mut world, member, person) = scene();
        let intent = world.enrollment(person, "key").unwrap();
        world.intend(&intent).unwrap();
        meanwhile(&mut world, member, person);
        assert!(world.complete(&intent).is_err(), "completed although {what}");
        assert!(world.state.lineages.is_empty());
    }
    let (mut world, _, person) = scene();
    let intent = world.enrollment(person, "key").unwrap();
    world.intend(&intent).unwrap();
    assert!(world.complete(&intent).is_ok());
}

#[test]
fn a_locked_lineage_is_neither_renewed_nor_completed() {
    let (mut world, _, person) = scene();
    let first = world.enroll(person).unwrap();
    let renewal = world.renewal(&first, "new key").unwrap();
    world.intend(&renewal).unwrap();
    let scope = RevocationScope::Lineage(facts(&first).step.lineage);
    world.go(Command::Revoke { scope, reason: REASON });
    assert_eq!(wrong_state(world.complete(&renewal)), ("lineage", "locked".to_owned()));
    let late = world.renewal(&first, "newer key").unwrap();
    assert_eq!(wrong_state(world.intend(&late)), ("lineage", "locked".to_owned()));
}

#[test]
fn a_removed_principal_gets_no_certificate() {
    let mut world = World::new();
    world.go(Command::RegisterPrincipal(dave().principal()));
    let intent = Intent {
        authority: AuthorityKind::System,
        ordinal: Ordinal(1),
        serial: Serial::from_random([1; 16]),
        facts: Facts::System(SystemFacts { kind: PrincipalKind::Officer, principal: dave().id.clone() }),
        key: Digest::of(&dave().spki()),
        not_before: world.now,
        not_after: at(R3),
        cause: Cause::Register(dave().id.clone()),
        tbs: vec![0x30],
        issuer: None,
    };
    world.intend(&intent).unwrap();
    world.go(Command::RemovePrincipal(dave().id.clone()));
    assert_eq!(world.complete(&intent).map(|_| ()), Err(Reject::NotFound("principal")));
}

#[test]
fn no_certificate_outlives_what_it_rests_on() {
    let (mut world, member, person) = scene();
    let end = world.now.plus_ms(3_600_000);
    world.attest(person, EMPLOYEE, Some(end));
    let mut intent = world.enrollment(person, "key").unwrap();
    intent.not_after = end;
    assert!(matches!(world.intend(&intent), Err(Reject::Conflict(_))), "notAfter is inclusive");
    intent.not_after = end.plus_ms(-1);
    assert!(world.intend(&intent).is_ok());
    // Each source of a limit is among the limits, by its name.
    let due = world.now.plus_ms(7_200_000);
    world.go(Command::RecordSafeguards { entity: member, until: due, reverify_due: Some(due) });
    let license_end = world.now.plus_ms(1_800_000);
    let interval = Interval { from: world.now.plus_ms(-60_000), until: Some(license_end) };
    world.go(Command::RegisterLicense(License {
        id: "d-1".parse().unwrap(),
        holder: member,
        subjects: vec![],
        models: vec![model("mythos-5")],
        countries: vec![],
        purposes: vec![],
        interval,
        provisos_met: true,
        reports: None,
    }));
    let (_, limits) = certifiable(&world.state, person, STEP, world.now).unwrap();
    let mut limits = limits.0;
    limits.sort_by_key(|(_, at)| *at);
    let issuer_end = at("2027-06-01T00:00:00Z").plus_ms(1);
    let expected = [
        (LimitKind::License, license_end),
        (LimitKind::Attestation, end),
        (LimitKind::Reverification, due),
        (LimitKind::Issuer, issuer_end),
    ];
    assert_eq!(limits, expected);
}

#[test]
fn no_access_certificate_lives_longer_than_seven_days() {
    let (mut world, _, person) = scene();
    let mut intent = world.enrollment(person, "key").unwrap();
    intent.not_after = world.now.plus_ms(i64::from(TTL_MAX_S) * 1_000 + 1);
    assert!(matches!(world.intend(&intent), Err(Reject::Invalid { field: "not_after", .. })));
    intent.not_after = intent.not_after.plus_ms(-1);
    assert!(world.intend(&intent).is_ok());
}

#[test]
fn a_listed_entitys_workload_needs_operators_who_are_all_eligible() {
    let (mut world, member, employee) = scene();
    let contractor = world.person(member, US, Relation::Contractor);
    let mixed = world.workload(member, &[employee, contractor]);
    assert_eq!(wrong_state(world.enroll(mixed)).0, "workload");
    let good = world.workload(member, &[employee]);
    assert!(world.enroll(good).is_ok());
    // Elsewhere the server judges the operators at each decision, so the law alone decides.
    let firm = world.partner(Organisation::Us);
    let temp = world.person(firm, US, Relation::Contractor);
    let job = world.workload(firm, &[temp]);
    let certificate = world.enroll(job).unwrap();
    assert!(world.decide(&certificate, &inference("mythos-5")).is_permit());
    assert!(world.decide_at_gate(&certificate, &inference("mythos-5")).ask_server);
}

#[test]
fn who_may_use_no_granted_model_gets_no_certificate() {
    let (mut world, member, _) = scene();
    let contractor = world.person(member, FOREIGN, Relation::Contractor);
    let Err(Reject::Denied(why)) = world.enroll(contractor) else { panic!("a certificate") };
    assert_eq!(
        why,
        "no granted model may be used: mythos-5: LICENSE_REQUIRED (DEEMED_EXPORT_LICENSE_REQUIRED)"
    );
    let bare = world.applicant(Organisation::Us);
    world.screen(bare);
    world.go(Command::ActivateEntity(bare));
    let nobody = world.person(bare, US, EMPLOYEE);
    assert_eq!(wrong_state(world.enroll(nobody)), ("entity", "without an active grant".to_owned()));
}
