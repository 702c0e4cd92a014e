//! `countersign key`: public keys that nothing may be certified for, whoever holds them, and the passphrases of files with
//! private ones.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::mandate::{Commit, Wait, carry_out};
use super::output::table;
use super::remote::answer;
use super::restrict::How;
use super::unlock::{Source, Unlock};
use super::{Context, Failure, Outcome, Output, files};
use crate::ca::key_file::reseal;
use crate::domain::command::Command;
use crate::domain::id::Digest;
use crate::pb;
use crate::x509::key::digest_of_file;

#[derive(Subcommand)]
pub(super) enum Verb {
    #[command(flatten)]
    Remote(RemoteVerb),
    Encrypt(EncryptArguments),
}

/// Encrypt the private keys in files, or give them another passphrase.
///
/// PKCS#8 with PBES2 (PBKDF2-HMAC-SHA256, AES-256-CBC), as openssl reads it. Each file is replaced in one step by one that
/// was read back: the key is never lost, and copies of the old file open as before. --passphrase opens files that are
/// encrypted already.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                        countersign key encrypt alice/key.pem\n  \
                        countersign key encrypt data/keys/*.pem --new-passphrase file:/etc/countersign/passphrase\n  \
                        countersign key encrypt alice/key.pem --passphrase file:old --new-passphrase ask")]
pub(super) struct EncryptArguments {
    /// Files with private keys, mode 0600.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The passphrase that opens them from now on: ask, file:PATH, fd:N, credential:NAME or env:NAME.
    #[arg(long, value_name = "SOURCE", default_value = "ask")]
    new_passphrase: Source,
}

#[derive(Subcommand)]
pub(super) enum RemoteVerb {
    /// Block a public key: everything issued to it is revoked, and it is never certified again.
    #[command(after_help = "Examples:\n  \
                            countersign key block stolen.pem --reason KEY_COMPROMISE --wait --commit\n  \
                            countersign key block 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 \
                            --reason KEY_COMPROMISE --commit")]
    Block {
        /// SHA-256 of its SubjectPublicKeyInfo, or a file with the key, a certificate or a request of it, PEM or DER.
        key: String,
        #[command(flatten)]
        how: How,
    },
    /// Let a public key be certified again. What was issued to it stays revoked. Two officers sign.
    #[command(after_help = "Example:\n  countersign key unblock public.pem --commit")]
    Unblock {
        /// As for `key block`.
        key: String,
        #[command(flatten)]
        commit: Commit,
    },
    /// The public keys that are blocked now.
    #[command(after_help = "Example:\n  countersign key list")]
    List,
}

pub(super) async fn run(verb: RemoteVerb, context: &Context<'_>) -> Result<Outcome, Failure> {
    match verb {
        RemoteVerb::Block { key, how } => {
            let command = Command::BlockKey { key: named(&key)?, reason: how.reason };
            carry_out(context, command, how.commit, how.wait).await
        }
        RemoteVerb::Unblock { key, commit } => {
            carry_out(context, Command::UnblockKey(named(&key)?), commit, Wait::default()).await
        }
        RemoteVerb::List => list(context).await,
    }
}

/// Encrypts files, each by itself; what failed is named, and the others are done.
pub(super) fn encrypt(
    arguments: &EncryptArguments,
    unlock: &Unlock,
    output: &Output,
) -> Result<Outcome, Failure> {
    let files: Vec<_> = arguments.files.iter().map(|file| file.display().to_string()).collect();
    let new = arguments.new_passphrase.read_new(&files.join(", "))?;
    let mut failed = Vec::new();
    for file in &arguments.files {
        let done = unlock.for_key(file).and_then(|old| {
            reseal(file, old.as_deref(), &new).map_err(|e| Failure(format!("{}: {e}", file.display())))
        });
        if let Err(Failure(why)) = done {
            failed.push(why);
        }
    }
    if failed.is_empty() {
        output.print(&json!({ "encrypted": files }), &format!("encrypted: {}", files.join(", ")));
        return Ok(Outcome::Done);
    }
    Err(Failure(failed.join("\n")))
}

/// The key that is named by its digest or by a file.
fn named(key: &str) -> Result<Digest, Failure> {
    if let Ok(digest) = key.parse() {
        return Ok(digest);
    }
    let why =
        || Failure(format!("{key} is no digest, and no public key, certificate or request in PEM or DER"));
    digest_of_file(&files::read(Path::new(key))?).ok_or_else(why)
}

async fn list(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let now = answer(remote.revocation().list_restrictions(pb::ListRestrictionsRequest {})).await?;
    let rows: Vec<_> = now.blocked_keys.iter().map(|key| [key.clone()]).collect();
    let mut text = table(["KEY (SHA-256)"], &rows);
    let total = now.blocked_keys_total;
    if total > rows.len() as u64 {
        text.push_str(&format!("the first {} of {total}\n", rows.len()));
    }
    context.output.print(&json!({ "blocked_keys": now.blocked_keys, "total": total }), &text);
    Ok(Outcome::Done)
}
