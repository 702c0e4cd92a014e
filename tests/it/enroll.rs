//! Enrollment: the request gives a key and nothing else, the token is good once and for one subject, and every rule
//! that a certificate rests on is looked at before it is issued.

use countersign::domain::command::Command;
use countersign::domain::entity::{Screening, ScreeningResult};
use countersign::domain::id::{EntityId, SubjectId};
use countersign::domain::license::License;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, StopScope, SuspensionTarget};
use countersign::domain::subject::Vetting;
use countersign::domain::time::Interval;
use countersign::env::Clock as _;
use countersign::pb;
use countersign::x509::bundle::certificate_pem;
use countersign::x509::{ClientKey, Curve};
use tonic::Code;

use crate::calls::{denied, key, openssl, reason, refused};
use crate::world::World;

const REASON: RevocationReason = RevocationReason::Drill;
const HOUR_MS: u32 = 3_600_000;

async fn employee(world: &World) -> (EntityId, SubjectId) {
    let entity = world.partner().await;
    (entity, world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await)
}

/// A request made by openssl with a new key.
fn foreign_request(algorithm: &[&str], more: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let path = path.to_str().unwrap();
    let mut arguments = vec!["req", "-new", "-nodes", "-outform", "DER", "-keyout", path, "-newkey"];
    arguments.extend(algorithm);
    arguments.extend(more);
    let (ok, der, log) = openssl(&arguments, b"");
    assert!(ok, "{algorithm:?}: {log}");
    der
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_44_what_a_request_asks_for_is_reported_and_never_copied() {
    let world = World::start().await;
    let (entity, subject) = employee(&world).await;
    let other = world.applicant().await;
    let names = format!(
        "subjectAltName=URI:spiffe://test.example/entity/{other}/person/{subject},\
         URI:spiffe://test.example/role/officer/alice,DNS:localhost,email:eve@test.example"
    );
    let wishes = [
        "-subj",
        "/CN=alice/O=Provider PBC/C=IR",
        "-addext",
        names.as_str(),
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-addext",
        "extendedKeyUsage=serverAuth",
        "-addext",
        "1.3.6.1.4.1.32473.1.3=ASN1:UTF8String:PROVIDER",
    ];
    let csr = foreign_request(&["ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha256"], &wishes);
    let token = world.token(subject).await;
    let issued = world.enroll_csr(&token, csr).await.unwrap();
    for kind in ["subject", "subjectAltName", "basicConstraints", "keyUsage", "extKeyUsage"] {
        assert!(issued.ignored.iter().any(|ignored| ignored == kind), "{kind}: {:?}", issued.ignored);
    }
    assert!(issued.ignored.iter().any(|ignored| ignored.ends_with("1.3.6.1.4.1.32473.1.3")));

    let facts = world.facts(&issued.certificate);
    assert_eq!((facts.entity.entity, facts.subject), (entity, subject));
    let (ok, text, _) = openssl(&["x509", "-noout", "-text", "-inform", "DER"], &issued.certificate);
    assert!(ok);
    let text = String::from_utf8(text).unwrap();
    for forbidden in [
        other.to_string().as_str(),
        "CA:TRUE",
        "Basic Constraints",
        "Certificate Sign",
        "CRL Sign",
        "Web Server",
        "localhost",
        "eve@",
        "alice",
        "Provider PBC",
        "C = IR",
        "PROVIDER",
    ] {
        assert!(!text.contains(forbidden), "the certificate has {forbidden}:\n{text}");
    }
    assert!(text.contains(&format!("URI:spiffe://test.example/entity/{entity}/person/{subject}\n")));
    assert!(text.contains(&format!("Subject: CN = {subject}\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn weak_and_foreign_keys_are_refused_and_cost_no_token() {
    let world = World::start().await;
    let (_, subject) = employee(&world).await;
    let token = world.token(subject).await;
    let subj = ["-subj", "/CN=x"];
    let curve = |name: &'static str, hash| vec!["ec", "-pkeyopt", name, hash];
    let requests = [
        (vec!["rsa:1024"], "RSA"),
        (vec!["rsa:2048"], "RSA"),
        (vec!["ed25519"], "Edwards"),
        (curve("ec_paramgen_curve:secp224r1", "-sha256"), "neither P-256 nor P-384"),
        (curve("ec_paramgen_curve:secp256k1", "-sha256"), "neither P-256 nor P-384"),
        (curve("ec_paramgen_curve:secp521r1", "-sha512"), "neither P-256 nor P-384"),
        (curve("ec_paramgen_curve:P-384", "-sha256"), "hash does not fit"),
        (curve("ec_paramgen_curve:P-256", "-sha384"), "hash does not fit"),
        (curve("ec_paramgen_curve:P-256", "-sha512"), "signature algorithm"),
    ];
    for (algorithm, says) in requests {
        let csr = foreign_request(&algorithm, &subj);
        refused(world.enroll_csr(&token, csr).await, Code::InvalidArgument, says);
    }
    let good = key().request().unwrap();
    let mut torn = good.clone();
    torn.truncate(good.len() - 1);
    let mut long = good.clone();
    long.push(0);
    let mut forged = good.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let oversized = vec![0x30; 8 * 1024 + 1];
    for (csr, says) in [
        (torn, "not valid DER"),
        (long, "bytes follow"),
        (forged, "not by its key"),
        (oversized, "longer than 8192"),
        (Vec::new(), "not valid DER"),
        (b"-----BEGIN CERTIFICATE REQUEST-----".to_vec(), "not valid DER"),
    ] {
        refused(world.enroll_csr(&token, csr).await, Code::InvalidArgument, says);
    }
    world.enroll_csr(&token, good).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_on_p_384_is_certified() {
    let world = World::start().await;
    let (_, subject) = employee(&world).await;
    let key = ClientKey::generate(Curve::P384).unwrap();
    let certificate = world.redeem(&world.token(subject).await, &key).await.unwrap();
    assert_eq!(world.read(&certificate).key, key.public_key().digest());
    assert!(world.mythos(&certificate).await.permit);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_token_gets_the_same_answer() {
    let world = World::start().await;
    let (entity, subject) = employee(&world).await;
    let redeemed = world.token(subject).await;
    world.redeem(&redeemed, &key()).await.unwrap();
    let expired = world.token(subject).await;
    world.clock.advance_ms(71 * HOUR_MS);
    world.screen(entity).await;
    world.clock.advance_ms(2 * HOUR_MS);
    let fresh = world.token(subject).await;
    let (id, secret) = fresh.split_once('.').unwrap();
    let flipped = if secret.starts_with('0') { "1" } else { "0" };
    let tokens = [
        ("redeemed by another key", redeemed.clone()),
        ("expired", expired),
        ("wrong secret", format!("{id}.{flipped}{}", &secret[1..])),
        ("unknown", format!("tok_01ARZ3NDEKTSV4RRFFQ69G5FAV.{secret}")),
        ("no secret", id.to_owned()),
        ("garbage", "../../etc/passwd".to_owned()),
        ("empty", String::new()),
    ];
    for (what, token) in tokens {
        let status = world.redeem(&token, &key()).await.unwrap_err();
        let seen = (status.code(), status.message(), reason(&status));
        assert_eq!(seen, (Code::NotFound, "there is no such token", "NOT_FOUND".to_owned()), "{what}");
    }
    world.redeem(&fresh, &key()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_gets_the_same_certificate_again_after_a_restart_too() {
    let mut world = World::start().await;
    let (_, subject) = employee(&world).await;
    let (token, key) = (world.token(subject).await, key());
    let first = world.redeem(&token, &key).await.unwrap();
    assert_eq!(world.redeem(&token, &key).await.unwrap(), first);
    world.close().await;
    world.open().await;
    assert_eq!(world.redeem(&token, &key).await.unwrap(), first);
    assert!(world.mythos(&first).await.permit);
    // A retry finds the certificate also when the token has expired meanwhile; a new key does not.
    world.clock.advance_ms(20 * HOUR_MS);
    assert_eq!(world.redeem(&token, &key).await.unwrap(), first);
    // The certificate is over: the token gives nothing any more.
    world.clock.advance_ms(5 * HOUR_MS);
    refused(world.redeem(&token, &key).await, Code::NotFound, "no such token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_serves_one_lineage_and_never_a_principal_too() {
    let world = World::start().await;
    let (entity, subject) = employee(&world).await;
    let caller = world.enroll(subject).await;
    let other = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let token = world.token(other).await;
    refused(world.redeem(&token, &caller.key).await, Code::InvalidArgument, "in use already");
    refused(world.redeem(&token, &world.alice.key).await, Code::InvalidArgument, "in use already");
    let gateway = world.gateway("gw-1").await;
    refused(world.redeem(&token, &gateway.key).await, Code::InvalidArgument, "in use already");
    // And the other way round.
    let principal = countersign::domain::command::NewPrincipal {
        id: "gw-2".parse().unwrap(),
        kind: countersign::domain::certificate::PrincipalKind::Gateway,
        roles: vec![countersign::domain::principal::Role::Gateway],
        entity: None,
        key: caller.key.public_key().spki().to_vec(),
        is_pausable: false,
    };
    refused(world.enact(Command::RegisterPrincipal(principal)).await, Code::AlreadyExists, "key");
    // What was refused took no ordinal.
    let next = world.redeem(&token, &key()).await.unwrap();
    assert_eq!(world.read(&next).ordinal.0, world.read(&caller.certificate).ordinal.0 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_accepts_what_is_issued() {
    let world = World::start().await;
    let (_, subject) = employee(&world).await;
    let caller = world.enroll(subject).await;
    let ca = world.dir.path().join("access-bundle.pem");
    std::fs::write(&ca, world.access_pem()).unwrap();
    let at = world.clock.now().seconds().to_string();
    let arguments =
        ["verify", "-x509_strict", "-purpose", "sslclient", "-attime", &at, "-CAfile", ca.to_str().unwrap()];
    let (ok, out, log) = openssl(&arguments, certificate_pem(&caller.certificate).as_bytes());
    assert!(ok, "{}{log}", String::from_utf8_lossy(&out));
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_22_a_certificate_ends_before_anything_it_rests_on() {
    let world = World::start().await;
    let (entity, subject) = employee(&world).await;
    let end = world.clock.now().plus_ms(40 * 60_000);
    world.attest(subject, "EMPLOYEE", &end.to_string()).await.unwrap();
    let caller = world.enroll(subject).await;
    assert!(world.read(&caller.certificate).not_after < end);
    // A licence of the entity ends even earlier.
    let license_end = world.clock.now().plus_ms(20 * 60_000);
    let license = License {
        id: "d-0000001".parse().unwrap(),
        holder: entity,
        subjects: vec![],
        models: vec!["mythos-5".parse().unwrap()],
        countries: vec![],
        purposes: vec![],
        interval: Interval { from: world.clock.now().plus_ms(-60_000), until: Some(license_end) },
        provisos_met: true,
        reports: None,
    };
    world.enact(Command::RegisterLicense(license)).await.unwrap();
    let second = world.enroll(subject).await;
    assert!(world.read(&second.certificate).not_after < license_end);
    // Less than five minutes are not worth a certificate.
    let soon = world.clock.now().plus_ms(4 * 60_000);
    world.attest(subject, "EMPLOYEE", &soon.to_string()).await.unwrap();
    let token = world.token(subject).await;
    world.not_issuable(world.redeem(&token, &key()).await, subject, "because of: attestation").await;
    // And an attestation that ended gives none at all.
    world.clock.advance_ms(5 * 60_000);
    world.not_issuable(world.redeem(&token, &key()).await, subject, "no longer attested").await;
    world.attest(subject, "EMPLOYEE", "").await.unwrap();
    world.redeem(&token, &key()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_lives_longer_than_the_configured_life() {
    let world = World::start().await;
    let (_, subject) = employee(&world).await;
    let now_s = world.clock.now().seconds();
    for _ in 0..8 {
        let read = world.read(&world.enroll(subject).await.certificate);
        let life_s = read.not_after.seconds() - now_s;
        assert!((77_760..=86_400).contains(&life_s), "{life_s}");
        assert_eq!(read.not_before.seconds(), now_s - 60);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scenarios_36_and_37_nothing_is_issued_without_a_fresh_and_clear_screening() {
    let world = World::start().await;
    let (entity, subject) = employee(&world).await;
    let caller = world.enroll(subject).await;
    let token = world.token(subject).await;
    let result = |result| {
        let screening = Screening { list_version: "csl-2".to_owned(), list_date: world.clock.now(), result };
        Command::RecordScreening { entity, screening, reason: "an officer's name is close".to_owned() }
    };
    world.enact(result(ScreeningResult::Unresolved)).await.unwrap();
    world.not_issuable(world.redeem(&token, &key()).await, subject, "SCREENING_PENDING").await;
    denied(&world.mythos(&caller.certificate).await, "SCREENING_PENDING");
    world.enact(result(ScreeningResult::Confirmed)).await.unwrap();
    world.not_issuable(world.redeem(&token, &key()).await, subject, "PARTY_DENIED").await;
    denied(&world.mythos(&caller.certificate).await, "PARTY_DENIED");
    world.enact(result(ScreeningResult::Clear)).await.unwrap();
    assert!(world.mythos(&caller.certificate).await.permit);
    // The list is 72 hours old; the certificate of the third day is young.
    world.clock.advance_ms(71 * HOUR_MS);
    let late = world.enroll(subject).await;
    let token = world.token(subject).await;
    world.clock.advance_ms(HOUR_MS + 1_000);
    world.not_issuable(world.redeem(&token, &key()).await, subject, "SCREENING_STALE").await;
    denied(&world.mythos(&late.certificate).await, "SCREENING_STALE");
    world.screen(entity).await;
    world.redeem(&token, &key()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_gets_certificates_only_when_screened_active_and_granted() {
    let world = World::start().await;
    let entity = world.applicant().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::CitizenOrNational).await;
    let token = world.token(subject).await;
    world.not_issuable(world.redeem(&token, &key()).await, subject, "the entity is APPLICANT").await;
    world.enact(Command::ActivateEntity(entity)).await.unwrap();
    world.not_issuable(world.redeem(&token, &key()).await, subject, "SCREENING_PENDING").await;
    world.screen(entity).await;
    world.not_issuable(world.redeem(&token, &key()).await, subject, "without an active grant").await;
    let grant = world.grant(entity).await;
    world.redeem(&token, &key()).await.unwrap();
    world.enact(Command::EndGrant { entity, grant }).await.unwrap();
    let token = world.token(subject).await;
    world.not_issuable(world.redeem(&token, &key()).await, subject, "without an active grant").await;
    let removal = Command::RemoveEntity { entity, reason: REASON };
    world.enact(removal).await.unwrap();
    world.not_issuable(world.redeem(&token, &key()).await, subject, "the entity is REMOVED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_09_a_listed_member_that_is_not_activated_gets_no_certificate() {
    let world = World::start().await;
    world.partner().await;
    let member = world.applicant().await;
    world.screen(member).await;
    world.grant(member).await;
    let determination = "2026-06-26-lift".parse().unwrap();
    let add = vec![member];
    world.enact(Command::AmendAnnex { determination, revision: 2, add, remove: vec![] }).await.unwrap();
    world.clock.advance_ms(2_000);
    let subject = world.person(member, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let token = world.token(subject).await;
    // The law would exempt it: only the provisioning is missing.
    world.not_issuable(world.redeem(&token, &key()).await, subject, "the entity is APPLICANT").await;
    world.enact(Command::ActivateEntity(member)).await.unwrap();
    let certificate = world.redeem(&token, &key()).await.unwrap();
    let decision = world.mythos(&certificate).await;
    assert_eq!((decision.legal.as_str(), decision.rule.as_str()), ("EXEMPT", "L-21"));
    assert!(decision.permit, "{decision:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_issued_while_suspended_or_stopped() {
    let world = World::start().await;
    let (entity, subject) = employee(&world).await;
    let token = world.token(subject).await;
    for target in [SuspensionTarget::Entity(entity), SuspensionTarget::Subject(subject)] {
        world.restrict(Command::Suspend { target, reason: REASON }, pb::Wait::Committed).await.unwrap();
        world.not_issuable(world.redeem(&token, &key()).await, subject, "suspended").await;
        world.enact(Command::Unsuspend(target)).await.unwrap();
    }
    let state = world.running().app().state();
    let access = state.authority(countersign::domain::certificate::AuthorityKind::Access).unwrap().id;
    let scopes = [
        StopScope::All,
        StopScope::Model("mythos-5".parse().unwrap()),
        StopScope::Entity(entity),
        StopScope::Subject(subject),
        StopScope::Issuer(access),
    ];
    for scope in scopes {
        let stop = Command::Stop { scope: scope.clone(), reason: REASON };
        world.restrict(stop, pb::Wait::Committed).await.unwrap();
        world.not_issuable(world.redeem(&token, &key()).await, subject, "EMERGENCY_STOP").await;
        world.enact(Command::ReleaseStop(scope)).await.unwrap();
    }
    world.redeem(&token, &key()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_issuer_issues_nothing_and_the_service_still_starts() {
    let mut world = World::start().await;
    let (_, subject) = employee(&world).await;
    let caller = world.enroll(subject).await;
    let token = world.token(subject).await;
    let issuer = world.read(&caller.certificate).issuer;
    let revoke = Command::RevokeAuthority { authority: issuer, reason: RevocationReason::CaCompromise };
    world.enact(revoke).await.unwrap();
    denied(&world.mythos(&caller.certificate).await, "CREDENTIAL_REVOKED");
    world.not_issuable(world.redeem(&token, &key()).await, subject, "authority").await;
    world.close().await;
    world.open().await;
    denied(&world.mythos(&caller.certificate).await, "CREDENTIAL_REVOKED");
    world.not_issuable(world.redeem(&token, &key()).await, subject, "authority").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_12_a_foreign_contractor_gets_no_certificate_and_a_us_contractor_no_access() {
    let world = World::start().await;
    let entity = world.partner().await;
    let foreign = world.person(entity, "CONTRACTOR", EvidenceKind::NoUsStatus).await;
    let token = world.token(foreign).await;
    world.not_issuable(world.redeem(&token, &key()).await, foreign, "DEEMED_EXPORT_LICENSE_REQUIRED").await;
    let citizen = world.person(entity, "CONTRACTOR", EvidenceKind::CitizenOrNational).await;
    let caller = world.enroll(citizen).await;
    let decision = world.mythos(&caller.certificate).await;
    denied(&decision, "P-NOT_EMPLOYEE");
    assert_eq!(decision.legal, "NLR_DOMESTIC");
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_13_the_foreign_employee_of_an_unlisted_subsidiary_gets_no_certificate() {
    let world = World::start().await;
    world.partner().await;
    let subsidiary = world.applicant().await;
    world.screen(subsidiary).await;
    world.enact(Command::ActivateEntity(subsidiary)).await.unwrap();
    world.grant(subsidiary).await;
    let subject = world.person(subsidiary, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let token = world.token(subject).await;
    world.not_issuable(world.redeem(&token, &key()).await, subject, "LICENSE_REQUIRED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_approved_subject_gets_a_token() {
    let world = World::start().await;
    let (_, subject) = employee(&world).await;
    let token = world.token(subject).await;
    let decision = countersign::domain::command::SubjectDecision::Refuse;
    world.enact(Command::DecideSubject { subject, decision }).await.unwrap();
    world.not_issuable(world.redeem(&token, &key()).await, subject, "REFUSED").await;
    let request = pb::CreateTokenRequest { subject_id: subject.to_string(), ..Default::default() };
    let mut client = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    refused(client.create_token(request).await, Code::FailedPrecondition, "REFUSED");
    // An officer may not state what the evidence does not support.
    let vetting = Some(Vetting {
        status: countersign::domain::person::PersonStatus::UsPerson,
        evidence: EvidenceKind::NoUsStatus,
        verified_on: world.clock.now().day(),
        assurance: countersign::domain::person::Assurance::Ial2,
    });
    let decision = countersign::domain::command::SubjectDecision::Approve { vetting, reverify_due: None };
    let answer = world.enact(Command::DecideSubject { subject, decision }).await;
    refused(answer, Code::InvalidArgument, "supports FOREIGN_PERSON");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_is_not_told_why_its_people_get_no_certificate() {
    let world = World::start().await;
    let (entity, subject) = employee(&world).await;
    let roles = [countersign::domain::principal::Role::PartnerAdmin];
    let kind = countersign::domain::certificate::PrincipalKind::Partner;
    let partner = world.connect_as(&world.principal("partner-1", (kind, &roles), Some(entity)).await).await;
    assert_eq!(world.issuance_refusal(&world.alice(), subject).await, "");
    let target = SuspensionTarget::Subject(subject);
    world.restrict(Command::Suspend { target, reason: REASON }, pb::Wait::Committed).await.unwrap();
    let token = world.token(subject).await;
    world.not_issuable(world.redeem(&token, &key()).await, subject, "suspended").await;
    assert_eq!(world.issuance_refusal(&partner, subject).await, "");
}
