//! The second step of `init`: record genesis with both signatures and issue the officers' certificates.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc as Shared;

use serde_json::json;

use super::genesis::{decode, request_path};
use super::{CONFIG, GENESIS, JOURNAL, OFFICERS, TRUST};
use crate::app::store::{self, StoreError};
use crate::app::{App, Ingredients, Keys};
use crate::cli::files::{self, Access, Named};
use crate::cli::head::log_key_pem;
use crate::cli::identity::write_chain;
use crate::cli::unlock::Unlock;
use crate::cli::{Failure, Outcome, Output};
use crate::config::{Config, KeyFiles};
use crate::domain::approval::{Approval, GENESIS_PREFIX, verify};
use crate::domain::certificate::AuthorityKind;
use crate::domain::event::{Entry, Event, Genesis};
use crate::domain::id::{BootId, PrincipalId};
use crate::env::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use crate::journal::JournalError;
use crate::journal::file::Options;
use crate::server::{self, KeyStore};
use crate::x509::{Authority, Root, TrustBundle};

/// Both officers have their certificates: the last thing that `init` writes.
pub(super) fn is_complete(data: &Path) -> bool {
    let Ok(genesis) = files::read(&data.join(GENESIS)) else { return false };
    decode(&genesis).is_ok_and(|genesis| {
        genesis.officers.iter().all(|officer| certificate_path(data, &officer.id).exists())
    })
}

fn certificate_path(data: &Path, officer: &PrincipalId) -> std::path::PathBuf {
    data.join(OFFICERS).join(format!("{officer}.pem"))
}

pub(super) fn complete(
    data: &Path,
    signatures: &[Named<PrincipalId>],
    unlock: &Unlock,
    output: &Output,
) -> Result<Outcome, Failure> {
    let path = data.join(GENESIS);
    if !path.exists() {
        return Err(Failure(format!(
            "{} does not exist; the first step makes it: countersign init --data {} --trust-domain ...",
            path.display(),
            data.display()
        )));
    }
    let bytes = files::read(&path)?;
    let genesis = decode(&bytes)?;
    let approvals = approvals(&bytes, &genesis, signatures)?;
    let config = Config::load(&data.join(CONFIG))?;
    let keys = keys(&config.keys, unlock)?;
    let entry = Entry { event: Event::Genesis { bytes, approvals }, by: None, request: None };
    let store = record(data, &config, &entry, &genesis)?;
    files::make_folder(&data.join(TRUST))?;
    files::make_folder(&data.join(OFFICERS))?;
    for authority in &genesis.authorities {
        let file = match authority.kind {
            AuthorityKind::Access => "access.pem",
            AuthorityKind::System => "system.pem",
        };
        let bundle = TrustBundle::new(vec![Authority::from_der(&authority.certificate)?])?;
        let roots = genesis.roots.iter().flatten().map(|root| Root::from_der(&root.certificate));
        let bundle = bundle.with_roots(roots.collect::<Result<_, _>>()?, Vec::new());
        files::write(&data.join(TRUST).join(file), bundle.to_pem().as_bytes(), Access::Public)?;
    }
    let log_key = log_key_pem(&genesis.log_key);
    files::write(&data.join(TRUST).join("log.pem"), log_key.as_bytes(), Access::Public)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(issue(data, &config, (store, keys), &genesis))?;
    report(data, &genesis, output)
}

/// Each officer of genesis signed these bytes, once and with their own key.
fn approvals(
    bytes: &[u8],
    genesis: &Genesis,
    signatures: &[Named<PrincipalId>],
) -> Result<Vec<Approval>, Failure> {
    for (at, signature) in signatures.iter().enumerate() {
        if !genesis.officers.iter().any(|officer| officer.id == signature.name) {
            return Err(Failure(format!("{} is not an officer of genesis", signature.name)));
        }
        if signatures.iter().skip(at + 1).any(|other| other.name == signature.name) {
            return Err(Failure(format!("the signature of {} is given twice", signature.name)));
        }
    }
    let approval = |officer: &crate::domain::command::NewPrincipal| {
        let given = signatures.iter().find(|signature| signature.name == officer.id).ok_or_else(|| {
            Failure(format!(
                "the signature of {0} is missing; both officers must sign: --signature {0}={0}.sig",
                officer.id
            ))
        })?;
        let signature = signature(&given.path)?;
        verify(&officer.key, GENESIS_PREFIX, bytes, &signature).map_err(|_| {
            Failure(format!(
                "{} is not a signature of {} over this genesis; sign it again: countersign officer sign-genesis",
                given.path.display(),
                officer.id
            ))
        })?;
        Ok(Approval { officer: officer.id.clone(), signature })
    };
    genesis.officers.iter().map(approval).collect()
}

/// A signature file: one line of hexadecimal digits, or DER as openssl writes it.
fn signature(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = files::read(path)?;
    // The hexadecimal digits of a DER sequence begin with '3', never with '0'.
    if let [0x30, ..] = bytes.as_slice() {
        return Ok(bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    hex::decode(text.trim()).map_err(|_| Failure(format!("{} is not a signature file", path.display())))
}

/// Makes the journal, or opens the one that an interrupted run made.
fn record(data: &Path, config: &Config, entry: &Entry, genesis: &Genesis) -> Result<store::Store, Failure> {
    let options = || Options { low_water: config.low_water(), ..Options::new(SystemEntropy.bytes16()) };
    let create = || {
        let now = SystemClock.now();
        store::create(data, &options(), entry, BootId::from_parts(now, SystemEntropy.bytes16()), now)
    };
    match create() {
        Ok(()) => {}
        Err(StoreError::Journal(JournalError::Exists { .. })) => match store::open(data, &options()) {
            Ok(store) => return same_genesis(store, genesis),
            Err(StoreError::Empty(_)) => {
                // Interrupted before the first record: the folder holds nothing yet.
                std::fs::remove_dir_all(data.join(JOURNAL))?;
                create()?;
            }
            Err(error) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    }
    Ok(store::open(data, &options())?)
}

fn same_genesis(store: store::Store, genesis: &Genesis) -> Result<store::Store, Failure> {
    if store.state.settings.log_key == genesis.log_key {
        Ok(store)
    } else {
        Err(Failure("the journal in this folder began with another genesis; name a new folder".to_owned()))
    }
}

/// The keys that the first step made, opened with what the caller or the configuration names.
fn keys(files: &KeyFiles, unlock: &Unlock) -> Result<Keys, Failure> {
    let passphrase = match (unlock.source(), &files.passphrase) {
        (None, Some(_)) => server::passphrase(files)?,
        // Never on a token: one of the keys of the first step.
        (Some(_), _) | (None, None) => unlock.for_key(&files.server)?,
    };
    Ok(KeyStore::open(files, passphrase)?.load()?)
}

/// Runs the service without a listener, as long as it takes to issue two certificates.
async fn issue(
    data: &Path,
    config: &Config,
    (store, keys): (store::Store, Keys),
    genesis: &Genesis,
) -> Result<(), Failure> {
    let app = App::start(Ingredients {
        store,
        keys,
        crl_base: config.crl_base_url.parse()?,
        crl_lifetime_s: config.crl.lifetime_s,
        officer_ttl_s: config.officer_ttl_s,
        keep: config.decisions.keep(),
        clock: Shared::new(SystemClock),
        entropy: Shared::new(SystemEntropy),
    })?;
    let issued = async {
        app.begin().await?;
        for officer in &genesis.officers {
            let request = files::read_der(&request_path(data, &officer.id), "CERTIFICATE REQUEST")?;
            let issuance = app.issue_principal(&officer.id, &request).await?;
            let leaf = &issuance.certificate;
            write_chain(&certificate_path(data, &officer.id), leaf, &app.above(leaf))?;
        }
        Ok(())
    };
    let outcome = issued.await;
    app.stop().await;
    outcome
}

fn report(data: &Path, genesis: &Genesis, output: &Output) -> Result<Outcome, Failure> {
    let mut text = format!("The service in {} is made. Each officer takes two files:\n", data.display());
    let system = data.join(TRUST).join("system.pem");
    for officer in &genesis.officers {
        let name = &officer.id;
        writeln!(text, "  cp {} {name}/certificate.pem", certificate_path(data, name).display())?;
        writeln!(text, "  cp {} {name}/system-bundle.pem", system.display())?;
    }
    let config = data.join(CONFIG);
    writeln!(text, "\nStart it:\n  countersign serve --config {}", config.display())?;
    let officers: serde_json::Map<_, _> = genesis
        .officers
        .iter()
        .map(|officer| {
            let path = certificate_path(data, &officer.id).display().to_string();
            (officer.id.to_string(), json!(path))
        })
        .collect();
    let value = json!({
        "config": config.display().to_string(),
        "officers": officers,
        "access_bundle": data.join(TRUST).join("access.pem").display().to_string(),
        "system_bundle": system.display().to_string(),
        "log_key": data.join(TRUST).join("log.pem").display().to_string(),
    });
    output.print(&value, &text);
    Ok(Outcome::Done)
}
