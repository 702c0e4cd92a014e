//! A data directory with keys, authorities and a genesis, as `init` leaves it.

use std::path::Path;

use countersign::app::store;
use countersign::ca::bootstrap::{NewAuthority, authority};
use countersign::ca::{FileSigner, SignatureAlgorithm, Signer};
use countersign::domain::algorithm::AlgorithmProfile;
use countersign::domain::approval::{Approval, GENESIS_PREFIX};
use countersign::domain::authority::{self, Authority};
use countersign::domain::certificate::{AuthorityKind, PrincipalKind, Serial};
use countersign::domain::codec::to_bytes;
use countersign::domain::command::NewPrincipal;
use countersign::domain::entity::{EntityKind, Organisation};
use countersign::domain::event::{Entry, Event, Genesis, NewEntity};
use countersign::domain::id::{AuthorityId, BootId, EntityId};
use countersign::domain::recovery::{RecoveryKey, RecoveryKeys};
use countersign::domain::time::Timestamp;
use countersign::env::{Entropy as _, SystemEntropy};
use countersign::journal::file::Options;
use countersign::x509::{ClientKey, Curve};

use crate::tools::sign;
use crate::world::{Officer, TRUST_DOMAIN};

/// Makes keys, authorities on this curve and a journal with a genesis of this profile that both officers signed.
pub(crate) fn found_under(
    (algorithms, curve): (AlgorithmProfile, Curve),
    data: &Path,
    (now, provider): (Timestamp, EntityId),
    officers: &[&Officer; 2],
    recovery: &[ClientKey],
) {
    let keys = data.join("keys");
    std::fs::create_dir(&keys).unwrap();
    let ecdsa = SignatureAlgorithm::Ecdsa(curve);
    let access = FileSigner::create(&keys.join("access.pem"), ecdsa).unwrap();
    let system = FileSigner::create(&keys.join("system.pem"), ecdsa).unwrap();
    let log = FileSigner::create(&keys.join("log.pem"), SignatureAlgorithm::Ed25519).unwrap();
    FileSigner::create(&keys.join("server.pem"), ecdsa).unwrap();
    let new_authority = |kind, signer: &dyn Signer| {
        let id = AuthorityId::from_parts(now, SystemEntropy.bytes16());
        let not_after = now.plus_ms(365 * 86_400_000);
        let serial = Serial::from_random(SystemEntropy.bytes16());
        let made = authority(signer, &NewAuthority { id, kind, serial, not_after }, algorithms, now).unwrap();
        let certificate = made.der().to_vec();
        Authority::first(authority::NewAuthority { id, kind, certificate, not_after, beneath: None })
    };
    let bundle =
        countersign::policy::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/policy")), &[]);
    let principal = |officer: &Officer| NewPrincipal {
        id: officer.name.parse().unwrap(),
        kind: PrincipalKind::Officer,
        roles: PrincipalKind::Officer.roles().to_vec(),
        entity: None,
        key: officer.key.public_key().spki().to_vec(),
        is_pausable: false,
    };
    let genesis = Genesis {
        trust_domain: TRUST_DOMAIN.to_owned(),
        arc: countersign::x509::Arc::default().to_string(),
        bundle: bundle.unwrap().parts().clone(),
        officers: officers.iter().map(|officer| principal(officer)).collect(),
        authorities: vec![
            new_authority(AuthorityKind::Access, &access),
            new_authority(AuthorityKind::System, &system),
        ],
        log_key: log.public_key()[log.public_key().len() - 32..].to_vec(),
        provider: NewEntity {
            id: provider,
            kind: EntityKind::Company,
            name: "Provider PBC".to_owned(),
            org: Organisation::Us,
            seat: None,
        },
        lease_ms: 10_000,
        ttl_s: 86_400,
        roots: None,
        recovery: Some(RecoveryKeys {
            threshold: 2,
            keys: recovery.iter().map(|key| RecoveryKey(key.public_key().spki().to_vec())).collect(),
        }),
        algorithms: (algorithms != AlgorithmProfile::Standard).then_some(algorithms),
    };
    let bytes = to_bytes(&genesis);
    let approvals = officers
        .iter()
        .map(|officer| Approval {
            officer: officer.name.parse().unwrap(),
            signature: sign(&officer.key, GENESIS_PREFIX, &bytes),
        })
        .collect();
    let entry = Entry { event: Event::Genesis { bytes, approvals }, by: None, request: None };
    let boot = BootId::from_parts(now, SystemEntropy.bytes16());
    store::create(data, &Options::new(SystemEntropy.bytes16()), &entry, boot, now).unwrap();
}
