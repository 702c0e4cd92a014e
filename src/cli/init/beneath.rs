//! `init --offline-root`: the keys of both authorities are made here, their requests go to the ceremony of a root, and what
//! the root certified comes back. Nothing is taken that does not fit these keys.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{ACCESS_REQUEST, New, SYSTEM_REQUEST, check_authority_key};
use crate::ca::{SignatureAlgorithm, Signer};
use crate::cli::files::{self, Access};
use crate::cli::{Failure, Outcome, Output};
use crate::domain::authority::{self, Authority as Row};
use crate::domain::certificate::AuthorityKind;
use crate::domain::id::AuthorityId;
use crate::domain::root;
use crate::domain::time::Timestamp;
use crate::env::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use crate::server::{KeyRole, KeyStore};
use crate::x509::{Authority, AuthorityRequest, Curve, PublicKey, Root, root_row};

/// How the first authorities stand.
pub(super) enum Hierarchy {
    /// Each signs itself.
    SelfSigned,
    /// Their requests are written; a root is to certify them.
    Requested,
    /// A root has certified them.
    Certified(Box<Certified>),
}

/// What a root has certified, verified.
pub(super) struct Certified {
    pub(super) authorities: Vec<Row>,
    pub(super) root: root::Root,
}

/// Makes keys and requests that are not there yet, and reads what a root certified.
pub(super) fn hierarchy(data: &Path, new: &New, keys: &KeyStore<'_>) -> Result<Hierarchy, Failure> {
    let given = match (&new.root, &new.root_crl) {
        (Some(root), Some(list)) => Some((root, list)),
        _ => None,
    };
    if !new.offline_root && given.is_none() {
        return match data.join(ACCESS_REQUEST).exists() {
            false => Ok(Hierarchy::SelfSigned),
            true => Err(Failure(format!(
                "{} was begun with --offline-root; go on with it, or name a new folder",
                data.display()
            ))),
        };
    }
    let requests = [
        requested(data.join(ACCESS_REQUEST), AuthorityKind::Access, (keys, KeyRole::Access), new)?,
        requested(data.join(SYSTEM_REQUEST), AuthorityKind::System, (keys, KeyRole::System), new)?,
    ];
    let Some((root, list)) = given else { return Ok(Hierarchy::Requested) };
    let certified = certified(&requests, &new.certificate, (root, list))?;
    let read = Root::from_der(&certified.root.certificate)?;
    if !new.profile.accepts(read.certificate().key().spki()) {
        let why = "its key is not P-384, which the profile cnsa demands of a root too; make one with root new --curve P-384";
        return Err(Failure(format!("{}: {why}", root.display())));
    }
    Ok(Hierarchy::Certified(Box::new(certified)))
}

/// The request of an authority, the one that was written before if there is one.
fn requested(
    path: PathBuf,
    kind: AuthorityKind,
    (keys, role): (&KeyStore<'_>, KeyRole),
    new: &New,
) -> Result<AuthorityRequest, Failure> {
    let signer = keys.key_or_new(role, SignatureAlgorithm::Ecdsa(Curve::of_profile(new.profile)))?;
    let public = PublicKey::from_spki(signer.public_key())?;
    check_authority_key(kind, signer.algorithm(), new)?;
    if path.exists() {
        let named = |why: String| Failure(format!("{}: {why}", path.display()));
        let read = AuthorityRequest::from_der(&files::read_der(&path, "CERTIFICATE REQUEST")?);
        let read = read.map_err(|fault| named(fault.to_string()))?;
        return match read.key == public && read.kind == kind {
            true => Ok(read),
            false => Err(named(format!("it is not the request of the {kind} key that is here"))),
        };
    }
    let id = AuthorityId::from_parts(SystemClock.now(), SystemEntropy.bytes16());
    let request = AuthorityRequest { id, kind, key: public };
    write_request(&path, &request, signer.as_ref())?;
    Ok(request)
}

fn write_request(path: &Path, request: &AuthorityRequest, signer: &dyn Signer) -> Result<(), Failure> {
    let der = request.assemble(&signer.sign(&request.info())?);
    files::write(path, files::request_pem(&der).as_bytes(), Access::Public)
}

fn certified(
    requests: &[AuthorityRequest; 2],
    certificates: &[PathBuf],
    (root_path, list_path): (&Path, &Path),
) -> Result<Certified, Failure> {
    let now = SystemClock.now();
    let named = |path: &Path, why: String| Failure(format!("{}: {why}", path.display()));
    let der = files::read_der(root_path, "CERTIFICATE")?;
    let root = Root::from_der(&der).map_err(|fault| named(root_path, fault.to_string()))?;
    let list = root_row::list(&files::read_der(list_path, "X509 CRL")?, &root);
    let list = list.map_err(|fault| named(list_path, fault.to_string()))?;
    check_now(&root, &list, now).map_err(|why| named(root_path, why))?;
    let mut authorities = Vec::new();
    for request in requests {
        authorities.push(find(request, certificates, (&root, &list), now)?);
    }
    if certificates.len() != requests.len() {
        return Err(Failure("exactly two certificates are needed, one of each authority".to_owned()));
    }
    let (id, not_after) = (root.id(), root.certificate().not_after());
    Ok(Certified { authorities, root: root::Root { id, certificate: der, not_after, list } })
}

fn check_now(root: &Root, list: &root::RootList, now: Timestamp) -> Result<(), String> {
    let certificate = root.certificate();
    if now < certificate.not_before() || now >= certificate.not_after() {
        let (from, until) = (certificate.not_before(), certificate.not_after());
        return Err(format!("the root is valid from {from} until {until}, and now it is {now}"));
    }
    if now < list.this_update || now >= list.next_update {
        let (from, until) = (list.this_update, list.next_update);
        return Err(format!("its revocation list holds from {from} until {until}, and now it is {now}"));
    }
    Ok(())
}

/// The certificate that answers a request, and whether it is what the record may hold.
fn find(
    request: &AuthorityRequest,
    certificates: &[PathBuf],
    (root, list): (&Root, &root::RootList),
    now: Timestamp,
) -> Result<Row, Failure> {
    for path in certificates {
        let named = |why: String| Failure(format!("{}: {why}", path.display()));
        let der = files::read_der(path, "CERTIFICATE")?;
        let read = Authority::from_der(&der).map_err(|fault| named(fault.to_string()))?;
        if read.kind() != request.kind {
            continue;
        }
        if (read.id(), read.key()) != (request.id, &request.key) {
            let why =
                format!("it is not of the {} authority whose key was made here, {}", read.kind(), request.id);
            return Err(named(why));
        }
        root.check_issued(&read).map_err(|fault| named(fault.to_string()))?;
        if now < read.not_before() || now >= read.not_after() {
            return Err(named(format!("it is valid from {} until {}", read.not_before(), read.not_after())));
        }
        if list.revokes(read.serial()) {
            return Err(named("its root has revoked it".to_owned()));
        }
        return Ok(Row::first(authority::NewAuthority {
            id: read.id(),
            kind: read.kind(),
            certificate: der,
            not_after: read.not_after(),
            beneath: root_row::beneath(&read),
        }));
    }
    Err(Failure(format!(
        "no certificate of the {} authority {} is among those given",
        request.kind, request.id
    )))
}

/// What is to be done at the ceremony.
pub(super) fn report(data: &Path, output: &Output) -> Result<Outcome, Failure> {
    let requests = [data.join(ACCESS_REQUEST), data.join(SYSTEM_REQUEST)];
    let [access, system] = requests.each_ref().map(|path| path.display().to_string());
    let mut text = String::new();
    writeln!(text, "The keys of both authorities are made here.")?;
    writeln!(text, "Take {access} and {system} to the root, on its own machine:")?;
    for (kind, name) in [("ACCESS", "access"), ("SYSTEM", "system")] {
        writeln!(
            text,
            "  countersign root sign --root DIR --csr {name}.csr --kind {kind} --life-days 1095 --out {name}.pem"
        )?;
    }
    writeln!(text, "  countersign root crl --root DIR --days 400 --out root.crl")?;
    writeln!(text, "\nThen run this command again, with the same arguments and what was signed:")?;
    writeln!(
        text,
        "  countersign init --data {} ... --offline-root --certificate access.pem --certificate system.pem \\\n      \
         --root root.pem --root-crl root.crl",
        data.display()
    )?;
    output.print(&json!({ "access_request": access, "system_request": system }), &text);
    Ok(Outcome::Done)
}
