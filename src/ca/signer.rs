//! The port to private keys, and its file adapter. Nothing else in the service touches a private key.
//!
//! A signer has its public key at hand (a lookup, never a call to a device) and signs whole messages. Callers run
//! `sign` on a blocking pool: a hardware module may take milliseconds.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _,
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::x509::{Curve, PublicKey};

/// The longest key file: a P-384 key has 300 bytes of PEM.
const KEY_FILE_LEN_MAX: u64 = 16 * 1024;
/// Everything before the key in the SubjectPublicKeyInfo of an Ed25519 key (RFC 8410 section 4).
const ED25519_PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

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
#[error("the signer did not sign")]
pub struct SignFault;

/// A private key that can be used and not read.
pub trait Signer: Send + Sync {
    /// The SubjectPublicKeyInfo of its public key, DER; kept in memory.
    fn public_key(&self) -> &[u8];

    /// How it signs.
    fn algorithm(&self) -> SignatureAlgorithm;

    /// Signs a message: a DER ECDSA-Sig-Value (RFC 3279 section 2.2.3), or the 64 bytes of Ed25519.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault>;
}

/// Why a key file cannot be used.
#[derive(Debug, Error)]
pub enum KeyFileFault {
    /// The file cannot be read or written.
    #[error("the key file cannot be used: {0}")]
    Io(#[from] std::io::Error),
    /// Others than its owner may read or change it.
    #[error("the key file has mode {mode:04o}; 0600 or narrower is needed")]
    Mode {
        /// The permission bits.
        mode: u32,
    },
    /// Not a regular file.
    #[error("the key file is not a regular file")]
    NotFile,
    /// Longer than any key.
    #[error("the key file is longer than 16 KiB")]
    TooLarge,
    /// Not one PEM block `PRIVATE KEY` (PKCS#8, RFC 5958).
    #[error("the key file is not one PEM block PRIVATE KEY")]
    NotPem,
    /// A key that is neither ECDSA on P-256 or P-384 nor Ed25519.
    #[error("the key is neither P-256, P-384 nor Ed25519")]
    UnsupportedKey,
    /// The library could not make a key.
    #[error("no key could be generated")]
    Generate,
}

enum Pair {
    Ecdsa(Curve, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A private key from a PKCS#8 PEM file of mode 0600. The library wipes the key when it is dropped.
pub struct FileSigner {
    pair: Pair,
    public_key: Vec<u8>,
}

impl FileSigner {
    /// Loads a key; refuses a file that anybody but its owner may read or change.
    pub fn load(path: &Path) -> Result<Self, KeyFileFault> {
        let text = read_key_file(path)?;
        let block = pem::parse(&*text).map_err(|_| KeyFileFault::NotPem)?;
        let is_key = block.tag() == "PRIVATE KEY";
        let pkcs8 = Zeroizing::new(block.into_contents());
        if is_key { Self::from_pkcs8(&pkcs8) } else { Err(KeyFileFault::NotPem) }
    }

    /// Makes a key, writes it to a new file of mode 0600 and syncs it; an existing file is never replaced.
    pub fn create(path: &Path, algorithm: SignatureAlgorithm) -> Result<Self, KeyFileFault> {
        let rng = SystemRandom::new();
        let document = match algorithm {
            SignatureAlgorithm::Ecdsa(curve) => EcdsaKeyPair::generate_pkcs8(signing(curve), &rng),
            SignatureAlgorithm::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&rng),
        };
        let document = document.map_err(|_| KeyFileFault::Generate)?;
        let signer = Self::from_pkcs8(document.as_ref())?;
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        let text = pem::encode_config(&pem::Pem::new("PRIVATE KEY", document.as_ref()), config);
        write_new(path, &Zeroizing::new(text.into_bytes()))?;
        Ok(signer)
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyFileFault> {
        for curve in Curve::ALL {
            if let Ok(pair) = EcdsaKeyPair::from_pkcs8(signing(curve), pkcs8) {
                let public = PublicKey::from_point(curve, pair.public_key().as_ref())
                    .map_err(|_| KeyFileFault::UnsupportedKey)?;
                return Ok(Self { public_key: public.spki().to_vec(), pair: Pair::Ecdsa(curve, pair) });
            }
        }
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| KeyFileFault::UnsupportedKey)?;
        let public_key = [ED25519_PREFIX, pair.public_key().as_ref()].concat();
        Ok(Self { pair: Pair::Ed25519(pair), public_key })
    }
}

impl Signer for FileSigner {
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
                .map_err(|_| SignFault),
            Pair::Ed25519(pair) => {
                pair.try_sign(message).map(|signature| signature.as_ref().to_vec()).map_err(|_| SignFault)
            }
        }
    }
}

impl fmt::Debug for FileSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSigner({:?})", self.algorithm())
    }
}

/// Reads a file with a private key, whatever is in it; it is wiped when it is dropped.
///
/// # Errors
/// It is not a file of at most 16 KiB that nobody but its owner may read or change.
pub fn read_key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileFault> {
    // The open file is asked, not the path, so that nobody can swap it in between.
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(KeyFileFault::NotFile);
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o177 != 0 {
        return Err(KeyFileFault::Mode { mode });
    }
    if metadata.len() > KEY_FILE_LEN_MAX {
        return Err(KeyFileFault::TooLarge);
    }
    // Room for all of it at once: a buffer that grows would leave copies behind.
    let room = usize::try_from(KEY_FILE_LEN_MAX).unwrap_or(usize::MAX);
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    file.take(KEY_FILE_LEN_MAX).read_to_end(&mut text)?;
    Ok(text)
}

fn signing(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
    }
}

fn write_new(path: &Path, text: &[u8]) -> Result<(), KeyFileFault> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()?;
    // The name of a new file is durable only with its directory.
    if let Some(directory) = path.parent() {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
