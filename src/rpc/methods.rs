//! One row for each RPC: who may call it, and what sort of work it is. A method without a row is refused, and fails a test.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use crate::domain::principal::Role;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without a client certificate; limited per address.
    Anyone,
    /// A person or workload with its own access certificate.
    Subject,
    /// A registered principal, whatever its roles, and an officer or a gateway whose certificate ended a while ago.
    Renewal,
    /// A registered principal with one of these roles.
    Roles(&'static [Role]),
}

/// What sort of work a call is: how often it may be made, how long it may take, and how much of its caller's time it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A balancer's probe: never limited, for one that is refused would take the service for dead.
    Probe,
    /// A look at memory.
    Read,
    /// A page, a walk through an index or the record.
    List,
    /// A decision about an access, or a report of some: gateways make as many as they have users.
    Decision,
    /// Something is recorded or signed.
    Mutation,
    /// Officers' signatures are asked for or handed in.
    Mandate,
    /// Something is taken away. Limited by nothing but all calls of a principal together, and refused for no deadline and no
    /// clock: a stop must go through.
    Restriction,
    /// A stream that goes on.
    Stream,
}

impl Class {
    /// By the verb of a path: so a new row has its class at once, and what is not known to be cheap counts as a change.
    fn of(path: &str) -> Self {
        let verb = path.rsplit('/').next().unwrap_or_default();
        let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let begins = |words: &[&str]| words.iter().any(|word| verb.starts_with(word));
        match (service, verb) {
            ("grpc.health.v1.Health", "Check") => Self::Probe,
            // It decides for everybody on record.
            (_, "GetRestoration") => Self::List,
            ("countersign.v1.RevocationService", "Revoke" | "Suspend" | "Stop") => Self::Restriction,
            (_, "Evaluate" | "Verify" | "Check" | "ReportDecisions") => Self::Decision,
            (_, "Subscribe" | "StreamSecrets" | "DeltaSecrets" | "ServerReflectionInfo") => Self::Stream,
            _ if begins(&["Watch", "Simulate"]) => Self::Stream,
            _ if begins(&["List"]) => Self::List,
            _ if begins(&["Get", "Fetch"]) => Self::Read,
            // An upload takes as long as its file, and is as rare as what is signed for it.
            ("countersign.v1.MandateService", _) | (_, "UploadList") => Self::Mandate,
            _ => Self::Mutation,
        }
    }

    /// How long a call may take when its caller names no deadline, and at most. Of a stream: until it begins.
    pub const fn time_max(self) -> Duration {
        match self {
            // A look at memory, or one RFC 6962 walk that is not kept yet.
            Self::Probe | Self::Read | Self::Decision => Duration::from_secs(10),
            // Issuance waits up to 15 s for ordinals; a page may have to be read from a slow disk. A subscriber says Open
            // first, and what it claims may be looked for in the whole record.
            Self::List | Self::Mutation | Self::Stream => Duration::from_secs(30),
            // The longest lease bound, and some seconds.
            Self::Mandate | Self::Restriction => Duration::from_secs(75),
        }
    }

    /// What must be left of a caller's deadline for a call to be begun: less, and its answer would come to nobody while what it
    /// did stands. A record is one write, its sync and the wait for others; a decision is microseconds and the way back.
    pub const fn time_min(self) -> Duration {
        match self {
            Self::Probe | Self::Restriction => Duration::ZERO,
            Self::Read | Self::Decision => Duration::from_millis(5),
            Self::List | Self::Stream => Duration::from_millis(20),
            Self::Mutation | Self::Mandate => Duration::from_millis(100),
        }
    }
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
}

const ALL: &[Role] = Role::ALL;
const OFFICERS: &[Role] = &[Role::Registrar, Role::Vetter, Role::Approver, Role::SecurityOps, Role::Auditor];
const SIGNERS: &[Role] = &[Role::Vetter, Role::Approver, Role::SecurityOps];
const RESTRICTERS: &[Role] = &[Role::Approver, Role::SecurityOps];
const REGISTRARS: &[Role] = &[Role::Registrar, Role::PartnerAdmin];
const READERS: &[Role] =
    &[Role::Registrar, Role::Vetter, Role::Approver, Role::SecurityOps, Role::Auditor, Role::PartnerAdmin];
/// Auditors, and who keeps backups.
const RECORD_READERS: &[Role] = &[Role::SecurityOps, Role::Auditor];
const DECIDERS: &[Role] = &[Role::Gateway, Role::SecurityOps, Role::Auditor];

/// Who may subscribe: asked again while the stream is open.
pub(super) const SUBSCRIBERS: Access = Access::Roles(&[Role::Gateway]);

/// Who may watch the fleet: likewise.
pub(super) const GATEWAY_WATCHERS: Access = Access::Roles(OFFICERS);

/// Who may watch a rotation: likewise.
pub(super) const AUTHORITY_WATCHERS: Access = Access::Roles(OFFICERS);

/// Who may watch what is to be renewed: likewise. A partner sees its own.
pub(super) const RENEWAL_WATCHERS: Access = Access::Roles(READERS);

/// Who may watch what waits for officers: likewise.
pub(super) const APPROVAL_WATCHERS: Access = Access::Roles(OFFICERS);

/// Who may take away: who has the role, and every other officer by breaking the glass. The service looks at which of them it
/// is, in what was signed.
const RESTRICTERS_OR_EMERGENCY: Access = Access::Roles(OFFICERS);

/// Who may watch a restriction being enforced: who may restrict.
pub(super) const RESTRICTION_WATCHERS: Access = RESTRICTERS_OR_EMERGENCY;

/// Who may simulate a change of law or policy: likewise.
pub(super) const SIMULATORS: Access = Access::Roles(OFFICERS);

const fn row(path: &'static str, access: Access) -> Method {
    Method { path, access }
}

/// The table.
pub static METHODS: &[Method] = &[
    row("/countersign.v1.AttestationService/Enroll", Access::Anyone),
    row("/countersign.v1.AttestationService/Renew", Access::Subject),
    row("/countersign.v1.AttestationService/GetRenewal", Access::Subject),
    row("/countersign.v1.AttestationService/IssuePrincipalCertificate", Access::Roles(OFFICERS)),
    row("/countersign.v1.AttestationService/RenewPrincipalCertificate", Access::Renewal),
    row("/countersign.v1.AttestationService/IssueCanaries", SUBSCRIBERS),
    row("/countersign.v1.AttestationService/Evaluate", Access::Roles(DECIDERS)),
    row("/countersign.v1.AttestationService/Verify", Access::Roles(ALL)),
    row("/countersign.v1.AttestationService/ListCertificates", Access::Roles(OFFICERS)),
    row("/countersign.v1.AttestationService/GetTrustBundle", Access::Roles(ALL)),
    row("/countersign.v1.EnforcementService/Subscribe", SUBSCRIBERS),
    row("/countersign.v1.EnforcementService/ReportDecisions", SUBSCRIBERS),
    row("/countersign.v1.EnforcementService/ReportRestrictions", SUBSCRIBERS),
    row("/countersign.v1.EnforcementService/ListGateways", Access::Roles(OFFICERS)),
    row("/countersign.v1.EnforcementService/GetGateway", Access::Roles(OFFICERS)),
    row("/countersign.v1.EnforcementService/WatchGateways", GATEWAY_WATCHERS),
    row("/countersign.v1.RevocationService/Revoke", RESTRICTERS_OR_EMERGENCY),
    row("/countersign.v1.RevocationService/Suspend", RESTRICTERS_OR_EMERGENCY),
    row("/countersign.v1.RevocationService/Stop", RESTRICTERS_OR_EMERGENCY),
    row("/countersign.v1.RevocationService/Drill", Access::Roles(RESTRICTERS)),
    row("/countersign.v1.RevocationService/ListDrills", Access::Roles(OFFICERS)),
    row("/countersign.v1.RevocationService/WatchEnforcement", RESTRICTION_WATCHERS),
    row("/countersign.v1.RevocationService/WatchRenewals", RENEWAL_WATCHERS),
    row("/countersign.v1.RevocationService/ListRestrictions", Access::Roles(OFFICERS)),
    row("/countersign.v1.MandateService/PrepareMandate", Access::Roles(OFFICERS)),
    row("/countersign.v1.MandateService/SubmitMandate", Access::Roles(OFFICERS)),
    row("/countersign.v1.MandateService/ApproveProposal", Access::Roles(SIGNERS)),
    row("/countersign.v1.MandateService/RejectProposal", Access::Roles(OFFICERS)),
    row("/countersign.v1.MandateService/GetProposal", Access::Roles(OFFICERS)),
    row("/countersign.v1.MandateService/ListProposals", Access::Roles(OFFICERS)),
    row("/countersign.v1.MandateService/WatchApprovals", APPROVAL_WATCHERS),
    row("/countersign.v1.MandateService/SubmitRecovery", Access::Anyone),
    row("/countersign.v1.ProvisioningService/ApplyEntity", Access::Roles(&[Role::Registrar])),
    row("/countersign.v1.ProvisioningService/GetEntity", Access::Roles(READERS)),
    row("/countersign.v1.ProvisioningService/ListEntities", Access::Roles(READERS)),
    row("/countersign.v1.ProvisioningService/NominateSubject", Access::Roles(REGISTRARS)),
    row("/countersign.v1.ProvisioningService/ImportPeople", Access::Roles(REGISTRARS)),
    row("/countersign.v1.ProvisioningService/AttestRelation", Access::Roles(REGISTRARS)),
    row("/countersign.v1.ProvisioningService/GetSubject", Access::Roles(READERS)),
    row("/countersign.v1.ProvisioningService/ListSubjects", Access::Roles(READERS)),
    row("/countersign.v1.ProvisioningService/ListDue", Access::Roles(READERS)),
    row("/countersign.v1.ProvisioningService/GetRestoration", Access::Roles(OFFICERS)),
    row("/countersign.v1.ProvisioningService/CreateToken", Access::Roles(REGISTRARS)),
    row("/countersign.v1.ScreeningService/UploadList", Access::Roles(&[Role::Vetter])),
    row("/countersign.v1.ScreeningService/GetScreening", Access::Roles(OFFICERS)),
    row("/countersign.v1.ScreeningService/ListMatches", Access::Roles(OFFICERS)),
    row("/countersign.v1.AuthorityService/PrepareAuthority", Access::Roles(RESTRICTERS)),
    row("/countersign.v1.AuthorityService/ListAuthorities", Access::Roles(OFFICERS)),
    row("/countersign.v1.AuthorityService/GetAuthority", Access::Roles(OFFICERS)),
    row("/countersign.v1.AuthorityService/WatchAuthorities", AUTHORITY_WATCHERS),
    row("/countersign.v1.DeterminationService/GetPolicy", Access::Roles(OFFICERS)),
    row("/countersign.v1.DeterminationService/ListDeterminations", Access::Roles(OFFICERS)),
    row("/countersign.v1.DeterminationService/Simulate", SIMULATORS),
    row("/countersign.v1.AuditService/GetHead", Access::Roles(OFFICERS)),
    row("/countersign.v1.AuditService/GetRestore", Access::Roles(OFFICERS)),
    row("/countersign.v1.AuditService/ListRecords", Access::Roles(RECORD_READERS)),
    row("/countersign.v1.AuditService/ListCalls", Access::Roles(RECORD_READERS)),
    row("/countersign.v1.AuditService/ListDecisions", Access::Roles(RECORD_READERS)),
    row("/countersign.v1.AuditService/ReplayDecision", Access::Roles(RECORD_READERS)),
    row("/countersign.v1.AuditService/ExplainAccess", Access::Roles(READERS)),
    row("/countersign.v1.AuditService/ListExposure", Access::Roles(RECORD_READERS)),
    row("/countersign.v1.AuditService/ListSignals", Access::Roles(RECORD_READERS)),
    row("/countersign.v1.AuditService/ListRecordHolds", Access::Roles(OFFICERS)),
    row("/envoy.service.auth.v3.Authorization/Check", Access::Roles(&[Role::Gateway])),
    row("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets", SUBSCRIBERS),
    row("/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets", SUBSCRIBERS),
    row("/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets", SUBSCRIBERS),
    row("/grpc.health.v1.Health/Check", Access::Anyone),
    row("/grpc.health.v1.Health/Watch", Access::Anyone),
    row("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Roles(ALL)),
];

/// Rows by path, with their classes: looked up once for each call.
static BY_PATH: LazyLock<HashMap<&'static str, (&'static Method, Class)>> =
    LazyLock::new(|| METHODS.iter().map(|method| (method.path, (method, Class::of(method.path)))).collect());

/// The row of a method, and its class.
pub fn method(path: &str) -> Option<(&'static Method, Class)> {
    BY_PATH.get(path).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;

    #[test]
    fn every_method_with_a_stream_of_answers_is_a_stream_and_no_other_is() {
        let mut streams = BTreeSet::new();
        for set in [crate::pb::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET] {
            for file in prost_types::FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    let of_stream = service.method.iter().filter(|method| method.server_streaming());
                    streams.extend(
                        of_stream.map(|m| format!("/{}.{}/{}", file.package(), service.name(), m.name())),
                    );
                }
            }
        }
        // Not in a descriptor set of ours.
        for name in ["StreamSecrets", "DeltaSecrets"] {
            streams.insert(format!("/envoy.service.secret.v3.SecretDiscoveryService/{name}"));
        }
        streams.insert("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned());
        let classed = METHODS.iter().filter(|m| Class::of(m.path) == Class::Stream);
        assert_eq!(classed.map(|m| m.path.to_owned()).collect::<BTreeSet<_>>(), streams);
    }

    #[test]
    fn restrictions_are_never_refused_for_a_deadline_and_nothing_else_records_without_one() {
        let of = |class| METHODS.iter().filter(move |m| Class::of(m.path) == class).map(|m| m.path);
        let verbs = ["Revoke", "Suspend", "Stop"].map(|v| format!("/countersign.v1.RevocationService/{v}"));
        assert!(of(Class::Restriction).eq(verbs.iter().map(String::as_str)));
        assert_eq!(of(Class::Probe).collect::<Vec<_>>(), ["/grpc.health.v1.Health/Check"]);
        for path in of(Class::Read).chain(of(Class::List)) {
            let verb = path.rsplit('/').next().unwrap();
            assert!(
                ["Get", "List", "Fetch"].iter().any(|word| verb.starts_with(word)),
                "{path} may change something"
            );
        }
        for class in
            [Class::Read, Class::List, Class::Decision, Class::Mutation, Class::Mandate, Class::Stream]
        {
            assert!(class.time_min() > Duration::ZERO && class.time_min() * 10 < class.time_max());
        }
    }
}
