//! The port to private keys, and its file adapter. Nothing else in the service touches a private key.
//!
//! A signer has its public key at hand (a lookup, never a call to a device) and signs whole messages. Callers run
//! `sign` on a blocking pool: a hardware module may take milliseconds.

use std::fmt;
use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _,
};
use thiserror::Error;

use super::key_file::{KeyFileFault, read_key_file, write_new};
use crate::x509::sealed::{self, Passphrase};
use crate::x509::{Curve, PublicKey};

/// Everything before the key in the SubjectPublicKeyInfo of an Ed25519 key (RFC 8410 section 4).
pub(super) const ED25519_PREFIX: &[u8] =
    &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// How a signer signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// ECDSA with the hash of its curve: authorities.
    Ecdsa(Curve),
    /// Ed25519 (RFC 8032): the log key. Never an authority.
    Ed25519,
}

/// A signature could not be made. The message says nothing about the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignFault {
    /// The key or its library failed.
    #[error("the signer did not sign")]
    Failed,
    /// The token with the key is away or does not answer.
    #[error("the token with the key of the authority does not answer now; retry")]
    Away,
    /// The token with the key refused its PIN; nothing is tried before a restart.
    #[error("the token with the key of the authority is locked; the server's log says what to do")]
    Locked,
}

/// A private key that can be used and not read.
pub trait Signer: Send + Sync {
    /// The SubjectPublicKeyInfo of its public key, DER; kept in memory.
    fn public_key(&self) -> &[u8];

    /// How it signs.
    fn algorithm(&self) -> SignatureAlgorithm;

    /// Signs a message: a DER ECDSA-Sig-Value (RFC 3279 section 2.2.3), or the 64 bytes of Ed25519.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault>;

    /// Why it would not sign now, as far as is known without asking a device. A key in memory always would.
    ///
    /// # Errors
    /// It would not.
    fn check(&self) -> Result<(), SignFault> {
        Ok(())
    }

    /// Where the key is, for whoever has to look there: a file, or a name on a token. Never the key.
    fn place(&self) -> String {
        "memory".to_owned()
    }

    /// Does a device sign, which takes milliseconds or a deadline? Then it is asked on a thread that may wait.
    fn is_remote(&self) -> bool {
        false
    }
}

enum Pair {
    Ecdsa(Curve, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A private key from a PKCS#8 PEM file of mode 0600, encrypted or not. The library wipes the key when it is dropped.
pub struct FileSigner {
    pair: Pair,
    public_key: Vec<u8>,
    place: String,
}

impl FileSigner {
    /// Loads a key that is not encrypted; refuses a file that anybody but its owner may read or change.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub fn load(path: &Path) -> Result<Self, KeyFileFault> {
        Self::load_with(path, None)
    }

    /// Loads a key, with what opens it if it is encrypted.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub fn load_with(path: &Path, passphrase: Option<&Passphrase>) -> Result<Self, KeyFileFault> {
        let text = read_key_file(path)?;
        if passphrase.is_some() && !sealed::is_sealed(&text) {
            tracing::warn!(file = %path.display(), "this key is not encrypted: countersign key encrypt");
        }
        Self::from_pkcs8(&sealed::open(&text, passphrase)?, path)
    }

    /// Makes a key, writes it unencrypted to a new file of mode 0600 and syncs it; an existing file is never replaced.
    ///
    /// # Errors
    /// Why there is no key.
    pub fn create(path: &Path, algorithm: SignatureAlgorithm) -> Result<Self, KeyFileFault> {
        Self::create_with(path, algorithm, None)
    }

    /// Makes a key as [`create`](Self::create) does, encrypted with a passphrase if there is one.
    ///
    /// # Errors
    /// Why there is no key.
    pub fn create_with(
        path: &Path,
        algorithm: SignatureAlgorithm,
        passphrase: Option<&Passphrase>,
    ) -> Result<Self, KeyFileFault> {
        let rng = SystemRandom::new();
        let document = match algorithm {
            SignatureAlgorithm::Ecdsa(curve) => EcdsaKeyPair::generate_pkcs8(signing(curve), &rng),
            SignatureAlgorithm::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&rng),
        };
        let document = document.map_err(|_| KeyFileFault::Generate)?;
        let signer = Self::from_pkcs8(document.as_ref(), path)?;
        write_new(path, sealed::to_pem(document.as_ref(), passphrase)?.as_bytes())?;
        Ok(signer)
    }

    fn from_pkcs8(pkcs8: &[u8], path: &Path) -> Result<Self, KeyFileFault> {
        let place = path.display().to_string();
        for curve in Curve::ALL {
            if let Ok(pair) = EcdsaKeyPair::from_pkcs8(signing(curve), pkcs8) {
                let public = PublicKey::from_point(curve, pair.public_key().as_ref())
                    .map_err(|_| KeyFileFault::UnsupportedKey)?;
                return Ok(Self {
                    public_key: public.spki().to_vec(),
                    pair: Pair::Ecdsa(curve, pair),
                    place,
                });
            }
        }
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| KeyFileFault::UnsupportedKey)?;
        let public_key = [ED25519_PREFIX, pair.public_key().as_ref()].concat();
        Ok(Self { pair: Pair::Ed25519(pair), public_key, place })
    }
}

impl Signer for FileSigner {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match &self.pair {
            Pair::Ecdsa(curve, _) => SignatureAlgorithm::Ecdsa(*curve),
            Pair::Ed25519(_) => SignatureAlgorithm::Ed25519,
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        match &self.pair {
            Pair::Ecdsa(_, pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SignFault::Failed),
            Pair::Ed25519(pair) => pair
                .try_sign(message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SignFault::Failed),
        }
    }
}

impl fmt::Debug for FileSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSigner({:?})", self.algorithm())
    }
}

fn signing(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
    }
}
