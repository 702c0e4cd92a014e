//! Founds the throw-away service: two officers' keys, genesis signed by both, certificates for everybody.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::{Place, command};
use crate::app::App;
use crate::cli::Failure;
use crate::cli::files::{self, Access};
use crate::cli::identity::{self, CERTIFICATE, SYSTEM_BUNDLE};
use crate::cli::unlock::Unlock;
use crate::domain::algorithm::AlgorithmProfile;

/// The policy bundle that `dev` starts with: the one in deploy/policy.
const POLICY: &[(&str, &str)] = &[
    ("models.toml", include_str!("../../../deploy/policy/models.toml")),
    ("posture.toml", include_str!("../../../deploy/policy/posture.toml")),
    ("provider-policy.toml", include_str!("../../../deploy/policy/provider-policy.toml")),
    (
        "determinations/2026-06-12-imposition.toml",
        include_str!("../../../deploy/policy/determinations/2026-06-12-imposition.toml"),
    ),
    (
        "determinations/2026-06-26-lift.toml",
        include_str!("../../../deploy/policy/determinations/2026-06-26-lift.toml"),
    ),
    (
        "determinations/2026-06-30-rescission.toml",
        include_str!("../../../deploy/policy/determinations/2026-06-30-rescission.toml"),
    ),
];

/// The officers, who exist only here.
pub(super) const OFFICERS: [&str; 2] = ["alice", "bob"];

/// Officers' keys, genesis, both signatures, the first certificates.
pub(super) fn found(
    place: &Place,
    listen: SocketAddr,
    profile: AlgorithmProfile,
) -> Result<((), String), Failure> {
    let policy = place.root.join("policy");
    files::make_folder(&policy.join("determinations"))?;
    for (name, content) in POLICY {
        files::write(&policy.join(name), content.as_bytes(), Access::Public)?;
    }
    let (data, genesis) = (place.path("data"), place.path("data/genesis.cbor"));
    let mut named = Vec::new();
    for name in OFFICERS {
        command(&[
            "officer",
            "new",
            "--name",
            name,
            "--out",
            &place.path(name),
            "--profile",
            profile.as_str(),
        ])?;
        named.push(format!("{name}={}", place.path(&format!("{name}/{name}.csr"))));
    }
    let [alice, bob] = named.as_slice() else { return Err(Failure("two officers are needed".to_owned())) };
    command(&[
        "init",
        "--data",
        &data,
        "--trust-domain",
        "dev.countersign.example",
        "--policy",
        &place.path("policy"),
        "--provider-name",
        "Sample Provider",
        "--officer",
        alice,
        "--officer",
        bob,
        "--listen",
        &listen.to_string(),
        "--profile",
        profile.as_str(),
    ])?;
    let mut signatures = Vec::new();
    for name in OFFICERS {
        let (key, out) = (place.path(&format!("{name}/key.pem")), place.path(&format!("{name}/genesis.sig")));
        command(&["officer", "sign-genesis", "--key", &key, "--genesis", &genesis, "--out", &out, "--yes"])?;
        signatures.push(format!("{name}={out}"));
    }
    let [alice, bob] = signatures.as_slice() else {
        return Err(Failure("two officers are needed".to_owned()));
    };
    command(&["init", "--data", &data, "--signature", alice, "--signature", bob])?;
    Ok(((), "two throw-away officers signed genesis".to_owned()))
}

/// Certificates for the officers, new ones when theirs are old, and the bundle that they trust.
pub(super) fn identities(runtime: &Runtime, app: &Arc<App>, place: &Place) -> Result<((), String), Failure> {
    for name in OFFICERS {
        let folder = place.root.join(name);
        let (key, _) = identity::key_in(&folder, app.algorithms(), &Unlock::default())?;
        let issued = runtime.block_on(app.issue_principal(&name.parse()?, &key.request()?))?;
        identity::write_certificate(&folder.join(CERTIFICATE), &issued.certificate)?;
        trust(place, &folder)?;
    }
    Ok(((), OFFICERS.join(" and ")))
}

/// The system authorities, as the operator publishes them.
pub(super) fn trust(place: &Place, folder: &Path) -> Result<(), Failure> {
    let bundle = files::read(&place.root.join("data").join("trust").join("system.pem"))?;
    files::write(&folder.join(SYSTEM_BUNDLE), &bundle, Access::Public)
}
