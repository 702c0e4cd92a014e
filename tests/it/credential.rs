//! What each credential and each question is worth: every refusal has its own code, and each answer is the same on the
//! server as the scenario says.

use std::net::SocketAddr;

use countersign::app::Asking;
use countersign::domain::certificate::{AccessFacts, EntityFacts, Facts};
use countersign::domain::command::Command;
use countersign::domain::decided::DecidedBy;
use countersign::domain::entity::EntityClass;
use countersign::domain::id::{Ordinal, SubjectId};
use countersign::domain::person::{Assurance, EvidenceKind, Relation};
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::domain::subject::SubjectBody;
use countersign::pb;
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;

use crate::calls::{denied, enrolled, key, openssl, question, refused};
use crate::forge::{Forgery, seconds, with_extensions};
use crate::world::{Caller, World};

const HOUR_MS: u32 = 3_600_000;

/// Evaluate and Verify agree that a certificate is refused, and with which code.
async fn worthless(world: &World, certificate: &[u8], code: &str) {
    denied(&world.mythos(certificate).await, code);
    let verified = world.verify(certificate).await;
    assert!(!verified.valid, "{verified:?}");
    assert!(verified.code.starts_with("CREDENTIAL_"), "{verified:?}");
    if code != "CREDENTIAL_INVALID" {
        assert_eq!(verified.code, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_good_only_between_its_two_ends() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    assert!(world.verify(&caller.certificate).await.valid);
    let mut early = Forgery::of(&world, &caller.certificate);
    early.not_before = seconds(&world, 3_600);
    worthless(&world, &early.sign(&world, &key()), "CREDENTIAL_NOT_YET_VALID").await;
    world.clock.advance_ms(25 * HOUR_MS);
    worthless(&world, &caller.certificate, "CREDENTIAL_EXPIRED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_45_only_certificates_of_this_service_in_the_strict_form_count() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    let other = World::start().await;
    let (_, _, foreign) = enrolled(&other).await;
    worthless(&world, &foreign.certificate, "CREDENTIAL_INVALID").await;
    let good = &caller.certificate;
    // The re-signed but unchanged certificate is good: what follows is refused for its form alone.
    assert!(world.mythos(&with_extensions(&world, good, |list| list)).await.permit);
    let twice = with_extensions(&world, good, |mut list| {
        list.push(list.last().unwrap().clone());
        list
    });
    worthless(&world, &twice, "CREDENTIAL_INVALID").await;
    let short = with_extensions(&world, good, |mut list| {
        list.pop();
        list
    });
    worthless(&world, &short, "CREDENTIAL_INVALID").await;
    // Format version "1" becomes "9": written by a release of the future.
    let future = with_extensions(&world, good, |mut list| {
        let version = list.iter_mut().find(|raw| raw.ends_with(&[0x04, 0x03, 0x0c, 0x01, b'1'])).unwrap();
        *version.last_mut().unwrap() = b'9';
        list
    });
    worthless(&world, &future, "CREDENTIAL_INVALID").await;
    let mut flipped = good.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let bytes: [&[u8]; 6] = [
        &good[..good.len() - 1],
        &[good.as_slice(), b"\0"].concat(),
        &flipped,
        b"",
        b"garbage",
        &[0x30; 70_000],
    ];
    for bytes in bytes {
        worthless(&world, bytes, "CREDENTIAL_INVALID").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_s_certificate_gives_no_access() {
    let world = World::start().await;
    enrolled(&world).await;
    let gateway = world.gateway("gw-1").await;
    denied(&world.mythos(&gateway.certificate).await, "CREDENTIAL_WRONG_KIND");
    assert!(world.verify(&gateway.certificate).await.valid, "it is good for what it is");
    // Good only as long as its principal is registered with its key, and until it ends.
    let impostor = Forgery::of(&world, &gateway.certificate).sign(&world, &key());
    assert!(!world.verify(&impostor).await.valid);
    let removal = Command::RemovePrincipal("gw-1".parse().unwrap());
    world.enact(removal).await.unwrap();
    assert!(!world.verify(&gateway.certificate).await.valid);
    let second = world.gateway("gw-2").await;
    for _ in 0..6 {
        // Six steps of six days: the clock walks with the machine.
        world.clock.advance_ms(144 * HOUR_MS);
    }
    let asking = Asking { by: DecidedBy::Verify, gateway: None };
    let verified = world.running().app().verify(&second.certificate, None, asking).await.unwrap();
    assert!(verified.fault.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_a_record_is_worth_nothing() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    let last = world.running().app().state().last_ordinal;
    let ceiling = world.running().app().state().enforcement.ceiling;
    assert!(last < ceiling);
    for ordinal in [Ordinal(last.0 + 1), ceiling, Ordinal(ceiling.0 + 1), Ordinal(u64::MAX)] {
        let mut forgery = Forgery::of(&world, &caller.certificate);
        forgery.ordinal = ordinal;
        worthless(&world, &forgery.sign(&world, &key()), "CREDENTIAL_NOT_ISSUED").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_certificate_states_must_still_be_on_record() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    let person = |change: fn(&mut AccessFacts)| {
        let mut forgery = Forgery::of(&world, &caller.certificate);
        let Facts::Access(facts) = &mut forgery.facts else { unreachable!() };
        change(facts);
        forgery.sign(&world, &key())
    };
    let lie = person(|facts| {
        facts.person.as_mut().unwrap().status = countersign::domain::person::PersonStatus::UsPerson;
    });
    worthless(&world, &lie, "CREDENTIAL_STALE").await;
    let stranger = person(|facts| facts.subject = "sub_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap());
    worthless(&world, &stranger, "CREDENTIAL_STALE").await;
    let nowhere = person(|facts| facts.entity.entity = "ent_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap());
    worthless(&world, &nowhere, "CREDENTIAL_STALE").await;
    let contractor = person(|facts| facts.person.as_mut().unwrap().relation = Relation::Contractor);
    worthless(&world, &contractor, "CREDENTIAL_STALE").await;
    let machine = person(|facts| facts.person = None);
    worthless(&world, &machine, "CREDENTIAL_STALE").await;
    let unlisted = person(|facts| {
        // What an unlisted entity's certificate has: no annex and no determination.
        let EntityFacts { class, annex_revision, determination, .. } = &mut facts.entity;
        (*class, *annex_revision, *determination) = (EntityClass::Unlisted, None, None);
    });
    worthless(&world, &unlisted, "CREDENTIAL_STALE").await;
    // A certificate for another model only.
    let other = person(|facts| facts.models = vec!["fable-5".parse().unwrap()]);
    denied(&world.mythos(&other).await, "MODEL_NOT_LISTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_certificate_only_documents_is_not_compared() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    let stated = world.facts(&caller.certificate);
    let decide = async |change: fn(&mut AccessFacts)| {
        let mut facts = stated.clone();
        change(&mut facts);
        assert_ne!(facts, stated, "it states something else");
        let forgery = Forgery { facts: Facts::Access(facts), ..Forgery::of(&world, &caller.certificate) };
        let certificate = forgery.sign(&world, &key());
        let decision = world.mythos(&certificate).await;
        (certificate, decision)
    };
    let changes: [fn(&mut AccessFacts); 4] = [
        |facts| facts.entity.annex_revision = facts.entity.annex_revision.map(|revision| revision + 7),
        |facts| facts.entity.determination = Some("2026-06-01-other".parse().unwrap()),
        |facts| facts.person.as_mut().unwrap().verified_on = "2020-02-29".parse().unwrap(),
        |facts| facts.person.as_mut().unwrap().assurance = Assurance::Ial3,
    ];
    for change in changes {
        let (certificate, decision) = decide(change).await;
        assert_eq!((decision.permit, decision.rule.as_str()), (true, "L-21"), "{decision:?}");
        assert!(world.verify(&certificate).await.valid);
    }
    // What it states of the assurance counts, also where the record says more; it is no reason to renew.
    let (certificate, decision) =
        decide(|facts| facts.person.as_mut().unwrap().assurance = Assurance::Ial1).await;
    denied(&decision, "P-ASSURANCE_TOO_LOW");
    assert!(world.verify(&certificate).await.valid);
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_31_aliases_and_descendants_are_the_model_and_look_alikes_are_unknown() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    let ask = |model: &'static str| world.ask_alice(question(&caller.certificate, model));
    for alias in ["mythos-5", "mythos-5-latest", "Claude Mythos 5", "CLAUDE MYTHOS 5", "mYtHoS-5"] {
        assert!(ask(alias).await.permit, "{alias}");
    }
    // A fine-tune is covered as its parent is, and granted with it.
    let descendant = ask("mythos-5-defender").await;
    assert_eq!((descendant.permit, descendant.rule.as_str()), (true, "L-21"));
    // Cyrillic letters, a space that is not one, a dash that is not one.
    for stranger in [
        "m\u{443}thos-5",
        "Claude Myth\u{43e}s 5",
        "Claude\u{a0}Mythos 5",
        "mythos\u{2010}5",
        "mythos-5 ",
        "mythos-6",
        "",
        "*",
    ] {
        denied(&ask(stranger).await, "MODEL_UNKNOWN");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_and_internals_need_a_grant_that_names_them() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    for form in ["WEIGHTS", "INTERNALS"] {
        let mut asked = question(&caller.certificate, "mythos-5");
        asked.access_form = form.to_owned();
        denied(&world.ask_alice(asked).await, "ACCESS_FORM_NOT_GRANTED");
    }
    let mut asked = question(&caller.certificate, "mythos-5");
    asked.access_form = "weights".to_owned();
    let mut client = pb::attestation_service_client::AttestationServiceClient::new(world.alice());
    refused(client.evaluate(asked).await, Code::InvalidArgument, "access_form");
}

#[tokio::test(flavor = "multi_thread")]
async fn scenarios_10_and_11_place_is_law_for_some_and_policy_for_others() {
    let world = World::start().await;
    let (entity, _, foreign) = enrolled(&world).await;
    let citizen = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::CitizenOrNational).await).await;
    let from = async |caller: &Caller, place: &str| {
        let mut asked = question(&caller.certificate, "mythos-5");
        asked.place = place.to_owned();
        world.ask_alice(asked).await
    };
    let paris = from(&citizen, "FR").await;
    denied(&paris, "P-PLACE_NOT_ALLOWED");
    assert_eq!((paris.legal.as_str(), paris.rule.as_str()), ("EXEMPT", "L-23"));
    let unknown = from(&citizen, "").await;
    denied(&unknown, "P-PLACE_NOT_ALLOWED");
    for embargoed in ["IR", "CU", "KP", "SY"] {
        let decision = from(&foreign, embargoed).await;
        denied(&decision, "EMBARGO");
        assert_eq!((decision.legal.as_str(), decision.rule.as_str()), ("PROHIBITED", "G6"));
    }
    world.screen(world.provider).await;
    world.grant(world.provider).await;
    world.clock.advance_ms(2_000);
    let provider = world.provider;
    let own = world.enroll(world.person(provider, "EMPLOYEE", EvidenceKind::CitizenOrNational).await).await;
    let london = from(&own, "GB").await;
    denied(&london, "EXPORT_DESTINATION_LICENSE_REQUIRED");
    assert_eq!((london.legal.as_str(), london.rule.as_str()), ("LICENSE_REQUIRED", "L-13"));
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_06_the_provider_s_foreign_engineer_uses_mythos_and_not_fable() {
    let world = World::start().await;
    world.screen(world.provider).await;
    world.grant(world.provider).await;
    world.clock.advance_ms(2_000);
    let engineer =
        world.enroll(world.person(world.provider, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    let mythos = world.mythos(&engineer.certificate).await;
    assert_eq!((mythos.permit, mythos.legal.as_str(), mythos.rule.as_str()), (true, "EXEMPT", "L-20"));
    let fable = world.ask_alice(question(&engineer.certificate, "fable-5")).await;
    assert!(!fable.permit);
    assert_eq!((fable.legal.as_str(), fable.policy.as_str()), ("LICENSE_REQUIRED", "P-SUSPEND_ALL"));
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_20_an_undetermined_employee_is_exempt_by_law_and_denied_by_policy() {
    let world = World::start().await;
    let (entity, _, _) = enrolled(&world).await;
    let caller = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::None).await).await;
    let decision = world.mythos(&caller.certificate).await;
    denied(&decision, "P-STATUS_UNVERIFIED");
    assert_eq!((decision.legal.as_str(), decision.reason.as_str()), ("EXEMPT", "EXEMPT_EITHER_STATUS"));
}

/// The question of an Evaluate, with what no question has: what time it is, and what sort of transaction.
#[derive(Clone, PartialEq, prost::Message)]
struct Claiming {
    #[prost(bytes = "vec", tag = "1")]
    certificate: Vec<u8>,
    #[prost(string, tag = "2")]
    model: String,
    #[prost(string, tag = "4")]
    place: String,
    #[prost(string, tag = "5")]
    serving_region: String,
    #[prost(string, tag = "10")]
    now: String,
    #[prost(string, repeated, tag = "11")]
    transaction_kinds: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_30_a_time_or_a_kind_that_the_caller_supplies_changes_nothing() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    let asked = question(&caller.certificate, "fable-5");
    let honest = world.ask_alice(asked.clone()).await;
    assert_eq!((honest.permit, honest.legal.as_str()), (false, "LICENSE_REQUIRED"), "{honest:?}");
    let claiming = Claiming {
        certificate: caller.certificate.clone(),
        model: asked.model,
        place: asked.place,
        serving_region: asked.serving_region,
        // Nothing was controlled then.
        now: "2026-06-01T00:00:00Z".to_owned(),
        transaction_kinds: vec!["DOMESTIC_NON_EXPORT".to_owned()],
    };
    let mut client = tonic::client::Grpc::new(world.alice());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Claiming, pb::EvaluateResponse>::default();
    let path = PathAndQuery::from_static("/countersign.v1.AttestationService/Evaluate");
    let answer = client.unary(tonic::Request::new(claiming), path, codec).await.unwrap();
    // The record may have gone on meanwhile; everything else is the same.
    let told =
        pb::Decision { as_of: honest.as_of, id: honest.id.clone(), ..answer.into_inner().decision.unwrap() };
    assert_eq!(told, honest);
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_32_an_unidentified_end_user_behind_an_intermediary_is_denied() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    let reseller = world.partner().await;
    let unlisted = world.applicant().await;
    world.screen(unlisted).await;
    let through = async |chain: &[String], end_user_identified| {
        let mut asked = question(&caller.certificate, "mythos-5");
        (asked.chain, asked.end_user_identified) = (chain.to_vec(), end_user_identified);
        world.ask_alice(asked).await
    };
    assert!(through(&[reseller.to_string()], true).await.permit);
    let anonymous = through(&[reseller.to_string()], false).await;
    denied(&anonymous, "END_USER_UNIDENTIFIED");
    assert_eq!(anonymous.legal, "INDETERMINATE");
    denied(&through(&[unlisted.to_string()], true).await, "END_USER_UNIDENTIFIED");
    // Nobody knows whether a party that is not on record is on a list.
    denied(&through(&["ent_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned()], true).await, "SCREENING_PENDING");
    let mut asked = question(&caller.certificate, "mythos-5");
    asked.chain = vec![reseller.to_string(); 17];
    let mut client = pb::attestation_service_client::AttestationServiceClient::new(world.alice());
    refused(client.evaluate(asked).await, Code::InvalidArgument, "at most 16");
}

#[tokio::test(flavor = "multi_thread")]
async fn scenarios_23_and_35_the_record_wins_over_a_certificate_and_only_for_its_entity() {
    let world = World::start().await;
    let (a, _, with_a) = enrolled(&world).await;
    let b = world.partner().await;
    let with_b = world.enroll(world.person(b, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    let determination = "2026-06-26-lift".parse().unwrap();
    let revision = world.running().app().state().annexes[&determination] + 1;
    let removal = Command::AmendAnnex { determination, revision, add: vec![], remove: vec![a] };
    let before = world.running().app().state().position.seq;
    world.enact(removal).await.unwrap();
    assert_eq!(
        world.running().app().state().position.seq,
        before.next(),
        "one record, however many certificates"
    );
    denied(&world.mythos(&with_a.certificate).await, "CREDENTIAL_REVOKED");
    assert!(world.mythos(&with_b.certificate).await.permit);
    // Listed again, the old certificate stays dead.
    let determination = "2026-06-26-lift".parse().unwrap();
    let again = Command::AmendAnnex { determination, revision: revision + 1, add: vec![a], remove: vec![] };
    world.enact(again).await.unwrap();
    world.clock.advance_ms(2_000);
    denied(&world.mythos(&with_a.certificate).await, "CREDENTIAL_REVOKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_34_a_seconded_person_does_not_bring_the_membership_along() {
    let world = World::start().await;
    let (_, home, caller) = enrolled(&world).await;
    let person = match &world.running().app().state().subjects[&home].body {
        SubjectBody::Human(employment) => employment.person,
        SubjectBody::Workload(_) => panic!("a person"),
    };
    // The firm is active, screened and granted, and on no annex.
    let firm = world.applicant().await;
    world.screen(firm).await;
    world.enact(Command::ActivateEntity(firm)).await.unwrap();
    world.grant(firm).await;
    let seconded = world.employ(firm, Some(person), "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    world.clock.advance_ms(2_000);
    // For the firm's work there is no certificate, whoever else employs the person.
    let token = world.token(seconded).await;
    world.not_issuable(world.redeem(&token, &key()).await, seconded, "LICENSE_REQUIRED").await;
    // The member's certificate is good for the member's work, and not for the firm's.
    assert!(world.mythos(&caller.certificate).await.permit);
    let mut for_firm = question(&caller.certificate, "mythos-5");
    (for_firm.chain, for_firm.end_user_identified) = (vec![firm.to_string()], true);
    denied(&world.ask_alice(for_firm).await, "END_USER_UNIDENTIFIED");
    // The member attests that the person works there no more; employed at the firm or not.
    world.attest(home, "NONE", "").await.unwrap();
    denied(&world.mythos(&caller.certificate).await, "CREDENTIAL_REVOKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_33_a_workload_is_as_good_as_its_worst_operator() {
    let world = World::start().await;
    let (entity, owner, _) = enrolled(&world).await;
    let operator = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let request = pb::NominateSubjectRequest {
        entity_id: entity.to_string(),
        body: Some(pb::nominate_subject_request::Body::Workload(pb::NominatedWorkload {
            owner: owner.to_string(),
            operators: vec![owner.to_string(), operator.to_string()],
        })),
        ..Default::default()
    };
    let mut client = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    let workload: SubjectId =
        client.nominate_subject(request).await.unwrap().into_inner().subject_id.parse().unwrap();
    let decision =
        countersign::domain::command::SubjectDecision::Approve { vetting: None, reverify_due: None };
    world.enact(Command::DecideSubject { subject: workload, decision }).await.unwrap();
    let job = world.enroll(workload).await;
    let permitted = world.mythos(&job.certificate).await;
    assert_eq!((permitted.permit, permitted.rule.as_str()), (true, "L-24"));
    world.attest(operator, "CONTRACTOR", "").await.unwrap();
    denied(&world.mythos(&job.certificate).await, "CREDENTIAL_REVOKED");
    let token = world.token(workload).await;
    assert!(world.redeem(&token, &key()).await.is_err(), "one contractor among the operators");
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_43_a_stranger_learns_nothing_from_a_certificate_and_tls_1_2_is_refused() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    let (_, text, _) = openssl(&["x509", "-noout", "-text", "-inform", "DER"], &caller.certificate);
    let text = String::from_utf8(text).unwrap();
    for forbidden in ["Partner Inc", "@", "email", "Country", " C = ", "O = ", "countryOfCitizenship"] {
        assert!(!text.contains(forbidden), "the certificate shows {forbidden}:\n{text}");
    }
    let address: SocketAddr = world.running().address();
    let connect = |version: &str| {
        let address = address.to_string();
        openssl(&["s_client", "-connect", &address, version, "-alpn", "h2", "-brief"], b"")
    };
    let (ok, _, log) = connect("-tls1_3");
    assert!(ok && log.contains("TLSv1.3"), "{log}");
    let (ok, _, log) = connect("-tls1_2");
    assert!(!ok && log.contains("protocol version"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scope_of_revocation_reaches_what_it_names_and_no_more() {
    let world = World::start().await;
    let (entity, subject, first) = enrolled(&world).await;
    let second = world.enroll(subject).await;
    let colleague = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    let reason = RevocationReason::Drill;
    let revoke = async |scope| {
        world.restrict(Command::Revoke { scope, reason }, pb::Wait::Committed).await.unwrap();
    };
    revoke(RevocationScope::Certificate(world.read(&first.certificate).ordinal)).await;
    worthless(&world, &first.certificate, "CREDENTIAL_REVOKED").await;
    assert!(world.mythos(&second.certificate).await.permit);
    revoke(RevocationScope::Lineage(world.facts(&second.certificate).step.lineage)).await;
    worthless(&world, &second.certificate, "CREDENTIAL_LINEAGE_LOCKED").await;
    let third = world.enroll(subject).await;
    revoke(RevocationScope::Subject(subject)).await;
    worthless(&world, &third.certificate, "CREDENTIAL_REVOKED").await;
    assert!(world.mythos(&colleague.certificate).await.permit);
    revoke(RevocationScope::Entity(entity)).await;
    worthless(&world, &colleague.certificate, "CREDENTIAL_REVOKED").await;
    // A cut-off reaches what was issued before it, not what is issued after.
    let fourth = world.enroll(subject).await;
    assert!(world.mythos(&fourth.certificate).await.permit);
    let other = world.partner().await;
    let elsewhere = world.enroll(world.person(other, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    let stated = world.facts(&elsewhere.certificate).entity;
    let (lift, revision) = (stated.determination.unwrap(), stated.annex_revision.unwrap());
    assert_ne!(world.facts(&fourth.certificate).entity.annex_revision, Some(revision));
    revoke(RevocationScope::AnnexRevision(lift.clone(), revision)).await;
    worthless(&world, &elsewhere.certificate, "CREDENTIAL_REVOKED").await;
    assert!(world.mythos(&fourth.certificate).await.permit);
    revoke(RevocationScope::Determination(lift)).await;
    worthless(&world, &fourth.certificate, "CREDENTIAL_REVOKED").await;
    assert!(world.mythos(&world.enroll(subject).await.certificate).await.permit);
    let never = Ordinal(world.running().app().state().last_ordinal.0 + 1);
    let scope = RevocationScope::Certificate(never);
    let answer = world.restrict(Command::Revoke { scope, reason }, pb::Wait::Committed).await;
    refused(answer, Code::NotFound, "certificate");
}
