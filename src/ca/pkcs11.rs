//! Private keys on a PKCS#11 token (a hardware module, or SoftHSM), which sign there and never leave it.
//!
//! The public halves are kept in memory. A token that goes away is waited for: what needs it is refused meanwhile, and
//! nothing is released unsigned. A PIN is tried once; refused, nothing is tried again before a restart, so that no retry
//! ever locks a token. Callers: server, cli.

mod fault;
mod link;
mod token;
mod work;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, UnparsedPublicKey};

pub use fault::TokenFault;
pub use link::TokenSettings;

use self::token::Token;
use self::work::{Done, Found, Work};
use super::key_file::KeyFileFault;
use super::keys::AuthorityKeys;
use super::signer::{SignFault, SignatureAlgorithm, Signer};
use crate::domain::id::AuthorityId;
use crate::domain::pkcs11::Pkcs11Uri;
use crate::x509::{Curve, PublicKey};

/// What a key signs when it is opened, to see that both halves belong together. It is no certificate, list or head.
const PROBE: &[u8] = b"countersign: does this key sign?";

/// A token with the keys that are asked for by name.
#[derive(Clone)]
pub struct TokenKeys {
    token: Arc<Token>,
}

impl TokenKeys {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The token is not there, or refused the PIN, which was tried once.
    pub fn open(settings: TokenSettings) -> Result<Self, TokenFault> {
        Ok(Self { token: Arc::new(Token::open(settings)?) })
    }

    /// The key of a name, if there is one; it has signed something and that was verified.
    ///
    /// # Errors
    /// There are several, it is of another kind, or the token does not answer.
    pub fn key(&self, name: &Pkcs11Uri) -> Result<Option<TokenSigner>, TokenFault> {
        let Done::Key(Some(Found { public_key, algorithm })) = self.token.ask(Work::Find(name.clone()))?
        else {
            return Ok(None);
        };
        let signer =
            TokenSigner { token: Arc::clone(&self.token), name: name.clone(), public_key, algorithm };
        let signature = signer.signature(PROBE)?;
        if verifies(&signer, &signature) {
            return Ok(Some(signer));
        }
        Err(TokenFault::Key(format!("the private and the public key {name} do not belong together")))
    }

    /// Makes a key that never leaves the token. An existing one is never replaced.
    ///
    /// # Errors
    /// There is one of that name, or the token makes none.
    pub fn make(&self, name: &Pkcs11Uri, algorithm: SignatureAlgorithm) -> Result<TokenSigner, TokenFault> {
        self.token.ask(Work::Make(name.clone(), algorithm))?;
        let missing = || TokenFault::Key(format!("the key {name} was made and is not there"));
        self.key(name)?.ok_or_else(missing)
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKeys")
    }
}

/// A private key on a token.
pub struct TokenSigner {
    token: Arc<Token>,
    name: Pkcs11Uri,
    public_key: Vec<u8>,
    algorithm: SignatureAlgorithm,
}

impl TokenSigner {
    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, TokenFault> {
        let input = match self.algorithm {
            SignatureAlgorithm::Ecdsa(Curve::P256) => {
                digest::digest(&digest::SHA256, message).as_ref().to_vec()
            }
            SignatureAlgorithm::Ecdsa(Curve::P384) => {
                digest::digest(&digest::SHA384, message).as_ref().to_vec()
            }
            SignatureAlgorithm::Ed25519 => message.to_vec(),
        };
        let Done::Signature(raw) = self.token.ask(Work::Sign(self.name.clone(), self.algorithm, input))?
        else {
            return Err(TokenFault::Refused("it gave no signature".to_owned()));
        };
        let wrong = || TokenFault::Refused(format!("a signature of {} bytes", raw.len()));
        match self.algorithm {
            SignatureAlgorithm::Ecdsa(curve) => ecdsa_der(&raw, curve).ok_or_else(wrong),
            SignatureAlgorithm::Ed25519 if raw.len() == 64 => Ok(raw),
            SignatureAlgorithm::Ed25519 => Err(wrong()),
        }
    }
}

impl Signer for TokenSigner {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        self.signature(message).map_err(|fault| {
            tracing::warn!(key = %self.name, %fault, "the token did not sign");
            sign_fault(&fault)
        })
    }

    fn check(&self) -> Result<(), SignFault> {
        self.token.check().map_err(|fault| sign_fault(&fault))
    }

    fn place(&self) -> String {
        self.name.to_string()
    }

    fn is_remote(&self) -> bool {
        true
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSigner({}, {:?})", self.name, self.algorithm)
    }
}

const fn sign_fault(fault: &TokenFault) -> SignFault {
    match fault {
        TokenFault::Gone(_) => SignFault::Away,
        TokenFault::Locked(_) => SignFault::Locked,
        TokenFault::Refused(_) | TokenFault::Key(_) => SignFault::Failed,
    }
}

fn verifies(signer: &TokenSigner, signature: &[u8]) -> bool {
    match signer.algorithm {
        SignatureAlgorithm::Ecdsa(curve) => {
            let Ok(public) = PublicKey::from_spki(&signer.public_key) else { return false };
            let algorithm = match curve {
                Curve::P256 => &ECDSA_P256_SHA256_ASN1,
                Curve::P384 => &ECDSA_P384_SHA384_ASN1,
            };
            UnparsedPublicKey::new(algorithm, public.point()).verify(PROBE, signature).is_ok()
        }
        SignatureAlgorithm::Ed25519 => {
            let Some(point) = signer.public_key.last_chunk::<32>() else { return false };
            UnparsedPublicKey::new(&ED25519, point).verify(PROBE, signature).is_ok()
        }
    }
}

/// ECDSA-Sig-Value (RFC 3279 section 2.2.3) of the two numbers that a token gives one after the other (PKCS#11 2.3.1).
fn ecdsa_der(raw: &[u8], curve: Curve) -> Option<Vec<u8>> {
    let half = match curve {
        Curve::P256 => 32,
        Curve::P384 => 48,
    };
    let (r, s) = raw.split_at_checked(half).filter(|(_, s)| s.len() == half)?;
    let content = [integer(r)?, integer(s)?].concat();
    let len = u8::try_from(content.len()).ok().filter(|len| *len < 0x80)?;
    Some([&[0x30, len], content.as_slice()].concat())
}

/// A positive INTEGER: no zeros before it but the one that keeps it positive.
fn integer(number: &[u8]) -> Option<Vec<u8>> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let digits = number.get(zeros..)?;
    let first = *digits.first()?;
    let sign: &[u8] = if first & 0x80 == 0 { &[] } else { &[0] };
    let len = u8::try_from(sign.len() + digits.len()).ok()?;
    Some([&[0x02, len], sign, digits].concat())
}

/// Keys of authorities on a token, each under the id of its authority; those that were made before stay where they are.
pub struct TokenAuthorities {
    token: TokenKeys,
    before: Arc<dyn AuthorityKeys>,
    is_left: bool,
}

impl TokenAuthorities {
    /// New keys are made on the token; keys of before are found too.
    pub fn new(token: TokenKeys, before: Arc<dyn AuthorityKeys>) -> Self {
        Self { token, before, is_left: false }
    }

    /// New keys are made where those of before are: the token is being left.
    #[must_use]
    pub fn making_files(self) -> Self {
        Self { is_left: true, ..self }
    }

    fn ask(&self, work: Work) -> Result<Done, KeyFileFault> {
        Ok(self.token.token.ask(work)?)
    }
}

/// The label is the authority's id, and the id of the object too.
fn name_of(authority: AuthorityId) -> Pkcs11Uri {
    let label = authority.to_string();
    Pkcs11Uri { id: Some(label.clone().into_bytes()), object: Some(label), ..Pkcs11Uri::default() }
}

impl AuthorityKeys for TokenAuthorities {
    fn make(&self, authority: AuthorityId, curve: Curve) -> Result<Arc<dyn Signer>, KeyFileFault> {
        if self.is_left {
            return self.before.make(authority, curve);
        }
        Ok(Arc::new(self.token.make(&name_of(authority), SignatureAlgorithm::Ecdsa(curve))?))
    }

    fn find(&self, authority: AuthorityId) -> Result<Option<Arc<dyn Signer>>, KeyFileFault> {
        match self.token.key(&name_of(authority))? {
            Some(key) => Ok(Some(Arc::new(key))),
            None => self.before.find(authority),
        }
    }

    fn list(&self) -> Result<Vec<AuthorityId>, KeyFileFault> {
        let mut found = self.before.list()?;
        if let Done::Labels(labels) = self.ask(Work::List)? {
            found.extend(labels.iter().filter_map(|label| label.parse::<AuthorityId>().ok()));
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn set_aside(&self, authority: AuthorityId) -> Result<(), KeyFileFault> {
        let name = name_of(authority);
        if self.token.key(&name)?.is_none() {
            return self.before.set_aside(authority);
        }
        self.ask(Work::Rename(name, format!("{authority}.unused"))).map(drop)
    }

    /// A request is no secret: it is a file, wherever the key is.
    fn keep_request(&self, authority: AuthorityId, request: &[u8]) -> Result<(), KeyFileFault> {
        self.before.keep_request(authority, request)
    }

    fn request(&self, authority: AuthorityId) -> Result<Option<Vec<u8>>, KeyFileFault> {
        self.before.request(authority)
    }

    fn remove(&self, authority: AuthorityId) -> Result<(), KeyFileFault> {
        self.ask(Work::Remove(name_of(authority)))?;
        self.before.remove(authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_signatures_become_der_without_zeros_and_stay_positive() {
        let raw = |r: [u8; 32], s: [u8; 32]| [r, s].concat();
        let mut small = [0; 32];
        small[31] = 5;
        let mut high = [0; 32];
        high[30] = 0x80;
        assert_eq!(
            ecdsa_der(&raw(small, high), Curve::P256).unwrap(),
            [0x30, 0x08, 0x02, 0x01, 0x05, 0x02, 0x03, 0x00, 0x80, 0x00]
        );
        let longest = ecdsa_der(&[0xff; 96], Curve::P384).unwrap();
        assert_eq!((longest[1], longest.len()), (102, 104));
        for (len, curve) in [(63, Curve::P256), (65, Curve::P256), (0, Curve::P256), (64, Curve::P384)] {
            assert!(ecdsa_der(&vec![1; len], curve).is_none(), "{len}");
        }
        assert!(ecdsa_der(&[0; 64], Curve::P256).is_none(), "zero is no signature");
    }
}
