//! The last signed head that an identity saw: whoever remembers one notices a server that lost or forked its record.
//!
//! It is kept beside the identity's key. At each connection the server's head is compared with it, and the server is shown
//! it, so that one that was brought back from an old copy learns what it lost, also when its record has grown past it
//! since. (A server that lies about that would be caught by a consistency proof, RFC 6962 section 2.1.2, which does not
//! exist yet.) Without the log key there is nothing to verify with, and nothing is compared.

use std::fs::File;
use std::path::Path;

use super::Failure;
use super::files::{self, Access};
use super::identity::{Identity, LOG_KEY};
use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::head::{PUBLIC_KEY_LEN, SignedHead};

/// The remembered head, canonical CBOR.
const LAST_HEAD: &str = "last-head.cbor";
/// RFC 8410: what stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What an identity knows of the record.
#[derive(Debug)]
pub(super) struct Memory {
    identity: Identity,
    log_key: [u8; PUBLIC_KEY_LEN],
    last: Option<SignedHead>,
}

/// The log key as a file for everybody to read.
pub(super) fn log_key_pem(key: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("PUBLIC KEY", [&SPKI_PREFIX, key].concat()), config)
}

pub(super) fn read_log_key(path: &Path) -> Result<[u8; PUBLIC_KEY_LEN], Failure> {
    let der = files::read_der(path, "PUBLIC KEY")?;
    let key = der.strip_prefix(&SPKI_PREFIX).and_then(|key| key.try_into().ok());
    key.ok_or_else(|| Failure(format!("{} is not an Ed25519 public key", path.display())))
}

impl Memory {
    /// Reads what is remembered, before the server is asked: a head that another command sees meanwhile is newer. None:
    /// the identity has no log key.
    pub(super) fn of(identity: &Identity) -> Result<Option<Self>, Failure> {
        let path = identity.path(LOG_KEY);
        if !path.exists() {
            return Ok(None);
        }
        let log_key = read_log_key(&path)?;
        let last = remembered(identity, &log_key)?;
        Ok(Some(Self { identity: identity.clone(), log_key, last }))
    }

    /// What is remembered, for the server to see; empty: nothing.
    pub(super) fn last_bytes(&self) -> Vec<u8> {
        self.last.as_ref().map(to_bytes).unwrap_or_default()
    }

    /// Believes the server's head only if the log key signed it, it follows what is remembered, and the server finds that
    /// in its own record (`lost` is empty); then remembers it.
    pub(super) fn check(&self, signed_head: &[u8], lost: &str) -> Result<SignedHead, Failure> {
        let head: SignedHead = from_bytes(signed_head)
            .map_err(|e| Failure(format!("the server sent something else than a signed head: {e}")))?;
        head.verify(&self.log_key).map_err(|fault| {
            Failure(format!(
                "{fault}; the server does not hold the log key of {}, so nothing was asked of it\n  it is not the \
                 service that this identity belongs to, or somebody answers in its place: tell the other officers",
                self.identity.path(LOG_KEY).display()
            ))
        })?;
        if let Some(last) = &self.last {
            let followed = head.follows(last).map_err(|behind| behind.to_string());
            let found = if lost.is_empty() { Ok(()) } else { Err(lost.to_owned()) };
            followed.and(found).map_err(|why| {
                Failure(format!(
                    "the server lost history: {why}; nothing was asked of it\n  it runs on an old copy, or somebody \
                     answers in its place: have its operator bring back the newest copy. Only when all officers agree \
                     to go on from the old one, remove {}",
                    self.identity.path(LAST_HEAD).display()
                ))
            })?;
        }
        self.keep(&head)?;
        Ok(head)
    }

    /// Durable before the command goes on; what another command saw meanwhile is not replaced by less.
    fn keep(&self, head: &SignedHead) -> Result<(), Failure> {
        if self.last.as_ref().is_some_and(|last| (last.epoch, last.seq) == (head.epoch, head.seq)) {
            return Ok(());
        }
        // Given back when the folder is closed.
        let folder = File::open(self.identity.path(""))?;
        folder.lock()?;
        let newer = |seen: SignedHead| (seen.epoch, seen.seq) >= (head.epoch, head.seq);
        if remembered(&self.identity, &self.log_key)?.is_some_and(newer) {
            return Ok(());
        }
        files::write(&self.identity.path(LAST_HEAD), &to_bytes(head), Access::Private)
    }
}

fn remembered(identity: &Identity, log_key: &[u8; PUBLIC_KEY_LEN]) -> Result<Option<SignedHead>, Failure> {
    let path = identity.path(LAST_HEAD);
    if !path.exists() {
        return Ok(None);
    }
    let head: Option<SignedHead> = from_bytes(&files::read(&path)?).ok();
    let head = head.filter(|head| head.verify(log_key).is_ok());
    head.map(Some).ok_or_else(|| {
        Failure(format!(
            "{} is not a head that the log key signed\n  it is damaged, or of another service: remove it",
            path.display()
        ))
    })
}
