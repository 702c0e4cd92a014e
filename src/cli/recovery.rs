//! `countersign recovery`: keys that are kept offline, for when too few officers are left who have theirs. They register officers
//! and do nothing else, announced to everybody and effective a day later.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::files::{self, Access};
use super::identity::{KEY, key_in, load_key, requested_key, sign, write_chain};
use super::mandate::Commit;
use super::output::confirm;
use super::remote::{Connection, SEE_WHO_SIGNS, answer};
use super::unlock::Unlock;
use super::{Failure, Outcome, Output, words};
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::approval::{Basis, Mandate};
use crate::domain::certificate::PrincipalKind;
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::{Command, NewPrincipal, ObjectRef};
use crate::domain::id::{Digest, PrincipalId, Seq};
use crate::domain::principal::Role;
use crate::domain::recovery::{RECOVERY_PREFIX, SignedRecovery};
use crate::env::{Clock as _, SystemClock};
use crate::pb;
use crate::x509::TrustDomain;

/// File of the request of a recovery key, which `init --recovery-key` takes.
const REQUEST: &str = "recovery.csr";

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Make a recovery key and its request. Keep the folder offline, in a place of its own.
    #[command(after_help = "Example:\n  countersign recovery new --out safe-1 --passphrase ask")]
    New {
        /// Folder of the key; an existing one is kept.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The profile of the service: cnsa makes a P-384 key.
        #[arg(long, value_name = "PROFILE", default_value = "standard")]
        profile: AlgorithmProfile,
    },
    /// Write down what recovery keys are to sign: the registration of an officer.
    #[command(
        after_help = "Example:\n  countersign recovery prepare --trust-domain example.org --name carol --role APPROVER \\\n      \
                            --csr carol/carol.csr --out carol.recovery"
    )]
    Prepare {
        /// The trust domain of the service.
        #[arg(long)]
        trust_domain: TrustDomain,
        /// The name of the new officer.
        #[arg(long)]
        name: PrincipalId,
        /// A role; may be given several times. A wrong word lists all.
        #[arg(long = "role", required = true)]
        roles: Vec<Role>,
        /// Certificate request of the officer's key, PEM or DER.
        #[arg(long, value_name = "FILE")]
        csr: PathBuf,
        /// Where it goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Look at it and sign it with one recovery key.
    #[command(
        after_help = "Example:\n  countersign recovery sign --key safe-1/key.pem --request carol.recovery --out 1.sig"
    )]
    Sign {
        /// The recovery key, mode 0600.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// What `recovery prepare` wrote.
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// Where the signature goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Sign without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Announce it, and once it is effective fetch the officer's certificate with the same command. No certificate is needed.
    #[command(
        after_help = "Example:\n  countersign recovery submit --request carol.recovery --signature 1.sig --signature 2.sig \\\n      \
                            --system-bundle system.pem --csr carol/carol.csr --out carol/certificate.pem --commit"
    )]
    Submit {
        /// What was signed.
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// A signature of `recovery sign`; once for each key.
        #[arg(long = "signature", value_name = "FILE", required = true)]
        signatures: Vec<PathBuf>,
        /// The system authorities of the service, PEM: how the server is known.
        #[arg(long, value_name = "FILE")]
        system_bundle: PathBuf,
        /// Certificate request of the officer's key.
        #[arg(long, value_name = "FILE")]
        csr: PathBuf,
        /// Where the certificate goes once it is effective.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        commit: Commit,
    },
}

/// The verbs that need no server.
pub(super) fn local(verb: &Verb, unlock: &Unlock, output: &Output) -> Result<Outcome, Failure> {
    match verb {
        Verb::New { out, profile } => new(out, *profile, unlock, output),
        Verb::Prepare { trust_domain, name, roles, csr, out } => {
            check_roles(roles)?;
            let (requested, _) = requested_key(csr)?;
            let new = NewPrincipal {
                id: name.clone(),
                kind: PrincipalKind::Officer,
                roles: roles.clone(),
                entity: None,
                key: requested.key().spki().to_vec(),
                is_pausable: false,
            };
            prepare(&trust_domain.to_string(), new, out, output)
        }
        Verb::Sign { key, request, out, yes } => sign_request((key, unlock), request, (out, *yes), output),
        Verb::Submit { .. } => Err(Failure("it needs a server".to_owned())),
    }
}

fn new(out: &Path, profile: AlgorithmProfile, unlock: &Unlock, output: &Output) -> Result<Outcome, Failure> {
    let (key, _) = key_in(out, profile, unlock)?;
    let request = out.join(REQUEST);
    files::write(&request, files::request_pem(&key.request()?).as_bytes(), Access::Public)?;
    let digest = key.public_key().digest();
    let text = format!(
        "key      {} (keep it offline)\nrequest  {} (for init --recovery-key)\nsha-256  {digest} of the public key",
        out.join(KEY).display(),
        request.display()
    );
    let value = json!({
        "key": out.join(KEY).display().to_string(), "request": request.display().to_string(),
        "key_sha256": digest.to_string(),
    });
    output.print(&value, &text);
    Ok(Outcome::Done)
}

/// What the service would refuse is refused before anybody fetches a key from a safe.
fn check_roles(roles: &[Role]) -> Result<(), Failure> {
    let of_officers = PrincipalKind::Officer.roles();
    let Some(wrong) = roles.iter().find(|role| !of_officers.contains(role)) else { return Ok(()) };
    let words: Vec<_> = of_officers.iter().map(|role| role.as_str()).collect();
    Err(Failure(format!(
        "recovery keys register officers and nothing else, and {} is no role of an officer; those are {}",
        wrong.as_str(),
        words.join(", ")
    )))
}

fn prepare(trust_domain: &str, new: NewPrincipal, out: &Path, output: &Output) -> Result<Outcome, Failure> {
    // A name that was never registered: the only revision that a recovery can rest on.
    let basis = vec![Basis { object: ObjectRef::Principal(new.id.clone()), revision: Seq(0) }];
    let command = Command::RegisterPrincipal(new);
    let mandate =
        Mandate { trust_domain: trust_domain.to_owned(), command, basis, made_at: SystemClock.now() };
    let bytes = to_bytes(&mandate);
    files::write(out, &bytes, Access::Public)?;
    output.note(&words::recovery(&mandate, &bytes)?);
    let text = format!(
        "request  {}\nIt is good for seven days. Each holder of a recovery key signs it: countersign recovery sign",
        out.display()
    );
    let value = json!({ "request": out.display().to_string(), "sha256": Digest::of(&bytes).to_string() });
    output.print(&value, &text);
    Ok(Outcome::Done)
}

fn sign_request(
    (key, unlock): (&Path, &Unlock),
    request: &Path,
    (out, yes): (&Path, bool),
    output: &Output,
) -> Result<Outcome, Failure> {
    let (bytes, mandate, _) = read_request(request)?;
    output.note(&words::recovery(&mandate, &bytes)?);
    let digest = load_key(key, unlock)?.public_key().digest();
    confirm(&format!("Sign this with the recovery key {digest}?"), yes)?;
    let signature = sign(key, unlock, RECOVERY_PREFIX, &bytes)?;
    files::write(out, format!("{digest} {}\n", hex::encode(signature)).as_bytes(), Access::Public)?;
    output.print(&json!({ "signature": out.display().to_string() }), &format!("Signed: {}", out.display()));
    Ok(Outcome::Done)
}

/// What `recovery prepare` wrote, and whom it registers.
fn read_request(path: &Path) -> Result<(Vec<u8>, Mandate, NewPrincipal), Failure> {
    let bytes = files::read(path)?;
    let is_none = |why: &str| Failure(format!("{} is no request of a recovery: {why}", path.display()));
    let mandate: Mandate = from_bytes(&bytes).map_err(|e| is_none(&e.to_string()))?;
    let signed = SignedRecovery { bytes, signatures: Vec::new() };
    let (mandate, new) = signed.read(&mandate.trust_domain).map_err(|e| is_none(&e.to_string()))?;
    Ok((signed.bytes, mandate, new))
}

fn signature(path: &Path) -> Result<pb::RecoverySignature, Failure> {
    let wrong = || Failure(format!("{} is no signature of `countersign recovery sign`", path.display()));
    let text = files::read_text(path)?;
    let (key, signature) = text.trim().split_once(' ').ok_or_else(wrong)?;
    let signature = hex::decode(signature).map_err(|_| wrong())?;
    Ok(pb::RecoverySignature { key_sha256: key.to_owned(), signature: signature.into() })
}

/// No officer is there to be asked who must sign.
fn refused(Failure(why): Failure) -> Failure {
    Failure(
        why.replace(
            SEE_WHO_SIGNS,
            "other holders of recovery keys sign the request: countersign recovery sign",
        ),
    )
}

/// Announces a recovery, or fetches the certificate of one that is effective.
pub(super) async fn submit(verb: Verb, connection: &Connection, output: &Output) -> Result<Outcome, Failure> {
    let Verb::Submit { request, signatures, system_bundle, csr, out, commit } = verb else {
        return Err(Failure("this verb needs no server".to_owned()));
    };
    let (mandate, _, new) = read_request(&request)?;
    let (requested, csr_der) = requested_key(&csr)?;
    if requested.key().spki() != new.key {
        // Found now and not a day later.
        return Err(Failure(format!(
            "{} is not for the key that {} registers for {}",
            csr.display(),
            request.display(),
            new.id
        )));
    }
    let signatures = signatures.iter().map(|path| signature(path)).collect::<Result<_, _>>()?;
    let remote = connection.anonymous(&system_bundle).await?;
    let message = pb::SubmitRecoveryRequest {
        mandate: mandate.into(),
        signatures,
        csr: csr_der.into(),
        validate_only: !commit.commit,
    };
    let done = answer(remote.mandates().submit_recovery(message)).await.map_err(refused)?;
    let value = json!({
        "recovery_id": done.recovery_id, "effective_at": done.effective_at,
        "effective": !done.certificate.is_empty(), "certificate": out.display().to_string(),
    });
    if !done.certificate.is_empty() {
        write_chain(&out, &done.certificate, &done.chain)?;
        output.print(&value, &format!("The officer is registered. certificate  {}", out.display()));
    } else if done.recovery_id.is_empty() {
        let text = "It can be announced. Nothing changed; add --commit to do it.";
        output.print(&json!({ "checked": true, "committed": false }), text);
    } else {
        let text = format!(
            "{} is announced to every officer and effective at {}, unless one of them rejects it. Then run this again.",
            words::printable(&done.recovery_id),
            words::printable(&done.effective_at)
        );
        output.print(&value, &text);
    }
    Ok(Outcome::Done)
}
