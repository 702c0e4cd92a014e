//! `countersign enroll` and `renew`: a certificate for a key that is made here. The key is on disk before anything is
//! asked for with it, so that a lost answer can be asked for again: the same key gets the same certificate.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::files::{self, Access};
use super::identity::{CERTIFICATE, KEY, SYSTEM_BUNDLE, key_in, profile_of, write_chain};
use super::remote::{Remote, answer};
use super::unlock::Unlock;
use super::{Context, Failure, Outcome};
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::id::Digest;
use crate::domain::time::Timestamp;
use crate::env::{Clock, SystemClock};
use crate::pb;

/// The longest token: an id and 64 hexadecimal digits.
const TOKEN_LEN_MAX: u64 = 256;

/// Redeem a one-time token for a certificate.
///
/// The key is made in the folder and never leaves it. After an interruption the same command finishes the work.
#[derive(Args)]
#[command(
    after_help = "Example:\n  countersign enroll --token - --system-bundle system.pem --out me < token.txt"
)]
pub(super) struct EnrollArguments {
    /// The token as it was given; `-` reads it from standard input, so that it is in no list of processes.
    #[arg(long)]
    token: String,
    /// The system authorities to trust, PEM, as the operator published them.
    #[arg(long, value_name = "FILE")]
    system_bundle: PathBuf,
    /// Folder of the new identity; an existing key in it is used again.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Renew a certificate with a new key, before it ends.
///
/// The old identity is left as it is. After an interruption the same command finishes the work: the new key is kept.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  countersign renew --identity me --out me-next\n  countersign renew --when-due --identity me --out me-next"
)]
pub(super) struct RenewArguments {
    /// Only when it is time, as the server says: to be run every minute. Exit 0 when it is not, and nothing is written.
    #[arg(long)]
    when_due: bool,
    /// Folder of the new identity; an existing key in it is used again.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) async fn enroll(arguments: &EnrollArguments, context: &Context<'_>) -> Result<Outcome, Failure> {
    let token = match arguments.token.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().take(TOKEN_LEN_MAX).read_to_string(&mut text)?;
            text.trim().to_owned()
        }
        token => token.to_owned(),
    };
    let algorithms = profile_of(&arguments.system_bundle)?;
    let csr = request(&arguments.out, algorithms, &context.connection.unlock)?;
    let remote = context.connection.anonymous(&arguments.system_bundle).await?;
    let issued = answer(remote.attestation().enroll(pb::EnrollRequest { token, csr: csr.into() })).await?;
    let (leaf, ignored) = ((&issued.certificate[..], &issued.chain[..]), &issued.ignored[..]);
    keep(&arguments.out, &arguments.system_bundle, leaf, ignored, context)
}

pub(super) async fn renew(arguments: &RenewArguments, context: &Context<'_>) -> Result<Outcome, Failure> {
    let identity = context.connection.identity()?;
    if let Some(name) = identity.credential()?.name {
        return Err(Failure(format!(
            "{} is a principal, whose certificate is renewed for the same key: countersign principal renew",
            name.principal
        )));
    }
    if same_folder(&identity.path(""), &arguments.out) {
        return Err(Failure(
            "--out is the folder of --identity; name a new one, so that the old certificate stays usable"
                .to_owned(),
        ));
    }
    let remote = context.connection.remote().await?;
    if arguments.when_due
        && let Some(due) = not_due(&identity.path(CERTIFICATE), &remote).await?
    {
        let text = format!("not before {due}");
        context.output.print(&json!({ "renewed": false, "due": due.to_string() }), &text);
        return Ok(Outcome::Done);
    }
    let algorithms = profile_of(&identity.path(SYSTEM_BUNDLE))?;
    let csr = request(&arguments.out, algorithms, &context.connection.unlock)?;
    let issued = answer(remote.attestation().renew(pb::RenewRequest { csr: csr.into() })).await?;
    let bundle = identity.path(SYSTEM_BUNDLE);
    let (leaf, ignored) = ((&issued.certificate[..], &issued.chain[..]), &issued.ignored[..]);
    keep(&arguments.out, &bundle, leaf, ignored, context)
}

/// When the certificate is to be renewed, if that is still to come: at a point of its window that only the certificate
/// decides (RFC 9773 section 4.2 has it random), so that those of a fleet do not come together; and at once when it is hurried.
async fn not_due(certificate: &Path, remote: &Remote) -> Result<Option<Timestamp>, Failure> {
    let window = answer(remote.attestation().get_renewal(pb::GetRenewalRequest {})).await?;
    let (from, until): (Timestamp, Timestamp) = (window.renew_from.parse()?, window.renew_until.parse()?);
    let is_hurried = window.cause != "LIFETIME";
    let [share, ..] = Digest::of(&files::read(certificate)?).0;
    let spread_ms = until.millis().saturating_sub(from.millis()) / 256 * i64::from(share);
    let due = from.plus_ms(if is_hurried { 0 } else { spread_ms });
    Ok((due > SystemClock.now()).then_some(due))
}

fn same_folder(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(one).is_some_and(|one| real(other) == Some(one))
}

/// The request for the folder's key, which is durable by now.
fn request(out: &Path, algorithms: AlgorithmProfile, unlock: &Unlock) -> Result<Vec<u8>, Failure> {
    let certificate = out.join(CERTIFICATE);
    if certificate.exists() {
        return Err(Failure(format!("{} exists already; name a new folder", certificate.display())));
    }
    let (key, is_new) = key_in(out, algorithms, unlock)?;
    if !is_new {
        eprintln!("countersign: using the key in {}", out.join(KEY).display());
    }
    Ok(key.request()?)
}

fn keep(
    out: &Path,
    bundle: &Path,
    (leaf, above): (&[u8], &[bytes::Bytes]),
    ignored: &[String],
    context: &Context<'_>,
) -> Result<Outcome, Failure> {
    let kept = out.join(SYSTEM_BUNDLE);
    files::write(&kept, &files::read(bundle)?, Access::Public)?;
    write_chain(&out.join(CERTIFICATE), leaf, above)?;
    let mut text = format!(
        "certificate  {}\nkey          {}\n",
        out.join(CERTIFICATE).display(),
        out.join(KEY).display()
    );
    if !ignored.is_empty() {
        text.push_str(&format!("ignored      {} (the request asked for it)\n", ignored.join(", ")));
    }
    let value = json!({
        "certificate": out.join(CERTIFICATE).display().to_string(), "key": out.join(KEY).display().to_string(),
        "ignored": ignored,
    });
    context.output.print(&value, &text);
    Ok(Outcome::Done)
}
