//! Every cell: each kind of caller at each method of the table, with the exact answer. What a caller without the right hears
//! follows from its kind; what the others hear to an empty message is in `ANSWERS`, so a new method is not tested until somebody
//! has written down what it says.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign::domain::certificate::{Facts, PrincipalKind};
use countersign::domain::command::Command;
use countersign::domain::id::EntityId;
use countersign::domain::officer_command::OfficerCommand;
use countersign::domain::person::EvidenceKind;
use countersign::domain::principal::Role;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::env::Clock as _;
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::pb::revocation_service_client::RevocationServiceClient;
use countersign::rpc::methods::{Access, METHODS};
use countersign::wire::REQUEST_ID;
use countersign::x509::ClientKey;
use rustls::AlertDescription;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::calls::{enrolled, key, reason};
use crate::forge::{Forgery, by_other_authority, seconds};
use crate::gate::{self, STRONG};
use crate::world::{Caller, World, tls_stream};

/// An answer on loopback takes milliseconds; the rest is for a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const REASON: RevocationReason = RevocationReason::KeyCompromise;
const WATCHED: &str = "/countersign.v1.RevocationService/WatchEnforcement";
const REQUEST: &str = "req_01KW4F6WG0GYFRG660A2NWY2P0";

/// What who may call a method hears to an empty message, and to [`WATCHED`] of a restriction that is being enforced.
const ANSWERS: &[(&str, Code)] = &[
    ("/countersign.v1.AttestationService/Enroll", Code::NotFound),
    ("/countersign.v1.AttestationService/Renew", Code::InvalidArgument),
    ("/countersign.v1.AttestationService/GetRenewal", Code::Ok),
    ("/countersign.v1.AttestationService/IssuePrincipalCertificate", Code::InvalidArgument),
    ("/countersign.v1.AttestationService/RenewPrincipalCertificate", Code::InvalidArgument),
    ("/countersign.v1.AttestationService/IssueCanaries", Code::InvalidArgument),
    ("/countersign.v1.AttestationService/Evaluate", Code::Ok),
    ("/countersign.v1.AttestationService/Verify", Code::Ok),
    ("/countersign.v1.AttestationService/ListCertificates", Code::InvalidArgument),
    ("/countersign.v1.AttestationService/GetTrustBundle", Code::Ok),
    ("/countersign.v1.EnforcementService/Subscribe", Code::InvalidArgument),
    ("/countersign.v1.EnforcementService/ReportDecisions", Code::InvalidArgument),
    ("/countersign.v1.EnforcementService/ReportRestrictions", Code::FailedPrecondition),
    ("/countersign.v1.EnforcementService/ListGateways", Code::Ok),
    ("/countersign.v1.EnforcementService/GetGateway", Code::InvalidArgument),
    ("/countersign.v1.EnforcementService/WatchGateways", Code::Ok),
    ("/countersign.v1.RevocationService/Revoke", Code::InvalidArgument),
    ("/countersign.v1.RevocationService/Suspend", Code::InvalidArgument),
    ("/countersign.v1.RevocationService/Stop", Code::InvalidArgument),
    ("/countersign.v1.RevocationService/Drill", Code::InvalidArgument),
    ("/countersign.v1.RevocationService/ListDrills", Code::Ok),
    ("/countersign.v1.RevocationService/WatchEnforcement", Code::Ok),
    ("/countersign.v1.RevocationService/WatchRenewals", Code::Ok),
    ("/countersign.v1.RevocationService/ListRestrictions", Code::Ok),
    ("/countersign.v1.MandateService/PrepareMandate", Code::InvalidArgument),
    ("/countersign.v1.MandateService/PrepareRulings", Code::InvalidArgument),
    ("/countersign.v1.MandateService/SubmitMandate", Code::InvalidArgument),
    ("/countersign.v1.MandateService/ApproveProposal", Code::InvalidArgument),
    ("/countersign.v1.MandateService/RejectProposal", Code::InvalidArgument),
    ("/countersign.v1.MandateService/GetProposal", Code::InvalidArgument),
    ("/countersign.v1.MandateService/ListProposals", Code::Ok),
    ("/countersign.v1.MandateService/WatchApprovals", Code::Ok),
    ("/countersign.v1.MandateService/SubmitRecovery", Code::FailedPrecondition),
    ("/countersign.v1.ProvisioningService/ApplyEntity", Code::InvalidArgument),
    ("/countersign.v1.ProvisioningService/GetEntity", Code::InvalidArgument),
    ("/countersign.v1.ProvisioningService/ListEntities", Code::Ok),
    ("/countersign.v1.ProvisioningService/NominateSubject", Code::InvalidArgument),
    ("/countersign.v1.ProvisioningService/ImportPeople", Code::Ok),
    ("/countersign.v1.ProvisioningService/AttestRelation", Code::InvalidArgument),
    ("/countersign.v1.ProvisioningService/GetSubject", Code::InvalidArgument),
    ("/countersign.v1.ProvisioningService/ListSubjects", Code::InvalidArgument),
    ("/countersign.v1.ProvisioningService/CreateToken", Code::InvalidArgument),
    ("/countersign.v1.ProvisioningService/GetRestoration", Code::NotFound),
    ("/countersign.v1.ProvisioningService/ListDue", Code::Ok),
    ("/countersign.v1.ProvisioningService/CreateTokens", Code::Ok),
    ("/countersign.v1.ScreeningService/UploadList", Code::InvalidArgument),
    ("/countersign.v1.ScreeningService/GetScreening", Code::Ok),
    ("/countersign.v1.ScreeningService/ListMatches", Code::Ok),
    ("/countersign.v1.AuthorityService/PrepareAuthority", Code::InvalidArgument),
    ("/countersign.v1.AuthorityService/ListAuthorities", Code::Ok),
    ("/countersign.v1.AuthorityService/GetAuthority", Code::InvalidArgument),
    ("/countersign.v1.AuthorityService/WatchAuthorities", Code::Ok),
    ("/countersign.v1.DeterminationService/GetPolicy", Code::Ok),
    ("/countersign.v1.DeterminationService/ListDeterminations", Code::Ok),
    ("/countersign.v1.DeterminationService/Simulate", Code::InvalidArgument),
    ("/countersign.v1.AuditService/GetHead", Code::Ok),
    ("/countersign.v1.AuditService/GetRestore", Code::Ok),
    ("/countersign.v1.AuditService/ListRecords", Code::Ok),
    ("/countersign.v1.AuditService/ListCalls", Code::Ok),
    ("/countersign.v1.AuditService/ListDecisions", Code::Ok),
    ("/countersign.v1.AuditService/ReplayDecision", Code::InvalidArgument),
    ("/countersign.v1.AuditService/ExplainAccess", Code::InvalidArgument),
    ("/countersign.v1.AuditService/ListExposure", Code::Ok),
    ("/countersign.v1.AuditService/ListSignals", Code::Ok),
    ("/countersign.v1.AuditService/ListRecordHolds", Code::Ok),
    ("/envoy.service.auth.v3.Authorization/Check", Code::Ok),
    ("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets", Code::Ok),
    ("/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets", Code::Ok),
    ("/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets", Code::NotFound),
    ("/grpc.health.v1.Health/Check", Code::Ok),
    ("/grpc.health.v1.Health/Watch", Code::Ok),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Code::InvalidArgument),
];

/// As what the table sees a caller.
#[derive(Debug, Clone, PartialEq)]
enum As {
    Anonymous,
    Subject,
    Roles(Vec<Role>),
    /// A certificate that chains and is good for nothing.
    Nobody,
    /// An officer or a gateway whose certificate ended a while ago.
    Expired,
    /// The listener ends the handshake, with this alert.
    Alert(AlertDescription),
}

/// Who calls, over which connection.
struct Row {
    name: String,
    channel: Channel,
    who: As,
}

/// What a cell must say.
#[derive(Debug, PartialEq)]
enum Cell {
    Answered(Code),
    Refused(Code, &'static str),
    NoConnection,
}

fn expected(row: &Row, access: Access, path: &str) -> Cell {
    let answered = || {
        let answer = ANSWERS.iter().find(|(method, _)| *method == path);
        Cell::Answered(answer.map(|(_, code)| *code).expect(path))
    };
    let unauthenticated = |reason| Cell::Refused(Code::Unauthenticated, reason);
    match (access, &row.who) {
        (_, As::Alert(_)) => Cell::NoConnection,
        (_, As::Nobody) => unauthenticated("UNAUTHENTICATED"),
        (Access::Anyone, _)
        | (Access::Subject, As::Subject)
        | (Access::Renewal, As::Roles(_) | As::Expired) => answered(),
        (Access::Roles(roles), As::Roles(own)) if own.iter().any(|role| roles.contains(role)) => answered(),
        (_, As::Expired) => unauthenticated("CREDENTIAL_EXPIRED"),
        (_, As::Anonymous) => unauthenticated("UNAUTHENTICATED"),
        (Access::Subject | Access::Roles(_) | Access::Renewal, As::Subject | As::Roles(_)) => {
            Cell::Refused(Code::PermissionDenied, "DENIED")
        }
    }
}

/// The message of a method: empty, but for the watch of a restriction, which names it.
fn message(path: &str) -> pb::WatchEnforcementRequest {
    let request_id = if path == WATCHED { REQUEST.to_owned() } else { String::new() };
    pb::WatchEnforcementRequest { request_id }
}

/// Calls once and reads the first message of the answer. An error: what was said, and whether the service said it, which gives
/// every answer the name of its call.
async fn call(channel: &Channel, path: &'static str) -> Result<(), (Status, bool)> {
    let by_service = |status: Status| {
        let is_named = status.metadata().contains_key(REQUEST_ID);
        (status, is_named)
    };
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| (Status::unknown(error.to_string()), false))?;
    let request = tonic::Request::new(tokio_stream::once(message(path)));
    let codec = tonic_prost::ProstCodec::<_, pb::WatchEnforcementResponse>::default();
    if path != WATCHED {
        let codec = tonic_prost::ProstCodec::<_, ()>::default();
        let answer = client.streaming(request, PathAndQuery::from_static(path), codec).await;
        let mut answer = answer.map_err(by_service)?.into_inner();
        return answer.message().await.map(drop).map_err(|status| (status, true));
    }
    let answer = client.streaming(request, PathAndQuery::from_static(path), codec).await;
    let mut answer = answer.map_err(by_service)?.into_inner();
    let shown = answer.message().await.map_err(|status| (status, true))?.expect("it is running");
    let standing = shown.enforcement.unwrap();
    let waited = (standing.status(), standing.pending);
    assert_eq!(waited, (pb::EnforcementStatus::Partial, vec!["gw-lost".to_owned()]));
    Ok(())
}

/// What a call came to, and what was said.
async fn cell(row: &Row, access: Access, path: &'static str) -> (Cell, String) {
    let answer = timeout(LIMIT, call(&row.channel, path)).await.expect("an answer within the limit");
    let Err((status, is_by_service)) = answer else { return (Cell::Answered(Code::Ok), String::new()) };
    let cell = match (is_by_service, expected(row, access, path), reason(&status).as_str()) {
        (false, ..) => Cell::NoConnection,
        (true, Cell::Refused(_, reason), told) if told == reason => Cell::Refused(status.code(), reason),
        (true, ..) => Cell::Answered(status.code()),
    };
    (cell, format!("{:?}: {}", status.code(), status.message()))
}

/// The alert that a caller gets for its certificate.
async fn alert(world: &World, caller: &Caller) -> Option<AlertDescription> {
    let config = world.tls(Some((&caller.key, &caller.certificate)));
    let heard = async {
        // In TLS 1.3 the client is done before the server has seen its certificate.
        let mut stream = tls_stream(config, world.running().address()).await?;
        stream.read(&mut [0; 64]).await.map(drop)
    };
    let error = timeout(LIMIT, heard).await.expect("an alert within the limit").err()?;
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

struct Table<'a> {
    world: &'a World,
    rows: Vec<Row>,
}

impl Table<'_> {
    async fn add(&mut self, name: &str, caller: &Caller, who: As) {
        let channel = self.world.connect_as(caller).await;
        if let As::Alert(expected) = &who {
            assert_eq!(alert(self.world, caller).await.as_ref(), Some(expected), "{name}");
        }
        self.rows.push(Row { name: name.to_owned(), channel, who });
    }

    /// The roles of a caller as it should be.
    async fn good(&mut self, entity: EntityId) {
        let anonymous = self.world.connect(None).await;
        self.rows.push(Row { name: "anonymous".to_owned(), channel: anonymous, who: As::Anonymous });
        let subject = self.person(entity).await;
        self.add("subject", &subject, As::Subject).await;
        let gateway = self.world.gateway("gw-1").await;
        self.add("gateway", &gateway, As::Roles(vec![Role::Gateway])).await;
        for role in PrincipalKind::Officer.roles() {
            let name = format!("officer-{}", role.as_str().to_lowercase().replace('_', "-"));
            let officer = self.world.principal(&name, (PrincipalKind::Officer, &[*role]), None).await;
            self.add(&name, &officer, As::Roles(vec![*role])).await;
        }
        let roles = [Role::PartnerAdmin];
        let partner = self.world.principal("partner-1", (PrincipalKind::Partner, &roles), Some(entity)).await;
        self.add("partner", &partner, As::Roles(roles.to_vec())).await;
        let who = As::Roles(PrincipalKind::Officer.roles().to_vec());
        self.rows.push(Row { name: "alice".to_owned(), channel: self.world.alice(), who });
        // What each authority issued, as the other one would have issued it.
        let forged = by_other_authority(self.world, &gateway.certificate, &subject.certificate);
        self.add(
            "gateway, by the access authority",
            &Caller { certificate: forged, ..copy_of(&gateway) },
            As::Nobody,
        )
        .await;
        let forged = by_other_authority(self.world, &subject.certificate, &gateway.certificate);
        self.add(
            "subject, by the system authority",
            &Caller { certificate: forged, ..copy_of(&subject) },
            As::Nobody,
        )
        .await;
        // The name of a principal with a key that is not registered for it.
        let other = key();
        let certificate = Forgery::of(self.world, &gateway.certificate).sign(self.world, &other);
        self.add("other key", &Caller { key: other, certificate }, As::Nobody).await;
        let keys = [key(), key()];
        let [csr_a, csr_b] = keys.each_ref().map(|key| key.request().unwrap().into());
        let mut client = AttestationServiceClient::new(self.world.connect_as(&gateway).await);
        let canaries =
            client.issue_canaries(pb::IssueCanariesRequest { csr_a, csr_b }).await.unwrap().into_inner();
        let [key, _] = keys;
        self.add("canary", &Caller { key, certificate: canaries.certificate_a.to_vec() }, As::Nobody).await;
    }

    async fn person(&self, entity: EntityId) -> Caller {
        self.world.enroll(self.world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await
    }

    /// Those who lost what they had, on a connection that was open before and on a new one.
    async fn stopped(&mut self, entity: EntityId) {
        for (name, kind) in [
            ("removed", PrincipalKind::Officer),
            ("suspended", PrincipalKind::Officer),
            ("blocked", PrincipalKind::Officer),
            ("gw-removed", PrincipalKind::Gateway),
            ("gw-suspended", PrincipalKind::Gateway),
            ("gw-blocked", PrincipalKind::Gateway),
            ("partner-removed", PrincipalKind::Partner),
            ("partner-suspended", PrincipalKind::Partner),
            ("partner-blocked", PrincipalKind::Partner),
        ] {
            let entity = (kind == PrincipalKind::Partner).then_some(entity);
            let caller = self.world.principal(name, (kind, kind.roles()), entity).await;
            self.lose(name, &caller).await;
        }
        for name in ["subject revoked", "subject held", "subject blocked"] {
            let caller = self.person(entity).await;
            self.lose(name, &caller).await;
        }
    }

    async fn lose(&mut self, name: &str, caller: &Caller) {
        let open = self.world.connect_as(caller).await;
        // It may call at first, so the connection stands.
        let verify =
            AttestationServiceClient::new(open.clone()).get_renewal(pb::GetRenewalRequest::default()).await;
        assert_ne!(verify.map(drop).map_err(|status| status.code()), Err(Code::Unauthenticated), "{name}");
        let certificate = self.world.read(&caller.certificate);
        let command = match name.rsplit(['-', ' ']).next().unwrap() {
            "removed" => Command::RemovePrincipal(name.parse().unwrap()),
            "suspended" => Command::Officers(OfficerCommand::Suspend {
                principal: name.parse().unwrap(),
                reason: REASON,
            }),
            "blocked" => Command::BlockKey { key: caller.key.public_key().digest(), reason: REASON },
            "held" => Command::Hold { ordinal: certificate.ordinal, reason: REASON },
            _ => Command::Revoke { scope: RevocationScope::Certificate(certificate.ordinal), reason: REASON },
        };
        self.world.enact(command).await.unwrap();
        self.rows.push(Row { name: format!("{name}, still connected"), channel: open, who: As::Nobody });
        self.add(name, caller, As::Nobody).await;
    }

    /// Certificates that ended an hour ago; the keys are the registered ones.
    async fn ended(&mut self, entity: EntityId) {
        let world = self.world;
        let officer =
            world.principal("erin", (PrincipalKind::Officer, PrincipalKind::Officer.roles()), None).await;
        let gateway = world.gateway("gw-ended").await;
        let roles = (PrincipalKind::Partner, PrincipalKind::Partner.roles());
        let partner = world.principal("partner-ended", roles, Some(entity)).await;
        let subject = self.person(entity).await;
        world.clock.advance_ms(3 * 3_600_000);
        let over = As::Alert(AlertDescription::CertificateExpired);
        for (name, caller, who) in [
            ("officer, expired", officer, As::Expired),
            ("gateway, expired", gateway, As::Expired),
            ("partner, expired", partner, over.clone()),
            ("subject, expired", subject, over),
        ] {
            let mut ended = Forgery::of(world, &caller.certificate);
            (ended.not_before, ended.not_after) = (seconds(world, -7_200), seconds(world, -3_600));
            let certificate = ended.sign(world, &caller.key);
            self.add(name, &Caller { certificate, key: caller.key }, who).await;
        }
    }

    /// The same names under the same trust domain, certified by the authorities of another deployment.
    async fn of_another_deployment(&mut self) {
        let other = World::start().await;
        let roles = PrincipalKind::Officer.roles();
        let gateway = other.gateway("gw-1").await;
        let officer = other.principal("officer-approver", (PrincipalKind::Officer, roles), None).await;
        let (_, _, subject) = enrolled(&other).await;
        let unknown = || As::Alert(AlertDescription::UnknownCA);
        for (name, caller) in [("gateway", gateway), ("officer", officer), ("subject", subject)] {
            self.add(&format!("{name} of another deployment"), &caller, unknown()).await;
        }
    }

    /// The certificate of the service itself, which is for servers.
    async fn server(&mut self) {
        let roles = (PrincipalKind::Gateway, PrincipalKind::Gateway.roles());
        let caller = self.world.principal("gw-server", roles, None).await;
        let mut forged = Forgery::of(self.world, &caller.certificate);
        let Facts::System(facts) = &mut forged.facts else { panic!("a gateway's") };
        facts.kind = PrincipalKind::Server;
        let certificate = forged.sign(self.world, &caller.key);
        let who = As::Alert(AlertDescription::UnsupportedCertificate);
        self.add("server", &Caller { certificate, ..caller }, who).await;
    }
}

/// The key of a caller again, for another certificate.
fn copy_of(caller: &Caller) -> Caller {
    let key = ClientKey::from_pkcs8(&caller.key.to_pkcs8()).unwrap();
    Caller { key, certificate: caller.certificate.clone() }
}

/// A restriction for which a gateway is waited that has a lease and will not answer; the clock stands.
async fn restricted(world: &World, leaf: &[u8]) {
    let lost = world.gateway("gw-lost").await;
    drop(gate::connect(world, (&lost, world.running().address()), STRONG, &world.clock).await);
    world.row("gw-lost", |row| !row.connected).await;
    let mandate = world.mandate(&gate::revoke(world, leaf)).await.unwrap();
    let approvals = vec![world.alice.approve(&mandate)];
    let request = pb::RevokeRequest {
        mandate: Some(pb::SignedMandate { mandate: mandate.into(), approvals }),
        wait: pb::Wait::Committed.into(),
        request_id: REQUEST.to_owned(),
        ..Default::default()
    };
    RevocationServiceClient::new(world.alice()).revoke(request).await.unwrap();
}

#[test]
fn every_method_has_its_answer_and_every_answer_is_of_a_method() {
    let rows: BTreeSet<_> = METHODS.iter().map(|method| method.path).collect();
    let answers: BTreeSet<_> = ANSWERS.iter().map(|(path, _)| *path).collect();
    let differ: Vec<_> = rows.symmetric_difference(&answers).collect();
    assert!(differ.is_empty(), "a method without an answer here, or an answer of nothing: {differ:?}");
    assert_eq!(answers.len(), ANSWERS.len(), "a method has two answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_reaches_exactly_the_methods_of_its_row() {
    let world = World::start().await;
    let entity = world.partner().await;
    let mut table = Table { world: &world, rows: Vec::new() };
    table.ended(entity).await;
    table.good(entity).await;
    table.stopped(entity).await;
    table.of_another_deployment().await;
    table.server().await;
    let revoked = table.person(entity).await;
    let began = world.clock.now();
    restricted(&world, &revoked.certificate).await;
    let mut differ = Vec::new();
    for row in &table.rows {
        for method in METHODS {
            let (expected, (cell, said)) =
                (expected(row, method.access, method.path), cell(row, method.access, method.path).await);
            if cell != expected {
                differ
                    .push(format!("{} calls {}: {cell:?}, not {expected:?}: {said}", row.name, method.path));
            }
        }
    }
    assert_eq!(world.clock.now(), began, "the restriction ran all the while");
    assert!(differ.is_empty(), "{} cells differ:\n{}", differ.len(), differ.join("\n"));
}
