//! The certificate request of an authority that is to stand beneath a root: made where its key is, carried to the ceremony.
//!
//! A root takes the key, the proof of possession, and the kind and the id that the subject names. A request that asks for
//! anything else was not made by this service, and is refused rather than trimmed: whoever carries it to a ceremony is to
//! learn of it there.

use thiserror::Error;

use super::csr::{CsrFault, Ignored, RequestedKey};
use super::der::{self, BIT_STRING, INTEGER, OID, SEQUENCE, SET, UTF8_STRING};
use super::key::PublicKey;
use super::outline::{CN, OU, authority_name};
use crate::domain::certificate::AuthorityKind;
use crate::domain::id::AuthorityId;

/// Why a request is not one of an authority.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthorityRequestFault {
    /// It is no sound request.
    #[error(transparent)]
    Request(#[from] CsrFault),
    /// Its subject does not name an authority.
    #[error("the subject of the request is not OU=ACCESS or OU=SYSTEM with an authority id as common name")]
    Name,
    /// It asks for something, which this service never does.
    #[error(
        "the request asks for {0}; an authority's request names its kind and its id and asks for nothing"
    )]
    Wish(Ignored),
}

/// What a root takes from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityRequest {
    /// The id that it names.
    pub id: AuthorityId,
    /// The kind that it names.
    pub kind: AuthorityKind,
    /// Its key, whose possession is proved.
    pub key: PublicKey,
}

impl AuthorityRequest {
    /// Reads a request and verifies its signature over itself.
    ///
    /// # Errors
    /// It is no request of an authority, or asks for more.
    pub fn from_der(der: &[u8]) -> Result<Self, AuthorityRequestFault> {
        let requested = RequestedKey::from_csr(der)?;
        if let Some(wish) = requested.ignored().iter().find(|wish| **wish != Ignored::Subject) {
            return Err(AuthorityRequestFault::Wish(wish.clone()));
        }
        let (kind, id) = subject(der).and_then(authority_name).ok_or(AuthorityRequestFault::Name)?;
        Ok(Self { id, kind, key: requested.key().clone() })
    }

    /// The part of its request that is signed (CertificationRequestInfo, RFC 2986 section 4.1).
    pub fn info(&self) -> Vec<u8> {
        let part = |kind: &[u8], text: &str| {
            let text = der::element(UTF8_STRING, &[text.as_bytes()]);
            let pair = der::element(SEQUENCE, &[&der::element(OID, &[kind]), &text]);
            der::element(SET, &[&pair])
        };
        let name = [part(OU, self.kind.as_str()), part(CN, &self.id.to_string())].concat();
        let name = der::element(SEQUENCE, &[&name]);
        der::element(SEQUENCE, &[&[INTEGER, 1, 0], &name, self.key.spki(), &[0xa0, 0]])
    }

    /// The request, from the part that is signed and the signature by its key.
    pub fn assemble(&self, signature: &[u8]) -> Vec<u8> {
        let signature = der::element(BIT_STRING, &[&[0], signature]);
        der::element(SEQUENCE, &[&self.info(), self.key.curve().signature_algorithm(), &signature])
    }
}

/// The subject of a request that was read before.
fn subject(request: &[u8]) -> Option<&[u8]> {
    let mut fields = der::only(request, SEQUENCE).ok()?.inside().expect(SEQUENCE).ok()?.inside();
    fields.expect(INTEGER).ok()?;
    Some(fields.expect(SEQUENCE).ok()?.raw)
}
