//! Private keys in files: PKCS#8 (RFC 5958) in PEM, plain or sealed with a passphrase (PBES2, RFC 8018).
//!
//! What is written is PBKDF2-HMAC-SHA256 with AES-256-CBC, which `openssl pkcs8` and `openssl pkey` read; what is read is
//! that with AES-128 and other SHA-2 too. The cost that a file may ask for is bounded. Never logs or quotes what it reads.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::{Decode as _, Encode as _};
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{EncryptionScheme as Cipher, Kdf, Parameters, Pbkdf2Params, Pbkdf2Prf};
use pkcs8::{EncryptedPrivateKeyInfo, EncryptedPrivateKeyInfoRef};
use thiserror::Error;
use zeroize::Zeroizing;

/// The PEM label of a plain key.
const PLAIN: &str = "PRIVATE KEY";
/// The PEM label of a sealed key.
const SEALED: &str = "ENCRYPTED PRIVATE KEY";
/// Iterations of what is written: OWASP's figure for PBKDF2-HMAC-SHA256, a fifth of a second.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(599_999);
/// The fewest that are read: the least of RFC 8018 section 4.2; openssl writes 2048.
const ITERATIONS_MIN: u32 = 1_000;
/// The most that are read: a few seconds, so that a hostile file cannot hang a start.
const ITERATIONS_MAX: u32 = 10_000_000;
/// Bytes of salt of what is written: RFC 8018 section 4.1 wants 8, NIST SP 800-132 wants 16.
const SALT_LEN: usize = 16;
/// The longest passphrase: longer ones are a slip, such as the wrong file.
const PASSPHRASE_LEN_MAX: usize = 1_024;
/// The shortest passphrase that a key is sealed with.
const PASSPHRASE_LEN_MIN: usize = 12;

/// Why a text is no private key that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealFault {
    /// Not one PEM block.
    #[error("not one PEM block PRIVATE KEY or ENCRYPTED PRIVATE KEY")]
    NotPem,
    /// It is sealed and no passphrase was given.
    #[error("the key is encrypted and no passphrase is given")]
    NoPassphrase,
    /// The passphrase does not open it, or it was changed.
    #[error("the passphrase does not open the key")]
    WrongPassphrase,
    /// Sealed in another way.
    #[error(
        "the key is encrypted in a way that is not read here; convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf \
         hmacWithSHA256 -iter 600000"
    )]
    Scheme,
    /// It asks for more or less work than is done for a key.
    #[error("the key is encrypted with {0} iterations; {ITERATIONS_MIN} to {ITERATIONS_MAX} are read")]
    Iterations(u32),
    /// The passphrase is empty or too long.
    #[error("a passphrase has 1 to {PASSPHRASE_LEN_MAX} bytes")]
    PassphraseLength,
    /// The passphrase is too short to seal a key with.
    #[error("a key is encrypted with a passphrase of {PASSPHRASE_LEN_MIN} bytes or more")]
    PassphraseShort,
    /// The library could not seal it.
    #[error("the key could not be encrypted")]
    Seal,
}

/// What opens sealed keys. Wiped when it is dropped, never shown.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// A passphrase, as it was read.
    ///
    /// # Errors
    /// It is empty or too long.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, SealFault> {
        let fits = (1..=PASSPHRASE_LEN_MAX).contains(&bytes.len());
        if fits { Ok(Self(bytes)) } else { Err(SealFault::PassphraseLength) }
    }

    /// Is it the same?
    pub fn is(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

/// Is it the text of a sealed key?
pub fn is_sealed(text: &[u8]) -> bool {
    pem::parse(text).is_ok_and(|block| block.tag() == SEALED)
}

/// The PKCS#8 of a key's PEM; a plain one needs no passphrase and is not made better by one.
///
/// # Errors
/// It is no key, or sealed and not opened.
pub fn open(text: &[u8], passphrase: Option<&Passphrase>) -> Result<Zeroizing<Vec<u8>>, SealFault> {
    let block = pem::parse(text).map_err(|_| SealFault::NotPem)?;
    let is_plain = block.tag() == PLAIN;
    let is_sealed = block.tag() == SEALED;
    let content = Zeroizing::new(block.into_contents());
    match passphrase {
        _ if is_plain => Ok(content),
        _ if !is_sealed => Err(SealFault::NotPem),
        None => Err(SealFault::NoPassphrase),
        Some(passphrase) => unseal(&content, passphrase),
    }
}

/// The PEM of a key: sealed with the passphrase, or plain without one.
///
/// # Errors
/// The passphrase is too short.
pub fn to_pem(pkcs8: &[u8], passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>, SealFault> {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let block = match passphrase {
        Some(passphrase) => pem::Pem::new(SEALED, seal(pkcs8, passphrase)?),
        None => pem::Pem::new(PLAIN, pkcs8),
    };
    let text = Zeroizing::new(pem::encode_config(&block, config));
    drop(Zeroizing::new(block.into_contents()));
    Ok(text)
}

fn seal(pkcs8: &[u8], passphrase: &Passphrase) -> Result<Vec<u8>, SealFault> {
    let failed = |_| SealFault::Seal;
    if passphrase.0.len() < PASSPHRASE_LEN_MIN {
        return Err(SealFault::PassphraseShort);
    }
    let mut salt = [0; SALT_LEN];
    SystemRandom::new().fill(&mut salt).map_err(failed)?;
    let mut key = Zeroizing::new([0; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &salt, &passphrase.0, key.as_mut_slice());
    let key = UnboundCipherKey::new(&AES_256, key.as_slice()).map_err(failed)?;
    // Room for the padding: a buffer that grows would leave a copy of the key behind.
    let mut content = Zeroizing::new(Vec::with_capacity(pkcs8.len() + 16));
    content.extend_from_slice(pkcs8);
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(failed)?;
    let DecryptionContext::Iv128(iv) = cipher.encrypt(&mut *content).map_err(failed)? else {
        return Err(SealFault::Seal);
    };
    let encrypted_data = OctetStringRef::new(&content).map_err(|_| SealFault::Seal)?;
    let parameters = Parameters::generate_pbkdf2_sha256_aes256cbc(ITERATIONS.get(), &salt, *iv.as_ref());
    let encryption_algorithm = parameters.map_err(|_| SealFault::Seal)?.into();
    let info = EncryptedPrivateKeyInfo { encryption_algorithm, encrypted_data };
    info.to_der().map_err(|_| SealFault::Seal)
}

fn unseal(der: &[u8], passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, SealFault> {
    let info = EncryptedPrivateKeyInfoRef::from_der(der).map_err(|_| SealFault::Scheme)?;
    let EncryptionScheme::Pbes2(Parameters { kdf: Kdf::Pbkdf2(kdf), encryption }) =
        &info.encryption_algorithm
    else {
        return Err(SealFault::Scheme);
    };
    let (algorithm, iv) = match encryption {
        Cipher::Aes128Cbc { iv } => (&AES_128, iv),
        Cipher::Aes256Cbc { iv } => (&AES_256, iv),
        _ => return Err(SealFault::Scheme),
    };
    let room = if std::ptr::eq(algorithm, &AES_128) { 16 } else { 32 };
    let key = derive(kdf, passphrase, room)?;
    let wrong = |_| SealFault::WrongPassphrase;
    let key = UnboundCipherKey::new(algorithm, &key).map_err(wrong)?;
    let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(wrong)?;
    let mut content = Zeroizing::new(info.encrypted_data.as_bytes().to_vec());
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let len = cipher.decrypt(&mut content, context).map_err(wrong)?.len();
    content.truncate(len);
    // One wrong passphrase of 256 leaves padding that looks right, and no structure.
    if pkcs8::PrivateKeyInfoRef::from_der(&content).is_err() {
        return Err(SealFault::WrongPassphrase);
    }
    Ok(content)
}

fn derive(
    kdf: &Pbkdf2Params,
    passphrase: &Passphrase,
    key_len: usize,
) -> Result<Zeroizing<Vec<u8>>, SealFault> {
    let algorithm = match kdf.prf {
        Pbkdf2Prf::HmacWithSha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        Pbkdf2Prf::HmacWithSha384 => pbkdf2::PBKDF2_HMAC_SHA384,
        Pbkdf2Prf::HmacWithSha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return Err(SealFault::Scheme),
    };
    let is_bounded = (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&kdf.iteration_count);
    let iterations = NonZeroU32::new(kdf.iteration_count).filter(|_| is_bounded);
    let iterations = iterations.ok_or(SealFault::Iterations(kdf.iteration_count))?;
    let mut key = Zeroizing::new(vec![0; key_len]);
    pbkdf2::derive(algorithm, iterations, kdf.salt.as_ref(), &passphrase.0, &mut key);
    Ok(key)
}

#[cfg(test)]
mod tests;
