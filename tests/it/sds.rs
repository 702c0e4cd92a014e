//! Secret discovery, spoken by hand: what is sent when, what an answer means for a barrier, and what ends a stream.

use std::time::Duration;

use countersign::domain::certificate::AuthorityKind;
use countersign::domain::command::{Command, NewPrincipal};
use countersign::domain::id::{EntityId, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope};
use countersign::pb;
use countersign::pb::enforcement_service_client::EnforcementServiceClient;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, Struct, Value};
use envoy_types::pb::google::rpc;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::calls::refused;
use crate::world::{Caller, World};

/// A push takes milliseconds, and the server looks once a second; a busy machine may need many times that.
const LIMIT: Duration = Duration::from_secs(30);
/// Long enough for what must not come: the server looks twice in that time.
const QUIET: Duration = Duration::from_millis(1_200);
pub(crate) const LEASED: &str = "countersign-access";
const UNLEASED: &str = "countersign-access-unleased";
const REASON: RevocationReason = RevocationReason::Misuse;
/// Everything that can be promised.
pub(crate) const ALL: &[&str] =
    &["per_request", "resumption_off", "closes_connections", "clock_synchronized"];

pub(crate) fn node(promises: &[&str]) -> Node {
    let truth = |name: &&str| ((*name).to_owned(), Value { kind: Some(Kind::BoolValue(true)) });
    let promised = Struct { fields: promises.iter().map(truth).collect() };
    let fields = [("countersign".to_owned(), Value { kind: Some(Kind::StructValue(promised)) })];
    Node {
        id: "envoy-1".to_owned(),
        user_agent_name: "envoy".to_owned(),
        metadata: Some(Struct { fields: fields.into() }),
        ..Default::default()
    }
}

pub(crate) fn secret(any: &Any) -> (String, String, String) {
    let secret = Secret::decode(any.value.as_slice()).unwrap();
    let Some(Type::ValidationContext(context)) = secret.r#type else { panic!("not a validation context") };
    let text = |source: Option<envoy_types::pb::envoy::config::core::v3::DataSource>| match source
        .unwrap()
        .specifier
    {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes).unwrap(),
        other => panic!("not inline: {other:?}"),
    };
    (secret.name, text(context.trusted_ca), text(context.crl))
}

/// An incremental stream.
pub(crate) struct Delta {
    up: mpsc::Sender<DeltaDiscoveryRequest>,
    down: Streaming<DeltaDiscoveryResponse>,
}

impl Delta {
    pub(crate) async fn open(
        world: &World,
        gateway: &Caller,
        promises: &[&str],
        names: &[&str],
    ) -> Result<Self, Status> {
        Self::open_on(world.connect_as(gateway).await, promises, names).await
    }

    pub(crate) async fn open_on(channel: Channel, promises: &[&str], names: &[&str]) -> Result<Self, Status> {
        let (up, waiting) = mpsc::channel(4);
        let first = DeltaDiscoveryRequest {
            node: Some(node(promises)),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        up.send(first).await.unwrap();
        let mut client = SecretDiscoveryServiceClient::new(channel);
        let down = client.delta_secrets(ReceiverStream::new(waiting)).await?.into_inner();
        Ok(Self { up, down })
    }

    pub(crate) async fn next(&mut self) -> DeltaDiscoveryResponse {
        timeout(LIMIT, self.down.message()).await.expect("a response").unwrap().expect("the stream goes on")
    }

    pub(crate) async fn is_quiet(&mut self) -> bool {
        timeout(QUIET, self.down.message()).await.is_err()
    }

    pub(crate) async fn answer(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        let error =
            error.map(|message| rpc::Status { code: 13, message: message.to_owned(), ..Default::default() });
        let nonce = response.nonce.clone();
        let request =
            DeltaDiscoveryRequest { response_nonce: nonce, error_detail: error, ..Default::default() };
        self.up.send(request).await.unwrap();
    }

    async fn say(&self, request: DeltaDiscoveryRequest) {
        self.up.send(request).await.unwrap();
    }

    async fn end(&mut self) -> Status {
        let end = async {
            loop {
                match self.down.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it ended without a word"),
                    Err(status) => return status,
                }
            }
        };
        timeout(LIMIT, end).await.expect("it ends")
    }
}

impl World {
    async fn rows(&self) -> Vec<pb::GatewaySession> {
        let mut client = EnforcementServiceClient::new(self.alice());
        client.list_gateways(pb::ListGatewaysRequest::default()).await.unwrap().into_inner().sessions
    }

    /// The row of a gateway, when this holds of it.
    pub(crate) async fn row(
        &self,
        name: &str,
        wanted: impl Fn(&pb::GatewaySession) -> bool,
    ) -> pb::GatewaySession {
        let found = async {
            loop {
                let row = self.rows().await.into_iter().find(|row| row.gateway == name && wanted(row));
                match row {
                    Some(row) => return row,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        timeout(LIMIT, found).await.expect("the list shows it")
    }

    async fn colleague(&self, entity: EntityId) -> (SubjectId, Caller) {
        let subject = self.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        (subject, self.enroll(subject).await)
    }

    /// Restricts and waits until it is enforced, beside the test.
    pub(crate) async fn begin(&self, command: Command) -> JoinHandle<pb::Enforcement> {
        let mandate = self.mandate(&command).await.unwrap();
        let approvals = vec![self.alice.approve(&mandate)];
        let mut client = pb::revocation_service_client::RevocationServiceClient::new(self.alice());
        let request = pb::RevokeRequest {
            mandate: Some(pb::SignedMandate { mandate: mandate.into(), approvals }),
            wait: pb::Wait::Enforced.into(),
            ..Default::default()
        };
        tokio::spawn(async move { client.revoke(request).await.unwrap().into_inner().enforcement.unwrap() })
    }
}

fn revoke(subject: SubjectId) -> Command {
    Command::Revoke { scope: RevocationScope::Subject(subject), reason: REASON }
}

async fn done(waiting: JoinHandle<pb::Enforcement>) -> pb::Enforcement {
    timeout(LIMIT, waiting).await.expect("it ends").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_enforced_when_the_set_that_lists_it_is_acknowledged() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (subject, caller) = world.colleague(entity).await;
    let gateway = world.gateway("gw-1").await;
    let mut stream = Delta::open(&world, &gateway, ALL, &[LEASED]).await.unwrap();
    let first = stream.next().await;
    let [resource] = first.resources.as_slice() else { panic!("{first:?}") };
    let (name, bundle, before) = secret(resource.resource.as_ref().unwrap());
    assert_eq!((name.as_str(), resource.name.as_str(), first.removed_resources.len()), (LEASED, LEASED, 0));
    assert_eq!(bundle, world.access_pem());
    assert!(before.starts_with("-----BEGIN X509 CRL-----\n"), "{before}");
    stream.answer(&first, None).await;
    let row = world.row("gw-1", |row| row.applied_seq > 0).await;
    assert!(row.connected && !row.weak && row.lease_left_ms > 0, "{row:?}");
    assert_eq!((row.adapter.as_str(), row.agent.as_str(), row.lag), ("sds", "envoy", 0));

    let waiting = world.begin(revoke(subject)).await;
    let second = stream.next().await;
    let (_, _, after) = secret(second.resources[0].resource.as_ref().unwrap());
    assert!(after != before && second.resources[0].version > resource.version);
    assert!(stream.is_quiet().await && !waiting.is_finished(), "sent is not enforced");
    stream.answer(&second, None).await;
    let report = done(waiting).await;
    assert_eq!(report.status, i32::from(pb::EnforcementStatus::Enforced), "{report:?}");
    let serial = world.read(&caller.certificate).serial.to_string().to_uppercase();
    let (is_crl, text, _) = crate::calls::openssl(&["crl", "-text", "-noout"], after.as_bytes());
    assert!(is_crl && String::from_utf8(text).unwrap().contains(&serial));

    // What no list can say is asked at each request: the set is as good as before, and nothing is sent.
    let model = StopScope::Model("fable-5".parse().unwrap());
    let report = done(world.begin(Command::Stop { scope: model, reason: REASON }).await).await;
    assert_eq!(report.status, i32::from(pb::EnforcementStatus::Enforced), "{report:?}");
    assert!(stream.is_quiet().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_issues_when_the_set_that_has_it_is_acknowledged() {
    let world = World::start().await;
    world.partner().await;
    let gateway = world.gateway("gw-1").await;
    let mut stream = Delta::open(&world, &gateway, ALL, &[LEASED]).await.unwrap();
    let first = stream.next().await;
    stream.answer(&first, None).await;
    world.row("gw-1", |row| row.applied_seq > 0).await;
    let next = world.prepare(AuthorityKind::Access).await;
    let second = stream.next().await;
    let (_, bundle, lists) = secret(second.resources[0].resource.as_ref().unwrap());
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(lists.matches("BEGIN X509 CRL").count(), 2, "each has a list, if an empty one");
    let early = world.enact(Command::ActivateAuthority(next)).await;
    refused(early, Code::FailedPrecondition, "gw-1 did not acknowledge");
    stream.answer(&second, None).await;
    world.row("gw-1", |row| row.lag == 0).await;
    world.enact(Command::ActivateAuthority(next)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_acknowledge_is_waited_for_until_its_set_has_run_out() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (subject, _) = world.colleague(entity).await;
    let gateway = world.gateway("gw-1").await;
    let mut stream = Delta::open(&world, &gateway, ALL, &[LEASED]).await.unwrap();
    let first = stream.next().await;
    stream.answer(&first, None).await;
    world.row("gw-1", |row| row.applied_seq > 0).await;
    let waiting = world.begin(revoke(subject)).await;
    let second = stream.next().await;
    stream.answer(&second, Some("Failed to load CRL")).await;
    let row = world.row("gw-1", |row| !row.last_nack.is_empty()).await;
    assert!(row.last_nack.contains("code 13: Failed to load CRL"), "{row:?}");
    // What was refused is not sent again, and the refusal is no acknowledgement.
    assert!(stream.is_quiet().await && !waiting.is_finished());
    assert_eq!(world.running().app().feed().counts().nacks, 1);
    world.clock.advance_ms(10_100);
    let report = done(waiting).await;
    assert_eq!(
        (report.lease_expired.as_slice(), report.acked.as_slice()),
        (&["gw-1".to_owned()][..], &["server".to_owned()][..])
    );
    assert_eq!(report.status, i32::from(pb::EnforcementStatus::Enforced), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_is_waited_for_like_one_that_does_not_answer() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (subject, _) = world.colleague(entity).await;
    let gateway = world.gateway("gw-1").await;
    for _ in 0..2 {
        let mut stream = Delta::open(&world, &gateway, ALL, &[LEASED]).await.unwrap();
        let first = stream.next().await;
        stream.answer(&first, None).await;
    }
    world.row("gw-1", |row| !row.connected).await;
    let again = async {
        let mut stream = Delta::open(&world, &gateway, ALL, &[LEASED]).await.unwrap();
        let first = stream.next().await;
        stream.answer(&first, None).await;
        stream
    };
    let mut stream = again.await;
    let waiting = world.begin(revoke(subject)).await;
    let second = stream.next().await;
    stream.answer(&second, None).await;
    // Another machine with the same name may hold what the first streams were sent.
    assert!(stream.is_quiet().await && !waiting.is_finished());
    world.clock.advance_ms(10_100);
    let report = done(waiting).await;
    assert_eq!((report.lease_expired.len(), report.acked.len()), (2, 2), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_half_of_its_life_a_set_is_sent_anew_and_not_before() {
    let world = World::start().await;
    let entity = world.partner().await;
    let gateway = world.gateway("gw-1").await;
    let mut stream = Delta::open(&world, &gateway, ALL, &[LEASED]).await.unwrap();
    let first = stream.next().await;
    stream.answer(&first, None).await;
    world.colleague(entity).await;
    assert!(stream.is_quiet().await, "nothing that it says changed");
    let head = world.running().app().state().position.seq.0;
    let row = world.row("gw-1", |row| row.applied_seq == head).await;
    assert_eq!(row.lag, 0);
    world.clock.advance_ms(4_700);
    let second = stream.next().await;
    assert!(second.resources[0].version > first.resources[0].version);
    stream.answer(&second, None).await;
    assert!(stream.is_quiet().await);
    // Who asks again is answered again.
    let names = vec![LEASED.to_owned()];
    stream.say(DeltaDiscoveryRequest { resource_names_subscribe: names, ..Default::default() }).await;
    assert_eq!(stream.next().await.resources[0].version, second.resources[0].version);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_promised_is_weak_and_without_a_clock_nothing_is_leased() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (subject, _) = world.colleague(entity).await;
    let gateway = world.gateway("gw-1").await;
    for promises in [&[][..], &["per_request", "resumption_off"]] {
        let opened = Delta::open(&world, &gateway, promises, &[LEASED]).await;
        refused(opened.map(drop), Code::FailedPrecondition, "clock_synchronized");
    }
    // It promises nothing about its clock, and officers know.
    let key = crate::calls::key();
    let pausable = NewPrincipal {
        id: "gw-paused".parse().unwrap(),
        kind: countersign::domain::certificate::PrincipalKind::Gateway,
        roles: vec![countersign::domain::principal::Role::Gateway],
        entity: None,
        key: key.public_key().spki().to_vec(),
        is_pausable: true,
    };
    world.enact(Command::RegisterPrincipal(pausable)).await.unwrap();
    let app = world.running().app();
    let issued = app.issue_principal(&"gw-paused".parse().unwrap(), &key.request().unwrap()).await.unwrap();
    let paused = Caller { key, certificate: issued.certificate };
    // A list says less than the record: closing connections by it is not asking at each request.
    let lists_only = &["resumption_off", "closes_connections", "clock_synchronized"];
    let mut streams = Vec::new();
    for (caller, promises) in [(&paused, &["per_request"][..]), (&gateway, lists_only)] {
        let mut stream = Delta::open(&world, caller, promises, &[LEASED]).await.unwrap();
        let first = stream.next().await;
        stream.answer(&first, None).await;
        streams.push(stream);
    }
    let row = world.row("gw-paused", |row| row.applied_seq > 0).await;
    assert_eq!((row.weak, row.weak_because), (true, vec!["PAUSABLE".to_owned()]));
    let row = world.row("gw-1", |row| row.applied_seq > 0).await;
    assert_eq!((row.weak, row.weak_because), (true, vec!["CONNECTIONS_OUTLIVE".to_owned()]));
    let waiting = world.begin(revoke(subject)).await;
    for stream in &mut streams {
        let second = stream.next().await;
        stream.answer(&second, None).await;
    }
    let report = done(waiting).await;
    assert_eq!(
        (report.weak.len(), report.status),
        (2, i32::from(pb::EnforcementStatus::Partial)),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unleased_set_is_shown_and_waited_for_by_nobody() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (subject, _) = world.colleague(entity).await;
    let gateway = world.gateway("gw-1").await;
    let asks = ["per_request"];
    let mut stream = Delta::open(&world, &gateway, &asks, &[UNLEASED]).await.unwrap();
    let first = stream.next().await;
    assert_eq!(first.resources[0].name, UNLEASED);
    let row = world.row("gw-1", |row| row.connected).await;
    assert_eq!((row.lease_left_ms, row.adapter.as_str()), (0, "sds"));
    let report = done(world.begin(revoke(subject)).await).await;
    let alone = ["server".to_owned()];
    assert_eq!((report.acked.as_slice(), report.weak.len(), report.lease_expired.len()), (&alone[..], 0, 0));
    assert_eq!(report.status, i32::from(pb::EnforcementStatus::Enforced), "{report:?}");
    let second = stream.next().await;
    assert!(second.resources[0].version > first.resources[0].version, "it is pushed all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unleased_set_of_who_does_not_ask_at_every_request_is_weak_and_waited_for_by_nobody() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (subject, _) = world.colleague(entity).await;
    let gateway = world.gateway("gw-1").await;
    let mut stream = Delta::open(&world, &gateway, &[], &[UNLEASED]).await.unwrap();
    stream.next().await;
    let report = done(world.begin(revoke(subject)).await).await;
    assert_eq!((report.weak.as_slice(), report.pending.len()), (&["gw-1".to_owned()][..], 0), "{report:?}");
    assert_eq!(report.status, i32::from(pb::EnforcementStatus::Partial), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_there_is_not_is_said_to_be_removed() {
    let world = World::start().await;
    let gateway = world.gateway("gw-1").await;
    let names = ["countersign-access-canary", "listener", UNLEASED];
    let mut stream = Delta::open(&world, &gateway, &[], &names).await.unwrap();
    let response = stream.next().await;
    assert_eq!(response.removed_resources, [names[0], names[1]]);
    assert_eq!(response.resources.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), [UNLEASED]);
    stream.answer(&response, None).await;
    assert!(stream.is_quiet().await);
    // No more of it: nothing was promised for an unleased one.
    let names = vec![UNLEASED.to_owned()];
    stream.say(DeltaDiscoveryRequest { resource_names_unsubscribe: names, ..Default::default() }).await;
    let entity = world.partner().await;
    let (subject, _) = world.colleague(entity).await;
    world.restrict(revoke(subject), pb::Wait::Committed).await.unwrap();
    assert!(stream.is_quiet().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_variant_names_everything_each_time_and_is_sent_only_what_changed() {
    let world = World::start().await;
    let entity = world.partner().await;
    let (subject, _) = world.colleague(entity).await;
    let gateway = world.gateway("gw-1").await;
    let (up, waiting) = mpsc::channel(4);
    let request = |version: &str, nonce: &str| DiscoveryRequest {
        node: Some(node(ALL)),
        version_info: version.to_owned(),
        response_nonce: nonce.to_owned(),
        resource_names: vec![LEASED.to_owned(), UNLEASED.to_owned(), "unknown".to_owned()],
        ..Default::default()
    };
    up.send(request("", "")).await.unwrap();
    let mut client = SecretDiscoveryServiceClient::new(world.connect_as(&gateway).await);
    let mut down = client.stream_secrets(ReceiverStream::new(waiting)).await.unwrap().into_inner();
    let next = async |down: &mut Streaming<DiscoveryResponse>| {
        timeout(LIMIT, down.message()).await.expect("a response").unwrap().expect("the stream goes on")
    };
    let first = next(&mut down).await;
    assert_eq!(first.resources.len(), 2);
    up.send(request(&first.version_info, &first.nonce)).await.unwrap();
    assert!(timeout(QUIET, down.message()).await.is_err(), "nothing changed");
    let waiting = world.begin(revoke(subject)).await;
    let second = next(&mut down).await;
    assert!(second.version_info > first.version_info && second.nonce != first.nonce);
    // An answer of the response before is not one of this.
    up.send(request(&first.version_info, &first.nonce)).await.unwrap();
    assert!(timeout(QUIET, down.message()).await.is_err() && !waiting.is_finished());
    up.send(request(&second.version_info, &second.nonce)).await.unwrap();
    assert_eq!(done(waiting).await.status, i32::from(pb::EnforcementStatus::Enforced));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_unleased_sets_can_be_fetched() {
    let world = World::start().await;
    let gateway = world.gateway("gw-1").await;
    let mut client = SecretDiscoveryServiceClient::new(world.connect_as(&gateway).await);
    let mut fetch = async |name: &str| {
        let request = DiscoveryRequest { resource_names: vec![name.to_owned()], ..Default::default() };
        client.fetch_secrets(request).await
    };
    let fetched = fetch(UNLEASED).await.unwrap().into_inner();
    assert_eq!(secret(&fetched.resources[0]).0, UNLEASED);
    refused(fetch(LEASED).await, Code::NotFound, "pushed on a stream");
    refused(fetch("other").await, Code::NotFound, "no such secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_stream_and_touches_no_other() {
    let world = World::start().await;
    let gateway = world.gateway("gw-1").await;
    let mut other = Delta::open(&world, &gateway, ALL, &[LEASED]).await.unwrap();
    let first = other.next().await;
    let type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let many = (0..17).map(|n| format!("name-{n}")).collect();
    for (garbage, code) in [
        (DeltaDiscoveryRequest { type_url, ..Default::default() }, Code::InvalidArgument),
        (
            DeltaDiscoveryRequest { resource_names_subscribe: many, ..Default::default() },
            Code::InvalidArgument,
        ),
        (
            DeltaDiscoveryRequest { resource_names_subscribe: vec!["x".repeat(129)], ..Default::default() },
            Code::InvalidArgument,
        ),
        (
            DeltaDiscoveryRequest { response_nonce: "99".to_owned(), ..Default::default() },
            Code::InvalidArgument,
        ),
        (
            DeltaDiscoveryRequest { response_nonce: "x".to_owned(), ..Default::default() },
            Code::InvalidArgument,
        ),
        (
            DeltaDiscoveryRequest {
                resource_names_unsubscribe: vec![LEASED.to_owned()],
                ..Default::default()
            },
            Code::Aborted,
        ),
        (
            DeltaDiscoveryRequest { response_nonce: "1".repeat(300 << 10), ..Default::default() },
            Code::OutOfRange,
        ),
    ] {
        let mut stream = Delta::open(&world, &gateway, ALL, &[LEASED]).await.unwrap();
        stream.next().await;
        stream.say(garbage).await;
        let end = stream.end().await;
        assert_eq!(end.code(), code, "{end:?}");
    }
    other.answer(&first, None).await;
    world.row("gw-1", |row| row.connected && row.applied_seq > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_principal_is_removed() {
    let world = World::start().await;
    let gateway = world.gateway("gw-1").await;
    let mut stream = Delta::open(&world, &gateway, ALL, &[LEASED]).await.unwrap();
    stream.next().await;
    world.enact(Command::RemovePrincipal("gw-1".parse().unwrap())).await.unwrap();
    assert_eq!(stream.end().await.code(), Code::Unauthenticated);
    refused(
        Delta::open(&world, &gateway, ALL, &[LEASED]).await.map(drop),
        Code::Unauthenticated,
        "no registered",
    );
}
