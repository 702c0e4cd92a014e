//! The certification authority: prepare a certificate, then sign it, once.
//!
//! `prepare` writes the certificate with a worthless signature and has it linted and parsed, so that everything that
//! could be wrong with it is known before the key is touched and before the intent is journaled. `sign` consumes what
//! was prepared; nothing can be signed twice, changed in between, or signed without the lint. Revocation lists are written,
//! linted and signed in one step. Callers: app, cli.

pub mod bootstrap;
pub mod crl;
pub mod key_file;
pub mod keys;
pub mod lifetime;
pub mod pkcs11;
pub mod root;
pub mod signer;

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

pub use crl::{ListFault, ListOrder, SignedList, backdated};
pub use key_file::{KeyFileFault, read_key_file};
pub use keys::{AuthorityKeys, KeyFolder};
pub use signer::{FileSigner, SignFault, SignatureAlgorithm, Signer};

use crate::domain::certificate::Facts;
use crate::domain::certificate::Serial;
use crate::domain::id::{Digest, Ordinal};
use crate::domain::time::Timestamp;
use crate::x509::lint::{Intent, LintFault, lint};
use crate::x509::template::{self, Template};
use crate::x509::{Authority, CertificateFault, Content, Curve, Profile, RequestedKey, TemplateFault, cert};

/// Why a certificate was not prepared. Nothing was signed and nothing is spent but a serial and an ordinal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PrepareFault {
    /// The template refused the content.
    #[error(transparent)]
    Template(#[from] TemplateFault),
    /// It breaks rules of the lint.
    #[error(transparent)]
    Lint(#[from] LintFault),
    /// Our own verifier would refuse the certificate.
    #[error("the verifier would refuse the certificate: {0}")]
    Refused(CertificateFault),
    /// Our own verifier reads other facts than were intended.
    #[error("the verifier reads other facts than were intended")]
    FactsDiffer,
}

/// Why a prepared certificate was not issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IssueFault {
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SignFault),
    /// The certificate was prepared by another authority.
    #[error("the certificate was prepared for another authority")]
    WrongAuthority,
    /// Read again, the certificate is not the one that was prepared.
    #[error("the signed certificate is not the one that was prepared")]
    Differs,
}

/// The signer does not hold the authority's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the signer does not hold the key of the authority")]
pub struct WrongKey;

/// Who or what a certificate is for, and its numbers: all from our records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Everything in the certificate but its key and issuer.
    pub content: Content,
    /// The key, from a verified request.
    pub key: RequestedKey,
}

/// A certificate that was written and linted and not signed. It can be signed once.
#[derive(Debug)]
pub struct Prepared {
    authority: Digest,
    tbs: Vec<u8>,
    serial: Serial,
    ordinal: Ordinal,
    not_after: Timestamp,
    facts: Facts,
    key: Digest,
}

impl Prepared {
    /// The part to be signed: the intent that is journaled.
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// Its serial number.
    pub const fn serial(&self) -> Serial {
        self.serial
    }

    /// Its ordinal.
    pub const fn ordinal(&self) -> Ordinal {
        self.ordinal
    }

    /// Its last instant of validity.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// What it states.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// SHA-256 of the subject's SubjectPublicKeyInfo.
    pub const fn key(&self) -> Digest {
        self.key
    }
}

/// A signed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub der: Vec<u8>,
    /// The part that was signed.
    pub tbs: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
    /// SHA-256 of the certificate.
    pub hash: Digest,
}

/// One authority with its key.
pub struct Issuer {
    template: Template,
    curve: Curve,
    fingerprint: Digest,
    signer: Arc<dyn Signer>,
}

impl Issuer {
    /// Joins an authority with the signer that must hold its key.
    pub fn new(authority: Authority, profile: Profile, signer: Arc<dyn Signer>) -> Result<Self, WrongKey> {
        let curve = authority.key().curve();
        let fits = signer.algorithm() == SignatureAlgorithm::Ecdsa(curve)
            && signer.public_key() == authority.key().spki();
        if !fits {
            return Err(WrongKey);
        }
        let fingerprint = authority.fingerprint();
        Ok(Self { template: Template::new(authority, profile), curve, fingerprint, signer })
    }

    /// The authority.
    pub const fn authority(&self) -> &Authority {
        self.template.authority()
    }

    /// Writes and lints a certificate. The key is not touched.
    pub fn prepare(&self, order: &Order, now: Timestamp) -> Result<Prepared, PrepareFault> {
        let Order { content, key } = order;
        let draft = self.template.draft(key.key(), content)?;
        let profile = self.template.profile();
        lint(draft.der(), &Intent { authority: self.authority(), profile, key: key.key(), content, now })?;
        let read = cert::parse(draft.der(), profile).map_err(PrepareFault::Refused)?;
        let same = *read.facts() == content.facts
            && read.ordinal() == content.ordinal
            && read.serial() == content.serial
            && (read.not_before(), read.not_after()) == (content.not_before, content.not_after)
            && read.spki() == key.key().spki()
            && read.issuer_key_id() == self.authority().key_id()
            && read.tbs() == draft.tbs();
        if !same {
            return Err(PrepareFault::FactsDiffer);
        }
        Ok(Prepared {
            authority: self.fingerprint,
            serial: content.serial,
            ordinal: content.ordinal,
            not_after: content.not_after,
            facts: content.facts.clone(),
            key: key.key().digest(),
            tbs: draft.into_tbs(),
        })
    }

    /// Why its key would not sign now, as far as is known.
    ///
    /// # Errors
    /// It would not.
    pub fn check(&self) -> Result<(), SignFault> {
        self.signer.check()
    }

    /// Does a device sign? Then [`sign`](Self::sign) is called on a thread that may wait.
    pub fn is_remote(&self) -> bool {
        self.signer.is_remote()
    }

    /// Signs what was prepared, once, and reads the result again.
    pub fn sign(&self, prepared: Prepared) -> Result<Issued, IssueFault> {
        if prepared.authority != self.fingerprint {
            return Err(IssueFault::WrongAuthority);
        }
        let signature = self.signer.sign(&prepared.tbs)?;
        let der = assemble(&prepared.tbs, self.curve, &signature);
        // The real bytes are read again and compared with what was prepared, linted and parsed. The signature is not
        // verified: it would double the cost of issuing (35 us), and a wrong one makes a certificate that nobody accepts.
        let (tbs, read) = cert::halves(&der).map_err(|_| IssueFault::Differs)?;
        if tbs != prepared.tbs || read != signature {
            return Err(IssueFault::Differs);
        }
        let hash = Digest::of(&der);
        Ok(Issued { der, tbs: prepared.tbs, signature, hash })
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({:?})", self.authority())
    }
}

/// Rebuilds a certificate from its stored halves; the curve is that of its authority's key.
pub fn assemble(tbs: &[u8], curve: Curve, signature: &[u8]) -> Vec<u8> {
    template::assemble(tbs, curve, signature)
}

#[cfg(test)]
mod tests;
