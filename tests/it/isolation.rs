//! What an entity's administrator can learn of others, and do to them: nothing, method by method. The list of methods is the table that the
//! service goes by, so a new one that a partner may call fails here until it is said what it names.

use std::collections::BTreeSet;

use countersign::domain::certificate::{Facts, PrincipalKind};
use countersign::domain::command::{Command, SubjectDecision};
use countersign::domain::id::{EntityId, Ordinal, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::principal::Role;
use countersign::domain::revocation::{RevocationReason, SuspensionTarget};
use countersign::domain::subject::Subject;
use countersign::env::Clock as _;
use countersign::pb;
use countersign::rpc::methods::{Access, METHODS};
use prost::Message;
use prost::bytes::{Buf as _, BufMut as _};
use std::sync::Arc;
use std::time::Duration;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::calls::{key, refused};
use crate::forge::Forgery;
use crate::world::{Caller, Officer, World};

/// An answer on loopback takes milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What a call can name of an entity.
struct Object {
    entity: String,
    subject: String,
    certificate: Vec<u8>,
}

/// What a method is asked.
enum Asked {
    /// About an entity, its person or a certificate of it.
    About(fn(&Object) -> Vec<u8>),
    /// Nothing that anybody could name: whatever it shows is looked at.
    Nothing,
}

/// What each method that a partner may call is asked; none: nobody has said it yet.
fn asked(path: &str) -> Option<Asked> {
    Some(match path.strip_prefix("/countersign.v1.").unwrap_or(path) {
        "ProvisioningService/GetEntity" => {
            Asked::About(|of| pb::GetEntityRequest { entity_id: of.entity.clone() }.encode_to_vec())
        }
        "ProvisioningService/GetSubject" => {
            Asked::About(|of| pb::GetSubjectRequest { subject_id: of.subject.clone() }.encode_to_vec())
        }
        "ProvisioningService/ListSubjects" => Asked::About(|of| {
            pb::ListSubjectsRequest { entity_id: of.entity.clone(), ..Default::default() }.encode_to_vec()
        }),
        "AuditService/ExplainAccess" => Asked::About(|of| {
            let (entity_id, subject_id) = (of.entity.clone(), of.subject.clone());
            let model = "mythos-5".to_owned();
            pb::ExplainAccessRequest { entity_id, subject_id, model, ..Default::default() }.encode_to_vec()
        }),
        "ProvisioningService/ListDue" => Asked::About(|of| {
            let (entity_id, within_days) = (of.entity.clone(), 3_660);
            pb::ListDueRequest { entity_id, within_days, ..Default::default() }.encode_to_vec()
        }),
        "ProvisioningService/NominateSubject" => Asked::About(nominate),
        "ProvisioningService/ImportPeople" => Asked::About(import),
        "ProvisioningService/AttestRelation" => Asked::About(|of| {
            let relation = "EMPLOYEE".to_owned();
            let subject_id = of.subject.clone();
            pb::AttestRelationRequest { subject_id, relation, ..Default::default() }.encode_to_vec()
        }),
        "ProvisioningService/CreateToken" => Asked::About(|of| {
            pb::CreateTokenRequest { subject_id: of.subject.clone(), ..Default::default() }.encode_to_vec()
        }),
        "ProvisioningService/CreateTokens" => Asked::About(tokens),
        "AttestationService/Verify" => Asked::About(|of| {
            let certificate = of.certificate.clone().into();
            pb::VerifyRequest { certificate, min_position: None }.encode_to_vec()
        }),
        // Its own certificate, the authorities, what is its own among what is to be renewed, and what there is to call.
        "ProvisioningService/ListEntities"
        | "AttestationService/RenewPrincipalCertificate"
        | "AttestationService/GetTrustBundle"
        | "RevocationService/WatchRenewals"
        | "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" => Asked::Nothing,
        _ => return None,
    })
}

fn nominate(of: &Object) -> Vec<u8> {
    let workload = pb::NominatedWorkload { owner: of.subject.clone(), operators: vec![of.subject.clone()] };
    let body = Some(pb::nominate_subject_request::Body::Workload(workload));
    let entity_id = of.entity.clone();
    pb::NominateSubjectRequest { entity_id, body, ..Default::default() }.encode_to_vec()
}

/// By a reference of the entity, and by the subject.
fn import(of: &Object) -> Vec<u8> {
    let person = |reference: &str, subject_id: &str| pb::ImportedPerson {
        entity_id: of.entity.clone(),
        reference: reference.to_owned(),
        subject_id: subject_id.to_owned(),
        relation: "EMPLOYEE".to_owned(),
        ..Default::default()
    };
    let people = vec![person("staff-1", ""), person("", &of.subject)];
    pb::ImportPeopleRequest { people, ..Default::default() }.encode_to_vec()
}

fn tokens(of: &Object) -> Vec<u8> {
    let token = pb::MadeToken {
        subject_id: of.subject.clone(),
        token_id: "tok_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        secret_sha256: vec![7; 32].into(),
        // A day after every test begins.
        expires_at: "2026-06-28T12:00:00Z".to_owned(),
    };
    pb::CreateTokensRequest { tokens: vec![token], validate_only: false }.encode_to_vec()
}

/// An answer without what the record's growth alone moves.
fn still(path: &str, answer: Vec<u8>) -> Vec<u8> {
    match path.rsplit('/').next().unwrap() {
        "Verify" => {
            let said = pb::VerifyResponse::decode(answer.as_slice()).unwrap();
            // Each has a name of its own.
            pb::VerifyResponse { as_of: None, decision_id: String::new(), ..said }.encode_to_vec()
        }
        "ImportPeople" => {
            let said = pb::ImportPeopleResponse::decode(answer.as_slice()).unwrap();
            pb::ImportPeopleResponse { position: None, ..said }.encode_to_vec()
        }
        "CreateTokens" => {
            let said = pb::CreateTokensResponse::decode(answer.as_slice()).unwrap();
            pb::CreateTokensResponse { position: None, ..said }.encode_to_vec()
        }
        _ => answer,
    }
}

/// Bytes as they are, both ways.
#[derive(Clone, Copy, Default)]
struct Bare;

impl Codec for Bare {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bare {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&bytes);
        Ok(())
    }
}

impl Decoder for Bare {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        Ok(Some(bytes.to_vec()))
    }
}

/// Sends one message and reads the first one of the answer.
async fn call(channel: &Channel, path: &'static str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let request = tonic::Request::new(tokio_stream::once(message));
    let answer = async {
        let answer = client.streaming(request, PathAndQuery::from_static(path), Bare).await?;
        Ok(still(path, answer.into_inner().message().await?.unwrap_or_default()))
    };
    tokio::time::timeout(ANSWER_LIMIT, answer).await.expect("an answer within the limit")
}

/// What an answer is made of: everything that its caller can tell from another.
fn told(answer: Result<Vec<u8>, Status>) -> (Code, String, Vec<u8>) {
    match answer {
        Ok(bytes) => (Code::Ok, String::new(), bytes),
        Err(status) => (status.code(), status.message().to_owned(), status.details().to_vec()),
    }
}

/// The methods that a partner may call and that are not everybody's.
fn of_partners() -> Vec<&'static str> {
    let may = |access: Access| match access {
        Access::Anyone | Access::Subject => false,
        Access::Renewal => true,
        Access::Roles(roles) => roles.contains(&Role::PartnerAdmin),
    };
    METHODS.iter().filter(|method| may(method.access)).map(|method| method.path).collect()
}

/// Two partners with a person each, who has a certificate, and the administrator of the first.
struct Two {
    world: World,
    admin: Caller,
    own: Object,
    other: Object,
    none: Object,
}

impl Two {
    async fn start() -> Self {
        let world = World::start().await;
        let (own, _) = Self::object(&world).await;
        let (other, shown) = Self::object(&world).await;
        let mut invented = Forgery::of(&world, &other.certificate);
        let (entity, subject) = ("ent_01ARZ3NDEKTSV4RRFFQ69G5FAV", "sub_01ARZ3NDEKTSV4RRFFQ69G5FAV");
        let Facts::Access(facts) = &mut invented.facts else { panic!("{shown:?}") };
        facts.entity.entity = entity.parse().unwrap();
        facts.subject = subject.parse().unwrap();
        invented.ordinal = Ordinal(invented.ordinal.0 + 1_000);
        let certificate = invented.sign(&world, &key());
        let none = Object { entity: entity.to_owned(), subject: subject.to_owned(), certificate };
        let of: EntityId = own.entity.parse().unwrap();
        let admin =
            world.principal("partner-1", (PrincipalKind::Partner, &[Role::PartnerAdmin]), Some(of)).await;
        Self { world, admin, own, other, none }
    }

    async fn object(world: &World) -> (Object, SubjectId) {
        let entity = world.partner().await;
        let until = world.clock.now().plus_ms(365 * 86_400_000);
        world.enact(Command::RecordSafeguards { entity, until, reverify_due: Some(until) }).await.unwrap();
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let certificate = world.enroll(subject).await.certificate;
        (Object { entity: entity.to_string(), subject: subject.to_string(), certificate }, subject)
    }

    /// What the record holds of the other partner: its card, its people, and how many tokens they have.
    fn of_other(&self) -> (Vec<u8>, Vec<Arc<Subject>>, usize) {
        let state = self.world.running().app().state();
        let id: EntityId = self.other.entity.parse().unwrap();
        let people: Vec<_> = state.subjects.values().filter(|s| s.entity == id).cloned().collect();
        let tokens = state.tokens.values().filter(|t| people.iter().any(|p| p.id == t.subject)).count();
        (minicbor::to_vec(state.entities.get(&id).unwrap().as_ref()).unwrap(), people, tokens)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn method_by_method_a_partner_cannot_tell_another_s_from_what_is_not_there() {
    let two = Two::start().await;
    let channel = two.world.connect_as(&two.admin).await;
    let unsaid: Vec<_> = of_partners().into_iter().filter(|path| asked(path).is_none()).collect();
    assert!(unsaid.is_empty(), "a partner may call these, and nobody said what they name: {unsaid:?}");
    let mut named = 0;
    for path in of_partners() {
        let Some(Asked::About(message)) = asked(path) else { continue };
        named += 1;
        let mine = told(call(&channel, path, message(&two.own)).await);
        assert_eq!(mine.0, Code::Ok, "{path} about its own: {mine:?}");
        for what in [&two.other, &Object { certificate: b"garbage".to_vec(), ..two.none.copy() }] {
            let theirs = told(call(&channel, path, message(what)).await);
            let none = told(call(&channel, path, message(&two.none)).await);
            assert_eq!(theirs, none, "{path}");
            assert_ne!(theirs, mine, "{path} answers about others as about its own");
        }
        // An officer is told of both apart, so that there is something to tell.
        let officer = told(call(&two.world.alice(), path, message(&two.other)).await);
        assert_eq!(officer.0, Code::Ok, "{path} to an officer: {officer:?}");
        assert_ne!(officer, told(call(&channel, path, message(&two.none)).await), "{path}");
    }
    assert!(named >= 8, "{named}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_partner_calls_nothing_of_another_is_shown_or_changed() {
    let two = Two::start().await;
    let channel = two.world.connect_as(&two.admin).await;
    // Something is to be renewed by both, so that there is something to show.
    let scope = two.world.access_issuer();
    two.world.announce(scope, 3_600_000).await;
    let before = two.of_other();
    let words = [two.other.entity.as_bytes(), two.other.subject.as_bytes()];
    for path in METHODS.iter().map(|method| method.path) {
        let mut messages = vec![Vec::new()];
        if let Some(Asked::About(message)) = asked(path) {
            messages.extend([message(&two.own), message(&two.other)]);
        }
        for message in messages {
            let (_, text, bytes) = told(call(&channel, path, message).await);
            for word in words {
                let is_in = |text: &[u8]| text.windows(word.len()).any(|part| part == word);
                assert!(!is_in(text.as_bytes()) && !is_in(&bytes), "{path} shows another's");
            }
        }
    }
    assert_eq!(two.of_other(), before);
    let admitted: BTreeSet<_> = of_partners().into_iter().collect();
    let services = admitted.iter().filter(|path| path.contains("MandateService"));
    assert_eq!(services.count(), 0, "whoever nominates signs nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_s_signature_approves_nobody() {
    let two = Two::start().await;
    let subject: SubjectId = two.own.subject.parse().unwrap();
    let signer = Officer { name: "partner-1", key: two.admin.key };
    let target = SuspensionTarget::Subject(subject);
    let reason = RevocationReason::Misuse;
    for command in [
        Command::DecideSubject { subject, decision: SubjectDecision::Refuse },
        Command::Suspend { target, reason },
        Command::ActivateEntity(two.own.entity.parse().unwrap()),
    ] {
        let mandate = two.world.mandate(&command).await.unwrap();
        let alone = vec![signer.approve(&mandate)];
        let both = vec![two.world.alice.approve(&mandate), signer.approve(&mandate)];
        for approvals in [alone, both] {
            let answer = two.world.submit(mandate.clone(), approvals).await;
            refused(answer, Code::FailedPrecondition, "partner-1");
        }
    }
}

impl Object {
    fn copy(&self) -> Self {
        let (entity, subject) = (self.entity.clone(), self.subject.clone());
        Self { entity, subject, certificate: self.certificate.clone() }
    }
}
