//! `countersign officer`: what an officer does on their own machine, where their key is and stays.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::files::{self, Access};
use super::head::log_key_pem;
use super::identity::{KEY, LOG_KEY, key_in, load_key, sign};
use super::init::{decode, describe};
use super::output::confirm;
use super::unlock::Unlock;
use super::{Failure, Outcome, Output};
use crate::ca::key_file;
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::approval::GENESIS_PREFIX;
use crate::domain::bundle::Bundle;
use crate::domain::id::PrincipalId;
use crate::policy;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Make a key and its certificate request. The key never leaves this machine.
    #[command(
        after_help = "Examples:\n  countersign officer new --name alice --out alice --passphrase ask\n  \
                            countersign officer new --name gw-1 --out gw-1 --passphrase file:/run/secrets/gw-1"
    )]
    New {
        /// The officer's name: lower-case letters, digits, '-', '.' and '_'.
        #[arg(long)]
        name: PrincipalId,
        /// Folder of the identity; an existing key in it is kept.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The profile of the service: cnsa makes a P-384 key. Genesis and `init` refuse a key that does not fit.
        #[arg(long, value_name = "PROFILE", default_value = "standard")]
        profile: AlgorithmProfile,
    },
    /// Look at genesis and sign it. Its log key is kept beside the officer's key: commands verify the server's head with it.
    #[command(after_help = "Example:\n  \
        countersign officer sign-genesis --key alice/key.pem --genesis data/genesis.cbor --out alice.sig \\\n      \
            --policy deploy/policy")]
    SignGenesis {
        /// The officer's private key, mode 0600.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Genesis, as `init` wrote it.
        #[arg(long, value_name = "FILE")]
        genesis: PathBuf,
        /// Where the signature goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Folder of the policy bundle that genesis must contain; checked when given.
        #[arg(long, value_name = "DIR")]
        policy: Option<PathBuf>,
        /// Sign without asking.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) fn run(verb: &Verb, unlock: &Unlock, output: &Output) -> Result<Outcome, Failure> {
    match verb {
        Verb::New { name, out, profile } => new(name, (out, *profile), unlock, output),
        Verb::SignGenesis { key, genesis, out, policy, yes } => {
            let (bytes, log_key) = look_at_genesis((key, unlock), genesis, policy.as_deref(), *yes, output)?;
            let signature = sign(key, unlock, GENESIS_PREFIX, &bytes)?;
            files::write(&key.with_file_name(LOG_KEY), log_key_pem(&log_key).as_bytes(), Access::Public)?;
            files::write(out, format!("{}\n", hex::encode(signature)).as_bytes(), Access::Public)?;
            let value = json!({ "signature": out.display().to_string() });
            output.print(&value, &format!("Signed. Give {} to whoever completes `init`.", out.display()));
            Ok(Outcome::Done)
        }
    }
}

fn new(
    name: &PrincipalId,
    (out, profile): (&Path, AlgorithmProfile),
    unlock: &Unlock,
    output: &Output,
) -> Result<Outcome, Failure> {
    let (key, is_new) = key_in(out, profile, unlock)?;
    let request = out.join(format!("{name}.csr"));
    files::write(&request, files::request_pem(&key.request()?).as_bytes(), Access::Public)?;
    let digest = key.public_key().digest();
    let made = if is_new { "made" } else { "kept" };
    let is_sealed = key_file::is_sealed(&out.join(KEY))?;
    let sealed = if is_sealed { "encrypted" } else { "not encrypted: countersign key encrypt" };
    let text = format!(
        "key      {} ({made}, {sealed}; keep it here)\nrequest  {} (give it to whoever registers you)\n\
         sha-256  {digest} of the public key (tell it to the other officer in person)",
        out.join(KEY).display(),
        request.display()
    );
    let value = json!({
        "name": name.as_str(), "key": out.join(KEY).display().to_string(),
        "request": request.display().to_string(), "key_sha256": digest.to_string(), "encrypted": is_sealed,
    });
    output.print(&value, &text);
    Ok(Outcome::Done)
}

/// Shows genesis, checks what can be checked here, and asks. Gives the bytes that were
/// shown, and the log key in them.
fn look_at_genesis(
    (key, unlock): (&Path, &Unlock),
    genesis: &Path,
    policy: Option<&Path>,
    yes: bool,
    output: &Output,
) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let bytes = files::read(genesis)?;
    let decoded = decode(&bytes)?;
    let (_, text) = describe(&bytes)?;
    output.note(&text);
    let own = load_key(key, unlock)?;
    let officer = decoded.officers.iter().find(|officer| officer.key == own.public_key().spki());
    let officer = officer
        .ok_or_else(|| Failure(format!("{} is not the key of an officer of this genesis", key.display())))?;
    if let Some(folder) = policy {
        let (have, want) = (Bundle::new(decoded.bundle.clone())?.hash(), policy::load(folder, &[])?.hash());
        if have != want {
            return Err(Failure(format!(
                "the policy of genesis has the hash {have}; that of {} has {want}",
                folder.display()
            )));
        }
    }
    confirm(&format!("Sign this genesis as {}?", officer.id), yes)?;
    Ok((bytes, decoded.log_key))
}
