//! What tests ask a [`World`](crate::world::World) over the wire, beside the path that every test walks.

use std::io::Write as _;
use std::process::{Command as Process, Stdio};

use countersign::domain::certificate::{AccessFacts, Certificate, Facts, PrincipalKind};
use countersign::domain::command::{Command, NewPrincipal};
use countersign::domain::id::{EntityId, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::principal::Role;
use countersign::env::Clock as _;
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::pb::provisioning_service_client::ProvisioningServiceClient;
use countersign::x509::{ClientKey, Curve};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::{Caller, World};

/// A new key of the default curve.
pub(crate) fn key() -> ClientKey {
    ClientKey::generate(Curve::P256).unwrap()
}

/// The application of an entity.
pub(crate) fn apply(name: &str) -> pb::ApplyEntityRequest {
    pb::ApplyEntityRequest {
        name: name.to_owned(),
        kind: "COMPANY".to_owned(),
        organisation: "US".to_owned(),
        ..Default::default()
    }
}

/// A listed partner's foreign employee with a certificate.
pub(crate) async fn enrolled(world: &World) -> (EntityId, SubjectId, Caller) {
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let caller = world.enroll(subject).await;
    (entity, subject, caller)
}

/// The stable reason of an error.
pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Asserts the code of an error and what its text says.
#[track_caller]
pub(crate) fn refused<T>(answer: Result<T, Status>, code: Code, says: &str) {
    let Err(status) = answer else { panic!("it was done, but {says:?} was expected") };
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(says), "{:?} does not say {says:?}", status.message());
}

/// Asserts that an access is denied with this code first.
#[track_caller]
pub(crate) fn denied(decision: &pb::Decision, code: &str) {
    assert!(!decision.permit, "{decision:?}");
    assert_eq!(decision.code, code, "{decision:?}");
}

/// The question that most tests ask: this model, from within the United States.
pub(crate) fn question(certificate: &[u8], model: &str) -> pb::EvaluateRequest {
    pb::EvaluateRequest {
        certificate: certificate.to_vec().into(),
        model: model.to_owned(),
        place: "US".to_owned(),
        serving_region: "US".to_owned(),
        ..Default::default()
    }
}

/// Runs openssl; its exit and both of its outputs.
pub(crate) fn openssl(arguments: &[&str], input: &[u8]) -> (bool, Vec<u8>, String) {
    let mut child = Process::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is needed: run the tests with tests/run");
    // It may end without reading its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    (output.status.success(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

impl World {
    /// Redeems a token with this request, without a client certificate.
    pub(crate) async fn enroll_csr(&self, token: &str, csr: Vec<u8>) -> Result<pb::EnrollResponse, Status> {
        let mut client = AttestationServiceClient::new(self.connect(None).await);
        let request = pb::EnrollRequest { token: token.to_owned(), csr: csr.into() };
        Ok(client.enroll(request).await?.into_inner())
    }

    /// A connection with a caller's certificate.
    pub(crate) async fn connect_as(&self, caller: &Caller) -> Channel {
        self.connect(Some((&caller.key, &caller.certificate))).await
    }

    /// Renews over this connection with this key.
    pub(crate) async fn renew(&self, channel: &Channel, key: &ClientKey) -> Result<Vec<u8>, Status> {
        let request = pb::RenewRequest { csr: key.request().unwrap().into() };
        let renewed = AttestationServiceClient::new(channel.clone()).renew(request).await?;
        Ok(renewed.into_inner().certificate.to_vec())
    }

    /// Asserts that the record gives a subject no certificate: who asks for one is not told why, an officer is.
    pub(crate) async fn not_issuable<T>(&self, answer: Result<T, Status>, subject: SubjectId, why: &str) {
        let Err(status) = answer else { panic!("it was issued, but {why:?} was expected") };
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (status.code(), info.reason.as_str()),
            (Code::PermissionDenied, "NOT_ISSUABLE"),
            "{status:?}"
        );
        assert_eq!(info.metadata.len(), 1, "{info:?}");
        let reference = &info.metadata["reference"];
        assert!(reference.starts_with("req_"), "{reference}");
        let told = "no certificate can be issued to this subject now; the provider's officers can see why \
                    (reference REFERENCE)";
        assert_eq!(status.message().replace(reference, "REFERENCE"), told);
        let refusal = self.issuance_refusal(&self.alice(), subject).await;
        assert!(refusal.contains(why), "{refusal:?} does not say {why:?}");
    }

    /// Why a subject gets no certificate, as far as this caller may know; empty: nothing is known against it.
    pub(crate) async fn issuance_refusal(&self, channel: &Channel, subject: SubjectId) -> String {
        let mut client = ProvisioningServiceClient::new(channel.clone());
        let request = pb::GetSubjectRequest { subject_id: subject.to_string() };
        client.get_subject(request).await.unwrap().into_inner().subject.unwrap().issuance_refusal
    }

    /// What the service reads in a certificate.
    pub(crate) fn read(&self, certificate: &[u8]) -> std::sync::Arc<Certificate> {
        self.running().app().read_certificate(certificate).unwrap()
    }

    /// The facts of a person's or workload's certificate.
    pub(crate) fn facts(&self, certificate: &[u8]) -> AccessFacts {
        match &self.read(certificate).facts {
            Facts::Access(facts) => facts.clone(),
            Facts::Canary(facts) => panic!("not an access certificate: {facts:?}"),
            Facts::System(facts) => panic!("not an access certificate: {facts:?}"),
        }
    }

    /// A decision of the server.
    pub(crate) async fn ask(&self, channel: &Channel, request: pb::EvaluateRequest) -> pb::Decision {
        let mut client = AttestationServiceClient::new(channel.clone());
        client.evaluate(request).await.unwrap().into_inner().decision.unwrap()
    }

    /// A decision, as Alice asks for it.
    pub(crate) async fn ask_alice(&self, request: pb::EvaluateRequest) -> pb::Decision {
        self.ask(&self.alice(), request).await
    }

    /// A decision for Mythos, as Alice asks for it.
    pub(crate) async fn mythos(&self, certificate: &[u8]) -> pb::Decision {
        self.ask_alice(question(certificate, "mythos-5")).await
    }

    /// What Verify says of a certificate.
    pub(crate) async fn verify(&self, certificate: &[u8]) -> pb::VerifyResponse {
        let mut client = AttestationServiceClient::new(self.alice());
        let request = pb::VerifyRequest { certificate: certificate.to_vec().into(), min_position: None };
        client.verify(request).await.unwrap().into_inner()
    }

    /// Registers a principal with a new key and gives it its certificate.
    pub(crate) async fn principal(
        &self,
        name: &str,
        (kind, roles): (PrincipalKind, &[Role]),
        entity: Option<EntityId>,
    ) -> Caller {
        let key = key();
        let principal = NewPrincipal {
            id: name.parse().unwrap(),
            kind,
            roles: roles.to_vec(),
            entity,
            key: key.public_key().spki().to_vec(),
            is_pausable: false,
        };
        self.enact(Command::RegisterPrincipal(principal)).await.unwrap();
        let mut client = AttestationServiceClient::new(self.alice());
        let csr = key.request().unwrap().into();
        let request = pb::IssuePrincipalCertificateRequest { principal: name.to_owned(), csr };
        let certificate = client.issue_principal_certificate(request).await.unwrap().into_inner().certificate;
        Caller { key, certificate: certificate.to_vec() }
    }

    /// Takes ordinals of the access authority up to this one, which is the next: by enrollments that fail because their
    /// certificates would be too short, each of which takes one.
    pub(crate) async fn take_ordinals(&self, entity: EntityId, next: u64) {
        let subject = self.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let until = self.clock.now().plus_ms(299_000);
        self.attest(subject, "EMPLOYEE", &until.to_string()).await.unwrap();
        let token = self.token(subject).await;
        let csr = key().request().unwrap();
        let app = self.running().app();
        for _ in app.state().last_ordinal.0 + 1..next {
            let refused = app.enroll(&token, &csr).await.unwrap_err();
            assert_eq!(refused.code(), "NOT_ISSUABLE", "{refused}");
        }
    }

    /// Attests a relation anew, until then or without an end.
    pub(crate) async fn attest(&self, subject: SubjectId, relation: &str, until: &str) -> Result<(), Status> {
        let request = pb::AttestRelationRequest {
            subject_id: subject.to_string(),
            relation: relation.to_owned(),
            relation_until: until.to_owned(),
            ..Default::default()
        };
        ProvisioningServiceClient::new(self.alice()).attest_relation(request).await.map(drop)
    }
}
