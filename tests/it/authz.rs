//! Who may call what: the table against everything that is served. Every caller at every method is in `cells`.

use countersign::domain::certificate::PrincipalKind;
use countersign::domain::principal::Role;
use countersign::pb;
use countersign::pb::provisioning_service_client::ProvisioningServiceClient;
use countersign::rpc::methods::{Access, METHODS};
use prost::Message as _;
use std::collections::BTreeSet;
use std::time::Duration;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Status};

use countersign::domain::person::EvidenceKind;

use crate::calls::{reason, refused};
use crate::world::World;

/// An answer on loopback takes milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Sends one empty message and reads the first message of the answer.
async fn call(channel: &Channel, path: &'static str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let request = tonic::Request::new(tokio_stream::once(()));
    let answer = async {
        let answer = client.streaming(request, PathAndQuery::from_static(path), codec).await?;
        answer.into_inner().message().await.map(drop)
    };
    tokio::time::timeout(ANSWER_LIMIT, answer).await.expect("an answer within the limit")
}

/// Did the gatekeeper let the call through? What the method makes of an empty message is not looked at.
fn admitted(answer: &Result<(), Status>) -> bool {
    match answer {
        Ok(()) => true,
        Err(status) => !matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied),
    }
}

#[test]
fn every_served_method_has_a_row_and_every_row_is_served() {
    let sets = [countersign::pb::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let mut served = BTreeSet::new();
    for set in sets {
        let set = prost_types::FileDescriptorSet::decode(set).unwrap();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    served.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
    }
    // Not in a descriptor set of ours: Envoy's own, and reflection.
    served.insert("/envoy.service.auth.v3.Authorization/Check".to_owned());
    for name in ["StreamSecrets", "DeltaSecrets", "FetchSecrets"] {
        served.insert(format!("/envoy.service.secret.v3.SecretDiscoveryService/{name}"));
    }
    served.insert("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned());
    let rows: BTreeSet<_> = METHODS.iter().map(|method| method.path.to_owned()).collect();
    let differ: Vec<_> = rows.symmetric_difference(&served).collect();
    assert!(differ.is_empty(), "served without a row, or a row of nothing: {differ:?}");
    assert_eq!(rows.len(), METHODS.len(), "a method has two rows");
}

#[test]
fn only_enrollment_recovery_and_health_answer_a_stranger() {
    let open: Vec<_> = METHODS.iter().filter(|m| m.access == Access::Anyone).map(|m| m.path).collect();
    let health = ["Check", "Watch"].map(|name| format!("/grpc.health.v1.Health/{name}"));
    let enroll = "/countersign.v1.AttestationService/Enroll".to_owned();
    let recovery = "/countersign.v1.MandateService/SubmitRecovery".to_owned();
    let expected: Vec<_> = [enroll, recovery].into_iter().chain(health).collect();
    assert_eq!(open, expected);
    let own: Vec<_> = METHODS.iter().filter(|m| m.access == Access::Subject).map(|m| m.path).collect();
    assert_eq!(own, ["Renew", "GetRenewal"].map(|name| format!("/countersign.v1.AttestationService/{name}")));
    for method in METHODS {
        if let Access::Roles(roles) = method.access {
            let reads = ["Get", "List", "Verify", "ServerReflection"];
            let changes = !reads.iter().any(|word| method.path.contains(word));
            assert!(!(changes && roles.contains(&Role::Auditor) && roles.len() == 1), "{}", method.path);
            let shown = ["/WatchRenewals", "/ExplainAccess"].iter().any(|name| method.path.ends_with(name));
            let own = method.path.contains("Provisioning") || shown;
            let of_partner = own || roles == Role::ALL;
            assert!(of_partner || !roles.contains(&Role::PartnerAdmin), "{}", method.path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_without_a_row_is_refused_to_everybody() {
    let world = World::start().await;
    for channel in [world.alice(), world.connect(None).await] {
        for path in [
            "/countersign.v1.AttestationService/Nothing",
            "/countersign.v1.AttestationService/enroll",
            "/countersign.v1.AttestationService/Enroll/",
            "//countersign.v1.AttestationService/Enroll",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            "/",
        ] {
            refused(call(&channel, path).await, Code::PermissionDenied, "no such method");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_42_a_partner_sees_its_own_entity_and_cannot_tell_others_from_none() {
    let world = World::start().await;
    let (own, other) = (world.partner().await, world.partner().await);
    let roles = [Role::PartnerAdmin];
    let admin = world.principal("partner-1", (PrincipalKind::Partner, &roles), Some(own)).await;
    let mine = world.person(own, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let theirs = world.person(other, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let channel = world.connect_as(&admin).await;
    let mut client = ProvisioningServiceClient::new(channel);

    let get = |id: String| pb::GetEntityRequest { entity_id: id };
    let entity = client.get_entity(get(own.to_string())).await.unwrap().into_inner().entity.unwrap();
    assert_eq!(entity.entity_id, own.to_string());
    let listed = client.list_entities(pb::ListEntitiesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.entities.len(), 1);
    let get_subject = |id: String| pb::GetSubjectRequest { subject_id: id };
    client.get_subject(get_subject(mine.to_string())).await.unwrap();

    let (no_entity, no_subject) = ("ent_01ARZ3NDEKTSV4RRFFQ69G5FAV", "sub_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    let same = |a: Status, b: Status| {
        assert_eq!(a.code(), Code::NotFound);
        assert_eq!((a.code(), a.message(), a.details()), (b.code(), b.message(), b.details()));
    };
    same(
        client.get_entity(get(other.to_string())).await.unwrap_err(),
        client.get_entity(get(no_entity.to_owned())).await.unwrap_err(),
    );
    same(
        client.get_subject(get_subject(theirs.to_string())).await.unwrap_err(),
        client.get_subject(get_subject(no_subject.to_owned())).await.unwrap_err(),
    );
    let attest = |id: String| pb::AttestRelationRequest {
        subject_id: id,
        relation: "EMPLOYEE".to_owned(),
        ..Default::default()
    };
    same(
        client.attest_relation(attest(theirs.to_string())).await.unwrap_err(),
        client.attest_relation(attest(no_subject.to_owned())).await.unwrap_err(),
    );
    let token = |id: String| pb::CreateTokenRequest { subject_id: id, ..Default::default() };
    same(
        client.create_token(token(theirs.to_string())).await.unwrap_err(),
        client.create_token(token(no_subject.to_owned())).await.unwrap_err(),
    );
    let person = pb::NominatedPerson { relation: "EMPLOYEE".to_owned(), ..Default::default() };
    let nominate = |id: String| pb::NominateSubjectRequest {
        entity_id: id,
        body: Some(pb::nominate_subject_request::Body::Person(person.clone())),
        ..Default::default()
    };
    same(
        client.nominate_subject(nominate(other.to_string())).await.unwrap_err(),
        client.nominate_subject(nominate(no_entity.to_owned())).await.unwrap_err(),
    );
    let list = |id: String| pb::ListSubjectsRequest { entity_id: id, ..Default::default() };
    let theirs = client.list_subjects(list(other.to_string())).await.unwrap().into_inner();
    let none = client.list_subjects(list(no_entity.to_owned())).await.unwrap().into_inner();
    assert_eq!(theirs, none);
    assert_eq!(client.list_subjects(list(own.to_string())).await.unwrap().into_inner().subjects.len(), 1);
    client.nominate_subject(nominate(own.to_string())).await.unwrap();
    client.create_token(token(mine.to_string())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_too_often_is_told_when_to_come_back() {
    use tonic_types::StatusExt as _;
    let mut world = World::start().await;
    world.close().await;
    world.settings.rates.addresses = countersign::rpc::Rate { per_s: 1, burst: 3 };
    world.open().await;
    let stranger = world.connect(None).await;
    let path = "/countersign.v1.AttestationService/Enroll";
    for _ in 0..3 {
        assert_eq!(call(&stranger, path).await.unwrap_err().code(), Code::NotFound);
    }
    let status = call(&stranger, path).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "LIMIT"));
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_millis(1_001));
    // A watch of health stays open, so it counts; neither principals nor probes are touched, and time heals it.
    let watch = "/grpc.health.v1.Health/Watch";
    assert_eq!(call(&stranger, watch).await.unwrap_err().code(), Code::ResourceExhausted);
    assert!(call(&world.alice(), watch).await.is_ok());
    assert!(admitted(&call(&world.alice(), "/countersign.v1.AuditService/GetHead").await));
    assert!(call(&stranger, "/grpc.health.v1.Health/Check").await.is_ok());
    world.clock.advance_ms(1_001);
    assert_eq!(call(&stranger, path).await.unwrap_err().code(), Code::NotFound);
}
