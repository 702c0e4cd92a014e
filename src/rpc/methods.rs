//! One row for each RPC: who may call it. A method without a row is refused, and fails a test.

use crate::domain::principal::Role;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without a client certificate; limited per address.
    Anyone,
    /// A person or workload with its own access certificate.
    Subject,
    /// A registered principal with one of these roles.
    Roles(&'static [Role]),
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

/// Who may watch a restriction being enforced: who may restrict.
pub(super) const RESTRICTION_WATCHERS: Access = Access::Roles(RESTRICTERS);

const fn row(path: &'static str, access: Access) -> Method {
    Method { path, access }
}

/// The table.
pub static METHODS: &[Method] = &[
    row("/countersign.v1.AttestationService/Enroll", Access::Anyone),
    row("/countersign.v1.AttestationService/Renew", Access::Subject),
    row("/countersign.v1.AttestationService/GetRenewal", Access::Subject),
    row("/countersign.v1.AttestationService/IssuePrincipalCertificate", Access::Roles(OFFICERS)),
    row("/countersign.v1.AttestationService/RenewPrincipalCertificate", Access::Roles(ALL)),
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
    row("/countersign.v1.RevocationService/Revoke", Access::Roles(RESTRICTERS)),
    row("/countersign.v1.RevocationService/Suspend", Access::Roles(RESTRICTERS)),
    row("/countersign.v1.RevocationService/Stop", Access::Roles(RESTRICTERS)),
    row("/countersign.v1.RevocationService/WatchEnforcement", RESTRICTION_WATCHERS),
    row("/countersign.v1.RevocationService/WatchRenewals", RENEWAL_WATCHERS),
    row("/countersign.v1.RevocationService/ListRestrictions", Access::Roles(OFFICERS)),
    row("/countersign.v1.MandateService/PrepareMandate", Access::Roles(SIGNERS)),
    row("/countersign.v1.MandateService/SubmitMandate", Access::Roles(SIGNERS)),
    row("/countersign.v1.MandateService/ApproveProposal", Access::Roles(SIGNERS)),
    row("/countersign.v1.MandateService/WithdrawProposal", Access::Roles(SIGNERS)),
    row("/countersign.v1.MandateService/GetProposal", Access::Roles(OFFICERS)),
    row("/countersign.v1.MandateService/ListProposals", Access::Roles(OFFICERS)),
    row("/countersign.v1.ProvisioningService/ApplyEntity", Access::Roles(&[Role::Registrar])),
    row("/countersign.v1.ProvisioningService/GetEntity", Access::Roles(READERS)),
    row("/countersign.v1.ProvisioningService/ListEntities", Access::Roles(READERS)),
    row("/countersign.v1.ProvisioningService/NominateSubject", Access::Roles(REGISTRARS)),
    row("/countersign.v1.ProvisioningService/AttestRelation", Access::Roles(REGISTRARS)),
    row("/countersign.v1.ProvisioningService/GetSubject", Access::Roles(READERS)),
    row("/countersign.v1.ProvisioningService/ListSubjects", Access::Roles(READERS)),
    row("/countersign.v1.ProvisioningService/CreateToken", Access::Roles(REGISTRARS)),
    row("/countersign.v1.AuthorityService/PrepareAuthority", Access::Roles(RESTRICTERS)),
    row("/countersign.v1.AuthorityService/ListAuthorities", Access::Roles(OFFICERS)),
    row("/countersign.v1.AuthorityService/GetAuthority", Access::Roles(OFFICERS)),
    row("/countersign.v1.AuthorityService/WatchAuthorities", AUTHORITY_WATCHERS),
    row("/countersign.v1.AuditService/GetHead", Access::Roles(OFFICERS)),
    row("/countersign.v1.AuditService/GetRestore", Access::Roles(OFFICERS)),
    row("/countersign.v1.AuditService/ListRecords", Access::Roles(RECORD_READERS)),
    row("/envoy.service.auth.v3.Authorization/Check", Access::Roles(&[Role::Gateway])),
    row("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets", SUBSCRIBERS),
    row("/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets", SUBSCRIBERS),
    row("/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets", SUBSCRIBERS),
    row("/grpc.health.v1.Health/Check", Access::Anyone),
    row("/grpc.health.v1.Health/Watch", Access::Anyone),
    row("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Roles(ALL)),
];

/// The row of a method.
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}
