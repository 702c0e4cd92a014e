//! A whole service in a temporary directory: two officers, real mTLS on a free port, a clock that the test holds.

use std::path::Path;
use std::sync::Arc;

use countersign::app::store;
use countersign::domain::algorithm::AlgorithmProfile;
use countersign::domain::approval::MANDATE_PREFIX;
use countersign::domain::certificate::{AuthorityKind, PrincipalKind};
use countersign::domain::codec::{from_bytes, to_bytes};
use countersign::domain::command::{Command, NewPrincipal, SubjectDecision};
use countersign::domain::decided::Keep;
use countersign::domain::entity::{EntityKind, Organisation, Screening, ScreeningResult};
use countersign::domain::grant::Grant;
use countersign::domain::id::{EntityId, GrantId, PersonId, SubjectId};
use countersign::domain::person::{Assurance, EvidenceKind};
use countersign::domain::principal::Role;
use countersign::domain::subject::Vetting;
use countersign::domain::time::{Interval, Timestamp};
use countersign::env::{Clock, Entropy, ManualClock, SystemEntropy};
use countersign::journal::JournalError;
use countersign::pb;
use countersign::rpc::{Rate, Rates};
use countersign::server::{self, Running, ServerError, Settings};
use countersign::x509::{ClientKey, Curve, ServerName, bundle::certificate_pem};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName as TlsName};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

pub(crate) use crate::found::found_under;
pub(crate) use crate::tools::{copy_tree, sign};

/// The trust domain of every test.
pub(crate) const TRUST_DOMAIN: &str = "test.example";
/// When every test begins: after the lift, before the rescission.
pub(crate) const BEGIN: &str = "2026-06-27T12:00:00Z";
/// Where the certificates of every test say that their list is.
pub(crate) const CRL_BASE: &str = "http://crl.test.example/crl";

/// A caller: a key with the certificate that was issued for it.
pub(crate) struct Caller {
    pub(crate) key: ClientKey,
    pub(crate) certificate: Vec<u8>,
}

/// An officer with a key that the service never sees.
pub(crate) struct Officer {
    pub(crate) name: &'static str,
    pub(crate) key: ClientKey,
}

impl Officer {
    /// With a key on this curve.
    pub(crate) fn of(name: &'static str, curve: Curve) -> Self {
        Self { name, key: ClientKey::generate(curve).unwrap() }
    }

    pub(crate) fn approve(&self, mandate: &[u8]) -> pb::Approval {
        let signature = sign(&self.key, MANDATE_PREFIX, mandate).into();
        pb::Approval { officer: self.name.to_owned(), signature }
    }
}

/// A running service and everybody around it.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) alice: Officer,
    pub(crate) bob: Officer,
    pub(crate) provider: EntityId,
    /// Three recovery keys, two of which are enough.
    pub(crate) recovery: Vec<ClientKey>,
    pub(crate) settings: Settings,
    /// Of every key that is made here.
    pub(crate) curve: Curve,
    running: Option<Running>,
    channels: Vec<Channel>,
}

impl World {
    /// A new service, on a clock that stands at [`BEGIN`].
    pub(crate) async fn start() -> Self {
        Self::start_at(BEGIN.parse().unwrap()).await
    }

    /// A new service, on a clock that stands at this instant.
    pub(crate) async fn start_at(begin: Timestamp) -> Self {
        Self::start_under(AlgorithmProfile::Standard, begin).await
    }

    /// The same under this profile of algorithms.
    pub(crate) async fn start_under(algorithms: AlgorithmProfile, begin: Timestamp) -> Self {
        let curve = Curve::of_profile(algorithms);
        let clock = Arc::new(ManualClock::at(begin));
        let dir = tempfile::tempdir().unwrap();
        let (alice, bob) = (Officer::of("alice", curve), Officer::of("bob", curve));
        let provider = EntityId::from_parts(clock.now(), SystemEntropy.bytes16());
        let recovery: Vec<_> = (0..3).map(|_| ClientKey::generate(curve).unwrap()).collect();
        found_under(algorithms, dir.path(), (clock.now(), provider), &[&alice, &bob], &recovery);
        let settings = settings(dir.path());
        let mut world = Self {
            dir,
            clock,
            alice,
            bob,
            provider,
            recovery,
            settings,
            curve,
            running: None,
            channels: Vec::new(),
        };
        world.open().await;
        world
    }

    /// Tries to start a service on the directory.
    pub(crate) async fn launch(&self) -> Result<Running, ServerError> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        server::start(self.settings.clone(), clock, Arc::new(SystemEntropy)).await
    }

    /// The same when one has just ended: in this process a task of it may still be giving the journal back.
    async fn relaunch(&self) -> Running {
        for _ in 0..500 {
            match self.launch().await {
                Err(ServerError::Store(store::StoreError::Journal(JournalError::InUse { .. }))) => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                launched => return launched.unwrap(),
            }
        }
        panic!("the journal is never given back");
    }

    /// Starts the service again on the same directory.
    pub(crate) async fn open(&mut self) {
        self.open_at(0).await;
    }

    /// The same on this port; 0: a free one.
    pub(crate) async fn open_at(&mut self, port: u16) {
        self.settings.listen.set_port(port);
        self.running = Some(self.relaunch().await);
        let mut channels = Vec::new();
        for officer in [&self.alice, &self.bob] {
            let app = self.running().app();
            let csr = officer.key.request().unwrap();
            let issued = app.issue_principal(&officer.name.parse().unwrap(), &csr).await.unwrap();
            channels.push(self.connect(Some((&officer.key, &issued.certificate))).await);
        }
        self.channels = channels;
    }

    /// Stops the service; its directory stays.
    pub(crate) async fn close(&mut self) {
        self.channels.clear();
        self.running.take().unwrap().stop().await;
    }

    /// A copy of the data directory. The service must be stopped.
    pub(crate) fn copy_data(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(self.dir.path(), copy.path());
        copy
    }

    /// Puts a copy in the place of the data directory. The service must be stopped.
    pub(crate) fn restore_data(&self, copy: &tempfile::TempDir) {
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                std::fs::remove_dir_all(path).unwrap();
            } else {
                std::fs::remove_file(path).unwrap();
            }
        }
        copy_tree(copy.path(), self.dir.path());
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Alice's connection.
    pub(crate) fn alice(&self) -> Channel {
        self.channels[0].clone()
    }

    /// Bob's connection.
    pub(crate) fn bob(&self) -> Channel {
        self.channels[1].clone()
    }

    /// The authorities of people and workloads, PEM.
    pub(crate) fn access_pem(&self) -> String {
        self.authority_pem(AuthorityKind::Access)
    }

    /// The authorities of principals, PEM.
    pub(crate) fn system_pem(&self) -> String {
        self.authority_pem(AuthorityKind::System)
    }

    fn authority_pem(&self, kind: AuthorityKind) -> String {
        let state = self.running().app().state();
        certificate_pem(&state.authority(kind).unwrap().certificate)
    }

    /// A connection over mTLS, or without a client certificate.
    pub(crate) async fn connect(&self, identity: Option<(&ClientKey, &[u8])>) -> Channel {
        self.connect_with(identity, Endpoint::from_static("https://localhost")).await
    }

    /// The same with these settings of HTTP/2.
    pub(crate) async fn connect_with(
        &self,
        identity: Option<(&ClientKey, &[u8])>,
        endpoint: Endpoint,
    ) -> Channel {
        let (config, address) = (self.tls(identity), self.running().address());
        let connector = tower::service_fn(move |_| {
            let connected = tls_stream(Arc::clone(&config), address);
            async move { connected.await.map(hyper_util::rt::TokioIo::new) }
        });
        endpoint.connect_with_connector_lazy(connector)
    }

    /// The TLS of a client that trusts this service.
    pub(crate) fn tls(&self, identity: Option<(&ClientKey, &[u8])>) -> Arc<rustls::ClientConfig> {
        let state = self.running().app().state();
        let trusted = state.enforcement.trusted(AuthorityKind::System);
        self.tls_of(&trusted.map(|card| card.certificate.clone()).collect::<Vec<_>>(), identity)
    }

    /// The same of a client that trusts these system authorities.
    pub(crate) fn tls_of(
        &self,
        trusted: &[Vec<u8>],
        identity: Option<(&ClientKey, &[u8])>,
    ) -> Arc<rustls::ClientConfig> {
        self.tls_by(rustls::crypto::aws_lc_rs::default_provider(), trusted, identity)
    }

    /// The same of a client that offers these algorithms.
    pub(crate) fn tls_by(
        &self,
        provider: rustls::crypto::CryptoProvider,
        trusted: &[Vec<u8>],
        identity: Option<(&ClientKey, &[u8])>,
    ) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in trusted {
            roots.add(CertificateDer::from(certificate.clone())).unwrap();
        }
        let builder = rustls::ClientConfig::builder_with_details(
            Arc::new(provider),
            Arc::new(ClockTime(Arc::clone(&self.clock))),
        )
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((key, certificate)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from(certificate.to_vec())],
                    PrivateKeyDer::Pkcs8(key.to_pkcs8().into()),
                )
                .unwrap(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// Has Alice and, if the command needs it, Bob sign and submit a command.
    pub(crate) async fn enact(&self, command: Command) -> Result<pb::SubmitMandateResponse, Status> {
        let mandate = self.mandate(&command).await?;
        let mut approvals = vec![self.alice.approve(&mandate)];
        if command.signers().count == 2 {
            approvals.push(self.bob.approve(&mandate));
        }
        self.submit(mandate, approvals).await
    }

    /// The mandate of a command, as the service prepares it.
    pub(crate) async fn mandate(&self, command: &Command) -> Result<Vec<u8>, Status> {
        let mut client = pb::mandate_service_client::MandateServiceClient::new(self.alice());
        let request = pb::PrepareMandateRequest { command: to_bytes(command).into() };
        let mandate = client.prepare_mandate(request).await?.into_inner().mandate;
        let read: countersign::domain::approval::Mandate = from_bytes(&mandate).unwrap();
        assert_eq!(read.command, *command);
        Ok(mandate.to_vec())
    }

    /// Submits a mandate with these signatures.
    pub(crate) async fn submit(
        &self,
        mandate: Vec<u8>,
        approvals: Vec<pb::Approval>,
    ) -> Result<pb::SubmitMandateResponse, Status> {
        let mut client = pb::mandate_service_client::MandateServiceClient::new(self.alice());
        let mandate = Some(pb::SignedMandate { mandate: mandate.into(), approvals });
        let request = pb::SubmitMandateRequest { mandate, ..Default::default() };
        Ok(client.submit_mandate(request).await?.into_inner())
    }

    /// Revokes, suspends or stops with Alice's signature, and waits as asked.
    pub(crate) async fn restrict(&self, command: Command, wait: pb::Wait) -> Result<pb::Enforcement, Status> {
        let mandate = self.mandate(&command).await?;
        let approvals = vec![self.alice.approve(&mandate)];
        let mut client = pb::revocation_service_client::RevocationServiceClient::new(self.alice());
        let request = pb::RevokeRequest {
            mandate: Some(pb::SignedMandate { mandate: mandate.into(), approvals }),
            wait: wait.into(),
            ..Default::default()
        };
        Ok(client.revoke(request).await?.into_inner().enforcement.unwrap())
    }

    /// An entity of Annex A, active, screened, with a grant for Mythos.
    pub(crate) async fn partner(&self) -> EntityId {
        let entity = self.applicant().await;
        self.screen(entity).await;
        self.enact(Command::ActivateEntity(entity)).await.unwrap();
        let determination = "2026-06-26-lift".parse().unwrap();
        let revision =
            self.running().app().state().annexes.get(&determination).copied().unwrap_or_default() + 1;
        let add = vec![entity];
        self.enact(Command::AmendAnnex { determination, revision, add, remove: vec![] }).await.unwrap();
        self.grant(entity).await;
        // What widens takes effect a second after its record: the margin for a clock that is not exact.
        self.clock.advance_ms(2_000);
        entity
    }

    /// An entity that applied, and no more.
    pub(crate) async fn applicant(&self) -> EntityId {
        let mut client = pb::provisioning_service_client::ProvisioningServiceClient::new(self.alice());
        let request = pb::ApplyEntityRequest {
            name: "Partner Inc.".to_owned(),
            kind: EntityKind::Company.to_string(),
            organisation: Organisation::Us.to_string(),
            ..Default::default()
        };
        client.apply_entity(request).await.unwrap().into_inner().entity_id.parse().unwrap()
    }

    /// A clear screening against a list of today.
    pub(crate) async fn screen(&self, entity: EntityId) {
        let screening = Screening {
            list_version: "csl-2026-06-27".to_owned(),
            list_date: self.clock.now(),
            result: ScreeningResult::Clear,
        };
        let reason = "no match".to_owned();
        self.enact(Command::RecordScreening { entity, screening, reason }).await.unwrap();
    }

    /// A grant for Mythos, in the United States only.
    pub(crate) async fn grant(&self, entity: EntityId) -> GrantId {
        let id = GrantId::from_parts(self.clock.now(), SystemEntropy.bytes16());
        let grant = Grant {
            id,
            model: "mythos-5".parse().unwrap(),
            interval: Interval { from: self.clock.now().plus_ms(-60_000), until: None },
            forms: vec![],
            countries: vec![],
            purposes: vec![],
        };
        self.enact(Command::GrantModel { entity, grant }).await.unwrap();
        id
    }

    /// A person of an entity whom the entity nominated and a vetter approved.
    pub(crate) async fn person(&self, entity: EntityId, relation: &str, evidence: EvidenceKind) -> SubjectId {
        self.employ(entity, None, relation, evidence).await
    }

    /// The same for a person who may be on record already through another employment.
    pub(crate) async fn employ(
        &self,
        entity: EntityId,
        person: Option<PersonId>,
        relation: &str,
        evidence: EvidenceKind,
    ) -> SubjectId {
        let mut client = pb::provisioning_service_client::ProvisioningServiceClient::new(self.alice());
        let person_id = person.map(|id| id.to_string()).unwrap_or_default();
        let person = pb::NominatedPerson { relation: relation.to_owned(), person_id, ..Default::default() };
        let request = pb::NominateSubjectRequest {
            entity_id: entity.to_string(),
            body: Some(pb::nominate_subject_request::Body::Person(person)),
            ..Default::default()
        };
        let nominated = client.nominate_subject(request).await.unwrap().into_inner();
        let subject = nominated.subject_id.parse().unwrap();
        let vetting = Some(Vetting {
            status: evidence.status(),
            evidence,
            verified_on: self.clock.now().day(),
            assurance: Assurance::Ial2,
        });
        let decision = SubjectDecision::Approve { vetting, reverify_due: None };
        self.enact(Command::DecideSubject { subject, decision }).await.unwrap();
        subject
    }

    /// A one-time token.
    pub(crate) async fn token(&self, subject: SubjectId) -> String {
        let mut client = pb::provisioning_service_client::ProvisioningServiceClient::new(self.alice());
        let request = pb::CreateTokenRequest { subject_id: subject.to_string(), ..Default::default() };
        client.create_token(request).await.unwrap().into_inner().token
    }

    /// Redeems a token with a new key, as a partner does.
    pub(crate) async fn enroll(&self, subject: SubjectId) -> Caller {
        let token = self.token(subject).await;
        let key = ClientKey::generate(self.curve).unwrap();
        let certificate = self.redeem(&token, &key).await.unwrap();
        Caller { key, certificate }
    }

    /// Redeems a token with this key, without a client certificate.
    pub(crate) async fn redeem(&self, token: &str, key: &ClientKey) -> Result<Vec<u8>, Status> {
        let channel = self.connect(None).await;
        let mut client = pb::attestation_service_client::AttestationServiceClient::new(channel);
        let csr = key.request().unwrap().into();
        let response = client.enroll(pb::EnrollRequest { token: token.to_owned(), csr }).await?;
        Ok(response.into_inner().certificate.to_vec())
    }

    /// Registers a gateway and gives it its certificate.
    pub(crate) async fn gateway(&self, name: &str) -> Caller {
        self.gateway_on(name, false).await
    }

    /// The same on a machine that can be paused, or not.
    pub(crate) async fn gateway_on(&self, name: &str, is_pausable: bool) -> Caller {
        let key = ClientKey::generate(self.curve).unwrap();
        let principal = NewPrincipal {
            id: name.parse().unwrap(),
            kind: PrincipalKind::Gateway,
            roles: vec![Role::Gateway],
            entity: None,
            key: key.public_key().spki().to_vec(),
            is_pausable,
        };
        self.enact(Command::RegisterPrincipal(principal)).await.unwrap();
        let mut client = pb::attestation_service_client::AttestationServiceClient::new(self.alice());
        let csr = key.request().unwrap().into();
        let request = pb::IssuePrincipalCertificateRequest { principal: name.to_owned(), csr };
        let certificate = client.issue_principal_certificate(request).await.unwrap().into_inner().certificate;
        Caller { key, certificate: certificate.to_vec() }
    }

    /// A decision of the server, as a gateway asks for it.
    pub(crate) async fn evaluate(&self, gateway: &Channel, certificate: &[u8], model: &str) -> pb::Decision {
        self.evaluate_from(gateway, certificate, model, "US").await
    }

    /// The same for a subject in this place.
    pub(crate) async fn evaluate_from(
        &self,
        gateway: &Channel,
        certificate: &[u8],
        model: &str,
        place: &str,
    ) -> pb::Decision {
        let mut client = pb::attestation_service_client::AttestationServiceClient::new(gateway.clone());
        let request = pb::EvaluateRequest {
            certificate: certificate.to_vec().into(),
            model: model.to_owned(),
            place: place.to_owned(),
            serving_region: "US".to_owned(),
            ..Default::default()
        };
        client.evaluate(request).await.unwrap().into_inner().decision.unwrap()
    }
}

/// A TLS connection to a service.
pub(crate) async fn tls_stream(
    config: Arc<rustls::ClientConfig>,
    address: std::net::SocketAddr,
) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let socket = tokio::net::TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    tokio_rustls::TlsConnector::from(config).connect(TlsName::try_from("localhost").unwrap(), socket).await
}

/// The manual clock, as rustls asks for it.
struct ClockTime(Arc<ManualClock>);

impl std::fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClockTime")
    }
}

impl rustls::time_provider::TimeProvider for ClockTime {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let seconds = self.0.now().seconds().try_into().ok()?;
        Some(rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

/// Rates that no test meets unless it lowers them: its clock stands, so no bucket fills again.
fn plenty() -> Rates {
    let rate = Rate::per_s(100_000);
    Rates {
        principals: rate,
        addresses: rate,
        reads: rate,
        lists: rate,
        mutations: rate,
        mandates: rate,
        streams: rate,
    }
}

/// Settings of a server on this directory and a free port.
pub(crate) fn settings(data: &Path) -> Settings {
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: data.to_owned(),
        keys: countersign::config::KeyFiles::of(data),
        names: vec![ServerName::dns("localhost").unwrap(), ServerName::Ip("127.0.0.1".parse().unwrap())],
        crl_base: CRL_BASE.parse().unwrap(),
        crl_listen: Some("127.0.0.1:0".parse().unwrap()),
        crl_lifetime_s: 3_600,
        // The longest: clocks are moved by days, and only some tests are about that.
        officer_ttl_s: 30 * 86_400,
        keep: Keep { age_ms: 3_653 * 86_400_000, len: None },
        low_water: 1 << 20,
        connections: server::ConnectionLimits::default(),
        streams_max: countersign::rpc::STREAMS_ALL_MAX,
        rates: plenty(),
        strangers: server::StrangerLife::default(),
        // So that who may no longer call is asked a hundred things and each time told why, however long that takes.
        pace: server::PaceTimes { farewell: std::time::Duration::from_secs(600), ..Default::default() },
        headers: countersign::envoy::TrustedHeaders::default(),
        listeners: countersign::config::Listeners::new(),
        metrics: None,
        accept_clock: false,
    }
}
