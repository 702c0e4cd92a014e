//! The server as commands see it: a connection with the caller's certificate, answers with a deadline, errors in words.
//!
//! The channel is the client library's: the server is trusted by the system bundle of the identity and by nothing of this
//! machine.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tonic::transport::Uri;
use tonic::{Code, Response, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use super::files::Access;
use super::head::Memory;
use super::identity::{CERTIFICATE, Identity, KEY, SYSTEM_BUNDLE};
use super::renewal::{self, Age};
use super::unlock::Unlock;
use super::{Failure, files, words};
use crate::client::{self, ConnectCause, Stamp, Stamped, Target, TransportFault};
use crate::domain::certificate::AuthorityKind;
use crate::domain::id::RequestId;
use crate::env::{Clock, Entropy as _, SystemClock, SystemEntropy};
use crate::pb;
use crate::pb::attestation_service_client::AttestationServiceClient;
use crate::pb::audit_service_client::AuditServiceClient;
use crate::pb::authority_service_client::AuthorityServiceClient;
use crate::pb::determination_service_client::DeterminationServiceClient;
use crate::pb::enforcement_service_client::EnforcementServiceClient;
use crate::pb::mandate_service_client::MandateServiceClient;
use crate::pb::provisioning_service_client::ProvisioningServiceClient;
use crate::pb::revocation_service_client::RevocationServiceClient;
use crate::pb::screening_service_client::ScreeningServiceClient;
use crate::wire::REQUEST_ID;
use crate::x509::TrustBundle;

/// How long an answer may take: issuance waits up to 15 s for ordinals.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// What the network may add to a deadline that the server was given.
const NETWORK_MARGIN: Duration = Duration::from_secs(5);

/// What is said to who lacks the role.
pub(super) const NOT_THE_ROLE: &str =
    "this identity may not do that: use one with the role, see countersign audit list";
/// What is said when too few signed.
pub(super) const SEE_WHO_SIGNS: &str = "see who must sign: countersign approvals list";

/// Where the server is and who asks.
#[derive(Debug, Clone, Args)]
pub(super) struct Connection {
    /// Address of the server.
    #[arg(
        long,
        global = true,
        env = "COUNTERSIGN_SERVER",
        value_name = "URL",
        default_value = "https://127.0.0.1:7443",
        help_heading = "Connection"
    )]
    server: Uri,
    /// Folder of the caller's identity: certificate.pem, key.pem (mode 0600) and system-bundle.pem.
    ///
    /// With log-key.pem in it, which sign-genesis puts beside an officer's key, each command first verifies the server's
    /// signed head, refuses a server that is behind the last one seen (last-head.cbor) and remembers the new one. Without
    /// it, nothing is compared.
    #[arg(
        long,
        global = true,
        env = "COUNTERSIGN_IDENTITY",
        value_name = "DIR",
        help_heading = "Connection"
    )]
    identity: Option<PathBuf>,
    #[command(flatten)]
    pub(super) unlock: Unlock,
}

impl Connection {
    /// The caller's identity.
    pub(super) fn identity(&self) -> Result<Identity, Failure> {
        let folder = self.identity.as_deref().ok_or_else(|| {
            Failure(
                "whose identity? name its folder with --identity DIR or COUNTERSIGN_IDENTITY (certificate.pem, \
                 key.pem, system-bundle.pem)"
                    .to_owned(),
            )
        })?;
        Ok(Identity::at(folder, &self.unlock))
    }

    /// Was an identity named?
    pub(super) const fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    /// Connects as the caller, whose certificate is renewed if its time has come.
    pub(super) async fn remote(&self) -> Result<Remote, Failure> {
        let (identity, now) = (self.identity()?, SystemClock.now());
        let age = renewal::age(&identity.credential()?, now);
        if age == Age::Ended {
            // Whether it works or not: while the service does not trust its clock it renews nothing, and takes the old one.
            renewal::renew_own(&identity, &self.connect_as(&identity).await?).await;
        } else {
            identity.check_validity(now)?;
        }
        let remote = self.recognised(&identity).await?;
        if age == Age::Due {
            renewal::renew_own(&identity, &remote).await;
        }
        Ok(remote)
    }

    async fn connect_as(&self, identity: &Identity) -> Result<Remote, Failure> {
        let own = identity.for_tls()?;
        Remote::connect(&self.server, &identity.path(SYSTEM_BUNDLE), Some(&own)).await
    }

    /// The server, which is the one that was seen before, if the identity remembers one.
    async fn recognised(&self, identity: &Identity) -> Result<Remote, Failure> {
        let memory = Memory::of(identity)?;
        let remote = self.connect_as(identity).await?;
        if let Some(memory) = memory {
            let request = pb::GetHeadRequest { remembered: memory.last_bytes().into() };
            let head = answer(remote.audit().get_head(request)).await?;
            memory.check(&head.signed_head, &head.lost_history)?;
            remote.learn(&identity.path(SYSTEM_BUNDLE)).await?;
        }
        Ok(remote)
    }

    /// Connects without a certificate, to redeem a token.
    pub(super) async fn anonymous(&self, system_bundle: &Path) -> Result<Remote, Failure> {
        Remote::connect(&self.server, system_bundle, None).await
    }
}

/// A connection to the server.
pub(super) struct Remote {
    channel: Stamped,
}

impl Remote {
    async fn connect(
        server: &Uri,
        system_bundle: &Path,
        identity: Option<&client::Identity>,
    ) -> Result<Self, Failure> {
        let host = server.host().filter(|_| server.scheme_str() == Some("https")).ok_or_else(|| {
            Failure(format!("{server} is not an address like https://countersign.example.org:7443"))
        })?;
        let target = Target {
            address: format!("{host}:{}", server.port_u16().unwrap_or(443)),
            server_name: None,
            system_bundle_pem: files::read_text(system_bundle)?,
        };
        Self::reach((target, server), system_bundle, identity).await
    }

    async fn reach(
        (target, server): (Target, &Uri),
        system_bundle: &Path,
        identity: Option<&client::Identity>,
    ) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        match client::channel(&target, identity, &clock).await {
            Ok(channel) => Ok(Self { channel: Stamped::new(channel, Stamp::new(clock)) }),
            Err(TransportFault::Connect { why, cause, .. }) => Err(Failure(format!(
                "cannot reach {server}: {why}\n  {}",
                advice_to_connect(cause, system_bundle)
            ))),
            Err(TransportFault::Bundle(fault)) => {
                Err(Failure(format!("{}: {fault}", system_bundle.display())))
            }
            Err(TransportFault::NoSystemAuthority) => Err(Failure(format!(
                "{} has no system authority; take the operator's trust/system.pem",
                system_bundle.display()
            ))),
            Err(fault @ TransportFault::Tls(_)) => Err(Failure(format!(
                "{fault}\n  is {KEY} the key of {CERTIFICATE} in the folder of --identity?"
            ))),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Takes over the system authorities that the server trusts, so that a rotation shuts nobody out. Only from a server
    /// whose head was verified.
    async fn learn(&self, path: &Path) -> Result<(), Failure> {
        let pem = answer(self.attestation().get_trust_bundle(pb::GetTrustBundleRequest {})).await?.system_pem;
        let trusted = TrustBundle::from_pem(&pem)?;
        let known = TrustBundle::from_pem(&files::read_text(path)?)?;
        let (is, was) = (trusted.algorithms()?, known.algorithms()?);
        if is != was {
            return Err(Failure(format!(
                "the server's system authorities are of profile {is}, those of {} of {was}; a service never changes it",
                path.display()
            )));
        }
        let systems = known.authorities().iter().filter(|a| a.kind() == AuthorityKind::System);
        let is_same_above =
            known.roots() == trusted.roots() && known.cross_certificates() == trusted.cross_certificates();
        if is_same_above && systems.eq(trusted.authorities()) {
            return Ok(());
        }
        files::write(path, pem.as_bytes(), Access::Public)?;
        eprintln!("the system authorities changed: {} was brought up to date", path.display());
        Ok(())
    }

    /// Does it serve, as its health says?
    pub(super) async fn is_serving(&self) -> Result<bool, Failure> {
        let mut health = HealthClient::new(self.channel.clone());
        let check = answer(health.check(HealthCheckRequest::default())).await?;
        Ok(check.status() == ServingStatus::Serving)
    }

    pub(super) fn attestation(&self) -> AttestationServiceClient<Stamped> {
        AttestationServiceClient::new(self.channel.clone())
    }

    pub(super) fn audit(&self) -> AuditServiceClient<Stamped> {
        AuditServiceClient::new(self.channel.clone())
    }

    pub(super) fn authorities(&self) -> AuthorityServiceClient<Stamped> {
        AuthorityServiceClient::new(self.channel.clone())
    }

    pub(super) fn determinations(&self) -> DeterminationServiceClient<Stamped> {
        DeterminationServiceClient::new(self.channel.clone())
    }

    pub(super) fn enforcement(&self) -> EnforcementServiceClient<Stamped> {
        EnforcementServiceClient::new(self.channel.clone())
    }

    pub(super) fn mandates(&self) -> MandateServiceClient<Stamped> {
        MandateServiceClient::new(self.channel.clone())
    }

    pub(super) fn provisioning(&self) -> ProvisioningServiceClient<Stamped> {
        ProvisioningServiceClient::new(self.channel.clone())
    }

    pub(super) fn screening(&self) -> ScreeningServiceClient<Stamped> {
        ScreeningServiceClient::new(self.channel.clone())
    }

    pub(super) fn revocation(&self) -> RevocationServiceClient<Stamped> {
        RevocationServiceClient::new(self.channel.clone())
    }
}

/// The service on this machine, without a certificate, under a name that its own has.
pub(super) async fn local(address: SocketAddr, name: &str, system_bundle: &Path) -> Result<Remote, Failure> {
    let server: Uri = format!("https://{address}").parse()?;
    let system_bundle_pem = files::read_text(system_bundle)?;
    let target =
        Target { address: address.to_string(), server_name: Some(name.to_owned()), system_bundle_pem };
    Remote::reach((target, &server), system_bundle, None).await
}

fn advice_to_connect(cause: ConnectCause, system_bundle: &Path) -> String {
    match cause {
        ConnectCause::Unreachable => {
            "is `countersign serve` running there? name the right address with --server".to_owned()
        }
        ConnectCause::Untrusted => format!(
            "it is not the server whose authorities are in {}: check --server, or take the operator's trust/system.pem",
            system_bundle.display()
        ),
        ConnectCause::WrongName => {
            "name the server in --server as its certificate does: its operator sets `names` in \
                                    the configuration and restarts it"
                .to_owned()
        }
        ConnectCause::Expired => {
            "check this machine's clock; if it is right, the operator must restart the server: it \
                                  renews its certificate at start"
                .to_owned()
        }
    }
}

/// A fresh request id: a retry inside the transport is carried out once.
pub(super) fn request_id() -> String {
    RequestId::from_parts(SystemClock.now(), SystemEntropy.bytes16()).to_string()
}

/// Waits for an answer, as long as an ordinary one may take.
pub(super) async fn answer<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
    answer_within(ANSWER_DEADLINE, call).await
}

/// Waits for an answer that the server itself gives until a deadline.
pub(super) async fn answer_within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(deadline + NETWORK_MARGIN, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(in_words(&status)),
        Err(_) => Err(Failure(format!(
            "no answer after {} s; it is not known whether it was done: look with `countersign audit list`",
            (deadline + NETWORK_MARGIN).as_secs()
        ))),
    }
}

/// Messages that the server sends when there is news.
pub(super) struct Incoming<T>(Streaming<T>);

impl<T> Incoming<T> {
    /// The next one; none: the server ended the stream.
    pub(super) async fn next(&mut self) -> Result<Option<T>, Failure> {
        self.0.message().await.map_err(|status| in_words(&status))
    }
}

/// Begins a stream of answers.
pub(super) async fn incoming<T>(
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
) -> Result<Incoming<T>, Failure> {
    answer(call).await.map(Incoming)
}

/// Reason, message and what to do.
fn in_words(status: &Status) -> Failure {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    let mut text = match reason {
        Some(reason) => format!("{reason}: {}", status.message()),
        None => format!("{:?}: {}", status.code(), status.message()),
    };
    for violation in details.bad_request().into_iter().flat_map(|request| &request.field_violations) {
        if !text.contains(&violation.description) {
            text = format!("{text}; {}: {}", violation.field, violation.description);
        }
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        text = format!("{text}; retry after {} ms", delay.as_millis());
    }
    if let Some(id) = status.metadata().get(REQUEST_ID).and_then(|id| id.to_str().ok()) {
        text = format!("{text} (request {})", words::printable(id));
    }
    let what_to_do = match reason {
        Some("NEEDS_APPROVAL") if status.message().contains("none of the roles") => NOT_THE_ROLE,
        Some("NEEDS_APPROVAL") => SEE_WHO_SIGNS,
        Some("WRONG_STATE") if status.message().contains("number of approvers") => {
            "register another approver first: countersign principal register --role APPROVER"
        }
        Some("UNAUTHENTICATED") if status.message().contains(" is suspended ") => {
            "nothing that it signs counts until then: ask another officer"
        }
        Some("CONFLICT") => "something changed meanwhile: look again and repeat the command",
        Some("READ_ONLY") => "the server's disk is full: only restrictions are recorded until there is room",
        Some("NOT_ISSUABLE") => {
            "give the reference to who nominated you: officers see why with countersign person show"
        }
        Some("CLOCK_SKEW") => "set this machine's clock, by NTP for example; the service's own is watched",
        Some("CREDENTIAL_EXPIRED") => {
            "renew it: countersign principal renew; after 90 days, or for a partner, an officer makes a new one"
        }
        Some("REPEATED") => "it was done before; nothing is to be done",
        Some(_) | None => advice(status.code()),
    };
    if what_to_do.is_empty() { Failure(text) } else { Failure(format!("{text}\n  {what_to_do}")) }
}

const fn advice(code: Code) -> &'static str {
    match code {
        Code::Unauthenticated => {
            "the server does not know this certificate: name the right folder with --identity"
        }
        Code::PermissionDenied => NOT_THE_ROLE,
        Code::NotFound => "check the name; what this identity may not see is answered the same way",
        Code::ResourceExhausted => "too much at once: wait and repeat the command",
        Code::Unavailable => "repeat the command; if it lasts, look at the server's log",
        Code::DeadlineExceeded => "it is not known whether it was done: look with countersign audit list",
        Code::Internal | Code::Unknown | Code::DataLoss => "give the request id to whoever runs the server",
        Code::Unimplemented => "the server is older than this command",
        Code::InvalidArgument | Code::OutOfRange => "correct the value and repeat the command",
        Code::Ok | Code::Cancelled | Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => "",
    }
}
