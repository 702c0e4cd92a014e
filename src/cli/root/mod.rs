//! `countersign root`: a root on a machine that is on no network, and the ceremonies at which it signs. No server is asked,
//! and no server has the key.
//!
//! Each step shows what it is about to sign and asks, and leaves a line in the root's log. From a request a root takes the
//! key, the proof of its possession, and the kind and id that it names; nothing else in it is looked at but to refuse it.

mod folder;
mod list;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use self::folder::{Folder, Step};
use super::files::{self, Access};
use super::output::confirm;
use super::unlock::Unlock;
use super::{Failure, Outcome, Output};
use crate::ca::root::{RootIssuer, new_root};
use crate::domain::certificate::{AuthorityKind, Serial};
use crate::domain::id::RootId;
use crate::domain::revocation::RevocationReason;
use crate::domain::time::Timestamp;
use crate::env::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use crate::x509::bundle::certificate_pem;
use crate::x509::{Authority, AuthorityRequest, CaCertificate, Curve, Root};

const DAY_MS: i64 = 86_400_000;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Make a root: a key and a certificate that is signed with it.
    ///
    /// The key is encrypted with --passphrase; the other verbs ask for that passphrase, or are told with --passphrase where it is.
    #[command(
        after_help = "Example:\n  countersign root new --out /media/root --life-years 15 --passphrase ask"
    )]
    New {
        /// Folder of the root, made with mode 0700. What is in it never leaves the machine but what the other verbs write out.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How long the root lives.
        #[arg(long, value_name = "YEARS", default_value_t = 15, value_parser = clap::value_parser!(u8).range(1..=20))]
        life_years: u8,
        /// Curve of its key: P-384 or P-256.
        #[arg(long, default_value = "P-384", value_parser = curve)]
        curve: Curve,
        /// Do not encrypt the key: whoever has the medium can then sign as the root.
        #[arg(long)]
        plain_key: bool,
        /// Sign without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Certify an authority whose request a server made.
    #[command(after_help = "Example:\n  \
        countersign root sign --root /media/root --csr access.csr --kind ACCESS --life-days 730 --out access.pem")]
    Sign {
        /// Folder of the root.
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// The request, as `init --offline-root` or `authority prepare --beneath-root` wrote it.
        #[arg(long, value_name = "FILE")]
        csr: PathBuf,
        /// ACCESS or SYSTEM: which kind of authority you mean to certify.
        #[arg(long)]
        kind: AuthorityKind,
        /// How long it lives; never beyond the root.
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3_660))]
        life_days: u32,
        /// Where the certificate goes, PEM.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Sign without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Sign a revocation list: everything on the last one, and what is named here.
    #[command(
        after_help = "Examples:\n  countersign root crl --root /media/root --days 400 --out root.crl\n  \
        countersign root crl --root /media/root --revoke old.pem --reason CA_COMPROMISE --days 400 --out root.crl"
    )]
    Crl {
        /// Folder of the root.
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// A certificate that this root signed and that is to be revoked; may be given several times.
        #[arg(long, value_name = "FILE")]
        revoke: Vec<PathBuf>,
        /// Why, for example CA_COMPROMISE; a wrong word lists all.
        #[arg(long, default_value = "CA_COMPROMISE")]
        reason: RevocationReason,
        /// Until when it may be used: plan the next ceremony well before.
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=731))]
        days: u32,
        /// Where the list goes, PEM.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Sign without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Certify another root, or an authority beneath another root, for those who trust only this one.
    #[command(after_help = "Example:\n  \
        countersign root cross-sign --root /media/old --certificate new/root.pem --out cross.pem")]
    CrossSign {
        /// Folder of this root, the one that is trusted already.
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// Certificate of the other root, or of an authority.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// For an authority: the certificate of the root that it is beneath.
        #[arg(long, value_name = "FILE")]
        issuer: Option<PathBuf>,
        /// Where the certificate goes, PEM.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Sign without asking.
        #[arg(long)]
        yes: bool,
    },
}

fn curve(text: &str) -> Result<Curve, String> {
    let found = Curve::ALL.into_iter().find(|curve| curve.as_str() == text);
    found.ok_or_else(|| "it is neither P-384 nor P-256".to_owned())
}

pub(super) fn run(verb: &Verb, unlock: &Unlock, output: &Output) -> Result<Outcome, Failure> {
    match verb {
        Verb::New { out, life_years, curve, plain_key, yes } => {
            new(out, (*life_years, *curve, *plain_key), *yes, (unlock, output))
        }
        Verb::Sign { root, csr, kind, life_days, out, yes } => {
            sign(root, (csr, *kind, *life_days), (out, *yes), (unlock, output))
        }
        Verb::Crl { root, revoke, reason, days, out, yes } => {
            list::sign(root, (revoke, *reason, *days), (out, *yes), (unlock, output))
        }
        Verb::CrossSign { root, certificate, issuer, out, yes } => {
            cross_sign(root, (certificate, issuer.as_deref()), (out, *yes), (unlock, output))
        }
    }
}

/// A root's key is not written in the clear by somebody who did not think of it.
fn check_protection(unlock: &Unlock, may_be_plain: bool) -> Result<(), Failure> {
    match (unlock.source().is_some(), may_be_plain) {
        (true, false) | (false, true) => Ok(()),
        (true, true) => Err(Failure("--plain-key and --passphrase exclude each other".to_owned())),
        (false, false) => Err(Failure(
            "the key of a root is to be encrypted: name a passphrase with --passphrase ask (or file:PATH, fd:N, env:NAME)\n  \
             --plain-key writes it in the clear, for a medium that is encrypted itself"
                .to_owned(),
        )),
    }
}

fn new(
    out: &Path,
    (life_years, curve, may_be_plain): (u8, Curve, bool),
    yes: bool,
    (unlock, output): (&Unlock, &Output),
) -> Result<Outcome, Failure> {
    check_protection(unlock, may_be_plain)?;
    let folder = Folder::at(out);
    if folder.certificate_path().exists() {
        return Err(Failure(format!("{} holds a root already; name a new folder", out.display())));
    }
    let now = SystemClock.now();
    let id = RootId::from_parts(now, SystemEntropy.bytes16());
    let until = now.plus_ms(i64::from(life_years) * 365 * DAY_MS);
    output.note(&format!(
        "A new root {id}\n  key            {} ({}, {})\n  from           {now}, by the clock of this machine\n  until          \
         {until}\n",
        folder.key_path().display(),
        curve.as_str(),
        if may_be_plain { "NOT encrypted" } else { "encrypted" },
    ));
    confirm("Make this root?", yes)?;
    folder.make()?;
    folder.make_key(curve, unlock, may_be_plain)?;
    let serial = Serial::from_random(SystemEntropy.bytes16());
    let root = new_root(folder.signer(unlock)?.as_ref(), (id, serial), until, now)?;
    note(&folder, "new-root", root.certificate(), format!("root {id}"))?;
    folder.keep_root(&root)?;
    let certificate = root.certificate();
    let text = format!(
        "root {id}\nsha-256      {}\ncertificate  {} (take it to the servers and partners)\nlog          {}\n\n\
         Next, a revocation list, which everybody needs who checks them:\n  countersign root crl --root {} --days 400 --out \
         root.crl",
        certificate.fingerprint(),
        folder.certificate_path().display(),
        folder.log_path().display(),
        out.display()
    );
    let value = json!({
        "root_id": id.to_string(), "sha256": certificate.fingerprint().to_string(),
        "certificate": folder.certificate_path().display().to_string(), "not_after": until.to_string(),
    });
    output.print(&value, &text);
    Ok(Outcome::Done)
}

/// Logs what was signed.
fn note(folder: &Folder, what: &'static str, signed: &CaCertificate, about: String) -> Result<(), Failure> {
    folder.note(&Step {
        what,
        at: SystemClock.now(),
        serial: hex::encode(signed.serial().as_bytes()),
        sha256: signed.fingerprint(),
        about: format!("{about} until {}", signed.not_after()),
    })
}

fn sign(
    root: &Path,
    (csr, kind, life_days): (&Path, AuthorityKind, u32),
    to: (&Path, bool),
    with: (&Unlock, &Output),
) -> Result<Outcome, Failure> {
    let folder = Folder::at(root);
    let der = files::read_der(csr, "CERTIFICATE REQUEST")?;
    let request =
        AuthorityRequest::from_der(&der).map_err(|fault| Failure(format!("{}: {fault}", csr.display())))?;
    if request.kind != kind {
        return Err(Failure(format!(
            "{} is the request of an authority of kind {}, not {kind}; nothing was signed",
            csr.display(),
            request.kind
        )));
    }
    let until = SystemClock.now().plus_ms(i64::from(life_days) * DAY_MS);
    certify(&folder, &request, until, to, with)
}

/// Shows an authority, asks, certifies it, and writes the certificate out.
fn certify(
    folder: &Folder,
    request: &AuthorityRequest,
    until: Timestamp,
    (out, yes): (&Path, bool),
    (unlock, output): (&Unlock, &Output),
) -> Result<Outcome, Failure> {
    let (root, signer) = (folder.root()?, folder.signer(unlock)?);
    let issuer = RootIssuer::new(root, signer.as_ref())?;
    let now = SystemClock.now();
    let mut text = format!("To be certified by root {}:\n", issuer.root().id());
    writeln!(text, "  authority      {} {}", request.kind, request.id)?;
    writeln!(text, "  key            {}, sha-256 {}", request.key.curve().as_str(), request.key.digest())?;
    writeln!(text, "  from           {now}, by the clock of this machine\n  until          {until}")?;
    output.note(&text);
    confirm("Sign it?", yes)?;
    let made = issuer.certify(request, Serial::from_random(SystemEntropy.bytes16()), until, now)?;
    folder.keep_issued(made.serial(), made.der())?;
    note(folder, "certify-authority", made.certificate(), format!("{} {}", made.kind(), made.id()))?;
    finish(made.certificate(), out, output)
}

/// Writes a certificate out and says so.
fn finish(made: &CaCertificate, out: &Path, output: &Output) -> Result<Outcome, Failure> {
    files::write(out, certificate_pem(made.der()).as_bytes(), Access::Public)?;
    let (serial, sha256) = (hex::encode(made.serial().as_bytes()), made.fingerprint());
    let text = format!("certificate  {}\nserial       {serial}\nsha-256      {sha256}", out.display());
    let value = json!({
        "certificate": out.display().to_string(), "serial": serial, "sha256": sha256.to_string(),
        "not_after": made.not_after().to_string(),
    });
    output.print(&value, &text);
    Ok(Outcome::Done)
}

fn cross_sign(
    root: &Path,
    (certificate, issuer): (&Path, Option<&Path>),
    (out, yes): (&Path, bool),
    (unlock, output): (&Unlock, &Output),
) -> Result<Outcome, Failure> {
    let folder = Folder::at(root);
    let der = files::read_der(certificate, "CERTIFICATE")?;
    let named = |fault: String| Failure(format!("{}: {fault}", certificate.display()));
    let Ok(other) = Root::from_der(&der) else {
        let authority = Authority::from_der(&der)
            .map_err(|fault| named(format!("it is neither a root nor an authority: {fault}")))?;
        check_parent(&authority, issuer).map_err(|Failure(why)| named(why))?;
        let until = authority.not_after().min(folder.root()?.certificate().not_after());
        let (id, kind, key) = (authority.id(), authority.kind(), authority.key().clone());
        return certify(&folder, &AuthorityRequest { id, kind, key }, until, (out, yes), (unlock, output));
    };
    let (own, signer) = (folder.root()?, folder.signer(unlock)?);
    let own = RootIssuer::new(own, signer.as_ref())?;
    output.note(&format!(
        "To be certified by root {}:\n  root           {}\n  sha-256        {}\n  until          {} at most\n",
        own.root().id(),
        other.id(),
        other.certificate().fingerprint(),
        other.certificate().not_after()
    ));
    confirm("Sign it?", yes)?;
    let made = own.cross_certify(&other, Serial::from_random(SystemEntropy.bytes16()), SystemClock.now())?;
    folder.keep_issued(made.certificate().serial(), made.certificate().der())?;
    note(&folder, "cross-certify-root", made.certificate(), format!("root {}", made.root()))?;
    finish(made.certificate(), out, output)
}

/// Nobody shows a request here: the signature of the root that the authority is beneath stands for it.
fn check_parent(authority: &Authority, issuer: Option<&Path>) -> Result<(), Failure> {
    let Some(parent) = authority.parent() else { return Ok(()) };
    let path = issuer.ok_or_else(|| {
        Failure(format!(
            "it is beneath root {}; name that root's certificate: --issuer root.pem",
            parent.root
        ))
    })?;
    let root = Root::from_der(&files::read_der(path, "CERTIFICATE")?)?;
    Ok(root.check_issued(authority)?)
}
