//! The first step of `init`, and what officers are shown before they sign.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::beneath::{self, Certified, Hierarchy};
use super::{CONFIG, GENESIS, KEYS, New, REQUESTS, check_authority_key};
use crate::ca::SignatureAlgorithm;
use crate::ca::bootstrap::{NewAuthority, authority};
use crate::cli::files::{self, Access, Named};
use crate::cli::identity::requested_key;
use crate::cli::unlock::{Source, Unlock};
use crate::cli::{Failure, Outcome, Output};
use crate::config::{Config, PassphraseSource};
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::authority::{self, Authority};
use crate::domain::bundle::Bundle;
use crate::domain::certificate::{AuthorityKind, PrincipalKind, Serial};
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::command::NewPrincipal;
use crate::domain::entity::{EntityKind, Organisation};
use crate::domain::event::{Genesis, NewEntity};
use crate::domain::id::{AuthorityId, Digest, EntityId, PrincipalId};
use crate::domain::recovery::{RecoveryKey, RecoveryKeys};
use crate::env::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use crate::policy;
use crate::server::{KeyRole, KeyStore};
use crate::x509::{CrlBase, Curve};

/// A year of an authority: 365 days.
const YEAR_MS: i64 = 365 * 86_400_000;

pub(super) fn make(data: &Path, new: &New, unlock: &Unlock, output: &Output) -> Result<Outcome, Failure> {
    let path = data.join(GENESIS);
    if path.exists() {
        return Err(Failure(format!(
            "{} is made already; have both officers sign it and run `countersign init --data {} --signature ...`, \
             or remove the folder to begin anew",
            path.display(),
            data.display()
        )));
    }
    // Everything that can be wrong is found before anything is written.
    let (officers, requests) = officers(&new.officer)?;
    check_keys(new, &officers)?;
    if let Some(recovery) = recovery_keys(new)? {
        recovery.check(&officers).map_err(Failure)?;
    }
    let policy = new.policy.as_deref().ok_or_else(|| missing("--policy"))?;
    let bundle = policy::load(policy, &[])?;
    files::make_folder(&data.join(KEYS))?;
    files::make_folder(&data.join(REQUESTS))?;
    for (name, request) in &requests {
        let path = request_path(data, name);
        files::write(&path, files::request_pem(request).as_bytes(), Access::Private)?;
    }
    write_config(data, new, unlock)?;
    let config = Config::load(&data.join(CONFIG))?;
    let passphrase = unlock.for_new(&data.join(KEYS))?;
    let keys = KeyStore::open(&config.keys, passphrase.clone())?;
    let given = match beneath::hierarchy(data, new, &keys)? {
        Hierarchy::SelfSigned => None,
        Hierarchy::Certified(given) => Some(*given),
        Hierarchy::Requested => return beneath::report(data, output),
    };
    let genesis = genesis(new, (officers, given), bundle.parts().clone(), &keys)?;
    keys.key_or_new(KeyRole::Server, SignatureAlgorithm::Ecdsa(Curve::of_profile(new.profile)))?;
    let bytes = to_bytes(&genesis);
    files::write(&path, &bytes, Access::Public)?;
    let (value, mut text) = describe(&bytes)?;
    let sealed = if passphrase.is_some() { "encrypted" } else { "NOT encrypted (--passphrase does it)" };
    writeln!(text, "\nThe private keys in {} are {sealed}.", data.join(KEYS).display())?;
    writeln!(
        text,
        "\nEach officer checks this, on their own machine and against what they know, and signs it:"
    )?;
    for officer in &genesis.officers {
        let name = &officer.id;
        writeln!(
            text,
            "  countersign officer sign-genesis --key {name}/key.pem --genesis {} --out {name}.sig",
            path.display()
        )?;
    }
    let signatures: String =
        genesis.officers.iter().map(|officer| format!(" --signature {0}={0}.sig", officer.id)).collect();
    writeln!(text, "\nThen complete it here:\n  countersign init --data {}{signatures}", data.display())?;
    let value = json!({
        "genesis": path.display().to_string(), "content": value, "keys_encrypted": passphrase.is_some(),
    });
    output.print(&value, &text);
    Ok(Outcome::Done)
}

fn missing(flag: &str) -> Failure {
    Failure(format!("{flag} is needed"))
}

pub(super) fn request_path(data: &Path, officer: &PrincipalId) -> PathBuf {
    data.join(REQUESTS).join(format!("{officer}.csr"))
}

type Requests = Vec<(PrincipalId, Vec<u8>)>;

fn officers(named: &[Named<PrincipalId>]) -> Result<(Vec<NewPrincipal>, Requests), Failure> {
    let [first, second] = named else {
        return Err(Failure(format!(
            "exactly two officers are needed, not {}: --officer alice=alice.csr --officer bob=bob.csr",
            named.len()
        )));
    };
    if first.name == second.name {
        return Err(Failure(format!("{} is named twice; two different officers are needed", first.name)));
    }
    let (mut officers, mut requests) = (Vec::new(), Vec::new());
    for Named { name, path } in named {
        let (requested, der) = requested_key(path)?;
        officers.push(NewPrincipal {
            id: name.clone(),
            kind: PrincipalKind::Officer,
            roles: PrincipalKind::Officer.roles().to_vec(),
            entity: None,
            key: requested.key().spki().to_vec(),
            is_pausable: false,
        });
        requests.push((name.clone(), der));
    }
    if let [a, b] = officers.as_slice()
        && a.key == b.key
    {
        return Err(Failure(format!(
            "{} and {} have the same key; each officer makes one: countersign officer new",
            a.id, b.id
        )));
    }
    Ok((officers, requests))
}

fn genesis(
    new: &New,
    (officers, given): (Vec<NewPrincipal>, Option<Certified>),
    bundle: crate::domain::bundle::BundleParts,
    keys: &KeyStore<'_>,
) -> Result<Genesis, Failure> {
    let now = SystemClock.now();
    let make = |kind, role| -> Result<Authority, Failure> {
        let signer = keys.key_or_new(role, SignatureAlgorithm::Ecdsa(Curve::of_profile(new.profile)))?;
        check_authority_key(kind, signer.algorithm(), new)?;
        let content = NewAuthority {
            id: AuthorityId::from_parts(now, SystemEntropy.bytes16()),
            kind,
            serial: Serial::from_random(SystemEntropy.bytes16()),
            not_after: now.plus_ms(i64::from(new.authority_years) * YEAR_MS),
        };
        let made = authority(signer.as_ref(), &content, new.profile, now)?;
        Ok(Authority::first(authority::NewAuthority {
            id: made.id(),
            kind,
            certificate: made.der().to_vec(),
            not_after: made.not_after(),
            beneath: None,
        }))
    };
    let (authorities, roots) = match given {
        Some(Certified { authorities, root }) => (authorities, Some(vec![root])),
        None => {
            let access = make(AuthorityKind::Access, KeyRole::Access)?;
            (vec![access, make(AuthorityKind::System, KeyRole::System)?], None)
        }
    };
    let log = keys.key_or_new(KeyRole::Log, SignatureAlgorithm::Ed25519)?;
    let log_key = log.public_key().last_chunk::<32>().map(|key| key.to_vec());
    let trust_domain = new.trust_domain.as_ref().ok_or_else(|| missing("--trust-domain"))?;
    Ok(Genesis {
        trust_domain: trust_domain.to_string(),
        arc: new.arc.to_string(),
        bundle,
        officers,
        authorities,
        log_key: log_key.ok_or_else(|| Failure("the log key has no public key".to_owned()))?,
        provider: NewEntity {
            id: EntityId::from_parts(now, SystemEntropy.bytes16()),
            kind: EntityKind::Company,
            name: new.provider_name.clone().ok_or_else(|| missing("--provider-name"))?,
            org: Organisation::Us,
            seat: None,
        },
        lease_ms: new.lease_ms,
        ttl_s: new.ttl_hours * 3_600,
        roots,
        recovery: recovery_keys(new)?,
        algorithms: (new.profile != AlgorithmProfile::Standard).then_some(new.profile),
    })
}

/// `[keys]` of a configuration whose service finds passphrase and token where `init` did.
fn keys_section(new: &New, unlock: &Unlock) -> Result<String, Failure> {
    let here = std::env::current_dir()?;
    let mut text = match unlock.source() {
        None => "\n# Private keys in files are not encrypted; `countersign key encrypt` does it.\n[keys]\n"
            .to_owned(),
        Some(Source::Ask | Source::From(PassphraseSource::Descriptor(_))) => {
            "\n# Private keys are encrypted: `serve` needs --passphrase, or a source here.\n\
             [keys]\n#passphrase = \"credential:countersign-keys\"\n"
                .to_owned()
        }
        Some(Source::From(source)) => {
            let source = source.at(&here).to_string();
            format!(
                "\n# Private keys are encrypted; this is where their passphrase is.\n[keys]\npassphrase = {source:?}\n"
            )
        }
    };
    if let (Some(module), Some(token), Some(pin)) = (&new.pkcs11_module, &new.pkcs11_token, &new.pkcs11_pin) {
        let (module, pin) = (here.join(module).display().to_string(), pin.clone().at(&here).to_string());
        write!(
            text,
            "\n# The authorities' keys are on a token; keys of later authorities are made there too.\n[keys.pkcs11]\n\
             module = {module:?}\ntoken = \"{token}\"\npin = {pin:?}\n\
             access = \"pkcs11:object=countersign-access\"\nsystem = \"pkcs11:object=countersign-system\"\n"
        )?;
    }
    Ok(text)
}

fn write_config(data: &Path, new: &New, unlock: &Unlock) -> Result<(), Failure> {
    let keys = keys_section(new, unlock)?;
    let names: Vec<String> = new.names.iter().map(|name| format!("{:?}", name.to_string())).collect();
    let names = if names.is_empty() { "\"localhost\", \"127.0.0.1\"".to_owned() } else { names.join(", ") };
    let crl = new
        .crl_base_url
        .as_ref()
        .map_or_else(|| format!("http://{}/crl", new.listen), |base: &CrlBase| base.as_str().to_owned());
    let text = format!(
        "# Configuration of `countersign serve`; every key is described in deploy/countersign.toml.\n\n\
         listen = \"{}\"\n\
         # This folder.\n\
         data = \".\"\n\
         names = [{names}]\n\
         # Where CRLs are found. `[crl] listen` serves them; then this is its address, or that of a cache in front of it.\n\
         crl_base_url = \"{crl}\"\n{keys}",
        new.listen
    );
    files::write(&data.join(CONFIG), text.as_bytes(), Access::Private)
}

/// The keys that people bring are of the profile.
fn check_keys(new: &New, officers: &[NewPrincipal]) -> Result<(), Failure> {
    let wrong = |whose: &str| Failure(format!("the key of {whose}: {}", new.profile.remedy()));
    if let Some(officer) = officers.iter().find(|officer| !new.profile.accepts(&officer.key)) {
        return Err(wrong(officer.id.as_str()));
    }
    let recovery = recovery_keys(new)?;
    let mut keys = recovery.iter().flat_map(|recovery| &recovery.keys).zip(&new.recovery_key);
    match keys.find(|(key, _)| !new.profile.accepts(&key.0)) {
        Some((_, path)) => Err(wrong(&path.display().to_string())),
        None => Ok(()),
    }
}

/// The recovery keys, each with proof of possession.
fn recovery_keys(new: &New) -> Result<Option<RecoveryKeys>, Failure> {
    let Some(threshold) = new.recovery_threshold else { return Ok(None) };
    let key = |path: &std::path::PathBuf| -> Result<RecoveryKey, Failure> {
        Ok(RecoveryKey(requested_key(path)?.0.key().spki().to_vec()))
    };
    let keys = new.recovery_key.iter().map(key).collect::<Result<_, _>>()?;
    Ok(Some(RecoveryKeys { threshold, keys }))
}

/// Genesis as officers check it: the same words for who makes it and for who signs it.
pub(in crate::cli) fn describe(bytes: &[u8]) -> Result<(Value, String), Failure> {
    let genesis = decode(bytes)?;
    let bundle = Bundle::new(genesis.bundle.clone())?;
    let mut text = String::new();
    writeln!(text, "Genesis {}", Digest::of(bytes))?;
    writeln!(text, "  trust domain   {}", genesis.trust_domain)?;
    writeln!(text, "  arc            {}", genesis.arc)?;
    writeln!(text, "  provider       {} ({})", genesis.provider.name, genesis.provider.id)?;
    writeln!(text, "  policy hash    {}", bundle.hash())?;
    writeln!(
        text,
        "                 {} models, {} determinations, {} rules",
        genesis.bundle.models.len(),
        genesis.bundle.determinations.len(),
        genesis.bundle.rules.len()
    )?;
    let algorithms = genesis.algorithms.unwrap_or(AlgorithmProfile::Standard);
    writeln!(text, "  profile        {algorithms}")?;
    writeln!(text, "  lease          {} ms", genesis.lease_ms)?;
    writeln!(text, "  certificates   live {} hours", genesis.ttl_s / 3_600)?;
    for officer in &genesis.officers {
        let roles: Vec<_> = officer.roles.iter().map(|role| role.as_str()).collect();
        writeln!(text, "  officer        {}: {}", officer.id, roles.join(", "))?;
        writeln!(text, "                 key sha-256 {}", Digest::of(&officer.key))?;
    }
    if let Some(recovery) = &genesis.recovery {
        writeln!(text, "  recovery       {} of {} keys", recovery.threshold, recovery.keys.len())?;
        for RecoveryKey(key) in &recovery.keys {
            writeln!(text, "                 key sha-256 {}", Digest::of(key))?;
        }
    }
    describe_hierarchy(&genesis, &mut text)?;
    writeln!(text, "  log key        {}", hex::encode(&genesis.log_key))?;
    let (authorities, roots) = hierarchy_value(&genesis);
    let value = json!({
        "sha256": Digest::of(bytes).to_string(),
        "trust_domain": genesis.trust_domain,
        "arc": genesis.arc,
        "provider": { "id": genesis.provider.id.to_string(), "name": genesis.provider.name },
        "policy_hash": bundle.hash().to_string(),
        "profile": algorithms.as_str(),
        "lease_ms": genesis.lease_ms,
        "ttl_s": genesis.ttl_s,
        "recovery": genesis.recovery.as_ref().map(|recovery| json!({
            "threshold": recovery.threshold,
            "keys_sha256": recovery.keys.iter().map(|key| Digest::of(&key.0).to_string()).collect::<Vec<_>>(),
        })),
        "officers": genesis.officers.iter().map(|officer| json!({
            "name": officer.id.as_str(), "key_sha256": Digest::of(&officer.key).to_string(),
        })).collect::<Vec<_>>(),
        "authorities": authorities,
        "roots": roots,
        "log_key": hex::encode(&genesis.log_key),
    });
    Ok((value, text))
}

/// The authorities, and the roots that they stand beneath.
fn describe_hierarchy(genesis: &Genesis, text: &mut String) -> Result<(), Failure> {
    for authority in &genesis.authorities {
        writeln!(
            text,
            "  authority      {} {}, until {}",
            authority.kind, authority.id, authority.not_after
        )?;
        writeln!(text, "                 sha-256 {}", Digest::of(&authority.certificate))?;
        if let Some(beneath) = authority.beneath {
            writeln!(text, "                 beneath {}", beneath.root)?;
        }
    }
    for root in genesis.roots.iter().flatten() {
        writeln!(text, "  root           {}, until {}", root.id, root.not_after)?;
        writeln!(text, "                 sha-256 {}", Digest::of(&root.certificate))?;
        writeln!(text, "                 list number {} until {}", root.list.number, root.list.next_update)?;
    }
    Ok(())
}

fn hierarchy_value(genesis: &Genesis) -> (Value, Value) {
    let authorities = genesis.authorities.iter().map(|authority| {
        json!({
            "id": authority.id.to_string(), "kind": authority.kind.as_str(),
            "not_after": authority.not_after.to_string(),
            "sha256": Digest::of(&authority.certificate).to_string(),
            "beneath": authority.beneath.map(|beneath| beneath.root.to_string()),
        })
    });
    let roots = genesis.roots.iter().flatten().map(|root| {
        json!({
            "id": root.id.to_string(), "not_after": root.not_after.to_string(),
            "sha256": Digest::of(&root.certificate).to_string(), "crl_number": root.list.number,
            "crl_next_update": root.list.next_update.to_string(),
        })
    });
    (authorities.collect(), roots.collect())
}

pub(in crate::cli) fn decode(bytes: &[u8]) -> Result<Genesis, Failure> {
    from_bytes(bytes).map_err(|e| Failure(format!("not a genesis: {e}")))
}
